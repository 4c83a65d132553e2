// SPDX-License-Identifier: Apache-2.0
/*
 * What the render side sees: libraries, the manifests of drivers and layers and what they name, the parts of /sys that drivers read, the GPU's nodes, the
 * arbiter's socket. One list, of which the mount view and the Landlock rules are both made.
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mdev/gpu/warden_private.h"

/* The same on every machine. What is not there is left out. */
static const struct sandbox_path always[] = {
	/* the C library, the loader, drivers, and what they need */
	{ .path = "/usr/lib", .code = true },
	{ .path = "/usr/lib64", .code = true },
	{ .path = "/lib", .code = true },
	{ .path = "/lib64", .code = true },
	{ .path = "/usr/local/lib", .code = true },
	{ .path = "/etc/ld.so.cache" },
	/* the dynamic linker is started with the program */
	{ .path = "/lib64/ld-linux-x86-64.so.2", .execute = true },
	/* manifests of drivers, and of layers that a site wants everywhere */
	{ .path = "/usr/share/vulkan" },
	{ .path = "/usr/local/share/vulkan" },
	{ .path = "/etc/vulkan" },
	/* Mesa's settings for each program; names of AMD's models */
	{ .path = "/usr/share/drirc.d" },
	{ .path = "/etc/drirc" },
	{ .path = "/usr/share/libdrm" },
	/* how many processors there are, and where: the C library, lavapipe, LLVM */
	{ .path = "/sys/devices/system/cpu" },
	{ .path = "/sys/devices/system/node" },
	{ .path = "/dev/null", .write = true },
	{ .path = "/dev/zero", .write = true },
	{ .path = "/dev/urandom" },
};
/* Where a GPU has nodes: links from their numbers to the device (libdrm). */
static const char *const links[] = { "/sys/dev/char", "/sys/class/drm", "/sys/bus/pci/devices" };

static const char *const driver_folders[] = { "/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d",
					      "/usr/local/share/vulkan/icd.d" };

/* ---- paths ---------------------------------------------------------------------------------- */

static int add(struct render_view *view, struct sandbox_path path)
{
	for (unsigned i = 0; i < view->count; i++)
		if (!strcmp(view->paths[i].path, path.path))
			return 0;
	if (view->count == VIEW_PATHS_MAX)
		return -E2BIG;
	path.path = strdup(path.path);
	if (!path.path)
		return -ENOMEM;
	view->paths[view->count++] = path;
	return 0;
}

static int add_driver(struct render_view *view, const char *library)
{
	const char *slash = strrchr(library, '/');

	if (view->driver_count == VIEW_DRIVERS_MAX)
		return -E2BIG;
	view->drivers[view->driver_count] = strdup(slash ? slash + 1 : library);
	if (!view->drivers[view->driver_count])
		return -ENOMEM;
	view->driver_count++;
	return 0;
}

/* The library that a manifest names: beside it where it says so, or else the dynamic linker's to find. */
static int add_manifest(struct render_view *view, const char *path, bool is_driver)
{
	char folder[PATH_MAX], library[2 * PATH_MAX], real[PATH_MAX];
	json_t *json = json_load_file(path, 0, NULL);
	const char *named = json_string_value(json_object_get(
		json_object_get(json, is_driver ? "ICD" : "layer"), "library_path"));
	char *slash;
	int err = 0;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash)
		*slash = '\0';
	if (named && is_driver)
		err = add_driver(view, named);
	if (named && strchr(named, '/')) {
		snprintf(library, sizeof(library), "%s%s%s", named[0] == '/' ? "" : folder,
			 named[0] == '/' ? "" : "/", named);
		if (!err && realpath(library, real))
			err = add(view, (struct sandbox_path){ .path = real, .code = true });
		/* As the loader opens it: "/folder/../lib.so" needs the folder. */
	}
	json_decref(json);
	return err;
}

static int add_folder(struct render_view *view, const char *folder, bool is_driver)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	char path[PATH_MAX + 256];
	int err = 0;

	while (dir && !err && (entry = readdir(dir))) {
		const size_t length = strlen(entry->d_name);

		if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		err = add_manifest(view, path, is_driver);
	}
	if (dir)
		closedir(dir);
	return err;
}

/* ---- the environment ------------------------------------------------------------------------ */

/* The value of @name in what the render side gets to see, or NULL. */
static const char *variable(const struct virtio_gpu_venus_config *config, const char *name)
{
	const size_t length = strlen(name);

	for (unsigned i = 0; config->environment && config->environment[i]; i++)
		if (!strncmp(config->environment[i], name, length) &&
		    config->environment[i][length] == '=')
			return config->environment[i] + length + 1;
	return NULL;
}

/* Each path of a list with colons. */
static int each(struct render_view *view, const char *list, bool is_driver,
		int (*add_one)(struct render_view *view, const char *path, bool is_driver))
{
	char path[PATH_MAX];
	int err = 0;

	while (list && *list && !err) {
		const size_t length = strcspn(list, ":");

		snprintf(path, sizeof(path), "%.*s", (int)length, list);
		if (path[0] == '/')
			err = add(view, (struct sandbox_path){ .path = path });
		if (!err && path[0] == '/')
			err = add_one(view, path, is_driver);
		list += length + (list[length] == ':');
	}
	return err;
}

static int add_environment(struct render_view *view, const struct virtio_gpu_venus_config *config)
{
	const char *socket = variable(config, "DIVVY_VGPU_SOCKET");
	const char *drivers = variable(config, "VK_DRIVER_FILES");
	int err = 0;

	if (!drivers)
		drivers = variable(config, "VK_ICD_FILENAMES");
	if (drivers)
		err = each(view, drivers, true, add_manifest);
	for (size_t i = 0; i < ARRAY_SIZE(driver_folders) && !err && !drivers; i++)
		err = add_folder(view, driver_folders[i], true);
	if (!err)
		err = each(view, variable(config, "VK_ADD_LAYER_PATH"), false, add_folder);
	if (!err)
		err = each(view, variable(config, "VK_LAYER_PATH"), false, add_folder);
	if (!err && socket && socket[0] == '/')
		err = add(view, (struct sandbox_path){ .path = socket });
	return err;
}

/* ---- the GPU ---------------------------------------------------------------------------------- */

/* The device behind a node, where drivers ask what it is: /sys/devices/.../0000:01:00.0. */
static int add_device(struct render_view *view, const struct stat *st)
{
	char path[64], real[PATH_MAX];
	char *end;

	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major(st->st_rdev), minor(st->st_rdev));
	if (!realpath(path, real))
		return 0;
	end = strstr(real, "/drm/");
	if (end)
		*end = '\0';
	return add(view, (struct sandbox_path){ .path = real });
}

static int add_nodes(struct render_view *view, const struct virtio_gpu_venus_config *config,
		     struct error *e)
{
	struct stat st;
	int err = 0;

	for (unsigned i = 0; config->nodes && config->nodes[i] && !err; i++) {
		if (stat(config->nodes[i], &st) < 0 || !S_ISCHR(st.st_mode))
			return error_set(e, ENODEV, "no-gpu-node", "ls -l /dev/dri/by-path",
					 "%s is no device", config->nodes[i]);
		err = add(view, (struct sandbox_path){ .path = config->nodes[i],
						       .write = true,
						       .owner = config->user.wanted ? &config->user
										    : NULL });
		if (!err)
			err = add_device(view, &st);
		for (size_t l = 0; l < ARRAY_SIZE(links) && !err; l++)
			err = add(view, (struct sandbox_path){ .path = links[l] });
	}
	return err;
}

int render_view_make(struct render_view *view, const struct virtio_gpu_venus_config *config,
		     const char *server, struct error *e)
{
	struct error why = { 0 };
	int err;

	*view = (struct render_view){ 0 };
	err = add(view, (struct sandbox_path){ .path = server, .execute = true });
	for (size_t i = 0; i < ARRAY_SIZE(always) && !err; i++)
		err = add(view, always[i]);
	if (!err)
		err = add_environment(view, config);
	if (!err)
		err = add_nodes(view, config, &why);
	if (err && why.err) {
		if (e)
			*e = why;
		return err;
	}
	return err ? error_set(e, -err, "render-jail", NULL, "what the render side may see: %s",
			       strerror(-err))
		   : 0;
}

void render_view_free(struct render_view *view)
{
	for (unsigned i = 0; i < view->count; i++)
		free((char *)(uintptr_t)view->paths[i].path);
	for (unsigned i = 0; i < view->driver_count; i++)
		free(view->drivers[i]);
	*view = (struct render_view){ 0 };
}
