// SPDX-License-Identifier: Apache-2.0
/*
 * Booting, what both protocols share: the files, the memory map, the initrd and the command line.
 * The protocols themselves are boot_bzimage.c and boot_elf.c.
 *
 * Relies on guest_memory for bounds: nothing is written to RAM but through boot_ram(). Bytes go
 * from the file into guest memory by pread(2), never through a buffer.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hypervisor-glue/boot_private.h"
#include "hypervisor-glue/layout.h"

#define PAGE_SIZE     UINT64_C(4096)
#define BZIMAGE_MAGIC 0x202 /* "HdrS", boot.rst */

enum {
	RANGE_RAM = 1,
	RANGE_RESERVED = 2
};

/* What is no RAM whatever the banks say. Linux wants ECAM here or it does not trust MCFG. */
static const struct boot_range fixed_ranges[] = {
	{ LAYOUT_EBDA, UINT64_C(0xa0000) - LAYOUT_EBDA, RANGE_RESERVED },
	{ LAYOUT_ACPI, LAYOUT_KERNEL - LAYOUT_ACPI, RANGE_RESERVED },
	{ LAYOUT_ECAM_START, LAYOUT_ECAM_SIZE, RANGE_RESERVED },
	{ LAYOUT_IDENTITY_MAP, 4 * PAGE_SIZE, RANGE_RESERVED },
};

static void range_add(struct boot_range *ranges, unsigned max, unsigned *count, uint64_t start,
		      uint64_t end, uint32_t type)
{
	unsigned i = *count;

	if (start >= end || *count == max)
		return;
	for (; i > 0 && ranges[i - 1].start > start; i--)
		ranges[i] = ranges[i - 1];
	ranges[i] = (struct boot_range){ start, end - start, type };
	++*count;
}

unsigned boot_memory_map(const struct guest_memory *memory, struct boot_range *ranges, unsigned max)
{
	const struct memory_bank *bank;
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(fixed_ranges); i++)
		range_add(ranges, max, &count, fixed_ranges[i].start,
			  fixed_ranges[i].start + fixed_ranges[i].size, fixed_ranges[i].type);
	for (unsigned i = 0; (bank = guest_memory_bank(memory, i)); i++) {
		uint64_t end = bank->gpa + bank->size;

		if (bank->kind != MEMORY_BANK_RAM)
			continue;
		/* The hole from 0x9fc00 to 1 MiB is the PC's, though there is RAM under it. */
		range_add(ranges, max, &count, bank->gpa, MIN(end, LAYOUT_EBDA), RANGE_RAM);
		range_add(ranges, max, &count, MAX(bank->gpa, LAYOUT_KERNEL), end, RANGE_RAM);
	}
	return count;
}

int boot_image_read(const struct boot_image *image, uint64_t offset, void *to, uint64_t count,
		    const char *what, struct error *e)
{
	int err = 0;

	if (offset > image->size || count > image->size - offset)
		return error_set(e, EINVAL, "kernel-truncated",
				 "compare the file with its origin, then copy it again",
				 "%s: %s needs bytes %llu to %llu, the file has %llu", image->name,
				 what, (unsigned long long)offset,
				 (unsigned long long)(offset + count),
				 (unsigned long long)image->size);
	if (image->fd < 0)
		memcpy(to, image->bytes + offset, count);
	else
		err = pread_full(image->fd, to, count, offset);
	if (err)
		return error_set(e, -err, "kernel-truncated", NULL, "%s: reading %s: %s",
				 image->name, what, strerror(-err));
	return 0;
}

void *boot_ram(const struct guest_memory *memory, uint64_t gpa, uint64_t size, const char *what,
	       struct error *e)
{
	void *p = guest_memory_ptr(memory, gpa, size);

	if (!p)
		error_set(e, ENOMEM, "memory-too-small", "give the guest more with --memory",
			  "%s needs %llu KiB of RAM at 0x%llx, which the guest does not have", what,
			  (unsigned long long)(size / KIB + !!(size % KIB)),
			  (unsigned long long)gpa);
	return p;
}

/* End of the bank that holds the kernel; 0 when there is none. */
static uint64_t low_ram_end(const struct guest_memory *memory)
{
	const struct memory_bank *bank;

	for (unsigned i = 0; (bank = guest_memory_bank(memory, i)); i++)
		if (bank->kind == MEMORY_BANK_RAM && bank->gpa <= LAYOUT_KERNEL &&
		    bank->gpa + bank->size > LAYOUT_KERNEL)
			return bank->gpa + bank->size;
	return 0;
}

int boot_initrd_load(int fd, const struct boot_source *source, const struct guest_memory *memory,
		     uint64_t lowest, uint64_t last, struct boot_initrd *initrd, struct error *e)
{
	const char *name = source->initrd ? source->initrd : "initrd";
	uint64_t end = low_ram_end(memory);
	struct stat st;
	int err;
	void *ram;

	*initrd = (struct boot_initrd){ 0 };
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return error_set(e, errno, "initrd-missing", NULL, "%s: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return error_set(e, EINVAL, "initrd-missing", NULL, "%s: %s", name,
				 S_ISREG(st.st_mode) ? "the file is empty" : "not a regular file");
	initrd->size = (uint64_t)st.st_size;
	lowest = ALIGN_UP(lowest, PAGE_SIZE);
	if (end - 1 > last)
		end = last + 1;
	if (end < lowest || initrd->size > end - lowest ||
	    ALIGN_DOWN(end - initrd->size, PAGE_SIZE) < lowest)
		return error_set(e, ENOMEM, "memory-too-small", "give the guest more with --memory",
				 "%s: %llu KiB do not fit between the kernel's end at 0x%llx and "
				 "0x%llx",
				 name, (unsigned long long)(initrd->size / KIB),
				 (unsigned long long)lowest, (unsigned long long)end);
	initrd->gpa = ALIGN_DOWN(end - initrd->size, PAGE_SIZE);
	ram = boot_ram(memory, initrd->gpa, initrd->size, name, e);
	if (!ram)
		return -ENOMEM;
	err = pread_full(fd, ram, initrd->size, 0);
	if (err)
		return error_set(e, -err, "initrd-missing", NULL, "%s: reading it: %s", name,
				 strerror(-err));
	return 0;
}

int boot_cmdline_load(const struct boot_source *source, const struct guest_memory *memory,
		      uint64_t limit, struct error *e)
{
	const char *text = source->cmdline ? source->cmdline : "";
	uint64_t length = strlen(text);
	char *ram;

	limit = MIN(limit, 64 * KIB - 1);
	if (length > limit)
		return error_set(e, E2BIG, "cmdline-too-long", "shorten --cmdline",
				 "the command line has %llu bytes, this kernel takes %llu",
				 (unsigned long long)length, (unsigned long long)limit);
	ram = boot_ram(memory, LAYOUT_CMDLINE, length + 1, "the command line", e);
	if (!ram)
		return -ENOMEM;
	memcpy(ram, text, length + 1);
	return 0;
}

static int image_boot(const struct boot_image *image, int initrd_fd,
		      const struct boot_source *source, const struct guest_memory *memory,
		      struct vm_entry *entry, struct error *e)
{
	uint8_t magic[4];

	memset(entry, 0, sizeof(*entry));
	if (image->size >= sizeof(magic)) {
		int err = boot_image_read(image, 0, magic, sizeof(magic), "the ELF magic", e);

		if (err)
			return err;
		if (!memcmp(magic, ELFMAG, SELFMAG))
			return boot_elf(image, initrd_fd, source, memory, entry, e);
	}
	if (image->size >= BZIMAGE_MAGIC + sizeof(magic)) {
		int err = boot_image_read(image, BZIMAGE_MAGIC, magic, sizeof(magic),
					  "the boot protocol magic", e);

		if (err)
			return err;
		if (!memcmp(magic, "HdrS", 4))
			return boot_bzimage(image, initrd_fd, source, memory, entry, e);
	}
	return error_set(
		e, ENOEXEC, "not-a-kernel",
		"give a bzImage (/boot/vmlinuz-*) or a PVH ELF kernel with --kernel",
		"%s: neither \"HdrS\" at 0x202 (bzImage) nor ELF magic at 0, in %llu bytes",
		image->name, (unsigned long long)image->size);
}

int boot_load_image(const void *image, size_t size, int initrd_fd, const struct boot_source *source,
		    const struct guest_memory *memory, struct vm_entry *entry, struct error *e)
{
	const struct boot_image bytes = {
		.name = source->kernel ? source->kernel : "kernel image",
		.fd = -1,
		.bytes = image,
		.size = size,
	};

	return image_boot(&bytes, initrd_fd, source, memory, entry, e);
}

/* O_NONBLOCK: a FIFO named by mistake must not hang the start. */
static int file_open(const char *path, const char *code, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? error_set(e, errno, code, NULL, "%s: %s", path, strerror(errno)) : fd;
}

int boot_open(const struct boot_source *source, struct boot_files *files, struct error *e)
{
	struct stat st;
	int err = 0;

	files->initrd = -1;
	files->kernel = file_open(source->kernel, "kernel-missing", e);
	if (files->kernel < 0)
		return files->kernel;
	if (fstat(files->kernel, &st) < 0)
		err = error_set(e, errno, "kernel-missing", NULL, "%s: %s", source->kernel,
				strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err = error_set(e, ENOEXEC, "not-a-kernel", NULL, "%s: not a regular file",
				source->kernel);
	else if (source->initrd)
		err = files->initrd = file_open(source->initrd, "initrd-missing", e);
	if (err < 0)
		boot_close(files);
	return MIN(err, 0);
}

void boot_close(struct boot_files *files)
{
	fd_close(&files->initrd);
	fd_close(&files->kernel);
}

int boot_load(const struct boot_source *source, const struct boot_files *files,
	      const struct guest_memory *memory, struct vm_entry *entry, struct error *e)
{
	struct boot_image image = { .name = source->kernel, .fd = files->kernel };
	struct stat st;

	if (fstat(image.fd, &st) < 0)
		return error_set(e, errno, "kernel-missing", NULL, "%s: %s", source->kernel,
				 strerror(errno));
	image.size = (uint64_t)st.st_size;
	return image_boot(&image, files->initrd, source, memory, entry, e);
}
