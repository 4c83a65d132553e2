// SPDX-License-Identifier: Apache-2.0
/*
 * Where the Vulkan layer is, and what makes a program's loader take it (LoaderLayerInterface.md and LoaderApplicationInterface.md of the
 * Khronos loader). A program that runs with more rights than its caller (setuid, file capabilities) ignores all of it, as the loader must.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vgpu-sched/live/launch_private.h"

#define MANIFEST "VkLayer_divvy_vgpu.json"

/* Beside the executable, as built and as installed. */
static const char *const places[] = { "/layers", "/../lib/divvy/layers",
				      "/../share/vulkan/explicit_layer.d" };

/* Whether a manifest is in @folder, and the library that it names is where it says. */
static bool is_there(const char *folder)
{
	char path[PATH_MAX + 256];
	const char *library;
	json_t *json;
	bool there;

	snprintf(path, sizeof(path), "%s/" MANIFEST, folder);
	json = json_load_file(path, 0, NULL);
	library =
		json_string_value(json_object_get(json_object_get(json, "layer"), "library_path"));
	if (library && library[0] == '/')
		snprintf(path, sizeof(path), "%s", library);
	else if (library)
		snprintf(path, sizeof(path), "%s/%s", folder, library);
	there = library && !access(path, R_OK);
	json_decref(json);
	return there;
}

int launch_layer_find(const char *folder, char path[4096], struct error *e)
{
	char self[PATH_MAX], tried[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[MAX(length, 0)] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < (folder ? 1 : ARRAY_SIZE(places)); i++) {
		if (folder)
			snprintf(tried, sizeof(tried), "%s", folder);
		else
			snprintf(tried, sizeof(tried), "%.*s%s", (int)(sizeof(tried) - 64), self,
				 places[i]);
		if (is_there(tried) && realpath(tried, path))
			return 0;
	}
	return error_set(
		e, ENOENT, "layer-missing", folder ? NULL : "make, or make install",
		"the Vulkan layer is not there: no " MANIFEST " with its library in %s%s",
		folder ? folder : self,
		folder ? "" : "/layers, ../lib/divvy/layers or ../share/vulkan/explicit_layer.d");
}

/* @name becomes @word, before or after what is there already. */
static int add(const char *name, const char *word, char separator, bool before_it)
{
	const char *there = getenv(name);
	char *value;
	int err;

	if (!there || !there[0])
		return setenv(name, word, 1) ? -ENOMEM : 0;
	if (asprintf(&value, "%s%c%s", before_it ? word : there, separator,
		     before_it ? there : word) < 0)
		return -ENOMEM;
	err = setenv(name, value, 1) ? -ENOMEM : 0;
	free(value);
	return err;
}

int launch_layer_environment(const char *folder, const char *socket,
			     const uint8_t token[LIVE_TOKEN_SIZE])
{
	char hex[2 * LIVE_TOKEN_SIZE + 1];
	int err;

	for (unsigned i = 0; i < LIVE_TOKEN_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", token[i]);
	err = setenv("DIVVY_VGPU_SOCKET", socket, 1) || setenv("DIVVY_VGPU_TOKEN", hex, 1) ? -ENOMEM
											   : 0;
	/* Where VK_LAYER_PATH is set, VK_ADD_LAYER_PATH is ignored. */
	if (!err)
		err = add("VK_ADD_LAYER_PATH", folder, ':', true);
	if (!err && getenv("VK_LAYER_PATH"))
		err = add("VK_LAYER_PATH", folder, ':', true);
	/* The last is the nearest to the driver: what the others submit passes it too. */
	if (!err)
		err = add("VK_INSTANCE_LAYERS", LAUNCH_LAYER, ':', false);
	/* Against a VK_LOADER_LAYERS_DISABLE that is there, or "~all~". */
	if (!err)
		err = add("VK_LOADER_LAYERS_ALLOW", LAUNCH_LAYER, ',', true);
	return err;
}
