// SPDX-License-Identifier: Apache-2.0
/*
 * What was there before binding: one small file a group, "group-N", so that unbinding, maybe by
 * another process after a crash, gives every function back to the driver it had.
 *
 *	divvy bind state 2
 *	boot	4c2a...				of the boot it belongs to
 *	device	0000:01:00.0	nvidia	-	1	auto
 *
 * A device's line has its address, driver, driver_override, d3cold_allowed and power/control; "-": none.
 *
 * Fields are separated by tabs. The file is only ever replaced whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vfio/bind.h"

#define STATE_MAGIC    "divvy bind state 2"
#define STATE_SIZE_MAX 16384

static const char *state_path(char path[VFIO_PATH_MAX], const char *dir, unsigned group,
			      const char *suffix)
{
	return vfio_sysfs_path(path, dir, "/group-%u%s", group, suffix);
}

static void read_boot_id(const char *root, char boot_id[40])
{
	char path[VFIO_PATH_MAX], text[64];

	vfio_sysfs_path(path, root, "/proc/sys/kernel/random/boot_id");
	if (file_read(-1, path, text, sizeof(text)) <= 0)
		strcpy(text, "unknown");
	snprintf(boot_id, 40, "%.39s", text);
}

const struct bind_record *vfio_bind_state_find(const struct bind_state *state,
					       const struct pci_address *address)
{
	for (unsigned i = 0; i < state->count; i++)
		if (pci_address_equal(&state->records[i].address, address))
			return &state->records[i];
	return NULL;
}

/* A name becomes part of a sysfs path: no separator, no way up, nothing that breaks a line. */
static bool name_ok(const char *name)
{
	if (!name[0] || name[0] == '.' || strlen(name) >= VFIO_DRIVER_LEN)
		return false;
	for (; *name; name++)
		if (*name == '/' || (unsigned char)*name < ' ' || *name == 0x7f)
			return false;
	return true;
}

static bool parse_name(const char *field, char name[VFIO_DRIVER_LEN])
{
	name[0] = '\0';
	if (!strcmp(field, "-"))
		return true;
	if (!name_ok(field))
		return false;
	snprintf(name, VFIO_DRIVER_LEN, "%s", field);
	return true;
}

/* "device TAB address TAB driver TAB override TAB d3cold TAB control" */
static bool parse_device(char *line, struct bind_state *state)
{
	struct bind_record *record = &state->records[state->count];
	char *fields[6], *save = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		fields[i] = strtok_r(i ? NULL : line, "\t", &save);
		if (!fields[i])
			return false;
	}
	if (strtok_r(NULL, "\t", &save) || strcmp(fields[0], "device") != 0 ||
	    state->count == IOMMU_GROUP_MEMBERS_MAX ||
	    pci_address_parse(fields[1], &record->address) ||
	    vfio_bind_state_find(state, &record->address) ||
	    !parse_name(fields[2], record->driver) ||
	    !parse_name(fields[3], record->driver_override) ||
	    !parse_name(fields[4], record->d3cold_allowed) ||
	    !parse_name(fields[5], record->power_control))
		return false;
	state->count++;
	return true;
}

int vfio_bind_state_load(const char *root, const char *dir, unsigned group,
			 struct bind_state *state, struct error *e)
{
	char path[VFIO_PATH_MAX], text[STATE_SIZE_MAX], boot_id[40], next[VFIO_PATH_MAX + 8];
	char *save = NULL, *line;
	ssize_t n;

	*state = (struct bind_state){ .group = group };
	n = file_read(-1, state_path(path, dir, group, ""), text, sizeof(text));
	if (n == -ENOENT)
		return -ENOENT;
	if (n < 0)
		return error_set(e, (int)-n, "bind-state-unreadable", NULL, "cannot read %s: %s",
				 path, strerror((int)-n));
	line = strtok_r(text, "\n", &save);
	if (!line || strcmp(line, STATE_MAGIC) != 0)
		goto damaged;
	line = strtok_r(NULL, "\n", &save);
	if (!line || strncmp(line, "boot\t", 5) != 0 || strlen(line + 5) >= sizeof(state->boot_id))
		goto damaged;
	snprintf(state->boot_id, sizeof(state->boot_id), "%s", line + 5);
	while ((line = strtok_r(NULL, "\n", &save)))
		if (!parse_device(line, state))
			goto damaged;
	read_boot_id(root, boot_id);
	if (strcmp(boot_id, state->boot_id) != 0) {
		*state = (struct bind_state){ .group = group };
		return -ENOENT;
	}
	return 0;

damaged:
	snprintf(next, sizeof(next), "rm %s", path);
	return error_set(e, EINVAL, "bind-state-damaged", next,
			 "%s is not a bind state: without it the drivers to restore are not known",
			 path);
}

static int sync_folder(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd))
		err = -errno;
	fd_close(&fd);
	return err;
}

int vfio_bind_state_save(const char *root, const char *dir, struct bind_state *state,
			 struct error *e)
{
	char path[VFIO_PATH_MAX], temporary[VFIO_PATH_MAX], text[STATE_SIZE_MAX];
	char bdf[PCI_ADDRESS_LEN];
	int len, err, fd;

	read_boot_id(root, state->boot_id);
	len = snprintf(text, sizeof(text), STATE_MAGIC "\nboot\t%s\n", state->boot_id);
	for (unsigned i = 0; i < state->count; i++) {
		const struct bind_record *r = &state->records[i];

		if ((r->driver[0] && !name_ok(r->driver)) ||
		    (r->driver_override[0] && !name_ok(r->driver_override)) ||
		    (r->d3cold_allowed[0] && !name_ok(r->d3cold_allowed)) ||
		    (r->power_control[0] && !name_ok(r->power_control)))
			return error_set(e, EINVAL, "bind-failed", NULL,
					 "%s: a driver name that cannot be remembered",
					 pci_address_format(&r->address, bdf));
		len += snprintf(
			text + len, sizeof(text) - (size_t)len, "device\t%s\t%s\t%s\t%s\t%s\n",
			pci_address_format(&r->address, bdf), r->driver[0] ? r->driver : "-",
			r->driver_override[0] ? r->driver_override : "-",
			r->d3cold_allowed[0] ? r->d3cold_allowed : "-",
			r->power_control[0] ? r->power_control : "-");
		if (len >= (int)sizeof(text))
			return error_set(e, E2BIG, "bind-failed", NULL, "too many functions");
	}
	state_path(path, dir, state->group, "");
	state_path(temporary, dir, state->group, ".new");
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		err = -errno;
		goto failed;
	}
	err = pwrite_full(fd, text, (size_t)len, 0);
	if (!err && fsync(fd))
		err = -errno;
	fd_close(&fd);
	if (!err && rename(temporary, path))
		err = -errno;
	if (err) {
		unlink(temporary);
		goto failed;
	}
	err = sync_folder(dir);
	if (!err)
		return 0;
failed:
	return error_set(e, -err, "bind-state-unwritable", NULL,
			 "cannot write %s: %s (nothing was bound)", path, strerror(-err));
}

int vfio_bind_state_remove(const char *dir, unsigned group, struct error *e)
{
	char path[VFIO_PATH_MAX];

	if (unlink(state_path(path, dir, group, "")) && errno != ENOENT)
		return error_set(e, errno, "bind-state-unwritable", NULL, "cannot remove %s: %s",
				 path, strerror(errno));
	sync_folder(dir);
	return 0;
}

/* mkdir -p; the last folder is for root's eyes only. */
static int make_folder(const char *dir)
{
	char path[VFIO_PATH_MAX];

	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

/* The whole file is locked for a look and its writes, a byte of it for each group: the latter goes with the open file to children. */
static int lock_open(const char *dir, char path[VFIO_PATH_MAX], struct error *e)
{
	int err = make_folder(dir), fd = -1;

	if (!err) {
		fd = open(vfio_sysfs_path(path, dir, "/lock"),
			  O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		err = fd < 0 ? -errno : 0;
	}
	if (err)
		return error_set(e, -err,
				 err == -EACCES || err == -EPERM ? "permission-denied"
								 : "bind-state-unwritable",
				 "run as root", "cannot write in %s: %s", dir, strerror(-err));
	return fd;
}

/* @group: -1: all */
static int lock_wait(const char *dir, int64_t group, unsigned timeout_ms, struct error *e)
{
	uint64_t end = monotonic_ns() + timeout_ms * UINT64_C(1000000);
	const struct timespec pause = { .tv_nsec = 20000000 };
	struct flock byte = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = group, .l_len = 1
	};
	char path[VFIO_PATH_MAX];
	int err, fd = lock_open(dir, path, e);

	if (fd < 0)
		return fd;
	while (group < 0 ? flock(fd, LOCK_EX | LOCK_NB) : fcntl(fd, F_OFD_SETLK, &byte)) {
		if (errno != EWOULDBLOCK && errno != EACCES && errno != EINTR) {
			err = errno;
			fd_close(&fd);
			return error_set(e, err, "bind-state-unwritable", NULL,
					 "cannot lock %s: %s", path, strerror(err));
		}
		if (monotonic_ns() >= end) {
			fd_close(&fd);
			if (group < 0)
				return error_set(e, EBUSY, "bind-busy", "try again",
						 "another bind or unbind is going on (it holds %s)",
						 path);
			return error_set(
				e, EBUSY, "bind-busy", "dmesg | tail",
				"group %" PRId64
				" is being bound or unbound, or a write of that is in the kernel still",
				group);
		}
		nanosleep(&pause, NULL);
	}
	return fd;
}

int vfio_bind_state_lock(const char *dir, unsigned timeout_ms, struct error *e)
{
	return lock_wait(dir, -1, timeout_ms, e);
}

int vfio_bind_group_lock(const char *dir, unsigned group, unsigned timeout_ms, struct error *e)
{
	return lock_wait(dir, group, timeout_ms, e);
}
