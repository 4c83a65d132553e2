// SPDX-License-Identifier: Apache-2.0
/*
 * Venus for real: virglrenderer, its render server and its workers on lavapipe, behind the vGPU, with a guest's
 * driver in front. Contexts, shared blobs in the window, fences, hostile command streams, and every process of it
 * killed or stopped, over and over, with nothing left behind.
 */
#include "tests/unit/gpu_blob.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ROUNDS 50

static const char *const environment[] = {
	"VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json",
	"DIVVY_TEST=of its own",
	NULL,
};
static const struct virtio_gpu_venus_config venus = { .environment = environment };

static struct virtio_gpu_config config = {
	.head_count = 1, .heads = { { 1280, 800 } }, .window_size = WINDOW_SIZE, .venus = &venus
};

static int setup(void **state)
{
	gpu_open(&config);
	shower_open();
	gpu_boot(VENUS_FEATURES);
	return 0;
}

static unsigned count_processes(pid_t *server, pid_t *worker);

static int teardown(void **state)
{
	shower_close();
	gpu_teardown(state);
	/* Those that are not our children end by themselves a moment later. */
	for (unsigned i = 0; count_processes(NULL, NULL) && i < 1000; i++)
		usleep(5000);
	assert_int_equal(count_processes(NULL, NULL), 0);
	return 0;
}

/* ---- processes ------------------------------------------------------------------------------ */

/* The kernel's line of facts of a process: parent, group and state. Returns false when it is none. */
static bool process_facts(const char *pid, pid_t *parent, pid_t *group, char *state)
{
	char path[64], text[512], *rest;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return false;
	text[got] = '\0';
	rest = strrchr(text, ')');
	return rest && sscanf(rest + 2, "%c %d %d", state, parent, group) == 3;
}

/*
 * Processes of render servers that are ours: children of our child, the warden, and who is in a group that one of them leads or led.
 * @server: a child of the warden; @worker: a child of it
 */
static bool is_our_wardens(pid_t pid)
{
	char number[16], state;
	pid_t parent, group;

	snprintf(number, sizeof(number), "%d", pid);
	return process_facts(number, &parent, &group, &state) && parent == getpid();
}

static unsigned count_processes(pid_t *server, pid_t *worker)
{
	static pid_t groups[4096];
	static unsigned group_count;
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	unsigned count = 0;
	pid_t parent, group;
	char state;

	assert_non_null(dir);
	if (server)
		*server = 0;
	if (worker)
		*worker = 0;
	for (unsigned pass = 0; pass < 2; pass++) {
		rewinddir(dir);
		count = 0;
		while ((entry = readdir(dir))) {
			pid_t pid = atoi(entry->d_name);
			bool ours = false;

			if (pid <= 0 || !process_facts(entry->d_name, &parent, &group, &state) ||
			    state == 'Z' || state == 'X')
				continue;
			if (is_our_wardens(parent) && group == pid) {
				if (server)
					*server = pid;
				for (unsigned i = 0; i < group_count; i++)
					ours |= groups[i] == pid;
				if (!ours && group_count < ARRAY_SIZE(groups))
					groups[group_count++] = pid;
				ours = true;
			}
			for (unsigned i = 0; i < group_count; i++)
				ours |= groups[i] == group;
			if (ours && worker && group != pid)
				*worker = pid;
			count += ours;
		}
	}
	closedir(dir);
	return count;
}

static unsigned count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned count = 0;
	int c;

	assert_non_null(maps);
	while ((c = fgetc(maps)) != EOF)
		count += c == '\n';
	fclose(maps);
	return count;
}

/* Ask until the context has been found to be lost. */
static void wait_lost(uint32_t context)
{
	for (unsigned i = 0; i < 2000; i++) {
		if (submit(context, NULL, 0, 0, 0, 0) == VIRTIO_GPU_RESP_ERR_UNSPEC)
			return;
		usleep(5000);
	}
	fail_msg("context %u is not lost", context);
}

/* ---- what works ----------------------------------------------------------------------------- */

static void the_guest_finds_venus_and_nothing_else(void **state)
{
	struct virtio_gpu_get_capset_info info = { .hdr.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO };
	struct virtio_gpu_get_capset capset = { .hdr.type = VIRTIO_GPU_CMD_GET_CAPSET,
						.capset_id = VIRTIO_GPU_CAPSET_VENUS };
	const struct virtio_gpu_resp_capset_info *found = guest_ptr(&guest, response_gpa);
	const struct virtio_gpu_resp_capset *data = guest_ptr(&guest, response_gpa);
	uint32_t wire;

	assert_int_equal(device_config(&guest, 12, 4), 1);
	assert_int_equal(ASK(info), VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	assert_int_equal(found->capset_id, VIRTIO_GPU_CAPSET_VENUS);
	assert_int_equal(found->capset_max_version, 0);
	assert_int_equal(found->capset_max_size, 160);
	info.capset_index = 1;
	ASK_ERR(info, INVALID_PARAMETER);
	assert_int_equal(ASK(capset), VIRTIO_GPU_RESP_OK_CAPSET);
	/* The first word is the version of the wire's format, of which Mesa needs 1. */
	memcpy(&wire, data->capset_data, 4);
	assert_int_equal(wire, 1);
	capset.capset_version = 1;
	ASK_ERR(capset, INVALID_PARAMETER);
	capset.capset_version = 0;
	capset.capset_id = VIRTIO_GPU_CAPSET_VIRGL2;
	ASK_ERR(capset, INVALID_PARAMETER);
	/* Nobody shows the window: no context could work. */
	guest.device->ops->set_mapper(guest.device, NULL, NULL);
	assert_int_equal(device_config(&guest, 12, 4), 0);
	info.capset_index = 0;
	ASK_ERR(info, INVALID_PARAMETER);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	guest.device->ops->set_mapper(guest.device, &mapper, NULL);
	assert_int_equal(device_config(&guest, 12, 4), 1);
}

static void the_server_sees_its_own_environment_only(void **state)
{
	char path[64], text[4096];
	pid_t server;
	ssize_t got;
	int fd;

	assert_int_equal(count_processes(&server, NULL), 1);
	snprintf(path, sizeof(path), "/proc/%d/environ", server);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	got = read(fd, text, sizeof(text));
	close(fd);
	assert_int_equal(got, strlen(environment[0]) + strlen(environment[1]) + 2);
	assert_string_equal(text, environment[0]);
	assert_string_equal(text + strlen(environment[0]) + 1, environment[1]);
}

/* As Linux makes them for clients that only draw by themselves. */
static void a_context_of_no_kind_is_there_and_does_nothing(void **state)
{
	struct virtio_gpu_ctx_create request = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = 1 },
	};
	struct virtio_gpu_cmd_submit submit = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = 1 },
	};
	const unsigned before = count_processes(NULL, NULL);

	ASK_OK(request);
	ASK_ERR(request, INVALID_CONTEXT_ID);
	ASK_ERR(submit, UNSPEC);
	assert_int_equal(count_processes(NULL, NULL), before);
	/* What is shown is attached to it. */
	assert_int_equal(create_2d(1, 1, 64, 64), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 1),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, 1, 1),
			 VIRTIO_GPU_RESP_OK_NODATA);
	/* Memory of a context that works is not. */
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(2, 2, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 2),
			 VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(context_destroy(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

static void contexts_come_and_go(void **state)
{
	struct virtio_gpu_ctx_create request = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = 1 },
		.context_init = VIRTIO_GPU_CAPSET_VENUS,
	};

	assert_int_equal(context_create(0), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	for (uint32_t capset = 1; capset < 6; capset++) {
		request.context_init = capset;
		if (capset != VIRTIO_GPU_CAPSET_VENUS)
			ASK_ERR(request, INVALID_PARAMETER);
	}
	request.context_init = VIRTIO_GPU_CAPSET_VENUS | 0x100;
	ASK_ERR(request, INVALID_PARAMETER);
	request.context_init = VIRTIO_GPU_CAPSET_VENUS;
	request.nlen = 65;
	ASK_ERR(request, INVALID_PARAMETER);
	request.nlen = 64;
	memset(request.debug_name, 'x', 64);
	ASK_OK(request);
	ASK_ERR(request, INVALID_CONTEXT_ID);
	assert_int_equal(context_create(UINT32_MAX), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(2), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	assert_int_equal(context_destroy(0), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	assert_int_equal(count_processes(NULL, NULL), 3);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(UINT32_MAX), VIRTIO_GPU_RESP_OK_NODATA);
}

static void contexts_are_bounded(void **state)
{
	for (uint32_t id = 1; id <= 64; id++)
		assert_int_equal(context_create(id), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(65), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(context_destroy(64), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(65), VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_shared_blob_is_memory_in_the_window(void **state)
{
	const struct virtio_gpu_resp_map_info *info = guest_ptr(&guest, response_gpa);
	const uint32_t size = 128 * KIB;
	uint32_t *seen_by_guest = (uint32_t *)(void *)(shower.window + 1 * MIB);

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, size), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 2, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 1 * MIB), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(info->map_info, VIRTIO_GPU_MAP_CACHE_CACHED);
	for (unsigned i = 0; i < size / 4; i++)
		seen_by_guest[i] = i;
	/* Twice, overlapping, outside, crooked. */
	assert_int_equal(map_blob(1, 8 * MIB), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(2, 1 * MIB), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(2, 1 * MIB + size - 4096), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(2, WINDOW_SIZE), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(2, UINT64_MAX - 4095), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(2, 2048), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(3, 0), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(map_blob(2, 1 * MIB + size), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(unmap_blob(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(unmap_blob(2), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(map_blob(2, WINDOW_SIZE - 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
	/* The same memory at another place. */
	assert_int_equal(unmap_blob(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 32 * MIB), VIRTIO_GPU_RESP_OK_MAP_INFO);
	seen_by_guest = (uint32_t *)(void *)(shower.window + 32 * MIB);
	for (unsigned i = 0; i < size / 4; i++)
		assert_int_equal(seen_by_guest[i], i);
	/* The end of a resource takes it out of the window. */
	assert_int_equal(shower.shown_count, 2);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(unref(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(shower.shown_count, 0);
}

static void shared_memory_is_bounded(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4097), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_shared(1, 1, GIB + 4096), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(create_shared(1, 1, GIB - 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 2, 8192), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(create_shared(1, 2, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, GIB - 4096), VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_blob_with_a_guest_half_is_made(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 8192);

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_blob(1, 1, VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST, 12288, &entry, 1),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_blob(1, 1, VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST, 8192, &entry, 1),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
}

static void a_shared_blob_is_attached_to_its_context_only(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 8192);
	const uint32_t in = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
		       out = VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(in, 1, 1), VIRTIO_GPU_RESP_OK_NODATA);
	/* virglrenderer would end the process over it. */
	assert_int_equal(context_resource(in, 2, 1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(context_resource(out, 2, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(out, 1, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(in, 1, 1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(context_resource(in, 3, 1), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	assert_int_equal(context_resource(in, 1, 9), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(context_resource(out, 1, 9), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	/* Guest memory is attached in name. */
	assert_int_equal(create_blob(0, 2, VIRTIO_GPU_BLOB_MEM_GUEST, 8192, &entry, 1),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(in, 1, 2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(out, 1, 2), VIRTIO_GPU_RESP_OK_NODATA);
}

static int compare_shared(void *opaque, pixman_image_t *image)
{
	const uint32_t *pixels = opaque;
	int wrong = 0;

	for (uint32_t y = 0; y < 64; y++)
		for (uint32_t x = 0; x < 64; x++)
			wrong += (pixel_at(image, x, y) & 0xffffff) !=
				 (pixels[y * 64 + x] & 0xffffff);
	return wrong;
}

static void a_head_shows_a_blob_of_the_host(void **state)
{
	struct virtio_gpu_set_scanout_blob request = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
		.r = { 0, 0, 64, 64 },
		.resource_id = 1,
		.width = 64,
		.height = 64,
		.format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
		.strides = { 256 },
		.offsets = { 5000 },
	};
	uint32_t *pixels = (uint32_t *)(void *)(shower.window + 5000);

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 24 * KIB), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	for (uint32_t i = 0; i < 64 * 64; i++)
		pixels[i] = i * 0x01030507;
	ASK_OK(request);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare_shared, pixels), 0);
	request.offsets[0] = 24 * KIB - 64 * 256 + 4;
	ASK_ERR(request, INVALID_PARAMETER);
	/* It goes on being seen after its worker has gone. */
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare_shared, pixels), 0);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare_shared, pixels), -ENODATA);
}

/* ---- a mapper that takes its time ------------------------------------------------------------ */

static void *answer_later(void *arg)
{
	while (!__atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE)) {
		usleep(500);
		shower_answer(0);
	}
	return NULL;
}

static void a_mapper_may_answer_late(void **state)
{
	bool stop = false;
	pthread_t thread;

	shower.is_late = true;
	assert_int_equal(pthread_create(&thread, NULL, answer_later, &stop), 0);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	for (uint32_t id = 1; id <= 200; id++) {
		assert_int_equal(create_shared(1, id, 4096), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(map_blob(id, id * 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
	}
	assert_int_equal(unmap_blob(7), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(7, 7 * 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(shower.shown_count, 200);
	/* A reset takes out more than a mapper takes at once; what comes then waits for the rest. */
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 1 * MIB), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(shower.shown_count, 1);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	for (unsigned i = 0; shower.shown_count && i < 1000; i++)
		usleep(1000);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	shower_answer(0);
	shower.is_late = false;
}

static void a_mapper_that_refuses_is_an_error_for_the_guest(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	shower.refuse = -ENOSPC;
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	shower.refuse = -EIO;
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(unmap_blob(1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	shower.refuse = 0;
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
}

static void a_reset_does_not_wait_for_the_mapper(void **state)
{
	struct virtio_gpu_resource_map_blob request = { .hdr.type =
								VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
							.resource_id = 1 };

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	shower.is_late = true;
	memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
	gpu_post(CONTROL, request_gpa, sizeof(request), RESPONSE_SIZE);
	guest_kick(&guest, CONTROL);
	for (unsigned i = 0; !shower_waiting() && i < 2000; i++)
		usleep(1000);
	assert_int_equal(shower_waiting(), 1);
	gpu_boot(VENUS_FEATURES);
	/* The map that was under way, and that it be undone. */
	assert_int_equal(shower_answer(0), 2);
	assert_int_equal(shower.shown_count, 0);
	shower.is_late = false;
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
}

/* ---- fences -------------------------------------------------------------------------------- */

static void fences_of_a_ring_come_back_in_order(void **state)
{
	const uint32_t both = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX;
	struct virtio_gpu_cmd_submit request = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = 1, .flags = both },
	};
	uint16_t heads[7], head;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, 5),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, both, 0, UINT64_MAX), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, both, 64, 6), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(submit(2, NULL, 0, both, 0, 7), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	assert_int_equal(submit(1, "abc", 3, both, 0, 8), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 7; i++) {
			request.hdr.fence_id = round * 7 + i;
			memcpy(guest_ptr(&guest, request_gpa + i * 64), &request, sizeof(request));
			heads[i] = gpu_post(CONTROL, request_gpa + i * 64, sizeof(request),
					    RESPONSE_SIZE);
		}
		guest_kick(&guest, CONTROL);
		for (unsigned i = 0; i < 7; i++) {
			assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, &head, NULL));
			assert_int_equal(head, heads[i]);
		}
	}
}

static void a_submission_has_a_largest_size(void **state)
{
	static uint8_t data[64 * KIB + 4];

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, data, sizeof(data), 0, 0, 0), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	/* It arrives; that it means nothing ends the context and no more. */
	assert_int_equal(submit(1, data, sizeof(data) - 4, 0, 0, 0), VIRTIO_GPU_RESP_OK_NODATA);
}

/* ---- workers and servers that end ------------------------------------------------------------ */

static void nonsense_ends_its_context_and_no_other(void **state)
{
	static const uint32_t nonsense[32] = { 0xffffffff, 0xdeadbeef, 0x7fffffff, 1, 2, 3 };

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	submit(1, nonsense, sizeof(nonsense), VIRTIO_GPU_FLAG_FENCE, 0, 1);
	wait_lost(1);
	assert_int_equal(submit(1, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, 2),
			 VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(create_shared(1, 2, 4096), VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* What it had made stays until the guest drops it. */
	memset(shower.window, 1, 4096);
	assert_int_equal(submit(2, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, 3),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, 4),
			 VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_worker_that_is_killed_is_noticed_at_once(void **state)
{
	pid_t worker;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(count_processes(NULL, &worker), 2);
	assert_true(worker > 0);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
	kill(worker, SIGKILL);
	wait_lost(1);
	assert_int_equal(submit(2, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, 3),
			 VIRTIO_GPU_RESP_OK_NODATA);
	/* Nothing waits in circles for the one that is gone. */
	{
		struct timespec before, after;

		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
		usleep(300000);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
		assert_true((after.tv_sec - before.tv_sec) * 1000 +
				    (after.tv_nsec - before.tv_nsec) / 1000000 <
			    100);
	}
}

static void a_server_that_is_killed_is_back_after_a_reset(void **state)
{
	pid_t server;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	count_processes(&server, NULL);
	kill(server, SIGKILL);
	wait_lost(1);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* 2D does not mind, and what was mapped is still there. */
	memset(shower.window, 1, 4096);
	assert_int_equal(create_2d(2, 1, 64, 64), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(device_config(&guest, 12, 4), 1);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, 3),
			 VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_worker_that_hangs_holds_no_reset(void **state)
{
	struct virtio_gpu_resource_create_blob request = {
		.hdr = { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, .ctx_id = 1 },
		.resource_id = 1,
		.blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D,
		.size = 4096,
	};
	struct virtio_gpu_update_cursor cursor = { .hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR };
	uint64_t begin;
	pid_t worker;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	count_processes(NULL, &worker);
	kill(worker, SIGSTOP);
	memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
	gpu_post(CONTROL, request_gpa, sizeof(request), 24);
	guest_kick(&guest, CONTROL);
	assert_false(guest_next_used(&guest, CONTROL, 200, NULL, NULL));
	/* The control queue waits, the pointer does not. */
	memcpy(guest_ptr(&guest, request_gpa + 512), &cursor, sizeof(cursor));
	gpu_post(CURSOR, request_gpa + 512, sizeof(cursor), 0);
	guest_kick(&guest, CURSOR);
	assert_true(guest_next_used(&guest, CURSOR, GUEST_WAIT_MS, NULL, NULL));
	begin = monotonic_ns();
	gpu_boot(VENUS_FEATURES);
	assert_true(monotonic_ns() - begin < 10 * NSEC_PER_SEC);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
}

static void nothing_is_left_of_fifty_ends(void **state)
{
	unsigned fds = 0, mappings = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t server, worker;

		assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(create_shared(1, 1, 64 * KIB), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
		assert_int_equal(submit(1, NULL, 0, VIRTIO_GPU_FLAG_FENCE, 0, round),
				 VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(count_processes(&server, &worker), 3);
		switch (round % 4) {
		case 0:
			kill(server, SIGKILL);
			wait_lost(1);
			break;
		case 1:
			kill(worker, SIGKILL);
			break;
		case 2:
			kill(server, SIGKILL); /* and the reset comes at the same time */
			break;
		default:
			break;
		}
		gpu_boot(VENUS_FEATURES);
		assert_int_equal(shower.shown_count, 0);
		for (unsigned i = 0; count_processes(NULL, NULL) && i < 1000; i++)
			usleep(2000);
		assert_int_equal(count_processes(NULL, NULL), 0);
		/* The first round of each kind may leave what libraries keep. */
		if (round < 4)
			fds = count_fds();
		if (round == 7)
			mappings = count_mappings();
		assert_int_equal(count_fds(), fds);
	}
	/* The heap may have grown by an arena; not by something each round. */
	assert_in_range(count_mappings(), mappings - MIN(mappings, 8u), mappings + 8);
}

/* ---- no server ----------------------------------------------------------------------------- */

static void without_a_server_there_is_a_display(void **state)
{
	static const struct virtio_gpu_venus_config missing = { .render_server = "/nonexistent" };
	struct virtio_gpu_config broken = config;

	broken.venus = &missing;
	gpu_open(&broken);
	shower_open();
	assert_false(guest_device_features(&guest) & FEATURE(VIRTIO_GPU_F_VIRGL));
	assert_int_equal(device_config(&guest, 12, 4), 0);
	gpu_boot(BLOB_FEATURES);
	assert_int_equal(create_2d(2, 1, 64, 64), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	teardown(state);
}

static void a_server_that_ends_at_once_costs_contexts_only(void **state)
{
	static const struct virtio_gpu_venus_config ends = { .render_server = "/bin/true" };
	struct virtio_gpu_config broken = config;

	broken.venus = &ends;
	gpu_open(&broken);
	shower_open();
	gpu_boot(BLOB_FEATURES | (guest_device_features(&guest) & VENUS_FEATURES));
	assert_int_equal(create_2d(2, 1, 64, 64), VIRTIO_GPU_RESP_OK_NODATA);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(context_create(1), VIRTIO_GPU_RESP_ERR_UNSPEC);
		gpu_boot(BLOB_FEATURES | (guest_device_features(&guest) & VENUS_FEATURES));
	}
	teardown(state);
}

/* A server that counts its starts, hears that it is to begin, and ends. */
static void starts_are_bounded(void **state)
{
	char script[64], count[80], text[256];
	/* A script needs more than a render server may open. */
	struct virtio_gpu_venus_config counting = { .render_server = script, .unconfined = true };
	struct virtio_gpu_config broken = config;
	uint64_t begin = monotonic_ns(), seconds;
	struct stat st;
	FILE *file;

	snprintf(script, sizeof(script), "/tmp/test-venus-%d.sh", getpid());
	snprintf(count, sizeof(count), "%s.count", script);
	snprintf(text, sizeof(text),
		 "#!/bin/sh\necho >> %s\ndd bs=4096 count=1 <&3 >/dev/null 2>&1\n", count);
	file = fopen(script, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	fclose(file);
	assert_int_equal(chmod(script, 0700), 0);
	broken.venus = &counting;
	log_set_level(LOG_LEVEL_ERROR);
	gpu_open(&broken);
	shower_open();
	for (unsigned i = 0; i < 150; i++) {
		gpu_boot(BLOB_FEATURES | (guest_device_features(&guest) & VENUS_FEATURES));
		assert_int_equal(context_create(1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	}
	teardown(state);
	log_set_level(LOG_LEVEL_INFO);
	seconds = (monotonic_ns() - begin) / NSEC_PER_SEC;
	assert_int_equal(stat(count, &st), 0);
	unlink(script);
	unlink(count);
	print_message("%d starts in %d s\n", (int)st.st_size, (int)seconds);
	/* 60, and one a second. Servers that were killed before they could count are not. */
	assert_in_range(st.st_size, 20, 61 + seconds);
}

static void a_process_has_one_renderer(void **state)
{
	struct vfio_device *second = NULL;
	struct error e = { 0 };

	assert_int_equal(virtio_gpu_create(&config, &second, &e), -EBUSY);
	assert_string_equal(e.code, "venus-taken");
	assert_null(second);
}

#define VENUS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		VENUS_TEST(the_guest_finds_venus_and_nothing_else),
		VENUS_TEST(the_server_sees_its_own_environment_only),
		VENUS_TEST(a_context_of_no_kind_is_there_and_does_nothing),
		VENUS_TEST(contexts_come_and_go),
		VENUS_TEST(contexts_are_bounded),
		VENUS_TEST(a_shared_blob_is_memory_in_the_window),
		VENUS_TEST(shared_memory_is_bounded),
		VENUS_TEST(a_blob_with_a_guest_half_is_made),
		VENUS_TEST(a_shared_blob_is_attached_to_its_context_only),
		VENUS_TEST(a_head_shows_a_blob_of_the_host),
		VENUS_TEST(a_mapper_may_answer_late),
		VENUS_TEST(a_mapper_that_refuses_is_an_error_for_the_guest),
		VENUS_TEST(a_reset_does_not_wait_for_the_mapper),
		VENUS_TEST(fences_of_a_ring_come_back_in_order),
		VENUS_TEST(a_submission_has_a_largest_size),
		VENUS_TEST(nonsense_ends_its_context_and_no_other),
		VENUS_TEST(a_worker_that_is_killed_is_noticed_at_once),
		VENUS_TEST(a_server_that_is_killed_is_back_after_a_reset),
		VENUS_TEST(a_worker_that_hangs_holds_no_reset),
		VENUS_TEST(nothing_is_left_of_fifty_ends),
		cmocka_unit_test(without_a_server_there_is_a_display),
		cmocka_unit_test(a_server_that_ends_at_once_costs_contexts_only),
		cmocka_unit_test(starts_are_bounded),
		VENUS_TEST(a_process_has_one_renderer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
