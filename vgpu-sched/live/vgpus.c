// SPDX-License-Identifier: Apache-2.0
/*
 * GPUs, the vGPUs on them and the processes that work as one: what CREATE, CHANGE and REGISTER do once arbiter.c has let them
 * in, and where the pages come from that are shared with them.
 *
 * All that a worker can write is its own page and its vGPU's. What is read from there is bounded to what can harm that vGPU alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

#define TRIES 1000 /* to be quicker than who writes to the same word */

/* A memfd of @size bytes that nobody can cut. -errno. */
static int page_file(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		fd_close(&fd);
	return fd < 0 ? -ENOMEM : fd;
}

/* A page made by page_file(), or NULL. */
static void *page_map(int fd, size_t size)
{
	void *at =
		fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* ---- GPUs and vGPUs -------------------------------------------------------------------------- */

void gpu_free(struct live_gpu *gpu)
{
	if (!gpu)
		return;
	sd_event_source_disable_unref(gpu->timer);
	sched_gpu_destroy(gpu->sched);
	free(gpu);
}

/* One on which nobody is gives its place up: names that were said once do not stay for ever. */
static bool gpu_unused_end(struct arbiter *arbiter)
{
	for (unsigned i = 0; i < arbiter->gpu_count; i++) {
		unsigned vgpus = 0;

		for (unsigned v = 0; v < ARBITER_VGPUS_MAX; v++)
			vgpus += arbiter->gpus[i]->vgpus[v] != NULL;
		if (vgpus)
			continue;
		gpu_free(arbiter->gpus[i]);
		arbiter->gpus[i] = arbiter->gpus[--arbiter->gpu_count];
		return true;
	}
	return false;
}

static struct live_gpu *gpu_find(struct arbiter *arbiter, const char *name, struct error *e)
{
	struct sched_gpu_config config = arbiter->config;
	struct live_gpu *gpu;
	int err;

	for (unsigned i = 0; i < arbiter->gpu_count; i++)
		if (!strcmp(arbiter->gpus[i]->name, name))
			return arbiter->gpus[i];
	if (arbiter->gpu_count == ARBITER_GPUS_MAX && !gpu_unused_end(arbiter)) {
		error_set(e, ENOSPC, "too-many-gpus", NULL, "%u GPUs are the most",
			  ARBITER_GPUS_MAX);
		return NULL;
	}
	gpu = calloc(1, sizeof(*gpu));
	if (!gpu) {
		error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
		return NULL;
	}
	snprintf(gpu->name, sizeof(gpu->name), "%s", name);
	gpu->arbiter = arbiter;
	config.vgpus_max = ARBITER_VGPUS_MAX;
	err = sched_gpu_create(&config, &gpu->sched, e);
	if (!err) {
		err = sd_event_add_time(arbiter->event, &gpu->timer, CLOCK_MONOTONIC, UINT64_MAX, 1,
					turns_on_timer, gpu);
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "timer: %s", strerror(-err));
	}
	if (err < 0) {
		gpu_free(gpu);
		return NULL;
	}
	sd_event_source_set_enabled(gpu->timer, SD_EVENT_OFF);
	arbiter->gpus[arbiter->gpu_count++] = gpu;
	return gpu;
}

static void config_read(const struct live_message *message, struct sched_vgpu_config *config)
{
	config->policy = (enum sched_policy)message->policy;
	config->weight = message->weight;
	config->share_ppm = message->share_ppm;
	config->elastic_ppm = message->elastic_ppm;
	config->credit_max_ns = message->credit_max_ns;
	config->surplus_max_ns = message->surplus_max_ns;
}

static void vgpu_free(struct live_vgpu *vgpu)
{
	if (vgpu->page)
		munmap(vgpu->page, sizeof(*vgpu->page));
	fd_close(&vgpu->page_fd);
	free(vgpu);
}

int vgpu_create(struct client *client, const struct live_message *message, struct error *e)
{
	struct arbiter *arbiter = client->arbiter;
	struct live_message reply = { .type = LIVE_CREATED, .version = LIVE_VERSION };
	struct live_vgpu *vgpu = calloc(1, sizeof(*vgpu));
	struct sched_account account = { 0 };
	int err;

	if (!vgpu)
		return error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
	memcpy(vgpu->name, message->name, sizeof(vgpu->name) - 1);
	vgpu->memory_quota = message->memory_quota;
	vgpu->page_fd = -1;
	config_read(message, &vgpu->config);
	account.identity = vgpu->config.identity = arbiter->next_identity++;
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		account.engines[i].credit_ns =
			(int64_t)MIN(message->credit_ns, (uint64_t)INT64_MAX);
	vgpu->gpu = gpu_find(arbiter, message->gpu, e);
	if (!vgpu->gpu) {
		err = e && e->err ? -e->err : -EINVAL;
		goto failed;
	}
	if (getrandom(vgpu->token, sizeof(vgpu->token), 0) != sizeof(vgpu->token)) {
		err = error_set(e, EIO, "no-random", NULL, "getrandom: %s", strerror(errno));
		goto failed;
	}
	vgpu->page_fd = page_file("divvy-vgpu", sizeof(struct live_vgpu_page));
	vgpu->page = page_map(vgpu->page_fd, sizeof(*vgpu->page));
	if (!vgpu->page) {
		err = error_set(e, ENOMEM, "no-memory", NULL, "no memory for a page");
		goto failed;
	}
	err = sched_vgpu_join(vgpu->gpu->sched, monotonic_ns(), &vgpu->config,
			      vgpu->config.policy == SCHED_BURST ? &account : NULL, &vgpu->index,
			      e);
	if (err)
		goto failed;
	vgpu->gpu->vgpus[vgpu->index] = vgpu;
	vgpu->owner = client;
	client->vgpu = vgpu;
	memcpy(reply.token, vgpu->token, sizeof(reply.token));
	return client_answer(client, &reply, NULL, 0);
failed:
	vgpu_free(vgpu);
	return err;
}

static int vgpu_configure(struct client *client, struct live_vgpu *vgpu,
			  const struct sched_vgpu_config *config, struct error *e)
{
	const struct live_message reply = { .type = LIVE_CREATED, .version = LIVE_VERSION };
	int err = sched_vgpu_change(vgpu->gpu->sched, monotonic_ns(), vgpu->index, config, e);

	if (err)
		return err;
	vgpu->config = *config;
	turns_changed(vgpu->gpu);
	return client_answer(client, &reply, NULL, 0);
}

int vgpu_change(struct client *client, const struct live_message *message, struct error *e)
{
	struct sched_vgpu_config config = client->vgpu->config;

	config_read(message, &config);
	return vgpu_configure(client, client->vgpu, &config, e);
}

/* Names are for people and may be had twice: then it is nobody's. */
static struct live_vgpu *vgpu_named(const struct arbiter *arbiter, const char *name, bool *several)
{
	struct live_vgpu *found = NULL;

	*several = false;
	for (unsigned g = 0; g < arbiter->gpu_count; g++)
		for (unsigned i = 0; i < ARBITER_VGPUS_MAX; i++) {
			struct live_vgpu *vgpu = arbiter->gpus[g]->vgpus[i];

			if (!vgpu || strncmp(vgpu->name, name, LIVE_NAME_SIZE) != 0)
				continue;
			*several |= found != NULL;
			found = vgpu;
		}
	return found;
}

int vgpu_reweigh(struct client *client, const struct live_message *message, struct error *e)
{
	struct sched_vgpu_config config;
	struct live_vgpu *vgpu;
	bool several;

	vgpu = vgpu_named(client->arbiter, message->name, &several);
	if (!vgpu || several)
		return error_set(e, vgpu ? EBUSY : ENOENT, "no-such-vgpu", NULL,
				 "%s vGPU is called %s", vgpu ? "more than one" : "no",
				 message->name);
	config = vgpu->config;
	if (config.policy != SCHED_WEIGHTED && config.policy != SCHED_BURST)
		return error_set(e, EINVAL, "vgpu-policy", NULL,
				 "%s: a weight means nothing under the policy %s", vgpu->name,
				 sched_policy_name(config.policy));
	config.weight = message->weight;
	return vgpu_configure(client, vgpu, &config, e);
}

void vgpu_end(struct live_vgpu *vgpu)
{
	struct arbiter *arbiter = vgpu->gpu->arbiter;

	/* Its workers have lost it: no registration, no GPU. client_end() moves the last one to this place. */
	for (unsigned i = arbiter->client_count; i--;)
		if (arbiter->clients[i]->vgpu == vgpu && arbiter->clients[i] != vgpu->owner)
			client_end(arbiter->clients[i], NULL);
	sched_vgpu_leave(vgpu->gpu->sched, monotonic_ns(), vgpu->index, NULL);
	vgpu->gpu->vgpus[vgpu->index] = NULL;
	turns_changed(vgpu->gpu);
	vgpu_free(vgpu);
}

/* ---- workers --------------------------------------------------------------------------------- */

/* All tokens are compared to their end: how long it takes says nothing. */
struct live_vgpu *vgpu_of_token(struct arbiter *arbiter, const uint8_t token[LIVE_TOKEN_SIZE])
{
	struct live_vgpu *found = NULL;

	for (unsigned g = 0; g < arbiter->gpu_count; g++)
		for (unsigned i = 0; i < ARBITER_VGPUS_MAX; i++) {
			struct live_vgpu *vgpu = arbiter->gpus[g]->vgpus[i];
			uint8_t different = 0;

			for (unsigned b = 0; vgpu && b < LIVE_TOKEN_SIZE; b++)
				different |= vgpu->token[b] ^ token[b];
			if (vgpu && !different)
				found = vgpu;
		}
	return found;
}

int worker_register(struct client *client, const struct live_message *message, struct error *e)
{
	struct live_message reply = { .type = LIVE_REGISTERED, .version = LIVE_VERSION };
	struct live_vgpu *vgpu = vgpu_of_token(client->arbiter, message->token);
	int fds[LIVE_DESCRIPTORS_MAX], err;

	if (!vgpu)
		return error_set(e, EACCES, "no-such-vgpu", NULL, "no vGPU has that token");
	if (vgpu->workers >= ARBITER_WORKERS_MAX)
		return error_set(e, EUSERS, "too-many-workers", NULL,
				 "%s has %u Vulkan instances and devices, and may have no more",
				 vgpu->name, ARBITER_WORKERS_MAX);
	fds[0] = page_file("divvy-turns", sizeof(*client->page));
	fds[1] = vgpu->page_fd;
	client->page = page_map(fds[0], sizeof(*client->page));
	if (!client->page) {
		err = error_set(e, ENOMEM, "no-memory", NULL, "no memory for a page");
	} else {
		client->vgpu = vgpu;
		vgpu->workers++;
		vgpu->workers_ever++;
		reply.memory_quota = vgpu->memory_quota;
		memcpy(reply.gpu, vgpu->gpu->name, sizeof(reply.gpu));
		memcpy(reply.name, vgpu->name, sizeof(reply.name));
		err = client_answer(client, &reply, fds, LIVE_DESCRIPTORS_MAX);
	}
	fd_close(&fds[0]);
	return err;
}

/*
 * The vGPU's total is less by what the worker's page says, but not less than what the others' pages say, and nothing when it was the last. So a
 * page of lies, or a death between two additions, spoils the count of that vGPU only, and only until its last worker goes.
 */
static void memory_return(struct client *client)
{
	struct arbiter *arbiter = client->arbiter;
	struct live_vgpu *vgpu = client->vgpu;
	const uint64_t mine = atomic_load(&client->page->memory_used);
	uint64_t others = 0, total = atomic_load(&vgpu->page->memory_used);

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		struct client *other = arbiter->clients[i];

		if (other != client && other->page && other->vgpu == vgpu) {
			const uint64_t its = atomic_load(&other->page->memory_used);

			others += MIN(its, UINT64_MAX - others);
		}
	}
	if (!vgpu->workers) {
		atomic_store(&vgpu->page->memory_used, 0);
		return;
	}
	for (unsigned i = 0; i < TRIES; i++)
		if (atomic_compare_exchange_weak(&vgpu->page->memory_used, &total,
						 MAX(total - MIN(mine, total), others)))
			return;
	/* Somebody writes there without a pause. */
	atomic_store(&vgpu->page->memory_used, others);
}

void worker_end(struct client *client)
{
	client->vgpu->workers--;
	memory_return(client);
	munmap(client->page, sizeof(*client->page));
	client->page = NULL;
}
