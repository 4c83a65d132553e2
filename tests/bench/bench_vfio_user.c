// SPDX-License-Identifier: Apache-2.0
/*
 * What a device in another process costs: accesses as messages, opening, and memory that the device shows, from
 * its call until the VMM's slot is there. Client and server are two threads here; two processes add nothing but
 * their address spaces' switch.
 *
 *   bench_vfio_user
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hypervisor-glue/pci_internal.h"
#include "tests/bench/bench.h"
#include "tests/unit/server_bench.h"

#define RUNS   7u
#define ROUNDS 2000u
#define MAPS   200u
#define WINDOW 2

static struct bench_device made_up;
static struct bench server;
static struct vfio_device *client;
static unsigned done; /* atomic */

static void open_client(void)
{
	struct error e = { 0 };

	/* The one before is not gone until the server has seen it go. */
	for (unsigned i = 0; i < 5000 && vfio_user_open(server.path, &client, &e); i++)
		usleep(1000);
	if (!client || vfio_device_start(client, &e))
		fail_msg("%s", e.text);
}

static void accesses(void)
{
	double read[RUNS], written[RUNS];
	uint32_t value = 0;

	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t began = monotonic_ns();

		for (unsigned i = 0; i < ROUNDS; i++)
			client->ops->region_read(client, 0, 0x20, &value, 4);
		read[run] = (double)(monotonic_ns() - began) / ROUNDS / 1e3;
		began = monotonic_ns();
		for (unsigned i = 0; i < ROUNDS; i++)
			client->ops->region_write(client, 0, 0x20, &value, 4);
		written[run] = (double)(monotonic_ns() - began) / ROUNDS / 1e3;
	}
	bench_result("register read by message", "us", read, RUNS);
	bench_result("register written by message", "us", written, RUNS);
}

static void opening(void)
{
	double open[RUNS];

	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t began;

		vfio_device_close(client);
		BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
		client = NULL;
		began = monotonic_ns();
		open_client();
		open[run] = (double)(monotonic_ns() - began) / 1e6;
	}
	bench_result("connect, agree and ask what it is", "ms", open, RUNS);
}

static void on_done(void *token, int result)
{
	assert_int_equal(result, 0);
	__atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
}

static void wait_done(unsigned count)
{
	while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != count)
		usleep(10);
}

/* A page of a blob in the window of a function that decodes, and away again. */
static void showing(void)
{
	const struct vfio_pci_options options = { 0 };
	const struct vfio_region_map map = { .index = WINDOW,
					     .size = 4096,
					     .fd = bench_memory(4096, F_SEAL_SHRINK) };
	double shown[RUNS], hidden[RUNS];
	struct pci_function *function;
	struct error e = { 0 };
	struct vm *vm = NULL;

	if (vm_create(&vm, &e)) {
		bench_skip("device memory shown in a BAR", e.text);
		close(map.fd);
		return;
	}
	assert_int_equal(pci_function_create(vm, client, &options, &function, &e), 0);
	vfio_pci_config_write(pci_function_pci(function), PCI_BASE_ADDRESS_0 + 4 * WINDOW, 4,
			      0xd0000000);
	vfio_pci_config_write(pci_function_pci(function), PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t show_ns = 0, hide_ns = 0;

		for (unsigned i = 0; i < MAPS; i++) {
			uint64_t began = monotonic_ns();
			const unsigned before = done;

			made_up.mapper->map(made_up.mapper_opaque, &map, on_done, NULL);
			wait_done(before + 1);
			show_ns += monotonic_ns() - began;
			began = monotonic_ns();
			made_up.mapper->unmap(made_up.mapper_opaque, WINDOW, 0, 4096, on_done,
					      NULL);
			wait_done(before + 2);
			hide_ns += monotonic_ns() - began;
		}
		shown[run] = (double)show_ns / MAPS / 1e3;
		hidden[run] = (double)hide_ns / MAPS / 1e3;
	}
	bench_result("device memory shown in a BAR, to the memory slot", "us", shown, RUNS);
	bench_result("the same taken away", "us", hidden, RUNS);
	pci_function_destroy(function);
	vm_destroy(vm);
	close(map.fd);
}

static void all(void **state)
{
	bench_device_init(&made_up);
	bench_start(&server, &made_up.fake.device, 0);
	open_client();
	accesses();
	opening();
	showing();
	vfio_device_close(client);
	bench_stop(&server);
	bench_device_release(&made_up);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
