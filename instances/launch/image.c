// SPDX-License-Identifier: Apache-2.0
/*
 * What an instance has on disk: a folder for its sockets, which goes with the boot, and one for its own disks and the guest.conf that names
 * them. An image is never written to: its writable disks are cloned, and a clone has its name only once it is whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/launch/launch_private.h"

#define CONFIG_MAX   (64 * 1024)
#define DISKS_MAX    16
#define REMOVE_DEPTH 8

static int failed(struct error *e, int err, const char *path)
{
	return error_set(e, err, err == ENOSPC ? "disk-full" : "image", NULL, "%.600s: %s", path,
			 strerror(err));
}

/* ---- folders ------------------------------------------------------------------------------------- */

static int folder_make(const char *parent, const char *name, struct error *e)
{
	char path[4200];

	if (mkdir(parent, 0711) < 0 && errno != EEXIST)
		return failed(e, errno, parent);
	snprintf(path, sizeof(path), "%s/%s", parent, name);
	return mkdir(path, 0700) < 0 && errno != EEXIST ? failed(e, errno, path) : 0;
}

int launch_folders(const struct launch_places *places, const struct launch_instance *instance,
		   struct error *e)
{
	int err = folder_make(places->run, instance->name, e);

	return err ? err : folder_make(places->state, instance->name, e);
}

/* Files and folders that we made: no link is followed. */
static int remove_all(int parent, const char *name, unsigned depth)
{
	struct dirent *one;
	int fd, err = 0;
	DIR *folder;

	if (!unlinkat(parent, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	folder = fd < 0 ? NULL : fdopendir(fd);
	if (!folder) {
		err = -errno;
		fd_close(&fd);
		return err;
	}
	while (depth && !err && (one = readdir(folder)))
		if (strcmp(one->d_name, ".") != 0 && strcmp(one->d_name, "..") != 0)
			err = remove_all(fd, one->d_name, depth - 1);
	closedir(folder);
	return err ? err : unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int launch_folders_remove(const struct launch_places *places, const char *name, bool all,
			  struct error *e)
{
	const char *const parents[] = { places->run, places->state };
	int err = 0;

	for (unsigned i = 0; i < (all ? 2u : 1u) && !err; i++) {
		int fd = open(parents[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0) {
			err = errno == ENOENT ? 0 : -errno;
			continue;
		}
		err = remove_all(fd, name, REMOVE_DEPTH);
		fd_close(&fd);
	}
	return err ? failed(e, -err, name) : 0;
}

/* ---- disks ---------------------------------------------------------------------------------------- */

#define COPY_BYTES 65536

/*
 * Some of @size bytes at @at; by ourselves where the kernel does not: between file systems of two kinds (copy_file_range(2)). How many, or
 * -errno.
 */
static ssize_t copy_piece(int from, int to, off_t at, size_t size)
{
	off_t there = at, here = at;
	char bytes[COPY_BYTES];
	ssize_t n = copy_file_range(from, &here, to, &there, size, 0);
	int err;

	if (n >= 0 || (errno != EXDEV && errno != EOPNOTSUPP))
		return n < 0 ? -errno : n;
	n = pread(from, bytes, MIN(size, sizeof(bytes)), at);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	err = pwrite_full(to, bytes, (size_t)n, (uint64_t)at);
	return err ? err : n;
}

/* Holes stay holes. */
static int copy_data(int from, int to, off_t size)
{
	off_t data = 0, hole;

	if (ftruncate(to, size) < 0)
		return -errno;
	while ((data = lseek(from, data, SEEK_DATA)) >= 0 && data < size) {
		off_t at = data;

		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		while (at < hole) {
			const ssize_t n = copy_piece(from, to, at, (size_t)(hole - at));

			if (n < 0 && n != -EINTR)
				return (int)n;
			if (!n)
				return -EIO; /* it was cut while we read */
			at += MAX(n, 0);
		}
		data = hole;
	}
	return data < 0 && errno != ENXIO ? -errno : 0;
}

/* @from NULL: an empty one. At least @bytes long. */
static int disk_make(const char *from, const char *to, uint64_t bytes, struct error *e)
{
	char new[4200];
	struct stat st = { 0 };
	int source = -1, fd = -1, err = 0;

	if (!access(to, F_OK))
		return 0;
	snprintf(new, sizeof(new), "%s.new", to);
	if (from) {
		/* Neither waiting for a FIFO's other end, nor taking a terminal. */
		source = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (source < 0 || fstat(source, &st) < 0) {
			err = failed(e, errno, from);
			goto out;
		}
		if (!S_ISREG(st.st_mode)) {
			err = error_set(e, EINVAL, "image", "disk ...,readonly in its guest.conf",
					"%s is no file: it cannot be cloned", from);
			goto out;
		}
	}
	/* A file of its own: who made one before may be on its way out, and still write to it. */
	unlink(new);
	fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		err = -errno;
	if (!err && from && ioctl(fd, FICLONE, source) < 0)
		err = copy_data(source, fd, st.st_size);
	if (!err && bytes > (uint64_t)st.st_size && ftruncate(fd, (off_t)bytes) < 0)
		err = -errno;
	if (!err && (fsync(fd) < 0 || rename(new, to) < 0))
		err = -errno;
	if (err) {
		unlink(new);
		err = failed(e, -err, to);
	}
out:
	fd_close(&source);
	fd_close(&fd);
	return err;
}

/* ---- guest.conf ------------------------------------------------------------------------------------- */

enum meaning {
	TAKEN,	/* as it is */
	PATH,	/* a file of the image's */
	DISK,	/* cloned, unless it is only read */
	DECIDED /* by the instance's type, not here */
};

static const struct {
	const char *word;
	enum meaning meaning;
} words[] = {
	{ "kernel", PATH },    { "initrd", PATH },	 { "disk", DISK },
	{ "cmdline", TAKEN },  { "topology", TAKEN },	 { "console", TAKEN },
	{ "no-rng", TAKEN },   { "no-reboot", TAKEN },	 { "intx", TAKEN },
	{ "p2p", TAKEN },      { "iommu", TAKEN },	 { "populate", TAKEN },
	{ "name", DECIDED },   { "cpus", DECIDED },	 { "memory", DECIDED },
	{ "net", DECIDED },    { "vfio", DECIDED },	 { "vfio-user", DECIDED },
	{ "serial", DECIDED }, { "control", DECIDED },	 { "huge-pages", DECIDED },
	{ "numa", DECIDED },   { "log-level", DECIDED },
};

struct writer {
	FILE *out;
	const struct launch_places *places;
	const struct launch_instance *instance;
	unsigned disks;
};

static int disk_word(struct writer *writer, char *path, struct error *e)
{
	char to[4200];
	char *comma = strrchr(path, ',');
	const unsigned n = writer->disks;
	int err;

	if (comma && !strcmp(comma, ",readonly")) {
		fprintf(writer->out, "disk %s\n", path);
		return 0;
	}
	if (n == DISKS_MAX)
		return error_set(e, E2BIG, "image", NULL, "%s: more than %u disks",
				 writer->instance->image, DISKS_MAX);
	snprintf(to, sizeof(to), "%s/%s/disk%u.img", writer->places->state, writer->instance->name,
		 n);
	err = disk_make(path, to,
			n < writer->instance->disk_count ? writer->instance->disk_bytes[n] : 0, e);
	if (!err)
		fprintf(writer->out, "disk %s\n", to);
	writer->disks++;
	return err;
}

static int line_take(struct writer *writer, char *line, unsigned number, struct error *e)
{
	const char *image = writer->instance->image;
	char *value = line + strcspn(line, " \t");
	char path[4200];

	if (*value)
		*value++ = '\0';
	value += strspn(value, " \t");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(line, words[i].word) != 0)
			continue;
		if (words[i].meaning == TAKEN)
			fprintf(writer->out, "%s %s\n", line, value);
		if (words[i].meaning == TAKEN || words[i].meaning == DECIDED)
			return 0;
		snprintf(path, sizeof(path), "%s%s%s", value[0] == '/' ? "" : image,
			 value[0] == '/' ? "" : "/", value);
		if (words[i].meaning == DISK)
			return disk_word(writer, path, e);
		fprintf(writer->out, "%s %s\n", line, path);
		return 0;
	}
	return error_set(e, EINVAL, "image", NULL,
			 "%s/guest.conf:%u: %.60s is no word that an image may say", image, number,
			 line);
}

static int config_write(struct writer *writer, char *text, struct error *e)
{
	const struct launch_instance *instance = writer->instance;
	unsigned number = 0;
	int err = 0;

	for (char *line = text, *next; line && !err; line = next) {
		size_t length = strcspn(line, "\n");

		next = line[length] ? line + length + 1 : NULL;
		line[length] = '\0';
		number++;
		line += strspn(line, " \t");
		for (length = strlen(line); length && strchr(" \t\r", line[length - 1]); length--)
			line[length - 1] = '\0';
		if (line[0] && line[0] != '#')
			err = line_take(writer, line, number, e);
	}
	for (unsigned i = writer->disks; i < instance->disk_count && !err; i++) {
		char to[4200];

		snprintf(to, sizeof(to), "%s/%s/disk%u.img", writer->places->state, instance->name,
			 i);
		err = disk_make(NULL, to, instance->disk_bytes[i], e);
		fprintf(writer->out, "disk %s\n", to);
	}
	return err;
}

int launch_disks(const struct launch_places *places, const struct launch_instance *instance,
		 struct error *e)
{
	struct writer writer = { .places = places, .instance = instance };
	char path[4200], new[4210];
	char *text = malloc(CONFIG_MAX);
	ssize_t size;
	int err;

	if (!text)
		return failed(e, ENOMEM, instance->image);
	snprintf(path, sizeof(path), "%s/guest.conf", instance->image);
	size = file_read(AT_FDCWD, path, text, CONFIG_MAX);
	if (size < 0) {
		err = failed(e, (int)-size, path);
		goto out;
	}
	snprintf(path, sizeof(path), "%s/%s/guest.conf", places->state, instance->name);
	snprintf(new, sizeof(new), "%s.new", path);
	writer.out = fopen(new, "we");
	if (!writer.out) {
		err = failed(e, errno, new);
		goto out;
	}
	err = config_write(&writer, text, e);
	if (!err && (fflush(writer.out) == EOF || fsync(fileno(writer.out)) < 0))
		err = failed(e, errno, new);
	fclose(writer.out);
	if (!err && rename(new, path) < 0)
		err = failed(e, errno, path);
	if (err)
		unlink(new);
out:
	free(text);
	return err;
}
