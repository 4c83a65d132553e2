// SPDX-License-Identifier: Apache-2.0
/*
 * A guest against a virtualised PCI function, over a device that may lie: its config space, BAR sizes
 * and interrupt counts come from the input, then the guest's accesses do: config space, BARs (moved
 * while they decode), MSI-X table and pending bits, resets, interrupts that fire meanwhile, and
 * operations of the device that fail.
 *
 * Checked beside the sanitizers: the hypervisor is never told what it must not be (a BAR turned on
 * twice, a dead eventfd), no page with MSI-X table or pending bits is ever offered for mapping, and
 * at the end nothing decodes, nothing is armed and no descriptor is left.
 *
 * Input: 256 bytes of config space | a byte a BAR: log2 of its size, 0 none | a byte an interrupt
 * index: how many | flags | with FLAG_MORE 64 bytes from 0x100 on | accesses (opcode, then its operands; what is missing reads as zero).
 */
#include <stdlib.h>

#include "tests/fuzz/input.h"
#include "tests/unit/fake_vfio_device.h"

#define MEMORY_SIZE    (64 * KIB)
#define OPERATIONS_MAX 512
#define FLAG_SOFTWARE  0x01
#define FLAG_EXTENDED  0x02
#define FLAG_INTX      0x04
#define FLAG_VENDOR    0x08
#define FLAG_NO_RESET  0x10
#define FLAG_SPARSE    0x20
#define FLAG_ODD_SIZE  0x40
#define FLAG_MORE      0x80 /* a ROM, a clique, extended capabilities from the input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void make_device(struct fake_device *fake, struct input *in, int memory, uint8_t *flags)
{
	uint8_t bits[VFIO_PCI_BARS], counts[FAKE_IRQS];

	fake_init(fake, 0, 0, 256);
	for (unsigned i = 0; i < 256; i++)
		fake->config[i] = (uint8_t)take(in, 1);
	for (unsigned i = 0; i < VFIO_PCI_BARS; i++)
		bits[i] = (uint8_t)take(in, 1);
	for (unsigned i = 0; i < FAKE_IRQS; i++)
		counts[i] = (uint8_t)take(in, 1);
	*flags = (uint8_t)take(in, 1);

	for (unsigned i = 0; i < VFIO_PCI_BARS; i++) {
		struct vfio_region *region = &fake->regions[i];

		fake->memory[i] = memory;
		if (!bits[i])
			continue;
		region->size = UINT64_C(1) << bits[i] % 44;
		if (*flags & FLAG_ODD_SIZE)
			region->size += region->size / 2;
		region->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
				VFIO_REGION_INFO_FLAG_MMAP;
		region->area_count = 1;
		region->areas[0] = (struct vfio_area){ 0, region->size };
		if (*flags & FLAG_SPARSE) {
			region->area_count = 3;
			region->areas[0] = (struct vfio_area){ 0x3800, 0x4000 };
			region->areas[1] = (struct vfio_area){ 0x1000, 0x3000 };
			region->areas[2] = (struct vfio_area){ 0x8000, UINT64_MAX - 0x100 };
		}
	}
	for (unsigned i = 0; i < FAKE_IRQS; i++)
		fake->irqs[i].count =
			i == VFIO_PCI_MSIX_IRQ_INDEX ? counts[i] * 9u : counts[i] & 63;
	for (unsigned i = VFIO_PCI_ERR_IRQ_INDEX; i < FAKE_IRQS; i++)
		fake->irqs[i].count &= 1;
	for (unsigned i = 0; *flags & FLAG_MORE && i < 64; i++)
		fake->config[0x100 + i] = (uint8_t)take(in, 1);
	if (*flags & FLAG_MORE && *flags & FLAG_VENDOR) {
		fake_put(fake, PCI_VENDOR_ID, 2, 0x10de);
		fake_put(fake, PCI_CLASS_DEVICE + 1, 1, 0x03);
	}
	if (*flags & FLAG_SOFTWARE)
		fake->device.ops = &fake_software_ops;
	if (*flags & FLAG_EXTENDED)
		fake->regions[VFIO_PCI_CONFIG_REGION_INDEX].size = VFIO_PCI_CONFIG_SIZE;
	if (*flags & FLAG_NO_RESET)
		fake->device.flags &= ~VFIO_DEVICE_FLAGS_RESET;
}

/* Where the guest finds its capability @id; 0: it has none. */
static unsigned find_capability(struct vfio_pci *pci, uint8_t id)
{
	unsigned at = vfio_pci_config_read(pci, PCI_CAPABILITY_LIST, 1);

	for (unsigned n = 0; at && n < 64; n++) {
		if (vfio_pci_config_read(pci, (uint16_t)at, 1) == id)
			return at;
		at = vfio_pci_config_read(pci, (uint16_t)(at + 1), 1);
		must(n < 63); /* the chain that a guest is shown ends */
	}
	return 0;
}

static void check_areas(struct vfio_pci *pci, unsigned msix)
{
	uint32_t count =
		(vfio_pci_config_read(pci, (uint16_t)(msix + PCI_MSIX_FLAGS), 2) & 0x7ff) + 1;
	uint32_t table = vfio_pci_config_read(pci, (uint16_t)(msix + PCI_MSIX_TABLE), 4);
	uint32_t pba = vfio_pci_config_read(pci, (uint16_t)(msix + PCI_MSIX_PBA), 4);
	const struct {
		uint32_t place, size;
	} hidden[] = { { table, count * 16 }, { pba, (count + 63) / 64 * 8 } };

	for (unsigned h = 0; h < ARRAY_SIZE(hidden); h++) {
		const struct vfio_pci_bar *bar = vfio_pci_bar(pci, hidden[h].place & 7);
		uint64_t start = hidden[h].place & ~7u, end = start + hidden[h].size;

		must(bar && end <= bar->size);
		for (unsigned i = 0; i < bar->area_count; i++)
			must(bar->areas[i].offset >= end ||
			     bar->areas[i].offset + bar->areas[i].size <= start);
	}
}

/* As a guest moves a BAR: both registers, decode on all the while or only after. */
static void move_bar(struct vfio_pci *pci, unsigned index, uint64_t gpa, bool decoding)
{
	uint16_t at = (uint16_t)(PCI_BASE_ADDRESS_0 + 4 * index);

	if (!decoding)
		vfio_pci_config_write(pci, PCI_COMMAND, 2, 0);
	vfio_pci_config_write(pci, at, 4, (uint32_t)gpa);
	vfio_pci_config_write(pci, at + 4, 4, (uint32_t)(gpa >> 32));
	vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
}

static void guest(struct vfio_pci *pci, struct fake_device *fake, struct input *in, unsigned msix)
{
	unsigned msi = find_capability(pci, PCI_CAP_ID_MSI);
	uint32_t table = msix ? vfio_pci_config_read(pci, (uint16_t)(msix + PCI_MSIX_TABLE), 4) : 0;
	uint32_t pba = msix ? vfio_pci_config_read(pci, (uint16_t)(msix + PCI_MSIX_PBA), 4) : 0;

	for (unsigned n = 0; n < OPERATIONS_MAX && in->left; n++) {
		unsigned opcode = (unsigned)take(in, 1), bytes = 1u << (opcode >> 4 & 3);
		unsigned index;
		uint64_t offset, one = 1;

		switch (opcode & 15) {
		case 0:
		case 1:
			offset = take(in, 1);
			vfio_pci_config_write(pci, (uint16_t)offset, bytes,
					      (uint32_t)take(in, bytes));
			break;
		case 2:
			offset = take(in, 2);
			vfio_pci_config_read(pci, (uint16_t)offset, bytes);
			break;
		case 3:
			index = (unsigned)take(in, 1);
			offset = take(in, 3);
			vfio_pci_bar_write(pci, index & 7, offset, bytes, take(in, bytes));
			break;
		case 4:
			index = (unsigned)take(in, 1);
			offset = take(in, 3);
			vfio_pci_bar_read(pci, index & 7, offset, bytes);
			break;
		case 5: /* near the table */
		case 6:
			offset = take(in, 2);
			vfio_pci_bar_write(pci, table & 7, (table & ~7u) + offset - 8, bytes,
					   take(in, bytes));
			break;
		case 7:
			offset = take(in, 2);
			vfio_pci_bar_read(pci, table & 7, (table & ~7u) + offset - 8, bytes);
			break;
		case 8:
			offset = take(in, 1);
			vfio_pci_bar_read(pci, pba & 7, (pba & ~7u) + offset - 8, bytes);
			break;
		case 9: /* MSI-X enable and function mask, or MSI with its registers */
			if (!(opcode & 0x80))
				vfio_pci_config_write(pci, (uint16_t)(msix + PCI_MSIX_FLAGS), 2,
						      (uint32_t)take(in, 1) << 8);
			else if (opcode & 0x40)
				vfio_pci_config_write(pci, (uint16_t)(msi + PCI_MSI_FLAGS), 2,
						      (uint32_t)take(in, 1));
			else
				vfio_pci_config_write(
					pci,
					(uint16_t)(msi + PCI_MSI_ADDRESS_LO + take(in, 1) % 20),
					MIN(bytes, 4u), (uint32_t)take(in, 4));
			break;
		case 10:
			index = (unsigned)take(in, 1) & 7;
			offset = take(in, 6);
			if (opcode & 0x80 && index < VFIO_PCI_BARS - 1)
				move_bar(pci, index, offset, opcode & 0x40);
			else
				vfio_pci_set_bar(pci, index, offset);
			break;
		case 11:
			vfio_pci_reset(pci, NULL);
			break;
		case 12: /* the device fires */
			index = (unsigned)take(in, 1) % FAKE_IRQS;
			offset = take(in, 2) % VFIO_PCI_VECTORS_MAX;
			if (offset < fake->armed[index])
				must(write(fake->fds[index][offset], &one, 8) == 8);
			break;
		case 13:
			fake->fail_at = fake->calls + take(in, 1);
			break;
		case 14:
			fake->most_vectors = (unsigned)take(in, 1);
			fake->refusal = opcode & 0x40 ? -ENOSPC : 0;
			break;
		default:
			vfio_pci_set_intx_line(pci, (uint8_t)take(in, 1));
			vfio_pci_set_multifunction(pci, opcode & 0x10);
			break;
		}
	}
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_device fake;
	static struct fake_host host;
	static int memory = -1;
	struct input in = { data, size };
	static const char rom_head[] = { 0x55, (char)0xaa };
	static struct vfio_rom *rom;
	struct vfio_pci_options options = { 0 };
	struct vfio_pci *pci = NULL;
	uint8_t flags;
	int fds;

	if (memory < 0) {
		log_set_level(LOG_LEVEL_ERROR);
		memory = memfd_create(FAKE_BAR_NAME, MFD_CLOEXEC);
		must(memory >= 0 && !ftruncate(memory, MEMORY_SIZE));
		must(pwrite(memory, rom_head, sizeof(rom_head), 0) == sizeof(rom_head));
		fake_init(&fake, 0, 0, 256);
		fake.regions[VFIO_PCI_ROM].size = MEMORY_SIZE;
		fake.memory[VFIO_PCI_ROM] = memory;
		must(!vfio_rom_load(&fake.device, NULL, &rom, NULL));
	}
	fds = lowest_free_fd();
	make_device(&fake, &in, memory, &flags);
	memset(&host, 0, sizeof(host));
	options.intx = flags & FLAG_INTX;
	options.allow_vendor_capability = flags & FLAG_VENDOR;
	options.rom = flags & FLAG_MORE ? rom : NULL;
	options.in_p2p_clique = flags & FLAG_MORE && flags & FLAG_VENDOR;
	options.p2p_clique = flags >> 4;
	if (!vfio_pci_create(&fake.device, &options, &fake_host_ops, &host, &pci, NULL)) {
		unsigned msix = find_capability(pci, PCI_CAP_ID_MSIX);

		if (msix)
			check_areas(pci, msix);
		guest(pci, &fake, &in, msix);
		if (msix)
			check_areas(pci, msix);
		vfio_pci_destroy(pci);
	}
	must(!host.wrong);
	must(!fake_host_delivered(&host));
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		must(!host.decoded[i]);
	for (unsigned i = 0; i < FAKE_IRQS; i++)
		must(!fake.armed[i]);
	must(lowest_free_fd() == fds);
	return 0;
}
