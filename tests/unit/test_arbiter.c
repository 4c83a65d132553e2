// SPDX-License-Identifier: Apache-2.0
/*
 * The arbiter, live: launchers and workers over its socket, on a GPU that is a lock and a sleep. Each worker
 * runs in a thread of its own.
 */
#include <poll.h>

#include "tests/unit/arbiter_fixture.h"

/* The GPU: whoever runs while another runs has found a hole. */
static unsigned running, collisions;

struct load {
	pthread_t thread;
	struct fixture *f;
	const uint8_t *token;
	uint64_t job_ns, until_ns, used_ns, jobs;
	bool waits; /* for each job, before it wants the next */
	int err;
};

static void *load_main(void *opaque)
{
	struct load *load = opaque;
	struct live_worker worker;
	uint64_t slice, turn = 0;

	load->err = live_worker_open(load->f->path, load->token, &worker, NULL);
	while (!load->err && monotonic_ns() < load->until_ns) {
		uint64_t begin, used;

		load->err =
			live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, 5 * NSEC_PER_SEC, &slice);
		if (load->err)
			break;
		begin = monotonic_ns();
		if (__atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST) > 1)
			__atomic_add_fetch(&collisions, 1, __ATOMIC_SEQ_CST);
		work_for(load->job_ns);
		__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
		used = monotonic_ns() - begin;
		live_worker_used(&worker, SCHED_ENGINE_GRAPHICS, used);
		load->used_ns += used;
		load->jobs++;
		turn += used;
		if (load->waits || !live_worker_may_go_on(&worker, SCHED_ENGINE_GRAPHICS, turn)) {
			load->err =
				live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, !load->waits);
			turn = 0;
		}
	}
	live_worker_close(&worker);
	return NULL;
}

static void run_loads(struct fixture *f, struct load *loads, unsigned count, uint64_t ns)
{
	running = collisions = 0;
	for (unsigned i = 0; i < count; i++) {
		loads[i].f = f;
		loads[i].until_ns = monotonic_ns() + ns;
		assert_int_equal(pthread_create(&loads[i].thread, NULL, load_main, &loads[i]), 0);
	}
	for (unsigned i = 0; i < count; i++) {
		pthread_join(loads[i].thread, NULL);
		assert_int_equal(loads[i].err, 0);
	}
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void gpu_time_follows_the_weights(void **state)
{
	struct fixture *f = *state;
	struct tenant a, b;
	struct load loads[2] = { { .job_ns = 3 * MS }, { .job_ns = MS } };

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 300, 0, &b);
	loads[0].token = a.token;
	loads[1].token = b.token;
	run_loads(f, loads, 2, 2 * NSEC_PER_SEC);
	assert_in_range(loads[1].used_ns * 100 / loads[0].used_ns, 200, 450);
	assert_int_equal(collisions, 0);
	close(a.owner);
	close(b.owner);
}

/* One that waits for its work before it submits more would give each turn to the other, whatever its weight. */
static void a_weight_is_kept_by_who_waits_for_each_job(void **state)
{
	struct fixture *f = *state;
	struct tenant a, b;
	struct load loads[2] = { { .job_ns = MS, .waits = true }, { .job_ns = MS } };

	stop(f);
	f->config.linger_ns = 5 * MS;
	start(f);
	create(f, SCHED_WEIGHTED, 300, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	loads[0].token = a.token;
	loads[1].token = b.token;
	run_loads(f, loads, 2, 2 * NSEC_PER_SEC);
	/* Threefold; a half of it without. */
	assert_in_range(loads[0].used_ns * 100 / loads[1].used_ns, 180, 450);
	close(a.owner);
	close(b.owner);
}

static void a_fixed_share_is_not_exceeded_on_an_idle_gpu(void **state)
{
	struct fixture *f = *state;
	struct load load = { .job_ns = MS };
	struct tenant a;

	create(f, SCHED_FIXED_SHARE, 0, 250000, &a);
	load.token = a.token;
	run_loads(f, &load, 1, 2 * NSEC_PER_SEC);
	/* A quarter of the time, what a period saves up, and one job */
	assert_in_range(load.used_ns / MS, 300, 500 + 25 + 10);
	close(a.owner);
}

static void who_is_alone_goes_on_without_asking(void **state)
{
	struct fixture *f = *state;
	struct load load = { .job_ns = MS };
	struct tenant a;
	json_t *json;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	load.token = a.token;
	run_loads(f, &load, 1, NSEC_PER_SEC / 2);
	/* More than some slices of 2 ms hold, however busy the machine is. */
	assert_true(load.jobs > 10);
	json = status(f);
	/* One turn in all; it was told of every nanosecond all the same, or at least of the time it had. */
	assert_int_equal(
		json_integer_value(json_object_get(
			json_object_get(
				json_object_get(json_array_get(json_object_get(json, "vgpus"), 0),
						"engines"),
				"graphics"),
			"grants")),
		1);
	json_decref(json);
	close(a.owner);
}

/* Whoever used an idle GPU is not behind a newcomer for it. */
static void a_newcomer_shares_from_now_on_and_not_from_before(void **state)
{
	struct fixture *f = *state;
	struct load first = { .job_ns = MS }, second = { .job_ns = MS };
	struct tenant a, b;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	first.token = a.token;
	second.token = b.token;
	first.f = second.f = f;
	first.until_ns = monotonic_ns() + 2 * NSEC_PER_SEC;
	second.until_ns = first.until_ns;
	assert_int_equal(pthread_create(&first.thread, NULL, load_main, &first), 0);
	work_for(NSEC_PER_SEC);
	assert_int_equal(pthread_create(&second.thread, NULL, load_main, &second), 0);
	pthread_join(first.thread, NULL);
	pthread_join(second.thread, NULL);
	assert_true(!first.err && !second.err);
	/* About 1.5 s and 0.5 s: not 1 and 1, as if the first second had been a debt. */
	assert_in_range(first.used_ns * 100 / second.used_ns, 170, 900);
	close(a.owner);
	close(b.owner);
}

static void processes_of_one_vgpu_share_its_part(void **state)
{
	struct fixture *f = *state;
	struct load loads[4] = {
		{ .job_ns = MS }, { .job_ns = MS }, { .job_ns = MS }, { .job_ns = MS }
	};
	struct tenant a, b;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	for (unsigned i = 0; i < 3; i++)
		loads[i].token = a.token;
	loads[3].token = b.token;
	run_loads(f, loads, 4, 2 * NSEC_PER_SEC);
	assert_in_range(loads[3].used_ns * 100 /
				(loads[0].used_ns + loads[1].used_ns + loads[2].used_ns),
			60, 160);
	assert_true(loads[0].jobs > 20 && loads[1].jobs > 20 && loads[2].jobs > 20);
	assert_int_equal(collisions, 0);
	close(a.owner);
	close(b.owner);
}

/* Two vGPUs with a worker each, of whom the first has the turn. */
static void two_workers(struct fixture *f, struct tenant tenants[2], struct live_worker workers[2])
{
	struct error e = { 0 };
	uint64_t slice;

	for (unsigned i = 0; i < 2; i++) {
		create(f, SCHED_WEIGHTED, 100, 0, &tenants[i]);
		assert_int_equal(live_worker_open(f->path, tenants[i].token, &workers[i], &e), 0);
	}
	assert_int_equal(live_worker_turn(&workers[0], SCHED_ENGINE_GRAPHICS, NSEC_PER_SEC, &slice),
			 0);
}

static void a_worker_that_dies_frees_its_turn(void **state)
{
	struct fixture *f = *state;
	struct live_worker workers[2], *worker = &workers[0], *other = &workers[1];
	struct tenant tenants[2];
	uint64_t slice, since;

	two_workers(f, tenants, workers);
	assert_int_equal(live_worker_turn(other, SCHED_ENGINE_GRAPHICS, 20 * MS, &slice),
			 -ETIMEDOUT);
	since = monotonic_ns();
	live_worker_close(worker);
	assert_int_equal(live_worker_turn(other, SCHED_ENGINE_GRAPHICS, NSEC_PER_SEC, &slice), 0);
	assert_true(monotonic_ns() - since < NSEC_PER_SEC / 2);
	live_worker_close(other);
	close(tenants[0].owner);
	close(tenants[1].owner);
}

/* hold_max of the core, 250 ms: then its place goes to another, though it lives. */
static void a_worker_that_stalls_frees_its_turn_in_a_stated_time(void **state)
{
	struct fixture *f = *state;
	struct live_worker workers[2], *worker = &workers[0], *other = &workers[1];
	struct tenant tenants[2];
	uint64_t slice, since;

	two_workers(f, tenants, workers);
	since = monotonic_ns();
	assert_int_equal(live_worker_turn(other, SCHED_ENGINE_GRAPHICS, 2 * NSEC_PER_SEC, &slice),
			 0);
	assert_in_range((monotonic_ns() - since) / MS, 150, 1000);
	live_worker_close(worker);
	live_worker_close(other);
	close(tenants[0].owner);
	close(tenants[1].owner);
}

static void an_owner_that_goes_takes_its_workers_turn_with_it(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	struct tenant a;
	struct error e = { 0 };
	uint64_t slice;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	assert_int_equal(live_worker_open(f->path, a.token, &worker, &e), 0);
	close(a.owner);
	/* Fails closed: with the vGPU goes the right to submit. */
	work_for(50 * MS);
	assert_int_equal(live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, NSEC_PER_SEC, &slice),
			 -EPIPE);
	live_worker_close(&worker);
	assert_int_equal(live_worker_open(f->path, a.token, &worker, &e), -EACCES);
}

static void a_weight_can_change_while_it_runs(void **state)
{
	struct fixture *f = *state;
	struct live_message change = { .type = LIVE_CHANGE,
				       .version = LIVE_VERSION,
				       .policy = SCHED_WEIGHTED,
				       .weight = 300 };
	struct load loads[2] = { { .job_ns = MS }, { .job_ns = MS } };
	struct live_message reply;
	struct tenant a, b;
	struct error e = { 0 };

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	assert_int_equal(live_call(b.owner, &change, &reply, NULL, &e), 0);
	loads[0].token = a.token;
	loads[1].token = b.token;
	run_loads(f, loads, 2, 2 * NSEC_PER_SEC);
	assert_in_range(loads[1].used_ns * 100 / loads[0].used_ns, 200, 450);
	close(a.owner);
	close(b.owner);
}

static uint64_t figure(struct fixture *f, const char *vgpu, const char *key)
{
	json_t *json = status(f), *one;
	uint64_t value = UINT64_MAX;
	size_t i;

	json_array_foreach(json_object_get(json, "vgpus"), i, one)
	{
		json_t *engine = json_object_get(json_object_get(one, "engines"), "graphics");

		if (!strcmp(json_string_value(json_object_get(one, "name")), vgpu))
			value = (uint64_t)json_integer_value(
				json_object_get(json_object_get(one, key) ? one : engine, key));
	}
	json_decref(json);
	return value;
}

static void who_may_gives_a_vgpu_another_weight_by_its_name(void **state)
{
	struct fixture *f = *state;
	struct tenant a, b, twins[2];
	struct error e = { 0 };

	if (try_create(f, &(struct live_message){ .policy = SCHED_WEIGHTED, .name = "vm/0" }, &a,
		       &e) ||
	    try_create(f,
		       &(struct live_message){
			       .policy = SCHED_FIXED_SHARE, .share_ppm = 100000, .name = "fixed" },
		       &b, &e))
		fail_msg("%s", e.text);
	create(f, SCHED_WEIGHTED, 100, 0, &twins[0]);
	create(f, SCHED_WEIGHTED, 100, 0, &twins[1]);
	assert_int_equal(arbiter_reweigh(f->path, "vm/0", 250, &e), 0);
	assert_int_equal(figure(f, "vm/0", "weight"), 250);
	assert_int_equal(arbiter_reweigh(f->path, "vm/0", SCHED_WEIGHT_MAX + 1, &e), -EINVAL);
	assert_string_equal(e.code, "vgpu-weight");
	assert_int_equal(figure(f, "vm/0", "weight"), 250);
	assert_int_equal(arbiter_reweigh(f->path, "nobody", 1, &e), -ENOENT);
	assert_string_equal(e.code, "no-such-vgpu");
	assert_int_equal(arbiter_reweigh(f->path, "tenant", 1, &e), -EBUSY);
	assert_int_equal(arbiter_reweigh(f->path, "fixed", 1, &e), -EINVAL);
	assert_string_equal(e.code, "vgpu-policy");
	assert_int_equal(figure(f, "fixed", "share_ppm"), 100000);
	close(a.owner);
	close(b.owner);
	close(twins[0].owner);
	close(twins[1].owner);
}

/* Asked without waiting; what was waited for turns is told. */
static void who_waits_is_told_how_long(void **state)
{
	struct fixture *f = *state;
	struct load loads[2] = { { .job_ns = MS }, { .job_ns = MS } };
	struct error e = { 0 };
	struct tenant a, b;
	struct pollfd poller = { .events = POLLIN };
	char *text = NULL;

	if (try_create(f, &(struct live_message){ .policy = SCHED_WEIGHTED, .name = "a" }, &a, &e))
		fail_msg("%s", e.text);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	loads[0].token = a.token;
	loads[1].token = b.token;
	run_loads(f, loads, 2, NSEC_PER_SEC / 2);
	/* About half the time, but at least some and never more than there was. */
	assert_in_range(figure(f, "a", "waited_ns"), 50 * MS, 5000 * MS);
	poller.fd = arbiter_ask(f->path, &e);
	assert_true(poller.fd >= 0);
	assert_int_equal(poll(&poller, 1, 10000), 1);
	assert_int_equal(arbiter_answer(poller.fd, &text, &e), 0);
	assert_non_null(strstr(text, "waited_ns"));
	free(text);
	close(poller.fd);
	assert_int_equal(arbiter_ask("/nowhere", &e), -ENOENT);
	close(a.owner);
	close(b.owner);
}

static void what_cannot_be_promised_is_refused_in_words(void **state)
{
	struct fixture *f = *state;
	struct tenant a, b;
	struct error e = { 0 };

	create(f, SCHED_FIXED_SHARE, 0, 700000, &a);
	assert_int_not_equal(try_create(f,
					&(struct live_message){ .policy = SCHED_FIXED_SHARE,
								.share_ppm = 400000 },
					&b, &e),
			     0);
	assert_string_equal(e.code, "gpu-shares-full");
	assert_true(strlen(e.text) > 10);
	assert_int_not_equal(try_create(f, &(struct live_message){ .policy = 77 }, &b, &e), 0);
	assert_int_not_equal(try_create(f,
					&(struct live_message){ .policy = SCHED_FIXED_SHARE,
								.share_ppm = 2000000 },
					&b, &e),
			     0);
	close(a.owner);
}

/* ---- who does not keep to the rules -------------------------------------------------------------- */

static bool ended(int fd)
{
	char byte[512];

	for (unsigned i = 0; i < 100; i++) {
		ssize_t size = recv(fd, byte, sizeof(byte), MSG_DONTWAIT);

		if (!size || (size < 0 && errno != EAGAIN))
			return true;
		work_for(10 * MS);
	}
	return false;
}

static void what_is_no_message_ends_that_connection_and_no_other(void **state)
{
	static const struct live_message bad[] = {
		{ .type = 0, .version = LIVE_VERSION },
		{ .type = 99, .version = LIVE_VERSION },
		{ .type = LIVE_CREATE, .version = 7 },
		{ .type = LIVE_CREATE, .version = LIVE_VERSION, .gpu = "gpu0" },
		{ .type = LIVE_CREATE, .version = LIVE_VERSION, .gpu = "gpu0", .name = "a b\"" },
		{ .type = LIVE_WANT, .version = LIVE_VERSION },
		{ .type = LIVE_WANT, .version = LIVE_VERSION, .engine = 3 },
		{ .type = LIVE_RELEASE, .version = LIVE_VERSION, .used_ns = UINT64_MAX },
		{ .type = LIVE_CHANGE, .version = LIVE_VERSION },
	};
	struct fixture *f = *state;
	struct error e = { 0 };
	struct tenant good;

	create(f, SCHED_WEIGHTED, 100, 0, &good);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = live_connect(f->path, &e);

		assert_int_equal(send(fd, &bad[i], sizeof(bad[i]), 0), sizeof(bad[i]));
		assert_true(ended(fd));
		close(fd);
	}
	for (size_t size = 1; size < 1000; size += 111) {
		char bytes[1000] = { 1, 2, 3 };
		int fd = live_connect(f->path, &e);

		assert_int_equal(send(fd, bytes, size, 0), size);
		assert_true(ended(fd));
		close(fd);
	}
	json_decref(status(f));
	assert_false(recv(good.owner, &(char){ 0 }, 1, MSG_DONTWAIT) == 0);
	close(good.owner);
}

static void a_token_cannot_be_guessed_and_a_name_is_no_claim(void **state)
{
	struct fixture *f = *state;
	struct live_worker worker;
	uint8_t token[LIVE_TOKEN_SIZE];
	struct error e = { 0 };
	struct tenant a;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	memcpy(token, a.token, sizeof(token));
	token[LIVE_TOKEN_SIZE - 1] ^= 1;
	assert_int_equal(live_worker_open(f->path, token, &worker, &e), -EACCES);
	memset(token, 0, sizeof(token));
	assert_int_equal(live_worker_open(f->path, token, &worker, &e), -EACCES);
	close(a.owner);
}

/* Scribbles over its page, floods, says that it used nothing: its neighbour has its half all the same. */
static void *liar_main(void *opaque)
{
	struct load *load = opaque;
	struct live_worker worker;
	uint64_t slice;

	if (live_worker_open(load->f->path, load->token, &worker, NULL))
		return NULL;
	while (monotonic_ns() < load->until_ns) {
		if (live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, NSEC_PER_SEC, &slice) ==
		    -EPIPE)
			break;
		work_for(load->job_ns);
		load->used_ns += load->job_ns;
		load->jobs++;
		memset(worker.page, (int)load->jobs & 0xff, sizeof(*worker.page));
		atomic_store(&worker.page->used_ns[SCHED_ENGINE_GRAPHICS], 0);
		for (unsigned i = 0; i < 3; i++)
			if (live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, true))
				break;
	}
	live_worker_close(&worker);
	return NULL;
}

static void a_client_that_lies_about_its_time_pays_for_what_it_held(void **state)
{
	struct fixture *f = *state;
	struct load honest = { .job_ns = MS }, liar = { .job_ns = 4 * MS };
	struct tenant a, b;

	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	honest.token = a.token;
	liar.token = b.token;
	honest.f = liar.f = f;
	honest.until_ns = liar.until_ns = monotonic_ns() + 2 * NSEC_PER_SEC;
	assert_int_equal(pthread_create(&honest.thread, NULL, load_main, &honest), 0);
	assert_int_equal(pthread_create(&liar.thread, NULL, liar_main, &liar), 0);
	pthread_join(honest.thread, NULL);
	pthread_join(liar.thread, NULL);
	assert_int_equal(honest.err, 0);
	/* About a half; next to nothing, if what is told were believed. */
	assert_true(honest.used_ns > 2 * NSEC_PER_SEC * 2 / 10);
	close(a.owner);
	close(b.owner);
}

static void a_hog_is_ended_and_its_neighbour_gets_on(void **state)
{
	struct fixture *f = *state;
	struct live_worker other;
	struct error e = { 0 };
	struct tenant a, b;
	uint64_t slice;
	int status_of;
	pid_t pid;

	stop(f);
	f->hog_ns = 400 * MS;
	f->config.hold_max_ns =
		10 * NSEC_PER_SEC; /* it is to be the hog's end that frees the turn */
	start(f);
	create(f, SCHED_WEIGHTED, 100, 0, &a);
	create(f, SCHED_WEIGHTED, 100, 0, &b);
	pid = fork();
	if (!pid) {
		struct live_worker hog;

		if (!live_worker_open(f->path, a.token, &hog, NULL))
			live_worker_turn(&hog, SCHED_ENGINE_GRAPHICS, NSEC_PER_SEC, &slice);
		pause();
		_exit(0);
	}
	work_for(200 * MS);
	assert_int_equal(live_worker_open(f->path, b.token, &other, &e), 0);
	assert_int_equal(live_worker_turn(&other, SCHED_ENGINE_GRAPHICS, 5 * NSEC_PER_SEC, &slice),
			 0);
	assert_int_equal(waitpid(pid, &status_of, 0), pid);
	assert_true(WIFSIGNALED(status_of) && WTERMSIG(status_of) == SIGKILL);
	live_worker_close(&other);
	close(a.owner);
	close(b.owner);
}

static void turns_are_recorded_as_the_simulator_reads_them(void **state)
{
	struct fixture *f = *state;
	struct load load = { .job_ns = MS };
	char *text = NULL, line[256];
	size_t size = 0;
	unsigned lines = 0;
	struct tenant a;
	FILE *in;

	stop(f);
	f->trace = open_memstream(&text, &size);
	start(f);
	create(f, SCHED_FIXED_SHARE, 0, 500000, &a);
	load.token = a.token;
	run_loads(f, &load, 1, NSEC_PER_SEC / 2);
	close(a.owner);
	stop(f);
	fclose(f->trace);
	f->trace = NULL;
	in = fmemopen(text, size, "r");
	assert_non_null(fgets(line, sizeof(line), in));
	assert_string_equal(line,
			    "when_ns,vgpu,engine,waited_ns,target_ns,ran_ns,overrun_ns,debt_ns\n");
	while (fgets(line, sizeof(line), in)) {
		unsigned long long v[6];

		assert_int_equal(sscanf(line, "%llu,tenant,graphics,%llu,%llu,%llu,%llu,%llu",
					&v[0], &v[1], &v[2], &v[3], &v[4], &v[5]),
				 6);
		lines++;
	}
	fclose(in);
	free(text);
	assert_true(lines > 20);
	start(f);
}

static void a_socket_that_is_not_ours_to_replace_is_left_alone(void **state)
{
	struct fixture *f = *state;
	const struct sched_gpu_config config = { 0 };
	struct arbiter *arbiter;
	struct error e = { 0 };
	char path[80];
	struct stat st;
	sd_event *event;
	int fd;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	sd_event_new(&event);
	assert_int_equal(arbiter_create(event, f->path, &config, 0, NULL, &arbiter, &e),
			 -EADDRINUSE);
	snprintf(path, sizeof(path), "%s/file", f->folder);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(arbiter_create(event, path, &config, 0, NULL, &arbiter, &e), -EEXIST);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/none/socket", f->folder);
	assert_int_equal(arbiter_create(event, path, &config, 0, NULL, &arbiter, &e), -ENOENT);
	sd_event_unref(event);
	/* The one that listens still does. */
	json_decref(status(f));
}

int main(void)
{
#define LIVE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		LIVE(gpu_time_follows_the_weights),
		LIVE(a_weight_is_kept_by_who_waits_for_each_job),
		LIVE(a_fixed_share_is_not_exceeded_on_an_idle_gpu),
		LIVE(who_is_alone_goes_on_without_asking),
		LIVE(a_newcomer_shares_from_now_on_and_not_from_before),
		LIVE(processes_of_one_vgpu_share_its_part),
		LIVE(a_worker_that_dies_frees_its_turn),
		LIVE(a_worker_that_stalls_frees_its_turn_in_a_stated_time),
		LIVE(an_owner_that_goes_takes_its_workers_turn_with_it),
		LIVE(a_weight_can_change_while_it_runs),
		LIVE(who_may_gives_a_vgpu_another_weight_by_its_name),
		LIVE(who_waits_is_told_how_long),
		LIVE(what_cannot_be_promised_is_refused_in_words),
		LIVE(what_is_no_message_ends_that_connection_and_no_other),
		LIVE(a_token_cannot_be_guessed_and_a_name_is_no_claim),
		LIVE(a_client_that_lies_about_its_time_pays_for_what_it_held),
		LIVE(a_hog_is_ended_and_its_neighbour_gets_on),
		LIVE(turns_are_recorded_as_the_simulator_reads_them),
		LIVE(a_socket_that_is_not_ours_to_replace_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
