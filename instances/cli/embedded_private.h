/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of divvy run without a daemon share: embedded.c (its life), embedded_place.c (where it goes). */
#ifndef INSTANCES_CLI_EMBEDDED_PRIVATE_H
#define INSTANCES_CLI_EMBEDDED_PRIVATE_H

#include <limits.h>

#include "instances/cli/embedded.h"
#include "instances/cli/progress.h"
#include "instances/launch/launch.h"
#include "instances/types/types.h"

struct embedded {
	struct cli *cli;
	struct launch_instance instance;
	struct launch_places places;
	char image[PATH_MAX], programs[PATH_MAX], folder[64], run[80], arbiter[80], state[PATH_MAX];
	struct instance_type type;
	struct launch_process vmm;
	struct launch_progress clone;
	struct progress_line line;
	uint64_t shown_ns;
	int guardian_fd; /* its end is ours: -1 not there */
	pid_t guardian;
};

/*
 * embedded_place() - the type that @definition (the API's) names, a place on this machine, where nobody else is known to be: m->type, m->instance.
 * Returns 0 or -errno: "no-such-type", what placement says, "not-bound", "tap-needs-daemon".
 */
int embedded_place(struct embedded *m, const json_t *definition, struct error *e);

#endif
