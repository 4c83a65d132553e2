/* SPDX-License-Identifier: Apache-2.0 */
/* jail: what divvy-vgpu and its render side may still do once they run (docs/sandbox.md). Of mdev/main.c. */
#ifndef MDEV_JAIL_H
#define MDEV_JAIL_H

#include "base/sandbox.h"
#include "mdev/mdev.h"

#define JAIL_NODES_MAX	 4
#define JAIL_SOCKETS_MAX 16

struct vgpu_jail {
	bool off;
	const char *server; /* path of virglrenderer's render server */
	struct sandbox_user self, render;
	const char *nodes[JAIL_NODES_MAX + 1]; /* NULL at the end */
	unsigned node_count;
	unsigned register_ms;

	/* Not options: */
	char found[JAIL_NODES_MAX][64];
	int watch_fd;
	bool control;
	char folders[JAIL_SOCKETS_MAX][108]; /* of sockets, whose names are removed at the end */
	unsigned folder_count;
};

/* jail_init() - the defaults. jail_render() - of @venus: users, nodes, and who asks the arbiter. Returns 0 or -errno. jail_end() - closes what that opened. */
void jail_init(struct vgpu_jail *jail);
int jail_render(struct vgpu_jail *jail, struct virtio_gpu_venus_config *venus, struct error *e);
void jail_end(struct vgpu_jail *jail);

/* jail_socket() - a socket with that path is to go with the process. */
void jail_socket(struct vgpu_jail *jail, const char *path);
/* jail_close(), jail_close_main() - sandbox_close(), before threads, and sandbox_close_main(), after. */
int jail_close(const struct vgpu_jail *jail, struct error *e);
int jail_close_main(const struct vgpu_jail *jail, struct error *e);

/* ---- sandbox_table.c ------------------------------------------------------------------------ */

extern const struct sandbox_table vgpu_sandbox;
/* vgpu_sandbox_first() - what the first thread has besides; @control: there is a control socket. */
unsigned vgpu_sandbox_first(bool control);

/* ---- gpu_node.c ----------------------------------------------------------------------------- */

/*
 * gpu_nodes_find() - the render nodes of the GPU that the arbiter calls @name: a PCI address; anything else renders on the CPU and has none.
 * @root: prefix of /sys and /dev, "" for the real ones. Returns how many, or -errno: "no-gpu-node".
 */
int gpu_nodes_find(const char *root, const char *name, char nodes[][64], unsigned max,
		   struct error *e);
/* socket_share() - @user may connect to the socket at @path too, by an entry of its access list. Returns 0 or -errno: "arbiter-socket". */
int socket_share(const char *path, uid_t user, struct error *e);

#endif
