// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: a short list of banks, and the listeners that follow it.
 *
 * Any thread may change it, under one lock that is held while listeners are told: a vCPU's that moves
 * a BAR, the event loop's that adds a device. Banks of RAM are only ever added, never removed before the
 * end, so that lookups take no lock: a bank is filled in first and counted afterwards (release), and
 * readers look at counted ones only (acquire). Device banks come and go with the guest's BARs; only
 * the listeners see them. Where the bytes of RAM come from is ram.c's.
 *
 * The promise to listeners: each bank is offered once, a bank exists for all or for none, and what a
 * listener accepted is taken back before the memory goes away.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "iommu/private.h"

#define PAGE UINT64_C(4096)

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
	int err;

	/* There is nothing in it to reach. */
	if (bank->kind == MEMORY_BANK_RESERVED)
		return 0;
	err = listener->add(listener, bank, &refusal);
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

/* ---- RAM and reserved ranges ---------------------------------------------------------------- */

static int add_ram_locked(struct guest_memory *memory, uint64_t gpa, uint64_t size,
			  const struct memory_backing *backing, struct error *e)
{
	struct memory_bank bank = {
		.kind = MEMORY_BANK_RAM, .gpa = gpa, .size = size, .fd = -1, .backing = *backing
	};
	struct memory_bank *slot;
	unsigned ram_count;
	int err;

	err = check_bank(memory, gpa, size, e);
	if (!err)
		err = ram_check(memory, &bank, e);
	if (!err)
		err = ram_open(&bank, e);
	if (err)
		return err;
	slot = insert(memory, &bank);
	err = announce(memory, slot, e);
	if (err) {
		erase(memory, slot);
		ram_close(&bank);
		return err;
	}
	ram_count = atomic_load_explicit(&memory->ram_count, memory_order_relaxed);
	memory->ram[ram_count] = slot;
	atomic_store_explicit(&memory->ram_count, ram_count + 1, memory_order_release);
	return 0;
}

int guest_memory_add_ram_on(struct guest_memory *memory, uint64_t gpa, uint64_t size,
			    const struct memory_backing *backing, struct error *e)
{
	int err;

	pthread_mutex_lock(&memory->lock);
	err = add_ram_locked(memory, gpa, size, backing, e);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

int guest_memory_add_ram(struct guest_memory *memory, uint64_t gpa, uint64_t size, struct error *e)
{
	const struct memory_backing anywhere = { .host_node = -1 };

	return guest_memory_add_ram_on(memory, gpa, size, &anywhere, e);
}

int guest_memory_add_reserved(struct guest_memory *memory, uint64_t gpa, uint64_t size,
			      struct error *e)
{
	const struct memory_bank bank = {
		.kind = MEMORY_BANK_RESERVED, .gpa = gpa, .size = size, .fd = -1
	};
	int err;

	pthread_mutex_lock(&memory->lock);
	err = check_bank(memory, gpa, size, e);
	if (!err)
		insert(memory, &bank);
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
			ram_close(bank);
	}
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}
