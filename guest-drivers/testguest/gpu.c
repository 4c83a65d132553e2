// SPDX-License-Identifier: Apache-2.0
/*
 * gpu: a guest that drives a vGPU's display (VIRTIO 1.2, 5.7), every step by its interrupt, and says on the serial
 * port how far it is. Somebody outside looks at the picture, and lets it go on by changing the monitor.
 *
 *   packed=1    packed rings; split ones otherwise
 *
 * It draws, with a cursor; hears of another monitor; breaks its ring, sees that the device needs a reset, resets
 * it and draws again, on the new monitor. A word of what went wrong, and a number that is not 0, end it early.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_ids.h>

#include "guest-drivers/testguest/picture.h"
#include "guest-drivers/testguest/virtio.h"

#define CONTROL	    0
#define CURSOR	    1
#define FRAME	    0x1000000u /* pixels: in PIECES parts, the last one first */
#define CURSOR_AT   0x1f00000u
#define REQUEST	    ((void *)0x1e00000)
#define ANSWER	    ((void *)0x1e10000)
#define ANSWER_SIZE 0x1000
#define PIECES	    4
#define IMAGE	    1 /* resources */
#define POINTER	    2
#define FENCE_ID    0x123456789abcdefull
#define FEATURE(n)  (1ull << (n))

static struct virtio_function gpu;
static uint32_t width, height;

static uint32_t fail(const char *what)
{
	print("gpu: FAIL ");
	print(what);
	print("\n");
	return 1;
}

static void print_number(uint32_t number)
{
	char digits[12];
	unsigned at = sizeof(digits) - 1;

	digits[at] = 0;
	do
		digits[--at] = (char)('0' + number % 10);
	while (number /= 10);
	print(digits + at);
}

static void say(const char *what, uint32_t a, const char *between, uint32_t b)
{
	print("gpu: ");
	print(what);
	print_number(a);
	print(between);
	print_number(b);
	print("\n");
}

/* ---- requests ------------------------------------------------------------------------------- */

/* Returns the type of the answer, 0 for none; what it has to have of the request is looked at. */
static uint32_t ask(unsigned queue, const void *request, uint32_t size)
{
	const struct virtio_gpu_ctrl_hdr *hdr = request, *answer = ANSWER;
	int64_t got;

	memset(ANSWER, 0, ANSWER_SIZE);
	got = virtio_request(&gpu, queue, request, size, ANSWER, ANSWER_SIZE);
	if (got < (int64_t)sizeof(*answer) ||
	    answer->flags != (hdr->flags & VIRTIO_GPU_FLAG_FENCE) ||
	    answer->fence_id != (hdr->flags & VIRTIO_GPU_FLAG_FENCE ? hdr->fence_id : 0))
		return 0;
	return answer->type;
}

static int ask_ok(unsigned queue, const void *request, uint32_t size)
{
	return ask(queue, request, size) == VIRTIO_GPU_RESP_OK_NODATA;
}
#define ASK_OK(request) ask_ok(CONTROL, &(request), sizeof(request))

static int display_info(void)
{
	struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };
	const struct virtio_gpu_resp_display_info *info = ANSWER;

	if (ask(CONTROL, &request, sizeof(request)) != VIRTIO_GPU_RESP_OK_DISPLAY_INFO ||
	    !info->pmodes[0].enabled)
		return 0;
	width = info->pmodes[0].r.width;
	height = info->pmodes[0].r.height;
	say("display ", width, "x", height);
	return 1;
}

/* The sum of its first block is right, and its preferred timing is the monitor's. */
static int edid(void)
{
	struct virtio_gpu_cmd_get_edid request = { .hdr.type = VIRTIO_GPU_CMD_GET_EDID };
	const struct virtio_gpu_resp_edid *answer = ANSWER;
	const uint8_t *timing = answer->edid + 54;
	uint8_t sum = 0;

	if (ask(CONTROL, &request, sizeof(request)) != VIRTIO_GPU_RESP_OK_EDID ||
	    answer->size < 128 || answer->edid[0] || answer->edid[1] != 0xff)
		return 0;
	for (unsigned i = 0; i < 128; i++)
		sum = (uint8_t)(sum + answer->edid[i]);
	return !sum && (timing[2] | (timing[4] & 0xf0u) << 4) == width &&
	       (timing[5] | (timing[7] & 0xf0u) << 4) == height;
}

static int make(uint32_t id, uint32_t format, uint32_t w, uint32_t h)
{
	struct virtio_gpu_resource_create_2d request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
		.resource_id = id,
		.format = format,
		.width = w,
		.height = h,
	};

	return ASK_OK(request);
}

/* @pieces parts of @size bytes all together; the last one is at the lowest address. */
static int back(uint32_t id, uint64_t address, uint32_t size, uint32_t pieces)
{
	struct virtio_gpu_resource_attach_backing *request = REQUEST;
	struct virtio_gpu_mem_entry *entries = (void *)(request + 1);

	memset(request, 0, sizeof(*request) + pieces * sizeof(*entries));
	request->hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
	request->resource_id = id;
	request->nr_entries = pieces;
	for (uint32_t i = 0; i < pieces; i++) {
		entries[i].addr = address + (uint64_t)(pieces - 1 - i) * (size / pieces);
		entries[i].length = size / pieces;
	}
	return ask_ok(CONTROL, request, (uint32_t)(sizeof(*request) + pieces * sizeof(*entries)));
}

static int transfer(uint32_t id, uint32_t w, uint32_t h)
{
	struct virtio_gpu_transfer_to_host_2d request = {
		.hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
		.r = { 0, 0, w, h },
		.resource_id = id,
	};

	return ASK_OK(request);
}

static int set_scanout(void)
{
	struct virtio_gpu_set_scanout request = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT,
		.r = { 0, 0, width, height },
		.resource_id = IMAGE,
	};

	return ASK_OK(request);
}

/* With a fence: the answer is the fence's, by the queue's interrupt. */
static int flush(void)
{
	struct virtio_gpu_resource_flush request = {
		.hdr = { .type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
			 .flags = VIRTIO_GPU_FLAG_FENCE,
			 .fence_id = FENCE_ID },
		.r = { 0, 0, width, height },
		.resource_id = IMAGE,
	};

	return ASK_OK(request);
}

static int show_cursor(void)
{
	struct virtio_gpu_update_cursor request = {
		.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR,
		.pos = { .x = PICTURE_CURSOR_X, .y = PICTURE_CURSOR_Y },
		.resource_id = POINTER,
		.hot_x = PICTURE_HOT_X,
		.hot_y = PICTURE_HOT_Y,
	};

	return ask_ok(CURSOR, &request, sizeof(request));
}

/* ---- what it does --------------------------------------------------------------------------- */

static void draw(uint32_t number)
{
	const uint32_t piece = width * height / PIECES; /* pixels */
	uint32_t *pointer = (uint32_t *)(uint64_t)CURSOR_AT;

	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++) {
			uint32_t i = y * width + x;
			uint32_t *part =
				(uint32_t *)(uint64_t)FRAME + (PIECES - 1 - i / piece) * piece;

			part[i % piece] = picture_pixel(number, x, y);
		}
	for (uint32_t y = 0; y < PICTURE_CURSOR; y++)
		for (uint32_t x = 0; x < PICTURE_CURSOR; x++)
			pointer[y * PICTURE_CURSOR + x] = picture_cursor(x, y);
}

/* From a driver that has just begun to a picture that is seen. Returns what failed, 0: nothing. */
static const char *show(uint32_t number)
{
	const uint32_t size = PICTURE_CURSOR * PICTURE_CURSOR * 4;

	if (!display_info())
		return "display info";
	if (!edid())
		return "edid";
	draw(number);
	if (!make(IMAGE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, width, height))
		return "create";
	if (!back(IMAGE, FRAME, width * height * 4, PIECES))
		return "attach";
	if (!transfer(IMAGE, width, height))
		return "transfer";
	if (!set_scanout())
		return "set scanout";
	if (!flush())
		return "flush with a fence";
	if (!make(POINTER, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, PICTURE_CURSOR, PICTURE_CURSOR) ||
	    !back(POINTER, CURSOR_AT, size, 1) ||
	    !transfer(POINTER, PICTURE_CURSOR, PICTURE_CURSOR) || !show_cursor())
		return "cursor";
	say("shown ", number, " after interrupts: ",
	    virtio_queue_interrupts[CONTROL] + virtio_queue_interrupts[CURSOR]);
	return 0;
}

/* Until somebody changes the monitor: an interrupt of the configuration (5.7.4). */
static int wait_for_monitor(uint32_t before)
{
	const uint64_t config = gpu.bar + VIRTIO_DEVICE;

	if (!virtio_wait(&virtio_config_interrupts, before) ||
	    !(read32(config) & VIRTIO_GPU_EVENT_DISPLAY))
		return 0;
	write32(config + 4, VIRTIO_GPU_EVENT_DISPLAY);
	return !read32(config);
}

/* A chain that goes on where there is nothing, or begins where nothing can be. */
static int break_ring(void)
{
	const struct guest_buffer buffer = { (uint64_t)REQUEST, 24, false };
	const uint32_t before = virtio_config_interrupts;
	struct ring_driver *ring = &gpu.queues[CONTROL];

	if (ring->packed)
		ring_add_packed(ring, &buffer, 1, VRING_DESC_F_NEXT);
	else
		ring_publish(ring, VIRTIO_QUEUE_SIZE);
	virtio_notify(&gpu, CONTROL);
	return virtio_wait(&virtio_config_interrupts, before) &&
	       virtio_status(&gpu) & VIRTIO_NEEDS_RESET;
}

uint32_t do_gpu(const char *cmdline)
{
	const uint64_t features = FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				  FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
				  FEATURE(VIRTIO_GPU_F_EDID) |
				  number(cmdline, "packed", 0) << VIRTIO_F_RING_PACKED;
	uint32_t before;
	const char *failed;

	/* Native also where ring 0 is emulated. */
	enable_interrupts();
	enter_ring3(0x202);
	if (!virtio_find(&gpu, VIRTIO_ID_GPU))
		return fail("no vGPU");
	if (!virtio_start(&gpu, features))
		return fail("features or start");
	before = virtio_config_interrupts;
	failed = show(1);
	if (failed)
		return fail(failed);
	if (!wait_for_monitor(before))
		return fail("event of a monitor");
	if (!break_ring())
		return fail("a broken ring");
	print("gpu: needs reset\n");
	if (!virtio_start(&gpu, features))
		return fail("start after a reset");
	before = virtio_config_interrupts;
	failed = show(2);
	if (failed)
		return fail(failed);
	if (!wait_for_monitor(before))
		return fail("event of a monitor");
	print("gpu: done\n");
	return 0;
}
