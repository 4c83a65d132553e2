// SPDX-License-Identifier: Apache-2.0
/* The API: every answer held against its document (tests/node/api); roles; clients that stall, flood and read nothing; events. */
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/fake_mdev.h"

#define NOBODY 65534u /* a user, by the world's divvyd.yaml */
#define OTHER  65533u /* no role */
#define FLOOD  200

static void every_answer_is_as_the_document_says(void **state)
{
	struct world *w = *state;
	char command[512];

	snprintf(command, sizeof(command), "python3 tests/node/api %s %s/images/a", w->api,
		 w->folder);
	assert_int_equal(system(command), 0);
}

static void what_divvy_says_without_a_daemon_is_as_the_document_says(void **state)
{
	struct world *w = *state;
	char build[PATH_MAX], command[PATH_MAX + 512];

	assert_true(build_folder(build, sizeof(build)));
	snprintf(command, sizeof(command),
		 "python3 tests/node/api --without-daemon %s/divvy %s %s/types", build, w->fs.root,
		 w->folder);
	assert_int_equal(system(command), 0);
}

/* In a child that is @uid, with these groups; its status is what @ask returns. */
static int with_groups(uint32_t uid, uint32_t gid, unsigned count, const gid_t *groups,
		       int (*ask)(const struct world *w), const struct world *w)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		if (setgroups(count, groups) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
			_exit(99);
		_exit(ask(w));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int as(uint32_t uid, int (*ask)(const struct world *w), const struct world *w)
{
	return with_groups(uid, uid, 0, NULL, ask, w);
}

#define GROUP 54321u /* no name leads to it: nobody could look up who is in it */

static int ask_node(const struct world *w)
{
	return world_ask(w, "GET", "node", NULL, NULL) == 200 ? 0 : 1;
}

static void a_role_is_had_by_the_groups_of_who_connects(void **state)
{
	struct world *w = *state;
	gid_t groups[600];
	char text[300];

	/* More than anybody would have room for, and the last one counts. */
	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++)
		groups[i] = GROUP + 1 + i - (unsigned)ARRAY_SIZE(groups);
	world_stop(w);
	snprintf(text, sizeof(text), "roles: { \"@%u\": viewer, \"%u\": nobody }\n", GROUP, NOBODY);
	world_write(w, "divvyd.yaml", text);
	assert_int_equal(chmod(w->folder, 0755), 0);
	assert_true(world_start(w, NULL));
	assert_int_equal(with_groups(OTHER, OTHER, 0, NULL, ask_node, w), 1);
	assert_int_equal(with_groups(OTHER, OTHER, 599, groups, ask_node, w), 1);
	assert_int_equal(with_groups(OTHER, OTHER, 600, groups, ask_node, w), 0);
	assert_int_equal(with_groups(OTHER, GROUP, 0, NULL, ask_node, w), 0);
	/* What is said of the user himself goes before. */
	assert_int_equal(with_groups(NOBODY, GROUP, 600, groups, ask_node, w), 1);
}

static int ask_as_user(const struct world *w)
{
	char body[300];
	static const char outside[] = "{\"type\":\"plain\",\"image\":\"/etc\"}";
	json_t *answer = NULL;

	snprintf(body, sizeof(body), "{\"type\":\"plain\",\"image\":\"%s/images/a\"}", w->folder);
	if (world_ask(w, "GET", "node", NULL, NULL) != 200)
		return 1;
	/* What is another's is not there. */
	if (world_ask(w, "GET", "instances/roots", NULL, NULL) != 404 ||
	    world_ask(w, "POST", "instances/roots/stop", NULL, NULL) != 404 ||
	    world_ask(w, "DELETE", "instances/roots", NULL, NULL) != 404 ||
	    world_ask(w, "PUT", "instances/roots", body, NULL) != 403)
		return 2;
	if (world_ask(w, "GET", "instances", NULL, &answer) != 200 ||
	    json_array_size(json_object_get(answer, "instances")) != 0)
		return 3;
	json_decref(answer);
	answer = NULL;
	/* Nor is it hinted at. */
	if (world_ask(w, "GET", "instances/root", NULL, &answer) != 404 ||
	    strcmp(json_string_value(json_object_get(json_object_get(answer, "error"), "text")),
		   "there is no instance root") != 0)
		return 8;
	json_decref(answer);
	/* Only admins touch GPUs, leases and the store. */
	if (world_ask(w, "POST", "gpus/" WORLD_GPU_A "/drain", NULL, NULL) != 403 ||
	    world_ask(w, "GET", "gpus/" WORLD_GPU_A "/leases", NULL, NULL) != 403 ||
	    world_ask(w, "POST", "backup", "{\"path\":\"/tmp/x\"}", NULL) != 403)
		return 4;
	/* The daemon reads images as root: not any. */
	if (world_ask(w, "PUT", "instances/mine", outside, NULL) != 403)
		return 5;
	if (world_ask(w, "PUT", "instances/mine", body, NULL) != 201 ||
	    world_ask(w, "POST", "instances/mine/start", NULL, NULL) != 202)
		return 6;
	for (unsigned i = 0; i < 3000 && !world_is(w, "mine", "running"); i++)
		usleep(10000);
	return world_is(w, "mine", "running") ? 0 : 7;
}

static int ask_as_other(const struct world *w)
{
	return world_ask(w, "GET", "node", NULL, NULL) == 401 ? 0 : 1;
}

static void a_user_has_his_own_and_nobody_else(void **state)
{
	struct world *w = *state;
	char path[200];

	if (geteuid())
		skip();
	snprintf(path, sizeof(path), "%s", w->folder);
	assert_int_equal(chmod(path, 0755), 0);
	world_define(w, "roots", "plain", "");
	assert_int_equal(as(NOBODY, ask_as_user, w), 0);
	assert_int_equal(as(OTHER, ask_as_other, w), 0);
	world_do(w, "mine", "stop", "{\"force\":true}", 202);
	world_await(w, "mine", "stopped");
}

/* What an answer that is an error says is to be done next. */
static void expect_next(const struct world *w, const char *method, const char *resource,
			const char *body, const char *code, const char *next)
{
	json_t *answer = NULL;
	const unsigned status = world_ask(w, method, resource, body, &answer);
	const json_t *error = json_object_get(answer, "error");
	const char *said = json_string_value(json_object_get(error, "code")),
		   *then = json_string_value(json_object_get(error, "next"));

	if (!said || !then || strcmp(said, code) != 0 || strcmp(then, next) != 0)
		fail_msg("%s %s: %u, %s, next: %s", method, resource, status, said, then);
	json_decref(answer);
}

static void expect_text(const struct world *w, const char *method, const char *resource,
			const char *body, const char *text)
{
	json_t *answer = NULL;
	const unsigned status = world_ask(w, method, resource, body, &answer);
	const char *said =
		json_string_value(json_object_get(json_object_get(answer, "error"), "text"));

	if (!said || strcmp(said, text) != 0)
		fail_msg("%s %s: %u, %s", method, resource, status, said);
	json_decref(answer);
}

static void what_is_to_be_done_next_is_a_command_with_its_name(void **state)
{
	struct world *w = *state;
	char body[300];

	world_define(w, "web", "quarter", "");
	expect_next(w, "GET", "instances/web/screenshot/0", NULL, "no-such-head",
		    "divvy show instance web");
	expect_next(w, "GET", "instances/web/displays/7", NULL, "no-such-head",
		    "divvy show instance web");
	expect_next(w, "GET", "instances/web/console", NULL, "upgrade-required",
		    "divvy console web");
	expect_next(w, "GET", "instances/web/displays/0", NULL, "upgrade-required",
		    "divvy vnc web");
	expect_next(w, "PATCH", "instances/web/share", "{\"weight\":7}", "bad-request",
		    "divvy show type quarter");
	snprintf(body, sizeof(body),
		 "{\"name\":\"web\",\"type\":\"plain\",\"image\":\"%s/images/a\"}", w->folder);
	expect_next(w, "POST", "run", body, "instance-exists", "divvy show instance web");
	expect_next(w, "POST", "backup", "{\"path\":\"/nosuch/x.db\"}", "backup-failed",
		    "ls -ld /nosuch");
	expect_text(w, "GET", "instances/wbe", NULL, "there is no instance wbe; is it web?");
	expect_text(w, "POST", "instances/wbe/start", NULL, "there is no instance wbe; is it web?");
	expect_text(w, "GET", "instances/something-else", NULL,
		    "there is no instance something-else");
	expect_text(w, "GET", "types/quater", NULL,
		    "there is no instance type quater; is it quarter?");
	snprintf(body, sizeof(body), "{\"type\":\"quater\",\"image\":\"%s/images/a\"}", w->folder);
	expect_text(w, "PUT", "instances/new", body,
		    "there is no instance type quater; is it quarter?");
	expect_text(w, "GET", "gpus/pci-0000:01:00.1", NULL,
		    "there is no GPU pci-0000:01:00.1; is it pci-0000:01:00.0?");
	expect_text(w, "POST", "gpus/pci-0000:01:00.1/drain", NULL,
		    "there is no GPU pci-0000:01:00.1; is it pci-0000:01:00.0?");
	world_do(w, "web", "start", NULL, 202);
	world_await(w, "web", "running");
	expect_next(w, "DELETE", "instances/web", NULL, "instance-running", "divvy stop web");
}

/* ---- clients that mean no good --------------------------------------------------------------------------- */

/* Half a request on each of many connections, and silence. Most are told to go away. */
static int flood(const struct world *w)
{
	static const char half[] = "GET /api/v1/node HT";
	bool told[FLOOD] = { 0 };
	unsigned away = 0;
	int fds[FLOOD];

	for (unsigned i = 0; i < FLOOD; i++) {
		fds[i] = http_connect(w->api);
		if (fds[i] >= 0 && send(fds[i], half, sizeof(half) - 1, MSG_NOSIGNAL) < 0)
			usleep(100);
	}
	for (unsigned n = 0; n < 300 && away < FLOOD / 2; n++) {
		for (unsigned i = 0; i < FLOOD; i++) {
			char text[64] = "";

			if (!told[i] && recv(fds[i], text, sizeof(text) - 1, MSG_DONTWAIT) > 0) {
				told[i] = true;
				away += strstr(text, "429") != NULL;
			}
		}
		usleep(100000);
	}
	return away < FLOOD / 2;
}

static void who_floods_and_stalls_keeps_nobody_else_out(void **state)
{
	struct world *w = *state;
	int status;
	pid_t child;

	if (geteuid())
		skip();
	assert_int_equal(chmod(w->folder, 0755), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(99);
		_exit(flood(w));
	}
	for (unsigned i = 0; i < 20; i++) {
		world_expect(w, "GET", "node", NULL, 200u);
		usleep(20000);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	world_expect(w, "GET", "node", NULL, 200u);
}

static int stream_open(const struct world *w, const char *arguments)
{
	char head[200];
	int fd = http_connect(w->api);

	assert_true(fd >= 0);
	snprintf(head, sizeof(head), "GET /api/v1/events%s HTTP/1.1\r\nHost: x\r\n\r\n", arguments);
	assert_int_equal(send(fd, head, strlen(head), 0), strlen(head));
	return fd;
}

static void events_come_as_they_happen(void **state)
{
	struct world *w = *state;
	struct pollfd poller = { .fd = stream_open(w, ""), .events = POLLIN };
	char text[65536] = "";
	size_t length = 0;

	usleep(200000);
	world_define(w, "a", "plain", "");
	world_do(w, "a", "start", NULL, 202);
	while (!strstr(text, "\"running\"")) {
		ssize_t n;

		assert_int_equal(poll(&poller, 1, 20000), 1);
		n = recv(poller.fd, text + length, sizeof(text) - 1 - length, 0);
		assert_true(n > 0);
		length += (size_t)n;
		text[length] = '\0';
	}
	assert_non_null(strstr(text, "\"defined\""));
	assert_non_null(strstr(text, "\"starting\""));
	/* Nothing of before it came. */
	assert_null(strstr(text, "\"ready\""));
	close(poller.fd);
}

/* 10,000 events for one who does not read: the daemon keeps a bounded part of them, goes on, and tells him. */
static void who_reads_no_events_is_let_go(void **state)
{
	struct world *w = *state;
	char text[65536];
	int fd = stream_open(w, "?since=0"), small = 4096;
	bool dropped = false;
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (unsigned i = 0; i < 2500; i++) {
		world_expect(w, "POST", "gpus/" WORLD_GPU_A "/drain", NULL, 200u);
		world_expect(w, "POST", "gpus/" WORLD_GPU_A "/undrain", NULL, 200u);
		if (i % 100 == 0 && recv(fd, text, 1, MSG_DONTWAIT) == 0)
			break;
	}
	/* Either a last line, or, since it was silent for so long, the end. */
	while ((n = recv(fd, text, sizeof(text) - 1, 0)) > 0) {
		text[n] = '\0';
		dropped |= strstr(text, "\"dropped\"") != NULL;
	}
	close(fd);
	print_message("told: %d\n", dropped);
	world_expect(w, "GET", "node", NULL, 200u);
	fd = stream_open(w, "?since=0&follow=0");
	n = recv(fd, text, sizeof(text), 0);
	assert_true(n > 0);
	close(fd);
}

/* What is left of a chunked answer (RFC 9112, 7.1), without its chunks' heads; malloc()ed. */
static char *chunks_read(int fd)
{
	const size_t room = MIB;
	char *text = malloc(room), *at, *out;
	size_t size = 0, length;
	ssize_t n;

	assert_non_null(text);
	while (size < room - 1 && (n = recv(fd, text + size, room - 1 - size, 0)) > 0) {
		size += (size_t)n;
		text[size] = '\0';
		if (size > 7 && !strcmp(text + size - 7, "\r\n0\r\n\r\n"))
			break;
	}
	at = strstr(text, "\r\n\r\n");
	assert_non_null(at);
	out = text;
	for (at += 4; (length = strtoul(at, &at, 16)) && at + 2 + length <= text + size;
	     at += 2 + length + 2, out += length)
		memmove(out, at + 2, length);
	*out = '\0';
	return text;
}

#define SLOW 4u

/* What one is told to come back with is the last that he got, wherever in a line he stopped reading. */
static void who_reads_slowly_misses_nothing_when_he_comes_back(void **state)
{
	char image[458] = "", body[600];
	struct world *w = *state;
	unsigned dropped = 0;
	int fds[SLOW];

	for (unsigned i = 0; i < SLOW; i++) {
		fds[i] = stream_open(w, "");
		/* It is heard, and each begins elsewhere. */
		world_expect(w, "GET", "node", NULL, 200u);
		world_expect(w, "POST", "gpus/" WORLD_GPU_A "/drain", NULL, 200u);
	}
	/* Long ones, so that it does not take long; and 112 of them leave no room for a last line in 64 KiB. */
	memset(image, 'a', sizeof(image) - 1);
	for (unsigned i = 0; i < 320; i++) {
		snprintf(body, sizeof(body),
			 "{\"type\":\"plain\",\"image\":\"/%s\",\"restart\":\"%s\"}", image,
			 i % 2 ? "always" : "never");
		world_expect(w, "PUT", "instances/a", body, i ? 200u : 201u);
	}
	for (unsigned i = 0; i < SLOW; i++) {
		char *text = chunks_read(fds[i]), *line, *save = NULL;
		json_int_t last = 0;

		for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			json_t *json = json_loads(line, 0, NULL);
			const json_int_t id = json_integer_value(json_object_get(json, "id"));

			if (json_is_true(json_object_get(json, "dropped"))) {
				assert_int_equal(json_integer_value(json_object_get(json, "since")),
						 last);
				dropped++;
			} else {
				assert_true(json && (!last || id == last + 1));
				last = id;
			}
			json_decref(json);
		}
		free(text);
		close(fds[i]);
	}
	/* On a slow machine they were silent for so long that they were closed before. */
	print_message("told: %u\n", dropped);
}

static void a_request_that_waits_when_the_daemon_ends_is_answered(void **state)
{
	struct world *w = *state;
	int streams[4];

	for (unsigned i = 0; i < 4; i++)
		streams[i] = stream_open(w, "");
	usleep(200000);
	world_stop(w);
	for (unsigned i = 0; i < 4; i++)
		close(streams[i]);
	assert_true(world_start(w, NULL));
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup_slices, world_teardown)
	const struct CMUnitTest tests[] = {
		T(a_role_is_had_by_the_groups_of_who_connects),
		T(every_answer_is_as_the_document_says),
		T(what_divvy_says_without_a_daemon_is_as_the_document_says),
		T(a_user_has_his_own_and_nobody_else),
		T(what_is_to_be_done_next_is_a_command_with_its_name),
		T(who_floods_and_stalls_keeps_nobody_else_out),
		T(events_come_as_they_happen),
		T(who_reads_no_events_is_let_go),
		T(who_reads_slowly_misses_nothing_when_he_comes_back),
		T(a_request_that_waits_when_the_daemon_ends_is_answered),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
