// SPDX-License-Identifier: Apache-2.0
/* The API over TCP: who is who by his certificate, who is refused in the handshake, and those who mean no good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/resources.h"
#include "tests/unit/tls_world.h"

static void every_answer_over_tls_is_as_the_document_says(void **state)
{
	struct world *w = *state;
	char command[512];

	snprintf(command, sizeof(command),
		 "python3 tests/node/api %s %s/images/a 127.0.0.1:%u %s/tls ops", w->api, w->folder,
		 tls_port, w->folder);
	assert_int_equal(system(command), 0);
}

static void a_certificate_stands_for_a_user(void **state)
{
	struct world *w = *state;
	char body[200];

	snprintf(body, sizeof(body), "{\"type\":\"plain\",\"image\":\"%s/images/a\"}", w->folder);
	world_define(w, "roots", "plain", "");
	/* alice is 65534: what is another's is not there for her. */
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 200);
	assert_int_equal(tls_ask(w, "alice", "GET", "instances/roots", NULL, NULL), 404);
	assert_int_equal(tls_ask(w, "alice", "PUT", "instances/roots", NULL, body), 403);
	assert_int_equal(tls_ask(w, "alice", "PUT", "instances/hers", NULL, body), 201);
	assert_int_equal(tls_ask(w, "alice", "POST", "backup", NULL, "{\"path\":\"/tmp/x\"}"), 403);
	/* ops is root, watcher looks. */
	assert_int_equal(tls_ask(w, "ops", "GET", "instances/hers", NULL, NULL), 200);
	assert_int_equal(tls_ask(w, "ops", "GET", "gpus/" WORLD_GPU_A "/leases", NULL, NULL), 200);
	assert_int_equal(tls_ask(w, "watcher", "GET", "instances/hers", NULL, NULL), 200);
	assert_int_equal(tls_ask(w, "watcher", "DELETE", "instances/hers", NULL, NULL), 403);
	assert_int_equal(tls_ask(w, "alice", "DELETE", "instances/hers", NULL, NULL), 204);
}

static void who_has_no_good_certificate_says_no_word(void **state)
{
	static const char *const bad[] = { NULL,       "expired",     "not-client",
					   "other-ca", "self-signed", "revoked" };
	struct world *w = *state;
	struct tls_client c;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (tls_ask(w, bad[i], "GET", "node", NULL, NULL))
			fail_msg("%s was answered", bad[i] ? bad[i] : "nobody");
	/* Of another protocol. */
	assert_false(tls_open(&c, w, "alice", "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0"));
	tls_close(&c);
	assert_true(tls_open(&c, w, "alice", "NORMAL:-VERS-ALL:+VERS-TLS1.2"));
	assert_int_equal(tls_request(&c, "GET", "node", NULL, NULL), 200);
	tls_close(&c);
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 200);
}

static void a_name_that_is_nobodys_here_is_told_so(void **state)
{
	struct world *w = *state;

	assert_int_equal(tls_ask(w, "unknown", "GET", "node", NULL, NULL), 403);
	assert_int_equal(tls_ask(w, "nameless", "GET", "node", NULL, NULL), 403);
	/* Which of the two is it? */
	assert_int_equal(tls_ask(w, "two-names", "GET", "node", NULL, NULL), 403);
}

/* A browser shows its certificate for any page. */
static void web_pages_may_not_ask(void **state)
{
	struct world *w = *state;

	assert_int_equal(tls_ask(w, "ops", "POST", "gpus/" WORLD_GPU_A "/drain",
				 "Origin: https://evil.example\r\n", NULL),
			 403);
	assert_int_equal(tls_ask(w, "ops", "GET", "node", "Origin: null\r\n", NULL), 403);
}

/* ---- those who mean no good --------------------------------------------------------------------- */

static bool ended(int fd)
{
	char text[256];
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text), 0)) > 0)
		;
	return n == 0 || errno == ECONNRESET;
}

static void what_is_no_tls_is_let_go(void **state)
{
	/* A ClientHello's record that promises more than comes; one that is no handshake; an alert; more than a record may have. */
	static const struct {
		const char *text;
		size_t size;
	} words[] = {
		{ "GET /api/v1/node HTTP/1.1\r\nHost: x\r\n\r\n", 38 },
		{ "\x16\x03\x01\x40\x01", 5 },
		{ "\x17\x03\x03\x00\x04test", 9 },
		{ "\x15\x03\x03\x00\x02\x02\x28", 7 },
		{ "\x16\x03\x03\xff\xff\x01\x00\xff\xff", 9 },
		{ "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20 },
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		char answer[16] = "";
		int fd = tls_connect();

		assert_int_equal(send(fd, words[i].text, words[i].size, MSG_NOSIGNAL),
				 words[i].size);
		shutdown(fd, SHUT_WR);
		if (recv(fd, answer, sizeof(answer) - 1, 0) > 0)
			assert_null(strstr(answer, "HTTP"));
		assert_true(ended(fd));
		close(fd);
	}
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 200);
}

#define STALLING 60
#define AT_FIRST \
	2 /* descriptors that a daemon opens later than it answers; a leak would be of many */

static void handshakes_that_stall_are_few_and_end(void **state)
{
	static const char half[] = "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";
	struct world *w = *state;
	const unsigned before = count_fds_of(w->daemon);
	const unsigned long cpu = world_cpu(w);
	unsigned open_now = 0;
	int fds[STALLING];

	for (unsigned i = 0; i < STALLING; i++) {
		fds[i] = tls_connect();
		if (send(fds[i], half, sizeof(half) - 1, MSG_NOSIGNAL) < 0)
			usleep(100);
	}
	usleep(500000);
	for (unsigned i = 0; i < STALLING; i++) {
		char c;
		ssize_t n = recv(fds[i], &c, 1, MSG_DONTWAIT);

		open_now += n < 0 && errno == EAGAIN;
	}
	assert_in_range(open_now, 1, 8);
	/* Who is here is not held up. */
	world_expect(w, "GET", "node", NULL, 200u);
	for (unsigned i = 0; i < STALLING; i++) {
		/* A byte now and then is no progress. */
		if (send(fds[i], "\0", 1, MSG_NOSIGNAL) < 0)
			usleep(100);
	}
	for (unsigned i = 0; i < 600 && open_now; i++) {
		open_now = 0;
		for (unsigned k = 0; k < STALLING; k++) {
			char c;
			ssize_t n = recv(fds[k], &c, 1, MSG_DONTWAIT);

			open_now += n < 0 && errno == EAGAIN;
		}
		usleep(100000);
	}
	assert_int_equal(open_now, 0);
	/* In ten seconds: it waits, and does not run in circles. */
	print_message("%lu ms of CPU\n", (world_cpu(w) - cpu) * 10);
	assert_in_range(world_cpu(w) - cpu, 0, 200);
	for (unsigned i = 0; i < STALLING; i++)
		close(fds[i]);
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 200);
	for (unsigned i = 0; i < 300 && count_fds_of(w->daemon) > before + AT_FIRST; i++)
		usleep(100000);
	assert_in_range(count_fds_of(w->daemon), 0, before + AT_FIRST);
}

#define MANY 129

/* Of one user's connections 24 are served, whoever of his asks for more; others have theirs. */
static void a_users_connections_are_counted_over_tls_too(void **state)
{
	struct world *w = *state;
	struct tls_client *c = calloc(MANY, sizeof(*c));
	const unsigned before = count_fds_of(w->daemon);
	unsigned served = 0, told = 0;

	assert_non_null(c);
	for (unsigned i = 0; i < MANY; i++) {
		/* A stream, which does not end while others shake hands. */
		unsigned status = tls_open(&c[i], w, "alice", NULL)
					  ? tls_request(&c[i], "GET", "events", NULL, NULL)
					  : 0;

		served += status == 200;
		told += status == 429;
	}
	print_message("of %u connections %u served, %u told that they are too many\n", MANY, served,
		      told);
	assert_int_equal(served, 24);
	assert_int_equal(told, MANY - 24);
	assert_int_equal(tls_ask(w, "watcher", "GET", "node", NULL, NULL), 200);
	world_expect(w, "GET", "node", NULL, 200u);
	for (unsigned i = 0; i < MANY; i++)
		tls_close(&c[i]);
	free(c);
	/* A stream that nobody reads any more is found out by its heartbeat. */
	for (unsigned i = 0; i < 900 && count_fds_of(w->daemon) > before + AT_FIRST; i++)
		usleep(100000);
	assert_in_range(count_fds_of(w->daemon), 0, before + AT_FIRST);
}

#define USER_PLACES  24
#define ADDRESS_MOST 8
#define ADDRESSES    4

/* Somebody takes all of his places at the UNIX socket. */
static void take_places(const struct world *w, int ready)
{
	static const char events[] = "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n";
	char c;

	/* He has a place when he is answered, and not while he waits to be accepted. */
	for (unsigned i = 0; i < USER_PLACES; i++) {
		int fd = http_connect(w->api);

		if (send(fd, events, sizeof(events) - 1, MSG_NOSIGNAL) < 0 ||
		    recv(fd, &c, 1, 0) != 1)
			_exit(1);
	}
	if (write(ready, "r", 1) < 0)
		_exit(1);
	for (;;)
		pause();
}

/* However many of them, and from wherever: who looks after the node gets in. */
static void others_do_not_take_the_places_of_root(void **state)
{
	/* Three whom the world's divvyd.yaml knows, and one who is nobody. */
	static const uint32_t users[] = { 65534, 65533, 65532, 12345 };
	static const char *const who[ADDRESSES] = { "alice", "bob", "watcher", "unknown" };
	struct tls_client c[ADDRESSES * ADDRESS_MOST];
	struct world *w = *state;
	pid_t pids[ARRAY_SIZE(users)];

	assert_int_equal(chmod(w->folder, 0755), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(users); i++)
		pids[i] = world_as_user(w, users[i], take_places);
	/* Those beyond their number wait to be told so, and as many of somebody who is nobody here for what he asks. */
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		tls_from = INADDR_LOOPBACK + i / ADDRESS_MOST;
		assert_true(tls_open(&c[i], w, who[i / ADDRESS_MOST], NULL));
	}
	/* That is all there is for others: he would have had places left. */
	assert_int_equal(tls_ask(w, "unknown", "GET", "node", NULL, NULL), 0);
	world_expect(w, "GET", "node", NULL, 200u);
	/* From elsewhere, too. */
	tls_from = INADDR_LOOPBACK + ADDRESSES;
	assert_int_equal(tls_ask(w, "ops", "GET", "node", NULL, NULL), 200);
	tls_from = INADDR_LOOPBACK;
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		tls_close(&c[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(users); i++) {
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
}

#define SOON_S 8

/* Who has a stream, or a console, does not keep it beyond what his certificate says. */
static void a_connection_ends_with_its_certificate(void **state)
{
	struct world *w = *state;
	struct certificate ca, one;
	struct tls_client c;
	char folder[128], text[4096];
	ssize_t n;
	time_t ends;

	snprintf(folder, sizeof(folder), "%s/tls", w->folder);
	ca = certificate_load(folder, "ca");
	certificate_lifetime_s = SOON_S;
	one = certificate_make(
		&ca, (struct certificate_wish){ CERTIFICATE_CLIENT, "alice", NULL, false });
	certificate_lifetime_s = 86400;
	ends = gnutls_x509_crt_get_expiration_time(one.crt);
	certificate_save(&one, folder, "brief");
	certificate_free(&one);
	certificate_free(&ca);
	assert_true(tls_open(&c, w, "brief", NULL));
	assert_true(gnutls_record_send(c.session, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
				       41) > 0);
	n = gnutls_record_recv(c.session, text, sizeof(text) - 1);
	assert_true(n > 12);
	assert_memory_equal(text, "HTTP/1.1 200", 12);
	/* Its heartbeats come every 15 s, and 20 s without a byte are an end, too. */
	do
		n = gnutls_record_recv(c.session, text, sizeof(text));
	while ((n > 0 || n == GNUTLS_E_INTERRUPTED) && time(NULL) < ends + 60);
	assert_true(time(NULL) >= ends);
	assert_true(time(NULL) < ends + 60);
	tls_close(&c);
	assert_int_equal(tls_ask(w, "brief", "GET", "node", NULL, NULL), 0);
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 200);
}

/* ---- divvy -------------------------------------------------------------------------------------------- */

/* "": all is well. */
static void divvy_says(const struct world *w, const char *who, const char *ca, const char *verb,
		       const char *says)
{
	char build[PATH_MAX], command[2 * PATH_MAX];
	int status;

	assert_true(build_folder(build, sizeof(build)));
	snprintf(command, sizeof(command),
		 "%s/divvy %s --api https://127.0.0.1:%u/ --cert %s/tls/%s.pem --key %s/tls/%s.key "
		 "--cacert %s/tls/%s.pem >%s/said 2>&1",
		 build, verb, tls_port, w->folder, who, w->folder, who, w->folder, ca, w->folder);
	status = system(command);
	if (!says[0])
		snprintf(command, sizeof(command), "test %d = 0 || { cat %s/said; exit 1; }",
			 status, w->folder);
	else
		snprintf(command, sizeof(command),
			 "grep -q 'error\\[%s\\]' %s/said || { cat %s/said; exit 1; }", says,
			 w->folder, w->folder);
	if (system(command))
		fail_msg("divvy %s as %s", verb, who);
}

static void divvy_asks_over_tls(void **state)
{
	struct world *w = *state;

	world_define(w, "roots", "plain", "");
	divvy_says(w, "ops", "ca", "show instance roots", "");
	divvy_says(w, "ops", "ca", "events --since 0 --no-follow", "");
	divvy_says(w, "alice", "ca", "list instances --json", "");
	divvy_says(w, "alice", "ca", "stop roots", "no-such-instance");
	divvy_says(w, "unknown", "ca", "list instances", "unknown-certificate");
	divvy_says(w, "expired", "ca", "list instances", "certificate-refused");
	divvy_says(w, "not-client", "ca", "list instances", "certificate-refused");
	divvy_says(w, "alice", "alice", "list instances", "bad-server-certificate");
	divvy_says(w, "nobody", "ca", "list instances", "no-certificate");
}

/* ---- configuration ---------------------------------------------------------------------------------- */

static void what_is_wrong_with_tls_is_said_at_the_start(void **state)
{
	static const struct {
		const char *text, *says;
	} wrong[] = {
		{ "listen: 127.0.0.1:0\n", "no TCP without certificates" },
		{ "listen: here\n", "no numeric ADDRESS:PORT" },
		{ "listen: 127.0.0.1\n", "no numeric ADDRESS:PORT" },
		{ "certificates: { eve: nobody-of-this-name }\n",
		  "there is no user nobody-of-this-name" },
		{ "tls: { certificate: /x }\n", "certificate, key and client_ca" },
		{ "tls: { certificat: /x }\n", "certificate, key, client_ca or client_crl" },
		{ "tls: { certificate: /nowhere, key: /nowhere, client_ca: /nowhere }\nlisten: 127.0.0.1:0\n",
		  "/nowhere: No such file" },
	};
	struct world *w = *state;

	world_stop(w);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		char text[1000], log[256], command[600];

		snprintf(
			text, sizeof(text), "%s%s", wrong[i].text,
			!strncmp(wrong[i].text, "listen: here", 12) ||
					!strcmp(wrong[i].text, "listen: 127.0.0.1\n")
				? "tls: { certificate: FOLDER/tls/server.pem, key: FOLDER/tls/server.key, client_ca: FOLDER/tls/ca.pem }\n"
				: "");
		world_write(w, "divvyd.yaml", text);
		snprintf(command, sizeof(command),
			 "sed -i 's|FOLDER|%s|g' %s/divvyd.yaml; rm %s/log", w->folder, w->folder,
			 w->folder);
		assert_int_equal(system(command), 0);
		assert_false(world_start(w, NULL));
		snprintf(log, sizeof(log), "grep -q '%s' %s/log || { cat %s/log; false; }",
			 wrong[i].says, w->folder, w->folder);
		if (system(log))
			fail_msg("\"%s\" was not said", wrong[i].says);
	}
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, tls_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(every_answer_over_tls_is_as_the_document_says),
		T(a_certificate_stands_for_a_user),
		T(who_has_no_good_certificate_says_no_word),
		T(a_name_that_is_nobodys_here_is_told_so),
		T(web_pages_may_not_ask),
		T(what_is_no_tls_is_let_go),
		T(handshakes_that_stall_are_few_and_end),
		T(a_users_connections_are_counted_over_tls_too),
		T(others_do_not_take_the_places_of_root),
		T(a_connection_ends_with_its_certificate),
		T(divvy_asks_over_tls),
		T(what_is_wrong_with_tls_is_said_at_the_start),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
