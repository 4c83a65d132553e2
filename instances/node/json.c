// SPDX-License-Identifier: Apache-2.0
/*
 * The inventory as JSON (docs/node.md has the keys). All text in it is printable ASCII since it was read. What is not known is null;
 * the keys are there all the same.
 */
#include <stdio.h>
#include <string.h>

#include "instances/building.h"
#include "instances/node/private.h"

static json_t *text_or_null(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *address(const struct pci_address *address)
{
	char bdf[PCI_ADDRESS_LEN];

	return json_string(pci_address_format(address, bdf));
}

static json_t *hex(unsigned value, int digits)
{
	char text[16];

	snprintf(text, sizeof(text), "%0*x", digits, value);
	return json_string(text);
}

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *number_or_null(uint64_t value)
{
	return value ? number(value) : json_null();
}

static json_t *cpus(const struct cpu_list *list)
{
	char text[4096];

	return json_string(cpu_list_format(list, text, sizeof(text)));
}

static json_t *functions(const struct node_gpu *gpu)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < gpu->function_count; i++) {
		const struct node_function *function = &gpu->functions[i];
		struct building b = { .object = json_object() };

		put(&b, "address", address(&function->address));
		put(&b, "vendor", hex(function->vendor, 4));
		put(&b, "device", hex(function->device, 4));
		put(&b, "class", hex(function->class_code, 6));
		put(&b, "driver", text_or_null(function->driver));
		json_array_append_new(list, done(&b));
	}
	return list;
}

static json_t *upstream(const struct node_gpu *gpu)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < gpu->upstream_count; i++)
		json_array_append_new(list, address(&gpu->upstream[i]));
	return list;
}

static json_t *link_json(const struct node_link *link)
{
	struct building b = { .object = json_object() };

	put(&b, "mts", number_or_null(link->mts));
	put(&b, "width", number_or_null(link->width));
	put(&b, "max_mts", number_or_null(link->max_mts));
	put(&b, "max_width", number_or_null(link->max_width));
	return done(&b);
}

static json_t *bars(const struct node_gpu *gpu)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < NODE_BARS; i++)
		json_array_append_new(list, number(gpu->bars[i]));
	return list;
}

static json_t *providers(const struct node_gpu *gpu)
{
	static const char *const names[] = { "whole", "sriov", "mdev", "vulkan" };
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (gpu->providers & 1u << i)
			json_array_append_new(list, json_string(names[i]));
	return list;
}

static json_t *mdev_types(const struct node_gpu *gpu)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < gpu->mdev_type_count; i++) {
		const struct node_mdev_type *type = &gpu->mdev_types[i];
		struct building b = { .object = json_object() };

		put(&b, "type", json_string(type->id));
		put(&b, "name", text_or_null(type->name));
		put(&b, "available", number(type->available));
		json_array_append_new(list, done(&b));
	}
	return list;
}

static json_t *physical_function(const struct node_gpu *gpu)
{
	return gpu->is_virtual_function ? address(&gpu->physical_function) : json_null();
}

static json_t *vram_source(enum node_vram_source source)
{
	switch (source) {
	case NODE_VRAM_DRIVER:
		return json_string("driver");
	case NODE_VRAM_VULKAN:
		return json_string("vulkan");
	case NODE_VRAM_BAR:
		return json_string("bar");
	case NODE_VRAM_UNKNOWN:
		break;
	}
	return json_null();
}

static void put_pci(struct building *b, const struct node_gpu *gpu)
{
	const bool pci = gpu->has_address;

	put(b, "address", pci ? address(&gpu->address) : json_null());
	put(b, "vendor", pci ? hex(gpu->vendor, 4) : json_null());
	put(b, "device", pci ? hex(gpu->device, 4) : json_null());
	put(b, "subsystem_vendor", pci ? hex(gpu->subsystem_vendor, 4) : json_null());
	put(b, "subsystem_device", pci ? hex(gpu->subsystem_device, 4) : json_null());
	put(b, "class", pci ? hex(gpu->class_code, 6) : json_null());
}

static json_t *node_gpu_json(const struct node_gpu *gpu)
{
	struct building b = { .object = json_object() };

	put(&b, "id", json_string(gpu->id));
	put_pci(&b, gpu);
	put(&b, "class_name", json_string(gpu->class_name));
	put(&b, "name", json_string(gpu->name));
	put(&b, "serial", text_or_null(gpu->serial));
	put(&b, "software", json_boolean(gpu->software));
	put(&b, "driver", text_or_null(gpu->driver));
	put(&b, "functions", functions(gpu));
	put(&b, "group", gpu->group >= 0 ? json_integer(gpu->group) : json_null());
	put(&b, "group_viable", json_boolean(gpu->viable));
	put(&b, "why_not", text_or_null(gpu->why_not));
	put(&b, "assignable", json_boolean(gpu->assignable));
	put(&b, "why_not_assignable", text_or_null(gpu->not_assignable));
	put(&b, "isolated", json_boolean(gpu->isolated));
	put(&b, "numa_node", gpu->numa_node >= 0 ? json_integer(gpu->numa_node) : json_null());
	put(&b, "local_cpus", cpus(&gpu->local_cpus));
	put(&b, "upstream", upstream(gpu));
	put(&b, "link", link_json(&gpu->link));
	put(&b, "reset_methods", text_or_null(gpu->reset_methods));
	put(&b, "power_state", text_or_null(gpu->power_state));
	put(&b, "boot_vga", json_boolean(gpu->boot_vga));
	put(&b, "card", text_or_null(gpu->card));
	put(&b, "render_node", text_or_null(gpu->render));
	put(&b, "bars", bars(gpu));
	put(&b, "vram_mib", number_or_null(gpu->vram_mib));
	put(&b, "vram_source", vram_source(gpu->vram_source));
	put(&b, "providers", providers(gpu));
	put(&b, "sriov_total", json_integer(gpu->sriov_total));
	put(&b, "sriov_now", json_integer(gpu->sriov_now));
	put(&b, "physical_function", physical_function(gpu));
	put(&b, "mdev_types", mdev_types(gpu));
	put(&b, "mdev_now", json_integer(gpu->mdev_now));
	put(&b, "vulkan_name", text_or_null(gpu->vulkan_name));
	put(&b, "vulkan_device", text_or_null(gpu->vulkan_device));
	return done(&b);
}

static json_t *words(const char *text)
{
	char copy[sizeof(((struct node_gpu *)NULL)->reset_methods)], *rest = NULL;
	json_t *list = json_array();

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		json_array_append_new(list, json_string(word));
	return list;
}

json_t *node_gpu_api_json(const struct node_gpu *gpu)
{
	struct building b = { .object = json_object() };
	json_t *list = json_array();

	for (unsigned i = 0; i < gpu->function_count; i++)
		json_array_append_new(list, address(&gpu->functions[i].address));
	put(&b, "id", json_string(gpu->id));
	put(&b, "name", json_string(gpu->name));
	put(&b, "kind", json_string(gpu->software ? "software" : "pci"));
	put(&b, "pci_address", gpu->has_address ? address(&gpu->address) : json_null());
	put(&b, "vendor_id", gpu->has_address ? hex(gpu->vendor, 4) : json_null());
	put(&b, "device_id", gpu->has_address ? hex(gpu->device, 4) : json_null());
	put(&b, "driver", text_or_null(gpu->driver));
	put(&b, "numa_node", gpu->numa_node >= 0 ? json_integer(gpu->numa_node) : json_null());
	put(&b, "iommu_group", gpu->group >= 0 ? json_integer(gpu->group) : json_null());
	put(&b, "memory_bytes", number(gpu->vram_mib * MIB));
	put(&b, "memory_estimated", json_boolean(gpu->vram_source == NODE_VRAM_BAR));
	put(&b, "functions", list);
	put(&b, "providers", providers(gpu));
	put(&b, "reset_methods", words(gpu->reset_methods));
	put(&b, "sriov_total", number(gpu->sriov_total));
	put(&b, "sriov_now", number(gpu->sriov_now));
	put(&b, "physical_function", physical_function(gpu));
	put(&b, "mdev_types", mdev_types(gpu));
	return done(&b);
}

json_t *node_link_api_json(const struct node_link *link)
{
	return json_pack("{s:f, s:i, s:f, s:i}", "speed_gts", link->mts / 1000.0, "width",
			 (int)link->width, "max_speed_gts", link->max_mts / 1000.0, "max_width",
			 (int)link->max_width);
}

static json_t *huge_json(const struct node_huge_pages *pages)
{
	/* How many are free changes all the time, and is not the inventory's. */
	return number(pages->total);
}

static json_t *numa_json(const struct node *node)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < node->numa_count; i++) {
		const struct node_numa *numa = &node->numa[i];
		struct building b = { .object = json_object() };

		put(&b, "id", json_integer(numa->id));
		put(&b, "cpus", cpus(&numa->cpus));
		put(&b, "memory_mib", number(numa->memory_mib));
		put(&b, "huge_pages_2m", huge_json(&numa->huge_2m));
		put(&b, "huge_pages_1g", huge_json(&numa->huge_1g));
		json_array_append_new(list, done(&b));
	}
	return list;
}

static json_t *gpus(const struct node *node)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < node->gpu_count; i++)
		json_array_append_new(list, node_gpu_json(&node->gpus[i]));
	return list;
}

static json_t *mdevs(const struct node *node)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < node->mdev_count; i++) {
		struct building b = { .object = json_object() };

		put(&b, "uuid", json_string(node->mdevs[i].uuid));
		put(&b, "parent", address(&node->mdevs[i].parent));
		json_array_append_new(list, done(&b));
	}
	return list;
}

json_t *node_json(const struct node *node)
{
	struct building b = { .object = json_object() };

	put(&b, "cpu_count", json_integer(node->cpu_count));
	put(&b, "cpus", cpus(&node->cpus));
	put(&b, "memory_mib", number(node->memory_mib));
	put(&b, "huge_pages_2m", huge_json(&node->huge_2m));
	put(&b, "huge_pages_1g", huge_json(&node->huge_1g));
	put(&b, "numa", numa_json(node));
	put(&b, "iommu", json_boolean(node->iommu));
	put(&b, "acs_override", json_boolean(node->acs_override));
	put(&b, "interrupt_remapping", json_boolean(node->interrupt_remapping));
	put(&b, "gpus", gpus(node));
	put(&b, "mdevs", mdevs(node));
	put(&b, "truncated", json_boolean(node->truncated));
	return done(&b);
}
