// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupts of a served device: VFIO_USER_DEVICE_GET_IRQ_INFO and VFIO_USER_DEVICE_SET_IRQS.
 *
 * What comes is judged here, one rule at a time, so that a device only sees calls that VFIO allows. The
 * eventfds stay the client's files: somebody who writes into one until it is full must not make the
 * device wait, so each is an eventfd for certain and does not block.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "mdev/server/server.h"

int server_irq_info(struct mdev_server *server, const struct user_message *message)
{
	struct vfio_irq_info info;

	memcpy(&info, message->payload, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= server->irq_count)
		return -EINVAL;
	info.argsz = sizeof(info);
	info.flags = server->irqs[info.index].flags;
	info.count = server->irqs[info.index].count;
	memcpy(server_payload(server), &info, sizeof(info));
	server_reply(server, sizeof(info), NULL, 0);
	return 0;
}

static bool one_bit(uint32_t bits)
{
	return bits && !(bits & (bits - 1));
}

/* Of the kinds of file without a file system only an eventfd takes a write of eight bytes. */
static int eventfd_check(int fd)
{
	struct statfs fs;
	int flags;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != ANON_INODE_FS_MAGIC)
		return -EBADF;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static int set_irqs_check(const struct mdev_server *server, const struct vfio_irq_set *set,
			  const struct user_message *message)
{
	const uint32_t action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	const uint32_t data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	const struct vfio_irq *irq;

	if (set->argsz < sizeof(*set))
		return -EINVAL;
	/* One thing is done with one kind of data, and no bit is left over. */
	if (set->flags & ~(uint32_t)(VFIO_IRQ_SET_ACTION_TYPE_MASK | VFIO_IRQ_SET_DATA_TYPE_MASK))
		return -EINVAL;
	if (!one_bit(action) || !one_bit(data))
		return -EINVAL;
	if (set->index >= server->irq_count)
		return -EINVAL;
	irq = &server->irqs[set->index];
	if (set->start > irq->count || set->count > irq->count - set->start)
		return -EINVAL;
	/* None at all means to switch the index off, and only that. */
	if (!set->count &&
	    (set->start || data != VFIO_IRQ_SET_DATA_NONE || action != VFIO_IRQ_SET_ACTION_TRIGGER))
		return -EINVAL;
	/* Masks are for what can be masked, eventfds for what signals by them. */
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER && !(irq->flags & VFIO_IRQ_INFO_MASKABLE))
		return -EINVAL;
	if (data == VFIO_IRQ_SET_DATA_EVENTFD && !(irq->flags & VFIO_IRQ_INFO_EVENTFD))
		return -EINVAL;
	/* A byte for each goes along with DATA_BOOL; nothing does else. */
	if (message->payload_size !=
	    sizeof(*set) + (data == VFIO_IRQ_SET_DATA_BOOL ? set->count : 0))
		return -EINVAL;
	/* One descriptor for each; "if no file descriptors are provided, this de-assigns". */
	if (message->fd_count &&
	    (data != VFIO_IRQ_SET_DATA_EVENTFD || message->fd_count != set->count))
		return -EINVAL;
	return 0;
}

int server_set_irqs(struct mdev_server *server, const struct user_message *message)
{
	struct vfio_device *device = server->device;
	int32_t fds[VFIO_PCI_VECTORS_MAX];
	struct vfio_irq_set set;
	const void *data = NULL;
	int err;

	memcpy(&set, message->payload, sizeof(set));
	err = set_irqs_check(server, &set, message);
	for (unsigned i = 0; i < message->fd_count && !err; i++)
		err = eventfd_check(message->fds[i]);
	if (err)
		return err;
	if (set.flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		for (uint32_t i = 0; i < set.count; i++)
			fds[i] = message->fd_count ? message->fds[i] : -1;
		data = fds;
	} else if (set.flags & VFIO_IRQ_SET_DATA_BOOL) {
		data = message->payload + sizeof(set);
	}
	if (!device->ops->set_irqs)
		return -ENOTTY;
	err = device->ops->set_irqs(device, set.flags, set.index, set.start, set.count, data);
	if (err)
		return err;
	server->armed[set.index] |= message->fd_count > 0;
	server_reply(server, 0, NULL, 0);
	return 0;
}

void server_irq_release(struct mdev_server *server)
{
	struct vfio_device *device = server->device;

	for (uint32_t i = 0; i < server->irq_count; i++) {
		if (server->armed[i])
			device->ops->set_irqs(device,
					      VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
					      i, 0, 0, NULL);
		server->armed[i] = false;
	}
}
