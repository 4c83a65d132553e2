// SPDX-License-Identifier: Apache-2.0
/*
 * Logging: one line, one write(2), which never waits for a reader; what a guest may have supplied is made printable first.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

static enum log_level log_threshold = LOG_LEVEL_INFO;
static uint64_t log_start_ns;
static unsigned long log_drops;
static bool log_journal;

/* systemd.exec(5), $JOURNAL_STREAM: device and inode of the stream, if it was not exchanged since for something else. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

__attribute__((constructor)) static void log_start(void)
{
	log_start_ns = monotonic_ns();
	log_journal = stderr_is_journal();
}

/* The journal takes a line's priority from in front of it (sd-daemon(3)), and has the time itself. */
int log_prefix(enum log_level level, char *text, size_t size)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	text[0] = '\0';
	return log_journal ? snprintf(text, size, "<%d>", priorities[level]) : 0;
}

uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

void log_set_level(enum log_level level)
{
	log_threshold = level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	char line[1024];
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	uint64_t ns = monotonic_ns() - log_start_ns;
	va_list ap;
	int n, m;

	if (level > log_threshold)
		return;
	n = log_prefix(level, line, sizeof(line));
	if (!n)
		n = snprintf(line, sizeof(line), "[%5u.%06u] %s: ", (unsigned)(ns / NSEC_PER_SEC),
			     (unsigned)(ns % NSEC_PER_SEC / 1000), names[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n = MIN(n + m, (int)sizeof(line) - 2);
	for (int i = 0; i < n; i++)
		if (line[i] < 0x20 || line[i] > 0x7e)
			line[i] = '?';
	line[n++] = '\n';
	/* A log that nobody reads must not stop a VM, nor a node: with POLLOUT a pipe has room for 4096 bytes (pipe(7), PIPE_BUF). */
	if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT) ||
	    write(STDERR_FILENO, line, (size_t)n) != n)
		log_drop(level);
}

void log_drop(enum log_level level)
{
	if (level <= log_threshold)
		__atomic_fetch_add(&log_drops, 1, __ATOMIC_RELAXED);
}

unsigned long log_dropped(void)
{
	return __atomic_load_n(&log_drops, __ATOMIC_RELAXED);
}
