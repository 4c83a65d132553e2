/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot: put a kernel, its initrd and command line into guest RAM and say where vCPU 0 starts.
 *
 * bzImage follows Documentation/arch/x86/boot.rst (64-bit protocol, >= 2.12); ELF follows the PVH
 * boot ABI (Xen docs/misc/pvh.pandoc; include/xen/interface/hvm/start_info.h). A kernel file is
 * untrusted input: every length is checked against the file and against RAM before it is used.
 */
#ifndef GLUE_BOOT_H
#define GLUE_BOOT_H

#include "base/base.h"
#include "hypervisor-glue/vm.h"

struct boot_source {
	const char *kernel, *initrd, *cmdline; /* initrd and cmdline may be NULL */
	uint64_t rsdp_gpa;		       /* 0: no ACPI */
};

/* One e820 / hvm_memmap entry; both protocols use the same types (1 RAM, 2 reserved, 3 ACPI). */
struct boot_range {
	uint64_t start, size;
	uint32_t type;
};
/* boot_memory_map() - fills up to @max ranges from the banks and layout.h; returns how many. */
unsigned boot_memory_map(const struct guest_memory *memory, struct boot_range *ranges,
			 unsigned max);

/* The files of a boot, kept open: a guest that resets is loaded again, by then with no paths. */
struct boot_files {
	int kernel, initrd; /* owned; -1: none */
};
/*
 * boot_open() - errors: "kernel-missing", "not-a-kernel" (no regular file), "initrd-missing"; then
 * nothing is open.
 */
int boot_open(const struct boot_source *source, struct boot_files *files, struct error *e);
void boot_close(struct boot_files *files);

/*
 * boot_load() - errors: "kernel-missing", "not-a-kernel", "kernel-truncated", "kernel-too-old",
 * "no-pvh-entry", "initrd-missing", "cmdline-too-long", "memory-too-small".
 * @source: for what is no file, and for names in messages
 */
int boot_load(const struct boot_source *source, const struct boot_files *files,
	      const struct guest_memory *memory, struct vm_entry *entry, struct error *e);

/*
 * boot_load_image() - the same over a kernel image in memory (for fuzzing and tests); @initrd_fd -1
 * for none.
 */
int boot_load_image(const void *image, size_t size, int initrd_fd, const struct boot_source *source,
		    const struct guest_memory *memory, struct vm_entry *entry, struct error *e);

#endif
