// SPDX-License-Identifier: Apache-2.0
/* The triangle (draw.h), by dynamic rendering: no render pass, no frame buffer. */
#include <errno.h>

#include "tests/live/draw.h"
#include "tests/live/triangle.frag.h"
#include "tests/live/triangle.vert.h"

#define HANDLE(x)    ((uint64_t)(uintptr_t)(x))
#define OBJECT(T, h) ((T)(uintptr_t)(h))

static void destroy_layout(struct vk *vk, uint64_t handle)
{
	vkDestroyPipelineLayout(vk->device, OBJECT(VkPipelineLayout, handle), NULL);
}

static void destroy_pipeline(struct vk *vk, uint64_t handle)
{
	vkDestroyPipeline(vk->device, OBJECT(VkPipeline, handle), NULL);
}

static void destroy_image(struct vk *vk, uint64_t handle)
{
	vkDestroyImage(vk->device, OBJECT(VkImage, handle), NULL);
}

static void destroy_view(struct vk *vk, uint64_t handle)
{
	vkDestroyImageView(vk->device, OBJECT(VkImageView, handle), NULL);
}

static int create_pipeline(struct draw *draw, VkShaderModule vertex, VkShaderModule fragment,
			   struct error *e)
{
	const VkPipelineShaderStageCreateInfo stages[] = {
		{ .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
		  .stage = VK_SHADER_STAGE_VERTEX_BIT,
		  .module = vertex,
		  .pName = "main" },
		{ .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
		  .stage = VK_SHADER_STAGE_FRAGMENT_BIT,
		  .module = fragment,
		  .pName = "main" },
	};
	const VkPipelineVertexInputStateCreateInfo input = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO
	};
	const VkPipelineInputAssemblyStateCreateInfo assembly = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO,
		.topology = VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST
	};
	const VkViewport viewport = { .width = (float)draw->size.width,
				      .height = (float)draw->size.height,
				      .maxDepth = 1 };
	const VkRect2D scissor = { .extent = draw->size };
	const VkPipelineViewportStateCreateInfo view = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO,
		.viewportCount = 1,
		.pViewports = &viewport,
		.scissorCount = 1,
		.pScissors = &scissor,
	};
	const VkPipelineRasterizationStateCreateInfo raster = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO, .lineWidth = 1
	};
	const VkPipelineMultisampleStateCreateInfo samples = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO,
		.rasterizationSamples = VK_SAMPLE_COUNT_1_BIT
	};
	const VkPipelineColorBlendAttachmentState attachment = { .colorWriteMask = 0xf };
	const VkPipelineColorBlendStateCreateInfo blend = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO,
		.attachmentCount = 1,
		.pAttachments = &attachment,
	};
	const VkPipelineRenderingCreateInfo rendering = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_RENDERING_CREATE_INFO,
		.colorAttachmentCount = 1,
		.pColorAttachmentFormats = &draw->format,
	};
	const VkGraphicsPipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO,
		.pNext = &rendering,
		.stageCount = ARRAY_SIZE(stages),
		.pStages = stages,
		.pVertexInputState = &input,
		.pInputAssemblyState = &assembly,
		.pViewportState = &view,
		.pRasterizationState = &raster,
		.pMultisampleState = &samples,
		.pColorBlendState = &blend,
		.layout = draw->layout,
	};

	VK_TRY(vkCreateGraphicsPipelines(draw->vk->device, NULL, 1, &info, NULL, &draw->pipeline),
	       e);
	return vk_keep(draw->vk, destroy_pipeline, HANDLE(draw->pipeline), e);
}

int draw_create(struct vk *vk, VkFormat format, VkExtent2D size, struct draw *draw, struct error *e)
{
	static const VkPushConstantRange range = { VK_SHADER_STAGE_VERTEX_BIT, 0, sizeof(float) };
	const VkPipelineLayoutCreateInfo layout = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.pushConstantRangeCount = 1,
		.pPushConstantRanges = &range,
	};
	VkShaderModule vertex, fragment;
	void *map;

	*draw = (struct draw){ .vk = vk, .size = size, .format = format };
	TRY(vk_shader(vk, triangle_vert, sizeof(triangle_vert), &vertex, e));
	TRY(vk_shader(vk, triangle_frag, sizeof(triangle_frag), &fragment, e));
	VK_TRY(vkCreatePipelineLayout(vk->device, &layout, NULL, &draw->layout), e);
	TRY(vk_keep(vk, destroy_layout, HANDLE(draw->layout), e));
	TRY(create_pipeline(draw, vertex, fragment, e));
	TRY(vk_command_pool(vk, &draw->pool, e));
	TRY(vk_buffer(vk, 4ull * size.width * size.height, VK_BUFFER_USAGE_TRANSFER_DST_BIT,
		      &draw->pixels, &map, e));
	draw->map = map;
	return 0;
}

int draw_view(struct draw *draw, VkImage image, VkImageView *view, struct error *e)
{
	const VkImageViewCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
		.image = image,
		.viewType = VK_IMAGE_VIEW_TYPE_2D,
		.format = draw->format,
		.subresourceRange = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1 },
	};

	VK_TRY(vkCreateImageView(draw->vk->device, &info, NULL, view), e);
	return vk_keep(draw->vk, destroy_view, HANDLE(*view), e);
}

int draw_image(struct draw *draw, struct draw_target *target, struct error *e)
{
	const VkImageCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
		.imageType = VK_IMAGE_TYPE_2D,
		.format = draw->format,
		.extent = { draw->size.width, draw->size.height, 1 },
		.mipLevels = 1,
		.arrayLayers = 1,
		.samples = VK_SAMPLE_COUNT_1_BIT,
		.usage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
	};
	struct vk *vk = draw->vk;
	VkMemoryRequirements needs;
	VkDeviceMemory memory;

	VK_TRY(vkCreateImage(vk->device, &info, NULL, &target->image), e);
	TRY(vk_keep(vk, destroy_image, HANDLE(target->image), e));
	vkGetImageMemoryRequirements(vk->device, target->image, &needs);
	TRY(vk_memory(vk, needs.size, needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
		      NULL, &memory, e));
	VK_TRY(vkBindImageMemory(vk->device, target->image, memory, 0), e);
	target->end = VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL;
	return draw_view(draw, target->image, &target->view, e);
}

/* Everything before is done before anything after: frames are few here. */
static void change_layout(VkCommandBuffer command, VkImage image, VkImageLayout from,
			  VkImageLayout to)
{
	const VkImageMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT,
		.oldLayout = from,
		.newLayout = to,
		.srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
		.dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
		.image = image,
		.subresourceRange = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1 },
	};

	vkCmdPipelineBarrier(command, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
			     VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0, 0, NULL, 0, NULL, 1, &barrier);
}

static void render(struct draw *draw, const struct draw_target *target, float turn,
		   VkCommandBuffer command)
{
	const VkRenderingAttachmentInfo colour = {
		.sType = VK_STRUCTURE_TYPE_RENDERING_ATTACHMENT_INFO,
		.imageView = target->view,
		.imageLayout = VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL,
		.loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR,
		.storeOp = VK_ATTACHMENT_STORE_OP_STORE,
	};
	const VkRenderingInfo info = {
		.sType = VK_STRUCTURE_TYPE_RENDERING_INFO,
		.renderArea = { .extent = draw->size },
		.layerCount = 1,
		.colorAttachmentCount = 1,
		.pColorAttachments = &colour,
	};

	vkCmdBeginRendering(command, &info);
	vkCmdBindPipeline(command, VK_PIPELINE_BIND_POINT_GRAPHICS, draw->pipeline);
	vkCmdPushConstants(command, draw->layout, VK_SHADER_STAGE_VERTEX_BIT, 0, sizeof(turn),
			   &turn);
	vkCmdDraw(command, 3, 1, 0, 0);
	vkCmdEndRendering(command);
}

int draw_record(struct draw *draw, const struct draw_target *target, float turn,
		VkCommandBuffer *command, struct error *e)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	const VkBufferImageCopy copy = {
		.imageSubresource = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1 },
		.imageExtent = { draw->size.width, draw->size.height, 1 },
	};
	const VkMemoryBarrier host = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
				       .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
				       .dstAccessMask = VK_ACCESS_HOST_READ_BIT };

	TRY(vk_command_buffer(draw->vk, draw->pool, command, e));
	VK_TRY(vkBeginCommandBuffer(*command, &begin), e);
	change_layout(*command, target->image, VK_IMAGE_LAYOUT_UNDEFINED,
		      VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL);
	render(draw, target, turn, *command);
	change_layout(*command, target->image, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL,
		      VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL);
	vkCmdCopyImageToBuffer(*command, target->image, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
			       draw->pixels, 1, &copy);
	vkCmdPipelineBarrier(*command, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT,
			     0, 1, &host, 0, NULL, 0, NULL);
	if (target->end != VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL)
		change_layout(*command, target->image, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
			      target->end);
	VK_TRY(vkEndCommandBuffer(*command), e);
	return 0;
}

uint64_t draw_hash(const struct draw *draw, uint64_t hash)
{
	for (size_t i = 0; i < 4ull * draw->size.width * draw->size.height; i++)
		hash = (hash ^ draw->map[i]) * UINT64_C(0x100000001b3);
	return hash;
}

int draw_check(const struct draw *draw, struct error *e)
{
	const uint8_t *middle = draw->map + 4ull * (draw->size.height / 2 * draw->size.width +
						    draw->size.width / 2);

	EXPECT(!draw->map[0] && !draw->map[1] && !draw->map[2], e,
	       "the first pixel is %02x%02x%02x, not black", draw->map[0], draw->map[1],
	       draw->map[2]);
	for (int i = 0; i < 3; i++)
		EXPECT(middle[i] > 60 && middle[i] < 110, e,
		       "the middle is %02x%02x%02x: not where three colours meet", middle[0],
		       middle[1], middle[2]);
	return 0;
}
