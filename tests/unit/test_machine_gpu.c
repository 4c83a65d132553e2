// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's picture, from its rings to a PNG file: divvy-vgpu as it is run, divvy-vmm on the host's own /dev/kvm, over
 * vfio-user, with the freestanding guest of guest-drivers/testguest/gpu.c inside. Once over split rings, once over
 * packed ones. About a second.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "guest-drivers/testguest/picture.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/http_client.h"

#define WAIT_MS	     60000
#define PICTURE_SIZE (8u << 20) /* of an answer with a PNG in it */

struct fixture {
	char build[4096], folder[32];
	char socket[64], control[64], serial[64];
	pid_t vgpu, vmm;
};

/* ---- processes ------------------------------------------------------------------------------ */

static pid_t run(const struct fixture *f, const char *log, char *const *argv)
{
	char path[64];
	pid_t parent = getpid(), pid = fork();
	int fd;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	/* A test that fails leaves nobody behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/%s", f->folder, log);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (getppid() == parent && fd >= 0 && dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0)
		execv(argv[0], argv);
	_exit(126);
}

/* How it ended; within the time a machine may take. */
static int wait_for_end(pid_t *pid)
{
	int status = -1;

	for (unsigned i = 0; i < WAIT_MS / 10; i++) {
		if (waitpid(*pid, &status, WNOHANG) == *pid) {
			*pid = 0;
			return status;
		}
		usleep(10000);
	}
	return -1;
}

static void end(pid_t *pid)
{
	if (*pid <= 0)
		return;
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

static unsigned fds_of(pid_t pid)
{
	char path[64];
	unsigned count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	if (!build_folder(f->build, sizeof(f->build)))
		return -1;
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	if (!mkdtemp(f->folder))
		return -1;
	snprintf(f->socket, sizeof(f->socket), "%s/gpu", f->folder);
	snprintf(f->control, sizeof(f->control), "%s/control", f->folder);
	snprintf(f->serial, sizeof(f->serial), "%s/serial", f->folder);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];
	int ret;

	end(&f->vmm);
	end(&f->vgpu);
	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	ret = system(command);
	free(f);
	return ret ? -1 : 0;
}

static void start_vgpu(struct fixture *f)
{
	char program[4200];
	char *argv[] = { program,
			 (char *)(uintptr_t)"--no-render",
			 (char *)(uintptr_t)"--socket",
			 f->socket,
			 (char *)(uintptr_t)"--control",
			 f->control,
			 (char *)(uintptr_t)"--heads",
			 (char *)(uintptr_t)"640x480",
			 NULL };

	snprintf(program, sizeof(program), "%s/divvy-vgpu", f->build);
	f->vgpu = run(f, "vgpu.log", argv);
	for (unsigned i = 0; i < WAIT_MS / 10 && access(f->control, F_OK); i++)
		usleep(10000);
	assert_int_equal(access(f->control, F_OK), 0);
}

static void start_vmm(struct fixture *f, bool packed)
{
	char program[4200], kernel[4200], cmdline[32], serial[80];
	char *argv[] = { program,
			 (char *)(uintptr_t)"--kernel",
			 kernel,
			 (char *)(uintptr_t)"--cmdline",
			 cmdline,
			 (char *)(uintptr_t)"--memory",
			 (char *)(uintptr_t)"64M",
			 (char *)(uintptr_t)"--serial",
			 serial,
			 (char *)(uintptr_t)"--vfio-user",
			 f->socket,
			 NULL };

	snprintf(program, sizeof(program), "%s/divvy-vmm", f->build);
	snprintf(kernel, sizeof(kernel), "%s/guest-drivers/testguest/testguest.elf", f->build);
	snprintf(cmdline, sizeof(cmdline), "gpu packed=%d", packed);
	snprintf(serial, sizeof(serial), "file:%s", f->serial);
	f->vmm = run(f, "vmm.log", argv);
}

/* ---- what the guest says, and what it shows -------------------------------------------------- */

static void show(const struct fixture *f, const char *name)
{
	char command[96];

	snprintf(command, sizeof(command), "echo %s:; tail -n 20 %s/%s", name, f->folder, name);
	if (system(command))
		print_message("no %s\n", name);
}

/* Until the guest has said @word; it fails with all that was said when it says that something failed. */
static void wait_for_word(struct fixture *f, const char *word)
{
	char text[4096] = "";

	for (unsigned i = 0; i < WAIT_MS / 10; i++) {
		if (file_read(AT_FDCWD, f->serial, text, sizeof(text)) < 0)
			text[0] = '\0';
		if (strstr(text, word))
			return;
		if (strstr(text, "FAIL") || strstr(text, "exception") ||
		    waitpid(f->vmm, NULL, WNOHANG) == f->vmm)
			break;
		usleep(10000);
	}
	show(f, "vgpu.log");
	show(f, "vmm.log");
	fail_msg("the guest did not say '%s', but: %s", word, text);
}

/* The body of an answer, the caller's; its length. */
static uint8_t *get(const struct fixture *f, const char *resource, size_t *length)
{
	char *text = malloc(PICTURE_SIZE), head[256];
	int fd = http_connect(f->control);
	const char *body;
	size_t got = 0;
	ssize_t n;

	assert_non_null(text);
	assert_true(fd >= 0);
	snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		 resource);
	assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
	while ((n = recv(fd, text + got, PICTURE_SIZE - 1 - got, 0)) > 0)
		got += (size_t)n;
	close(fd);
	text[got] = '\0';
	assert_memory_equal(text, "HTTP/1.1 200", 12);
	body = strstr(text, "\r\n\r\n");
	assert_non_null(body);
	*length = got - (size_t)(body + 4 - text);
	memmove(text, body + 4, *length);
	return (uint8_t *)text;
}

static uint32_t expected(uint32_t number, uint32_t x, uint32_t y)
{
	const uint32_t cx = x - (PICTURE_CURSOR_X - PICTURE_HOT_X),
		       cy = y - (PICTURE_CURSOR_Y - PICTURE_HOT_Y);
	uint32_t cursor = cx < PICTURE_CURSOR && cy < PICTURE_CURSOR ? picture_cursor(cx, cy) : 0;

	return cursor ? cursor & 0xffffff : picture_pixel(number, x, y);
}

/* Every pixel of head 0 is what the guest drew. */
static void expect_picture(const struct fixture *f, uint32_t number, uint32_t width,
			   uint32_t height)
{
	png_image png = { .version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB };
	size_t length;
	uint8_t *bytes = get(f, "/api/v1/vgpu.screenshot/0", &length), *pixels;

	assert_int_equal(png_image_begin_read_from_memory(&png, bytes, length), 1);
	assert_int_equal(png.width, width);
	assert_int_equal(png.height, height);
	png.format = PNG_FORMAT_RGB;
	pixels = malloc(PNG_IMAGE_SIZE(png));
	assert_non_null(pixels);
	assert_int_equal(png_image_finish_read(&png, NULL, pixels, 0, NULL), 1);
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++) {
			const uint8_t *at = &pixels[3 * (y * width + x)];
			uint32_t found = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];

			if (found != expected(number, x, y))
				fail_msg("picture %u: pixel %u, %u is %06x, not %06x", number, x, y,
					 found, expected(number, x, y));
		}
	free(pixels);
	free(bytes);
}

static void change_monitor(const struct fixture *f, unsigned width, unsigned height)
{
	char body[96];

	snprintf(body, sizeof(body), "{\"head\": 0, \"width\": %u, \"height\": %u}", width, height);
	assert_int_equal(http(f->control, "PUT", "/api/v1/vgpu.head", body, NULL), 204);
}

static void draws_over(struct fixture *f, bool packed)
{
	unsigned fds;

	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	start_vgpu(f);
	fds = fds_of(f->vgpu);
	start_vmm(f, packed);
	wait_for_word(f, "gpu: shown 1");
	wait_for_word(f, "gpu: display 640x480");
	expect_picture(f, 1, 640, 480);
	/* The guest hears of it, then breaks its ring, resets the device and draws anew. */
	change_monitor(f, 800, 600);
	wait_for_word(f, "gpu: needs reset");
	wait_for_word(f, "gpu: shown 2");
	wait_for_word(f, "gpu: display 800x600");
	expect_picture(f, 2, 800, 600);
	change_monitor(f, 1024, 768);
	wait_for_word(f, "gpu: done");
	assert_int_equal(wait_for_end(&f->vmm), 0);
	/* The vGPU goes on without it, with nothing of it left, and ends when asked to. */
	for (unsigned i = 0; i < WAIT_MS / 10 && fds_of(f->vgpu) != fds; i++)
		usleep(10000);
	assert_int_equal(fds_of(f->vgpu), fds);
	kill(f->vgpu, SIGTERM);
	assert_int_equal(wait_for_end(&f->vgpu), 0);
}

static void a_guest_draws_over_split_rings(void **state)
{
	draws_over(*state, false);
}

static void a_guest_draws_over_packed_rings(void **state)
{
	draws_over(*state, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_guest_draws_over_split_rings, setup, teardown),
		cmocka_unit_test_setup_teardown(a_guest_draws_over_packed_rings, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
