/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the boot protocols share inside this folder: a kernel image whose every read is checked, the
 * initrd, and the low-memory structures. boot.h is the public face.
 */
#ifndef GLUE_BOOT_PRIVATE_H
#define GLUE_BOOT_PRIVATE_H

#include "hypervisor-glue/boot.h"

/* A kernel image: a file, or bytes in memory. Both are borrowed. */
struct boot_image {
	const char *name; /* for messages */
	int fd;		  /* -1: @bytes */
	const uint8_t *bytes;
	uint64_t size;
};

/*
 * boot_image_read() - @count bytes at @offset straight into @to (guest RAM, mostly).
 * Returns 0, or "kernel-truncated" when the image does not have them, saying that it was @what.
 */
int boot_image_read(const struct boot_image *image, uint64_t offset, void *to, uint64_t count,
		    const char *what, struct error *e);

struct boot_initrd {
	uint64_t gpa, size; /* size 0: there is none */
};

/*
 * boot_initrd_load() - read the initrd to the highest page-aligned place in the bank of low RAM.
 * @fd: borrowed; -1 for none, which is no error
 * @lowest: first address that the kernel leaves free
 * @last: last address that the kernel can reach
 *
 * Errors: "initrd-missing" (unreadable or empty), "memory-too-small".
 */
int boot_initrd_load(int fd, const struct boot_source *source, const struct guest_memory *memory,
		     uint64_t lowest, uint64_t last, struct boot_initrd *initrd, struct error *e);

/*
 * boot_cmdline_load() - the command line, NUL-terminated, to LAYOUT_CMDLINE.
 * @limit: what the kernel takes, without the NUL
 */
int boot_cmdline_load(const struct boot_source *source, const struct guest_memory *memory,
		      uint64_t limit, struct error *e);

/* boot_ram() - guest_memory_ptr() or "memory-too-small" that names @what. */
void *boot_ram(const struct guest_memory *memory, uint64_t gpa, uint64_t size, const char *what,
	       struct error *e);

/* The two protocols; each takes an image that has its magic. */
int boot_bzimage(const struct boot_image *image, int initrd_fd, const struct boot_source *source,
		 const struct guest_memory *memory, struct vm_entry *entry, struct error *e);
int boot_elf(const struct boot_image *image, int initrd_fd, const struct boot_source *source,
	     const struct guest_memory *memory, struct vm_entry *entry, struct error *e);

#endif
