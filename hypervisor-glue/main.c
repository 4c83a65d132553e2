// SPDX-License-Identifier: Apache-2.0
/*
 * divvy-vmm: a virtual machine from its command line. Exit status: 0 the guest powered off or was
 * asked to stop, 1 failure while running, 2 usage or configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hypervisor-glue/hypervisor-glue.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif

enum {
	STATUS_OK,
	STATUS_FAILED,
	STATUS_USAGE
};

/*
 * With 0, 1 or 2 closed, the next file opened would become the terminal. What else the caller left
 * open is none of a guest's business.
 */
static void standard_fds_open(void)
{
	int fd;

	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Soft limits up to the hard ones: eventfds of every vector, and pages pinned for DMA. */
static void limits_raise(void)
{
	static const int resources[] = { RLIMIT_NOFILE, RLIMIT_MEMLOCK };
	struct rlimit limit;

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++)
		if (!getrlimit(resources[i], &limit) && limit.rlim_cur != limit.rlim_max) {
			limit.rlim_cur = limit.rlim_max;
			setrlimit(resources[i], &limit);
		}
}

int main(int argc, char **argv)
{
	struct machine_config *config = calloc(1, sizeof(*config));
	int status = STATUS_OK;
	enum machine_action action;
	struct error e = { 0 };

	if (!config)
		return STATUS_FAILED;
	standard_fds_open();
	/* A reader that went away is EPIPE, not the end of the guest. */
	signal(SIGPIPE, SIG_IGN);
	machine_config_init(config);
	if (machine_config_args(config, argc, argv, &action, &e)) {
		status = STATUS_USAGE;
	} else if (action == MACHINE_HELP) {
		machine_config_usage();
	} else if (action == MACHINE_VERSION) {
		puts("divvy-vmm " DIVVY_VERSION);
	} else if (machine_config_validate(config, &e)) {
		status = STATUS_USAGE;
	} else if (action == MACHINE_CHECK) {
		printf("divvy-vmm: %s: the configuration is valid\n", config->name);
	} else {
		log_set_level(config->log_level);
		limits_raise();
		if (machine_run(config, &e))
			status = STATUS_FAILED;
	}
	if (status)
		error_print(&e, "divvy-vmm");
	free(config);
	return status;
}
