// SPDX-License-Identifier: Apache-2.0
/*
 * Taking all of a guest's memory from the host at once, by many threads: zeroing pages is most of what a
 * large guest's start takes, and it goes as fast as there are CPUs near the memory.
 *
 * RAM is cut into pieces, in one queue for each host node. A thread begins with the queue that is its
 * turn, on that node's CPUs, and helps with the next when its own is empty. The threads are gone
 * when the population is finished; the first failure stops them all.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "iommu/private.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* since Linux 5.14 */
#endif

#define THREADS_MAX 16 /* beyond, the memory is the limit and no longer the CPUs */
#define PIECE	    (64 * MIB)

struct piece {
	char *at;
	uint64_t size;
};

struct queue {
	int host_node;
	unsigned count;
	struct piece *pieces;
	atomic_uint next;
};

struct memory_population {
	struct guest_memory *memory;
	unsigned thread_count, queue_count;
	pthread_t threads[THREADS_MAX];
	struct queue queues[MEMORY_BANKS_MAX];
	struct piece *pieces;
	struct cpu_list allowed;
	atomic_uint started;
	atomic_int failure; /* the first errno; -1: given up */
	uint64_t start_ns, size;
};

/* A thread that cannot be moved works from where it is. */
static void move_to(const struct memory_population *population, int host_node)
{
	struct cpu_list cpus;

	if (host_node < 0 || cpu_list_node("", (unsigned)host_node, &cpus))
		cpus = population->allowed;
	cpu_list_and(&cpus, &population->allowed);
	if (cpu_list_count(&cpus) && sched_setaffinity(0, sizeof(cpus), (cpu_set_t *)&cpus))
		log_debug("guest memory: sched_setaffinity: %s", strerror(errno));
}

static void fail(struct memory_population *population, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&population->failure, &none, err);
}

static void drain(struct memory_population *population, struct queue *queue)
{
	while (!atomic_load(&population->failure)) {
		unsigned next = atomic_fetch_add(&queue->next, 1);

		if (next >= queue->count)
			return;
		if (madvise(queue->pieces[next].at, queue->pieces[next].size, MADV_POPULATE_WRITE))
			fail(population, errno);
	}
}

static void *populate_thread(void *opaque)
{
	struct memory_population *population = opaque;
	unsigned first = atomic_fetch_add(&population->started, 1);

	for (unsigned i = 0; i < population->queue_count; i++) {
		struct queue *queue = &population->queues[(first + i) % population->queue_count];

		move_to(population, queue->host_node);
		drain(population, queue);
	}
	return NULL;
}

/* The queue of @host_node, made when it is not there. */
static struct queue *queue_of(struct memory_population *population, int host_node)
{
	struct queue *queue = population->queues;

	while (queue < population->queues + population->queue_count &&
	       queue->host_node != host_node)
		queue++;
	if (queue == population->queues + population->queue_count) {
		queue->host_node = host_node;
		population->queue_count++;
	}
	return queue;
}

static unsigned pieces_of(const struct memory_population *population,
			  const struct memory_bank *bank)
{
	uint64_t piece = MAX(PIECE, bank->backing.huge_page);

	return (unsigned)((bank->size + piece - 1) / piece);
}

/* Counts every queue's pieces, gives each its part of one array, then fills them. */
static int cut(struct memory_population *population)
{
	const struct memory_bank *bank;
	unsigned count = 0;

	for (unsigned i = 0; (bank = guest_memory_bank(population->memory, i)); i++) {
		unsigned pieces = pieces_of(population, bank);

		queue_of(population, bank->backing.host_node)->count += pieces;
		count += pieces;
	}
	population->pieces = calloc(count + 1, sizeof(*population->pieces));
	if (!population->pieces)
		return -ENOMEM;
	for (unsigned i = 0, at = 0; i < population->queue_count; i++) {
		population->queues[i].pieces = population->pieces + at;
		at += population->queues[i].count;
		population->queues[i].count = 0;
	}
	for (unsigned i = 0; (bank = guest_memory_bank(population->memory, i)); i++) {
		uint64_t piece = MAX(PIECE, bank->backing.huge_page);
		struct queue *queue = queue_of(population, bank->backing.host_node);

		for (uint64_t at = 0; at < bank->size; at += piece)
			queue->pieces[queue->count++] =
				(struct piece){ (char *)bank->hva + at,
						MIN(piece, bank->size - at) };
		population->size += bank->size;
	}
	return (int)count;
}

int guest_memory_populate(struct guest_memory *memory, struct memory_population **out,
			  struct error *e)
{
	struct memory_population *population = calloc(1, sizeof(*population));
	unsigned threads;
	int pieces;

	*out = NULL;
	if (!population)
		return error_set(e, ENOMEM, "no-memory", NULL, "populating memory: out of memory");
	population->memory = memory;
	population->start_ns = monotonic_ns();
	pieces = cut(population);
	if (pieces < 0) {
		free(population);
		return error_set(e, ENOMEM, "no-memory", NULL, "populating memory: out of memory");
	}
	if (cpu_list_allowed(&population->allowed))
		cpu_list_add(&population->allowed, 0);
	threads = MIN(cpu_list_count(&population->allowed), (unsigned)THREADS_MAX);
	threads = MIN(threads, (unsigned)pieces);
	/* Those that can be made do the work; with none, memory_population_finish() does it. */
	while (population->thread_count < threads &&
	       !thread_create(&population->threads[population->thread_count], "populate",
			      populate_thread, population))
		population->thread_count++;
	*out = population;
	return 0;
}

/* Why a page could not be had: the fact that can be read now, if there is one. */
static int failure(const struct memory_population *population, int err, struct error *e)
{
	const struct memory_bank *bank;

	for (unsigned i = 0; (bank = guest_memory_bank(population->memory, i)); i++)
		if (bank->backing.huge_page && bank->backing.host_node >= 0 &&
		    huge_pages_check("", bank->backing.huge_page, bank->backing.huge_page,
				     bank->backing.host_node, e))
			return -ENOMEM;
	return error_set(e, err, "memory-not-populated",
			 "ask for less memory, or free some: free -m",
			 "the host does not give all of the guest's memory: %s%s", strerror(err),
			 err == EFAULT ? " (no page of the kind and node asked for)" : "");
}

int memory_population_finish(struct memory_population *population, bool give_up, struct error *e)
{
	struct cpu_list before;
	int err;

	if (!population)
		return 0;
	if (give_up) {
		fail(population, -1);
	} else if (!population->thread_count && !cpu_list_allowed(&before)) {
		populate_thread(population);
		sched_setaffinity(0, sizeof(before), (cpu_set_t *)&before);
	}
	for (unsigned i = 0; i < population->thread_count; i++)
		pthread_join(population->threads[i], NULL);
	err = atomic_load(&population->failure);
	if (err > 0 && !give_up)
		err = failure(population, err, e);
	else
		err = 0;
	if (!err && !give_up)
		log_info("guest memory: %" PRIu64 " MiB populated by %u thread%s in %.1f ms",
			 population->size / MIB, population->thread_count,
			 population->thread_count == 1 ? "" : "s",
			 (double)(monotonic_ns() - population->start_ns) / 1e6);
	free(population->pieces);
	free(population);
	return err;
}
