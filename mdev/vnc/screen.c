// SPDX-License-Identifier: Apache-2.0
/*
 * screen: heads become screens: what the device's worker tells is noted, and copied when a viewer waits for it.
 *
 * Observers are called on the worker, which serves the guest: there, damage becomes one of a few rectangles, and the thread is
 * woken. The thread has the worker copy, at most VNC_PULL_PIXELS at once, into the screen's shadow: the one copy that a frame
 * meets on its way to the encoder, and none while no viewer is ready for another. Reading the guest's pixels in place from the
 * thread would need them to stay; the guest may free, move or unmap them at any time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mdev/vnc/private.h"

/* ---- on the worker ------------------------------------------------------------------------------ */

static void wake(struct vnc_server *server)
{
	const uint64_t one = 1;

	/* Once, until the thread has looked. */
	if (!server->shared.woken && write(server->wake_fd, &one, sizeof(one)) < 0)
		log_limited(LOG_LEVEL_WARN, "vnc: wake: %s", strerror(errno));
	server->shared.woken = true;
}

/* One rectangle more; too many become the one that holds them all. */
static void note(struct vnc_noted *noted, const struct virtio_gpu_rectangle *rect)
{
	struct virtio_gpu_rectangle *all = &noted->damage[0];

	for (unsigned i = 0; i < noted->damage_count; i++) {
		const struct virtio_gpu_rectangle *old = &noted->damage[i];

		if (rect->x >= old->x && rect->y >= old->y &&
		    rect->x + rect->width <= old->x + old->width &&
		    rect->y + rect->height <= old->y + old->height)
			return;
	}
	if (noted->damage_count < VNC_DAMAGE_MAX) {
		noted->damage[noted->damage_count++] = *rect;
		return;
	}
	noted->damage[VNC_DAMAGE_MAX - 1] = *rect;
	for (unsigned i = 1; i < VNC_DAMAGE_MAX; i++) {
		const struct virtio_gpu_rectangle *one = &noted->damage[i];
		const uint32_t right = MAX(all->x + all->width, one->x + one->width);
		const uint32_t bottom = MAX(all->y + all->height, one->y + one->height);

		all->x = MIN(all->x, one->x);
		all->y = MIN(all->y, one->y);
		all->width = right - all->x;
		all->height = bottom - all->y;
	}
	noted->damage_count = 1;
}

static void on_size(void *opaque, unsigned head, uint32_t width, uint32_t height)
{
	struct vnc_server *server = opaque;
	struct vnc_noted *noted = &server->shared.noted[head];

	pthread_mutex_lock(&server->shared.lock);
	noted->width = width;
	noted->height = height;
	noted->resized = true;
	noted->damage_count = 0;
	wake(server);
	pthread_mutex_unlock(&server->shared.lock);
}

static void on_damage(void *opaque, unsigned head, pixman_image_t *image,
		      const struct virtio_gpu_rectangle *damage)
{
	struct vnc_server *server = opaque;

	pthread_mutex_lock(&server->shared.lock);
	note(&server->shared.noted[head], damage);
	wake(server);
	pthread_mutex_unlock(&server->shared.lock);
}

static void on_cursor(void *opaque, unsigned head, const struct virtio_gpu_cursor_image *cursor,
		      bool moved)
{
	struct vnc_server *server = opaque;
	struct vnc_noted *noted = &server->shared.noted[head];

	pthread_mutex_lock(&server->shared.lock);
	noted->cursor.visible = cursor->visible;
	noted->cursor.x = cursor->x;
	noted->cursor.y = cursor->y;
	noted->cursor.hot_x = cursor->hot_x;
	noted->cursor.hot_y = cursor->hot_y;
	noted->cursor_moved = true;
	if (!moved) {
		memcpy(noted->cursor.pixels, cursor->pixels, sizeof(noted->cursor.pixels));
		noted->cursor_changed = true;
	}
	wake(server);
	pthread_mutex_unlock(&server->shared.lock);
}

const struct virtio_gpu_display_ops vnc_observer = {
	.size = on_size,
	.damage = on_damage,
	.cursor = on_cursor,
};

/* ---- layout ------------------------------------------------------------------------------------- */

static bool shows(const struct vnc_screen *screen, unsigned head)
{
	return screen->viewers && head >= screen->first && head < screen->first + screen->count;
}

#define FOR_EACH_SCREEN_OF(server, screen, head)                    \
	for (struct vnc_screen *screen = (server)->screens;         \
	     screen < (server)->screens + VNC_PLACES_MAX; screen++) \
		if (shows(screen, head))

unsigned vnc_screen_head(const struct vnc_screen *screen, uint32_t *x)
{
	unsigned found = 0;

	for (unsigned i = 0; i < screen->count; i++)
		if (screen->server->heads[screen->first + i].width && *x >= screen->left[i])
			found = i;
	*x -= MIN(*x, screen->left[found]);
	return screen->first + found;
}

/* Where its heads lie, from their sizes. Without any, it is what it was. */
static void arrange(struct vnc_screen *screen, uint32_t *width, uint32_t *height)
{
	const struct virtio_gpu_mode *fallback = &screen->server->fallback[screen->first];

	*width = *height = 0;
	for (unsigned i = 0; i < screen->count; i++) {
		const struct vnc_head *head = &screen->server->heads[screen->first + i];

		screen->left[i] = *width;
		*width += head->width;
		*height = MAX(*height, head->height);
	}
	if (*width)
		return;
	*width = screen->width ? screen->width : fallback->width;
	*height = screen->height ? screen->height : fallback->height;
}

static void free_pixels(struct vnc_screen *screen)
{
	if (screen->image)
		pixman_image_unref(screen->image);
	free(screen->pixels);
	screen->image = NULL;
	screen->pixels = NULL;
	screen->width = screen->height = 0;
}

static int new_pixels(struct vnc_screen *screen, uint32_t width, uint32_t height)
{
	uint32_t *pixels = calloc((size_t)width * height, sizeof(*pixels));
	pixman_image_t *image =
		pixels ? pixman_image_create_bits(PIXMAN_x8r8g8b8, (int)width, (int)height, pixels,
						  (int)width * 4)
		       : NULL;

	if (!image) {
		free(pixels);
		return -ENOMEM;
	}
	free_pixels(screen);
	screen->pixels = pixels;
	screen->image = image;
	screen->width = width;
	screen->height = height;
	screen->generation++;
	vnc_encoder_resized(screen);
	return 0;
}

static void tell_sizes(struct vnc_screen *screen)
{
	FOR_EACH_VIEWER(screen->server, viewer)
	{
		if (viewer->screen != screen || !viewer->rfb)
			continue;
		viewer->tell_size = true;
		viewer->size_reason = viewer->asked_until_ns ? 1 : screen->asked ? 2 : 0;
		viewer->size_status = 0;
		viewer->asked_until_ns = 0;
	}
	screen->asked = false;
}

/* Its heads are others: lay it out anew, black, and have all of it copied. */
static int layout(struct vnc_screen *screen)
{
	struct vnc_server *server = screen->server;
	uint32_t width, height;
	int err = 0;

	arrange(screen, &width, &height);
	if (width != screen->width || height != screen->height)
		err = new_pixels(screen, width, height);
	else
		memset(screen->pixels, 0, (size_t)width * height * 4);
	if (err)
		return err;
	pthread_mutex_lock(&server->shared.lock);
	for (unsigned i = 0; i < screen->count; i++) {
		struct vnc_noted *noted = &server->shared.noted[screen->first + i];
		const struct virtio_gpu_rectangle all = { 0, 0, noted->width, noted->height };

		if (noted->width)
			note(noted, &all);
		noted->cursor_changed = noted->cursor_moved = true;
	}
	pthread_mutex_unlock(&server->shared.lock);
	FOR_EACH_VIEWER(server, viewer)
	if (viewer->screen == screen && viewer->rfb)
		vnc_viewer_damage(viewer, 0, 0, screen->width, screen->height);
	return 0;
}

/* ---- cursors ------------------------------------------------------------------------------------ */

static void damage_cursor(struct vnc_screen *screen)
{
	const struct vnc_cursor *cursor = &screen->cursor;

	if (!cursor->visible)
		return;
	FOR_EACH_VIEWER(screen->server, viewer)
	if (viewer->screen == screen && viewer->rfb && !viewer->shows_cursor)
		vnc_viewer_damage(viewer, cursor->x - (int32_t)cursor->hot_x,
				  cursor->y - (int32_t)cursor->hot_y, VIRTIO_GPU_CURSOR_SIZE,
				  VIRTIO_GPU_CURSOR_SIZE);
}

/* A screen has one cursor: that of the head where it was shown last. */
static void cursor_update(struct vnc_screen *screen, unsigned head, const struct vnc_noted *noted,
			  uint64_t now)
{
	struct vnc_cursor *cursor = &screen->cursor;
	const bool elsewhere = head != screen->cursor_head;
	const bool changed =
		noted->cursor_changed || elsewhere || cursor->visible != noted->cursor.visible;

	if (!noted->cursor.visible && elsewhere)
		return;
	damage_cursor(screen);
	*cursor = noted->cursor;
	cursor->x += (int32_t)screen->left[head - screen->first];
	screen->cursor_head = head;
	damage_cursor(screen);
	if (changed)
		vnc_encoder_cursor_set(screen);
	FOR_EACH_VIEWER(screen->server, viewer)
	{
		if (viewer->screen != screen || !viewer->rfb)
			continue;
		viewer->tell_cursor |= changed && viewer->shows_cursor;
		/* Its own movement, come back, would drag its pointer. */
		viewer->tell_position |= viewer->follows_cursor && noted->cursor_moved &&
					 cursor->visible &&
					 now - viewer->pointed_ns > VNC_POINTED_NS;
	}
}

/* ---- gather and pull ---------------------------------------------------------------------------- */

static void gather_size(struct vnc_server *server, unsigned head, const struct vnc_noted *noted)
{
	server->heads[head].width = noted->width;
	server->heads[head].height = noted->height;
	FOR_EACH_SCREEN_OF(server, screen, head)
	{
		/* Out of memory, its viewers keep what they see. */
		if (layout(screen))
			log_limited(LOG_LEVEL_WARN, "vnc: %s: no memory for %ux%u", screen->title,
				    noted->width, noted->height);
		tell_sizes(screen);
	}
}

void vnc_screens_gather(struct vnc_server *server)
{
	static const struct vnc_noted nothing;
	struct vnc_noted taken;
	const uint64_t now = monotonic_ns();
	const bool early = now < server->size_after_ns;

	server->size_waits = false;
	for (unsigned head = 0; head < server->head_count; head++) {
		struct vnc_noted *noted = &server->shared.noted[head];

		taken = nothing;
		pthread_mutex_lock(&server->shared.lock);
		if (noted->resized || noted->cursor_changed || noted->cursor_moved)
			taken = *noted;
		noted->resized &= early;
		noted->cursor_changed = noted->cursor_moved = false;
		pthread_mutex_unlock(&server->shared.lock);
		server->size_waits |= taken.resized && early;
		if (taken.resized && !early) {
			gather_size(server, head, &taken);
			server->size_after_ns = now + VNC_SIZE_NS;
		}
		if (taken.cursor_changed || taken.cursor_moved)
			FOR_EACH_SCREEN_OF(server, screen, head)
		cursor_update(screen, head, &taken, now);
	}
}

struct pull {
	struct vnc_server *server;
	unsigned head;
	struct virtio_gpu_rectangle rect;
	uint64_t pixels;
};

/* On the worker, while the thread waits. */
static int copy(void *opaque, pixman_image_t *image)
{
	struct pull *pull = opaque;
	const struct vnc_head *head = &pull->server->heads[pull->head];
	const struct virtio_gpu_rectangle *rect = &pull->rect;
	const uint32_t right = MIN(rect->x + rect->width,
				   MIN((uint32_t)pixman_image_get_width(image), head->width));
	const uint32_t bottom = MIN(rect->y + rect->height,
				    MIN((uint32_t)pixman_image_get_height(image), head->height));

	if (rect->x >= right || rect->y >= bottom)
		return 0;
	FOR_EACH_SCREEN_OF(pull->server, screen, pull->head)
	{
		pixman_image_composite32(
			PIXMAN_OP_SRC, image, NULL, screen->image, (int)rect->x, (int)rect->y, 0, 0,
			(int)(screen->left[pull->head - screen->first] + rect->x), (int)rect->y,
			(int)(right - rect->x), (int)(bottom - rect->y));
		pull->pixels += (uint64_t)(right - rect->x) * (bottom - rect->y);
	}
	return 0;
}

static uint64_t pull_rect(struct vnc_server *server, unsigned head,
			  const struct virtio_gpu_rectangle *rect)
{
	const uint32_t rows = (uint32_t)MAX(VNC_PULL_PIXELS / MAX(rect->width, 1u), 1ul);
	struct pull pull = { .server = server, .head = head };

	for (uint32_t y = 0; y < rect->height; y += rows) {
		pull.rect = *rect;
		pull.rect.y += y;
		pull.rect.height = MIN(rows, rect->height - y);
		if (virtio_gpu_head_look(server->device, head, copy, &pull))
			break;
	}
	FOR_EACH_VIEWER(server, viewer)
	if (viewer->rfb && shows(viewer->screen, head))
		vnc_viewer_damage(
			viewer,
			(int32_t)(viewer->screen->left[head - viewer->screen->first] + rect->x),
			(int32_t)rect->y, rect->width, rect->height);
	return pull.pixels;
}

static bool wanted(struct vnc_server *server, unsigned head)
{
	FOR_EACH_VIEWER(server, viewer)
	if (shows(viewer->screen, head) && vnc_viewer_wants(viewer))
		return true;
	return false;
}

void vnc_screens_pull(struct vnc_server *server, uint64_t now)
{
	struct vnc_shared *shared = &server->shared;
	struct virtio_gpu_rectangle taken[VNC_DAMAGE_MAX];
	uint64_t pixels = 0;

	server->damaged = false;
	for (unsigned head = 0; head < server->head_count; head++) {
		unsigned count;

		if (!wanted(server, head))
			continue;
		pthread_mutex_lock(&shared->lock);
		count = shared->noted[head].damage_count;
		if (now < server->pull_after_ns) {
			server->damaged |= count > 0;
			count = 0;
		} else {
			memcpy(taken, shared->noted[head].damage, count * sizeof(taken[0]));
			shared->noted[head].damage_count = 0;
		}
		pthread_mutex_unlock(&shared->lock);
		for (unsigned i = 0; i < count; i++)
			pixels += pull_rect(server, head, &taken[i]);
	}
	if (!pixels)
		return;
	server->pull_after_ns = now + VNC_FRAME_NS;
	pthread_mutex_lock(&shared->lock);
	shared->stats.pulled_pixels += pixels;
	pthread_mutex_unlock(&shared->lock);
}

/* ---- who looks ---------------------------------------------------------------------------------- */

int vnc_screen_open(struct vnc_screen *screen)
{
	struct vnc_server *server = screen->server;
	int err = 0;

	if (!server->let_in) {
		pthread_mutex_lock(&server->shared.lock);
		memset(server->shared.noted, 0, sizeof(server->shared.noted));
		for (unsigned i = 0; i < server->head_count; i++)
			server->shared.noted[i].resized = true;
		pthread_mutex_unlock(&server->shared.lock);
		err = virtio_gpu_display_add(server->device, &vnc_observer, server);
	}
	if (err)
		return err;
	if (!server->let_in++)
		server->size_after_ns = 0;
	/* Before it counts, so that the others are not told what is no news to them. */
	vnc_screens_gather(server);
	screen->viewers++;
	if (screen->viewers == 1)
		err = layout(screen);
	if (err)
		vnc_screen_close(screen);
	return err;
}

void vnc_screen_close(struct vnc_screen *screen)
{
	struct vnc_server *server = screen->server;

	screen->viewers--;
	server->let_in--;
	if (!screen->viewers)
		free_pixels(screen);
	if (!server->let_in)
		virtio_gpu_display_remove(server->device, &vnc_observer, server);
}
