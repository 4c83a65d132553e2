// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket over operations that write down what they are asked: who may have it, what it
 * answers, and clients that are slow, lie, flood or die.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "hypervisor-glue/control.h"
#include "tests/unit/http_client.h"
#include "tests/unit/resources.h"

#define API	    "/api/v1/vm."
#define CONNECTIONS 8 /* as control_socket.c has it */

struct fixture {
	char folder[32], path[64];
	struct control_socket *control;
	struct control_target target;
	sd_event *event;
	int stop_fd;
	pthread_t thread;

	/* What the operations were asked, and what they say. */
	unsigned calls;
	enum control_command command;
	struct control_device wanted;
	char text[256], id[64];
	unsigned seconds;
	bool force, leaves_later;
	int err;
};

/* ---- operations ------------------------------------------------------------------------------ */

static json_t *fake_info(void *opaque)
{
	struct fixture *f = opaque;

	f->calls++;
	return json_pack("{s:s}", "name", "fake");
}

static json_t *fake_counters(void *opaque)
{
	struct fixture *f = opaque;

	f->calls++;
	return NULL; /* out of memory */
}

static int fake_result(struct fixture *f, struct error *e)
{
	f->calls++;
	return f->err ? error_set(e, f->err, "fake-code", "do this", "for a reason") : 0;
}

static int fake_command(void *opaque, enum control_command command, struct error *e)
{
	struct fixture *f = opaque;

	f->command = command;
	return fake_result(f, e);
}

static int fake_add(void *opaque, const struct control_device *wanted, json_t **device,
		    struct error *e)
{
	struct fixture *f = opaque;

	f->wanted = *wanted;
	snprintf(f->text, sizeof(f->text), "%s", wanted->text);
	*device = f->err ? NULL : json_pack("{s:s}", "id", wanted->text);
	return fake_result(f, e);
}

static int fake_remove(void *opaque, const char *id, unsigned seconds, bool force, json_t **device,
		       struct error *e)
{
	struct fixture *f = opaque;

	snprintf(f->id, sizeof(f->id), "%s", id);
	f->seconds = seconds;
	f->force = force;
	*device = f->leaves_later ? json_pack("{s:s}", "id", id) : NULL;
	return fake_result(f, e);
}

static const struct control_ops fake_ops = {
	fake_info, fake_counters, fake_command, fake_add, fake_remove,
};

/* ---- a fixture ------------------------------------------------------------------------------- */

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void *serve(void *arg)
{
	struct fixture *f = arg;

	sd_event_loop(f->event);
	return NULL;
}

static void start(struct fixture *f)
{
	assert_int_equal(sd_event_new(&f->event), 0);
	assert_true(sd_event_add_io(f->event, NULL, f->stop_fd, EPOLLIN, on_stop, f) >= 0);
	f->target = (struct control_target){ &fake_ops, f };
	assert_int_equal(
		control_socket_attach(f->control, f->event, control_vm_answer, &f->target, NULL),
		0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void stop(struct fixture *f)
{
	eventfd_t value;

	assert_int_equal(eventfd_write(f->stop_fd, 1), 0);
	pthread_join(f->thread, NULL);
	assert_int_equal(eventfd_read(f->stop_fd, &value), 0);
	control_socket_detach(f->control);
	f->event = sd_event_unref(f->event);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	if (!mkdtemp(f->folder)) {
		free(f);
		return -1;
	}
	snprintf(f->path, sizeof(f->path), "%s/control", f->folder);
	f->stop_fd = eventfd(0, EFD_CLOEXEC);
	log_set_level(LOG_LEVEL_ERROR);
	*state = f;
	assert_int_equal(control_socket_create(f->path, &f->control, NULL), 0);
	start(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int left;

	if (f->event)
		stop(f);
	control_socket_destroy(f->control);
	close(f->stop_fd);
	left = rmdir(f->folder); /* nothing is in it any more */
	free(f);
	return left;
}

/* Who is heard comes after all who came before, and is let go of a moment later; the thread has opened what it opens at first. */
static unsigned fds_at_rest(struct fixture *f)
{
	unsigned before, now, same = 0;

	assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
	now = count_fds();
	do {
		before = now;
		usleep(100000);
		now = count_fds();
		same = now == before ? same + 1 : 0;
	} while (same < 5);
	return now;
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void the_socket_is_its_owners_and_goes_with_the_machine(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(lstat(f->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	stop(f);
	control_socket_destroy(f->control);
	f->control = NULL;
	assert_int_equal(lstat(f->path, &st), -1);
}

static void a_socket_in_use_is_not_taken(void **state)
{
	struct fixture *f = *state;
	struct control_socket *second;
	struct error e = { 0 };
	const unsigned fds = fds_at_rest(f);

	assert_int_equal(control_socket_create(f->path, &second, &e), -EADDRINUSE);
	assert_string_equal(e.code, "socket-in-use");
	assert_int_equal(fds_at_rest(f), fds);
}

static void a_stale_socket_is_replaced_and_nothing_else_is(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct control_socket *second;
	struct error e = { 0 };
	FILE *file;
	int fd;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/stale", f->folder);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(control_socket_create(address.sun_path, &second, &e), 0);
	control_socket_destroy(second);

	file = fopen(address.sun_path, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(control_socket_create(address.sun_path, &second, &e), -EEXIST);
	assert_string_equal(e.code, "socket-path");
	assert_int_equal(unlink(address.sun_path), 0); /* still there */
	assert_int_equal(symlink(f->path, address.sun_path), 0);
	assert_int_equal(control_socket_create(address.sun_path, &second, &e), -EEXIST);
	assert_int_equal(unlink(address.sun_path), 0);
	strcat(address.sun_path, "/in/no/folder");
	assert_int_equal(control_socket_create(address.sun_path, &second, &e), -ENOENT);
}

/* Should the socket's mode be changed by somebody, the peer is still looked at. */
static void another_user_is_not_heard(void **state)
{
	static const char request[] = "GET " API "info HTTP/1.0\r\n\r\n";
	struct fixture *f = *state;
	int status = -1;
	pid_t pid;

	if (geteuid() != 0) {
		print_message("skipped: only root can be somebody else\n");
		skip();
	}
	assert_int_equal(chmod(f->folder, 0755), 0);
	assert_int_equal(chmod(f->path, 0666), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct sockaddr_un address = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char byte;

		strcpy(address.sun_path, f->path);
		if (setgid(65534) || setuid(65534) ||
		    connect(fd, (struct sockaddr *)&address, sizeof(address)))
			_exit(2);
		(void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
		_exit(recv(fd, &byte, 1, 0) > 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(f->calls, 0);
	assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
}

static void commands_wait_while_the_guest_starts_anew(void **state)
{
	struct fixture *f = *state;
	char text[4096];
	int fd;

	stop(f);
	fd = http_connect(f->path);
	assert_true(fd >= 0);
	strcpy(text, "GET " API "info HTTP/1.0\r\n\r\n");
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	start(f);
	assert_int_equal(http_receive(fd, text, sizeof(text)), 200);
	close(fd);
}

/* ---- what is answered ------------------------------------------------------------------------ */

static void every_resource_reaches_its_operation(void **state)
{
	static const char *const names[] = { "pause", "resume", "power-button", "shutdown",
					     "reset" };
	struct fixture *f = *state;
	char resource[64];
	json_t *body;

	assert_int_equal(http(f->path, "GET", API "info", NULL, &body), 200);
	assert_string_equal(json_string_value(json_object_get(body, "name")), "fake");
	json_decref(body);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(resource, sizeof(resource), API "%s", names[i]);
		assert_int_equal(http(f->path, "PUT", resource, i % 2 ? "{}" : NULL, &body), 204);
		assert_null(body);
		assert_int_equal(f->command, i);
	}
	assert_int_equal(http(f->path, "PUT", API "add-device",
			      "{\"device\": \"0000:01:00.0,rom=off\"}", &body),
			 200);
	json_decref(body);
	assert_int_equal(f->wanted.kind, CONTROL_DEVICE_VFIO);
	assert_string_equal(f->text, "0000:01:00.0,rom=off");
	assert_int_equal(http(f->path, "PUT", API "add-user-device", "{\"socket\": \"/x\"}", NULL),
			 200);
	assert_int_equal(f->wanted.kind, CONTROL_DEVICE_USER);
	assert_int_equal(http(f->path, "PUT", API "add-disk",
			      "{\"path\": \"/d\", \"readonly\": true}", NULL),
			 200);
	assert_int_equal(f->wanted.kind, CONTROL_DEVICE_DISK);
	assert_true(f->wanted.readonly);
	assert_int_equal(http(f->path, "PUT", API "remove-device", "{\"id\": \"a\"}", NULL), 204);
	assert_string_equal(f->id, "a");
	assert_int_equal(f->seconds, 30);
	assert_false(f->force);
	f->leaves_later = true;
	assert_int_equal(http(f->path, "PUT", API "remove-device",
			      "{\"id\": \"b\", \"timeout_s\": 5, \"force\": true}", NULL),
			 202);
	assert_int_equal(f->seconds, 5);
	assert_true(f->force);
}

static void an_operation_that_fails_says_why_and_how_to_go_on(void **state)
{
	static const struct {
		int err;
		unsigned status;
	} cases[] = { { EBUSY, 409 },  { EEXIST, 409 }, { ENOENT, 404 },    { EINVAL, 400 },
		      { EACCES, 403 }, { ENOSPC, 409 }, { ETIMEDOUT, 504 }, { EIO, 500 } };
	struct fixture *f = *state;
	json_t *body;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		f->err = cases[i].err;
		assert_int_equal(http(f->path, "PUT", API "pause", NULL, &body), cases[i].status);
		assert_string_equal(json_string_value(json_object_get(body, "text")),
				    "for a reason");
		assert_string_equal(json_string_value(json_object_get(body, "next")), "do this");
		http_expect_code(body, "fake-code");
	}
	f->err = 0;
	assert_int_equal(http(f->path, "GET", API "counters", NULL, &body), 500);
	http_expect_code(body, "no-memory");
}

static void what_is_no_request_reaches_no_operation(void **state)
{
	static const struct {
		const char *method, *resource, *body;
		unsigned status;
		const char *code;
	} cases[] = {
		{ "GET", "/", NULL, 404, "no-such-resource" },
		{ "GET", API "informant", NULL, 404, "no-such-resource" },
		{ "GET", API "pause", NULL, 405, "bad-method" },
		{ "PUT", API "info", NULL, 405, "bad-method" },
		{ "DELETE", API "info", NULL, 405, "bad-method" },
		{ "PUT", API "pause", "{\"x\": 1}", 400, "bad-request" },
		{ "PUT", API "pause", "[]", 400, "bad-request" },
		{ "PUT", API "pause", "{", 400, "bad-request" },
		{ "PUT", API "add-device", NULL, 400, "bad-request" },
		{ "PUT", API "add-device", "{}", 400, "bad-request" },
		{ "PUT", API "add-device", "{\"device\": 5}", 400, "bad-request" },
		{ "PUT", API "add-device", "{\"device\": \"a\", \"device\": \"b\"}", 400,
		  "bad-request" },
		{ "PUT", API "add-device", "{\"device\": \"a\", \"more\": 1}", 400, "bad-request" },
		{ "PUT", API "add-device", "{\"device\": \"a\\u0000b\"}", 400, "bad-request" },
		{ "PUT", API "add-disk", "{\"path\": \"a\", \"readonly\": \"yes\"}", 400,
		  "bad-request" },
		{ "PUT", API "remove-device", "{\"id\": \"a\", \"timeout_s\": 0}", 400,
		  "bad-request" },
		{ "PUT", API "remove-device", "{\"id\": \"a\", \"timeout_s\": 1e3}", 400,
		  "bad-request" },
		{ "PUT", API "remove-device", "{\"id\": \"a\", \"timeout_s\": 9999999999}", 400,
		  "bad-request" },
	};
	struct fixture *f = *state;
	json_t *body;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(
			http(f->path, cases[i].method, cases[i].resource, cases[i].body, &body),
			cases[i].status);
		http_expect_code(body, cases[i].code);
	}
	assert_int_equal(f->calls, 0);
}

static void a_body_has_a_limit(void **state)
{
	static char large[CONTROL_BODY_MAX + 2];
	struct fixture *f = *state;
	json_t *body;

	memset(large, ' ', CONTROL_BODY_MAX);
	large[0] = '{';
	large[CONTROL_BODY_MAX - 1] = '}';
	assert_int_equal(http(f->path, "PUT", API "pause", large, NULL), 204);
	large[CONTROL_BODY_MAX] = ' ';
	assert_int_equal(http(f->path, "PUT", API "pause", large, &body), 413);
	http_expect_code(body, "too-large");
}

static void several_requests_go_over_one_connection(void **state)
{
	static const char request[] = "GET " API "info HTTP/1.1\r\nHost: x\r\n\r\n";
	struct fixture *f = *state;
	int fd = http_connect(f->path);
	char text[4096];
	ssize_t n;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
		n = recv(fd, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		text[n] = '\0';
		assert_non_null(strstr(text, "200 OK"));
	}
	assert_int_equal(f->calls, 3);
	close(fd);
}

/* ---- bad clients ----------------------------------------------------------------------------- */

static void idle_clients_lock_nobody_out(void **state)
{
	struct fixture *f = *state;
	int idle[3 * CONNECTIONS];
	char byte;

	for (unsigned i = 0; i < ARRAY_SIZE(idle); i++) {
		idle[i] = http_connect(f->path);
		assert_true(idle[i] >= 0);
		/* Half a request, so that it is not only a connection. */
		assert_int_equal(send(idle[i], "GET /api/v1", 11, MSG_NOSIGNAL), 11);
		usleep(1000);
	}
	assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
	/* The oldest had to go for it. */
	assert_int_equal(recv(idle[0], &byte, 1, 0) <= 0, true);
	for (unsigned i = 0; i < ARRAY_SIZE(idle); i++)
		close(idle[i]);
	assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
}

static void clients_that_die_anywhere_leave_nothing(void **state)
{
	static const char request[] = "PUT " API "add-device HTTP/1.1\r\nHost: x\r\n"
				      "Content-Length: 20\r\n\r\n{\"device\": \"abcdef\"}";
	struct fixture *f = *state;
	const unsigned fds = fds_at_rest(f);

	for (size_t length = 0; length <= strlen(request); length++) {
		int fd = http_connect(f->path);

		assert_true(fd >= 0);
		send(fd, request, length, MSG_NOSIGNAL);
		close(fd);
	}
	assert_int_equal(fds_at_rest(f), fds);
}

static void a_client_that_never_reads_holds_nobody_up(void **state)
{
	static const char request[] = "GET " API "info HTTP/1.1\r\nHost: x\r\n\r\n";
	struct fixture *f = *state;
	int fd = http_connect(f->path);

	/* Until neither side takes more. */
	for (unsigned i = 0; i < 20000; i++)
		if (send(fd, request, strlen(request), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
	assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
	close(fd);
}

static void garbage_ends_its_connection_only(void **state)
{
	static const char *const garbage[] = {
		"\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"\x16\x03\x01\x02",
		"PUT / HTTP/9.9\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"PUT " API "pause HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff"
		"ffffffff\r\n",
	};
	struct fixture *f = *state;
	static char flood[256 * 1024];

	for (unsigned i = 0; i < ARRAY_SIZE(garbage); i++) {
		int fd = http_connect(f->path);

		send(fd, garbage[i], strlen(garbage[i]), MSG_NOSIGNAL);
		assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
		close(fd);
	}
	memset(flood, 'A', sizeof(flood));
	for (unsigned i = 0; i < 4; i++) {
		int fd = http_connect(f->path);

		send(fd, flood, sizeof(flood), MSG_NOSIGNAL | MSG_DONTWAIT);
		assert_int_equal(http(f->path, "GET", API "info", NULL, NULL), 200);
		close(fd);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_socket_is_its_owners_and_goes_with_the_machine),
		TEST(a_socket_in_use_is_not_taken),
		TEST(a_stale_socket_is_replaced_and_nothing_else_is),
		TEST(another_user_is_not_heard),
		TEST(commands_wait_while_the_guest_starts_anew),
		TEST(every_resource_reaches_its_operation),
		TEST(an_operation_that_fails_says_why_and_how_to_go_on),
		TEST(what_is_no_request_reaches_no_operation),
		TEST(a_body_has_a_limit),
		TEST(several_requests_go_over_one_connection),
		TEST(idle_clients_lock_nobody_out),
		TEST(clients_that_die_anywhere_leave_nothing),
		TEST(a_client_that_never_reads_holds_nobody_up),
		TEST(garbage_ends_its_connection_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
