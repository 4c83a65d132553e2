// SPDX-License-Identifier: Apache-2.0
/*
 * How divvy-vgpu closes itself in, and what its render side is given, in the order that works: the arbiter is asked which GPU it is, its nodes are found and tried, the
 * warden is started (by virtio_gpu_create()), sockets listen, and then nothing more is opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "mdev/jail.h"
#include "vgpu-sched/vgpu-sched.h"

/* A driver is loaded and registers within a second; on a machine that has much else to do, and emulates, within ten. */
#define REGISTER_MS 10000

void jail_init(struct vgpu_jail *jail)
{
	*jail = (struct vgpu_jail){ .server = VIRTIO_GPU_RENDER_SERVER,
				    .register_ms = REGISTER_MS,
				    .watch_fd = -1 };
}

/* The render side's user makes its own where root makes it; else it is this user who opens them. */
static int nodes_try(const struct vgpu_jail *jail, struct error *e)
{
	for (unsigned i = 0; i < jail->node_count; i++) {
		int fd = open(jail->nodes[i], O_RDWR | O_CLOEXEC);

		if (fd < 0)
			return error_set(
				e, errno, "gpu-node",
				errno == EACCES || errno == EPERM
					? "add the user to the node's group (usermod -aG render USER), or start it as root with "
					  "--render-jail"
					: "ls -l /dev/dri/by-path, and --render-node PATH",
				"%s, the GPU's node, cannot be opened: %s", jail->nodes[i],
				strerror(errno));
		close(fd);
	}
	return 0;
}

int jail_render(struct vgpu_jail *jail, struct virtio_gpu_venus_config *venus, struct error *e)
{
	const char *socket = getenv("DIVVY_VGPU_SOCKET"), *token = getenv("DIVVY_VGPU_TOKEN");
	char gpu[VGPU_GPU_NAME_SIZE];
	int count, err, self;

	if (!socket || !token)
		return error_set(
			e, EACCES, "no-vgpu",
			"divvy run-native --share 25% -- divvy-vgpu ..., or --no-render",
			"no share of a GPU: DIVVY_VGPU_SOCKET and DIVVY_VGPU_TOKEN are not set");
	if (jail->self.wanted && !jail->render.wanted && !jail->off)
		return error_set(
			e, EINVAL, "bad-config", "--render-jail uid=N, another number",
			"--jail without --render-jail: what renders would be the same user");
	errno = EINVAL;
	if (jail->server[0] != '/' || access(jail->server, X_OK) < 0)
		return error_set(
			e, errno, "no-render-server",
			"apt install virgl-server (1.1 or later), --render-server PATH, or --no-render",
			"%s, virglrenderer's render server, cannot be started: %s", jail->server,
			jail->server[0] != '/' ? "no absolute path" : strerror(errno));
	jail->watch_fd = vgpu_watch_open(socket, token, gpu, e);
	if (jail->watch_fd < 0)
		return jail->watch_fd;
	self = pidfd_open(getpid(), 0);
	err = self < 0 ? -errno : vgpu_watch_ask(jail->watch_fd, self, 1);
	fd_close(&self);
	if (err == -EOPNOTSUPP)
		return error_set(
			e, EOPNOTSUPP, "no-pidfs", "boot Linux 6.9 or later, or --no-render",
			"this kernel is too old for the arbiter to tell whose a process is, and so who renders without it");
	if (!jail->node_count) {
		count = gpu_nodes_find("", gpu, jail->found, JAIL_NODES_MAX, e);
		if (count < 0)
			return count;
		for (int i = 0; i < count; i++)
			jail->nodes[jail->node_count++] = jail->found[i];
		if (!count)
			log_info(
				"%s is no PCI device: it renders on the CPU, and is given no device's node",
				gpu);
	}
	err = nodes_try(jail, e);
	if (!err && jail->render.wanted && !jail->off)
		err = socket_share(socket, jail->render.uid, e);
	venus->render_server = jail->server;
	venus->unconfined = jail->off;
	if (!jail->off)
		venus->user = jail->render;
	venus->nodes = jail->nodes;
	venus->register_ms = jail->register_ms;
	venus->watch_fd = jail->watch_fd;
	return err;
}

void jail_end(struct vgpu_jail *jail)
{
	fd_close(&jail->watch_fd);
}

void jail_socket(struct vgpu_jail *jail, const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	if (!path || !strncmp(path, "tcp:", 4) || jail->folder_count == JAIL_SOCKETS_MAX)
		return;
	snprintf(jail->folders[jail->folder_count++], sizeof(jail->folders[0]), "%.*s",
		 slash ? (int)MAX(slash - path, 1) : 1, slash ? path : ".");
}

int jail_close(const struct vgpu_jail *jail, struct error *e)
{
	struct sandbox_path paths[JAIL_SOCKETS_MAX];
	const struct sandbox_options options = {
		.table = &vgpu_sandbox,
		.first_has = vgpu_sandbox_first(jail->control),
		.jail = jail->self,
		.paths = paths,
		.path_count = jail->folder_count,
	};

	if (jail->off)
		return 0;
	for (unsigned i = 0; i < jail->folder_count; i++)
		paths[i] = (struct sandbox_path){ .path = jail->folders[i], .remove = true };
	return sandbox_close(&options, e);
}

int jail_close_main(const struct vgpu_jail *jail, struct error *e)
{
	return jail->off ? 0 : sandbox_close_main(e);
}
