// SPDX-License-Identifier: Apache-2.0
/* Consoles and displays through the API, at its socket and over TLS: whose they are, how they end, and that nobody costs the daemon more than a buffer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/resources.h"
#include "tests/unit/tls_world.h"

#define UPGRADE "Connection: keep-alive, Upgrade\r\nUpgrade: tcp\r\n"

/* A client's end, of either kind. */
struct client {
	bool tls;
	struct tls_client remote;
	int fd;
};

static ssize_t take(struct client *c, void *data, size_t size)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	ssize_t n;

	if (!c->tls) {
		assert_int_equal(poll(&p, 1, TLS_WAIT_MS), 1);
		return recv(c->fd, data, size, 0);
	}
	do
		n = gnutls_record_recv(c->remote.session, data, size);
	while (n == GNUTLS_E_INTERRUPTED);
	return n;
}

static void give(struct client *c, const char *text)
{
	const ssize_t size = (ssize_t)strlen(text);

	if (c->tls)
		assert_int_equal(gnutls_record_send(c->remote.session, text, (size_t)size), size);
	else
		assert_int_equal(send(c->fd, text, (size_t)size, MSG_NOSIGNAL), size);
}

static void leave(struct client *c)
{
	if (c->tls)
		tls_close(&c->remote);
	else
		close(c->fd);
}

static void expect(struct client *c, const char *text)
{
	char got[256] = "";
	size_t length = 0;

	while (length < strlen(text)) {
		ssize_t n = take(c, got + length, strlen(text) - length);

		if (n <= 0)
			fail_msg("\"%s\" and the end, instead of \"%s\"", got, text);
		length += (size_t)n;
	}
	assert_string_equal(got, text);
}

static bool has_ended(struct client *c)
{
	char text[4096];
	ssize_t n;

	while ((n = take(c, text, sizeof(text))) > 0)
		;
	return true;
}

/* @who: over TLS; NULL: root, at the socket. The status; open when it is 101. */
static unsigned reach(const struct world *w, const char *who, const char *resource,
		      const char *headers, struct client *c)
{
	char head[4096] = "";
	unsigned status = 0;
	size_t length = 0;

	*c = (struct client){ .tls = who != NULL };
	if (who) {
		assert_true(tls_open(&c->remote, w, who, NULL));
		c->fd = c->remote.fd;
	} else {
		c->fd = http_connect(w->api);
		assert_true(c->fd >= 0);
	}
	snprintf(head, sizeof(head), "GET /api/v1/%s HTTP/1.1\r\nHost: x\r\n%s\r\n", resource,
		 headers);
	give(c, head);
	/* Not a byte of what comes behind it. */
	while (length < sizeof(head) - 1 && take(c, head + length, 1) == 1) {
		head[++length] = '\0';
		if (length >= 4 && !strcmp(head + length - 4, "\r\n\r\n"))
			break;
	}
	if (sscanf(head, "HTTP/1.1 %u", &status) == 1 && status == 101)
		assert_non_null(strstr(head, "Upgrade: tcp"));
	else
		leave(c);
	return status;
}

static void start_hers(const struct world *w)
{
	char body[200];

	snprintf(body, sizeof(body), "{\"type\":\"quarter\",\"image\":\"%s/images/a\"}", w->folder);
	assert_int_equal(tls_ask(w, "alice", "PUT", "instances/hers", NULL, body), 201);
	assert_int_equal(tls_ask(w, "alice", "POST", "instances/hers/start", NULL, NULL), 202);
	world_await(w, "hers", "running");
}

#define CONSOLE "instances/hers/console"
#define DISPLAY "instances/hers/displays/0"

static void an_owner_has_console_and_displays_and_others_have_not(void **state)
{
	static const char *const may[] = { NULL, "alice", "ops" };
	static const struct {
		const char *who, *resource, *headers;
		unsigned status;
	} not[] = {
		{ "bob", CONSOLE, UPGRADE, 404 },
		{ "bob", DISPLAY, UPGRADE, 404 },
		{ "watcher", CONSOLE, UPGRADE, 403 },
		{ "watcher", DISPLAY, UPGRADE, 403 },
		{ "unknown", CONSOLE, UPGRADE, 403 },
		{ "alice", CONSOLE, "", 426 },
		{ "alice", CONSOLE, "Upgrade: tcp\r\n", 426 },
		{ "alice", CONSOLE, "Connection: Upgrade\r\nUpgrade: h2c\r\n", 426 },
		{ "alice", CONSOLE, UPGRADE "Origin: https://evil.example\r\n", 403 },
		{ "alice", "instances/hers/displays/1", UPGRADE, 404 },
		{ "alice", "instances/hers/displays/0x", UPGRADE, 404 },
		{ "alice", "instances/none/console", UPGRADE, 404 },
	};
	struct world *w = *state;
	struct client c;
	char text[65536];
	int fd;

	start_hers(w);
	for (size_t i = 0; i < ARRAY_SIZE(may); i++) {
		assert_int_equal(reach(w, may[i], CONSOLE, UPGRADE, &c), 101);
		expect(&c, "login: ");
		give(&c, "root\n");
		expect(&c, "root\n");
		leave(&c);
		assert_int_equal(reach(w, may[i], DISPLAY, UPGRADE, &c), 101);
		expect(&c, "RFB 003.008\n");
		leave(&c);
	}
	for (size_t i = 0; i < ARRAY_SIZE(not); i++) {
		unsigned status = reach(w, not[i].who, not[i].resource, not[i].headers, &c);

		if (status != not[i].status)
			fail_msg("%s, %s: %u", not[i].who, not[i].resource, status);
	}
	world_do(w, "hers", "stop", "{\"force\":true}", 202);
	world_await(w, "hers", "stopped");
	assert_int_equal(reach(w, "alice", CONSOLE, UPGRADE, &c), 409);
	assert_int_equal(reach(w, "alice", DISPLAY, UPGRADE, &c), 409);
	/* It is written down who it was. */
	fd = http_connect(w->api);
	snprintf(text, sizeof(text),
		 "GET /api/v1/events?since=0&follow=0 HTTP/1.1\r\nHost: x\r\n"
		 "Connection: close\r\n\r\n");
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	assert_int_equal(http_receive(fd, text, sizeof(text)), 200);
	close(fd);
	assert_non_null(strstr(text, "\"console-opened\",\"text\":\"the console, by user 65534\""));
	assert_non_null(strstr(text, "\"display-opened\",\"text\":\"display 0, by user 0\""));
	assert_null(strstr(text, "by user 65533"));
}

/* `echo poweroff | divvy console hers`: who has nothing more to say still listens. */
static void half_of_a_connection_may_be_closed(void **state)
{
	struct world *w = *state;
	struct client c;

	start_hers(w);
	assert_int_equal(reach(w, NULL, CONSOLE, UPGRADE, &c), 101);
	expect(&c, "login: ");
	give(&c, "the last word");
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	expect(&c, "the last word");
	leave(&c);
}

static void tunnels_end_with_the_instance_and_with_the_daemon(void **state)
{
	static const char *const who[] = { NULL, "alice" };
	struct world *w = *state;
	struct client c[4];
	unsigned before;

	start_hers(w);
	before = count_fds_of(w->daemon);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(
				reach(w, who[i % 2], i < 2 ? CONSOLE : DISPLAY, UPGRADE, &c[i]),
				101);
			expect(&c[i], i < 2 ? "login: " : "RFB 003.008\n");
		}
		if (round)
			world_stop(w);
		else
			world_do(w, "hers", "stop", "{\"force\":true}", 202);
		for (unsigned i = 0; i < 4; i++) {
			assert_true(has_ended(&c[i]));
			leave(&c[i]);
		}
		if (round)
			break;
		world_await(w, "hers", "stopped");
		world_do(w, "hers", "start", NULL, 202);
		world_await(w, "hers", "running");
		for (unsigned i = 0; i < 300 && count_fds_of(w->daemon) > before; i++)
			usleep(100000);
		assert_in_range(count_fds_of(w->daemon), 0, before);
	}
	assert_true(world_start(w, NULL));
	tls_find_port(w);
	assert_int_equal(reach(w, "alice", CONSOLE, UPGRADE, &c[0]), 101);
	expect(&c[0], "login: ");
	leave(&c[0]);
}

/* KiB. */
static unsigned long memory_of(const struct world *w)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", w->daemon);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmRSS: %lu", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* Nobody reads what comes without end; then somebody does. */
static void who_reads_slowly_costs_a_buffer_and_holds_nobody_up(void **state)
{
	static const char *const who[] = { NULL, "alice" };
	struct world *w = *state;
	struct client c[2];
	unsigned long before, cpu;
	char *text = malloc(1 << 20);

	assert_non_null(text);
	start_hers(w);
	before = memory_of(w);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(reach(w, who[i], CONSOLE, UPGRADE, &c[i]), 101);
		expect(&c[i], "login: ");
		give(&c[i], "flood");
	}
	usleep(500000);
	cpu = world_cpu(w);
	for (unsigned i = 0; i < 20; i++) {
		world_expect(w, "GET", "node", NULL, 200u);
		usleep(100000);
	}
	/* Of two seconds, with twenty requests in them. */
	print_message("%lu ms of CPU, %lu KiB more\n", (world_cpu(w) - cpu) * 10,
		      memory_of(w) - before);
	assert_in_range(world_cpu(w) - cpu, 0, 100);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
	assert_in_range(memory_of(w), 0, before + 2048);
#endif
	for (unsigned i = 0; i < 2; i++) {
		size_t got = 0;

		while (got < 4 << 20) {
			ssize_t n = take(&c[i], text, 1 << 20);

			assert_true(n > 0);
			got += (size_t)n;
		}
		leave(&c[i]);
	}
	free(text);
	world_expect(w, "GET", "node", NULL, 200u);
}

#define MANY 200

static void what_was_opened_and_closed_leaves_nothing(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct world *w = *state;
	struct client c;
	unsigned before;

	start_hers(w);
	usleep(200000);
	before = count_fds_of(w->daemon);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(
			reach(w, i % 4 ? NULL : "alice", i % 2 ? CONSOLE : DISPLAY, UPGRADE, &c),
			101);
		if (i % 3 == 0)
			expect(&c, i % 2 ? "login: " : "RFB 003.008\n");
		if (i % 5 == 0)
			give(&c, "flood");
		if (i % 7 == 0 && c.tls)
			setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		if (i % 8 == 0)
			shutdown(c.fd, SHUT_WR);
		leave(&c);
	}
	for (unsigned i = 0; i < 300 && count_fds_of(w->daemon) > before; i++)
		usleep(100000);
	assert_in_range(count_fds_of(w->daemon), 0, before);
}

static void tunnels_count_as_connections(void **state)
{
	struct world *w = *state;
	struct client c[24], one_more;

	start_hers(w);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		assert_int_equal(reach(w, "alice", CONSOLE, UPGRADE, &c[i]), 101);
	assert_int_equal(reach(w, "alice", CONSOLE, UPGRADE, &one_more), 429);
	assert_int_equal(reach(w, "ops", CONSOLE, UPGRADE, &one_more), 101);
	leave(&one_more);
	leave(&c[0]);
	for (unsigned i = 0; i < 100; i++) {
		unsigned status = reach(w, "alice", CONSOLE, UPGRADE, &c[0]);

		if (status == 101)
			break;
		assert_int_equal(status, 429);
		usleep(100000);
		assert_in_range(i, 0, 98);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		leave(&c[i]);
}

/* ---- divvy ---------------------------------------------------------------------------------------------- */

/* @remote: over TLS, as alice; else root, at the socket. */
static void divvy_command(const struct world *w, bool remote, const char *verb, char *text,
			  size_t size)
{
	char build[2048], where[800];

	assert_true(build_folder(build, sizeof(build)));
	snprintf(where, sizeof(where), "--api %s", w->api);
	if (remote)
		snprintf(
			where, sizeof(where),
			"--api https://127.0.0.1:%u --cert %s/tls/alice.pem --key %s/tls/alice.key "
			"--cacert %s/tls/ca.pem",
			tls_port, w->folder, w->folder, w->folder);
	snprintf(text, size, "%s/divvy %s %s", build, verb, where);
}

static void divvy_console_types_and_shows(void **state)
{
	struct world *w = *state;
	char divvy[4096], command[5000], text[64] = "";
	FILE *said;

	start_hers(w);
	for (unsigned remote = 0; remote < 2; remote++) {
		divvy_command(w, remote, "console hers", divvy, sizeof(divvy));
		snprintf(command, sizeof(command), "printf 'say this' | timeout 30 %s | head -c 15",
			 divvy);
		said = popen(command, "re");
		assert_non_null(said);
		assert_non_null(fgets(text, sizeof(text), said));
		pclose(said);
		assert_string_equal(text, "login: say this");
		/* The end of what is typed is not the end of what is read; that of the instance is. */
		snprintf(command, sizeof(command), "timeout 30 %s </dev/null >/dev/null", divvy);
		said = popen(command, "re");
		assert_non_null(said);
		usleep(500000);
		world_do(w, "hers", "stop", "{\"force\":true}", 202);
		assert_int_equal(pclose(said), 0);
		world_await(w, "hers", "stopped");
		world_do(w, "hers", "start", NULL, 202);
		world_await(w, "hers", "running");
	}
	snprintf(command, sizeof(command),
		 "%s >%s/said 2>&1 </dev/null; grep -q not-running %s/said", divvy, w->folder,
		 w->folder);
	world_do(w, "hers", "stop", "{\"force\":true}", 202);
	world_await(w, "hers", "stopped");
	assert_int_equal(system(command), 0);
}

static void divvy_vnc_leads_viewers_to_the_display(void **state)
{
	struct world *w = *state;
	char verb[128], command[4200], path[100];
	struct client c[3];
	int status;
	pid_t pid;

	start_hers(w);
	snprintf(path, sizeof(path), "%s/hers.vnc", w->folder);
	for (unsigned remote = 0; remote < 2; remote++) {
		snprintf(verb, sizeof(verb), "vnc hers --listen %s", path);
		divvy_command(w, remote, verb, command, sizeof(command));
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			char line[4300];

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			snprintf(line, sizeof(line), "exec %s >/dev/null", command);
			execl("/bin/sh", "sh", "-c", line, (char *)NULL);
			_exit(127);
		}
		for (unsigned i = 0; i < 2000 && access(path, F_OK); i++)
			usleep(10000);
		for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
			c[i] = (struct client){ .fd = http_connect(path) };
			assert_true(c[i].fd >= 0);
			expect(&c[i], "RFB 003.008\n");
		}
		for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
			give(&c[i], "a key was pressed");
			expect(&c[i], "a key was pressed");
		}
		leave(&c[0]);
		give(&c[1], "another");
		expect(&c[1], "another");
		kill(pid, SIGINT);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_true(access(path, F_OK) < 0);
		assert_true(has_ended(&c[1]) && has_ended(&c[2]));
		leave(&c[1]);
		leave(&c[2]);
	}
	for (unsigned i = 0; i < 3; i++) {
		static const char *const wrong[][2] = {
			{ "vnc hers --listen 0.0.0.0:0", "vnc-insecure" },
			{ "vnc hers --head 1", "no-such-head" },
			{ "vnc nothing", "no-such-instance" },
		};
		char line[4600];

		divvy_command(w, true, wrong[i][0], command, sizeof(command));
		snprintf(line, sizeof(line), "%s 2>&1 | grep -q '%s'", command, wrong[i][1]);
		assert_int_equal(system(line), 0);
	}
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, tls_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(an_owner_has_console_and_displays_and_others_have_not),
		T(half_of_a_connection_may_be_closed),
		T(tunnels_end_with_the_instance_and_with_the_daemon),
		T(who_reads_slowly_costs_a_buffer_and_holds_nobody_up),
		T(what_was_opened_and_closed_leaves_nothing),
		T(tunnels_count_as_connections),
		T(divvy_console_types_and_shows),
		T(divvy_vnc_leads_viewers_to_the_display),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
