// SPDX-License-Identifier: Apache-2.0
/*
 * One of our virtio devices, offered on a socket by the vfio-user server (docs/mdev.md), to try VMMs with.
 *
 *   vfio_user_server SOCKET rng
 *   vfio_user_server SOCKET disk IMAGE
 *
 * It serves one client after another until it is told to end. A line on standard output says when it listens.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "mdev/mdev.h"

static int device_create(int argc, char **argv, struct vfio_device **device, struct error *e)
{
	if (argc == 4 && !strcmp(argv[2], "disk")) {
		const struct virtio_blk_config config = { .path = argv[3] };

		return virtio_blk_create(&config, device, e);
	}
	if (argc == 3 && !strcmp(argv[2], "rng"))
		return virtio_rng_create(device, e);
	return error_set(e, EINVAL, "usage", NULL, "usage: %s SOCKET rng | SOCKET disk IMAGE",
			 argv[0]);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *opaque)
{
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int serve(const char *path, struct vfio_device *device, struct error *e)
{
	const struct mdev_server_options options = { .path = path };
	struct mdev_server *server = NULL;
	sd_event *event = NULL;
	int err = sd_event_new(&event);

	if (err >= 0)
		err = sd_event_add_signal(event, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK,
					  on_signal, NULL);
	if (err < 0)
		return error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
	/* After the signal is blocked, so that only the loop gets it. */
	err = vfio_device_start(device, e);
	if (!err)
		err = mdev_server_create(event, device, &options, &server, e);
	if (!err) {
		printf("listening on %s\n", path);
		fflush(stdout);
		sd_event_loop(event);
	}
	mdev_server_destroy(server);
	sd_event_unref(event);
	return err;
}

int main(int argc, char **argv)
{
	struct vfio_device *device;
	struct error e = { 0 };
	int err = device_create(argc, argv, &device, &e);

	if (!err) {
		err = serve(argv[1], device, &e);
		device->ops->close(device);
	}
	if (err)
		error_print(&e, "vfio_user_server");
	return err ? 1 : 0;
}
