// SPDX-License-Identifier: Apache-2.0
/*
 * Landlock: no path, no TCP port, no abstract socket and no process outside (as much of it as the
 * kernel knows; Documentation/userspace-api/landlock.rst). It holds whatever filter a thread has.
 *
 * Descriptors that are open keep what they could.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

/* Rights on files by the version of the ABI that brought them. */
static const uint64_t rights_by_abi[] = {
	[1] = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1, /* EXECUTE to MAKE_SYM */
	[2] = LANDLOCK_ACCESS_FS_REFER,
	[3] = LANDLOCK_ACCESS_FS_TRUNCATE,
	[5] = LANDLOCK_ACCESS_FS_IOCTL_DEV,
};
#define ABI_NET	  4
#define ABI_SCOPE 6

#define RIGHTS_READ   (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RIGHTS_WRITE  (RIGHTS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_IOCTL_DEV)
#define RIGHTS_REMOVE LANDLOCK_ACCESS_FS_REMOVE_FILE
#define RIGHTS_START  (RIGHTS_READ | LANDLOCK_ACCESS_FS_EXECUTE)
/* What a rule for something else than a folder may name. */
#define RIGHTS_FILE ((RIGHTS_WRITE | RIGHTS_START) & ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR)

static uint64_t rights_of(const struct sandbox_path *path, mode_t mode)
{
	uint64_t rights = path->remove	  ? RIGHTS_REMOVE
			  : path->write	  ? RIGHTS_WRITE
			  : path->execute ? RIGHTS_START
					  : RIGHTS_READ;

	return S_ISDIR(mode) ? rights : rights & RIGHTS_FILE;
}

static int path_add(int ruleset, const struct sandbox_path *path, uint64_t handled, struct error *e)
{
	struct landlock_path_beneath_attr beneath;
	int fd = open(path->path, O_PATH | O_CLOEXEC), err = 0;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		goto fail;
	beneath = (struct landlock_path_beneath_attr){
		.allowed_access = rights_of(path, st.st_mode) & handled,
		.parent_fd = fd,
	};
	if (!syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0))
		goto out;
fail:
	err = error_set(e, errno, "sandbox", NULL, "sandbox: %s cannot stay reachable: %s",
			path->path, strerror(errno));
out:
	fd_close(&fd);
	return err;
}

int sandbox_landlock(const struct sandbox_path *paths, unsigned count, struct error *e)
{
	struct landlock_ruleset_attr attr = { 0 };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int ruleset, err = 0;

	if (abi < 1) {
		log_warn("sandbox: this kernel has no Landlock (%s): paths are closed by filters "
			 "alone; lsm= on its command line may name it",
			 strerror(errno));
		return 0;
	}
	for (long i = 1; i <= abi && i < (long)ARRAY_SIZE(rights_by_abi); i++)
		attr.handled_access_fs |= rights_by_abi[i];
	if (abi >= ABI_NET)
		attr.handled_access_net =
			LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP;
	if (abi >= ABI_SCOPE)
		attr.scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return error_set(e, errno, "sandbox", NULL, "sandbox: Landlock: %s",
				 strerror(errno));
	for (unsigned i = 0; i < count && !err; i++)
		err = path_add(ruleset, &paths[i], attr.handled_access_fs, e);
	if (!err && syscall(SYS_landlock_restrict_self, ruleset, 0))
		err = error_set(e, errno, "sandbox", NULL, "sandbox: Landlock: %s",
				strerror(errno));
	fd_close(&ruleset);
	if (!err)
		log_debug("sandbox: Landlock, ABI %ld", abi);
	return err;
}
