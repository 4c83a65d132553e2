// SPDX-License-Identifier: Apache-2.0
/*
 * An instance starts: a place for it is found and written down, in one transaction with its new state and the journal; then whole GPUs are made
 * ready, its disks are, the arbiter answers, its vGPUs do, its VMM does. Each step is entered once and goes on by an event; whatever fails ends
 * in instance_end(), which takes down what there is.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#define ARBITER_S     20
#define VGPU_S	      120
#define VMM_S	      120
#define VMM_S_PER_GIB 2 /* pinning and mapping for a whole GPU */
#define ASK_MS	      5000
#define POLL_MS	      25

void instance_timer(struct instance *instance, uint64_t delay_ms,
		    int (*handler)(sd_event_source *source, uint64_t usec, void *instance))
{
	instance->timer = sd_event_source_disable_unref(instance->timer);
	if (sd_event_add_time_relative(instance->daemon->event, &instance->timer, CLOCK_MONOTONIC,
				       delay_ms * 1000, 0, handler, instance) < 0)
		log_error("%s: no timer: it stands still until the daemon starts anew",
			  instance->row.name);
}

/* ---- processes ------------------------------------------------------------------------------------ */

struct process *instance_process(struct instance *instance, const char *role)
{
	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		if (!strcmp(instance->processes[i].role, role))
			return &instance->processes[i];
	return NULL;
}

static int on_process_end(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct process *process = opaque;
	siginfo_t info;

	/* A child of ours is not to stay behind; one that was adopted is another's. */
	waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG);
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	if (process->instance)
		instance_process_ended(process->instance, process);
	else
		arbiter_ended(container_of(process, struct daemon, arbiter));
	return 0;
}

int process_watch(struct daemon *daemon, struct process *process)
{
	int err = sd_event_add_io(daemon->event, &process->source, process->process.pidfd, EPOLLIN,
				  on_process_end, process);

	return MIN(err, 0);
}

void process_forget(struct process *process)
{
	process->source = sd_event_source_disable_unref(process->source);
	fd_close(&process->process.pidfd);
	process->role[0] = '\0';
	process->adopted = false;
	process->process = (struct launch_process){ .pidfd = -1 };
}

/* Before it runs. */
int process_commit(void *opaque, const char *role, const struct launch_process *process,
		   struct error *e)
{
	struct instance *instance = opaque;
	struct store_process row = { .pid = process->pid,
				     .start_time = process->start_time,
				     .uid = instance->row.uid };
	int err;

	snprintf(row.instance, sizeof(row.instance), "%s", instance->row.name);
	snprintf(row.role, sizeof(row.role), "%s", role);
	memcpy(row.boot, instance->daemon->boot, sizeof(row.boot));
	err = store_process_put(instance->daemon->store, &row, e);
	if (!err && !strcmp(role, "vmm"))
		instance->guest_had = instance->had_this_boot = true;
	return err;
}

static int take(struct instance *instance, const char *role, const struct launch_process *launched,
		struct error *e)
{
	struct process *process = instance_process(instance, "");
	int err;

	if (!process)
		return error_set(e, ENOSPC, "too-many-processes", NULL, "%s: too many processes",
				 instance->row.name);
	process->process = *launched;
	snprintf(process->role, sizeof(process->role), "%s", role);
	err = process_watch(instance->daemon, process);
	return err ? error_set(e, -err, "event-loop", NULL, "%s", strerror(-err)) : 0;
}

/* ---- a place ---------------------------------------------------------------------------------------- */

static int no_place(const struct instance *instance, const struct findings *findings,
		    struct error *e)
{
	const struct finding *first = NULL;

	for (unsigned i = 0; i < findings->count && !first; i++)
		if (findings->items[i].level == FINDING_BLOCKER)
			first = &findings->items[i];
	if (!first)
		return error_set(e, ENOSPC, "no-place", "divvy list types",
				 "%s: there is no place for a %s", instance->row.name,
				 instance->row.type);
	error_set(e, ENOSPC, first->code, first->next, "%s: no place for a %s: %s",
		  instance->row.name, instance->row.type, first->fact);
	for (unsigned i = 0; i < findings->count; i++)
		if (findings->items[i].level == FINDING_BLOCKER && &findings->items[i] != first)
			text_append(e->text, sizeof(e->text), "; %s", findings->items[i].fact);
	return -ENOSPC;
}

static void part_describe(const struct instance *instance, unsigned index,
			  const struct placement_part *part, struct store_reservation *row)
{
	const struct node_gpu *gpu = node_gpu_find(instance->daemon->node, part->gpu);
	const struct node_gpu *physical;
	char address[PCI_ADDRESS_LEN];

	*row = (struct store_reservation){ .index = index,
					   .dedicated = part->mode == TYPE_DEDICATED,
					   .share_ppm = part->time_ppm,
					   .vram_bytes = part->vram_mib * MIB };
	snprintf(row->instance, sizeof(row->instance), "%s", instance->row.name);
	snprintf(row->gpu, sizeof(row->gpu), "%s", part->gpu);
	snprintf(row->provider, sizeof(row->provider), "%s",
		 row->dedicated ? type_provider_name(part->provider) : "vulkan");
	memcpy(row->mdev, part->mdev, sizeof(row->mdev));
	if (!gpu)
		return;
	physical = node_gpu_physical(instance->daemon->node, gpu);
	if (physical && row->dedicated)
		snprintf(row->parent, sizeof(row->parent), "%s", physical->id);
	snprintf(row->arbiter_gpu, sizeof(row->arbiter_gpu), "%s", gpu->vulkan_name);
	for (unsigned i = 0; device_leased(row) && i < gpu->function_count; i++)
		text_append(row->functions, sizeof(row->functions), "%s%s", i ? " " : "",
			    pci_address_format(&gpu->functions[i].address, address));
}

/* All of it or nothing: the state, what it has, the journal. */
static int place_commit(struct instance *instance, struct error *e)
{
	struct store *store = instance->daemon->store;
	int err = store_begin(store, e);

	if (!err)
		err = instance_save(instance, e);
	for (unsigned i = 0; i < instance->part_count && !err; i++)
		err = store_reservation_add(store, &instance->parts[i], e);
	if (!err)
		err = store_change_begin(store, "start", instance->row.name, "", &instance->change,
					 e);
	if (!err)
		err = store_commit(store, e);
	if (err)
		store_rollback(store);
	return err;
}

static void place_drop(struct instance *instance)
{
	free(instance->parts);
	instance->parts = NULL;
	instance->part_count = 0;
	instance->placed = false;
	free(instance->row.placement);
	instance->row.placement = NULL;
	free(instance->image);
	instance->image = NULL;
}

static int place(struct instance *instance, struct error *e)
{
	struct daemon *daemon = instance->daemon;
	struct findings *findings = calloc(1, sizeof(*findings));
	struct placement *found = &instance->placement;
	char next[ERROR_NEXT_SIZE];
	json_t *json = NULL;
	int err;

	if (!findings)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for a place");
	*found = (struct placement){ 0 };
	err = placement_find(daemon->ledger, &instance->type, found, findings);
	if (err)
		no_place(instance, findings, e);
	free(findings);
	for (unsigned i = 0; i < found->part_count && !err; i++) {
		const struct gpu *gpu = gpu_busy(daemon, found->parts[i].gpu);

		/* Its driver changes at this moment, or that of what it is a part of, which takes it away. */
		if (gpu)
			err = error_set(e, EBUSY, "gpu-busy",
					error_next("start", instance->row.name, next), "%s: %s: %s",
					instance->row.name, gpu->row.id, gpu->busy);
	}
	if (err)
		return err;
	for (unsigned i = 0; i < found->part_count; i++)
		if (found->parts[i].provider == TYPE_MDEV)
			instance_mdev_uuid(instance, i, found->parts[i].mdev);
	json = placement_json(found);
	if (json && !definition_keep(instance, json))
		instance->row.placement = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	instance->parts = calloc(MAX(found->part_count, 1u), sizeof(*instance->parts));
	if (!instance->parts || !instance->row.placement) {
		place_drop(instance);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for a place");
	}
	instance->part_count = found->part_count;
	for (unsigned i = 0; i < found->part_count; i++)
		part_describe(instance, i, &found->parts[i], &instance->parts[i]);
	return 0;
}

int instance_start(struct instance *instance, struct error *e)
{
	const enum store_state old = instance->row.state;
	const bool old_desired = instance->row.desired;
	struct daemon *daemon = instance->daemon;
	char next[ERROR_NEXT_SIZE];
	int err;

	if (old == STORE_STARTING || old == STORE_RUNNING)
		return 0;
	if (old == STORE_STOPPING)
		return error_set(e, EBUSY, "instance-stopping",
				 error_next("start", instance->row.name, next),
				 "%s is being stopped", instance->row.name);
	err = instance->unreadable ? instance_type_read(instance, &instance->type, e) : 0;
	/* Defined before there were users to run as. */
	if (!err && !instance->row.uid)
		err = instance_user(daemon, &instance->row.uid, e);
	if (!err)
		err = place(instance, e);
	if (err)
		return err;
	err = credits_grant(instance, e);
	if (err) {
		place_drop(instance);
		return err;
	}
	instance->row.state = STORE_STARTING;
	instance->row.desired = true;
	err = place_commit(instance, e);
	if (err) {
		instance->row.state = old;
		instance->row.desired = old_desired;
		place_drop(instance);
		return err;
	}
	/* One that is refused waits on, as its policy says. */
	instance->restart_timer = sd_event_source_disable_unref(instance->restart_timer);
	instance->placed = true;
	instance->guest_had = instance->had_this_boot = false;
	instance->life = ++daemon->lives;
	placement_take(daemon->ledger, &instance->placement);
	instance_error(instance, NULL);
	event_instance(instance, "starting", "%s", instance->row.type);
	start_continue(instance, STEP_BIND);
	return 0;
}

/* ---- steps ------------------------------------------------------------------------------------------- */

static bool has(const struct instance *instance, bool dedicated)
{
	for (unsigned i = 0; i < instance->part_count; i++)
		if (instance->parts[i].dedicated == dedicated)
			return true;
	return false;
}

static void deadline(struct instance *instance, uint64_t seconds)
{
	instance->deadline_ns = monotonic_ns() + seconds * NSEC_PER_SEC;
}

static void too_late(struct instance *instance, const char *what)
{
	struct error e = { 0 };
	char next[ERROR_NEXT_SIZE];

	error_set(&e, ETIMEDOUT, "timed-out", error_next("log", instance->row.name, next),
		  "%s does not answer", what);
	instance_end(instance, STORE_FAILED, &e);
}

/* -- arbiter */

static int on_arbiter_poll(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;
	struct error e = { 0 };
	int answer = arbiter_ensure(instance->daemon, &e);

	if (answer < 0)
		instance_end(instance, STORE_FAILED, &e);
	else if (answer)
		start_continue(instance, STEP_VGPU);
	else if (monotonic_ns() > instance->deadline_ns)
		too_late(instance, "the arbiter");
	else
		instance_timer(instance, POLL_MS, on_arbiter_poll);
	return 0;
}

/* -- vGPUs and the VMM: both are there once their control sockets answer */

static void ask(struct instance *instance);

static int on_ask_again(sd_event_source *source, uint64_t usec, void *opaque)
{
	ask(opaque);
	return 0;
}

static void running(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	struct error e = { 0 };
	int err;

	instance_quiet(instance);
	instance->row.state = STORE_RUNNING;
	instance->row.started_ms = daemon_now_ms();
	instance->row.exit_status = -1;
	err = store_begin(daemon->store, &e);
	if (!err)
		err = instance_save(instance, &e);
	if (!err && instance->change)
		err = store_change_end(daemon->store, instance->change, "done", &e);
	if (!err)
		err = store_commit(daemon->store, &e);
	if (err) {
		store_rollback(daemon->store);
		instance->row.state = STORE_STARTING;
		instance_end(instance, STORE_FAILED, &e);
		return;
	}
	instance->change = 0;
	instance->step = STEP_NONE;
	instance->running_ns = monotonic_ns();
	event_instance(instance, "running", "%s", "");
}

static void on_answer(void *opaque, unsigned status, const char *body, size_t size)
{
	struct instance *instance = opaque;

	instance->request = NULL;
	if (status != 200) {
		if (monotonic_ns() > instance->deadline_ns)
			too_late(instance, instance->step == STEP_VMM ? "its VMM" : "a vGPU of it");
		else
			instance_timer(instance, POLL_MS, on_ask_again);
		if (instance->step == STEP_VMM)
			progress_tell(instance);
		return;
	}
	if (instance->step == STEP_VMM) {
		running(instance);
		return;
	}
	instance->next++;
	ask(instance);
}

static void ask(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	const bool vmm = instance->step == STEP_VMM;
	char path[108], file[32] = "vmm.ctl";

	if (!vmm) {
		while (instance->next < instance->part_count &&
		       instance->parts[instance->next].dedicated)
			instance->next++;
		if (instance->next >= instance->part_count) {
			credits_begin(instance);
			start_continue(instance, STEP_VMM);
			return;
		}
		snprintf(file, sizeof(file), "gpu%u.ctl", instance->next);
	}
	launch_path(&daemon->places, instance->row.name, file, path);
	if (!launch_ask(daemon->event, path, "GET", vmm ? "/api/v1/vm.info" : "/api/v1/vgpu.info",
			NULL, LAUNCH_ANSWER_MAX, ASK_MS, on_answer, instance, &instance->request))
		return;
	/* Nobody listens yet. */
	on_answer(instance, 0, "", 0);
}

static void vgpus_enter(struct instance *instance)
{
	struct launch_instance *launch = calloc(1, sizeof(*launch));
	struct error e = { 0 };
	int err = launch ? 0 : error_set(&e, ENOMEM, "no-memory", NULL, "no memory for its vGPUs");

	if (launch)
		instance_describe(instance, launch);
	for (unsigned i = 0; i < instance->part_count && !err; i++) {
		struct launch_process process;
		char role[16];

		if (instance->parts[i].dedicated)
			continue;
		snprintf(role, sizeof(role), "gpu%u", i);
		err = launch_spawn_vgpu(&instance->daemon->places, launch, i, process_commit,
					instance, &process, &e);
		if (!err)
			err = take(instance, role, &process, &e);
	}
	free(launch);
	if (err) {
		instance_end(instance, STORE_FAILED, &e);
		return;
	}
	instance->next = 0;
	deadline(instance, VGPU_S);
	ask(instance);
}

static void vmm_wait(struct instance *instance)
{
	deadline(instance,
		 VMM_S + (has(instance, true) ? instance->type.memory_mib / 1024 * VMM_S_PER_GIB
					      : 0));
	instance->told_ns = monotonic_ns();
	ask(instance);
}

static void vmm_enter(struct instance *instance)
{
	struct launch_instance *launch = calloc(1, sizeof(*launch));
	struct launch_process process;
	struct error e = { 0 };
	int err = launch ? 0 : error_set(&e, ENOMEM, "no-memory", NULL, "no memory for its VMM");

	/* Found at the start of the daemon: it is only waited for. */
	if (instance_process(instance, "vmm")) {
		free(launch);
		vmm_wait(instance);
		return;
	}
	if (!err) {
		instance_describe(instance, launch);
		err = launch_spawn_vmm(&instance->daemon->places, launch, process_commit, instance,
				       &process, &e);
	}
	if (!err)
		err = take(instance, "vmm", &process, &e);
	free(launch);
	if (err)
		instance_end(instance, STORE_FAILED, &e);
	else
		vmm_wait(instance);
}

void start_continue(struct instance *instance, enum step step)
{
	instance_quiet(instance);
	instance->step = step;
	switch (step) {
	case STEP_BIND:
		if (has(instance, true)) {
			device_prepare(instance);
			return;
		}
		instance->step = STEP_DISKS;
		disks_begin(instance);
		return;
	case STEP_DISKS:
		disks_begin(instance);
		return;
	case STEP_ARBITER:
		if (!has(instance, false)) {
			instance->step = STEP_VMM;
			vmm_enter(instance);
			return;
		}
		deadline(instance, ARBITER_S);
		on_arbiter_poll(NULL, 0, instance);
		return;
	case STEP_VGPU:
		vgpus_enter(instance);
		return;
	default:
		vmm_enter(instance);
	}
}
