// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that writes everywhere at random, on all processors, in the real divvy-vmm with a device of
 * every kind (guest-drivers/testguest/chaos.c). Whatever it does, the VMM lives or ends with a status of
 * its own, and its memory, descriptors and threads do not become more from one life of the guest to the
 * next; and the vfio-user servers beside it live too. Meanwhile somebody at the control socket plugs and
 * unplugs a device, pauses and resumes.
 *
 *   CHAOS_SECONDS=600 build/gcc/tests/unit/test_chaos     for long; a few seconds otherwise
 *   CHAOS_SEED=N                                          another course of events
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/http_client.h"

#define SECONDS	      8
#define SEED	      1
#define CPUS	      "4"
#define LIFE	      500u /* operations of the first processor in a life */
#define PATIENCE      6
#define SAMPLE_US     20000
#define DELAY	      25 /* samples */
#define DISTURB_EVERY 5	 /* samples */
#define STOP_SECONDS  30
#define BEGIN_NS      (NSEC_PER_SEC * 3 / 2) /* a VMM younger than this has not opened everything */
#define SANITIZED     99		     /* exit status of a sanitizer's finding */
#define LOG_OF_A_RUN  (128 * KIB)
#define LOG_OF_A_LIFE (4 * KIB)
#define RSS_SLACK     (4 * MIB)
#define LONG	      60 /* seconds from which on half the time holds the ends of many lives */
#define FDS_MOST      128
#define THREADS_MOST  64
#define TAP	      "divvychaos0"

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

struct usage {
	unsigned fds, threads;
	uint64_t anonymous; /* bytes */
};

struct fixture {
	char build[4096];
	char folder[32];
	bool has_tap;
	pid_t servers[2], vmm;
	unsigned disturbed, plugged; /* requests; devices that came */
	uint64_t begun_ns;	     /* the VMM */
	unsigned runs, powered_off, failed;
	unsigned samples;
	/* Looked at when a VMM has lived on for so long: one that ends has given back what counts here. */
	struct usage waiting[DELAY];
	unsigned waiting_count;
	/* The least of a part of the time: what is left when a life has just ended. */
	struct usage first, last, most;
};

/* ---- what is around the VMM --------------------------------------------------------------------- */

static int make_tap(void)
{
	struct ifreq request = { .ifr_name = TAP, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd, s, ret;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ret = fd < 0 || s < 0 || ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETPERSIST, 1);
	request.ifr_flags = IFF_UP;
	ret = ret || ioctl(s, SIOCSIFFLAGS, &request) ? -errno : 0;
	fd_close(&fd);
	fd_close(&s);
	return ret;
}

static void make_file(const struct fixture *f, const char *name, off_t size)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static pid_t run(const struct fixture *f, const char *log, char *const *argv)
{
	char path[64];
	pid_t pid = fork();
	int fd;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	snprintf(path, sizeof(path), "%s/%s", f->folder, log);
	setenv("ASAN_OPTIONS", "exitcode=99", 1);
	setenv("UBSAN_OPTIONS", "exitcode=99", 1);
	fd = open("/dev/null", O_RDWR);
	if (fd >= 0 && dup2(fd, 0) >= 0 && dup2(fd, 1) >= 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (fd >= 0 && dup2(fd, 2) >= 0)
			execv(argv[0], argv);
	}
	_exit(126);
}

static void start_server(struct fixture *f, unsigned index)
{
	char program[4200], path[64];
	char *argv[] = { program, path, (char *)(uintptr_t)"rng", NULL };

	snprintf(program, sizeof(program), "%s/tests/rig/vfio_user_server", f->build);
	snprintf(path, sizeof(path), "%s/sock%u", f->folder, index);
	f->servers[index] = run(f, "server.log", argv);
	for (unsigned i = 0; i < 500 && access(path, F_OK); i++)
		usleep(10000);
	assert_int_equal(access(path, F_OK), 0);
}

static void start_vmm(struct fixture *f, unsigned long seed)
{
	char text[8][4200];
	char *argv[32];
	unsigned n = 0;

	snprintf(text[0], sizeof(text[0]), "%s/divvy-vmm", f->build);
	snprintf(text[1], sizeof(text[1]), "%s/guest-drivers/testguest/testguest.elf", f->build);
	snprintf(text[2], sizeof(text[2]), "chaos seed=%lu count=%u", seed, LIFE);
	snprintf(text[3], sizeof(text[3]), "%s/disk", f->folder);
	snprintf(text[4], sizeof(text[4]), "%s/readonly,readonly", f->folder);
	snprintf(text[5], sizeof(text[5]), "%s/sock0", f->folder);
	snprintf(text[7], sizeof(text[7]), "%s/control", f->folder);
	snprintf(text[6], sizeof(text[6]), "tap=" TAP);
	argv[n++] = text[0];
#define WORDS(word, value)                                \
	do {                                              \
		argv[n++] = (char *)(uintptr_t)"--" word; \
		argv[n++] = (char *)(uintptr_t)(value);   \
	} while (0)
	WORDS("kernel", text[1]);
	WORDS("cmdline", text[2]);
	WORDS("cpus", CPUS);
	WORDS("memory", "64M");
	WORDS("disk", text[3]);
	WORDS("disk", text[4]);
	WORDS("vfio-user", text[5]);
	if (f->has_tap)
		WORDS("net", text[6]);
	WORDS("control", text[7]);
	WORDS("hotplug-ports", "2");
	WORDS("console", "virtio");
	WORDS("serial", "file:/dev/null");
	WORDS("log-level", "debug");
	argv[n] = NULL;
	f->vmm = run(f, "vmm.log", argv);
	f->begun_ns = monotonic_ns();
	f->runs++;
}

/* ---- what it uses ------------------------------------------------------------------------------------- */

static unsigned count_entries(pid_t pid, const char *what)
{
	char path[64];
	unsigned count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	dir = opendir(path);
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

static bool measure(pid_t pid, struct usage *usage)
{
	char path[64], text[4096];
	const char *line;
	unsigned long kib;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) < 0)
		return false;
	line = strstr(text, "RssAnon:");
	if (!line || sscanf(line, "RssAnon: %lu kB", &kib) != 1)
		return false;
	*usage = (struct usage){
		.fds = count_entries(pid, "fd"),
		.threads = count_entries(pid, "task"),
		.anonymous = kib * KIB,
	};
	return usage->fds && usage->threads;
}

static void least(struct usage *least, const struct usage *now)
{
	least->fds = MIN(least->fds, now->fds);
	least->threads = MIN(least->threads, now->threads);
	least->anonymous = MIN(least->anonymous, now->anonymous);
}

static void show_log(const struct fixture *f, const char *name)
{
	char command[96];

	snprintf(command, sizeof(command), "tail -n 40 %s/%s >&2", f->folder, name);
	if (system(command))
		print_message("no log\n");
}

/* A VMM that ended: by itself, with a status that it chose. */
static void check_end(struct fixture *f, int status)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) {
		show_log(f, "vmm.log");
		fail_msg("divvy-vmm ended with status 0x%x (run %u)", (unsigned)status, f->runs);
	}
	f->powered_off += !WEXITSTATUS(status);
	f->failed += WEXITSTATUS(status) == 1;
	f->vmm = 0;
	f->waiting_count = 0;
}

static void sample(struct fixture *f, struct usage *part)
{
	struct usage now, *slot = &f->waiting[f->waiting_count % DELAY];

	if (monotonic_ns() - f->begun_ns < BEGIN_NS || !measure(f->vmm, &now))
		return;
	f->samples++;
	if (f->waiting_count++ >= DELAY)
		least(part, slot);
	*slot = now;
	f->most.fds = MAX(f->most.fds, now.fds);
	f->most.threads = MAX(f->most.threads, now.threads);
	f->most.anonymous = MAX(f->most.anonymous, now.anonymous);
}

/* ---- somebody at the control socket ------------------------------------------------------------------ */

/* The status; 0: the VMM was not there, or ended meanwhile. */
static unsigned ask(const struct fixture *f, const char *method, const char *resource,
		    const char *body)
{
	char path[64], text[16384];
	unsigned status;
	int fd;

	snprintf(path, sizeof(path), "%s/control", f->folder);
	fd = http_connect(path);
	if (fd < 0)
		return 0;
	snprintf(text, sizeof(text),
		 "%s /api/v1/vm.%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		 "Content-Length: %zu\r\n\r\n%s",
		 method, resource, strlen(body), body);
	status = send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text)
			 ? http_receive(fd, text, sizeof(text))
			 : 0;
	close(fd);
	return status;
}

static void disturb(struct fixture *f)
{
	char body[128];

	switch (f->disturbed++ % 6) {
	case 0:
		snprintf(body, sizeof(body), "{\"socket\": \"%s/sock1\"}", f->folder);
		f->plugged += ask(f, "PUT", "add-user-device", body) == 200;
		break;
	case 1:
		ask(f, "GET", "info", "");
		break;
	case 2:
		ask(f, "PUT", "pause", "");
		break;
	case 3:
		ask(f, "PUT", "resume", "");
		break;
	case 4: /* the guest hears the button, and does something or nothing */
		ask(f, "PUT", "remove-device", "{\"id\": \"vfio-user:sock1\", \"timeout_s\": 1}");
		break;
	default:
		ask(f, "PUT", "remove-device", "{\"id\": \"vfio-user:sock1\", \"force\": true}");
		break;
	}
}

/* ---- the test ------------------------------------------------------------------------------------------- */

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : otherwise;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	if (!build_folder(f->build, sizeof(f->build)))
		return -1;
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	return mkdtemp(f->folder) ? 0 : -1;
}

static void end(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	end(f->vmm);
	end(f->servers[0]);
	end(f->servers[1]);
	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static void stop(struct fixture *f)
{
	int status;

	kill(f->vmm, SIGTERM);
	for (unsigned i = 0; i < STOP_SECONDS * 100; i++) {
		if (waitpid(f->vmm, &status, WNOHANG) == f->vmm) {
			/* It was ending by itself already, and had no loop any more to hear of the signal. */
			if (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
				status = 0;
			check_end(f, status);
			return;
		}
		usleep(10000);
	}
	show_log(f, "vmm.log");
	fail_msg("divvy-vmm does not stop within %u seconds", STOP_SECONDS);
}

static uint64_t log_size(const struct fixture *f)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/vmm.log", f->folder);
	return stat(path, &st) ? UINT64_MAX : (uint64_t)st.st_size;
}

static unsigned long count_lives(const struct fixture *f)
{
	char command[96];
	unsigned long lives = 0;
	FILE *out;

	snprintf(command, sizeof(command), "grep -c 'exits: ' %s/vmm.log", f->folder);
	out = popen(command, "r");
	if (out && fscanf(out, "%lu", &lives) != 1)
		lives = 0;
	if (out)
		pclose(out);
	return lives;
}

static void a_guest_that_writes_everywhere_hurts_only_itself(void **state)
{
	struct fixture *f = *state;
	const uint64_t seconds = from_environment("CHAOS_SECONDS", SECONDS);
	const uint64_t start = monotonic_ns(), whole = seconds * NSEC_PER_SEC;
	unsigned long seed = from_environment("CHAOS_SEED", SEED);
	unsigned turns = 0;
	int status;

	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	f->has_tap = !make_tap();
	if (!f->has_tap)
		print_message("no tap here: no network device\n");
	make_file(f, "disk", 1 << 20);
	make_file(f, "readonly", 1 << 20);
	start_server(f, 0);
	start_server(f, 1);
	start_vmm(f, seed);
	f->first = f->last = (struct usage){ UINT32_MAX, UINT32_MAX, UINT64_MAX };
	for (;;) {
		uint64_t elapsed = monotonic_ns() - start;

		/* On a machine that others want too a life may take longer than all of it should. */
		if (elapsed >= PATIENCE * whole || (elapsed >= whole && count_lives(f) > 1))
			break;
		if (waitpid(f->vmm, &status, WNOHANG) == f->vmm) {
			check_end(f, status);
			start_vmm(f, ++seed);
		} else {
			sample(f, elapsed < whole / 2 ? &f->first : &f->last);
			if (++turns % DISTURB_EVERY == 0)
				disturb(f);
		}
		usleep(SAMPLE_US);
	}
	stop(f);
	print_message(
		"%llu s: %u starts (%u ended by themselves, %u with an error), %lu lives; least "
		"in the first half: %u descriptors, %u threads, %llu KiB; in the second: %u, %u, "
		"%llu; most: %u, %u, %llu; %u samples\n",
		(unsigned long long)seconds, f->runs, f->powered_off - 1, f->failed, count_lives(f),
		f->first.fds, f->first.threads, (unsigned long long)f->first.anonymous / KIB,
		f->last.fds, f->last.threads, (unsigned long long)f->last.anonymous / KIB,
		f->most.fds, f->most.threads, (unsigned long long)f->most.anonymous / KIB,
		f->samples);
	print_message("control socket: %u requests, %u devices plugged\n", f->disturbed,
		      f->plugged);
	for (unsigned i = 0; i < ARRAY_SIZE(f->servers); i++)
		assert_int_equal(waitpid(f->servers[i], &status, WNOHANG), 0);
	assert_true(f->plugged > 0);
	assert_true(count_lives(f) > 1);
	/* What a guest provokes is said a few times; a life has some lines of its own. */
	print_message("log: %llu KiB\n", (unsigned long long)(log_size(f) / KIB));
	assert_true(log_size(f) <= f->runs * LOG_OF_A_RUN + count_lives(f) * LOG_OF_A_LIFE);
	/* Half a short run may have seen no life end: then only that there is a bound. */
	assert_true(f->most.fds <= FDS_MOST && f->most.threads <= THREADS_MOST);
	if (seconds >= LONG) {
		assert_true(f->last.fds <= f->first.fds);
		assert_true(f->last.threads <= f->first.threads);
	}
	/* A sanitizer keeps what was freed. */
	if (!IS_SANITIZED)
		assert_true(f->last.anonymous <= f->first.anonymous + RSS_SLACK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_guest_that_writes_everywhere_hurts_only_itself,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
