/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test counts before and after, so that nothing is left behind. After cmocka.h.
 */
#ifndef TESTS_UNIT_RESOURCES_H
#define TESTS_UNIT_RESOURCES_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* Descriptors of a process (0: this one), and a constant: for comparison only. */
static inline unsigned count_fds_of(int pid)
{
	unsigned count = 0;
	char path[64] = "/proc/self/fd";
	DIR *dir;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static inline unsigned count_fds(void)
{
	return count_fds_of(0);
}

/* Mappings of guest RAM in this process. */
static inline unsigned count_maps(void)
{
	char line[512];
	unsigned count = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		count += strstr(line, "divvy-guest-ram") != NULL;
	fclose(maps);
	return count;
}

#endif
