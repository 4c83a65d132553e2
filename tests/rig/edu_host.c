// SPDX-License-Identifier: Apache-2.0
/*
 * The isolation proof from the host's side: QEMU's `edu` device (docs/specs/edu.rst of QEMU) has a DMA
 * engine that goes wherever it is told, so it is told to go where it must not.
 *
 *	edu_host BDF auto|iommufd|type1
 *
 * Opens an address space and the device through Divvy's own interfaces and prints one PASS or FAIL line
 * a statement; exits 0 when all hold. The device must be on vfio-pci. Needs root: the canary's physical
 * address comes from /proc/self/pagemap.
 *
 * The canary is a page that is in no map. That its address is written to without effect would prove
 * nothing if the device could not form such an address at all (dma_mask), so the same address is then
 * mapped to another page, and the same DMA must arrive there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommu/iommu.h"
#include "vfio/vfio.h"

#define PAGE	 4096u
#define BAR_SIZE MIB
/* Stays below the end of the device's buffer of 4 KiB, at which some QEMU versions stop. */
#define DMA_SIZE   2048u
#define INTERRUPTS 100

/* Registers and the buffer, as the device sees them. */
#define EDU_ID		0x00
#define EDU_ID_VALUE	0x010000edu
#define EDU_LIVENESS	0x04
#define EDU_FACTORIAL	0x08
#define EDU_STATUS	0x20
#define EDU_STATUS_BUSY 0x01u
#define EDU_IRQ_RAISE	0x60
#define EDU_IRQ_ACK	0x64
#define EDU_DMA_SOURCE	0x80
#define EDU_DMA_TARGET	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START	0x01u
#define EDU_DMA_TO_RAM	0x02u
#define EDU_BUFFER	0x40000u

#define PCI_COMMAND	   0x04
#define PCI_COMMAND_MEMORY 0x02u
#define PCI_COMMAND_MASTER 0x04u

struct edu {
	struct iommu_space *space;
	struct vfio_device *device;
	volatile uint8_t *bar;
	unsigned failures;
	/* Pages, and where the device finds them. */
	uint8_t *buffer, *readonly, *canary, *stand_in;
	uint64_t buffer_iova, readonly_iova, canary_physical;
};

static void state(struct edu *edu, const char *what, bool holds)
{
	printf("%s  %s\n", holds ? "PASS" : "FAIL", what);
	edu->failures += !holds;
}

static uint32_t read32(struct edu *edu, unsigned offset)
{
	return *(volatile uint32_t *)(edu->bar + offset);
}

static void write32(struct edu *edu, unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(edu->bar + offset) = value;
}

/* The DMA registers take 64 bits in one access. */
static void write64(struct edu *edu, unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(edu->bar + offset) = value;
}

/* The device works when the engine comes to rest, whether or not the IOMMU let it through. */
static void dma(struct edu *edu, uint64_t source, uint64_t target, uint32_t direction)
{
	uint64_t deadline = monotonic_ns() + 5 * NSEC_PER_SEC;

	write64(edu, EDU_DMA_SOURCE, source);
	write64(edu, EDU_DMA_TARGET, target);
	write64(edu, EDU_DMA_COUNT, DMA_SIZE);
	write64(edu, EDU_DMA_COMMAND, EDU_DMA_START | direction);
	while (read32(edu, EDU_DMA_COMMAND) & EDU_DMA_START) {
		if (monotonic_ns() > deadline) {
			state(edu, "the DMA engine comes to rest within 5 s", false);
			return;
		}
		usleep(1000);
	}
}

static void dma_from_ram(struct edu *edu, uint64_t iova)
{
	dma(edu, iova, EDU_BUFFER, 0);
}

static void dma_to_ram(struct edu *edu, uint64_t iova)
{
	dma(edu, EDU_BUFFER, iova, EDU_DMA_TO_RAM);
}

static void fill(uint8_t *page, uint8_t seed)
{
	for (unsigned i = 0; i < PAGE; i++)
		page[i] = (uint8_t)(seed ^ i ^ i >> 5);
}

/* Whether the first @size bytes are as fill() made them. */
static bool filled(const uint8_t *page, uint8_t seed, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		if (page[i] != (uint8_t)(seed ^ i ^ i >> 5))
			return false;
	return true;
}

/* Whether 16 bytes in a row are those of fill(): no accident. */
static bool leaked(const uint8_t *page, uint8_t seed)
{
	for (unsigned i = 0, run = 0; i < DMA_SIZE; i++) {
		run = page[i] == (uint8_t)(seed ^ i ^ i >> 5) ? run + 1 : 0;
		if (run == 16)
			return true;
	}
	return false;
}

/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 0-54 the frame. 0: not known. */
static uint64_t physical(const void *page)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (pread_full(fd, &entry, sizeof(entry), (uintptr_t)page / PAGE * sizeof(entry)))
		entry = 0;
	close(fd);
	return entry >> 63 ? (entry & ((UINT64_C(1) << 55) - 1)) * PAGE : 0;
}

static uint8_t *new_page(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);

	return page == MAP_FAILED ? NULL : page;
}

static int command(struct edu *edu, uint16_t set, uint16_t clear)
{
	const struct vfio_device_ops *ops = edu->device->ops;
	uint16_t value;

	if (ops->region_read(edu->device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &value, 2) !=
	    2)
		return -EIO;
	value = (uint16_t)((value | set) & ~clear);
	if (ops->region_write(edu->device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &value, 2) !=
	    2)
		return -EIO;
	return 0;
}

static int map(struct edu *edu, uint64_t iova, void *page, unsigned prot)
{
	return edu->space->ops->map(edu->space, iova, PAGE, page, prot);
}

static int unmap(struct edu *edu, uint64_t iova)
{
	return edu->space->ops->unmap(edu->space, iova, PAGE);
}

/* ---- the statements ------------------------------------------------------------------------ */

static void prove_device(struct edu *edu)
{
	uint64_t deadline = monotonic_ns() + 5 * NSEC_PER_SEC;

	state(edu, "the device is edu and answers", read32(edu, EDU_ID) == EDU_ID_VALUE);
	write32(edu, EDU_LIVENESS, 0x12345678);
	state(edu, "its liveness register gives the complement",
	      read32(edu, EDU_LIVENESS) == ~0x12345678u);
	write32(edu, EDU_FACTORIAL, 10);
	while (read32(edu, EDU_STATUS) & EDU_STATUS_BUSY && monotonic_ns() < deadline)
		usleep(1000);
	state(edu, "it computes 10! = 3628800", read32(edu, EDU_FACTORIAL) == 3628800);
}

static void prove_mapped(struct edu *edu)
{
	fill(edu->buffer, 0x5a);
	dma_from_ram(edu, edu->buffer_iova);
	memset(edu->buffer, 0, PAGE);
	dma_to_ram(edu, edu->buffer_iova);
	state(edu, "DMA through a mapped IOVA makes the round trip",
	      filled(edu->buffer, 0x5a, DMA_SIZE));
}

static void prove_unmapped(struct edu *edu)
{
	fill(edu->canary, 0xc3);
	dma_to_ram(edu, edu->canary_physical);
	state(edu, "a write to the canary's physical address, which is not mapped, is blocked",
	      filled(edu->canary, 0xc3, PAGE));

	/* The engine's buffer now holds 0x5a's pattern; what it reads must not become the canary's. */
	dma_from_ram(edu, edu->canary_physical);
	memset(edu->buffer, 0, PAGE);
	dma_to_ram(edu, edu->buffer_iova);
	state(edu, "a read of it leaks nothing", !leaked(edu->buffer, 0xc3));

	state(edu, "the canary stayed where it was", physical(edu->canary) == edu->canary_physical);

	/* The control: that very address works once it is mapped, and leads to another page. */
	memset(edu->stand_in, 0, PAGE);
	fill(edu->buffer, 0x5a);
	dma_from_ram(edu, edu->buffer_iova);
	if (map(edu, edu->canary_physical, edu->stand_in, IOMMU_PROT_READ | IOMMU_PROT_WRITE)) {
		state(edu, "the canary's address can be mapped to another page", false);
		return;
	}
	dma_to_ram(edu, edu->canary_physical);
	state(edu, "the same address, mapped to another page, reaches that page only",
	      filled(edu->stand_in, 0x5a, DMA_SIZE) && filled(edu->canary, 0xc3, PAGE));
	state(edu, "that map is undone", !unmap(edu, edu->canary_physical));
	fill(edu->stand_in, 0x99);
	dma_to_ram(edu, edu->canary_physical);
	state(edu, "after unmapping a write to the stale address is blocked",
	      filled(edu->stand_in, 0x99, PAGE) && filled(edu->canary, 0xc3, PAGE));
}

static void prove_readonly(struct edu *edu)
{
	fill(edu->readonly, 0x77);
	dma_to_ram(edu, edu->readonly_iova);
	state(edu, "a write to a read-only map is blocked", filled(edu->readonly, 0x77, PAGE));
	dma_from_ram(edu, edu->readonly_iova);
	memset(edu->buffer, 0, PAGE);
	dma_to_ram(edu, edu->buffer_iova);
	state(edu, "a read of a read-only map works", filled(edu->buffer, 0x77, DMA_SIZE));
}

static void prove_bus_master(struct edu *edu)
{
	fill(edu->buffer, 0x5a);
	dma_from_ram(edu, edu->buffer_iova);
	memset(edu->buffer, 0x11, PAGE);
	if (command(edu, 0, PCI_COMMAND_MASTER)) {
		state(edu, "bus mastering can be switched off", false);
		return;
	}
	dma_to_ram(edu, edu->buffer_iova);
	state(edu, "with bus mastering off a write is blocked",
	      edu->buffer[0] == 0x11 && !memcmp(edu->buffer, edu->buffer + 1, PAGE - 1));
	if (command(edu, PCI_COMMAND_MASTER, 0)) {
		state(edu, "bus mastering can be switched on again", false);
		return;
	}
	dma_to_ram(edu, edu->buffer_iova);
	state(edu, "with bus mastering on again it works", filled(edu->buffer, 0x5a, DMA_SIZE));
}

static void prove_interrupts(struct edu *edu)
{
	const struct vfio_device_ops *ops = edu->device->ops;
	uint64_t total = 0, worst = 0, events;
	unsigned delivered = 0;
	char text[96];
	int err, fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int32_t fds[1] = { fd };

	err = ops->set_irqs(edu->device, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			    VFIO_PCI_MSI_IRQ_INDEX, 0, 1, fds);
	if (fd < 0 || err) {
		state(edu, "MSI can be switched on", false);
		fd_close(&fd);
		return;
	}
	for (unsigned i = 0; i < INTERRUPTS; i++) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		uint64_t start = monotonic_ns(), took;

		write32(edu, EDU_IRQ_RAISE, 1);
		/* One interrupt an event: more or fewer are wrong. */
		if (poll(&ready, 1, 1000) == 1 && read(fd, &events, sizeof(events)) == 8 &&
		    events == 1)
			delivered++;
		took = monotonic_ns() - start;
		total += took;
		worst = MAX(worst, took);
		write32(edu, EDU_IRQ_ACK, 1);
	}
	snprintf(text, sizeof(text),
		 "MSI through an eventfd, %u of %d (mean %" PRIu64 " us, worst %" PRIu64 " us)",
		 delivered, INTERRUPTS, total / INTERRUPTS / 1000, worst / 1000);
	state(edu, text, delivered == INTERRUPTS);
	err = ops->set_irqs(edu->device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			    VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL);
	state(edu, "MSI is switched off again", !err);
	fd_close(&fd);
}

/* ---- set-up --------------------------------------------------------------------------------- */

/* Two pages of IOVA that no page of the canary's neighbourhood could be taken for. */
static int choose_addresses(struct edu *edu)
{
	struct iommu_range ranges[16];
	int count = edu->space->ops->ranges(edu->space, ranges, ARRAY_SIZE(ranges));

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++)
		printf("range 0x%" PRIx64 "-0x%" PRIx64 "\n", ranges[i].start, ranges[i].last);
	edu->buffer_iova = 16 * MIB;
	if (edu->canary_physical < 64 * MIB)
		edu->buffer_iova = 128 * MIB;
	edu->readonly_iova = edu->buffer_iova + 16 * PAGE;
	return count ? 0 : -ENODATA;
}

static int map_bar(struct edu *edu, struct error *e)
{
	struct vfio_region region;
	void *at;
	int err = edu->device->ops->get_region(edu->device, VFIO_PCI_BAR0_REGION_INDEX, &region);

	if (err || region.size != BAR_SIZE)
		return error_set(e, ENODEV, "not-edu", NULL,
				 "%s: BAR 0 is not edu's (1 MiB of registers)", edu->device->name);
	if (command(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0))
		return error_set(e, EIO, "config-unreadable", NULL, "%s: COMMAND cannot be written",
				 edu->device->name);
	at = mmap(NULL, BAR_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return error_set(e, errno, "out-of-memory", NULL, "no address space for the BAR");
	err = edu->device->ops->region_mmap(edu->device, VFIO_PCI_BAR0_REGION_INDEX, 0, BAR_SIZE,
					    at);
	if (err) {
		munmap(at, BAR_SIZE);
		return error_set(e, -err, "bad-bar", NULL, "%s: BAR 0 cannot be mapped: %s",
				 edu->device->name, strerror(-err));
	}
	edu->bar = at;
	return 0;
}

static int new_pages(struct edu *edu, struct error *e)
{
	uint8_t **pages[] = { &edu->buffer, &edu->readonly, &edu->canary, &edu->stand_in };

	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
		*pages[i] = new_page();
		if (!*pages[i])
			return error_set(e, errno, "out-of-memory", NULL, "no page: %s",
					 strerror(errno));
	}
	edu->canary[0] = 1;
	edu->canary_physical = physical(edu->canary);
	if (!edu->canary_physical)
		return error_set(e, EPERM, "permission-denied", "run as root",
				 "/proc/self/pagemap does not give physical addresses");
	return 0;
}

static void free_page(uint8_t *page)
{
	if (page)
		munmap(page, PAGE);
}

static int run(struct edu *edu, const struct pci_address *address, enum iommu_kind kind,
	       struct error *e)
{
	uint64_t start = monotonic_ns();
	int err = new_pages(edu, e);

	if (!err)
		err = iommu_space_open("", kind, &edu->space, e);
	if (!err)
		err = vfio_device_open("", address, edu->space, &edu->device, e);
	if (err)
		return err;
	printf("%s over %s, open in %" PRIu64 " us\n", edu->device->name, edu->space->ops->name,
	       (monotonic_ns() - start) / 1000);
	err = map_bar(edu, e);
	if (err)
		return err;
	err = choose_addresses(edu);
	if (err)
		return error_set(e, -err, "no-iova-ranges", NULL, "IOVA ranges cannot be read: %s",
				 strerror(-err));
	printf("canary at physical 0x%" PRIx64 "\n", edu->canary_physical);
	err = map(edu, edu->buffer_iova, edu->buffer, IOMMU_PROT_READ | IOMMU_PROT_WRITE);
	if (!err) {
		err = map(edu, edu->readonly_iova, edu->readonly, IOMMU_PROT_READ);
		if (err)
			unmap(edu, edu->buffer_iova);
	}
	if (err)
		return error_set(e, -err, "dma-map-failed", NULL, "a page cannot be mapped: %s",
				 strerror(-err));
	prove_device(edu);
	prove_mapped(edu);
	prove_unmapped(edu);
	prove_readonly(edu);
	prove_bus_master(edu);
	prove_interrupts(edu);
	unmap(edu, edu->readonly_iova);
	unmap(edu, edu->buffer_iova);
	state(edu, "no map is left", edu->space->maps == 0);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		enum iommu_kind kind;
	} kinds[] = {
		{ "auto", IOMMU_AUTO },
		{ "iommufd", IOMMU_IOMMUFD },
		{ "type1", IOMMU_TYPE1 },
	};
	struct edu edu = { 0 };
	struct error e = { 0 };
	struct pci_address address;
	unsigned kind = 0;
	int err;

	while (argc == 3 && kind < ARRAY_SIZE(kinds) && strcmp(argv[2], kinds[kind].name) != 0)
		kind++;
	if (argc != 3 || kind == ARRAY_SIZE(kinds) || pci_address_parse(argv[1], &address)) {
		fprintf(stderr, "usage: edu_host BDF auto|iommufd|type1\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	err = run(&edu, &address, kinds[kind].kind, &e);
	if (err)
		error_print(&e, "edu_host");
	if (edu.bar)
		munmap((void *)edu.bar, BAR_SIZE);
	vfio_device_close(edu.device);
	iommu_space_close(edu.space);
	free_page(edu.buffer);
	free_page(edu.readonly);
	free_page(edu.canary);
	free_page(edu.stand_in);
	if (!err)
		printf("%s: %u failed\n", kinds[kind].name, edu.failures);
	return err || edu.failures;
}
