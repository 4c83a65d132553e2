/* SPDX-License-Identifier: Apache-2.0 */
/* The VMM's table for the sandbox (base/sandbox.h): its kinds of threads. Private to hypervisor-glue/ and its tests. */
#ifndef GLUE_SANDBOX_H
#define GLUE_SANDBOX_H

#include "base/sandbox.h"

/* Kinds of threads, as bits; names are those of thread_create(). */
enum sandbox_kind {
	KIND_MAIN = 1 << 0,
	KIND_VCPU = 1 << 1,
	KIND_SERIAL = 1 << 2,
	KIND_RCU = 1 << 3,
	KIND_BLK = 1 << 4,
	KIND_NET = 1 << 5,
	KIND_CONSOLE = 1 << 6,
	KIND_RNG = 1 << 7,
	KIND_VSOCK = 1 << 8,
	KIND_USER = 1 << 9, /* reader of a vfio-user connection */
	KIND_RESET = 1 << 10,
};
#define SANDBOX_KINDS 11
/* What the first thread does besides, when an option asks for it. */
#define ROLE_CONTROL (1 << SANDBOX_KINDS)
#define ROLE_HOTPLUG (2 << SANDBOX_KINDS)
#define ROLE_CONSOLE (4 << SANDBOX_KINDS)
/* Begun by the first thread after its own filter, which therefore holds theirs. */
#define KINDS_BELOW_MAIN    (KIND_VCPU | KIND_SERIAL | KIND_RCU | KIND_RESET)
#define KINDS_BELOW_HOTPLUG (KIND_BLK | KIND_USER)

extern const struct sandbox_table machine_sandbox;
/* machine_sandbox_first() - what the first thread has besides (struct sandbox_options); @roles: ROLE_ bits. */
unsigned machine_sandbox_first(unsigned roles);

#endif
