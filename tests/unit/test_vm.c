// SPDX-License-Identifier: Apache-2.0
/* The KVM core: what exits do, how vCPUs start and leave, how a VM ends. */
#include <dlfcn.h>
#include <pthread.h>

#include "tests/unit/confined.h"
#include "tests/unit/vm_machine.h"

/* ---- exits ------------------------------------------------------------------------------- */

static void guest_says_hello_and_powers_off(void **state)
{
	struct vm_counters counters;
	struct machine m;

	need_kvm();
	machine_run_to_power_off(&m, 1, "hello");
	assert_string_equal(m.serial, "testguest: hello\n");
	assert_int_equal(m.result, 0);
	vm_counters(m.vm, &counters);
	assert_int_equal(counters.mmio, 1);
	/* a status read and a data write for each byte */
	assert_int_equal(counters.port, 2 * strlen(m.serial));
	machine_release(&m);
}

static void string_instructions_move_every_byte_in_order(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	m.input = "there and back again\n";
	machine_start(&m, "string count=21");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_string_equal(m.serial, "there and back again\n");
	machine_release(&m);
}

static void mmio_of_every_size_reaches_its_handler(void **state)
{
	static const uint32_t expected[] = { 0x01, 0x0201, 0x04030201, 0x04030201 };
	char cmdline[64];
	struct machine m;

	need_kvm();
	for (unsigned i = 0; i < 4; i++) {
		snprintf(cmdline, sizeof(cmdline), "read addr=0xf0000010 size=%u count=3", 1u << i);
		machine_run_to_power_off(&m, 1, cmdline);
		assert_int_equal(m.accesses, 3);
		assert_int_equal(m.sizes[2], 1u << i);
		assert_int_equal(m.offsets[2], 0x10);
		assert_int_equal(m.result, expected[i]);
		machine_release(&m);

		snprintf(cmdline, sizeof(cmdline),
			 "write addr=0xf0000018 size=%u value=0x1122334455667788", 1u << i);
		machine_run_to_power_off(&m, 1, cmdline);
		assert_int_equal(m.accesses, 1);
		assert_int_equal(m.sizes[0], 1u << i);
		assert_int_equal(m.values[0],
				 0x1122334455667788 & (UINT64_MAX >> (64 - (8u << i))));
		machine_release(&m);
	}
}

static void access_across_a_page_is_cut_into_powers_of_two(void **state)
{
	uint64_t value = 0;
	struct machine m;
	unsigned sum = 0;

	need_kvm();
	machine_run_to_power_off(&m, 1, "write addr=0xf0000ffd size=8 value=0x1122334455667788");
	assert_true(m.accesses <= ARRAY_SIZE(m.sizes));
	for (unsigned i = 0; i < m.accesses; i++) {
		assert_int_equal(m.sizes[i] & (m.sizes[i] - 1), 0);
		assert_int_equal(m.offsets[i], 0xffd + sum);
		value |= m.values[i] << (8 * sum);
		sum += m.sizes[i];
	}
	assert_int_equal(sum, 8);
	assert_int_equal(value, 0x1122334455667788);
	machine_release(&m);
}

static void mmio_that_nobody_answers_reads_all_ones(void **state)
{
	struct machine m;

	need_kvm();
	machine_run_to_power_off(&m, 1, "read addr=0xd0000000 size=4");
	assert_int_equal(m.result, 0xffffffff);
	machine_release(&m);
}

static void reset_port_ends_in_reset(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, "reset");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_RESET);
	assert_string_equal(reason, "port 0xcf9");
	machine_release(&m);
}

static void triple_fault_ends_in_reset(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, "triple");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_RESET);
	assert_non_null(strstr(reason, "triple fault"));
	machine_release(&m);
}

static void exception_goes_to_the_guest_and_not_to_us(void **state)
{
	struct machine m;

	need_kvm();
	machine_run_to_power_off(&m, 1, "ud");
	assert_int_equal(m.result, 6);
	machine_release(&m);
}

static void fetch_from_nowhere_ends_in_an_error_with_the_rip(void **state)
{
	struct vm_entry entry = { .rip = 0xd0001000, .rbx = 0 };
	struct error e = { 0 };
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	assert_int_equal(vm_set_entry(m.vm, &entry, &e), 0);
	assert_int_equal(vm_start(m.vm, &e), 0);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_ERROR);
	assert_non_null(strstr(reason, "suberror 1"));
	assert_non_null(strstr(reason, "RIP 0xd0001000"));
	machine_release(&m);
}

static void long_mode_entry_runs_64_bit_code_with_identity_pages(void **state)
{
	/* mov $0xf0000000, %eax; mov (%rbx), %ecx; mov %ecx, (%rax); hlt */
	static const uint8_t code[] = { 0xb8, 0x00, 0x00, 0x00, 0xf0, 0x8b,
					0x0b, 0x89, 0x08, 0xf4, 0xeb, 0xfd };
	struct vm_entry entry = {
		.long_mode = true, .rip = 0x200000, .rsp = 0x8ff0, .rbx = 0x300000
	};
	struct error e = { 0 };
	const uint64_t *gdt;
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	memcpy(guest_memory_ptr(m.memory, 0x200000, sizeof(code)), code, sizeof(code));
	*(uint32_t *)guest_memory_ptr(m.memory, 0x300000, 4) = 4711;
	if (vm_set_entry(m.vm, &entry, &e) || vm_start(m.vm, &e))
		fail_msg("%s", e.text);
	if (machine_join(&m, reason) != VM_EXIT_POWER_OFF)
		fail_msg("%s", reason);
	assert_int_equal(m.result, 4711);
	/* Linux's __BOOT_CS and __BOOT_DS: flat, and accessed already */
	gdt = guest_memory_ptr(m.memory, LAYOUT_BOOT_GDT, 32);
	assert_int_equal(gdt[2], 0x00af9b000000ffff);
	assert_int_equal(gdt[3], 0x00cf93000000ffff);
	machine_release(&m);
}

/* ---- vCPUs ------------------------------------------------------------------------------- */

static void other_processors_start_by_sipi(void **state)
{
	struct machine m;

	need_kvm();
	machine_run_to_power_off(&m, 4, "smp cpus=4");
	assert_int_equal(m.result, 4);
	machine_release(&m);
}

static void halted_and_waiting_vcpus_leave_when_asked(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 3);
	machine_start(&m, "irq count=1");
	usleep(100000);
	vm_request_exit(m.vm, VM_EXIT_STOPPED, "first");
	vm_request_exit(m.vm, VM_EXIT_ERROR, "second");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_STOPPED);
	assert_string_equal(reason, "first");
	machine_release(&m);
}

static unsigned threads_until_failure; /* 0: never */

/* Stands before libc's: like it, leaves something in *thread when it fails. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (threads_until_failure && --threads_until_failure == 0) {
		*thread = 0x10;
		return EAGAIN;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attr, start, arg);
}

static void start_that_fails_half_way_leaves_no_vcpu_running(void **state)
{
	struct vm_entry entry;
	struct error e = { 0 };
	struct machine m;

	need_kvm();
	machine_init(&m, 3);
	entry = (struct vm_entry){ .rip = load_testguest(&m) };
	assert_int_equal(vm_set_entry(m.vm, &entry, &e), 0);
	threads_until_failure = 3;
	assert_int_equal(vm_start(m.vm, &e), -EAGAIN);
	assert_string_equal(e.code, "no-thread");
	for (unsigned i = 0; i < 3; i++) {
		assert_false(m.vm->vcpus[i].created);
		assert_false(m.vm->vcpus[i].alive);
	}
	machine_release(&m);
}

static void exit_requested_at_any_moment_of_the_start_is_not_lost(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	for (unsigned i = 0; i < 30; i++) {
		machine_init(&m, 2);
		if (i == 0)
			vm_request_exit(m.vm, VM_EXIT_STOPPED, "before the start");
		machine_start(&m, "irq count=1");
		usleep(i * 200);
		vm_request_exit(m.vm, VM_EXIT_STOPPED, "now");
		assert_int_equal(vm_join(m.vm, reason), VM_EXIT_STOPPED);
		assert_string_equal(reason, i == 0 ? "before the start" : "now");
		machine_release(&m);
	}
}

static const struct kvm_cpuid_entry2 *leaf_of(const struct vm_cpuid *cpuid, uint32_t function,
					      uint32_t index)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	fail_msg("no CPUID leaf 0x%x.%u", function, index);
	return NULL;
}

static void cpuid_numbers_the_vcpus_and_shows_one_package(void **state)
{
	static struct vm_cpuid host, out;

	host = (struct vm_cpuid){ .nent = 6,
				  .entries = {
					  { .function = 0, .eax = 0x1f },
					  { .function = 1, .ebx = 0xff123456, .ecx = 1u << 3 },
					  /* L1, two threads; L3, 64 threads */
					  { .function = 4,
					    .eax = 0xfc000000 | 1u << 14 | 1u << 5 | 1 },
					  { .function = 4,
					    .index = 2,
					    .eax = 0xfc000000 | 63u << 14 | 3u << 5 | 3 },
					  { .function = 0x1f, .eax = 77, .edx = 99 },
					  { .function = 0x80000008, .eax = 0x3028, .ecx = 0x70ff },
				  } };
	cpuid_for_vcpu(&host, &(struct cpu_topology){ 1, 6, 1 }, 5, true, &out);
	assert_int_equal(leaf_of(&out, 1, 0)->ebx, 0x05083456);
	assert_int_equal(leaf_of(&out, 1, 0)->ecx, 1u << 24 | 1u << 31);
	assert_int_equal(leaf_of(&out, 4, 0)->eax, 7u << 26 | 1u << 5 | 1);
	assert_int_equal(leaf_of(&out, 4, 2)->eax, 7u << 26 | 7u << 14 | 3u << 5 | 3);
	for (unsigned function = 0xb; function <= 0x1f; function += 0x14) {
		assert_int_equal(leaf_of(&out, function, 0)->ecx, 0x100);
		assert_int_equal(leaf_of(&out, function, 1)->eax, 3);
		assert_int_equal(leaf_of(&out, function, 1)->ebx, 6);
		assert_int_equal(leaf_of(&out, function, 1)->ecx, 0x201);
		assert_int_equal(leaf_of(&out, function, 1)->edx, 5);
		assert_int_equal(leaf_of(&out, function, 2)->ebx, 0);
	}
	assert_int_equal(leaf_of(&out, 0x80000008, 0)->ecx, 0x3005);
	assert_int_equal(cpuid_physical_bits(&host), 40);
	cpuid_for_vcpu(&host, &(struct cpu_topology){ 1, 1, 1 }, 0, false, &out);
	assert_int_equal(leaf_of(&out, 1, 0)->ecx, 1u << 31);
	assert_int_equal(leaf_of(&out, 1, 0)->edx, 0);
}

/* Two sockets of three cores of two threads: bit 0 is the thread, bits 1 and 2 the core. */
static const struct cpu_topology wide = { 2, 3, 2 };

static void cpuid_of_intel_tells_threads_cores_and_sockets(void **state)
{
	static struct vm_cpuid host, out;

	host = (struct vm_cpuid){
		.nent = 5,
		.entries = {
			{ .function = 0, .eax = 0x1f, .edx = 0x49656e69 },
			{ .function = 1, .ebx = 0xff },
			{ .function = 4, .eax = 2u << 5 | 1 },
			{ .function = 4, .index = 3, .eax = 3u << 5 | 3 },
			{ .function = 0x1f },
		},
	};
	/* socket 1, core 2, thread 1 */
	cpuid_for_vcpu(&host, &wide, 11, false, &out);
	assert_int_equal(leaf_of(&out, 1, 0)->ebx, 13u << 24 | 8u << 16 | 0xff);
	assert_int_equal(leaf_of(&out, 1, 0)->edx, 1u << 28);
	/* L2: the two threads of a core; L3: the eight APIC IDs of a socket; four core IDs in it */
	assert_int_equal(leaf_of(&out, 4, 0)->eax, 3u << 26 | 1u << 14 | 2u << 5 | 1);
	assert_int_equal(leaf_of(&out, 4, 3)->eax, 3u << 26 | 7u << 14 | 3u << 5 | 3);
	for (unsigned function = 0xb; function <= 0x1f; function += 0x14) {
		assert_int_equal(leaf_of(&out, function, 0)->eax, 1);
		assert_int_equal(leaf_of(&out, function, 0)->ebx, 2);
		assert_int_equal(leaf_of(&out, function, 1)->eax, 3);
		assert_int_equal(leaf_of(&out, function, 1)->ebx, 6);
		assert_int_equal(leaf_of(&out, function, 1)->edx, 13);
	}
}

static void cpuid_of_amd_tells_threads_cores_and_sockets(void **state)
{
	static struct vm_cpuid host, out;

	host = (struct vm_cpuid){
		.nent = 7,
		.entries = {
			{ .function = 0, .eax = 0xd, .edx = 0x69746e65 },
			{ .function = 1 },
			{ .function = 0x80000001 },
			{ .function = 0x80000008, .ecx = 0x1f0ff },
			{ .function = 0x8000001d, .index = 3, .eax = 3u << 5 | 3 },
			{ .function = 0x8000001e, .eax = 77, .ebx = 77, .ecx = 77 },
			{ .function = 0x80000026, .eax = 77 },
		},
	};
	cpuid_for_vcpu(&host, &wide, 11, false, &out);
	assert_int_equal(leaf_of(&out, 0x80000001, 0)->ecx, 1u << 1);
	assert_int_equal(leaf_of(&out, 0x80000008, 0)->ecx, 0x10000 | 3u << 12 | 5);
	assert_int_equal(leaf_of(&out, 0x8000001d, 3)->eax, 7u << 14 | 3u << 5 | 3);
	assert_int_equal(leaf_of(&out, 0x8000001e, 0)->eax, 13);
	assert_int_equal(leaf_of(&out, 0x8000001e, 0)->ebx, 1u << 8 | 2);
	assert_int_equal(leaf_of(&out, 0x8000001e, 0)->ecx, 1);
	for (unsigned i = 0; i < out.nent; i++)
		assert_int_not_equal(out.entries[i].function, 0x80000026);
}

static void a_guest_is_not_offered_nested_virtualisation(void **state)
{
	static struct vm_cpuid host, out;

	host = (struct vm_cpuid){
		.nent = 4,
		.entries = {
			{ .function = 0, .eax = 0xd },
			{ .function = 1, .ecx = 0x7fffffff },
			{ .function = 0x80000001, .ecx = UINT32_MAX },
			{ .function = 0x8000000a, .eax = 1, .ebx = 8, .edx = UINT32_MAX },
		},
	};
	cpuid_for_vcpu(&host, &wide, 0, true, &out);
	assert_int_equal(leaf_of(&out, 1, 0)->ecx & (1u << 5 | 1u << 6), 0);
	assert_int_equal(leaf_of(&out, 0x80000001, 0)->ecx & 1u << 2, 0);
	assert_int_equal(leaf_of(&out, 0x8000000a, 0)->edx, 0);
}

static void every_vcpu_reads_its_own_place_from_cpuid(void **state)
{
	/* by socket, core and thread */
	static const uint32_t ids[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	struct cpu_topology topology = { 2, 2, 2 };
	unsigned seen = 0;
	struct machine m;
	char reason[256];

	need_kvm();
	machine_init_topology(&m, 8, &topology);
	machine_start(&m, "topology cpus=8");
	if (machine_join(&m, reason) != VM_EXIT_POWER_OFF)
		fail_msg("%s", reason);
	assert_int_equal(m.result, 8);
	assert_int_equal(m.accesses, 8);
	for (unsigned i = 0; i < 8; i++) {
		uint32_t id = (uint32_t)m.values[i];

		seen |= 1u << id;
		assert_int_equal(m.values[i] >> 32 & 0xff, id); /* leaf 1 says the same */
		assert_int_equal(m.values[i] >> 40 & 0xf, 1);	/* a bit for the thread */
		assert_int_equal(m.values[i] >> 44 & 0xf, 2);	/* and one for the core */
	}
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		assert_true(seen >> ids[i] & 1);
	machine_release(&m);
}

static void a_topology_that_kvm_cannot_number_is_refused_in_words(void **state)
{
	static const struct {
		struct cpu_topology topology;
		unsigned vcpus;
	} bad[] = {
		{ { 2, 2, 1 }, 3 },    /* is of four */
		{ { 40, 3, 2 }, 240 }, /* leaves gaps: the last ID is 317 */
		{ { 1, 256, 1 }, 256 },
	};
	struct error e = { 0 };
	struct vm *vm;

	need_kvm();
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(vm_create(&vm, &e), 0);
		assert_int_equal(vm_set_topology(vm, &bad[i].topology, &e), 0);
		assert_int_equal(vm_add_vcpus(vm, bad[i].vcpus, &e), -EINVAL);
		assert_string_equal(e.code, "bad-vcpu-count");
		vm_destroy(vm);
	}
}

static void as_many_vcpus_as_kvm_gives_are_created(void **state)
{
	struct error e = { 0 };
	struct vm *vm;
	int max;

	need_kvm();
	assert_int_equal(vm_create(&vm, &e), 0);
	max = MIN(vm_capability(vm->fd, KVM_CAP_MAX_VCPUS), VM_VCPUS_MAX);
	if (vm_add_vcpus(vm, (unsigned)max, &e))
		fail_msg("%s", e.text);
	assert_int_equal(vm->vcpus[max - 1].apic_id, max - 1);
	vm_destroy(vm);
}

/* What a vCPU's thread may run on, as the kernel tells. */
static void a_vcpu_runs_where_it_is_pinned(void **state)
{
	static struct cpu_list allowed, one, now;
	char reason[256];
	struct machine m;
	unsigned cpu = 0;

	need_kvm();
	assert_int_equal(cpu_list_allowed(&allowed), 0);
	while (!cpu_list_has(&allowed, cpu))
		cpu++;
	memset(&one, 0, sizeof(one));
	cpu_list_add(&one, cpu);
	machine_init(&m, 2);
	vm_set_affinity(m.vm, 1, &one);
	machine_start(&m, "irq count=1");
	assert_int_equal(
		pthread_getaffinity_np(m.vm->vcpus[1].thread, sizeof(now), (cpu_set_t *)&now), 0);
	assert_memory_equal(&now, &one, sizeof(now));
	assert_int_equal(
		pthread_getaffinity_np(m.vm->vcpus[0].thread, sizeof(now), (cpu_set_t *)&now), 0);
	assert_memory_equal(&now, &allowed, sizeof(now));
	vm_request_exit(m.vm, VM_EXIT_STOPPED, "seen");
	machine_join(&m, reason);
	machine_release(&m);
}

static void physical_bits_are_what_both_processor_and_nesting_reach(void **state)
{
	struct vm_cpuid host = { .nent = 1, .entries = { { .function = 0x80000008 } } };

	host.entries[0].eax = 48;
	assert_int_equal(cpuid_physical_bits(&host), 48);
	host.entries[0].eax = 40u << 16 | 52;
	assert_int_equal(cpuid_physical_bits(&host), 40);
	host.nent = 0;
	assert_int_equal(cpuid_physical_bits(&host), 36);
}

/* ---- life and death ---------------------------------------------------------------------- */

static void twenty_lives_leave_no_descriptor(void **state)
{
	struct machine m;
	unsigned before;

	need_kvm();
	machine_run_to_power_off(&m, 2, "hello");
	machine_release(&m);
	before = open_fds();
	for (unsigned i = 0; i < 20; i++) {
		/* ended by itself, never started, taken down while it runs */
		if (i % 3 == 0) {
			machine_run_to_power_off(&m, 2, "hello");
		} else {
			machine_init(&m, 2);
			if (i % 3 == 1)
				machine_start(&m, "irq count=1");
		}
		machine_release(&m);
	}
	assert_int_equal(open_fds(), before);
}

static void bad_vcpu_counts_are_refused_in_words(void **state)
{
	struct error e = { 0 };
	struct vm *vm;

	need_kvm();
	assert_int_equal(vm_create(&vm, &e), 0);
	assert_int_equal(vm_add_vcpus(vm, 0, &e), -EINVAL);
	assert_int_equal(vm_add_vcpus(vm, 100000, &e), -EINVAL);
	assert_string_equal(e.code, "bad-vcpu-count");
	assert_int_equal(vm_start(vm, &e), -EINVAL);
	assert_int_equal(vm_add_vcpus(vm, 1, &e), 0);
	assert_int_equal(vm_add_vcpus(vm, 1, &e), -EBUSY);
	vm_destroy(vm);
}

static void missing_kvm_is_told_with_the_next_command(void **state)
{
	unsigned before = open_fds();
	struct error e = { 0 };

	assert_int_equal(vm_open_kvm("/nonexistent/kvm", &e), -ENOENT);
	assert_string_equal(e.code, "no-kvm");
	assert_non_null(strstr(e.text, "/nonexistent/kvm"));
	assert_true(e.next[0] != 0);
	assert_int_equal(vm_open_kvm("/dev/null", &e), -ENODEV);
	assert_string_equal(e.code, "no-kvm");
	assert_int_equal(open_fds(), before);
}

static void forbidden_kvm_is_told_with_the_next_command(void **state)
{
	char path[] = "/tmp/divvy-test-kvm-XXXXXX";
	struct error e = { 0 };
	int fd = mkstemp(path), status;
	pid_t child;

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0), 0);
	close(fd);
	child = fork();
	if (child == 0) {
		if (geteuid() == 0 && setuid(65534) < 0)
			_exit(2);
		if (vm_open_kvm(path, &e) != -EACCES || strcmp(e.code, "no-kvm") != 0)
			_exit(1);
		_exit(strstr(e.next, "usermod -aG kvm") ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	unlink(path);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_says_hello_and_powers_off),
		cmocka_unit_test(string_instructions_move_every_byte_in_order),
		cmocka_unit_test(mmio_of_every_size_reaches_its_handler),
		cmocka_unit_test(access_across_a_page_is_cut_into_powers_of_two),
		cmocka_unit_test(mmio_that_nobody_answers_reads_all_ones),
		cmocka_unit_test(reset_port_ends_in_reset),
		cmocka_unit_test(triple_fault_ends_in_reset),
		cmocka_unit_test(exception_goes_to_the_guest_and_not_to_us),
		cmocka_unit_test(fetch_from_nowhere_ends_in_an_error_with_the_rip),
		cmocka_unit_test(long_mode_entry_runs_64_bit_code_with_identity_pages),
		cmocka_unit_test(other_processors_start_by_sipi),
		cmocka_unit_test(halted_and_waiting_vcpus_leave_when_asked),
		cmocka_unit_test(start_that_fails_half_way_leaves_no_vcpu_running),
		cmocka_unit_test(exit_requested_at_any_moment_of_the_start_is_not_lost),
		cmocka_unit_test(cpuid_numbers_the_vcpus_and_shows_one_package),
		cmocka_unit_test(cpuid_of_intel_tells_threads_cores_and_sockets),
		cmocka_unit_test(cpuid_of_amd_tells_threads_cores_and_sockets),
		cmocka_unit_test(a_guest_is_not_offered_nested_virtualisation),
		cmocka_unit_test(every_vcpu_reads_its_own_place_from_cpuid),
		cmocka_unit_test(a_topology_that_kvm_cannot_number_is_refused_in_words),
		cmocka_unit_test(as_many_vcpus_as_kvm_gives_are_created),
		cmocka_unit_test(a_vcpu_runs_where_it_is_pinned),
		cmocka_unit_test(physical_bits_are_what_both_processor_and_nesting_reach),
		cmocka_unit_test(twenty_lives_leave_no_descriptor),
		cmocka_unit_test(bad_vcpu_counts_are_refused_in_words),
		cmocka_unit_test(missing_kvm_is_told_with_the_next_command),
		cmocka_unit_test(forbidden_kvm_is_told_with_the_next_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
