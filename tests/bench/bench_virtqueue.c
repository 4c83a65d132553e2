// SPDX-License-Identifier: Apache-2.0
/*
 * What one chain costs the device's side of a virtqueue, without any I/O: popped with every check, pushed
 * back. The driver's part (making it available again) is in it: a store and an index in a split ring, a
 * flag a descriptor in a packed one.
 *
 * Split and packed rings take turns, run by run, so that both have the same machine; the ratio is of two runs
 * that were beside each other. That is on one processor: what a packed ring is for, fewer cache lines between
 * two of them, is measured with a driver on another one.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "mdev/virtio.h"
#include "tests/bench/bench.h"
#include "guest-drivers/testguest/ring_driver.h"

/* Many short ones: on a machine that is at work, most of them are not interrupted. */
#define RUNS	    63u
#define RUNS_ACROSS 9u
#define CHAINS	    20000u
#define BUSY_NS	    NSEC_PER_SEC /* of a run across processors: others have them */
#define QUEUE	    256u
#define BASE	    UINT64_C(0x100000)
#define SIZE	    (4 * MIB)
#define TABLE	    (BASE + MIB)

static uint8_t *memory;
static struct virtio_dma dma;
static struct virtqueue queue;
static struct virtio_chain chain;
static struct ring_driver driver;

static void *at(uint64_t iova)
{
	return memory + (iova - BASE);
}

static void begin(bool packed)
{
	const uint64_t features = UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX |
				  UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |
				  (uint64_t)packed << VIRTIO_F_RING_PACKED;

	queue = (struct virtqueue){ .size = QUEUE,
				    .size_max = QUEUE,
				    .desc_iova = BASE,
				    .driver_iova = BASE + 8192,
				    .device_iova = BASE + 16384 };
	ring_begin(&driver, packed, true, QUEUE, at(BASE), at(BASE + 8192), at(BASE + 16384));
	if (virtqueue_start(&queue, &dma, features))
		exit(1);
}

/* @length buffers of 512 bytes, the last one for writing. */
static void lay_out(struct guest_buffer *buffers, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		buffers[i] =
			(struct guest_buffer){ BASE + 2 * MIB + i * 4096, 512, i + 1 == length };
}

/* Of this thread's own: what others do meanwhile is not in it. */
static uint64_t processor_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static double once(bool packed, const struct guest_buffer *buffers, unsigned length, bool indirect)
{
	uint64_t began;

	begin(packed);
	ring_lay_table(&driver, at(TABLE), buffers, length);
	began = processor_ns();
	for (unsigned i = 0; i < CHAINS; i++) {
		uint16_t id;
		uint32_t written;

		if (indirect)
			ring_add_indirect(&driver, TABLE, length);
		else
			ring_add(&driver, buffers, length);
		if (virtqueue_pop(&queue, &chain) != 1 ||
		    virtqueue_push(&queue, chain.head, 512) < 0 ||
		    !ring_take_used(&driver, &id, &written))
			exit(1);
	}
	return (double)(processor_ns() - began) / CHAINS;
}

static void report(const char *what, double values[2][RUNS], unsigned runs)
{
	static const char *const kinds[] = { "split", "packed" };
	double ratios[RUNS];
	char name[128];

	for (unsigned run = 0; run < runs; run++)
		ratios[run] = values[1][run] / values[0][run];
	for (unsigned kind = 0; kind < 2; kind++) {
		snprintf(name, sizeof(name), "%s, %s", what, kinds[kind]);
		bench_result(name, "ns", values[kind], runs);
	}
	snprintf(name, sizeof(name), "%s, packed to split", what);
	bench_result(name, "ratio", ratios, runs);
}

static void chains(unsigned length, bool indirect)
{
	struct guest_buffer buffers[64];
	double values[2][RUNS];
	char name[96];

	lay_out(buffers, length);
	for (unsigned run = 0; run < RUNS; run++)
		for (unsigned kind = 0; kind < 2; kind++)
			values[kind][run] = once(kind, buffers, length, indirect);
	snprintf(name, sizeof(name), "virtqueue, a chain of %u %sdescriptor%s", length,
		 indirect ? "indirect " : "", length == 1 ? "" : "s");
	report(name, values, RUNS);
}

/* ---- a driver on another processor ----------------------------------------------------------- */

static unsigned batch_length;

/* Keeps half of the queue in flight, without notifications or interrupts: both sides poll. */
static void *drive(void *arg)
{
	struct guest_buffer buffers[64];
	const unsigned depth = QUEUE / 2 / batch_length;
	unsigned added = 0, used = 0;

	lay_out(buffers, batch_length);
	while (used < CHAINS) {
		uint16_t id;
		uint32_t written;

		while (added < CHAINS && added - used < depth) {
			ring_add(&driver, buffers, batch_length);
			added++;
		}
		while (ring_take_used(&driver, &id, &written))
			used++;
	}
	return NULL;
}

static double across(bool packed)
{
	pthread_t thread;
	uint64_t began;

	begin(packed);
	began = monotonic_ns();
	if (pthread_create(&thread, NULL, drive, NULL))
		exit(1);
	for (unsigned i = 0; i < CHAINS;) {
		int ret = virtqueue_pop(&queue, &chain);

		if (ret < 0 || (ret && virtqueue_push(&queue, chain.head, 512) < 0))
			exit(1);
		i += (unsigned)ret;
	}
	pthread_join(thread, NULL);
	return (double)(monotonic_ns() - began) / CHAINS;
}

static void across_processors(unsigned length)
{
	double values[2][RUNS];
	cpu_set_t set;
	char name[96];

	snprintf(name, sizeof(name), "virtqueue, a chain of %u descriptor%s from another processor",
		 length, length == 1 ? "" : "s");
	if (sched_getaffinity(0, sizeof(set), &set) || CPU_COUNT(&set) < 2) {
		bench_skip(name, "one processor only");
		return;
	}
	batch_length = length;
	for (unsigned run = 0; run < RUNS_ACROSS; run++)
		for (unsigned kind = 0; kind < 2; kind++) {
			values[kind][run] = across(kind);
			if (values[kind][run] * CHAINS > BUSY_NS) {
				bench_skip(name, "the processors are busy");
				return;
			}
		}
	report(name, values, RUNS_ACROSS);
}

int main(void)
{
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || virtio_dma_map(&dma, BASE, SIZE, memory))
		return 1;
	chains(1, false);
	chains(3, false);
	chains(16, false);
	chains(64, false);
	chains(16, true);
	across_processors(1);
	across_processors(3);
	return 0;
}
