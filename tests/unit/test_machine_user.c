// SPDX-License-Identifier: Apache-2.0
/* Machines on the host's own /dev/kvm with a device that a vfio-user server holds. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/un.h>

#include <cmocka.h>

#include "hypervisor-glue/hypervisor-glue.h"
#include "mdev/mdev.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/confined.h"
#include "tests/unit/vfio_user_server.h"

struct fixture {
	struct machine_config config;
	struct error e;
	char folder[32];
	int listener;
	unsigned clients; /* to be served, one after the other */
	unsigned served;
	pthread_t thread;
	struct server server;
	uint64_t dma_size;
};

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* BUILD/tests/unit/test_machine_user -> BUILD/guest-drivers/testguest/testguest.elf */
static void testguest_path(char *path, size_t size)
{
	static const char name[] = "/guest-drivers/testguest/testguest.elf";

	assert_true(build_folder(path, size - sizeof(name)));
	strcat(path, name);
}

static int setup(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
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
	snprintf(f->config.serial, sizeof(f->config.serial), "file:%s/serial", f->folder);
	snprintf(f->config.users[0], sizeof(f->config.users[0]), "%s/sock", f->folder);
	f->config.user_count = 1;
	strcpy(address.sun_path, f->config.users[0]);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(f->listener, 1), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	close(f->listener);
	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static bool note_dma(struct server *server, struct user_message *message)
{
	struct fixture *f = server->opaque;
	struct user_dma_map map;

	if (message->header.command == USER_DMA_MAP) {
		memcpy(&map, message->payload, sizeof(map));
		f->dma_size += map.size;
	}
	return false;
}

static void *serve_clients(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < f->clients; i++) {
		int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
		struct vfio_device *device;

		if (fd < 0 || virtio_rng_create(&device, NULL))
			break;
		server_init(&f->server, device, fd);
		f->server.hook = note_dma;
		f->server.opaque = f;
		server_serve(&f->server);
		device->ops->close(device);
		__atomic_fetch_add(&f->served, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static struct fixture *need(void **state, unsigned clients)
{
	struct fixture *f = *state;

	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	f->clients = clients;
	assert_int_equal(pthread_create(&f->thread, NULL, serve_clients, f), 0);
	return f;
}

static void a_guest_runs_with_a_served_device(void **state)
{
	struct fixture *f = need(state, 1);
	int ret;

	strcpy(f->config.cmdline, "hello");
	ret = machine_run(&f->config, &f->e);
	pthread_join(f->thread, NULL);
	if (ret)
		fail_msg("%s: %s", f->e.code, f->e.text);
	/* Reset once at the start, told of all memory, of its decode, and that the memory went. */
	assert_int_equal(f->server.commands[USER_DEVICE_RESET], 1);
	assert_int_equal(f->dma_size, 64 * MIB);
	assert_int_equal(f->server.commands[USER_DMA_UNMAP], f->server.commands[USER_DMA_MAP]);
	assert_true(f->server.commands[USER_REGION_READ] > 0);
	assert_true(f->server.commands[USER_REGION_WRITE] > 0);
}

static void everything_of_a_served_device_is_given_back(void **state)
{
	struct fixture *f = need(state, 2);
	unsigned before;

	strcpy(f->config.cmdline, "hello");
	assert_int_equal(machine_run(&f->config, &f->e), 0); /* what libraries open once is open */
	while (!__atomic_load_n(&f->served, __ATOMIC_ACQUIRE))
		usleep(1000);
	before = open_fds();
	assert_int_equal(machine_run(&f->config, &f->e), 0);
	pthread_join(f->thread, NULL);
	assert_int_equal(open_fds(), before);
}

static void a_server_that_is_not_there_stops_the_start(void **state)
{
	struct fixture *f = need(state, 0);
	unsigned before = open_fds();

	pthread_join(f->thread, NULL);
	strcat(f->config.users[0], "-not");
	assert_int_equal(machine_run(&f->config, &f->e), -ENOENT);
	assert_string_equal(f->e.code, "no-vfio-user-socket");
	assert_int_equal(open_fds(), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_guest_runs_with_a_served_device),
		TEST(everything_of_a_served_device_is_given_back),
		TEST(a_server_that_is_not_there_stops_the_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
