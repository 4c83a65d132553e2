// SPDX-License-Identifier: Apache-2.0
/*
 * What leaving the guest costs, on this machine's /dev/kvm with the freestanding guest: an MMIO or port
 * access that comes to us and goes back, a doorbell that does not (ioeventfd), the way from a doorbell
 * to a thread of ours and back, and from an eventfd to the guest's interrupt handler (irqfd).
 *
 * Ring 3 runs natively everywhere; on a host whose KVM interprets ring 0, the figures of ring 0 are those of
 * its interpreter.
 */
#include <pthread.h>

#include "tests/unit/vm_machine.h"

#include "tests/bench/bench.h"

#define RUNS	 7u
#define ACCESSES 4000u
#define SIGNALS	 300u
#define FLAG_GPA 0x700000u
#define DOORBELL (LAYOUT_PLATFORM_START + 0x3000) /* beyond the test device: only an ioeventfd */
#define PORT	 0x510u

static const struct dispatch_handler nothing;
static uint64_t marked_at, ended_at;

/* The test device, with a clock: offset 8 marks the beginning, offset 0 is the end. */
static void clock_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = opaque;

	if (offset == 8) {
		marked_at = monotonic_ns();
	} else if (offset == 0) {
		ended_at = monotonic_ns();
		m->result = (uint32_t)value;
		vm_request_exit(m->vm, VM_EXIT_POWER_OFF, "done");
	}
}

static uint64_t clock_read(void *opaque, uint64_t offset, unsigned size)
{
	return 0;
}

static const struct dispatch_handler clock_handler = { clock_read, clock_write };

static void bench_machine(struct machine *m)
{
	machine_init(m, 1);
	dispatch_remove(vm_mmio(m->vm), LAYOUT_PLATFORM_START);
	assert_int_equal(
		dispatch_add(vm_mmio(m->vm), LAYOUT_PLATFORM_START, 0x2000, &clock_handler, m), 0);
	assert_int_equal(dispatch_add(vm_ports(m->vm), PORT, 1, &nothing, NULL), 0);
}

static void must_end(struct machine *m)
{
	char reason[256];

	if (machine_join(m, reason) != VM_EXIT_POWER_OFF || m->result >= RESULT_EXCEPTION) {
		fprintf(stderr, "the guest: %s, %#x\n", reason, m->result);
		exit(1);
	}
}

/* One loop of the guest; @doorbell: an ioeventfd at DOORBELL. */
static void loop(const char *name, const char *cmdline, bool doorbell)
{
	double values[RUNS];

	for (unsigned i = 0; i < RUNS; i++) {
		struct machine m;
		int fd = eventfd(0, EFD_CLOEXEC);

		bench_machine(&m);
		if (doorbell)
			assert_int_equal(vm_ioeventfd_add(m.vm, false, DOORBELL, 4, fd, false, 0),
					 0);
		machine_start(&m, cmdline);
		must_end(&m);
		values[i] = (double)(ended_at - marked_at) / 1e3 / ACCESSES;
		machine_release(&m);
		close(fd);
	}
	bench_result(name, "us", values, RUNS);
}

/* ---- to a thread of ours and back ---------------------------------------------------------- */

struct answerer {
	int fd;
	volatile uint32_t *flag;
	uint64_t took_ns;
};

static void *answer(void *opaque)
{
	struct answerer *a = opaque;
	uint64_t began = 0, value;

	for (uint32_t i = 1; i <= SIGNALS; i++) {
		if (read(a->fd, &value, sizeof(value)) != sizeof(value))
			break;
		if (i == 1)
			began = monotonic_ns();
		__atomic_store_n(a->flag, i, __ATOMIC_RELEASE);
	}
	a->took_ns = monotonic_ns() - began;
	return NULL;
}

static void doorbell_and_back(void)
{
	double values[RUNS];

	for (unsigned i = 0; i < RUNS; i++) {
		struct answerer a = { .fd = eventfd(0, EFD_CLOEXEC) };
		struct machine m;
		pthread_t thread;
		char cmdline[128];

		bench_machine(&m);
		a.flag = guest_memory_ptr(m.memory, FLAG_GPA, 4);
		assert_int_equal(vm_ioeventfd_add(m.vm, false, DOORBELL, 4, a.fd, false, 0), 0);
		pthread_create(&thread, NULL, answer, &a);
		snprintf(cmdline, sizeof(cmdline), "doorbell addr=%#llx flag=%#x count=%u ring=3",
			 (unsigned long long)DOORBELL, FLAG_GPA, SIGNALS);
		machine_start(&m, cmdline);
		must_end(&m);
		pthread_join(thread, NULL);
		values[i] = (double)a.took_ns / 1e3 / (SIGNALS - 1);
		machine_release(&m);
		close(a.fd);
	}
	bench_result("doorbell (ioeventfd) to a thread and its answer seen by the guest", "us",
		     values, RUNS);
}

/* ---- to the guest's interrupt handler ------------------------------------------------------ */

static void interrupt(const char *name, const char *words)
{
	double values[RUNS];

	for (unsigned i = 0; i < RUNS; i++) {
		volatile uint32_t *flag;
		int gsi, fd = eventfd(0, EFD_CLOEXEC);
		double latencies[SIGNALS];
		char cmdline[128];
		struct machine m;

		bench_machine(&m);
		flag = guest_memory_ptr(m.memory, FLAG_GPA, 4);
		gsi = vm_gsi_alloc(m.vm, 1);
		vm_route_msi(m.vm, (unsigned)gsi, LAYOUT_LAPIC, 0x44);
		assert_int_equal(vm_routes_commit(m.vm), 0);
		assert_int_equal(vm_irqfd_add(m.vm, (unsigned)gsi, fd, -1), 0);
		snprintf(cmdline, sizeof(cmdline), "irq count=%u vector=0x44 flag=%#x %s", SIGNALS,
			 FLAG_GPA, words);
		machine_start(&m, cmdline);
		await_fd(m.ready_fd);
		usleep(20000); /* to where it waits */
		for (uint32_t n = 1; n <= SIGNALS; n++) {
			uint64_t began = monotonic_ns();

			signal_fd(fd);
			while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) != n &&
			       monotonic_ns() - began < NSEC_PER_SEC)
				;
			latencies[n - 1] = (double)(monotonic_ns() - began) / 1e3;
			usleep(200); /* back to where it waits */
		}
		must_end(&m);
		values[i] = bench_median(latencies, SIGNALS);
		assert_int_equal(vm_irqfd_remove(m.vm, (unsigned)gsi, fd), 0);
		machine_release(&m);
		close(fd);
	}
	bench_result(name, "us", values, RUNS);
}

int main(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	char cmdline[128];

	if (fd < 0) {
		bench_skip("exits of the guest", strerror(errno));
		return 0;
	}
	close(fd);
	log_set_level(LOG_LEVEL_ERROR);
#define LOOP(name, doorbell, ...)                                \
	do {                                                     \
		snprintf(cmdline, sizeof(cmdline), __VA_ARGS__); \
		loop(name, cmdline, doorbell);                   \
	} while (0)
	LOOP("MMIO read, exit and back, ring 3", false, "read addr=%#llx count=%u mark=1 ring=3",
	     (unsigned long long)LAYOUT_PLATFORM_START + 16, ACCESSES);
	LOOP("MMIO write, exit and back, ring 3", false, "write addr=%#llx count=%u mark=1 ring=3",
	     (unsigned long long)LAYOUT_PLATFORM_START + 16, ACCESSES);
	LOOP("MMIO read, exit and back, ring 0", false, "read addr=%#llx count=%u mark=1",
	     (unsigned long long)LAYOUT_PLATFORM_START + 16, ACCESSES);
	LOOP("port write, exit and back, ring 0", false, "out port=%#x count=%u mark=1", PORT,
	     ACCESSES);
	LOOP("MMIO write to an ioeventfd, ring 3", true, "write addr=%#llx count=%u mark=1 ring=3",
	     (unsigned long long)DOORBELL, ACCESSES);
	doorbell_and_back();
	interrupt("eventfd (irqfd) to the handler, guest spinning in ring 3", "ring=3");
	interrupt("eventfd (irqfd) to the handler, guest halted", "");
	return 0;
}
