// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon among people who mean no good: users without a number left to run as, names that were another's, processes that say they are an
 * instance's, steps that hang, and users who look for each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "mdev/jail.h"
#include "tests/unit/daemon_world.h"

#define NOBODY 65534 /* a user, by the world's divvyd.yaml */

static int setup(void **state)
{
	static struct world world;

	world_create(&world);
	*state = &world;
	return chmod(world.folder, 0755);
}

/* @more of divvyd.yaml. */
static void configure(struct world *w, const char *more)
{
	char text[400];

	snprintf(text, sizeof(text), "images: [ %s/images ]\nroles: { \"65534\": user }\n%s",
		 w->folder, more);
	world_write(w, "divvyd.yaml", text);
	assert_true(world_start(w, NULL));
}

static unsigned put(const struct world *w, const char *name, const char *type)
{
	char resource[128], body[300];

	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"%s\",\"image\":\"%s/images/a\"}", type,
		 w->folder);
	return world_ask(w, "PUT", resource, body, NULL);
}

/* By NOBODY, with another image: the status. */
static unsigned put_image(const struct world *w, const char *name, const char *image)
{
	char resource[128], body[400];
	unsigned status;

	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"plain\",\"image\":\"%s%s\"}", w->folder, image);
	assert_int_equal(seteuid(NOBODY), 0);
	status = world_ask(w, "PUT", resource, body, NULL);
	assert_int_equal(seteuid(0), 0);
	return status;
}

/* Below the world's folder; @link: to what is at @path. */
static void world_link(const struct world *w, const char *path, const char *link)
{
	char to[300], from[300];

	snprintf(to, sizeof(to), "%s/%s", w->folder, path);
	snprintf(from, sizeof(from), "%s/%s", w->folder, link);
	assert_int_equal(symlink(to, from), 0);
}

/* A folder with a guest.conf, and those above it. */
static void world_image(const struct world *w, const char *path)
{
	char file[200];

	for (const char *p = path; p; p = strchr(p + 1, '/')) {
		snprintf(file, sizeof(file), "%s/%.*s", w->folder, (int)(p - path), path);
		assert_true(mkdir(file, 0755) == 0 || errno == EEXIST);
	}
	snprintf(file, sizeof(file), "%s/%s", w->folder, path);
	assert_int_equal(mkdir(file, 0755), 0);
	snprintf(file, sizeof(file), "%s/guest.conf", path);
	world_write(w, file, "kernel vmlinuz\n");
}

/* Its path becomes lines of the guest.conf that is run, and JSON. */
static void an_image_behind_a_link_is_judged_as_one_that_is_named(void **state)
{
	struct world *w = *state;
	json_t *instance;
	char real[128];

	if (geteuid())
		skip();
	world_image(w, "images/k\ndisk /dev/sda\n#x");
	world_image(w, "images/\xff\xfe");
	world_link(w, "images/k\ndisk /dev/sda\n#x", "images/lines");
	world_link(w, "images/\xff\xfe", "images/bytes");
	world_link(w, "images/a", "images/good");
	configure(w, "");
	assert_int_equal(put_image(w, "a", "/images/lines"), 403);
	assert_int_equal(put_image(w, "a", "/images/bytes"), 403);
	assert_true(world_is(w, "a", "gone"));
	assert_int_equal(put_image(w, "a", "/images/good"), 201);
	instance = world_instance(w, "a");
	snprintf(real, sizeof(real), "%s/images/a", w->folder);
	assert_string_equal(json_string_value(json_object_get(instance, "image")), real);
	json_decref(instance);
}

/* Whatever else he names is not looked up: it may be where root waits. */
static void an_image_is_below_a_folder_that_is_named_or_is_not_looked_for(void **state)
{
	struct world *w = *state;
	char text[400];

	if (geteuid())
		skip();
	world_link(w, "images/a", "elsewhere");
	world_link(w, "images", "linked");
	snprintf(text, sizeof(text), "images: [ %s/linked/ ]\nroles: { \"65534\": user }\n",
		 w->folder);
	world_write(w, "divvyd.yaml", text);
	assert_true(world_start(w, NULL));
	assert_int_equal(put_image(w, "a", "/elsewhere"), 403);
	assert_int_equal(put_image(w, "a", "/images/../elsewhere"), 403);
	assert_int_equal(put_image(w, "a", "/linked/a/../a"), 403);
	assert_int_equal(put_image(w, "a", "/linked/a/.."), 403);
	assert_int_equal(put_image(w, "a", "/linked"), 403);
	assert_int_equal(put_image(w, "a", "/linked/a"), 201);
	assert_int_equal(put_image(w, "b", "/images/a"), 201);
}

static void who_finds_no_user_left_does_not_run_as_root(void **state)
{
	struct world *w = *state;

	if (geteuid())
		skip();
	configure(w, "uid_count: 8\n");
	assert_int_equal(put(w, "a", "plain"), 201);
	assert_int_equal(put(w, "b", "plain"), 201);
	assert_int_equal(put(w, "c", "plain"), 409);
	world_expect(w, "DELETE", "instances/a", NULL, 204u);
	assert_int_equal(put(w, "c", "plain"), 201);
}

/* What its keeper was told of users (instances/launch/command.c). */
static bool is_jailed(const struct world *w, const char *name)
{
	char path[64], words[4096];
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", world_pid(w, name, "vmm"));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	size = read(fd, words, sizeof(words));
	close(fd);
	assert_true(size > 0);
	return memmem(words, (size_t)size, "--jail", 6) != NULL;
}

static void who_was_defined_before_there_were_users_gets_one_at_its_next_start(void **state)
{
	struct world *w = *state;

	if (geteuid())
		skip();
	configure(w, "uid_count: 0\n");
	assert_int_equal(put(w, "a", "plain"), 201);
	assert_int_equal(put(w, "b", "plain"), 201);
	assert_int_equal(put(w, "c", "plain"), 201);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	assert_false(is_jailed(w, "a"));
	world_stop(w);
	configure(w, "uid_count: 8\n");
	assert_false(is_jailed(w, "a"));
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "a", "running");
	world_await(w, "b", "running");
	assert_true(is_jailed(w, "a"));
	assert_true(is_jailed(w, "b"));
	world_do(w, "c", "start", NULL, 409);
}

static void a_tap_is_nobody_elses(void **state)
{
	struct world *w = *state;

	world_write(w, "types/wired.yaml",
		    "- name: wired\n  vcpus: 1\n  memory_mib: 64\n  nics: [ tap ]\n  gpus:\n"
		    "    - { mode: shared, policy: best_effort, vram_mib: 64 }\n");
	configure(w, "");
	assert_int_equal(put(w, "abcdefghij", "wired"), 201);
	assert_int_equal(put(w, "abcdefghijk", "wired"), 400);
	assert_int_equal(put(w, "abcdefghijk", "plain"), 201);
}

static void change_leave_open(const struct world *w)
{
	char path[200];
	struct store *store;
	struct error e = { 0 };
	int64_t change;

	snprintf(path, sizeof(path), "%s/state", w->folder);
	assert_int_equal(store_open(path, &store, &e), 0);
	assert_int_equal(store_change_begin(store, "delete", "a", "", &change, &e), 0);
	store_close(store);
}

static void run(const struct world *w, const char *command, const char *path)
{
	char line[400];

	snprintf(line, sizeof(line), "%s %s/state/instances/a%s", command, w->folder, path);
	assert_int_equal(system(line), 0);
}

/* A deletion that could not remove its folder: here one that is too deep. */
static void a_new_instance_does_not_find_the_disks_of_the_last_one(void **state)
{
	struct world *w = *state;
	char path[200];

	change_leave_open(w);
	run(w, "mkdir -p", "/1/2/3/4/5/6/7/8/9/10");
	configure(w, "");
	assert_int_not_equal(put(w, "a", "plain"), 201);
	world_expect(w, "GET", "instances/a", NULL, 404u);
	/* What can be removed is. */
	run(w, "rm -r", "/1/2");
	world_write(w, "state/instances/a/disk0.img", "another's");
	assert_int_equal(put(w, "a", "plain"), 201);
	snprintf(path, sizeof(path), "%s/state/instances/a", w->folder);
	assert_true(access(path, F_OK) < 0);
	/* That deletion was the last one's, not its own, whatever the clock said then. */
	world_kill(w);
	run(w, "mkdir", "");
	world_write(w, "state/instances/a/disk0.img", "its own");
	for (unsigned i = 0; i < 2; i++) {
		assert_true(world_start(w, NULL));
		assert_true(world_is(w, "a", "defined"));
		world_kill(w);
		change_leave_open(w);
	}
	snprintf(path, sizeof(path), "%s/state/instances/a/disk0.img", w->folder);
	assert_int_equal(access(path, F_OK), 0);
}

static void a_weight_does_not_bring_back_an_older_definition(void **state)
{
	struct world *w = *state;
	json_t *instance;

	configure(w, "");
	assert_int_equal(put(w, "a", "weighted"), 201);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	assert_int_equal(put(w, "a", "burst"), 200);
	world_expect(w, "PATCH", "instances/a/share", "{\"weight\":300}", 200u);
	instance = world_instance(w, "a");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(instance, "definition"), "name")),
		"burst");
	json_decref(instance);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
}

/* Zombies of the daemon. */
static unsigned zombies(const struct world *w)
{
	DIR *folder = opendir("/proc");
	unsigned count = 0;
	struct dirent *one;

	assert_non_null(folder);
	while ((one = readdir(folder))) {
		char path[300], text[512] = "";
		int parent = 0, fd;
		char state = '?';

		snprintf(path, sizeof(path), "/proc/%s/stat", one->d_name);
		fd = atoi(one->d_name) > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0 && strrchr(text, ')') &&
		    sscanf(strrchr(text, ')') + 1, " %c %d", &state, &parent) == 2)
			count += state == 'Z' && parent == w->daemon;
		close(fd);
	}
	closedir(folder);
	return count;
}

static void a_step_that_is_given_up_leaves_no_zombie(void **state)
{
	struct world *w = *state;
	char path[200];

	snprintf(path, sizeof(path), "%s/images/a/guest.conf", w->folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	configure(w, "");
	assert_int_equal(put(w, "a", "plain"), 201);
	for (unsigned i = 0; i < 8; i++) {
		world_do(w, "a", "start", NULL, 202);
		world_do(w, "a", "stop", "{\"force\":true}", 202);
		world_await(w, "a", "stopped");
	}
	for (unsigned i = 0; i < 3000 && zombies(w); i++)
		usleep(10000);
	assert_int_equal(zombies(w), 0);
}

/* Somebody's sleep that says it is the instance's. */
static pid_t impostor(const struct world *w, const char *uuid)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		char node[128], instance[64];
		char *environment[] = { node, instance, NULL };

		snprintf(node, sizeof(node), "DIVVY_NODE=%s/state/instances", w->folder);
		snprintf(instance, sizeof(instance), "DIVVY_INSTANCE=%s", uuid);
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(99);
		execle("/bin/sleep", "sleep", "600", (char *)NULL, environment);
		_exit(98);
	}
	return child;
}

static void who_says_he_is_an_instance_holds_up_nobody(void **state)
{
	struct world *w = *state;
	json_t *instance;
	int status;
	pid_t child;

	if (geteuid())
		skip();
	configure(w, "");
	assert_int_equal(put(w, "a", "plain"), 201);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	instance = world_instance(w, "a");
	child = impostor(w, json_string_value(json_object_get(instance, "uuid")));
	json_decref(instance);
	/* Until it is a sleep. */
	usleep(200000);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	assert_int_equal(waitpid(child, &status, WNOHANG), 0);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* Whether an answer says "roots" anywhere. */
static bool tells(const struct world *w, const char *resource)
{
	char request[200], text[16384];
	ssize_t size = 0, n;
	int fd = http_connect(w->api);

	if (fd < 0)
		return true;
	snprintf(request, sizeof(request),
		 "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", resource);
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		return true;
	while ((n = recv(fd, text + size, sizeof(text) - 1 - (size_t)size, 0)) > 0)
		size += n;
	close(fd);
	text[size] = '\0';
	return strncmp(text, "HTTP/1.1 200", 12) != 0 || strstr(text, "roots");
}

static void a_user_hears_no_names_of_others(void **state)
{
	static const char *const resources[] = {
		"/api/v1/gpus",	 ("/api/v1/gpus/" WORLD_GPU_A),
		"/api/v1/vgpus", "/api/v1/instances",
		"/metrics",	 "/api/v1/events?since=0&follow=0"
	};
	struct world *w = *state;
	int status;
	pid_t child;

	if (geteuid())
		skip();
	configure(w, "");
	assert_int_equal(put(w, "roots", "whole"), 201);
	assert_int_equal(put(w, "roots-too", "quarter"), 201);
	world_do(w, "roots", "start", NULL, 202);
	world_do(w, "roots-too", "start", NULL, 202);
	world_await(w, "roots", "running");
	world_await(w, "roots-too", "running");
	/* But that a name is taken: there is one space of them. */
	assert_int_equal(put_image(w, "roots", "/images/a"), 403);
	assert_int_equal(put_image(w, "free", "/images/a"), 201);
	/* It is there to be seen. */
	assert_true(tells(w, resources[0]));
	assert_true(tells(w, "/api/v1/events?since=0&follow=0"));
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(99);
		for (unsigned i = 0; i < ARRAY_SIZE(resources); i++)
			if (tells(w, resources[i]))
				_exit((int)i + 1);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	world_do(w, "roots", "stop", "{\"force\":true}", 202);
	world_do(w, "roots-too", "stop", "{\"force\":true}", 202);
	world_await(w, "roots", "stopped");
	world_await(w, "roots-too", "stopped");
}

/* One who has many users (subuid(5)) and a role with none of them. */
static void strangers_leave_room_for_those_with_a_role(void **state)
{
	struct world *w = *state;
	int fds[8][24];
	unsigned answer;

	if (geteuid())
		skip();
	configure(w, "");
	for (unsigned u = 0; u < ARRAY_SIZE(fds); u++) {
		assert_int_equal(seteuid(60000 + u), 0);
		for (unsigned i = 0; i < ARRAY_SIZE(fds[u]); i++) {
			fds[u][i] = http_connect(w->api);
			if (fds[u][i] >= 0 && send(fds[u][i], "GET /", 5, MSG_NOSIGNAL) < 0)
				shutdown(fds[u][i], SHUT_RDWR);
		}
		assert_int_equal(seteuid(0), 0);
	}
	assert_int_equal(seteuid(NOBODY), 0);
	answer = world_ask(w, "GET", "node", NULL, NULL);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(answer, 200);
	for (unsigned u = 0; u < ARRAY_SIZE(fds); u++)
		for (unsigned i = 0; i < ARRAY_SIZE(fds[u]); i++)
			if (fds[u][i] >= 0)
				close(fds[u][i]);
}

/* What it started. */
static pid_t child_of(pid_t parent)
{
	char path[64];
	int child = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &child), 1);
	fclose(file);
	return child;
}

static bool stands(pid_t pid)
{
	char path[64], text[512] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strstr(text, ") T ");
}

/* A request on a connection that stays open, and its answer. */
static void ask_and_stay(int fd, const char *text)
{
	char answer[4096];
	const char *body = NULL, *length = NULL;
	size_t size = 0;
	ssize_t n;

	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	do {
		n = recv(fd, answer + size, sizeof(answer) - 1 - size, 0);
		assert_true(n > 0);
		size += (size_t)n;
		answer[size] = '\0';
		body = strstr(answer, "\r\n\r\n");
		length = strstr(answer, "Content-Length: ");
	} while (!body || !length || strlen(body + 4) < strtoul(length + 16, NULL, 10));
}

/* Which of them became readable first, second ...: in the order of epoll's list (epoll(7)). */
static void readable_in_order(int epoll, const int *fds, unsigned count, struct epoll_event *events)
{
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(
			poll(&(struct pollfd){ .fd = fds[i], .events = POLLIN }, 1, WORLD_WAIT_MS),
			1);
	assert_int_equal(epoll_wait(epoll, events, (int)count, 0), count);
}

#define KNOCKING 100u

/* Many who are nobody are there, and nobody of them is to be let in; then root asks, who is connected. */
static void who_connects_without_end_keeps_nobody_from_being_answered(void **state)
{
	static const char ask[] = "GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n";
	struct world *w = *state;
	struct epoll_event events[KNOCKING + 1];
	int fds[KNOCKING + 1], held[24], epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned before = 0;

	if (geteuid())
		skip();
	configure(w, "");
	fds[KNOCKING] = http_connect(w->api);
	assert_int_equal(seteuid(60000), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(held); i++) {
		held[i] = http_connect(w->api);
		assert_int_equal(send(held[i], "GET /", 5, MSG_NOSIGNAL), 5);
	}
	assert_int_equal(seteuid(0), 0);
	/* They have their places. */
	world_expect(w, "GET", "node", NULL, 200u);
	ask_and_stay(fds[KNOCKING], ask);
	assert_int_equal(kill(w->daemon, SIGSTOP), 0);
	while (!stands(w->daemon))
		usleep(1000);
	assert_int_equal(seteuid(60000), 0);
	for (unsigned i = 0; i < KNOCKING; i++) {
		fds[i] = unix_connect(w->api, SOCK_STREAM | SOCK_NONBLOCK);
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(send(fds[KNOCKING], ask, sizeof(ask) - 1, MSG_NOSIGNAL), sizeof(ask) - 1);
	for (unsigned i = 0; i <= KNOCKING; i++)
		assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i],
					   &(struct epoll_event){ .events = EPOLLIN | EPOLLET,
								  .data.u32 = i }),
				 0);
	assert_int_equal(kill(w->daemon, SIGCONT), 0);
	readable_in_order(epoll, fds, KNOCKING + 1, events);
	while (events[before].data.u32 != KNOCKING)
		before++;
	if (before > KNOCKING / 4)
		fail_msg("%u were answered before", before);
	for (unsigned i = 0; i <= KNOCKING; i++)
		close(fds[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
		close(held[i]);
	close(epoll);
}

/* Somebody asks without end, many times before he listens. */
static void ask_without_end(const struct world *w, int ready)
{
	static const char ask[] = "GET /api/v1/types HTTP/1.1\r\nHost: x\r\n\r\n";
	char block[64 * (sizeof(ask) - 1)], text[65536];
	size_t at = 0;
	int fd = http_connect(w->api);

	for (size_t i = 0; i < sizeof(block); i += sizeof(ask) - 1)
		memcpy(block + i, ask, sizeof(ask) - 1);
	for (bool told = false;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
		ssize_t n;

		if (poll(&p, 1, -1) < 0)
			_exit(1);
		n = send(fd, block + at, sizeof(block) - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			at = (at + (size_t)n) % sizeof(block);
		n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
		if (!n || (n > 0 && !told && write(ready, "r", 1) < 0))
			_exit(1);
		told |= n > 0;
	}
}

static void who_asks_without_end_keeps_nobody_from_connecting(void **state)
{
	struct world *w = *state;
	pid_t child;

	if (geteuid())
		skip();
	world_write(w, "divvyd.yaml", "roles: { \"65534\": viewer }\n");
	assert_true(world_start(w, NULL));
	child = world_as_user(w, NOBODY, ask_without_end);
	for (unsigned i = 0; i < 10; i++)
		world_expect(w, "GET", "node", NULL, 200u);
	/* Nor an instance from starting, whose programs are asked as well. */
	world_define(w, "a", "plain", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static unsigned change(const struct world *w, unsigned uid, json_t **body)
{
	unsigned status;

	assert_int_equal(seteuid(uid), 0);
	status = world_ask(w, "DELETE", "instances/none", NULL, body);
	assert_int_equal(seteuid(0), 0);
	return status;
}

static void who_changes_without_end_has_to_wait_and_nobody_else(void **state)
{
	struct world *w = *state;
	json_t *body = NULL;
	unsigned done = 0, status;

	if (geteuid())
		skip();
	world_write(w, "divvyd.yaml", "roles: { \"65534\": user, \"65533\": user }\n");
	assert_true(world_start(w, NULL));
	do {
		json_decref(body);
		body = NULL;
		status = change(w, NOBODY, &body);
	} while (status == 404 && ++done < 3000);
	assert_in_range(done, 200, 2999);
	assert_int_equal(status, 429);
	http_expect_code(json_incref(json_object_get(body, "error")), "too-many-changes");
	json_decref(body);
	/* He looks as he likes. */
	assert_int_equal(seteuid(NOBODY), 0);
	world_expect(w, "GET", "instances", NULL, 200u);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(change(w, 65533, NULL), 404);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(change(w, 0, NULL), 404);
	usleep(300000);
	assert_int_equal(change(w, NOBODY, NULL), 404);
}

static void a_user_has_few_large_answers(void **state)
{
	static const char ask[] =
		"GET /api/v1/instances/a/screenshot/0 HTTP/1.1\r\nHost: x\r\n\r\n";
	struct world *w = *state;
	unsigned refused = 0;
	int fds[12];
	pid_t vgpu;

	configure(w, "");
	assert_int_equal(put(w, "a", "quarter"), 201);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	/* Its keeper keeps run-native, which has it below it. */
	vgpu = child_of(child_of(world_pid(w, "a", "gpu0")));
	assert_int_equal(kill(vgpu, SIGSTOP), 0);
	while (!stands(vgpu))
		usleep(1000);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = http_connect(w->api);
		assert_true(fds[i] >= 0);
		assert_int_equal(send(fds[i], ask, sizeof(ask) - 1, MSG_NOSIGNAL), sizeof(ask) - 1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		char text[512] = "";

		assert_true(recv(fds[i], text, sizeof(text) - 1, 0) > 0);
		refused += strstr(text, "429") != NULL;
		close(fds[i]);
	}
	assert_int_equal(refused, ARRAY_SIZE(fds) - 4);
	assert_int_equal(kill(vgpu, SIGCONT), 0);
	world_expect(w, "GET", "instances/a/screenshot/0", NULL, 200u);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
}

/* Vgpus that start at the same time, more of them than an access list once had room for. */
static void everybody_who_renders_is_let_in(void **state)
{
	const unsigned children = 8, each = 50;
	struct world *w = *state;
	unsigned char list[8192];
	char path[128];
	ssize_t size;
	int status;

	if (geteuid())
		skip();
	world_write(w, "socket", "");
	snprintf(path, sizeof(path), "%s/socket", w->folder);
	for (unsigned c = 0; c < children; c++) {
		pid_t child = fork();

		assert_true(child >= 0);
		for (unsigned i = 0; !child && i < each; i++) {
			struct error e = { 0 };

			if (socket_share(path, 5000 + c * each + i, &e))
				_exit(e.err == EOPNOTSUPP ? 77 : 1);
		}
		if (!child)
			_exit(0);
	}
	for (unsigned c = 0; c < children; c++) {
		assert_true(wait(&status) > 0);
		/* A file system without access lists, or with short ones: not what /run is. */
		if (status)
			print_message("%s has no room for access lists\n", path);
	}
	size = getxattr(path, "system.posix_acl_access", list, sizeof(list));
	if (status)
		skip();
	/* A header, and entries of 8 bytes: theirs, the owner's, the group's, the mask, others'. */
	assert_int_equal(size, 4 + 8 * (children * each + 4));
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(an_image_behind_a_link_is_judged_as_one_that_is_named),
		T(an_image_is_below_a_folder_that_is_named_or_is_not_looked_for),
		T(who_finds_no_user_left_does_not_run_as_root),
		T(who_was_defined_before_there_were_users_gets_one_at_its_next_start),
		T(a_tap_is_nobody_elses),
		T(a_new_instance_does_not_find_the_disks_of_the_last_one),
		T(a_weight_does_not_bring_back_an_older_definition),
		T(a_step_that_is_given_up_leaves_no_zombie),
		T(who_says_he_is_an_instance_holds_up_nobody),
		T(a_user_hears_no_names_of_others),
		T(strangers_leave_room_for_those_with_a_role),
		T(who_connects_without_end_keeps_nobody_from_being_answered),
		T(who_changes_without_end_has_to_wait_and_nobody_else),
		T(who_asks_without_end_keeps_nobody_from_connecting),
		T(a_user_has_few_large_answers),
		T(everybody_who_renders_is_let_in),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
