// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: a short list of banks, and the listeners that follow it.
 *
 * Any thread may change it, under one lock that is held while listeners are told: a vCPU's that moves
 * a BAR, the event loop's that adds a device. Banks of RAM are only ever added, never removed before the
 * end, so that lookups take no lock: a bank is filled in first and counted afterwards (release), and
 * readers look at counted ones only (acquire). Device banks come and go with the guest's BARs; only
 * the listeners see them.
 *
 * The promise to listeners: each bank is offered once, a bank exists for all or for none, and what a
 * listener accepted is taken back before the memory goes away.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "iommu/private.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* since Linux 6.3 */
#endif

#define PAGE	  UINT64_C(4096)
#define HUGE_PAGE (2 * MIB)

struct guest_memory {
	pthread_mutex_t lock;			    /* of all but ram and ram_count */
	struct memory_bank slots[MEMORY_BANKS_MAX]; /* stable: listeners keep no copy */
	uint64_t used;				    /* a bit a slot */
	unsigned order[MEMORY_BANKS_MAX];	    /* slots in order of address */
	unsigned count;
	struct memory_bank *ram[MEMORY_BANKS_MAX]; /* append-only, for lookups */
	atomic_uint ram_count;
	struct memory_listener *listeners; /* in order of subscription */
};

int guest_memory_create(struct guest_memory **out, struct error *e)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for the bank list");
	pthread_mutex_init(&(*out)->lock, NULL);
	return 0;
}

/* ---- one bank and its listeners ------------------------------------------------------------ */

static uint64_t bank_bit(const struct guest_memory *memory, const struct memory_bank *bank)
{
	return UINT64_C(1) << (bank - memory->slots);
}

static int offer(struct guest_memory *memory, struct memory_listener *listener,
		 const struct memory_bank *bank, struct error *e)
{
	struct error refusal = { 0 };
	int err = listener->add(listener, bank, &refusal);

	if (!err) {
		listener->accepted |= bank_bit(memory, bank);
		return 0;
	}
	if (bank->kind == MEMORY_BANK_DEVICE) {
		/* A guest moves its BARs as it likes: this may be said often. */
		if (refusal.code)
			log_limited(LOG_LEVEL_WARN,
				    "peer-to-peer DMA to the BAR at 0x%" PRIx64 " (%" PRIu64
				    " KiB) is not possible: %s",
				    bank->gpa, bank->size / KIB, refusal.text);
		return 0;
	}
	if (e)
		*e = refusal;
	if (!refusal.code)
		error_set(e, -err, "memory-refused", NULL,
			  "the bank of %" PRIu64 " MiB at 0x%" PRIx64 " was refused: %s",
			  bank->size / MIB, bank->gpa, strerror(-err));
	return err;
}

static void take_back(struct guest_memory *memory, struct memory_listener *listener,
		      const struct memory_bank *bank)
{
	uint64_t bit = bank_bit(memory, bank);

	if (listener->accepted & bit)
		listener->remove(listener, bank);
	listener->accepted &= ~bit;
}

static void take_back_all(struct guest_memory *memory, struct memory_listener *listener)
{
	for (unsigned i = memory->count; i-- > 0;)
		take_back(memory, listener, &memory->slots[memory->order[i]]);
}

/* Last told, first told back: the list is short, so it is walked once for each. */
static void withdraw(struct guest_memory *memory, const struct memory_bank *bank)
{
	struct memory_listener *done = NULL;

	while (done != memory->listeners) {
		struct memory_listener *listener = memory->listeners;

		while (listener->next != done)
			listener = listener->next;
		take_back(memory, listener, bank);
		done = listener;
	}
}

static int announce(struct guest_memory *memory, const struct memory_bank *bank, struct error *e)
{
	for (struct memory_listener *l = memory->listeners; l; l = l->next) {
		int err = offer(memory, l, bank, e);

		if (err) {
			withdraw(memory, bank);
			return err;
		}
	}
	return 0;
}

/* ---- the list ------------------------------------------------------------------------------- */

static int check_bank(const struct guest_memory *memory, uint64_t gpa, uint64_t size,
		      struct error *e)
{
	if (!size || (gpa | size) & (PAGE - 1) || gpa + size - 1 < gpa)
		return error_set(e, EINVAL, "bad-memory-bank", NULL,
				 "a bank of 0x%" PRIx64 " bytes at 0x%" PRIx64
				 " is not made of whole pages within 64 bits",
				 size, gpa);
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_bank *bank = &memory->slots[memory->order[i]];

		if (gpa <= bank->gpa + (bank->size - 1) && bank->gpa <= gpa + (size - 1))
			return error_set(e, EEXIST, "memory-overlap", NULL,
					 "a bank of 0x%" PRIx64 " bytes at 0x%" PRIx64
					 " overlaps the one of 0x%" PRIx64 " at 0x%" PRIx64,
					 size, gpa, bank->size, bank->gpa);
	}
	if (memory->count == MEMORY_BANKS_MAX)
		return error_set(e, ENOSPC, "too-many-banks", NULL,
				 "there are already %d memory banks", MEMORY_BANKS_MAX);
	return 0;
}

static struct memory_bank *insert(struct guest_memory *memory, const struct memory_bank *bank)
{
	unsigned slot = (unsigned)__builtin_ctzll(~memory->used), at = memory->count;

	memory->used |= UINT64_C(1) << slot;
	memory->slots[slot] = *bank;
	while (at > 0 && memory->slots[memory->order[at - 1]].gpa > bank->gpa) {
		memory->order[at] = memory->order[at - 1];
		at--;
	}
	memory->order[at] = slot;
	memory->count++;
	return &memory->slots[slot];
}

static void erase(struct guest_memory *memory, const struct memory_bank *bank)
{
	unsigned slot = (unsigned)(bank - memory->slots), at = 0;

	while (memory->order[at] != slot)
		at++;
	memory->count--;
	memmove(&memory->order[at], &memory->order[at + 1],
		(memory->count - at) * sizeof(memory->order[0]));
	memory->used &= ~(UINT64_C(1) << slot);
}

/* ---- RAM ------------------------------------------------------------------------------------ */

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

/*
 * A guest whose devices do DMA has all its memory pinned, so what it may ever use must be there. What
 * earlier banks have in use already is not counted in MemAvailable any more.
 */
static int check_size(const struct guest_memory *memory, uint64_t size, struct error *e)
{
	uint64_t available = meminfo("MemAvailable"), total = size, resident = 0;

	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_bank *bank = &memory->slots[memory->order[i]];
		struct stat st;

		if (bank->kind != MEMORY_BANK_RAM)
			continue;
		if (__builtin_add_overflow(total, bank->size, &total))
			total = UINT64_MAX;
		if (!fstat(bank->fd, &st))
			resident += (uint64_t)st.st_blocks * 512;
	}
	if (!available || total <= available + resident)
		return 0;
	return error_set(
		e, ENOMEM, "memory-too-large", "ask for less memory, or free some: free -m",
		"%" PRIu64 " MiB of guest memory were asked for, this machine has %" PRIu64
		" MiB available of %" PRIu64 " MiB (MemAvailable and MemTotal in /proc/meminfo)",
		total / MIB, (available + resident) / MIB, meminfo("MemTotal") / MIB);
}

static int ram_file(uint64_t size, struct error *e)
{
	int saved, fd = memfd_create("divvy-guest-ram",
				     MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("divvy-guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* Peers are handed the descriptor: none may shrink the file under the others' feet. */
	if (fd >= 0 && !ftruncate(fd, (off_t)size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	saved = errno;
	fd_close(&fd);
	return error_set(e, saved, "no-guest-memory", NULL,
			 "no memory file of %" PRIu64 " MiB can be made: %s", size / MIB,
			 strerror(saved));
}

/*
 * Map the file where guest and host addresses agree modulo the size of a huge page, so that KVM and
 * the IOMMU can use huge pages.
 */
static void *ram_map(int fd, uint64_t gpa, uint64_t size, struct error *e)
{
	size_t room = size + HUGE_PAGE;
	char *reserved, *at;
	int err;

	reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		goto failed;
	at = reserved + ((gpa - (uintptr_t)reserved) & (HUGE_PAGE - 1));
	if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		err = errno;
		munmap(reserved, room);
		errno = err;
		goto failed;
	}
	if (at > reserved)
		munmap(reserved, (size_t)(at - reserved));
	munmap(at + size, room - size - (size_t)(at - reserved));
	/*
	 * Advice: memory works without. DONTFORK since a child that lives beside pinned memory would
	 * make the kernel copy pages away from under the device; DONTDUMP since it is the guest's.
	 */
	if (madvise(at, size, MADV_HUGEPAGE) && errno != EINVAL)
		log_debug("guest memory: no huge pages: %s", strerror(errno));
	if (madvise(at, size, MADV_DONTFORK) || madvise(at, size, MADV_DONTDUMP))
		log_debug("guest memory: madvise: %s", strerror(errno));
	return at;
failed:
	error_set(e, errno, "no-guest-memory", NULL,
		  "%" PRIu64 " MiB of guest memory cannot be mapped: %s", size / MIB,
		  strerror(errno));
	return NULL;
}

static void ram_release(struct memory_bank *bank)
{
	munmap(bank->hva, bank->size);
	fd_close(&bank->fd);
}

static int add_ram_locked(struct guest_memory *memory, uint64_t gpa, uint64_t size, struct error *e)
{
	struct memory_bank bank = { .kind = MEMORY_BANK_RAM, .gpa = gpa, .size = size };
	struct memory_bank *slot;
	unsigned ram_count;
	int err;

	err = check_bank(memory, gpa, size, e);
	if (!err)
		err = check_size(memory, size, e);
	if (err)
		return err;
	bank.fd = ram_file(size, e);
	if (bank.fd < 0)
		return bank.fd;
	bank.hva = ram_map(bank.fd, gpa, size, e);
	if (!bank.hva) {
		fd_close(&bank.fd);
		return -ENOMEM;
	}
	slot = insert(memory, &bank);
	err = announce(memory, slot, e);
	if (err) {
		erase(memory, slot);
		ram_release(&bank);
		return err;
	}
	ram_count = atomic_load_explicit(&memory->ram_count, memory_order_relaxed);
	memory->ram[ram_count] = slot;
	atomic_store_explicit(&memory->ram_count, ram_count + 1, memory_order_release);
	return 0;
}

int guest_memory_add_ram(struct guest_memory *memory, uint64_t gpa, uint64_t size, struct error *e)
{
	int err;

	pthread_mutex_lock(&memory->lock);
	err = add_ram_locked(memory, gpa, size, e);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

/* ---- device banks --------------------------------------------------------------------------- */

int guest_memory_add_device(struct guest_memory *memory, uint64_t gpa, uint64_t size, void *hva,
			    struct error *e)
{
	struct memory_bank bank = {
		.kind = MEMORY_BANK_DEVICE, .gpa = gpa, .size = size, .hva = hva, .fd = -1
	};
	int err;

	if ((uintptr_t)hva & (PAGE - 1) || !hva)
		return error_set(e, EINVAL, "bad-memory-bank", NULL,
				 "the host address of the bank at 0x%" PRIx64 " is not a page's",
				 gpa);
	pthread_mutex_lock(&memory->lock);
	err = check_bank(memory, gpa, size, e);
	if (!err)
		err = announce(memory, insert(memory, &bank), e);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

void guest_memory_remove_device(struct guest_memory *memory, uint64_t gpa)
{
	pthread_mutex_lock(&memory->lock);
	for (unsigned i = 0; i < memory->count; i++) {
		struct memory_bank *bank = &memory->slots[memory->order[i]];

		if (bank->gpa != gpa || bank->kind != MEMORY_BANK_DEVICE)
			continue;
		withdraw(memory, bank);
		erase(memory, bank);
		break;
	}
	pthread_mutex_unlock(&memory->lock);
}

/* ---- listeners, lookups, the end ------------------------------------------------------------ */

int guest_memory_listen(struct guest_memory *memory, struct memory_listener *listener,
			struct error *e)
{
	struct memory_listener **tail = &memory->listeners;
	int err = 0;

	listener->next = NULL;
	listener->accepted = 0;
	pthread_mutex_lock(&memory->lock);
	for (unsigned i = 0; i < memory->count && !err; i++)
		err = offer(memory, listener, &memory->slots[memory->order[i]], e);
	if (err) {
		take_back_all(memory, listener);
	} else {
		while (*tail)
			tail = &(*tail)->next;
		*tail = listener;
	}
	pthread_mutex_unlock(&memory->lock);
	return err;
}

void guest_memory_unlisten(struct guest_memory *memory, struct memory_listener *listener)
{
	pthread_mutex_lock(&memory->lock);
	for (struct memory_listener **at = &memory->listeners; *at; at = &(*at)->next) {
		if (*at != listener)
			continue;
		take_back_all(memory, listener);
		*at = listener->next;
		listener->next = NULL;
		break;
	}
	pthread_mutex_unlock(&memory->lock);
}

void *guest_memory_ptr(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	unsigned count = atomic_load_explicit(&memory->ram_count, memory_order_acquire);

	for (unsigned i = 0; i < count; i++) {
		const struct memory_bank *bank = memory->ram[i];

		if (gpa - bank->gpa < bank->size)
			return len <= bank->size - (gpa - bank->gpa)
				       ? (char *)bank->hva + (gpa - bank->gpa)
				       : NULL;
	}
	return NULL;
}

const struct memory_bank *guest_memory_bank(const struct guest_memory *memory, unsigned index)
{
	unsigned count = atomic_load_explicit(&memory->ram_count, memory_order_acquire);
	const struct memory_bank *bank = NULL;

	if (index >= count)
		return NULL;
	/* The list is short: the next higher one, as often as it takes. */
	for (unsigned round = 0; round <= index; round++) {
		const struct memory_bank *last = bank;

		bank = NULL;
		for (unsigned i = 0; i < count; i++)
			if ((!last || memory->ram[i]->gpa > last->gpa) &&
			    (!bank || memory->ram[i]->gpa < bank->gpa))
				bank = memory->ram[i];
	}
	return bank;
}

void guest_memory_destroy(struct guest_memory *memory)
{
	if (!memory)
		return;
	while (memory->listeners)
		guest_memory_unlisten(memory, memory->listeners);
	for (unsigned i = memory->count; i-- > 0;) {
		struct memory_bank *bank = &memory->slots[memory->order[i]];

		if (bank->kind == MEMORY_BANK_RAM)
			ram_release(bank);
	}
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}
