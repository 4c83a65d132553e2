/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc, inside: a server has screens (a head, or all side by side), a screen has viewers, a viewer has a channel.
 *
 *	worker  --note-->  damage  ==wake==>  vnc thread: gather, pull (the one copy), update --encoder--> channel --> viewer
 *	guest   <--mode, input--  message  <--  handshake  <--  channel  <--  viewer
 *
 * All of it is the vnc thread's, but what struct vnc_shared holds, under its lock.
 */
#ifndef MDEV_VNC_PRIVATE_H
#define MDEV_VNC_PRIVATE_H

#include <gnutls/gnutls.h>
#include <pixman.h>
#include <rfb/rfb.h>

#include "mdev/vnc/vnc.h"

#define VNC_DESKTOP	  VIRTIO_GPU_HEADS_MAX /* the index of the place with all heads */
#define VNC_VIEWERS_TOTAL (VNC_PLACES_MAX * VNC_VIEWERS_MAX + VNC_HANDSHAKES_MAX)
#define VNC_IN_SIZE	  (8 * KIB) /* the longest message that is kept: 1024 encodings */
#define VNC_ENCODINGS_MAX 1024
#define VNC_CLIPBOARD_MAX (1 * MIB) /* thrown away as it comes */
#define VNC_SCREENS_MAX	  16	    /* that a viewer may name */
#define VNC_PASSWORD_MAX  256
#define VNC_DES_LENGTH	  8 /* of a password, of VNC Authentication's own */
#define VNC_SCRATCH_SIZE  (4 * MIB)
#define VNC_BAND_WIDTH	  2048 /* of what is encoded at once; Tight's own limits */
#define VNC_BAND_PIXELS	  (128 * KIB)
#define VNC_BAND_PIXELS_1 (64 * KIB) /* where Tight must make one rectangle of it */
#define VNC_RECTS_MAX	  32	     /* of a viewer's damage, before it becomes one */
#define VNC_DAMAGE_MAX	  16	     /* of what the worker notes */
#define VNC_PULL_PIXELS	  MIB	     /* copied on the device's worker at once */
#define VNC_SNIFF_MS	  250
#define VNC_HANDSHAKE_MS  10000
#define VNC_STALL_MS	  20000
#define VNC_REFUSE_NS	  (2 * NSEC_PER_SEC)
#define VNC_RESIZE_NS	  (1 * NSEC_PER_SEC)
#define VNC_MODE_NS	  (250 * 1000000ul) /* between two modes of one head */
#define VNC_FRAME_NS	  (16 * 1000000ul)  /* between two copies */
#define VNC_SIZE_NS	  (50 * 1000000ul) /* between two sizes, however fast the guest changes them */
#define VNC_ACCEPT_NS	  (20 * 1000000ul)
#define VNC_POINTED_NS	  (500 * 1000000ul)

/* ---- channel.c: bytes, through TLS and WebSocket, none of which waits ------------------------------ */

struct vnc_frame { /* RFC 6455, 5.2: a frame that comes */
	uint8_t header[14], header_size, mask[4], opcode;
	bool inside; /* the header is whole */
	uint64_t left;
	unsigned mask_at;
	uint8_t control[125], control_size; /* of a ping, to be answered */
};

struct vnc_channel {
	int fd;
	gnutls_session_t tls; /* NULL: none */
	size_t tls_kept;      /* bytes that gnutls holds and could not send yet */
	bool greeting;	      /* TLS's handshake is under way */
	bool web;	      /* WebSocket frames */
	struct vnc_frame frame;
	uint8_t in[VNC_IN_SIZE];
	size_t in_size;
	uint8_t *out; /* what the kernel did not take yet */
	size_t out_at, out_size, out_room;
	uint64_t moved_ns; /* something went out, or there was nothing */
	uint64_t sent;
};

/* vnc_channel_init() - takes over @fd. vnc_channel_close() - also of one that is zeroed but for fd -1. */
void vnc_channel_init(struct vnc_channel *channel, int fd);
void vnc_channel_close(struct vnc_channel *channel);
/* vnc_channel_read() - what there is, as far as there is room. Returns 0, -EPIPE (it ended) or -errno. */
int vnc_channel_read(struct vnc_channel *channel);
/* vnc_channel_take() - the first @size bytes of in are used up. */
void vnc_channel_take(struct vnc_channel *channel, size_t size);
/* vnc_channel_write() - send, and keep what does not go. vnc_channel_flush() - send what was kept. Return 0 or -errno. */
int vnc_channel_write(struct vnc_channel *channel, const void *data, size_t size);
int vnc_channel_flush(struct vnc_channel *channel);
/* vnc_channel_idle() - all has gone out. */
bool vnc_channel_idle(const struct vnc_channel *channel);
/* vnc_channel_events() - for poll(2). vnc_channel_holds() - input is here already that poll(2) does not tell of. */
short vnc_channel_events(const struct vnc_channel *channel);
bool vnc_channel_holds(const struct vnc_channel *channel);
/* vnc_channel_secure() - TLS from here on. vnc_channel_greet() - its handshake. Return 0, -EAGAIN, -errno. */
int vnc_channel_secure(struct vnc_channel *channel, gnutls_certificate_credentials_t credentials,
		       gnutls_priority_t priority);
int vnc_channel_greet(struct vnc_channel *channel);

/* ---- web.c: a browser's way in (RFC 6455) ----------------------------------------------------------- */

/*
 * vnc_web_upgrade() - the HTTP request that begins it is in @channel's in. Returns 0 (answered), -EAGAIN, -errno.
 * @any_origin: of pages of whatever host; else of the place's own
 */
int vnc_web_upgrade(struct vnc_channel *channel, bool any_origin);
/*
 * vnc_web_unwrap() - the frames in @data, @size bytes, with their payload appended to in, which has room for all of it.
 * Returns 0 or -errno.
 */
int vnc_web_unwrap(struct vnc_channel *channel, uint8_t *data, size_t size);
/* vnc_web_header() - before @size bytes of payload. Returns its length. */
size_t vnc_web_header(uint8_t header[10], unsigned opcode, size_t size);

/* ---- who and what ------------------------------------------------------------------------------------ */

struct vnc_cursor {
	bool visible;
	int32_t x, y; /* of the hot spot, on its head; in a screen: on the screen */
	uint32_t hot_x, hot_y;
	uint32_t pixels[VIRTIO_GPU_CURSOR_SIZE * VIRTIO_GPU_CURSOR_SIZE];
};

/* What the device's worker has noted of a head and nobody has taken yet. */
struct vnc_noted {
	uint32_t width, height;
	bool resized, cursor_changed, cursor_moved;
	unsigned damage_count;
	struct virtio_gpu_rectangle damage[VNC_DAMAGE_MAX];
	struct vnc_cursor cursor;
};

struct vnc_shared {
	pthread_mutex_t lock;
	bool woken, stop;
	struct vnc_noted noted[VIRTIO_GPU_HEADS_MAX];
	struct vnc_stats stats;
};

struct vnc_head {
	uint32_t width, height;	       /* 0: off */
	struct virtio_gpu_mode wanted; /* by a viewer */
	bool is_wanted;
	uint64_t mode_after_ns;
};

struct vnc_screen {
	struct vnc_server *server;
	unsigned index, first, count;  /* the heads that it shows */
	struct unix_listener listener; /* of TCP without a name; fd -1: there is no such place */
	bool tcp;
	unsigned port;
	uint64_t accept_after_ns;

	unsigned viewers; /* that are let in; none: no pixels either */
	rfbScreenInfoPtr rfb;
	char title[64];
	uint32_t *pixels; /* the shadow: PIXMAN_x8r8g8b8 */
	pixman_image_t *image;
	uint32_t width, height;
	unsigned generation;		     /* of its size */
	uint32_t left[VIRTIO_GPU_HEADS_MAX]; /* where each head begins */
	bool asked;			     /* for another size, by some viewer */

	struct vnc_cursor cursor; /* pixels: premultiplied */
	unsigned cursor_head;	  /* that it is on */
	rfbCursor rich;
	uint32_t rich_pixels[VIRTIO_GPU_CURSOR_SIZE * VIRTIO_GPU_CURSOR_SIZE];
	uint8_t rich_mask[VIRTIO_GPU_CURSOR_SIZE * VIRTIO_GPU_CURSOR_SIZE / 8];
};

enum vnc_stage {
	VNC_SNIFF,   /* whether the viewer speaks first: a browser's TLS or HTTP */
	VNC_GREET,   /* TLS of a browser */
	VNC_UPGRADE, /* HTTP of a browser */
	VNC_VERSION,
	VNC_SECURITY,
	VNC_VENCRYPT, /* its version */
	VNC_SUBTYPE,
	VNC_SECURE,  /* its TLS */
	VNC_PLAIN,   /* name and password */
	VNC_DES,     /* the answer to a challenge */
	VNC_REFUSED, /* told so in a while */
	VNC_INIT,
	VNC_NORMAL,
};

struct vnc_viewer {
	struct vnc_server *server;
	struct vnc_screen *screen;
	struct vnc_channel channel;
	enum vnc_stage stage;
	uint64_t deadline_ns; /* of the handshake */
	uint64_t until_ns;    /* of VNC_SNIFF, VNC_REFUSED */
	unsigned number;
	char peer[48];	    /* its address, for the log */
	unsigned minor;	    /* RFB 3.minor: 3, 7, 8 */
	unsigned after_tls; /* the VeNCrypt subtype */
	const char *refusal;
	uint8_t challenge[16];

	rfbClientPtr rfb;	/* NULL: not let in yet */
	uint32_t width, height; /* as it was told */
	uint32_t skip;		/* bytes of its clipboard that are to come */
	bool heavy;		/* this turn's one message that costs something is spent */
	bool again;		/* there is more to do without waiting */
	/* What it understands. */
	bool resizes, resizes_extended, shows_cursor, follows_cursor, extended_keys,
		extended_buttons;
	/* What it is to be told. */
	bool tell_size, tell_cursor, tell_position, tell_keys, tell_buttons;
	uint8_t size_reason, size_status;
	uint64_t asked_until_ns; /* 0: it did not ask for another size */
	uint64_t pointed_ns;	 /* when it moved the pointer last */

	pixman_region32_t requested, dirty, sending;
	bool is_sending, open_ended; /* an update is under way; without a count of rectangles */
	unsigned generation;	     /* of the screen, when it began */
	int at_box;
	int32_t at_x, at_y;
};

struct vnc_server {
	struct vfio_device *device;
	struct input_seat *seat;
	unsigned head_count;
	char name[32];
	struct virtio_gpu_mode fallback[VIRTIO_GPU_HEADS_MAX];
	struct vnc_screen screens[VNC_PLACES_MAX];
	struct vnc_viewer *viewers[VNC_VIEWERS_TOTAL];
	unsigned viewer_next; /* number */
	unsigned let_in;      /* of all screens; above 0 the device is observed */
	struct vnc_head heads[VIRTIO_GPU_HEADS_MAX];
	uint64_t pull_after_ns, size_after_ns;
	bool damaged; /* something is noted that was not pulled */
	bool size_waits;
	uint64_t stall_ns, handshake_ns, sniff_ns;

	bool has_tls, has_password, plaintext;
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priority;
	char password[VNC_PASSWORD_MAX + 1];

	int wake_fd, scratch_fd, work_fd;
	uint8_t *scratch;
	struct vnc_shared shared;
	pthread_t thread;
	bool running;
};

static inline bool vnc_password_short(const struct vnc_server *server)
{
	return strlen(server->password) <= VNC_DES_LENGTH;
}

static inline uint32_t vnc_get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

static inline uint32_t vnc_get32(const uint8_t *at)
{
	return vnc_get16(at) << 16 | vnc_get16(at + 2);
}

static inline uint8_t *vnc_put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

static inline uint8_t *vnc_put32(uint8_t *at, uint32_t value)
{
	return vnc_put16(vnc_put16(at, value >> 16), value);
}

/* ---- listen.c: what is opened before anybody may connect ---------------------------------------------- */

int vnc_place_open(struct vnc_screen *screen, const char *where, struct error *e);
void vnc_place_close(struct vnc_screen *screen);
int vnc_password_read(struct vnc_server *server, const char *path, struct error *e);
int vnc_tls_read(struct vnc_server *server, const char *folder, struct error *e);

/* ---- handshake.c, message.c: the edge. Both look at what has come, and return 1 (one step done), 0 (more is to come), -errno (drop it). */

int vnc_handshake_step(struct vnc_viewer *viewer, uint64_t now);
int vnc_message_step(struct vnc_viewer *viewer, uint64_t now);

/* ---- viewer.c ------------------------------------------------------------------------------------------ */

/* vnc_viewer_accept() - a connection to @screen from @peer, taken over. */
void vnc_viewer_accept(struct vnc_screen *screen, int fd, const char *peer, uint64_t now);
void vnc_viewer_drop(struct vnc_viewer *viewer);
/* vnc_viewer_let_in() - its handshake is done. Returns 0 or -errno. */
int vnc_viewer_let_in(struct vnc_viewer *viewer);
/* vnc_viewer_serve() - take its input, push its output. Returns 0 or -errno (drop it). */
int vnc_viewer_serve(struct vnc_viewer *viewer, uint64_t now);
/* vnc_viewer_wants() - it could be sent something new. */
bool vnc_viewer_wants(const struct vnc_viewer *viewer);
/* vnc_viewer_damage() - this part of its screen is new. */
void vnc_viewer_damage(struct vnc_viewer *viewer, int32_t x, int32_t y, uint32_t width,
		       uint32_t height);
/* vnc_viewer_update() - go on with the update under way, or begin one. Returns 0 or -errno (drop it). */
int vnc_viewer_update(struct vnc_viewer *viewer, uint64_t now);

#define FOR_EACH_VIEWER(server, viewer)                                          \
	for (struct vnc_viewer *const *viewer##_at = (server)->viewers, *viewer; \
	     viewer##_at < (server)->viewers + VNC_VIEWERS_TOTAL; viewer##_at++) \
		if ((viewer = *viewer##_at))

/* ---- screen.c: heads become screens --------------------------------------------------------------------- */

extern const struct virtio_gpu_display_ops vnc_observer;
/* vnc_screen_open() - somebody will look. Returns 0 or -errno. vnc_screen_close() - one less looks. */
int vnc_screen_open(struct vnc_screen *screen);
void vnc_screen_close(struct vnc_screen *screen);
/* vnc_screens_gather() - take over what the worker has noted of sizes and cursors. */
void vnc_screens_gather(struct vnc_server *server);
/* vnc_screens_pull() - copy what is new and wanted. */
void vnc_screens_pull(struct vnc_server *server, uint64_t now);
/* vnc_screen_head() - which head is at @x; *x becomes its own. */
unsigned vnc_screen_head(const struct vnc_screen *screen, uint32_t *x);

/* ---- encoder.c: libvncserver ---------------------------------------------------------------------------- */

int vnc_encoder_open(struct vnc_server *server, struct error *e);
void vnc_encoder_close(struct vnc_server *server);
int vnc_encoder_screen(struct vnc_screen *screen);
void vnc_encoder_screen_free(struct vnc_screen *screen);
/* vnc_encoder_resized() - the screen's pixels or size are others. vnc_encoder_cursor_set() - its cursor is another. */
void vnc_encoder_resized(struct vnc_screen *screen);
void vnc_encoder_cursor_set(struct vnc_screen *screen);
int vnc_encoder_attach(struct vnc_viewer *viewer);
void vnc_encoder_detach(struct vnc_viewer *viewer);
/* vnc_encoder_format() - a pixel format that was judged. vnc_encoder_encodings() - @count numbers, as they came. */
int vnc_encoder_format(struct vnc_viewer *viewer, const rfbPixelFormat *format);
void vnc_encoder_encodings(struct vnc_viewer *viewer, const uint8_t *encodings, unsigned count);
/* vnc_encoder_band() - this part of the screen, vnc_encoder_cursor() - the cursor's shape, as rectangles, into the channel. */
int vnc_encoder_band(struct vnc_viewer *viewer, int32_t x, int32_t y, int32_t width,
		     int32_t height);
int vnc_encoder_cursor(struct vnc_viewer *viewer);
/* vnc_encoder_is_plain() - bands are sent as they are: of any width. */
bool vnc_encoder_is_plain(const struct vnc_viewer *viewer);
/* vnc_encoder_void() - a rectangle of nothing, for one that was promised. */
int vnc_encoder_void(struct vnc_viewer *viewer, int32_t x, int32_t y, int32_t width,
		     int32_t height);

#endif
