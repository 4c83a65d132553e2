// SPDX-License-Identifier: Apache-2.0
/*
 * The serial port at PORT_SERIAL: a uart, its interrupt line, and a thread that writes what the
 * guest sends.
 *
 * A vCPU never waits for the terminal: bytes go into a bounded queue, and when that is full the
 * guest sees a busy transmitter. One mutex a port; it is never held over a system call other than
 * setting the line.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/platform.h"
#include "hypervisor-glue/uart.h"

#define QUEUE_SIZE 65536u /* a power of two */
#define WRITE_MAX  1024u  /* at once, so that room for the guest appears soon */
#define DRAIN_NS   (NSEC_PER_SEC / 2)

struct serial {
	struct vm *vm;
	int out_fd;
	int room_fd;
	pthread_t writer;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* the queue or @stop */
	struct uart uart;
	bool line, stop, starved;
	uint32_t head, tail; /* bytes ever queued, ever written */
	uint8_t queue[QUEUE_SIZE];
};

static void line_update(struct serial *serial)
{
	bool level = uart_interrupt(&serial->uart);

	if (level == serial->line)
		return;
	serial->line = level;
	vm_irq_line(serial->vm, GSI_SERIAL, level);
}

static void queue_byte(struct serial *serial, uint8_t byte)
{
	/* The transmitter said that it was busy: such a byte is lost, as on the wire. */
	if (serial->head - serial->tail == QUEUE_SIZE)
		return;
	serial->queue[serial->head++ % QUEUE_SIZE] = byte;
	if (serial->head - serial->tail == QUEUE_SIZE)
		uart_set_thr_full(&serial->uart, true);
	pthread_cond_broadcast(&serial->changed);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
	struct serial *serial = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)uart_read(&serial->uart, (unsigned)offset + i) << (8 * i);
	if (serial->starved && serial->uart.rx_count < UART_FIFO) {
		serial->starved = false;
		eventfd_write(serial->room_fd, 1);
	}
	line_update(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct serial *serial = opaque;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));

		if (uart_write(&serial->uart, (unsigned)offset + i, byte))
			queue_byte(serial, byte);
	}
	/* Turning the FIFO on or loopback off makes room as well. */
	if (serial->starved && serial->uart.rx_count < UART_FIFO) {
		serial->starved = false;
		eventfd_write(serial->room_fd, 1);
	}
	line_update(serial);
	pthread_mutex_unlock(&serial->lock);
}

static const struct dispatch_handler port_handler = { port_read, port_write };

/* Writes what it can; a reader that went away is no reason to stop the guest. */
static void bytes_write(int fd, const uint8_t *bytes, size_t count)
{
	while (count) {
		ssize_t n = write(fd, bytes, count);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd wait = { .fd = fd, .events = POLLOUT };

			poll(&wait, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		bytes += n;
		count -= (size_t)n;
	}
}

/* Only this thread takes from the queue. It may be cancelled while it waits for the terminal. */
static void *writer_main(void *opaque)
{
	struct serial *serial = opaque;
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_mutex_lock(&serial->lock);
	for (;;) {
		uint32_t start, count;

		while (serial->head == serial->tail && !serial->stop)
			pthread_cond_wait(&serial->changed, &serial->lock);
		if (serial->head == serial->tail)
			break;
		start = serial->tail % QUEUE_SIZE;
		count = MIN(serial->head - serial->tail, MIN(WRITE_MAX, QUEUE_SIZE - start));
		pthread_mutex_unlock(&serial->lock);

		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
		bytes_write(serial->out_fd, serial->queue + start, count);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);

		pthread_mutex_lock(&serial->lock);
		serial->tail += count;
		uart_set_thr_full(&serial->uart, false);
		line_update(serial);
		pthread_cond_broadcast(&serial->changed);
	}
	pthread_mutex_unlock(&serial->lock);
	return NULL;
}

int serial_create(struct vm *vm, int out_fd, struct serial **out, struct error *e)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	pthread_condattr_t attributes;
	int err;

	if (!serial)
		return error_set(e, ENOMEM, "no-memory", NULL, "serial port: out of memory");
	serial->vm = vm;
	serial->out_fd = out_fd;
	uart_init(&serial->uart);
	pthread_mutex_init(&serial->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&serial->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	serial->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (serial->room_fd < 0) {
		err = error_set(e, errno, "serial", NULL, "serial port: eventfd: %s",
				strerror(errno));
		goto free_serial;
	}
	err = thread_create(&serial->writer, "serial", writer_main, serial);
	if (err) {
		error_set(e, -err, "serial", NULL, "serial port: thread: %s", strerror(-err));
		goto close_room;
	}
	err = dispatch_add(vm_ports(vm), PORT_SERIAL, UART_PORTS, &port_handler, serial);
	if (err) {
		error_set(e, -err, "serial", NULL, "serial port: port 0x%x: %s", PORT_SERIAL,
			  strerror(-err));
		goto stop_writer;
	}
	*out = serial;
	return 0;

stop_writer:
	pthread_mutex_lock(&serial->lock);
	serial->stop = true;
	pthread_cond_broadcast(&serial->changed);
	pthread_mutex_unlock(&serial->lock);
	pthread_join(serial->writer, NULL);
close_room:
	fd_close(&serial->room_fd);
free_serial:
	pthread_cond_destroy(&serial->changed);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
	return err;
}

void serial_destroy(struct serial *serial)
{
	uint64_t deadline = monotonic_ns() + DRAIN_NS;
	const struct timespec until = {
		.tv_sec = (time_t)(deadline / NSEC_PER_SEC),
		.tv_nsec = (long)(deadline % NSEC_PER_SEC),
	};

	if (!serial)
		return;
	dispatch_remove(vm_ports(serial->vm), PORT_SERIAL);
	dispatch_synchronize(vm_ports(serial->vm));
	pthread_mutex_lock(&serial->lock);
	serial->stop = true;
	pthread_cond_broadcast(&serial->changed);
	/* The last words of a guest matter most, but a stopped terminal must not hold us. */
	while (serial->head != serial->tail)
		if (pthread_cond_timedwait(&serial->changed, &serial->lock, &until))
			break;
	if (serial->head != serial->tail)
		pthread_cancel(serial->writer);
	pthread_mutex_unlock(&serial->lock);
	pthread_join(serial->writer, NULL);
	fd_close(&serial->room_fd);
	pthread_cond_destroy(&serial->changed);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

size_t serial_input(struct serial *serial, const void *bytes, size_t count)
{
	size_t taken;

	pthread_mutex_lock(&serial->lock);
	taken = uart_receive(&serial->uart, bytes, count);
	if (taken < count)
		serial->starved = true;
	line_update(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

int serial_room_fd(const struct serial *serial)
{
	return serial->room_fd;
}
