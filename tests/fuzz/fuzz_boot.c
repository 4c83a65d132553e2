// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel images from hostile hands: whatever the bytes, loading ends with an error that is named or
 * with an entry in RAM. The first byte chooses the rest: an initrd, a command line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hypervisor-glue/boot.h"
#include "hypervisor-glue/layout.h"

#define RAM (8 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_memory *ram_create(void)
{
	struct guest_memory *memory;

	if (guest_memory_create(&memory, NULL) || guest_memory_add_ram(memory, 0, RAM, NULL))
		abort();
	return memory;
}

static int initrd_create(void)
{
	int fd = memfd_create("initrd", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 5000))
		abort();
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory *memory;
	static int initrd_fd;
	struct boot_source source = { .kernel = "input", .initrd = "initrd", .rsdp_gpa = 0xe0000 };
	struct vm_entry entry;
	struct error e = { 0 };
	uint8_t choice;

	if (!memory) {
		memory = ram_create();
		initrd_fd = initrd_create();
	}
	if (!size)
		return 0;
	choice = data[0];
	source.cmdline = choice & 1 ? "console=ttyS0" : NULL;
	if (boot_load_image(data + 1, size - 1, choice & 2 ? initrd_fd : -1, &source, memory,
			    &entry, &e)) {
		if (!e.code || !e.text[0] || e.err <= 0)
			abort();
	} else if (entry.rip < LAYOUT_KERNEL || !guest_memory_ptr(memory, entry.rip, 1)) {
		abort();
	}
	return 0;
}
