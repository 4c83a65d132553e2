// SPDX-License-Identifier: Apache-2.0
/*
 * Where a bank of RAM comes from: a sealed memory file, of ordinary or of reserved huge pages, perhaps of
 * one NUMA node, mapped shared where huge pages can be used all the way.
 *
 * Pages are not taken here but by populate.c, by the guest's first touch, or by the map for DMA. Still
 * a bank is refused when the host cannot have them all: a guest whose memory ends early dies of
 * it, and so may its neighbours.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iommu/private.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* since Linux 6.3 */
#endif
#define MFD_HUGE_SHIFT_BITS 26 /* memfd_create(2): MFD_HUGE_2MB and its like, log2 of the size */

#define HUGE_PAGE_MIN (2 * MIB) /* what transparent huge pages are made of */
#define NODES_MAX     1024

/* ---- is there enough of it ------------------------------------------------------------------- */

/* A line of /proc/meminfo in bytes; 0 when it is not there. */
static uint64_t meminfo(const char *key)
{
	char text[8192];
	const char *line;
	uint64_t kib;

	if (file_read(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) < 0)
		return 0;
	line = strstr(text, key);
	return line && sscanf(line + strlen(key), ": %" SCNu64 " kB", &kib) == 1 ? kib * KIB : 0;
}

static bool same_backing(const struct memory_bank *a, const struct memory_bank *b)
{
	return a->backing.huge_page == b->backing.huge_page &&
	       a->backing.host_node == b->backing.host_node;
}

/*
 * A guest whose devices do DMA has all its memory pinned, so what it may ever use must be there. What
 * earlier banks have in use already is not counted in MemAvailable any more.
 */
int ram_check(const struct guest_memory *memory, const struct memory_bank *bank, struct error *e)
{
	uint64_t available = meminfo("MemAvailable"), total = bank->size, alike = bank->size;
	uint64_t resident = 0;
	const struct memory_bank *other;

	for (unsigned i = 0; (other = guest_memory_bank(memory, i)); i++) {
		struct stat st;

		if (other->backing.huge_page)
			continue;
		if (__builtin_add_overflow(total, other->size, &total))
			total = UINT64_MAX;
		if (!fstat(other->fd, &st))
			resident += (uint64_t)st.st_blocks * 512;
	}
	/* Pages of a node are not set aside by an earlier bank that has not touched them. */
	for (unsigned i = 0; (other = guest_memory_bank(memory, i)); i++)
		if (same_backing(other, bank) && __builtin_add_overflow(alike, other->size, &alike))
			alike = UINT64_MAX;
	if (bank->backing.huge_page)
		return huge_pages_check("", bank->backing.huge_page,
					bank->backing.host_node < 0 ? bank->size : alike,
					bank->backing.host_node, e);
	if (bank->backing.host_node >= 0) {
		int err = node_memory_check("", alike, bank->backing.host_node, e);

		if (err)
			return err;
	}
	if (!available || total <= available + resident)
		return 0;
	return error_set(
		e, ENOMEM, "memory-too-large", "ask for less memory, or free some: free -m",
		"%" PRIu64 " MiB of guest memory were asked for, this machine has %" PRIu64
		" MiB available of %" PRIu64 " MiB (MemAvailable and MemTotal in /proc/meminfo)",
		total / MIB, (available + resident) / MIB, meminfo("MemTotal") / MIB);
}

/* A number in a file of a huge page size's folder; 0 when it is not there. */
static uint64_t pool_number(const char *root, const char *folder, const char *name)
{
	char path[512];
	uint64_t value;

	snprintf(path, sizeof(path), "%s%s/%s", root, folder, name);
	return file_read_u64(AT_FDCWD, path, &value) ? 0 : value;
}

/* Documentation/admin-guide/mm/hugetlbpage.rst */
int huge_pages_check(const char *root, uint64_t huge_page, uint64_t size, int host_node,
		     struct error *e)
{
	uint64_t needed = size / huge_page, there, reserved, more;
	char folder[128], general[128], path[512], where[32] = "", next[sizeof(e->next)];

	snprintf(general, sizeof(general), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB",
		 huge_page / KIB);
	snprintf(folder, sizeof(folder), "%s", general);
	if (host_node >= 0) {
		snprintf(folder, sizeof(folder),
			 "/sys/devices/system/node/node%d/hugepages/hugepages-%" PRIu64 "kB",
			 host_node, huge_page / KIB);
		snprintf(where, sizeof(where), " on host node %d", host_node);
	}
	snprintf(path, sizeof(path), "%s%s", root, folder);
	if (access(path, F_OK))
		return error_set(e, ENOENT, "no-huge-pages", NULL,
				 "pages of %" PRIu64 " MiB%s: this machine has none of that size "
				 "(no %s)",
				 huge_page / MIB, where, folder);
	there = pool_number(root, folder, "free_hugepages");
	reserved = pool_number(root, general, "resv_hugepages");
	/* What others have set aside and not touched counts for all nodes together. */
	if (host_node < 0)
		there -= MIN(reserved, there);
	more = pool_number(root, general, "nr_overcommit_hugepages");
	more -= MIN(more, pool_number(root, general, "surplus_hugepages"));
	if (needed <= there || needed - there <= more)
		return 0;
	snprintf(next, sizeof(next), "echo %" PRIu64 " | sudo tee %s/nr_hugepages",
		 pool_number(root, folder, "nr_hugepages") + needed - there, folder);
	return error_set(e, ENOMEM, "huge-pages-short", next,
			 "%" PRIu64 " pages of %" PRIu64 " MiB are needed%s, %" PRIu64 " are free",
			 needed, huge_page / MIB, where, there + more);
}

/* "Node 0 MemFree:  123 kB" of a node's meminfo, in bytes. */
static uint64_t node_meminfo(const char *text, const char *key)
{
	const char *line = strstr(text, key);
	uint64_t kib;

	return line && sscanf(line + strlen(key), ": %" SCNu64 " kB", &kib) == 1 ? kib * KIB : 0;
}

/* There is no MemAvailable of a node; this is what it is made of for the most part. */
int node_memory_check(const char *root, uint64_t size, int host_node, struct error *e)
{
	static const char *const keys[] = { " MemFree", " Active(file)", " Inactive(file)",
					    " SReclaimable" };
	char path[512], text[8192];
	uint64_t there = 0;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%d/meminfo", root, host_node);
	length = file_read(AT_FDCWD, path, text, sizeof(text));
	if (length < 0)
		return error_set(e, (int)-length, "no-host-node", "numactl --hardware lists them",
				 "host node %d: %s: %s", host_node, path + strlen(root),
				 strerror((int)-length));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		there += node_meminfo(text, keys[i]);
	if (size <= there)
		return 0;
	return error_set(e, ENOMEM, "node-memory-short",
			 "take less of this node: numactl --hardware shows what each has",
			 "%" PRIu64 " MiB of guest memory were asked of host node %d, which has "
			 "%" PRIu64 " MiB free or easily freed",
			 size / MIB, host_node, there / MIB);
}

/* ---- the file and its mapping ------------------------------------------------------------------ */

static int ram_file(const struct memory_bank *bank, struct error *e)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int saved, fd;

	if (bank->backing.huge_page)
		flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(bank->backing.huge_page)
					       << MFD_HUGE_SHIFT_BITS;
	fd = memfd_create("divvy-guest-ram", flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("divvy-guest-ram", flags);
	/* Peers are handed the descriptor: none may shrink the file under the others' feet. */
	if (fd >= 0 && !ftruncate(fd, (off_t)bank->size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	saved = errno;
	fd_close(&fd);
	return error_set(e, saved, "no-guest-memory", NULL,
			 "no memory file of %" PRIu64 " MiB can be made: %s", bank->size / MIB,
			 strerror(saved));
}

/*
 * Map the file where guest and host addresses agree modulo the size of a huge page, so that KVM and
 * the IOMMU can use huge pages. Mapping a file of reserved pages sets them aside.
 */
static int ram_map(struct memory_bank *bank, struct error *e)
{
	uint64_t align = MAX(bank->backing.huge_page, HUGE_PAGE_MIN);
	size_t room = bank->size + align;
	int flags = MAP_SHARED | MAP_FIXED | (bank->backing.huge_page ? 0 : MAP_NORESERVE), err;
	char *reserved, *at;

	reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		goto failed;
	at = reserved + ((bank->gpa - (uintptr_t)reserved) & (align - 1));
	if (mmap(at, bank->size, PROT_READ | PROT_WRITE, flags, bank->fd, 0) == MAP_FAILED) {
		err = errno;
		munmap(reserved, room);
		errno = err;
		goto failed;
	}
	if (at > reserved)
		munmap(reserved, (size_t)(at - reserved));
	munmap(at + bank->size, room - bank->size - (size_t)(at - reserved));
	/*
	 * Advice: memory works without. DONTFORK since a child that lives beside pinned memory would
	 * make the kernel copy pages away from under the device; DONTDUMP since it is the guest's.
	 */
	if (!bank->backing.huge_page && madvise(at, bank->size, MADV_HUGEPAGE) && errno != EINVAL)
		log_debug("guest memory: no huge pages: %s", strerror(errno));
	if (madvise(at, bank->size, MADV_DONTFORK) || madvise(at, bank->size, MADV_DONTDUMP))
		log_debug("guest memory: madvise: %s", strerror(errno));
	bank->hva = at;
	return 0;
failed:
	err = errno;
	/* Somebody took the pages since they were counted. */
	if (err == ENOMEM && bank->backing.huge_page &&
	    huge_pages_check("", bank->backing.huge_page, bank->size, -1, e))
		return -ENOMEM;
	return error_set(e, err, "no-guest-memory", NULL,
			 "%" PRIu64 " MiB of guest memory cannot be mapped: %s", bank->size / MIB,
			 strerror(err));
}

/* The policy is the file's: it holds for whoever touches a page first, the kernel and peers too. */
static int ram_bind(const struct memory_bank *bank, struct error *e)
{
	unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };
	unsigned node = (unsigned)bank->backing.host_node, bits = 8 * sizeof(unsigned long);

	if (bank->backing.host_node < 0)
		return 0;
	if (node >= NODES_MAX)
		return error_set(e, EINVAL, "no-host-node", NULL, "host node %u: there is no such",
				 node);
	mask[node / bits] = 1ul << node % bits;
	/* mbind(2): @maxnode is one more than the bits of the mask */
	if (!syscall(SYS_mbind, bank->hva, bank->size, MPOL_BIND, mask, NODES_MAX + 1, 0))
		return 0;
	return error_set(
		e, errno, "no-host-node", "numactl --hardware lists them",
		"memory cannot be taken from host node %u alone: %s%s", node, strerror(errno),
		errno == EINVAL ? " (it has no memory, or cpuset.mems leaves it out)" : "");
}

int ram_open(struct memory_bank *bank, struct error *e)
{
	uint64_t huge = bank->backing.huge_page;
	int err;

	if (huge && ((huge & (huge - 1)) || (bank->gpa | bank->size) & (huge - 1)))
		return error_set(e, EINVAL, "bad-memory-bank", NULL,
				 "a bank of 0x%" PRIx64 " bytes at 0x%" PRIx64
				 " is not made of pages of 0x%" PRIx64,
				 bank->size, bank->gpa, huge);
	bank->fd = ram_file(bank, e);
	if (bank->fd < 0)
		return bank->fd;
	err = ram_map(bank, e);
	if (err) {
		fd_close(&bank->fd);
		return err;
	}
	err = ram_bind(bank, e);
	if (err)
		ram_close(bank);
	return err;
}

void ram_close(struct memory_bank *bank)
{
	munmap(bank->hva, bank->size);
	fd_close(&bank->fd);
}
