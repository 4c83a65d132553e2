// SPDX-License-Identifier: Apache-2.0
/*
 * What an instance has on disk: a folder for its sockets, which goes with the boot, and one for its own disks and the guest.conf that names
 * them. An image is never written to: its writable disks are cloned (disk.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/launch/launch_private.h"

#define CONFIG_MAX   (64 * 1024)
#define DISKS_MAX    16
#define REMOVE_DEPTH 8

/* ---- folders ------------------------------------------------------------------------------------- */

static int folder_make(const char *parent, const char *name, struct error *e)
{
	char path[4200];

	if (mkdir(parent, 0711) < 0 && errno != EEXIST)
		return launch_file_failed(e, errno, parent);
	snprintf(path, sizeof(path), "%s/%s", parent, name);
	return mkdir(path, 0700) < 0 && errno != EEXIST ? launch_file_failed(e, errno, path) : 0;
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
	return err ? launch_file_failed(e, -err, name) : 0;
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

/* What an image says, and what comes of it. */
struct plan {
	const struct launch_places *places;
	const struct launch_instance *instance;
	FILE *out; /* guest.conf as it will be */
	char *text;
	size_t size;
	unsigned count;
	struct {
		char from[4200]; /* "": an empty one */
		uint64_t bytes;	 /* at least */
	} disks[DISKS_MAX];
};

static void disk_path(const struct launch_places *places, const char *name, unsigned index,
		      char path[4200])
{
	snprintf(path, 4200, "%s/%s/disk%u.img", places->state, name, index);
}

/* @from "": one that the image has not. */
static int disk_word(struct plan *plan, const char *from, struct error *e)
{
	const struct launch_instance *instance = plan->instance;
	const char *comma = strrchr(from, ',');
	const unsigned n = plan->count;
	char to[4200];

	if (comma && !strcmp(comma, ",readonly")) {
		fprintf(plan->out, "disk %s\n", from);
		return 0;
	}
	if (n == DISKS_MAX)
		return error_set(e, E2BIG, "image", NULL, "%s: more than %u disks", instance->image,
				 DISKS_MAX);
	plan->count++;
	snprintf(plan->disks[n].from, sizeof(plan->disks[n].from), "%s", from);
	plan->disks[n].bytes = n < instance->disk_count ? instance->disk_bytes[n] : 0;
	disk_path(plan->places, instance->name, n, to);
	fprintf(plan->out, "disk %s\n", to);
	return 0;
}

static int line_take(struct plan *plan, char *line, unsigned number, struct error *e)
{
	const char *image = plan->instance->image;
	char *value = line + strcspn(line, " \t");
	char path[4200];

	if (*value)
		*value++ = '\0';
	value += strspn(value, " \t");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(line, words[i].word) != 0)
			continue;
		if (words[i].meaning == TAKEN)
			fprintf(plan->out, "%s %s\n", line, value);
		if (words[i].meaning == TAKEN || words[i].meaning == DECIDED)
			return 0;
		snprintf(path, sizeof(path), "%s%s%s", value[0] == '/' ? "" : image,
			 value[0] == '/' ? "" : "/", value);
		if (words[i].meaning == DISK)
			return disk_word(plan, path, e);
		fprintf(plan->out, "%s %s\n", line, path);
		return 0;
	}
	return error_set(e, EINVAL, "image", NULL,
			 "%s/guest.conf:%u: %.60s is no word that an image may say", image, number,
			 line);
}

static int lines_take(struct plan *plan, char *text, struct error *e)
{
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
			err = line_take(plan, line, number, e);
	}
	while (!err && plan->count < plan->instance->disk_count)
		err = disk_word(plan, "", e);
	return err;
}

static void plan_free(struct plan *plan)
{
	if (plan)
		free(plan->text);
	free(plan);
}

/* A path is a word of a line of the instance's guest.conf, and no line more. */
static int image_check(const char *image, struct error *e)
{
	char shown[400];

	for (const char *p = image; *p; p++) {
		if ((unsigned char)*p >= ' ' && *p != 0x7f)
			continue;
		snprintf(shown, sizeof(shown), "%s", image);
		return error_set(e, EINVAL, "image", "divvy create NAME --image DIR",
				 "%s: the path has a control character", text_printable(shown));
	}
	return 0;
}

static int plan_make(const struct launch_places *places, const struct launch_instance *instance,
		     struct plan **out, struct error *e)
{
	struct plan *plan;
	char path[4200], *text;
	ssize_t size;
	int err = image_check(instance->image, e);

	if (err)
		return err;
	plan = calloc(1, sizeof(*plan));
	text = malloc(CONFIG_MAX);
	if (plan)
		plan->out = open_memstream(&plan->text, &plan->size);
	if (!plan || !plan->out || !text) {
		err = launch_file_failed(e, ENOMEM, instance->image);
		goto out;
	}
	plan->places = places;
	plan->instance = instance;
	snprintf(path, sizeof(path), "%s/guest.conf", instance->image);
	size = file_read(AT_FDCWD, path, text, CONFIG_MAX);
	err = size < 0 ? launch_file_failed(e, (int)-size, path) : lines_take(plan, text, e);
out:
	if (plan && plan->out && fclose(plan->out) == EOF && !err)
		err = launch_file_failed(e, ENOMEM, instance->image);
	free(text);
	if (err)
		plan_free(plan);
	else
		*out = plan;
	return err;
}

/* ---- disks ------------------------------------------------------------------------------------------ */

/* Whether this one is to be made; its path. */
static bool missing(const struct plan *plan, unsigned index, char path[4200])
{
	disk_path(plan->places, plan->instance->name, index, path);
	return access(path, F_OK) != 0;
}

static int plan_measure(const struct plan *plan, struct launch_room *room, struct error *e)
{
	char path[4200];
	int err = 0;

	*room = (struct launch_room){ 0 };
	for (unsigned i = 0; i < plan->count && !err; i++)
		if (missing(plan, i, path))
			err = disk_measure(plan->disks[i].from, plan->disks[i].bytes, room, e);
	return err;
}

static int config_write(const struct plan *plan, struct error *e)
{
	char path[4200], new[4210];
	int fd, err;

	snprintf(path, sizeof(path), "%s/%s/guest.conf", plan->places->state, plan->instance->name);
	snprintf(new, sizeof(new), "%s.new", path);
	fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = fd < 0 ? -errno : pwrite_full(fd, plan->text, plan->size, 0);
	if (!err && (fsync(fd) < 0 || rename(new, path) < 0))
		err = -errno;
	fd_close(&fd);
	if (!err)
		return 0;
	unlink(new);
	return launch_file_failed(e, -err, path);
}

/* The disks' names: what a guest writes to one is not to be lost with it. */
static int folder_flush(const struct plan *plan, struct error *e)
{
	char path[4200];
	int fd, err;

	snprintf(path, sizeof(path), "%s/%s", plan->places->state, plan->instance->name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = fd < 0 || fsync(fd) < 0 ? launch_file_failed(e, errno, path) : 0;
	fd_close(&fd);
	return err;
}

int launch_disks_measure(const struct launch_places *places, const struct launch_instance *instance,
			 struct launch_room *room, struct error *e)
{
	struct plan *plan;
	int err = plan_make(places, instance, &plan, e);

	if (err)
		return err;
	err = plan_measure(plan, room, e);
	plan_free(plan);
	return err;
}

int launch_disks(const struct launch_places *places, const struct launch_instance *instance,
		 struct launch_progress *progress, struct error *e)
{
	uint64_t left = instance->disks_measured ? instance->disk_most_bytes : UINT64_MAX;
	struct launch_room room;
	struct plan *plan;
	char path[4200];
	int err = plan_make(places, instance, &plan, e);

	if (err)
		return err;
	err = plan_measure(plan, &room, e);
	if (!err && progress)
		__atomic_store_n(&progress->total_bytes, room.data_bytes, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < plan->count && !err; i++)
		if (missing(plan, i, path))
			err = disk_make(plan->disks[i].from, path, plan->disks[i].bytes, &left,
					progress, e);
	if (err == -ESTALE && e)
		snprintf(e->next, sizeof(e->next), "divvy start %s", instance->name);
	if (!err)
		err = config_write(plan, e);
	if (!err)
		err = folder_flush(plan, e);
	plan_free(plan);
	return err;
}

void launch_disks_held(const struct launch_places *places, const char *name,
		       struct launch_room *room)
{
	char path[4200];
	struct stat st;

	*room = (struct launch_room){ 0 };
	for (unsigned i = 0; i < DISKS_MAX; i++) {
		disk_path(places, name, i, path);
		if (stat(path, &st) < 0)
			return;
		room->size_bytes = add_saturated(room->size_bytes, (uint64_t)st.st_size);
		/* In units of 512 bytes, whatever the file system's are (inode(7)). */
		room->data_bytes = add_saturated(
			room->data_bytes, MIN((uint64_t)st.st_blocks * 512, (uint64_t)st.st_size));
	}
}
