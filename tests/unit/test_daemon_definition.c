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

/* The text stays the test's. */
static int row_take(void *opaque, struct store_instance *row)
{
	*(struct store_instance *)opaque = *row;
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
	char code[48], text[256];
	unsigned count = 0;
	struct store *store;
	uint32_t uid;

	world_define(w, "a", "plain", "");
	world_stop(w);
	store = store_of(w);
	assert_int_equal(store_instances(store, row_take, &row, NULL), 0);
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

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(a_deletion_that_was_refused_is_not_done_later),
		T(what_cannot_be_is_refused_and_leaves_nothing),
		T(there_are_no_more_instances_than_the_table_has_room_for),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
