// SPDX-License-Identifier: Apache-2.0
/*
 * Devices that come and go: the registers of a root port's slot as a guest's driver meets them, and
 * plugging and unplugging through config accesses. The guest's driver is played here and does what
 * Linux's pciehp does; the functions and their devices are real but for the hardware.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "hypervisor-glue/pci_internal.h"
#include "tests/unit/fake_vfio_device.h"
#include "tests/unit/fake_vm.h"

#define MSI_ADDRESS UINT64_C(0xfee00000)
#define MSI_DATA    0x4041
#define PORTS	    2
#define WINDOW	    (16 * GIB)

struct house {
	struct vm vm;
	struct pci_host *host;
	unsigned exp[PORTS], msi[PORTS]; /* where the capabilities of port N are */
	unsigned messages;		 /* of which it knows */
	bool stop;
};

/* ---- config accesses ------------------------------------------------------------------------- */

static uint64_t ecam(unsigned bus, unsigned device, unsigned offset)
{
	return LAYOUT_ECAM_START + (bus << 20 | device << 15 | offset);
}

static uint32_t get(struct house *h, unsigned bus, unsigned device, unsigned offset, unsigned size)
{
	return (uint32_t)dispatch_read(h->vm.mmio, ecam(bus, device, offset), size);
}

static void put(struct house *h, unsigned bus, unsigned device, unsigned offset, unsigned size,
		uint32_t value)
{
	dispatch_write(h->vm.mmio, ecam(bus, device, offset), size, value);
}

static unsigned capability(struct house *h, unsigned device, uint8_t id)
{
	unsigned at = get(h, 0, device, PCI_CAPABILITY_LIST, 1);

	while (at && get(h, 0, device, at, 1) != id)
		at = get(h, 0, device, at + 1, 1);
	assert_int_not_equal(at, 0);
	return at;
}

/* Port N is device N + 1, and its secondary bus is N + 1. */
static uint32_t port_get(struct house *h, unsigned port, unsigned reg, unsigned size)
{
	return get(h, 0, port + 1, h->exp[port] + reg, size);
}

static void port_put(struct house *h, unsigned port, unsigned reg, unsigned size, uint32_t value)
{
	put(h, 0, port + 1, h->exp[port] + reg, size, value);
}

/* ---- the guest's driver ---------------------------------------------------------------------- */

static void driver_start(struct house *h, unsigned port)
{
	unsigned at = h->msi[port], device = port + 1;

	put(h, 0, device, at + PCI_MSI_ADDRESS_LO, 4, (uint32_t)MSI_ADDRESS);
	put(h, 0, device, at + PCI_MSI_DATA_64, 2, MSI_DATA + port);
	put(h, 0, device, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE);
	put(h, 0, device, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	port_put(h, port, PCI_EXP_SLTSTA, 2, 0x11f);
	port_put(h, port, PCI_EXP_SLTCTL, 2,
		 (port_get(h, port, PCI_EXP_SLTCTL, 2) & ~(uint32_t)PCI_EXP_SLTCTL_PDCE) |
			 PCI_EXP_SLTCTL_DLLSCE | PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_HPIE);
}

/* Events since last time; a message must have come for them, and was for this port. */
static uint32_t driver_interrupt(struct house *h, unsigned port)
{
	uint32_t events = 0, status;

	assert_int_equal(h->vm.messages, h->messages + 1);
	h->messages = h->vm.messages;
	assert_int_equal(h->vm.last_address, MSI_ADDRESS);
	assert_int_equal(h->vm.last_data, MSI_DATA + port);
	while ((status = port_get(h, port, PCI_EXP_SLTSTA, 2) & 0x11f)) {
		port_put(h, port, PCI_EXP_SLTSTA, 2, status);
		events |= status;
	}
	return events;
}

static void driver_command(struct house *h, unsigned port, uint32_t mask, uint32_t value)
{
	uint32_t control = port_get(h, port, PCI_EXP_SLTCTL, 2);

	port_put(h, port, PCI_EXP_SLTCTL, 2, (control & ~mask) | value);
}

static void driver_power_on(struct house *h, unsigned port)
{
	driver_command(h, port, PCI_EXP_SLTCTL_PCC, PCI_EXP_SLTCTL_PWR_ON);
	assert_true(port_get(h, port, PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	/* The link's change is what a driver that has just switched it on ignores. */
	assert_int_equal(driver_interrupt(h, port), PCI_EXP_SLTSTA_DLLSC);
	driver_command(h, port, PCI_EXP_SLTCTL_PIC, PCI_EXP_SLTCTL_PWR_IND_ON);
}

static void driver_power_off(struct house *h, unsigned port)
{
	driver_command(h, port, PCI_EXP_SLTCTL_PCC, PCI_EXP_SLTCTL_PWR_OFF);
	assert_false(port_get(h, port, PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	assert_int_equal(driver_interrupt(h, port), PCI_EXP_SLTSTA_DLLSC);
	driver_command(h, port, PCI_EXP_SLTCTL_PIC, PCI_EXP_SLTCTL_PWR_IND_OFF);
}

/* After a surprise: power goes off with nothing there, and the link was down before. */
static void driver_power_off_empty(struct house *h)
{
	driver_command(h, 0, PCI_EXP_SLTCTL_PCC, PCI_EXP_SLTCTL_PWR_OFF);
	driver_command(h, 0, PCI_EXP_SLTCTL_PIC, PCI_EXP_SLTCTL_PWR_IND_OFF);
	assert_int_equal(h->vm.messages, h->messages);
}

static bool ready(struct house *h, struct fake_device *fake)
{
	uint64_t value;

	/* What the event loop waits for says the same. */
	assert_int_equal(read(pci_host_hotplug_fd(h->host), &value, sizeof(value)) > 0, true);
	return pci_host_unplug_ready(h->host, &fake->device);
}

/* ---- a house --------------------------------------------------------------------------------- */

static int setup(void **state)
{
	struct house *h = calloc(1, sizeof(*h));
	struct error e = { 0 };

	h->vm.physical_bits = 46;
	h->vm.gsi_limit = ARRAY_SIZE(h->vm.gsis);
	log_set_level(LOG_LEVEL_ERROR);
	if (dispatch_create(&h->vm.mmio) || dispatch_create(&h->vm.ports) ||
	    pci_host_create(&h->vm, NULL, NULL, 0, &h->host, &e) ||
	    pci_host_hotplug(h->host, PORTS, WINDOW, &e)) {
		free(h);
		return -1;
	}
	*state = h;
	return 0;
}

static void place(struct house *h)
{
	struct error e = { 0 };

	assert_int_equal(pci_host_place(h->host, &e), 0);
	for (unsigned port = 0; port < PORTS; port++) {
		h->exp[port] = capability(h, port + 1, PCI_CAP_ID_EXP);
		h->msi[port] = capability(h, port + 1, PCI_CAP_ID_MSI);
	}
}

static int teardown(void **state)
{
	struct house *h = *state;
	int left;

	pci_host_destroy(h->host);
	left = (int)(h->vm.slot_count + h->vm.irqfd_count + h->vm.doorbell_count +
		     gsis_taken(&h->vm));
	left += dispatch_read(h->vm.mmio, LAYOUT_ECAM_START, 4) != UINT32_MAX;
	dispatch_destroy(h->vm.mmio);
	dispatch_destroy(h->vm.ports);
	free(h);
	return left;
}

static void plug(struct house *h, struct fake_device *fake)
{
	static const struct vfio_pci_options options = { 0 };
	struct vfio_pci *pci = NULL;
	struct error e = { 0 };

	if (pci_host_plug(h->host, &fake->device, &options, &pci, &e))
		fail_msg("%s", e.text);
	assert_non_null(pci);
}

static void unplug(struct house *h, struct fake_device *fake)
{
	struct error e = { 0 };

	assert_int_equal(pci_host_unplug(h->host, &fake->device, &e), 0);
}

/* ---- registers ------------------------------------------------------------------------------- */

static void an_empty_slot_says_what_it_can_and_has_no_power(void **state)
{
	struct house *h = *state;
	uint32_t capability;

	place(h);
	for (unsigned port = 0; port < PORTS; port++) {
		capability = port_get(h, port, PCI_EXP_SLTCAP, 4);
		assert_int_equal(capability & 0x7f,
				 PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_AIP |
					 PCI_EXP_SLTCAP_PIP | PCI_EXP_SLTCAP_HPS |
					 PCI_EXP_SLTCAP_HPC);
		assert_true(capability & PCI_EXP_SLTCAP_NCCS);
		assert_int_equal(capability >> 19, port + 1); /* numbers that differ */
		assert_true(port_get(h, port, PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_SLOT);
		assert_int_equal(port_get(h, port, PCI_EXP_SLTSTA, 2), 0);
		assert_true(port_get(h, port, PCI_EXP_SLTCTL, 2) & PCI_EXP_SLTCTL_PCC);
		assert_false(port_get(h, port, PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
		assert_int_equal(get(h, port + 1, 0, PCI_VENDOR_ID, 4), UINT32_MAX);
	}
	assert_int_equal(pci_host_last_bus(h->host), PORTS);
}

static void a_port_without_hot_plug_has_no_slot(void **state)
{
	struct pci_root_port port;

	pci_root_port_init(&port);
	assert_int_equal(pci_root_port_read(&port, 0x60 + PCI_EXP_SLTCAP, 4), 0);
	assert_int_equal(pci_root_port_write(&port, 0x60 + PCI_EXP_SLTCTL, 2, 0x7ff), 0);
	assert_int_equal(pci_root_port_read(&port, 0x60 + PCI_EXP_SLTCTL, 2), 0);
	assert_true(pci_root_port_read(&port, 0x60 + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	assert_true(pci_root_port_powered(&port));
	assert_false(pci_root_port_released(&port));
	pci_root_port_fini(&port);
}

static void events_clear_by_ones_in_any_width_and_nothing_else_does(void **state)
{
	struct house *h = *state;
	struct fake_device fake;

	fake_nvme(&fake);
	place(h);
	plug(h, &fake);
	assert_int_equal(port_get(h, 0, PCI_EXP_SLTSTA, 2),
			 PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP);
	port_put(h, 0, PCI_EXP_SLTSTA, 2, 0);
	port_put(h, 0, PCI_EXP_SLTSTA, 2, PCI_EXP_SLTSTA_PDS);
	port_put(h, 0, PCI_EXP_SLTSTA, 1, PCI_EXP_SLTSTA_ABP);
	assert_int_equal(port_get(h, 0, PCI_EXP_SLTSTA, 2),
			 PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC);
	/* Control and status in one access: power goes on, and the event is acknowledged. */
	port_put(h, 0, PCI_EXP_SLTCTL, 4, (uint32_t)PCI_EXP_SLTSTA_PDC << 16);
	assert_int_equal(port_get(h, 0, PCI_EXP_SLTSTA, 2),
			 PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
	unplug(h, &fake);
	fake_release(&fake);
}

static void one_message_comes_until_all_events_are_cleared(void **state)
{
	const uint32_t inserted = PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP;
	struct house *h = *state;
	struct fake_device fake;

	fake_nvme(&fake);
	place(h);
	plug(h, &fake);
	assert_int_equal(h->vm.messages, 0); /* nobody asked for any */
	unplug(h, &fake);
	driver_start(h, 0);
	plug(h, &fake);
	assert_int_equal(h->vm.messages, 1);
	unplug(h, &fake);
	plug(h, &fake);
	assert_int_equal(h->vm.messages, 1); /* not acknowledged yet */
	assert_int_equal(driver_interrupt(h, 0), inserted);
	unplug(h, &fake);
	assert_int_equal(h->vm.messages, 1); /* presence alone is not enabled beside a button */
	plug(h, &fake);
	assert_int_equal(driver_interrupt(h, 0), inserted);
	unplug(h, &fake);

	/* An event that waited is told when its interrupt is switched on. */
	port_put(h, 0, PCI_EXP_SLTSTA, 2, 0x11f);
	driver_command(h, 0, PCI_EXP_SLTCTL_HPIE, 0);
	plug(h, &fake);
	assert_int_equal(h->vm.messages, h->messages);
	driver_command(h, 0, 0, PCI_EXP_SLTCTL_HPIE);
	assert_int_equal(driver_interrupt(h, 0), inserted);
	unplug(h, &fake);
	fake_release(&fake);
}

static void no_message_leaves_a_port_that_may_not_send_one(void **state)
{
	struct house *h = *state;
	struct fake_device fake;

	fake_nvme(&fake);
	place(h);
	driver_start(h, 0);
	put(h, 0, 1, PCI_COMMAND, 2, 0); /* no bus mastering */
	plug(h, &fake);
	unplug(h, &fake);
	driver_start(h, 0);
	put(h, 0, 1, h->msi[0] + PCI_MSI_FLAGS, 2, 0);
	plug(h, &fake);
	unplug(h, &fake);
	assert_int_equal(h->vm.messages, 0);
	fake_release(&fake);
}

/* ---- coming and going ------------------------------------------------------------------------ */

static void a_device_shows_with_power_and_goes_when_the_guest_gives_it_up(void **state)
{
	struct house *h = *state;
	struct pci_address address;
	struct fake_device fake;
	struct error e = { 0 };

	fake_nvme(&fake);
	place(h);
	driver_start(h, 0);
	plug(h, &fake);
	assert_true(pci_host_removable(h->host, &fake.device));
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), UINT32_MAX); /* not before */
	driver_interrupt(h, 0);
	driver_power_on(h, 0);
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), 0x00101b36);
	assert_true(pci_host_address(h->host, &fake.device, &address));
	assert_true(pci_address_equal(&address, &(struct pci_address){ 0, 1, 0, 0 }));

	/* In use: its BAR decodes where it was placed, inside the port's window. */
	put(h, 1, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(h->vm.slot_count > 0, true);

	assert_int_equal(pci_host_unplug_ask(h->host, &fake.device, &e), 0);
	assert_int_equal(driver_interrupt(h, 0), PCI_EXP_SLTSTA_ABP);
	assert_false(pci_host_unplug_ready(h->host, &fake.device));
	driver_power_off(h, 0);
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), UINT32_MAX);
	assert_int_equal(h->vm.slot_count, 0); /* without power it decodes nothing */
	assert_true(ready(h, &fake));
	unplug(h, &fake);
	assert_false(port_get(h, 0, PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS);
	assert_false(pci_host_removable(h->host, &fake.device));
	assert_false(pci_host_address(h->host, &fake.device, &address));
	fake_release(&fake);
}

static void what_the_guest_switches_off_unasked_stays_and_is_reset(void **state)
{
	struct house *h = *state;
	struct fake_device fake;

	fake_nvme(&fake);
	place(h);
	driver_start(h, 0);
	plug(h, &fake);
	driver_interrupt(h, 0);
	driver_power_on(h, 0);
	put(h, 1, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake.resets = 0;
	driver_power_off(h, 0);
	assert_int_equal(fake.resets, 1);
	assert_false(pci_host_unplug_ready(h->host, &fake.device));
	driver_power_on(h, 0);
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), 0x00101b36);
	assert_int_equal(get(h, 1, 0, PCI_COMMAND, 2), 0);
	unplug(h, &fake);
	fake_release(&fake);
}

static void a_device_that_is_torn_out_answers_nothing_more(void **state)
{
	struct house *h = *state;
	struct fake_device fake;
	uint64_t bar;

	fake_e1000e(&fake);
	place(h);
	driver_start(h, 0);
	plug(h, &fake);
	driver_interrupt(h, 0);
	driver_power_on(h, 0);
	put(h, 1, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	bar = get(h, 1, 0, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	assert_int_not_equal(bar, 0);
	unplug(h, &fake);
	assert_int_equal(driver_interrupt(h, 0), PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), UINT32_MAX);
	assert_int_equal(dispatch_read(h->vm.mmio, bar, 4), UINT32_MAX);
	assert_int_equal(h->vm.slot_count, 0);
	fake_release(&fake);
}

static void a_device_of_the_start_can_go_and_another_come(void **state)
{
	static const struct vfio_pci_options options = { 0 };
	struct house *h = *state;
	struct fake_device first, second;
	struct error e = { 0 };

	fake_nvme(&first);
	fake_edu(&second);
	strcpy(second.device.name, "0000:02:00.0");
	assert_int_equal(pci_host_add(h->host, &first.device, true, &options, &e), 0);
	place(h);
	/* It has power from the start, so that a guest without a driver for the slot finds it. */
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), 0x00101b36);
	assert_true(port_get(h, 0, PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS);
	driver_start(h, 0);
	assert_int_equal(pci_host_unplug_ask(h->host, &first.device, &e), 0);
	driver_interrupt(h, 0);
	driver_power_off(h, 0);
	assert_true(ready(h, &first));
	unplug(h, &first);
	plug(h, &second);
	driver_interrupt(h, 0);
	driver_power_on(h, 0);
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), 0x11e81234);
	unplug(h, &second);
	fake_release(&first);
	fake_release(&second);
}

static void functions_of_one_slot_go_together(void **state)
{
	static const struct vfio_pci_options options = { 0 };
	struct house *h = *state;
	struct fake_device gpu, audio;
	struct error e = { 0 };

	fake_gpu(&gpu);
	fake_edu(&audio);
	strcpy(audio.device.name, "0000:01:00.1");
	assert_int_equal(pci_host_add(h->host, &gpu.device, true, &options, &e), 0);
	assert_int_equal(pci_host_add(h->host, &audio.device, true, &options, &e), 0);
	place(h);
	assert_true(pci_host_same_slot(h->host, &gpu.device, &audio.device));
	unplug(h, &audio);
	assert_int_equal(get(h, 1, 0, PCI_VENDOR_ID, 4), UINT32_MAX);
	assert_false(pci_host_removable(h->host, &gpu.device));
	fake_release(&gpu);
	fake_release(&audio);
}

static void a_full_house_and_a_large_bar_are_refused_and_leave_nothing(void **state)
{
	static const struct vfio_pci_options options = { 0 };
	struct house *h = *state;
	struct fake_device fakes[PORTS + 1], large;
	struct vfio_pci *pci;
	struct error e = { 0 };
	unsigned fds;

	place(h);
	fake_gpu(&large);
	fake_bar(&large, 3, WINDOW, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH);
	fds = fake_open_fds();
	assert_int_equal(pci_host_plug(h->host, &large.device, &options, &pci, &e), -ENOSPC);
	assert_string_equal(e.code, "bar-window-full");
	assert_non_null(strstr(e.next, "--hotplug-window"));
	assert_int_equal(fake_open_fds(), fds);
	fake_release(&large);

	for (unsigned i = 0; i <= PORTS; i++) {
		fake_gpu(&fakes[i]);
		snprintf(fakes[i].device.name, sizeof(fakes[i].device.name), "0000:0%u:00.0", i);
	}
	fds = fake_open_fds();
	for (unsigned i = 0; i < PORTS; i++)
		plug(h, &fakes[i]);
	assert_int_equal(pci_host_plug(h->host, &fakes[PORTS].device, &options, &pci, &e), -ENOSPC);
	assert_string_equal(e.code, "no-free-port");
	for (unsigned i = 0; i < PORTS; i++)
		unplug(h, &fakes[i]);
	assert_int_equal(fake_open_fds(), fds);
	for (unsigned i = 0; i <= PORTS; i++)
		fake_release(&fakes[i]);
}

static void what_sits_on_bus_0_cannot_go(void **state)
{
	static const struct vfio_pci_options options = { 0 };
	struct house *h = *state;
	static struct fake_device fake; /* as long as the host */
	struct error e = { 0 };

	fake_edu(&fake);
	assert_int_equal(pci_host_add(h->host, &fake.device, false, &options, &e), 0);
	assert_int_equal(pci_host_place(h->host, &e), 0);
	assert_int_equal(pci_host_unplug_ask(h->host, &fake.device, &e), -EBUSY);
	assert_string_equal(e.code, "not-removable");
	assert_int_equal(pci_host_unplug(h->host, &fake.device, &e), -EBUSY);
	fake_release(&fake);
}

/* Every kind of device in turn, used with interrupts, given up or torn out. */
static void a_thousand_times_in_and_out_leaves_nothing(void **state)
{
	static void (*const make[])(struct fake_device *) = { fake_nvme, fake_e1000e, fake_edu,
							      fake_gpu };
	struct house *h = *state;
	struct fake_device fakes[ARRAY_SIZE(make)];
	unsigned fds, mappings = 0, slots;
	unsigned long pages = 0;
	struct error e = { 0 };

	place(h);
	for (unsigned port = 0; port < PORTS; port++)
		driver_start(h, port);
	for (unsigned i = 0; i < ARRAY_SIZE(make); i++)
		make[i](&fakes[i]);
	fds = fake_open_fds();
	slots = h->vm.slot_count;
	for (unsigned round = 0; round < 1000; round++) {
		struct fake_device *fake = &fakes[round % ARRAY_SIZE(make)];

		plug(h, fake);
		driver_interrupt(h, 0);
		driver_power_on(h, 0);
		put(h, 1, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		assert_int_equal(dispatch_read(h->vm.mmio, ecam(1, 0, PCI_COMMAND), 2),
				 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		if (round % 3) {
			assert_int_equal(pci_host_unplug_ask(h->host, &fake->device, &e), 0);
			assert_int_equal(driver_interrupt(h, 0), PCI_EXP_SLTSTA_ABP);
			driver_power_off(h, 0);
			assert_true(ready(h, fake));
			unplug(h, fake);
			port_put(h, 0, PCI_EXP_SLTSTA, 2, 0x11f);
		} else {
			unplug(h, fake);
			driver_interrupt(h, 0);
			driver_power_off_empty(h);
		}
		assert_int_equal(h->vm.slot_count, slots);
		assert_int_equal(h->vm.irqfd_count, 0);
		assert_int_equal(gsis_taken(&h->vm), 0);
		if (round == 10) { /* what libraries keep is kept by now */
			mappings = fake_mappings();
			pages = fake_address_space();
		}
	}
	assert_int_equal(fake_open_fds(), fds);
	assert_int_equal(fake_mappings(), mappings);
	assert_true(fake_address_space() <= pages + 256);
	for (unsigned i = 0; i < ARRAY_SIZE(make); i++)
		fake_release(&fakes[i]);
}

/* A device that takes its time, so that accesses are under way while it is taken away. */
static ssize_t slow_region_read(struct vfio_device *device, uint32_t index, uint64_t offset,
				void *buf, size_t count)
{
	usleep(50);
	return fake_region_read(device, index, offset, buf, count);
}

/* Accesses of vCPUs while devices come and go: nothing that is gone is used (ASan sees it). */
static void *access_all(void *arg)
{
	struct house *h = arg;
	unsigned n = 0;

	dispatch_thread_enter();
	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
		/* Status bits and the BAR are answered by the device. */
		dispatch_write(h->vm.mmio, ecam(1, 0, PCI_COMMAND), 2,
			       n++ % 3 ? PCI_COMMAND_MEMORY : 0);
		dispatch_read(h->vm.mmio, ecam(1, 0, PCI_STATUS), 2);
		dispatch_read(h->vm.mmio, LAYOUT_MMIO32_START, 4);
	}
	dispatch_thread_leave();
	return NULL;
}

static void vcpus_may_access_a_slot_that_is_being_emptied(void **state)
{
	struct house *h = *state;
	struct vfio_device_ops slow_ops = fake_kernel_ops;
	struct fake_device fake;
	pthread_t threads[2];

	slow_ops.region_read = slow_region_read;
	fake_edu(&fake);
	fake.device.ops = &slow_ops;
	fake.regions[0].flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP; /* all of it traps */
	fake.regions[0].area_count = 0;
	place(h);
	driver_start(h, 0);
	/* Power is on already when the device comes. */
	driver_command(h, 0, PCI_EXP_SLTCTL_PCC, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, access_all, h), 0);
	for (unsigned round = 0; round < 200; round++) {
		plug(h, &fake);
		unplug(h, &fake);
	}
	__atomic_store_n(&h->stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	fake_release(&fake);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_empty_slot_says_what_it_can_and_has_no_power),
		TEST(a_port_without_hot_plug_has_no_slot),
		TEST(events_clear_by_ones_in_any_width_and_nothing_else_does),
		TEST(one_message_comes_until_all_events_are_cleared),
		TEST(no_message_leaves_a_port_that_may_not_send_one),
		TEST(a_device_shows_with_power_and_goes_when_the_guest_gives_it_up),
		TEST(what_the_guest_switches_off_unasked_stays_and_is_reset),
		TEST(a_device_that_is_torn_out_answers_nothing_more),
		TEST(a_device_of_the_start_can_go_and_another_come),
		TEST(functions_of_one_slot_go_together),
		TEST(a_full_house_and_a_large_bar_are_refused_and_leave_nothing),
		TEST(what_sits_on_bus_0_cannot_go),
		TEST(a_thousand_times_in_and_out_leaves_nothing),
		TEST(vcpus_may_access_a_slot_that_is_being_emptied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
