// SPDX-License-Identifier: Apache-2.0
/* A guest's console at a socket: what a peer gets, what the guest gets, and who waits for whom. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/console_socket.h"
#include "tests/unit/http_client.h"
#include "tests/unit/resources.h"

struct fixture {
	char folder[32], path[64];
	unsigned fds;
	struct console_socket *console;
	sd_event *event;
	int guest[2]; /* what is typed: read end is the guest's */
};

static void attach(struct fixture *f)
{
	const struct console_target target = { .pipe_fd = f->guest[1] };

	assert_true(sd_event_new(&f->event) >= 0);
	assert_int_equal(console_socket_attach(f->console, f->event, &target, NULL), 0);
}

static void detach(struct fixture *f)
{
	console_socket_detach(f->console);
	f->event = sd_event_unref(f->event);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/console", f->folder);
	f->fds = count_fds();
	assert_int_equal(pipe2(f->guest, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(console_socket_create(f->path, &f->console, NULL), 0);
	attach(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	detach(f);
	console_socket_destroy(f->console);
	close(f->guest[0]);
	close(f->guest[1]);
	assert_int_equal(count_fds(), f->fds);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

static void turn(struct fixture *f)
{
	for (unsigned i = 0; i < 50; i++)
		assert_true(sd_event_run(f->event, 0) >= 0);
}

static int peer_open(struct fixture *f)
{
	int fd = http_connect(f->path);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	turn(f);
	return fd;
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(write(console_socket_output(f->console), text, strlen(text)),
			 strlen(text));
	turn(f);
}

/* What there is to read, up to @size - 1 bytes, while the loop turns. */
static size_t hear(struct fixture *f, int fd, char *text, size_t size)
{
	size_t length = 0;

	for (unsigned idle = 0; idle < 3 && length < size - 1;) {
		ssize_t n = read(fd, text + length, size - 1 - length);

		idle = n > 0 ? 0 : idle + 1;
		length += n > 0 ? (size_t)n : 0;
		turn(f);
	}
	text[length] = '\0';
	return length;
}

static void what_was_said_before_is_heard_first(void **state)
{
	struct fixture *f = *state;
	char text[64];
	struct stat st;
	int fd;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	say(f, "before ");
	fd = peer_open(f);
	say(f, "and now");
	hear(f, fd, text, sizeof(text));
	assert_string_equal(text, "before and now");
	assert_int_equal(write(fd, "typed", 5), 5);
	turn(f);
	assert_int_equal(read(f->guest[0], text, sizeof(text)), 5);
	assert_memory_equal(text, "typed", 5);
	close(fd);
	turn(f);
	fd = peer_open(f);
	hear(f, fd, text, sizeof(text));
	assert_string_equal(text, "before and now");
	close(fd);
}

static void a_second_peer_is_told_who_has_it(void **state)
{
	struct fixture *f = *state;
	char text[128], expected[64];
	int first = peer_open(f), second = peer_open(f);

	hear(f, second, text, sizeof(text));
	snprintf(expected, sizeof(expected), "in use by process %d of user %u", getpid(), getuid());
	assert_non_null(strstr(text, expected));
	assert_int_equal(read(second, text, 1), 0); /* and let go */
	close(second);
	close(first);
	turn(f);
	second = peer_open(f);
	say(f, "yours");
	hear(f, second, text, sizeof(text));
	assert_string_equal(text, "yours");
	close(second);
}

/* Writing never waits, the peer learns what it missed, and what it gets is the end of it all. */
static void a_peer_that_does_not_read_holds_nobody(void **state)
{
	static char block[4096], text[4 * CONSOLE_HISTORY];
	struct fixture *f = *state;
	int fd = peer_open(f);
	size_t length;
	char *note;

	memset(block, '.', sizeof(block) - 1);
	for (unsigned i = 0; i < 16 * CONSOLE_HISTORY / sizeof(block); i++)
		say(f, block);
	say(f, "the end");
	length = hear(f, fd, text, sizeof(text));
	note = strstr(text, "\r\n[divvy-vmm: ");
	assert_non_null(note);
	assert_int_equal(text + length - strchr(note + 2, '\n') - 1, CONSOLE_HISTORY);
	assert_string_equal(text + length - 7, "the end");
	close(fd);
}

static void what_the_guest_does_not_take_waits_with_who_typed_it(void **state)
{
	char block[4096] = { 0 }, text[4096], typed[] = "0123456789";
	struct fixture *f = *state;
	size_t sent = 0, got = 0;
	int fd = peer_open(f);
	ssize_t n;

	while (write(f->guest[1], block, sizeof(block)) > 0)
		;
	for (unsigned i = 0; i < 100000; i++) {
		n = write(fd, typed + sent % 10, 1);
		if (n < 0)
			break;
		sent += (size_t)n;
		if (i % 100 == 0)
			turn(f);
	}
	assert_true(sent > 256 && sent < 100000); /* it was held */
	while (read(f->guest[0], block, sizeof(block)) > 0)
		;
	for (unsigned i = 0; i < 10000 && got < sent; i++) {
		turn(f);
		n = read(f->guest[0], text, sizeof(text));
		for (ssize_t k = 0; k < n; k++)
			assert_int_equal(text[k], typed[(got + (size_t)k) % 10]);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(got, sent);
	close(fd);
}

/* `echo poweroff | socat - UNIX:...` */
static void a_peer_that_has_said_all_still_hears(void **state)
{
	struct fixture *f = *state;
	char text[64];
	int fd = peer_open(f);

	assert_int_equal(write(fd, "go", 2), 2);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	turn(f);
	assert_int_equal(read(f->guest[0], text, sizeof(text)), 2);
	say(f, "gone");
	hear(f, fd, text, sizeof(text));
	assert_string_equal(text, "gone");
	close(fd);
	turn(f);
	fd = peer_open(f); /* the place is free */
	hear(f, fd, text, sizeof(text));
	assert_string_equal(text, "gone");
	close(fd);
}

static void a_reset_of_the_guest_ends_no_connection(void **state)
{
	struct fixture *f = *state;
	char text[64];
	int fd = peer_open(f);

	say(f, "one ");
	detach(f);
	/* as the serial port does on its way out */
	assert_int_equal(write(console_socket_output(f->console), "last ", 5), 5);
	attach(f);
	say(f, "two");
	hear(f, fd, text, sizeof(text));
	assert_string_equal(text, "one last two");
	close(fd);
}

static void last_words_reach_who_listens(void **state)
{
	struct fixture *f = *state;
	char text[64] = "";
	int fd = peer_open(f);

	detach(f);
	assert_int_equal(write(console_socket_output(f->console), "power down", 10), 10);
	console_socket_destroy(f->console);
	assert_int_equal(read(fd, text, sizeof(text)), 10);
	assert_string_equal(text, "power down");
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	assert_int_equal(access(f->path, F_OK), -1);
	close(fd);
	assert_int_equal(console_socket_create(f->path, &f->console, NULL), 0);
	attach(f);
}

static void comings_and_goings_leave_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned before = count_fds();

	for (unsigned i = 0; i < 100; i++) {
		int fd = peer_open(f), other = peer_open(f);

		close(fd);
		close(other);
		turn(f);
	}
	assert_int_equal(count_fds(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_said_before_is_heard_first),
		TEST(a_second_peer_is_told_who_has_it),
		TEST(a_peer_that_does_not_read_holds_nobody),
		TEST(what_the_guest_does_not_take_waits_with_who_typed_it),
		TEST(a_peer_that_has_said_all_still_hears),
		TEST(a_reset_of_the_guest_ends_no_connection),
		TEST(last_words_reach_who_listens),
		TEST(comings_and_goings_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
