// SPDX-License-Identifier: Apache-2.0
/*
 * vGPUs: shares of a GPU's memory and time, each offered by a vfio-user server of its own.
 *
 * An instance is a folder, ROOT/run/divvy/vgpu/UUID, with a file that says what it is ("instance", JSON), the
 * lock of whoever serves it, and the server's socket. It comes into being whole, by a rename, and is made
 * and taken away under one lock, so that a GPU is never given out twice. It is gone with the machine's
 * next start, as /run is: what is to be there again is the node's store's to know.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "mdev/types/types.h"

#define FOLDER "/run/divvy/vgpu"

/* A type is a GPU cut into so many equal parts; parts of several sizes go together. */
static const struct {
	const char *name;
	unsigned parts;
	const char *words;
} shares[] = {
	{ "divvy-1", 1, "a whole GPU's memory" },
	{ "divvy-2", 2, "half of a GPU's memory" },
	{ "divvy-4", 4, "a quarter of a GPU's memory" },
	{ "divvy-8", 8, "an eighth of a GPU's memory" },
	{ "divvy-16", 16, "a sixteenth of a GPU's memory" },
};

static bool name_ok(const char *name)
{
	return *name && *name != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") ==
		       strlen(name) &&
	       strlen(name) < MDEV_NAME_MAX;
}

static uint64_t share_mib(const struct mdev_gpu *gpu, const char *type)
{
	for (unsigned i = 0; i < ARRAY_SIZE(shares); i++)
		if (!strcmp(shares[i].name, type))
			return gpu->memory_mib / shares[i].parts;
	return 0;
}

/* ---- what there is ------------------------------------------------------------------------- */

/* Read ROOT/run/divvy/vgpu/UUID/instance. Returns 0 or -errno ("bad-instance"). */
static int read_instance(const struct mdev_host *host, const char *uuid, struct mdev_instance *out,
			 struct error *e)
{
	char path[1024], text[4096];
	const char *parent = NULL, *type = NULL;
	json_t *root = NULL;
	ssize_t n;

	snprintf(path, sizeof(path), "%s" FOLDER "/%s/instance", host->root, uuid);
	n = file_read(AT_FDCWD, path, text, sizeof(text));
	if (n >= 0)
		root = json_loadb(text, (size_t)n, 0, NULL);
	parent = json_string_value(json_object_get(root, "parent"));
	type = json_string_value(json_object_get(root, "type"));
	if (!parent || !type || !name_ok(parent) || !name_ok(type)) {
		json_decref(root);
		return error_set(e, n < 0 ? (int)-n : EINVAL, "bad-instance", "remove it", "%s: %s",
				 path, n < 0 ? strerror((int)-n) : "not what an instance says");
	}
	*out = (struct mdev_instance){ .provider = mdev_provider_vgpu.name };
	strcpy(out->id, uuid);
	strcpy(out->parent, parent);
	strcpy(out->type, type);
	snprintf(out->path, sizeof(out->path), "%s" FOLDER "/%s/socket", host->root, uuid);
	json_decref(root);
	return 0;
}

struct walk {
	const struct mdev_host *host;
	struct mdev_instances *list;
};

static int found(void *opaque, const char *name, struct error *e)
{
	const struct walk *walk = opaque;
	struct mdev_instance *instance;
	struct error bad = { 0 };

	if (!uuid_ok(name))
		return 0;
	instance = mdev_instance_add(walk->list, &mdev_provider_vgpu, e);
	if (!instance)
		return -ENOMEM;
	/* One that cannot be read has a name all the same, and can be removed by it. */
	if (read_instance(walk->host, name, instance, &bad)) {
		log_warn("%s", bad.text);
		strcpy(instance->id, name);
	}
	return 0;
}

static int instances(const struct mdev_host *host, struct mdev_instances *list, struct error *e)
{
	struct walk walk = { host, list };

	return mdev_each(host, FOLDER, found, &walk, e);
}

static int types(const struct mdev_host *host, struct mdev_types *list, struct error *e)
{
	struct mdev_instances made = { 0 };
	int err = instances(host, &made, e);

	for (unsigned i = 0; i < host->gpu_count && !err; i++) {
		const struct mdev_gpu *gpu = &host->gpus[i];
		uint64_t used_mib = 0, left_mib;
		unsigned count = 0;

		if (!name_ok(gpu->name)) {
			err = error_set(e, EINVAL, "bad-gpu", NULL, "%.64s is no name of a GPU",
					gpu->name);
			break;
		}
		for (unsigned j = 0; j < made.count; j++) {
			if (strcmp(made.items[j].parent, gpu->name) != 0)
				continue;
			used_mib += share_mib(gpu, made.items[j].type);
			count++;
		}
		left_mib = used_mib < gpu->memory_mib ? gpu->memory_mib - used_mib : 0;
		for (unsigned j = 0; j < ARRAY_SIZE(shares) && !err; j++) {
			const uint64_t mib = gpu->memory_mib / shares[j].parts;
			struct mdev_type *type;

			if (!mib)
				continue;
			type = mdev_type_add(list, &mdev_provider_vgpu, e);
			if (!type) {
				err = -ENOMEM;
				break;
			}
			strcpy(type->parent, gpu->name);
			strcpy(type->name, shares[j].name);
			strcpy(type->device_api, "vfio-user");
			snprintf(type->description, sizeof(type->description), "%s",
				 shares[j].words);
			if (count < gpu->instances)
				type->available = (unsigned)MIN(left_mib / mib,
								(uint64_t)gpu->instances - count);
			type->parameters[0] = (struct mdev_parameter){ "memory_mib", mib };
			type->parameters[1] = (struct mdev_parameter){ "parts", shares[j].parts };
			type->parameter_count = 2;
		}
	}
	mdev_instances_free(&made);
	return err;
}

/* ---- make one ------------------------------------------------------------------------------ */

/* ROOT/run/divvy/vgpu, made where it is not, locked: a descriptor or -errno. */
static int folder_lock(const struct mdev_host *host, struct error *e)
{
	static const char *const parts[] = { "/run", "/run/divvy", FOLDER };
	struct error what;
	char path[1024];
	int fd;

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		snprintf(path, sizeof(path), "%s%s", host->root, parts[i]);
		if (mkdir(path, i ? 0700 : 0755) < 0 && errno != EEXIST)
			return error_set(e, errno, "no-state-folder", NULL, "%s: %s", path,
					 strerror(errno));
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && !flock(fd, LOCK_EX))
		return fd;
	error_set(&what, errno, "no-state-folder", NULL, "%s: %s", path, strerror(errno));
	fd_close(&fd);
	if (e)
		*e = what;
	return -what.err;
}

static int write_instance(int folder, const struct mdev_type *type)
{
	json_t *root = json_pack("{s:s, s:s, s:i}", "parent", type->parent, "type", type->name,
				 "memory_mib", (int)type->parameters[0].value);
	int fd = openat(folder, "instance", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			0600);
	int err = fd < 0 ? -errno : 0;

	if (!err && (!root || json_dumpfd(root, fd, JSON_COMPACT) < 0))
		err = errno ? -errno : -EIO;
	json_decref(root);
	fd_close(&fd);
	return err;
}

static const char *const files[] = { "instance", "lock", "socket" };

static void folder_remove(int parent, const char *name)
{
	char path[128];

	for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		unlinkat(parent, path, 0);
	}
	unlinkat(parent, name, AT_REMOVEDIR);
}

/* With the lock held: what is left is looked at again, and the folder comes into being whole. */
static int create_locked(const struct mdev_host *host, int parent, const struct mdev_type *asked,
			 const char *uuid, struct error *e)
{
	struct mdev_types now = { 0 };
	char draft[MDEV_UUID_LEN + 8];
	unsigned available = 0;
	int err = types(host, &now, e), folder;

	if (err)
		return err;
	for (unsigned i = 0; i < now.count; i++)
		if (!strcmp(now.items[i].parent, asked->parent) &&
		    !strcmp(now.items[i].name, asked->name))
			available = now.items[i].available;
	mdev_types_free(&now);
	if (!available)
		return error_set(e, ENOSPC, "none-available", "remove another instance first",
				 "%s has not %llu MiB and an instance left for a %s", asked->parent,
				 (unsigned long long)asked->parameters[0].value, asked->name);
	snprintf(draft, sizeof(draft), ".%s.new", uuid);
	folder_remove(parent, draft); /* of somebody who died here */
	if (mkdirat(parent, draft, 0700) < 0)
		return error_set(e, errno, "no-state-folder", NULL, "%s: %s", draft,
				 strerror(errno));
	folder = openat(parent, draft, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	err = folder < 0 ? -errno : write_instance(folder, asked);
	fd_close(&folder);
	if (!err && renameat(parent, draft, parent, uuid) < 0)
		err = -errno;
	if (!err)
		return 0;
	folder_remove(parent, draft);
	if (err == -EEXIST || err == -ENOTEMPTY)
		return error_set(e, EEXIST, "instance-exists", NULL, "%s is there", uuid);
	return error_set(e, -err, "no-state-folder", NULL, "%s: %s", uuid, strerror(-err));
}

static int create(const struct mdev_host *host, const struct mdev_type *type, const char *uuid,
		  unsigned count, struct mdev_instance *out, struct error *e)
{
	int parent = folder_lock(host, e), err;

	if (parent < 0)
		return parent;
	err = create_locked(host, parent, type, uuid, e);
	if (!err)
		err = read_instance(host, uuid, out, e);
	fd_close(&parent);
	return err;
}

/* ---- serve it, take it away ---------------------------------------------------------------- */

/* The lock of an instance's server: a descriptor, -EBUSY, -ENOENT, or another -errno. */
static int instance_lock(const struct mdev_host *host, const char *uuid)
{
	char path[1024];
	struct stat st;
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s" FOLDER "/%s/lock", host->root, uuid);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
	else if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!st.st_nlink)
		err = -ENOENT; /* removed between the two */
	if (err)
		fd_close(&fd);
	return err ? err : fd;
}

static int remove_one(const struct mdev_host *host, const char *id, struct error *e)
{
	int parent, lock, err = 0;

	if (!uuid_ok(id))
		return -ENOENT;
	lock = instance_lock(host, id);
	if (lock == -ENOENT)
		return -ENOENT;
	if (lock < 0)
		return error_set(e, -lock, lock == -EBUSY ? "instance-in-use" : "no-state-folder",
				 lock == -EBUSY ? "stop its server first" : NULL, "%s: %s", id,
				 lock == -EBUSY ? "a server offers it" : strerror(-lock));
	parent = folder_lock(host, e);
	if (parent < 0) {
		err = parent;
	} else {
		folder_remove(parent, id);
		if (!faccessat(parent, id, F_OK, AT_SYMLINK_NOFOLLOW))
			err = error_set(e, ENOTEMPTY, "no-state-folder",
					"look what is in its folder", "%s cannot be removed", id);
	}
	fd_close(&parent);
	fd_close(&lock);
	return err;
}

int mdev_open(const struct mdev_host *host, const char *uuid, struct mdev_instance *out, int *lock,
	      struct error *e)
{
	int fd, err;

	if (!uuid_ok(uuid))
		return error_set(e, EINVAL, "bad-uuid", NULL, "%.40s is no UUID in lower case",
				 uuid);
	fd = instance_lock(host, uuid);
	if (fd == -ENOENT)
		return error_set(e, ENOENT, "no-such-instance", NULL, "there is no vGPU %s", uuid);
	if (fd < 0)
		return error_set(e, -fd, fd == -EBUSY ? "instance-in-use" : "bad-instance", NULL,
				 "%s: %s", uuid,
				 fd == -EBUSY ? "another server offers it" : strerror(-fd));
	err = read_instance(host, uuid, out, e);
	if (!err && strlen(out->path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		err = error_set(e, ENAMETOOLONG, "bad-instance", "choose a shorter root",
				"%s: longer than a socket's path", out->path);
	if (err)
		fd_close(&fd);
	else
		*lock = fd;
	return err;
}

const struct mdev_provider mdev_provider_vgpu = {
	.name = "vgpu",
	.types = types,
	.instances = instances,
	.create = create,
	.remove = remove_one,
};
