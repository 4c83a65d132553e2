// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon is killed at every commit to its store, before it and after it, in the course of a day: instances are defined, started, changed,
 * stopped, deleted. Whatever the moment: what was answered holds when it is started anew, what ran runs on, a device has one user, nothing
 * is left over, and the store is whole. The one that comes after is killed while it looks around, too.
 *
 *   CRASH_EVERY=1 build/gcc/tests/unit/test_daemon_crash      each commit both ways; otherwise every second, which take turns
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_mdev.h"

#define AFTER_MOST 9 /* commits of the second one until it dies */

/* What was answered to. */
struct promise {
	bool defined, started, stopped, deleted, asked_delete, asked_stop;
	bool is_transient;
	int32_t pid; /* its VMM's, once it was seen to run */
};

/* The status, or 0: nobody answers any more. */
static unsigned attempt(const struct world *w, const char *method, const char *resource,
			const char *body, json_t **answer)
{
	char text[32768], head[1024];
	int fd = http_connect(w->api);
	const char *json;
	unsigned status;

	if (answer)
		*answer = NULL;
	if (fd < 0)
		return 0;
	snprintf(
		head, sizeof(head),
		"%s /api/v1/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
		method, resource, body ? strlen(body) : 0, body ? body : "");
	if (send(fd, head, strlen(head), MSG_NOSIGNAL) != (ssize_t)strlen(head)) {
		close(fd);
		return 0;
	}
	status = http_receive(fd, text, sizeof(text));
	close(fd);
	json = strstr(text, "\r\n\r\n");
	if (answer && json)
		*answer = json_loads(json + 4, 0, NULL);
	return status;
}

static bool define(const struct world *w, const char *name, const char *type, const char *more,
		   struct promise *promise)
{
	char resource[64], body[300];
	unsigned status;

	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"%s\",\"image\":\"%s/images/a\"%s}", type,
		 w->folder, more);
	status = attempt(w, "PUT", resource, body, NULL);
	if (!status)
		return false;
	assert_int_equal(status, 201);
	promise->defined = true;
	return true;
}

static bool start(const struct world *w, const char *name, struct promise *promise)
{
	char resource[64];
	unsigned status;

	snprintf(resource, sizeof(resource), "instances/%s/start", name);
	status = attempt(w, "POST", resource, NULL, NULL);
	if (!status)
		return false;
	assert_int_equal(status, 202);
	promise->started = true;
	return true;
}

/* Until it is in @state; false: the daemon is gone. */
static bool await(const struct world *w, const char *name, const char *state,
		  struct promise *promise)
{
	char resource[64];

	snprintf(resource, sizeof(resource), "instances/%s", name);
	for (;;) {
		json_t *answer;
		unsigned status = attempt(w, "GET", resource, NULL, &answer);
		const char *now = json_string_value(json_object_get(answer, "state"));
		bool there = now && !strcmp(now, state);
		json_t *one;
		size_t i;

		if (there && !strcmp(state, "running"))
			json_array_foreach(json_object_get(answer, "processes"), i, one)
			{
				if (!strcmp(json_string_value(json_object_get(one, "role")), "vmm"))
					promise->pid = (int32_t)json_integer_value(
						json_object_get(one, "pid"));
			}
		json_decref(answer);
		if (!status)
			return false;
		if (there || (status == 404 && !strcmp(state, "gone")))
			return true;
		usleep(3000);
	}
}

/* The day. Returns true when it came to its end. */
static bool day(const struct world *w, struct promise *a, struct promise *b, struct promise *c)
{
	unsigned status;

	if (!define(w, "a", "mixed", "", a) ||
	    !define(w, "b", "quarter", ",\"restart\":\"always\"", b) || !start(w, "a", a) ||
	    !start(w, "b", b) || !await(w, "a", "running", a) || !await(w, "b", "running", b) ||
	    !define(w, "c", "burst", "", c) || !start(w, "c", c) || !await(w, "c", "running", c))
		return false;
	a->asked_stop = true;
	status = attempt(w, "POST", "instances/a/stop", "{\"force\":true}", NULL);
	if (!status)
		return false;
	a->stopped = true;
	if (!await(w, "a", "stopped", a))
		return false;
	a->asked_delete = true;
	status = attempt(w, "DELETE", "instances/a", NULL, NULL);
	if (!status)
		return false;
	assert_int_equal(status, 204);
	a->deleted = true;
	c->asked_stop = true;
	if (!attempt(w, "POST", "instances/c/stop", NULL, NULL))
		return false;
	c->stopped = true;
	return await(w, "c", "stopped", c) &&
	       attempt(w, "POST", "gpus/" WORLD_GPU_A "/drain", NULL, NULL);
}

static bool alive(int32_t pid)
{
	return pid && !kill(pid, 0);
}

/* What was answered holds. */
static void judge(struct world *w, const char *name, const struct promise *promise)
{
	json_t *body = world_instance(w, name);

	if (promise->deleted)
		assert_null(body);
	if (promise->defined && !promise->asked_delete)
		assert_non_null(body);
	json_decref(body);
	if (!body)
		return;
	if (promise->stopped)
		world_await(w, name, "stopped");
	else if (promise->started && !promise->asked_stop)
		world_await(w, name, "running");
	/* What was seen to run is the same one still. */
	if (promise->pid && !promise->asked_stop) {
		assert_true(alive(promise->pid));
		assert_int_equal(world_pid(w, name, "vmm"), promise->pid);
	}
}

static void put_away(const struct world *w, const char *name)
{
	char resource[64];
	json_t *body = world_instance(w, name);

	if (!body)
		return;
	json_decref(body);
	snprintf(resource, sizeof(resource), "instances/%s", name);
	for (unsigned i = 0; i < 2000; i++) {
		/* One that was starting may be on its way to starting again. */
		attempt(w, "POST",
			name[0] == 'a'	 ? "instances/a/stop"
			: name[0] == 'b' ? "instances/b/stop"
					 : "instances/c/stop",
			"{\"force\":true}", NULL);
		if (attempt(w, "DELETE", resource, NULL, NULL) == 204)
			return;
		usleep(5000);
	}
	fail_msg("%s cannot be deleted", name);
}

/* Returns true when the daemon lived to the day's end. */
/* What a failed course leaves is put away. */
static struct world world;

static int teardown(void **state)
{
	if (world.folder[0])
		world_destroy(&world);
	return 0;
}

static bool course(char when, unsigned at)
{
	struct promise a = { 0 }, b = { 0 }, c = { 0 };
	char crash[16];
	bool whole;

	world_create(&world);
	world_slices(&world);
	snprintf(crash, sizeof(crash), "%c%u", when, at);
	whole = world_start(&world, crash) && day(&world, &a, &b, &c);
	if (world.daemon && whole) {
		world_kill(&world);
	} else if (world.daemon) {
		assert_int_equal(waitpid(world.daemon, NULL, 0), world.daemon);
		world.daemon = 0;
	}
	/* The next one does not come far either. */
	snprintf(crash, sizeof(crash), "%c%u", at % 2 ? 'b' : 'a', at % AFTER_MOST + 1);
	if (world_start(&world, crash)) {
		/* It may need more commits than that for anything: as long as it does, it is in good order. */
		usleep(100000);
		world_kill(&world);
	}
	assert_true(world_start(&world, NULL));
	judge(&world, "a", &a);
	judge(&world, "b", &b);
	judge(&world, "c", &c);
	put_away(&world, "a");
	put_away(&world, "b");
	put_away(&world, "c");
	assert_int_equal(world_processes(&world, false), 0);
	world_stop(&world);
	world_check_empty(&world);
	assert_int_equal(world_mdevs(&world), 0);
	world_destroy(&world);
	world.folder[0] = '\0';
	return whole;
}

static void nothing_is_lost_whenever_it_is_killed(void **state)
{
	const bool every = getenv("CRASH_EVERY") != NULL;
	unsigned at = 1, courses = 0;
	bool whole = false;

	while (!whole) {
		print_message("commit %u\n", at);
		whole = course(at % 4 < 2 ? 'a' : 'b', at);
		courses++;
		if (every && !whole) {
			whole = course(at % 4 < 2 ? 'b' : 'a', at);
			courses++;
		}
		at += every ? 1 : 2;
	}
	print_message("%u commits, %u courses\n", at - 1, courses);
	/* A day of fewer would be none. */
	assert_true(at > 20);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(nothing_is_lost_whenever_it_is_killed, teardown),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
