/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_vtest: Mesa's own Venus driver as the guest's, without a guest.
 *
 * Mesa can speak to a renderer over a socket ("vtest") with the same few requests that a guest's kernel turns into
 * virtio-gpu commands. This is the other end of that socket: it turns them into commands of a driver in front of the vGPU,
 * and what the vGPU shows in its window into files for the client. So any Vulkan program runs through the whole device.
 * After gpu_blob.h. The protocol is that of virglrenderer's vtest server, version 3.
 */
#ifndef TESTS_GPU_VTEST_H
#define TESTS_GPU_VTEST_H

#include "tests/unit/gpu_blob.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum {
	VTEST_RESOURCE_UNREF = 3,
	VTEST_BUSY_WAIT = 7,
	VTEST_CREATE_RENDERER = 8,
	VTEST_PING = 10,
	VTEST_VERSION = 11,
	VTEST_GET_PARAM = 15,
	VTEST_GET_CAPSET = 16,
	VTEST_CONTEXT_INIT = 17,
	VTEST_CREATE_BLOB = 18,
	VTEST_SYNC_CREATE = 19,
	VTEST_SYNC_UNREF = 20,
	VTEST_SYNC_READ = 21,
	VTEST_SYNC_WRITE = 22,
	VTEST_SYNC_WAIT = 23,
	VTEST_SUBMIT = 24,
};

#define VTEST_SYNCS	 4096
#define VTEST_WAITS	 256
#define VTEST_PAIRS	 16
#define VTEST_CLIENTS	 8
#define VTEST_WORDS	 16384
#define VTEST_SLOTS	 16 /* requests that may wait in the queue, each with a place of its own */
#define VTEST_SLOT	 (24 * KIB)
#define VTEST_QUEUE_SIZE 256

struct vtest_pairs {
	unsigned count;
	uint32_t ids[VTEST_PAIRS];
	uint64_t values[VTEST_PAIRS];
};

static struct vtest {
	int listener;
	struct {
		int fd; /* -1: free */
		uint32_t context;
	} clients[VTEST_CLIENTS];
	uint32_t next_context, next_resource;
	struct {
		bool used;
		uint64_t value;
	} syncs[VTEST_SYNCS];
	struct {
		int fd; /* of ours; -1: free */
		bool any;
		struct vtest_pairs pairs;
	} waits[VTEST_WAITS];
	/* By head of their chains. */
	struct {
		bool waiting;
		struct vtest_pairs pairs;
	} fences[VTEST_QUEUE_SIZE];
	uint64_t window_next;
	/* The last map. */
	int map_fd;
	uint64_t map_offset;
	unsigned opaque; /* maps that did not begin with their file */
	unsigned submits, fenced, blobs, errors, contexts;
	unsigned slot;
} vtest;

/* ---- the mapper: the client maps itself ------------------------------------------------------ */

static int vtest_show(void *opaque, const struct vfio_region_map *map, vfio_mapped done,
		      void *token)
{
	/* The device's worker opens nothing. */
	vtest.map_fd = fcntl(map->fd, F_DUPFD_CLOEXEC, 0);
	vtest.map_offset = map->fd_offset;
	vtest.opaque += map->fd_offset != 0;
	return vtest.map_fd < 0 ? -errno : 0;
}

static int vtest_hide(void *opaque, uint32_t index, uint64_t offset, uint64_t size,
		      vfio_mapped done, void *token)
{
	return 0;
}

static const struct vfio_mapper vtest_mapper = { .map = vtest_show, .unmap = vtest_hide };

/* ---- syncs ---------------------------------------------------------------------------------- */

static inline bool vtest_reached(const struct vtest_pairs *pairs, bool any)
{
	unsigned reached = 0;

	for (unsigned i = 0; i < pairs->count; i++)
		reached += vtest.syncs[pairs->ids[i]].value >= pairs->values[i];
	return reached == pairs->count || (any && reached);
}

static inline void vtest_check_waits(void)
{
	for (unsigned i = 0; i < VTEST_WAITS; i++)
		if (vtest.waits[i].fd >= 0 &&
		    vtest_reached(&vtest.waits[i].pairs, vtest.waits[i].any)) {
			eventfd_write(vtest.waits[i].fd, 1);
			fd_close(&vtest.waits[i].fd);
		}
}

static inline void vtest_signal(const struct vtest_pairs *pairs)
{
	for (unsigned i = 0; i < pairs->count; i++)
		vtest.syncs[pairs->ids[i]].value =
			MAX(vtest.syncs[pairs->ids[i]].value, pairs->values[i]);
	vtest_check_waits();
}

static inline bool vtest_pairs_read(struct vtest_pairs *pairs, const uint32_t *words,
				    unsigned count)
{
	if (count > VTEST_PAIRS)
		return false;
	pairs->count = count;
	for (unsigned i = 0; i < count; i++) {
		pairs->ids[i] = words[3 * i];
		pairs->values[i] = words[3 * i + 1] | (uint64_t)words[3 * i + 2] << 32;
		if (pairs->ids[i] >= VTEST_SYNCS || !vtest.syncs[pairs->ids[i]].used)
			return false;
	}
	return true;
}

/* ---- commands ------------------------------------------------------------------------------- */

/* A chain came back: a fence's, whose syncs are reached, or another's. */
static inline void vtest_used(uint16_t head)
{
	if (!vtest.fences[head].waiting)
		return;
	vtest.fences[head].waiting = false;
	vtest_signal(&vtest.fences[head].pairs);
}

static inline void vtest_collect(int timeout_ms)
{
	uint16_t head;

	while (guest_next_used(&guest, CONTROL, timeout_ms, &head, NULL)) {
		vtest_used(head);
		timeout_ms = 0;
	}
}

static inline uint64_t vtest_answer_gpa(unsigned slot)
{
	return response_gpa + slot * 64;
}

/* Put a command in; a place for it is free when as many have come back since. */
static inline uint16_t vtest_post(const void *command, size_t size, const void *more,
				  size_t more_size, uint64_t answer, uint32_t room)
{
	const uint64_t at = memory_gpa + vtest.slot * VTEST_SLOT;
	const struct guest_buffer buffers[2] = { { at, (uint32_t)(size + more_size), false },
						 { answer, room, true } };
	uint16_t head;

	assert_true(size + more_size <= VTEST_SLOT);
	memcpy(guest_ptr(&guest, at), command, size);
	if (more_size)
		memcpy((uint8_t *)guest_ptr(&guest, at) + size, more, more_size);
	vtest.slot = (vtest.slot + 1) % VTEST_SLOTS;
	head = guest_add(&guest, CONTROL, buffers, 2);
	guest_kick(&guest, CONTROL);
	return head;
}

static inline uint32_t vtest_ask(const void *command, size_t size)
{
	uint16_t mine = vtest_post(command, size, NULL, 0, response_gpa + 1024, 1000);
	uint16_t head = 0;

	for (;;) {
		assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, &head, NULL));
		if (head == mine)
			break;
		vtest_used(head);
	}
	return ((struct virtio_gpu_ctrl_hdr *)guest_ptr(&guest, response_gpa + 1024))->type;
}

/* ---- the socket ------------------------------------------------------------------------------ */

static inline bool vtest_read(int fd, void *buffer, size_t size)
{
	return recv(fd, buffer, size, MSG_WAITALL) == (ssize_t)size;
}

static inline bool vtest_reply(int fd, uint32_t command, const uint32_t *words, uint32_t count)
{
	const uint32_t header[2] = { count, command };

	return send(fd, header, sizeof(header), MSG_NOSIGNAL) == sizeof(header) &&
	       (!count || send(fd, words, count * 4, MSG_NOSIGNAL) == (ssize_t)(count * 4));
}

static inline bool vtest_send_fd(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.space,
				  .msg_controllen = sizeof(control.space) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

/* ---- requests ------------------------------------------------------------------------------- */

static inline bool vtest_capset(int fd, const uint32_t *words)
{
	struct virtio_gpu_get_capset command = {
		.hdr.type = VIRTIO_GPU_CMD_GET_CAPSET,
		.capset_id = words[0],
		.capset_version = words[1],
	};
	const struct virtio_gpu_resp_capset *answer = guest_ptr(&guest, response_gpa + 1024);
	uint32_t reply[1 + 160 / 4] = { 1 };

	if (vtest_ask(&command, sizeof(command)) != VIRTIO_GPU_RESP_OK_CAPSET)
		return vtest_reply(fd, VTEST_GET_CAPSET, (uint32_t[]){ 0 }, 1);
	memcpy(reply + 1, answer->capset_data, 160);
	return vtest_reply(fd, VTEST_GET_CAPSET, reply, ARRAY_SIZE(reply));
}

static inline bool vtest_context(uint32_t *context, const uint32_t *words)
{
	struct virtio_gpu_ctx_create command = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = ++vtest.next_context },
		.context_init = words[0],
	};

	*context = command.hdr.ctx_id;
	vtest.contexts++;
	return vtest_ask(&command, sizeof(command)) == VIRTIO_GPU_RESP_OK_NODATA;
}

static inline bool vtest_blob(int fd, uint32_t context, const uint32_t *words)
{
	struct virtio_gpu_resource_create_blob create = {
		.hdr = { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, .ctx_id = context },
		.resource_id = ++vtest.next_resource,
		.blob_mem = words[0],
		.blob_flags = words[1],
		.blob_id = words[4] | (uint64_t)words[5] << 32,
		.size = ALIGN_UP(words[2] | (uint64_t)words[3] << 32, 4096u),
	};
	struct virtio_gpu_ctx_resource attach = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, .ctx_id = context },
		.resource_id = create.resource_id,
	};
	struct virtio_gpu_resource_map_blob map = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
		.resource_id = create.resource_id,
		.offset = vtest.window_next,
	};
	char path[32];
	bool sent;
	int own;

	vtest.blobs++;
	vtest.window_next += create.size;
	vtest.map_fd = -1;
	if (vtest_ask(&create, sizeof(create)) != VIRTIO_GPU_RESP_OK_NODATA ||
	    vtest_ask(&attach, sizeof(attach)) != VIRTIO_GPU_RESP_OK_NODATA ||
	    vtest_ask(&map, sizeof(map)) != VIRTIO_GPU_RESP_OK_MAP_INFO || vtest.map_fd < 0)
		return false;
	/* A description of its own, whose position says where the memory begins. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", vtest.map_fd);
	own = open(path, O_RDWR | O_CLOEXEC);
	fd_close(&vtest.map_fd);
	vtest.map_fd = own;
	lseek(vtest.map_fd, (off_t)vtest.map_offset, SEEK_SET);
	sent = vtest_reply(fd, VTEST_CREATE_BLOB, &create.resource_id, 1) &&
	       vtest_send_fd(fd, vtest.map_fd);
	fd_close(&vtest.map_fd);
	return sent;
}

static inline bool vtest_batch(uint32_t context, const uint32_t *batch, const uint32_t *words,
			       uint32_t count)
{
	const bool has_ring = batch[0] & 1;
	struct virtio_gpu_cmd_submit command = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = context },
	};
	struct vtest_pairs pairs;
	uint16_t head;

	if (batch[1] > count || batch[2] > count - batch[1] || batch[3] > count ||
	    batch[4] > (count - batch[3]) / 3 ||
	    !vtest_pairs_read(&pairs, words + batch[3], batch[4]))
		return false;
	command.size = batch[2] * 4;
	if (has_ring) {
		command.hdr.flags = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX;
		command.hdr.ring_idx = (uint8_t)batch[5];
		command.hdr.fence_id = ++vtest.fenced;
	}
	vtest.submits++;
	head = vtest_post(&command, sizeof(command), words + batch[1], command.size,
			  vtest_answer_gpa(vtest.slot), 24);
	vtest.fences[head].waiting = has_ring;
	vtest.fences[head].pairs = pairs;
	if (!has_ring)
		vtest_signal(&pairs);
	return true;
}

static inline bool vtest_wait(int fd, const uint32_t *words, uint32_t count)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), theirs = dup(event);
	bool good = false;

	for (unsigned i = 0; i < VTEST_WAITS && !good; i++)
		if (vtest.waits[i].fd < 0) {
			good = count >= 2 &&
			       vtest_pairs_read(&vtest.waits[i].pairs, words + 2, (count - 2) / 3);
			vtest.waits[i].any = words[0] & 1;
			if (good)
				vtest.waits[i].fd = event;
			break;
		}
	vtest_check_waits();
	good = good && vtest_reply(fd, VTEST_SYNC_WAIT, NULL, 0) && vtest_send_fd(fd, theirs);
	close(theirs);
	return good;
}

/* One request of a client. Returns false to drop it. */
static inline bool vtest_serve(unsigned client)
{
	static uint32_t words[VTEST_WORDS];
	const int fd = vtest.clients[client].fd;
	uint32_t *context = &vtest.clients[client].context;
	uint32_t header[2], size;
	struct vtest_pairs pairs;
	uint64_t value;

	if (!vtest_read(fd, header, sizeof(header)))
		return false;
	/* Lengths are words, but for the name, which is bytes. */
	size = header[1] == VTEST_CREATE_RENDERER ? header[0] : header[0] * 4;
	if (size > sizeof(words) || (size && !vtest_read(fd, words, size)))
		return false;
	switch (header[1]) {
	case VTEST_CREATE_RENDERER:
		return true;
	case VTEST_PING:
		return vtest_reply(fd, VTEST_PING, NULL, 0);
	case VTEST_BUSY_WAIT:
		return vtest_reply(fd, VTEST_BUSY_WAIT, (uint32_t[]){ 0 }, 1);
	case VTEST_VERSION:
		return vtest_reply(fd, VTEST_VERSION, (uint32_t[]){ 3 }, 1);
	case VTEST_GET_PARAM:
		return vtest_reply(fd, VTEST_GET_PARAM, (uint32_t[]){ words[0] == 1, 64 }, 2);
	case VTEST_GET_CAPSET:
		return vtest_capset(fd, words);
	case VTEST_CONTEXT_INIT:
		return vtest_context(context, words);
	case VTEST_CREATE_BLOB:
		return vtest_blob(fd, *context, words);
	case VTEST_RESOURCE_UNREF: {
		struct virtio_gpu_resource_unref command = { .hdr.type =
								     VIRTIO_GPU_CMD_RESOURCE_UNREF,
							     .resource_id = words[0] };

		return vtest_ask(&command, sizeof(command)) == VIRTIO_GPU_RESP_OK_NODATA;
	}
	case VTEST_SYNC_CREATE:
		for (uint32_t id = 1; id < VTEST_SYNCS; id++)
			if (!vtest.syncs[id].used) {
				vtest.syncs[id].used = true;
				vtest.syncs[id].value = words[0] | (uint64_t)words[1] << 32;
				return vtest_reply(fd, VTEST_SYNC_CREATE, &id, 1);
			}
		return false;
	case VTEST_SYNC_UNREF:
		vtest.syncs[words[0] % VTEST_SYNCS].used = false;
		return true;
	case VTEST_SYNC_READ:
		value = vtest.syncs[words[0] % VTEST_SYNCS].value;
		return vtest_reply(fd, VTEST_SYNC_READ,
				   (uint32_t[]){ (uint32_t)value, (uint32_t)(value >> 32) }, 2);
	case VTEST_SYNC_WRITE:
		if (!vtest_pairs_read(&pairs, words, 1))
			return false;
		vtest.syncs[pairs.ids[0]].value = pairs.values[0];
		vtest_check_waits();
		return true;
	case VTEST_SYNC_WAIT:
		return vtest_wait(fd, words, header[0]);
	case VTEST_SUBMIT:
		for (uint32_t i = 0; i < words[0]; i++)
			if (1 + 8 * (i + 1) > header[0] + 2 ||
			    !vtest_batch(*context, words + 1 + 8 * i, words, header[0]))
				return false;
		return true;
	default:
		return false;
	}
}

static inline void vtest_drop(unsigned client)
{
	struct virtio_gpu_ctx_destroy command = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_DESTROY,
			 .ctx_id = vtest.clients[client].context }
	};

	fd_close(&vtest.clients[client].fd);
	if (vtest.clients[client].context)
		vtest_ask(&command, sizeof(command));
	vtest.clients[client].context = 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

static inline void vtest_open(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memset(&vtest, 0, sizeof(vtest));
	for (unsigned i = 0; i < VTEST_CLIENTS; i++)
		vtest.clients[i].fd = -1;
	for (unsigned i = 0; i < VTEST_WAITS; i++)
		vtest.waits[i].fd = -1;
	guest.device->ops->set_mapper(guest.device, &vtest_mapper, NULL);
	assert_true(guest_negotiate(&guest, GUEST_FEATURES | VENUS_FEATURES));
	guest_setup_queue(&guest, CONTROL, VTEST_QUEUE_SIZE);
	guest_setup_queue(&guest, CURSOR, 16);
	guest_driver_ok(&guest);
	response_gpa = guest_alloc(&guest, RESPONSE_SIZE);
	memory_gpa = guest_alloc(&guest, VTEST_SLOTS * VTEST_SLOT);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	vtest.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(vtest.listener >= 0);
	assert_int_equal(bind(vtest.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(vtest.listener, VTEST_CLIENTS), 0);
}

/* Start a program as a guest's, in an environment of its own; @build: where we were built; @to: where it prints. */
static inline pid_t vtest_start(const char *build, const char *path, const char *const arguments[],
				int to)
{
	char preload[PATH_MAX + 64], socket_name[96];
	const char *const environment[] = {
		preload,
		socket_name,
		"VN_DEBUG=vtest",
		/* What trixie's virglrenderer and Mesa offer is 1.3 but for its name. */
		"MESA_VK_VERSION_OVERRIDE=1.3",
		"VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json",
		"ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0",
		"PATH=/usr/bin:/bin",
		NULL,
	};
	pid_t pid;

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s/tests/unit/vtest_preload.so", build);
	snprintf(socket_name, sizeof(socket_name), "VTEST_SOCKET_NAME=%s", path);
	pid = fork();
	if (!pid) {
		dup2(to, 1);
		dup2(to, 2);
		execve(arguments[0], (char *const *)(uintptr_t)arguments,
		       (char *const *)(uintptr_t)environment);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

/* Serve whoever comes until @pid has ended, at most @seconds. Returns its status, -1: still there. */
static inline int vtest_run(pid_t pid, unsigned seconds)
{
	const uint64_t end = monotonic_ns() + seconds * NSEC_PER_SEC;
	int status = -1;

	while (monotonic_ns() < end) {
		struct pollfd fds[VTEST_CLIENTS + 2] = {
			{ vtest.listener, POLLIN, 0 }, { guest.vectors[1 + CONTROL], POLLIN, 0 }
		};

		for (unsigned i = 0; i < VTEST_CLIENTS; i++)
			fds[2 + i] = (struct pollfd){ vtest.clients[i].fd, POLLIN, 0 };
		poll(fds, ARRAY_SIZE(fds), 20);
		vtest_collect(0);
		for (unsigned i = 0; i < VTEST_CLIENTS; i++)
			if (vtest.clients[i].fd >= 0 && fds[2 + i].revents && !vtest_serve(i))
				vtest_drop(i);
		for (unsigned i = 0; i < VTEST_CLIENTS && fds[0].revents; i++)
			if (vtest.clients[i].fd < 0) {
				vtest.clients[i].fd =
					accept4(vtest.listener, NULL, NULL, SOCK_CLOEXEC);
				break;
			}
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
	}
	return -1;
}

static inline void vtest_close(const char *path)
{
	for (unsigned i = 0; i < VTEST_CLIENTS; i++)
		if (vtest.clients[i].fd >= 0)
			vtest_drop(i);
	for (unsigned i = 0; i < VTEST_WAITS; i++)
		fd_close(&vtest.waits[i].fd);
	fd_close(&vtest.listener);
	unlink(path);
	guest.device->ops->set_mapper(guest.device, NULL, NULL);
}

#endif
