/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc_guest: a vGPU with two heads whose places viewers can join, and what its guest draws. Pixels are the guest's memory, as
 * x8r8g8b8.
 */
#ifndef TESTS_VNC_GUEST_H
#define TESTS_VNC_GUEST_H

#define CONFINED_VGPU
#include "tests/unit/confined.h"
#include "tests/unit/gpu_guest.h"
#include "tests/unit/vnc_viewer.h"

#define WIDTH  320
#define HEIGHT 200
#define FORMAT VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM

static struct vnc_server *server;
static char folder[64], head0[96], head1[96], desktop[96];

/* A resource of this size on a head, with the guest's memory behind it. */
static inline void show(unsigned head, uint32_t id, uint32_t width, uint32_t height)
{
	struct virtio_gpu_mem_entry entry = memory_entry(0, width * height * 4);

	assert_int_equal(create_2d(id, FORMAT, width, height), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(id, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(head, id, (struct virtio_gpu_rect){ 0, 0, width, height }),
			 VIRTIO_GPU_RESP_OK_NODATA);
}

/* This part of the guest's memory, a picture of @width pixels a row, is new. */
static inline void draw(uint32_t id, uint32_t width, struct virtio_gpu_rect rect)
{
	assert_int_equal(transfer(id, (rect.y * (uint64_t)width + rect.x) * 4, rect),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(flush(id, rect), VIRTIO_GPU_RESP_OK_NODATA);
}

static inline void draw_all(uint32_t id, uint32_t width, uint32_t height, uint32_t seed)
{
	fill_memory(seed);
	draw(id, width, (struct virtio_gpu_rect){ 0, 0, width, height });
}

static inline const uint32_t *picture(void)
{
	return guest_ptr(&guest, memory_gpa);
}

/* @config: places are filled in */
static inline void vnc_open(struct vnc_config *config)
{
	const struct virtio_gpu_config gpu = { .name = "desk",
					       .head_count = 2,
					       .heads = { { 800, 600 }, { 640, 480 } } };
	struct error e = { 0 };

	strcpy(folder, "/tmp/divvy-vnc-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(head0, sizeof(head0), "%s/head0", folder);
	snprintf(head1, sizeof(head1), "%s/head1", folder);
	snprintf(desktop, sizeof(desktop), "%s/desktop", folder);
	gpu_open(&gpu);
	gpu_boot(GPU_FEATURES);
	config->name = "desk";
	config->head_count = 2;
	memcpy(config->heads, gpu.heads, sizeof(config->heads));
	config->places[0] = head0;
	config->places[1] = head1;
	config->desktop = desktop;
	if (vnc_server_create(guest.device, config, &server, &e) || vnc_server_start(server, &e))
		fail_msg("%s: %s", e.code, e.text);
}

static inline int setup(void **state)
{
	vnc_open(&(struct vnc_config){ 0 });
	return 0;
}

static inline int teardown(void **state)
{
	vnc_server_destroy(server);
	server = NULL;
	assert_int_equal(rmdir(folder), 0); /* the sockets are gone */
	return gpu_teardown(state);
}

static inline struct vnc_stats stats(void)
{
	struct vnc_stats now;

	vnc_server_stats(server, &now);
	return now;
}

/* Until the server knows of this many viewers; it takes its time to notice. */
static inline void wait_for_viewers(unsigned count)
{
	for (unsigned i = 0; i < VIEWER_WAIT_MS && stats().viewers != count; i++)
		usleep(1000);
	assert_int_equal(stats().viewers, count);
}

#endif
