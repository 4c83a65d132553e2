// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that a vfio-user server wants the guest to see through a region of its device: what it asks is
 * judged here, and whoever set himself as the device's mapper shows it (struct vfio_mapper).
 *
 * The one extension of ours to the protocol (docs/mdev.md). A message of a shape that cannot be ends the
 * connection like any other; a map that is only not possible is refused, and the server goes on.
 */
#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vfio/user_client.h"

/*
 * Only memory: behind another kind of file somebody may let a vCPU wait for ever for a page. All of it
 * must be there, which the last page is as a whole (drivers round memory up to pages, and not their files);
 * a server that cuts it short later ends its VM, as with its regions' files.
 */
static int file_check(int fd, uint64_t offset, uint64_t size)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	struct statfs fs;
	struct stat st;
	uint64_t end;

	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC && fs.f_type != DMA_BUF_MAGIC)
		return -EACCES;
	if (fs.f_type != DMA_BUF_MAGIC && !S_ISREG(st.st_mode))
		return -EACCES;
	end = ALIGN_UP((uint64_t)MAX(st.st_size, 0), page_size);
	if (offset > end || size > end - offset)
		return -EFBIG;
	return 0;
}

static int place_check(const struct user_device *user, const struct user_region_map *map)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	const struct vfio_region *region;

	/* Of BARs only: config space and ROM are never memory. */
	if (map->region >= MIN(user->device.region_count, (uint32_t)VFIO_PCI_ROM_REGION_INDEX))
		return -EINVAL;
	if (!map->size || (map->offset | map->size | map->file_offset) & (page_size - 1))
		return -EINVAL;
	region = &user->regions[map->region].region;
	if (map->offset >= region->size || map->size > region->size - map->offset)
		return -EINVAL;
	return 0;
}

static int pass_on(struct user_device *user, const struct user_region_map *map, int fd)
{
	const struct vfio_region_map asked = {
		.index = map->region,
		.offset = map->offset,
		.size = map->size,
		.fd = fd,
		.fd_offset = map->file_offset,
	};
	int result = -EOPNOTSUPP;

	pthread_mutex_lock(&user->map.lock);
	if (user->map.mapper && fd >= 0)
		result = user->map.mapper->map(user->map.opaque, &asked, NULL, NULL);
	else if (user->map.mapper)
		result = user->map.mapper->unmap(user->map.opaque, map->region, map->offset,
						 map->size, NULL, NULL);
	pthread_mutex_unlock(&user->map.lock);
	return result;
}

const char *user_map_serve(struct user_client *client, struct user_message *message, int *result)
{
	struct user_device *user = container_of(client, struct user_device, client);
	const bool to_map = message->header.command == USER_DIVVY_REGION_MAP;
	struct user_region_map map;

	if (message->payload_size != sizeof(map))
		return "the server's request for a map has another size than it must have";
	if (message->fd_count != to_map)
		return to_map ? "the server's request for a map has not one file"
			      : "the server sent file descriptors where none belong";
	memcpy(&map, message->payload, sizeof(map));
	if (map.argsz != sizeof(map) || map.flags || map.reserved || (!to_map && map.file_offset))
		return "the server's request for a map says what it cannot say";
	*result = place_check(user, &map);
	if (!*result && to_map)
		*result = file_check(message->fds[0], map.file_offset, map.size);
	if (!*result)
		*result = pass_on(user, &map, to_map ? message->fds[0] : -1);
	if (*result)
		log_limited(LOG_LEVEL_WARN, "%s: region %u, 0x%llx + 0x%llx is not %s: %s",
			    client->name, map.region, (unsigned long long)map.offset,
			    (unsigned long long)map.size, to_map ? "mapped" : "unmapped",
			    strerror(-*result));
	return NULL;
}
