// SPDX-License-Identifier: Apache-2.0
/*
 * A served device's memory for a client that cannot map it (stock QEMU): the server is the mapper itself. What the device wants shown is
 * mapped here, and the client's reads and writes of the region are answered from there.
 *
 * Each access of the guest is then a message: enough to drive a device through its memory, far too slow to work with. Aligned
 * accesses of up to eight bytes are single ones, as a guest expects of memory that another processor looks at.
 *
 * An atomic instruction of the guest's is two, a read and a write: no hypervisor can do it in memory that it does not have. What the
 * other side changes in between would be undone. In a Venus ring's status that is the bit which says that the renderer sleeps;
 * nobody would wake it any more. So in memory where both sides change bits (vfio_region_map.is_atomic) a write to a word that the client
 * has just read changes those bits that differ from what it read, and no others. That is right for and, or, xor, and a comparison that
 * failed. Sums and exchanges that both sides make of the same word at once look the same, and stay wrong; Venus has none.
 *
 * And a client's writes come late: nobody waits for them, while what the guest says through its queues is seen at once. Venus clears a new
 * ring and has it started then; when the zeros arrive, a renderer that had nothing to do may sleep already, and its bit would be gone.
 * So zeros that are written to such memory when it was zero anyway, before anything else was done there, change nothing.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mdev/server/server.h"

#define CHANGE_TRIES 64 /* that another writer of the word may win */

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

/* Beyond its end there would be no memory, but SIGBUS. The last page is there as a whole: drivers round memory up, and not their files. */
static bool is_long_enough(int fd, uint64_t offset, uint64_t size)
{
	const off_t last = lseek(fd, 0, SEEK_END);
	const uint64_t end = ALIGN_UP((uint64_t)MAX(last, 0), (uint64_t)sysconf(_SC_PAGESIZE));

	return offset <= end && size <= end - offset;
}

/* A file without data there has zeros. (One that cannot tell says that all of it is data.) */
static bool is_zero(int fd, uint64_t offset, uint64_t size)
{
	const off_t data = lseek(fd, (off_t)offset, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data - offset >= size;
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
			(struct server_area){ .region = asked->index,
					      .offset = asked->offset,
					      .size = asked->size,
					      .at = at,
					      .is_atomic = asked->is_atomic,
					      .is_fresh = asked->is_atomic &&
							  is_zero(asked->fd, asked->fd_offset,
								  asked->size) };
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
		/* What was read there says nothing of what comes there next. */
		memset(server->recent, 0, sizeof(server->recent));
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
	memset(server->recent, 0, sizeof(server->recent));
}

static bool is_word(const uint8_t *memory, size_t count)
{
	return count <= sizeof(uint64_t) && !(count & (count - 1)) && !((uintptr_t)memory % count);
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

	if (!is_word(memory, count)) {
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

/* ---- words that both sides change ------------------------------------------------------------ */

/* What the client has read there since anything was written there, and not long ago; or NULL. */
static const struct server_recent *just_read(const struct mdev_server *server, uint32_t region,
					     uint64_t offset, size_t count)
{
	for (unsigned i = 1; i <= SERVER_RECENT_MAX; i++) {
		const struct server_recent *access =
			&server->recent[(server->recent_next - i) % SERVER_RECENT_MAX];

		if (access->region == region && access->offset < offset + count &&
		    offset < access->offset + access->size)
			return access->is_read && access->offset == offset && access->size == count
				       ? access
				       : NULL;
	}
	return NULL;
}

/* Write @value over a word that was @read: only the bits that differ. */
static void change_bits(uint8_t *memory, size_t count, uint64_t read, uint64_t value)
{
	const size_t at = (uintptr_t)memory % sizeof(uint64_t);
	uint64_t *whole = (uint64_t *)(memory - at);
	uint64_t now = __atomic_load_n(whole, __ATOMIC_SEQ_CST), changed = 0, bits = 0;

	read ^= value;
	memcpy((uint8_t *)&changed + at, &read, count);
	memcpy((uint8_t *)&bits + at, &value, count);
	for (unsigned try = 0; try < CHANGE_TRIES; try++)
		if (__atomic_compare_exchange_n(whole, &now, (now & ~changed) | (bits & changed),
						false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return;
	access_memory(memory, (uint8_t *)&value, count, true);
}

static void access_atomic(struct mdev_server *server, const struct server_recent *access,
			  uint8_t *memory, uint8_t *data, bool write)
{
	const bool word = is_word(memory, access->size);
	const struct server_recent *last =
		write && word ? just_read(server, access->region, access->offset, access->size)
			      : NULL;
	struct server_recent *kept;
	uint64_t value = 0;

	if (last) {
		memcpy(&value, data, access->size);
		change_bits(memory, access->size, last->value, value);
	} else {
		access_memory(memory, data, access->size, write);
	}
	kept = &server->recent[server->recent_next++ % SERVER_RECENT_MAX];
	*kept = *access;
	kept->is_read = word && !write;
	if (kept->is_read)
		memcpy(&kept->value, data, access->size);
}

/* Zeros over the zeros of new memory. Anything else ends its being new. */
static bool clears_fresh(struct server_area *area, const uint8_t *data, size_t count, bool write)
{
	area->is_fresh = area->is_fresh && write && !data[0] && !memcmp(data, data + 1, count - 1);
	return area->is_fresh;
}

bool server_trap_access(struct mdev_server *server, uint32_t region, uint64_t offset, void *data,
			size_t count, bool write)
{
	const struct server_recent access = { .region = region, .offset = offset, .size = count };
	struct server_area *area;
	uint8_t *memory;

	if (!server->traps)
		return false;
	pthread_mutex_lock(&server->lock);
	area = find(server, region, offset, count);
	if (area) {
		memory = (uint8_t *)area->at + (offset - area->offset);
		if (!area->is_atomic)
			access_memory(memory, data, count, write);
		else if (!clears_fresh(area, data, count, write))
			access_atomic(server, &access, memory, data, write);
	}
	pthread_mutex_unlock(&server->lock);
	return area;
}
