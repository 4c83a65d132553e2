// SPDX-License-Identifier: Apache-2.0
/*
 * What an admin does with a GPU (bind, unbind, drain, undrain, release), and what is remembered of one between tenants: drained, set aside, how
 * often it was reset.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/private.h"
#include "vfio/vfio.h"

#define VERB_MS 90000

/* ---- rows ------------------------------------------------------------------------------------------- */

/* Of a GPU that is not there, with nothing to keep anybody from it: but for a count, all that would be missed is its place here. */
static bool forgettable(const struct daemon *daemon, const struct gpu *gpu)
{
	return !gpu->busy && !gpu->row.drained && !gpu->row.quarantine_code[0] &&
	       !node_gpu_find(daemon->node, gpu->row.id);
}

struct gpu *gpu_find(struct daemon *daemon, const char *id, bool make)
{
	struct gpu *gpu = NULL;

	for (unsigned i = 0; i < daemon->gpu_count; i++)
		if (!strcmp(daemon->gpus[i].row.id, id))
			return &daemon->gpus[i];
	if (!make)
		return NULL;
	if (daemon->gpu_count < ARRAY_SIZE(daemon->gpus))
		gpu = &daemon->gpus[daemon->gpu_count++];
	for (unsigned i = 0; i < daemon->gpu_count && !gpu; i++)
		if (forgettable(daemon, &daemon->gpus[i]))
			gpu = &daemon->gpus[i];
	if (!gpu)
		return NULL;
	*gpu = (struct gpu){ 0 };
	snprintf(gpu->row.id, sizeof(gpu->row.id), "%s", id);
	return gpu;
}

const struct gpu *gpu_busy(const struct daemon *daemon, const char *id)
{
	const struct node *node = daemon->node;
	const struct node_gpu *found = node_gpu_find(node, id);
	const struct node_gpu *whole = found ? node_gpu_physical(node, found) : NULL;

	for (unsigned i = 0; i < daemon->gpu_count; i++) {
		const struct gpu *gpu = &daemon->gpus[i];
		const struct node_gpu *one = gpu->busy ? node_gpu_find(node, gpu->row.id) : NULL;

		if (gpu->busy && !strcmp(gpu->row.id, id))
			return gpu;
		if (one && found && (one == whole || node_gpu_physical(node, one) == found))
			return gpu;
	}
	return NULL;
}

void gpu_account(struct placement_ledger *ledger, const struct store_gpu *row)
{
	placement_gpu_close(ledger, row->id,
			    row->quarantine_code[0] ? PLACEMENT_QUARANTINED
			    : row->drained	    ? PLACEMENT_DRAINED
						    : PLACEMENT_OPEN);
}

int gpu_save(struct daemon *daemon, const struct gpu *gpu, struct error *e)
{
	int err = store_gpu_put(daemon->store, &gpu->row, e);

	if (!err)
		gpu_account(daemon->ledger, &gpu->row);
	return err;
}

void gpu_quarantine(struct daemon *daemon, const char *id, const char *code, const char *text)
{
	struct gpu *gpu = gpu_find(daemon, id, true);
	struct error e = { 0 };

	if (gpu) {
		snprintf(gpu->row.quarantine_code, sizeof(gpu->row.quarantine_code), "%s", code);
		snprintf(gpu->row.quarantine_text, sizeof(gpu->row.quarantine_text), "%s", text);
		gpu->row.since_ms = daemon_now_ms();
		/* It is written once more with the end of its lease, which waits for the store; nobody gets it meanwhile. */
		if (gpu_save(daemon, gpu, &e))
			log_error("%s: %s", id, e.text);
	} else {
		log_error(
			"%s is set aside only until devices or the configuration change: %zu others are drained or set aside",
			id, ARRAY_SIZE(daemon->gpus));
	}
	placement_gpu_close(daemon->ledger, id, PLACEMENT_QUARANTINED);
	event_gpu(daemon, id, "quarantined", "%s: %s", code, text);
}

/* ---- verbs --------------------------------------------------------------------------------------------- */

struct verb {
	struct http_request *request;
	struct daemon *daemon;
	bool bind;
	unsigned function_count;
	struct pci_address functions[NODE_FUNCTIONS_MAX];
	char id[STORE_GPU_SIZE];
	int64_t change;
};

static int verb_work(void *opaque, void *result, struct error *e)
{
	struct verb *verb = opaque;
	const char *root = verb->daemon->options.root;
	int err = 0;

	for (unsigned f = 0; f < verb->function_count && !err; f++) {
		if (verb->bind)
			err = vfio_bind(root, verb->daemon->bind, &verb->functions[f],
					DEVICE_BIND_MS, e);
		else /* by what is remembered of its group, wherever it is now */
			err = vfio_unbind(root, verb->daemon->bind, &verb->functions[f],
					  DEVICE_BIND_MS, e);
	}
	return err;
}

static void verb_done(void *opaque, int err, const void *result, const struct error *why)
{
	struct verb *verb = opaque;
	struct daemon *daemon = verb->daemon;
	struct gpu *gpu = gpu_find(daemon, verb->id, true);
	const struct node_gpu *found;

	store_change_end(daemon->store, verb->change, err ? "undone" : "done", NULL);
	if (gpu) {
		free(gpu->busy);
		gpu->busy = NULL;
	}
	daemon_look_again(daemon);
	if (!err)
		event_gpu(daemon, verb->id, verb->bind ? "bound" : "unbound", "%s", "");
	found = node_gpu_find(daemon->node, verb->id);
	if (err)
		http_failed(verb->request, why);
	else if (found)
		http_json(verb->request, 200, api_gpu(daemon, NULL, found));
	else
		http_failed(verb->request, &(struct error){ .err = ENOENT,
							    .code = "no-such-gpu",
							    .text = "it is gone" });
	free(verb);
}

static void verb_begin(struct daemon *daemon, struct http_request *request,
		       const struct node_gpu *found, struct gpu *gpu, bool bind)
{
	struct verb *verb = calloc(1, sizeof(*verb));
	struct error e = { 0 };
	struct job *job;
	int err;

	if (!verb || !found->has_address) {
		error_set(&e, EINVAL, "no-pci-function", "divvy list gpus",
			  "%s is no PCI function: it cannot be bound", found->id);
		free(verb);
		http_failed(request, &e);
		return;
	}
	*verb = (struct verb){ .request = request, .daemon = daemon, .bind = bind };
	snprintf(verb->id, sizeof(verb->id), "%s", found->id);
	for (unsigned i = 0; i < found->function_count; i++)
		verb->functions[verb->function_count++] = found->functions[i].address;
	err = store_change_begin(daemon->store, bind ? "bind" : "unbind", "", found->id,
				 &verb->change, &e);
	if (!err)
		err = job_run(daemon, verb_work, verb, VERB_MS, verb_done, verb, &job, &e);
	if (err) {
		free(verb);
		http_failed(request, &e);
		return;
	}
	job_tell(job);
	gpu->busy = strdup(bind ? "it is being bound" : "it is being unbound");
}

static int may_do(struct daemon *daemon, const struct node_gpu *found, const char *verb,
		  struct error *e)
{
	struct placement_gpu_usage usage = { 0 };
	const struct gpu *busy = gpu_busy(daemon, found->id);

	if (busy)
		return error_set(e, EBUSY, "gpu-busy", "wait for its event", "%s: %s", busy->row.id,
				 busy->busy);
	placement_gpu_usage(daemon->ledger, found->id, &usage);
	if ((!strcmp(verb, "bind") || !strcmp(verb, "unbind")) &&
	    (usage.whole || usage.users || usage.slices))
		return error_set(e, EBUSY, "gpu-in-use", "divvy list instances", "%s: %s",
				 found->id,
				 usage.whole   ? "an instance has it"
				 : usage.users ? "vGPUs run on it"
					       : "instances have virtual functions or mediated "
						 "devices of it");
	return 0;
}

int gpu_no_such(const struct daemon *daemon, const char *id, struct error *e)
{
	const unsigned count = daemon->node->gpu_count;
	const char **ids = calloc(MAX(count, 1u), sizeof(*ids));
	char is_it[TYPE_IS_IT_SIZE];

	for (unsigned i = 0; ids && i < count; i++)
		ids[i] = daemon->node->gpus[i].id;
	type_is_it(id, ids, ids ? count : 0, is_it);
	free(ids);
	return error_set(e, ENOENT, "no-such-gpu", "divvy list gpus", "there is no GPU %.80s%s", id,
			 is_it);
}

void gpu_do(struct daemon *daemon, struct http_request *request, const char *id, const char *verb)
{
	const struct node_gpu *found = node_gpu_find(daemon->node, id);
	struct gpu *gpu = found ? gpu_find(daemon, found->id, true) : NULL;
	struct store_gpu old;
	struct error e = { 0 };
	int err;

	if (!gpu) {
		if (found)
			error_set(&e, ENOSPC, "too-many-gpus", NULL, "too many GPUs");
		else
			gpu_no_such(daemon, id, &e);
		http_failed(request, &e);
		return;
	}
	if (may_do(daemon, found, verb, &e)) {
		http_failed(request, &e);
		return;
	}
	if (!strcmp(verb, "bind") || !strcmp(verb, "unbind")) {
		verb_begin(daemon, request, found, gpu, verb[0] == 'b');
		return;
	}
	old = gpu->row;
	if (!strcmp(verb, "release")) {
		gpu->row.quarantine_code[0] = gpu->row.quarantine_text[0] = '\0';
		gpu->row.since_ms = 0;
	} else {
		gpu->row.drained = !strcmp(verb, "drain");
	}
	err = gpu_save(daemon, gpu, &e);
	if (err) {
		gpu->row = old;
		http_failed(request, &e);
		return;
	}
	if (old.drained != gpu->row.drained ||
	    strcmp(old.quarantine_code, gpu->row.quarantine_code))
		event_gpu(daemon, found->id,
			  !strcmp(verb, "release") ? "released"
			  : gpu->row.drained	   ? "drained"
						   : "undrained",
			  "%s", "");
	http_json(request, 200, api_gpu(daemon, NULL, found));
}
