// SPDX-License-Identifier: Apache-2.0
/*
 * device: one virtio-input device (VIRTIO 1.2, 5.8): what waits for the guest, and what the guest was told.
 *
 * Frames come from any thread into a bounded ring, and the worker puts one event after the other into buffers of the event queue. A
 * guest that does not read makes the ring full; then all that waits is dropped and in its place goes the release of everything that
 * the guest was told is down, since a key that it believes to be down for ever is worse than a lost one. What the guest was told is
 * noted as it is told, so this is right however little of it was read. Where something is, as opposed to what happened, waits only once.
 */
#include <endian.h>
#include <errno.h>
#include <linux/input.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "mdev/input/private.h"

#define EVENT_QUEUE  0
#define STATUS_QUEUE 1
/*
 * A reader of Linux's evdev loses events beyond 64 that it has not read (drivers/input/evdev.c, EVDEV_MIN_BUFFER_SIZE), and with them
 * letters of a text that is typed at once: of keys no more than this goes out at once, and further ones at a pace.
 */
#define BURST 48u
/* More than there are keys, so that their releases fit. */
#define WAITING_MAX 1024u
#define FRAME_MAX   16u
#define BUTTONS	    0x2ff /* KEY_MAX: keys and buttons have one numbering */

struct input_device {
	struct virtio_device dev; /* first */
	struct virtio_device_ops ops;
	enum input_kind kind;
	unsigned head;
	char serial[64];
	uint8_t select, subsel; /* registers: under dev.lock */
	unsigned leds;		/* atomic */
	int wake_fd;
	struct virtio_source wake;
	/* The pace, of the worker: 0: none. */
	uint64_t event_ns, paid_until_ns;
	sd_event_source *timer;

	pthread_mutex_t
		lock; /* all below; held for a frame at most, and nothing is called with it */
	bool live;    /* a driver is there */
	/* Events taken and put so far; the ring's places are these modulo WAITING_MAX. */
	uint64_t taken, put;
	struct input_event_plain waiting[WAITING_MAX];
	/* The last frame waiting, if it may be replaced. */
	uint64_t motion_at;
	unsigned motion;
	/* As the guest was told. */
	uint8_t down[(BUTTONS + 8) / 8];
	unsigned slot, fingers;
};

_Static_assert(WAITING_MAX > BUTTONS + 3 * INPUT_FINGERS_MAX + 1, "releases of everything fit");

static struct input_device *input_of(struct virtio_device *dev)
{
	return container_of(dev, struct input_device, dev);
}

struct vfio_device *input_device_vfio(struct input_device *input)
{
	return &input->dev.vfio;
}

unsigned input_device_leds(const struct input_device *input)
{
	return __atomic_load_n(&input->leds, __ATOMIC_RELAXED);
}

/* ---- what waits: under the lock -------------------------------------------------------------- */

static void put_event(struct input_device *input, uint16_t type, uint16_t code, int32_t value)
{
	input->waiting[input->put++ % WAITING_MAX] =
		(struct input_event_plain){ type, code, value };
}

/* Nothing waits but the end of all that the guest believes to be going on. */
static void start_over(struct input_device *input)
{
	input->taken = input->put;
	input->motion = 0;
	for (uint16_t code = 0; code <= BUTTONS; code++)
		if (input->down[code / 8] & 1u << code % 8)
			put_event(input, EV_KEY, code, 0);
	for (unsigned i = 0; i < INPUT_FINGERS_MAX; i++) {
		if (!(input->fingers & 1u << i))
			continue;
		put_event(input, EV_ABS, ABS_MT_SLOT, (int32_t)i);
		put_event(input, EV_ABS, ABS_MT_TRACKING_ID, -1);
	}
	put_event(input, EV_SYN, SYN_REPORT, 0);
}

static void note(struct input_device *input, const struct input_event_plain *event)
{
	if (event->type == EV_KEY && event->value)
		input->down[event->code / 8] |= (uint8_t)(1u << event->code % 8);
	else if (event->type == EV_KEY)
		input->down[event->code / 8] &= (uint8_t)~(1u << event->code % 8);
	else if (event->type == EV_ABS && event->code == ABS_MT_SLOT)
		input->slot = (unsigned)event->value;
	else if (event->type == EV_ABS && event->code == ABS_MT_TRACKING_ID && event->value >= 0)
		input->fingers |= 1u << input->slot;
	else if (event->type == EV_ABS && event->code == ABS_MT_TRACKING_ID)
		input->fingers &= ~(1u << input->slot);
}

void input_device_send(struct input_device *input, const struct input_event_plain *events,
		       unsigned count, unsigned motion)
{
	bool is_new;

	if (!count || count > FRAME_MAX)
		return;
	pthread_mutex_lock(&input->lock);
	is_new = input->live;
	if (is_new) {
		/* One that is not begun yet. */
		if (motion && motion == input->motion && input->motion_at >= input->taken)
			input->put = input->motion_at;
		if (input->put - input->taken + count + 1 > WAITING_MAX) {
			log_limited(LOG_LEVEL_DEBUG, "%s: the guest does not read its events",
				    input->dev.vfio.name);
			start_over(input);
		}
		/* After starting over what was down is up: only what goes down from here on has a meaning. */
		input->motion = motion;
		input->motion_at = input->put;
		for (unsigned i = 0; i < count; i++)
			put_event(input, events[i].type, events[i].code, events[i].value);
		put_event(input, EV_SYN, SYN_REPORT, 0);
	}
	pthread_mutex_unlock(&input->lock);
	if (is_new)
		eventfd_write(input->wake_fd, 1);
}

unsigned input_device_waiting(struct input_device *input)
{
	unsigned count;

	pthread_mutex_lock(&input->lock);
	count = (unsigned)(input->put - input->taken);
	pthread_mutex_unlock(&input->lock);
	return count;
}

static bool take(struct input_device *input, struct virtio_input_event *event)
{
	const struct input_event_plain *next;
	bool is_any;

	pthread_mutex_lock(&input->lock);
	is_any = input->taken != input->put;
	if (is_any) {
		next = &input->waiting[input->taken++ % WAITING_MAX];
		note(input, next);
		event->type = htole16(next->type);
		event->code = htole16(next->code);
		event->value = htole32((uint32_t)next->value);
	}
	pthread_mutex_unlock(&input->lock);
	return is_any;
}

/* ---- the pace: on the worker ---------------------------------------------------------------- */

/* Whether an event may go now; if not, the timer says when. */
static bool may_send(struct input_device *input)
{
	const uint64_t now = monotonic_ns();

	if (!input->event_ns)
		return true;
	/* Each event is worth a time, of which BURST events may be had in advance. */
	input->paid_until_ns = MAX(input->paid_until_ns, now);
	if (input->paid_until_ns - now < BURST * input->event_ns)
		return true;
	sd_event_source_set_time(input->timer, now / 1000 + BURST * input->event_ns / 2000);
	sd_event_source_set_enabled(input->timer, SD_EVENT_ONESHOT);
	return false;
}

/* ---- the queues: on the worker ---------------------------------------------------------------- */

static void deliver(struct virtio_device *dev)
{
	struct input_device *input = input_of(dev);

	for (unsigned turn = 0; turn < VIRTIO_QUEUE_SIZE_MAX; turn++) {
		struct virtio_input_event event;
		struct virtio_chain *chain;

		if (__atomic_load_n(&dev->call_pending, __ATOMIC_RELAXED))
			break;
		if (!input_device_waiting(input) || !may_send(input))
			return;
		chain = virtio_queue_pop(dev, EVENT_QUEUE);
		if (!chain)
			return;
		if (chain->in_length < sizeof(event)) {
			virtio_device_broken(dev, EVENT_QUEUE, "a buffer that no event fits into");
			return;
		}
		if (!take(input, &event)) {
			virtio_queue_rewind(dev, EVENT_QUEUE);
			return;
		}
		input->paid_until_ns += input->event_ns;
		virtio_iov_write(chain->in, chain->in_count, 0, &event, sizeof(event));
		virtio_queue_push(dev, EVENT_QUEUE, chain, sizeof(event));
	}
	virtio_queue_again(dev, EVENT_QUEUE);
}

static int64_t status(struct virtio_device *dev, struct virtio_chain *chain)
{
	struct input_device *input = input_of(dev);
	struct virtio_input_event event;

	if (virtio_iov_read(chain->out, chain->out_count, 0, &event, sizeof(event)) <
	    sizeof(event)) {
		virtio_device_broken(dev, STATUS_QUEUE, "a status that is no event");
		return 0;
	}
	/* Repeat rates and all else are the guest's own. */
	if (le16toh(event.type) == EV_LED && le16toh(event.code) <= LED_SCROLLL) {
		if (event.value)
			__atomic_fetch_or(&input->leds, 1u << le16toh(event.code),
					  __ATOMIC_RELAXED);
		else
			__atomic_fetch_and(&input->leds, ~(1u << le16toh(event.code)),
					   __ATOMIC_RELAXED);
	}
	return 0;
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	if (index == EVENT_QUEUE)
		deliver(dev);
	else
		virtio_queue_service(dev, index, status);
}

static void woken(struct virtio_device *dev, uint32_t epoll_events)
{
	eventfd_t count;

	eventfd_read(input_of(dev)->wake_fd, &count);
	deliver(dev);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct input_device *input = opaque;

	deliver(&input->dev);
	return 0;
}

/* ---- configuration (5.8.4) and life ------------------------------------------------------------- */

static void config_read(struct virtio_device *dev, void *config)
{
	const struct input_device *input = input_of(dev);

	input_describe(input->kind, input->head, input->serial, input->select, input->subsel,
		       config);
}

static void config_write(struct virtio_device *dev, uint32_t offset, const void *data, size_t count)
{
	struct input_device *input = input_of(dev);
	const uint8_t *bytes = data;

	for (size_t i = 0; i < count; i++) {
		if (offset + i == offsetof(struct virtio_input_config, select))
			input->select = bytes[i];
		else if (offset + i == offsetof(struct virtio_input_config, subsel))
			input->subsel = bytes[i];
	}
}

static void set_live(struct input_device *input, bool live)
{
	pthread_mutex_lock(&input->lock);
	input->live = live;
	input->taken = input->put;
	input->motion = 0;
	memset(input->down, 0, sizeof(input->down));
	input->slot = input->fingers = 0;
	pthread_mutex_unlock(&input->lock);
	__atomic_store_n(&input->leds, 0, __ATOMIC_RELAXED);
}

static void start(struct virtio_device *dev)
{
	set_live(input_of(dev), true);
}

static void reset(struct virtio_device *dev)
{
	set_live(input_of(dev), false);
}

static void destroy(struct virtio_device *dev)
{
	struct input_device *input = input_of(dev);

	sd_event_source_disable_unref(input->timer);
	virtio_source_remove(&input->wake);
	fd_close(&input->wake_fd);
	pthread_mutex_destroy(&input->lock);
}

static const struct virtio_device_ops input_ops = {
	.thread_kind = "virtio-input",
	.device_id = VIRTIO_ID_INPUT,
	.queue_count = 2,
	.config_size = sizeof(struct virtio_input_config),
	.config_read = config_read,
	.config_write = config_write,
	.start = start,
	.queue_notify = queue_notify,
	.reset = reset,
	.destroy = destroy,
};

/* PCI's classes of input devices: keyboard, mouse, another. */
static const uint32_t classes[INPUT_KINDS] = { 0x090000, 0x090200, 0x098000 };

int input_device_create(enum input_kind kind, unsigned head, const char *serial, unsigned pace,
			struct input_device **out, struct error *e)
{
	struct input_device *input = calloc(1, sizeof(*input));
	char name[32];
	int ret;

	if (!input)
		return error_set(e, ENOMEM, "device-failed", NULL, "virtio-input: out of memory");
	input->kind = kind;
	input->head = head;
	input->event_ns = pace ? NSEC_PER_SEC / pace : 0;
	snprintf(input->serial, sizeof(input->serial), "%s", serial);
	snprintf(name, sizeof(name), "virtio-input(%s)", input_kind_name(kind));
	input->ops = input_ops;
	input->ops.class_code = classes[kind];
	pthread_mutex_init(&input->lock, NULL);
	input->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = input->wake_fd < 0 ? error_set(e, errno, "device-failed", NULL, "%s: no eventfd: %s",
					     name, strerror(errno))
				 : 0;
	if (!ret)
		ret = virtio_device_init(&input->dev, &input->ops, 0, name, e);
	if (ret) {
		fd_close(&input->wake_fd);
		pthread_mutex_destroy(&input->lock);
		free(input);
		return ret;
	}
	ret = virtio_source_add(&input->dev, &input->wake, input->wake_fd, EPOLLIN, woken);
	if (!ret)
		ret = sd_event_add_time(input->dev.event, &input->timer, CLOCK_MONOTONIC, 0, 1,
					on_timer, input);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(input->timer, SD_EVENT_OFF);
	if (ret < 0) {
		virtio_device_close(&input->dev);
		return error_set(e, -ret, "device-failed", NULL, "%s: cannot watch its events: %s",
				 name, strerror(-ret));
	}
	*out = input;
	return 0;
}
