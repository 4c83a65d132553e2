/* SPDX-License-Identifier: Apache-2.0 */
/* A triangle with three colours, drawn by the graphics pipeline, and its pixels back on the CPU. */
#ifndef TESTS_LIVE_DRAW_H
#define TESTS_LIVE_DRAW_H

#include "tests/live/vk.h"

struct draw {
	struct vk *vk;
	VkExtent2D size;
	VkFormat format;
	VkPipelineLayout layout;
	VkPipeline pipeline;
	VkCommandPool pool;
	VkBuffer pixels;
	const uint8_t *map; /* 4 bytes a pixel */
};

/* What is drawn into. */
struct draw_target {
	VkImage image;
	VkImageView view;
	VkImageLayout end; /* the layout it is left in */
};

/* draw_create() - the pipeline for images of a format with 4 bytes a pixel. In the bag. Returns 0 or -errno. */
int draw_create(struct vk *vk, VkFormat format, VkExtent2D size, struct draw *draw,
		struct error *e);
/* draw_image() - an image to draw into, in the bag. draw_view() - a view of an image, in the bag. */
int draw_image(struct draw *draw, struct draw_target *target, struct error *e);
int draw_view(struct draw *draw, VkImage image, VkImageView *view, struct error *e);
/* draw_record() - a command buffer for one frame, turned by @turn radians, with a copy to draw->pixels. */
int draw_record(struct draw *draw, const struct draw_target *target, float turn,
		VkCommandBuffer *command, struct error *e);
/* draw_hash() - add what is in draw->pixels to a hash (FNV-1a; begin with DRAW_HASH_START). */
#define DRAW_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t draw_hash(const struct draw *draw, uint64_t hash);
/* draw_check() - a triangle is there: dark corners, and a middle where all three colours meet. Returns 0 or -EPROTO. */
int draw_check(const struct draw *draw, struct error *e);

#endif
