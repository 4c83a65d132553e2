// SPDX-License-Identifier: Apache-2.0
/*
 * The address space as the rest of the house sees it: choosing a backend, and following guest memory
 * so that what the guest has, its devices reach, at the same addresses, and nothing else.
 *
 * A bank of RAM that cannot be mapped is an error (the guest's driver would hand out addresses that
 * the device cannot reach); a device bank that cannot be mapped is a warning (only peer-to-peer
 * traffic needs it).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iommu/private.h"

/* ---- open and close ------------------------------------------------------------------------- */

static bool has_cdevs(const char *root)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/dev/iommu", root);
	if (access(path, F_OK))
		return false;
	snprintf(path, sizeof(path), "%s/dev/vfio/devices", root);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir)))
		found = !strncmp(entry->d_name, "vfio", 4);
	if (dir)
		closedir(dir);
	return found;
}

int iommu_space_open(const char *root, enum iommu_kind kind, struct iommu_space **out,
		     struct error *e)
{
	*out = NULL;
	if (kind == IOMMU_AUTO)
		kind = has_cdevs(root) ? IOMMU_IOMMUFD : IOMMU_TYPE1;
	switch (kind) {
	case IOMMU_IOMMUFD:
		return iommu_iommufd_open(root, out, e);
	case IOMMU_TYPE1:
		return iommu_type1_open(root, out, e);
	case IOMMU_MOCK:
		*out = iommu_space_mock(0);
		return *out ? 0 : error_set(e, ENOMEM, "out-of-memory", NULL, "no memory");
	case IOMMU_AUTO:
		break;
	}
	return error_set(e, EINVAL, "bad-value", NULL, "%d is not a kind of address space", kind);
}

void iommu_space_close(struct iommu_space *space)
{
	if (!space)
		return;
	/* The kernel drops them with the descriptor: nothing stays pinned, but somebody forgot. */
	if (space->maps)
		log_warn("iommu %s: closed with %lu map%s left", space->ops->name, space->maps,
			 space->maps == 1 ? "" : "s");
	pthread_mutex_destroy(&space->vfio_lock);
	space->ops->destroy(space);
}

int attach_no_remapping(struct error *e, const char *call)
{
	return error_set(
		e, EPERM, "no-interrupt-remapping",
		"switch on interrupt remapping in the firmware setup; divvy precheck says what "
		"was found",
		"the kernel refuses to attach the device (%s: EPERM): this machine does not "
		"remap interrupts, so a device could raise any interrupt of the host "
		"(vfio_iommu_type1.allow_unsafe_interrupts and its iommufd twin are off)",
		call);
}

/* ---- why a map failed ------------------------------------------------------------------------ */

/* Whether this thread may lock any amount: CAP_IPC_LOCK. By capget(2), since no path may be left. */
static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, sets) < 0)
		return false;
	return sets[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

/* All RAM, with @added, which may not be listed yet. */
static uint64_t ram_total(const struct guest_memory *memory, const struct memory_bank *added)
{
	uint64_t total = added->kind == MEMORY_BANK_RAM ? added->size : 0;
	const struct memory_bank *bank;

	for (unsigned i = 0; memory && (bank = guest_memory_bank(memory, i)); i++)
		if (bank->gpa != added->gpa)
			total += bank->size;
	return total;
}

static int map_error(const struct iommu_space *space, const struct memory_bank *bank, int err,
		     struct error *e)
{
	uint64_t needed = MAX(ram_total(space->memory, bank), bank->size);
	const char *why = strerror(-err);
	struct rlimit limit;
	char next[160];

	if (err == -ENOMEM && !getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur < needed &&
	    !may_lock_all()) {
		snprintf(next, sizeof(next),
			 "ulimit -l %" PRIu64 " (or prlimit --memlock=%" PRIu64
			 " CMD, or LimitMEMLOCK= in its unit)",
			 ALIGN_UP(needed, MIB) / KIB, ALIGN_UP(needed, MIB));
		return error_set(e, ENOMEM, "memlock-too-small", next,
				 "guest memory of %" PRIu64 " MiB must be locked for DMA, but "
				 "RLIMIT_MEMLOCK allows %" PRIu64 " KiB (%s: ENOMEM)",
				 needed / MIB, (uint64_t)limit.rlim_cur / KIB, space->ops->name);
	}
	switch (-err) {
	case EEXIST:
		why = "something is mapped there already";
		break;
	case ENOSPC:
		why = "the limit of maps is reached (vfio_iommu_type1.dma_entry_limit)";
		break;
	case EINVAL:
	case EADDRINUSE:
		why = "the address is outside what the IOMMU can translate, or reserved";
		break;
	case ENODEV:
		why = "no device is attached yet";
		break;
	}
	return error_set(e, -err, "dma-map-failed", NULL,
			 "%s cannot map %" PRIu64 " KiB at 0x%" PRIx64 " for DMA: %s (errno %d)",
			 space->ops->name, bank->size / KIB, bank->gpa, why, -err);
}

/* ---- following guest memory ------------------------------------------------------------------ */

/*
 * RAM is mapped piece by piece, cut where the address is a multiple of a GiB: a page of 1 GiB is
 * mapped as one, no call holds the kernel's locks for all of a large guest, and a failure comes
 * before all was pinned in vain. A BAR is mapped whole.
 */
static uint64_t piece_size(const struct memory_bank *bank, uint64_t at)
{
	if (bank->kind != MEMORY_BANK_RAM)
		return bank->size - at;
	return MIN(bank->size - at, GIB - (bank->gpa + at) % GIB);
}

/* The first @mapped bytes of @bank, last piece first. */
static void unmap_pieces(struct iommu_space *space, const struct memory_bank *bank, uint64_t mapped)
{
	while (mapped) {
		/* Where the piece that ends there began. */
		uint64_t at = bank->gpa + mapped - 1, start = 0;
		int err;

		if (bank->kind == MEMORY_BANK_RAM && at - at % GIB > bank->gpa)
			start = at - at % GIB - bank->gpa;
		err = space->ops->unmap(space, bank->gpa + start, mapped - start);
		if (err)
			log_error("iommu %s: 0x%" PRIx64 " bytes at 0x%" PRIx64
				  " cannot be unmapped: %s",
				  space->ops->name, mapped - start, bank->gpa + start,
				  strerror(-err));
		mapped = start;
	}
}

static int map_piece(struct iommu_space *space, const struct memory_bank *bank, uint64_t at,
		     uint64_t size)
{
	const unsigned prot = IOMMU_PROT_READ | IOMMU_PROT_WRITE;
	int err = -ENOTTY;

	if (bank->fd >= 0 && space->ops->map_file)
		err = space->ops->map_file(space, bank->gpa + at, size, bank->fd,
					   bank->fd_offset + at, prot);
	if (err == -ENOTTY)
		err = space->ops->map(space, bank->gpa + at, size, (char *)bank->hva + at, prot);
	return err;
}

static int map_bank(struct iommu_space *space, const struct memory_bank *bank)
{
	int err;

	for (uint64_t at = 0, size; at < bank->size; at += size) {
		size = piece_size(bank, at);
		err = map_piece(space, bank, at, size);
		if (err) {
			unmap_pieces(space, bank, at);
			return err;
		}
	}
	return 0;
}

static int space_add(struct memory_listener *listener, const struct memory_bank *bank,
		     struct error *e)
{
	struct iommu_space *space = container_of(listener, struct iommu_space, listener);
	uint64_t start = monotonic_ns();
	int err;

	if (bank->kind == MEMORY_BANK_DEVICE && space->maps_no_bars)
		return -EOPNOTSUPP; /* said before */
	err = map_bank(space, bank);
	/* iommufd pins pages, of which a BAR has none (Linux 6.12 and later). */
	if (err == -EFAULT && bank->kind == MEMORY_BANK_DEVICE &&
	    space->ops->kind == IOMMU_IOMMUFD) {
		space->maps_no_bars = true;
		return error_set(e, EOPNOTSUPP, "dma-map-failed", "--iommu type1",
				 "this kernel's iommufd maps memory only, not BARs (EFAULT); "
				 "--iommu type1 does. Nothing more is said of it");
	}
	if (err)
		return map_error(space, bank, err, e);
	log_write(bank->kind == MEMORY_BANK_RAM ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG,
		  "iommu %s: mapped %" PRIu64 " KiB of %s at 0x%" PRIx64 " in %" PRIu64
		  " us, %lu map%s",
		  space->ops->name, bank->size / KIB,
		  bank->kind == MEMORY_BANK_RAM ? "RAM" : "a BAR", bank->gpa,
		  (monotonic_ns() - start) / 1000, space->maps, space->maps == 1 ? "" : "s");
	return 0;
}

static void space_remove(struct memory_listener *listener, const struct memory_bank *bank)
{
	struct iommu_space *space = container_of(listener, struct iommu_space, listener);

	unmap_pieces(space, bank, bank->size);
}

int iommu_space_follow(struct iommu_space *space, struct guest_memory *memory, struct error *e)
{
	int err;

	if (space->memory)
		return error_set(e, EBUSY, "already-following", NULL,
				 "the address space follows guest memory already");
	space->listener.add = space_add;
	space->listener.remove = space_remove;
	space->memory = memory;
	err = guest_memory_listen(memory, &space->listener, e);
	if (err)
		space->memory = NULL;
	return err;
}

void iommu_space_unfollow(struct iommu_space *space, struct guest_memory *memory)
{
	if (space->memory != memory)
		return;
	guest_memory_unlisten(memory, &space->listener);
	space->memory = NULL;
}
