// SPDX-License-Identifier: Apache-2.0
/*
 * The arbiter: a process of its own, so that it outlives this one and takes no instance along when this one dies. It is started when the first vGPU
 * is, found again, and asked every second what each vGPU has; that is what metrics, /vgpus and credits are made of.
 *
 * Credits: while a vGPU is there the arbiter counts them. Once a minute, and when it ends, its balance is written down, and it begins with that
 * the next time. Only differences of the arbiter's own counts are added up, so no clock of ours is asked: one that jumps changes nothing.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/daemon/private.h"
#include "vgpu-sched/vgpu-sched.h"

#define LOOK_US	     UINT64_C(1000000)
#define LOOK_FAST_US UINT64_C(50000) /* until it answers */
#define ANSWER_NS    (10 * NSEC_PER_SEC)
#define MINUTE_US    UINT64_C(60000000)
#define WINDOW	     10 /* looks, of a second each */

static int on_look(sd_event_source *source, uint64_t usec, void *opaque);

static void look_at(struct daemon *daemon, uint64_t delay_us)
{
	sd_event_source_set_time_relative(daemon->arbiter_timer, delay_us);
	sd_event_source_set_enabled(daemon->arbiter_timer, SD_EVENT_ONESHOT);
}

/* ---- its process ------------------------------------------------------------------------------------ */

static int arbiter_commit(void *opaque, const char *role, const struct launch_process *process,
			  struct error *e)
{
	struct daemon *daemon = opaque;
	struct store_process row = { .role = "arbiter",
				     .pid = process->pid,
				     .start_time = process->start_time };

	memcpy(row.boot, daemon->boot, sizeof(row.boot));
	return store_process_put(daemon->store, &row, e);
}

/* Somebody's own (divvy arbiter) at our place: ours would end at once, and nobody would say why. */
static int another_listens(const struct daemon *daemon, struct error *e)
{
	int fd = unix_connect(daemon->arbiter_socket, SOCK_SEQPACKET | SOCK_NONBLOCK);
	struct ucred who = { 0 };
	socklen_t size = sizeof(who);
	char next[80] = "";

	if (fd < 0 && fd != -EAGAIN)
		return 0;
	if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		who.pid = 0;
	fd_close(&fd);
	if (who.pid)
		snprintf(next, sizeof(next), "kill %d, and: divvy arbiter --socket elsewhere",
			 who.pid);
	return error_set(e, EADDRINUSE, "arbiter-elsewhere", next,
			 "%s: another arbiter listens there, process %d", daemon->arbiter_socket,
			 who.pid);
}

int arbiter_ensure(struct daemon *daemon, struct error *e)
{
	struct launch_process process;
	int err;

	if (daemon->arbiter.role[0])
		return daemon->arbiter_answers;
	err = another_listens(daemon, e);
	if (err)
		return err;
	err = launch_spawn_arbiter(&daemon->places, arbiter_commit, daemon, &process, e);
	if (err)
		return err;
	daemon->arbiter.process = process;
	strcpy(daemon->arbiter.role, "arbiter");
	err = process_watch(daemon, &daemon->arbiter);
	if (err)
		return error_set(e, -err, "event-loop", NULL, "%s", strerror(-err));
	event_other(daemon, "arbiter", "started", "process %d", process.pid);
	look_at(daemon, LOOK_FAST_US);
	return 0;
}

static void question_end(struct daemon *daemon)
{
	daemon->arbiter_source = sd_event_source_disable_unref(daemon->arbiter_source);
	fd_close(&daemon->arbiter_fd);
}

static bool has_vgpu(const struct instance *instance)
{
	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		if (!strncmp(instance->processes[i].role, "gpu", 3))
			return true;
	return false;
}

/* Whoever had a vGPU has it no more: their processes go on without a GPU, and no arbiter can give it back to them. */
void arbiter_ended(struct daemon *daemon)
{
	const bool answered = daemon->arbiter_answers;

	process_forget(&daemon->arbiter);
	daemon->arbiter_answers = false;
	question_end(daemon);
	json_decref(daemon->status);
	daemon->status = NULL;
	daemon->restarts_arbiter++;
	if (store_process_drop(daemon->store, "", "arbiter", NULL))
		log_warn("the arbiter's row stays: it is found to be gone at the next start");
	event_other(daemon, "arbiter", "ended", "%s",
		    answered ? "its vGPUs are lost" : "before it had answered");
	/* What ends at once goes out of the table: from the back. */
	for (unsigned i = daemon->instance_count; i--;) {
		struct instance *instance = daemon->instances[i];
		char next[PATH_MAX];
		struct error e = { 0 };

		if (!answered && instance->row.state == STORE_STARTING &&
		    instance->step == STEP_ARBITER) {
			snprintf(next, sizeof(next), "tail %s/arbiter.log",
				 daemon->instances_state);
			error_set(&e, EIO, "arbiter-ended", next,
				  "the arbiter ended before it had answered");
			instance_end(instance, STORE_FAILED, &e);
			continue;
		}
		if (!has_vgpu(instance) ||
		    (instance->row.state != STORE_RUNNING && instance->row.state != STORE_STARTING))
			continue;
		error_set(&e, EPIPE, "arbiter-lost", NULL,
			  "the arbiter has ended, and its vGPUs with it");
		instance_end(instance, STORE_FAILED, &e);
	}
}

/* ---- what it tells ------------------------------------------------------------------------------------ */

static json_t *find(json_t *status, const char *name)
{
	json_t *one, *list = json_object_get(status, "vgpus");
	size_t i;

	json_array_foreach(list, i, one)
	{
		const char *called = json_string_value(json_object_get(one, "name"));

		if (called && !strcmp(called, name))
			return one;
	}
	return NULL;
}

const json_t *vgpu_status(const struct daemon *daemon, const char *name)
{
	return find(daemon->status, name);
}

static json_t *graphics(json_t *vgpu)
{
	return json_object_get(json_object_get(vgpu, "engines"), "graphics");
}

static int64_t figure(json_t *vgpu, const char *key)
{
	return json_integer_value(json_object_get(graphics(vgpu), key));
}

/* The oldest look of the window that there is. */
static json_t *oldest(const struct daemon *daemon)
{
	for (unsigned i = 1; i <= WINDOW; i++) {
		json_t *one = daemon->history[(daemon->seen_at + i) % (WINDOW + 1)];

		if (one)
			return one;
	}
	return NULL;
}

static double span(const struct daemon *daemon, json_t **before)
{
	*before = oldest(daemon);
	if (!daemon->status || !*before || *before == daemon->status)
		return 0;
	return (double)(json_integer_value(json_object_get(daemon->status, "now_ns")) -
			json_integer_value(json_object_get(*before, "now_ns")));
}

double vgpu_share_got(const struct daemon *daemon, const char *name)
{
	json_t *before, *now = find(daemon->status, name), *then;
	const double ns = span(daemon, &before);

	then = ns > 0 ? find(before, name) : NULL;
	/* A new one of the same name counts from nothing again. */
	if (!now || !then || figure(now, "used_ns") < figure(then, "used_ns"))
		return -1;
	return (double)(figure(now, "used_ns") - figure(then, "used_ns")) / ns;
}

double gpu_utilisation(const struct daemon *daemon, const char *vulkan_name)
{
	json_t *one, *list = json_object_get(daemon->status, "vgpus");
	double sum = 0;
	bool any = false;
	size_t i;

	json_array_foreach(list, i, one)
	{
		const char *gpu = json_string_value(json_object_get(one, "gpu"));
		double got;

		if (!gpu || strcmp(gpu, vulkan_name) != 0)
			continue;
		got = vgpu_share_got(daemon, json_string_value(json_object_get(one, "name")));
		if (got >= 0) {
			sum += got;
			any = true;
		}
	}
	return any ? MIN(sum, 1) : -1;
}

/* ---- credits ---------------------------------------------------------------------------------------------- */

static bool is_burst(const struct instance *instance, unsigned index)
{
	const unsigned entry = instance->placement.parts[index].entry;

	return index < instance->part_count && !instance->parts[index].dedicated &&
	       entry < instance->type.gpu_count && instance->type.gpus[entry].policy == SCHED_BURST;
}

/* From the arbiter's last answer. */
static void credit_look(struct instance *instance, unsigned index)
{
	struct credit *credit = &instance->credits[index];
	char name[48];
	json_t *vgpu;
	uint64_t used;

	launch_vgpu_name(instance->row.name, index, name);
	vgpu = find(instance->daemon->status, name);
	if (!vgpu || !credit->live)
		return;
	used = (uint64_t)figure(vgpu, "used_ns") + (uint64_t)figure(vgpu, "surcharge_ns");
	if (used >= credit->seen_ns)
		credit->usage_ns += used - credit->seen_ns;
	credit->seen_ns = used;
	credit->balance_ns = figure(vgpu, "credit_ns");
}

static void credits_look(struct daemon *daemon)
{
	for (unsigned i = 0; i < daemon->instance_count; i++)
		for (unsigned v = 0; v < daemon->instances[i]->part_count; v++)
			if (is_burst(daemon->instances[i], v))
				credit_look(daemon->instances[i], v);
}

static int credit_put(struct instance *instance, unsigned index, struct error *e)
{
	const struct credit *credit = &instance->credits[index];
	struct store_credit row = { .index = index,
				    .balance_ns = credit->balance_ns,
				    .usage_ns = credit->usage_ns,
				    .charged_ns = credit->charged_ns,
				    .seen_ns = credit->seen_ns };

	memcpy(row.instance, instance->row.name, sizeof(row.instance));
	return store_credit_put(instance->daemon->store, &row, e);
}

static int grant(struct instance *instance, unsigned index, bool *denied, struct error *e)
{
	struct credit *credit = &instance->credits[index];
	const struct type_gpu *type = &instance->type.gpus[instance->placement.parts[index].entry];
	bool given;
	int err = store_launch(instance->daemon->store, instance->row.owner, daemon_now_ms(),
			       instance->daemon->config.initial_credits_per_day, &given, e);

	if (err)
		return err;
	*denied |= !given;
	credit->balance_ns = given ? (int64_t)type->credit_initial_ns : 0;
	return credit_put(instance, index, e);
}

static bool may_be_granted(const struct instance *instance, unsigned index)
{
	return is_burst(instance, index) && !instance->credits[index].known &&
	       instance->type.gpus[instance->placement.parts[index].entry].credit_initial_ns;
}

int credits_grant(struct instance *instance, struct error *e)
{
	struct store *store = instance->daemon->store;
	bool any = false, denied = false;
	int err = 0;

	for (unsigned i = 0; i < instance->part_count && !err; i++) {
		if (!may_be_granted(instance, i))
			continue;
		err = any ? 0 : store_begin(store, e);
		any = true;
		if (!err)
			err = grant(instance, i, &denied, e);
	}
	if (any && !err)
		err = store_commit(store, e);
	if (err) {
		store_rollback(store);
		return err;
	}
	for (unsigned i = 0; i < instance->part_count; i++)
		instance->credits[i].known |= may_be_granted(instance, i);
	if (denied)
		event_instance(
			instance, "step",
			"it begins without initial credits: its owner has had them %u times in 24 hours",
			instance->daemon->config.initial_credits_per_day);
	return 0;
}

void credits_begin(struct instance *instance)
{
	for (unsigned i = 0; i < instance->part_count; i++) {
		instance->credits[i].live = is_burst(instance, i);
		instance->credits[i].known |= instance->credits[i].live;
	}
}

/* What it went below nothing and has not earned back is charged: it does not begin with a debt. */
void credits_end(struct instance *instance)
{
	struct error e = { 0 };

	for (unsigned i = 0; i < instance->part_count; i++) {
		struct credit *credit = &instance->credits[i];

		/* Also of one that ended while nobody looked. */
		if (!credit->known)
			continue;
		credit_look(instance, i);
		credit->live = false;
		credit->seen_ns = 0;
		if (credit->balance_ns < 0) {
			credit->charged_ns += (uint64_t)-credit->balance_ns;
			credit->balance_ns = 0;
		}
		if (credit_put(instance, i, &e))
			log_limited(LOG_LEVEL_WARN, "%s: its credits are not kept: %s",
				    instance->row.name, e.text);
	}
}

int credits_save(struct daemon *daemon, struct error *e)
{
	bool any = false;
	int err = 0;

	for (unsigned i = 0; i < daemon->instance_count && !err; i++)
		for (unsigned v = 0; v < daemon->instances[i]->part_count && !err; v++) {
			if (!daemon->instances[i]->credits[v].live)
				continue;
			err = any ? 0 : store_begin(daemon->store, e);
			any = true;
			if (!err)
				err = credit_put(daemon->instances[i], v, e);
		}
	if (any && !err)
		err = store_commit(daemon->store, e);
	if (err)
		store_rollback(daemon->store);
	return err;
}

/* ---- looking ---------------------------------------------------------------------------------------------- */

static int on_answer(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct daemon *daemon = opaque;
	struct error e = { 0 };
	json_t *status = NULL;
	char *text = NULL;

	if (!arbiter_answer(fd, &text, &e))
		status = json_loads(text, 0, NULL);
	free(text);
	question_end(daemon);
	if (status) {
		daemon->arbiter_answers = true;
		json_decref(daemon->status);
		daemon->status = status;
		daemon->seen_at = (daemon->seen_at + 1) % (WINDOW + 1);
		json_decref(daemon->history[daemon->seen_at]);
		daemon->history[daemon->seen_at] = json_incref(status);
		credits_look(daemon);
	}
	look_at(daemon, daemon->arbiter_answers ? LOOK_US : LOOK_FAST_US);
	return 0;
}

static int on_look(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct daemon *daemon = opaque;

	if (!daemon->arbiter.role[0])
		return 0;
	if (daemon->arbiter_fd >= 0) {
		/* It stands still: what it said is no more what is. */
		if (monotonic_ns() - daemon->arbiter_asked_ns > ANSWER_NS) {
			question_end(daemon);
			daemon->arbiter_answers = false;
		}
		look_at(daemon, LOOK_US);
		return 0;
	}
	daemon->arbiter_fd = arbiter_ask(daemon->arbiter_socket, NULL);
	if (daemon->arbiter_fd >= 0 &&
	    sd_event_add_io(daemon->event, &daemon->arbiter_source, daemon->arbiter_fd, EPOLLIN,
			    on_answer, daemon) >= 0) {
		daemon->arbiter_asked_ns = monotonic_ns();
		look_at(daemon, LOOK_US);
		return 0;
	}
	question_end(daemon);
	look_at(daemon, LOOK_FAST_US);
	return 0;
}

static int on_minute(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct daemon *daemon = opaque;
	struct error e = { 0 };

	if (credits_save(daemon, &e))
		log_limited(LOG_LEVEL_WARN, "credits are not kept: %s", e.text);
	sd_event_source_set_time_relative(source, MINUTE_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* A credit is earned by the minute, asleep or not: of the machine's sleep the arbiter knows nothing, and nobody earns. */
int arbiter_begin(struct daemon *daemon, struct error *e)
{
	int err = sd_event_add_time_relative(daemon->event, &daemon->arbiter_timer, CLOCK_MONOTONIC,
					     LOOK_FAST_US, 0, on_look, daemon);

	if (err >= 0)
		err = sd_event_add_time_relative(daemon->event, &daemon->minute_timer,
						 CLOCK_MONOTONIC, MINUTE_US, 0, on_minute, daemon);
	return err < 0 ? error_set(e, -err, "event-loop", NULL, "timers: %s", strerror(-err)) : 0;
}
