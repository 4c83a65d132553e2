// SPDX-License-Identifier: Apache-2.0
/* The Vulkan layer as the loader finds it: manifests that name a library, and a library that exports one function. */
#include <dlfcn.h>
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vgpu-sched/layer/layer.h"

/* What was built beside this program: BUILD/tests/unit/PROGRAM. */
static void built(char *path, size_t size, const char *name)
{
	char program[512] = { 0 };

	assert_true(readlink("/proc/self/exe", program, sizeof(program) - 1) > 0);
	snprintf(path, size, "%s/../../%s", dirname(program), name);
}

static json_t *manifest(const char *name, char *library, size_t size)
{
	char path[640], folder[640], version[32];
	json_t *json, *layer;

	built(path, sizeof(path), name);
	json = json_load_file(path, 0, NULL);
	assert_non_null(json);
	layer = json_object_get(json, "layer");
	assert_string_equal(json_string_value(json_object_get(layer, "name")), LAYER_NAME);
	snprintf(version, sizeof(version), "%u.%u.%u",
		 VK_API_VERSION_MAJOR(VK_HEADER_VERSION_COMPLETE),
		 VK_API_VERSION_MINOR(VK_HEADER_VERSION_COMPLETE),
		 VK_API_VERSION_PATCH(VK_HEADER_VERSION_COMPLETE));
	assert_string_equal(json_string_value(json_object_get(layer, "api_version")), version);
	strcpy(folder, path);
	snprintf(library, size, "%s/%s", dirname(folder),
		 json_string_value(json_object_get(layer, "library_path")));
	return json;
}

static void both_manifests_name_the_library(void **state)
{
	static const char *const names[] = { "layers/VkLayer_divvy_vgpu.json",
					     "layers/implicit/VkLayer_divvy_vgpu.json" };
	char library[PATH_MAX], real[2][PATH_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		json_t *json = manifest(names[i], library, sizeof(library));
		json_t *layer = json_object_get(json, "layer");

		assert_non_null(realpath(library, real[i]));
		/* The loader loads no implicit layer that cannot be disabled, and an explicit one needs neither. */
		assert_int_equal(json_object_get(layer, "disable_environment") != NULL, i);
		assert_int_equal(json_object_get(layer, "enable_environment") != NULL, i);
		json_decref(json);
	}
	assert_string_equal(real[0], real[1]);
}

static void the_library_exports_what_the_loader_asks_for_and_no_more(void **state)
{
	static const char *const hidden[] = { "layer_CreateInstance",  "layer_GetInstanceProcAddr",
					      "live_worker_open",      "error_print",
					      "vkGetInstanceProcAddr", "vkCreateInstance" };
	VkNegotiateLayerInterface interface = { .sType = LAYER_NEGOTIATE_INTERFACE_STRUCT,
						.loaderLayerInterfaceVersion = 7 };
	PFN_vkNegotiateLoaderLayerInterfaceVersion negotiate;
	char path[640];
	void *library;

	built(path, sizeof(path), "libVkLayer_divvy_vgpu.so");
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		fail_msg("%s", dlerror());
	negotiate = (PFN_vkNegotiateLoaderLayerInterfaceVersion)dlsym(
		library, "vkNegotiateLoaderLayerInterfaceVersion");
	assert_non_null(negotiate);
	assert_int_equal(negotiate(&interface), VK_SUCCESS);
	assert_int_equal(interface.loaderLayerInterfaceVersion, 2);
	assert_non_null(interface.pfnGetInstanceProcAddr);
	assert_non_null(interface.pfnGetPhysicalDeviceProcAddr);
	interface.loaderLayerInterfaceVersion = 1;
	assert_int_equal(negotiate(&interface), VK_ERROR_INITIALIZATION_FAILED);
	for (unsigned i = 0; i < ARRAY_SIZE(hidden); i++) {
		Dl_info from;
		void *found = dlsym(library, hidden[i]);

		/* A library beneath it may have one. */
		assert_true(!found || (dladdr(found, &from) &&
				       !strstr(from.dli_fname, "VkLayer_divvy_vgpu")));
	}
	assert_int_equal(dlclose(library), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_manifests_name_the_library),
		cmocka_unit_test(the_library_exports_what_the_loader_asks_for_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
