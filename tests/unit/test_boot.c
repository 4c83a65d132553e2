// SPDX-License-Identifier: Apache-2.0
/* Loading kernels: what a good file puts where, and what each way of being bad is called. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <asm/bootparam.h>

#include <cmocka.h>

#include "hypervisor-glue/boot.h"
#include "hypervisor-glue/layout.h"

#define IMAGE_SIZE 8192u
#define SETUP	   1024u /* one setup sector and the boot sector */
#define CODE	   4096u
#define ENTRY	   (16 * MIB)
#define RAM	   (64 * MIB)

struct fixture {
	struct guest_memory *memory;
	struct vm_entry entry;
	struct error e;
	uint8_t image[IMAGE_SIZE];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || guest_memory_create(&f->memory, &f->e) ||
	    guest_memory_add_ram(f->memory, 0, RAM, &f->e))
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_memory_destroy(f->memory);
	free(f);
	return 0;
}

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static struct setup_header *header_of(struct fixture *f)
{
	return (struct setup_header *)(f->image + 0x1f1);
}

/* A bzImage as small as one can be. */
static size_t make_bzimage(struct fixture *f)
{
	struct setup_header *header = header_of(f);

	memset(f->image, 0, sizeof(f->image));
	header->setup_sects = 1;
	header->syssize = CODE / 16;
	header->jump = 0x6aeb; /* to 0x26c */
	memcpy(&header->header, "HdrS", 4);
	header->version = 0x20f;
	header->loadflags = LOADED_HIGH;
	header->xloadflags = XLF_KERNEL_64;
	header->initrd_addr_max = 0x7fffffff;
	header->kernel_alignment = 2 * MIB;
	header->relocatable_kernel = 1;
	header->cmdline_size = 255;
	header->pref_address = ENTRY;
	header->init_size = 3 * MIB;
	for (unsigned i = 0; i < CODE; i++)
		f->image[SETUP + i] = (uint8_t)(i * 7);
	return SETUP + CODE;
}

struct small_elf {
	Elf64_Ehdr elf;
	Elf64_Phdr load, note;
	Elf64_Nhdr note_header;
	char note_name[4];
	uint32_t note_entry, pad;
	uint8_t code[256];
};

static struct small_elf *elf_of(struct fixture *f)
{
	return (struct small_elf *)f->image;
}

static size_t make_elf(struct fixture *f)
{
	struct small_elf *s = elf_of(f);

	memset(f->image, 0, sizeof(f->image));
	memcpy(s->elf.e_ident, ELFMAG, SELFMAG);
	s->elf.e_ident[EI_CLASS] = ELFCLASS64;
	s->elf.e_ident[EI_DATA] = ELFDATA2LSB;
	s->elf.e_type = ET_EXEC;
	s->elf.e_machine = EM_X86_64;
	s->elf.e_phoff = offsetof(struct small_elf, load);
	s->elf.e_phentsize = sizeof(Elf64_Phdr);
	s->elf.e_phnum = 2;
	s->load.p_type = PT_LOAD;
	s->load.p_offset = offsetof(struct small_elf, code);
	s->load.p_paddr = MIB;
	s->load.p_filesz = sizeof(s->code);
	s->load.p_memsz = 4096;
	s->note.p_type = PT_NOTE;
	s->note.p_offset = offsetof(struct small_elf, note_header);
	s->note.p_filesz = sizeof(Elf64_Nhdr) + 8;
	s->note.p_align = 4;
	s->note_header.n_namesz = 4;
	s->note_header.n_descsz = 4;
	s->note_header.n_type = 18;
	memcpy(s->note_name, "Xen", 4);
	s->note_entry = MIB + 16;
	memset(s->code, 0xc3, sizeof(s->code));
	return sizeof(*s);
}

static int load(struct fixture *f, size_t size, const struct boot_source *source)
{
	static const struct boot_source none = { 0 };

	return boot_load_image(f->image, size, -1, source ? source : &none, f->memory, &f->entry,
			       &f->e);
}

static void expect_code(struct fixture *f, int err, const char *code)
{
	assert_true(err < 0);
	assert_string_equal(f->e.code, code);
	assert_int_equal(f->e.err, -err);
}

static int temporary(const void *bytes, size_t size, char path[32])
{
	int fd;

	strcpy(path, "/tmp/divvy-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), (ssize_t)size);
	return fd;
}

static void memory_map_leaves_the_pc_hole_out(void **state)
{
	struct fixture *f = *state;
	struct boot_range ranges[32];
	unsigned count = boot_memory_map(f->memory, ranges, ARRAY_SIZE(ranges));
	uint64_t ram = 0;

	assert_true(count >= 4 && count <= 32);
	assert_int_equal(ranges[0].start, 0);
	assert_int_equal(ranges[0].size, LAYOUT_EBDA);
	assert_int_equal(ranges[0].type, 1);
	for (unsigned i = 0; i < count; i++) {
		if (i)
			assert_true(ranges[i].start >= ranges[i - 1].start + ranges[i - 1].size);
		if (ranges[i].type == 1)
			ram += ranges[i].size;
	}
	assert_int_equal(ram, RAM - (LAYOUT_KERNEL - LAYOUT_EBDA));
}

static void memory_map_stops_at_what_the_caller_has_room_for(void **state)
{
	struct fixture *f = *state;
	struct boot_range ranges[3];

	memset(ranges, 0x5a, sizeof(ranges));
	assert_int_equal(boot_memory_map(f->memory, ranges, 2), 2);
	assert_int_equal(ranges[2].start, UINT64_C(0x5a5a5a5a5a5a5a5a));
}

static void bzimage_is_loaded_where_it_prefers(void **state)
{
	struct fixture *f = *state;
	const struct boot_source source = { .cmdline = "console=ttyS0", .rsdp_gpa = LAYOUT_ACPI };
	const struct boot_params *zero_page;

	assert_int_equal(load(f, make_bzimage(f), &source), 0);
	assert_true(f->entry.long_mode);
	assert_int_equal(f->entry.rip, ENTRY + 0x200);
	assert_int_equal(f->entry.rsi, LAYOUT_ZERO_PAGE);
	assert_memory_equal(guest_memory_ptr(f->memory, ENTRY, CODE), f->image + SETUP, CODE);
	zero_page = guest_memory_ptr(f->memory, LAYOUT_ZERO_PAGE, sizeof(*zero_page));
	assert_int_equal(zero_page->acpi_rsdp_addr, LAYOUT_ACPI);
	assert_int_equal(zero_page->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	assert_int_equal(zero_page->hdr.type_of_loader, 0xff);
	assert_int_equal(zero_page->hdr.ramdisk_size, 0);
	assert_int_equal(zero_page->sentinel, 0);
	assert_true(zero_page->e820_entries >= 4);
	assert_string_equal(guest_memory_ptr(f->memory, LAYOUT_CMDLINE, 32), "console=ttyS0");
}

static void bzimage_moves_when_its_place_is_no_ram(void **state)
{
	struct fixture *f = *state;
	size_t size = make_bzimage(f);

	header_of(f)->pref_address = 3 * GIB;
	assert_int_equal(load(f, size, NULL), 0);
	assert_int_equal(f->entry.rip, 2 * MIB + 0x200);

	header_of(f)->relocatable_kernel = 0;
	expect_code(f, load(f, size, NULL), "memory-too-small");
}

static void bzimage_with_a_foolish_alignment_is_refused(void **state)
{
	static const uint32_t alignments[] = { 0, 3, 0x80000000u };
	struct fixture *f = *state;
	size_t size = make_bzimage(f);

	header_of(f)->pref_address = 0;
	for (size_t i = 0; i < ARRAY_SIZE(alignments); i++) {
		header_of(f)->kernel_alignment = alignments[i];
		expect_code(f, load(f, size, NULL), "memory-too-small");
	}
}

static void bzimage_that_needs_more_than_ram_is_refused(void **state)
{
	struct fixture *f = *state;
	size_t size = make_bzimage(f);

	header_of(f)->init_size = UINT32_MAX;
	expect_code(f, load(f, size, NULL), "memory-too-small");
}

static void bzimage_truncated_anywhere_is_told(void **state)
{
	struct fixture *f = *state;
	size_t size = make_bzimage(f);

	for (size_t n = 0x206; n < size; n += 37)
		expect_code(f, load(f, n, NULL), "kernel-truncated");
	expect_code(f, load(f, size - 1, NULL), "kernel-truncated");
}

static void bzimage_without_a_64_bit_entry_is_too_old(void **state)
{
	struct fixture *f = *state;
	size_t size = make_bzimage(f);

	header_of(f)->xloadflags = 0;
	expect_code(f, load(f, size, NULL), "kernel-too-old");
	size = make_bzimage(f);
	header_of(f)->version = 0x20b;
	expect_code(f, load(f, size, NULL), "kernel-too-old");
	size = make_bzimage(f);
	header_of(f)->jump = 0x10eb; /* a header that ends before init_size */
	expect_code(f, load(f, size, NULL), "kernel-too-old");
}

static void what_is_no_kernel_is_called_so(void **state)
{
	struct fixture *f = *state;

	memset(f->image, 0xa5, sizeof(f->image));
	expect_code(f, load(f, sizeof(f->image), NULL), "not-a-kernel");
	expect_code(f, load(f, 3, NULL), "not-a-kernel");
	expect_code(f, load(f, 0, NULL), "not-a-kernel");
}

static void cmdline_beyond_the_kernels_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	char text[257];
	const struct boot_source source = { .cmdline = text };
	size_t size = make_bzimage(f);

	memset(text, 'a', sizeof(text));
	text[256] = '\0';
	expect_code(f, load(f, size, &source), "cmdline-too-long");
	text[255] = '\0';
	assert_int_equal(load(f, size, &source), 0);
}

static void initrd_lies_high_and_whole(void **state)
{
	struct fixture *f = *state;
	const struct boot_source source = { .initrd = "initrd" };
	const struct boot_params *zero_page;
	static uint8_t bytes[10000];
	char path[32];
	int fd;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 13);
	fd = temporary(bytes, sizeof(bytes), path);
	assert_int_equal(boot_load_image(f->image, make_bzimage(f), fd, &source, f->memory,
					 &f->entry, &f->e),
			 0);
	zero_page = guest_memory_ptr(f->memory, LAYOUT_ZERO_PAGE, sizeof(*zero_page));
	assert_int_equal(zero_page->hdr.ramdisk_size, sizeof(bytes));
	assert_int_equal(zero_page->hdr.ramdisk_image, RAM - 12288);
	assert_memory_equal(
		guest_memory_ptr(f->memory, zero_page->hdr.ramdisk_image, sizeof(bytes)), bytes,
		sizeof(bytes));

	/* below what the kernel can reach */
	header_of(f)->initrd_addr_max = 32 * MIB - 1;
	assert_int_equal(
		boot_load_image(f->image, SETUP + CODE, fd, &source, f->memory, &f->entry, &f->e),
		0);
	assert_int_equal(zero_page->hdr.ramdisk_image, 32 * MIB - 12288);
	close(fd);
	unlink(path);
}

static void initrd_that_does_not_fit_is_refused(void **state)
{
	struct fixture *f = *state;
	const struct boot_source source = { .initrd = "initrd" };
	char path[32];
	int fd = temporary("x", 1, path);

	assert_int_equal(ftruncate(fd, (off_t)(46 * MIB)), 0);
	/* 64 MiB less 16 and the kernel's 3 are 45. */
	expect_code(f,
		    boot_load_image(f->image, make_bzimage(f), fd, &source, f->memory, &f->entry,
				    &f->e),
		    "memory-too-small");
	assert_int_equal(ftruncate(fd, 0), 0);
	expect_code(
		f,
		boot_load_image(f->image, SETUP + CODE, fd, &source, f->memory, &f->entry, &f->e),
		"initrd-missing");
	close(fd);
	unlink(path);
}

static void elf_gets_start_info_and_a_clean_bss(void **state)
{
	struct fixture *f = *state;
	const struct boot_source source = { .cmdline = "hello", .rsdp_gpa = LAYOUT_ACPI };
	const uint32_t *info;
	const uint8_t *code;
	size_t size = make_elf(f);

	memset(guest_memory_ptr(f->memory, MIB, 4096), 0xee, 4096);
	assert_int_equal(load(f, size, &source), 0);
	assert_false(f->entry.long_mode);
	assert_int_equal(f->entry.rip, MIB + 16);
	assert_int_equal(f->entry.rbx, LAYOUT_PVH_START);
	code = guest_memory_ptr(f->memory, MIB, 4096);
	assert_int_equal(code[0], 0xc3);
	assert_int_equal(code[255], 0xc3);
	for (unsigned i = 256; i < 4096; i++)
		assert_int_equal(code[i], 0);
	info = guest_memory_ptr(f->memory, LAYOUT_PVH_START, 56);
	assert_int_equal(info[0], 0x336ec578);
	assert_int_equal(info[1], 1);
	assert_int_equal(info[3], 0);		      /* modules */
	assert_int_equal(info[6], LAYOUT_CMDLINE);    /* low half */
	assert_int_equal(info[8], LAYOUT_ACPI);	      /* rsdp */
	assert_true(info[12] >= 4 && info[12] < 128); /* memory map */
}

static void elf_of_32_bits_is_a_kernel_too(void **state)
{
	struct fixture *f = *state;
	struct {
		Elf32_Ehdr elf;
		Elf32_Phdr load, note;
		Elf32_Nhdr note_header;
		char name[4];
		uint32_t entry;
	} *s = (void *)f->image;

	memset(f->image, 0, sizeof(f->image));
	memcpy(s->elf.e_ident, ELFMAG, SELFMAG);
	s->elf.e_ident[EI_CLASS] = ELFCLASS32;
	s->elf.e_ident[EI_DATA] = ELFDATA2LSB;
	s->elf.e_type = ET_EXEC;
	s->elf.e_machine = EM_386;
	s->elf.e_phoff = sizeof(s->elf);
	s->elf.e_phentsize = sizeof(Elf32_Phdr);
	s->elf.e_phnum = 2;
	s->load = (Elf32_Phdr){
		.p_type = PT_LOAD, .p_paddr = 2 * MIB, .p_filesz = 64, .p_memsz = 64
	};
	s->note = (Elf32_Phdr){ .p_type = PT_NOTE,
				.p_offset = sizeof(s->elf) + 2 * sizeof(Elf32_Phdr),
				.p_filesz = sizeof(Elf32_Nhdr) + 8 };
	s->note_header = (Elf32_Nhdr){ 4, 4, 18 };
	memcpy(s->name, "Xen", 4);
	s->entry = 2 * MIB;
	assert_int_equal(load(f, sizeof(*s), NULL), 0);
	assert_int_equal(f->entry.rip, 2 * MIB);
}

static void elf_without_a_pvh_note_is_told(void **state)
{
	struct fixture *f = *state;
	size_t size = make_elf(f);

	elf_of(f)->note_header.n_type = 17;
	expect_code(f, load(f, size, NULL), "no-pvh-entry");
	size = make_elf(f);
	memcpy(elf_of(f)->note_name, "GNU", 4);
	expect_code(f, load(f, size, NULL), "no-pvh-entry");
	size = make_elf(f);
	elf_of(f)->note_entry = 5 * MIB; /* nothing is loaded there */
	expect_code(f, load(f, size, NULL), "no-pvh-entry");
}

static void elf_with_lengths_beyond_the_file_is_truncated(void **state)
{
	struct fixture *f = *state;
	size_t size = make_elf(f);

	for (size_t n = 4; n < size; n += 5) {
		int err = load(f, n, NULL);

		assert_true(err < 0);
		assert_string_equal(f->e.code, "kernel-truncated");
	}
	elf_of(f)->load.p_offset = UINT64_MAX - 8;
	expect_code(f, load(f, size, NULL), "kernel-truncated");
	size = make_elf(f);
	elf_of(f)->elf.e_phoff = UINT64_MAX - 8;
	expect_code(f, load(f, size, NULL), "kernel-truncated");
	size = make_elf(f);
	elf_of(f)->note.p_filesz = UINT64_MAX - 8;
	expect_code(f, load(f, size, NULL), "kernel-truncated");
}

static void elf_notes_that_lie_about_their_length_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t size = make_elf(f);

	elf_of(f)->note_header.n_namesz = UINT32_MAX;
	expect_code(f, load(f, size, NULL), "not-a-kernel");
	size = make_elf(f);
	elf_of(f)->note_header.n_descsz = UINT32_MAX;
	expect_code(f, load(f, size, NULL), "not-a-kernel");
}

static void elf_segments_outside_of_ram_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t size = make_elf(f);

	elf_of(f)->load.p_memsz = RAM;
	expect_code(f, load(f, size, NULL), "memory-too-small");
	elf_of(f)->load.p_memsz = UINT64_MAX;
	expect_code(f, load(f, size, NULL), "memory-too-small");
	size = make_elf(f);
	elf_of(f)->load.p_memsz = 1; /* less than in the file */
	expect_code(f, load(f, size, NULL), "not-a-kernel");
	elf_of(f)->load.p_memsz = 0; /* nothing is loaded where the entry is */
	expect_code(f, load(f, size, NULL), "not-a-kernel");
	size = make_elf(f);
	elf_of(f)->load.p_paddr = LAYOUT_CMDLINE;
	elf_of(f)->note_entry = (uint32_t)LAYOUT_CMDLINE;
	expect_code(f, load(f, size, NULL), "not-a-kernel");
}

static void elf_of_another_machine_is_no_kernel(void **state)
{
	struct fixture *f = *state;
	size_t size = make_elf(f);

	elf_of(f)->elf.e_machine = EM_AARCH64;
	expect_code(f, load(f, size, NULL), "not-a-kernel");
	size = make_elf(f);
	elf_of(f)->elf.e_phnum = 65;
	expect_code(f, load(f, size, NULL), "not-a-kernel");
	size = make_elf(f);
	elf_of(f)->elf.e_ident[EI_DATA] = ELFDATA2MSB;
	expect_code(f, load(f, size, NULL), "not-a-kernel");
}

static int load_files(struct fixture *f, const struct boot_source *source)
{
	struct boot_files files;
	int err = boot_open(source, &files, &f->e);

	if (err)
		return err;
	err = boot_load(source, &files, f->memory, &f->entry, &f->e);
	boot_close(&files);
	return err;
}

static void files_that_are_not_there_are_named_and_nothing_leaks(void **state)
{
	struct fixture *f = *state;
	unsigned before = open_fds();
	struct boot_source source = { .kernel = "/nonexistent/kernel" };
	size_t size = make_bzimage(f);
	char path[32];
	int fd;

	expect_code(f, load_files(f, &source), "kernel-missing");
	assert_non_null(strstr(f->e.text, "/nonexistent/kernel"));
	source.kernel = "/tmp";
	expect_code(f, load_files(f, &source), "not-a-kernel");
	fd = temporary(f->image, size, path);
	close(fd);
	source.kernel = path;
	source.initrd = "/nonexistent/initrd";
	expect_code(f, load_files(f, &source), "initrd-missing");
	source.initrd = "/tmp";
	expect_code(f, load_files(f, &source), "initrd-missing");
	source.initrd = NULL;
	assert_int_equal(load_files(f, &source), 0);
	assert_int_equal(truncate(path, (off_t)size - 100), 0);
	expect_code(f, load_files(f, &source), "kernel-truncated");
	unlink(path);
	assert_int_equal(open_fds(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_map_leaves_the_pc_hole_out),
		TEST(memory_map_stops_at_what_the_caller_has_room_for),
		TEST(bzimage_is_loaded_where_it_prefers),
		TEST(bzimage_moves_when_its_place_is_no_ram),
		TEST(bzimage_with_a_foolish_alignment_is_refused),
		TEST(bzimage_that_needs_more_than_ram_is_refused),
		TEST(bzimage_truncated_anywhere_is_told),
		TEST(bzimage_without_a_64_bit_entry_is_too_old),
		TEST(what_is_no_kernel_is_called_so),
		TEST(cmdline_beyond_the_kernels_limit_is_refused),
		TEST(initrd_lies_high_and_whole),
		TEST(initrd_that_does_not_fit_is_refused),
		TEST(elf_gets_start_info_and_a_clean_bss),
		TEST(elf_of_32_bits_is_a_kernel_too),
		TEST(elf_without_a_pvh_note_is_told),
		TEST(elf_with_lengths_beyond_the_file_is_truncated),
		TEST(elf_notes_that_lie_about_their_length_are_refused),
		TEST(elf_segments_outside_of_ram_are_refused),
		TEST(elf_of_another_machine_is_no_kernel),
		TEST(files_that_are_not_there_are_named_and_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
