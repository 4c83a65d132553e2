/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vfio-user server, private to mdev/ (and to its tests). Its parts:
 *
 *   server.c            life: socket, clients one after the other, the loop, time limits
 *   server_commands.c   the table of commands; version, device, regions, accesses, reset
 *   server_dma.c        guest memory by file
 *   server_irq.c        interrupts: what there is, eventfds
 *   server_map.c        the server's own requests: device memory shown in the client's region
 *   server_trap.c       the same for a client that takes no such requests
 *
 * One thread: that of the sd-event loop. Only server_map.c is called from others (the device's), and puts what
 * it is asked into a locked table that the loop looks at. A message is taken when it is whole and the
 * answer to the one before has been sent whole, so there is one of each at most, in two buffers that are
 * made once. Nothing waits for the client: a peer that neither sends the rest of what it began nor takes
 * what it asked for, nor answers, is dropped after `timeout_ms`.
 *
 * The client is not trusted. A message whose shape cannot be ends the connection; one that asks for what is
 * not possible is answered with an errno, and the connection goes on.
 */
#ifndef MDEV_SERVER_H
#define MDEV_SERVER_H

#include <pthread.h>
#include <systemd/sd-event.h>

#include "mdev/mdev.h"
#include "vfio/user_socket.h"

#define SERVER_TIMEOUT_MS  5000u
#define SERVER_REGIONS_MAX 32
#define SERVER_IRQS_MAX	   16
/* As many as guest memory has banks, and as a virtio device takes. */
#define SERVER_RANGES_MAX 64
/* Descriptors of one message; QEMU does not accept a server that takes more (VFIO_USER_MAX_MAX_FDS). */
#define SERVER_FDS_MAX 16u
/* Requests to the client that it has not answered. */
#define SERVER_REQUESTS_MAX 64
/* Maps of device memory that are served by messages. */
#define SERVER_AREAS_MAX 512
/* How far a client's read may lie before its write for the two to be one instruction, in accesses. */
#define SERVER_RECENT_MAX 8
/* Messages in one turn of the loop. */
#define SERVER_TURN 16

struct server_region {
	struct vfio_region region; /* with _MMAP only where @fd may be handed out */
	int fd;			   /* borrowed from the device, -1: none */
	uint64_t fd_offset;
};

/* What the client mapped. Without @hva the device is not told: see server_dma.c. */
struct server_range {
	uint64_t iova, size;
	void *hva;
};

/* A request of ours, from the device's call until its answer. */
struct server_request {
	bool used, sent;
	uint16_t id;
	uint16_t command;
	struct user_region_map map;
	int fd; /* ours, -1: none or sent */
	vfio_mapped done;
	void *token;
	uint64_t sequence;    /* the order they came in */
	uint64_t deadline_ns; /* for the answer */
};

/* Device memory, for a client that cannot map it. */
struct server_area {
	uint32_t region;
	uint64_t offset, size;
	void *at;
	bool is_atomic;
	bool is_fresh; /* all zeros when it was shown, and the client has written nothing but zeros and read nothing */
};

/* An access of the client's to an area whose words both sides change. */
struct server_recent {
	uint32_t region;
	uint64_t offset, size; /* 0: none */
	bool is_read;	       /* of a word: */
	uint64_t value;
};

/* What is on its way to the client: one message. */
struct server_output {
	struct iovec iov, *at;
	unsigned count; /* 0: nothing */
	int fds[SERVER_FDS_MAX];
	unsigned fd_count;
	int owned_fd; /* closed when it went, -1: none */
};

struct mdev_server {
	sd_event *event;	    /* a reference */
	struct vfio_device *device; /* borrowed */
	unsigned timeout_ms;
	struct unix_listener listener;
	sd_event_source *listener_source, *client_source, *wake_source, *timer;

	/* What the device is, looked at once. */
	uint32_t region_count, irq_count;
	struct server_region regions[SERVER_REGIONS_MAX];
	struct vfio_irq irqs[SERVER_IRQS_MAX];

	/* The client: all of it is as before the first one when none is there. */
	int fd; /* -1: none */
	bool agreed;
	unsigned client_fds_max; /* what it takes in one message */
	bool region_map;	 /* it said it can */
	struct user_receiver in;
	uint64_t in_deadline_ns, out_deadline_ns; /* 0: none */
	struct server_output out;
	size_t reply_size; /* of the reply that is next, with its header; 0: none */
	int reply_fds[SERVER_FDS_MAX];
	unsigned reply_fd_count;
	unsigned range_count;
	struct server_range ranges[SERVER_RANGES_MAX];
	bool armed[SERVER_IRQS_MAX]; /* eventfds were set */

	/* Requests; the lock is for these alone and nothing is called with it. */
	pthread_mutex_t lock;
	int wake_fd;
	bool takes_requests;
	uint64_t sequence;
	uint16_t next_id;
	struct server_request requests[SERVER_REQUESTS_MAX];
	struct {
		struct user_header header;
		struct user_region_map map;
	} request_wire;
	/* Or, with the same lock, what is shown by messages. */
	bool traps;
	unsigned area_count;
	struct server_area areas[SERVER_AREAS_MAX];
	unsigned recent_next;
	struct server_recent recent[SERVER_RECENT_MAX];

	/* USER_PAYLOAD_MAX, and a header more. */
	uint8_t *in_buffer, *out_buffer;
};

/* ---- server_commands.c --------------------------------------------------------------------- */

/*
 * server_handle() - do what @message asks, and make the reply ready. Descriptors stay @message's.
 * Returns NULL, or what is wrong with it, for which the connection ends.
 */
const char *server_handle(struct mdev_server *server, const struct user_message *message);
/* server_payload() - where a command puts the payload of its reply. */
static inline void *server_payload(struct mdev_server *server)
{
	return server->out_buffer + sizeof(struct user_header);
}
/* server_reply() - @size bytes of payload and @fds (borrowed until sent) are the reply. */
void server_reply(struct mdev_server *server, size_t size, const int *fds, unsigned fd_count);

/* ---- server_dma.c, server_irq.c: commands; 0 or the -errno to answer ------------------------- */

int server_dma_map(struct mdev_server *server, const struct user_message *message);
int server_dma_unmap(struct mdev_server *server, const struct user_message *message);
/* server_dma_release() - everything, when the client is gone and the device was reset. */
void server_dma_release(struct mdev_server *server);
int server_irq_info(struct mdev_server *server, const struct user_message *message);
int server_set_irqs(struct mdev_server *server, const struct user_message *message);
void server_irq_release(struct mdev_server *server);

/* ---- server_map.c -------------------------------------------------------------------------- */

/* server_map_begin(), server_map_end() - the client can show memory; it is gone (all fail). Loop. */
void server_map_begin(struct mdev_server *server);
void server_map_end(struct mdev_server *server);
/* server_map_next() - put the oldest request that was not sent into server->out. False: none. */
bool server_map_next(struct mdev_server *server);
/* server_map_reply() - an answer of the client's. Returns what is wrong with it, or NULL. */
const char *server_map_reply(struct mdev_server *server, const struct user_message *message);
/* server_map_deadline() - of the oldest request that was not answered; 0: none. */
uint64_t server_map_deadline(struct mdev_server *server);

/* ---- server_trap.c ------------------------------------------------------------------------- */

void server_trap_begin(struct mdev_server *server);
void server_trap_end(struct mdev_server *server);
/* server_trap_access() - false: nothing is shown there; the device is asked. */
bool server_trap_access(struct mdev_server *server, uint32_t region, uint64_t offset, void *data,
			size_t count, bool write);
/* server_place_check() - (server_map.c) whole pages within a BAR's region. Returns 0 or -EINVAL. */
int server_place_check(const struct mdev_server *server, uint32_t index, uint64_t offset,
		       uint64_t size);

#endif
