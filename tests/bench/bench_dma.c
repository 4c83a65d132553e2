// SPDX-License-Identifier: Apache-2.0
/*
 * What it costs to map memory for a device's DMA and to take it back, by page size: through iommu/ on the
 * host's real IOMMU. Memory is there already (populated), so that pinning and page tables are measured and
 * not the zeroing of pages.
 *
 *   bench_dma BDF iommufd|type1 MIB     the function must be on vfio-pci
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommu/iommu.h"
#include "tests/bench/bench.h"
#include "vfio/vfio.h"

#define RUNS 5u
#define IOVA (4 * GIB)

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_dma: %s: %s\n", what, why);
	exit(1);
}

static void measure(struct iommu_space *space, const char *kind, uint64_t size, unsigned flags,
		    const char *pages)
{
	const double per_gib = (double)GIB / (double)size;
	double map[RUNS], unmap[RUNS];
	int fd = memfd_create("bench-dma", MFD_CLOEXEC | flags);
	char name[96];
	void *memory;

	snprintf(name, sizeof(name), "DMA map of a GiB in %s pages, %s", pages, kind);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		die("memory", strerror(errno));
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED || madvise(memory, size, MADV_POPULATE_WRITE) < 0) {
		bench_skip(name, "the host has no such pages left (vm.nr_hugepages)");
		close(fd);
		return;
	}
	for (unsigned i = 0; i < RUNS; i++) {
		uint64_t began = monotonic_ns();
		int ret = space->ops->map(space, IOVA, size, memory,
					  IOMMU_PROT_READ | IOMMU_PROT_WRITE);

		map[i] = (double)(monotonic_ns() - began) / 1e6 * per_gib;
		if (ret)
			die("map", strerror(-ret));
		began = monotonic_ns();
		ret = space->ops->unmap(space, IOVA, size);
		unmap[i] = (double)(monotonic_ns() - began) / 1e6 * per_gib;
		if (ret)
			die("unmap", strerror(-ret));
	}
	bench_result(name, "ms", map, RUNS);
	snprintf(name, sizeof(name), "DMA unmap of a GiB in %s pages, %s", pages, kind);
	bench_result(name, "ms", unmap, RUNS);
	munmap(memory, size);
	close(fd);
}

int main(int argc, char **argv)
{
	enum iommu_kind kind = argc > 2 && !strcmp(argv[2], "type1") ? IOMMU_TYPE1 : IOMMU_IOMMUFD;
	struct iommu_space *space = NULL;
	struct vfio_device *device = NULL;
	struct pci_address address;
	struct error e = { 0 };
	uint64_t size;

	if (argc != 4 || pci_address_parse(argv[1], &address)) {
		/* Run with the others, on a machine without a device to spare. */
		bench_skip("DMA map and unmap", "usage: bench_dma BDF iommufd|type1 MIB");
		return 0;
	}
	size = strtoull(argv[3], NULL, 10) * MIB;
	if (iommu_space_open("", kind, &space, &e) ||
	    vfio_device_open("", &address, space, &device, &e))
		die("open", e.text);
	measure(space, argv[2], size, MFD_HUGETLB, "2M");
	measure(space, argv[2], size, 0, "4K");
	vfio_device_close(device);
	iommu_space_close(space);
	return 0;
}
