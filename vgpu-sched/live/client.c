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
#define CONNECT_US	2000000
#define SEND_US		250000
#define INTERRUPTED_MAX 100
/* To be quicker than other threads at the same word; who is not after so many finds none that is honest. */
#define TRIES 100000

static void send_timeout(int fd, long us)
{
	const struct timeval time = { .tv_sec = us / 1000000, .tv_usec = us % 1000000 };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

/* A program's signals are no failure of its GPU's. */
static bool send_whole(int fd, const struct live_message *message)
{
	ssize_t size;

	for (unsigned i = 0; i < INTERRUPTED_MAX; i++) {
		size = send(fd, message, sizeof(*message), MSG_NOSIGNAL);
		if (size >= 0 || errno != EINTR)
			return size == sizeof(*message);
	}
	return false;
}

/* Up to ANSWER_MS for something to read. */
static bool wait_readable(int fd)
{
	const uint64_t until = monotonic_ns() + ANSWER_MS * UINT64_C(1000000);
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	uint64_t now;

	while ((now = monotonic_ns()) < until) {
		int ready = poll(&poller, 1, (int)((until - now) / 1000000) + 1);

		if (ready > 0)
			return true;
		if (ready < 0 && errno != EINTR)
			return false;
	}
	errno = ETIMEDOUT;
	return false;
}

static int nibble(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

int live_token_read(const char *text, uint8_t token[LIVE_TOKEN_SIZE])
{
	if (strlen(text) != 2 * LIVE_TOKEN_SIZE)
		return -EINVAL;
	for (unsigned i = 0; i < LIVE_TOKEN_SIZE; i++) {
		int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		token[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

int live_connect(const char *path, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	unsigned tries = 0;
	char next[256];
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, ENAMETOOLONG, "no-arbiter", NULL, "%s: longer than %zu bytes",
				 path, sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		/* Of an arbiter that takes no more connections the queue is full, and connect() waits. */
		send_timeout(fd, CONNECT_US);
		while ((err = connect(fd, (struct sockaddr *)&address, sizeof(address))) &&
		       errno == EINTR && tries++ < INTERRUPTED_MAX)
			;
		if (!err)
			return fd;
	}
	err = errno;
	fd_close(&fd);
	snprintf(next, sizeof(next), "divvy arbiter --socket %s; or divvy run-native --embedded",
		 path);
	return error_set(e, err, "no-arbiter", next, "%s: no arbiter answers: %s", path,
			 strerror(err));
}

ssize_t live_receive(int fd, struct live_message *reply, int fds[LIVE_DESCRIPTORS_MAX])
{
	struct iovec iov = { .iov_base = reply, .iov_len = sizeof(*reply) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(LIVE_DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	ssize_t size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = size < 0 ? NULL : CMSG_FIRSTHDR(&header);

	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(head),
		       MIN(head->cmsg_len - CMSG_LEN(0), LIVE_DESCRIPTORS_MAX * sizeof(int)));
	return size;
}

/* Codes that an arbiter may give, and the next command for each. */
static const struct {
	const char *code, *next;
} refusals[] = {
	{ "gpu-shares-full", "divvy vgpus, and a lower share" },
	{ "gpu-places-full", "divvy vgpus" },
	{ "too-many-gpus", NULL },
	{ "vgpu-policy", NULL },
	{ "vgpu-share", NULL },
	{ "vgpu-elastic", NULL },
	{ "vgpu-weight", NULL },
	{ "no-such-vgpu", NULL },
	{ "too-many-workers", NULL },
	{ "too-many-vgpus", "divvy vgpus" },
};

static int refusal(struct live_message *reply, struct error *e)
{
	const int err = reply->error > 0 ? reply->error : EPROTO;
	const char *code = "arbiter-refuses", *next = NULL;

	reply->text[sizeof(reply->text) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (!strncmp(reply->code, refusals[i].code, sizeof(reply->code))) {
			code = refusals[i].code;
			next = refusals[i].next;
		}
	return error_set(e, err, code, next, "%s", reply->text);
}

int live_call(int fd, const struct live_message *message, struct live_message *reply, int *wanted,
	      struct error *e)
{
	int fds[LIVE_DESCRIPTORS_MAX] = { -1, -1 };
	ssize_t size = -1;

	if (send_whole(fd, message) && wait_readable(fd))
		size = live_receive(fd, reply, fds);
	if (size != sizeof(*reply) || reply->version != LIVE_VERSION) {
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		return error_set(e,
				 size < 0 ? errno
				 : size	  ? EPROTO
					  : EPIPE,
				 "no-arbiter", NULL, "the arbiter does not answer: %s",
				 size < 0 ? strerror(errno)
				 : size	  ? "it speaks another version"
					  : "it ended the connection");
	}
	if (wanted) {
		memcpy(wanted, fds, sizeof(fds));
	} else {
		fd_close(&fds[0]);
		fd_close(&fds[1]);
	}
	if (!reply->error)
		return 0;
	return refusal(reply, e);
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
	int fds[LIVE_DESCRIPTORS_MAX], err;

	*worker = (struct live_worker){ .fd = live_connect(path, e) };
	if (worker->fd < 0)
		return worker->fd;
	send_timeout(worker->fd, SEND_US);
	memcpy(message.token, token, LIVE_TOKEN_SIZE);
	err = live_call(worker->fd, &message, &reply, fds, e);
	if (!err) {
		worker->memory_quota = reply.memory_quota;
		memcpy(worker->gpu, reply.gpu, sizeof(worker->gpu) - 1);
		memcpy(worker->name, reply.name, sizeof(worker->name) - 1);
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

/* Bounded by SO_SNDTIMEO: an arbiter that hears nothing is as good as gone. */
static int say(struct live_worker *worker, const struct live_message *message)
{
	return send_whole(worker->fd, message) ? 0 : -EPIPE;
}

int live_worker_connected(const struct live_worker *worker)
{
	struct pollfd poller = { .fd = worker->fd, .events = POLLIN };

	/* Nothing is ever sent to a registered worker: what can be read is the end. A signal is not. */
	return poll(&poller, 1, 0) > 0 ? -EPIPE : 0;
}

/* ---- turns ------------------------------------------------------------------------------------ */

bool live_worker_has_turn(struct live_worker *worker, enum sched_engine engine, uint64_t *slice_ns)
{
	if (!atomic_load(&worker->page->grants[engine].id))
		return false;
	worker->wanted_ns[engine] = 0;
	*slice_ns = atomic_load(&worker->page->grants[engine].slice_ns);
	return true;
}

int live_worker_want(struct live_worker *worker, enum sched_engine engine)
{
	const struct live_message want = { .type = LIVE_WANT,
					   .version = LIVE_VERSION,
					   .engine = engine };
	const uint64_t now = monotonic_ns();

	/*
	 * Twice is once to the arbiter. It is said again because a turn can come and be settled away before anybody has looked,
	 * and the wish with it.
	 */
	if (worker->wanted_ns[engine] && now - worker->wanted_ns[engine] < LIVE_LOOK_NS)
		return 0;
	if (atomic_load(&worker->page->grants[engine].id))
		return 0;
	worker->wanted_ns[engine] = now;
	return say(worker, &want);
}

int live_worker_turn(struct live_worker *worker, enum sched_engine engine, uint64_t timeout_ns,
		     uint64_t *slice_ns)
{
	const uint64_t until = monotonic_ns() + timeout_ns;

	for (;;) {
		const uint32_t seen = live_worker_wake_count(worker);
		uint64_t now;

		if (live_worker_has_turn(worker, engine, slice_ns))
			return 0;
		if (live_worker_connected(worker) || live_worker_want(worker, engine))
			return -EPIPE;
		now = monotonic_ns();
		if (now >= until)
			return -ETIMEDOUT;
		live_worker_sleep(worker, seen, MIN(until - now, LIVE_LOOK_NS));
	}
}

bool live_worker_may_go_on(const struct live_worker *worker, enum sched_engine engine,
			   uint64_t used_ns)
{
	return live_worker_alone(worker, engine) ||
	       (atomic_load(&worker->page->grants[engine].id) &&
		used_ns < atomic_load(&worker->page->grants[engine].slice_ns));
}

bool live_worker_alone(const struct live_worker *worker, enum sched_engine engine)
{
	return atomic_load(&worker->page->grants[engine].id) &&
	       monotonic_ns() < atomic_load(&worker->page->grants[engine].alone_until_ns);
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
	worker->wanted_ns[engine] = again ? monotonic_ns() : 0;
	return say(worker, &release);
}

#define FORCED_COST	20 /* 1 / 5 % */
#define FORCED_SAVED_NS (500 * UINT64_C(1000000))

bool live_worker_may_force(const struct live_worker *worker)
{
	return atomic_load(&worker->vgpu->forced_until_ns) <=
	       monotonic_ns() + FORCED_COST * FORCED_SAVED_NS;
}

void live_worker_spend(struct live_worker *worker, uint64_t ns)
{
	const uint64_t cost = MIN(ns, NSEC_PER_SEC * 3600) * FORCED_COST, now = monotonic_ns();
	uint64_t until = atomic_load(&worker->vgpu->forced_until_ns);

	while (!atomic_compare_exchange_weak(&worker->vgpu->forced_until_ns, &until,
					     MAX(until, now) + cost))
		;
}

int live_worker_forced(struct live_worker *worker, enum sched_engine engine, uint64_t ns)
{
	const struct live_message forced = {
		.type = LIVE_FORCED,
		.version = LIVE_VERSION,
		.engine = engine,
		.used_ns = ns,
	};

	return say(worker, &forced);
}

/* ---- sleeping and waking ------------------------------------------------------------------------ */

uint32_t live_worker_wake_count(const struct live_worker *worker)
{
	return atomic_load(&worker->page->wake);
}

int live_worker_sleep(struct live_worker *worker, uint32_t seen, uint64_t timeout_ns)
{
	const struct timespec timeout = { (time_t)(timeout_ns / NSEC_PER_SEC),
					  (long)(timeout_ns % NSEC_PER_SEC) };

	if (!syscall(SYS_futex, &worker->page->wake, FUTEX_WAIT, seen, &timeout, NULL, 0))
		return 0;
	return errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void live_worker_wake(struct live_worker *worker)
{
	atomic_fetch_add(&worker->page->wake, 1);
	syscall(SYS_futex, &worker->page->wake, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* ---- memory ------------------------------------------------------------------------------------- */

int live_worker_memory_take(struct live_worker *worker, uint64_t bytes)
{
	const uint64_t quota = worker->memory_quota ? worker->memory_quota : UINT64_MAX;
	uint64_t used = atomic_load(&worker->vgpu->memory_used);

	for (unsigned i = 0; i < TRIES; i++) {
		if (bytes > quota || used > quota - bytes)
			return -ENOMEM;
		if (!atomic_compare_exchange_weak(&worker->vgpu->memory_used, &used, used + bytes))
			continue;
		/* In this order: who is killed in between has used up some of the quota, not gained any. */
		atomic_fetch_add(&worker->page->memory_used, bytes);
		return 0;
	}
	return -ENOMEM;
}

static void take_off(_Atomic uint64_t *count, uint64_t bytes)
{
	uint64_t old = atomic_load(count);

	for (unsigned i = 0; i < TRIES; i++)
		if (atomic_compare_exchange_weak(count, &old, old - MIN(old, bytes)))
			return;
}

void live_worker_memory_give(struct live_worker *worker, uint64_t bytes)
{
	take_off(&worker->page->memory_used, bytes);
	take_off(&worker->vgpu->memory_used, bytes);
}

uint64_t live_worker_memory_used(const struct live_worker *worker)
{
	return atomic_load(&worker->vgpu->memory_used);
}
