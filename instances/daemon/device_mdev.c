// SPDX-License-Identifier: Apache-2.0
/*
 * Mediated devices of instances. One is made when its instance starts and removed when it has ended, both in a child, since drivers take
 * their time. Its UUID is known before it is made, and is written down with the reservation (instance_mdev_uuid()): so there is none that
 * nobody knows of, whenever the daemon was killed.
 *
 * It has no lease and is not reset between tenants: there is no next one. What of it its driver keeps is its driver's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/private.h"
#include "mdev/mdev.h"

#define REMOVE_MS      60000
#define REMOVE_TRIES   200
#define REMOVE_WAIT_US 10000

bool device_leased(const struct store_reservation *part)
{
	return part->dedicated && !part->mdev[0];
}

int device_mdev_remove(const char *root, const char *uuid, struct error *e)
{
	const struct mdev_host host = { .root = root };
	struct error why = { 0 };
	char path[4200];
	int err = -ENOENT;

	snprintf(path, sizeof(path), "%s/sys/bus/mdev/devices/%s", root, uuid);
	/* One that is being made is there a moment before it can be removed; and somebody else may be quicker. */
	for (unsigned i = 0; i < REMOVE_TRIES && err == -ENOENT; i++) {
		if (i)
			usleep(REMOVE_WAIT_US);
		err = mdev_remove(&host, uuid, &why);
		if (!err || access(path, F_OK))
			return 0;
	}
	if (err == -ENOENT)
		return error_set(e, EBUSY, "mdev-stays", "dmesg",
				 "%s is there and has no file \"remove\"", uuid);
	if (e)
		*e = why;
	return err;
}

int device_mdev_make(const char *root, const char *uuid, const char *parent, const char *type,
		     struct error *e)
{
	const struct mdev_host host = { .root = root };
	const struct mdev_request request = { .parent = parent, .type = type, .uuid = uuid };
	struct mdev_instance made;
	int err = device_mdev_remove(root, uuid, e);

	return err ? err : mdev_create(&host, &request, &made, e);
}

/* ---- what was left ------------------------------------------------------------------------------------- */

#define ORPHANS_MAX 256 /* at a time; others are found at the next start */

struct orphans {
	const char *root;
	unsigned count;
	char uuids[ORPHANS_MAX][37];
};

static int orphans_work(void *opaque, void *result, struct error *e)
{
	const struct orphans *orphans = opaque;
	int err = 0;

	for (unsigned i = 0; i < orphans->count; i++) {
		int one = device_mdev_remove(orphans->root, orphans->uuids[i], e);

		err = err ? err : one;
	}
	return err;
}

static void orphans_done(void *opaque, int err, const void *result, const struct error *e)
{
	struct daemon *daemon = opaque;

	if (err)
		log_warn("a mediated device of an instance that has ended stays: %s", e->text);
	else if (!daemon->ending)
		event_other(daemon, "daemon", "orphans",
			    "mediated devices of instances that have ended were removed");
	daemon_look_again(daemon);
}

void device_orphans(struct daemon *daemon)
{
	struct orphans *orphans = calloc(1, sizeof(*orphans));
	struct error e = { 0 };
	struct job *job;

	if (!orphans)
		return;
	orphans->root = daemon->options.root;
	for (unsigned i = 0; i < daemon->node->mdev_count; i++)
		for (unsigned j = 0; j < daemon->instance_count; j++)
			if (!instance_active(daemon->instances[j]) &&
			    orphans->count < ORPHANS_MAX &&
			    instance_mdev_is(daemon->instances[j], daemon->node->mdevs[i].uuid))
				memcpy(orphans->uuids[orphans->count++],
				       daemon->node->mdevs[i].uuid, sizeof(orphans->uuids[0]));
	if (orphans->count &&
	    job_run(daemon, orphans_work, orphans, REMOVE_MS, orphans_done, daemon, &job, &e))
		log_warn("%s", e.text);
	free(orphans);
}
