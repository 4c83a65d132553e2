/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included by a test, this puts every thread that the code under test starts under the filter of its
 * kind (hypervisor-glue/sandbox_table.c, or mdev/sandbox_table.c), so that what the tests make a thread do is what its entries must allow. A
 * call that is not listed ends the test program and is named on standard error.
 *
 * The test's own thread stays free, and paths stay open. With a sanitizer it does nothing.
 */
#ifndef TESTS_CONFINED_H
#define TESTS_CONFINED_H

#include <stdlib.h>
#include <string.h>

#ifdef CONFINED_VGPU /* as threads of divvy-vgpu */
#include "mdev/jail.h"
#define CONFINED_TABLE vgpu_sandbox
#define CONFINED_FIRST vgpu_sandbox_first(true)
#else
#include "hypervisor-glue/sandbox.h"
#define CONFINED_TABLE machine_sandbox
#define CONFINED_FIRST machine_sandbox_first(0)
#endif

static void confined_thread(const char *kind)
{

	/* Guest memory is populated before a sandbox closes, by threads that are gone by then. */
	if (!strcmp(kind, "populate"))
		return;
#ifdef CONFINED_VGPU
	/* The reader of a VMM that the test plays beside it. */
	if (!strcmp(kind, "vfio-user"))
		return;
#endif
	sandbox_thread(kind);
}

__attribute__((constructor)) static void confine_threads(void)
{
	struct error e = { 0 };

	/* A program that starts itself again says so, where that one is to be another thing. */
	if (SANDBOX_SANITIZED || getenv("TEST_UNCONFINED"))
		return;
	sandbox_libraries_prepare();
	if (sandbox_filters_make(&CONFINED_TABLE, CONFINED_FIRST, &e)) {
		error_print(&e, "confined");
		abort();
	}
	thread_set_hook(confined_thread);
}

#endif
