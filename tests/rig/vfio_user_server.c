// SPDX-License-Identifier: Apache-2.0
/*
 * A vfio-user server to try divvy-vmm with: one of our virtio devices, offered on a socket.
 *
 *   vfio_user_server SOCKET rng
 *   vfio_user_server SOCKET disk IMAGE
 *
 * It serves one client after another, each with a device of its own, until it is killed. A line on
 * standard output says when it listens.
 */
#include <sys/un.h>

#include "mdev/mdev.h"
#include "tests/unit/vfio_user_server.h"

static int create(int argc, char **argv, struct vfio_device **device, struct error *e)
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

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct vfio_device *device;
	struct error e = { 0 };
	struct server server;

	int err = create(argc, argv, &device, &e);

	if (!err && strlen(argv[1]) >= sizeof(address.sun_path))
		err = error_set(&e, ENAMETOOLONG, "usage", NULL, "%s: too long a path", argv[1]);
	if (err) {
		error_print(&e, "vfio_user_server");
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	unlink(argv[1]);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0) {
		perror(argv[1]);
		return 1;
	}
	printf("listening on %s\n", argv[1]);
	fflush(stdout);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		server_init(&server, device, fd);
		server_serve(&server);
		device->ops->close(device);
		if (create(argc, argv, &device, &e)) {
			error_print(&e, "vfio_user_server");
			return 1;
		}
	}
}
