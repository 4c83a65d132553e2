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

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(a_deletion_that_was_refused_is_not_done_later),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
