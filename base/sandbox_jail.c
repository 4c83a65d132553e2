// SPDX-License-Identifier: Apache-2.0
/*
 * The jail: an empty root directory in a mount namespace of its own, no network, no System V IPC,
 * and a user that owns nothing. For a VMM that was started as root.
 *
 * A process that holds only descriptors needs no file, so the root is a tmpfs with nothing in it but
 * the paths that an option keeps reachable; it is mounted over a directory of every system, which
 * nobody outside sees. Descriptors keep working: a tap stays in the namespace it was opened in.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

#define MOUNT_POINT "/proc" /* on every system, and no longer needed here */

static int failed(struct error *e, const char *step)
{
	return error_set(e, errno, "jail",
			 errno == EPERM ? "start it as root, or leave --jail out" : NULL,
			 "jail: %s: %s", step, strerror(errno));
}

/* @target, a path beneath the new root, with the folders on the way; a folder or a file like @mode. */
static int target_make(char *target, mode_t mode, struct error *e)
{
	int fd;

	for (char *slash = strchr(target + strlen(MOUNT_POINT) + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(target, 0755) < 0 && errno != EEXIST)
			return failed(e, target);
		*slash = '/';
	}
	if (S_ISDIR(mode))
		return mkdir(target, 0755) < 0 && errno != EEXIST ? failed(e, target) : 0;
	fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(e, target);
	fd_close(&fd);
	return 0;
}

/* The same device as a file of its owner's own, so that nobody's rights outside change. Not in a user namespace. */
static bool node_make(const char *target, const struct stat *like, const struct sandbox_user *owner)
{
	if (!S_ISCHR(like->st_mode) || unlink(target) < 0)
		return false;
	if (!mknod(target, S_IFCHR | 0600, like->st_rdev) && !chown(target, owner->uid, owner->gid))
		return true;
	/* To be mounted over. */
	close(open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	return false;
}

/* A name that is only to be removed is reached by a descriptor of its folder. */
static int path_bring(const struct sandbox_path *path, struct error *e)
{
	/* Only adds: in a user namespace what a mount has already may not be taken off. */
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NOSUID | (path->write ? 0 : MOUNT_ATTR_RDONLY) |
			    (path->code || path->execute ? 0 : MOUNT_ATTR_NOEXEC),
	};
	char target[4096];
	struct stat st, there;
	int n, err;

	if (path->remove || (stat(path->path, &st) < 0 && errno == ENOENT))
		return 0;
	n = snprintf(target, sizeof(target), MOUNT_POINT "%s", path->path);
	if (path->path[0] != '/' || n < 0 || (size_t)n >= sizeof(target))
		return error_set(e, EINVAL, "jail", NULL, "jail: %s: not an absolute path",
				 path->path);
	/* In a folder that was brought before it is there. */
	if (stat(target, &there) < 0) {
		err = target_make(target, st.st_mode, e);
		if (err)
			return err;
	}
	if (path->owner && node_make(target, &st, path->owner))
		return 0;
	if (mount(path->path, target, NULL, MS_BIND, NULL) < 0)
		return failed(e, path->path);
	if (mount_setattr(AT_FDCWD, target, 0, &attr, sizeof(attr)) < 0)
		return failed(e, path->path);
	return 0;
}

static int root_change(const struct sandbox_path *paths, unsigned count, int proc, struct error *e)
{
	int err = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return failed(e, "mounts of its own");
	if (mount("divvy-jail", MOUNT_POINT, "tmpfs",
		  MS_NOSUID | MS_NOEXEC | (count ? 0 : MS_NODEV), "size=64k,mode=0755") < 0)
		return failed(e, "an empty root");
	for (unsigned i = 0; i < count && !err; i++)
		err = path_bring(&paths[i], e);
	if (err)
		return err;
	if (proc >= 0 &&
	    (mkdir(MOUNT_POINT "/proc", 0755) < 0 ||
	     move_mount(proc, "", AT_FDCWD, MOUNT_POINT "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0))
		return failed(e, "/proc");
	/* pivot_root(2), "pivot_root(".", ".")": the old root lies on top and is let go. */
	if (chdir(MOUNT_POINT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return failed(e, "changing the root");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) <
	    0)
		return failed(e, "a read-only root");
	return 0;
}

int sandbox_root_change(const struct sandbox_path *paths, unsigned count, int proc, struct error *e)
{
	/* The new root's folders are for a user to come, whatever files of ours are to be kept from others. */
	const mode_t mask = umask(022);
	int err = root_change(paths, count, proc, e);

	umask(mask);
	return err;
}

int sandbox_user_change(const struct sandbox_user *user, struct error *e)
{
	if (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
	    setresuid(user->uid, user->uid, user->uid) < 0)
		return failed(e, "another user");
	return 0;
}

int sandbox_jail(const struct sandbox_user *user, const struct sandbox_path *paths, unsigned count,
		 struct error *e)
{
	int err;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return failed(e, "namespaces");
	err = sandbox_root_change(paths, count, -1, e);
	return err ? err : sandbox_user_change(user, e);
}

int sandbox_user_parse(const char *text, struct sandbox_user *user)
{
	unsigned long long uid, gid;
	int end = -1;

	/* scanf(3) would take "-1", which to setresuid(2) means "no change". */
	if (text[strspn(text, "uidg=,0123456789")])
		return -EINVAL;
	if (sscanf(text, "uid=%10llu,gid=%10llu%n", &uid, &gid, &end) != 2 || end < 0) {
		end = -1;
		if (sscanf(text, "uid=%10llu%n", &uid, &end) != 1)
			return -EINVAL;
		gid = uid;
	}
	/* The last number is "no change" as well. */
	if (end < 0 || text[end] || !uid || !gid || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return -EINVAL;
	*user = (struct sandbox_user){ .wanted = true, .uid = (uid_t)uid, .gid = (gid_t)gid };
	return 0;
}
