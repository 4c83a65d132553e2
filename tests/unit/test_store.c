// SPDX-License-Identifier: Apache-2.0
/* The store: what is committed is there after a kill; what may never be is refused; what is broken is left as it is. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "instances/store/store_private.h"
#include "tests/unit/resources.h"

static char folder[64];

static int setup(void **state)
{
	strcpy(folder, "/tmp/divvy-store-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static struct store *opened(void)
{
	struct store *store;
	struct error e = { 0 };

	if (store_open(folder, &store, &e))
		fail_msg("%s: %s", e.code, e.text);
	return store;
}

static void put(struct store *store, const char *name, enum store_state state)
{
	struct store_instance i = { .image = strdup("/images/a"),
				    .definition = strdup("{}"),
				    .request = strdup("{}"),
				    .state = state,
				    .exit_status = -1 };
	struct error e = { 0 };

	snprintf(i.name, sizeof(i.name), "%s", name);
	snprintf(i.uuid, sizeof(i.uuid), "uuid-%s", name);
	if (store_instance_put(store, &i, &e))
		fail_msg("%s: %s", e.code, e.text);
	store_instance_free(&i);
}

static int reserve(struct store *store, const char *instance, unsigned index, const char *gpu,
		   bool dedicated, uint32_t share_ppm, struct error *e)
{
	struct store_reservation r = { .index = index,
				       .dedicated = dedicated,
				       .share_ppm = share_ppm };

	strcpy(r.provider, dedicated ? "whole" : "vulkan");
	snprintf(r.instance, sizeof(r.instance), "%s", instance);
	snprintf(r.gpu, sizeof(r.gpu), "%s", gpu);
	return store_reservation_add(store, &r, e);
}

/* A slice: a virtual function @gpu of @parent, or, with a UUID, a mediated device of @gpu. */
static int reserve_slice(struct store *store, unsigned index, const char *gpu, const char *parent,
			 const char *mdev)
{
	struct store_reservation r = { .index = index, .dedicated = true };

	strcpy(r.instance, "a");
	strcpy(r.provider, mdev[0] ? "mdev" : "sriov");
	snprintf(r.gpu, sizeof(r.gpu), "%s", gpu);
	snprintf(r.parent, sizeof(r.parent), "%s", parent);
	snprintf(r.mdev, sizeof(r.mdev), "%s", mdev);
	return store_reservation_add(store, &r, NULL);
}

static int count_instance(void *count, struct store_instance *instance)
{
	assert_string_equal(instance->image, "/images/a");
	++*(unsigned *)count;
	return 0;
}

static unsigned instances(struct store *store)
{
	unsigned count = 0;

	assert_int_equal(store_instances(store, count_instance, &count, NULL), 0);
	return count;
}

static int count_reservation(void *count, const struct store_reservation *reservation)
{
	++*(unsigned *)count;
	return 0;
}

static unsigned reservations(struct store *store)
{
	unsigned count = 0;

	assert_int_equal(store_reservations(store, count_reservation, &count, NULL), 0);
	return count;
}

static void what_was_written_is_read_again(void **state)
{
	const unsigned fds = count_fds();
	struct store *store = opened();

	put(store, "a", STORE_RUNNING);
	put(store, "b", STORE_DEFINED);
	put(store, "b", STORE_STOPPED);
	store_close(store);
	store = opened();
	assert_int_equal(instances(store), 2);
	assert_int_equal(store_instance_delete(store, "b", NULL), 0);
	assert_int_equal(instances(store), 1);
	store_close(store);
	assert_int_equal(count_fds(), fds);
}

/* A child writes and says how far it is; it is killed in between. */
static void what_was_committed_outlives_a_kill(void **state)
{
	for (unsigned round = 0; round < 20; round++) {
		int pipe_fds[2];
		uint32_t said = 0, one;
		struct store *store;
		pid_t child;

		assert_int_equal(pipe(pipe_fds), 0);
		child = fork();
		assert_true(child >= 0);
		if (!child) {
			struct store *own;
			char name[32];

			if (store_open(folder, &own, NULL))
				_exit(1);
			for (uint32_t i = 1;; i++) {
				struct store_credit credit = { .usage_ns = i };

				snprintf(name, sizeof(name), "%u-%u", round, i);
				snprintf(credit.instance, sizeof(credit.instance), "%s", name);
				if (store_begin(own, NULL))
					_exit(1);
				put(own, name, STORE_DEFINED);
				if (store_credit_put(own, &credit, NULL) ||
				    store_commit(own, NULL) ||
				    write(pipe_fds[1], &i, sizeof(i)) != sizeof(i))
					_exit(1);
			}
		}
		close(pipe_fds[1]);
		for (unsigned i = 0; i < 3 + round % 5; i++)
			assert_int_equal(read(pipe_fds[0], &one, sizeof(one)), sizeof(one));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		said = one;
		while (read(pipe_fds[0], &one, sizeof(one)) == sizeof(one))
			said = one;
		close(pipe_fds[0]);

		store = opened();
		for (uint32_t i = 1; i <= said; i++) {
			char name[32];
			int64_t found = 0;
			sqlite3_stmt *row;

			snprintf(name, sizeof(name), "%u-%u", round, i);
			assert_int_equal(
				sqlite3_prepare_v2(
					store->db,
					"SELECT count(*) FROM instances JOIN credits ON name = instance WHERE name = ?",
					-1, &row, NULL),
				SQLITE_OK);
			sqlite3_bind_text(row, 1, name, -1, SQLITE_TRANSIENT);
			assert_int_equal(sqlite3_step(row), SQLITE_ROW);
			found = sqlite3_column_int64(row, 0);
			sqlite3_finalize(row);
			assert_int_equal(found, 1);
		}
		assert_int_equal(store_check(store, NULL), 0);
		store_close(store);
	}
}

static void a_gpu_is_never_given_whole_twice_or_whole_and_shared(void **state)
{
	struct store *store = opened();
	struct error e = { 0 };

	put(store, "a", STORE_DEFINED);
	put(store, "b", STORE_DEFINED);
	assert_int_equal(reserve(store, "a", 0, "g0", true, 0, &e), 0);
	assert_int_equal(reserve(store, "b", 0, "g0", true, 0, &e), -EBUSY);
	assert_string_equal(e.code, "gpu-taken");
	assert_int_equal(reserve(store, "b", 0, "g0", false, 1, &e), -EBUSY);
	assert_int_equal(reserve(store, "b", 0, "g1", false, 600000, &e), 0);
	assert_int_equal(reserve(store, "a", 1, "g1", true, 0, &e), -EBUSY);
	assert_int_equal(reserve(store, "a", 1, "g1", false, 400001, &e), -EBUSY);
	assert_int_equal(reserve(store, "a", 1, "g1", false, 400000, &e), 0);
	assert_int_equal(reserve(store, "nobody", 0, "g2", true, 0, &e), -EBUSY);
	assert_int_equal(reservations(store), 3);
	/* With the instance goes what it had. */
	assert_int_equal(store_instance_delete(store, "a", NULL), 0);
	assert_int_equal(reservations(store), 1);
	assert_int_equal(reserve(store, "b", 1, "g0", true, 0, &e), 0);
	store_close(store);
}

static void a_gpu_in_slices_is_nothing_else(void **state)
{
	struct store *store = opened();

	put(store, "a", STORE_DEFINED);
	/* Virtual functions: each once, their GPU neither whole nor by its time; and the other way round. */
	assert_int_equal(reserve_slice(store, 0, "vf0", "pf", ""), 0);
	assert_int_equal(reserve_slice(store, 1, "vf0", "pf", ""), -EBUSY);
	assert_int_equal(reserve_slice(store, 1, "vf1", "pf", ""), 0);
	assert_int_equal(reserve(store, "a", 2, "vf0", false, 1, NULL), -EBUSY);
	assert_int_equal(reserve(store, "a", 2, "pf", true, 0, NULL), -EBUSY);
	assert_int_equal(reserve(store, "a", 2, "pf", false, 1, NULL), -EBUSY);
	assert_int_equal(reserve(store, "a", 2, "pf2", false, 1, NULL), 0);
	assert_int_equal(reserve_slice(store, 3, "vf2", "pf2", ""), -EBUSY);
	assert_int_equal(reserve_slice(store, 3, "vf2", "pf2", "u9"), -EBUSY);
	/* Mediated devices: several of a GPU, each with a UUID of its own, and nothing else of it. */
	assert_int_equal(reserve_slice(store, 3, "g0", "", "u0"), 0);
	assert_int_equal(reserve_slice(store, 4, "g0", "", "u0"), -EBUSY);
	assert_int_equal(reserve_slice(store, 4, "g1", "", "u0"), -EBUSY);
	assert_int_equal(reserve_slice(store, 4, "g0", "", "u1"), 0);
	assert_int_equal(reserve(store, "a", 5, "g0", true, 0, NULL), -EBUSY);
	assert_int_equal(reserve(store, "a", 5, "g0", false, 1, NULL), -EBUSY);
	assert_int_equal(reserve(store, "a", 5, "g1", true, 0, NULL), 0);
	assert_int_equal(reserve_slice(store, 6, "g1", "", "u2"), -EBUSY);
	assert_int_equal(reserve_slice(store, 6, "vf1", "pf", "u2"), -EBUSY);
	assert_int_equal(reservations(store), 6);
	store_close(store);
}

static int is_whole(void *count, const struct store_reservation *r)
{
	assert_string_equal(r->provider, r->dedicated ? "whole" : "vulkan");
	++*(unsigned *)count;
	return 0;
}

/* From version 4 back to 2. */
static const char before_slices[] =
	"ALTER TABLE credits DROP COLUMN seen_ns;"
	"DROP TRIGGER reservation_one; DROP INDEX reservation_mdev; DROP INDEX reservation_parent;"
	"ALTER TABLE reservations DROP COLUMN mdev; ALTER TABLE reservations DROP COLUMN parent;"
	"ALTER TABLE reservations DROP COLUMN provider;"
	"CREATE TRIGGER reservation_whole BEFORE INSERT ON reservations"
	" WHEN EXISTS (SELECT 1 FROM reservations WHERE gpu = NEW.gpu AND (dedicated OR NEW.dedicated))"
	" BEGIN SELECT RAISE (ABORT, 'the GPU is another''s, whole or in part'); END;"
	"PRAGMA user_version = 2";

static void a_store_of_before_slices_is_brought_up(void **state)
{
	struct store *store = opened();
	unsigned count = 0;

	put(store, "a", STORE_RUNNING);
	assert_int_equal(reserve(store, "a", 0, "g0", true, 0, NULL), 0);
	assert_int_equal(reserve(store, "a", 1, "g1", false, 500000, NULL), 0);
	assert_int_equal(sqlite3_exec(store->db, before_slices, NULL, NULL, NULL), SQLITE_OK);
	store_close(store);
	store = opened();
	assert_int_equal(store_reservations(store, is_whole, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_int_equal(reserve(store, "a", 2, "g0", false, 1, NULL), -EBUSY);
	assert_int_equal(reserve_slice(store, 2, "g1", "", "u0"), -EBUSY);
	store_close(store);
}

static void a_gpu_has_one_lease_at_a_time(void **state)
{
	struct store *store = opened();
	struct store_lease lease = { .gpu = "g0", .instance = "a", .uuid = "u", .begun_ms = 5 };
	struct error e = { 0 };

	assert_int_equal(store_lease_begin(store, &lease, &e), 0);
	assert_int_equal(store_lease_begin(store, &lease, &e), 0); /* the same one again */
	strcpy(lease.uuid, "other");
	assert_int_equal(store_lease_begin(store, &lease, &e), -EBUSY);
	assert_int_equal(store_lease_end(store, &lease, &e), 0);
	assert_int_equal(store_lease_begin(store, &lease, &e), 0);
	store_close(store);
}

static void a_transaction_is_all_or_nothing(void **state)
{
	struct store *store = opened();
	int64_t id;

	assert_int_equal(store_begin(store, NULL), 0);
	put(store, "a", STORE_DEFINED);
	assert_int_equal(store_change_begin(store, "start", "a", "", &id, NULL), 0);
	store_rollback(store);
	assert_int_equal(instances(store), 0);
	assert_int_equal(store_begin(store, NULL), 0);
	put(store, "a", STORE_DEFINED);
	store_close(store);
	store = opened();
	assert_int_equal(instances(store), 0);
	store_close(store);
}

static int last_change(void *id, const struct store_change *change)
{
	*(int64_t *)id = change->id;
	return 0;
}

static void an_open_change_is_found_again(void **state)
{
	struct store *store = opened();
	int64_t id, found = 0;

	assert_int_equal(store_change_begin(store, "bind", "a", "g0", &id, NULL), 0);
	store_close(store);
	store = opened();
	assert_int_equal(store_changes_open(store, last_change, &found, NULL), 0);
	assert_int_equal(found, id);
	assert_int_equal(store_change_end(store, id, "done", NULL), 0);
	found = 0;
	assert_int_equal(store_changes_open(store, last_change, &found, NULL), 0);
	assert_int_equal(found, 0);
	store_close(store);
}

static void a_second_process_is_told_who_has_it(void **state)
{
	struct store *store = opened(), *other;
	struct error e = { 0 };
	char expected[32];
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	snprintf(expected, sizeof(expected), "process %d has it", getppid());
	if (!child) {
		snprintf(expected, sizeof(expected), "process %d has it", getppid());
		_exit(store_open(folder, &other, &e) == -EBUSY && !strcmp(e.code, "store-in-use") &&
				      strstr(e.text, expected)
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	/* A child that outlives us keeps nobody out. */
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		pause();
		_exit(0);
	}
	store_close(store);
	store = opened();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	store_close(store);
}

static void file_path(char path[96])
{
	snprintf(path, 96, "%s/state.db", folder);
}

/* Every kind of damage is refused in words, and not one byte of it is changed. */
static void a_broken_store_is_refused_and_left_alone(void **state)
{
	char path[96], before[4096] = { 0 }, after[4096] = { 0 };
	static const struct {
		off_t at;
		size_t count;
		off_t cut; /* -1: none */
	} damages[] = {
		{ 0, 100, -1 }, { 0, 0, 0 }, { 0, 0, 5000 }, { 4096, 4000, -1 }, { 68, 4, -1 }
	};

	file_path(path);
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		char noise[4096];
		struct store *store = opened();
		struct error e = { 0 };
		struct stat st[2];
		int fd;

		put(store, "a", STORE_DEFINED);
		store_close(store);
		memset(noise, 0xa5, sizeof(noise));
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(pwrite(fd, noise, damages[i].count, damages[i].at),
				 damages[i].count);
		if (damages[i].cut >= 0)
			assert_int_equal(ftruncate(fd, damages[i].cut), 0);
		assert_int_equal(fstat(fd, &st[0]), 0);
		assert_true(pread(fd, before, sizeof(before), 0) >= 0);
		assert_true(store_open(folder, &store, &e) < 0);
		if (strcmp(e.code, "store-corrupt"))
			fail_msg("damage %u: %s: %s", i, e.code, e.text);
		assert_non_null(strstr(e.next, "divvy backup"));
		assert_true(pread(fd, after, sizeof(after), 0) >= 0);
		assert_int_equal(fstat(fd, &st[1]), 0);
		assert_int_equal(st[0].st_size, st[1].st_size);
		assert_memory_equal(before, after, sizeof(before));
		close(fd);
		unlink(path);
	}
}

static void a_newer_store_is_not_touched(void **state)
{
	struct store *store = opened();
	struct error e = { 0 };

	assert_int_equal(sqlite3_exec(store->db, "PRAGMA user_version = 99", NULL, NULL, NULL), 0);
	store_close(store);
	assert_int_equal(store_open(folder, &store, &e), -ENOTSUP);
	assert_string_equal(e.code, "store-newer");
}

static void a_backup_is_a_store(void **state)
{
	struct store *store = opened();
	struct error e = { 0 };
	char path[96], copy[96], command[512];
	uint64_t bytes = 0;

	put(store, "a", STORE_RUNNING);
	snprintf(copy, sizeof(copy), "%s/copy", folder);
	assert_int_equal(store_backup(store, copy, &bytes, &e), 0);
	assert_true(bytes > 0);
	assert_int_equal(store_backup(store, copy, NULL, &e), -EEXIST);
	assert_string_equal(e.code, "backup-exists");
	put(store, "b", STORE_RUNNING);
	store_close(store);
	/* As the page says: the copy in its place. */
	file_path(path);
	snprintf(command, sizeof(command), "rm -f %s-wal %s-shm; cp %s %s", path, path, copy, path);
	assert_int_equal(system(command), 0);
	store = opened();
	assert_int_equal(instances(store), 1);
	assert_int_equal(store_backup(store, "/nowhere/at/all", NULL, &e), -ENOENT);
	assert_string_equal(e.text, "/nowhere/at/all: No such file or directory");
	assert_string_equal(e.next, "ls -ld /nowhere/at");
	store_close(store);
	/* Nothing is left of the copying. */
	snprintf(command, sizeof(command), "ls %s | grep -c copy", folder);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof(command), "test $(ls %s | grep -c copy) = 1", folder);
	assert_int_equal(system(command), 0);
}

/* A file that may not grow is a disk that is full. */
static void a_full_disk_refuses_the_change_and_loses_nothing(void **state)
{
	struct rlimit old, small;
	struct store *store;
	struct error e = { 0 };
	char large[60000];
	struct store_instance i = { .name = "large", .uuid = "l", .exit_status = -1 };
	unsigned put_before = 0;
	int err = 0;

	store = opened();
	put(store, "a", STORE_RUNNING);
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	i.image = strdup("/images/a");
	i.definition = strdup(large);
	i.request = strdup("{}");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 300000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (; put_before < 50 && !err; put_before++) {
		snprintf(i.name, sizeof(i.name), "large-%u", put_before);
		snprintf(i.uuid, sizeof(i.uuid), "l-%u", put_before);
		err = store_instance_put(store, &i, &e);
	}
	put_before--;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_true(err < 0);
	assert_true(put_before > 0);
	assert_int_equal(instances(store), 1 + put_before);
	assert_int_equal(store_check(store, NULL), 0);
	put(store, "later", STORE_DEFINED);
	store_close(store);
	store = opened();
	assert_int_equal(instances(store), 2 + put_before);
	store_close(store);
	store_instance_free(&i);
}

static int count_event(void *count, const struct store_event *event)
{
	++*(unsigned *)count;
	return 0;
}

static void events_are_kept_up_to_a_bound(void **state)
{
	struct store *store = opened();
	struct store_event event = { .kind = "gpu", .code = "x" };
	unsigned count = 0;

	assert_int_equal(store_begin(store, NULL), 0);
	for (unsigned i = 0; i < STORE_EVENTS_KEPT + 50; i++)
		assert_int_equal(store_event_add(store, &event, NULL), 0);
	assert_int_equal(store_commit(store, NULL), 0);
	assert_int_equal(store_events(store, 0, 1000000, count_event, &count, NULL), 0);
	assert_in_range(count, STORE_EVENTS_KEPT, STORE_EVENTS_KEPT + 100);
	count = 0;
	assert_int_equal(store_events(store, event.id - 3, 1000000, count_event, &count, NULL), 0);
	assert_int_equal(count, 3);
	store_close(store);
}

#define MANY 100000u

static void rows_make(struct store *store, const char *sql)
{
	assert_int_equal(store_do(store, NULL, NULL, NULL, sql, "i", (int64_t)MANY), 0);
}

static int one_count(void *count, sqlite3_stmt *row)
{
	*(unsigned *)count = (unsigned)sqlite3_column_int(row, 0);
	return 0;
}

static unsigned rows(struct store *store, const char *sql)
{
	unsigned count = 0;

	assert_int_equal(store_do(store, NULL, one_count, &count, sql, ""), 0);
	return count;
}

static bool launch(struct store *store, uint32_t owner, int64_t now_ms, unsigned limit)
{
	bool given;

	assert_int_equal(store_launch(store, owner, now_ms, limit, &given, NULL), 0);
	return given;
}

static void initial_credits_are_had_so_often_a_day_whatever_the_clock_does(void **state)
{
	const int64_t hour = INT64_C(3600) * 1000, t = 1000 * hour;
	struct store *store = opened();

	assert_false(launch(store, 1, t, 0));
	for (unsigned i = 0; i < 3; i++)
		assert_true(launch(store, 1, t + i * hour, 3));
	assert_false(launch(store, 1, t + 3 * hour, 3));
	assert_true(launch(store, 2, t + 3 * hour, 3)); /* somebody else */
	/* It is a window, not a day of the calendar; and the store was closed meanwhile. */
	store_close(store);
	store = opened();
	assert_false(launch(store, 1, t + 24 * hour - 1, 3));
	assert_true(launch(store, 1, t + 24 * hour, 3));
	assert_false(launch(store, 1, t + 24 * hour, 3));
	assert_true(launch(store, 1, t + 25 * hour, 3));
	assert_false(launch(store, 1, t + 25 * hour, 3));
	/* Years back: neither more of them at once, nor none for years. */
	assert_false(launch(store, 1, t - 50000 * hour, 3));
	assert_false(launch(store, 1, t - 50000 * hour + 24 * hour - 1, 3));
	for (unsigned i = 0; i < 3; i++)
		assert_true(launch(store, 1, t - 50000 * hour + 24 * hour, 3));
	assert_false(launch(store, 1, t - 50000 * hour + 24 * hour, 3));
	/* And ahead. */
	for (unsigned i = 0; i < 3; i++)
		assert_true(launch(store, 1, t + 50000 * hour, 3));
	assert_false(launch(store, 1, t + 50000 * hour, 3));
	assert_int_equal(rows(store, "SELECT count(*) FROM launches"), 3);
	store_close(store);
}

static void a_store_of_an_older_version_becomes_one_of_this(void **state)
{
	struct store *store = opened();

	put(store, "a", STORE_RUNNING);
	assert_int_equal(sqlite3_exec(store->db, before_slices, NULL, NULL, NULL), 0);
	assert_int_equal(sqlite3_exec(store->db, "DROP TABLE launches; PRAGMA user_version = 1",
				      NULL, NULL, NULL),
			 0);
	store_close(store);
	store = opened();
	assert_int_equal(rows(store, "PRAGMA user_version"), STORE_VERSION);
	assert_int_equal(instances(store), 1);
	assert_true(launch(store, 1, 1, 1));
	store_close(store);
}

/* A store of before, in which nothing was ever thrown away. */
static void a_hundred_thousand_rows_shrink_step_by_step(void **state)
{
	static const char numbers[] =
		"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?)";
	struct store_event event = { .kind = "gpu", .code = "x" };
	struct store_lease lease = { .gpu = "g1", .instance = "a", .uuid = "u", .begun_ms = 5 };
	struct store *store = opened();
	unsigned before, now, turns = 0;
	char sql[600];

	snprintf(sql, sizeof(sql),
		 "%s INSERT INTO events (at_ms, kind, code, instance, gpu, owner, text)"
		 " SELECT i, 'gpu', 'x', '', 'g0', 0, 'what happened' FROM n",
		 numbers);
	rows_make(store, sql);
	/* The oldest of all is open. */
	snprintf(
		sql, sizeof(sql),
		"%s INSERT INTO leases (gpu, instance, uuid, owner, begun_ms, ended_ms, resets, bound, link_before, link_after,"
		" verdict) SELECT 'g0', 'i', 'u', 0, i, CASE i WHEN 1 THEN 0 ELSE i END, 0, 0, '', '', 'good' FROM n",
		numbers);
	rows_make(store, sql);
	store_keep(store, 2000, 1000);

	for (before = MANY; before > 2000 + 100; before = now, turns++) {
		assert_int_equal(store_begin(store, NULL), 0);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(store_event_add(store, &event, NULL), 0);
		assert_int_equal(store_commit(store, NULL), 0);
		now = rows(store, "SELECT count(*) FROM events");
		assert_true(now < before && before - now <= 500);
	}
	assert_in_range(turns, (MANY - 2000) / 500, (MANY - 2000) / 400 + 1);
	assert_int_equal(rows(store, "SELECT max(id) - min(id) + 1 - count(*) FROM events"), 0);

	for (before = MANY; before > 1000 + 1; before = now) {
		assert_int_equal(store_lease_begin(store, &lease, NULL), 0);
		lease.ended_ms = 9;
		assert_int_equal(store_lease_end(store, &lease, NULL), 0);
		now = rows(store, "SELECT count(*) FROM leases");
		assert_true(now < before && before - now <= 500);
	}
	assert_int_equal(now, 1000 + 1);
	assert_int_equal(rows(store, "SELECT count(*) FROM leases WHERE id = 1 AND ended_ms = 0"),
			 1);
	assert_int_equal(rows(store, "SELECT count(*) FROM leases WHERE gpu = 'g1'"),
			 MIN(now, (MANY - 1000) / 499 + 1));
	assert_int_equal(store_check(store, NULL), 0);
	store_close(store);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_written_is_read_again),
		T(what_was_committed_outlives_a_kill),
		T(a_gpu_is_never_given_whole_twice_or_whole_and_shared),
		T(a_gpu_in_slices_is_nothing_else),
		T(a_store_of_before_slices_is_brought_up),
		T(a_gpu_has_one_lease_at_a_time),
		T(a_transaction_is_all_or_nothing),
		T(an_open_change_is_found_again),
		T(a_second_process_is_told_who_has_it),
		T(a_broken_store_is_refused_and_left_alone),
		T(a_newer_store_is_not_touched),
		T(a_backup_is_a_store),
		T(a_full_disk_refuses_the_change_and_loses_nothing),
		T(events_are_kept_up_to_a_bound),
		T(initial_credits_are_had_so_often_a_day_whatever_the_clock_does),
		T(a_store_of_an_older_version_becomes_one_of_this),
		T(a_hundred_thousand_rows_shrink_step_by_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
