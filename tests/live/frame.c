// SPDX-License-Identifier: Apache-2.0
/*
 * `vkload frame`: frames drawn off-screen, and a hash of all their pixels, which is the same whatever stands between; and tests
 * of drawing, off-screen and to a surface without a screen (VK_EXT_headless_surface).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/live/draw.h"
#include "tests/live/vkload.h"

#define HANDLE(x)    ((uint64_t)(uintptr_t)(x))
#define OBJECT(T, h) ((T)(uintptr_t)(h))

static int run_one(struct vk *vk, VkCommandBuffer command, VkFence fence, struct error *e)
{
	const struct vk_batch batch = { .commands = 1, .command = { command } };

	TRY(vk_submit(vk->queues[0], false, &batch, 1, fence, e));
	TRY(vk_wait(vk, fence, e));
	VK_TRY(vkResetFences(vk->device, 1, &fence), e);
	return 0;
}

/* What was drawn, as a frame buffer of Linux takes it: blue, green, red, nothing. */
static int save(const struct draw *draw, const char *path, struct error *e)
{
	const size_t count = (size_t)draw->size.width * draw->size.height;
	FILE *file = fopen(path, "we");

	if (!file)
		return error_set(e, errno, "output", NULL, "%s: %s", path, strerror(errno));
	for (size_t i = 0; i < count; i++) {
		const uint8_t *from = draw->map + 4 * i;

		fwrite((const uint8_t[4]){ from[2], from[1], from[0], 0 }, 4, 1, file);
	}
	return fclose(file) ? error_set(e, EIO, "output", NULL, "%s: not written whole", path) : 0;
}

static int frames(struct vk *vk, const struct load_options *options, uint64_t *hash,
		  uint64_t *waits_ns, struct error *e)
{
	const VkExtent2D size = { options->width, options->height };
	static const volatile sig_atomic_t never;
	struct draw_target target;
	struct draw draw;
	uint64_t start;
	VkFence fence;

	TRY(draw_create(vk, VK_FORMAT_R8G8B8A8_UNORM, size, &draw, e));
	TRY(draw_image(&draw, &target, e));
	TRY(vk_fence(vk, &fence, e));
	*hash = DRAW_HASH_START;
	start = monotonic_ns();
	for (uint32_t i = 0; i < options->frames; i++) {
		VkCommandBuffer command;
		uint64_t began;

		sleep_until(start + i * (uint64_t)(options->every_ms * 1e6), &never);
		TRY(draw_record(&draw, &target, 0.1f * (float)i, &command, e));
		began = monotonic_ns();
		TRY(run_one(vk, command, fence, e));
		waits_ns[i] = monotonic_ns() - began;
		TRY(draw_check(&draw, e));
		*hash = draw_hash(&draw, *hash);
		vkFreeCommandBuffers(vk->device, draw.pool, 1, &command);
	}
	return options->save ? save(&draw, options->save, e) : 0;
}

/* A frame's time is from its submission to its fence; making its commands and looking at its pixels are not in it. */
static int report(struct vk *vk, const struct load_options *options, uint64_t *waits_ns,
		  struct error *e)
{
	uint64_t hash = 0, start = monotonic_ns();
	char text[20];

	TRY(frames(vk, options, &hash, waits_ns, e));
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)hash);
	print_json(json_pack("{s:s, s:s, s:I, s:s, s:f, s:o}", "mode", "frame", "device",
			     vk->properties.deviceName, "frames", (json_int_t)options->frames,
			     "hash", text, "seconds", (double)(monotonic_ns() - start) / 1e9,
			     "frame_ms", waits_json(waits_ns, options->frames)));
	return 0;
}

int frame_run(const struct load_options *options, struct error *e)
{
	static struct vk vk;
	uint64_t *waits_ns;
	int err;

	TRY(vk_open(&vk, options->device, e));
	waits_ns = calloc(options->frames, sizeof(*waits_ns));
	if (!waits_ns)
		return error_set(e, ENOMEM, "memory", NULL, "no memory for the frames' times");
	err = report(&vk, options, waits_ns, e);
	free(waits_ns);
	if (!err)
		vk_close(&vk);
	return err;
}

static int drawn_off_screen(struct vk *vk, struct error *e)
{
	static const struct load_options options = { .width = 64, .height = 48, .frames = 3 };
	uint64_t hash, waits_ns[3];

	return frames(vk, &options, &hash, waits_ns, e);
}

static void destroy_surface(struct vk *vk, uint64_t handle)
{
	vkDestroySurfaceKHR(vk->instance, OBJECT(VkSurfaceKHR, handle), NULL);
}

static void destroy_swapchain(struct vk *vk, uint64_t handle)
{
	vkDestroySwapchainKHR(vk->device, OBJECT(VkSwapchainKHR, handle), NULL);
}

static int create_swapchain(struct vk *vk, VkExtent2D size, VkSwapchainKHR *swapchain,
			    VkFormat *format, struct error *e)
{
	const VkHeadlessSurfaceCreateInfoEXT headless = {
		.sType = VK_STRUCTURE_TYPE_HEADLESS_SURFACE_CREATE_INFO_EXT
	};
	PFN_vkCreateHeadlessSurfaceEXT create =
		(PFN_vkCreateHeadlessSurfaceEXT)vkGetInstanceProcAddr(vk->instance,
								      "vkCreateHeadlessSurfaceEXT");
	VkSwapchainCreateInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR,
		.minImageCount = 3,
		.imageExtent = size,
		.imageArrayLayers = 1,
		.imageUsage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
		.preTransform = VK_SURFACE_TRANSFORM_IDENTITY_BIT_KHR,
		.compositeAlpha = VK_COMPOSITE_ALPHA_OPAQUE_BIT_KHR,
		.presentMode = VK_PRESENT_MODE_FIFO_KHR,
	};
	VkSurfaceCapabilitiesKHR capabilities;
	VkSurfaceFormatKHR formats[16];
	uint32_t count = ARRAY_SIZE(formats);
	VkBool32 supported = VK_FALSE;
	VkResult result;

	if (!create || !(vk->extensions & VK_HAS_SWAPCHAIN))
		return error_set(e, ENOTSUP, "left-out", NULL, "no VK_EXT_headless_surface");
	VK_TRY(create(vk->instance, &headless, NULL, &info.surface), e);
	TRY(vk_keep(vk, destroy_surface, HANDLE(info.surface), e));
	VK_TRY(vkGetPhysicalDeviceSurfaceSupportKHR(vk->physical, vk->family, info.surface,
						    &supported),
	       e);
	if (!supported)
		return error_set(e, ENOTSUP, "left-out", NULL, "the queue cannot present");
	VK_TRY(vkGetPhysicalDeviceSurfaceCapabilitiesKHR(vk->physical, info.surface, &capabilities),
	       e);
	if ((capabilities.supportedUsageFlags & info.imageUsage) != info.imageUsage)
		return error_set(e, ENOTSUP, "left-out", NULL, "swapchain images cannot be read");
	if (capabilities.minImageCount > info.minImageCount)
		info.minImageCount = capabilities.minImageCount;
	result = vkGetPhysicalDeviceSurfaceFormatsKHR(vk->physical, info.surface, &count, formats);
	if (result != VK_INCOMPLETE)
		VK_TRY(result, e);
	*format = VK_FORMAT_UNDEFINED;
	for (uint32_t i = 0; i < count; i++)
		if (formats[i].format == VK_FORMAT_B8G8R8A8_UNORM ||
		    formats[i].format == VK_FORMAT_R8G8B8A8_UNORM) {
			*format = info.imageFormat = formats[i].format;
			info.imageColorSpace = formats[i].colorSpace;
		}
	if (!*format)
		return error_set(e, ENOTSUP, "left-out", NULL, "no format of 4 bytes to present");
	VK_TRY(vkCreateSwapchainKHR(vk->device, &info, NULL, swapchain), e);
	return vk_keep(vk, destroy_swapchain, HANDLE(*swapchain), e);
}

#define SWAP_IMAGES_MAX 8

/* Acquire, draw, present, with the binary semaphores that every such program has; each frame is looked at. */
static int present_frames(struct draw *draw, VkSwapchainKHR swapchain, struct error *e)
{
	struct vk *vk = draw->vk;
	VkImage images[SWAP_IMAGES_MAX];
	VkSemaphore acquired, drawn[SWAP_IMAGES_MAX];
	struct draw_target targets[SWAP_IMAGES_MAX];
	VkCommandBuffer commands[SWAP_IMAGES_MAX];
	uint32_t count = SWAP_IMAGES_MAX, index;
	VkFence fence;

	VK_TRY(vkGetSwapchainImagesKHR(vk->device, swapchain, &count, images), e);
	TRY(vk_binary(vk, NULL, &acquired, e));
	TRY(vk_fence(vk, &fence, e));
	for (uint32_t i = 0; i < count; i++) {
		targets[i].image = images[i];
		targets[i].end = VK_IMAGE_LAYOUT_PRESENT_SRC_KHR;
		TRY(draw_view(draw, images[i], &targets[i].view, e));
		TRY(draw_record(draw, &targets[i], 0.2f * (float)i, &commands[i], e));
		TRY(vk_binary(vk, NULL, &drawn[i], e));
	}
	for (int frame = 0; frame < 10; frame++) {
		const struct vk_batch before = {
			.waits = 1, .wait = { acquired }, .commands = 1, .signals = 1
		};
		struct vk_batch batch = before;
		VkPresentInfoKHR present = { .sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
					     .waitSemaphoreCount = 1,
					     .swapchainCount = 1,
					     .pSwapchains = &swapchain,
					     .pImageIndices = &index };

		VK_TRY(vkAcquireNextImageKHR(vk->device, swapchain, VK_PATIENCE_NS, acquired, NULL,
					     &index),
		       e);
		EXPECT(index < count, e, "image %u of %u was acquired", index, count);
		batch.command[0] = commands[index];
		batch.signal[0] = drawn[index];
		TRY(vk_submit(vk->queues[0], frame % 2 && vk->submit2, &batch, 1, fence, e));
		present.pWaitSemaphores = &drawn[index];
		VK_TRY(vkQueuePresentKHR(vk->queues[0], &present), e);
		TRY(vk_wait(vk, fence, e));
		VK_TRY(vkResetFences(vk->device, 1, &fence), e);
		TRY(draw_check(draw, e));
	}
	return 0;
}

static int presented_without_a_screen(struct vk *vk, struct error *e)
{
	const VkExtent2D size = { 64, 48 };
	VkSwapchainKHR swapchain;
	struct draw draw;
	VkFormat format = VK_FORMAT_UNDEFINED;
	int err;

	TRY(create_swapchain(vk, size, &swapchain, &format, e));
	TRY(draw_create(vk, format, size, &draw, e));
	err = present_frames(&draw, swapchain, e);
	if (!err)
		VK_TRY(vkDeviceWaitIdle(vk->device), e);
	return err;
}

const struct live_test frame_tests[] = {
	{ "drawn-off-screen", drawn_off_screen },
	{ "presented-without-a-screen", presented_without_a_screen },
	{ 0 },
};
