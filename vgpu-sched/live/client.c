// SPDX-License-Identifier: Apache-2.0
/* A process's end of the connection to the arbiter (client.h). */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vgpu-sched/live/client.h"

#define ANSWER_MS	10000
#define DESCRIPTORS_MAX 2
/* A futex does not hear of a connection that ends: it is looked at so often. */
#define LOOK_NS (50 * UINT64_C(1000000))

int live_connect(const char *path, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, ENAMETOOLONG, "no-arbiter", NULL, "%s: longer than %zu bytes",
				 path, sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	err = errno;
	fd_close(&fd);
	return error_set(e, err, "no-arbiter", "divvy arbiter --socket PATH",
			 "%s: no arbiter answers: %s", path, strerror(err));
}

/* Descriptors of an answer that are not wanted are closed. */
static ssize_t receive(int fd, struct live_message *reply, int fds[DESCRIPTORS_MAX])
{
	struct iovec iov = { .iov_base = reply, .iov_len = sizeof(*reply) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	ssize_t size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = size < 0 ? NULL : CMSG_FIRSTHDR(&header);

	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(head),
		       MIN(head->cmsg_len - CMSG_LEN(0), DESCRIPTORS_MAX * sizeof(int)));
	return size;
}

int live_call(int fd, const struct live_message *message, struct live_message *reply, int *wanted,
	      struct error *e)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	int fds[DESCRIPTORS_MAX] = { -1, -1 };
	ssize_t size = -1;

	errno = ETIMEDOUT;
	if (send(fd, message, sizeof(*message), MSG_NOSIGNAL) == sizeof(*message) &&
	    poll(&poller, 1, ANSWER_MS) > 0)
		size = receive(fd, reply, fds);
	if (size != sizeof(*reply) || reply->version != LIVE_VERSION) {
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		return error_set(e, size ? errno : EPIPE, "no-arbiter", NULL,
				 "the arbiter does not answer: %s",
				 size ? strerror(errno) : "it ended the connection");
	}
	if (wanted) {
		memcpy(wanted, fds, sizeof(fds));
	} else {
		fd_close(&fds[0]);
		fd_close(&fds[1]);
	}
	if (!reply->error)
		return 0;
	reply->text[sizeof(reply->text) - 1] = '\0';
	return error_set(e, reply->error > 0 ? reply->error : EPROTO, "arbiter-refuses", NULL, "%s",
			 reply->text);
}

static void *page_map(int fd, size_t size)
{
	struct stat st;
	void *at = MAP_FAILED;

	if (fd >= 0 && !fstat(fd, &st) && st.st_size == (off_t)size)
		at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return at == MAP_FAILED ? NULL : at;
}

int live_worker_open(const char *path, const uint8_t token[LIVE_TOKEN_SIZE],
		     struct live_worker *worker, struct error *e)
{
	struct live_message message = { .type = LIVE_REGISTER, .version = LIVE_VERSION }, reply;
	int fds[DESCRIPTORS_MAX], err;

	*worker = (struct live_worker){ .fd = live_connect(path, e) };
	if (worker->fd < 0)
		return worker->fd;
	memcpy(message.token, token, LIVE_TOKEN_SIZE);
	err = live_call(worker->fd, &message, &reply, fds, e);
	if (!err) {
		worker->memory_quota = reply.memory_quota;
		worker->page = page_map(fds[0], sizeof(*worker->page));
		worker->vgpu = page_map(fds[1], sizeof(*worker->vgpu));
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		if (!worker->page || !worker->vgpu)
			err = error_set(e, EPROTO, "no-arbiter", NULL, "%s: it hands over no pages",
					path);
	}
	if (err)
		live_worker_close(worker);
	return err;
}

void live_worker_close(struct live_worker *worker)
{
	if (worker->page)
		munmap(worker->page, sizeof(*worker->page));
	if (worker->vgpu)
		munmap(worker->vgpu, sizeof(*worker->vgpu));
	fd_close(&worker->fd);
	*worker = (struct live_worker){ .fd = -1 };
}

static int say(struct live_worker *worker, const struct live_message *message)
{
	return send(worker->fd, message, sizeof(*message), MSG_NOSIGNAL) == sizeof(*message)
		       ? 0
		       : -EPIPE;
}

static bool connected(const struct live_worker *worker)
{
	struct pollfd poller = { .fd = worker->fd, .events = POLLIN };

	/* Nothing is ever sent to a registered worker: what can be read is the end. */
	return poll(&poller, 1, 0) == 0;
}

int live_worker_turn(struct live_worker *worker, enum sched_engine engine, uint64_t timeout_ns,
		     uint64_t *slice_ns)
{
	const struct live_message want = { .type = LIVE_WANT,
					   .version = LIVE_VERSION,
					   .engine = engine };
	const uint64_t until = monotonic_ns() + timeout_ns;

	for (;;) {
		uint32_t wake = atomic_load(&worker->page->wake);
		uint64_t now, left;

		if (atomic_load(&worker->page->grants[engine].id)) {
			worker->wants[engine] = false;
			*slice_ns = atomic_load(&worker->page->grants[engine].slice_ns);
			return 0;
		}
		if (!worker->wants[engine] && say(worker, &want))
			return -EPIPE;
		worker->wants[engine] = true;
		now = monotonic_ns();
		if (now >= until)
			return -ETIMEDOUT;
		if (!connected(worker))
			return -EPIPE;
		left = MIN(until - now, LOOK_NS);
		syscall(SYS_futex, &worker->page->wake, FUTEX_WAIT, wake,
			&(struct timespec){ (time_t)(left / NSEC_PER_SEC),
					    (long)(left % NSEC_PER_SEC) },
			NULL, 0);
	}
}

bool live_worker_may_go_on(const struct live_worker *worker, enum sched_engine engine,
			   uint64_t used_ns)
{
	return atomic_load(&worker->page->grants[engine].id) &&
	       (used_ns < atomic_load(&worker->page->grants[engine].slice_ns) ||
		atomic_load(&worker->page->grants[engine].alone));
}

void live_worker_used(struct live_worker *worker, enum sched_engine engine, uint64_t ns)
{
	atomic_fetch_add(&worker->page->used_ns[engine], ns);
}

int live_worker_release(struct live_worker *worker, enum sched_engine engine, bool again)
{
	const struct live_message release = {
		.type = LIVE_RELEASE,
		.version = LIVE_VERSION,
		.engine = engine,
		.again = again,
		.used_ns = atomic_exchange(&worker->page->used_ns[engine], 0),
	};

	/* From here on it is not ours; the next one is told by the arbiter. */
	atomic_store(&worker->page->grants[engine].id, 0);
	worker->wants[engine] = again;
	return say(worker, &release);
}
