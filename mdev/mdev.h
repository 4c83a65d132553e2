/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mdev: devices made of software that answer VFIO's operations table.
 *
 * Here so far: the virtio 1.2 transport over PCI, the small devices of a VM's own process (block, net,
 * console, rng, vsock), and the vfio-user server that offers any device to another process. The
 * transport is what the vGPU will stand on. Knows nothing of KVM:
 * notifications arrive by eventfd (get_io_fds()), interrupts leave by eventfd (set_irqs()), guest
 * memory comes by dma_map().
 *
 * Follows the OASIS Virtual I/O Device (VIRTIO) specification, version 1.2.
 */
#ifndef MDEV_MDEV_H
#define MDEV_MDEV_H

#include "base/base.h"
#include "base/sandbox.h"
#include "vfio/vfio.h"

/*
 * Every device: created closed to the guest (status 0), one thread of its own for its queues,
 * which begins with vfio_device_start() and ends with close(). What a guest writes into rings or config is
 * copied once and validated once; a malformed ring sets DEVICE_NEEDS_RESET and stops the device.
 * Errors of the host (a failing disk) are answered in the protocol and logged.
 */

struct virtio_blk_config {
	const char *path; /* raw file or block device */
	bool readonly;
	bool synchronous; /* one request at a time, even where the kernel has io_uring */
};
/* Returns 0 or -errno: "disk-missing", "disk-readonly", "disk-not-a-disk", "disk-locked". */
int virtio_blk_create(const struct virtio_blk_config *config, struct vfio_device **out,
		      struct error *e);

struct virtio_net_config {
	const char *tap; /* name of an existing or creatable tap interface; NULL: user mode */
	uint8_t mac[6];	 /* all zero: a locally administered one is made from @index */
	unsigned index;
};
/*
 * User mode runs passt(1) as a child over a socket pair: no privilege needed; it ends with the
 * device. Returns 0 or -errno: "no-tap", "no-passt".
 */
int virtio_net_create(const struct virtio_net_config *config, struct vfio_device **out,
		      struct error *e);

/*
 * virtio_console_create() - a console on two file descriptors (borrowed; may be the same).
 * @in_fd: -1 for none
 */
int virtio_console_create(int in_fd, int out_fd, struct vfio_device **out, struct error *e);

/*
 * virtio_vsock_create() - sockets between guest and host, served by the host's kernel: after
 * DRIVER_OK no thread of ours is in the way.
 * @cid: the guest's address, 3 to 0xfffffffe, taken from here until close()
 * @path: NULL for /dev/vhost-vsock
 * Returns 0 or -errno: "no-vhost-vsock" (module or permission), "cid-taken", "bad-cid".
 */
int virtio_vsock_create(uint32_t cid, const char *path, struct vfio_device **out, struct error *e);

/* virtio_rng_create() - entropy from getrandom(2). */
int virtio_rng_create(struct vfio_device **out, struct error *e);

/* ---- the vfio-user server ------------------------------------------------------------------ */

struct sd_event;
struct mdev_server;

struct mdev_server_options {
	/* A socket made here, of mode 0600, and removed in the end; NULL: only mdev_server_attach(). */
	const char *path;
	unsigned timeout_ms; /* that a client may take over what it began; 0: 5000 */
};

/*
 * mdev_server_create() - offer @device to one vfio-user client at a time (docs/mdev.md). All happens in the
 * thread that runs @event, of which a reference is kept; device calls too.
 * @device: borrowed; must outlive the server. Who made it starts its threads (vfio_device_start()).
 * It is reset whenever a client goes.
 *
 * Returns 0 or -errno: "socket-path" (too long, not allowed, something else is there), "socket-in-use", "bad-device", "no-memory".
 */
int mdev_server_create(struct sd_event *event, struct vfio_device *device,
		       const struct mdev_server_options *options, struct mdev_server **out,
		       struct error *e);
/*
 * mdev_server_attach() - serve the client at the other end of @fd, a connected stream socket (taken over,
 * on failure too). Returns 0 or -EBUSY ("device-in-use").
 */
int mdev_server_attach(struct mdev_server *server, int fd, struct error *e);
/* mdev_server_attached() - whether a client is there. The loop's thread. */
bool mdev_server_attached(const struct mdev_server *server);
/* mdev_server_destroy() - drop the client, remove the socket. The loop's thread, not from an event. NULL is fine. */
void mdev_server_destroy(struct mdev_server *server);

/* ---- types, parents, instances -------------------------------------------------------------- */

/*
 * Three things give shares of a device out, under one table: our own vGPUs of a GPU ("vgpu"), the kernel's
 * mediated devices ("mdev"), and virtual functions ("sriov"). docs/mdev.md says what each can.
 */
#define MDEV_NAME_MAX	    64
#define MDEV_UUID_LEN	    37 /* "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" and its NUL */
#define MDEV_PARAMETERS_MAX 4
#define MDEV_INSTANCES_MAX  4096 /* that a list holds; more are "too-many" */
#define MDEV_TYPES_MAX	    1024

/* A GPU that vGPUs are made of. */
struct mdev_gpu {
	char name[MDEV_NAME_MAX]; /* letters, digits, "-_.:", not beginning with "." */
	uint64_t memory_mib;	  /* what its vGPUs have together */
	unsigned instances;	  /* how many there may be */
};

struct mdev_host {
	const char *root;	     /* prefix of /sys and /run; "" for the real ones */
	const struct mdev_gpu *gpus; /* borrowed */
	unsigned gpu_count;
};

struct mdev_parameter {
	char name[32];
	uint64_t value;
};

struct mdev_type {
	const char *provider; /* "vgpu", "mdev", "sriov" */
	char parent[MDEV_NAME_MAX];
	char name[MDEV_NAME_MAX]; /* unique with its parent */
	char description[512];
	char device_api[32]; /* "vfio-user", "vfio-pci" */
	unsigned available;  /* how many more can be made now */
	unsigned parameter_count;
	struct mdev_parameter parameters[MDEV_PARAMETERS_MAX];
};

struct mdev_types {
	unsigned count, room;
	struct mdev_type *items; /* by provider, parent, name */
};

struct mdev_instance {
	const char *provider;
	char id[MDEV_UUID_LEN]; /* a UUID; of a virtual function its address */
	char parent[MDEV_NAME_MAX];
	char type[MDEV_NAME_MAX];
	char path[256]; /* "vgpu": the socket its server listens at; else its folder in sysfs */
};

struct mdev_instances {
	unsigned count, room;
	struct mdev_instance *items; /* by provider, ID */
};

/*
 * mdev_types(), mdev_instances() - all there are, into a zeroed list that mdev_*_free() empties. What a host does
 * not have (no mediated device, no virtual function) is no error. Returns 0 or -errno ("too-many",
 * "no-memory", "sysfs-unreadable").
 */
int mdev_types(const struct mdev_host *host, struct mdev_types *types, struct error *e);
void mdev_types_free(struct mdev_types *types);
int mdev_instances(const struct mdev_host *host, struct mdev_instances *instances, struct error *e);
void mdev_instances_free(struct mdev_instances *instances);
/* The same as JSON, indented, with a newline; freed by the caller. NULL: out of memory. */
char *mdev_types_json(const struct mdev_types *types);
char *mdev_instances_json(const struct mdev_instances *instances);

struct mdev_request {
	const char *parent, *type;
	const char *uuid; /* NULL: a random one; not for "sriov" */
	unsigned count;	  /* "sriov": how many virtual functions there are to be; else 0 */
};
/*
 * mdev_create() - make an instance. Returns 0 with *out (of "sriov" the first), or -errno:
 * "no-such-type" (names those there are), "bad-uuid", "instance-exists", "none-available" (says what is taken),
 * "bad-count", "sysfs-refused" (what the kernel said).
 */
int mdev_create(const struct mdev_host *host, const struct mdev_request *request,
		struct mdev_instance *out, struct error *e);
/*
 * mdev_remove() - by UUID; for virtual functions by the address of the parent, all at once. Returns 0 or
 * -errno: "no-such-instance", "instance-in-use", "sysfs-refused".
 */
int mdev_remove(const struct mdev_host *host, const char *id, struct error *e);
/*
 * mdev_open() - a vGPU becomes its server's, until *lock (a descriptor) is closed: it cannot be removed and
 * no other server opens it. out->path is where to listen. Returns 0 or -errno: "bad-uuid",
 * "no-such-instance", "instance-in-use", "bad-instance".
 */
int mdev_open(const struct mdev_host *host, const char *uuid, struct mdev_instance *out, int *lock,
	      struct error *e);

/* ---- the vGPU (docs/vgpu.md) -------------------------------------------------------------- */

#define VIRTIO_GPU_HEADS_MAX	4
#define VIRTIO_GPU_WIDTH_MAX	4096 /* of a mode that is offered */
#define VIRTIO_GPU_HEIGHT_MAX	2160
#define VIRTIO_GPU_WIDTH_MIN	640
#define VIRTIO_GPU_HEIGHT_MIN	480
#define VIRTIO_GPU_DISPLAYS_MAX 4
#define VIRTIO_GPU_CURSOR_SIZE	64

struct virtio_gpu_mode {
	uint32_t width, height; /* both 0: nothing is plugged in */
};

#define VIRTIO_GPU_RENDER_SERVER "/usr/libexec/virgl_render_server"

/* Vulkan for the guest, by virglrenderer and its render server: at most one in a process. */
struct virtio_gpu_venus_config {
	const char *render_server; /* path; NULL: VIRTIO_GPU_RENDER_SERVER */
	/* "NAME=value", NULL at the end: all that the server and its workers get to see. Copied. */
	const char *const *environment;
	/* How the server and its workers are confined (docs/sandbox.md, "The render side"). */
	bool unconfined;	  /* not at all */
	struct sandbox_user user; /* who they are; root's to say; not wanted: who this process is */
	const char *const *nodes; /* devices that they may open: the GPU's; NULL: none */
	/*
	 * One that uses the GPU and is not registered with the arbiter for so long is ended. 0: nobody is asked, since there is no arbiter.
	 * @watch_fd: whom to ask (vgpu_watch_open()); stays the caller's.
	 */
	unsigned register_ms;
	int watch_fd;
};

struct virtio_gpu_config {
	const char *name; /* for messages and monitors, up to 12 bytes; NULL: "vgpu" */
	unsigned head_count;
	struct virtio_gpu_mode heads[VIRTIO_GPU_HEADS_MAX];
	/*
	 * The window in which the guest sees memory of the host: a power of two from 1 MiB to 1 TiB; 0:
	 * none, and then no Venus. Who shows it is the device's mapper (struct vfio_mapper).
	 */
	uint64_t window_size;
	const struct virtio_gpu_venus_config *venus; /* NULL: no Vulkan */
};

/*
 * virtio_gpu_create() - a virtio-gpu device (VIRTIO 1.2, 5.7): heads, cursor, 2D, blobs, and Venus
 * where it is asked for. A render server that cannot be started costs Venus and nothing else: it is
 * logged, and the guest finds no capability set; nor does it while nobody shows the window.
 * @config: copied
 *
 * With Venus the process must have one thread: another one is forked, which starts render servers.
 * Returns 0 or -errno: "bad-config", "venus-taken" (this process has a Venus already), "render-jail", "no-seccomp" (they
 * cannot be confined as they should), "no-gpu-node".
 */
int virtio_gpu_create(const struct virtio_gpu_config *config, struct vfio_device **out,
		      struct error *e);

/* virtio_gpu_head_set() - plug a monitor of another mode, or none, into a head. Any thread but the worker. */
int virtio_gpu_head_set(struct vfio_device *device, unsigned head,
			const struct virtio_gpu_mode *mode);
/* virtio_gpu_head_mode() - the monitor that is plugged in now, whoever did it. Returns 0 or -ENOENT. Any thread but the worker. */
int virtio_gpu_head_mode(struct vfio_device *device, unsigned head, struct virtio_gpu_mode *mode);

union pixman_image; /* pixman.h */

struct virtio_gpu_rectangle {
	uint32_t x, y, width, height;
};

struct virtio_gpu_cursor_image {
	bool visible;
	int32_t x, y; /* of the hot spot, on the head; may lie outside of it */
	uint32_t hot_x, hot_y;
	/* VIRTIO_GPU_CURSOR_SIZE squared, PIXMAN_a8r8g8b8, premultiplied; good during the call. */
	const uint32_t *pixels;
};

/*
 * Somebody who looks at the heads (a viewer's server). Called on the device's worker, which waits: take
 * what is needed and return; do not call the device. Any of them may be NULL.
 */
struct virtio_gpu_display_ops {
	/* The head shows @width x @height pixels from now on; 0 x 0: it is off. */
	void (*size)(void *opaque, unsigned head, uint32_t width, uint32_t height);
	/* Of @image, which is the whole head and good during the call, this part is new. */
	void (*damage)(void *opaque, unsigned head, union pixman_image *image,
		       const struct virtio_gpu_rectangle *damage);
	/* @moved: only the position differs from the last call. */
	void (*cursor)(void *opaque, unsigned head, const struct virtio_gpu_cursor_image *cursor,
		       bool moved);
};
/*
 * virtio_gpu_display_add() - begins with a size() and a damage() of each head that is on, before it
 * returns. virtio_gpu_display_remove(): no call is under way when it returns. Any thread but the worker.
 * @ops, @opaque: borrowed until removed; the pair names the observer
 * Returns 0 or -ENOSPC (VIRTIO_GPU_DISPLAYS_MAX).
 */
int virtio_gpu_display_add(struct vfio_device *device, const struct virtio_gpu_display_ops *ops,
			   void *opaque);
void virtio_gpu_display_remove(struct vfio_device *device, const struct virtio_gpu_display_ops *ops,
			       void *opaque);

/*
 * virtio_gpu_head_look() - run @look with what the head shows now, where possible without a copy, on the
 * device's worker; any thread but that one waits. The image is good during the call, its pixels may
 * change meanwhile as the guest draws.
 * Returns 0, -ENOENT (no such head), -ENODATA (it is off), or what @look returned.
 */
int virtio_gpu_head_look(struct vfio_device *device, unsigned head,
			 int (*look)(void *opaque, union pixman_image *image), void *opaque);

/*
 * virtio_gpu_screenshot() - what the head shows, with its cursor, as a PNG file (8 bits, RGB).
 * @fd: written from where it is, stays the caller's
 * Returns 0 or -errno as virtio_gpu_head_look(), -ENOMEM, or what the writes failed with.
 */
int virtio_gpu_screenshot(struct vfio_device *device, unsigned head, int fd);

struct input_seat;

/* What a vGPU's control socket needs to know; the answers are mdev/gpu/control.c's. */
struct virtio_gpu_control {
	struct vfio_device *device;
	const struct mdev_server *server; /* NULL: in the VMM's own process */
	struct input_seat *seat; /* NULL: no keyboard and no pointer (mdev/input/input.h) */
	const char *name;
	bool vulkan;
	unsigned head_count;
};
/* virtio_gpu_control_answer() - for control_socket_attach(); @opaque is a struct virtio_gpu_control. Any thread but the device's worker. */
control_answer virtio_gpu_control_answer;

#endif
