// SPDX-License-Identifier: Apache-2.0
/* Extended config space: resizable BARs with the size they have, everything else hidden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/function_bench.h"

#define AER 0x00010001 /* id 1, version 1 */

static struct bench *over(struct bench *b)
{
	vfio_pci_destroy(b->pci);
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	return b;
}

/* Nothing from 0x100 on but zeroes. */
static void assert_empty(struct bench *b)
{
	for (unsigned at = 0x100; at < VFIO_PCI_CONFIG_SIZE; at += 4)
		assert_int_equal(get(b, at, 4), 0);
}

static void only_the_present_size_of_a_resizable_bar_is_shown(void **state)
{
	struct bench *b = *state;

	fake_gpu(&b->fake);
	/* AER, then two resizable BARs; the second's register says a size that is not its BAR's */
	fake_put(&b->fake, 0x100, 4, AER | 0x148 << 20);
	fake_rebar(&b->fake, 0x148, 0x200, 2, 1, 13);
	fake_put(&b->fake, 0x150 + PCI_REBAR_CTRL, 4, 3 | 9 << PCI_REBAR_CTRL_BAR_SHIFT);
	fake_put(&b->fake, 0x200, 4, 0x00010003); /* serial number */
	over(b);

	assert_int_equal(get(b, 0x100, 4), PCI_EXT_CAP_ID_REBAR | 1 << 16); /* and no next one */
	assert_int_equal(get(b, 0x104, 4), 1u << (13 + 4));		    /* 8 GiB */
	assert_int_equal(get(b, 0x108, 4), 1 | 2 << 5 | 13 << 8);
	assert_int_equal(get(b, 0x10c, 4), 1u << (5 + 4)); /* 32 MiB */
	assert_int_equal(get(b, 0x110, 4), 3 | 5 << 8);
	assert_int_equal(get(b, 0x109, 1), 13);
	for (unsigned at = 0x114; at < VFIO_PCI_CONFIG_SIZE; at += 4)
		assert_int_equal(get(b, at, 4), 0);

	/* asking for another size changes nothing, on either side */
	b->fake.config_writes = 0;
	put(b, 0x108, 4, 1 | 2 << 5 | 8 << 8);
	put(b, 0x104, 4, 0xffffffff);
	assert_int_equal(get(b, 0x108, 4), 1 | 2 << 5 | 13 << 8);
	assert_int_equal(get(b, 0x104, 4), 1u << (13 + 4));
	assert_int_equal(b->fake.config_writes, 0);
}

static void a_size_that_the_register_cannot_name_hides_the_capability(void **state)
{
	static const struct {
		uint64_t size;
		bool shown;
	} cases[] = {
		{ MIB / 2, false }, { MIB, true }, { 512 * GIB, true }, { 1024 * GIB, false }
	};
	struct bench *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_init(&b->fake, 0x233010de, 0x030200, VFIO_PCI_CONFIG_SIZE);
		fake_bar(&b->fake, 0, cases[i].size, PCI_BASE_ADDRESS_MEM_TYPE_64);
		fake_rebar(&b->fake, 0x100, 0, 1, 0, 0);
		over(b);
		if (!cases[i].shown)
			assert_empty(b);
		else
			assert_int_equal(get(b, 0x104, 4),
					 1u << (__builtin_ctzll(cases[i].size / MIB) + 4));
		vfio_pci_destroy(b->pci);
		b->pci = NULL;
		fake_release(&b->fake);
	}
	fake_init(&b->fake, 0, 0, 256);
}

static void a_capability_that_makes_no_sense_is_hidden(void **state)
{
	struct bench *b = *state;

	fake_gpu(&b->fake);
	fake_rebar(&b->fake, 0x100, 0, 0, 1, 13); /* of no BAR */
	assert_empty(over(b));
	fake_rebar(&b->fake, 0x100, 0, 7, 1, 13); /* of more than there are */
	assert_empty(over(b));
	fake_rebar(&b->fake, 0x100, 0, 1, 7, 13); /* of a BAR that cannot be */
	assert_empty(over(b));
	fake_rebar(&b->fake, 0x100, 0, 1, 2, 13); /* of an upper half */
	assert_empty(over(b));
	fake_rebar(&b->fake, 0x100, 0, 1, 5, 13); /* of an I/O BAR */
	assert_empty(over(b));
	/* at the very end, so that its registers are not there */
	fake_put(&b->fake, 0x100, 4, AER | 0xffcu << 20);
	fake_put(&b->fake, 0xffc, 4, PCI_EXT_CAP_ID_REBAR | 1 << 16);
	assert_empty(over(b));
	/* lists that never end, or lead out of extended space */
	fake_put(&b->fake, 0x100, 4, AER | 0x100 << 20);
	assert_empty(over(b));
	fake_put(&b->fake, 0x100, 4, AER | 0x40 << 20);
	assert_empty(over(b));
	fake_put(&b->fake, 0x100, 4, 0xffffffff);
	assert_empty(over(b));
}

static void a_conventional_function_is_not_asked(void **state)
{
	struct bench *b = *state;

	fake_edu(&b->fake);
	fake_rebar(&b->fake, 0x100, 0, 1, 0, 0);
	over(b);
	assert_int_equal(get(b, 0x100, 4), 0xffffffff);
}

static void a_read_that_fails_hides_it(void **state)
{
	unsigned shown = 0, hidden = 0;
	struct bench *b = *state;
	unsigned long total;

	fake_gpu(&b->fake);
	fake_rebar(&b->fake, 0x100, 0, 1, 1, 13);
	over(b);
	total = b->fake.calls;
	for (unsigned long n = 1; n <= total; n++) {
		vfio_pci_destroy(b->pci);
		b->fake.calls = 0;
		b->fake.fail_at = n;
		b->pci = fake_function(&b->fake, &b->host);
		b->fake.fail_at = 0;
		if (!b->pci)
			continue;
		if (get(b, 0x100, 4))
			shown++;
		else
			hidden++;
	}
	/* its head, the register that counts, and the entry's own */
	assert_int_equal(hidden, 3);
	assert_true(shown > 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_the_present_size_of_a_resizable_bar_is_shown),
		TEST(a_size_that_the_register_cannot_name_hides_the_capability),
		TEST(a_capability_that_makes_no_sense_is_hidden),
		TEST(a_conventional_function_is_not_asked),
		TEST(a_read_that_fails_hides_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
