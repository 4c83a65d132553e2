// SPDX-License-Identifier: Apache-2.0
/*
 * What a worker is made of: hearing that others have come, sleeping and waking, memory that is counted and given back, work that could not
 * wait, and what the arbiter believes of a page that its worker can write.
 */
#include "tests/unit/arbiter_fixture.h"

#include <sys/syscall.h>

#include <sys/time.h>
#include <sys/un.h>

#define GRAPHICS SCHED_ENGINE_GRAPHICS
#define MANY	 20

static void open_worker(struct fixture *f, const struct tenant *tenant, struct live_worker *worker)
{
	struct error e = { 0 };

	if (live_worker_open(f->path, tenant->token, worker, &e))
		fail_msg("%s", e.text);
}

static json_int_t engine_value(json_t *status_json, size_t vgpu, const char *key)
{
	return json_integer_value(json_object_get(
		json_object_get(
			json_object_get(json_array_get(json_object_get(status_json, "vgpus"), vgpu),
					"engines"),
			"graphics"),
		key));
}

/* The only vGPU's, or the first's. */
static json_int_t status_value(struct fixture *f, const char *key)
{
	json_t *json = status(f);
	json_t *vgpu = json_array_get(json_object_get(json, "vgpus"), 0);
	json_int_t value = json_object_get(vgpu, key)
				   ? json_integer_value(json_object_get(vgpu, key))
				   : engine_value(json, 0, key);

	json_decref(json);
	return value;
}

/* What the arbiter does comes after what it is told, and it tells nobody: it is asked until it is so. */
static bool becomes(struct fixture *f, const char *key, json_int_t value)
{
	for (unsigned i = 0; i < 500; i++) {
		if (status_value(f, key) == value)
			return true;
		work_for(10 * MS);
	}
	return false;
}

static void a_worker_learns_its_gpu_its_name_and_its_quota(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	struct error e = { 0 };
	struct tenant a;

	assert_int_equal(try_create(f,
				    &(struct live_message){ .policy = SCHED_WEIGHTED,
							    .memory_quota = 12345,
							    .name = "mine" },
				    &a, &e),
			 0);
	open_worker(f, &a, &worker);
	assert_string_equal(worker.gpu, "gpu0");
	assert_string_equal(worker.name, "mine");
	assert_int_equal(worker.memory_quota, 12345);
	live_worker_close(&worker);
	close(a.owner);
}

static void an_owner_learns_how_many_ever_registered(void **state)
{
	const struct live_message message = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	struct fixture *f = *state;
	struct live_message reply;
	struct live_worker worker;
	struct error e = { 0 };
	struct tenant a;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	assert_int_equal(live_call(a.owner, &message, &reply, NULL, &e), 0);
	assert_int_equal(reply.workers, 0);
	for (unsigned i = 0; i < 3; i++) {
		open_worker(f, &a, &worker);
		live_worker_close(&worker);
	}
	assert_int_equal(live_call(a.owner, &message, &reply, NULL, &e), 0);
	assert_int_equal(reply.workers, 3);
	close(a.owner);
}

/* ---- turns --------------------------------------------------------------------------------------- */

static void who_keeps_its_turn_hears_once_that_somebody_waits(void **state)
{
	struct fixture *f = *state;
	struct live_worker workers[3];
	struct tenant tenants[3];
	uint64_t slice, since;
	uint32_t seen;

	stop(f);
	f->config.hold_max_ns = 60 * NSEC_PER_SEC;
	start(f);
	for (unsigned i = 0; i < 3; i++) {
		create(f, SCHED_WEIGHTED, 100, 0, &tenants[i]);
		open_worker(f, &tenants[i], &workers[i]);
	}
	assert_int_equal(live_worker_turn(&workers[0], GRAPHICS, NSEC_PER_SEC, &slice), 0);
	for (unsigned i = 0; i < 500 && !live_worker_alone(&workers[0], GRAPHICS); i++)
		work_for(MS);
	assert_true(live_worker_alone(&workers[0], GRAPHICS));
	seen = live_worker_wake_count(&workers[0]);
	assert_int_equal(live_worker_sleep(&workers[0], seen, 20 * MS), -ETIMEDOUT);
	since = monotonic_ns();
	assert_int_equal(live_worker_want(&workers[1], GRAPHICS), 0);
	assert_int_equal(live_worker_sleep(&workers[0], seen, 30 * NSEC_PER_SEC), 0);
	assert_true(monotonic_ns() - since < 10 * NSEC_PER_SEC);
	assert_int_equal(live_worker_wake_count(&workers[0]), seen + 1);
	assert_false(live_worker_alone(&workers[0], GRAPHICS));
	/* It has its turn still; and another one that comes is nothing new. */
	assert_true(live_worker_has_turn(&workers[0], GRAPHICS, &slice));
	assert_int_equal(live_worker_want(&workers[2], GRAPHICS), 0);
	json_decref(status(f));
	work_for(50 * MS);
	assert_int_equal(live_worker_wake_count(&workers[0]), seen + 1);
	assert_int_equal(live_worker_release(&workers[0], GRAPHICS, false), 0);
	assert_int_equal(live_worker_turn(&workers[1], GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	for (unsigned i = 0; i < 3; i++) {
		live_worker_close(&workers[i]);
		close(tenants[i].owner);
	}
}

/* One that keeps its turn too long has another beside it; from then on neither goes on for ever. */
static void two_that_have_turns_are_not_alone(void **state)
{
	struct fixture *f = *state;
	struct live_worker workers[2];
	struct tenant tenants[2];
	uint64_t slice;

	stop(f);
	f->config.hold_max_ns = 50 * MS;
	start(f);
	for (unsigned i = 0; i < 2; i++) {
		create(f, SCHED_WEIGHTED, 100, 0, &tenants[i]);
		open_worker(f, &tenants[i], &workers[i]);
	}
	assert_int_equal(live_worker_turn(&workers[0], GRAPHICS, NSEC_PER_SEC, &slice), 0);
	assert_int_equal(live_worker_turn(&workers[1], GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	assert_true(live_worker_has_turn(&workers[0], GRAPHICS, &slice));
	work_for(300 * MS);
	assert_false(live_worker_alone(&workers[0], GRAPHICS));
	assert_false(live_worker_alone(&workers[1], GRAPHICS));
	/* The other one ends: it is alone again. */
	assert_int_equal(live_worker_release(&workers[1], GRAPHICS, false), 0);
	for (unsigned i = 0; i < 500 && !live_worker_alone(&workers[0], GRAPHICS); i++)
		work_for(MS);
	assert_true(live_worker_alone(&workers[0], GRAPHICS));
	for (unsigned i = 0; i < 2; i++) {
		live_worker_close(&workers[i]);
		close(tenants[i].owner);
	}
}

static void stand_still(int signal)
{
	nanosleep(&(struct timespec){ .tv_sec = 2 }, NULL);
}

/* The arbiter stands still for two seconds; nobody goes on alone under one that may never come back. */
static void being_alone_is_a_lease(void **state)
{
	const struct sigaction action = { .sa_handler = stand_still };
	struct fixture *f = *state;
	struct live_worker worker;
	struct tenant tenant;
	uint64_t slice, since;

	create(f, SCHED_WEIGHTED, 100, 0, &tenant);
	open_worker(f, &tenant, &worker);
	assert_int_equal(live_worker_turn(&worker, GRAPHICS, NSEC_PER_SEC, &slice), 0);
	for (unsigned i = 0; i < 500 && !live_worker_alone(&worker, GRAPHICS); i++)
		work_for(MS);
	work_for(LIVE_LEASE_NS + 300 * MS);
	assert_true(live_worker_alone(&worker, GRAPHICS)); /* renewed */
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(pthread_kill(f->thread, SIGUSR1), 0);
	since = monotonic_ns();
	while (live_worker_alone(&worker, GRAPHICS) && monotonic_ns() - since < 10 * NSEC_PER_SEC)
		work_for(MS);
	assert_true(monotonic_ns() - since <= LIVE_LEASE_NS + 400 * MS);
	/* It comes back, and so does the lease. */
	while (!live_worker_alone(&worker, GRAPHICS) && monotonic_ns() - since < 10 * NSEC_PER_SEC)
		work_for(MS);
	assert_true(live_worker_alone(&worker, GRAPHICS));
	live_worker_close(&worker);
	close(tenant.owner);
}

/* Kept for a long time, and given back when somebody comes: no debt, though it kept the GPU and did nothing. */
static void a_turn_that_was_kept_alone_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct live_worker workers[3];
	struct tenant tenants[2];
	uint64_t slice;

	for (unsigned i = 0; i < 2; i++) {
		create(f, SCHED_WEIGHTED, 100, 0, &tenants[i]);
		open_worker(f, &tenants[i], &workers[i]);
	}
	open_worker(f, &tenants[0], &workers[2]);
	/* Once somebody of another vGPU comes, once of its own. */
	for (unsigned i = 1; i < 3; i++) {
		assert_int_equal(live_worker_turn(&workers[0], GRAPHICS, 10 * NSEC_PER_SEC, &slice),
				 0);
		work_for(400 * MS);
		assert_int_equal(live_worker_want(&workers[i], GRAPHICS), 0);
		for (unsigned n = 0; n < 1000 && live_worker_alone(&workers[0], GRAPHICS); n++)
			work_for(MS / 10);
		assert_true(live_worker_has_turn(&workers[0], GRAPHICS, &slice));
		assert_int_equal(live_worker_release(&workers[0], GRAPHICS, false), 0);
		assert_int_equal(live_worker_turn(&workers[i], GRAPHICS, 10 * NSEC_PER_SEC, &slice),
				 0);
		assert_int_equal(live_worker_release(&workers[i], GRAPHICS, false), 0);
		json_decref(status(f));
		/* Only what passed between the other's wish and its answer to it. */
		assert_true(status_value(f, "surcharge_ns") < 100 * (json_int_t)MS);
		assert_int_equal(status_value(f, "used_ns"), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		live_worker_close(&workers[i]);
	close(tenants[0].owner);
	close(tenants[1].owner);
}

static void what_is_wanted_twice_is_wanted_once_and_can_be_taken_back(void **state)
{
	struct fixture *f = *state;
	struct live_worker holder, worker;
	struct tenant a, b;
	uint64_t slice;

	stop(f);
	f->config.hold_max_ns = 60 * NSEC_PER_SEC;
	start(f);
	create(f, SCHED_WEIGHTED, 100, 0, &a);
	open_worker(f, &a, &worker);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	open_worker(f, &b, &holder);
	assert_int_equal(live_worker_turn(&holder, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(live_worker_want(&worker, GRAPHICS), 0);
		work_for(5 * MS);
	}
	assert_true(becomes(f, "waiting", 1));
	assert_int_equal(live_worker_release(&worker, GRAPHICS, false), 0);
	assert_true(becomes(f, "waiting", 0));
	assert_int_equal(live_worker_release(&holder, GRAPHICS, false), 0);
	/* A turn that is had is not wanted besides. */
	assert_int_equal(live_worker_turn(&worker, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	worker.wanted_ns[GRAPHICS] = 0;
	assert_int_equal(send(worker.fd,
			      &(struct live_message){ .type = LIVE_WANT, .version = LIVE_VERSION },
			      sizeof(struct live_message), 0),
			 sizeof(struct live_message));
	json_decref(status(f));
	assert_int_equal(status_value(f, "waiting"), 0);
	live_worker_close(&worker);
	live_worker_close(&holder);
	close(a.owner);
	close(b.owner);
}

static void *wake_main(void *opaque)
{
	work_for(20 * MS);
	live_worker_wake(opaque);
	return NULL;
}

static void its_own_threads_and_the_end_of_its_vgpu_wake_a_sleeper(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	struct tenant a;
	pthread_t thread;
	uint32_t seen;
	uint64_t since;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	open_worker(f, &a, &worker);
	seen = live_worker_wake_count(&worker);
	assert_int_equal(pthread_create(&thread, NULL, wake_main, &worker), 0);
	since = monotonic_ns();
	assert_int_equal(live_worker_sleep(&worker, seen, 60 * NSEC_PER_SEC), 0);
	assert_true(monotonic_ns() - since < 30 * NSEC_PER_SEC);
	pthread_join(thread, NULL);
	/* What came before the sleep is no reason to sleep. */
	assert_int_equal(live_worker_sleep(&worker, seen, 60 * NSEC_PER_SEC), 0);
	assert_int_equal(live_worker_connected(&worker), 0);
	seen = live_worker_wake_count(&worker);
	close(a.owner);
	assert_int_equal(live_worker_sleep(&worker, seen, 60 * NSEC_PER_SEC), 0);
	for (unsigned i = 0; i < 500 && !live_worker_connected(&worker); i++)
		work_for(10 * MS);
	assert_int_equal(live_worker_connected(&worker), -EPIPE);
	live_worker_close(&worker);
}

static void on_alarm(int number)
{
}

/* A program may have any number of signals; none ends its GPU. */
static void signals_do_not_end_a_worker(void **state)
{
	const struct sigaction action = { .sa_handler = on_alarm },
			       ignore = { .sa_handler = SIG_DFL };
	const struct itimerval often = { { .tv_usec = 200 }, { .tv_usec = 200 } }, never = { 0 };
	struct fixture *f = *state;
	struct live_worker worker;
	struct tenant a;
	uint64_t slice;

	create(f, SCHED_FIXED_SHARE, 0, 900000, &a);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned i = 0; i < 50; i++) {
		open_worker(f, &a, &worker);
		for (unsigned n = 0; n < 10; n++) {
			assert_int_equal(
				live_worker_turn(&worker, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
			assert_int_equal(live_worker_release(&worker, GRAPHICS, false), 0);
		}
		live_worker_close(&worker);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &ignore, NULL);
	close(a.owner);
}

/* One that was stopped, say: its queue fills, and nobody hangs on it. */
static void an_arbiter_that_takes_nobody_keeps_nobody(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct fixture *f = *state;
	uint64_t since = monotonic_ns();
	struct error e = { 0 };
	int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0), fds[4], failed = 0;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/deaf", f->folder);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fds) && !failed; i++) {
		fds[i] = live_connect(address.sun_path, &e);
		failed = fds[i] < 0;
		for (unsigned k = 0; failed && k < i; k++)
			close(fds[k]);
	}
	assert_true(failed);
	assert_string_equal(e.code, "no-arbiter");
	assert_true(monotonic_ns() - since < 20 * NSEC_PER_SEC);
	close(listener);
	unlink(address.sun_path);
}

struct impostor {
	int listener;
	struct live_message answer;
	size_t size;
};

static void *impostor_main(void *opaque)
{
	struct impostor *impostor = opaque;
	struct live_message message;
	int fd = accept(impostor->listener, NULL, NULL);

	if (fd >= 0 && recv(fd, &message, sizeof(message), 0) > 0 && impostor->size)
		send(fd, &impostor->answer, impostor->size, MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

/* Another version's arbiter, or none at all: no answer of it is taken for one. */
static void what_is_no_answer_is_an_error(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct impostor impostors[] = {
		{ .size = 0 },
		{ .size = 100 },
		{ .size = sizeof(struct live_message) },
		{ .size = sizeof(struct live_message),
		  .answer = { .type = LIVE_REGISTERED, .version = LIVE_VERSION + 1 } },
		{ .size = sizeof(struct live_message),
		  .answer = { .type = LIVE_REGISTERED, .version = LIVE_VERSION } },
	};
	struct fixture *f = *state;
	const uint8_t token[LIVE_TOKEN_SIZE] = { 0 };
	const struct live_message message = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	struct live_message reply;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/impostor", f->folder);
	for (size_t i = 0; i < ARRAY_SIZE(impostors); i++) {
		struct live_worker worker;
		struct error e = { 0 };
		pthread_t thread;

		impostors[i].listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		assert_int_equal(
			bind(impostors[i].listener, (struct sockaddr *)&address, sizeof(address)),
			0);
		assert_int_equal(listen(impostors[i].listener, 1), 0);
		assert_int_equal(pthread_create(&thread, NULL, impostor_main, &impostors[i]), 0);
		errno = 0;
		if (i % 2) {
			int fd = live_connect(address.sun_path, &e);

			assert_true(live_call(fd, &message, &reply, NULL, &e) < 0);
			close(fd);
		} else {
			assert_true(live_worker_open(address.sun_path, token, &worker, &e) < 0);
			assert_int_equal(worker.fd, -1);
		}
		assert_string_equal(e.code, "no-arbiter");
		pthread_join(thread, NULL);
		close(impostors[i].listener);
		unlink(address.sun_path);
	}
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void create_with_quota(struct fixture *f, uint64_t quota, struct tenant *tenant)
{
	struct error e = { 0 };

	if (try_create(f, &(struct live_message){ .policy = SCHED_WEIGHTED, .memory_quota = quota },
		       tenant, &e))
		fail_msg("%s", e.text);
}

static void memory_beyond_the_quota_is_refused_and_not_counted(void **state)
{
	struct fixture *f = *state;
	struct live_worker workers[2];
	struct tenant a;

	create_with_quota(f, 1000, &a);
	open_worker(f, &a, &workers[0]);
	open_worker(f, &a, &workers[1]);
	assert_int_equal(live_worker_memory_take(&workers[0], 600), 0);
	assert_int_equal(live_worker_memory_take(&workers[1], 401), -ENOMEM);
	assert_int_equal(live_worker_memory_take(&workers[1], UINT64_MAX), -ENOMEM);
	assert_int_equal(live_worker_memory_take(&workers[1], UINT64_MAX - 599), -ENOMEM);
	assert_int_equal(live_worker_memory_used(&workers[1]), 600);
	assert_int_equal(live_worker_memory_take(&workers[1], 400), 0);
	assert_int_equal(live_worker_memory_take(&workers[1], 1), -ENOMEM);
	assert_int_equal(live_worker_memory_take(&workers[1], 0), 0);
	live_worker_memory_give(&workers[0], 600);
	assert_int_equal(live_worker_memory_used(&workers[0]), 400);
	/* More than was taken is no credit. */
	live_worker_memory_give(&workers[0], 5000);
	assert_int_equal(live_worker_memory_used(&workers[0]), 0);
	live_worker_close(&workers[0]);
	live_worker_close(&workers[1]);
	close(a.owner);
	/* No quota: only what cannot be counted is refused. */
	create_with_quota(f, 0, &a);
	open_worker(f, &a, &workers[0]);
	assert_int_equal(live_worker_memory_take(&workers[0], UINT64_MAX - 1), 0);
	assert_int_equal(live_worker_memory_take(&workers[0], 2), -ENOMEM);
	live_worker_close(&workers[0]);
	close(a.owner);
}

struct taker {
	pthread_t thread;
	struct live_worker *worker;
	uint64_t taken, above;
};

static void *taker_main(void *opaque)
{
	struct taker *taker = opaque;

	for (unsigned i = 0; i < 20000; i++) {
		if (!live_worker_memory_take(taker->worker, 1 + i % 7))
			taker->taken += 1 + i % 7;
		taker->above += live_worker_memory_used(taker->worker) > 100;
		if (i % 3 == 0 && taker->taken) {
			live_worker_memory_give(taker->worker, taker->taken);
			taker->taken = 0;
		}
	}
	return NULL;
}

static void threads_that_take_at_once_do_not_exceed_the_quota(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	struct taker takers[4];
	uint64_t taken = 0;
	struct tenant a;

	create_with_quota(f, 100, &a);
	open_worker(f, &a, &worker);
	for (unsigned i = 0; i < ARRAY_SIZE(takers); i++) {
		takers[i] = (struct taker){ .worker = &worker };
		assert_int_equal(pthread_create(&takers[i].thread, NULL, taker_main, &takers[i]),
				 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(takers); i++) {
		pthread_join(takers[i].thread, NULL);
		assert_int_equal(takers[i].above, 0);
		taken += takers[i].taken;
	}
	assert_int_equal(live_worker_memory_used(&worker), taken);
	assert_int_equal(atomic_load(&worker.page->memory_used), taken);
	live_worker_close(&worker);
	close(a.owner);
}

static void a_process_that_is_killed_gives_its_memory_back(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	int ready[2], status_of;
	struct tenant a;
	pid_t pid;
	char byte;

	create_with_quota(f, 1000, &a);
	open_worker(f, &a, &worker);
	assert_int_equal(live_worker_memory_take(&worker, 300), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct live_worker other;

		if (!live_worker_open(f->path, a.token, &other, NULL) &&
		    !live_worker_memory_take(&other, 700) && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_int_equal(live_worker_memory_take(&worker, 1), -ENOMEM);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status_of, 0), pid);
	assert_true(becomes(f, "memory_used", 300));
	assert_int_equal(live_worker_memory_take(&worker, 700), 0);
	live_worker_close(&worker);
	assert_true(becomes(f, "memory_used", 0));
	close(a.owner);
}

/* Neither gains memory for its vGPU by what it writes, beyond what the others of it have. */
static void a_page_of_lies_frees_no_memory_of_others(void **state)
{
	static const uint64_t lies[] = { UINT64_MAX, 301, 1000, 0 };
	struct fixture *f = *state;
	struct live_worker worker, liar;
	struct tenant a;

	create_with_quota(f, 1000, &a);
	open_worker(f, &a, &worker);
	assert_int_equal(live_worker_memory_take(&worker, 300), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		open_worker(f, &a, &liar);
		atomic_store(&liar.page->memory_used, lies[i]);
		if (i == 2)
			atomic_store(&liar.vgpu->memory_used, 7);
		live_worker_close(&liar);
		assert_true(becomes(f, "workers", 1));
		assert_int_equal(live_worker_memory_used(&worker), 300);
	}
	/* A total of lies lasts until the last one goes, and no longer. */
	atomic_store(&worker.vgpu->memory_used, UINT64_MAX);
	atomic_store(&worker.page->memory_used, UINT64_MAX);
	assert_int_equal(live_worker_memory_take(&worker, 1), -ENOMEM);
	live_worker_close(&worker);
	assert_true(becomes(f, "memory_used", 0));
	close(a.owner);
}

/* ---- work that could not wait --------------------------------------------------------------------- */

static void forced_work_is_charged_whole_and_delays_the_next_turn(void **state)
{
	struct fixture *f = *state;
	unsigned long long v[6] = { 0 };
	struct live_worker worker;
	char *text = NULL;
	size_t size = 0;
	struct tenant a;
	uint64_t slice, since;

	stop(f);
	f->trace = open_memstream(&text, &size);
	start(f);
	create(f, SCHED_FIXED_SHARE, 0, 500000, &a);
	open_worker(f, &a, &worker);
	work_for(300 * MS); /* more than it claims has passed */
	since = monotonic_ns();
	assert_int_equal(live_worker_forced(&worker, GRAPHICS, 250 * MS), 0);
	assert_true(becomes(f, "forced_ns", 250 * MS));
	assert_int_equal(status_value(f, "used_ns"), 250 * MS);
	assert_int_equal(status_value(f, "grants"), 0);
	assert_true(status_value(f, "credit_ns") < 0);
	/* 250 ms, less the 50 that a period holds, at a half. */
	assert_int_equal(live_worker_turn(&worker, GRAPHICS, 60 * NSEC_PER_SEC, &slice), 0);
	assert_true(monotonic_ns() - since > 390 * MS);
	live_worker_close(&worker);
	close(a.owner);
	stop(f);
	fclose(f->trace);
	f->trace = NULL;
	assert_int_equal(sscanf(strchr(text, '\n') + 1, "%llu,tenant,graphics,%llu,%llu,%llu,%llu,",
				&v[0], &v[1], &v[2], &v[3], &v[4]),
			 5);
	/* Nobody waited, no turn was the aim, all of it is overrun. */
	assert_true(!v[1] && !v[2] && v[3] == 250 * MS && v[4] == 250 * MS);
	free(text);
	start(f);
}

static void an_absurd_claim_of_forced_work_harms_its_own_vgpu_only(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker, liar;
	struct tenant a, b;
	uint64_t slice;
	json_t *json;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	open_worker(f, &a, &worker);
	create(f, SCHED_FIXED_SHARE, 0, 100000, &b);
	open_worker(f, &b, &liar);
	work_for(300 * MS);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(live_worker_forced(&liar, GRAPHICS, UINT64_MAX - i % 2), 0);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(live_worker_turn(&worker, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
		assert_int_equal(live_worker_release(&worker, GRAPHICS, false), 0);
	}
	json = status(f);
	assert_int_equal(engine_value(json, 0, "forced_ns"), 0);
	assert_int_equal(engine_value(json, 0, "debt_ns") / (json_int_t)NSEC_PER_SEC, 0);
	/* It cannot have run for longer than it has been there. */
	assert_true(engine_value(json, 1, "forced_ns") > 0);
	assert_true(engine_value(json, 1, "forced_ns") <=
		    json_integer_value(json_object_get(json, "now_ns")));
	assert_true(engine_value(json, 1, "credit_ns") < 0);
	json_decref(json);
	assert_int_equal(live_worker_turn(&liar, GRAPHICS, 100 * MS, &slice), -ETIMEDOUT);
	live_worker_close(&worker);
	live_worker_close(&liar);
	close(a.owner);
	close(b.owner);
}

/* ---- the page ------------------------------------------------------------------------------------- */

/* One that has the turn and writes that it is alone makes no one's wish go away. */
static void who_writes_that_it_is_alone_takes_no_wish_of_others(void **state)
{
	struct fixture *f = *state;
	struct live_worker liar, victim, third;
	struct tenant tenants[3];
	uint64_t slice;

	stop(f);
	f->config.hold_max_ns = 60 * NSEC_PER_SEC;
	start(f);
	for (unsigned i = 0; i < 3; i++)
		create(f, SCHED_WEIGHTED, 100, 0, &tenants[i]);
	open_worker(f, &tenants[0], &liar);
	open_worker(f, &tenants[1], &victim);
	open_worker(f, &tenants[2], &third);
	assert_int_equal(live_worker_turn(&liar, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	assert_int_equal(live_worker_want(&victim, GRAPHICS), 0);
	json_decref(status(f));
	atomic_store(&liar.page->grants[GRAPHICS].alone_until_ns, UINT64_MAX);
	work_for(20 * MS);
	assert_int_equal(live_worker_want(&third, GRAPHICS), 0);
	json_decref(status(f));
	assert_int_equal(live_worker_release(&liar, GRAPHICS, false), 0);
	assert_int_equal(live_worker_turn(&victim, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	assert_int_equal(live_worker_release(&victim, GRAPHICS, false), 0);
	assert_int_equal(live_worker_turn(&third, GRAPHICS, 10 * NSEC_PER_SEC, &slice), 0);
	live_worker_close(&liar);
	live_worker_close(&victim);
	live_worker_close(&third);
	for (unsigned i = 0; i < 3; i++)
		close(tenants[i].owner);
}

/* ---- who asks ------------------------------------------------------------------------------------ */

static void who_holds_the_token_may_ask_which_processes_are_workers(void **state)
{
	struct live_message wrong = { .type = LIVE_ASK, .version = LIVE_VERSION };
	char hex[2 * LIVE_TOKEN_SIZE + 1], gpu[VGPU_GPU_NAME_SIZE] = "";
	int other, mine, child, ask, more[3], no_process = eventfd(0, EFD_CLOEXEC);
	struct fixture *f = *state;
	struct live_worker worker;
	struct live_message reply;
	struct tenant a, b;
	struct error e = { 0 };
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(0);
	}
	mine = (int)syscall(SYS_pidfd_open, getpid(), 0);
	child = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(mine >= 0 && child >= 0);
	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	for (unsigned i = 0; i < LIVE_TOKEN_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", a.token[i]);
	ask = vgpu_watch_open(f->path, hex, gpu, &e);
	assert_true(ask >= 0);
	assert_string_equal(gpu, "gpu0");
	assert_int_equal(vgpu_watch_ask(ask, mine, 1), 0);
	/* Another vGPU's worker is none of this one's. */
	assert_int_equal(live_worker_open(f->path, b.token, &worker, &e), 0);
	assert_int_equal(vgpu_watch_ask(ask, mine, 2), 0);
	live_worker_close(&worker);
	assert_int_equal(live_worker_open(f->path, a.token, &worker, &e), 0);
	assert_int_equal(vgpu_watch_ask(ask, mine, 3), 1);
	assert_int_equal(vgpu_watch_ask(ask, child, 4), 0);
	/* What is no process is no answer, and no end. */
	assert_int_equal(vgpu_watch_ask(ask, no_process, 5), -EOPNOTSUPP);
	assert_int_equal(vgpu_watch_ask(ask, mine, 6), 1);
	live_worker_close(&worker);
	for (unsigned i = 7; vgpu_watch_ask(ask, mine, i) == 1 && i < 2000; i++)
		usleep(5000);
	assert_int_equal(vgpu_watch_ask(ask, mine, 5000), 0);
	/* A few, and no more. */
	for (unsigned i = 0; i < 3; i++) {
		more[i] = vgpu_watch_open(f->path, hex, gpu, &e);
		assert_true(more[i] >= 0);
	}
	assert_true(vgpu_watch_open(f->path, hex, gpu, &e) < 0);
	assert_string_equal(e.code, "too-many-workers");
	/* No token, no answer; one that asks is nothing else. */
	other = live_connect(f->path, &e);
	assert_int_not_equal(live_call(other, &wrong, &reply, NULL, &e), 0);
	assert_string_equal(e.code, "no-such-vgpu");
	close(other);
	assert_true(vgpu_watch_open(f->path, "no token", gpu, &e) < 0);
	assert_string_equal(e.code, "no-vgpu");
	wrong.type = LIVE_WANT;
	assert_int_equal(send(more[0], &wrong, sizeof(wrong), MSG_NOSIGNAL), sizeof(wrong));
	assert_int_equal(recv(more[0], &reply, sizeof(reply), 0), 0);
	/* It goes with its vGPU. */
	close(a.owner);
	assert_int_equal(recv(ask, &reply, sizeof(reply), 0), 0);
	assert_true(vgpu_watch_ask(ask, mine, 5001) < 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (unsigned i = 0; i < 3; i++)
		close(more[i]);
	other = b.owner;
	close(other);
	close(ask);
	close(mine);
	close(child);
	close(no_process);
}

int main(void)
{
#define LIVE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		LIVE(a_worker_learns_its_gpu_its_name_and_its_quota),
		LIVE(an_owner_learns_how_many_ever_registered),
		LIVE(who_keeps_its_turn_hears_once_that_somebody_waits),
		LIVE(being_alone_is_a_lease),
		LIVE(two_that_have_turns_are_not_alone),
		LIVE(a_turn_that_was_kept_alone_costs_nothing),
		LIVE(what_is_wanted_twice_is_wanted_once_and_can_be_taken_back),
		LIVE(its_own_threads_and_the_end_of_its_vgpu_wake_a_sleeper),
		LIVE(signals_do_not_end_a_worker),
		LIVE(what_is_no_answer_is_an_error),
		LIVE(an_arbiter_that_takes_nobody_keeps_nobody),
		LIVE(memory_beyond_the_quota_is_refused_and_not_counted),
		LIVE(threads_that_take_at_once_do_not_exceed_the_quota),
		LIVE(a_process_that_is_killed_gives_its_memory_back),
		LIVE(a_page_of_lies_frees_no_memory_of_others),
		LIVE(forced_work_is_charged_whole_and_delays_the_next_turn),
		LIVE(an_absurd_claim_of_forced_work_harms_its_own_vgpu_only),
		LIVE(who_writes_that_it_is_alone_takes_no_wish_of_others),
		LIVE(who_holds_the_token_may_ask_which_processes_are_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
