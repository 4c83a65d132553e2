// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch: from an address to the handler that answers it.
 *
 * The regions are one sorted array. A lookup is a binary search inside an RCU read section (liburcu,
 * the membarrier flavour, so a reader pays neither lock nor barrier). A change builds a new array,
 * publishes it and leaves the old one to call_rcu: it never waits for readers, and so a handler may
 * change the table it was called from. The handler runs inside the read section, which is what lets
 * dispatch_synchronize() promise that no handler of a removed region is still running.
 *
 * A handler that takes long (a device's reset, a disk that does not answer) holds back the freeing
 * of every old array, while a guest may change the table from its other vCPUs as fast as it can. So
 * changes are slowed down when many arrays wait.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <urcu/urcu-memb.h>

#include "hypervisor-glue/dispatch.h"

#define RETIRED_MAX 1024    /* arrays that may wait to be freed before changes are slowed down */
#define SLOWDOWN_NS 1000000 /* for each change then */

struct region {
	uint64_t start, last; /* inclusive, so that a region may end at the top of the space */
	const struct dispatch_handler *handler;
	void *opaque;
};

struct table {
	struct rcu_head rcu;
	struct dispatch *owner;
	size_t count;
	struct region regions[];
};

struct dispatch {
	struct table *table;   /* published with release, read inside a read section */
	pthread_mutex_t write; /* serialises changes; held only while the array is copied */
	unsigned retired;      /* arrays on their way to free(); atomic */
};

/* How often this thread has entered; liburcu must hear of a thread once only. */
static __thread unsigned thread_entered;

void dispatch_thread_enter(void)
{
	if (thread_entered++ == 0)
		urcu_memb_register_thread();
}

void dispatch_thread_leave(void)
{
	if (thread_entered == 0)
		return;
	thread_entered--;
	if (thread_entered == 0)
		urcu_memb_unregister_thread();
}

static void enter_rcu(struct rcu_head *unused)
{
	thread_enter("rcu");
}

void dispatch_library_thread_enter(void)
{
	static struct rcu_head head;

	dispatch_thread_enter();
	urcu_memb_call_rcu(&head, enter_rcu);
	dispatch_thread_leave();
}

static struct table *table_new(size_t count)
{
	struct table *t = calloc(1, sizeof(*t) + count * sizeof(t->regions[0]));

	if (t)
		t->count = count;
	return t;
}

static void table_free_rcu(struct rcu_head *head)
{
	struct table *t = container_of(head, struct table, rcu);

	__atomic_fetch_sub(&t->owner->retired, 1, __ATOMIC_RELAXED);
	free(t);
}

int dispatch_create(struct dispatch **out)
{
	struct dispatch *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->table = table_new(0);
	if (!d->table) {
		free(d);
		return -ENOMEM;
	}
	pthread_mutex_init(&d->write, NULL);
	*out = d;
	return 0;
}

void dispatch_destroy(struct dispatch *d)
{
	if (!d)
		return;
	/* Arrays that were replaced lately may still be on their way to free(). */
	urcu_memb_barrier();
	free(d->table);
	pthread_mutex_destroy(&d->write);
	free(d);
}

/* The first region that ends at or after @address: the only one that can hold it. */
static size_t table_search(const struct table *t, uint64_t address)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (t->regions[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void table_publish(struct dispatch *d, struct table *new)
{
	struct table *old = d->table;

	__atomic_store_n(&d->table, new, __ATOMIC_RELEASE);
	old->owner = d;
	__atomic_fetch_add(&d->retired, 1, __ATOMIC_RELAXED);
	urcu_memb_call_rcu(&old->rcu, table_free_rcu);
}

/* Waiting for readers is not possible, since the caller may be one. */
static void slow_down(struct dispatch *d)
{
	const struct timespec pause = { .tv_nsec = SLOWDOWN_NS };

	if (__atomic_load_n(&d->retired, __ATOMIC_RELAXED) > RETIRED_MAX)
		nanosleep(&pause, NULL);
}

int dispatch_add(struct dispatch *d, uint64_t start, uint64_t size,
		 const struct dispatch_handler *handler, void *opaque)
{
	uint64_t last = start + size - 1;
	const struct table *old;
	struct table *new;
	size_t at;
	int ret = 0;

	if (size == 0 || last < start || !handler)
		return -EINVAL;

	/* call_rcu, in table_publish(), wants a registered caller. */
	dispatch_thread_enter();
	pthread_mutex_lock(&d->write);
	old = d->table;
	at = table_search(old, start);
	if (at < old->count && old->regions[at].start <= last) {
		ret = -EEXIST;
		goto out;
	}
	new = table_new(old->count + 1);
	if (!new) {
		ret = -ENOMEM;
		goto out;
	}
	memcpy(new->regions, old->regions, at * sizeof(new->regions[0]));
	new->regions[at] = (struct region){ start, last, handler, opaque };
	memcpy(new->regions + at + 1, old->regions + at,
	       (old->count - at) * sizeof(new->regions[0]));
	table_publish(d, new);
out:
	pthread_mutex_unlock(&d->write);
	dispatch_thread_leave();
	slow_down(d);
	return ret;
}

int dispatch_remove(struct dispatch *d, uint64_t start)
{
	const struct table *old;
	struct table *new;
	size_t at;
	int ret = 0;

	dispatch_thread_enter();
	pthread_mutex_lock(&d->write);
	old = d->table;
	at = table_search(old, start);
	if (at == old->count || old->regions[at].start != start) {
		ret = -ENOENT;
		goto out;
	}
	new = table_new(old->count - 1);
	if (!new) {
		ret = -ENOMEM;
		goto out;
	}
	memcpy(new->regions, old->regions, at * sizeof(new->regions[0]));
	memcpy(new->regions + at, old->regions + at + 1,
	       (old->count - at - 1) * sizeof(new->regions[0]));
	table_publish(d, new);
out:
	pthread_mutex_unlock(&d->write);
	dispatch_thread_leave();
	slow_down(d);
	return ret;
}

void dispatch_synchronize(struct dispatch *d)
{
	/* Waiting for oneself would never end; a mistake of ours must not hang a vCPU. */
	if (urcu_memb_read_ongoing()) {
		log_limited(LOG_LEVEL_ERROR,
			    "dispatch: synchronize from inside a handler: ignored");
		return;
	}
	urcu_memb_synchronize_rcu();
}

static uint64_t width_mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

static bool size_valid(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* The region that holds all of the access, or NULL. Inside a read section. */
static const struct region *find(const struct dispatch *d, uint64_t address, unsigned size)
{
	const struct table *t = __atomic_load_n(&d->table, __ATOMIC_ACQUIRE);
	size_t at = table_search(t, address);
	const struct region *r;

	if (at == t->count)
		return NULL;
	r = &t->regions[at];
	if (address < r->start || r->last - address < size - 1)
		return NULL;
	return r;
}

uint64_t dispatch_read(struct dispatch *d, uint64_t address, unsigned size)
{
	uint64_t value = UINT64_MAX;
	const struct region *r;

	if (!size_valid(size))
		return value;

	/* A thread that has not registered is not seen by writers: register it for this access. */
	dispatch_thread_enter();
	urcu_memb_read_lock();
	r = find(d, address, size);
	if (r && r->handler->read)
		value = r->handler->read(r->opaque, address - r->start, size);
	urcu_memb_read_unlock();
	dispatch_thread_leave();
	return value & width_mask(size);
}

void dispatch_write(struct dispatch *d, uint64_t address, unsigned size, uint64_t value)
{
	const struct region *r;

	if (!size_valid(size))
		return;

	dispatch_thread_enter();
	urcu_memb_read_lock();
	r = find(d, address, size);
	if (r && r->handler->write)
		r->handler->write(r->opaque, address - r->start, size, value & width_mask(size));
	urcu_memb_read_unlock();
	dispatch_thread_leave();
}
