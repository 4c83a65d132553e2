// SPDX-License-Identifier: Apache-2.0
/* Quirks of single kinds of device: NVIDIA's peer-to-peer clique. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/function_bench.h"

/* A function with clique @clique; its refusal in @e. */
static struct vfio_pci *in_clique(struct bench *b, uint8_t clique, struct error *e)
{
	const struct vfio_pci_options options = { .in_p2p_clique = true, .p2p_clique = clique };

	vfio_pci_destroy(b->pci);
	b->pci = fake_function_with(&b->fake, &b->host, &options, e);
	return b->pci;
}

/* Where the guest finds a capability of @id; 0: nowhere. *last: none comes after it. */
static unsigned find(struct bench *b, uint8_t id, bool *last)
{
	unsigned at = get(b, PCI_CAPABILITY_LIST, 1);

	for (unsigned n = 0; at && n < 48; n++) {
		unsigned next = get(b, at + PCI_CAP_LIST_NEXT, 1);

		*last = !next;
		if (get(b, at, 1) == id)
			return at;
		at = next;
	}
	return 0;
}

static void assert_clique(struct bench *b, unsigned place, unsigned clique)
{
	bool last = false;

	assert_int_equal(find(b, PCI_CAP_ID_VNDR, &last), place);
	assert_true(last);
	assert_true(get(b, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_int_equal(get(b, place + 2, 1), 8);
	assert_int_equal(get(b, place + 3, 1), 'P');
	assert_int_equal(get(b, place + 4, 4), clique << 19 | 0x5032);
}

static void the_clique_is_last_in_the_list_at_c8(void **state)
{
	struct bench *b = *state;

	fake_init(&b->fake, 0x1db110de, 0x030200, 4096);
	fake_put(&b->fake, PCI_CAPABILITY_LIST, 1, 0x60);
	fake_pm(&b->fake, 0x60, 0x78);
	fake_pcie(&b->fake, 0x78, 0, 2);
	fake_bar(&b->fake, 0, 16 * MIB, 0);
	for (unsigned clique = 0; clique <= 15; clique += 5) {
		assert_non_null(in_clique(b, (uint8_t)clique, NULL));
		assert_clique(b, 0xc8, clique);
	}
	/* it is ours alone: nothing of it reaches the device, nothing changes it */
	b->fake.config_writes = 0;
	for (unsigned i = 0; i < 8; i++)
		put(b, 0xc8 + i, 1, 0xff);
	assert_clique(b, 0xc8, 15);
	assert_int_equal(b->fake.config_writes, 0);
	assert_int_equal(vfio_pci_reset(b->pci, NULL), 0);
	assert_clique(b, 0xc8, 15);
}

static void it_is_at_d4_where_c8_is_taken(void **state)
{
	struct bench *b = *state;
	struct error e = { 0 };

	/* MSI-X at C8h, as Turing and later have it */
	fake_gpu(&b->fake);
	assert_non_null(in_clique(b, 3, NULL));
	assert_clique(b, 0xd4, 3);

	/* a capability there that the guest is not shown */
	fake_capability(&b->fake, 0xc8, PCI_CAP_ID_AF, 0);
	assert_non_null(in_clique(b, 3, NULL));
	assert_clique(b, 0xd4, 3);

	/* the tail of one that begins before it, PCI Express of 60 bytes, reaches D4h too */
	fake_put(&b->fake, 0x68 + PCI_CAP_LIST_NEXT, 1, 0xa0);
	fake_pcie(&b->fake, 0xa0, 0, 2);
	assert_null(in_clique(b, 3, &e));
	assert_string_equal(e.code, "bad-option");
	assert_non_null(strstr(e.text, "D4h"));
}

static void who_does_not_ask_gets_none(void **state)
{
	struct bench *b = with(state, fake_gpu);
	bool last;

	assert_int_equal(find(b, PCI_CAP_ID_VNDR, &last), 0);
}

static void only_nvidias_display_functions_can_be_in_one(void **state)
{
	struct bench *b = *state;
	struct error e = { 0 };

	fake_gpu(&b->fake);
	fake_put(&b->fake, PCI_VENDOR_ID, 2, 0x1002);
	assert_null(in_clique(b, 0, &e));
	assert_string_equal(e.code, "bad-option");
	assert_non_null(strstr(e.text, "1002"));
	fake_put(&b->fake, PCI_VENDOR_ID, 2, 0x10de);
	fake_put(&b->fake, PCI_CLASS_REVISION, 4, 0x040300 << 8); /* its audio function */
	assert_null(in_clique(b, 0, &e));
	assert_non_null(strstr(e.text, "base class 04"));
	fake_put(&b->fake, PCI_CLASS_REVISION, 4, 0x030000 << 8);
	assert_null(in_clique(b, 16, &e));
	assert_non_null(in_clique(b, 0, &e));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_clique_is_last_in_the_list_at_c8),
		TEST(it_is_at_d4_where_c8_is_taken),
		TEST(who_does_not_ask_gets_none),
		TEST(only_nvidias_display_functions_can_be_in_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
