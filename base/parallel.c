// SPDX-License-Identifier: Apache-2.0
/*
 * A few slow things at once: what each asks of the kernel or of a device takes its time, and none needs the
 * others. The caller works with the threads, so that a machine that gives no thread is slower, no more.
 */
#include <stdatomic.h>

#include "base/base.h"

struct work {
	unsigned count;
	void (*run)(void *opaque, unsigned index);
	void *opaque;
	atomic_uint next;
};

static void *work_thread(void *opaque)
{
	struct work *work = opaque;
	unsigned index;

	while ((index = atomic_fetch_add(&work->next, 1)) < work->count)
		work->run(work->opaque, index);
	return NULL;
}

void parallel_run(const char *kind, unsigned count, void (*run)(void *opaque, unsigned index),
		  void *opaque)
{
	struct work work = { .count = count, .run = run, .opaque = opaque };
	pthread_t threads[PARALLEL_THREADS_MAX];
	unsigned made = 0;

	while (made + 1 < count && made < PARALLEL_THREADS_MAX &&
	       !thread_create(&threads[made], kind, work_thread, &work))
		made++;
	work_thread(&work);
	while (made)
		pthread_join(threads[--made], NULL);
}
