// SPDX-License-Identifier: Apache-2.0
/* Where a console's bytes go (console.h): the serial port's receiver, or a pipe that virtio-console reads. Neither is waited for. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hypervisor-glue/console.h"

size_t console_target_give(const struct console_target *target, const uint8_t *bytes, size_t count)
{
	ssize_t n;

	if (target->serial)
		return serial_input(target->serial, bytes, count);
	if (target->pipe_fd < 0 || !count)
		return count;
	n = write(target->pipe_fd, bytes, count);
	if (n >= 0)
		return (size_t)n;
	/* Full: wait. Anything else: nobody will ever read it. */
	return errno == EAGAIN || errno == EINTR ? 0 : count;
}

int console_target_watch(const struct console_target *target, sd_event *event,
			 sd_event_source **source, sd_event_io_handler_t on_room, void *opaque)
{
	if (target->serial)
		return sd_event_add_io(event, source, serial_room_fd(target->serial), EPOLLIN,
				       on_room, opaque);
	if (target->pipe_fd >= 0)
		return sd_event_add_io(event, source, target->pipe_fd, EPOLLOUT, on_room, opaque);
	return 0;
}

void console_target_room(const struct console_target *target, int fd)
{
	eventfd_t value;

	if (target->serial)
		(void)eventfd_read(fd, &value);
}
