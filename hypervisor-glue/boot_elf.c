// SPDX-License-Identifier: Apache-2.0
/*
 * The PVH boot ABI: an ELF kernel whose note of type PHYS32_ENTRY names its 32-bit entry, which is
 * given a struct hvm_start_info in ebx (Xen docs/misc/pvh.pandoc; layout of version 1 as in
 * include/xen/interface/hvm/start_info.h).
 *
 * The file is untrusted: 32-bit and 64-bit program headers are brought into one form, and each is
 * checked against the file and against RAM before a byte of it is loaded.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "hypervisor-glue/boot_private.h"
#include "hypervisor-glue/layout.h"

#define PROGRAM_HEADERS_MAX 64 /* kernels have about five */
#define NOTES_MAX	    64 /* looked at in one segment */

#define XEN_NOTE_NAME	      "Xen" /* with its NUL */
#define XEN_NOTE_PHYS32_ENTRY 18

#define START_INFO_MAGIC 0x336ec578u

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules_gpa, cmdline_gpa, rsdp_gpa, memory_map_gpa;
	uint32_t memory_map_count, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info version 1");

struct start_module {
	uint64_t gpa, size, cmdline_gpa, reserved;
};

struct start_range {
	uint64_t start, size;
	uint32_t type, reserved;
};

/* All of it in the page at LAYOUT_PVH_START. */
#define START_RANGES_MAX 128
struct start_page {
	struct start_info info;
	struct start_module initrd;
	struct start_range ranges[START_RANGES_MAX];
};
_Static_assert(sizeof(struct start_page) <= LAYOUT_ZERO_PAGE - LAYOUT_PVH_START, "one page");

struct program {
	unsigned count;
	Elf64_Phdr headers[PROGRAM_HEADERS_MAX];
};

static int not_a_kernel(const struct boot_image *image, const char *why, struct error *e)
{
	return error_set(e, ENOEXEC, "not-a-kernel",
			 "give a bzImage (/boot/vmlinuz-*) or a PVH ELF kernel with --kernel",
			 "%s: %s", image->name, why);
}

static int headers_read_64(const struct boot_image *image, struct program *program, struct error *e)
{
	Elf64_Ehdr elf;
	int err = boot_image_read(image, 0, &elf, sizeof(elf), "the ELF header", e);

	if (err)
		return err;
	if (elf.e_machine != EM_X86_64 || elf.e_type != ET_EXEC)
		return not_a_kernel(image, "an ELF file, but no x86-64 executable", e);
	if (elf.e_phentsize != sizeof(Elf64_Phdr) || !elf.e_phnum ||
	    elf.e_phnum > PROGRAM_HEADERS_MAX)
		return not_a_kernel(image, "its program headers have an unknown form", e);
	program->count = elf.e_phnum;
	return boot_image_read(image, elf.e_phoff, program->headers,
			       program->count * sizeof(Elf64_Phdr), "the program headers", e);
}

static int headers_read_32(const struct boot_image *image, struct program *program, struct error *e)
{
	Elf32_Phdr narrow[PROGRAM_HEADERS_MAX];
	Elf32_Ehdr elf;
	int err = boot_image_read(image, 0, &elf, sizeof(elf), "the ELF header", e);

	if (err)
		return err;
	if (elf.e_machine != EM_386 || elf.e_type != ET_EXEC)
		return not_a_kernel(image, "an ELF file, but no x86 executable", e);
	if (elf.e_phentsize != sizeof(Elf32_Phdr) || !elf.e_phnum ||
	    elf.e_phnum > PROGRAM_HEADERS_MAX)
		return not_a_kernel(image, "its program headers have an unknown form", e);
	program->count = elf.e_phnum;
	err = boot_image_read(image, elf.e_phoff, narrow, program->count * sizeof(Elf32_Phdr),
			      "the program headers", e);
	if (err)
		return err;
	for (unsigned i = 0; i < program->count; i++)
		program->headers[i] = (Elf64_Phdr){
			.p_type = narrow[i].p_type,
			.p_offset = narrow[i].p_offset,
			.p_paddr = narrow[i].p_paddr,
			.p_filesz = narrow[i].p_filesz,
			.p_memsz = narrow[i].p_memsz,
			.p_align = narrow[i].p_align,
		};
	return 0;
}

static int headers_read(const struct boot_image *image, struct program *program, struct error *e)
{
	uint8_t ident[EI_NIDENT];
	int err = boot_image_read(image, 0, ident, sizeof(ident), "the ELF header", e);

	if (err)
		return err;
	if (ident[EI_DATA] != ELFDATA2LSB)
		return not_a_kernel(image, "an ELF file, but not little-endian", e);
	if (ident[EI_CLASS] == ELFCLASS64)
		return headers_read_64(image, program, e);
	if (ident[EI_CLASS] == ELFCLASS32)
		return headers_read_32(image, program, e);
	return not_a_kernel(image, "an ELF file of an unknown class", e);
}

/* Looks for the entry in one PT_NOTE segment; @found says whether it was there. */
static int notes_search(const struct boot_image *image, const Elf64_Phdr *segment, bool *found,
			uint64_t *entry, struct error *e)
{
	/* gABI: names and descriptors are padded to the segment's alignment, 4 or 8. */
	uint64_t alignment = segment->p_align == 8 ? 8 : 4;
	uint64_t offset = 0;
	int err;

	if (segment->p_offset > image->size || segment->p_filesz > image->size - segment->p_offset)
		return boot_image_read(image, segment->p_offset, NULL, segment->p_filesz,
				       "a note segment", e);
	for (unsigned i = 0; i < NOTES_MAX; i++) {
		char name[sizeof(XEN_NOTE_NAME)];
		uint64_t name_at, value_at, next;
		Elf64_Nhdr note;

		if (segment->p_filesz - offset < sizeof(note))
			return 0;
		err = boot_image_read(image, segment->p_offset + offset, &note, sizeof(note),
				      "a note", e);
		if (err)
			return err;
		/* All sums stay far below 2^64: sizes have 32 bits, offsets are within the file. */
		name_at = offset + sizeof(note);
		value_at = ALIGN_UP(name_at + note.n_namesz, alignment);
		next = ALIGN_UP(value_at + note.n_descsz, alignment);
		if (value_at + note.n_descsz > segment->p_filesz)
			return not_a_kernel(image, "a note is longer than its segment", e);
		if (note.n_type == XEN_NOTE_PHYS32_ENTRY && note.n_namesz == sizeof(name) &&
		    (note.n_descsz == 4 || note.n_descsz == 8)) {
			*entry = 0;
			err = boot_image_read(image, segment->p_offset + name_at, name,
					      sizeof(name), "a note", e);
			if (!err)
				err = boot_image_read(image, segment->p_offset + value_at, entry,
						      note.n_descsz, "a note", e);
			if (err)
				return err;
			*found = !memcmp(name, XEN_NOTE_NAME, sizeof(name));
			if (*found)
				return 0;
		}
		if (next >= segment->p_filesz)
			return 0;
		offset = next;
	}
	return 0;
}

static int entry_find(const struct boot_image *image, const struct program *program,
		      uint64_t *entry, struct error *e)
{
	bool found = false;

	for (unsigned i = 0; i < program->count && !found; i++) {
		int err;

		if (program->headers[i].p_type != PT_NOTE)
			continue;
		err = notes_search(image, &program->headers[i], &found, entry, e);
		if (err)
			return err;
	}
	if (!found)
		return error_set(e, ENOEXEC, "no-pvh-entry",
				 "use a kernel built with CONFIG_PVH=y, or its bzImage",
				 "%s: an ELF kernel without a PHYS32_ENTRY note", image->name);
	for (unsigned i = 0; i < program->count; i++) {
		const Elf64_Phdr *segment = &program->headers[i];

		if (segment->p_type == PT_LOAD && *entry >= segment->p_paddr &&
		    *entry - segment->p_paddr < segment->p_filesz && *entry <= UINT32_MAX)
			return 0;
	}
	return error_set(e, ENOEXEC, "no-pvh-entry", NULL,
			 "%s: its PHYS32_ENTRY note names 0x%llx, which no segment loads",
			 image->name, (unsigned long long)*entry);
}

static int segments_load(const struct boot_image *image, const struct program *program,
			 const struct guest_memory *memory, uint64_t *end, struct error *e)
{
	*end = LAYOUT_KERNEL;
	for (unsigned i = 0; i < program->count; i++) {
		const Elf64_Phdr *segment = &program->headers[i];
		uint8_t *ram;
		int err;

		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_filesz > segment->p_memsz)
			return not_a_kernel(image,
					    "a segment has more bytes in the file than in "
					    "memory",
					    e);
		if (!segment->p_memsz)
			continue;
		/* Below are the structures that the kernel is given. */
		if (segment->p_paddr < LAYOUT_KERNEL)
			return not_a_kernel(image, "a segment wants to be below 1 MiB", e);
		ram = boot_ram(memory, segment->p_paddr, segment->p_memsz, image->name, e);
		if (!ram)
			return -ENOMEM;
		err = boot_image_read(image, segment->p_offset, ram, segment->p_filesz, "a segment",
				      e);
		if (err)
			return err;
		/* RAM is not fresh after a reset of the guest. */
		memset(ram + segment->p_filesz, 0, segment->p_memsz - segment->p_filesz);
		*end = MAX(*end, segment->p_paddr + segment->p_memsz);
	}
	return 0;
}

static void ranges_fill(struct start_page *page, const struct guest_memory *memory)
{
	struct boot_range ranges[START_RANGES_MAX];
	unsigned count = boot_memory_map(memory, ranges, ARRAY_SIZE(ranges));

	for (unsigned i = 0; i < count; i++)
		page->ranges[i] = (struct start_range){
			.start = ranges[i].start,
			.size = ranges[i].size,
			.type = ranges[i].type,
		};
	page->info.memory_map_count = count;
	page->info.memory_map_gpa = LAYOUT_PVH_START + offsetof(struct start_page, ranges);
}

int boot_elf(const struct boot_image *image, int initrd_fd, const struct boot_source *source,
	     const struct guest_memory *memory, struct vm_entry *entry, struct error *e)
{
	struct boot_initrd initrd;
	struct program program = { 0 };
	struct start_page *page;
	uint64_t rip = 0, end = 0;
	int err;

	err = headers_read(image, &program, e);
	if (err)
		return err;
	err = entry_find(image, &program, &rip, e);
	if (err)
		return err;
	err = segments_load(image, &program, memory, &end, e);
	if (err)
		return err;
	err = boot_initrd_load(initrd_fd, source, memory, end, UINT32_MAX, &initrd, e);
	if (err)
		return err;
	err = boot_cmdline_load(source, memory, UINT64_MAX, e);
	if (err)
		return err;

	page = boot_ram(memory, LAYOUT_PVH_START, sizeof(*page), "the PVH start information", e);
	if (!page)
		return -ENOMEM;
	memset(page, 0, sizeof(*page));
	page->info.magic = START_INFO_MAGIC;
	page->info.version = 1;
	page->info.cmdline_gpa = LAYOUT_CMDLINE;
	page->info.rsdp_gpa = source->rsdp_gpa;
	if (initrd.size) {
		page->info.module_count = 1;
		page->info.modules_gpa = LAYOUT_PVH_START + offsetof(struct start_page, initrd);
		page->initrd.gpa = initrd.gpa;
		page->initrd.size = initrd.size;
	}
	ranges_fill(page, memory);

	entry->long_mode = false;
	entry->rip = rip;
	entry->rsp = LAYOUT_BOOT_STACK;
	entry->rbx = LAYOUT_PVH_START;
	return 0;
}
