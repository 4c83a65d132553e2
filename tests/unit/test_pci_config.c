// SPDX-License-Identifier: Apache-2.0
/* Config space of a virtualised function: what a guest sees, what it may change, what that causes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/function_bench.h"

/* The capabilities a guest finds, as one string of ids. */
static const char *chain(struct bench *b, char text[64])
{
	unsigned at =
		get(b, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST ? get(b, PCI_CAPABILITY_LIST, 1) : 0;

	text[0] = '\0';
	for (unsigned n = 0; at && n < 12; n++) {
		snprintf(text + strlen(text), 64 - strlen(text), "%02x ", get(b, at, 1));
		at = get(b, at + 1, 1);
	}
	return text;
}

static void identity_is_the_devices_and_the_rest_is_as_after_power_on(void **state)
{
	struct bench *b = with(state, fake_nvme);

	assert_int_equal(get(b, PCI_VENDOR_ID, 4), 0x00101b36);
	assert_int_equal(get(b, PCI_CLASS_REVISION, 4), 0x01080202);
	assert_int_equal(get(b, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	assert_int_equal(get(b, PCI_COMMAND, 2), 0);
	assert_int_equal(get(b, PCI_BIST, 1), 0);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(get(b, PCI_BASE_ADDRESS_0, 4), PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_int_equal(get(b, 0x100, 4), 0);
}

static void a_conventional_function_has_no_extended_space(void **state)
{
	struct bench *b = with(state, fake_edu);

	assert_int_equal(get(b, 0x100, 4), 0xffffffff);
	assert_int_equal(get(b, 0xfe, 4), 0xffffffff);
}

static void odd_accesses_read_ones_and_write_nothing(void **state)
{
	struct bench *b = with(state, fake_nvme);

	assert_int_equal(get(b, 0, 3), 0xffffffff);
	assert_int_equal(get(b, 0, 8), 0xffffffff);
	assert_int_equal(get(b, 4094, 4), 0xffffffff);
	assert_int_equal(get(b, 65535, 1), 0xffffffff);
	put(b, PCI_INTERRUPT_LINE, 3, 5);
	put(b, 65535, 4, 5);
	assert_int_equal(get(b, PCI_INTERRUPT_LINE, 1), 0);
}

static void only_allowed_capabilities_are_in_the_chain(void **state)
{
	struct bench *b = with(state, fake_gpu);
	char text[64];

	assert_string_equal(chain(b, text), "01 05 10 11 ");
	assert_int_equal(get(b, 0xc0, 4), 0);
	assert_int_equal(get(b, 0x40, 4), 0);
}

static void vendor_capabilities_are_shown_when_allowed(void **state)
{
	const struct vfio_pci_options options = { .allow_vendor_capability = true };
	struct bench *b = *state;
	char text[64];

	fake_gpu(&b->fake);
	assert_int_equal(
		vfio_pci_create(&b->fake.device, &options, &fake_host_ops, &b->host, &b->pci, NULL),
		0);
	assert_string_equal(chain(b, text), "01 05 10 09 11 ");
	assert_int_equal(get(b, 0xc2, 2), 0x4208);
}

static void a_software_devices_vendor_capability_is_its_own_business(void **state)
{
	struct bench *b = *state;
	char text[64];

	fake_gpu(&b->fake);
	b->fake.device.ops = &fake_software_ops;
	b->pci = fake_function(&b->fake, &b->host);
	assert_string_equal(chain(b, text), "01 05 10 09 11 ");
	put(b, 0xc4, 4, 0x12345678);
	assert_int_equal(fake_get(&b->fake, 0xc4, 4), 0x12345678);
	fake_put(&b->fake, 0xc4, 4, 0xcafe);
	assert_int_equal(get(b, 0xc4, 4), 0xcafe);
	/* but not the list itself */
	put(b, 0xc0, 4, 0xffffffff);
	assert_int_equal(get(b, 0xc0, 2), 0xc809);
	assert_int_equal(fake_get(&b->fake, 0xc0, 2), 0xc809);
}

static void a_capability_loop_ends(void **state)
{
	struct bench *b = *state;
	char text[64];

	fake_nvme(&b->fake);
	b->fake.config[0x61] = 0x40;
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	assert_string_equal(chain(b, text), "11 10 01 ");
}

static void a_pointer_into_the_header_ends_the_list(void **state)
{
	struct bench *b = *state;
	char text[64];

	fake_nvme(&b->fake);
	b->fake.config[0x41] = 0x10;
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	assert_string_equal(chain(b, text), "11 ");
}

static void a_capability_that_does_not_fit_is_hidden(void **state)
{
	struct bench *b = *state;
	char text[64];

	fake_nvme(&b->fake);
	b->fake.config[0x81] = 0xfc;
	fake_capability(&b->fake, 0xfc, PCI_CAP_ID_PM, 0);
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	assert_string_equal(chain(b, text), "11 10 ");
	assert_int_equal(get(b, 0xfc, 4), 0);
}

static void overlapping_capabilities_do_not_mix(void **state)
{
	struct bench *b = *state;
	char text[64];

	fake_nvme(&b->fake);
	b->fake.config[0x81] = 0xa0; /* inside PCIe's registers */
	fake_pm(&b->fake, 0xa0, 0);
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	assert_string_equal(chain(b, text), "11 10 ");
}

static void what_no_table_names_cannot_be_written(void **state)
{
	struct bench *b = with(state, fake_nvme);

	for (unsigned at = 0xc0; at < 0x140; at += 4) {
		put(b, at, 4, 0xffffffff);
		assert_int_equal(get(b, at, 4), 0);
	}
	put(b, PCI_VENDOR_ID, 4, 0);
	put(b, PCI_BIST, 1, 0xff);
	put(b, PCI_ROM_ADDRESS, 4, 0xffffffff);
	put(b, PCI_CAPABILITY_LIST, 4, 0xffffffff);
	assert_int_equal(get(b, PCI_VENDOR_ID, 4), 0x00101b36);
	assert_int_equal(get(b, PCI_BIST, 1), 0);
	assert_int_equal(get(b, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(get(b, PCI_CAPABILITY_LIST, 4), 0x40);
	assert_int_equal(fake_get(&b->fake, PCI_ROM_ADDRESS, 4), 0xfffe0001);
}

static void decode_stays_on_in_the_device_and_bus_mastering_follows_the_guest(void **state)
{
	struct bench *b = with(state, fake_e1000e);
	const uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;

	assert_int_equal(fake_get(&b->fake, PCI_COMMAND, 2), on);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(get(b, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(fake_get(&b->fake, PCI_COMMAND, 2), on | PCI_COMMAND_MASTER);
	put(b, PCI_COMMAND, 2, 0);
	assert_int_equal(get(b, PCI_COMMAND, 2), 0);
	assert_int_equal(fake_get(&b->fake, PCI_COMMAND, 2), on);
}

static void reporting_e1000e(struct fake_device *fake)
{
	fake_e1000e(fake);
	fake_put(fake, PCI_COMMAND, 2, PCI_COMMAND_SERR);
}

static void a_guest_cannot_stop_the_device_from_reporting_errors_to_the_host(void **state)
{
	struct bench *b = with(state, reporting_e1000e);

	assert_int_equal(get(b, PCI_COMMAND, 2), 0);
	assert_true(fake_get(&b->fake, PCI_COMMAND, 2) & PCI_COMMAND_SERR);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_SERR);
	assert_int_equal(get(b, PCI_COMMAND, 2), PCI_COMMAND_SERR);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_true(fake_get(&b->fake, PCI_COMMAND, 2) & PCI_COMMAND_SERR);
}

static void only_the_changed_command_reaches_the_device(void **state)
{
	struct bench *b = with(state, fake_edu);
	unsigned writes = b->fake.config_writes;

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(b, PCI_COMMAND, 2, 0);
	assert_int_equal(b->fake.config_writes, writes);
}

static void a_status_error_is_cleared_in_the_device(void **state)
{
	struct bench *b = with(state, fake_edu);

	fake_put(&b->fake, PCI_STATUS, 2, PCI_STATUS_REC_MASTER_ABORT);
	assert_int_equal(get(b, PCI_STATUS, 2), PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_CAP_LIST);
	/* the write goes through with nothing but the error bits of it */
	put(b, PCI_STATUS, 2, PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_CAP_LIST);
	assert_int_equal(fake_get(&b->fake, PCI_STATUS, 2), PCI_STATUS_SIG_SYSTEM_ERROR);
}

static void power_states_are_a_register_and_nothing_more(void **state)
{
	struct bench *b = with(state, fake_nvme);

	assert_int_equal(get(b, 0x60 + PCI_PM_PMC, 2), 0x0023); /* no D1, D2, PME */
	put(b, 0x60 + PCI_PM_CTRL, 2, 3);
	assert_int_equal(get(b, 0x60 + PCI_PM_CTRL, 2), 3 | PCI_PM_CTRL_NO_SOFT_RESET);
	put(b, 0x60 + PCI_PM_CTRL, 2, 1);
	assert_int_equal(get(b, 0x60 + PCI_PM_CTRL, 2), 3 | PCI_PM_CTRL_NO_SOFT_RESET);
	put(b, 0x60 + PCI_PM_CTRL, 2, 0xff00);
	assert_int_equal(get(b, 0x60 + PCI_PM_CTRL, 2), PCI_PM_CTRL_NO_SOFT_RESET);
	assert_int_equal(fake_get(&b->fake, 0x60 + PCI_PM_CTRL, 2), 0x0100);
}

static void read_requests_are_the_guests_and_payload_the_hosts(void **state)
{
	struct bench *b = with(state, fake_nvme);

	put(b, 0x80 + PCI_EXP_DEVCTL, 2, 0x5000 | PCI_EXP_DEVCTL_PAYLOAD_256B | 0xf);
	assert_int_equal(fake_get(&b->fake, 0x80 + PCI_EXP_DEVCTL, 2), 0x5000);
	assert_int_equal(get(b, 0x80 + PCI_EXP_DEVCTL, 2),
			 0x5000 | PCI_EXP_DEVCTL_PAYLOAD_256B | 0xf);
	/* the link is not the guest's to disable */
	put(b, 0x80 + PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_LD | PCI_EXP_LNKCTL_ASPM_L1);
	assert_int_equal(fake_get(&b->fake, 0x80 + PCI_EXP_LNKCTL, 2), 0);
	assert_int_equal(get(b, 0x80 + PCI_EXP_LNKCTL, 2), PCI_EXP_LNKCTL_ASPM_L1);
}

static void a_guests_flr_resets_all_that_it_sees(void **state)
{
	struct bench *b = with(state, fake_e1000e);

	assert_true(get(b, 0xe0 + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	put(b, 0xd0 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	put(b, PCI_BASE_ADDRESS_0, 4, 0xc0100000);
	put(b, 0xe0 + PCI_EXP_DEVCTL, 2, 0x5000);
	assert_true(b->host.decoded[0]);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSI_IRQ_INDEX], 1);

	put(b, 0xe0 + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	assert_int_equal(b->fake.resets, 1);
	assert_false(b->host.decoded[0]);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSI_IRQ_INDEX], 0);
	assert_int_equal(get(b, PCI_COMMAND, 2), 0);
	assert_int_equal(get(b, 0xd0 + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE, 0);
	assert_int_equal(get(b, PCI_BASE_ADDRESS_0, 4), 0xc0000000);
	assert_int_equal(get(b, 0xe0 + PCI_EXP_DEVCTL, 2), 0x2810);
	assert_int_equal(fake_get(&b->fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	assert_int_equal(b->host.wrong, 0);
}

static void flr_is_not_offered_where_vfio_cannot_reset(void **state)
{
	struct bench *b = *state;

	fake_nvme(&b->fake);
	b->fake.device.flags &= ~VFIO_DEVICE_FLAGS_RESET;
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	assert_false(get(b, 0x80 + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	put(b, 0x80 + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	assert_int_equal(b->fake.resets, 0);
}

static void reset_tolerates_a_device_without_one(void **state)
{
	struct bench *b = with(state, fake_edu);

	b->fake.reset_result = -ENOTTY;
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_int_equal(vfio_pci_reset(b->pci, NULL), 0);
	assert_int_equal(fake_get(&b->fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	assert_int_equal(get(b, PCI_COMMAND, 2), 0);
}

static void reset_says_when_the_device_is_lost(void **state)
{
	struct bench *b = with(state, fake_edu);
	struct error e = { 0 };

	b->fake.reset_result = -EIO;
	assert_int_equal(vfio_pci_reset(b->pci, &e), -EIO);
	assert_string_equal(e.code, "reset-failed");
	b->fake.reset_result = 0;
	memset(b->fake.config, 0xff, sizeof(b->fake.config));
	assert_int_equal(vfio_pci_reset(b->pci, &e), -EIO);
	assert_string_equal(e.code, "device-lost");
}

static void the_pin_lives_while_registers_can_be_reached_and_no_message_is_enabled(void **state)
{
	struct bench *b = with(state, fake_edu);

	assert_true(vfio_pci_has_intx(b->pci));
	assert_int_equal(get(b, PCI_INTERRUPT_PIN, 1), 1);
	vfio_pci_set_intx_line(b->pci, 17);
	assert_int_equal(get(b, PCI_INTERRUPT_LINE, 1), 17);
	assert_int_equal(b->host.intx_updates, 0);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b->host.trigger > 0);
	assert_int_equal(b->fake.fds[VFIO_PCI_INTX_IRQ_INDEX][0], b->host.trigger);
	assert_int_equal(b->fake.unmask_fd, b->host.resample);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(b->host.trigger, -1);
	assert_int_equal(b->fake.armed[VFIO_PCI_INTX_IRQ_INDEX], 0);
	assert_true(fake_get(&b->fake, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b->host.trigger > 0);
	put(b, 0x40 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(b->host.trigger, -1);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSI_IRQ_INDEX], 1);
	put(b, 0x40 + PCI_MSI_FLAGS, 2, 0);
	assert_true(b->host.trigger > 0);
	assert_int_equal(b->host.msi_releases, 1);
	assert_int_equal(b->host.wrong, 0);
}

static void a_pin_that_is_not_offered_is_not_there(void **state)
{
	const struct vfio_pci_options options = { 0 };
	struct bench *b = *state;

	fake_edu(&b->fake);
	assert_int_equal(
		vfio_pci_create(&b->fake.device, &options, &fake_host_ops, &b->host, &b->pci, NULL),
		0);
	assert_false(vfio_pci_has_intx(b->pci));
	assert_int_equal(get(b, PCI_INTERRUPT_PIN, 1), 0);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(b->fake.armed[VFIO_PCI_INTX_IRQ_INDEX], 0);
	assert_true(fake_get(&b->fake, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
}

static void one_msi_vector_has_the_guests_message(void **state)
{
	struct bench *b = with(state, fake_edu);

	put(b, 0x40 + PCI_MSI_ADDRESS_LO, 4, 0xfee01003);
	put(b, 0x40 + PCI_MSI_ADDRESS_HI, 4, 0x1);
	put(b, 0x40 + PCI_MSI_DATA_64, 2, 0x4041);
	put(b, 0x40 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(b->host.msi_updates, 1);
	assert_int_equal(b->host.eventfds[0], b->fake.fds[VFIO_PCI_MSI_IRQ_INDEX][0]);
	assert_true(b->host.vectors[0].address == 0x1fee01000);
	assert_int_equal(b->host.vectors[0].data, 0x4041);

	/* a new message is the host's business alone */
	unsigned calls = b->fake.set_irqs_calls;
	put(b, 0x40 + PCI_MSI_DATA_64, 2, 0x4042);
	assert_int_equal(b->host.vectors[0].data, 0x4042);
	assert_int_equal(b->fake.set_irqs_calls, calls);
}

static void msi_vectors_differ_in_the_low_bits_and_can_be_masked(void **state)
{
	struct bench *b = with(state, fake_gpu);
	const unsigned at = 0x68;
	uint64_t one = 1;

	put(b, at + PCI_MSI_DATA_64, 2, 0x4043);
	put(b, at + PCI_MSI_MASK_64, 4, 0x4);
	put(b, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 3 << 4);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSI_IRQ_INDEX], 8);
	assert_int_equal(b->host.msi_updates, 1);
	assert_int_equal(fake_host_delivered(&b->host), 7);
	assert_int_equal(b->host.vectors[5].data, 0x4045);
	assert_int_equal(b->host.eventfds[2], 0);

	assert_int_equal(write(b->fake.fds[VFIO_PCI_MSI_IRQ_INDEX][2], &one, 8), 8);
	assert_int_equal(get(b, at + PCI_MSI_PENDING_64, 4), 0x4);
	unsigned calls = b->fake.set_irqs_calls;
	put(b, at + PCI_MSI_MASK_64, 4, 0);
	assert_int_equal(fake_host_delivered(&b->host), 8);
	assert_int_equal(b->host.last_first, 2);
	assert_int_equal(b->host.last_count, 1);
	assert_int_equal(b->fake.set_irqs_calls, calls);

	/* more vectors: a new set; more than offered: what is offered */
	put(b, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 5 << 4);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSI_IRQ_INDEX], 16);
}

static void fewer_msi_vectors_than_asked_for_still_work(void **state)
{
	struct bench *b = with(state, fake_gpu);

	b->fake.most_vectors = 5;
	put(b, 0x68 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 4 << 4);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSI_IRQ_INDEX], 4);
	assert_int_equal(fake_host_delivered(&b->host), 4);
}

static void error_and_request_are_armed_where_the_device_has_them(void **state)
{
	struct bench *b = with(state, fake_edu);

	assert_int_equal(vfio_pci_error_fd(b->pci), -1);
	assert_true(vfio_pci_request_fd(b->pci) >= 0);
	assert_int_equal(b->fake.fds[VFIO_PCI_REQ_IRQ_INDEX][0], vfio_pci_request_fd(b->pci));
}

static void a_function_that_cannot_be_assigned_is_refused(void **state)
{
	const struct vfio_pci_options options = { 0 };
	struct bench *b = *state;
	struct error e = { 0 };

	fake_edu(&b->fake);
	b->fake.config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	assert_int_equal(
		vfio_pci_create(&b->fake.device, &options, &fake_host_ops, &b->host, &b->pci, &e),
		-EINVAL);
	assert_string_equal(e.code, "is-a-bridge");
	memset(b->fake.config, 0xff, sizeof(b->fake.config));
	assert_int_equal(
		vfio_pci_create(&b->fake.device, &options, &fake_host_ops, &b->host, &b->pci, &e),
		-ENODEV);
	assert_string_equal(e.code, "config-unreadable");
	assert_null(b->pci);
}

/* A guest's life in short: sizing, decode, INTx, MSI-X, MSI, FLR. */
static void drive(struct vfio_pci *pci)
{
	vfio_pci_set_bar(pci, 0, 0xc0000000);
	vfio_pci_set_bar(pci, 1, 0x4000000000);
	vfio_pci_set_bar(pci, 3, 0x3000000000);
	vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	vfio_pci_config_write(pci, 0xc8 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < 6; i++)
		vfio_pci_bar_write(pci, 0, 0xb90000 + 16 * i + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
	vfio_pci_config_write(pci, 0xc8 + PCI_MSIX_FLAGS, 2, 0);
	vfio_pci_config_write(pci, 0x68 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 4 << 4);
	vfio_pci_config_write(pci, 0x84 + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	vfio_pci_bar_read(pci, 0, 0xb90100, 4);
	vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	vfio_pci_bar_read(pci, 0, 0xb90100, 4);
}

static void whatever_call_fails_nothing_is_left_behind(void **state)
{
	struct bench *b = *state;
	unsigned long total = 0;

	for (unsigned long n = 0; n <= total; n++) {
		unsigned fds, maps;
		unsigned long space;

		fake_gpu(&b->fake);
		b->fake.irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
		b->fake.config[PCI_INTERRUPT_PIN] = 1;
		fds = fake_open_fds();
		maps = fake_mappings();
		space = fake_address_space();
		b->fake.fail_at = n;
		b->pci = fake_function(&b->fake, &b->host);
		if (b->pci)
			drive(b->pci);
		else
			assert_int_not_equal(n, 0);
		if (!n)
			total = b->fake.calls;
		vfio_pci_destroy(b->pci);
		b->pci = NULL;
		assert_int_equal(fake_open_fds(), fds);
		assert_int_equal(fake_mappings(), maps);
		/* the heap may have grown by what the first round allocated */
		assert_true(fake_address_space() <= space + 1024);
		assert_int_equal(b->host.wrong, 0);
		for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
			assert_false(b->host.decoded[i]);
		for (unsigned i = 0; i < FAKE_IRQS; i++)
			assert_int_equal(b->fake.armed[i], 0);
		fake_release(&b->fake);
		memset(&b->fake, 0, sizeof(b->fake));
	}
	assert_true(total > 80);
}

static void a_host_that_refuses_leaves_nothing_behind(void **state)
{
	struct bench *b = *state;

	for (unsigned long n = 1; n < 12; n++) {
		unsigned fds;

		fake_gpu(&b->fake);
		b->fake.irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
		b->fake.config[PCI_INTERRUPT_PIN] = 1;
		fds = fake_open_fds();
		b->pci = fake_function(&b->fake, &b->host);
		assert_non_null(b->pci);
		b->host.fail_at = n;
		drive(b->pci);
		vfio_pci_destroy(b->pci);
		b->pci = NULL;
		assert_int_equal(fake_open_fds(), fds);
		for (unsigned i = 0; i < FAKE_IRQS; i++)
			assert_int_equal(b->fake.armed[i], 0);
		fake_release(&b->fake);
		memset(&b->fake, 0, sizeof(b->fake));
	}
}

/*
 * Everything was decided on one reading: what the device answers now moves no table, opens no register and
 * changes no size.
 */
static void a_device_that_changes_its_mind_changes_nothing(void **state)
{
	struct bench *b = with(state, fake_nvme);
	uint32_t before[64], msix = 0x40;

	vfio_pci_set_bar(b->pci, 0, 0x10000000);
	for (unsigned i = 0; i < ARRAY_SIZE(before); i++)
		before[i] = get(b, 4 * i, 4);
	/* All that could be a size, a place or a length, and the chain itself. */
	memset(b->fake.config, 0xff, sizeof(b->fake.config));
	for (unsigned i = 0; i < ARRAY_SIZE(b->fake.regions); i++)
		if (i != VFIO_PCI_CONFIG_REGION_INDEX)
			b->fake.regions[i].size = UINT64_MAX;
	for (unsigned i = 0; i < FAKE_IRQS; i++)
		b->fake.irqs[i].count = UINT32_MAX;
	for (unsigned i = 0; i < ARRAY_SIZE(before); i++)
		/* Status and link state are the device's to say. */
		if (4 * i != PCI_COMMAND && 4 * i != 0x80 + PCI_EXP_DEVCTL &&
		    4 * i != 0x80 + PCI_EXP_LNKCTL && 4 * i != 0x80 + PCI_EXP_DEVCTL2 &&
		    4 * i != 0x80 + PCI_EXP_LNKCTL2)
			assert_int_equal(get(b, 4 * i, 4), before[i]);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b->host.decoded[0]);
	put(b, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	assert_int_equal(get(b, PCI_BASE_ADDRESS_0, 4), 0xffffc004);
	put(b, PCI_BASE_ADDRESS_0, 4, 0x20000000);
	/* The table is where it was, as long as it was. */
	vfio_pci_bar_write(b->pci, 0, 0x2000 + 64 * 16, 8, 0xfee00000);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x2000 + 64 * 16, 8), 0xfee00000);
	assert_int_equal(b->fake.bar_writes, 0);
	put(b, msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 65);
	assert_int_equal(vfio_pci_bar(b->pci, 0)->size, 0x4000);
	assert_int_equal(b->host.wrong, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(identity_is_the_devices_and_the_rest_is_as_after_power_on),
		TEST(a_conventional_function_has_no_extended_space),
		TEST(odd_accesses_read_ones_and_write_nothing),
		TEST(only_allowed_capabilities_are_in_the_chain),
		TEST(vendor_capabilities_are_shown_when_allowed),
		TEST(a_software_devices_vendor_capability_is_its_own_business),
		TEST(a_capability_loop_ends),
		TEST(a_pointer_into_the_header_ends_the_list),
		TEST(a_capability_that_does_not_fit_is_hidden),
		TEST(overlapping_capabilities_do_not_mix),
		TEST(what_no_table_names_cannot_be_written),
		TEST(decode_stays_on_in_the_device_and_bus_mastering_follows_the_guest),
		TEST(a_guest_cannot_stop_the_device_from_reporting_errors_to_the_host),
		TEST(only_the_changed_command_reaches_the_device),
		TEST(a_status_error_is_cleared_in_the_device),
		TEST(power_states_are_a_register_and_nothing_more),
		TEST(read_requests_are_the_guests_and_payload_the_hosts),
		TEST(a_guests_flr_resets_all_that_it_sees),
		TEST(flr_is_not_offered_where_vfio_cannot_reset),
		TEST(reset_tolerates_a_device_without_one),
		TEST(reset_says_when_the_device_is_lost),
		TEST(the_pin_lives_while_registers_can_be_reached_and_no_message_is_enabled),
		TEST(a_pin_that_is_not_offered_is_not_there),
		TEST(one_msi_vector_has_the_guests_message),
		TEST(msi_vectors_differ_in_the_low_bits_and_can_be_masked),
		TEST(fewer_msi_vectors_than_asked_for_still_work),
		TEST(error_and_request_are_armed_where_the_device_has_them),
		TEST(a_function_that_cannot_be_assigned_is_refused),
		TEST(a_device_that_changes_its_mind_changes_nothing),
		TEST(whatever_call_fails_nothing_is_left_behind),
		TEST(a_host_that_refuses_leaves_nothing_behind),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
