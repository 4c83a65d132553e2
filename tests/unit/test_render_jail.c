// SPDX-License-Identifier: Apache-2.0
/*
 * The render side from inside: this program is started by the warden in the render server's place, tries what a worker that was taken over would, and says on
 * its standard output what came of it. Each attempt must fail, and what drivers need must not; and again with another user.
 *
 * With no namespaces (as a user without rights) Landlock and the filter are on their own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mdev/gpu/server.h"
#include "tests/unit/resources.h"

#define OTHER_USER 54321

/* ---- the attacker ---------------------------------------------------------------------------- */

/* Of the environment that the warden gives: who is outside. */
static pid_t victim;
static char victim_socket[108];
static unsigned long long victim_address;
static char own_path[4096];

static int open_shadow(void)
{
	return open("/etc/shadow", O_RDONLY);
}

static int open_passwd(void)
{
	return open("/etc/passwd", O_RDONLY);
}

static int open_home(void)
{
	return open("/root", O_RDONLY | O_DIRECTORY);
}

static int list_root(void)
{
	return open("/", O_RDONLY | O_DIRECTORY);
}

static int open_memory(void)
{
	return open("/dev/mem", O_RDWR);
}

static int open_kvm(void)
{
	return open("/dev/kvm", O_RDWR);
}

static int open_terminal(void)
{
	return open("/dev/tty", O_RDWR);
}

static int open_udmabuf(void)
{
	return open("/dev/udmabuf", O_RDWR);
}

static int open_processes(void)
{
	return open("/proc", O_RDONLY | O_DIRECTORY);
}

static int open_own_memory(void)
{
	return open("/proc/self/mem", O_RDWR);
}

static int open_victims_memory(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", victim);
	return open(path, O_RDONLY);
}

static int open_first_process(void)
{
	return open("/proc/1/environ", O_RDONLY);
}

/* This program, which lies where it may be read. (Nothing that is tried does harm where it is possible after all.) */
static int write_program(void)
{
	return open("/proc/self/exe", O_WRONLY) < 0 ? open(own_path, O_WRONLY | O_APPEND) : 0;
}

static int write_library(void)
{
	return access("/usr/lib", W_OK) < 0 ? -1 : open("/usr/lib", O_TMPFILE | O_WRONLY, 0600);
}

/* Beside the socket: the test removes them. */
static int make_file(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.file", victim_socket);
	return open(path, O_WRONLY | O_CREAT, 0600);
}

static int make_folder(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.folder", victim_socket);
	return mkdir(path, 0700);
}

static int make_node(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.node", victim_socket);
	return mknod(path, S_IFCHR | 0600, 0x105);
}

static int remove_file(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.there", victim_socket);
	return unlink(path);
}

static int run_program(void)
{
	char *const none[] = { NULL };

	return access("/bin/true", X_OK) < 0 ? -1 : execve("/bin/true", none, none);
}

static int run_library(void)
{
	char *const none[] = { NULL };

	return execve("/usr/lib/x86_64-linux-gnu/libc.so.6", none, none);
}

static int internet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int internet6(void)
{
	return socket(AF_INET6, SOCK_DGRAM, 0);
}

static int netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0);
}

static int packets(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int vsock(void)
{
	return socket(40 /* AF_VSOCK */, SOCK_STREAM, 0);
}

static int reach(const char *name, bool is_abstract)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + is_abstract +
					   strlen(name) + !is_abstract);

	if (fd < 0)
		return 0;
	strcpy(address.sun_path + is_abstract, name);
	return connect(fd, (struct sockaddr *)&address, size);
}

static int reach_socket(void)
{
	return reach(victim_socket, false);
}

static int reach_abstract_socket(void)
{
	return reach(victim_socket, true);
}

static int offer_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/tmp/x" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static int signal_victim(void)
{
	return kill(victim, 0);
}

static int signal_warden(void)
{
	return kill(getppid() ? getppid() : 1, SIGTERM);
}

static int ring(void)
{
	struct io_uring_params params = { 0 };

	return (int)syscall(SYS_io_uring_setup, 1, &params);
}

static int push_terminal_input(void)
{
	char byte = 'x';
	int ret = ioctl(0, TIOCSTI, &byte);

	/* The filter's word, not the descriptor's. */
	return ret < 0 && errno == ENOSYS ? -1 : 0;
}

static int set_limit(void)
{
	const struct rlimit limit = { 1 << 20, 1 << 20 };

	return setrlimit(RLIMIT_CORE, &limit);
}

static int be_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int leave_group(void)
{
	return setpgid(0, 0);
}

static int leave_session(void)
{
	return setsid();
}

static int make_user_namespace(void)
{
	return (int)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int hurry(void)
{
	return setpriority(PRIO_PROCESS, 0, -10);
}

static int run_in_real_time(void)
{
	const struct sched_param first = { .sched_priority = 1 };

	return sched_setscheduler(0, SCHED_FIFO, &first);
}

static int compare_processes(void)
{
	return (int)syscall(SYS_kcmp, getpid(), victim, 1 /* KCMP_VM */, 0, 0);
}

static int watch_files(void)
{
	return (int)syscall(SYS_inotify_init1, 0);
}

static int bounding(void)
{
	return prctl(PR_CAPBSET_READ, 21 /* CAP_SYS_ADMIN */, 0, 0, 0) ? 0 : -1;
}

/* Each is refused, and the attacker goes on. */
static const struct attempt {
	const char *name;
	int (*act)(void);
} refused[] = {
#define TRY(f) { #f, f }
	TRY(open_shadow),
	TRY(open_passwd),
	TRY(open_home),
	TRY(list_root),
	TRY(open_memory),
	TRY(open_kvm),
	TRY(open_terminal),
	TRY(open_udmabuf),
	TRY(open_processes),
	TRY(open_own_memory),
	TRY(open_victims_memory),
	TRY(open_first_process),
	TRY(write_library),
	TRY(make_file),
	TRY(write_program),
	TRY(make_folder),
	TRY(make_node),
	TRY(remove_file),
	TRY(run_program),
	TRY(run_library),
	TRY(internet),
	TRY(internet6),
	TRY(netlink),
	TRY(packets),
	TRY(vsock),
	TRY(reach_abstract_socket),
	TRY(offer_socket),
	TRY(signal_victim),
	TRY(ring),
	TRY(push_terminal_input),
	TRY(set_limit),
	TRY(be_dumpable),
	TRY(leave_group),
	TRY(leave_session),
	TRY(make_user_namespace),
	TRY(hurry),
	TRY(run_in_real_time),
	TRY(compare_processes),
	TRY(watch_files),
	TRY(bounding),
	/* Where there is a mount view: other paths of sockets are not there. Landlock says nothing of them. */
	TRY(reach_socket),
};

static int trace(void)
{
	return (int)ptrace(PTRACE_ATTACH, victim, NULL, NULL);
}

static int read_victim(void)
{
	char byte;
	struct iovec mine = { &byte, 1 }, its = { (void *)(uintptr_t)victim_address, 1 };

	return (int)syscall(SYS_process_vm_readv, victim, &mine, 1, &its, 1, 0);
}

static int mount_something(void)
{
	return mount("none", "/usr", "tmpfs", 0, NULL);
}

static int make_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static int join_namespace(void)
{
	return setns(0, 0);
}

static int load_bpf(void)
{
	return (int)syscall(SYS_bpf, 0, NULL, 0);
}

static int count_events(void)
{
	return (int)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0);
}

static int fault_by_hand(void)
{
	return (int)syscall(SYS_userfaultfd, 0);
}

static int use_keys(void)
{
	return (int)syscall(SYS_keyctl, 0, 0, 0, 0, 0);
}

static int take_descriptor(void)
{
	return (int)syscall(SYS_pidfd_getfd, 0, 0, 0);
}

static int become_root(void)
{
	return setuid(0);
}

static int new_kernel(void)
{
	return (int)syscall(SYS_kexec_load, 0, 0, NULL, 0);
}

static int old_numbers(void)
{
	/* x32's getpid: the numbers of another ABI are no way around. */
	return (int)syscall(0x40000000 | SYS_getpid);
}

/* Each ends who tries it. */
static const struct attempt deadly[] = {
	TRY(trace),	     TRY(read_victim),	   TRY(mount_something), TRY(make_namespace),
	TRY(join_namespace), TRY(load_bpf),	   TRY(count_events),	 TRY(fault_by_hand),
	TRY(use_keys),	     TRY(take_descriptor), TRY(become_root),	 TRY(new_kernel),
	TRY(old_numbers),
};

/* ---- what a driver does ---------------------------------------------------------------------- */

static void *thread(void *arg)
{
	return arg;
}

static int make_thread(void)
{
	pthread_t other;

	return pthread_create(&other, NULL, thread, NULL) || pthread_join(other, NULL);
}

static int make_process(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return pid < 0 || waitpid(pid, &status, 0) != pid || status;
}

static int make_code(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED || mprotect(at, 4096, PROT_READ | PROT_EXEC);
}

static int open_libraries(void)
{
	return open("/usr/lib", O_RDONLY | O_DIRECTORY) < 0;
}

static int map_library(void)
{
	int fd = open("/usr/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);

	return fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED;
}

static int read_manifests(void)
{
	return open("/usr/share/vulkan/icd.d", O_RDONLY | O_DIRECTORY) < 0;
}

static int read_processors(void)
{
	char byte;
	int fd = open("/sys/devices/system/cpu/online", O_RDONLY);

	return fd < 0 || read(fd, &byte, 1) != 1;
}

static int write_to_nothing(void)
{
	int fd = open("/dev/null", O_RDWR);

	return fd < 0 || write(fd, "", 1) != 1;
}

static int read_noise(void)
{
	char byte;
	int fd = open("/dev/urandom", O_RDONLY);

	return fd < 0 || read(fd, &byte, 1) != 1;
}

static int share_memory(void)
{
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 || ftruncate(fd, 4096) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
}

static int leaves_no_dump(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_CORE, &limit) || limit.rlim_max;
}

static const struct attempt needed[] = {
	TRY(make_thread), TRY(make_process),   TRY(make_code),	     TRY(open_libraries),
	TRY(map_library), TRY(read_manifests), TRY(read_processors), TRY(write_to_nothing),
	TRY(read_noise),  TRY(share_memory),   TRY(leaves_no_dump),
};

/* In the render server's place. Says "WORD NAME" for what is not as it should be, and "done". */
static int attack(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (needed[i].act())
			dprintf(1, "missing %s (%s)\n", needed[i].name, strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		errno = 0;
		if (refused[i].act() >= 0)
			dprintf(1, "possible %s\n", refused[i].name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(deadly); i++) {
		int status = 0;
		pid_t pid = fork();

		if (!pid) {
			deadly[i].act();
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
			dprintf(1, "survived %s (%#x)\n", deadly[i].name, status);
	}
	signal_warden();
	dprintf(1, "user %d group %d parent %d\n", (int)getuid(), (int)getgid(), (int)getppid());
	dprintf(1, "done\n");
	return 0;
}

/* ---- the test -------------------------------------------------------------------------------- */

static char self[4096], said[16384];

/* What the attacker may find there to remove, and may have left. */
static void beside(const char *socket, bool made)
{
	static const char *const names[] = { "there", "file", "folder", "node" };
	char path[160];
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s.%s", socket, names[i]);
		if (remove(path) < 0)
			assert_int_equal(errno, ENOENT);
	}
	if (made) {
		snprintf(path, sizeof(path), "%s.there", socket);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		assert_true(fd >= 0);
		close(fd);
	}
}

/* Has the warden start this program, and reads what it says. */
static void start_attacker(const struct virtio_gpu_venus_config *wanted)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX },
			   abstract = { .sun_family = AF_UNIX };
	char variables[4][160];
	const char *const environment[] = { variables[0], variables[1], variables[2], variables[3],
					    NULL };
	struct virtio_gpu_venus_config config = *wanted;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	struct render_server server;
	struct error e = { 0 };
	size_t length = 0;
	ssize_t got;

	/* Somebody's sockets, with the same name in both worlds. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/test-render-jail-%d", getpid());
	strcpy(abstract.sun_path + 1, address.sun_path);
	unlink(address.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(chmod(address.sun_path, 0777), 0);
	assert_int_equal(bind(other, (struct sockaddr *)&abstract,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
					  strlen(address.sun_path))),
			 0);
	assert_int_equal(listen(listener, 4) | listen(other, 4), 0);
	snprintf(variables[0], sizeof(variables[0]), "TEST_VICTIM=%d", getpid());
	snprintf(variables[1], sizeof(variables[1]), "TEST_SOCKET=%s", address.sun_path);
	snprintf(variables[2], sizeof(variables[2]), "TEST_ADDRESS=%llu",
		 (unsigned long long)(uintptr_t)self);
	snprintf(variables[3], sizeof(variables[3]), "TEST_PROGRAM=%.128s", self);
	config.environment = environment;
	beside(address.sun_path, true);
	render_server_init(&server);
	if (render_server_open(&server, &config, self, "test", &e))
		fail_msg("%s: %s", e.code, e.text);
	fd = render_server_start(&server);
	if (fd < 0)
		fail_msg("%s: %s", server.why, strerror(-fd));
	do {
		struct pollfd poller = { .fd = server.messages_fd, .events = POLLIN };

		assert_int_equal(poll(&poller, 1, 60000), 1);
		got = read(server.messages_fd, said + length, sizeof(said) - 1 - length);
		length += (size_t)MAX(got, 0);
	} while (got > 0);
	said[length] = '\0';
	close(fd);
	render_server_close(&server);
	beside(address.sun_path, false);
	unlink(address.sun_path);
	close(listener);
	close(other);
}

static void expect_nothing_possible(const struct virtio_gpu_venus_config *config)
{
	const unsigned fds = count_fds();

	start_attacker(config);
	if (!strstr(said, "\ndone\n") || strstr(said, "possible ") || strstr(said, "missing ") ||
	    strstr(said, "survived "))
		fail_msg("%s", said);
	assert_int_equal(count_fds(), fds);
}

/* One with a sanitizer opens what it may not, in the attacker's place too. */
static void need_plain(void)
{
	if (SANDBOX_SANITIZED) {
		print_message(
			"skipped: a sanitizer is built in, which would be kept from its files\n");
		skip();
	}
}

static void a_worker_that_was_taken_over_gets_nowhere(void **state)
{
	static const struct virtio_gpu_venus_config config = { 0 };

	need_plain();
	expect_nothing_possible(&config);
}

static void need_root(void)
{
	need_plain();
	if (geteuid()) {
		print_message("skipped: it takes root to become another user\n");
		skip();
	}
}

static void as_another_user_neither(void **state)
{
	static const struct virtio_gpu_venus_config config = {
		.user = { .wanted = true, .uid = OTHER_USER, .gid = OTHER_USER + 1 },
	};

	need_root();
	expect_nothing_possible(&config);
	assert_non_null(strstr(said, "user 54321 group 54322"));
}

/*
 * Without rights, in a child. @chrooted: in a root of its own, from where the kernel lets nobody into a user namespace: what is left is Landlock and the filter,
 * which do not know of sockets' paths, and the bounding set, which then bounds what nobody can have.
 */
static void as_nobody(bool chrooted)
{
	static const struct virtio_gpu_venus_config config = { 0 };
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		if (chrooted &&
		    (unshare(CLONE_NEWNS) || mount("/", "/mnt", NULL, MS_BIND | MS_REC, NULL) ||
		     chroot("/mnt") || chdir("/")))
			_exit(8);
		if (setgroups(0, NULL) || setgid(OTHER_USER) || setuid(OTHER_USER) ||
		    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
			_exit(9);
		start_attacker(&config);
		if (chrooted) {
			char *at = strstr(said, "possible reach_socket\n");

			if (at)
				memset(at, '.', strlen("possible "));
			at = strstr(said, "possible bounding\n");
			if (at)
				memset(at, '.', strlen("possible "));
		}
		if (!strstr(said, "\ndone\n") || strstr(said, "possible ") ||
		    strstr(said, "missing ") || strstr(said, "survived ")) {
			fprintf(stderr, "%s", said);
			_exit(1);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_user_without_rights_confines_as_well(void **state)
{
	need_root();
	as_nobody(false);
}

static void without_namespaces_landlock_and_the_filter_hold(void **state)
{
	need_root();
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* _VERSION */) < 6) {
		print_message("skipped: this kernel's Landlock does not know of signals\n");
		skip();
	}
	as_nobody(true);
}

/* A program that anybody may start, wherever this one lies. */
static int copy_self(void **state)
{
	char own[4096], line[8400];
	ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (length <= 0)
		return 1;
	own[length] = '\0';
	snprintf(self, sizeof(self), "/tmp/test-render-jail-%d.program", getpid());
	snprintf(line, sizeof(line), "install -m 755 '%s' '%s'", own, self);
	return system(line);
}

static int remove_self(void **state)
{
	return unlink(self);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_worker_that_was_taken_over_gets_nowhere),
		cmocka_unit_test(as_another_user_neither),
		cmocka_unit_test(a_user_without_rights_confines_as_well),
		cmocka_unit_test(without_namespaces_landlock_and_the_filter_hold),
	};

	if (getenv("TEST_VICTIM")) {
		victim = atoi(getenv("TEST_VICTIM"));
		snprintf(victim_socket, sizeof(victim_socket), "%s", getenv("TEST_SOCKET"));
		snprintf(own_path, sizeof(own_path), "%s", getenv("TEST_PROGRAM"));
		victim_address = strtoull(getenv("TEST_ADDRESS"), NULL, 10);
		return attack();
	}
	/* As divvyd starts a vGPU: what it makes is nobody else's, and the render side is somebody else. */
	umask(077);
	return cmocka_run_group_tests(tests, copy_self, remove_self);
}
