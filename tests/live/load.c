// SPDX-License-Identifier: Apache-2.0
/*
 * `vkload load`: jobs of one length, one after another. Either as many as fit with K in flight (a saturating client), or one each
 * period (a light one, whose waiting matters). Every result is checked on the CPU; what was done when goes into a log, in
 * CLOCK_MONOTONIC, so that several processes' windows can be laid side by side.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

struct record {
	uint64_t submit_ns, done_ns;
};

struct load {
	const struct load_options *options;
	struct vk vk;
	struct job_kind kind;
	struct slot {
		struct job job;
		VkFence fence;
		uint64_t submit_ns;
		bool pending;
	} slots[IN_FLIGHT_MAX];
	unsigned slot_count;
	struct job_length length; /* as calibrated */
	struct record *records;
	uint64_t done, room, missed, start_ns, end_ns;
	uint32_t seed;
};

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
	stop = 1;
}

static int set_up(struct load *load, struct error *e)
{
	const struct load_options *options = load->options;
	struct slot *first = &load->slots[0];

	TRY(vk_open(&load->vk, options->device, e));
	load->vk.patience_ns = (uint64_t)(options->patience_s * 1e9);
	load->slot_count = options->every_ms > 0 ? 1 : options->in_flight;
	TRY(job_kind_create(&load->vk, load->slot_count, &load->kind, e));
	TRY(job_create(&load->kind, options->groups, MAX(options->iterations, 1), &first->job, e));
	if (!options->iterations)
		TRY(job_calibrate(&load->kind, &first->job, (uint64_t)(options->job_ms * 1e6),
				  &load->length, e));
	for (unsigned i = 0; i < load->slot_count; i++) {
		struct slot *slot = &load->slots[i];

		if (i)
			TRY(job_create(&load->kind, options->groups, first->job.iterations,
				       &slot->job, e));
		TRY(vk_fence(&load->vk, &slot->fence, e));
	}
	/* The driver's first-time costs are not the load's. */
	return job_run(&first->job, load->vk.queues[0], first->fence, NULL, e);
}

/* Everybody is set up before anybody starts: at a line on standard input, at a time, or at once. */
static void wait_for_start(const struct load_options *options)
{
	char line[64];

	if (options->wait_line) {
		printf("ready\n");
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			stop = 1;
	}
	if (options->start_ns)
		sleep_until(options->start_ns, &stop);
}

static int submit(struct load *load, struct slot *slot, struct error *e)
{
	const struct vk_batch batch = { .commands = 1, .command = { slot->job.command } };

	job_prepare(&slot->job, ++load->seed);
	slot->submit_ns = monotonic_ns();
	TRY(vk_submit(load->vk.queues[0], load->options->submit2, &batch, 1, slot->fence, e));
	slot->pending = true;
	return 0;
}

static int note(struct load *load, const struct slot *slot, uint64_t done_ns, struct error *e)
{
	if (load->done == load->room) {
		uint64_t room = load->room ? 2 * load->room : 4096;
		struct record *records = reallocarray(load->records, room, sizeof(*load->records));

		if (!records)
			return error_set(e, ENOMEM, "memory", NULL, "no memory for the log");
		load->records = records;
		load->room = room;
	}
	load->records[load->done++] = (struct record){ slot->submit_ns, done_ns };
	return 0;
}

static int finish(struct load *load, struct slot *slot, struct error *e)
{
	uint64_t done_ns;

	TRY(vk_wait(&load->vk, slot->fence, e));
	done_ns = monotonic_ns();
	slot->pending = false;
	VK_TRY(vkResetFences(load->vk.device, 1, &slot->fence), e);
	TRY(job_check(&slot->job, 1, e));
	return note(load, slot, done_ns, e);
}

static bool over(const struct load *load, uint64_t submitted)
{
	const struct load_options *options = load->options;
	uint64_t now = monotonic_ns();

	/* With work pending: as a program that crashes, and as one that does not care. */
	if (options->abandon_s > 0 && now > load->start_ns + (uint64_t)(options->abandon_s * 1e9))
		_exit(7);
	if (options->abandon_exit_s > 0 &&
	    now > load->start_ns + (uint64_t)(options->abandon_exit_s * 1e9))
		exit(7);
	if (stop || (options->jobs && submitted >= options->jobs))
		return true;
	return options->seconds > 0 && now >= load->start_ns + (uint64_t)(options->seconds * 1e9);
}

static int saturate(struct load *load, struct error *e)
{
	uint64_t submitted = 0;
	unsigned next = 0;

	while (!over(load, submitted)) {
		struct slot *slot = &load->slots[next];

		if (slot->pending)
			TRY(finish(load, slot, e));
		if (over(load, submitted))
			break;
		TRY(submit(load, slot, e));
		submitted++;
		next = (next + 1) % load->slot_count;
	}
	for (unsigned i = 0; i < load->slot_count; i++, next = (next + 1) % load->slot_count)
		if (load->slots[next].pending)
			TRY(finish(load, &load->slots[next], e));
	return 0;
}

/* A period for which the last job was not done in time is left out, and counted. */
static int pulse(struct load *load, struct error *e)
{
	const uint64_t period = (uint64_t)(load->options->every_ms * 1e6);
	uint64_t at = load->start_ns, submitted = 0;

	while (!over(load, submitted)) {
		TRY(submit(load, &load->slots[0], e));
		submitted++;
		TRY(finish(load, &load->slots[0], e));
		for (at += period; at < monotonic_ns(); at += period)
			load->missed++;
		sleep_until(at, &stop);
	}
	return 0;
}

static json_t *latency(const struct load *load)
{
	uint64_t *ns = calloc(load->done + 1, sizeof(*ns));
	json_t *result;

	if (!ns)
		return json_object();
	for (uint64_t i = 0; i < load->done; i++)
		ns[i] = load->records[i].done_ns - load->records[i].submit_ns;
	result = waits_json(ns, load->done);
	free(ns);
	return result;
}

/* Jobs done in each second of CLOCK_MONOTONIC, from the one in which the load began. */
static json_t *windows(const struct load *load)
{
	json_t *list = json_array();
	uint64_t first = load->start_ns / NSEC_PER_SEC, i = 0;

	for (uint64_t second = first; second <= load->end_ns / NSEC_PER_SEC; second++) {
		int count = 0;

		for (; i < load->done && load->records[i].done_ns / NSEC_PER_SEC <= second; i++)
			count++;
		json_array_append_new(list, json_integer(count));
	}
	return list;
}

static int write_log(const struct load *load, struct error *e)
{
	const char *path = load->options->log;
	FILE *file = path ? fopen(path, "we") : NULL;

	if (!path)
		return 0;
	if (!file)
		return error_set(e, errno, "output", NULL, "%s: %s", path, strerror(errno));
	fprintf(file, "submit_ns,done_ns\n");
	for (uint64_t i = 0; i < load->done; i++)
		fprintf(file, "%llu,%llu\n", (unsigned long long)load->records[i].submit_ns,
			(unsigned long long)load->records[i].done_ns);
	return fclose(file) ? error_set(e, EIO, "output", NULL, "%s: not written whole", path) : 0;
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int measure(struct load *load, struct error *e)
{
	double cpu;

	TRY(set_up(load, e));
	wait_for_start(load->options);
	cpu = cpu_seconds();
	load->start_ns = monotonic_ns();
	TRY(load->options->every_ms > 0 ? pulse(load, e) : saturate(load, e));
	load->end_ns = monotonic_ns();
	cpu = cpu_seconds() - cpu;
	TRY(write_log(load, e));
	print_json(json_pack(
		"{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "mode",
		"load", "device", load->vk.properties.deviceName, "iterations",
		(json_int_t)load->slots[0].job.iterations, "empty_ns",
		(json_int_t)load->length.empty_ns, "job_ns", (json_int_t)load->length.job_ns,
		"groups", (json_int_t)load->options->groups, "in_flight",
		(json_int_t)load->slot_count, "jobs", (json_int_t)load->done, "missed",
		(json_int_t)load->missed, "start_ns", (json_int_t)load->start_ns, "end_ns",
		(json_int_t)load->end_ns, "cpu_s", cpu, "latency_ms", latency(load), "windows",
		windows(load)));
	return 0;
}

int load_run(const struct load_options *options, struct error *e)
{
	static struct load load;
	const struct sigaction action = { .sa_handler = on_signal };
	int err;

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	load.options = options;
	err = measure(&load, e);
	/* After a failure the device may never be idle again; the process ends anyway. */
	if (!err)
		vk_close(&load.vk);
	free(load.records);
	return err;
}
