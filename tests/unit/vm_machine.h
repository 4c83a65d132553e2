/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small machine on the host's own /dev/kvm, with the freestanding test guest inside: for tests of the
 * KVM core. Where /dev/kvm cannot be opened, need_kvm() skips the test and says why.
 */
#ifndef TESTS_VM_MACHINE_H
#define TESTS_VM_MACHINE_H

#include <elf.h>
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/vm_internal.h"
#include "tests/unit/build_folder.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC	 0x336ec578u
#define RESULT_EXCEPTION	 0xdead
#define GUEST_TIMEOUT_MS	 20000

/* A machine with as much around it as the test guest wants: serial port, reset port, test device. */
struct machine {
	struct guest_memory *memory;
	struct vm *vm;
	char serial[512];
	size_t serial_length;
	const char *input; /* what the serial port has for the guest */
	int ready_fd;	   /* signalled at the guest's "ready" */
	uint32_t result;
	unsigned accesses;
	unsigned sizes[8];
	uint64_t offsets[8];
	uint64_t values[8];
};

static inline unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static inline void need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		print_message("skipped: /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	close(fd);
}

/* ---- the machine's few devices ----------------------------------------------------------- */

static inline uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
	struct machine *m = opaque;

	if (offset == 0 && m->input && *m->input)
		return (uint8_t)*m->input++;
	return offset == 5 ? 0x60 : 0;
}

static inline void serial_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = opaque;
	uint64_t one = 1;

	if (offset != 0 || m->serial_length >= sizeof(m->serial) - 1)
		return;
	m->serial[m->serial_length++] = (char)value;
	if (strstr(m->serial, "ready\n") && value == '\n')
		assert_int_equal(write(m->ready_fd, &one, sizeof(one)), sizeof(one));
}

static inline void reset_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = opaque;

	if (value & 4)
		vm_request_exit(m->vm, VM_EXIT_RESET, "port 0xcf9");
}

static inline void record(struct machine *m, uint64_t offset, unsigned size, uint64_t value)
{
	unsigned n = __atomic_fetch_add(&m->accesses, 1, __ATOMIC_RELAXED);

	if (n < ARRAY_SIZE(m->sizes)) {
		m->sizes[n] = size;
		m->offsets[n] = offset;
		m->values[n] = value;
	}
}

static inline uint64_t test_read(void *opaque, uint64_t offset, unsigned size)
{
	record(opaque, offset, size, 0);
	return 0x0807060504030201;
}

static inline void test_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = opaque;

	if (offset == 0) {
		m->result = (uint32_t)value;
		vm_request_exit(m->vm, VM_EXIT_POWER_OFF, "test device: %u", m->result);
	} else {
		record(m, offset, size, value);
	}
}

static const struct dispatch_handler serial_handler = { serial_read, serial_write };
static const struct dispatch_handler reset_handler = { NULL, reset_write };
static const struct dispatch_handler test_handler = { test_read, test_write };

/* ---- the test guest ---------------------------------------------------------------------- */

static inline void read_testguest(void **image, size_t *size)
{
	char path[4096];
	struct stat st;
	int fd;

	assert_true(build_folder(path, sizeof(path) - 64));
	strcat(path, "/guest-drivers/testguest/testguest.elf");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(fstat(fd, &st), 0);
	*size = (size_t)st.st_size;
	*image = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	assert_ptr_not_equal(*image, MAP_FAILED);
}

/* Our own ELF, so without the care that boot.c takes of a stranger's. */
static inline uint32_t load_testguest(struct machine *m)
{
	uint32_t entry = 0;
	const Elf64_Ehdr *ehdr;
	const Elf64_Phdr *phdr;
	void *image;
	size_t size;

	read_testguest(&image, &size);
	ehdr = image;
	phdr = (const void *)((const char *)image + ehdr->e_phoff);
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		const char *from = (const char *)image + phdr[i].p_offset;
		const Elf64_Nhdr *note = (const void *)from;
		void *to;

		if (phdr[i].p_type == PT_NOTE && note->n_type == XEN_ELFNOTE_PHYS32_ENTRY)
			memcpy(&entry, from + sizeof(*note) + 4, sizeof(entry));
		if (phdr[i].p_type != PT_LOAD)
			continue;
		to = guest_memory_ptr(m->memory, phdr[i].p_paddr, phdr[i].p_memsz);
		assert_non_null(to);
		memcpy(to, from, phdr[i].p_filesz);
	}
	munmap(image, size);
	assert_int_not_equal(entry, 0);
	return entry;
}

/* @topology: NULL for cores of one socket */
static inline void machine_init_topology(struct machine *m, unsigned vcpus,
					 const struct cpu_topology *topology)
{
	struct error e = { 0 };

	memset(m, 0, sizeof(*m));
	m->ready_fd = eventfd(0, EFD_CLOEXEC);
	assert_true(m->ready_fd >= 0);
	if (guest_memory_create(&m->memory, &e) ||
	    guest_memory_add_ram(m->memory, 0, 8 * MIB, &e) || vm_create(&m->vm, &e) ||
	    vm_follow(m->vm, m->memory, &e) || (topology && vm_set_topology(m->vm, topology, &e)) ||
	    vm_add_vcpus(m->vm, vcpus, &e))
		fail_msg("%s", e.text);
	assert_int_equal(dispatch_add(vm_ports(m->vm), PORT_SERIAL, 8, &serial_handler, m), 0);
	assert_int_equal(dispatch_add(vm_ports(m->vm), PORT_RESET, 1, &reset_handler, m), 0);
	assert_int_equal(
		dispatch_add(vm_mmio(m->vm), LAYOUT_PLATFORM_START, 0x2000, &test_handler, m), 0);
}

static inline void machine_init(struct machine *m, unsigned vcpus)
{
	machine_init_topology(m, vcpus, NULL);
}

static inline void machine_release(struct machine *m)
{
	vm_destroy(m->vm);
	guest_memory_destroy(m->memory);
	close(m->ready_fd);
}

static inline void machine_start(struct machine *m, const char *cmdline)
{
	struct vm_entry entry = { .rip = load_testguest(m), .rbx = LAYOUT_PVH_START };
	uint32_t *info = guest_memory_ptr(m->memory, LAYOUT_PVH_START, 64);
	struct error e = { 0 };

	memset(info, 0, 64);
	info[0] = START_INFO_MAGIC;
	info[1] = 1;
	info[6] = (uint32_t)LAYOUT_CMDLINE;
	strcpy(guest_memory_ptr(m->memory, LAYOUT_CMDLINE, 256), cmdline);
	if (vm_set_entry(m->vm, &entry, &e) || vm_start(m->vm, &e))
		fail_msg("%s", e.text);
}

static inline enum vm_exit machine_join(struct machine *m, char reason[256])
{
	struct pollfd poll_exit = { .fd = vm_exit_fd(m->vm), .events = POLLIN };

	if (poll(&poll_exit, 1, GUEST_TIMEOUT_MS) != 1)
		vm_request_exit(m->vm, VM_EXIT_STOPPED, "the test's time is up");
	return vm_join(m->vm, reason);
}

/* The guest runs with @cmdline and must power off. */
static inline void machine_run_to_power_off(struct machine *m, unsigned vcpus, const char *cmdline)
{
	char reason[256];

	machine_init(m, vcpus);
	machine_start(m, cmdline);
	if (machine_join(m, reason) != VM_EXIT_POWER_OFF)
		fail_msg("%s: %s", cmdline, reason);
}

static inline void signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static inline void await_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t value;

	assert_int_equal(poll(&p, 1, GUEST_TIMEOUT_MS), 1);
	assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
}

#endif
