/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test counts before and after, so that nothing is left behind. After cmocka.h.
 */
#ifndef TESTS_UNIT_RESOURCES_H
#define TESTS_UNIT_RESOURCES_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* Descriptors of this process, and a constant: for comparison only. */
static inline unsigned count_fds(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
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
