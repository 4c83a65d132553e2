/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the launcher share (vgpu-sched.h, "a program under a share"). Private to vgpu-sched/live/ and its tests. */
#ifndef VGPU_SCHED_LIVE_LAUNCH_PRIVATE_H
#define VGPU_SCHED_LIVE_LAUNCH_PRIVATE_H

#include "vgpu-sched/live/protocol.h"

#define LAUNCH_LAYER "VK_LAYER_DIVVY_vgpu"

/* ---- launch_gpu.c --------------------------------------------------------------------------------- */

/*
 * launch_gpu_choose() - the one of @count that @wanted names: its name, or a part of what the device calls itself. NULL: the only one
 * that is not a CPU, or else the only one. Two entries of one name are one GPU. Returns it, or NULL: "no-such-gpu", "which-gpu".
 */
const struct vulkan_gpu *launch_gpu_choose(const struct vulkan_gpu *gpus, unsigned count,
					   const char *wanted, struct error *e);

/* ---- launch_layer.c: what makes a program's Vulkan loader take the layer ------------------------------- */

/*
 * launch_layer_find() - the folder of the layer's manifest, whose library is there too: @folder itself where one is given, or else where it is beside the
 * executable, built or installed.
 * Returns 0 or -errno: "layer-missing".
 */
int launch_layer_find(const char *folder, char path[4096], struct error *e);
/*
 * launch_layer_environment() - in this process's environment: the layer in @folder is found, active, and not disabled, whatever is there
 * already; @socket and @token are what it registers with. Returns 0 or -ENOMEM.
 */
int launch_layer_environment(const char *folder, const char *socket,
			     const uint8_t token[LIVE_TOKEN_SIZE]);

/* ---- launch_child.c ------------------------------------------------------------------------------------ */

struct launch_child {
	pid_t pid;
	int pidfd, signals; /* signalfd */
	int status;	    /* once it has ended: as a shell has it, 128 + n for signals */
	bool ended;
};

/*
 * launch_signals() - @block the signals that are handed on, or not. Blocked before any thread is made: a driver's that did not would take
 * them.
 */
void launch_signals(bool block);
/*
 * launch_child_start() - run @argv, with signals unblocked, as a child that is killed when this process dies.
 * @prepare: called in the child before the program is started; what it returns, if not 0, is the failure
 * Returns 0 or -errno: "program-not-started".
 */
int launch_child_start(struct launch_child *child, char **argv, int (*prepare)(void *opaque),
		       void *opaque, struct error *e);
/*
 * launch_child_wait() - until it has ended, or @fd can be read or has hung up (-1: none). Returns 0 with the child ended, 1 because of @fd, or -errno.
 */
int launch_child_wait(struct launch_child *child, int fd);
/* launch_child_end() - kill and reap it if it has not ended. */
void launch_child_end(struct launch_child *child);

/* ---- launch_arbiter.c: an arbiter for this one program --------------------------------------------------- */

struct launch_arbiter {
	pid_t pid; /* 0: none */
	char folder[64], socket[80];
};

/* launch_arbiter_start() - an arbiter in a child of its own, which ends with this process. Returns 0 or -errno: "no-arbiter". */
int launch_arbiter_start(struct launch_arbiter *arbiter, struct error *e);
void launch_arbiter_end(struct launch_arbiter *arbiter);

#endif
