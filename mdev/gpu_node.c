// SPDX-License-Identifier: Apache-2.0
/*
 * What is a GPU's in the file system, and whose: the nodes that a driver opens, found in sysfs by its PCI address; and the arbiter's socket, which is
 * 0600, opened to one user more.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mdev/jail.h"

#define ACL_XATTR "system.posix_acl_access"
#define ENTRIES_MAX \
	8190 /* what an attribute has room for (XATTR_SIZE_MAX): more than there are instances */

static bool on_nvidia(const char *root, const char *name)
{
	char path[256], driver[256];
	ssize_t length;

	snprintf(path, sizeof(path), "%.128s/sys/bus/pci/devices/%.12s/driver", root, name);
	length = readlink(path, driver, sizeof(driver) - 1);
	if (length <= 0)
		return false;
	driver[length] = '\0';
	return !strcmp(strrchr(driver, '/') ? strrchr(driver, '/') + 1 : driver, "nvidia");
}

int gpu_nodes_find(const char *root, const char *name, char nodes[][64], unsigned max,
		   struct error *e)
{
	struct pci_address address;
	const struct dirent *entry;
	char path[256];
	unsigned count = 0;
	DIR *dir;

	if (pci_address_parse(name, &address))
		return 0;
	if (on_nvidia(root, name))
		return error_set(
			e, ENODEV, "no-gpu-node",
			"divvy run-native shares it among the host's own programs; --no-render; or --render-node PATH",
			"GPU %s is on NVIDIA's driver, which is used by nodes and requests of its own: what renders for a guest is not given those",
			name);
	snprintf(path, sizeof(path), "%.128s/sys/bus/pci/devices/%.12s/drm", root, name);
	dir = opendir(path);
	while (dir && count < max && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "renderD", 7) && strlen(entry->d_name) < 24)
			snprintf(nodes[count++], sizeof(nodes[0]), "%.16s/dev/dri/%.24s", root,
				 entry->d_name);
	if (dir)
		closedir(dir);
	return count ? (int)count
		     : error_set(
			       e, ENODEV, "no-gpu-node",
			       "bind the GPU to its own driver (divvy list gpus), or --render-node PATH",
			       "GPU %s has no render node: %s lists none", name, path);
}

/* ---- access lists (linux/posix_acl_xattr.h) --------------------------------------------------- */

struct acl {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entries[ENTRIES_MAX];
};

/* What there is, or what the mode says. Returns how many entries, or -errno. */
static int acl_read(const char *path, struct acl *acl)
{
	ssize_t size = getxattr(path, ACL_XATTR, acl, sizeof(*acl));
	struct stat st;

	if (size >= (ssize_t)sizeof(acl->header))
		return (int)(((size_t)size - sizeof(acl->header)) / sizeof(acl->entries[0]));
	if (size >= 0 || errno != ENODATA || stat(path, &st) < 0)
		return size < 0 ? -errno : -EINVAL;
	acl->header.a_version = POSIX_ACL_XATTR_VERSION;
	acl->entries[0] =
		(struct posix_acl_xattr_entry){ ACL_USER_OBJ, (uint16_t)(st.st_mode >> 6 & 7),
						(uint32_t)ACL_UNDEFINED_ID };
	acl->entries[1] =
		(struct posix_acl_xattr_entry){ ACL_GROUP_OBJ, (uint16_t)(st.st_mode >> 3 & 7),
						(uint32_t)ACL_UNDEFINED_ID };
	acl->entries[2] = (struct posix_acl_xattr_entry){ ACL_OTHER, (uint16_t)(st.st_mode & 7),
							  (uint32_t)ACL_UNDEFINED_ID };
	return 3;
}

/* Entries are in the order of their tags, and of users' numbers. */
static int acl_put(struct acl *acl, int count, uint16_t tag, uint32_t id)
{
	const struct posix_acl_xattr_entry wanted = { tag, ACL_READ | ACL_WRITE, id };
	int at = 0;

	while (at < count && (acl->entries[at].e_tag < tag ||
			      (acl->entries[at].e_tag == tag && acl->entries[at].e_id < id)))
		at++;
	if (at < count && acl->entries[at].e_tag == tag && acl->entries[at].e_id == id) {
		acl->entries[at].e_perm |= wanted.e_perm;
		return count;
	}
	if (count == ENTRIES_MAX)
		return -E2BIG;
	memmove(&acl->entries[at + 1], &acl->entries[at],
		(size_t)(count - at) * sizeof(acl->entries[0]));
	acl->entries[at] = wanted;
	return count + 1;
}

/* One at a time: a list is read and put back whole, and who starts beside us would lose his entry. A descriptor, or -errno. */
static int socket_lock(const char *path)
{
	char name[128];
	int fd, err;

	snprintf(name, sizeof(name), "%.108s.lock", path);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (fd >= 0 && flock(fd, LOCK_EX) < 0)
		if (errno != EINTR) {
			err = -errno;
			close(fd);
			return err;
		}
	return fd < 0 ? -errno : fd;
}

int socket_share(const char *path, uid_t user, struct error *e)
{
	struct acl acl = { 0 };
	int lock = socket_lock(path), count = lock < 0 ? lock : acl_read(path, &acl);

	if (count > 0)
		count = acl_put(&acl, count, ACL_USER, user);
	if (count > 0)
		count = acl_put(&acl, count, ACL_MASK, (uint32_t)ACL_UNDEFINED_ID);
	if (count > 0 &&
	    setxattr(path, ACL_XATTR, &acl,
		     sizeof(acl.header) + (size_t)count * sizeof(acl.entries[0]), 0) < 0)
		count = -errno;
	fd_close(&lock);
	return count < 0
		       ? error_set(
				 e, -count, "arbiter-socket",
				 "have the arbiter listen in a file system with access lists (tmpfs, ext4, xfs)",
				 "%s: user %u, who renders, cannot be let in: %s", path, user,
				 strerror(-count))
		       : 0;
}
