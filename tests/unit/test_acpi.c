// SPDX-License-Identifier: Apache-2.0
/*
 * The ACPI tables: the chain from the RSDP holds, and the ACPI reference tools (iasl, acpiexec)
 * read them as meant. Without the tools those cases are skipped and say so.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci.h"

#define GPA LAYOUT_ACPI

static const struct memory_plan plan = {
	.piece_count = 3,
	.pieces = { { 0, 2 * GIB, 0 }, { 2 * GIB, GIB, 1 }, { 4 * GIB, 3 * GIB, 1 } },
};
static const struct acpi_numa numa = {
	.nodes = 2,
	.node_of_vcpu = { 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1 },
	.memory = &plan,
	.distances = { { 10, 21 }, { 22, 10 } },
};

static const struct acpi_input input = {
	.numa = &numa,
	.topology = { 2, 3, 2 }, /* threads of a core share bit 0, sockets start at bit 3 */
	.window32 = { LAYOUT_MMIO32_START, LAYOUT_MMIO32_END - LAYOUT_MMIO32_START },
	.window64 = { 8 * GIB, 4 * GIB },
	.last_bus = 3,
};

struct tables {
	uint8_t bytes[128 * KIB];
	ssize_t length;
	char folder[64];
};

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint8_t sum(const uint8_t *at, size_t count)
{
	uint8_t total = 0;

	while (count--)
		total = (uint8_t)(total + *at++);
	return total;
}

static const uint8_t *at_gpa(const struct tables *t, uint64_t gpa)
{
	assert_true(gpa >= GPA && gpa + 36 <= GPA + (uint64_t)t->length);
	assert_true(gpa + get32(t->bytes + (gpa - GPA) + 4) <= GPA + (uint64_t)t->length);
	return t->bytes + (gpa - GPA);
}

/* By the chain a guest follows: RSDP, XSDT, and the FADT's pointers. */
static const uint8_t *find(const struct tables *t, const char *signature)
{
	const uint8_t *xsdt = at_gpa(t, get64(t->bytes + 24));
	const uint8_t *fadt;

	if (!strcmp(signature, "XSDT"))
		return xsdt;
	if (!strcmp(signature, "DSDT") || !strcmp(signature, "FACS")) {
		fadt = find(t, "FACP");
		return at_gpa(t, signature[0] == 'D' ? get64(fadt + 140) : get32(fadt + 36));
	}
	for (unsigned i = 36; i < get32(xsdt + 4); i += 8) {
		const uint8_t *table = at_gpa(t, get64(xsdt + i));

		if (!memcmp(table, signature, 4))
			return table;
	}
	fail_msg("no table %s", signature);
	return NULL;
}

static int setup(void **state)
{
	struct tables *t = calloc(1, sizeof(*t));

	t->length = acpi_build(&input, t->bytes, sizeof(t->bytes), GPA);
	*state = t;
	return t->length <= 0;
}

static int teardown(void **state)
{
	struct tables *t = *state;
	char command[128];
	int ret = 0;

	if (t->folder[0]) {
		snprintf(command, sizeof(command), "rm -rf %s", t->folder);
		ret = system(command);
	}
	free(t);
	return ret;
}

static void every_table_has_its_signature_length_and_checksum(void **state)
{
	static const char *const all[] = { "XSDT", "FACP", "APIC", "MCFG", "SRAT", "SLIT", "DSDT" };
	struct tables *t = *state;

	assert_memory_equal(t->bytes, "RSD PTR ", 8);
	assert_int_equal(sum(t->bytes, 20), 0);
	assert_int_equal(sum(t->bytes, 36), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		const uint8_t *table = find(t, all[i]);

		assert_memory_equal(table, all[i], 4);
		assert_int_equal(sum(table, get32(table + 4)), 0);
	}
	assert_memory_equal(find(t, "FACS"), "FACS", 4);
	assert_int_equal((find(t, "FACS") - t->bytes) % 64, 0);
}

static void the_fadt_names_the_ports_that_the_vmm_answers(void **state)
{
	const uint8_t *fadt = find(*state, "FACP");

	assert_int_equal(get32(fadt + 4), 276);
	assert_int_equal(get64(fadt + 132), 0);		       /* one FACS, below 4 GiB */
	assert_int_equal(get32(fadt + 40), get64(fadt + 140)); /* DSDT */
	assert_int_equal(fadt[46], GSI_SCI);
	assert_int_equal(get32(fadt + 48), 0); /* no SMI: ACPI mode from the start */
	assert_int_equal(get32(fadt + 56), PORT_PM1_EVENT);
	assert_int_equal(get32(fadt + 64), PORT_PM1_CONTROL);
	assert_int_equal(get32(fadt + 76), PORT_PM_TIMER);
	assert_int_equal(get64(fadt + 148 + 4), PORT_PM1_EVENT);
	assert_int_equal(get64(fadt + 172 + 4), PORT_PM1_CONTROL);
	assert_int_equal(get64(fadt + 208 + 4), PORT_PM_TIMER);
	assert_true(get32(fadt + 112) & 1u << 10);  /* RESET_REG_SUP */
	assert_false(get32(fadt + 112) & 1u << 4);  /* fixed power button */
	assert_false(get32(fadt + 112) & 1u << 20); /* not hardware-reduced */
	assert_int_equal(get64(fadt + 116 + 4), PORT_RESET);
	assert_int_equal(fadt[128], 6);
	assert_false(fadt[109] & 2); /* no 8042 */
	assert_true(fadt[109] & 4);  /* no VGA */
}

static void the_madt_lists_every_vcpu_the_io_apic_and_the_overrides(void **state)
{
	const uint8_t *madt = find(*state, "APIC");
	unsigned cpus = 0, io_apics = 0, timer = 0, sci = 0;

	for (unsigned at = 44; at < get32(madt + 4); at += madt[at + 1]) {
		const uint8_t *s = madt + at;

		assert_true(s[1] >= 6);
		if (s[0] == 0) {
			static const uint8_t ids[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };

			assert_true(cpus < ARRAY_SIZE(ids));
			assert_int_equal(s[2], cpus);
			assert_int_equal(s[3], ids[cpus++]);
			assert_int_equal(get32(s + 4), 1);
		} else if (s[0] == 1) {
			assert_int_equal(get32(s + 4), LAYOUT_IOAPIC);
			assert_int_equal(get32(s + 8), 0);
			io_apics++;
		} else if (s[0] == 2 && s[3] == 0) {
			timer += get32(s + 4) == 2;
		} else if (s[0] == 2 && s[3] == GSI_SCI) {
			sci += get32(s + 4) == GSI_SCI && s[8] == 0x0d;
		}
	}
	assert_int_equal(cpus, 12);
	assert_int_equal(io_apics, 1);
	assert_int_equal(timer, 1);
	assert_int_equal(sci, 1);
}

static void many_vcpus_are_listed_as_x2apics(void **state)
{
	struct acpi_input many = input;
	struct tables *t = *state;
	const uint8_t *madt;
	unsigned cpus = 0;

	many.topology = (struct cpu_topology){ 1, 300, 1 };
	many.numa = NULL;
	t->length = acpi_build(&many, t->bytes, sizeof(t->bytes), GPA);
	assert_true(t->length > 0);
	madt = find(t, "APIC");
	for (unsigned at = 44; at < get32(madt + 4); at += madt[at + 1])
		cpus += madt[at] == 0 || madt[at] == 9;
	assert_int_equal(cpus, 300);
}

static void the_srat_puts_vcpus_and_memory_into_nodes(void **state)
{
	const uint8_t *srat = find(*state, "SRAT");
	unsigned cpus = 0, pieces = 0;

	for (unsigned at = 48; at < get32(srat + 4); at += srat[at + 1]) {
		const uint8_t *s = srat + at;

		assert_true(s[1] >= 16);
		if (s[0] == 0) {
			assert_int_equal(s[2], cpus >= 6);
			assert_int_equal(s[3], cpus < 6 ? cpus : cpus + 2); /* APIC ID */
			assert_int_equal(get32(s + 4), 1);
			cpus++;
		} else if (s[0] == 1) {
			assert_int_equal(get32(s + 2), plan.pieces[pieces].node);
			assert_int_equal(get64(s + 8), plan.pieces[pieces].gpa);
			assert_int_equal(get64(s + 16), plan.pieces[pieces].size);
			assert_int_equal(get32(s + 28), 1);
			pieces++;
		}
	}
	assert_int_equal(cpus, 12);
	assert_int_equal(pieces, 3);
}

static void the_slit_tells_the_way_between_nodes(void **state)
{
	static const uint8_t distances[] = { 10, 21, 22, 10 };
	const uint8_t *slit = find(*state, "SLIT");

	assert_int_equal(get32(slit + 4), 48);
	assert_int_equal(get64(slit + 36), 2);
	assert_memory_equal(slit + 44, distances, sizeof(distances));
}

static void without_nodes_there_is_no_numa_table(void **state)
{
	struct acpi_input one = input;
	struct tables *t = *state;
	const uint8_t *xsdt;

	one.numa = NULL;
	t->length = acpi_build(&one, t->bytes, sizeof(t->bytes), GPA);
	assert_true(t->length > 0);
	xsdt = find(t, "XSDT");
	assert_int_equal(get32(xsdt + 4), 36 + 3 * 8);
	for (unsigned i = 36; i < get32(xsdt + 4); i += 8)
		assert_memory_not_equal(at_gpa(t, get64(xsdt + i)), "S", 1);
}

static void the_mcfg_names_the_ecam_and_only_the_buses_that_there_are(void **state)
{
	const uint8_t *mcfg = find(*state, "MCFG");

	assert_int_equal(get64(mcfg + 44), LAYOUT_ECAM_START);
	assert_int_equal(mcfg[54], 0);
	assert_int_equal(mcfg[55], input.last_bus);
}

static void a_buffer_too_small_is_refused_and_never_overrun(void **state)
{
	struct tables *t = *state;
	ssize_t length = t->length;

	for (ssize_t size = 0; size < length; size += 7) {
		memset(t->bytes, 0xa5, sizeof(t->bytes));
		assert_int_equal(acpi_build(&input, t->bytes, (size_t)size, GPA), -ENOSPC);
		for (ssize_t i = size; i < length; i++)
			assert_int_equal(t->bytes[i], 0xa5);
	}
	assert_int_equal(acpi_build(&input, t->bytes, (size_t)length, GPA), length);
}

/* ---- with the ACPI tools --------------------------------------------------------------------- */

static void need(const char *tool)
{
	char command[64];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", tool);
	if (system(command)) {
		print_message("SKIP: %s is not installed (package acpica-tools)\n", tool);
		skip();
	}
}

static void write_table(struct tables *t, const char *signature)
{
	const uint8_t *table = find(t, signature);
	char path[128];
	FILE *f;
	int closed;

	if (!t->folder[0]) {
		strcpy(t->folder, "/tmp/divvy-acpi-XXXXXX");
		assert_non_null(mkdtemp(t->folder));
	}
	snprintf(path, sizeof(path), "%s/%s.dat", t->folder, signature);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(table, 1, get32(table + 4), f), get32(table + 4));
	closed = fclose(f);
	assert_int_equal(closed, 0);
}

static void run(struct tables *t, const char *command)
{
	char line[1024];

	snprintf(line, sizeof(line),
		 "cd %s && { %s ; } >log 2>&1 </dev/null || { cat log; false; }", t->folder,
		 command);
	if (system(line))
		fail_msg("failed: %s", command);
}

static void iasl_reads_every_table_and_compiles_it_again_without_a_warning(void **state)
{
	static const char *const all[] = { "DSDT", "FACP", "FACS", "APIC", "MCFG", "SRAT", "SLIT" };
	struct tables *t = *state;

	need("iasl");
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		char command[256];

		write_table(t, all[i]);
		snprintf(command, sizeof(command), "timeout 60 iasl -d %s.dat", all[i]);
		run(t, command);
		snprintf(command, sizeof(command),
			 "timeout 60 iasl %s.dsl && grep -q '0 Errors, 0 Warnings' log", all[i]);
		run(t, command);
	}
	/*
	 * What follows the header (36 bytes, in which the compiler puts its own name) comes out the
	 * same of the tables without code, so every field was understood.
	 */
	run(t, "for t in FACP APIC MCFG SRAT SLIT; do cmp -i 36 $t.dat $t.aml || exit 1; done");
}

static void evaluate(struct tables *t, const char *what, const char *expected)
{
	char command[512];

	/* A dump of bytes on one line, without its offsets and comments. */
	snprintf(command, sizeof(command),
		 "timeout 60 acpiexec -b '%s' FACP.dat DSDT.dat; "
		 "sed 's| *//.*||;s|^ *[0-9A-F]*: *||' log | tr '\\n' ' ' | grep -q '%s'",
		 what, expected);
	run(t, command);
}

static void acpiexec_evaluates_sleep_windows_and_osc(void **state)
{
	struct tables *t = *state;

	need("acpiexec");
	write_table(t, "FACP");
	write_table(t, "DSDT");
	evaluate(
		t, "evaluate \\_S5",
		"Contains 4 Elements: *.Integer. = 0*5 *.Integer. = 0*5 *.Integer. = 0* *.Integer. = 0*");
	/* The 32-bit window (0xc0000000-0xdfffffff) and the 64-bit one, in the descriptors' bytes. */
	evaluate(
		t, "evaluate \\_SB.PCI0._CRS",
		"87 17 00 00 0C 01 00 00 00 00 00 00 00 C0 FF FF FF DF 00 00 00 00 00 00 00 20 "
		"8A 2B 00 00 0C 01 00 00 00 00 00 00 00 00 00 00 00 00 02 00 00 00 FF FF FF FF 02 ");
	/* All is asked for, the PCI Express capability (bit 4) is granted, and so it is said. */
	evaluate(t,
		 "execute \\_SB.PCI0._OSC (5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66) 1 3 "
		 "(00 00 00 00 1F 01 00 00 1F 00 00 00)",
		 "10 00 00 00 1F 01 00 00 10 00 00 00");
	/* An unknown UUID, and nothing but that said. */
	evaluate(t,
		 "execute \\_SB.PCI0._OSC (00 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66) 1 3 "
		 "(00 00 00 00 1F 01 00 00 1F 00 00 00)",
		 "04 00 00 00 1F 01 00 00 1F 00 00 00");
	/* Device 31, INTD#: GSI 16 + (31 + 3) % 8. */
	evaluate(t, "evaluate \\_SB.PCI0._PRT",
		 "0*1FFFFF *.Integer. = 0*3 *.Integer. = 0* *.Integer. = 0*12 ");
}

static void native_hot_plug_is_given_where_there_are_slots_for_it(void **state)
{
	struct acpi_input slots = input;
	struct tables *t = *state;

	need("acpiexec");
	slots.hotplug = true;
	t->length = acpi_build(&slots, t->bytes, sizeof(t->bytes), GPA);
	assert_true(t->length > 0);
	write_table(t, "FACP");
	write_table(t, "DSDT");
	/* Beside the PCI Express capability (bit 4) native hot-plug (bit 0), and no more. */
	evaluate(t,
		 "execute \\_SB.PCI0._OSC (5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66) 1 3 "
		 "(00 00 00 00 1F 01 00 00 1F 00 00 00)",
		 "10 00 00 00 1F 01 00 00 11 00 00 00");
}

int main(void)
{
#define BUILT(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		BUILT(every_table_has_its_signature_length_and_checksum),
		BUILT(the_fadt_names_the_ports_that_the_vmm_answers),
		BUILT(the_madt_lists_every_vcpu_the_io_apic_and_the_overrides),
		BUILT(many_vcpus_are_listed_as_x2apics),
		BUILT(the_srat_puts_vcpus_and_memory_into_nodes),
		BUILT(the_slit_tells_the_way_between_nodes),
		BUILT(without_nodes_there_is_no_numa_table),
		BUILT(the_mcfg_names_the_ecam_and_only_the_buses_that_there_are),
		BUILT(a_buffer_too_small_is_refused_and_never_overrun),
		BUILT(iasl_reads_every_table_and_compiles_it_again_without_a_warning),
		BUILT(acpiexec_evaluates_sleep_windows_and_osc),
		BUILT(native_hot_plug_is_given_where_there_are_slots_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
