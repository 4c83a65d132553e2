/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_venus: stands in for mdev/gpu/venus.c at link time (defining its functions keeps the library's object
 * out): a renderer that does what it is told when it is told, and says what the device may not ask of virglrenderer.
 *
 * What would harm virglrenderer is counted in fake.wrong: contexts and resources that are not there, or twice, sizes
 * that are none, a kind of memory attached that cannot be.
 */
#ifndef TESTS_FAKE_VENUS_H
#define TESTS_FAKE_VENUS_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mdev/gpu/venus.h"

#define FAKE_DMABUF	   1 /* VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF */
#define FAKE_RESOURCES_MAX 16384
#define FAKE_FENCES_MAX	   1024

struct venus {
	int wake_fd;
};

static struct fake {
	pthread_mutex_t lock;
	struct venus venus;
	bool by_hand; /* calls wait for fake_complete(), fences for fake_retire() */
	int ret;      /* of calls that are not by hand */
	uint32_t fd_type;
	unsigned wrong, calls, resets, kills;

	struct venus_call *call;
	struct venus_news news;
	uint64_t fences[FAKE_FENCES_MAX]; /* asked for and not retired */
	unsigned fence_count;

	uint32_t contexts[64];
	struct fake_resource {
		uint32_t id, fd_type;
	} resources[FAKE_RESOURCES_MAX];
	unsigned resource_count;
} fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .venus.wake_fd = -1 };

/* ---- what is there -------------------------------------------------------------------------- */

static inline uint32_t *fake_context(uint32_t id)
{
	for (unsigned i = 0; i < 64; i++)
		if (fake.contexts[i] == id)
			return &fake.contexts[i];
	return NULL;
}

static inline struct fake_resource *fake_resource(uint32_t id)
{
	for (unsigned i = 0; i < fake.resource_count; i++)
		if (fake.resources[i].id == id)
			return &fake.resources[i];
	return NULL;
}

/* Whether virglrenderer could be asked this. */
static inline bool fake_may(const struct venus_call *call)
{
	const bool has_context = call->context && fake_context(call->context);
	const struct fake_resource *resource = fake_resource(call->resource);

	switch (call->op) {
	case VENUS_CONTEXT_CREATE:
		return call->context && !has_context && fake_context(0);
	case VENUS_CONTEXT_DESTROY:
		return has_context;
	case VENUS_SUBMIT:
		return has_context && call->size % 4 == 0 && call->size <= 64 * KIB &&
		       (!call->fence || call->ring < 64);
	case VENUS_BLOB_CREATE:
		return has_context && call->resource && !resource && call->size &&
		       call->size % 4096 == 0;
	case VENUS_ATTACH:
		return has_context && resource && resource->fd_type == FAKE_DMABUF;
	case VENUS_DETACH:
		return has_context && resource;
	default:
		return resource && call->size <= 1024 * GIB;
	}
}

static inline void fake_forget(uint32_t id)
{
	struct fake_resource *resource = fake_resource(id);

	if (resource)
		*resource = fake.resources[--fake.resource_count];
}

/* Do it, with the lock held. */
static inline void fake_do(struct venus_call *call, int ret)
{
	call->ret = ret;
	if (call->op == VENUS_UNREF)
		fake_forget(call->resource);
	if (call->op == VENUS_CONTEXT_DESTROY && fake_context(call->context))
		*fake_context(call->context) = 0;
	if (ret)
		return;
	if (call->op == VENUS_CONTEXT_CREATE && fake_context(0))
		*fake_context(0) = call->context;
	if (call->op == VENUS_BLOB_CREATE && fake.resource_count < FAKE_RESOURCES_MAX) {
		call->fd_type = fake.fd_type;
		fake.resources[fake.resource_count++] =
			(struct fake_resource){ call->resource, fake.fd_type };
	}
	if (call->op == VENUS_EXPORT) {
		/* As long as was asked; nothing of it is backed until it is touched. */
		call->fd = memfd_create("fake-blob", MFD_CLOEXEC);
		if (call->fd < 0 || ftruncate(call->fd, (off_t)(call->size + 8192)))
			call->ret = -EIO;
		call->fd_offset = 4096;
		call->caching = 1;
	}
	if (call->fence && fake.fence_count < FAKE_FENCES_MAX)
		fake.fences[fake.fence_count++] = call->fence_id;
}

static inline void fake_tell(void)
{
	eventfd_write(fake.venus.wake_fd, 1);
}

/* ---- by hand -------------------------------------------------------------------------------- */

/* Let the call that waits be done, with @ret. Returns whether there was one. */
static inline bool fake_complete(int ret)
{
	bool was = false;

	pthread_mutex_lock(&fake.lock);
	if (fake.call) {
		fake_do(fake.call, ret);
		fake.call = NULL;
		fake.news.done = was = true;
		fake_tell();
	}
	pthread_mutex_unlock(&fake.lock);
	return was;
}

/* Retire the fence that was asked for as number @index. */
static inline bool fake_retire(unsigned index)
{
	bool was = false;

	pthread_mutex_lock(&fake.lock);
	if (index < fake.fence_count && fake.news.retired_count < VENUS_NEWS_MAX) {
		fake.news.retired[fake.news.retired_count++] = fake.fences[index];
		memmove(&fake.fences[index], &fake.fences[index + 1],
			(--fake.fence_count - index) * sizeof(fake.fences[0]));
		was = true;
		fake_tell();
	}
	pthread_mutex_unlock(&fake.lock);
	return was;
}

static inline void fake_lose(uint32_t context)
{
	pthread_mutex_lock(&fake.lock);
	if (fake.news.lost_count < VENUS_NEWS_MAX) {
		fake.news.lost[fake.news.lost_count++] = context;
		fake_tell();
	}
	pthread_mutex_unlock(&fake.lock);
}

static inline void fake_lose_server(void)
{
	pthread_mutex_lock(&fake.lock);
	fake.news.server_lost = true;
	fake_tell();
	pthread_mutex_unlock(&fake.lock);
}

/* ---- mdev/gpu/venus.h ----------------------------------------------------------------------- */

int venus_create(const struct virtio_gpu_venus_config *config, const char *name, struct venus **out,
		 struct error *e)
{
	fake.venus.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*out = &fake.venus;
	return fake.venus.wake_fd < 0 ? -EMFILE : 0;
}

int venus_wake_fd(const struct venus *venus)
{
	return venus->wake_fd;
}

int venus_start(struct venus *venus, struct error *e)
{
	return 0;
}

void venus_destroy(struct venus *venus)
{
	if (venus)
		fd_close(&venus->wake_fd);
}

const void *venus_capset(const struct venus *venus, uint32_t *version, uint32_t *size)
{
	static const uint8_t capset[160] = { 1 };

	*version = 0;
	*size = sizeof(capset);
	return capset;
}

void venus_post(struct venus *venus, struct venus_call *call)
{
	pthread_mutex_lock(&fake.lock);
	fake.calls++;
	fake.wrong += !fake_may(call) || fake.call;
	if (fake.by_hand) {
		__atomic_store_n(&fake.call, call, __ATOMIC_RELEASE);
	} else {
		fake_do(call, fake.ret);
		fake.news.done = true;
		while (fake.fence_count && fake.news.retired_count < VENUS_NEWS_MAX)
			fake.news.retired[fake.news.retired_count++] =
				fake.fences[--fake.fence_count];
		fake_tell();
	}
	pthread_mutex_unlock(&fake.lock);
}

void venus_news(struct venus *venus, struct venus_news *news)
{
	eventfd_t count;

	pthread_mutex_lock(&fake.lock);
	eventfd_read(venus->wake_fd, &count);
	*news = fake.news;
	fake.news = (struct venus_news){ 0 };
	pthread_mutex_unlock(&fake.lock);
}

void venus_kill(struct venus *venus)
{
	__atomic_fetch_add(&fake.kills, 1, __ATOMIC_RELAXED);
	fake_complete(-EIO);
}

void venus_reset(struct venus *venus)
{
	pthread_mutex_lock(&fake.lock);
	fake.call = NULL;
	fake.news = (struct venus_news){ 0 };
	fake.fence_count = fake.resource_count = 0;
	memset(fake.contexts, 0, sizeof(fake.contexts));
	fake.resets++;
	pthread_mutex_unlock(&fake.lock);
}

#endif
