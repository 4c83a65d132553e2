// SPDX-License-Identifier: Apache-2.0
/* Whole machines on the host's own /dev/kvm, with the freestanding test guest inside. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/hypervisor-glue.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/confined.h"
#include "tests/unit/resources.h"

struct fixture {
	struct machine_config config;
	struct error e;
	char folder[32];
	char serial[64];
};

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* BUILD/tests/unit/test_machine -> BUILD/guest-drivers/testguest/testguest.elf */
static void testguest_path(char *path, size_t size)
{
	static const char name[] = "/guest-drivers/testguest/testguest.elf";

	assert_true(build_folder(path, size - sizeof(name)));
	strcat(path, name);
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
	log_set_level(LOG_LEVEL_ERROR);
	machine_config_init(&f->config);
	f->config.sandbox = false; /* the test goes on */
	testguest_path(f->config.kernel, sizeof(f->config.kernel));
	f->config.memory = 64 * MIB;
	snprintf(f->serial, sizeof(f->serial), "%s/serial", f->folder);
	snprintf(f->config.serial, sizeof(f->config.serial), "file:%s", f->serial);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static struct fixture *need(void **state)
{
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	return *state;
}

static void add_disk(struct fixture *f)
{
	struct machine_disk *disk = &f->config.disks[f->config.disk_count++];
	FILE *file;

	snprintf(disk->path, sizeof(disk->path), "%s/disk", f->folder);
	file = fopen(disk->path, "w");
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), (off_t)MIB), 0);
	fclose(file);
}

static void guest_speaks_on_the_serial_port_and_powers_off(void **state)
{
	struct fixture *f = need(state);
	char text[64] = { 0 };

	strcpy(f->config.cmdline, "hello");
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	assert_true(file_read(AT_FDCWD, f->serial, text, sizeof(text)) > 0);
	assert_string_equal(text, "testguest: hello");
}

static void ram_above_4_gib_and_several_cpus_run(void **state)
{
	struct fixture *f = need(state);

	f->config.cpus = 2;
	f->config.memory = 4 * GIB;
	strcpy(f->config.cmdline, "smp cpus=2");
	assert_int_equal(machine_run(&f->config, &f->e), 0);
}

static void everything_is_given_back(void **state)
{
	struct fixture *f = need(state);
	unsigned before;

	add_disk(f);
	f->config.virtio_console = true;
	strcpy(f->config.cmdline, "hello");
	assert_int_equal(machine_run(&f->config, &f->e), 0); /* what libraries open once is open */
	before = open_fds();
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	assert_int_equal(open_fds(), before);
}

static void failed_start_gives_everything_back(void **state)
{
	struct fixture *f = need(state);
	unsigned before = open_fds();

	add_disk(f);
	f->config.populate = true;
	strcpy(f->config.kernel, f->config.disks[0].path);
	assert_true(machine_run(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "not-a-kernel");
	assert_int_equal(open_fds(), before);
	assert_int_equal(count_maps(), 0);

	f->config.memory = UINT64_C(8) << 40;
	assert_true(machine_run(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "memory-too-large");
	assert_int_equal(open_fds(), before);
}

static void set(struct fixture *f, const char *word, const char *value)
{
	if (machine_config_set(&f->config, word, value, &f->e))
		fail_msg("%s", f->e.text);
}

/* Two nodes over the 32-bit window, bound to the host's only node where it has one, all populated. */
static void nodes_topology_and_pins_run_and_are_given_back(void **state)
{
	bool numa = !access("/sys/devices/system/node/node0/cpulist", F_OK);
	struct fixture *f = need(state);
	unsigned before;

	set(f, "numa", numa ? "cpus=0-1,memory=64M,host-node=0" : "cpus=0-1,memory=64M");
	set(f, "numa", "cpus=2-3,memory=64M");
	set(f, "topology", "sockets=2,cores=1,threads=2");
	set(f, "populate", "yes");
	f->config.cpus = 4;
	f->config.memory = 128 * MIB;
	strcpy(f->config.cmdline, "smp cpus=4");
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	before = open_fds();
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	assert_int_equal(open_fds(), before);
	set(f, "pin", "3=8191");
	assert_int_equal(machine_run(&f->config, &f->e), -EINVAL);
	assert_string_equal(f->e.code, "cpu-not-allowed");
	assert_int_equal(open_fds(), before);
}

static void missing_huge_pages_end_the_start_and_give_everything_back(void **state)
{
	struct fixture *f = need(state);
	unsigned before = open_fds();
	uint64_t pages;

	if (file_read_u64(AT_FDCWD, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
			  &pages) ||
	    pages >= 32) {
		print_message("skipped: this machine has reserved huge pages, or none at all\n");
		skip();
	}
	add_disk(f);
	set(f, "huge-pages", "2M");
	assert_int_equal(machine_run(&f->config, &f->e), -ENOMEM);
	assert_string_equal(f->e.code, "huge-pages-short");
	assert_non_null(strstr(f->e.text, "32 pages of 2 MiB are needed"));
	assert_int_equal(open_fds(), before);
}

static void reset_ends_a_machine_that_must_not_reboot(void **state)
{
	struct fixture *f = need(state);

	f->config.no_reboot = true;
	strcpy(f->config.cmdline, "reset");
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	strcpy(f->config.cmdline, "triple");
	assert_int_equal(machine_run(&f->config, &f->e), 0);
}

static void *stop_later(void *opaque)
{
	usleep(700000);
	kill(getpid(), SIGTERM);
	return opaque;
}

static void guest_that_resets_lives_again_until_it_is_stopped(void **state)
{
	struct fixture *f = need(state);
	unsigned before = open_fds();
	sigset_t term, now;
	pthread_t stopper;

	/* So that the signal waits for the machine and does not end the test. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &term, NULL);
	add_disk(f);
	strcpy(f->config.cmdline, "reset");
	assert_int_equal(pthread_create(&stopper, NULL, stop_later, NULL), 0);
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	pthread_join(stopper, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_true(sigismember(&now, SIGTERM)); /* the caller's mask is the caller's again */
	assert_false(sigismember(&now, SIGUSR1));
	pthread_sigmask(SIG_UNBLOCK, &term, NULL);
	assert_int_equal(open_fds(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(guest_speaks_on_the_serial_port_and_powers_off),
		TEST(ram_above_4_gib_and_several_cpus_run),
		TEST(everything_is_given_back),
		TEST(failed_start_gives_everything_back),
		TEST(nodes_topology_and_pins_run_and_are_given_back),
		TEST(missing_huge_pages_end_the_start_and_give_everything_back),
		TEST(reset_ends_a_machine_that_must_not_reboot),
		TEST(guest_that_resets_lives_again_until_it_is_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
