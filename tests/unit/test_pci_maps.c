// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that a device shows in its BAR, seen by a guest: from a device behind a vfio-user server through its
 * client to KVM's memory slots, on the host's own /dev/kvm. The device plays a vGPU with a window and blobs.
 */
#include "tests/unit/confined.h"
#include "tests/unit/vm_machine.h"

#include <linux/pci_regs.h>

#include "hypervisor-glue/pci_internal.h"
#include "tests/unit/server_bench.h"

#define WINDOW	    2
#define WINDOW_BAR  (PCI_BASE_ADDRESS_0 + 4 * WINDOW)
#define WINDOW_GPA  UINT64_C(0xd0000000)
#define MOVED_GPA   UINT64_C(0xd1000000)
#define BLOB_OFFSET UINT64_C(0x10000)
#define BLOB_SIZE   UINT64_C(0x4000)
#define BLOB_WORD   0x626f6c62u
#define WINDOW_WORD 0x12345678u /* what the device's registers read as there */

static unsigned fds_before;
static struct bench_device made_up;
static struct bench bench;
static struct vfio_device *client;
static struct pci_function *function;
static struct machine m;
static int blob;

static unsigned count_blobs(void)
{
	char line[512];
	unsigned count = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	assert_non_null(maps);
	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, "bench-memory") != NULL;
	if (maps)
		fclose(maps);
	return count;
}

static unsigned count_slots(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < VM_SLOTS_MAX; i++)
		count += m.vm->slots[i].used;
	return count;
}

static void config_write(unsigned offset, unsigned size, uint32_t value)
{
	vfio_pci_config_write(pci_function_pci(function), (uint16_t)offset, size, value);
}

static void decode_at(uint64_t gpa)
{
	config_write(PCI_COMMAND, 2, 0);
	config_write(WINDOW_BAR, 4, (uint32_t)gpa);
	config_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static void open_machine(void)
{
	const struct vfio_pci_options options = { 0 };
	struct error e = { 0 };

	machine_init(&m, 1);
	if (vfio_user_open(bench.path, &client, &e) ||
	    pci_function_create(m.vm, client, &options, &function, &e) ||
	    vfio_device_start(client, &e))
		fail_msg("%s: %s", e.code, e.text);
	decode_at(WINDOW_GPA);
}

static void close_machine(void)
{
	pci_function_destroy(function);
	assert_int_equal(count_slots(), 1); /* RAM */
	vfio_device_close(client);
	BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
	machine_release(&m);
}

static int setup(void **state)
{
	const uint32_t words[] = { BLOB_WORD, WINDOW_WORD };

	need_kvm();
	fds_before = open_fds();
	bench_device_init(&made_up);
	fake_msix(&made_up.fake, 0x40, 0, 4, 0x80000 | WINDOW, 0x81000 | WINDOW);
	fake_put(&made_up.fake, PCI_CAPABILITY_LIST, 1, 0x40);
	made_up.fake.irqs[VFIO_PCI_MSIX_IRQ_INDEX].flags = VFIO_IRQ_INFO_EVENTFD;
	blob = bench_memory(64 * KIB, F_SEAL_SHRINK);
	assert_int_equal(pwrite(blob, &words[0], 4, 0x2008), 4);
	assert_int_equal(pwrite(made_up.fake.memory[WINDOW], &words[1], 4, BLOB_OFFSET + 8), 4);
	bench_start(&bench, &made_up.fake.device, 0);
	open_machine();
	return 0;
}

static int teardown(void **state)
{
	close_machine();
	bench_stop(&bench);
	close(blob);
	bench_device_release(&made_up);
	assert_int_equal(count_blobs(), 0);
	assert_int_equal(open_fds(), fds_before);
	return 0;
}

/* ---- what the device asks -------------------------------------------------------------------- */

static unsigned answered;
static int answer;

static void on_done(void *token, int result)
{
	answer = result;
	__atomic_fetch_add(&answered, 1, __ATOMIC_RELEASE);
}

static int outcome(int err)
{
	static unsigned seen;

	if (err != -EINPROGRESS)
		return err;
	BENCH_WAIT(__atomic_load_n(&answered, __ATOMIC_ACQUIRE) != seen);
	seen = answered;
	return answer;
}

static int show(uint64_t offset, uint64_t size, uint64_t fd_offset)
{
	const struct vfio_region_map map = {
		.index = WINDOW, .offset = offset, .size = size, .fd = blob, .fd_offset = fd_offset
	};

	return outcome(made_up.mapper->map(made_up.mapper_opaque, &map, on_done, NULL));
}

static int hide(uint64_t offset, uint64_t size)
{
	return outcome(
		made_up.mapper->unmap(made_up.mapper_opaque, WINDOW, offset, size, on_done, NULL));
}

/* ---- what the guest sees --------------------------------------------------------------------- */

/* A guest runs once; the VM is made anew with the function as it was. */
static void expect_read(uint64_t gpa, uint32_t expected)
{
	char cmdline[64], reason[256];

	snprintf(cmdline, sizeof(cmdline), "read addr=0x%llx size=4", (unsigned long long)gpa);
	machine_start(&m, cmdline);
	if (machine_join(&m, reason) != VM_EXIT_POWER_OFF)
		fail_msg("%s: %s", cmdline, reason);
	assert_int_equal(m.result, expected);
}

static void a_guest_reads_what_the_device_shows(void **state)
{
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0x2000), 0);
	assert_int_equal(count_slots(), 2);
	expect_read(WINDOW_GPA + BLOB_OFFSET + 8, BLOB_WORD);
	/* Without a message to anybody. */
	assert_int_equal(pci_function_traps(function), 0);
}

static void what_a_guest_writes_is_in_the_blob(void **state)
{
	char reason[256];
	uint32_t word = 0;

	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0x2000), 0);
	machine_start(&m, "write addr=0xd0010010 size=4 value=0x55667788");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(pread(blob, &word, 4, 0x2010), 4);
	assert_int_equal(word, 0x55667788);
}

static void what_is_hidden_is_the_devices_register_again(void **state)
{
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0x2000), 0);
	assert_int_equal(hide(BLOB_OFFSET, BLOB_SIZE), 0);
	assert_int_equal(count_slots(), 1);
	assert_int_equal(count_blobs(), 0);
	expect_read(WINDOW_GPA + BLOB_OFFSET + 8, WINDOW_WORD);
	assert_true(pci_function_traps(function) > 0);
}

static void it_moves_with_its_bar(void **state)
{
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0x2000), 0);
	decode_at(MOVED_GPA);
	assert_int_equal(count_slots(), 2);
	expect_read(MOVED_GPA + BLOB_OFFSET + 8, BLOB_WORD);
}

static void it_is_seen_only_while_the_bar_decodes(void **state)
{
	config_write(PCI_COMMAND, 2, 0);
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0x2000), 0);
	/* KVM sees no overlap now: it is ours to. */
	assert_int_equal(show(BLOB_OFFSET + 0x1000, 0x1000, 0), -EEXIST);
	assert_int_equal(count_slots(), 1);
	config_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(count_slots(), 2);
	config_write(PCI_COMMAND, 2, 0);
	assert_int_equal(count_slots(), 1);
	assert_int_equal(hide(BLOB_OFFSET, BLOB_SIZE), 0);
	config_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(count_slots(), 1);
}

static void what_is_in_the_way_is_refused(void **state)
{
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0), 0);
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0), -EEXIST);
	assert_int_equal(show(BLOB_OFFSET - 0x1000, 0x2000, 0), -EEXIST);
	assert_int_equal(show(BLOB_OFFSET + BLOB_SIZE - 0x1000, 0x2000, 0), -EEXIST);
	assert_int_equal(show(BLOB_OFFSET + 0x1000, 0x1000, 0), -EEXIST);
	/* The MSI-X table and the pending bits stay ours. */
	assert_int_equal(show(0x80000, 0x1000, 0), -EINVAL);
	assert_int_equal(show(0x81000, 0x1000, 0), -EINVAL);
	assert_int_equal(show(0x7f000, 0x4000, 0), -EINVAL);
	assert_int_equal(hide(BLOB_OFFSET, 0x1000), -ENOENT);
	assert_int_equal(hide(BLOB_OFFSET + 0x1000, 0x1000), -ENOENT);
	assert_int_equal(hide(0, 0x1000), -ENOENT);
	assert_int_equal(count_slots(), 2);
	assert_int_equal(hide(BLOB_OFFSET, BLOB_SIZE), 0);
}

/* As many as a window of 1 MiB has room for beside MSI-X, again and again. */
static void a_full_window_is_shown_and_hidden(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 128; i++)
			assert_int_equal(show(i * 0x1000, 0x1000, i % 16 * 0x1000), 0);
		assert_int_equal(count_slots(), 129);
		decode_at(round & 1 ? WINDOW_GPA : MOVED_GPA);
		assert_int_equal(count_slots(), 129);
		for (unsigned i = 128; i--;)
			assert_int_equal(hide(i * 0x1000, 0x1000), 0);
		assert_int_equal(count_slots(), 1);
	}
}

/* The VM has no slot left: refused, and nothing stays behind. */
static void without_a_slot_it_is_refused(void **state)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned taken = 0;

	while (!vm_slot_add(m.vm, 0xe0000000 + taken * 0x1000ull, 4096, page))
		taken++;
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0), -ENOSPC);
	assert_int_equal(count_blobs(), 0);
	for (unsigned i = 0; i < taken; i++)
		assert_int_equal(vm_slot_remove(m.vm, 0xe0000000 + i * 0x1000ull), 0);
	munmap(page, 4096);
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0), 0);
}

/* A server that goes takes nothing away under the guest's feet; the function's end does. */
static void a_dead_server_leaves_what_it_showed(void **state)
{
	assert_int_equal(show(BLOB_OFFSET, BLOB_SIZE, 0x2000), 0);
	bench_stop(&bench);
	expect_read(WINDOW_GPA + BLOB_OFFSET + 8, BLOB_WORD);
	bench_start(&bench, &made_up.fake.device, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_guest_reads_what_the_device_shows),
		TEST(what_a_guest_writes_is_in_the_blob),
		TEST(what_is_hidden_is_the_devices_register_again),
		TEST(it_moves_with_its_bar),
		TEST(it_is_seen_only_while_the_bar_decodes),
		TEST(what_is_in_the_way_is_refused),
		TEST(a_full_window_is_shown_and_hidden),
		TEST(without_a_slot_it_is_refused),
		TEST(a_dead_server_leaves_what_it_showed),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
