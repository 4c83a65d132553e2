/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's programs, played by the test program itself: called by another name it is divvyd (the real one, on a made-up machine, which can be told to
 * die at a commit, and whose store can be made to fail), divvy (the real arbiter; a launcher that asks no Vulkan), a vGPU and a VMM that do
 * nothing but answer. A VMM locks the devices that it is given: two that have one are a violation, which is written down.
 */
#ifndef TESTS_UNIT_DAEMON_FAKES_H
#define TESTS_UNIT_DAEMON_FAKES_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "instances/daemon/daemon.h"
#include "instances/launch/launch.h"
#include "instances/node/node.h"
#include "vgpu-sched/live/client.h"

#define FAKE_SHARED_GPU "0000:03:00.0"

/* The value after @word, or NULL; the @nth of several. */
static inline const char *fake_word(int argc, char **argv, const char *word, unsigned nth)
{
	for (int i = 1; i < argc - 1; i++)
		if (!strcmp(argv[i], word) && !nth--)
			return argv[i + 1];
	return NULL;
}

/* ---- divvyd, that dies when it is told to, or cannot write ----------------------------------------------- */

/* "b12": before the 12th commit is done, "a12": after it. Counted over the whole life of the process. */
static struct {
	char when;
	unsigned at, count;
	bool pending;
} fake_crash;

/*
 * A store that cannot be written to: as long as the world has a file "store-fails", commits fail from the one on whose number is in it, counted
 * since the file was written. What they would have changed is undone, as on a full disk.
 */
static struct {
	char path[300];
	struct timespec written;
	unsigned count;
} fake_failure;

static inline bool fake_commit_fails(void)
{
	struct stat st;
	char text[16];

	if (stat(fake_failure.path, &st) < 0 ||
	    file_read(AT_FDCWD, fake_failure.path, text, sizeof(text)) <= 0)
		return false;
	if (memcmp(&fake_failure.written, &st.st_mtim, sizeof(st.st_mtim)) != 0)
		fake_failure.count = 0;
	fake_failure.written = st.st_mtim;
	return ++fake_failure.count >= (unsigned)atoi(text);
}

/* Not 0: the commit becomes a rollback. */
static inline int fake_on_commit(void *opaque)
{
	if (fake_commit_fails())
		return 1;
	fake_crash.count++;
	if (fake_crash.when == 'b' && fake_crash.count == fake_crash.at)
		raise(SIGKILL);
	fake_crash.pending = fake_crash.when == 'a' && fake_crash.count == fake_crash.at;
	return 0;
}

/* A statement has been run: the commit of before is on the disk. */
static inline int fake_on_statement(unsigned kind, void *context, void *statement, void *ns)
{
	if (fake_crash.pending)
		raise(SIGKILL);
	return 0;
}

static inline int fake_on_open(sqlite3 *db, char **error, const void *api)
{
	sqlite3_commit_hook(db, fake_on_commit, NULL);
	sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, fake_on_statement, NULL);
	return SQLITE_OK;
}

static inline int fake_divvyd(int argc, char **argv)
{
	struct node_vulkan vulkan = { .count = 1 };
	const char *crash = getenv("WORLD_CRASH"), *root = getenv("WORLD_ROOT");
	struct daemon_options options = { .state = fake_word(argc, argv, "--state", 0),
					  .run = fake_word(argc, argv, "--run", 0),
					  .programs = fake_word(argc, argv, "--programs", 0),
					  .types = fake_word(argc, argv, "--types", 0),
					  .config = fake_word(argc, argv, "--config", 0),
					  .root = root,
					  .vulkan = &vulkan };
	struct error e = { 0 };

	if (argc > 1 && !strcmp(argv[1], "keep"))
		return launch_keep_main(argc - 1, argv + 1);
	strcpy(vulkan.gpus[0].name, FAKE_SHARED_GPU);
	strcpy(vulkan.gpus[0].device, "a GPU to share");
	vulkan.gpus[0].memory_mib = 65536;
	if (crash) {
		fake_crash.when = crash[0];
		fake_crash.at = (unsigned)atoi(crash + 1);
	}
	snprintf(fake_failure.path, sizeof(fake_failure.path), "%s/../store-fails", options.state);
	sqlite3_auto_extension((void (*)(void))fake_on_open);
	signal(SIGPIPE, SIG_IGN);
	if (daemon_run(&options, &e)) {
		error_print(&e, "divvyd");
		return 1;
	}
	return 0;
}

static char fake_world[256];

/* The folder above the node's: what a test and its programs share. */
static inline void fake_world_find(void)
{
	const char *node = getenv("DIVVY_NODE");
	const char *cut = node ? strstr(node, "/state/") : NULL;

	if (cut)
		snprintf(fake_world, sizeof(fake_world), "%.*s", (int)(cut - node), node);
}

/* ---- divvy ---------------------------------------------------------------------------------------------- */

static inline int fake_arbiter(int argc, char **argv)
{
	const struct arbiter_options options = { .socket = fake_word(argc, argv, "--socket", 0) };
	struct error e = { 0 };
	char path[300];

	/* One that ends before it answers. */
	snprintf(path, sizeof(path), "%s/arbiter-ends", fake_world);
	if (!access(path, F_OK)) {
		usleep(1000000);
		return 1;
	}
	return arbiter_serve(&options, &e) ? 1 : 0;
}

static volatile pid_t fake_child;

static inline void fake_hand_on(int number)
{
	if (fake_child > 0)
		kill(fake_child, number);
}

static inline enum sched_policy fake_policy(const char *name)
{
	for (unsigned i = 0; i < SCHED_POLICIES; i++)
		if (!strcmp(name, sched_policy_name((enum sched_policy)i)))
			return (enum sched_policy)i;
	return SCHED_BEST_EFFORT;
}

/* A program of the vGPU's, which uses it for as long as the world has a file "works". */
static inline void fake_work(const char *socket, const uint8_t token[LIVE_TOKEN_SIZE])
{
	const pid_t parent = getpid();
	struct live_worker worker;
	uint64_t slice_ns;
	struct error e = { 0 };
	char path[300];

	snprintf(path, sizeof(path), "%s/works", fake_world);
	if (access(path, F_OK) || fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || live_worker_open(socket, token, &worker, &e))
		_exit(1);
	while (!access(path, F_OK) &&
	       !live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, NSEC_PER_SEC, &slice_ns)) {
		usleep(1000);
		live_worker_used(&worker, SCHED_ENGINE_GRAPHICS, 1000000);
		live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, false);
	}
	pause();
	_exit(0);
}

static inline int fake_run_native(int argc, char **argv)
{
	struct live_message message = { .type = LIVE_CREATE, .version = LIVE_VERSION }, reply;
	const char *share = fake_word(argc, argv, "--share", 0),
		   *weight = fake_word(argc, argv, "--weight", 0),
		   *credits = fake_word(argc, argv, "--credits", 0),
		   *surplus = fake_word(argc, argv, "--surplus", 0),
		   *balance = fake_word(argc, argv, "--balance", 0);
	struct error e = { 0 };
	const pid_t parent = getpid();
	int fd = live_connect(fake_word(argc, argv, "--socket", 0), &e), at = 1, status;

	message.policy = fake_policy(fake_word(argc, argv, "--policy", 0));
	message.share_ppm = share ? (uint32_t)(atof(share) * 10000 + 0.5) : 0;
	message.weight = weight ? (uint32_t)atoi(weight) : 0;
	message.credit_max_ns = credits ? (uint64_t)(atof(credits) * 60e9) : 0;
	message.surplus_max_ns = surplus ? (uint64_t)(atof(surplus) * 60e9) : 0;
	message.credit_ns = balance ? (uint64_t)(atof(balance) * 60e9) : 0;
	snprintf(message.gpu, sizeof(message.gpu), "%s", fake_word(argc, argv, "--gpu", 0));
	snprintf(message.name, sizeof(message.name), "%s", fake_word(argc, argv, "--name", 0));
	if (fd < 0 || live_call(fd, &message, &reply, NULL, &e)) {
		error_print(&e, "run-native");
		return 125;
	}
	fake_work(fake_word(argc, argv, "--socket", 0), reply.token);
	while (strcmp(argv[at], "--") != 0)
		at++;
	signal(SIGTERM, fake_hand_on);
	fake_child = fork();
	if (!fake_child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(fd);
		execv(argv[at + 1], argv + at + 1);
		_exit(126);
	}
	while (waitpid(fake_child, &status, 0) < 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- what only answers ------------------------------------------------------------------------------------ */

static inline void fake_violation(const char *what)
{
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s/violations", fake_world);
	file = fopen(path, "ae");
	if (!file)
		return;
	fprintf(file, "%s\n", what);
	fclose(file);
}

/* A picture of nothing: enough for who looks at its first bytes. */
static const unsigned char fake_png[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 0 };

static inline struct control_reply fake_answer(void *opaque, const char *method, const char *path,
					       const char *body, size_t size)
{
	struct control_reply reply = { .status = 200 };

	if (strstr(path, "power-button")) {
		char deaf[300];

		snprintf(deaf, sizeof(deaf), "%s/deaf", fake_world);
		if (access(deaf, F_OK))
			sd_event_exit(opaque, 0);
		reply.status = 204;
	} else if (strstr(path, "screenshot/0")) {
		reply.bytes = malloc(sizeof(fake_png));
		memcpy(reply.bytes, fake_png, sizeof(fake_png));
		reply.size = sizeof(fake_png);
		reply.type = "image/png";
	} else if (strstr(path, "info")) {
		reply.body = json_pack("{s:b}", "vulkan", 1);
	} else {
		reply.status = 404;
	}
	return reply;
}

/*
 * Who talks with a guest, or sees its screen: is greeted, and hears what he says again; "flood" without end. In a child, which waits.
 */
static inline int fake_talk(sd_event_source *source, int listener, uint32_t events, void *greeting)
{
	static char block[65536];
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ssize_t n;

	if (fd < 0 || fork()) {
		fd_close(&fd);
		return 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	n = (ssize_t)strlen(greeting);
	memcpy(block, greeting, (size_t)n);
	do {
		for (ssize_t at = 0, sent; at < n; at += sent) {
			sent = write(fd, block + at, (size_t)(n - at));
			if (sent <= 0)
				_exit(0);
		}
		n = read(fd, block, sizeof(block));
		while (n >= 5 && !memcmp(block, "flood", 5))
			if (write(fd, block, sizeof(block)) <= 0)
				_exit(0);
	} while (n > 0);
	/* Who says nothing more may still listen: only its end is the end, as with the real one. */
	poll(&(struct pollfd){ .fd = fd }, 1, -1);
	_exit(0);
}

static inline void fake_listen(sd_event *event, const char *path, const char *greeting)
{
	/* As long as the program: a console, and a viewer's place for each head. */
	static struct unix_listener listeners[8];
	static unsigned count;
	struct unix_listener *listener = &listeners[count];
	struct error e = { 0 };

	if (count == ARRAY_SIZE(listeners))
		return;
	count++;
	signal(SIGCHLD, SIG_IGN);
	if (unix_listener_open(path, listener, &e))
		error_print(&e, "fake");
	else
		sd_event_add_io(event, NULL, listener->fd, EPOLLIN, fake_talk,
				(void *)(uintptr_t)greeting);
}

/* @argv: where else it listens. */
static inline int fake_serve(const char *control_path, int argc, char **argv)
{
	const char *one;
	struct control_socket *control;
	struct error e = { 0 };
	sd_event *event;

	sd_event_new(&event);
	sd_event_add_signal(event, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL);
	one = fake_word(argc, argv, "--serial", 0);
	if (one && !strncmp(one, "socket:", 7))
		fake_listen(event, one + 7, "login: ");
	for (unsigned i = 0; (one = fake_word(argc, argv, "--vnc", i)); i++)
		fake_listen(event, one, "RFB 003.008\n");
	if (control_socket_create(control_path, &control, &e) ||
	    control_socket_attach(control, event, fake_answer, event, &e)) {
		error_print(&e, "fake");
		return 1;
	}
	sd_event_loop(event);
	control_socket_detach(control);
	control_socket_destroy(control);
	sd_event_unref(event);
	return 0;
}

static inline int fake_vgpu(int argc, char **argv)
{
	static const char *const endings[] = { "", ".keyboard", ".pointer", ".touch" };
	struct unix_listener listeners[ARRAY_SIZE(endings)];
	unsigned count = 1;
	struct error e = { 0 };
	char path[512];
	int status;

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--input"))
			count = ARRAY_SIZE(endings);
	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s%s", fake_word(argc, argv, "--socket", 0),
			 endings[i]);
		if (unix_listener_open(path, &listeners[i], &e)) {
			error_print(&e, "vgpu");
			return 1;
		}
	}
	status = fake_serve(fake_word(argc, argv, "--control", 0), argc, argv);
	for (unsigned i = 0; i < count; i++)
		unix_listener_close(&listeners[i]);
	return status;
}

static inline int fake_vmm(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *one;
	char path[512];

	for (unsigned i = 0; (one = fake_word(argc, argv, "--vfio", i)); i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/held-%s", fake_world, one);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
			snprintf(path, sizeof(path), "%s is had twice", one);
			fake_violation(path);
			return 1;
		}
	}
	for (unsigned i = 0; (one = fake_word(argc, argv, "--vfio-user", i)); i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		snprintf(address.sun_path, sizeof(address.sun_path), "%s", one);
		if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
			fprintf(stderr, "no vGPU at %s\n", one);
			return 1;
		}
	}
	/* Half of a guest's 64 MiB are there, and the rest takes its time. */
	snprintf(path, sizeof(path), "%s/slow-memory", fake_world);
	if (!access(path, F_OK)) {
		char *memory = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			return 1;
		memset(memory, 1, 32 << 20);
		while (!access(path, F_OK))
			usleep(10000);
		munmap(memory, 64 << 20);
	}
	/* Its guest.conf is the instance's own. */
	if (access(fake_word(argc, argv, "--config", 0), R_OK))
		return 2;
	snprintf(path, sizeof(path), "%s/ends-at-once", fake_world);
	if (!access(path, F_OK))
		return 3;
	return fake_serve(fake_word(argc, argv, "--control", 0), argc, argv);
}

/* Returns the exit status, or -1: this is the test. */
static inline int fake_main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];

	fake_world_find();
	if (!strcmp(name, "divvyd"))
		return fake_divvyd(argc, argv);
	if (!strcmp(name, "divvy-vgpu"))
		return fake_vgpu(argc, argv);
	if (!strcmp(name, "divvy-vmm"))
		return fake_vmm(argc, argv);
	if (!strcmp(name, "divvy"))
		return argc > 1 && !strcmp(argv[1], "arbiter")
			       ? fake_arbiter(argc - 1, argv + 1)
			       : fake_run_native(argc - 1, argv + 1);
	return -1;
}

#endif
