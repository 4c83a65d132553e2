/* SPDX-License-Identifier: Apache-2.0 */
/* An instance without a daemon. Private to instances/cli/. */
#ifndef INSTANCES_CLI_EMBEDDED_H
#define INSTANCES_CLI_EMBEDDED_H

#include "instances/cli/cli.h"

/*
 * embedded_run() - run what the API's Run (@definition, borrowed) asks for, with an arbiter and a state folder of its own, and its console here.
 * However this process ends, processes and files of the instance go with it. Returns the exit status: 0 when the guest powered off or the person
 * left.
 */
int embedded_run(struct cli *cli, const json_t *definition);

#endif
