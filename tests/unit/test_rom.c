// SPDX-License-Identifier: Apache-2.0
/* Expansion ROMs: where the contents come from, and what a guest finds of them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/function_bench.h"

/* A file of @size bytes beginning with @head, deleted by the caller. */
static void make_file(char path[32], const void *head, size_t head_size, off_t size)
{
	int fd;

	strcpy(path, "/tmp/divvy-rom-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(pwrite(fd, head, head_size, 0), head_size);
	close(fd);
}

static struct vfio_rom *load(struct bench *b, const char *path)
{
	struct vfio_rom *rom = NULL;

	assert_int_equal(vfio_rom_load(&b->fake.device, path, &rom, NULL), 0);
	assert_non_null(rom);
	return rom;
}

static void refused(struct bench *b, const char *path, const char *code, const char *text)
{
	struct vfio_rom *rom = NULL;
	struct error e = { 0 };

	assert_true(vfio_rom_load(&b->fake.device, path, &rom, &e) < 0);
	assert_null(rom);
	assert_string_equal(e.code, code);
	if (!strstr(e.text, text))
		fail_msg("\"%s\" does not have \"%s\"", e.text, text);
}

static void show(struct bench *b, const struct vfio_rom *rom)
{
	const struct vfio_pci_options options = { .rom = rom };

	b->pci = fake_function_with(&b->fake, &b->host, &options, NULL);
	assert_non_null(b->pci);
}

static void a_rom_decodes_while_both_switches_are_on(void **state)
{
	struct bench *b = *state;
	struct vfio_rom *rom;

	fake_gpu(&b->fake);
	fake_rom(&b->fake, 128 * KIB);
	rom = load(b, NULL);
	show(b, rom);

	/* sized like a BAR, with the switch in bit 0 */
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0);
	put(b, PCI_ROM_ADDRESS, 4, 0xfffffffe);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0xfffe0000);
	put(b, PCI_ROM_ADDRESS, 4, 0xffffffff);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0xfffe0001);
	vfio_pci_set_bar(b->pci, VFIO_PCI_ROM, 0xc0020000);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0xc0020000);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_false(b->host.decoded[VFIO_PCI_ROM]);
	put(b, PCI_ROM_ADDRESS, 1, PCI_ROM_ADDRESS_ENABLE);
	assert_true(b->host.decoded[VFIO_PCI_ROM]);
	assert_int_equal(b->host.gpa[VFIO_PCI_ROM], 0xc0020000);
	put(b, PCI_COMMAND, 2, 0);
	assert_false(b->host.decoded[VFIO_PCI_ROM]);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 0, 2) == 0xffff);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	/* it moves like a BAR */
	put(b, PCI_ROM_ADDRESS, 4, 0xc0040000 | PCI_ROM_ADDRESS_ENABLE);
	assert_int_equal(b->host.gpa[VFIO_PCI_ROM], 0xc0040000);
	assert_int_equal(vfio_pci_reset(b->pci, NULL), 0);
	assert_false(b->host.decoded[VFIO_PCI_ROM]);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0xc0020000);
	assert_int_equal(b->host.wrong, 0);

	vfio_pci_destroy(b->pci);
	b->pci = NULL;
	vfio_rom_free(rom);
}

static void a_guest_reads_the_copy_and_writes_nothing(void **state)
{
	struct bench *b = *state;
	const uint8_t later[] = { 0, 0, 0 };
	struct vfio_rom *rom;

	fake_gpu(&b->fake);
	fake_rom(&b->fake, 5 * KIB); /* shown as 8 KiB */
	rom = load(b, NULL);
	show(b, rom);
	assert_int_equal(vfio_pci_bar(b->pci, VFIO_PCI_ROM)->size, 8 * KIB);
	vfio_pci_set_bar(b->pci, VFIO_PCI_ROM, 0xc0020000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(b, PCI_ROM_ADDRESS, 1, PCI_ROM_ADDRESS_ENABLE);

	/* what the device has behind it now is nobody's business */
	assert_int_equal(pwrite(b->fake.memory[VFIO_PCI_ROM], later, sizeof(later), 0), 3);
	b->fake.bar_reads = b->fake.bar_writes = 0;
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 0, 4) == 0x0040aa55);
	vfio_pci_bar_write(b->pci, VFIO_PCI_ROM, 0, 4, 0);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 0, 8) == 0x0040aa55);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 5 * KIB - 1, 1) == 0);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 5 * KIB, 4) == 0xffffffff);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 8 * KIB - 2, 4) == 0xffffffff);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, UINT64_MAX - 1, 4) == 0xffffffff);
	assert_int_equal(b->fake.bar_reads + b->fake.bar_writes, 0);

	vfio_pci_destroy(b->pci);
	b->pci = NULL;
	vfio_rom_free(rom);
}

static void without_one_there_is_no_register(void **state)
{
	struct bench *b = *state;

	fake_gpu(&b->fake);
	fake_rom(&b->fake, 64 * KIB);
	show(b, NULL);
	put(b, PCI_ROM_ADDRESS, 4, 0xffffffff);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(vfio_pci_bar(b->pci, VFIO_PCI_ROM)->size, 0);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 0, 2) == 0xffff);
}

static void a_file_stands_in_for_the_device(void **state)
{
	static const uint8_t head[] = { 0x55, 0xaa, 0x7f, 0x12 };
	struct bench *b = *state;
	struct vfio_rom *rom;
	char path[32];

	fake_gpu(&b->fake);
	make_file(path, head, sizeof(head), 3000);
	rom = load(b, path);
	assert_int_equal(b->fake.calls, 0);
	unlink(path);
	show(b, rom);
	assert_int_equal(vfio_pci_bar(b->pci, VFIO_PCI_ROM)->size, 4 * KIB);
	vfio_pci_set_bar(b->pci, VFIO_PCI_ROM, 0xc0020000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(b, PCI_ROM_ADDRESS, 1, PCI_ROM_ADDRESS_ENABLE);
	assert_true(vfio_pci_bar_read(b->pci, VFIO_PCI_ROM, 0, 4) == 0x127faa55);
	vfio_pci_destroy(b->pci);
	b->pci = NULL;
	vfio_rom_free(rom);
}

static void a_file_that_is_no_rom_is_named(void **state)
{
	static const uint8_t nvidia[] = { 'N', 'V', 'G', 'I' }, good[] = { 0x55, 0xaa };
	struct bench *b = *state;
	char path[32];
	unsigned fds;

	fake_gpu(&b->fake);
	fds = fake_open_fds();
	make_file(path, nvidia, sizeof(nvidia), 64 * KIB);
	refused(b, path, "bad-rom", "begins with 4e 56");
	unlink(path);
	make_file(path, good, sizeof(good), (off_t)VFIO_ROM_MAX + 1);
	refused(b, path, "bad-rom", "16 MiB");
	unlink(path);
	make_file(path, good, 1, 1);
	refused(b, path, "bad-rom", "2 bytes");
	unlink(path);
	refused(b, path, "rom-unreadable", path);
	refused(b, "/tmp", "bad-rom", "/tmp");
	/* nobody writes to it: opening it must not wait */
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(b, path, "bad-rom", path);
	unlink(path);
	assert_int_equal(fake_open_fds(), fds);
}

static void a_device_without_a_rom_says_so(void **state)
{
	static const uint8_t blank[] = { 0xff, 0xff };
	struct bench *b = *state;

	fake_gpu(&b->fake);
	refused(b, NULL, "no-rom", "0000:01:00.0");
	fake_rom(&b->fake, 64 * KIB);
	b->fake.regions[VFIO_PCI_ROM_REGION_INDEX].size = 32 * MIB;
	refused(b, NULL, "bad-rom", "32 MiB");
	b->fake.regions[VFIO_PCI_ROM_REGION_INDEX].size = 64 * KIB;
	assert_int_equal(pwrite(b->fake.memory[VFIO_PCI_ROM], blank, sizeof(blank), 0), 2);
	refused(b, NULL, "bad-rom", "begins with ff ff");
}

static void decode_is_as_it_was_whatever_call_fails(void **state)
{
	struct vfio_rom *rom = NULL;
	struct bench *b = *state;
	unsigned long total;

	fake_gpu(&b->fake);
	fake_rom(&b->fake, 10 * KIB);
	assert_int_equal(b->fake.config[PCI_COMMAND], 0);
	vfio_rom_free(load(b, NULL));
	assert_int_equal(b->fake.config[PCI_COMMAND], 0);
	total = b->fake.calls;
	assert_true(total >= 7); /* region, COMMAND read, on, three pieces, off */
	for (unsigned long n = 1; n < total; n++) {
		b->fake.calls = 0;
		b->fake.fail_at = n;
		assert_true(vfio_rom_load(&b->fake.device, NULL, &rom, NULL) < 0);
		assert_null(rom);
		assert_int_equal(b->fake.config[PCI_COMMAND], 0);
	}
	/* Only switching it back can fail without harm: the function sets COMMAND anew. */
	b->fake.calls = 0;
	b->fake.fail_at = total;
	vfio_rom_free(load(b, NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_rom_decodes_while_both_switches_are_on),
		TEST(a_guest_reads_the_copy_and_writes_nothing),
		TEST(without_one_there_is_no_register),
		TEST(a_file_stands_in_for_the_device),
		TEST(a_file_that_is_no_rom_is_named),
		TEST(a_device_without_a_rom_says_so),
		TEST(decode_is_as_it_was_whatever_call_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
