/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node to test: a made-up machine with two GPUs to give away whole and one to share, programs that are played (daemon_fakes.h), a daemon in a
 * process of its own that can be killed, and what must always be true of it all. After cmocka.h.
 */
#ifndef TESTS_UNIT_DAEMON_WORLD_H
#define TESTS_UNIT_DAEMON_WORLD_H

#include "instances/store/store.h"
#include "tests/unit/daemon_fakes.h"
#include "tests/unit/fake_sysfs.h"
#include "tests/unit/http_client.h"

#define WORLD_GPU_A   "0000:01:00.0"
#define WORLD_GPU_B   "0000:02:00.0"
#define WORLD_WAIT_MS 60000

struct world {
	char folder[64], api[100];
	struct fake_sysfs fs;
	pid_t daemon;
};

static inline void world_write(const struct world *w, const char *name, const char *text)
{
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", w->folder, name);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static inline void world_gpu(struct world *w, const char *bdf, int group, const char *driver)
{
	fake_sysfs_add_pci(&w->fs, &(struct fake_pci){ .bdf = bdf,
						       .vendor = 0x10de,
						       .device = 0x2330,
						       .class_code = 0x030200,
						       .group = group,
						       .driver = driver });
	fake_sysfs_device_write(&w->fs, bdf, "numa_node", "-1\n");
	fake_sysfs_device_write(&w->fs, bdf, "reset", "0\n");
	fake_sysfs_device_write(&w->fs, bdf, "reset_method", "flr\n");
	fake_sysfs_device_write(&w->fs, bdf, "current_link_speed", "16.0 GT/s PCIe\n");
	fake_sysfs_device_write(&w->fs, bdf, "current_link_width", "16\n");
	fake_sysfs_device_write(&w->fs, bdf, "max_link_speed", "16.0 GT/s PCIe\n");
	fake_sysfs_device_write(&w->fs, bdf, "max_link_width", "16\n");
	fake_sysfs_device_write(&w->fs, bdf, "resource",
				"0x0000000080000000 0x0000000080ffffff 0x0000000000040200\n");
}

static const char world_types[] =
	"- name: whole\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n    - { mode: dedicated, count: 1 }\n"
	"- name: pair\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n    - { mode: dedicated, count: 2 }\n"
	"- name: quarter\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: shared, policy: fixed_share, partition: 0.25 }\n"
	"  displays:\n    - { width: 1024, height: 768 }\n"
	"- name: weighted\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: shared, policy: weighted, weight: 100, partition: 0.01 }\n"
	"- name: burst\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: shared, policy: burst, partition: 0.05, credits: { baseline: 0.05, max: 10, initial: 2 } }\n"
	"- name: plain\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: shared, policy: best_effort, vram_mib: 64 }\n";

static inline void world_create(struct world *w)
{
	static const char *const programs[] = { "divvyd", "divvy", "divvy-vmm", "divvy-vgpu" };
	static const char *const folders[] = { "bin", "types", "images", "images/a" };
	char path[300], self[PATH_MAX];

	*w = (struct world){ 0 };
	strcpy(w->folder, "/tmp/divvy-node-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	assert_non_null(realpath("/proc/self/exe", self));
	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", w->folder, folders[i]);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
		snprintf(path, sizeof(path), "%s/bin/%s", w->folder, programs[i]);
		assert_int_equal(symlink(self, path), 0);
	}
	world_write(w, "types/types.yaml", world_types);
	world_write(w, "images/a/guest.conf",
		    "# an image\nkernel vmlinuz\ncpus 7\ndisk disk.img\n");
	world_write(w, "images/a/vmlinuz", "kernel");
	world_write(w, "images/a/disk.img", "what was installed");
	snprintf(path, sizeof(path), "images: [ %s/images ]\nroles: { \"65534\": user }\n",
		 w->folder);
	world_write(w, "divvyd.yaml", path);
	snprintf(w->api, sizeof(w->api), "%s/run/api", w->folder);

	fake_sysfs_create(&w->fs);
	fake_sysfs_cmdline(&w->fs, "root=/dev/vda1 intel_iommu=on");
	fake_sysfs_add_iommu(&w->fs, "dmar0");
	fake_sysfs_write(
		&w->fs, "proc/interrupts",
		"   CPU0\n  2: 9 IR-IO-APIC 2-edge timer\n 24: 1 IR-PCI-MSI-0000 0-edge x\n");
	fake_sysfs_write(&w->fs, "sys/devices/system/cpu/online", "0-511\n");
	fake_sysfs_write(&w->fs, "proc/meminfo", "MemTotal:       1000000000 kB\n");
	world_gpu(w, WORLD_GPU_A, 1, "vfio-pci");
	world_gpu(w, WORLD_GPU_B, 2, "vfio-pci");
	/* No IOMMU group: never whole. */
	world_gpu(w, FAKE_SHARED_GPU, -1, "amdgpu");
	fake_sysfs_device_write(&w->fs, FAKE_SHARED_GPU, "drm/renderD128/dev", "226:128\n");
}

/* ---- the daemon ----------------------------------------------------------------------------------------- */

/* Whether it answers; false: it ended before. */
static inline bool world_wait_ready(struct world *w)
{
	static const char ask[] =
		"GET /api/v1/node HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

	/* Connected is not enough: a child of one that was killed may hold its socket for a moment. */
	for (unsigned i = 0; i < WORLD_WAIT_MS / 5; i++) {
		int fd = http_connect(w->api);
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char text[16] = "";

		if (fd >= 0 && send(fd, ask, strlen(ask), MSG_NOSIGNAL) > 0 &&
		    poll(&p, 1, 10000) == 1 && recv(fd, text, sizeof(text) - 1, 0) > 12 &&
		    !memcmp(text, "HTTP/1.1 200", 12)) {
			close(fd);
			return true;
		}
		if (fd >= 0)
			close(fd);
		if (waitpid(w->daemon, NULL, WNOHANG) == w->daemon) {
			w->daemon = 0;
			return false;
		}
		usleep(5000);
	}
	fail_msg("the daemon does not answer");
	return false;
}

/* @crash: when it is to die (daemon_fakes.h); NULL: not. */
static inline bool world_start(struct world *w, const char *crash)
{
	char program[100], state[100], run[100], types[100], bin[100], config[100], log[100];

	snprintf(program, sizeof(program), "%s/bin/divvyd", w->folder);
	snprintf(state, sizeof(state), "%s/state", w->folder);
	snprintf(run, sizeof(run), "%s/run", w->folder);
	snprintf(types, sizeof(types), "%s/types", w->folder);
	snprintf(bin, sizeof(bin), "%s/bin", w->folder);
	snprintf(config, sizeof(config), "%s/divvyd.yaml", w->folder);
	snprintf(log, sizeof(log), "%s/log", w->folder);
	w->daemon = fork();
	assert_true(w->daemon >= 0);
	if (!w->daemon) {
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

		dup2(fd, 1);
		dup2(fd, 2);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("WORLD_ROOT", w->fs.root, 1);
		unsetenv("WORLD_CRASH");
		if (crash)
			setenv("WORLD_CRASH", crash, 1);
		execl(program, program, "--state", state, "--run", run, "--types", types,
		      "--programs", bin, "--config", config, (char *)NULL);
		_exit(127);
	}
	return world_wait_ready(w);
}

/* From its @nth commit from now on (daemon_fakes.h); 0: it can be written to again. */
static inline void world_store_fails(const struct world *w, unsigned nth)
{
	char path[128], text[16];

	if (nth) {
		snprintf(text, sizeof(text), "%u", nth);
		world_write(w, "store-fails", text);
		return;
	}
	snprintf(path, sizeof(path), "%s/store-fails", w->folder);
	assert_int_equal(unlink(path), 0);
}

static inline void world_kill(struct world *w)
{
	if (w->daemon <= 0)
		return;
	kill(w->daemon, SIGKILL);
	waitpid(w->daemon, NULL, 0);
	w->daemon = 0;
}

/* In order: it must say that it went well, and leave no socket. */
static inline void world_stop(struct world *w)
{
	int status;

	kill(w->daemon, SIGTERM);
	assert_int_equal(waitpid(w->daemon, &status, 0), w->daemon);
	w->daemon = 0;
	assert_int_equal(status, 0);
	assert_true(access(w->api, F_OK) < 0);
}

/*
 * world_as_user() - a process of user @uid, which runs @does and does not outlive the test. Returns once it has written a byte to @ready.
 * Its status is 0 once @does returns.
 */
static inline pid_t world_as_user(const struct world *w, uint32_t uid,
				  void (*does)(const struct world *w, int ready))
{
	int ready[2];
	pid_t child;
	char c;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		/* Another user's process forgets who it was to go with (prctl(2)). */
		if (setgid(uid) < 0 || setuid(uid) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			_exit(1);
		does(w, ready[1]);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return child;
}

/* ---- processes -------------------------------------------------------------------------------------------- */

/* Those of instances; and the arbiter, where @all. Zombies are none. */
static inline unsigned world_processes(const struct world *w, bool all)
{
	DIR *folder = opendir("/proc");
	unsigned count = 0;
	struct dirent *one;

	assert_non_null(folder);
	while ((one = readdir(folder))) {
		char path[300], text[8192];
		const char *mark = text;
		bool ours = false, arbiter = false;
		ssize_t size;
		int fd;

		if (one->d_name[0] < '0' || one->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/environ", one->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (fd >= 0)
			close(fd);
		if (size <= 0)
			continue;
		text[size] = '\0';
		for (; mark < text + size; mark += strlen(mark) + 1) {
			ours |= !strncmp(mark, "DIVVY_NODE=", 11) && strstr(mark, w->folder);
			arbiter |= !strcmp(mark, "DIVVY_INSTANCE=arbiter");
		}
		count += ours && (all || !arbiter);
	}
	closedir(folder);
	return count;
}

static inline void world_end_all(const struct world *w)
{
	char state[128];
	struct launch_places places = { .state = state };

	snprintf(state, sizeof(state), "%s/state/instances", w->folder);
	for (unsigned i = 0; i < 1000 && world_processes(w, true); i++) {
		DIR *folder = opendir("/proc");
		struct dirent *one;

		while (folder && (one = readdir(folder))) {
			char path[300], text[8192];
			ssize_t size;
			int fd;

			snprintf(path, sizeof(path), "/proc/%s/environ", one->d_name);
			fd = atoi(one->d_name) > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
			size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
			if (fd >= 0)
				close(fd);
			if (size > 0 &&
			    memmem(text, (size_t)size, places.state, strlen(places.state)))
				kill(atoi(one->d_name), SIGKILL);
		}
		if (folder)
			closedir(folder);
		usleep(5000);
	}
}

static inline void world_destroy(struct world *w)
{
	char command[128];

	world_kill(w);
	world_end_all(w);
	fake_sysfs_destroy(&w->fs);
	snprintf(command, sizeof(command), "rm -rf %s", w->folder);
	assert_int_equal(system(command), 0);
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

static inline unsigned world_ask(const struct world *w, const char *method, const char *resource,
				 const char *send_body, json_t **body)
{
	char path[256];

	snprintf(path, sizeof(path), "/api/v1/%s", resource);
	return http(w->api, method, path, send_body, body);
}

#define world_expect(w, method, resource, body, status)                                     \
	do {                                                                                \
		json_t *answer__ = NULL;                                                    \
		unsigned status__ = world_ask(w, method, resource, body, &answer__);        \
		char *text__ = answer__ ? json_dumps(answer__, JSON_COMPACT) : NULL;        \
		if (status__ != (status))                                                   \
			fail_msg("%s %s: %u instead of %u: %s", method, resource, status__, \
				 status, text__ ? text__ : "");                             \
		free(text__);                                                               \
		json_decref(answer__);                                                      \
	} while (0)

static inline void world_define(const struct world *w, const char *name, const char *type,
				const char *more)
{
	char resource[128], body[400];

	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"%s\",\"image\":\"%s/images/a\"%s}", type,
		 w->folder, more);
	world_expect(w, "PUT", resource, body, 201u);
}

static inline json_t *world_instance(const struct world *w, const char *name)
{
	char resource[128];
	json_t *body = NULL;

	snprintf(resource, sizeof(resource), "instances/%s", name);
	if (world_ask(w, "GET", resource, NULL, &body) == 200)
		return body;
	json_decref(body);
	return NULL;
}

static inline bool world_is(const struct world *w, const char *name, const char *state)
{
	json_t *body = world_instance(w, name);
	const char *now = json_string_value(json_object_get(body, "state"));
	bool is = now ? !strcmp(now, state) : !strcmp(state, "gone");

	json_decref(body);
	return is;
}

static inline void world_await(const struct world *w, const char *name, const char *state)
{
	json_t *body;
	char *text;

	for (unsigned i = 0; i < WORLD_WAIT_MS / 10; i++) {
		if (world_is(w, name, state))
			return;
		usleep(10000);
	}
	body = world_instance(w, name);
	text = json_dumps(body, JSON_COMPACT);
	fail_msg("%s is not %s: %s", name, state, text);
}

static inline void world_do(const struct world *w, const char *name, const char *verb,
			    const char *body, unsigned status)
{
	char resource[128];

	snprintf(resource, sizeof(resource), "instances/%s/%s", name, verb);
	world_expect(w, "POST", resource, body, status);
}

/* @gpu: as the API calls it */
static inline bool world_gpu_is(const struct world *w, const char *gpu, const char *state)
{
	char resource[64];
	json_t *body = NULL;
	bool is;

	snprintf(resource, sizeof(resource), "gpus/%s", gpu);
	assert_int_equal(world_ask(w, "GET", resource, NULL, &body), 200);
	is = !strcmp(json_string_value(json_object_get(body, "state")), state);
	json_decref(body);
	return is;
}

/* Why a GPU is set aside. */
static inline void world_expect_quarantine(const struct world *w, const char *gpu, const char *code)
{
	char resource[64];
	json_t *body = NULL;

	snprintf(resource, sizeof(resource), "gpus/%s", gpu);
	assert_int_equal(world_ask(w, "GET", resource, NULL, &body), 200);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(body, "quarantine"), "code")),
		code);
	json_decref(body);
}

static inline int32_t world_pid(const struct world *w, const char *name, const char *role)
{
	json_t *body = world_instance(w, name), *one;
	int32_t pid = 0;
	size_t i;

	json_array_foreach(json_object_get(body, "processes"), i, one)
	{
		if (!strcmp(json_string_value(json_object_get(one, "role")), role))
			pid = (int32_t)json_integer_value(json_object_get(one, "pid"));
	}
	json_decref(body);
	return pid;
}

/* Of the daemon's, in hundredths of a second (proc_pid_stat(5), 14 and 15). */
static inline unsigned long world_cpu(const struct world *w)
{
	unsigned long user = 0, kernel = 0;
	char path[64], text[1024] = "";
	const char *rest;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", w->daemon);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	rest = strrchr(text, ')');
	assert_non_null(rest);
	assert_int_equal(sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				&user, &kernel),
			 2);
	return user + kernel;
}

/* ---- what must always be true --------------------------------------------------------------------------------- */

static inline int world_count_reservation(void *opaque, const struct store_reservation *row)
{
	++*(unsigned *)opaque;
	return 0;
}

static inline int world_count_lease(void *opaque, const struct store_lease *row)
{
	++*(unsigned *)opaque;
	return 0;
}

static inline int world_count_change(void *opaque, const struct store_change *row)
{
	++*(unsigned *)opaque;
	return 0;
}

/* No device was ever had twice. */
static inline void world_check_violations(const struct world *w)
{
	char path[128], text[256] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/violations", w->folder);
	file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	fail_msg("%s", text);
}

/* The daemon is down and nothing shall run: nothing is had, nothing is open, the store is whole. */
static inline void world_check_empty(const struct world *w)
{
	unsigned reservations = 0, leases = 0, changes = 0;
	struct store *store;
	struct error e = { 0 };
	char folder[128];

	snprintf(folder, sizeof(folder), "%s/state", w->folder);
	if (store_open(folder, &store, &e))
		fail_msg("%s: %s", e.code, e.text);
	assert_int_equal(store_reservations(store, world_count_reservation, &reservations, NULL),
			 0);
	assert_int_equal(store_leases(store, NULL, true, world_count_lease, &leases, NULL), 0);
	assert_int_equal(store_changes_open(store, world_count_change, &changes, NULL), 0);
	assert_int_equal(store_check(store, NULL), 0);
	store_close(store);
	assert_int_equal(reservations, 0);
	assert_int_equal(leases, 0);
	assert_int_equal(changes, 0);
	world_check_violations(w);
}

/* ---- what tests begin and end with ---------------------------------------------------------------- */

static inline int world_setup(void **state)
{
	static struct world world;

	world_create(&world);
	*state = &world;
	return world_start(&world, NULL) ? 0 : -1;
}

static inline int world_teardown(void **state)
{
	world_check_violations(*state);
	world_destroy(*state);
	return 0;
}

#endif
