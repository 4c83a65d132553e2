// SPDX-License-Identifier: Apache-2.0
/*
 * A stock QEMU's vfio-user client against our server: it boots from a disk of ours, and its BIOS writes to it.
 *
 * Skipped where there is no qemu-system-x86_64 or one without vfio-user-pci (before 10.1). The guest is a boot
 * sector: it writes itself a sector, says a word on the serial port and ends QEMU.
 */
#include "tests/unit/virtio_driver.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "tests/unit/server_bench.h"

#define QEMU "qemu-system-x86_64"
#define GOOD \
	0x21 /* what the boot sector writes to isa-debug-exit; QEMU's status is twice that and one */
#define MESSAGE "boot from vfio-user"
#define WAIT_MS 100000u

extern char **environ;

static char folder[32], image[64], serial[64];
static struct bench bench;
static struct vfio_device *disk;

static const uint8_t boot_sector[] = {
	0x31, 0xc0,		/*	xor ax, ax */
	0x8e, 0xd8, 0x8e, 0xc0, /*	mov ds, ax; mov es, ax */
	0xb8, 0x01, 0x03,	/*	mov ax, 0x0301: write one sector */
	0xb9, 0x02, 0x00,	/*	mov cx, 2: the second */
	0xb6, 0x00,		/*	mov dh, 0 */
	0xbb, 0x00, 0x7d,	/*	mov bx, 0x7d00: the message */
	0xcd, 0x13, 0x72, 0x15, /*	int 0x13; jc fail */
	0xbe, 0x00, 0x7d,	/*	mov si, 0x7d00 */
	0xac, 0x84, 0xc0,	/* next: lodsb; test al, al */
	0x74, 0x06,		/*	jz done */
	0xba, 0xf8, 0x03,	/*	mov dx, 0x3f8 */
	0xee, 0xeb, 0xf5,	/*	out dx, al; jmp next */
	0xb0, GOOD, 0xe6, 0xf4, /* done: mov al, GOOD; out 0xf4, al */
	0xf4, 0xeb, 0xfd,	/*	hlt; jmp -3 */
	0xb0, 0x10, 0xe6, 0xf4, /* fail: mov al, 0x10; out 0xf4, al */
	0xf4, 0xeb, 0xfd,
};

static void write_image(void)
{
	uint8_t sector[512] = { 0 };
	int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	memcpy(sector, boot_sector, sizeof(boot_sector));
	memcpy(sector + 0x100, MESSAGE, sizeof(MESSAGE));
	sector[510] = 0x55;
	sector[511] = 0xaa;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	assert_int_equal(pwrite_full(fd, sector, sizeof(sector), 0), 0);
	close(fd);
}

/* Exit status, or -1: not there, or ended by force. Standard output and error go to @out. */
static int run_qemu(char *const argv[], const char *out)
{
	posix_spawn_file_actions_t actions;
	int status = 0, ret;
	pid_t pid = 0;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	ret = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		return -1;
	for (unsigned waited = 0; waitpid(pid, &status, WNOHANG) == 0; waited += 20) {
		if (waited >= WAIT_MS)
			kill(pid, SIGKILL);
		usleep(20000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void read_text(const char *path, char *text, size_t size)
{
	if (file_read(AT_FDCWD, path, text, size) < 0)
		*text = '\0';
}

static bool has_client(void)
{
	static char text[256 * KIB];
	char program[] = QEMU, devices[] = "-device", help[] = "help";
	char *argv[] = { program, devices, help, NULL };

	if (run_qemu(argv, serial))
		return false;
	read_text(serial, text, sizeof(text));
	return strstr(text, "vfio-user-pci");
}

static int setup(void **state)
{
	const struct virtio_blk_config config = { .path = image };

	strcpy(folder, "/tmp/test-qemu-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(image, sizeof(image), "%s/disk", folder);
	snprintf(serial, sizeof(serial), "%s/serial", folder);
	write_image();
	assert_int_equal(virtio_blk_create(&config, &disk, NULL), 0);
	assert_int_equal(vfio_device_start(disk, NULL), 0);
	bench_start(&bench, disk, 0);
	return 0;
}

static int teardown(void **state)
{
	bench_stop(&bench);
	disk->ops->close(disk);
	unlink(image);
	unlink(serial);
	return rmdir(folder);
}

static void it_boots_from_a_served_disk_and_writes_to_it(void **state)
{
	char text[4096], device[256], sector[32] = "";
	char words[][72] = { QEMU,
			     "-M",
			     "q35,memory-backend=m",
			     "-accel",
			     "tcg",
			     "-m",
			     "64",
			     "-object",
			     "memory-backend-memfd,id=m,size=64M,share=on",
			     "-display",
			     "none",
			     "-serial",
			     "stdio",
			     "-monitor",
			     "none",
			     "-net",
			     "none",
			     "-device",
			     "isa-debug-exit,iobase=0xf4",
			     "-device" };
	char *argv[ARRAY_SIZE(words) + 2];
	int status, fd;

	if (!has_client()) {
		print_message("skipped: no " QEMU " with vfio-user-pci\n");
		skip();
	}
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		argv[i] = words[i];
	snprintf(device, sizeof(device),
		 "{\"driver\":\"vfio-user-pci\",\"bootindex\":0,\"socket\":{\"type\":\"unix\","
		 "\"path\":\"%s\"}}",
		 bench.path);
	argv[ARRAY_SIZE(words)] = device;
	argv[ARRAY_SIZE(words) + 1] = NULL;
	/* Twice: the second finds the server and the device as the first did. */
	for (unsigned i = 0; i < 2; i++) {
		status = run_qemu(argv, serial);
		read_text(serial, text, sizeof(text));
		if (status != 2 * GOOD + 1 || !strstr(text, MESSAGE))
			fail_msg("status %d: %s", status, text);
	}
	fd = open(image, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread_full(fd, sector, sizeof(MESSAGE), 512), 0);
	close(fd);
	assert_string_equal(sector, MESSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_boots_from_a_served_disk_and_writes_to_it, setup,
						teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
