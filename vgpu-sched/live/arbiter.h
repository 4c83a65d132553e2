/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arbiter: the scheduler's core, live. It accepts launchers and workers on a UNIX socket, gives grants in their shared pages,
 * and charges what they used. A library over the caller's sd-event loop. Private to vgpu-sched/.
 */
#ifndef VGPU_SCHED_LIVE_ARBITER_H
#define VGPU_SCHED_LIVE_ARBITER_H

#include <systemd/sd-event.h>

#include "vgpu-sched/vgpu-sched.h"

#define ARBITER_CLIENTS_MAX 512
#define ARBITER_VGPUS_MAX   256
#define ARBITER_GPUS_MAX    16
#define ARBITER_WORKERS_MAX 64 /* of one vGPU */

struct arbiter;

/*
 * arbiter_create() - listen on @path (0600; a socket that nobody listens on is replaced, anything else is not).
 * @config: of each GPU that is named first by a vGPU; vgpus_max is ARBITER_VGPUS_MAX
 * @hog_ns: a grant that keeps others waiting so long ends its process (SIGKILL) and is reported; 0: never
 * @trace: CSV, a line for each turn (docs/arbiter.md); NULL: none. Borrowed.
 *
 * Everything happens in the loop's thread. Returns 0 or -errno: "arbiter-socket".
 */
int arbiter_create(sd_event *event, const char *path, const struct sched_gpu_config *config,
		   uint64_t hog_ns, FILE *trace, struct arbiter **out, struct error *e);
/* Ends every connection; workers are left without a grant. NULL is fine. */
void arbiter_destroy(struct arbiter *arbiter);
/* arbiter_clients() - connections now. */
unsigned arbiter_clients(const struct arbiter *arbiter);

#endif
