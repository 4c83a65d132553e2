// SPDX-License-Identifier: Apache-2.0
/*
 * divvy run without a daemon: a place as the daemon would find it (embedded_place.c), an arbiter of our own, and the instance's processes by
 * instances/launch/. Whoever kills this process must not leave a VM behind: a guardian, forked before the first of them, hears of
 * our end by a pipe, ends all that bears the instance's mark, and removes its folders. In order or not, that is how it always ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "instances/cli/embedded_private.h"
#include "instances/cli/instances.h"

#define LOOK_MS	     20
#define READY_MS     60000 /* a vGPU's render server, a VM's memory */
#define STOP_MS	     10000
#define SHOW_NS	     (NSEC_PER_SEC / 5)
#define SWEEP_ROUNDS 200

/* ---- where ---------------------------------------------------------------------------------------- */

static int programs_find(struct embedded *m, struct error *e)
{
	static const char *const needed[] = { "divvy", "divvyd", "divvy-vgpu", "divvy-vmm" };
	ssize_t n = readlink("/proc/self/exe", m->programs, sizeof(m->programs) - 32);
	char path[PATH_MAX + 32], *slash;

	m->programs[MAX(n, 0)] = '\0';
	slash = strrchr(m->programs, '/');
	if (!slash)
		return error_set(e, ENOENT, "no-programs", NULL,
				 "where divvy itself is cannot be read");
	*slash = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		snprintf(path, sizeof(path), "%s/%s", m->programs, needed[i]);
		if (access(path, X_OK))
			return error_set(e, errno, "no-programs", "make install", "%s: %s", path,
					 strerror(errno));
	}
	return 0;
}

/* Every folder of @path, as far as they are missing. */
static int folders_make(const char *path)
{
	char folder[PATH_MAX];

	snprintf(folder, sizeof(folder), "%s", path);
	for (char *slash = folder + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(folder, 0700) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(folder, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int places_make(struct embedded *m, struct error *e)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR"), *state = getenv("XDG_STATE_HOME"),
		   *home = getenv("HOME");
	int err;

	/* Names of sockets must be short. */
	snprintf(m->folder, sizeof(m->folder), "%.30s/divvy-run-XXXXXX",
		 runtime && runtime[0] == '/' && strlen(runtime) <= 30 && !access(runtime, W_OK)
			 ? runtime
			 : "/tmp");
	if (!mkdtemp(m->folder))
		return error_set(e, errno, "run-folder", NULL, "%s: %s", m->folder,
				 strerror(errno));
	snprintf(m->run, sizeof(m->run), "%s/i", m->folder);
	snprintf(m->arbiter, sizeof(m->arbiter), "%s/arbiter", m->folder);
	if (state && state[0] == '/')
		snprintf(m->state, sizeof(m->state), "%s/divvy/run", state);
	else
		snprintf(m->state, sizeof(m->state), "%s/.local/state/divvy/run",
			 home && home[0] == '/' ? home : m->folder);
	/* One run, one folder: its arbiter's log is there too. */
	text_append(m->state, sizeof(m->state), "/%s", strrchr(m->folder, '-') + 1);
	err = folders_make(m->state);
	if (err) {
		rmdir(m->folder);
		return error_set(e, -err, "state-folder", "XDG_STATE_HOME=DIR divvy run ...",
				 "%s: %s", m->state, strerror(-err));
	}
	m->places = (struct launch_places){
		.programs = m->programs, .run = m->run, .state = m->state, .arbiter = m->arbiter
	};
	return 0;
}

/* ---- the guardian ---------------------------------------------------------------------------------- */

/* Nothing of it is left: processes first, since they hold files. */
static void clean(const struct embedded *m)
{
	const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000L };
	char path[PATH_MAX + 16], *parent;

	for (unsigned i = 0; i < SWEEP_ROUNDS; i++) {
		const unsigned left = launch_sweep(&m->places, m->instance.name, m->instance.uuid) +
				      launch_sweep(&m->places, "", "arbiter");

		if (!left)
			break;
		nanosleep(&pause, NULL);
	}
	launch_folders_remove(&m->places, m->instance.name, true, NULL);
	rmdir(m->run);
	unlink(m->arbiter);
	rmdir(m->folder);
	snprintf(path, sizeof(path), "%s/arbiter.log", m->state);
	unlink(path);
	rmdir(m->state);
	/* The folder of all runs, when this was the last; and who else has nothing there. */
	snprintf(path, sizeof(path), "%s", m->state);
	for (unsigned i = 0; i < 2 && (parent = strrchr(path, '/')); i++) {
		*parent = '\0';
		rmdir(path);
	}
}

static int guardian_start(struct embedded *m, struct error *e)
{
	int ends[2];
	char byte;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(e, errno, "guardian", NULL, "pipe: %s", strerror(errno));
	m->guardian = fork();
	if (m->guardian < 0) {
		close(ends[0]);
		close(ends[1]);
		return error_set(e, errno, "guardian", NULL, "fork: %s", strerror(errno));
	}
	if (!m->guardian) {
		close(ends[1]);
		/* What ends the terminal's processes is no end of our work. */
		setsid();
		for (int i = 1; i < NSIG; i++)
			signal(i, SIG_IGN);
		signal(SIGCHLD, SIG_DFL);
		prctl(PR_SET_NAME, "divvy-guardian");
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
			;
		clean(m);
		_exit(0);
	}
	close(ends[0]);
	m->guardian_fd = ends[1];
	return 0;
}

static void guardian_end(struct embedded *m)
{
	if (m->guardian_fd < 0)
		return;
	fd_close(&m->guardian_fd);
	while (waitpid(m->guardian, NULL, 0) < 0 && errno == EINTR)
		;
}

/* ---- it runs ---------------------------------------------------------------------------------------- */

/* Nobody has to find it again: the guardian goes by its mark. */
static int commit(void *opaque, const char *role, const struct launch_process *process,
		  struct error *e)
{
	return 0;
}

/* The end of what a process said, for the error that it died of. */
static void last_words(const struct embedded *m, const char *role, char *text, size_t size)
{
	char path[PATH_MAX + 128], said[4096], *line;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s%s%s.log", m->state,
		 role[0] == 'a' ? "" : m->instance.name, role[0] == 'a' ? "" : "/", role);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1
		   : lseek(fd,
			   -(off_t)MIN(sizeof(said) - 1, (size_t)MAX(lseek(fd, 0, SEEK_END), 0)),
			   SEEK_END);
	n = n < 0 ? -1 : read(fd, said, sizeof(said) - 1);
	fd_close(&fd);
	said[MAX(n, 0)] = '\0';
	for (n = MAX(n, 0); n && said[n - 1] == '\n'; n--)
		said[n - 1] = '\0';
	line = strrchr(said, '\n');
	snprintf(text, size, "%s", line ? line + 1 : said);
}

/* As divvy start shows it. */
static void progress(const struct embedded *m, const char *step)
{
	progress_show(m->cli, m->instance.name, "starting", step);
}

static void on_cloned(void *opaque)
{
	struct embedded *m = opaque;
	const uint64_t now = monotonic_ns();
	char text[128];

	if (now - m->shown_ns < SHOW_NS)
		return;
	m->shown_ns = now;
	progress(m, progress_text(&m->line, "disks", "bytes", m->clone.done_bytes,
				  m->clone.total_bytes, now, text));
}

/* A whole GPU's guest has its memory before it runs. */
static void memory_show(struct embedded *m)
{
	const uint64_t now = monotonic_ns();
	char text[128];

	if (m->vmm.pidfd < 0 || !type_is_dedicated(&m->type) || now - m->shown_ns < SHOW_NS)
		return;
	m->shown_ns = now;
	progress(m, progress_text(&m->line, "memory", "bytes", launch_memory_bytes(&m->vmm),
				  m->instance.memory_bytes, now, text));
}

/* Until the file is there; the process that makes it must live. */
static int await_file(struct embedded *m, const struct launch_process *process, const char *role,
		      const char *path, struct error *e)
{
	char said[512];

	for (unsigned waited = 0; waited < READY_MS; waited += LOOK_MS) {
		struct pollfd p = { .fd = process->pidfd, .events = POLLIN };

		if (!access(path, F_OK))
			return 0;
		memory_show(m);
		if (poll(&p, 1, LOOK_MS) != 0) {
			last_words(m, role, said, sizeof(said));
			return error_set(e, EIO, "process-ended", NULL,
					 "%s ended before it was ready: %s", role,
					 said[0] ? said : "it said nothing");
		}
	}
	return error_set(e, ETIMEDOUT, "process-hangs", NULL, "%s: %s is not there after %u s",
			 role, path, READY_MS / 1000);
}

static int arbiter_start(struct embedded *m, struct error *e)
{
	struct launch_process process = { .pidfd = -1 };
	int err;

	for (unsigned i = 0; i < m->instance.gpu_count; i++)
		if (!m->instance.gpus[i].dedicated) {
			progress(m, "arbiter");
			err = launch_spawn_arbiter(&m->places, commit, NULL, &process, e);
			if (!err)
				err = await_file(m, &process, "arbiter", m->arbiter, e);
			fd_close(&process.pidfd);
			return err;
		}
	return 0;
}

static int vgpus_start(struct embedded *m, struct error *e)
{
	for (unsigned i = 0; i < m->instance.gpu_count; i++) {
		struct launch_process process = { .pidfd = -1 };
		char role[16], file[32], path[108];
		int err;

		if (m->instance.gpus[i].dedicated)
			continue;
		snprintf(role, sizeof(role), "gpu%u", i);
		/* Made last, when all that the VMM attaches is there. */
		snprintf(file, sizeof(file), "gpu%u.ctl", i);
		launch_path(&m->places, m->instance.name, file, path);
		progress(m, role);
		err = launch_spawn_vgpu(&m->places, &m->instance, i, commit, NULL, &process, e);
		if (!err)
			err = await_file(m, &process, role, path, e);
		fd_close(&process.pidfd);
		if (err)
			return err;
	}
	return 0;
}

static int start(struct embedded *m, char console[108], struct error *e)
{
	int err = folders_make(m->run);

	if (err)
		return error_set(e, -err, "run-folder", NULL, "%s: %s", m->run, strerror(-err));
	progress(m, "disks");
	m->clone = (struct launch_progress){ .step = on_cloned, .opaque = m };
	err = launch_folders(&m->places, &m->instance, e);
	if (!err)
		err = launch_disks(&m->places, &m->instance, &m->clone, e);
	if (!err)
		err = arbiter_start(m, e);
	if (!err)
		err = vgpus_start(m, e);
	launch_path(&m->places, m->instance.name, "console", console);
	if (!err) {
		progress(m, "vmm");
		err = launch_spawn_vmm(&m->places, &m->instance, commit, NULL, &m->vmm, e);
	}
	if (!err)
		err = await_file(m, &m->vmm, "vmm", console, e);
	progress_end(m->cli);
	return err;
}

/* The VM ends in order, or after a while without. @ending: it does already. Its exit status, or -1. */
static int stop(struct embedded *m, bool ending)
{
	struct pollfd p = { .fd = m->vmm.pidfd, .events = POLLIN };

	if (m->vmm.pidfd < 0)
		return -1;
	if (poll(&p, 1, ending ? STOP_MS : 0) == 0)
		launch_kill(&m->vmm, SIGTERM);
	poll(&p, 1, STOP_MS);
	return launch_exit_status(&m->places, m->instance.name, "vmm");
}

static int live(struct embedded *m, struct error *e)
{
	char console[108], said[512];
	int err, status, fd = -1;

	err = start(m, console, e);
	if (err && m->vmm.pidfd >= 0 && !launch_exit_status(&m->places, m->instance.name, "vmm")) {
		fprintf(stderr, "%s powered off before its console was seen\n", m->instance.name);
		fd_close(&m->vmm.pidfd);
		return 0;
	}
	if (!err)
		err = fd = cli_console_connect(console, m->instance.name, e);
	if (fd >= 0)
		err = cli_console_attach(fd, m->instance.name, e);
	fd_close(&fd);
	status = stop(m, err == 1);
	if (err >= 0 && status > 0) {
		last_words(m, "vmm", said, sizeof(said));
		err = error_set(e, EIO, "vm-failed", NULL, "%s",
				said[0] ? said : "the VM ended without a word");
	}
	fd_close(&m->vmm.pidfd);
	return MIN(err, 0);
}

int embedded_run(struct cli *cli, const json_t *definition)
{
	struct embedded *m = calloc(1, sizeof(*m));
	struct error e = { 0 };
	int err;

	if (!m) {
		error_set(&e, ENOMEM, "no-memory", NULL, "no memory for an instance");
		return cli_fail(cli, &e);
	}
	m->cli = cli;
	m->guardian_fd = m->vmm.pidfd = -1;
	err = programs_find(m, &e);
	if (!err && access("/dev/kvm", R_OK | W_OK))
		err = error_set(&e, errno, "no-kvm",
				errno == EACCES ? "usermod -aG kvm $USER"
						: "modprobe kvm-intel or kvm-amd",
				"/dev/kvm: %s", strerror(errno));
	if (!err)
		err = embedded_place(m, definition, &e);
	if (!err)
		err = places_make(m, &e);
	if (!err) {
		err = guardian_start(m, &e);
		if (err)
			clean(m);
	}
	if (!err)
		err = live(m, &e);
	guardian_end(m);
	free(m);
	return err ? cli_fail(cli, &e) : CLI_OK;
}
