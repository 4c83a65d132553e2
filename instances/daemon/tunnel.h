/* SPDX-License-Identifier: Apache-2.0 */
/* A tunnel: bytes both ways between two sockets, one of which may speak TLS, in the daemon's loop. */
#ifndef INSTANCES_DAEMON_TUNNEL_H
#define INSTANCES_DAEMON_TUNNEL_H

#include <gnutls/gnutls.h>
#include <systemd/sd-event.h>

#include "base/base.h"

struct tunnel;

/* It has ended, and is gone when this returns: descriptors and session are yours again. From the loop. */
typedef void tunnel_ended(void *opaque);

/*
 * tunnel_create() - between @near and @far, which do not wait and stay the caller's, as does @tls (NULL: none), whose handshake is done
 * and which is @near's. @far: -1: there is none, only what is pushed goes out.
 * @priority: sd-event's
 * Returns 0 or -errno.
 */
int tunnel_create(sd_event *event, int near, gnutls_session_t tls, int far, int priority,
		  tunnel_ended *ended, void *opaque, struct tunnel **out);
/* tunnel_push() - as if it had come from the other end, to @near or to far. At most TUNNEL_BUFFER bytes, before anything else. */
void tunnel_push(struct tunnel *tunnel, bool near, const void *bytes, size_t size);
/* tunnel_finish() - what is on its way arrives, within a time; then it ends. */
void tunnel_finish(struct tunnel *tunnel);
/* tunnel_destroy() - at once; nobody is told. NULL is fine. */
void tunnel_destroy(struct tunnel *tunnel);

#define TUNNEL_BUFFER (16 * KIB) /* each way */

#endif
