/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arbiter in a thread of its own, on a socket of its own, and launchers for it: what the tests of the arbiter share. Nothing passes between
 * it and a test but the socket and the pages.
 */
#ifndef TESTS_UNIT_ARBITER_FIXTURE_H
#define TESTS_UNIT_ARBITER_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/resources.h"
#include "vgpu-sched/live/arbiter.h"
#include "vgpu-sched/live/client.h"

#define MS UINT64_C(1000000)

struct fixture {
	char folder[32], path[64];
	pthread_t thread;
	int stop, fds_before;
	struct sched_gpu_config config;
	uint64_t hog_ns;
	FILE *trace;
	bool ready;
	unsigned clients_left;
};

static inline int on_stop(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static inline void *arbiter_main(void *opaque)
{
	struct fixture *f = opaque;
	struct arbiter *arbiter;
	struct error e = { 0 };
	sd_event *event;

	sd_event_new(&event);
	sd_event_add_io(event, NULL, f->stop, EPOLLIN, on_stop, NULL);
	if (arbiter_create(event, f->path, &f->config, f->hog_ns, f->trace, &arbiter, &e))
		abort();
	__atomic_store_n(&f->ready, true, __ATOMIC_RELEASE);
	sd_event_loop(event);
	f->clients_left = arbiter_clients(arbiter);
	arbiter_destroy(arbiter);
	sd_event_unref(event);
	return NULL;
}

static inline void start(struct fixture *f)
{
	f->fds_before = (int)count_fds();
	strcpy(f->folder, "/tmp/divvy-arbiter-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/socket", f->folder);
	f->stop = eventfd(0, EFD_CLOEXEC);
	f->ready = false;
	assert_int_equal(pthread_create(&f->thread, NULL, arbiter_main, f), 0);
	while (!__atomic_load_n(&f->ready, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static inline void stop(struct fixture *f)
{
	eventfd_write(f->stop, 1);
	pthread_join(f->thread, NULL);
	close(f->stop);
	/* The socket went with the arbiter. */
	assert_int_equal(rmdir(f->folder), 0);
	assert_int_equal(count_fds(), f->fds_before);
}

static inline int setup(void **state)
{
	static struct fixture fixture;
	struct fixture *f = &fixture;

	*f = (struct fixture){ 0 };

	f->config.slice_ns = 2 * MS;
	start(f);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	stop(*state);
	return 0;
}

/* ---- launchers and workers --------------------------------------------------------------------- */

struct tenant {
	int owner;
	uint8_t token[LIVE_TOKEN_SIZE];
};

static inline int try_create(struct fixture *f, const struct live_message *wanted,
			     struct tenant *tenant, struct error *e)
{
	struct live_message message = *wanted, reply;
	int err;

	message.type = LIVE_CREATE;
	message.version = LIVE_VERSION;
	strcpy(message.gpu, "gpu0");
	if (!message.name[0])
		strcpy(message.name, "tenant");
	tenant->owner = live_connect(f->path, e);
	assert_true(tenant->owner >= 0);
	err = live_call(tenant->owner, &message, &reply, NULL, e);
	if (err)
		close(tenant->owner);
	else
		memcpy(tenant->token, reply.token, LIVE_TOKEN_SIZE);
	return err;
}

static inline void create(struct fixture *f, enum sched_policy policy, uint32_t weight,
			  uint32_t share_ppm, struct tenant *tenant)
{
	struct error e = { 0 };

	if (try_create(f,
		       &(struct live_message){
			       .policy = policy, .weight = weight, .share_ppm = share_ppm },
		       tenant, &e))
		fail_msg("%s", e.text);
}

static inline void work_for(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC) };

	nanosleep(&t, NULL);
}

static inline json_t *status(struct fixture *f)
{
	const struct live_message message = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	struct live_message reply;
	struct error e = { 0 };
	int fd = live_connect(f->path, &e), fds[2];
	json_t *json;
	off_t size;

	assert_int_equal(live_call(fd, &message, &reply, fds, &e), 0);
	size = lseek(fds[0], 0, SEEK_END);
	lseek(fds[0], 0, SEEK_SET);
	assert_true(size > 0);
	json = json_loadfd(fds[0], 0, NULL);
	close(fds[0]);
	close(fd);
	assert_non_null(json);
	return json;
}

#endif
