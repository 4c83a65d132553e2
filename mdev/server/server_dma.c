// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory of a served device: VFIO_USER_DMA_MAP and VFIO_USER_DMA_UNMAP.
 *
 * A range that comes with a file is mapped and told to the device. Only memory is mapped, all of which is there
 * and which nobody can cut off any more (F_SEAL_SHRINK): so no client can make this process fault.
 * A range without a file, or for reading only, is accepted (QEMU sends such for ROMs) and the device is not
 * told of it: to it that is no memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mdev/server/server.h"

static int file_check(const struct mdev_server *server, int fd, uint64_t offset, uint64_t size)
{
	struct statfs fs;
	struct stat st;
	int seals;

	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* Behind a file of another kind somebody may let us wait for a page for ever. */
	if (!S_ISREG(st.st_mode) || (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC))
		return -EACCES;
	seals = fcntl(fd, F_GET_SEALS);
	/* One that may still be sealed is; then it is as good. */
	if (seals >= 0 && !(seals & (F_SEAL_SHRINK | F_SEAL_SEAL)) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		seals |= F_SEAL_SHRINK;
	if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
		log_limited(
			LOG_LEVEL_WARN,
			"%s: guest memory in a file that can be cut off is not mapped; it must be "
			"a sealed memfd",
			server->device->name);
		return -EPERM;
	}
	/* Looked at after the seal: from here on it only grows. */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (offset > (uint64_t)st.st_size || size > (uint64_t)st.st_size - offset)
		return -EFBIG;
	return 0;
}

static int map_check(const struct mdev_server *server, const struct user_dma_map *map)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);

	if (map->argsz < sizeof(*map))
		return -EINVAL;
	/* For reading, writing or both. */
	if (!map->flags || map->flags & ~(USER_DMA_MAP_READ | USER_DMA_MAP_WRITE))
		return -EINVAL;
	/* Whole pages, of which there are some, that do not run over the end of the address space. */
	if (!map->size || (map->address | map->size | map->offset) & (page_size - 1))
		return -EINVAL;
	if (map->address + (map->size - 1) < map->address)
		return -EINVAL;
	/* "A command to map over an existing region must be failed with EEXIST." */
	for (unsigned i = 0; i < server->range_count; i++) {
		const struct server_range *range = &server->ranges[i];

		if (map->address <= range->iova + (range->size - 1) &&
		    range->iova <= map->address + (map->size - 1))
			return -EEXIST;
	}
	if (server->range_count == SERVER_RANGES_MAX)
		return -ENOSPC;
	return 0;
}

/* Map the file and tell the device. */
static int map_file(struct mdev_server *server, const struct user_dma_map *map, int fd, void **hva)
{
	struct vfio_device *device = server->device;
	int err = file_check(server, fd, map->offset, map->size);
	void *at;

	if (err)
		return err;
	at = mmap(NULL, map->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		  (off_t)map->offset);
	if (at == MAP_FAILED)
		return -errno;
	err = device->ops->dma_map(device, map->address, map->size, at, fd, map->offset);
	if (err) {
		munmap(at, map->size);
		return err;
	}
	*hva = at;
	return 0;
}

int server_dma_map(struct mdev_server *server, const struct user_message *message)
{
	struct user_dma_map map;
	void *hva = NULL;
	int err;

	memcpy(&map, message->payload, sizeof(map));
	err = map_check(server, &map);
	if (!err && message->fd_count && map.flags & USER_DMA_MAP_WRITE &&
	    server->device->ops->dma_map)
		err = map_file(server, &map, message->fds[0], &hva);
	if (err)
		return err;
	server->ranges[server->range_count++] =
		(struct server_range){ .iova = map.address, .size = map.size, .hva = hva };
	server_reply(server, 0, NULL, 0);
	return 0;
}

/* Take one range back from the device; where it holds on, it stays as it was. */
static int forget(struct mdev_server *server, unsigned at)
{
	struct vfio_device *device = server->device;
	const struct server_range range = server->ranges[at];
	int err = 0;

	if (range.hva)
		err = device->ops->dma_unmap(device, range.iova, range.size);
	if (err)
		return err;
	if (range.hva)
		munmap(range.hva, range.size);
	server->ranges[at] = server->ranges[--server->range_count];
	return 0;
}

static int forget_all(struct mdev_server *server)
{
	int err = 0;

	while (server->range_count && !err)
		err = forget(server, server->range_count - 1);
	return err;
}

int server_dma_unmap(struct mdev_server *server, const struct user_message *message)
{
	struct user_dma_unmap unmap;
	unsigned at = 0;
	int err;

	memcpy(&unmap, message->payload, sizeof(unmap));
	if (unmap.argsz < sizeof(unmap))
		return -EINVAL;
	/* No bitmap of dirty pages. */
	if (unmap.flags & ~(uint32_t)VFIO_DMA_UNMAP_FLAG_ALL)
		return -EINVAL;
	/* Everything has no address. */
	if (unmap.flags && (unmap.address || unmap.size))
		return -EINVAL;
	while (at < server->range_count &&
	       (server->ranges[at].iova != unmap.address || server->ranges[at].size != unmap.size))
		at++;
	/* "Must match exactly a previous mapping." */
	if (!unmap.flags && at == server->range_count)
		return -ENOENT;
	err = unmap.flags ? forget_all(server) : forget(server, at);
	if (err)
		return err;
	/* "The server responds with the original DMA entry in the request." */
	memcpy(server_payload(server), &unmap, sizeof(unmap));
	server_reply(server, sizeof(unmap), NULL, 0);
	return 0;
}

void server_dma_release(struct mdev_server *server)
{
	if (!forget_all(server))
		return;
	/* What a device holds on to must stay mapped, or it would touch what is not there. */
	log_error("%s: the device keeps %u ranges of a client that is gone", server->device->name,
		  server->range_count);
	server->range_count = 0;
}
