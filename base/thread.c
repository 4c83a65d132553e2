// SPDX-License-Identifier: Apache-2.0
/*
 * Threads: each has a kind, is deaf to the process's signals, and passes through the process's one
 * hook before it does anything. The hook is how a program confines its threads without the rooms
 * that start them knowing of it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/base.h"

struct thread_start {
	const char *kind;
	void *(*run)(void *arg);
	void *arg;
};

static void (*thread_hook)(const char *kind);

void thread_set_hook(void (*hook)(const char *kind))
{
	thread_hook = hook;
}

/* A fault is its thread's own: blocked, it would end the process without its handler. */
static void block_signals(sigset_t *before)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
	sigset_t blocked;

	sigfillset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(&blocked, faults[i]);
	pthread_sigmask(SIG_SETMASK, &blocked, before);
}

void thread_enter(const char *kind)
{
	block_signals(NULL);
	pthread_setname_np(pthread_self(), kind);
	if (thread_hook)
		thread_hook(kind);
}

static void *thread_main(void *opaque)
{
	struct thread_start start = *(struct thread_start *)opaque;

	free(opaque);
	thread_enter(start.kind);
	return start.run(start.arg);
}

int thread_create(pthread_t *thread, const char *kind, void *(*run)(void *arg), void *arg)
{
	struct thread_start *start = malloc(sizeof(*start));
	sigset_t before;
	int err;

	if (!start)
		return -ENOMEM;
	*start = (struct thread_start){ kind, run, arg };
	/* Not one that comes before it has entered. */
	block_signals(&before);
	err = pthread_create(thread, NULL, thread_main, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		free(start);
	return -err;
}
