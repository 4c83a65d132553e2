/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: which handler answers an exit. One table for MMIO, one for ports; a lookup is a binary
 * search over a sorted array that is replaced as a whole (RCU), so a vCPU takes no lock.
 */
#ifndef GLUE_DISPATCH_H
#define GLUE_DISPATCH_H

#include "base/base.h"

struct dispatch;

struct dispatch_handler {
	/*
	 * @offset: within the region; @size: 1, 2, 4, 8. Any vCPU thread, concurrently. Either may be
	 * NULL (reads all-ones, writes dropped). A value is cut to @size on both ways.
	 */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

int dispatch_create(struct dispatch **out);
void dispatch_destroy(struct dispatch *d);

/*
 * dispatch_add(), dispatch_remove() - any thread, also from inside a handler (a BAR that moves): the
 * change is seen by later lookups; a handler that is already running on another vCPU finishes.
 * @handler: static storage. @opaque must outlive the next dispatch_synchronize() after removal.
 * Return 0, -EEXIST (overlap), -ENOENT, -ENOMEM, -EINVAL (empty or wrapping).
 */
int dispatch_add(struct dispatch *d, uint64_t start, uint64_t size,
		 const struct dispatch_handler *handler, void *opaque);
int dispatch_remove(struct dispatch *d, uint64_t start);
/*
 * dispatch_synchronize() - wait until no handler of a removed region runs; never from a handler
 * (there it is refused with a log line, since it would wait for itself).
 */
void dispatch_synchronize(struct dispatch *d);

/*
 * Each thread that looks up registers itself once, and leaves before it ends; calls nest. A thread
 * that does not is safe too, but pays for a registration at every access.
 */
void dispatch_thread_enter(void);
void dispatch_thread_leave(void);

/*
 * dispatch_library_thread_enter() - liburcu's thread, which frees what was replaced, passes
 * thread_enter() as "rcu". Once, from a thread that has been confined itself; what it starts is
 * never without.
 */
void dispatch_library_thread_enter(void);

/*
 * All-ones of @size bytes when nothing answers; a region is never crossed: such an access answers
 * all-ones too, and such a write is dropped. @size other than 1, 2, 4, 8: all-ones of 64 bits.
 */
uint64_t dispatch_read(struct dispatch *d, uint64_t address, unsigned size);
void dispatch_write(struct dispatch *d, uint64_t address, unsigned size, uint64_t value);

#endif
