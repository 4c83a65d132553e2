/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults: the n-th call that can fail does. A test program that is linked with the --wrap options of
 * build.mk has every call of the functions below come here first, from whatever file of the tree.
 *
 * Calls are counted on the thread that armed the counter only, so that a count means the same each time.
 * What gives something back is never made to fail, since the kernel's does not: close, munmap, unmaps,
 * detaching, switching an interrupt off, removing a slot, an irqfd or an ioeventfd.
 *
 * Mappings are kept count of by address: what code of the tree mapped and did not unmap.
 */
#ifndef TESTS_UNIT_FAULTS_H
#define TESTS_UNIT_FAULTS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <systemd/sd-event.h>

static __thread bool faults_armed;
static unsigned long faults_seen, faults_at; /* calls so far; the one that fails, from 1 */
static int faults_errno;
static const char *faults_name; /* of the call that failed; NULL: none did */

static inline void faults_arm(unsigned long at, int err)
{
	faults_seen = 0;
	faults_at = at;
	faults_errno = err;
	faults_name = NULL;
	faults_armed = true;
}

static inline void faults_disarm(void)
{
	faults_armed = false;
}

static inline bool faults_hit(const char *name)
{
	if (!faults_armed || ++faults_seen != faults_at)
		return false;
	faults_name = name;
	errno = faults_errno;
	return true;
}

/* ---- what is mapped ------------------------------------------------------------------------ */

#define FAULTS_RANGES 512
static struct {
	pthread_mutex_t lock;
	unsigned count;
	struct {
		uintptr_t start, end;
	} ranges[FAULTS_RANGES];
} faults_maps = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline void faults_unmap_locked(uintptr_t start, uintptr_t end)
{
	for (unsigned i = 0; i < faults_maps.count;) {
		uintptr_t s = faults_maps.ranges[i].start, e = faults_maps.ranges[i].end;

		if (s >= end || e <= start) {
			i++;
			continue;
		}
		faults_maps.ranges[i] = faults_maps.ranges[--faults_maps.count];
		if (s < start) {
			faults_maps.ranges[faults_maps.count].start = s;
			faults_maps.ranges[faults_maps.count++].end = start;
		}
		if (e > end) {
			faults_maps.ranges[faults_maps.count].start = end;
			faults_maps.ranges[faults_maps.count++].end = e;
		}
	}
}

static inline void faults_note(void *at, size_t size, bool mapped)
{
	uintptr_t start = (uintptr_t)at, end = (start + size + 4095) & ~(uintptr_t)4095;

	pthread_mutex_lock(&faults_maps.lock);
	faults_unmap_locked(start, end);
	if (mapped) {
		faults_maps.ranges[faults_maps.count].start = start;
		faults_maps.ranges[faults_maps.count++].end = end;
	}
	pthread_mutex_unlock(&faults_maps.lock);
}

/* Bytes that code of the tree has mapped now. */
static inline uint64_t faults_mapped(void)
{
	uint64_t bytes = 0;

	pthread_mutex_lock(&faults_maps.lock);
	for (unsigned i = 0; i < faults_maps.count; i++)
		bytes += faults_maps.ranges[i].end - faults_maps.ranges[i].start;
	pthread_mutex_unlock(&faults_maps.lock);
	return bytes;
}

/* ---- the calls ------------------------------------------------------------------------------ */

/* What a fake kernel answers; returns whether it did. Set by tests/unit/fake_vfio_kernel.h. */
static bool (*faults_ioctl)(int fd, unsigned long request, void *arg, int *ret);
static void (*faults_opened)(int fd, const char *path);
static void (*faults_closing)(int fd);

#define FAULTS_WRAP(type, failed, name, parameters, arguments) \
	type __real_##name parameters;                         \
	type __wrap_##name parameters;                         \
	type __wrap_##name parameters                          \
	{                                                      \
		if (faults_hit(#name))                         \
			return failed;                         \
		return __real_##name arguments;                \
	}

FAULTS_WRAP(void *, NULL, malloc, (size_t size), (size))
FAULTS_WRAP(void *, NULL, calloc, (size_t count, size_t size), (count, size))
FAULTS_WRAP(void *, NULL, realloc, (void *old, size_t size), (old, size))
FAULTS_WRAP(void *, NULL, aligned_alloc, (size_t align, size_t size), (align, size))
FAULTS_WRAP(char *, NULL, strdup, (const char *text), (text))
FAULTS_WRAP(int, -1, eventfd, (unsigned count, int flags), (count, flags))
FAULTS_WRAP(int, -1, memfd_create, (const char *name, unsigned flags), (name, flags))
FAULTS_WRAP(int, -1, ftruncate64, (int fd, off_t size), (fd, size))
FAULTS_WRAP(int, -1, fstat64, (int fd, struct stat *st), (fd, st))
FAULTS_WRAP(int, -1, fstatfs64, (int fd, struct statfs *st), (fd, st))
FAULTS_WRAP(int, -1, pipe2, (int fds[2], int flags), (fds, flags))
FAULTS_WRAP(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
FAULTS_WRAP(int, -1, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
FAULTS_WRAP(int, -1, setsockopt, (int fd, int l, int o, const void *v, socklen_t n),
	    (fd, l, o, v, n))
FAULTS_WRAP(ssize_t, -1, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAULTS_WRAP(ssize_t, -1, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
FAULTS_WRAP(ssize_t, -1, read, (int fd, void *buf, size_t count), (fd, buf, count))
FAULTS_WRAP(ssize_t, -1, pread64, (int fd, void *buf, size_t count, off_t at), (fd, buf, count, at))
FAULTS_WRAP(ssize_t, -1, pwrite64, (int fd, const void *buf, size_t count, off_t at),
	    (fd, buf, count, at))
FAULTS_WRAP(ssize_t, -1, readlinkat, (int fd, const char *path, char *buf, size_t size),
	    (fd, path, buf, size))
FAULTS_WRAP(DIR *, NULL, opendir, (const char *path), (path))
FAULTS_WRAP(DIR *, NULL, fdopendir, (int fd), (fd))
FAULTS_WRAP(int, -1, sigaction, (int signal, const struct sigaction *new, struct sigaction *old),
	    (signal, new, old))
FAULTS_WRAP(int, -1, madvise, (void *at, size_t size, int advice), (at, size, advice))
FAULTS_WRAP(int, faults_errno, pthread_create,
	    (pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
	    (thread, attr, run, arg))
FAULTS_WRAP(int, -faults_errno, sd_event_new, (sd_event * *event), (event))
FAULTS_WRAP(int, -faults_errno, sd_event_add_io,
	    (sd_event * event, sd_event_source **source, int fd, uint32_t events,
	     sd_event_io_handler_t handler, void *userdata),
	    (event, source, fd, events, handler, userdata))
FAULTS_WRAP(int, -faults_errno, sd_event_add_signal,
	    (sd_event * event, sd_event_source **source, int signal,
	     sd_event_signal_handler_t handler, void *userdata),
	    (event, source, signal, handler, userdata))

void *__real_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *got = MAP_FAILED;

	if (!faults_hit("mmap64"))
		got = __real_mmap64(at, size, prot, flags, fd, offset);
	if (got != MAP_FAILED)
		faults_note(got, size, true);
	return got;
}

int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size)
{
	faults_note(at, size, false);
	return __real_munmap(at, size);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	int mode, fd;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	if (faults_hit("open64"))
		return -1;
	fd = __real_open64(path, flags, mode);
	if (fd >= 0 && faults_opened)
		faults_opened(fd, path);
	return fd;
}

int __real_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...)
{
	return faults_hit("openat64") ? -1 : __real_openat64(folder, path, flags);
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	va_list args;
	long arg;

	va_start(args, command);
	arg = va_arg(args, long);
	va_end(args);
	return faults_hit("fcntl64") ? -1 : __real_fcntl64(fd, command, arg);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	if (faults_closing)
		faults_closing(fd);
	return __real_close(fd);
}

/* Each ioctl that was made while calls were counted, once. */
#define FAULTS_REQUESTS 128
static unsigned long faults_requests[FAULTS_REQUESTS];
static unsigned faults_request_count;

static inline void faults_note_request(unsigned long request)
{
	for (unsigned i = 0; i < faults_request_count; i++)
		if (faults_requests[i] == request)
			return;
	if (faults_armed && faults_request_count < FAULTS_REQUESTS)
		faults_requests[faults_request_count++] = request;
}

/* Slots that KVM is asked to let go of stay, as when the kernel is out of memory. */
static bool faults_keep_slots;

/* Whether an ioctl gives something back. */
static inline bool faults_release(unsigned long request, const void *arg)
{
	const struct kvm_userspace_memory_region *slot = arg;
	const struct vfio_irq_set *irqs = arg;
	const struct kvm_ioeventfd *io = arg;
	const struct kvm_irqfd *irqfd = arg;

	switch (request) {
	case VFIO_IOMMU_UNMAP_DMA:
	case VFIO_GROUP_UNSET_CONTAINER:
	case VFIO_DEVICE_DETACH_IOMMUFD_PT:
	case IOMMU_IOAS_UNMAP:
	case IOMMU_DESTROY:
		return true;
	case VFIO_DEVICE_SET_IRQS:
		return !irqs->count && irqs->flags & VFIO_IRQ_SET_DATA_NONE;
	case KVM_SET_USER_MEMORY_REGION:
		return !slot->memory_size;
	case KVM_IRQFD:
		return irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN;
	case KVM_IOEVENTFD:
		return io->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	default:
		return false;
	}
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	faults_note_request(request);
	if (!faults_release(request, arg) && faults_hit("ioctl"))
		return -1;
	if (faults_keep_slots && request == KVM_SET_USER_MEMORY_REGION &&
	    faults_release(request, arg)) {
		errno = ENOMEM;
		return -1;
	}
	if (faults_ioctl && faults_ioctl(fd, request, arg, &ret))
		return ret;
	return __real_ioctl(fd, request, arg);
}

#endif
