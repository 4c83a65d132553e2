// SPDX-License-Identifier: Apache-2.0
/* Sets of CPUs: the kernel's text form, this thread's affinity, the CPUs of a NUMA node. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define WORD_BITS (8 * sizeof(unsigned long))

bool cpu_list_has(const struct cpu_list *list, unsigned cpu)
{
	return cpu < CPU_LIST_MAX && list->bits[cpu / WORD_BITS] >> cpu % WORD_BITS & 1;
}

void cpu_list_add(struct cpu_list *list, unsigned cpu)
{
	if (cpu < CPU_LIST_MAX)
		list->bits[cpu / WORD_BITS] |= 1ul << cpu % WORD_BITS;
}

unsigned cpu_list_count(const struct cpu_list *list)
{
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(list->bits); i++)
		count += (unsigned)__builtin_popcountl(list->bits[i]);
	return count;
}

void cpu_list_and(struct cpu_list *list, const struct cpu_list *other)
{
	for (size_t i = 0; i < ARRAY_SIZE(list->bits); i++)
		list->bits[i] &= other->bits[i];
}

static bool parse_cpu(const char **text, unsigned long *cpu)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	*cpu = strtoul(*text, &end, 10);
	*text = end;
	return *cpu < CPU_LIST_MAX;
}

int cpu_list_parse(const char *text, struct cpu_list *list)
{
	memset(list, 0, sizeof(*list));
	while (*text) {
		unsigned long first, last;

		if (!parse_cpu(&text, &first))
			return -EINVAL;
		last = first;
		if (*text == '-') {
			text++;
			if (!parse_cpu(&text, &last) || last < first)
				return -EINVAL;
		}
		for (unsigned long cpu = first; cpu <= last; cpu++)
			cpu_list_add(list, (unsigned)cpu);
		if (*text && (*text != ',' || !*++text))
			return -EINVAL;
	}
	return 0;
}

char *cpu_list_format(const struct cpu_list *list, char *text, size_t size)
{
	text[0] = '\0';
	for (unsigned cpu = 0, last; cpu < CPU_LIST_MAX; cpu = last + 1) {
		last = cpu;
		if (!cpu_list_has(list, cpu))
			continue;
		while (cpu_list_has(list, last + 1))
			last++;
		text_append(text, size, last > cpu ? "%s%u-%u" : "%s%u", text[0] ? "," : "", cpu,
			    last);
	}
	return text;
}

int cpu_list_allowed(struct cpu_list *list)
{
	memset(list, 0, sizeof(*list));
	return sched_getaffinity(0, sizeof(*list), (cpu_set_t *)list) < 0 ? -errno : 0;
}

int cpu_list_node(const char *root, unsigned node, struct cpu_list *list)
{
	char path[PATH_MAX], text[4096];
	ssize_t length;

	snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%u/cpulist", root, node);
	length = file_read(AT_FDCWD, path, text, sizeof(text));
	return length < 0 ? (int)length : cpu_list_parse(text, list);
}
