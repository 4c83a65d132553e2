// SPDX-License-Identifier: Apache-2.0
/*
 * desktop: from a position on a head to one on a device's axes.
 *
 * Guests stretch an absolute device over the whole desktop (X, GNOME, KDE), so a device for all heads counts from the desktop's left
 * edge; or put it on one output, which it covers alone. docs/input.md says who does which.
 */
#include "mdev/input/private.h"

/* The middle of pixel @at of @size, on an axis. */
static int32_t axis(uint64_t at, uint64_t size)
{
	return (int32_t)MIN((2 * at + 1) * (INPUT_ABS_MAX + 1) / (2 * size), INPUT_ABS_MAX);
}

/* Of @to pixels, the one that shows where @at of @from is. */
static uint64_t scale(int at, unsigned from, uint64_t to)
{
	const unsigned inside = at < 0 ? 0 : MIN((unsigned)at, from - 1);

	return (2 * (uint64_t)inside + 1) * to / (2 * (uint64_t)from);
}

bool input_desktop_place(const struct input_desktop *desktop, const struct input_point *point,
			 struct input_place *out)
{
	uint64_t left = 0, all_width = 0, all_height = 0, own_width, own_height;

	if (point->head >= INPUT_HEADS_MAX || !point->width || !point->height)
		return false;
	own_width = desktop->heads[point->head].width;
	own_height = desktop->heads[point->head].height;
	/* Nobody said how large it is: as the viewer sees it. */
	if (!own_width || !own_height) {
		own_width = point->width;
		own_height = point->height;
	}
	for (unsigned i = 0; i < INPUT_HEADS_MAX && !desktop->is_per_head; i++) {
		if (i < point->head)
			left += desktop->heads[i].width;
		if (i != point->head) {
			all_width += desktop->heads[i].width;
			all_height = MAX(all_height, desktop->heads[i].height);
		}
	}
	all_width += own_width;
	all_height = MAX(all_height, own_height);
	*out = (struct input_place){
		.device = desktop->is_per_head ? point->head : 0,
		.x = axis(left + scale(point->x, point->width, own_width), all_width),
		.y = axis(scale(point->y, point->height, own_height), all_height),
	};
	return true;
}
