// SPDX-License-Identifier: Apache-2.0
/*
 * Those who want the arbiter to serve nobody, or to serve them what is others': floods, guesses, lies, stopped and copied processes. Each test ends
 * with an honest client that is served.
 */
#include "tests/unit/arbiter_fixture.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define GRAPHICS SCHED_ENGINE_GRAPHICS
#define LONG	 (20 * NSEC_PER_SEC)

static void open_worker(struct fixture *f, const struct tenant *tenant, struct live_worker *worker)
{
	struct error e = { 0 };

	if (live_worker_open(f->path, tenant->token, worker, &e))
		fail_msg("%s", e.text);
}

static void assert_served(struct fixture *f)
{
	struct live_worker worker;
	struct tenant honest;
	uint64_t slice;

	create(f, SCHED_WEIGHTED, 100, 0, &honest);
	open_worker(f, &honest, &worker);
	assert_int_equal(live_worker_turn(&worker, GRAPHICS, LONG, &slice), 0);
	assert_int_equal(live_worker_release(&worker, GRAPHICS, false), 0);
	live_worker_close(&worker);
	close(honest.owner);
}

static json_int_t connections(struct fixture *f)
{
	json_t *json = status(f);
	json_int_t count = json_integer_value(json_object_get(json, "connections"));

	json_decref(json);
	return count;
}

static bool ends(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	char byte[1024];

	while (poll(&poller, 1, 10000) > 0)
		if (recv(fd, byte, sizeof(byte), MSG_DONTWAIT) <= 0)
			return true;
	return false;
}

/* ---- floods ---------------------------------------------------------------------------------------- */

static void connections_that_say_nothing_take_no_places(void **state)
{
	struct fixture *f = *state;
	struct rlimit limit, high;
	struct live_worker worker;
	int fds[700];
	struct tenant a;
	uint64_t slice;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	high = limit;
	high.rlim_cur = MIN(high.rlim_max, (rlim_t)4096);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &high), 0);
	create(f, SCHED_WEIGHTED, 100, 0, &a);
	open_worker(f, &a, &worker);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = live_connect(f->path, NULL);
		/* The queue of those who are not accepted yet is short. */
		for (unsigned n = 0; fds[i] < 0 && n < 1000; n++) {
			work_for(MS);
			fds[i] = live_connect(f->path, NULL);
		}
		assert_true(fds[i] >= 0);
	}
	assert_served(f);
	assert_in_range(connections(f), 3, 40);
	assert_true(ends(fds[0]));
	/* Who is something is none of them. */
	assert_int_equal(live_worker_turn(&worker, GRAPHICS, LONG, &slice), 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	live_worker_close(&worker);
	close(a.owner);
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void workers_of_one_vgpu_leave_places_for_others(void **state)
{
	struct live_worker workers[ARBITER_WORKERS_MAX], one_more;
	struct fixture *f = *state;
	struct error e = { 0 };
	struct tenant a;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	for (unsigned i = 0; i < ARBITER_WORKERS_MAX; i++)
		open_worker(f, &a, &workers[i]);
	assert_int_equal(live_worker_open(f->path, a.token, &one_more, &e), -EUSERS);
	assert_string_equal(e.code, "too-many-workers");
	assert_served(f);
	live_worker_close(&workers[0]);
	for (unsigned n = 0; n < 1000 && live_worker_open(f->path, a.token, &workers[0], &e); n++)
		work_for(10 * MS);
	assert_true(workers[0].fd >= 0);
	for (unsigned i = 0; i < ARBITER_WORKERS_MAX; i++)
		live_worker_close(&workers[i]);
	close(a.owner);
}

/* A message or two a turn are needed; a process that sends as many as it can is heard no more often than that. */
static void a_flood_of_messages_is_heard_slowly(void **state)
{
	static const uint32_t types[] = { LIVE_WANT, LIVE_RELEASE, LIVE_FORCED };
	struct fixture *f = *state;
	struct live_worker workers[4];
	unsigned long sent = 0;
	struct rusage before, after;
	uint64_t until, cpu_us;
	struct tenant a;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
		open_worker(f, &a, &workers[i]);
	getrusage(RUSAGE_SELF, &before);
	until = monotonic_ns() + NSEC_PER_SEC;
	for (unsigned i = 0; monotonic_ns() < until; i++) {
		const struct live_message message = { .type = types[i / 4 % 3],
						      .version = LIVE_VERSION,
						      .engine = i / 16 % SCHED_ENGINES,
						      .again = 1 };

		if (send(workers[i % 4].fd, &message, sizeof(message), MSG_DONTWAIT) > 0)
			sent++;
		else
			work_for(MS);
	}
	getrusage(RUSAGE_SELF, &after);
	/* 20,000 a second, 2,000 at once, and what the four sockets hold. */
	assert_in_range(sent, 2000, 30000);
	cpu_us = (uint64_t)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
		 (uint64_t)after.ru_utime.tv_usec - (uint64_t)before.ru_utime.tv_usec;
	assert_true(cpu_us < 900000);
	assert_served(f);
	/* It is slow, not lost. */
	assert_int_equal(live_worker_connected(&workers[0]), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
		live_worker_close(&workers[i]);
	close(a.owner);
}

static void answers_that_nobody_reads_end_the_connection(void **state)
{
	const struct live_message message = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	struct fixture *f = *state;
	struct error e = { 0 };
	int fd = live_connect(f->path, &e);
	unsigned i;

	assert_true(fd >= 0);
	for (i = 0; i < 100000; i++) {
		ssize_t size = send(fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (size < 0 && errno == EAGAIN)
			work_for(MS);
		else if (size < 0)
			break;
	}
	assert_true(i < 100000);
	assert_served(f);
	close(fd);
}

static void descriptors_that_are_sent_along_are_not_kept(void **state)
{
	const struct live_message message = { .type = LIVE_WANT, .version = LIVE_VERSION };
	struct iovec iov = { (void *)(uintptr_t)&message, sizeof(message) };
	struct fixture *f = *state;
	struct live_worker worker;
	struct tenant a;
	unsigned before;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(32 * sizeof(int))];
	} control = { 0 };
	const struct msghdr header = { .msg_iov = &iov,
				       .msg_iovlen = 1,
				       .msg_control = &control,
				       .msg_controllen = sizeof(control) };

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	open_worker(f, &a, &worker);
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(32 * sizeof(int));
	for (unsigned i = 0; i < 32; i++)
		memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &worker.fd, sizeof(int));
	json_decref(status(f));
	before = count_fds();
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(sendmsg(worker.fd, &header, 0), sizeof(message));
	assert_served(f);
	/* Connections that were closed are heard of a little later. */
	for (unsigned n = 0; n < 1000 && count_fds() > before; n++)
		work_for(10 * MS);
	assert_true(count_fds() <= before);
	live_worker_close(&worker);
	close(a.owner);
}

/* It does not spin on a listener that it cannot serve, and serves it once it can. */
static void an_arbiter_out_of_descriptors_waits_for_some(void **state)
{
	struct fixture *f = *state;
	struct rlimit limit, low;
	struct rusage before, after;
	int ready[2], status_of;
	char byte;
	pid_t pid;

	assert_served(f);
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	pid = fork();
	if (!pid) {
		/* Before its parent's limit is lowered. */
		work_for(50 * MS);
		for (unsigned i = 0; i < 40; i++)
			live_connect(f->path, NULL);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	low = limit;
	low.rlim_cur = (rlim_t)dup(0) + 4;
	close((int)low.rlim_cur - 4);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	getrusage(RUSAGE_SELF, &before);
	work_for(NSEC_PER_SEC);
	getrusage(RUSAGE_SELF, &after);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
			    (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
			    after.ru_utime.tv_usec - before.ru_utime.tv_usec +
			    after.ru_stime.tv_usec - before.ru_stime.tv_usec <
		    150000);
	assert_served(f);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status_of, 0), pid);
	close(ready[0]);
	close(ready[1]);
}

/* ---- who may ---------------------------------------------------------------------------------------- */

static int as_nobody(struct fixture *f, const struct live_message *message)
{
	int status_of = -1;
	pid_t pid = fork();

	if (!pid) {
		int fd;

		if (setgid(65534) || setuid(65534))
			_exit(3);
		fd = live_connect(f->path, NULL);
		if (fd < 0 || send(fd, message, sizeof(*message), 0) != sizeof(*message))
			_exit(2);
		_exit(ends(fd) ? 0 : 1);
	}
	waitpid(pid, &status_of, 0);
	return WIFEXITED(status_of) ? WEXITSTATUS(status_of) : -1;
}

/* Should the socket be given to others, they are workers at the most: of what they have a token for. */
static void who_is_no_launcher_makes_changes_and_sees_nothing(void **state)
{
	struct fixture *f = *state;
	struct live_message message = { .version = LIVE_VERSION, .gpu = "gpu0", .name = "x" };
	struct tenant a;

	if (geteuid())
		skip();
	create(f, SCHED_WEIGHTED, 100, 0, &a);
	/* It is the mode that keeps them out. */
	message.type = LIVE_CREATE;
	assert_int_equal(as_nobody(f, &message), 2);
	assert_int_equal(chmod(f->path, 0666) || chmod(f->folder, 0755), 0);
	for (message.type = LIVE_CREATE; message.type <= LIVE_FORCED; message.type++)
		if (message.type != LIVE_REGISTER)
			assert_int_equal(as_nobody(f, &message), 0);
	/* A guess is a connection each. */
	message.type = LIVE_REGISTER;
	assert_int_equal(as_nobody(f, &message), 0);
	assert_served(f);
	close(a.owner);
}

static void numbers_at_the_end_of_the_scale_are_refused_or_harmless(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	struct error e = { 0 };
	struct tenant a;
	uint64_t slice;

	for (unsigned policy = 0; policy < SCHED_POLICIES; policy++)
		for (unsigned i = 0; i < 4; i++) {
			const struct live_message message = {
				.policy = policy,
				.weight = i & 1 ? SCHED_WEIGHT_MAX : UINT32_MAX,
				.share_ppm = i & 2 ? SCHED_PPM : UINT32_MAX,
				.elastic_ppm = i & 1 ? 0 : UINT32_MAX,
				.credit_max_ns = UINT64_MAX,
				.surplus_max_ns = UINT64_MAX,
				.credit_ns = UINT64_MAX,
				.memory_quota = UINT64_MAX,
			};

			if (try_create(f, &message, &a, &e)) {
				assert_true(e.text[0] && e.code[0]);
				continue;
			}
			open_worker(f, &a, &worker);
			assert_int_equal(live_worker_memory_take(&worker, UINT64_MAX), 0);
			assert_int_equal(live_worker_turn(&worker, GRAPHICS, LONG, &slice), 0);
			atomic_store(&worker.page->used_ns[GRAPHICS], UINT64_MAX);
			assert_int_equal(live_worker_release(&worker, GRAPHICS, true), 0);
			assert_int_equal(live_worker_forced(&worker, GRAPHICS, UINT64_MAX), 0);
			json_decref(status(f));
			live_worker_close(&worker);
			close(a.owner);
		}
	assert_served(f);
}

static void names_of_gpus_that_are_not_used_give_their_places_up(void **state)
{
	struct fixture *f = *state;
	struct live_message message = {
		.type = LIVE_CREATE, .version = LIVE_VERSION, .policy = SCHED_WEIGHTED, .name = "x"
	};
	int fds[ARBITER_GPUS_MAX + 1];
	struct live_message reply;
	struct error e = { 0 };

	for (unsigned i = 0; i <= ARBITER_GPUS_MAX; i++) {
		snprintf(message.gpu, sizeof(message.gpu), "made-up-%u", i);
		fds[i] = live_connect(f->path, &e);
		assert_int_equal(live_call(fds[i], &message, &reply, NULL, &e),
				 i < ARBITER_GPUS_MAX ? 0 : -ENOSPC);
	}
	assert_string_equal(e.code, "too-many-gpus");
	close(fds[3]);
	for (unsigned n = 0; n < 1000; n++) {
		if (!live_call(fds[ARBITER_GPUS_MAX], &message, &reply, NULL, &e))
			break;
		work_for(10 * MS);
	}
	assert_false(reply.error);
	for (unsigned i = 0; i <= ARBITER_GPUS_MAX; i++)
		if (i != 3)
			close(fds[i]);
	for (unsigned n = 0; n < 1000 && connections(f) > 1; n++)
		work_for(10 * MS);
	assert_served(f);
}

/* ---- processes ---------------------------------------------------------------------------------------- */

static void a_stopped_process_keeps_nobody_waiting_for_long(void **state)
{
	struct fixture *f = *state;
	struct live_worker other;
	int ready[2], status_of;
	struct tenant a, b;
	uint64_t slice;
	char byte;
	pid_t pid;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	open_worker(f, &b, &other);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct live_worker worker;

		if (!live_worker_open(f->path, a.token, &worker, NULL) &&
		    !live_worker_turn(&worker, GRAPHICS, LONG, &slice) &&
		    write(ready[1], "x", 1) == 1)
			raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(waitpid(pid, &status_of, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status_of));
	/* One hold_max once; after that it has no turn that it could keep. */
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(live_worker_turn(&other, GRAPHICS, LONG, &slice), 0);
		assert_int_equal(live_worker_release(&other, GRAPHICS, false), 0);
	}
	kill(pid, SIGKILL);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status_of, 0), pid);
	close(ready[0]);
	close(ready[1]);
	live_worker_close(&other);
	close(a.owner);
	close(b.owner);
}

/* A fork with its parent's process number: nothing of the parent's. Returns its pid, or 0 where that cannot be arranged. */
static pid_t child_with_pid(pid_t wanted)
{
	for (unsigned i = 0; i < 20; i++) {
		char text[16];
		pid_t pid;

		snprintf(text, sizeof(text), "%d", wanted - 1);
		if (file_write(AT_FDCWD, "/proc/sys/kernel/ns_last_pid", text))
			return 0;
		pid = fork();
		if (!pid) {
			pause();
			_exit(0);
		}
		if (pid == wanted)
			return pid;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return 0;
}

/*
 * The process that connected is gone, its copy keeps the turn: it loses it, and nothing befalls who has got the number of the first since.
 */
static void a_hog_is_ended_by_its_connection_and_not_by_a_number(void **state)
{
	struct fixture *f = *state;
	struct live_worker other;
	int ready[2], status_of;
	struct tenant a, b;
	pid_t pid, copy, innocent;
	uint64_t slice;

	stop(f);
	f->hog_ns = 300 * MS;
	f->config.hold_max_ns = 60 * NSEC_PER_SEC;
	start(f);
	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct live_worker hog;

		if (live_worker_open(f->path, a.token, &hog, NULL) ||
		    live_worker_turn(&hog, GRAPHICS, LONG, &slice))
			_exit(1);
		copy = fork();
		if (!copy) {
			/* Should the test end early. */
			alarm(60);
			for (;;)
				pause();
		}
		_exit(write(ready[1], &copy, sizeof(copy)) != sizeof(copy));
	}
	assert_int_equal(read(ready[0], &copy, sizeof(copy)), sizeof(copy));
	assert_int_equal(waitpid(pid, &status_of, 0), pid);
	assert_int_equal(WEXITSTATUS(status_of), 0);
	innocent = child_with_pid(pid);
	open_worker(f, &b, &other);
	assert_int_equal(live_worker_turn(&other, GRAPHICS, LONG, &slice), 0);
	work_for(20 * MS);
	if (innocent) {
		assert_int_equal(waitpid(innocent, &status_of, WNOHANG), 0);
		kill(innocent, SIGKILL);
		waitpid(innocent, NULL, 0);
	} else {
		print_message("no process could be given the number %d again\n", pid);
	}
	kill(copy, SIGKILL);
	waitpid(copy, NULL, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	close(ready[0]);
	close(ready[1]);
	live_worker_close(&other);
	close(a.owner);
	close(b.owner);
}

int main(void)
{
#define LIVE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		LIVE(connections_that_say_nothing_take_no_places),
		LIVE(workers_of_one_vgpu_leave_places_for_others),
		LIVE(a_flood_of_messages_is_heard_slowly),
		LIVE(answers_that_nobody_reads_end_the_connection),
		LIVE(descriptors_that_are_sent_along_are_not_kept),
		LIVE(an_arbiter_out_of_descriptors_waits_for_some),
		LIVE(who_is_no_launcher_makes_changes_and_sees_nothing),
		LIVE(numbers_at_the_end_of_the_scale_are_refused_or_harmless),
		LIVE(names_of_gpus_that_are_not_used_give_their_places_up),
		LIVE(a_stopped_process_keeps_nobody_waiting_for_long),
		LIVE(a_hog_is_ended_by_its_connection_and_not_by_a_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
