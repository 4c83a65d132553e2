// SPDX-License-Identifier: Apache-2.0
/* What an instance is to be, and whether it is: what was refused changes nothing, then or later; what runs is what it was started as. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/daemon_world.h"

static void a_deletion_that_was_refused_is_not_done_later(void **state)
{
	struct world *w = *state;
	unsigned status = 0;
	char path[200];

	snprintf(path, sizeof(path), "%s/state/instances/a/disk0.img", w->folder);
	world_define(w, "a", "plain", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	for (unsigned nth = 1; status != 204; nth++) {
		world_store_fails(w, nth);
		status = world_ask(w, "DELETE", "instances/a", NULL, NULL);
		world_store_fails(w, 0);
		assert_true(nth > 1 || status != 204);
		world_stop(w);
		assert_true(world_start(w, NULL));
		assert_true(world_is(w, "a", status == 204 ? "gone" : "stopped"));
		assert_int_equal(access(path, F_OK), status == 204 ? -1 : 0);
	}
	world_stop(w);
	world_check_empty(w);
}

/* As somebody asks for it; the answer's error. "": none. */
static unsigned put(const struct world *w, const char *name, const char *type, const char *more,
		    char code[48], char text[256])
{
	char resource[64], body[400];
	json_t *answer = NULL, *error;
	unsigned status;

	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"%s\",\"image\":\"%s/images/a\"%s}", type,
		 w->folder, more);
	status = world_ask(w, "PUT", resource, body, &answer);
	error = json_object_get(answer, "error");
	snprintf(code, 48, "%s",
		 status < 400 ? "" : json_string_value(json_object_get(error, "code")));
	snprintf(text, 256, "%s",
		 status < 400 ? "" : json_string_value(json_object_get(error, "text")));
	json_decref(answer);
	return status;
}

static void what_cannot_be_is_refused_and_leaves_nothing(void **state)
{
	static const char heads[] = ",\"displays\":[{\"width\":1024,\"height\":768}]";
	struct world *w = *state;
	char code[48], text[256];

	/* A whole GPU has no heads of ours. */
	assert_int_equal(put(w, "a", "whole", heads, code, text), 400);
	assert_string_equal(code, "bad-definition");
	assert_non_null(strstr(text, "displays"));
	world_expect(w, "GET", "instances/a", NULL, 404u);
	/* Others still get a user of their own, and so does its name. */
	assert_int_equal(put(w, "b", "whole", "", code, text), 201);
	assert_int_equal(put(w, "a", "quarter", heads, code, text), 201);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "b", "running");
	assert_int_equal(put(w, "b", "whole", heads, code, text), 400);
	assert_non_null(strstr(text, "displays"));
	world_stop(w);
	assert_true(world_start(w, NULL));
	assert_true(world_is(w, "b", "running"));
	world_do(w, "b", "stop", "{\"force\":true}", 202);
	world_await(w, "b", "stopped");
	/* What cannot be written down is not there either. */
	world_store_fails(w, 1);
	assert_true(put(w, "c", "plain", "", code, text) >= 400);
	world_store_fails(w, 0);
	world_expect(w, "GET", "instances/c", NULL, 404u);
	world_stop(w);
	assert_true(world_start(w, NULL));
	world_expect(w, "GET", "instances/c", NULL, 404u);
	world_stop(w);
	world_check_empty(w);
}

/* ---- what is in the store already ------------------------------------------------------------------ */

static struct store *store_of(const struct world *w)
{
	struct store *store;
	struct error e = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/state", w->folder);
	if (store_open(path, &store, &e))
		fail_msg("%s", e.text);
	return store;
}

struct row_list {
	struct store_instance *rows;
	unsigned count;
};

/* What the row points to is the test's now. */
static int row_add(void *opaque, struct store_instance *row)
{
	struct row_list *list = opaque;

	list->rows[list->count++] = *row;
	memset(row, 0, sizeof(*row));
	return 0;
}

static int row_count(void *opaque, struct store_instance *row)
{
	++*(unsigned *)opaque;
	return 0;
}

#define MOST 4096 /* instances of a node: docs/divvyd.md */

/* And one more that was written down when that was not looked at first: it keeps what it has. */
static void there_are_no_more_instances_than_the_table_has_room_for(void **state)
{
	struct world *w = *state;
	struct store_instance row = { 0 };
	struct row_list list = { .rows = &row };
	char code[48], text[256];
	unsigned count = 0;
	struct store *store;
	uint32_t uid;

	world_define(w, "a", "plain", "");
	world_stop(w);
	store = store_of(w);
	assert_int_equal(store_instances(store, row_add, &list, NULL), 0);
	assert_int_equal(store_begin(store, NULL), 0);
	uid = row.uid;
	assert_int_equal(store_instance_delete(store, "a", NULL), 0);
	for (unsigned i = 0; i <= MOST; i++) {
		snprintf(row.name, sizeof(row.name), "i%04u", i);
		snprintf(row.uuid, sizeof(row.uuid), "00000000-0000-4000-8000-%012u", i);
		row.uid = i == MOST ? uid : 0;
		assert_int_equal(store_instance_put(store, &row, NULL), 0);
	}
	assert_int_equal(store_commit(store, NULL), 0);
	store_close(store);
	store_instance_free(&row);
	assert_true(world_start(w, NULL));
	assert_int_equal(put(w, "one-more", "plain", "", code, text), 409);
	assert_string_equal(code, "too-many-instances");
	world_expect(w, "DELETE", "instances/i0007", NULL, 204u);
	assert_int_equal(put(w, "one-more", "plain", "", code, text), 201);
	assert_int_equal(put(w, "two-more", "plain", "", code, text), 409);
	assert_string_equal(code, "too-many-instances");
	world_stop(w);
	store = store_of(w);
	assert_int_equal(store_instances(store, row_count, &count, NULL), 0);
	store_close(store);
	assert_int_equal(count, MOST + 1);
}

/* A row as a newer Divvy would have written it, also of what it was started as; or with @text. Returns what was there, malloc()ed. */
static char *redefine(const struct world *w, const char *name, const char *text)
{
	struct store_instance rows[8] = { 0 }, *row = NULL;
	struct row_list list = { .rows = rows };
	struct store *store = store_of(w);
	json_t *json;
	char *old;

	assert_int_equal(store_instances(store, row_add, &list, NULL), 0);
	for (unsigned i = 0; i < list.count; i++)
		if (!strcmp(rows[i].name, name))
			row = &rows[i];
	assert_non_null(row);
	old = row->definition;
	json = json_loads(old, 0, NULL);
	json_object_set_new(json, "of-tomorrow", json_true());
	row->definition = text ? strdup(text) : json_dumps(json, 0);
	if (row->placement) {
		json_t *placement = json_loads(row->placement, 0, NULL);

		json_object_set(placement, "definition", json);
		free(row->placement);
		row->placement = json_dumps(placement, 0);
		json_decref(placement);
	}
	json_decref(json);
	assert_int_equal(store_instance_put(store, row, NULL), 0);
	for (unsigned i = 0; i < list.count; i++)
		store_instance_free(&rows[i]);
	store_close(store);
	return old;
}

static void has_bad_definition(const struct world *w, const char *name)
{
	json_t *body, *error;

	world_await(w, name, "failed");
	body = world_instance(w, name);
	error = json_object_get(body, "error");
	assert_string_equal(json_string_value(json_object_get(error, "code")), "bad-definition");
	assert_true(strlen(json_string_value(json_object_get(error, "next"))) > 5);
	json_decref(body);
}

/* As after going back to an older version, or with a damaged row. */
static void one_whose_definition_cannot_be_read_is_there_and_in_nobodys_way(void **state)
{
	struct world *w = *state;
	char code[48], text[256], reset[64], *old;
	json_t *body;

	world_define(w, "newer", "whole", "");
	world_define(w, "damaged", "plain", "");
	world_define(w, "again", "quarter", ",\"restart\":\"on-failure\"");
	world_do(w, "newer", "start", NULL, 202);
	world_do(w, "again", "start", NULL, 202);
	world_await(w, "newer", "running");
	world_await(w, "again", "running");
	fake_sysfs_device_write(&w->fs, WORLD_GPU_A, "reset", "0\n");
	fake_sysfs_device_write(&w->fs, WORLD_GPU_B, "reset", "0\n");
	world_kill(w);
	free(redefine(w, "newer", NULL));
	free(redefine(w, "damaged", "{"));
	old = redefine(w, "again", NULL);
	assert_true(world_start(w, NULL));
	/* One that had something is taken down like any other. */
	has_bad_definition(w, "newer");
	has_bad_definition(w, "damaged");
	has_bad_definition(w, "again");
	assert_int_equal(world_processes(w, false), 0);
	fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_A "/reset", reset, sizeof(reset));
	if (strcmp(reset, "1") != 0)
		fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_B "/reset", reset,
				sizeof(reset));
	assert_string_equal(reset, "1");
	world_define(w, "other", "pair", "");
	world_do(w, "other", "start", NULL, 202);
	world_await(w, "other", "running");
	world_do(w, "other", "stop", "{\"force\":true}", 202);
	world_await(w, "other", "stopped");
	/* It is all there, as far as it can be shown. */
	body = world_instance(w, "newer");
	assert_true(json_is_object(json_object_get(body, "definition")));
	json_decref(body);
	body = world_instance(w, "damaged");
	assert_true(json_is_null(json_object_get(body, "definition")));
	json_decref(body);
	world_expect(w, "GET", "instances", NULL, 200u);
	world_do(w, "newer", "start", NULL, 409);
	world_do(w, "damaged", "stop", NULL, 200);
	world_expect(w, "PATCH", "instances/again/share", "{\"weight\":5}", 409u);
	/* Defined anew, if only as it was, it can be had again; or deleted. */
	assert_int_equal(put(w, "newer", "whole", "", code, text), 200);
	assert_true(world_is(w, "newer", "stopped"));
	world_do(w, "newer", "start", NULL, 202);
	world_await(w, "newer", "running");
	world_do(w, "newer", "stop", "{\"force\":true}", 202);
	world_await(w, "newer", "stopped");
	world_expect(w, "DELETE", "instances/damaged", NULL, 204u);
	/* The newer version is back: what was to run does. */
	world_stop(w);
	free(redefine(w, "again", old));
	free(old);
	assert_true(world_start(w, NULL));
	world_await(w, "again", "running");
	world_do(w, "again", "stop", "{\"force\":true}", 202);
	world_await(w, "again", "stopped");
	world_stop(w);
	world_check_empty(w);
}

/* ---- what runs ------------------------------------------------------------------------------------- */

static size_t viewers(const struct world *w, const char *name)
{
	json_t *body = world_instance(w, name);
	const size_t count = json_array_size(json_object_get(body, "viewers"));

	json_decref(body);
	return count;
}

static void what_runs_is_what_it_was_started_as_over_a_restart_of_the_daemon(void **state)
{
	static const char heads[] = ",\"displays\":[{\"width\":800,\"height\":600},"
				    "{\"width\":800,\"height\":600}]";
	struct world *w = *state;
	char code[48], text[256];

	world_define(w, "a", "quarter", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	assert_int_equal(put(w, "a", "quarter", heads, code, text), 200);
	assert_int_equal(viewers(w, "a"), 1);
	for (unsigned round = 0; round < 2; round++) {
		world_kill(w);
		assert_true(world_start(w, NULL));
		assert_true(world_is(w, "a", "running"));
		assert_int_equal(viewers(w, "a"), 1);
	}
	world_do(w, "a", "restart", "{\"force\":true}", 202);
	world_await(w, "a", "running");
	assert_int_equal(viewers(w, "a"), 2);
}

/* What was measured and judged is what is cloned. */
static void an_image_that_is_changed_while_it_starts_is_for_its_next_start(void **state)
{
	static const char words[] = "kernel vmlinuz\ndisk disk.img\n";
	struct world *w = *state;
	char body[300], path[200], other[200], content[64] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/images/b", w->folder);
	assert_int_equal(mkdir(path, 0755), 0);
	world_write(w, "images/b/guest.conf", words);
	world_write(w, "images/b/vmlinuz", "kernel");
	world_write(w, "images/b/disk.img", "another's, and much larger");
	world_define(w, "a", "plain", "");
	/* It takes its time to be measured. */
	snprintf(path, sizeof(path), "%s/images/a/guest.conf", w->folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	world_do(w, "a", "start", NULL, 202);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	snprintf(body, sizeof(body), "{\"type\":\"plain\",\"image\":\"%s/images/b\"}", w->folder);
	world_expect(w, "PUT", "instances/a", body, 200u);
	world_write(w, "images/a/new.conf", words);
	snprintf(other, sizeof(other), "%s/images/a/new.conf", w->folder);
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(write(fd, words, strlen(words)), strlen(words));
	close(fd);
	world_await(w, "a", "running");
	snprintf(path, sizeof(path), "%s/state/instances/a/disk0.img", w->folder);
	assert_true(file_read(AT_FDCWD, path, content, sizeof(content)) > 0);
	assert_string_equal(content, "what was installed");
}

/* ---- what it was told to do ------------------------------------------------------------------------- */

/* It fails, and its GPU takes its time: the daemon dies meanwhile. */
static void a_restart_that_was_promised_is_kept_by_the_next_daemon(void **state)
{
	struct world *w = *state;
	char path[300];

	world_define(w, "a", "pair", "");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/reset", w->fs.root, WORLD_GPU_B);
	for (unsigned round = 0; round < 2; round++) {
		world_do(w, "a", "start", NULL, 202);
		world_await(w, "a", "running");
		assert_int_equal(unlink(path), 0);
		assert_int_equal(mkfifo(path, 0600), 0);
		kill(world_pid(w, "a", "vmm"), SIGKILL);
		world_await(w, "a", "stopping");
		if (round)
			world_do(w, "a", "restart", NULL, 202);
		world_kill(w);
		assert_int_equal(unlink(path), 0);
		fake_sysfs_device_write(&w->fs, WORLD_GPU_B, "reset", "0\n");
		assert_true(world_start(w, NULL));
		world_await(w, "a", round ? "running" : "failed");
		/* Where nobody said so it stays. */
		if (!round)
			usleep(1500000);
		assert_true(world_is(w, "a", round ? "running" : "failed"));
	}
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
}

/* PATCH; @text: what it said. */
static unsigned weigh(const struct world *w, unsigned weight, char text[512])
{
	json_t *answer = NULL;
	char body[32], *all;
	unsigned status;

	snprintf(body, sizeof(body), "{\"weight\":%u}", weight);
	status = world_ask(w, "PATCH", "instances/a/share", body, &answer);
	all = json_dumps(answer, JSON_COMPACT);
	snprintf(text, 512, "%s", all ? all : "");
	free(all);
	json_decref(answer);
	return status;
}

/* As the arbiter has it, of the only vGPU; 0: not said yet. */
static json_int_t weight_now(const struct world *w)
{
	json_t *body = NULL;
	json_int_t weight;

	assert_int_equal(world_ask(w, "GET", "vgpus", NULL, &body), 200);
	weight = json_integer_value(
		json_object_get(json_array_get(json_object_get(body, "vgpus"), 0), "weight"));
	json_decref(body);
	return weight;
}

static void weight_await(const struct world *w, json_int_t wanted)
{
	for (unsigned i = 0; i < 500 && weight_now(w) != wanted; i++)
		usleep(20000);
	assert_int_equal(weight_now(w), wanted);
}

static void a_weight_is_in_effect_and_written_down_or_neither(void **state)
{
	struct world *w = *state;
	char path[200], words[300], text[512];
	json_t *body;
	FILE *file;

	world_define(w, "a", "weighted", "");
	/* While it starts nobody knows whether its vGPU has it. */
	snprintf(path, sizeof(path), "%s/images/a/guest.conf", w->folder);
	file = fopen(path, "re");
	assert_non_null(file);
	words[fread(words, 1, sizeof(words) - 1, file)] = '\0';
	fclose(file);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	world_do(w, "a", "start", NULL, 202);
	assert_int_equal(weigh(w, 300, text), 409);
	assert_non_null(strstr(text, "instance-starting"));
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	assert_int_equal(unlink(path), 0);
	world_write(w, "images/a/guest.conf", words);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	weight_await(w, 100);

	world_store_fails(w, 1);
	assert_true(weigh(w, 300, text) >= 400);
	world_store_fails(w, 0);
	usleep(1500000);
	assert_int_equal(weight_now(w), 100);
	body = world_instance(w, "a");
	assert_true(json_is_null(json_object_get(body, "weight")));
	json_decref(body);
	assert_int_equal(weigh(w, 300, text), 200);
	weight_await(w, 300);
	/* Nobody is there to be told: that it is written down is said. */
	snprintf(path, sizeof(path), "%s/run/arbiter", w->folder);
	snprintf(words, sizeof(words), "%s.away", path);
	assert_int_equal(rename(path, words), 0);
	assert_true(weigh(w, 500, text) >= 400);
	assert_int_equal(rename(words, path), 0);
	assert_non_null(strstr(text, "its definition has the weight"));
	body = world_instance(w, "a");
	assert_int_equal(json_integer_value(json_object_get(body, "weight")), 500);
	json_decref(body);
	assert_int_equal(weigh(w, 500, text), 200);
	weight_await(w, 500);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(a_deletion_that_was_refused_is_not_done_later),
		T(what_cannot_be_is_refused_and_leaves_nothing),
		T(there_are_no_more_instances_than_the_table_has_room_for),
		T(one_whose_definition_cannot_be_read_is_there_and_in_nobodys_way),
		T(what_runs_is_what_it_was_started_as_over_a_restart_of_the_daemon),
		T(an_image_that_is_changed_while_it_starts_is_for_its_next_start),
		T(a_restart_that_was_promised_is_kept_by_the_next_daemon),
		T(a_weight_is_in_effect_and_written_down_or_neither),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
