// SPDX-License-Identifier: Apache-2.0
/* What finding the handler of an exit costs, by the number of regions in the table. */
#include <string.h>

#include "hypervisor-glue/dispatch.h"
#include "tests/bench/bench.h"

#define RUNS	7u
#define LOOKUPS 1000000u
#define REGION	UINT64_C(0x1000)

static uint64_t sum;

static uint64_t read_one(void *opaque, uint64_t offset, unsigned size)
{
	return offset;
}

static const struct dispatch_handler handler = { .read = read_one };

static void lookups(unsigned regions)
{
	struct dispatch *d;
	double values[RUNS];
	char name[64];

	if (dispatch_create(&d))
		exit(1);
	for (unsigned i = 0; i < regions; i++)
		if (dispatch_add(d, i * 2 * REGION, REGION, &handler, NULL))
			exit(1);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t began = monotonic_ns();
		uint32_t at = 1;

		for (unsigned i = 0; i < LOOKUPS; i++) {
			at = at * 1664525 + 1013904223; /* another region each time */
			sum += dispatch_read(d, (at >> 8) % regions * 2 * REGION + 8, 4);
		}
		values[run] = (double)(monotonic_ns() - began) / LOOKUPS;
	}
	dispatch_destroy(d);
	snprintf(name, sizeof(name), "dispatch of an access, %u regions", regions);
	bench_result(name, "ns", values, RUNS);
}

int main(void)
{
	static const unsigned counts[] = { 1, 10, 100, 1000 };

	dispatch_thread_enter();
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		lookups(counts[i]);
	dispatch_thread_leave();
	return sum == 1; /* so that nothing of it is left out */
}
