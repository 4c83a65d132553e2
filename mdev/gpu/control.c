// SPDX-License-Identifier: Apache-2.0
/*
 * What a vGPU's control socket answers (mdev.h, docs/vgpu.md): what it shows, pictures of it, and monitors that change.
 *
 *	GET /api/v1/vgpu.info
 *	PUT /api/v1/vgpu.head          {"head": 0, "width": 1920, "height": 1080}; 0 x 0 unplugs
 *	GET /api/v1/vgpu.screenshot/N  a PNG of head N
 *	PUT /api/v1/vgpu.keys, text, pointer, touch: mdev/input/control.c
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/gpu/gpu.h"
#include "mdev/input/input.h"

#define API "/api/v1/vgpu."

static struct control_reply refuse(unsigned status, int err, const char *code, const char *text)
{
	struct error e = { 0 };

	error_set(&e, err, code, "docs/vgpu.md has the resources", "%s", text);
	return control_refuse(status, &e);
}

/* What shines on the guest's keyboard; NULL: there is none. */
static json_t *leds(const struct input_seat *seat)
{
	const unsigned bits = seat ? input_seat_leds(seat) : 0;

	return seat ? json_pack("{s:b, s:b, s:b}", "scroll_lock", bits & 1, "num_lock", bits & 2,
				"caps_lock", bits & 4)
		    : NULL;
}

static struct control_reply info(struct virtio_gpu_control *control)
{
	json_t *heads = json_array(), *body;

	for (unsigned i = 0; i < control->head_count; i++) {
		struct virtio_gpu_mode mode = { 0 };

		virtio_gpu_head_mode(control->device, i, &mode);
		json_array_append_new(heads,
				      json_pack("{s:i, s:i, s:i}", "head", (int)i, "width",
						(int)mode.width, "height", (int)mode.height));
	}
	body = json_pack("{s:s, s:b, s:b, s:o, s:o*}", "name", control->name, "attached",
			 control->server && mdev_server_attached(control->server), "vulkan",
			 control->vulkan, "heads", heads, "leds", leds(control->seat));
	return body ? (struct control_reply){ .status = 200, .body = body }
		    : refuse(500, ENOMEM, "no-memory", "no memory for an answer");
}

static struct control_reply head(struct virtio_gpu_control *control, const char *text, size_t size)
{
	json_t *body = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	json_int_t which = -1, width = -1, height = -1;
	struct virtio_gpu_mode mode;
	int err;

	err = body ? json_unpack(body, "{s:I, s:I, s:I !}", "head", &which, "width", &width,
				 "height", &height)
		   : -1;
	json_decref(body);
	if (err)
		return refuse(400, EINVAL, "bad-request",
			      "the body is not {\"head\": N, \"width\": N, \"height\": N}");
	if (which < 0 || which >= control->head_count)
		return refuse(404, ENOENT, "no-such-head", "there is no such head");
	if (width < 0 || width > VIRTIO_GPU_WIDTH_MAX || height < 0 ||
	    height > VIRTIO_GPU_HEIGHT_MAX)
		return refuse(400, EINVAL, "bad-mode", "a mode that no head can have");
	mode = (struct virtio_gpu_mode){ (uint32_t)width, (uint32_t)height };
	if (virtio_gpu_head_set(control->device, (unsigned)which, &mode))
		return refuse(400, EINVAL, "bad-mode", "a mode that no head can have");
	return (struct control_reply){ .status = 204 };
}

static struct control_reply picture(int fd)
{
	struct control_reply reply = { .status = 200, .type = "image/png" };
	struct stat st;

	if (fstat(fd, &st) < 0 || !st.st_size)
		return refuse(500, EIO, "no-picture", "there is no picture");
	reply.size = (size_t)st.st_size;
	reply.bytes = malloc(reply.size);
	if (reply.bytes && !pread_full(fd, reply.bytes, reply.size, 0))
		return reply;
	free(reply.bytes);
	return refuse(500, ENOMEM, "no-memory", "no memory for a picture");
}

static struct control_reply screenshot(struct virtio_gpu_control *control, const char *which)
{
	struct control_reply reply;
	char *end;
	unsigned long number = strtoul(which, &end, 10);
	int fd, err;

	if (!*which || *end || number >= control->head_count)
		return refuse(404, ENOENT, "no-such-head", "there is no such head");
	fd = memfd_create("screenshot", MFD_CLOEXEC);
	if (fd < 0)
		return refuse(500, errno, "no-memory", "no memory for a picture");
	err = virtio_gpu_screenshot(control->device, (unsigned)number, fd);
	if (err == -ENODATA)
		reply = refuse(409, EBUSY, "head-off", "the guest shows nothing on that head");
	else if (err)
		reply = refuse(500, -err, "no-picture", strerror(-err));
	else
		reply = picture(fd);
	close(fd);
	return reply;
}

static struct control_reply wrong_method(const char *allow)
{
	struct control_reply reply =
		refuse(405, EINVAL, "bad-method", "that is not how it is asked for");

	reply.allow = allow;
	return reply;
}

struct control_reply virtio_gpu_control_answer(void *opaque, const char *method, const char *path,
					       const char *body, size_t size)
{
	struct virtio_gpu_control *control = opaque;
	const bool get = !strcmp(method, "GET"), put = !strcmp(method, "PUT");
	static const char pictures[] = API "screenshot/";
	struct control_reply reply;

	if (!strcmp(path, API "info"))
		return get ? info(control) : wrong_method("GET");
	if (!strcmp(path, API "head"))
		return put ? head(control, body, size) : wrong_method("PUT");
	if (!strncmp(path, pictures, sizeof(pictures) - 1))
		return get ? screenshot(control, path + sizeof(pictures) - 1) : wrong_method("GET");
	if (!strncmp(path, API, sizeof(API) - 1) &&
	    input_control_answer(control->seat, method, path + sizeof(API) - 1, body, size, &reply))
		return reply;
	return refuse(404, ENOENT, "no-such-resource", "there is no such resource");
}
