// SPDX-License-Identifier: Apache-2.0
/*
 * The catalogue: types from folders of files, sorted by name. A file that is wrong costs its own wrong types; what is there already
 * stays when its replacement is wrong.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/types/private.h"

static int compare(const void *name, const void *item)
{
	return strcmp(name, ((const struct instance_type *)item)->name);
}

char *type_catalogue_is_it(const struct type_catalogue *catalogue, const char *name,
			   char text[TYPE_IS_IT_SIZE])
{
	const char **names = calloc(MAX(catalogue->count, 1u), sizeof(*names));

	for (unsigned i = 0; names && i < catalogue->count; i++)
		names[i] = catalogue->items[i].name;
	type_is_it(name, names, names ? catalogue->count : 0, text);
	free(names);
	return text;
}

const struct instance_type *type_catalogue_find(const struct type_catalogue *catalogue,
						const char *name)
{
	if (!type_name_ok(name) || !catalogue->count)
		return NULL;
	return bsearch(name, catalogue->items, catalogue->count, sizeof(*catalogue->items),
		       compare);
}

void type_catalogue_free(struct type_catalogue *catalogue)
{
	free(catalogue->items);
	*catalogue = (struct type_catalogue){ 0 };
}

/* Into its place, or over the one of its name. Returns 0 or -errno. */
static int insert(struct type_catalogue *catalogue, const struct instance_type *type,
		  struct findings *findings)
{
	struct instance_type *there =
		(struct instance_type *)type_catalogue_find(catalogue, type->name);
	unsigned at = catalogue->count;

	if (there) {
		findings_add(findings, FINDING_NOTE, "type-overridden", "the later one counts",
			     NULL, "%s: %s replaces that of %s", type->source, type->name,
			     there->source);
		*there = *type;
		return 0;
	}
	if (catalogue->count == TYPE_CATALOGUE_MAX) {
		findings_add(findings, FINDING_BLOCKER, "type-too-many", NULL, NULL,
			     "%s: %s is one more than %d types", type->source, type->name,
			     TYPE_CATALOGUE_MAX);
		return -E2BIG;
	}
	if (catalogue->count == catalogue->room) {
		unsigned room = catalogue->room ? catalogue->room * 2 : 32;

		there = reallocarray(catalogue->items, room, sizeof(*there));
		if (!there)
			return -ENOMEM;
		catalogue->items = there;
		catalogue->room = room;
	}
	while (at && strcmp(catalogue->items[at - 1].name, type->name) > 0)
		at--;
	memmove(&catalogue->items[at + 1], &catalogue->items[at],
		(catalogue->count - at) * sizeof(*catalogue->items));
	catalogue->items[at] = *type;
	catalogue->count++;
	return 0;
}

/* @at: of a list, its place; @list: NULL for a file of one type */
static int add_one(struct type_catalogue *catalogue, struct type_reader *reader, const json_t *list,
		   size_t at)
{
	const json_t *json = list ? json_array_get(list, at) : reader->yaml->json;
	struct instance_type type;

	reader->failed = false;
	type_read(reader, json, &type);
	if (reader->failed)
		return -EINVAL;
	for (size_t i = 0; list && i < at; i++) {
		const char *name =
			json_string_value(json_object_get(json_array_get(list, i), "name"));

		if (name && !strcmp(name, type.name)) {
			type_complain(reader, "name", "type-twice", NULL, "\"%s\" is there twice",
				      type.name);
			return -EINVAL;
		}
	}
	snprintf(type.source, sizeof(type.source), "%s", reader->name);
	return insert(catalogue, &type, reader->findings);
}

int type_catalogue_add_text(struct type_catalogue *catalogue, const char *text, size_t size,
			    const char *name, struct findings *findings)
{
	struct type_yaml yaml = { 0 };
	struct type_reader reader = { .name = name, .yaml = &yaml, .findings = findings };
	int added = 0, err = 0;

	if (size > TYPE_FILE_BYTES) {
		findings_add(findings, FINDING_BLOCKER, "type-unreadable", NULL, NULL,
			     "%s: larger than 64 KiB", name);
		return -EFBIG;
	}
	if (!type_yaml_read(text, size, name, &yaml, findings)) {
		const json_t *list = json_is_array(yaml.json) ? yaml.json : NULL;
		const size_t count = list ? json_array_size(list) : 1;

		for (size_t i = 0; i < count && err != -ENOMEM; i++) {
			if (list)
				type_reader_enter(&reader, NULL, i);
			err = add_one(catalogue, &reader, list, i);
			added += !err;
			type_reader_leave(&reader, 0);
		}
	}
	type_yaml_free(&yaml);
	return err == -ENOMEM ? err : added;
}

int type_catalogue_add_file(struct type_catalogue *catalogue, const char *path,
			    struct findings *findings)
{
	/* O_NONBLOCK: a FIFO is no file of types, and not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err = 0;
	char text[TYPE_FILE_BYTES];
	struct stat st = { 0 };

	if (fd < 0 || fstat(fd, &st) < 0)
		err = errno;
	else if (!S_ISREG(st.st_mode))
		err = EINVAL;
	else if ((uint64_t)st.st_size > sizeof(text))
		err = EFBIG;
	else
		err = -pread_full(fd, text, (size_t)st.st_size, 0);
	fd_close(&fd);
	if (err) {
		findings_add(findings, FINDING_BLOCKER, "type-unreadable", NULL, NULL, "%s: %s",
			     path, err == EFBIG ? "larger than 64 KiB" : strerror(err));
		return -err;
	}
	return type_catalogue_add_text(catalogue, text, (size_t)st.st_size, path, findings);
}

static int is_type_file(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return entry->d_name[0] != '.' && dot && !strcmp(dot, ".yaml");
}

int type_catalogue_add_folder(struct type_catalogue *catalogue, const char *folder,
			      struct findings *findings)
{
	struct dirent **entries;
	int count = scandir(folder, &entries, is_type_file, alphasort), added = 0, n = 0;
	char path[PATH_MAX];

	if (count < 0) {
		n = -errno;
		findings_add(findings, FINDING_BLOCKER, "type-unreadable", NULL, NULL, "%s: %s",
			     folder, strerror(-n));
		return n;
	}
	if (count > TYPE_FOLDER_FILES)
		findings_add(findings, FINDING_BLOCKER, "type-too-many", NULL, NULL,
			     "%s: %d files, of which the first %d are read", folder, count,
			     TYPE_FOLDER_FILES);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%.3800s/%.255s", folder, entries[i]->d_name);
		if (i < TYPE_FOLDER_FILES && n != -ENOMEM)
			n = type_catalogue_add_file(catalogue, path, findings);
		added += MAX(n, 0);
		free(entries[i]);
	}
	free(entries);
	return n == -ENOMEM ? n : added;
}

/* Beside the executable: installed, and as built (build/gcc/divvy, build/gcc/tests/unit/test_x). */
static const char *const places[] = { "/../share/divvy/types.d", "/../../instances/types.d",
				      "/../../../../instances/types.d" };

char *type_shipped_folder(char path[4096])
{
	char self[PATH_MAX], tried[PATH_MAX + 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[MAX(length, 0)] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(tried, sizeof(tried), "%s%s", self, places[i]);
		if (!access(tried, R_OK | X_OK) && realpath(tried, path))
			return path;
	}
	return strcpy(path, "/usr/share/divvy/types.d");
}

int type_catalogue_load(const char *root, struct type_catalogue *catalogue,
			struct findings *findings)
{
	char path[PATH_MAX];
	int n;

	if (!access(type_shipped_folder(path), F_OK)) {
		n = type_catalogue_add_folder(catalogue, path, findings);
		if (n == -ENOMEM)
			return n;
	}
	snprintf(path, sizeof(path), "%s/etc/divvy/types.d", root);
	if (access(path, F_OK))
		return 0;
	n = type_catalogue_add_folder(catalogue, path, findings);
	return n == -ENOMEM ? n : 0;
}
