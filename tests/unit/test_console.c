// SPDX-License-Identifier: Apache-2.0
/* What is typed, while the guest does not listen. */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/console.h"

static const char typed[] = "a guest that hangs hears nothing of this, however long it gets. ";

static void quit(void *opaque, enum terminal_command command)
{
	sd_event_exit(opaque, command == TERMINAL_QUIT ? 0 : 2);
}

/* A pipe that takes nothing more. */
static void pipe_full(int fds[2])
{
	char block[4096] = { 0 };

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		_exit(10);
	while (write(fds[1], block, sizeof(block)) > 0 || write(fds[1], block, 1) > 0)
		;
}

/* On a terminal of its own, as only its foreground process makes it raw. Exits 0 at Ctrl-A x. */
static void type_at_a_deaf_guest(int master, int slave)
{
	struct console_target target = { .serial = NULL };
	struct console *console;
	sd_event *event;
	int full[2];

	alarm(10);
	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0 || sd_event_new(&event) < 0)
		_exit(11);
	pipe_full(full);
	target.pipe_fd = full[1];
	if (console_create(slave, &console, NULL) ||
	    console_attach(console, event, &target, quit, event, NULL))
		_exit(12);
	for (unsigned i = 0; i < 20; i++)
		if (write(master, typed, strlen(typed)) < 0)
			_exit(13);
	if (write(master, "\001x", 2) != 2)
		_exit(14);
	_exit(sd_event_loop(event));
}

static void ctrl_a_x_is_heard_when_the_guest_is_not_listening(void **state)
{
	int master, slave, status;
	pid_t pid;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		type_at_a_deaf_guest(master, slave);
	close(slave);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(master);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* What comes by a pipe is not lost: it waits outside. */
static void piped_input_waits_for_the_guest(void **state)
{
	struct console_target target = { .serial = NULL };
	char got[4096], block[4096];
	struct console *console;
	size_t total = 0;
	sd_event *event;
	int in[2], full[2];
	ssize_t n;

	pipe_full(full);
	target.pipe_fd = full[1];
	assert_int_equal(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
	memset(block, 'x', sizeof(block));
	assert_int_equal(write(in[1], block, sizeof(block)), sizeof(block));
	close(in[1]);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(console_create(in[0], &console, NULL), 0);
	assert_int_equal(console_attach(console, event, &target, quit, event, NULL), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_true(sd_event_run(event, 0) >= 0);
	while (read(full[0], got, sizeof(got)) > 0)
		;
	for (unsigned i = 0; i < 100; i++) {
		assert_true(sd_event_run(event, 0) >= 0);
		n = read(full[0], got, sizeof(got));
		total += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(total, sizeof(block));
	console_detach(console);
	console_destroy(console);
	sd_event_unref(event);
	close(in[0]);
	close(full[0]);
	close(full[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ctrl_a_x_is_heard_when_the_guest_is_not_listening),
		cmocka_unit_test(piped_input_waits_for_the_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
