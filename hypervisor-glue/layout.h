/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical memory map, in one place. docs/memory-map.md draws it.
 *
 *   0                   RAM, up to 3 GiB
 *   0xc0000000          32-bit MMIO window for BARs (512 MiB)
 *   0xe0000000          ECAM, buses 0-255 (256 MiB)
 *   0xf0000000          platform MMIO (test device, nothing else yet)
 *   0xfec00000          I/O APIC
 *   0xfee00000          local APICs, MSI messages
 *   0xfffbc000          KVM's identity map page, then its TSS (three pages)
 *   0x100000000         RAM above 3 GiB
 *   after RAM           64-bit MMIO window, aligned to its size class
 */
#ifndef GLUE_LAYOUT_H
#define GLUE_LAYOUT_H

#include "base/base.h"

#define LAYOUT_RAM_LOW_END    UINT64_C(0xc0000000)
#define LAYOUT_MMIO32_START   UINT64_C(0xc0000000)
#define LAYOUT_MMIO32_END     UINT64_C(0xe0000000)
#define LAYOUT_ECAM_START     UINT64_C(0xe0000000)
#define LAYOUT_ECAM_SIZE      (256 * MIB)
#define LAYOUT_PLATFORM_START UINT64_C(0xf0000000)
#define LAYOUT_IOAPIC	      UINT64_C(0xfec00000)
#define LAYOUT_LAPIC	      UINT64_C(0xfee00000)
#define LAYOUT_IDENTITY_MAP   UINT64_C(0xfffbc000)
#define LAYOUT_TSS	      UINT64_C(0xfffbd000)
#define LAYOUT_RAM_HIGH_START UINT64_C(0x100000000)

/* Low memory, as the boot protocols want it. */
#define LAYOUT_BOOT_GDT	   UINT64_C(0x500)
#define LAYOUT_PVH_START   UINT64_C(0x6000) /* hvm_start_info, modules, memory map */
#define LAYOUT_ZERO_PAGE   UINT64_C(0x7000) /* struct boot_params */
#define LAYOUT_BOOT_STACK  UINT64_C(0x8ff0)
#define LAYOUT_PAGE_TABLES UINT64_C(0x9000)  /* PML4, PDPT, PDs for 4 GiB: 6 pages */
#define LAYOUT_CMDLINE	   UINT64_C(0x20000) /* up to 64 KiB */
#define LAYOUT_EBDA	   UINT64_C(0x9fc00)
#define LAYOUT_ACPI	   UINT64_C(0xe0000) /* RSDP first, then the tables; up to 0x100000 */
#define LAYOUT_KERNEL	   UINT64_C(0x100000)

/* Ports. */
#define PORT_SERIAL	  UINT16_C(0x3f8) /* 8 ports, IRQ 4 */
#define PORT_PM1_EVENT	  UINT16_C(0x600) /* 4: status, enable */
#define PORT_PM1_CONTROL  UINT16_C(0x604) /* 2 */
#define PORT_PM_TIMER	  UINT16_C(0x608) /* 4, 3.579545 MHz */
#define PORT_RESET	  UINT16_C(0xcf9)
#define PORT_PCI_ADDRESS  UINT16_C(0xcf8)
#define PORT_PCI_DATA	  UINT16_C(0xcfc)
#define PORT_PCI_IO_START UINT16_C(0xc000) /* I/O BARs: 0xc000-0xffff */

/* GSIs. 0-15 ISA, 16-23 PCI INTx (PIRQ A-H), 24 and up message routes. */
#define GSI_SERIAL     4
#define GSI_SCI	       9
#define GSI_INTX_FIRST 16
#define GSI_INTX_COUNT 8
#define GSI_MSI_FIRST  24

#endif
