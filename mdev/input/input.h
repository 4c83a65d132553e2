/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input: keyboard, pointer and touch screen of a vGPU's guest (VIRTIO 1.2, 5.8), fed by its viewers.
 *
 * A seat is what a person has in front of one guest: three virtio-input devices, each a VFIO device like any other of mdev/,
 * and those who type and point, its viewers. docs/input.md says what a guest gets of it.
 *
 * Threads: any thread may make any call but create and destroy, which come first and last. None of the others waits for the
 * guest or for a device's worker, and none of them fails: what cannot reach the guest is dropped, and no key stays down for it.
 */
#ifndef MDEV_INPUT_INPUT_H
#define MDEV_INPUT_INPUT_H

#include "base/base.h"
#include "vfio/vfio.h"

#define INPUT_VIEWERS_MAX 32 /* at a time; what more of them do is dropped */
#define INPUT_HEADS_MAX	  4
#define INPUT_FINGERS_MAX 10 /* on the touch screen, of all viewers */

struct input_seat;

enum input_kind {
	INPUT_KEYBOARD,
	INPUT_POINTER, /* absolute; with wheels and three buttons */
	INPUT_TOUCH,
	INPUT_KINDS
};

struct input_config {
	const char *
		name; /* of the vGPU, for messages and as the devices' serial number; NULL: "vgpu" */
	/* The guest's keyboard layout in X's terms, "de" or with a variant "us:dvorak"; NULL: "us". */
	const char *layout;
	/*
	 * 0: one pointer and one touch screen that cover the desktop; else that many of each, one a head, for guests that put
	 * each device on an output.
	 */
	unsigned per_head;
	/* Key events a second that go to the guest, two a key, beyond what its reader surely keeps; 0: 1000. */
	unsigned pace;
};

/*
 * input_seat_create() - a seat and its devices, whose threads begin with vfio_device_start() of each.
 * @config: copied
 * Returns 0 or -errno: "bad-layout", "device-failed".
 */
int input_seat_create(const struct input_config *config, struct input_seat **out, struct error *e);
/* input_seat_destroy() - closes its devices too. NULL is fine. */
void input_seat_destroy(struct input_seat *seat);

/*
 * input_seat_device() - good until the seat is destroyed, which closes it: offer it, start it, do not close it. NULL: there is
 * none of this kind for @head (0, where there is one for all).
 */
struct vfio_device *input_seat_device(struct input_seat *seat, enum input_kind kind, unsigned head);
/* input_seat_is_per_head() - whether pointers and touch screens are one a head. */
bool input_seat_is_per_head(const struct input_seat *seat);
/* input_kind_name() - "keyboard", "pointer", "touch". */
const char *input_kind_name(enum input_kind kind);

/*
 * input_seat_head() - head @head shows @width x @height now; 0 x 0: nothing. Heads lie side by side, the first at the left, as
 * desktops arrange them by themselves.
 */
void input_seat_head(struct input_seat *seat, unsigned head, uint32_t width, uint32_t height);
/*
 * input_seat_follow() - have that told by a vGPU, until input_seat_unfollow(), which goes before either's end. Not on the vGPU's
 * worker. Returns 0 or -ENOSPC (VIRTIO_GPU_DISPLAYS_MAX).
 */
int input_seat_follow(struct input_seat *seat, struct vfio_device *gpu);
void input_seat_unfollow(struct input_seat *seat, struct vfio_device *gpu);

/*
 * A viewer is named by any address that is its own until input_seat_viewer_gone().
 *
 * input_seat_key() - a key of the viewer's went down or up. One that is down already stays so: guests repeat by themselves.
 * @keysym: X11's (RFB's KeyEvent), 0: unknown
 * @xt_scancode: as in RFB's QEMU Extended Key Event, which needs no layout; 0: there is only the keysym
 */
void input_seat_key(struct input_seat *seat, const void *viewer, uint32_t keysym,
		    uint32_t xt_scancode, bool down);
/*
 * input_seat_pointer() - the viewer's pointer is at @x, @y of head @head, with these buttons down.
 * @width, @height: the head's size as the viewer sees it; a position outside is moved to the border
 * @buttons: RFB's mask: bits 0 to 2 left, middle, right; 3 to 6 wheel up, down, left, right (one step each time one is set);
 *           7 and 8 back and forward, which are keys for the guest
 */
void input_seat_pointer(struct input_seat *seat, const void *viewer, unsigned head, int x, int y,
			unsigned width, unsigned height, unsigned buttons);
/* input_seat_touch() - finger @finger (the viewer's number) is at @x, @y, or was lifted there. */
void input_seat_touch(struct input_seat *seat, const void *viewer, unsigned head, unsigned finger,
		      int x, int y, unsigned width, unsigned height, bool down);
/* input_seat_viewer_gone() - nothing is held by it any more. One that never did anything is fine. */
void input_seat_viewer_gone(struct input_seat *seat, const void *viewer);

/* input_seat_waiting() - events of the keyboard that the guest has not taken yet. */
unsigned input_seat_waiting(struct input_seat *seat);
/* input_seat_leds() - what the guest shows on its keyboard, as in RFB's LED state: bit 0 scroll, 1 num, 2 caps lock. */
unsigned input_seat_leds(const struct input_seat *seat);

/* ---- offered to a VM, and by the control socket: the loop's thread -------------------------------- */

struct sd_event;
struct input_offer;

/*
 * input_seat_start() - start the seat's devices, once, with their threads. Returns 0 or -errno: "device-failed".
 * input_offer_create() - listen for a VMM at a vfio-user socket for each of them: @beside and ".keyboard",
 * ".pointer", ".touch"; or ".pointer0", ".touch0" and on. input_offer_destroy(), before the seat's end, removes them; NULL is fine.
 * Returns 0 or -errno: as mdev_server_create().
 */
int input_seat_start(struct input_seat *seat, struct error *e);
int input_offer_create(struct input_seat *seat, struct sd_event *event, const char *beside,
		       struct input_offer **out, struct error *e);
void input_offer_destroy(struct input_offer *offer);

/*
 * input_control_answer() - what the vGPU's control socket has of input: "keys", "text", "pointer", "touch".
 * @seat: NULL: there is none
 * @body: @size bytes
 * Returns whether it is one of them, with *reply.
 */
bool input_control_answer(struct input_seat *seat, const char *method, const char *resource,
			  const char *body, size_t size, struct control_reply *reply);

#endif
