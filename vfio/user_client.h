/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vfio-user client, private to vfio/. Its parts:
 *
 *   user_protocol.h   the wire
 *   user_socket.h     whole messages with descriptors, in and out, within a time limit
 *   user_dma.c        guest memory that the server may ask us to read and write
 *   user_client.c     requests and their replies, the server's own requests, death
 *   user_map.c        memory of the server's that it wants seen through a region
 *   user_query.c      asking the server what its device is
 *   user_device.c     struct vfio_device over all that
 *
 * One thread a connection reads the socket. The server may ask for guest memory at any time, while no
 * request of ours is under way too, and while it works on one of ours before it replies; so somebody
 * must always read. A thread of its own is the simplest that can do it: callers send, then sleep until
 * the reader has found their reply by its message ID.
 *
 * The server is not trusted: whatever does not follow the protocol ends the connection. A connection
 * that has ended is dead for good: requests under way fail with the cause, later ones with -ENODEV.
 */
#ifndef VFIO_USER_CLIENT_H
#define VFIO_USER_CLIENT_H

#include <pthread.h>
#include <sys/uio.h>

#include "vfio/user_socket.h"
#include "vfio/vfio.h"

/* A server's devices have about what the kernel's have. */
#define USER_REGIONS_MAX 32
#define USER_IRQS_MAX	 16
#define USER_TIMEOUT_MS	 10000u

/* ---- user_dma.c ---------------------------------------------------------------------------- */

#define USER_DMA_RANGES_MAX MEMORY_BANKS_MAX

struct user_dma_range {
	uint64_t iova, size;
	uint8_t *hva;
};

/* The lock is held while bytes move, so that what was removed is used by nobody. */
struct user_dma {
	pthread_mutex_t lock;
	unsigned count;
	struct user_dma_range ranges[USER_DMA_RANGES_MAX];
};

/* Returns 0, -EINVAL, -EEXIST (overlap) or -ENOSPC. */
int user_dma_add(struct user_dma *dma, uint64_t iova, uint64_t size, void *hva);
/* Exactly what was added. Returns 0 or -ENOENT. */
int user_dma_remove(struct user_dma *dma, uint64_t iova, uint64_t size);
/* user_dma_copy() - all of @count bytes or none of them. Returns 0 or -EFAULT. */
int user_dma_copy(struct user_dma *dma, uint64_t iova, void *buf, size_t count, bool to_guest);

/* ---- user_client.c ------------------------------------------------------------------------- */

/* A request and, after user_client_call(), its reply. */
struct user_call {
	uint16_t command;
	struct iovec payload[2];
	const int *fds; /* borrowed */
	unsigned fd_count;

	void *reply; /* where the reply's payload goes: its first @reply_room bytes at most */
	size_t reply_room, reply_size;
	int *reply_fds; /* the caller's to close; on failure there are none */
	unsigned reply_fds_room, reply_fd_count;

	/* Private to user_client.c. */
	struct user_call *next;
	uint16_t id;
	bool done;
	int result;
};

struct user_client {
	char name[64]; /* for messages */
	int fd;
	unsigned timeout_ms;
	size_t transfer_max; /* what the server takes in one REGION_READ or _WRITE */
	unsigned fds_max;    /* what it takes in one message */
	bool region_map;     /* it may ask for USER_DIVVY_REGION_MAP */
	struct user_dma dma;

	pthread_mutex_t send_lock; /* held for one whole message; before @lock where both are */
	pthread_mutex_t lock;	   /* the fields below */
	pthread_cond_t changed;
	struct user_call *pending;
	uint16_t next_id;
	int dead; /* positive errno: why */
	bool closing;

	bool has_reader; /* set once, before other threads call */
	pthread_t reader;
	uint8_t *buffer; /* of who reads: the reader, or before it the one caller */
};

/*
 * user_client_open() - take over @fd (on failure too) and agree on a version. Until
 * user_client_start() there is one caller at a time, which reads what the server sends.
 * @client: zeroed storage with @name set, unmoved until user_client_close()
 */
int user_client_open(struct user_client *client, int fd, unsigned timeout_ms, struct error *e);
int user_client_start(struct user_client *client, struct error *e);
void user_client_close(struct user_client *client);
/*
 * user_client_call() - send, wait for the reply. Any thread.
 * Returns 0, what the server answered (-errno), why the connection ended meanwhile (-EPROTO,
 * -ECONNRESET, -ETIMEDOUT...), or -ENODEV when it had ended before.
 */
int user_client_call(struct user_client *client, struct user_call *call);
/* user_client_broken() - the server said what cannot be; the connection ends. Returns -EPROTO. */
int user_client_broken(struct user_client *client, const char *what);

/* user_client_dead() - whether the connection has ended. Any thread. */
bool user_client_dead(const struct user_client *client);

/* ---- user_map.c ------------------------------------------------------------------------------ */

/* The lock is held while the mapper is called. */
struct user_map {
	pthread_mutex_t lock;
	const struct vfio_mapper *mapper;
	void *opaque;
};

/*
 * user_map_serve() - USER_DIVVY_REGION_MAP and _UNMAP. Returns what is wrong with the message, or NULL with
 * *result what to answer, 0 or -errno.
 */
const char *user_map_serve(struct user_client *client, struct user_message *message, int *result);

/* ---- user_query.c, user_device.c ----------------------------------------------------------- */

struct user_region {
	struct vfio_region region;
	int fd; /* to map it by, -1: none */
	uint64_t fd_offset;
	unsigned io_fd_count, raw_fd_count;
	struct vfio_io_fd *io_fds;
	int *raw_fds; /* owned; @io_fds borrows from here */
};

struct user_device {
	struct vfio_device device;
	struct user_client client;
	struct user_region regions[USER_REGIONS_MAX];
	struct vfio_irq irqs[USER_IRQS_MAX];
	struct user_map map;
};

/* user_device_query() - fill the head, regions and interrupts. What cannot be is "bad-device". */
int user_device_query(struct user_device *user, struct error *e);

/*
 * vfio_user_attach() - vfio_user_open_fd() with a name and a time limit of one's own for every
 * request. @fd is taken over, on failure too.
 */
int vfio_user_attach(int fd, const char *name, unsigned timeout_ms, struct vfio_device **out,
		     struct error *e);

#endif
