// SPDX-License-Identifier: Apache-2.0
/*
 * A served device's memory for a client that cannot map it (stock QEMU): the server is the mapper itself. What the device wants shown is
 * mapped here, and the client's reads and writes of the region are answered from there.
 *
 * Each access of the guest is then a message: enough to drive a device through its memory, far too slow to work with. Aligned
 * accesses of up to eight bytes are single ones, as a guest expects of memory that another processor looks at.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mdev/server/server.h"

/* The area that holds all of it, or NULL; the lock is held. */
static struct server_area *find(struct mdev_server *server, uint32_t region, uint64_t offset,
				uint64_t size)
{
	for (unsigned i = 0; i < server->area_count; i++) {
		struct server_area *area = &server->areas[i];

		if (area->region == region && offset >= area->offset && size <= area->size &&
		    offset - area->offset <= area->size - size)
			return area;
	}
	return NULL;
}

static bool overlaps(const struct mdev_server *server, const struct vfio_region_map *map)
{
	for (unsigned i = 0; i < server->area_count; i++) {
		const struct server_area *area = &server->areas[i];

		if (area->region == map->index && map->offset < area->offset + area->size &&
		    area->offset < map->offset + map->size)
			return true;
	}
	return false;
}

/* Beyond its end there would be no memory, but SIGBUS. */
static bool is_long_enough(int fd, uint64_t offset, uint64_t size)
{
	const off_t end = lseek(fd, 0, SEEK_END);

	return end >= 0 && offset <= (uint64_t)end && size <= (uint64_t)end - offset;
}

static int map(void *opaque, const struct vfio_region_map *asked, vfio_mapped done, void *token)
{
	struct mdev_server *server = opaque;
	int err = server_place_check(server, asked->index, asked->offset, asked->size);
	void *at;

	if (err)
		return err;
	if (!is_long_enough(asked->fd, asked->fd_offset, asked->size))
		return -EFBIG;
	at = mmap(NULL, asked->size, PROT_READ | PROT_WRITE, MAP_SHARED, asked->fd,
		  (off_t)asked->fd_offset);
	if (at == MAP_FAILED)
		return -errno;
	pthread_mutex_lock(&server->lock);
	if (!server->traps)
		err = -ENOTCONN;
	else if (overlaps(server, asked))
		err = -EEXIST;
	else if (server->area_count == SERVER_AREAS_MAX)
		err = -ENOSPC;
	else
		server->areas[server->area_count++] =
			(struct server_area){ asked->index, asked->offset, asked->size, at };
	pthread_mutex_unlock(&server->lock);
	if (err)
		munmap(at, asked->size);
	return err;
}

static int unmap(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		 void *token)
{
	struct mdev_server *server = opaque;
	struct server_area *area, gone = { 0 };

	pthread_mutex_lock(&server->lock);
	area = find(server, index, offset, size);
	if (area && area->offset == offset && area->size == size) {
		gone = *area;
		*area = server->areas[--server->area_count];
	}
	pthread_mutex_unlock(&server->lock);
	if (!gone.at)
		return -ENOENT;
	munmap(gone.at, gone.size);
	return 0;
}

static const struct vfio_mapper mapper = { .map = map, .unmap = unmap };

void server_trap_begin(struct mdev_server *server)
{
	pthread_mutex_lock(&server->lock);
	server->traps = true;
	pthread_mutex_unlock(&server->lock);
	server->device->ops->set_mapper(server->device, &mapper, server);
}

void server_trap_end(struct mdev_server *server)
{
	if (!server->traps)
		return;
	pthread_mutex_lock(&server->lock);
	server->traps = false;
	pthread_mutex_unlock(&server->lock);
	server->device->ops->set_mapper(server->device, NULL, NULL);
	while (server->area_count) {
		const struct server_area *area = &server->areas[--server->area_count];

		munmap(area->at, area->size);
	}
}

#define ONCE(type)                                                                      \
	do {                                                                            \
		if (write)                                                              \
			__atomic_store((type *)memory, (type *)data, __ATOMIC_SEQ_CST); \
		else                                                                    \
			__atomic_load((type *)memory, (type *)data, __ATOMIC_SEQ_CST);  \
	} while (0)

static void access_memory(uint8_t *memory, uint8_t *data, size_t count, bool write)
{
	_Alignas(uint64_t) uint8_t aligned[sizeof(uint64_t)];
	uint8_t *to = data;

	if (count > sizeof(aligned) || (count & (count - 1)) || (uintptr_t)memory % count) {
		memcpy(write ? memory : data, write ? data : memory, count);
		return;
	}
	/* A message's bytes lie anywhere. */
	memcpy(aligned, to, count);
	data = aligned;
	switch (count) {
	case 1:
		ONCE(uint8_t);
		break;
	case 2:
		ONCE(uint16_t);
		break;
	case 4:
		ONCE(uint32_t);
		break;
	default:
		ONCE(uint64_t);
		break;
	}
	memcpy(to, aligned, count);
}

bool server_trap_access(struct mdev_server *server, uint32_t region, uint64_t offset, void *data,
			size_t count, bool write)
{
	struct server_area *area;

	if (!server->traps)
		return false;
	pthread_mutex_lock(&server->lock);
	area = find(server, region, offset, count);
	if (area)
		access_memory((uint8_t *)area->at + (offset - area->offset), data, count, write);
	pthread_mutex_unlock(&server->lock);
	return area;
}
