/* SPDX-License-Identifier: Apache-2.0 */
/* Private to instances/cli/. */
#ifndef INSTANCES_CLI_NODE_H
#define INSTANCES_CLI_NODE_H

#include "instances/cli/cli.h"

/* node_gpu_post() - have the daemon do @what with a GPU, and print the GPU afterwards. Returns the exit status. */
int node_gpu_post(struct cli *cli, const char *gpu, const char *what);

#endif
