// SPDX-License-Identifier: Apache-2.0
/*
 * Chaos on a node: instances of all kinds come and go while the daemon, VMMs, vGPUs, the processes above them and the arbiter are killed at random.
 * At any time a device has one user; who lived when the daemon was killed is taken back as the same process; at the end everything that shall
 * run does, the accounts say what there is, and when all is stopped nothing is left.
 *
 *   CHAOS_SECONDS=300 build/gcc/tests/unit/test_daemon_chaos      for long; half a minute otherwise
 *   CHAOS_SEED=N                                                  another course of events
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/daemon_world.h"

#define SECONDS	  30
#define INSTANCES 8
#define RECENT_NS NSEC_PER_SEC

static const struct {
	const char *type, *more;
} kinds[INSTANCES] = {
	{ "whole", ",\"restart\":\"always\"" },
	{ "whole", "" },
	{ "pair", ",\"restart\":\"on-failure\"" },
	{ "quarter", ",\"restart\":\"always\"" },
	{ "quarter", "" },
	{ "weighted", ",\"restart\":\"on-failure\"" },
	{ "burst", ",\"restart\":\"always\"" },
	{ "plain", "" },
};

static struct {
	unsigned daemons, processes, arbiters, starts, stops, deleted, adopted;
} done;

static uint64_t harmed_ns[INSTANCES]; /* when something of it was killed last */
static unsigned seed;

static unsigned dice(unsigned sides)
{
	return (unsigned)rand_r(&seed) % sides;
}

static void name_of(unsigned i, char name[16])
{
	snprintf(name, 16, "i%u", i);
}

/* ---- processes ------------------------------------------------------------------------------------------- */

struct found {
	int32_t pid;
	bool arbiter;
	unsigned instance; /* INSTANCES: not known */
};

/* All processes of the node, by their command lines. */
static unsigned find(const struct world *w, struct found *list, unsigned room)
{
	DIR *folder = opendir("/proc");
	unsigned count = 0;
	struct dirent *one;

	while (folder && count < room && (one = readdir(folder))) {
		char path[300], text[8192];
		const char *at;
		ssize_t size;
		int fd;

		if (atoi(one->d_name) <= 0 || atoi(one->d_name) == w->daemon)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/cmdline", one->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		size = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
		if (fd >= 0)
			close(fd);
		if (size <= 0 || !memmem(text, (size_t)size, w->folder, strlen(w->folder)))
			continue;
		text[size] = '\0';
		/* Not another divvyd that is just being started, and not this test. */
		if (memmem(text, (size_t)size, "--types", 7))
			continue;
		list[count] = (struct found){ .pid = atoi(one->d_name), .instance = INSTANCES };
		list[count].arbiter = memmem(text, (size_t)size, "\0arbiter\0", 9) != NULL;
		at = memmem(text, (size_t)size, "/instances/i", 12);
		if (at)
			list[count].instance = (unsigned)atoi(at + 12);
		if (list[count].arbiter || list[count].instance < INSTANCES)
			count++;
	}
	if (folder)
		closedir(folder);
	return count;
}

static void kill_one(const struct world *w)
{
	struct found list[256];
	unsigned count = find(w, list, ARRAY_SIZE(list)), which;

	if (!count)
		return;
	which = dice(count);
	/* The arbiter takes many along: not as often as others. */
	if (list[which].arbiter && dice(4))
		return;
	kill(list[which].pid, SIGKILL);
	if (list[which].arbiter) {
		done.arbiters++;
		for (unsigned i = 0; i < INSTANCES; i++)
			harmed_ns[i] = monotonic_ns();
	} else {
		done.processes++;
		harmed_ns[list[which].instance] = monotonic_ns();
	}
}

/* ---- the daemon ---------------------------------------------------------------------------------------------- */

static void kill_daemon(struct world *w)
{
	int32_t pids[INSTANCES] = { 0 };
	char name[16];

	for (unsigned i = 0; i < INSTANCES; i++) {
		name_of(i, name);
		if (monotonic_ns() - harmed_ns[i] > RECENT_NS && world_is(w, name, "running"))
			pids[i] = world_pid(w, name, "vmm");
	}
	world_kill(w);
	done.daemons++;
	usleep(dice(100000));
	assert_true(world_start(w, NULL));
	for (unsigned i = 0; i < INSTANCES; i++) {
		name_of(i, name);
		if (!pids[i])
			continue;
		if (!world_is(w, name, "running") || world_pid(w, name, "vmm") != pids[i])
			fail_msg("%s ran as process %d and was not taken back", name, pids[i]);
		done.adopted++;
	}
}

/* ---- instances ------------------------------------------------------------------------------------------------- */

static void define(const struct world *w, unsigned i)
{
	char resource[64], body[300], name[16];
	unsigned status;

	name_of(i, name);
	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"%s\",\"image\":\"%s/images/a\"%s}", kinds[i].type,
		 w->folder, kinds[i].more);
	status = world_ask(w, "PUT", resource, body, NULL);
	assert_in_range(status, 200, 201);
}

static void change_one(const struct world *w)
{
	const unsigned i = dice(INSTANCES);
	char resource[64];
	unsigned status;

	switch (dice(6)) {
	case 0:
		snprintf(resource, sizeof(resource), "instances/i%u/stop", i);
		harmed_ns[i] = monotonic_ns();
		status = world_ask(w, "POST", resource,
				   dice(2) ? "{\"force\":true}" : "{\"timeout\":1}", NULL);
		assert_in_range(status, 200, 202);
		done.stops++;
		break;
	case 1:
		snprintf(resource, sizeof(resource), "instances/i%u", i);
		status = world_ask(w, "DELETE", resource, NULL, NULL);
		if (status == 204)
			done.deleted++;
		define(w, i);
		break;
	default:
		snprintf(resource, sizeof(resource), "instances/i%u/start", i);
		status = world_ask(w, "POST", resource, NULL, NULL);
		if (status == 202)
			harmed_ns[i] = monotonic_ns();
		done.starts += status == 202;
	}
}

static void settle(struct world *w)
{
	char name[16], resource[64];

	/* Whoever shall always run has to: the others make room. */
	for (unsigned i = 0; i < INSTANCES; i++) {
		name_of(i, name);
		snprintf(resource, sizeof(resource), "instances/%s/stop", name);
		if (!strstr(kinds[i].more, "always"))
			world_ask(w, "POST", resource, "{\"force\":true}", NULL);
	}
	for (unsigned i = 0; i < INSTANCES; i++) {
		name_of(i, name);
		if (strstr(kinds[i].more, "always"))
			continue;
		for (unsigned n = 0; n < 6000 && !world_is(w, name, "stopped") &&
				     !world_is(w, name, "failed") && !world_is(w, name, "defined");
		     n++)
			usleep(10000);
	}
	for (unsigned i = 0; i < INSTANCES; i++) {
		name_of(i, name);
		snprintf(resource, sizeof(resource), "instances/%s/start", name);
		if (!strstr(kinds[i].more, "always"))
			continue;
		/* A try may just be ending. */
		for (unsigned n = 0; n < 6000 && !world_is(w, name, "running"); n++) {
			world_ask(w, "POST", resource, NULL, NULL);
			usleep(10000);
		}
		world_await(w, name, "running");
	}
}

/* Shares that are sold are those of who runs. */
static void check_accounts(const struct world *w)
{
	json_t *body = NULL;
	double sold;

	assert_int_equal(world_ask(w, "GET", "gpus/" FAKE_SHARED_GPU, NULL, &body), 200);
	sold = json_number_value(json_object_get(body, "share_sold"));
	json_decref(body);
	/* A quarter and a burst's baseline. */
	assert_true(sold > 0.2999 && sold < 0.3001);
	assert_int_equal(world_ask(w, "GET", "node", NULL, &body), 200);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(body, "gpus"), "dedicated")), 1);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(body, "instances"), "running")),
		3);
	json_decref(body);
}

static struct world world;

/* What a failed test leaves is put away. */
static int teardown(void **state)
{
	if (world.folder[0])
		world_destroy(&world);
	return 0;
}

static void a_node_keeps_its_promises(void **state)
{
	const char *seconds = getenv("CHAOS_SECONDS"), *said = getenv("CHAOS_SEED");
	const uint64_t until =
		monotonic_ns() + (seconds ? strtoull(seconds, NULL, 10) : SECONDS) * NSEC_PER_SEC;
	char resource[64];

	seed = said ? (unsigned)atoi(said) : 1;
	world_create(&world);
	assert_true(world_start(&world, NULL));
	for (unsigned i = 0; i < INSTANCES; i++)
		define(&world, i);
	while (monotonic_ns() < until) {
		const unsigned what = dice(20);

		if (what == 0)
			kill_daemon(&world);
		else if (what < 4)
			kill_one(&world);
		else
			change_one(&world);
		world_check_violations(&world);
		usleep(dice(200000));
	}
	settle(&world);
	check_accounts(&world);
	kill_daemon(&world);
	for (unsigned i = 0; i < INSTANCES; i++) {
		snprintf(resource, sizeof(resource), "instances/i%u/stop", i);
		assert_in_range(world_ask(&world, "POST", resource, "{\"force\":true}", NULL), 200,
				202);
	}
	for (unsigned i = 0; i < 6000 && world_processes(&world, false); i++)
		usleep(10000);
	assert_int_equal(world_processes(&world, false), 0);
	for (unsigned i = 0; i < INSTANCES; i++) {
		snprintf(resource, sizeof(resource), "i%u", i);
		for (unsigned n = 0; n < 6000 && world_is(&world, resource, "stopping"); n++)
			usleep(10000);
	}
	world_stop(&world);
	world_check_empty(&world);
	world_destroy(&world);
	world.folder[0] = '\0';
	print_message(
		"killed: %u daemons, %u processes, %u arbiters; %u starts, %u stops, %u deleted; %u taken back\n",
		done.daemons, done.processes, done.arbiters, done.starts, done.stops, done.deleted,
		done.adopted);
	/* A quiet chaos is none. */
	assert_true(done.daemons > 1 && done.processes > 3 && done.adopted > 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_node_keeps_its_promises, teardown),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
