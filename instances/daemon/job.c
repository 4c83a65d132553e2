// SPDX-License-Identifier: Apache-2.0
/*
 * What may take long, or never end: binding a driver, a reset, copying a disk. A child does it and leaves what came of it in memory that both
 * see; the loop hears of its end, or kills it when its time is over. One that hangs in the kernel and cannot be killed is left
 * behind, and what waited for it goes on.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/daemon/private.h"

/* What the child leaves. It runs our own code, but may die in the middle of it. */
struct outcome {
	bool whole;
	int err;
	int error_err;
	char code[64], text[768], next[256];
	_Alignas(max_align_t) unsigned char result[JOB_RESULT_MAX];
};

struct job {
	struct daemon *daemon;
	struct job *next;
	bool tell;
	uint64_t mark; /* 0: none */
	pid_t pid;
	int pidfd;
	sd_event_source *source, *timer;
	struct outcome *outcome;
	job_done *done;
	void *opaque;
};

static void job_free(struct job *job)
{
	for (struct job **one = &job->daemon->jobs; *one; one = &(*one)->next)
		if (*one == job) {
			*one = job->next;
			break;
		}
	sd_event_source_disable_unref(job->source);
	sd_event_source_disable_unref(job->timer);
	fd_close(&job->pidfd);
	munmap(job->outcome, sizeof(*job->outcome));
	free(job);
}

static void finish(struct job *job, int err, const struct error *e)
{
	job_done *done = job->done;
	void *opaque = job->opaque;

	sd_event_source_set_enabled(job->source, SD_EVENT_OFF);
	sd_event_source_set_enabled(job->timer, SD_EVENT_OFF);
	done(opaque, err, job->outcome->result, e);
	job_free(job);
}

/* Nobody waits for it any more but its end, which may take its time: it is not to stay as a zombie. */
static void job_leave(struct job *job)
{
	job->done = NULL;
	job->tell = false;
	sd_event_source_set_enabled(job->timer, SD_EVENT_OFF);
	pidfd_send_signal(job->pidfd, SIGKILL, NULL, 0);
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct job *job = opaque;
	struct outcome *outcome = job->outcome;
	struct error e = { 0 };
	int err = outcome->err;

	waitpid(job->pid, NULL, WNOHANG);
	if (!job->done) {
		job_free(job);
		return 0;
	}
	if (!outcome->whole) {
		err = error_set(&e, EIO, "step-died", NULL,
				"the process that did it ended in the middle");
	} else if (err) {
		e.err = outcome->error_err;
		e.code = outcome->code;
		snprintf(e.text, sizeof(e.text), "%s", outcome->text);
		snprintf(e.next, sizeof(e.next), "%s", outcome->next);
	}
	finish(job, err, &e);
	return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct job *job = opaque;
	job_done *done = job->done;
	void *done_opaque = job->opaque;
	struct error e = { 0 };
	int err = error_set(&e, ETIMEDOUT, "timed-out", "dmesg",
			    "it took too long and was ended; the kernel may say why");

	job_leave(job);
	done(done_opaque, err, job->outcome->result, &e);
	return 0;
}

/* The child. What it opened itself goes with it; of ours it uses nothing but memory. */
static void work_do(struct job *job, job_work *work, void *opaque, pid_t parent)
{
	struct error e = { 0 };
	struct outcome *outcome = job->outcome;
	sigset_t none;

	/* Who restarts looks at the world, and nobody is to change it meanwhile. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Sockets that we listen on are not to be held by it when we are gone. */
	close_range(3, ~0U, 0);
	outcome->err = work(opaque, outcome->result, &e);
	outcome->error_err = e.err;
	snprintf(outcome->code, sizeof(outcome->code), "%s", e.code ? e.code : "failed");
	snprintf(outcome->text, sizeof(outcome->text), "%s", e.text);
	snprintf(outcome->next, sizeof(outcome->next), "%s", e.next);
	__atomic_store_n(&outcome->whole, true, __ATOMIC_RELEASE);
	_exit(0);
}

int job_run(struct daemon *daemon, job_work *work, void *work_opaque, unsigned timeout_ms,
	    job_done *done, void *done_opaque, struct job **out, struct error *e)
{
	struct job *job = calloc(1, sizeof(*job));
	const pid_t parent = getpid();
	int err = 0;

	if (!job)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for a step");
	job->pidfd = -1;
	job->daemon = daemon;
	job->done = done;
	job->opaque = done_opaque;
	job->outcome = mmap(NULL, sizeof(*job->outcome), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job->outcome == MAP_FAILED) {
		free(job);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for a step");
	}
	job->pid = fork();
	if (!job->pid)
		work_do(job, work, work_opaque, parent);
	if (job->pid < 0)
		err = -errno;
	if (!err) {
		job->pidfd = pidfd_open(job->pid, 0);
		err = job->pidfd < 0 ? -errno : 0;
	}
	if (!err)
		err = MIN(sd_event_add_io(daemon->event, &job->source, job->pidfd, EPOLLIN, on_end,
					  job),
			  0);
	if (!err)
		err = MIN(sd_event_add_time_relative(daemon->event, &job->timer, CLOCK_MONOTONIC,
						     (uint64_t)timeout_ms * 1000, 0, on_time, job),
			  0);
	if (!err) {
		job->next = daemon->jobs;
		daemon->jobs = job;
		*out = job;
		return 0;
	}
	if (job->pid > 0) {
		kill(job->pid, SIGKILL);
		waitpid(job->pid, NULL, 0);
	}
	job_free(job);
	return error_set(e, -err, "step-not-started", NULL, "a process for a step: %s",
			 strerror(-err));
}

void job_cancel(struct job *job)
{
	if (job)
		job_leave(job);
}

void job_mark(struct job *job, uint64_t mark)
{
	job->mark = mark;
}

bool job_lingers(const struct daemon *daemon, uint64_t mark)
{
	for (const struct job *job = daemon->jobs; job && mark; job = job->next)
		if (!job->done && job->mark == mark)
			return true;
	return false;
}

const void *job_result(const struct job *job)
{
	return job->outcome->result;
}

void job_tell(struct job *job)
{
	job->tell = true;
}

void job_end_all(struct daemon *daemon)
{
	while (daemon->jobs) {
		struct job *job = daemon->jobs;
		struct error e = { .err = ECANCELED, .code = "ending", .text = "the daemon ends" };

		daemon->jobs = job->next;
		pidfd_send_signal(job->pidfd, SIGKILL, NULL, 0);
		waitpid(job->pid, NULL, WNOHANG);
		if (job->tell)
			finish(job, -ECANCELED, &e);
		else
			job_free(job);
	}
}
