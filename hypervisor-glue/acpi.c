// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables (ACPI 6.5): all that a guest is told of the platform that PCI does not tell.
 *
 *   RSDP -> XSDT -> FADT -> FACS, DSDT    fixed hardware: PM1, PM timer, reset register, SCI
 *                -> MADT                  local APICs, the I/O APIC, ISA overrides
 *                -> MCFG                  where ECAM is (PCI Firmware 3.3, 4.1.2)
 *                -> SRAT, SLIT            NUMA nodes and the way between them, where there are some
 *
 * The DSDT says what the host bridge forwards, where its interrupt pins go, which features the guest
 * may own (_OSC), COM1, the processors, and sleep state S5. Pure: bytes out of numbers. Values that the
 * VMM answers to come from layout.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hypervisor-glue/acpi_aml.h"
#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci.h"

#define HEADER_SIZE 36
#define RSDP_SIZE   36
#define FADT_SIZE   276
#define FACS_SIZE   64
#define TABLE_ALIGN 64 /* what FACS needs (5.2.10); one rule for all */

#define CHECKSUM_OFFSET 9 /* in a table header */

/* GAS (5.2.3.2) */
#define GAS_IO	  1
#define GAS_BYTE  1
#define GAS_WORD  2
#define GAS_DWORD 3

/* FADT flags (table 5.10) and IA-PC boot flags (table 5.11) */
#define FADT_WBINVD	    (1u << 0)
#define FADT_PROC_C1	    (1u << 2)
#define FADT_SLP_BUTTON	    (1u << 5) /* no sleep button among the fixed registers */
#define FADT_FIX_RTC	    (1u << 6) /* no RTC wake either */
#define FADT_RESET_REG_SUP  (1u << 10)
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_NO_VGA	    (1u << 2)
#define BOOT_NO_ASPM	    (1u << 4)
#define BOOT_NO_CMOS_RTC    (1u << 5)
#define RESET_VALUE	    6
#define LATENCY_NO_C2	    101	 /* above 100 us: not supported (5.2.9) */
#define LATENCY_NO_C3	    1001 /* above 1000 us */

/* _OSC of a PCI Express host bridge (PCI Firmware 3.3, 4.5.1) */
#define OSC_QUERY		0x01
#define OSC_UNRECOGNIZED_UUID	0x04
#define OSC_UNRECOGNIZED_REV	0x08
#define OSC_CAPABILITIES_MASKED 0x10
/* What may be given away: never PME, AER, LTR. */
#define OSC_NATIVE_HOTPLUG  0x01
#define OSC_PCIE_CAPABILITY 0x10

static uint8_t sum(const uint8_t *bytes, size_t count)
{
	uint8_t total = 0;

	for (size_t i = 0; i < count; i++)
		total = (uint8_t)(total + bytes[i]);
	return total;
}

static void put32(struct aml *a, size_t at, uint32_t value)
{
	for (unsigned i = 0; i < 4 && !a->full; i++)
		a->at[at + i] = (uint8_t)(value >> (8 * i));
}

static void align(struct aml *a)
{
	while (!a->full && a->used % TABLE_ALIGN)
		aml_byte(a, 0);
}

static void zeroes(struct aml *a, size_t count)
{
	while (count--)
		aml_byte(a, 0);
}

/* A table with the common header (5.2.6); table_end() fills length and checksum. */
static size_t table_begin(struct aml *a, const char signature[4], uint8_t revision)
{
	size_t start;

	align(a);
	start = a->used;
	aml_bytes(a, signature, 4);
	aml_dword(a, 0); /* length */
	aml_byte(a, revision);
	aml_byte(a, 0); /* checksum */
	aml_bytes(a, "DIVVY ", 6);
	aml_bytes(a, "DIVVYVMM", 8);
	aml_dword(a, 1); /* OEM revision */
	aml_bytes(a, "DIVY", 4);
	aml_dword(a, 1); /* creator revision */
	return start;
}

static void table_end(struct aml *a, size_t start)
{
	if (a->full)
		return;
	put32(a, start + 4, (uint32_t)(a->used - start));
	a->at[start + CHECKSUM_OFFSET] = (uint8_t)-sum(a->at + start, a->used - start);
}

/* ---- DSDT ------------------------------------------------------------------------------------ */

/*
 * Method (_OSC, 4): grant what is in @control of what is asked for, and say when that is
 * less (6.2.11). Whether it is a query makes no difference, since nothing changes hands here.
 */
static void dsdt_osc(struct aml *a, unsigned control)
{
	static const char *const words[] = { "CDW1", "CDW3" };
	size_t method = aml_method_begin(a, "_OSC", 4, true), block;

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		aml_byte(a, AML_CREATE_DWORD);
		aml_byte(a, AML_ARG(3));
		aml_integer(a, i ? 8 : 0);
		aml_name_string(a, words[i]);
	}

	block = aml_if_begin(a);
	aml_byte(a, AML_LEQUAL);
	aml_byte(a, AML_ARG(0));
	aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	{
		size_t inner;

		/* Local0 = CDW3 & @control */
		aml_byte(a, AML_AND);
		aml_name_string(a, "CDW3");
		aml_integer(a, control);
		aml_byte(a, AML_LOCAL0);

		inner = aml_if_begin(a);
		aml_byte(a, AML_LNOT);
		aml_byte(a, AML_LEQUAL);
		aml_name_string(a, "CDW3");
		aml_byte(a, AML_LOCAL0);
		aml_byte(a, AML_OR);
		aml_name_string(a, "CDW1");
		aml_integer(a, OSC_CAPABILITIES_MASKED);
		aml_name_string(a, "CDW1");
		aml_end(a, inner);

		inner = aml_if_begin(a);
		aml_byte(a, AML_LNOT);
		aml_byte(a, AML_LEQUAL);
		aml_byte(a, AML_ARG(1));
		aml_integer(a, 1);
		aml_byte(a, AML_OR);
		aml_name_string(a, "CDW1");
		aml_integer(a, OSC_UNRECOGNIZED_REV);
		aml_name_string(a, "CDW1");
		aml_end(a, inner);

		aml_byte(a, AML_STORE);
		aml_byte(a, AML_LOCAL0);
		aml_name_string(a, "CDW3");
	}
	aml_end(a, block);
	block = aml_else_begin(a);
	aml_byte(a, AML_OR);
	aml_name_string(a, "CDW1");
	aml_integer(a, OSC_UNRECOGNIZED_UUID);
	aml_name_string(a, "CDW1");
	aml_end(a, block);

	aml_byte(a, AML_RETURN);
	aml_byte(a, AML_ARG(3));
	aml_end(a, method);
}

/* _PRT (6.2.13): every pin of every device of bus 0 to a GSI of the I/O APIC, without a link. */
static void dsdt_prt(struct aml *a)
{
	size_t table, route;

	aml_name(a, "_PRT");
	table = aml_package_begin(a, 32 * 4);
	for (unsigned device = 0; device < 32; device++) {
		for (unsigned pin = 0; pin < 4; pin++) {
			route = aml_package_begin(a, 4);
			aml_integer(a, device << 16 | 0xffff);
			aml_integer(a, pin);
			aml_integer(a, 0);
			aml_integer(a, GSI_INTX_FIRST + (device + pin) % GSI_INTX_COUNT);
			aml_end(a, route);
		}
	}
	aml_end(a, table);
}

static void dsdt_host_bridge(struct aml *a, const struct acpi_input *input)
{
	const struct pci_window *w32 = &input->window32, *w64 = &input->window64;
	size_t bridge = aml_device_begin(a, "PCI0"), resources;

	aml_name_eisa_id(a, "_HID", "PNP0A08");
	aml_name_eisa_id(a, "_CID", "PNP0A03");
	aml_name_integer(a, "_UID", 0);
	aml_name_integer(a, "_SEG", 0);
	aml_name_integer(a, "_BBN", 0);

	resources = aml_resources_begin(a, "_CRS");
	aml_resource_bus(a, 0, (uint16_t)MIN(input->last_bus, 255u));
	aml_resource_io(a, PORT_PCI_ADDRESS, 8);
	aml_resource_io_window(a, 0, PORT_PCI_ADDRESS - 1);
	aml_resource_io_window(a, PORT_PCI_ADDRESS + 8, 0xffff);
	if (w32->size)
		aml_resource_memory32_window(a, (uint32_t)w32->start, (uint32_t)w32->size);
	if (w64->size)
		aml_resource_memory64_window(a, w64->start, w64->size);
	aml_resources_end(a, resources);

	dsdt_prt(a);
	dsdt_osc(a, OSC_PCIE_CAPABILITY | (input->hotplug ? OSC_NATIVE_HOTPLUG : 0));
	aml_end(a, bridge);
}

/* What no other device claims: ECAM (PCI Firmware 3.3, 4.1.2 wants it so) and the PM registers. */
static void dsdt_motherboard(struct aml *a)
{
	size_t device = aml_device_begin(a, "MBRD"), resources;

	aml_name_eisa_id(a, "_HID", "PNP0C02");
	aml_name_integer(a, "_UID", 0);
	resources = aml_resources_begin(a, "_CRS");
	aml_resource_memory32(a, (uint32_t)LAYOUT_ECAM_START, (uint32_t)LAYOUT_ECAM_SIZE);
	aml_resource_io(a, PORT_PM1_EVENT, PORT_PM_TIMER + 4 - PORT_PM1_EVENT);
	aml_resources_end(a, resources);
	aml_end(a, device);
}

static void dsdt_serial(struct aml *a)
{
	size_t device = aml_device_begin(a, "COM1"), resources;

	aml_name_eisa_id(a, "_HID", "PNP0501");
	aml_name_integer(a, "_UID", 1);
	resources = aml_resources_begin(a, "_CRS");
	aml_resource_io(a, PORT_SERIAL, 8);
	aml_resource_irq(a, GSI_SERIAL);
	aml_resources_end(a, resources);
	aml_end(a, device);
}

/* Processor devices (8.4), matched to the MADT by _UID. */
static void dsdt_processors(struct aml *a, unsigned vcpus)
{
	for (unsigned i = 0; i < vcpus && !a->full; i++) {
		char name[8];
		size_t device;

		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		device = aml_device_begin(a, name);
		aml_name_string_value(a, "_HID", "ACPI0007");
		aml_name_integer(a, "_UID", i);
		aml_end(a, device);
	}
}

static void dsdt(struct aml *a, const struct acpi_input *input)
{
	size_t table = table_begin(a, "DSDT", 2), scope, package;

	scope = aml_scope_begin(a, "\\_SB");
	dsdt_host_bridge(a, input);
	dsdt_motherboard(a);
	dsdt_serial(a);
	dsdt_processors(a, cpu_topology_count(&input->topology));
	aml_end(a, scope);

	/* SLP_TYP for PM1a and PM1b, then two reserved (7.4.2). */
	aml_name(a, "\\_S5");
	package = aml_package_begin(a, 4);
	aml_integer(a, 5);
	aml_integer(a, 5);
	aml_integer(a, 0);
	aml_integer(a, 0);
	aml_end(a, package);
	table_end(a, table);
}

/* ---- the others ------------------------------------------------------------------------------ */

static void gas_io(struct aml *a, uint16_t port, uint8_t bits, uint8_t access)
{
	aml_byte(a, GAS_IO);
	aml_byte(a, bits);
	aml_byte(a, 0);
	aml_byte(a, access);
	aml_qword(a, port);
}

/* 5.2.9. Fixed hardware, in ACPI mode from the start (SMI_CMD is 0), no GPE blocks. */
static void fadt(struct aml *a, uint64_t facs, uint64_t dsdt_gpa)
{
	size_t table = table_begin(a, "FACP", 6);

	aml_dword(a, (uint32_t)facs);
	aml_dword(a, (uint32_t)dsdt_gpa);
	aml_byte(a, 0); /* reserved */
	aml_byte(a, 0); /* power management profile: unspecified */
	aml_word(a, GSI_SCI);
	zeroes(a, 4 + 4); /* SMI_CMD, ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT */
	aml_dword(a, PORT_PM1_EVENT);
	aml_dword(a, 0);
	aml_dword(a, PORT_PM1_CONTROL);
	aml_dword(a, 0);
	aml_dword(a, 0); /* PM2 */
	aml_dword(a, PORT_PM_TIMER);
	zeroes(a, 4 + 4); /* GPE0, GPE1 */
	aml_byte(a, 4);	  /* lengths: PM1 event, PM1 control, PM2, timer */
	aml_byte(a, 2);
	aml_byte(a, 0);
	aml_byte(a, 4);
	zeroes(a, 4); /* GPE0_BLK_LEN, GPE1_BLK_LEN, GPE1_BASE, CST_CNT */
	aml_word(a, LATENCY_NO_C2);
	aml_word(a, LATENCY_NO_C3);
	zeroes(a, 2 + 2 + 1 + 1); /* flush size and stride, duty offset and width */
	zeroes(a, 3);		  /* no RTC: day and month alarm, century */
	aml_word(a, BOOT_LEGACY_DEVICES | BOOT_NO_VGA | BOOT_NO_ASPM | BOOT_NO_CMOS_RTC);
	aml_byte(a, 0);
	aml_dword(a,
		  FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG_SUP);
	gas_io(a, PORT_RESET, 8, GAS_BYTE);
	aml_byte(a, RESET_VALUE);
	aml_word(a, 0);	 /* ARM boot flags */
	aml_byte(a, 5);	 /* minor revision: 6.5 */
	aml_qword(a, 0); /* X_FIRMWARE_CTRL: only for a FACS above 4 GiB */
	aml_qword(a, dsdt_gpa);
	gas_io(a, PORT_PM1_EVENT, 32, GAS_WORD);
	zeroes(a, 12);
	gas_io(a, PORT_PM1_CONTROL, 16, GAS_WORD);
	zeroes(a, 12);
	zeroes(a, 12); /* PM2 */
	gas_io(a, PORT_PM_TIMER, 32, GAS_DWORD);
	zeroes(a, 4 * 12); /* GPE0, GPE1, sleep control, sleep status */
	aml_bytes(a, "DIVVY\0\0", 8);
	table_end(a, table);
}

/* 5.2.10; no checksum. Guests do not sleep here, but the lock in it is looked for. */
static void facs_table(struct aml *a)
{
	align(a);
	aml_bytes(a, "FACS", 4);
	aml_dword(a, FACS_SIZE);
	zeroes(a, 24); /* hardware signature, waking vector, lock, flags, 64-bit waking vector */
	aml_byte(a, 2);
	zeroes(a, FACS_SIZE - 33);
}

static void madt_override(struct aml *a, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	aml_byte(a, 2);
	aml_byte(a, 10);
	aml_byte(a, 0); /* ISA */
	aml_byte(a, irq);
	aml_dword(a, gsi);
	aml_word(a, flags);
}

/* 5.2.12. Processor UIDs are the vCPUs' indexes, APIC IDs follow from the topology. */
static void madt(struct aml *a, const struct cpu_topology *topology)
{
	size_t table = table_begin(a, "APIC", 6);
	unsigned vcpus = cpu_topology_count(topology);

	aml_dword(a, (uint32_t)LAYOUT_LAPIC);
	aml_dword(a, 1); /* there is a pair of 8259s */
	for (unsigned i = 0; i < vcpus && !a->full; i++) {
		uint32_t id = cpu_topology_place(topology, i).apic_id;

		if (id <= TOPOLOGY_APIC_ID_MAX) {
			aml_byte(a, 0);
			aml_byte(a, 8);
			aml_byte(a, (uint8_t)i);
			aml_byte(a, (uint8_t)id);
			aml_dword(a, 1); /* enabled */
		} else {
			aml_byte(a, 9);
			aml_byte(a, 16);
			aml_word(a, 0);
			aml_dword(a, id);
			aml_dword(a, 1);
			aml_dword(a, i);
		}
	}
	aml_byte(a, 1); /* I/O APIC: id, address, first GSI */
	aml_byte(a, 12);
	aml_byte(a, 0);
	aml_byte(a, 0);
	aml_dword(a, (uint32_t)LAYOUT_IOAPIC);
	aml_dword(a, 0);
	madt_override(a, 0, 2, 0);			/* the timer is on pin 2 */
	madt_override(a, GSI_SCI, GSI_SCI, 1 | 3 << 2); /* active high, level */
	aml_byte(a, 4);					/* NMI on LINT1 of all */
	aml_byte(a, 6);
	aml_byte(a, 0xff);
	aml_word(a, 0);
	aml_byte(a, 1);
	table_end(a, table);
}

/*
 * Only the buses that there are: Linux takes the last one named here for the last that may have a host bridge of its
 * own, and looks for 32 devices on each (pcibios_fixup_peer_bridges()). With 255 that is 16,000 exits a boot.
 */
static void mcfg(struct aml *a, const struct acpi_input *input)
{
	size_t table = table_begin(a, "MCFG", 1);

	zeroes(a, 8);
	aml_qword(a, LAYOUT_ECAM_START);
	aml_word(a, 0); /* segment */
	aml_byte(a, 0);
	aml_byte(a, (uint8_t)MIN(input->last_bus, 255u));
	zeroes(a, 4);
	table_end(a, table);
}

#define AFFINITY_ENABLED 1u

static void srat_processor(struct aml *a, uint32_t node, uint32_t apic_id)
{
	if (apic_id > TOPOLOGY_APIC_ID_MAX) {
		aml_byte(a, 2); /* 5.2.16.3 */
		aml_byte(a, 24);
		aml_word(a, 0);
		aml_dword(a, node);
		aml_dword(a, apic_id);
		aml_dword(a, AFFINITY_ENABLED);
		zeroes(a, 8);
		return;
	}
	aml_byte(a, 0); /* 5.2.16.1; a node has one byte in it and three further back */
	aml_byte(a, 16);
	aml_byte(a, (uint8_t)node);
	aml_byte(a, (uint8_t)apic_id);
	aml_dword(a, AFFINITY_ENABLED);
	zeroes(a, 8);
}

/* 5.2.16 */
static void srat(struct aml *a, const struct acpi_input *input)
{
	const struct acpi_numa *numa = input->numa;
	size_t table = table_begin(a, "SRAT", 3);

	aml_dword(a, 1); /* "reserved to be 1 for backward compatibility" */
	zeroes(a, 8);
	for (unsigned i = 0; i < cpu_topology_count(&input->topology) && !a->full; i++)
		srat_processor(a, numa->node_of_vcpu[i],
			       cpu_topology_place(&input->topology, i).apic_id);
	for (unsigned i = 0; i < numa->memory->piece_count; i++) {
		const struct memory_piece *piece = &numa->memory->pieces[i];

		aml_byte(a, 1); /* 5.2.16.2 */
		aml_byte(a, 40);
		aml_dword(a, piece->node);
		aml_word(a, 0);
		aml_qword(a, piece->gpa);
		aml_qword(a, piece->size);
		aml_dword(a, 0);
		aml_dword(a, AFFINITY_ENABLED);
		zeroes(a, 8);
	}
	table_end(a, table);
}

/* 5.2.17 */
static void slit(struct aml *a, const struct acpi_numa *numa)
{
	size_t table = table_begin(a, "SLIT", 1);

	aml_qword(a, numa->nodes);
	for (unsigned i = 0; i < numa->nodes; i++)
		aml_bytes(a, numa->distances[i], numa->nodes);
	table_end(a, table);
}

/* 5.2.5.3, written last over the room left for it. */
static void rsdp(uint8_t *at, uint64_t xsdt)
{
	struct aml a = { .at = at, .size = RSDP_SIZE };

	aml_bytes(&a, "RSD PTR ", 8);
	aml_byte(&a, 0);
	aml_bytes(&a, "DIVVY ", 6);
	aml_byte(&a, 2);
	aml_dword(&a, 0); /* no RSDT */
	aml_dword(&a, RSDP_SIZE);
	aml_qword(&a, xsdt);
	zeroes(&a, 4);
	at[8] = (uint8_t)-sum(at, 20);
	at[32] = (uint8_t)-sum(at, RSDP_SIZE);
}

/* Where the next table will start. */
static uint64_t next_gpa(struct aml *a, uint64_t gpa)
{
	align(a);
	return gpa + a->used;
}

ssize_t acpi_build(const struct acpi_input *input, void *buffer, size_t size, uint64_t gpa)
{
	struct aml a = { .at = buffer, .size = size };
	uint64_t facs, dsdt_gpa, tables[5];
	unsigned count = 0;
	size_t xsdt;

	zeroes(&a, RSDP_SIZE);
	facs = next_gpa(&a, gpa);
	facs_table(&a);
	dsdt_gpa = next_gpa(&a, gpa);
	dsdt(&a, input);
	tables[count++] = next_gpa(&a, gpa);
	fadt(&a, facs, dsdt_gpa);
	tables[count++] = next_gpa(&a, gpa);
	madt(&a, &input->topology);
	tables[count++] = next_gpa(&a, gpa);
	mcfg(&a, input);
	if (input->numa) {
		tables[count++] = next_gpa(&a, gpa);
		srat(&a, input);
		tables[count++] = next_gpa(&a, gpa);
		slit(&a, input->numa);
	}

	xsdt = table_begin(&a, "XSDT", 1);
	for (unsigned i = 0; i < count; i++)
		aml_qword(&a, tables[i]);
	table_end(&a, xsdt);
	if (a.full)
		return -ENOSPC;
	rsdp(buffer, gpa + xsdt);
	return (ssize_t)a.used;
}
