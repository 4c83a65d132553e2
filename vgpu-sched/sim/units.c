// SPDX-License-Identifier: Apache-2.0
/* Times and lengths as people write them in scenario files (scenario.h). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/sim/scenario.h"

#define LENGTH_WORDS_MAX 4

int sim_duration_parse(const char *text, uint64_t *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "ns", 1 },  { "us", 1e3 },   { "ms", 1e6 },
		      { "s", 1e9 }, { "min", 60e9 }, { "h", 3600e9 } };
	double value;
	char *end;

	/* strtod() takes more than people mean: hexadecimal, infinity, a sign. */
	if (text[0] < '0' || text[0] > '9' || strspn(text, "0123456789.") == strlen(text))
		return text[0] == '0' && !text[1] ? (*ns = 0, 0) : -EINVAL;
	value = strtod(text, &end);
	if (end != text + strspn(text, "0123456789."))
		return -EINVAL;
	end += strspn(end, " ");
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(end, units[i].name)) {
			value *= units[i].ns;
			if (!(value >= 0 && value <= (double)SIM_DURATION_MAX))
				return -EINVAL;
			*ns = (uint64_t)(value + 0.5);
			return 0;
		}
	return -EINVAL;
}

static int parameter_parse(const char *text, double min, double max, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end == text || *end || !(*value >= min && *value <= max) ? -EINVAL : 0;
}

int sim_length_parse(const char *text, struct sim_length *length)
{
	char copy[128], *rest = copy, *words[LENGTH_WORDS_MAX] = { 0 }, *word;
	unsigned count = 0;
	int err = 0;

	memset(length, 0, sizeof(*length));
	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	if (!sim_duration_parse(text, &length->a_ns))
		return 0; /* also "2 ms" */
	strcpy(copy, text);
	while ((word = strsep(&rest, " "))) {
		if (!word[0])
			continue;
		if (count == LENGTH_WORDS_MAX)
			return -EINVAL;
		words[count++] = word;
	}
	if (count < 2 || sim_duration_parse(words[1], &length->a_ns) || !length->a_ns)
		return -EINVAL;
	if (!strcmp(words[0], "uniform") && count == 3) {
		length->shape = SIM_UNIFORM;
		err = sim_duration_parse(words[2], &length->b_ns);
		return err || length->b_ns < length->a_ns ? -EINVAL : 0;
	}
	if (!strcmp(words[0], "exponential") && count == 2) {
		length->shape = SIM_EXPONENTIAL;
		return 0;
	}
	if (count != 4 || sim_duration_parse(words[3], &length->b_ns) ||
	    length->b_ns < length->a_ns)
		return -EINVAL;
	if (!strcmp(words[0], "pareto")) {
		length->shape = SIM_PARETO;
		return parameter_parse(words[2], 0.1, 100, &length->parameter);
	}
	if (!strcmp(words[0], "lognormal")) {
		length->shape = SIM_LOGNORMAL;
		return parameter_parse(words[2], 0.001, 10, &length->parameter);
	}
	return -EINVAL;
}

int sim_policy_parse(const char *text)
{
	for (int i = 0; i < SCHED_POLICIES; i++)
		if (!strcmp(text, sched_policy_name((enum sched_policy)i)))
			return i;
	return -EINVAL;
}
