// SPDX-License-Identifier: Apache-2.0
/*
 * A daemon with 1,000 instances, as they are defined and stopped: what its start takes, until it answers; a list of them all; its memory. The
 * machine is made up (tests/unit/daemon_world.h), the store is real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/bench/bench.h"
#include "tests/unit/daemon_world.h"

#define INSTANCES 1000u
#define RUNS	  7u

static double memory_mib(pid_t pid)
{
	char path[64], text[4096];
	const char *line;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	line = strstr(text, "VmRSS:");
	return line ? strtod(line + 6, NULL) / 1024 : 0;
}

/* The whole of it is read, and thrown away. */
static size_t list(const struct world *w)
{
	static const char ask[] =
		"GET /api/v1/instances HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	static char text[65536];
	int fd = http_connect(w->api);
	size_t size = 0;
	ssize_t n;

	if (fd < 0 || send(fd, ask, sizeof(ask) - 1, 0) != sizeof(ask) - 1)
		exit(1);
	while ((n = recv(fd, text, sizeof(text), 0)) > 0)
		size += (size_t)n;
	close(fd);
	return size;
}

static void measure(void **state)
{
	double starts[RUNS], lists[RUNS], memory[RUNS], define[1];
	char name[32];
	struct world w;
	uint64_t begun;

	world_create(&w);
	assert_true(world_start(&w, NULL));
	begun = monotonic_ns();
	for (unsigned i = 0; i < INSTANCES; i++) {
		snprintf(name, sizeof(name), "instance-%u", i);
		world_define(&w, name, i % 2 ? "quarter" : "burst", ",\"restart\":\"on-failure\"");
	}
	define[0] = (double)(monotonic_ns() - begun) / 1e6 / INSTANCES;
	bench_result("an instance defined, beside up to 1,000", "ms", define, 1);
	world_stop(&w);
	for (unsigned run = 0; run < RUNS; run++) {
		begun = monotonic_ns();
		assert_true(world_start(&w, NULL));
		starts[run] = (double)(monotonic_ns() - begun) / 1e6;
		begun = monotonic_ns();
		assert_true(list(&w) > INSTANCES * 500);
		lists[run] = (double)(monotonic_ns() - begun) / 1e6;
		memory[run] = memory_mib(w.daemon);
		world_stop(&w);
	}
	bench_result("1,000 instances: from the start to the first answer", "ms", starts, RUNS);
	bench_result("1,000 instances: all of them listed", "ms", lists, RUNS);
	bench_result("1,000 instances: memory after a list", "MiB", memory, RUNS);
	world_destroy(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(measure) };
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
