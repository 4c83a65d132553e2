/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtualised function over a made-up device and hypervisor, as the tests of vfio/pci*.c start with.
 * After stdlib.h and cmocka.h.
 */
#ifndef TESTS_UNIT_FUNCTION_BENCH_H
#define TESTS_UNIT_FUNCTION_BENCH_H

#include "tests/unit/fake_vfio_device.h"

struct bench {
	struct fake_device fake;
	struct fake_host host;
	struct vfio_pci *pci;
};

static inline int setup(void **state)
{
	*state = calloc(1, sizeof(struct bench));
	return *state ? 0 : -1;
}

static inline int teardown(void **state)
{
	struct bench *b = *state;

	vfio_pci_destroy(b->pci);
	fake_release(&b->fake);
	free(b);
	return 0;
}

static inline struct bench *with(void **state, void (*make)(struct fake_device *))
{
	struct bench *b = *state;

	make(&b->fake);
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	return b;
}

static inline uint32_t get(struct bench *b, unsigned offset, unsigned size)
{
	return vfio_pci_config_read(b->pci, (uint16_t)offset, size);
}

static inline void put(struct bench *b, unsigned offset, unsigned size, uint32_t value)
{
	vfio_pci_config_write(b->pci, (uint16_t)offset, size, value);
}

#endif
