// SPDX-License-Identifier: Apache-2.0
/*
 * A page of host memory that nobody may touch, for the isolation proof.
 *
 *	canary ABOVE_MIB
 *
 * Locks a page whose physical address is above ABOVE_MIB, fills it with a pattern, prints that address,
 * waits for a line on its input, and then says "intact" (exit 0) or how the page was changed (exit 1).
 * The kernel gives out what memory it likes, so pages are taken until one lies high enough.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  4096u
#define TRIES 262144

static uint64_t physical_address(int pagemap, const void *page)
{
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * 8)) !=
	    sizeof(entry))
		return 0;
	/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 0-54 the frame */
	return entry >> 63 ? (entry & ((1ull << 55) - 1)) * PAGE : 0;
}

static uint8_t pattern(unsigned i)
{
	return (uint8_t)(0xc3 ^ i ^ (i >> 8));
}

int main(int argc, char **argv)
{
	uint64_t above = argc > 1 ? strtoull(argv[1], NULL, 0) << 20 : 0, address = 0;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint8_t *page = NULL;
	char line[16];

	for (int i = 0; i < TRIES && address <= above; i++) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED || mlock(page, PAGE)) {
			perror("canary");
			return 2;
		}
		page[0] = 1;
		address = physical_address(pagemap, page);
	}
	if (address <= above) {
		fprintf(stderr, "canary: no page above %s MiB\n", argc > 1 ? argv[1] : "0");
		return 2;
	}
	for (unsigned i = 0; i < PAGE; i++)
		page[i] = pattern(i);
	printf("%#llx\n", (unsigned long long)address);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 2;
	if (physical_address(pagemap, page) != address) {
		printf("the page moved to %#llx\n",
		       (unsigned long long)physical_address(pagemap, page));
		return 2;
	}
	for (unsigned i = 0; i < PAGE; i++) {
		if (page[i] != pattern(i)) {
			printf("changed at byte %u: %#x instead of %#x\n", i, page[i], pattern(i));
			return 1;
		}
	}
	printf("intact\n");
	return 0;
}
