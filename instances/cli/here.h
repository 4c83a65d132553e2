/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine itself says, where no daemon runs: the same JSON that the API has (instances/openapi.yaml), with nothing taken. */
#ifndef INSTANCES_CLI_HERE_H
#define INSTANCES_CLI_HERE_H

#include "instances/cli/cli.h"

/* here_is_asked() - whether this machine is asked and not the daemon: there is none, and nobody named one; or --root was said. */
bool here_is_asked(const struct cli *cli);
/*
 * here_gpus() - {"gpus": [...]}; here_types() - {"types": [...]}, of --types and by --policy where they were said. NULL with words. What is wrong
 * with a file of types goes to stderr, and hides no other.
 */
json_t *here_gpus(const struct cli *cli, struct error *e);
json_t *here_types(const struct cli *cli, struct error *e);

struct type_catalogue;
/* here_catalogue() - the types of --types, else all there are. Returns 0 or -errno. */
int here_catalogue(const struct cli *cli, struct type_catalogue *catalogue,
		   struct findings *findings);

#endif
