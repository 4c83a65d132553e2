/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included by a test, this puts every thread that the code under test starts under the filter of its
 * kind (sandbox_table.c), so that what the tests make a thread do is what its entries must allow. A
 * call that is not listed ends the test program and is named on standard error.
 *
 * The test's own thread stays free, and paths stay open. With a sanitizer it does nothing.
 */
#ifndef TESTS_CONFINED_H
#define TESTS_CONFINED_H

#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/sandbox.h"

static void confined_thread(const char *kind)
{
	/* Guest memory is populated before a sandbox closes, by threads that are gone by then. */
	if (strcmp(kind, "populate") != 0)
		sandbox_thread(kind);
}

__attribute__((constructor)) static void confine_threads(void)
{
	struct error e = { 0 };

	if (SANDBOX_SANITIZED)
		return;
	if (sandbox_filters_make(&machine_sandbox, machine_sandbox_first(0), &e)) {
		error_print(&e, "confined");
		abort();
	}
	thread_set_hook(confined_thread);
}

#endif
