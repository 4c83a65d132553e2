// SPDX-License-Identifier: Apache-2.0
/* The command line and a daemon that answers as no daemon should: every answer is an error in words, or what it says it is. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "instances/cli/api.h"
#include "tests/unit/resources.h"
#include "tests/unit/terminal.h"

#define ANSWERS_MAX 4

/* Says to each connection what is next in the list, whatever was asked, and closes it. */
struct fixture {
	char folder[32], path[64];
	int listener;
	pthread_t thread;
	unsigned count, asked;
	char *answers[ANSWERS_MAX];
	char requests[ANSWERS_MAX][4096];
	struct cli cli;
};

static void *serve(void *opaque)
{
	struct fixture *f = opaque;

	for (unsigned i = 0; i < f->count; i++) {
		int fd = accept(f->listener, NULL, NULL);
		ssize_t n;

		if (fd < 0)
			break;
		n = recv(fd, f->requests[i], sizeof(f->requests[i]) - 1, 0);
		f->requests[i][n > 0 ? n : 0] = '\0';
		for (size_t at = 0, size = strlen(f->answers[i]); at < size; at += (size_t)n) {
			n = send(fd, f->answers[i] + at, size - at, MSG_NOSIGNAL);
			if (n <= 0)
				break;
		}
		f->asked++;
		close(fd);
	}
	return NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/api", f->folder);
	f->cli.api = f->path;
	f->cli.root = "";
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	rmdir(f->folder);
	free(f);
	return 0;
}

/* A server that gives these answers, one a connection. */
static void server_start(struct fixture *f, unsigned count, char *const *answers)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(f->listener >= 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(f->listener, 4), 0);
	f->count = count;
	f->asked = 0;
	memcpy(f->answers, answers, count * sizeof(*answers));
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void server_end(struct fixture *f)
{
	shutdown(f->listener, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->listener);
	unlink(f->path);
}
#define SERVE(f, ...)                                                 \
	server_start(f, ARRAY_SIZE(((char *const[]){ __VA_ARGS__ })), \
		     (char *const[]){ __VA_ARGS__ })

#define HEAD(status, type) \
	"HTTP/1.1 " status "\r\nContent-Type: " type "\r\nConnection: close\r\n\r\n"
#define JSON_OK HEAD("200 OK", "application/json")

static void expect_error(struct fixture *f, char *answer, const char *code, const char *text)
{
	struct error e = { 0 };
	unsigned fds = count_fds();
	json_t *json;

	SERVE(f, answer);
	json = api_get(&f->cli, "/gpus", &e);
	server_end(f);
	assert_null(json);
	if (!e.code || strcmp(e.code, code) || (text && !strstr(e.text, text)))
		fail_msg("\"%.60s\": %s: %s", answer, e.code, e.text);
	assert_int_equal(count_fds(), fds);
}

static void what_is_no_answer_is_an_error(void **state)
{
	struct fixture *f = *state;

	expect_error(f, (char[]){ "" }, "api-answer", NULL);
	expect_error(f, (char[]){ "SSH-2.0-OpenSSH_9.9\r\n" }, "api-answer", NULL);
	expect_error(f, (char[]){ "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{" }, "api-answer",
		     NULL);
	expect_error(f, (char[]){ JSON_OK }, "api-answer", "no JSON object");
	expect_error(f, (char[]){ JSON_OK "{\"a\": " }, "api-answer", "no JSON object");
	expect_error(f, (char[]){ JSON_OK "[1, 2]" }, "api-answer", "no JSON object");
	expect_error(f, (char[]){ HEAD("500 Oh", "text/html") "<h1>no</h1>" }, "api-answer",
		     "status 500");
	/* Nobody is followed anywhere. */
	expect_error(
		f,
		(char[]){
			"HTTP/1.1 302 There\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n" },
		"api-answer", "status 302");
	expect_error(f, (char[]){ HEAD("404 No", "application/json") "{\"error\": 7}" },
		     "api-answer", "status 404");
}

static void what_an_error_says_moves_no_cursor(void **state)
{
	struct fixture *f = *state;
	struct error e = { 0 };
	static char answer[] = HEAD(
		"409 Busy",
		"application/json") "{\"error\": {\"code\": \"gpu-taken\", \"text\": \"\\u001b[2Jit\\nis\", \"next\": \"divvy\\r show\"}}";

	SERVE(f, answer);
	assert_null(api_get(&f->cli, "/gpus", &e));
	server_end(f);
	assert_string_equal(e.code, "gpu-taken");
	assert_int_equal(e.err, EBUSY);
	assert_string_equal(e.text, " [2Jit is");
	assert_string_equal(e.next, "divvy  show");
}

/* Who reads it has no HTTP at hand. */
static void what_is_next_for_clients_is_help_here(void **state)
{
	struct fixture *f = *state;
	struct error e = { 0 };
	static char answer[] = HEAD(
		"400 Bad",
		"application/json") "{\"error\": {\"code\": \"bad-value\", \"text\": \"t\", \"next\": \"GET /api/v1/openapi.json\"}}";

	f->cli.verb = &cli_verbs[0];
	SERVE(f, answer);
	assert_null(api_get(&f->cli, "/gpus", &e));
	server_end(f);
	assert_string_equal(e.next, "divvy list --help");
}

static void names_are_encoded_and_bodies_are_sent(void **state)
{
	struct fixture *f = *state;
	struct api_request request = { .method = "POST" };
	struct api_answer answer;
	char path[API_PATH_SIZE];

	SERVE(f, (char[]){ JSON_OK "{\"ok\": true}" }, (char[]){ HEAD("204 No", "x") });
	request.path = api_path(path, "/gpus/", "a/../b c?d", "/drain");
	request.body = json_pack("{s:i}", "n", 7);
	request.header = "If-Match: x";
	assert_int_equal(api_call(&f->cli, &request, &answer, NULL), 0);
	assert_true(json_is_true(json_object_get(answer.json, "ok")));
	api_answer_free(&answer);
	/* One without a body says that it has none. */
	request.body = NULL;
	assert_int_equal(api_call(&f->cli, &request, &answer, NULL), 0);
	assert_int_equal(answer.status, 204);
	api_answer_free(&answer);
	server_end(f);
	assert_non_null(
		strstr(f->requests[0], "POST /api/v1/gpus/a%2F..%2Fb%20c%3Fd/drain HTTP/1.1\r\n"));
	assert_non_null(strstr(f->requests[0], "If-Match: x\r\n"));
	assert_non_null(strstr(f->requests[0], "{\"n\":7}"));
	assert_non_null(strstr(f->requests[1], "Content-Length: 0\r\n"));
}

static int count_line(void *opaque, json_t *json)
{
	unsigned *count = opaque;

	return ++*count == 3;
}

static void a_stream_is_lines(void **state)
{
	static char too_long[API_LINE_MAX + 200];
	struct fixture *f = *state;
	struct error e = { 0 };
	unsigned count = 0;

	SERVE(f, (char[]){ JSON_OK "{\"id\": 1}\n\n{\"id\": 2}\n" });
	assert_int_equal(api_stream(&f->cli, "/events", count_line, &count, &e), 0);
	server_end(f);
	assert_int_equal(count, 2);
	/* Who has enough ends it. */
	SERVE(f, (char[]){ JSON_OK "{}\n{}\n{}\n{}\n{}\n" });
	assert_int_equal(api_stream(&f->cli, "/events", count_line, &count, &e), 0);
	server_end(f);
	assert_int_equal(count, 3);
	count = 0;
	SERVE(f, (char[]){ JSON_OK "{}\nnot JSON\n" });
	assert_int_equal(api_stream(&f->cli, "/events", count_line, &count, &e), -EPROTO);
	server_end(f);
	SERVE(f,
	      (char[]){ HEAD(
		      "403 No",
		      "application/json") "{\"error\": {\"code\": \"forbidden\", \"text\": \"t\", \"next\": \"\"}}\n" });
	assert_int_equal(api_stream(&f->cli, "/events", count_line, &count, &e), -EACCES);
	assert_string_equal(e.code, "forbidden");
	server_end(f);
	strcpy(too_long, JSON_OK);
	memset(too_long + strlen(JSON_OK), 'x', sizeof(too_long) - strlen(JSON_OK) - 1);
	SERVE(f, too_long);
	assert_int_equal(api_stream(&f->cli, "/events", count_line, &count, &e), -E2BIG);
	server_end(f);
}

static void who_was_too_slow_comes_back_where_he_was(void **state)
{
	struct fixture *f = *state;
	char *argv[] = { (char[]){ "divvy" },
			 (char[]){ "events" },
			 (char[]){ "--json" },
			 (char[]){ "--api" },
			 f->path,
			 NULL };
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	SERVE(f, (char[]){ JSON_OK "{\"id\": 41}\n{\"dropped\": true}\n" },
	      (char[]){ JSON_OK "{\"id\": 42}\n" });
	assert_int_equal(cli_main(5, argv, out), CLI_OK);
	fclose(out);
	server_end(f);
	assert_string_equal(text, "{\"id\":41}\n{\"id\":42}\n");
	assert_non_null(strstr(f->requests[1], "since=41"));
	free(text);
}

#define WHY "no place for a s1.quarter: 24105 of 24105 MiB of memory are taken, 8352 are asked for"
#define HAPPENED                                                                                   \
	"{\"id\": 9, \"at\": \"2026-11-27T23:59:58Z\", \"kind\": \"daemon\", \"instance\": null, " \
	"\"gpu\": null, \"code\": \"ready\", \"text\": \"\"}\n"                                    \
	"{\"id\": 10, \"at\": \"2026-11-28T00:00:01Z\", \"kind\": \"instance\", \"instance\": "    \
	"\"web\", \"gpu\": null, \"code\": \"failed\", \"text\": \"" WHY "\"}\n"

static void what_failed_is_seen_on_a_terminal(void **state)
{
	struct fixture *f = *state;
	char *argv[] = { (char[]){ "divvy" },
			 (char[]){ "events" },
			 (char[]){ "--no-follow" },
			 (char[]){ "--api" },
			 f->path,
			 NULL };
	char *text;
	size_t size;
	int status;
	FILE *out = open_memstream(&text, &size);

	setenv("TZ", "UTC", 1);
	assert_non_null(out);
	SERVE(f, (char[]){ JSON_OK HAPPENED });
	assert_int_equal(cli_main(5, argv, out), CLI_OK);
	fclose(out);
	server_end(f);
	assert_string_equal(text, "2026-11-27\n   9  23:59:58  daemon    ready\n"
				  "2026-11-28\n  10  00:00:01  web       failed    " WHY "\n");
	free(text);
	SERVE(f, (char[]){ JSON_OK HAPPENED });
	text = on_terminal("80", 5, argv, &status);
	server_end(f);
	assert_int_equal(status, CLI_OK);
	assert_string_equal(
		text,
		"2026-11-27\n   9  23:59:58  daemon    ready\n2026-11-28\n"
		"  10  00:00:01  web       failed    no place for a s1.quarter: 24105 of 24105\n"
		"                                    MiB of memory are taken, 8352 are asked for\n");
	free(text);
}

#define FAILED(text)                                             \
	HEAD("409 No", "application/json")                       \
	"{\"error\": {\"code\": \"no-place\", \"text\": \"" text \
	"\", \"next\": \"divvy list instances\"}}"

static void an_error_is_broken_between_words_on_a_terminal(void **state)
{
	struct fixture *f = *state;
	char *argv[] = { (char[]){ "divvy" },
			 (char[]){ "list" },
			 (char[]){ "gpus" },
			 (char[]){ "--api" },
			 f->path,
			 NULL };
	char *text;
	int status;

	SERVE(f, (char[]){ FAILED("short") });
	text = on_terminal("80", 5, argv, &status);
	server_end(f);
	assert_int_equal(status, CLI_FAILED);
	assert_string_equal(text, "divvy: error[no-place]: short (next: divvy list instances)\n");
	free(text);
	/* What is next is for copying: in one line. */
	SERVE(f, (char[]){ FAILED(WHY) });
	text = on_terminal("80", 5, argv, &status);
	server_end(f);
	assert_string_equal(
		text,
		"divvy: error[no-place]: no place for a s1.quarter: 24105 of 24105 MiB of memory\n"
		"  are taken, 8352 are asked for (next: divvy list instances)\n");
	free(text);
	SERVE(f, (char[]){ FAILED(WHY " and so much more is asked") });
	text = on_terminal("80", 5, argv, &status);
	server_end(f);
	assert_string_equal(
		text,
		"divvy: error[no-place]: no place for a s1.quarter: 24105 of 24105 MiB of memory\n"
		"  are taken, 8352 are asked for and so much more is asked\n"
		"  (next: divvy list instances)\n");
	free(text);
}

#define TRANSIENT(state) \
	"{\"name\": \"a\", \"type\": \"t\", \"state\": \"" state "\", \"transient\": true}"
#define GONE                                      \
	HEAD("404 Not Found", "application/json") \
	"{\"error\": {\"code\": \"no-such-instance\", \"text\": \"t\", \"next\": \"\"}}"

static int stop_says(struct fixture *f, const char *json, char **text)
{
	char *argv[] = { (char[]){ "divvy" },
			 (char[]){ "stop" },
			 (char[]){ "a" },
			 (char[]){ "--api" },
			 f->path,
			 NULL };
	size_t size;
	FILE *out = open_memstream(text, &size);
	int status;

	assert_non_null(out);
	server_start(f, 3,
		     (char *const[]){ (char *)(uintptr_t)json,
				      (char[]){ JSON_OK TRANSIENT("stopping") },
				      (char[]){ GONE } });
	status = cli_main(5, argv, out);
	fclose(out);
	server_end(f);
	return status;
}

static void stopping_one_that_is_forgotten_then_is_no_error(void **state)
{
	struct fixture *f = *state;
	char *text;

	assert_int_equal(stop_says(f, JSON_OK TRANSIENT("stopping"), &text), CLI_OK);
	assert_string_equal(text, "a: stopped, and gone: it was transient\n");
	free(text);
	/* Somebody else has deleted it. */
	assert_int_equal(
		stop_says(
			f,
			JSON_OK
			"{\"name\": \"a\", \"type\": \"t\", \"state\": \"stopping\", \"transient\": false}",
			&text),
		CLI_FAILED);
	assert_string_equal(text, "");
	free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void *serve_late(void *opaque)
{
	usleep(300000);
	return serve(opaque);
}

/* As somebody's who connects without end keeps it. */
static void a_place_in_a_full_queue_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char answer[] = JSON_OK "{\"gpus\":[]}";
	struct error e = { 0 };
	json_t *json;
	int other;

	strcpy(address.sun_path, f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(f->listener, 0), 0);
	other = unix_connect(f->path, SOCK_STREAM | SOCK_NONBLOCK);
	assert_true(other >= 0);
	assert_int_equal(shutdown(other, SHUT_WR), 0);
	assert_int_equal(unix_connect(f->path, SOCK_STREAM | SOCK_NONBLOCK), -EAGAIN);
	f->count = 2;
	f->answers[0] = f->answers[1] = answer;
	assert_int_equal(pthread_create(&f->thread, NULL, serve_late, f), 0);
	json = api_get(&f->cli, "/gpus", &e);
	if (!json)
		fail_msg("%s", e.text);
	json_decref(json);
	close(other);
	server_end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_no_answer_is_an_error),
		TEST(what_an_error_says_moves_no_cursor),
		TEST(what_is_next_for_clients_is_help_here),
		TEST(names_are_encoded_and_bodies_are_sent),
		TEST(a_stream_is_lines),
		TEST(what_failed_is_seen_on_a_terminal),
		TEST(an_error_is_broken_between_words_on_a_terminal),
		TEST(who_was_too_slow_comes_back_where_he_was),
		TEST(stopping_one_that_is_forgotten_then_is_no_error),
		TEST(a_place_in_a_full_queue_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
