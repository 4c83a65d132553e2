// SPDX-License-Identifier: Apache-2.0
/*
 * The sandbox from inside: each forbidden thing is tried by a process of its own, under the filter of
 * each kind of thread, and must end it with a message that names the call. Then each layer alone, so
 * that one does not hide that another is missing. test_sandbox_vmm.c looks at a running VMM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <poll.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/sandbox.h"

#define CHILD_FINE 42

static pid_t test_process;

/* Runs @act in a child; its standard error comes to @said. Returns the wait status. */
static int in_child(void (*act)(const void *arg), const void *arg, char *said, size_t size)
{
	int pair[2], status;
	size_t length = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(pair[1], STDERR_FILENO);
		act(arg);
		_exit(CHILD_FINE);
	}
	close(pair[1]);
	while ((n = read(pair[0], said + length, size - 1 - length)) > 0)
		length += (size_t)n;
	said[length] = '\0';
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void need_filters(void)
{
	if (SANDBOX_SANITIZED) {
		print_message("skipped: a sanitizer is built in, which the filters would end\n");
		skip();
	}
}

/* In a child: the whole sandbox, then the filter of @kind on this thread. */
static void enter(const char *kind)
{
	const struct sandbox_options options = {
		.table = &machine_sandbox,
		.first_has = machine_sandbox_first(0),
	};
	struct error e = { 0 };
	int err = sandbox_close(&options, &e);

	if (!err && kind)
		err = sandbox_filter_load(kind);
	if (err) {
		error_print(&e, "test");
		_exit(1);
	}
}

/* ---- what is forbidden ---------------------------------------------------------------------- */

static void open_path(void)
{
	(void)open("/etc/passwd", O_RDONLY);
}

static void open_device(void)
{
	(void)open("/dev/kvm", O_RDWR);
}

static void make_socket(void)
{
	(void)socket(AF_INET, SOCK_STREAM, 0);
}

static void make_unix_socket(void)
{
	(void)socket(AF_UNIX, SOCK_STREAM, 0);
}

static void run_program(void)
{
	char *const none[] = { NULL };

	execve("/bin/true", none, none);
}

static void trace_itself(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void mount_something(void)
{
	(void)mount("none", "/mnt", "tmpfs", 0, NULL);
}

static void become_root(void)
{
	(void)setuid(0);
}

static void push_terminal_input(void)
{
	char byte = 'x';

	ioctl(STDIN_FILENO, TIOCSTI, &byte);
}

static void *page(int prot)
{
	return mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void make_memory_executable(void)
{
	void *at = page(PROT_READ | PROT_WRITE);

	mprotect(at, 4096, PROT_READ | PROT_EXEC);
}

static void map_executable_memory(void)
{
	page(PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void make_process(void)
{
	syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void make_namespace(void)
{
	syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */);
}

static void kill_parent(void)
{
	kill(test_process, 0);
}

static void signal_parents_thread(void)
{
	syscall(SYS_tgkill, test_process, test_process, 0);
}

static void replace_the_handler(void)
{
	signal(SIGSYS, SIG_IGN);
}

/* A kernel looks at the low half only; so must a filter. */
static void replace_the_handler_by_a_wide_number(void)
{
	struct sigaction action = { .sa_handler = SIG_IGN };

	syscall(SYS_rt_sigaction, UINT64_C(1) << 32 | SIGSYS, &action, NULL, 8);
}

static void make_ring(void)
{
	struct io_uring_params params = { 0 };

	syscall(SYS_io_uring_setup, 1, &params);
}

static void make_file_in_memory(void)
{
	memfd_create("x", 0);
}

static void read_other_process(void)
{
	syscall(SYS_process_vm_readv, test_process, NULL, 0, NULL, 0, 0);
}

static void raise_limit(void)
{
	struct {
		uint64_t now, most;
	} limit = { 1 << 20, 1 << 20 };

	syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, &limit, NULL);
}

static void load_bpf(void)
{
	syscall(SYS_bpf, 0, NULL, 0);
}

static const struct attempt {
	const char *call; /* as it is named */
	void (*act)(void);
} attempts[] = {
	{ "open", open_path },
	{ "open", open_device },
	{ "socket", make_socket },
	{ "socket", make_unix_socket },
	{ "execve", run_program },
	{ "ptrace", trace_itself },
	{ "mount", mount_something },
	{ "setuid", become_root },
	{ "ioctl", push_terminal_input },
	{ "mprotect", make_memory_executable },
	{ "mmap", map_executable_memory },
	{ "clone", make_process },
	{ "unshare", make_namespace },
	{ "kill", kill_parent },
	{ "tgkill", signal_parents_thread },
	{ "rt_sigaction", replace_the_handler },
	{ "rt_sigaction", replace_the_handler_by_a_wide_number },
	{ "io_uring_setup", make_ring },
	{ "memfd_create", make_file_in_memory },
	{ "process_vm_readv", read_other_process },
	{ "prlimit64", raise_limit },
	{ "bpf", load_bpf },
};

struct trial {
	const char *kind;
	void (*act)(void);
};

static void try_it(const void *arg)
{
	const struct trial *trial = arg;

	enter(trial->kind);
	trial->act();
}

static void expect_end(const char *kind, const char *call, void (*act)(void))
{
	const struct trial trial = { kind, act };
	char said[1024], expected[128];
	int status = in_child(try_it, &trial, said, sizeof(said));

	snprintf(expected, sizeof(expected), "error[sandbox]: thread %s: system call %s", kind,
		 call);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS || !strstr(said, expected))
		fail_msg("%s under %s: status 0x%x, said \"%s\"", call, kind, status, said);
}

static void every_thread_is_ended_by_what_is_not_listed(void **state)
{
	need_filters();
	for (unsigned k = 0; k < SANDBOX_KINDS; k++)
		for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
			expect_end(machine_sandbox.kinds[k], attempts[i].call, attempts[i].act);
}

static void kvm_create_vm(void)
{
	ioctl(-1, KVM_CREATE_VM, 0);
}

static void kvm_run(void)
{
	ioctl(-1, KVM_RUN, 0);
}

static void write_file(void)
{
	(void)!pwrite(-1, "", 1, 0);
}

static void ring_enter(void)
{
	syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0);
}

static void make_thread(void)
{
	syscall(SYS_clone, 0x3d0f00, NULL, NULL, NULL, NULL);
}

static void each_kind_has_its_own_list(void **state)
{
	need_filters();
	expect_end("vcpu", "ioctl", kvm_create_vm);
	expect_end("virtio-blk", "ioctl", kvm_run);
	expect_end("virtio-net", "ioctl", kvm_run);
	expect_end("serial", "ioctl", kvm_run);
	expect_end("rcu", "pwrite64", write_file);
	expect_end("virtio-rng", "io_uring_enter", ring_enter);
	expect_end("vcpu", "clone", make_thread);
	expect_end("virtio-console", "clone", make_thread);
}

static void try_what_is_listed(const void *arg)
{
	struct pollfd nothing = { .fd = -1 };
	void *at, *large;

	enter("vcpu");
	kvm_run();
	write_file();
	at = page(PROT_READ | PROT_WRITE);
	large = malloc(1 << 22);
	if (errno != EBADF || at == MAP_FAILED || poll(&nothing, 1, 0) != 0 || !large ||
	    write(STDERR_FILENO, "listed", 6) != 6)
		_exit(1);
	free(large);
}

static void what_is_listed_goes_on(void **state)
{
	char said[256];

	need_filters();
	assert_int_equal(in_child(try_what_is_listed, NULL, said, sizeof(said)), CHILD_FINE << 8);
	assert_string_equal(said, "listed");
}

/* The numbers of 32-bit programs and of x32 mean other calls: a filter must not mix them up. */
static void other_numbers(const void *arg)
{
	enter("main");
	if (*(const bool *)arg)
		syscall(0x40000000 | SYS_getpid);
	else
		__asm__ volatile("int $0x80" : : "a"(20) : "memory"); /* getpid of i386 */
}

static void other_abis_are_no_way_around(void **state)
{
	char said[256];

	need_filters();
	for (int x32 = 0; x32 < 2; x32++) {
		bool how = x32;
		int status = in_child(other_numbers, &how, said, sizeof(said));

		/* Where the kernel has no 32-bit programs, int 0x80 is a fault. */
		if (!WIFSIGNALED(status))
			fail_msg("%s: status 0x%x", x32 ? "x32" : "i386", status);
	}
}

/* ---- threads -------------------------------------------------------------------------------- */

static void *do_nothing(void *arg)
{
	return arg;
}

static void start_unknown_kind(const void *arg)
{
	pthread_t thread;

	enter(NULL);
	if (!thread_create(&thread, "new-kind", do_nothing, NULL))
		pthread_join(thread, NULL);
}

static void a_kind_without_entries_does_not_run(void **state)
{
	char said[512];
	int status;

	need_filters();
	status = in_child(start_unknown_kind, NULL, said, sizeof(said));
	assert_int_equal(status, EXIT_FAILURE << 8);
	assert_non_null(strstr(said, "thread new-kind gets no filter"));
}

static void *open_in_thread(void *arg)
{
	open_path();
	return NULL;
}

static void start_thread(const void *arg)
{
	struct error e = { 0 };
	pthread_t thread;

	enter(NULL);
	if (sandbox_close_main(&e))
		_exit(1);
	if (!thread_create(&thread, "serial", open_in_thread, NULL))
		pthread_join(thread, NULL);
}

static void threads_are_confined_as_they_begin(void **state)
{
	char said[512];
	int status;

	need_filters();
	status = in_child(start_thread, NULL, said, sizeof(said));
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS ||
	    !strstr(said, "thread serial: system call open"))
		fail_msg("status 0x%x, said \"%s\"", status, said);
}

static void *wait_for_ever(void *arg)
{
	pause();
	return NULL;
}

static void close_beside_a_thread(const void *arg)
{
	const struct sandbox_options options = {
		.table = &machine_sandbox,
		.first_has = machine_sandbox_first(0),
	};
	struct error e = { 0 };
	pthread_t thread;

	if (pthread_create(&thread, NULL, wait_for_ever, NULL) ||
	    sandbox_close(&options, &e) != -EBUSY || strcmp(e.code, "sandbox-threads") != 0)
		_exit(1);
}

static void a_thread_from_before_is_refused(void **state)
{
	char said[256];

	assert_int_equal(in_child(close_beside_a_thread, NULL, said, sizeof(said)),
			 CHILD_FINE << 8);
}

/* ---- each layer alone ----------------------------------------------------------------------- */

static long landlock_abi(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* _VERSION */);
}

#define CHECK(what)                                                                      \
	do {                                                                             \
		if (!(what)) {                                                           \
			dprintf(STDERR_FILENO, "not so: %s (errno %d)\n", #what, errno); \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

static void under_landlock(const void *arg)
{
	static const struct sandbox_path sys = { .path = "/sys" };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9) };
	int before = open("/etc/passwd", O_RDONLY), fd;
	long abi = landlock_abi();
	struct error e = { 0 };
	char byte;

	CHECK(before >= 0);
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!sandbox_landlock(arg ? &sys : NULL, arg ? 1 : 0, &e));
	CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	CHECK(open("/dev/null", O_RDWR) < 0 && errno == EACCES);
	CHECK(open("/tmp/test-sandbox-file", O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES);
	CHECK(mkdir("/tmp/test-sandbox-folder", 0700) < 0 && errno == EACCES);
	CHECK(unlink("/etc/passwd.not") < 0 && (errno == EACCES || errno == ENOENT));
	fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY);
	CHECK(arg ? fd >= 0 || errno == ENOENT : fd < 0);
	CHECK(read(before, &byte, 1) == 1);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (abi >= 4 && fd >= 0) {
		CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
		      errno == EACCES);
		CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
		      errno == EACCES);
	}
	if (abi >= 6)
		CHECK(kill(getppid(), 0) < 0 && errno == EPERM);
}

static void landlock_alone_closes_paths_and_ports(void **state)
{
	char said[512];
	bool sys = true;

	if (landlock_abi() < 1) {
		print_message("skipped: this kernel has no Landlock\n");
		skip();
	}
	if (in_child(under_landlock, NULL, said, sizeof(said)) != CHILD_FINE << 8 ||
	    in_child(under_landlock, &sys, said, sizeof(said)) != CHILD_FINE << 8)
		fail_msg("%s", said);
}

static void without_capabilities(const void *arg)
{
	char line[256];
	unsigned checked = 0;
	FILE *status = fopen("/proc/self/status", "re");

	/* /proc is closed afterwards: the file is read again from its beginning. */
	CHECK(status);
	enter(NULL);
	rewind(status);
	while (fgets(line, sizeof(line), status)) {
		if (!strncmp(line, "Cap", 3)) {
			/* Who is not root cannot shrink the bounding set, and has nothing to bound. */
			CHECK(strstr(line, "\t0000000000000000\n") ||
			      (geteuid() && !strncmp(line, "CapBnd", 6)));
			checked++;
		}
		if (!strncmp(line, "NoNewPrivs", 10)) {
			CHECK(line[12] == '1');
			checked++;
		}
	}
	CHECK(checked == 6);
	CHECK(mount("none", "/mnt", "tmpfs", 0, NULL) < 0 && errno == EPERM);
	CHECK(setgid(4242) < 0 && errno == EPERM);
	CHECK(sethostname("x", 1) < 0 && errno == EPERM);
	CHECK(chroot("/") < 0 && errno == EPERM);
	CHECK(SANDBOX_SANITIZED || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	CHECK(SANDBOX_SANITIZED || landlock_abi() < 1 ||
	      (open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES));
}

static void no_capability_is_left_in_any_set(void **state)
{
	char said[512];

	if (in_child(without_capabilities, NULL, said, sizeof(said)) != CHILD_FINE << 8)
		fail_msg("%s", said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_thread_is_ended_by_what_is_not_listed),
		cmocka_unit_test(each_kind_has_its_own_list),
		cmocka_unit_test(what_is_listed_goes_on),
		cmocka_unit_test(other_abis_are_no_way_around),
		cmocka_unit_test(a_kind_without_entries_does_not_run),
		cmocka_unit_test(threads_are_confined_as_they_begin),
		cmocka_unit_test(a_thread_from_before_is_refused),
		cmocka_unit_test(landlock_alone_closes_paths_and_ports),
		cmocka_unit_test(no_capability_is_left_in_any_set),
	};

	test_process = getpid();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
