// SPDX-License-Identifier: Apache-2.0
/*
 * A guest against its PCI Express as a whole: config accesses by ECAM and by ports to the host bridge, root
 * ports with hot-plug slots, and functions; buses numbered anew, secondary bus resets, power and
 * buttons; BARs moved over each other; and meanwhile devices that come, are asked for, and are torn out.
 *
 * The VM is a fake that ends the run when it is told to remove what it was never given; at the end it must
 * have been given back everything.
 *
 * Input: how many devices are there from the start, then steps: an opcode and its operands.
 */
#include <linux/pci_regs.h>
#include <stdarg.h>
#include <stdlib.h>

/* What fake_vm.h says to cmocka. */
#define fail_msg(...)	       (fprintf(stderr, __VA_ARGS__), abort())
#define assert_true(holds)     ((holds) ? (void)0 : abort())
#define assert_int_equal(a, b) assert_true((a) == (b))

#include "tests/fuzz/input.h"
#include "tests/unit/fake_vfio_device.h"
#include "tests/unit/fake_vm.h"

#define PORTS	  3
#define DEVICES	  4
#define STEPS_MAX 512
#define WINDOW	  (64 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vm vm;
static struct fake_device devices[DEVICES];
static struct fake_device software;

static void make_devices(void)
{
	fake_nvme(&devices[0]);
	fake_e1000e(&devices[1]);
	fake_edu(&devices[2]);
	fake_nvme(&devices[3]);
	for (unsigned i = 0; i < DEVICES; i++)
		snprintf(devices[i].device.name, sizeof(devices[i].device.name), "0000:0%u:00.%u",
			 i < 2 ? 1u : 2u + i, i < 2 ? i : 0u);
	fake_nvme(&software);
	software.device.ops = &fake_software_ops;
	snprintf(software.device.name, sizeof(software.device.name), "software");
}

static bool is_plugged(struct pci_host *host, unsigned which)
{
	struct pci_address address;

	return pci_host_address(host, &devices[which].device, &address);
}

/* A config access by whichever way, biased to who is there. */
static void config(struct input *in, uint8_t opcode)
{
	unsigned size = 1u << (opcode >> 4 & 3);
	uint8_t where = (uint8_t)take(in, 1);
	unsigned bus = where >> 6, device = where >> 3 & 7, function = where & 1;
	uint64_t reg = take(in, opcode & 0x80 ? 2 : 1) & 0xfff;

	if (where & 2)
		device |= 0x10;
	if (opcode & 0x40) {
		dispatch_write(vm.ports, PORT_PCI_ADDRESS, 4,
			       0x80000000u | bus << 16 | device << 11 | function << 8 |
				       (reg & 0xfc));
		if (opcode & 1)
			dispatch_read(vm.ports, PORT_PCI_DATA + (reg & 3), size);
		else
			dispatch_write(vm.ports, PORT_PCI_DATA + (reg & 3), size, take(in, size));
		return;
	}
	reg |= bus << 20 | device << 15 | function << 12;
	if (opcode & 1)
		dispatch_read(vm.mmio, LAYOUT_ECAM_START + reg, size);
	else
		dispatch_write(vm.mmio, LAYOUT_ECAM_START + reg, size, take(in, size));
}

/* The slot registers of port @port, where the capability of ours has them. */
static void slot(struct input *in, unsigned port)
{
	uint64_t at = LAYOUT_ECAM_START + ((uint64_t)(port + 1) << 15), cap;
	unsigned steps = 0;

	cap = dispatch_read(vm.mmio, at + PCI_CAPABILITY_LIST, 1);
	while (cap && steps++ < 48 && dispatch_read(vm.mmio, at + cap, 1) != PCI_CAP_ID_EXP)
		cap = dispatch_read(vm.mmio, at + cap + 1, 1);
	dispatch_write(vm.mmio, at + cap + PCI_EXP_SLTCTL, 4, take(in, 4));
}

static void step(struct pci_host *host, struct input *in)
{
	static const struct vfio_pci_options options = { .intx = true };
	uint8_t opcode = (uint8_t)take(in, 1);
	struct vfio_pci *pci;
	unsigned which;

	switch (opcode & 15) {
	case 8:
		slot(in, opcode >> 4 & 3);
		break;
	case 9:
		which = opcode >> 4 & (DEVICES - 1);
		if (!is_plugged(host, which))
			pci_host_plug(host, &devices[which].device, &options, &pci, NULL);
		break;
	case 10:
		pci_host_unplug_ask(host, &devices[opcode >> 4 & (DEVICES - 1)].device, NULL);
		break;
	case 11:
		which = opcode >> 4 & (DEVICES - 1);
		if (opcode & 0x80 || pci_host_unplug_ready(host, &devices[which].device))
			pci_host_unplug(host, &devices[which].device, NULL);
		break;
	case 12:
		pci_host_reset(host, NULL);
		break;
	case 13: /* a BAR, wherever one is */
		which = opcode >> 4 & 3;
		dispatch_write(vm.mmio, LAYOUT_MMIO32_START + take(in, 3) % (512 * MIB),
			       1u << which, take(in, 4));
		break;
	case 14:
		which = opcode >> 4 & (DEVICES - 1);
		devices[which].fail_at = devices[which].calls + take(in, 1);
		break;
	case 15:
		vm.refuse_slots = opcode & 0x10;
		vm.gsi_limit = opcode & 0x20 ? GSI_MSI_FIRST + 2 : ARRAY_SIZE(vm.gsis);
		break;
	default:
		config(in, opcode);
		break;
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
	static const struct vfio_pci_options options = { .intx = true };
	struct input in = { data, size };
	struct pci_host *host;
	unsigned first;
	int fds;

	if (!vm.mmio) {
		log_set_level(LOG_LEVEL_ERROR);
		make_devices();
		assert_true(!dispatch_create(&vm.mmio) && !dispatch_create(&vm.ports));
	}
	fds = lowest_free_fd();
	vm.physical_bits = 46;
	vm.refuse_slots = false;
	vm.gsi_limit = ARRAY_SIZE(vm.gsis);
	for (unsigned i = 0; i < DEVICES; i++)
		devices[i].fail_at = 0;
	first = (unsigned)take(&in, 1) % (DEVICES + 1);
	assert_true(!pci_host_create(&vm, NULL, NULL, 0, &host, NULL));
	assert_true(!pci_host_hotplug(host, PORTS, WINDOW, NULL));
	assert_true(!pci_host_add(host, &software.device, false, &options, NULL));
	for (unsigned i = 0; i < first; i++)
		pci_host_add(host, &devices[i].device, true, &options, NULL);
	if (!pci_host_place(host, NULL))
		for (unsigned i = 0; i < STEPS_MAX && in.left; i++)
			step(host, &in);
	pci_host_destroy(host);
	assert_true(!vm.slot_count && !vm.irqfd_count && !vm.doorbell_count && !gsis_taken(&vm));
	for (unsigned i = 0; i < DEVICES; i++)
		for (unsigned index = 0; index < FAKE_IRQS; index++)
			assert_true(!devices[i].armed[index]);
	assert_true(lowest_free_fd() == fds);
	return 0;
}
