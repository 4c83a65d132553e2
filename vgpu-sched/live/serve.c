// SPDX-License-Identifier: Apache-2.0
/* The arbiter as a process of its own, and what another process asks it (vgpu-sched.h). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter.h"
#include "vgpu-sched/live/client.h"

#define DESCRIPTORS (2 * ARBITER_CLIENTS_MAX + ARBITER_GPUS_MAX * ARBITER_VGPUS_MAX + 64)

/* A line that is there can be read: recordings are looked at while they grow. */
static int trace_open(const char *path, FILE **file, struct error *e)
{
	*file = fopen(path, "we");
	if (!*file)
		return error_set(e, errno, "output", NULL, "%s: %s", path, strerror(errno));
	setvbuf(*file, NULL, _IOLBF, 0);
	return 0;
}

/* Two for each connection, and a vGPU's page: more than the usual limit of 1024. */
static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)DESCRIPTORS);
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("arbiter: RLIMIT_NOFILE stays as it is: %s", strerror(errno));
}

static int loop(sd_event *event, struct error *e)
{
	static const int ends[] = { SIGINT, SIGTERM };
	int err = 0;

	/* Without a handler it ends the loop. */
	for (size_t i = 0; i < ARRAY_SIZE(ends) && err >= 0; i++)
		err = sd_event_add_signal(event, NULL, ends[i] | SD_EVENT_SIGNAL_PROCMASK, NULL,
					  NULL);
	if (err >= 0)
		err = sd_event_loop(event);
	return err < 0 ? error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err))
		       : 0;
}

int arbiter_serve(const struct arbiter_options *options, struct error *e)
{
	const struct sched_gpu_config config = { .slice_ns = options->slice_ns,
						 .linger_ns = options->linger_ns,
						 .depth = options->depth };
	struct arbiter *arbiter = NULL;
	sd_event *event = NULL;
	FILE *trace = NULL;
	int err;

	if (!options->socket && mkdir("/run/divvy", 0700) < 0 && errno != EEXIST)
		return error_set(e, errno, "arbiter-socket", NULL, "/run/divvy: %s",
				 strerror(errno));
	descriptors_raise();
	err = options->trace ? trace_open(options->trace, &trace, e) : 0;
	if (!err) {
		err = sd_event_new(&event);
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
	}
	if (err >= 0)
		err = arbiter_create(event, options->socket ? options->socket : ARBITER_SOCKET,
				     &config, options->hog_ns, trace, &arbiter, e);
	if (!err)
		err = loop(event, e);
	arbiter_destroy(arbiter);
	sd_event_unref(event);
	if (trace && fclose(trace) && !err)
		err = error_set(e, EIO, "output", NULL, "%s: it could not be written whole",
				options->trace);
	return err;
}
