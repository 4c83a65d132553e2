// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_rng: entropy for a guest (VIRTIO 1.2, 5.4), from getrandom(2).
 *
 * One queue of buffers to fill. A request is answered with at most REQUEST_MAX bytes, so that one
 * chain of gigabytes cannot keep the worker.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "mdev/mdev.h"
#include "mdev/virtio.h"

#define REQUEST_MAX (64 * KIB)

static int64_t serve(struct virtio_device *dev, struct virtio_chain *chain)
{
	unsigned count = virtio_iov_slice(chain->in, chain->in_count, 0, REQUEST_MAX);
	int64_t written = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t done = 0;

		while (done < chain->in[i].iov_len) {
			ssize_t got = getrandom((uint8_t *)chain->in[i].iov_base + done,
						chain->in[i].iov_len - done, 0);

			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				return written;
			done += (size_t)got;
			written += got;
		}
	}
	return written;
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	virtio_queue_service(dev, index, serve);
}

static const struct virtio_device_ops rng_ops = {
	.thread_kind = "virtio-rng",
	.device_id = VIRTIO_ID_RNG,
	.class_code = 0xff0000,
	.queue_count = 1,
	.queue_notify = queue_notify,
};

int virtio_rng_create(struct vfio_device **out, struct error *e)
{
	struct virtio_device *dev = calloc(1, sizeof(*dev));
	int ret;

	if (!dev)
		return error_set(e, ENOMEM, "device-failed", NULL, "virtio-rng: out of memory");
	ret = virtio_device_init(dev, &rng_ops, 0, "virtio-rng", e);
	if (ret) {
		free(dev);
		return ret;
	}
	*out = &dev->vfio;
	return 0;
}
