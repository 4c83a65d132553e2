/* SPDX-License-Identifier: Apache-2.0 */
/* How amounts and states look, wherever they are shown. Private to instances/ and its tests. */
#ifndef INSTANCES_CLI_SHOW_H
#define INSTANCES_CLI_SHOW_H

#include "instances/cli/table.h"

/* show_state_colour() - of a state of an instance or a GPU. */
enum table_colour show_state_colour(const char *state);
/* show_mib() - "512 MiB", "1.5 GiB". Returns @to. */
char *show_mib(char *to, size_t size, double mib);

#endif
