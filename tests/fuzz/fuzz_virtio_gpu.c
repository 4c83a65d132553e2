// SPDX-License-Identifier: Apache-2.0
/*
 * A guest against the vGPU: every command with fields of the input's choice and of sizes that are nearly right, heads,
 * cursor, blobs, contexts, the window, memory that goes away, changes under the reader and comes back, resets in the
 * middle. Behind it stands a fake renderer (tests/unit/fake_venus.h) whose calls are done, fail or are lost when
 * the input says so, and a mapper that answers at once, later or not.
 *
 * Checked beside the sanitizers: guest memory lies between pages that fault; virglrenderer is asked nothing that would harm
 * it; the mapper is asked for nothing outside the window or twice; after a reset nothing is shown, mapped or
 * held, and no descriptor is left.
 *
 * Input: whether memory changes by itself (bit 7) and rings are packed (bit 6), then steps: an opcode and its operands.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>

#include "mdev/gpu/gpu.h"
#include "tests/fuzz/input.h"
#include "tests/unit/fake_venus.h"

#define BASE	   UINT64_C(0x100000)
#define SIZE	   UINT64_C(0x20000)
#define HALF	   (SIZE / 2)
#define PAGE	   0x1000u
#define WINDOW	   (4 * MIB)
#define STEPS_MAX  256
#define QUEUE_SIZE 16u
#define QUEUE_STEP 0x1000u
#define REQUEST	   0x4000u /* where requests lie; answers a page later */
#define SPIN_MAX   2000
#define SHOWN_MAX  1024
#define LATER_MAX  64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vfio_device *device;
static struct gpu *gpu;
static uint8_t *memory;
static int memory_fd;
static uint16_t added[2];
static bool packed; /* then descriptors are counted there, not chains */

static void check(bool good)
{
	if (!good)
		abort();
}

/* ---- the mapper ----------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	uint8_t mood; /* bit 0: later; bit 1: refuses */
	struct {
		uint64_t offset, size;
	} shown[SHOWN_MAX];
	unsigned shown_count, later_count;
	struct {
		vfio_mapped done;
		void *token;
	} later[LATER_MAX];
} shower = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int outcome(vfio_mapped done, void *token)
{
	if (!(shower.mood & 1) || !done)
		return 0;
	if (shower.later_count == LATER_MAX)
		return -ENOSPC;
	shower.later[shower.later_count].done = done;
	shower.later[shower.later_count++].token = token;
	return -EINPROGRESS;
}

static int show(void *opaque, const struct vfio_region_map *map, vfio_mapped done, void *token)
{
	int ret = 0;

	pthread_mutex_lock(&shower.lock);
	check(map->index == VIRTIO_BAR_WINDOW && map->size && !((map->offset | map->size) % PAGE) &&
	      map->offset < WINDOW && map->size <= WINDOW - map->offset && map->fd >= 0);
	for (unsigned i = 0; i < shower.shown_count; i++)
		check(map->offset >= shower.shown[i].offset + shower.shown[i].size ||
		      shower.shown[i].offset >= map->offset + map->size);
	if (shower.mood & 2) {
		ret = -ENOSPC;
	} else {
		ret = outcome(done, token);
		check(shower.shown_count < SHOWN_MAX);
		shower.shown[shower.shown_count].offset = map->offset;
		shower.shown[shower.shown_count++].size = map->size;
	}
	pthread_mutex_unlock(&shower.lock);
	return ret;
}

static int hide(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		void *token)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&shower.lock);
	for (unsigned i = 0; i < shower.shown_count; i++)
		if (shower.shown[i].offset == offset && shower.shown[i].size == size) {
			ret = outcome(done, token);
			if (ret != -ENOSPC)
				shower.shown[i] = shower.shown[--shower.shown_count];
			break;
		}
	check(ret != -ENOENT);
	pthread_mutex_unlock(&shower.lock);
	return ret;
}

static const struct vfio_mapper mapper = { .map = show, .unmap = hide };

static void answer(int result)
{
	vfio_mapped done[LATER_MAX];
	void *tokens[LATER_MAX];
	unsigned count;

	pthread_mutex_lock(&shower.lock);
	count = shower.later_count;
	for (unsigned i = 0; i < count; i++) {
		done[i] = shower.later[i].done;
		tokens[i] = shower.later[i].token;
	}
	shower.later_count = 0;
	pthread_mutex_unlock(&shower.lock);
	for (unsigned i = 0; i < count; i++)
		done[i](tokens[i], result);
}

static void set_mapper(bool there)
{
	device->ops->set_mapper(device, NULL, NULL);
	/* What was shown goes with it, and what is owed is answered. */
	pthread_mutex_lock(&shower.lock);
	shower.shown_count = 0;
	pthread_mutex_unlock(&shower.lock);
	answer(-ECONNRESET);
	if (there)
		device->ops->set_mapper(device, &mapper, NULL);
}

/* ---- the machine ---------------------------------------------------------------------------- */

static void map_half(unsigned half)
{
	device->ops->dma_map(device, BASE + half * HALF, HALF, memory + half * HALF, memory_fd,
			     half * HALF);
}

static void on_damage(void *opaque, unsigned head, pixman_image_t *image,
		      const struct virtio_gpu_rectangle *damage)
{
	const uint32_t *pixels = pixman_image_get_data(image);
	const uint32_t stride = (uint32_t)pixman_image_get_stride(image) / 4;
	uint32_t sum = 0;

	check(damage->width && damage->height &&
	      (uint64_t)damage->x + damage->width <= (uint64_t)pixman_image_get_width(image) &&
	      (uint64_t)damage->y + damage->height <= (uint64_t)pixman_image_get_height(image));
	/* Its corners can be read. */
	sum += pixels[(size_t)damage->y * stride + damage->x];
	sum += pixels[(size_t)(damage->y + damage->height - 1) * stride + damage->x +
		      damage->width - 1];
	__asm__ volatile("" : : "r"(sum));
}

static const struct virtio_gpu_display_ops observer = { .damage = on_damage };

static int look(void *opaque, pixman_image_t *image)
{
	struct virtio_gpu_rectangle all = { 0, 0, (uint32_t)pixman_image_get_width(image),
					    (uint32_t)pixman_image_get_height(image) };

	on_damage(NULL, 0, image, &all);
	return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct virtio_gpu_venus_config venus = { 0 };
	static const struct virtio_gpu_config config = { .head_count = 2,
							 .heads = { { 640, 480 }, { 0, 0 } },
							 .window_size = WINDOW,
							 .venus = &venus };
	uint8_t *area = mmap(NULL, SIZE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	log_set_level(LOG_LEVEL_ERROR);
	memory_fd = memfd_create("guest", MFD_CLOEXEC);
	check(area != MAP_FAILED && memory_fd >= 0 && !ftruncate(memory_fd, (off_t)SIZE));
	memory = area + PAGE;
	check(mmap(memory, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory_fd, 0) ==
	      memory);
	check(!virtio_gpu_create(&config, &device, NULL));
	gpu = gpu_of(container_of(device, struct virtio_device, vfio));
	check(!vfio_device_start(device, NULL));
	map_half(0);
	map_half(1);
	return 0;
}

struct changer {
	bool stop;
	const uint8_t *data;
	size_t size;
};

/* A vCPU that writes to rings and requests while they are read. */
static void *change(void *arg)
{
	struct changer *changer = arg;

	for (size_t i = 0; !__atomic_load_n(&changer->stop, __ATOMIC_RELAXED); i++) {
		uint8_t value = changer->data[i % changer->size];

		__atomic_fetch_xor(memory + (i * 7 + value) % (2 * QUEUE_STEP), value,
				   __ATOMIC_RELAXED);
		__atomic_fetch_xor(memory + REQUEST + (i * 5 + value) % 512, value,
				   __ATOMIC_RELAXED);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

static void bar_write(uint64_t offset, unsigned size, uint64_t value)
{
	device->ops->region_write(device, VIRTIO_BAR, offset, &value, size);
}

static uint64_t bar_read(uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	device->ops->region_read(device, VIRTIO_BAR, offset, &value, size);
	return value;
}

/* Until the worker has taken what it was notified of, within reason. */
static void settle(void)
{
	for (unsigned spin = 0; spin < SPIN_MAX; spin++) {
		bool waiting = false;

		for (unsigned i = 0; i < 2; i++) {
			struct pollfd poller = { .fd = gpu->dev.kick_fds[i], .events = POLLIN };

			waiting |= poll(&poller, 1, 0) > 0;
		}
		if (!waiting)
			break;
		sched_yield();
	}
	/* A call that goes through the worker. */
	device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			      VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL);
}

static void start(uint32_t without)
{
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 3);
	bar_write(VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	bar_write(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	bar_write(VIRTIO_PCI_COMMON_GF, 4, bar_read(VIRTIO_PCI_COMMON_DF, 4) & ~without);
	bar_write(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bar_write(VIRTIO_PCI_COMMON_GF, 4,
		  UINT32_C(1) << (VIRTIO_F_VERSION_1 - 32) |
			  (uint32_t)packed << (VIRTIO_F_RING_PACKED - 32));
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 11);
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t ring = BASE + i * QUEUE_STEP;

		added[i] = 0;
		memset(memory + i * QUEUE_STEP, 0, QUEUE_STEP);
		bar_write(VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		bar_write(VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUE_SIZE);
		bar_write(VIRTIO_PCI_COMMON_Q_DESCLO, 8, ring);
		bar_write(VIRTIO_PCI_COMMON_Q_AVAILLO, 8, ring + QUEUE_STEP / 4);
		bar_write(VIRTIO_PCI_COMMON_Q_USEDLO, 8, ring + QUEUE_STEP / 2);
		bar_write(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* Numbers that are likely to be somewhere near what there is, or at a border. */
static uint64_t number(struct input *in, unsigned bytes)
{
	static const uint64_t borders[] = { 0,		1,	    2,
					    3,		4,	    63,
					    64,		65,	    255,
					    256,	4095,	    4096,
					    8192,	16384,	    16385,
					    0x7fffffff, 0x80000000, 0xfffffffc,
					    UINT32_MAX, UINT64_MAX, UINT64_MAX - 4095,
					    0x100000000 };
	uint8_t how = (uint8_t)take(in, 1);

	if (how & 0x80)
		return borders[(how & 0x7f) % ARRAY_SIZE(borders)];
	if (how & 0x40)
		return take(in, bytes);
	return how & 0x3f;
}

static const struct {
	uint16_t type, size;
} bodies[] = {
	{ VIRTIO_GPU_CMD_GET_DISPLAY_INFO, sizeof(struct virtio_gpu_ctrl_hdr) },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, sizeof(struct virtio_gpu_resource_create_2d) },
	{ VIRTIO_GPU_CMD_RESOURCE_UNREF, sizeof(struct virtio_gpu_resource_unref) },
	{ VIRTIO_GPU_CMD_SET_SCANOUT, sizeof(struct virtio_gpu_set_scanout) },
	{ VIRTIO_GPU_CMD_RESOURCE_FLUSH, sizeof(struct virtio_gpu_resource_flush) },
	{ VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, sizeof(struct virtio_gpu_transfer_to_host_2d) },
	{ VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
	  sizeof(struct virtio_gpu_resource_attach_backing) },
	{ VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
	  sizeof(struct virtio_gpu_resource_detach_backing) },
	{ VIRTIO_GPU_CMD_GET_CAPSET_INFO, sizeof(struct virtio_gpu_get_capset_info) },
	{ VIRTIO_GPU_CMD_GET_CAPSET, sizeof(struct virtio_gpu_get_capset) },
	{ VIRTIO_GPU_CMD_GET_EDID, sizeof(struct virtio_gpu_cmd_get_edid) },
	{ VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID, sizeof(struct virtio_gpu_resource_assign_uuid) },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, sizeof(struct virtio_gpu_resource_create_blob) },
	{ VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, sizeof(struct virtio_gpu_set_scanout_blob) },
	{ VIRTIO_GPU_CMD_CTX_CREATE, sizeof(struct virtio_gpu_ctx_create) },
	{ VIRTIO_GPU_CMD_CTX_DESTROY, sizeof(struct virtio_gpu_ctx_destroy) },
	{ VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, sizeof(struct virtio_gpu_ctx_resource) },
	{ VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, sizeof(struct virtio_gpu_ctx_resource) },
	{ VIRTIO_GPU_CMD_SUBMIT_3D, sizeof(struct virtio_gpu_cmd_submit) },
	{ VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB, sizeof(struct virtio_gpu_resource_map_blob) },
	{ VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB, sizeof(struct virtio_gpu_resource_unmap_blob) },
	{ VIRTIO_GPU_CMD_UPDATE_CURSOR, sizeof(struct virtio_gpu_update_cursor) },
	{ VIRTIO_GPU_CMD_MOVE_CURSOR, sizeof(struct virtio_gpu_update_cursor) },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, sizeof(struct virtio_gpu_resource_create_3d) },
};

/* The words of a body; what follows it, if anything. Returns the length of both. */
static uint32_t put_body(struct input *in, unsigned which, uint8_t *at)
{
	union gpu_command_body body = { 0 };
	uint32_t words[sizeof(body) / 4], size = bodies[which].size, more = 0;
	struct virtio_gpu_mem_entry entries[4] = { 0 };
	uint8_t flags = (uint8_t)take(in, 1);

	for (unsigned i = 6; i < size / 4 && i < ARRAY_SIZE(words); i++)
		words[i] = (uint32_t)number(in, 4);
	memcpy((uint8_t *)&body + 24, words + 6, size - MIN(size, 24u));
	body.hdr = (struct virtio_gpu_ctrl_hdr){
		.type = bodies[which].type,
		.flags = flags & 7,
		.fence_id = take(in, 1),
		.ctx_id = flags >> 3 & 3,
		.ring_idx = (uint8_t)(flags >> 5 == 7 ? 200 : flags >> 5),
	};
	if (bodies[which].type == VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING)
		more = body.attach_backing.nr_entries &= 7;
	else if (bodies[which].type == VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB)
		more = body.create_blob.nr_entries &= 7;
	if (bodies[which].type == VIRTIO_GPU_CMD_CTX_CREATE && flags & 0x80)
		body.ctx_create.context_init = VIRTIO_GPU_CAPSET_VENUS;
	memcpy(at, &body, size);
	if (bodies[which].type == VIRTIO_GPU_CMD_SUBMIT_3D)
		return size + (body.submit.size & 0xfff);
	more = MIN(more, (uint32_t)ARRAY_SIZE(entries));
	for (unsigned i = 0; i < more; i++) {
		uint8_t how = (uint8_t)take(in, 1);

		entries[i].addr = how & 0x80 ? number(in, 8) : BASE + take(in, 2) * 2;
		entries[i].length = how & 0x40 ? (uint32_t)number(in, 4) : (uint32_t)take(in, 2);
	}
	memcpy(at + size, entries, more * sizeof(entries[0]));
	return size + (uint32_t)(more * sizeof(entries[0]));
}

/* The chain's last descriptor first, as a driver does. */
static void publish_packed(unsigned queue, const struct vring_desc *chain)
{
	struct vring_packed_desc *ring = (void *)(memory + queue * QUEUE_STEP);
	const unsigned count = chain[0].flags & VRING_DESC_F_NEXT ? 2 : 1;

	for (unsigned i = count; i-- > 0;) {
		const unsigned place = added[queue] + i;
		const struct vring_packed_desc desc = {
			.addr = chain[i].addr,
			.len = chain[i].len,
			.id = (uint16_t)(place % QUEUE_SIZE),
			.flags = (uint16_t)(chain[i].flags |
					    1u << (place / QUEUE_SIZE % 2
							   ? VRING_PACKED_DESC_F_USED
							   : VRING_PACKED_DESC_F_AVAIL)),
		};

		memcpy(&ring[place % QUEUE_SIZE], &desc, sizeof(desc));
	}
	added[queue] = (uint16_t)(added[queue] + count);
}

static void request(struct input *in)
{
	unsigned which = (unsigned)take(in, 1);
	uint8_t shape = (uint8_t)take(in, 1);
	unsigned queue = bodies[which % ARRAY_SIZE(bodies)].type >> 8 == 3;
	struct vring_desc *table = (void *)(memory + queue * QUEUE_STEP);
	struct vring_avail *avail = (void *)(memory + queue * QUEUE_STEP + QUEUE_STEP / 4);
	uint16_t head = (uint16_t)(added[queue] * 2u % QUEUE_SIZE);
	uint64_t at = REQUEST + (shape & 3) * 512u;
	uint32_t size = put_body(in, which % ARRAY_SIZE(bodies), memory + at);
	struct vring_desc chain[2] = {
		{ .addr = BASE + at, .len = size, .flags = VRING_DESC_F_NEXT },
		{ .addr = BASE + REQUEST + 2 * PAGE, .len = 2048, .flags = VRING_DESC_F_WRITE },
	};

	if (shape & 4)
		chain[0].len = (uint32_t)MAX((int64_t)size + (int8_t)take(in, 1), 1);
	if (shape & 8)
		chain[1].len = (uint32_t)MAX(take(in, 1), UINT64_C(1));
	if (shape & 16)
		chain[0].flags = 0;
	if (which & 0x80)
		queue ^= 1u & shape >> 6;
	if (packed) {
		publish_packed(queue, chain);
	} else {
		chain[0].next = (uint16_t)((head + 1) % QUEUE_SIZE);
		memcpy(&table[head], &chain[0], sizeof(chain[0]));
		memcpy(&table[(head + 1) % QUEUE_SIZE], &chain[1], sizeof(chain[1]));
		avail->ring[added[queue]++ % QUEUE_SIZE] = head;
		__atomic_store_n(&avail->idx, added[queue], __ATOMIC_RELEASE);
	}
	bar_write(VIRTIO_BAR_NOTIFY + queue * (uint64_t)VIRTIO_NOTIFY_MULTIPLIER, 2, 0);
	if (!(shape & 32))
		settle();
}

static void step(struct input *in)
{
	uint8_t opcode = (uint8_t)take(in, 1);
	struct virtio_gpu_mode mode;

	switch (opcode & 15) {
	case 0:
		start((uint32_t)take(in, 1));
		break;
	case 1:
		set_mapper(opcode & 0x10);
		break;
	case 2:
		shower.mood = opcode >> 4 & 3;
		answer(opcode & 0x80 ? -EIO : 0);
		settle();
		break;
	case 3:
		fake.by_hand = opcode & 0x10;
		fake.ret = opcode & 0x20 ? -EIO : opcode & 0x40 ? -ENOMEM : 0;
		fake.fd_type = opcode >> 6;
		break;
	case 4:
		fake_complete(opcode & 0x80 ? -EIO : 0);
		settle();
		break;
	case 5:
		fake_retire(opcode >> 4);
		break;
	case 6:
		if (opcode & 0x80)
			fake_lose_server();
		else
			fake_lose(opcode >> 4 & 7);
		settle();
		break;
	case 7:
		if (opcode & 0x20)
			map_half(opcode >> 4 & 1);
		else
			device->ops->dma_unmap(device, BASE + (opcode >> 4 & 1) * HALF, HALF);
		break;
	case 8:
		mode.width = (uint32_t)number(in, 2);
		mode.height = (uint32_t)number(in, 2);
		virtio_gpu_head_set(device, opcode >> 4 & 3, &mode);
		break;
	case 9:
		virtio_gpu_head_look(device, opcode >> 4 & 3, look, NULL);
		break;
	case 10:
		bar_write(VIRTIO_BAR_DEVICE + take(in, 1), 1u << (opcode >> 4 & 3), take(in, 4));
		bar_read(VIRTIO_BAR_DEVICE + take(in, 1), 1u << (opcode >> 4 & 3));
		break;
	case 11:
		if (opcode & 0x10)
			virtio_gpu_display_add(device, &observer, NULL);
		else
			virtio_gpu_display_remove(device, &observer, NULL);
		break;
	case 12:
		if (opcode & 0x80)
			device->ops->reset(device);
		else
			request(in);
		break;
	default:
		request(in);
		break;
	}
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct changer changer = { .data = data, .size = size };
	int fds = lowest_free_fd();
	pthread_t thread;
	uint8_t choice;
	bool changing;

	if (size < 2)
		return 0;
	choice = (uint8_t)take(&in, 1);
	changing = choice & 0x80;
	packed = choice & 0x40;
	memset(memory, 0, SIZE);
	fake.by_hand = false;
	fake.ret = 0;
	fake.fd_type = FAKE_DMABUF;
	shower.mood = 0;
	set_mapper(true);
	start(0);
	if (changing)
		check(!pthread_create(&thread, NULL, change, &changer));
	for (unsigned i = 0; i < STEPS_MAX && in.left; i++)
		step(&in);
	if (changing) {
		__atomic_store_n(&changer.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
	}

	check(!device->ops->reset(device));
	shower.mood = 0;
	/* Unmaps that a mapper was too slow for are sent as it answers. */
	for (unsigned i = 0; i < SPIN_MAX && !gpu_window_idle(gpu); i++) {
		answer(0);
		settle();
	}
	virtio_gpu_display_remove(device, &observer, NULL);
	for (unsigned i = 0; i < 2; i++)
		virtio_gpu_head_set(device, i, &(struct virtio_gpu_mode){ 640, 480 });
	settle();
	check(gpu_window_idle(gpu) && !shower.shown_count && !gpu->window.shown_count);
	check(!gpu->resources && !gpu->resource_count && !gpu->pixels_used && !gpu->backing_used &&
	      !gpu->entries_used && !gpu->shared_used && !gpu->fence_count);
	check(!fake.wrong && lowest_free_fd() == fds);
	for (unsigned half = 0; half < 2; half++)
		map_half(half);
	return 0;
}
