// SPDX-License-Identifier: Apache-2.0
/*
 * What Vulkan says of the GPUs. Loading every driver of a machine is a lot of somebody else's code, which hangs and crashes on
 * hardware that is not well: it happens in a child that is killed when its time is over, and what it says is copied and
 * checked as a stranger's would be.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/node/private.h"
#include "vgpu-sched/vgpu-sched.h"

/* From the child, in one piece; both are one program. */
struct answer {
	int32_t count; /* or -errno */
	char text[256];
	struct vulkan_gpu gpus[VULKAN_GPUS_MAX];
};

static void child(int fd) __attribute__((noreturn));
static void child(int fd)
{
	static struct answer answer;
	const struct rlimit no_core = { 0, 0 };
	struct error e = { 0 };
	/* Out of the way of the numbers that they get, whatever is open already. */
	const int out = fcntl(fd, F_DUPFD, 10),
		  null = fcntl(open("/dev/null", O_RDWR), F_DUPFD, 10);

	/* It ends with its parent, leaves no core, and says nothing on our terminal. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &no_core);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	dup2(out, 3);
	close_range(4, ~0u, 0);
	signal(SIGPIPE, SIG_DFL);
	answer.count = launch_gpu_list(answer.gpus, &e);
	if (answer.count < 0)
		snprintf(answer.text, sizeof(answer.text), "%.255s", e.text);
	for (size_t at = 0; at < sizeof(answer);) {
		ssize_t n = write(3, (char *)&answer + at, sizeof(answer) - at);

		if (n < 0 && errno != EINTR)
			_exit(1);
		at += (size_t)MAX(n, 0);
	}
	_exit(0);
}

/* Until it is all there, or nothing more comes (0), or the time is over (-ETIMEDOUT). Returns bytes or -errno. */
static ssize_t receive(int fd, void *buf, size_t size, uint64_t deadline_ns)
{
	size_t at = 0;

	while (at < size) {
		const uint64_t now = monotonic_ns();
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(&poll_fd, 1, (int)((deadline_ns - now) * 1000 / NSEC_PER_SEC) + 1) <= 0)
			continue;
		n = read(fd, (char *)buf + at, size - at);
		if (!n)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		at += (size_t)MAX(n, 0);
	}
	return (ssize_t)at;
}

static void copy_text(char *to, size_t size, const char *from, size_t room)
{
	snprintf(to, size, "%.*s", (int)strnlen(from, room), from);
	text_printable(to);
}

/* What vulkan_gpu_name() makes: an address or one word. */
static bool name_ok(const char *name)
{
	return name[0] && strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz"
				       "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._:") == strlen(name);
}

static void take(const struct answer *answer, struct node_vulkan *vulkan)
{
	for (int i = 0; i < MIN(answer->count, NODE_VULKAN_MAX); i++) {
		const struct vulkan_gpu *from = &answer->gpus[i];
		struct node_vulkan_gpu *to = &vulkan->gpus[vulkan->count];

		copy_text(to->name, sizeof(to->name), from->name, sizeof(from->name));
		copy_text(to->device, sizeof(to->device), from->device, sizeof(from->device));
		to->cpu = *(const unsigned char *)&from->cpu != 0;
		to->memory_mib = from->memory / MIB;
		vulkan->count += name_ok(to->name);
	}
}

/* @received: bytes or -errno; @status: of the child */
static int judge(ssize_t received, int status, const struct answer *answer, unsigned timeout_ms,
		 struct node_vulkan *vulkan, struct error *e)
{
	if (received == -ETIMEDOUT)
		return error_set(e, ETIMEDOUT, "vulkan-hangs", "vulkaninfo --summary",
				 "the Vulkan drivers did not answer within %u ms", timeout_ms);
	if (received != (ssize_t)sizeof(*answer)) {
		if (WIFSIGNALED(status))
			return error_set(e, EIO, "vulkan-crashed", "vulkaninfo --summary",
					 "a Vulkan driver crashed (signal %d)", WTERMSIG(status));
		return error_set(e, EIO, "vulkan-crashed", "vulkaninfo --summary",
				 "a Vulkan driver ended the process that asked (status %d)",
				 WEXITSTATUS(status));
	}
	if (answer->count < 0) {
		char text[sizeof(answer->text)];

		copy_text(text, sizeof(text), answer->text, sizeof(answer->text));
		return error_set(e, ENODEV, "no-vulkan-device", "vulkaninfo --summary", "%s", text);
	}
	take(answer, vulkan);
	return 0;
}

int node_vulkan_read(unsigned timeout_ms, struct node_vulkan *vulkan, struct error *e)
{
	const uint64_t deadline = monotonic_ns() + timeout_ms * UINT64_C(1000000);
	struct answer *answer = calloc(1, sizeof(*answer));
	int fds[2] = { -1, -1 }, status = 0, err;
	ssize_t received;
	pid_t pid = -1;

	*vulkan = (struct node_vulkan){ 0 };
	if (!answer)
		return error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
	err = pipe2(fds, O_CLOEXEC) ? errno : 0;
	if (!err) {
		pid = fork();
		if (!pid)
			child(fds[1]);
		err = pid < 0 ? errno : 0;
	}
	fd_close(&fds[1]);
	if (err) {
		err = error_set(e, err, "vulkan-crashed", NULL, "no process to ask Vulkan in: %s",
				strerror(err));
		goto out;
	}
	received = receive(fds[0], answer, sizeof(*answer), deadline);
	/* It has nothing more to say, a driver's threads may not let it end, and how it ended is settled once it ends. */
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	err = judge(received, status, answer, timeout_ms, vulkan, e);
out:
	fd_close(&fds[0]);
	free(answer);
	return err;
}
