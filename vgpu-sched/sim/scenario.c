// SPDX-License-Identifier: Apache-2.0
/*
 * Scenario files: from YAML to a checked scenario.
 *
 * libcyaml reads the file against a schema, which finds unknown keys, wrong types and missing values. What a schema cannot
 * say (what belongs together, what is absurd) is checked here once, and the key's place is then looked up in the text, so that
 * every complaint has a line. Nothing is kept of a file that has anything wrong with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vgpu-sched/sim/scenario.h"
#include "vgpu-sched/sim/scenario_line.h"
#include "vgpu-sched/sim/scenario_schema.h"

#define FILE_MAX_BYTES	   (64 * MIB) /* a trace; scenarios are far smaller */
#define SCENARIO_BYTES	   MIB
#define JOBS_IN_FLIGHT_MAX SCHED_DEPTH_MAX
#define RATE_MAX	   1e6

/* What libcyaml says of an error: the first line is the error, one of the next the place. */
struct load_log {
	char what[256];
	unsigned line;
};

static void load_log(cyaml_log_t level, void *opaque, const char *fmt, va_list args)
{
	struct load_log *log = opaque;
	char text[256];
	const char *at;

	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = '\0';
	if (level >= CYAML_LOG_ERROR && !log->what[0])
		snprintf(log->what, sizeof(log->what), "%s",
			 !strncmp(text, "Load: ", 6) ? text + 6 : text);
	at = strstr(text, "line: ");
	if (at && !log->line)
		log->line = (unsigned)strtoul(at + 6, NULL, 10);
}

/*
 * Of a key that it does not know libcyaml gives the line of the mapping around it: from there on, the first line with
 * such a key.
 */
static unsigned unknown_key_line(const struct load_log *log, const char *text, size_t size)
{
	static const char words[] = "Unexpected key: ";
	const char *key =
		!strncmp(log->what, words, strlen(words)) ? log->what + strlen(words) : NULL;
	const size_t length = key ? strlen(key) : 0;
	const char *end = text + size, *at = text;
	unsigned line = 1;

	for (; length && at < end; at++) {
		if (*at == '\n')
			line++;
		else if (line >= log->line && (size_t)(end - at) > length &&
			 !memcmp(at, key, length) && at[length] == ':' &&
			 (at == text || strchr("\n -{,", at[-1])))
			return line;
	}
	return log->line ? log->line : 1;
}

/* ---- checks -------------------------------------------------------------------------------- */

struct check {
	const char *name, *text; /* the file */
	size_t size;
	struct error *e;
	bool failed;
	char in[96]; /* what is being checked: the path of scenario_line() so far */
};

/* The first complaint wins. @key: within check->in; "": that as a whole */
static void complain(struct check *check, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void complain(struct check *check, const char *key, const char *fmt, ...)
{
	char what[256], path[160];
	va_list args;

	if (check->failed)
		return;
	check->failed = true;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	snprintf(path, sizeof(path), "%s%s%s", check->in, check->in[0] && key[0] ? "." : "", key);
	error_set(check->e, EINVAL, "bad-scenario", NULL, "%s:%u: %s: %s", check->name,
		  scenario_line(check->text, check->size, path), path, what);
}

static uint64_t duration(struct check *check, const char *key, const char *text, uint64_t otherwise)
{
	uint64_t ns;

	if (!text)
		return otherwise;
	if (!sim_duration_parse(text, &ns))
		return ns;
	complain(check, key, "\"%s\" is not a time such as 10ms, 2s or 1min, up to 24h", text);
	return otherwise;
}

static struct sim_length length(struct check *check, const char *key, const char *text)
{
	struct sim_length length = { .shape = SIM_FIXED };

	if (text && sim_length_parse(text, &length))
		complain(
			check, key,
			"\"%s\" is not a length such as 2ms, \"uniform 1ms 5ms\", \"exponential 2ms\", \"pareto 1ms "
			"1.5 50ms\" or \"lognormal 2ms 0.5 50ms\"",
			text);
	return length;
}

/* @value: NULL gives @otherwise */
static double number(struct check *check, const char *key, const double *value, double min,
		     double max, double otherwise)
{
	if (!value)
		return otherwise;
	if (!(*value >= min && *value <= max)) {
		complain(check, key, "%g is not from %g to %g", *value, min, max);
		return otherwise;
	}
	return *value;
}

static uint32_t weight(struct check *check, const char *key, const uint64_t *value,
		       uint32_t otherwise)
{
	if (!value)
		return otherwise;
	if (*value < 1 || *value > SCHED_WEIGHT_MAX) {
		complain(check, key, "%llu is not from 1 to %u", (unsigned long long)*value,
			 SCHED_WEIGHT_MAX);
		return otherwise;
	}
	return (uint32_t)*value;
}

/* A key that means nothing where it stands is a mistake in it or around it. */
static void unwanted(struct check *check, const char *key, bool there, const char *why)
{
	if (there)
		complain(check, key, "means nothing %s", why);
}

static void copy_name(struct check *check, const char *key, char *to, size_t size, const char *name)
{
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < ' ' || *c == '"' || *c == '\\' || *c == 0x7f)
			complain(check, key,
				 "a name may not hold control characters, quotes or backslashes");
	if (strlen(name) >= size)
		complain(check, key, "longer than %zu bytes", size - 1);
	snprintf(to, size, "%s", name);
}

static char *file_text(const char *path, size_t max, size_t *size, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
	struct stat st = { 0 };
	char *text = NULL;

	if (fd < 0 || fstat(fd, &st) < 0)
		err = errno;
	else if (!S_ISREG(st.st_mode))
		err = EINVAL;
	else if ((uint64_t)st.st_size > max)
		err = EFBIG;
	if (!err) {
		text = calloc(1, (size_t)st.st_size + 1);
		err = text ? -pread_full(fd, text, (size_t)st.st_size, 0) : ENOMEM;
	}
	fd_close(&fd);
	if (err) {
		free(text);
		error_set(e, err, "scenario-unreadable", "divvy sim --list", "%s: %s", path,
			  strerror(err));
		return NULL;
	}
	*size = (size_t)st.st_size;
	return text;
}

static void trace_load(struct check *check, const char *key, const struct raw_workload *raw,
		       struct sim_workload *workload)
{
	const char *slash = strrchr(check->name, '/');
	char file[1024];
	struct error e = { 0 };
	size_t size = 0;
	char *text;

	if (raw->trace[0] == '/' || !slash)
		snprintf(file, sizeof(file), "%s", raw->trace);
	else
		snprintf(file, sizeof(file), "%.*s/%s", (int)(slash - check->name), check->name,
			 raw->trace);
	text = file_text(file, FILE_MAX_BYTES, &size, &e);
	if (!text || sim_trace_parse(text, size, file, raw->trace_vgpu ? raw->trace_vgpu : "",
				     &workload->trace, &workload->trace_count, &e))
		complain(check, key, "%s", e.text);
	free(text);
}

static void workload_check(struct check *check, const struct raw_workload *raw,
			   struct sim_workload *workload, const struct sim_scenario *scenario)
{
	const enum sim_workload_kind kind = (enum sim_workload_kind)raw->kind;
	const bool loops = kind == SIM_CLOSED || kind == SIM_BURSTS;

	workload->kind = kind;
	workload->engine = (enum sched_engine)raw->engine;
	if (!raw->job && kind != SIM_TRACE)
		complain(check, "", "a job's length is missing (job:)");
	workload->job = length(check, "job", raw->job);
	if (raw->job && kind != SIM_TRACE && !workload->job.a_ns)
		complain(check, "job", "a job takes some time");
	workload->copy = length(check, "copy", raw->copy);
	workload->think = length(check, "think", raw->think);
	workload->in_flight = raw->in_flight ? *raw->in_flight : 1;
	if (workload->in_flight < 1 || workload->in_flight > JOBS_IN_FLIGHT_MAX)
		complain(check, "in_flight", "%u is not from 1 to %u", workload->in_flight,
			 JOBS_IN_FLIGHT_MAX);
	workload->rate = number(check, "rate", raw->rate, 1e-3, RATE_MAX, 0);
	if (!raw->rate && (kind == SIM_OPEN || kind == SIM_FRAMES))
		complain(check, "", "needs a rate (rate: a second)");
	workload->start_ns = duration(check, "start", raw->start, 0);
	workload->stop_ns = duration(check, "stop", raw->stop, scenario->duration_ns);
	if (workload->stop_ns <= workload->start_ns)
		complain(check, raw->stop ? "stop" : "start", "it stops before it starts");
	workload->on_ns = duration(check, "on", raw->on, 0);
	workload->off_ns = duration(check, "off", raw->off, 0);
	if (kind == SIM_BURSTS && (!workload->on_ns || !workload->off_ns))
		complain(check, "", "needs on: and off:");
	workload->deadline_ns = duration(check, "deadline", raw->deadline,
					 workload->rate > 0 ? (uint64_t)(1e9 / workload->rate) : 0);

	unwanted(check, "rate", raw->rate && kind != SIM_OPEN && kind != SIM_FRAMES,
		 "but for open and frames");
	unwanted(check, "in_flight", raw->in_flight && !loops, "but for closed and bursts");
	unwanted(check, "think", raw->think && !loops && kind != SIM_STEPS,
		 "but for closed, bursts and steps");
	unwanted(check, "copy", raw->copy && kind != SIM_STEPS, "but for steps");
	unwanted(check, "on", raw->on && kind != SIM_BURSTS, "but for bursts");
	unwanted(check, "off", raw->off && kind != SIM_BURSTS, "but for bursts");
	unwanted(check, "deadline", raw->deadline && kind != SIM_FRAMES, "but for frames");
	unwanted(check, "trace", raw->trace && kind != SIM_TRACE, "but for trace");
	unwanted(check, "trace_vgpu", raw->trace_vgpu && kind != SIM_TRACE, "but for trace");
	unwanted(check, "job", raw->job && kind == SIM_TRACE, "for trace: the recording has it");
	unwanted(check, "engine", raw->engine && kind == SIM_TRACE,
		 "for trace: the recording has it");
	if (kind == SIM_TRACE && !raw->trace)
		complain(check, "", "needs a recording (trace: FILE)");
	else if (kind == SIM_TRACE && !check->failed)
		trace_load(check, "trace", raw, workload);
}

static void promise_check(struct check *check, const struct raw_vgpu *raw, struct sim_vgpu *vgpu)
{
	const bool fixed = vgpu->policy == SCHED_FIXED_SHARE, burst = vgpu->policy == SCHED_BURST;
	const struct raw_credits *credits = raw->credits;

	vgpu->weight = weight(check, "weight", raw->weight, SCHED_WEIGHT_NORMAL);
	vgpu->share = number(check, "share", raw->share, 1e-3, 1, 0);
	vgpu->cap = number(check, "cap", raw->cap, 0, 1, 0);
	if ((fixed || burst) && !raw->share)
		complain(check, "", "needs a share (0 to 1) of the GPU");
	if (vgpu->cap > 0 && vgpu->cap < vgpu->share)
		complain(check, "cap", "%g is below the share, %g", vgpu->cap, vgpu->share);
	unwanted(check, "weight", raw->weight && vgpu->policy != SCHED_WEIGHTED,
		 "but for weighted");
	unwanted(check, "share", raw->share && !fixed && !burst, "but for fixed_share and burst");
	unwanted(check, "cap", raw->cap && !fixed, "but for fixed_share");
	unwanted(check, "credits", credits && !burst, "but for burst");
	/* An hour's earnings, where nothing is said; EC2's day is useless at a desk. */
	vgpu->credits_max = number(check, "credits.max", credits ? credits->max : NULL, 0, 1e6,
				   vgpu->share * 60);
	vgpu->credits = number(check, "credits.initial", credits ? credits->initial : NULL, 0,
			       vgpu->credits_max, 0);
	vgpu->surplus_max =
		number(check, "credits.surplus", credits ? credits->surplus : NULL, 0, 1e6, 0);
}

static int vgpu_find(const struct sim_scenario *scenario, const char *name)
{
	for (unsigned i = 0; i < scenario->vgpu_count; i++)
		if (!strcmp(scenario->vgpus[i].name, name))
			return (int)i;
	return -1;
}

static void vgpu_check(struct check *check, unsigned index, const struct raw_vgpu *raw,
		       struct sim_scenario *scenario)
{
	const unsigned count = raw->count ? *raw->count : 1;
	struct sim_vgpu *vgpu = &scenario->vgpus[scenario->vgpu_count];

	snprintf(check->in, sizeof(check->in), "vgpus.%u", index);
	if (count < 1 || count > SIM_VGPUS_MAX - scenario->vgpu_count) {
		complain(check, "count", "%u: there can be %u vGPUs in all", count, SIM_VGPUS_MAX);
		return;
	}
	vgpu->policy = (enum sched_policy)raw->policy;
	vgpu->definition = index;
	vgpu->gpu = 0;
	if (raw->gpu) {
		while (vgpu->gpu < scenario->gpu_count &&
		       strcmp(scenario->gpus[vgpu->gpu].name, raw->gpu))
			vgpu->gpu++;
		if (vgpu->gpu == scenario->gpu_count) {
			complain(check, "gpu", "no GPU is named \"%s\"", raw->gpu);
			return;
		}
	}
	vgpu->join_ns = duration(check, "join", raw->join, 0);
	vgpu->leave_ns = duration(check, "leave", raw->leave, scenario->duration_ns);
	if (vgpu->leave_ns <= vgpu->join_ns)
		complain(check, raw->leave ? "leave" : "join", "it leaves before it joins");
	promise_check(check, raw, vgpu);
	vgpu->workload_count = raw->workload_count;
	for (unsigned i = 0; i < raw->workload_count; i++) {
		snprintf(check->in, sizeof(check->in), "vgpus.%u.workloads.%u", index, i);
		workload_check(check, &raw->workloads[i], &vgpu->workloads[i], scenario);
	}
	snprintf(check->in, sizeof(check->in), "vgpus.%u", index);
	for (unsigned i = 0; i < count && !check->failed; i++) {
		struct sim_vgpu *copy = &scenario->vgpus[scenario->vgpu_count];
		char name[256];

		snprintf(name, sizeof(name), count > 1 ? "%s-%u" : "%s", raw->name, i + 1);
		if (vgpu_find(scenario, name) >= 0)
			complain(check, "name", "\"%s\" is there twice", name);
		if (i)
			*copy = *vgpu; /* the first owns the recordings */
		copy_name(check, "name", copy->name, sizeof(copy->name), name);
		scenario->vgpu_count++;
	}
}

/* What was promised must fit: at most one whole GPU. */
static void shares_check(struct check *check, const struct sim_scenario *scenario,
			 const double *shares)
{
	for (unsigned g = 0; g < scenario->gpu_count; g++) {
		double sum = 0;

		for (unsigned i = 0; i < scenario->vgpu_count; i++)
			if (scenario->vgpus[i].gpu == g)
				sum += shares[i];
		if (sum > 1 + 1e-9)
			complain(
				check, "",
				"the shares and baselines on %s add up to %.4g, over one whole GPU",
				scenario->gpus[g].name, sum);
	}
}

static bool has_share(enum sched_policy policy)
{
	return policy == SCHED_FIXED_SHARE || policy == SCHED_BURST;
}

static int change_order(const void *a, const void *b)
{
	const struct sim_change *x = a, *y = b;

	return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

static void changes_check(struct check *check, const struct raw_scenario *raw,
			  struct sim_scenario *scenario)
{
	double *shares = calloc(scenario->vgpu_count, sizeof(*shares));
	enum sched_policy *policies = calloc(scenario->vgpu_count, sizeof(*policies));

	if (!shares || !policies) {
		complain(check, "name", "out of memory");
		goto out;
	}
	for (unsigned i = 0; i < scenario->vgpu_count; i++) {
		policies[i] = scenario->vgpus[i].policy;
		shares[i] = has_share(policies[i]) ? scenario->vgpus[i].share : 0;
	}
	snprintf(check->in, sizeof(check->in), "vgpus");
	shares_check(check, scenario, shares);
	for (unsigned i = 0; i < raw->change_count && !check->failed; i++) {
		const struct raw_change *from = &raw->changes[i];
		struct sim_change *change = &scenario->changes[i];
		int found = vgpu_find(scenario, from->vgpu);

		snprintf(check->in, sizeof(check->in), "changes.%u", i);
		change->at_ns = duration(check, "at", from->at, 0);
		if (i && change->at_ns < scenario->changes[i - 1].at_ns)
			complain(check, "at", "changes are listed in order of time");
		if (found < 0) {
			complain(check, "vgpu", "no vGPU is named \"%s\"", from->vgpu);
			break;
		}
		change->vgpu = (unsigned)found;
		change->policy = from->policy ? sim_policy_parse(from->policy) : -1;
		if (from->policy && change->policy < 0)
			complain(check, "policy", "\"%s\" is no policy", from->policy);
		change->weight =
			from->weight ? (int64_t)weight(check, "weight", from->weight, 0) : -1;
		change->share = number(check, "share", from->share, 1e-3, 1, -1);
		if (change->policy >= 0)
			policies[found] = (enum sched_policy)change->policy;
		if (has_share(policies[found])) {
			shares[found] =
				change->share >= 0 ? change->share : scenario->vgpus[found].share;
			if (shares[found] <= 0)
				complain(check, "", "needs a share (0 to 1) of the GPU");
		} else {
			shares[found] = 0;
			unwanted(check, "share", from->share, "but for fixed_share and burst");
		}
		shares_check(check, scenario, shares);
	}
	scenario->change_count = raw->change_count;
	qsort(scenario->changes, scenario->change_count, sizeof(*scenario->changes), change_order);
out:
	free(policies);
	free(shares);
}

static void scenario_check(struct check *check, const struct raw_scenario *raw,
			   struct sim_scenario *scenario)
{

	copy_name(check, "name", scenario->name, sizeof(scenario->name), raw->name);
	scenario->seed = raw->seed ? *raw->seed : 1;
	scenario->duration_ns = duration(check, "duration", raw->duration, 0);
	if (!scenario->duration_ns)
		complain(check, "duration", "it lasts no time");
	scenario->warmup_ns = duration(check, "warmup", raw->warmup, 0);
	if (scenario->warmup_ns >= scenario->duration_ns)
		complain(check, "warmup", "longer than the whole");
	for (unsigned i = 0; i < raw->gpu_count && !check->failed; i++) {
		struct sim_gpu *gpu = &scenario->gpus[i];

		snprintf(check->in, sizeof(check->in), "gpus.%u", i);
		copy_name(check, "name", gpu->name, sizeof(gpu->name), raw->gpus[i].name);
		for (unsigned j = 0; j < i; j++)
			if (!strcmp(scenario->gpus[j].name, gpu->name))
				complain(check, "name", "\"%s\" is there twice", gpu->name);
		gpu->depth = raw->gpus[i].depth ? *raw->gpus[i].depth : 1;
		if (gpu->depth < 1 || gpu->depth > JOBS_IN_FLIGHT_MAX)
			complain(check, "depth", "%u is not from 1 to %u", gpu->depth,
				 JOBS_IN_FLIGHT_MAX);
		gpu->switch_ns = duration(check, "switch", raw->gpus[i].switch_cost, 0);
		if (gpu->switch_ns > NSEC_PER_SEC)
			complain(check, "switch", "a change of vGPUs takes less than a second");
		gpu->slice_ns = duration(check, "slice", raw->gpus[i].slice, 0);
		gpu->period_ns = duration(check, "period", raw->gpus[i].period, 0);
		gpu->idle_gap_ns = duration(check, "idle_gap", raw->gpus[i].idle_gap, 0);
		gpu->linger_ns = duration(check, "linger", raw->gpus[i].linger, 0);
	}
	scenario->gpu_count = raw->gpu_count;
	for (unsigned i = 0; i < raw->vgpu_count && !check->failed; i++)
		vgpu_check(check, i, &raw->vgpus[i], scenario);
	if (!check->failed)
		changes_check(check, raw, scenario);
}

int sim_scenario_parse(const char *text, size_t size, const char *name, struct sim_scenario **out,
		       struct error *e)
{
	struct load_log log = { 0 };
	const cyaml_config_t config = {
		.log_fn = load_log,
		.log_ctx = &log,
		.mem_fn = cyaml_mem,
		.log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_NO_ALIAS,
	};
	struct check check = { .name = name, .text = text, .size = size, .e = e };
	struct raw_scenario *raw = NULL;
	struct sim_scenario *scenario;
	cyaml_err_t err;

	*out = NULL;
	if (size > SCENARIO_BYTES)
		return error_set(e, EFBIG, "bad-scenario", NULL, "%s: larger than 1 MiB", name);
	err = cyaml_load_data((const uint8_t *)text, size, &config, &scenario_schema,
			      (cyaml_data_t **)&raw, NULL);
	if (err != CYAML_OK)
		return error_set(e, EINVAL, "bad-scenario", NULL, "%s:%u: %s", name,
				 unknown_key_line(&log, text, size),
				 log.what[0] ? log.what : cyaml_strerror(err));
	scenario = raw ? calloc(1, sizeof(*scenario)) : NULL;
	if (scenario) {
		scenario->vgpus = calloc(SIM_VGPUS_MAX, sizeof(*scenario->vgpus));
		scenario->changes = calloc(SIM_EVENTS_MAX, sizeof(*scenario->changes));
	}
	if (!raw)
		error_set(e, EINVAL, "bad-scenario", NULL, "%s: it is empty", name);
	else if (!scenario || !scenario->vgpus || !scenario->changes)
		error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", name);
	else
		scenario_check(&check, raw, scenario);
	if (!raw || !scenario || !scenario->vgpus || !scenario->changes || check.failed) {
		sim_scenario_free(scenario);
		scenario = NULL;
	}
	cyaml_free(&config, &scenario_schema, raw, 0);
	*out = scenario;
	return scenario ? 0 : -EINVAL;
}

int sim_scenario_load(const char *path, struct sim_scenario **out, struct error *e)
{
	size_t size;
	char *text = file_text(path, SCENARIO_BYTES, &size, e);
	int err;

	if (!text)
		return -EINVAL;
	err = sim_scenario_parse(text, size, path, out, e);
	free(text);
	return err;
}

void sim_scenario_free(struct sim_scenario *scenario)
{
	if (!scenario)
		return;
	/* Copies of a vGPU share its recordings: one of each is freed. */
	for (unsigned i = 0; i < SIM_VGPUS_MAX && scenario->vgpus; i++)
		for (unsigned j = 0; j < SIM_WORKLOADS_MAX; j++) {
			struct sim_trace_job *trace = scenario->vgpus[i].workloads[j].trace;

			for (unsigned k = i; trace && k < SIM_VGPUS_MAX; k++)
				if (scenario->vgpus[k].workloads[j].trace == trace)
					scenario->vgpus[k].workloads[j].trace = NULL;
			free(trace);
		}
	free(scenario->changes);
	free(scenario->vgpus);
	free(scenario);
}
