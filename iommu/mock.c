// SPDX-License-Identifier: Apache-2.0
/*
 * An address space for tests: it remembers what is mapped, refuses what a real one refuses (overlaps,
 * ragged addresses, unmapping what is not there), and fails the n-th call.
 */
#include <errno.h>
#include <stdlib.h>

#include "iommu/private.h"

#define MOCK_MAPS_MAX 256

struct mock_map {
	uint64_t iova, size;
	void *vaddr;
	unsigned prot;
};

struct mock_space {
	struct iommu_space space;
	unsigned long calls, fail_at;
	unsigned attached;
	struct mock_map maps[MOCK_MAPS_MAX]; /* space.maps of them, in no order */
};

static bool mock_fails(struct mock_space *mock)
{
	return ++mock->calls == mock->fail_at;
}

static int mock_map(struct iommu_space *space, uint64_t iova, uint64_t size, void *vaddr,
		    unsigned prot)
{
	struct mock_space *mock = container_of(space, struct mock_space, space);

	if (mock_fails(mock))
		return -ENOMEM;
	if (!size || (iova | size | (uintptr_t)vaddr) & 4095 || iova + (size - 1) < iova)
		return -EINVAL;
	if (!prot || prot & ~(IOMMU_PROT_READ | IOMMU_PROT_WRITE))
		return -EINVAL;
	for (unsigned long i = 0; i < space->maps; i++) {
		const struct mock_map *map = &mock->maps[i];

		if (iova <= map->iova + (map->size - 1) && map->iova <= iova + (size - 1))
			return -EEXIST;
	}
	if (space->maps == MOCK_MAPS_MAX)
		return -ENOSPC;
	mock->maps[space->maps++] = (struct mock_map){ iova, size, vaddr, prot };
	return 0;
}

static int mock_unmap(struct iommu_space *space, uint64_t iova, uint64_t size)
{
	struct mock_space *mock = container_of(space, struct mock_space, space);

	for (unsigned long i = 0; i < space->maps; i++) {
		if (mock->maps[i].iova != iova || mock->maps[i].size != size)
			continue;
		mock->maps[i] = mock->maps[--space->maps];
		return 0;
	}
	return -ENOENT;
}

static int mock_attach(struct iommu_space *space, int vfio_fd, struct error *e)
{
	struct mock_space *mock = container_of(space, struct mock_space, space);

	if (mock_fails(mock))
		return error_set(e, ENOMEM, "mock-failure", NULL,
				 "the mock was asked to fail here");
	mock->attached++;
	return 0;
}

static void mock_detach(struct iommu_space *space, int vfio_fd)
{
	container_of(space, struct mock_space, space)->attached--;
}

/* What a PC's IOMMU with 39 bits says: everything but the window of interrupt messages. */
static int mock_ranges(struct iommu_space *space, struct iommu_range *ranges, unsigned max)
{
	static const struct iommu_range all[] = { { 0, 0xfedfffff }, { 0xfef00000, 0x7fffffffff } };
	unsigned count = MIN(max, (unsigned)ARRAY_SIZE(all));

	if (mock_fails(container_of(space, struct mock_space, space)))
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		ranges[i] = all[i];
	return (int)count;
}

static void mock_destroy(struct iommu_space *space)
{
	free(container_of(space, struct mock_space, space));
}

static const struct iommu_space_ops mock_ops = {
	.name = "mock",
	.kind = IOMMU_MOCK,
	.map = mock_map,
	.unmap = mock_unmap,
	.attach = mock_attach,
	.detach = mock_detach,
	.ranges = mock_ranges,
	.destroy = mock_destroy,
};

struct iommu_space *iommu_space_mock(unsigned long fail_at)
{
	struct mock_space *mock = calloc(1, sizeof(*mock));

	if (!mock)
		return NULL;
	mock->space.ops = &mock_ops;
	pthread_mutex_init(&mock->space.vfio_lock, NULL);
	mock->fail_at = fail_at;
	return &mock->space;
}

unsigned long iommu_mock_calls(const struct iommu_space *space)
{
	return container_of(space, const struct mock_space, space)->calls;
}

void *iommu_mock_lookup(const struct iommu_space *space, uint64_t iova, unsigned *prot)
{
	const struct mock_space *mock = container_of(space, const struct mock_space, space);

	for (unsigned long i = 0; i < space->maps; i++) {
		const struct mock_map *map = &mock->maps[i];

		if (iova - map->iova >= map->size)
			continue;
		if (prot)
			*prot = map->prot;
		return (char *)map->vaddr + (iova - map->iova);
	}
	return NULL;
}
