// SPDX-License-Identifier: Apache-2.0
/*
 * An instance ends: asked by its power button, told, killed; its VMM first, then its vGPUs, then whatever else of it is found; its whole GPUs are
 * reset and looked at. Only then is it written down, in one transaction, that it has nothing any more, so that nobody gets what is still
 * in use. What cannot be ended is waited for, and what cannot be written down is tried again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#define TERM_MS	      5000 /* from SIGTERM to the kill, and from there to the next */
#define SWEEP_MS      20
#define SWEEP_SLOW_MS 1000
#define SWEEP_QUICK   100 /* so often quickly, then it is said, and slowly */
#define AGAIN_MS      1000
#define ASK_MS	      5000
#define BACKOFF_MS    1000
#define BACKOFF_STEPS 6			  /* 64 s at most */
#define SETTLED_NS    (60 * NSEC_PER_SEC) /* who ran so long begins anew with short pauses */

static void finish(struct instance *instance);

/* ---- signals --------------------------------------------------------------------------------------- */

/* The keeper hands SIGTERM on and answers SIGINT by a kill; itself it is killed last. */
static const int signals[] = { SIGTERM, SIGINT, SIGKILL };

static bool is_vmm(const struct process *process)
{
	return !strcmp(process->role, "vmm");
}

/* Whether there is any. */
static bool signal_send(struct instance *instance, bool vmm)
{
	const unsigned which = MIN(instance->next, (unsigned)ARRAY_SIZE(signals) - 1);
	bool any = false;

	for (unsigned i = 0; i < PROCESSES_MAX; i++) {
		struct process *process = &instance->processes[i];

		if (!process->role[0] || is_vmm(process) != vmm)
			continue;
		any = true;
		launch_kill(&process->process, signals[which]);
	}
	return any;
}

static int on_signal_again(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;

	instance->next++;
	signal_send(instance, instance->step == STEP_END);
	instance_timer(instance, TERM_MS, on_signal_again);
	return 0;
}

/* ---- the power button -------------------------------------------------------------------------------- */

static int on_power_late(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;

	event_instance(instance, "step", "its guest does not listen to the power button");
	stop_continue(instance, STEP_END);
	return 0;
}

static void on_power(void *opaque, unsigned status, const char *body, size_t size)
{
	struct instance *instance = opaque;

	instance->request = NULL;
	if (status != 204 && status != 200)
		stop_continue(instance, STEP_END);
}

static void power_enter(struct instance *instance, unsigned timeout_s)
{
	char path[108];

	launch_path(&instance->daemon->places, instance->row.name, "vmm.ctl", path);
	if (!timeout_s || !instance_process(instance, "vmm") ||
	    launch_ask(instance->daemon->event, path, "PUT", "/api/v1/vm.power-button", NULL,
		       LAUNCH_ANSWER_MAX, ASK_MS, on_power, instance, &instance->request)) {
		stop_continue(instance, STEP_END);
		return;
	}
	instance_timer(instance, (uint64_t)timeout_s * 1000, on_power_late);
}

/* ---- steps ------------------------------------------------------------------------------------------- */

static int on_sweep(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;

	if (!launch_sweep(&instance->daemon->places, instance->row.name, instance->row.uuid)) {
		stop_continue(instance, STEP_RESET);
		return 0;
	}
	if (++instance->next == SWEEP_QUICK)
		event_instance(instance, "step",
			       "a process of it does not end: the kernel holds it, see dmesg");
	instance_timer(instance, instance->next < SWEEP_QUICK ? SWEEP_MS : SWEEP_SLOW_MS, on_sweep);
	return 0;
}

void stop_continue(struct instance *instance, enum step step)
{
	instance_quiet(instance);
	instance->step = step;
	instance->next = instance->force ? 1 : 0;
	switch (step) {
	case STEP_END:
	case STEP_GPUS:
		if (signal_send(instance, step == STEP_END)) {
			instance_timer(instance, TERM_MS, on_signal_again);
			return;
		}
		if (step == STEP_END) {
			stop_continue(instance, STEP_GPUS);
			return;
		}
		stop_continue(instance, STEP_SWEEP);
		return;
	case STEP_SWEEP:
		instance->next = 0;
		on_sweep(NULL, 0, instance);
		return;
	case STEP_RESET:
		credits_end(instance);
		device_release(instance);
		return;
	default:
		finish(instance);
	}
}

void instance_process_ended(struct instance *instance, struct process *process)
{
	struct daemon *daemon = instance->daemon;
	const bool vmm = is_vmm(process);
	char role[16], next[ERROR_NEXT_SIZE];
	struct error e = { 0 };
	int status;

	memcpy(role, process->role, sizeof(role));
	process_forget(process);
	status = launch_exit_status(&daemon->places, instance->row.name, role);
	if (vmm)
		instance->row.exit_status = status < 0 ? -1 : status;
	if (instance->step == STEP_POWER && vmm) {
		stop_continue(instance, STEP_END);
		return;
	}
	if (instance->row.state == STORE_STOPPING) {
		/* The last of its kind lets the next begin. */
		if (instance->step == STEP_END || instance->step == STEP_GPUS) {
			bool left = false;

			for (unsigned i = 0; i < PROCESSES_MAX; i++)
				left |= instance->processes[i].role[0] &&
					is_vmm(&instance->processes[i]) ==
						(instance->step == STEP_END);
			if (!left)
				stop_continue(instance,
					      instance->step == STEP_END ? STEP_GPUS : STEP_SWEEP);
		}
		return;
	}
	/* Its guest switched itself off, perhaps before anybody had seen it run. */
	if (vmm && !status) {
		instance_end(instance, STORE_STOPPED, NULL);
		return;
	}
	error_next("log", instance->row.name, next);
	if (status < 0)
		error_set(&e, EIO, vmm ? "vmm-ended" : "vgpu-ended", next, "%s of it was killed",
			  vmm ? "the VMM" : "a vGPU");
	else
		error_set(&e, EIO, vmm ? "vmm-ended" : "vgpu-ended", next,
			  "%s of it ended with status %d", vmm ? "the VMM" : "a vGPU", status);
	instance_end(instance, STORE_FAILED, &e);
}

/* ---- beginnings ---------------------------------------------------------------------------------------- */

/* From here on it is on its way out, whoever starts anew. */
static int stopping(struct instance *instance, struct error *e)
{
	struct store *store = instance->daemon->store;
	const enum store_state old = instance->row.state;
	const int64_t old_change = instance->change;
	int err = store_begin(store, e);

	instance->row.state = STORE_STOPPING;
	if (!err)
		err = instance_save(instance, e);
	if (!err && old_change)
		err = store_change_end(store, old_change, "undone", e);
	if (!err)
		err = store_change_begin(store, "stop", instance->row.name, "", &instance->change,
					 e);
	if (!err)
		err = store_commit(store, e);
	if (err) {
		store_rollback(store);
		instance->row.state = old;
		instance->change = old_change;
	}
	return err;
}

void instance_end(struct instance *instance, enum store_state final, const struct error *why)
{
	struct error e = { 0 };

	if (instance->row.state == STORE_STOPPING)
		return;
	instance_quiet(instance);
	instance->final = final;
	instance->force = true;
	/* It is to run again if its policy says so, or somebody does from now on: who comes after us can tell them by that. */
	if (!instance->restart_after)
		instance->row.desired &= final == STORE_STOPPED
						 ? instance->row.restart == STORE_RESTART_ALWAYS
						 : instance->row.restart != STORE_RESTART_NEVER;
	if (why) {
		instance_error(instance, why);
		event_instance(instance, "step", "%s: %s", why->code ? why->code : "failed",
			       why->text);
	}
	/* A store that cannot be written to keeps nobody alive: at the end it is tried until it can. */
	if (stopping(instance, &e)) {
		log_error("%s: %s", instance->row.name, e.text);
		instance->row.state = STORE_STOPPING;
	}
	event_instance(instance, "stopping", "%s", "");
	stop_continue(instance, STEP_END);
}

/* It was to run, and starts by itself. */
static bool may_resume(const struct instance *instance)
{
	return instance->row.desired && !instance->row.transient &&
	       instance->row.restart != STORE_RESTART_NEVER;
}

int instance_stop(struct instance *instance, bool force, unsigned timeout_s, enum stop_then then,
		  struct error *e)
{
	const bool old_desired = instance->row.desired;
	const bool restart = then == STOP_RESTARTS, resume = then == STOP_RESUMES;
	int err;

	instance->row.desired = restart || (resume && may_resume(instance));
	if (instance->row.state == STORE_STOPPING) {
		err = instance_save(instance, e);
		if (err) {
			instance->row.desired = old_desired;
			return err;
		}
		instance->restart_after = restart;
		instance->resume_after = resume;
		if (force && !instance->force) {
			instance->force = true;
			/* What is under way ends; a reset does not begin twice. */
			if (instance->step == STEP_POWER || instance->step == STEP_END)
				stop_continue(instance, STEP_END);
		}
		return 0;
	}
	if (!instance_active(instance)) {
		err = instance->row.desired == old_desired ? 0 : instance_save(instance, e);
		if (err)
			instance->row.desired = old_desired;
		else
			instance->restart_timer =
				sd_event_source_disable_unref(instance->restart_timer);
		return err;
	}
	instance->final = STORE_STOPPED;
	instance->force = force;
	err = stopping(instance, e);
	if (err) {
		instance->row.desired = old_desired;
		return err;
	}
	instance->restart_after = restart;
	instance->resume_after = resume;
	instance_error(instance, NULL);
	event_instance(instance, "stopping", "%s", force ? "at once" : "");
	instance_quiet(instance);
	instance->step = STEP_POWER;
	power_enter(instance, force ? 0 : timeout_s);
	return 0;
}

/* ---- the end --------------------------------------------------------------------------------------------- */

static int on_restart(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;
	struct error e = { 0 };

	instance->restart_timer = sd_event_source_disable_unref(instance->restart_timer);
	if (!instance->row.desired || instance_active(instance))
		return 0;
	event_instance(instance, "restarting", "%s", "");
	if (!instance_start(instance, &e))
		return 0;
	/* No place now: later there may be. */
	instance->row.state = STORE_FAILED;
	instance_error(instance, &e);
	if (instance_save(instance, &e))
		log_error("%s: %s", instance->row.name, e.text);
	event_instance(instance, "failed", "%s",
		       instance->row.error_text ? instance->row.error_text : "");
	instance_restart_later(instance);
	return 0;
}

void instance_restart_later(struct instance *instance)
{
	const uint64_t delay_ms = (uint64_t)BACKOFF_MS << MIN(instance->backoff, BACKOFF_STEPS);

	instance->backoff++;
	instance->restart_timer = sd_event_source_disable_unref(instance->restart_timer);
	sd_event_add_time_relative(instance->daemon->event, &instance->restart_timer,
				   CLOCK_MONOTONIC, delay_ms * 1000, 0, on_restart, instance);
}

bool instance_wants_restart(const struct instance *instance)
{
	if (!instance->row.desired || instance->row.transient)
		return false;
	return instance->row.restart == STORE_RESTART_ALWAYS ||
	       (instance->row.restart == STORE_RESTART_ON_FAILURE &&
		instance->final == STORE_FAILED);
}

/*
 * Nothing of it runs, its devices are clean or set aside: that is written down, all at once.
 * @deletion: of one that is gone with it, the change that ends when its folders are gone too
 */
static int finish_commit(struct instance *instance, bool gone, int64_t *deletion, struct error *e)
{
	struct store *store = instance->daemon->store;
	int err = store_begin(store, e);

	if (!err)
		err = device_ended(instance, e);
	if (!err)
		err = store_reservations_drop(store, instance->row.name, e);
	if (!err)
		err = store_process_drop(store, instance->row.name, NULL, e);
	if (!err && gone)
		err = store_change_begin(store, "delete", instance->row.name, "", deletion, e);
	if (!err)
		err = gone ? store_instance_delete(store, instance->row.name, e)
			   : instance_save(instance, e);
	if (!err && instance->change)
		err = store_change_end(store, instance->change, "done", e);
	if (!err)
		err = store_commit(store, e);
	if (err)
		store_rollback(store);
	return err;
}

static int on_finish_again(sd_event_source *source, uint64_t usec, void *opaque)
{
	finish(opaque);
	return 0;
}

static void taken_back(struct instance *instance)
{
	if (instance->placed)
		placement_release(instance->daemon->ledger, &instance->placement);
	instance->placed = false;
	free(instance->parts);
	instance->parts = NULL;
	instance->part_count = 0;
}

static void devices_returned(struct instance *instance)
{
	for (unsigned i = 0; i < instance->part_count; i++)
		if (device_leased(&instance->parts[i]))
			event_lease(instance, instance->parts[i].gpu, "returned");
	free(instance->results);
	instance->results = NULL;
}

static void finish(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	const bool restart = instance->restart_after, resume = instance->resume_after;
	const bool later = !restart && !resume && instance_wants_restart(instance);
	const bool gone = instance->row.transient && !restart;
	char *placement = instance->row.placement;
	int64_t deletion = 0;
	struct error e = { 0 };

	instance->row.state = instance->final;
	instance->row.desired = restart || later || (resume && may_resume(instance));
	instance->row.placement = NULL;
	instance->row.restarts += restart || later;
	if (finish_commit(instance, gone, &deletion, &e)) {
		log_limited(LOG_LEVEL_ERROR, "%s: %s", instance->row.name, e.text);
		instance->row.state = STORE_STOPPING;
		instance->row.placement = placement;
		instance->row.restarts -= restart || later;
		instance_timer(instance, AGAIN_MS, on_finish_again);
		return;
	}
	free(placement);
	instance->change = 0;
	instance->step = STEP_NONE;
	instance->restart_after = instance->resume_after = false;
	devices_returned(instance);
	taken_back(instance);
	if (launch_folders_remove(&daemon->places, instance->row.name, false, &e))
		log_warn("%s: %s", instance->row.name, e.text);
	event_instance(instance, store_state_name(instance->final), "%s",
		       instance->row.error_text ? instance->row.error_text : "");
	if (gone) {
		if (launch_folders_remove(&daemon->places, instance->row.name, true, &e))
			log_warn("%s: %s", instance->row.name, e.text);
		else
			store_change_end(daemon->store, deletion, "done", NULL);
		event_instance(instance, "deleted", "%s", "");
		instance_forget(instance);
		return;
	}
	instance_reload(instance);
	if (instance->running_ns && monotonic_ns() - instance->running_ns > SETTLED_NS)
		instance->backoff = 0;
	instance->running_ns = 0;
	if (restart) {
		instance->backoff = 0;
		on_restart(NULL, 0, instance);
	} else if (later) {
		instance_restart_later(instance);
	}
}
