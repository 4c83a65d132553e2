// SPDX-License-Identifier: Apache-2.0
/*
 * offer: a seat's devices behind vfio-user sockets beside the vGPU's, one each: PATH.keyboard, PATH.pointer, PATH.touch; or PATH.pointer0,
 * PATH.touch0 and on, where each head has its own. A VM attaches those that it wants.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mdev/input/input.h"
#include "mdev/mdev.h"

struct input_offer {
	struct mdev_server *servers[INPUT_KINDS][INPUT_HEADS_MAX];
};

static int serve(struct vfio_device *device, struct sd_event *event, const char *path,
		 struct mdev_server **out, struct error *e)
{
	const struct mdev_server_options options = { .path = path };

	return mdev_server_create(event, device, &options, out, e);
}

static int offer_kind(struct input_offer *offer, struct input_seat *seat, enum input_kind kind,
		      struct sd_event *event, const char *beside, struct error *e)
{
	const bool is_numbered = kind != INPUT_KEYBOARD && input_seat_is_per_head(seat);
	int ret = 0;

	for (unsigned head = 0; head < INPUT_HEADS_MAX && !ret; head++) {
		struct vfio_device *device = input_seat_device(seat, kind, head);
		char path[256], number[12] = "";

		if (!device)
			continue;
		if (is_numbered)
			snprintf(number, sizeof(number), "%u", head);
		/* What is cut is too long for a socket in any case, and is refused as that. */
		snprintf(path, sizeof(path), "%s.%s%s", beside, input_kind_name(kind), number);
		ret = serve(device, event, path, &offer->servers[kind][head], e);
	}
	return ret;
}

int input_offer_create(struct input_seat *seat, struct sd_event *event, const char *beside,
		       struct input_offer **out, struct error *e)
{
	struct input_offer *offer = calloc(1, sizeof(*offer));
	int ret = 0;

	if (!offer)
		return error_set(e, ENOMEM, "no-memory", NULL, "input: out of memory");
	for (unsigned kind = 0; kind < INPUT_KINDS && !ret; kind++)
		ret = offer_kind(offer, seat, kind, event, beside, e);
	if (ret) {
		input_offer_destroy(offer);
		return ret;
	}
	*out = offer;
	return 0;
}

int input_seat_start(struct input_seat *seat, struct error *e)
{
	int ret = 0;

	for (unsigned kind = 0; kind < INPUT_KINDS; kind++)
		for (unsigned head = 0; head < INPUT_HEADS_MAX && !ret; head++) {
			struct vfio_device *device = input_seat_device(seat, kind, head);

			if (device)
				ret = vfio_device_start(device, e);
		}
	return ret;
}

void input_offer_destroy(struct input_offer *offer)
{
	if (!offer)
		return;
	for (unsigned kind = 0; kind < INPUT_KINDS; kind++)
		for (unsigned head = 0; head < INPUT_HEADS_MAX; head++)
			mdev_server_destroy(offer->servers[kind][head]);
	free(offer);
}
