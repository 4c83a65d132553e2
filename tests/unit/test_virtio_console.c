// SPDX-License-Identifier: Apache-2.0
/* virtio-console, driven end to end over pipes, a socket, a file and a terminal. */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define RECEIVE	 0
#define TRANSMIT 1

static struct guest guest;
static unsigned fds_before;
static int to_guest[2], from_guest[2];

static void open_console(int in_fd, int out_fd)
{
	struct vfio_device *device;

	assert_int_equal(virtio_console_create(in_fd, out_fd, &device, NULL), 0);
	guest_open(&guest, device);
	guest_start(&guest, 2, 0);
}

static int setup(void **state)
{
	fds_before = count_fds();
	assert_int_equal(pipe2(to_guest, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from_guest, O_CLOEXEC), 0);
	open_console(to_guest[0], from_guest[1]);
	return 0;
}

static int teardown(void **state)
{
	guest_close(&guest);
	for (unsigned i = 0; i < 2; i++) {
		close(to_guest[i]);
		close(from_guest[i]);
	}
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void send_text(const char *text)
{
	struct guest_buffer buffer = { guest_alloc(&guest, strlen(text)), (uint32_t)strlen(text),
				       false };

	memcpy(guest_ptr(&guest, buffer.gpa), text, strlen(text));
	guest_request(&guest, TRANSMIT, &buffer, 1);
}

static void output_reaches_the_descriptor(void **state)
{
	char text[16] = "";

	send_text("hello");
	assert_int_equal(read(from_guest[0], text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
}

static void input_reaches_the_guest(void **state)
{
	struct guest_buffer buffer = { guest_alloc(&guest, 64), 64, true };
	uint32_t length;

	guest_add(&guest, RECEIVE, &buffer, 1);
	guest_kick(&guest, RECEIVE);
	assert_false(guest_next_used(&guest, RECEIVE, 30, NULL, NULL));
	assert_int_equal(write(to_guest[1], "input", 5), 5);
	assert_true(guest_next_used(&guest, RECEIVE, GUEST_WAIT_MS, NULL, &length));
	assert_int_equal(length, 5);
	assert_memory_equal(guest_ptr(&guest, buffer.gpa), "input", 5);
}

static void input_waits_for_a_buffer(void **state)
{
	struct guest_buffer buffer = { guest_alloc(&guest, 4), 4, true };
	uint32_t length;
	int waiting;

	assert_int_equal(write(to_guest[1], "abcdef", 6), 6);
	usleep(30000);
	/* Not read ahead: whoever writes feels that the guest does not read. */
	assert_int_equal(ioctl(to_guest[0], FIONREAD, &waiting), 0);
	assert_int_equal(waiting, 6);
	guest_add(&guest, RECEIVE, &buffer, 1);
	guest_kick(&guest, RECEIVE);
	assert_true(guest_next_used(&guest, RECEIVE, GUEST_WAIT_MS, NULL, &length));
	assert_int_equal(length, 4);
	assert_memory_equal(guest_ptr(&guest, buffer.gpa), "abcd", 4);
	guest_add(&guest, RECEIVE, &buffer, 1);
	guest_kick(&guest, RECEIVE);
	assert_true(guest_next_used(&guest, RECEIVE, GUEST_WAIT_MS, NULL, &length));
	assert_int_equal(length, 2);
	assert_memory_equal(guest_ptr(&guest, buffer.gpa), "ef", 2);
}

/* The worker must neither hang in a write nor lose or repeat a byte. */
static void output_that_is_not_read_holds_up_only_itself(void **state)
{
	enum {
		TOTAL = 256 * 1024
	};
	struct guest_buffer buffer = { guest_alloc(&guest, TOTAL), TOTAL, false };
	struct guest_buffer in = { guest_alloc(&guest, 4), 4, true };
	uint8_t *data = guest_ptr(&guest, buffer.gpa), *got = malloc(TOTAL);
	size_t done = 0;

	for (unsigned i = 0; i < TOTAL; i++)
		data[i] = (uint8_t)(i * 31 + i / 251);
	guest_add(&guest, TRANSMIT, &buffer, 1);
	guest_kick(&guest, TRANSMIT);
	assert_false(guest_next_used(&guest, TRANSMIT, 50, NULL, NULL));
	/* The other direction goes on. */
	guest_add(&guest, RECEIVE, &in, 1);
	guest_kick(&guest, RECEIVE);
	assert_int_equal(write(to_guest[1], "x", 1), 1);
	assert_true(guest_next_used(&guest, RECEIVE, GUEST_WAIT_MS, NULL, NULL));
	while (done < TOTAL) {
		ssize_t part = read(from_guest[0], got + done, TOTAL - done);

		assert_true(part > 0);
		done += (size_t)part;
	}
	assert_true(guest_next_used(&guest, TRANSMIT, GUEST_WAIT_MS, NULL, NULL));
	assert_memory_equal(got, data, TOTAL);
	free(got);
	assert_false(fcntl(from_guest[1], F_GETFL) & O_NONBLOCK);
}

static void reset_with_output_stuck_forgets_it(void **state)
{
	enum {
		TOTAL = 256 * 1024
	};
	struct guest_buffer buffer = { guest_alloc(&guest, TOTAL), TOTAL, false };
	char rest[65536], text[8];
	ssize_t part;

	memset(guest_ptr(&guest, buffer.gpa), 'a', TOTAL);
	guest_add(&guest, TRANSMIT, &buffer, 1);
	guest_kick(&guest, TRANSMIT);
	assert_false(guest_next_used(&guest, TRANSMIT, 50, NULL, NULL));
	guest_start(&guest, 2, 0);
	part = read(from_guest[0], rest, sizeof(rest));
	assert_true(part > 0);
	send_text("new");
	while (part < (ssize_t)sizeof(rest) && rest[part - 1] == 'a') {
		ssize_t more = read(from_guest[0], rest + part, sizeof(rest) - (size_t)part);

		assert_true(more > 0);
		part += more;
	}
	if (rest[part - 1] != 'w') {
		assert_int_equal(read(from_guest[0], text, sizeof(text)), 3);
		assert_memory_equal(text, "new", 3);
	}
}

static void end_of_input_is_no_end_of_the_console(void **state)
{
	char text[16] = "";
	struct guest_buffer buffer = { guest_alloc(&guest, 64), 64, true };

	guest_add(&guest, RECEIVE, &buffer, 1);
	guest_kick(&guest, RECEIVE);
	close(to_guest[1]);
	to_guest[1] = dup(to_guest[0]);
	assert_false(guest_next_used(&guest, RECEIVE, 30, NULL, NULL));
	send_text("still");
	assert_int_equal(read(from_guest[0], text, sizeof(text)), 5);
}

static void output_nobody_takes_any_more_is_dropped(void **state)
{
	close(from_guest[0]);
	from_guest[0] = dup(from_guest[1]);
	/* The pipe's reader is gone: a write would raise SIGPIPE in a careless process. */
	send_text("lost");
	send_text("lost too");
}

static void works_over_one_socket(void **state)
{
	struct guest_buffer buffer;
	int sockets[2];
	uint32_t length;
	char text[8] = "";

	fds_before = count_fds();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
	open_console(sockets[1], sockets[1]);
	send_text("out");
	assert_int_equal(read(sockets[0], text, sizeof(text)), 3);
	assert_string_equal(text, "out");
	buffer = (struct guest_buffer){ guest_alloc(&guest, 8), 8, true };
	guest_add(&guest, RECEIVE, &buffer, 1);
	guest_kick(&guest, RECEIVE);
	assert_int_equal(write(sockets[0], "in", 2), 2);
	assert_true(guest_next_used(&guest, RECEIVE, GUEST_WAIT_MS, NULL, &length));
	assert_int_equal(length, 2);
	guest_close(&guest);
	close(sockets[0]);
	close(sockets[1]);
	assert_int_equal(count_fds(), fds_before);
}

static void works_over_a_terminal_whose_flags_stay(void **state)
{
	int master, slave;
	char text[8] = "";

	fds_before = count_fds();
	if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
		skip();
	open_console(slave, slave);
	send_text("tty");
	assert_int_equal(read(master, text, sizeof(text)), 3);
	assert_string_equal(text, "tty");
	assert_false(fcntl(slave, F_GETFL) & O_NONBLOCK);
	guest_close(&guest);
	close(master);
	close(slave);
	assert_int_equal(count_fds(), fds_before);
}

static void works_over_regular_files(void **state)
{
	char path[] = "/tmp/test-virtio-console-XXXXXX", text[16] = "";
	struct guest_buffer buffer;
	int fd = mkstemp(path);
	uint32_t length;

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	open_console(fd, fd);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 8), 8, true };
	guest_add(&guest, RECEIVE, &buffer, 1);
	guest_kick(&guest, RECEIVE);
	assert_true(guest_next_used(&guest, RECEIVE, GUEST_WAIT_MS, NULL, &length));
	assert_int_equal(length, 3);
	send_text("def"); /* appended: the file's one position is shared */
	assert_int_equal(pread(fd, text, sizeof(text), 0), 6);
	assert_string_equal(text, "abcdef");
	guest_close(&guest);
	close(fd);
}

static void refuses_descriptors_that_are_closed(void **state)
{
	struct vfio_device *device = NULL;
	struct error e = { 0 };

	fds_before = count_fds();
	assert_true(virtio_console_create(9999, 1, &device, &e) < 0);
	assert_string_equal(e.code, "console-failed");
	assert_int_equal(count_fds(), fds_before);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(output_reaches_the_descriptor),
		TEST(input_reaches_the_guest),
		TEST(input_waits_for_a_buffer),
		TEST(output_that_is_not_read_holds_up_only_itself),
		TEST(reset_with_output_stuck_forgets_it),
		TEST(end_of_input_is_no_end_of_the_console),
		TEST(output_nobody_takes_any_more_is_dropped),
		cmocka_unit_test(works_over_one_socket),
		cmocka_unit_test(works_over_a_terminal_whose_flags_stay),
		cmocka_unit_test(works_over_regular_files),
		cmocka_unit_test(refuses_descriptors_that_are_closed),
	};

	return guest_run_over_both_rings(tests);
}
