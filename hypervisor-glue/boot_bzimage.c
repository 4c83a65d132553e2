// SPDX-License-Identifier: Apache-2.0
/*
 * The Linux x86 boot protocol, 64-bit entry: Documentation/arch/x86/boot.rst ("The 64-bit Boot
 * Protocol"), Documentation/arch/x86/zero-page.rst.
 *
 * The header is copied once out of the untrusted file and checked; from then on only the copy is
 * used. The kernel goes to the address it prefers, where it need not move itself.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <asm/bootparam.h>

#include "hypervisor-glue/boot_private.h"
#include "hypervisor-glue/layout.h"

#define SECTOR		512
#define HEADER_START	0x1f1 /* setup_header in the file and in the zero page */
#define HEADER_MAGIC	0x202 /* where the jump's displacement counts from */
#define HEADER_NEEDED	(offsetof(struct setup_header, init_size) + 4)
#define PROTOCOL_NEEDED 0x20c
#define ENTRY_64	0x200 /* from the start of the protected-mode code */
#define LOADER_UNKNOWN	0xff

static int header_read(const struct boot_image *image, struct setup_header *header, struct error *e)
{
	uint8_t displacement;
	size_t length;
	int err;

	memset(header, 0, sizeof(*header));
	err = boot_image_read(image, HEADER_MAGIC - 1, &displacement, 1, "the setup header", e);
	if (err)
		return err;
	/* The header ends where the jump at 0x200 lands; newer ones are longer than we know. */
	length = MIN(sizeof(*header), (size_t)(HEADER_MAGIC - HEADER_START) + displacement);
	err = boot_image_read(image, HEADER_START, header, length, "the setup header", e);
	if (err)
		return err;
	if (header->version < PROTOCOL_NEEDED || length < HEADER_NEEDED ||
	    !(header->xloadflags & XLF_KERNEL_64) || !(header->loadflags & LOADED_HIGH))
		return error_set(
			e, ENOTSUP, "kernel-too-old", "use an x86-64 kernel of 3.8 or later",
			"%s: boot protocol %u.%02u%s; the 64-bit entry of 2.12 is needed",
			image->name, header->version >> 8, header->version & 0xff,
			header->xloadflags & XLF_KERNEL_64 ? "" : " without a 64-bit entry");
	return 0;
}

/* Where the protected-mode code goes: preferred, else the lowest aligned place. */
static int kernel_place(const struct boot_image *image, const struct setup_header *header,
			const struct guest_memory *memory, uint64_t size, uint64_t *gpa,
			struct error *e)
{
	uint64_t alignment = header->kernel_alignment;
	uint64_t preferred = header->pref_address;

	*gpa = preferred;
	if (preferred >= LAYOUT_KERNEL && preferred < LAYOUT_RAM_LOW_END &&
	    guest_memory_ptr(memory, preferred, size))
		return 0;
	if (!header->relocatable_kernel || !alignment || (alignment & (alignment - 1)) ||
	    alignment > GIB)
		return error_set(e, ENOMEM, "memory-too-small", "give the guest more with --memory",
				 "%s: needs %llu KiB of RAM at 0x%llx and cannot be moved",
				 image->name, (unsigned long long)(size / KIB),
				 (unsigned long long)preferred);
	*gpa = ALIGN_UP(LAYOUT_KERNEL, alignment);
	return boot_ram(memory, *gpa, size, image->name, e) ? 0 : -ENOMEM;
}

static void e820_fill(struct boot_params *zero_page, const struct guest_memory *memory)
{
	struct boot_range ranges[E820_MAX_ENTRIES_ZEROPAGE];
	unsigned count = boot_memory_map(memory, ranges, ARRAY_SIZE(ranges));

	for (unsigned i = 0; i < count; i++) {
		zero_page->e820_table[i].addr = ranges[i].start;
		zero_page->e820_table[i].size = ranges[i].size;
		zero_page->e820_table[i].type = ranges[i].type;
	}
	zero_page->e820_entries = (uint8_t)count;
}

int boot_bzimage(const struct boot_image *image, int initrd_fd, const struct boot_source *source,
		 const struct guest_memory *memory, struct vm_entry *entry, struct error *e)
{
	struct boot_initrd initrd;
	struct setup_header header;
	struct boot_params *zero_page;
	uint64_t setup, code, gpa, need;
	int err;

	err = header_read(image, &header, e);
	if (err)
		return err;
	setup = ((header.setup_sects ? header.setup_sects : 4) + UINT64_C(1)) * SECTOR;
	code = (uint64_t)header.syssize * 16;
	if (code <= ENTRY_64)
		return error_set(e, ENOEXEC, "not-a-kernel", NULL,
				 "%s: its header names %llu bytes of kernel", image->name,
				 (unsigned long long)code);
	need = MAX((uint64_t)header.init_size, code);
	err = kernel_place(image, &header, memory, need, &gpa, e);
	if (err)
		return err;
	err = boot_image_read(image, setup, guest_memory_ptr(memory, gpa, code), code, "the kernel",
			      e);
	if (err)
		return err;
	err = boot_initrd_load(initrd_fd, source, memory, gpa + need, header.initrd_addr_max,
			       &initrd, e);
	if (err)
		return err;
	err = boot_cmdline_load(source, memory, header.cmdline_size, e);
	if (err)
		return err;

	zero_page = boot_ram(memory, LAYOUT_ZERO_PAGE, sizeof(*zero_page), "the zero page", e);
	if (!zero_page)
		return -ENOMEM;
	memset(zero_page, 0, sizeof(*zero_page));
	header.type_of_loader = LOADER_UNKNOWN;
	header.code32_start = (uint32_t)gpa;
	header.cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
	header.ramdisk_image = (uint32_t)initrd.gpa;
	header.ramdisk_size = (uint32_t)initrd.size;
	/* A list of our own would go here; what the file says points nowhere. */
	header.setup_data = 0;
	zero_page->hdr = header;
	zero_page->acpi_rsdp_addr = source->rsdp_gpa;
	e820_fill(zero_page, memory);

	entry->long_mode = true;
	entry->rip = gpa + ENTRY_64;
	entry->rsp = LAYOUT_BOOT_STACK;
	entry->rsi = LAYOUT_ZERO_PAGE;
	entry->cr3 = LAYOUT_PAGE_TABLES;
	return 0;
}
