// SPDX-License-Identifier: Apache-2.0
/* The command lines of an instance's processes. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/launch/launch_private.h"

void command_word(struct command *command, const char *fmt, ...)
{
	va_list ap;

	if (command->count == LAUNCH_WORDS_MAX) {
		command->failed = true;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&command->words[command->count], fmt, ap) < 0) {
		command->words[command->count] = NULL;
		command->failed = true;
	} else {
		command->count++;
	}
	va_end(ap);
}

void command_free(struct command *command)
{
	for (unsigned i = 0; i < command->count; i++)
		free(command->words[i]);
}

void launch_vgpu_name(const char *instance, unsigned gpu, char name[48])
{
	snprintf(name, 48, "%.41s/%u", instance, gpu % 100);
}

void launch_path(const struct launch_places *places, const char *instance, const char *file,
		 char path[108])
{
	int n = snprintf(path, 108, "%s/%s/%s", places->run, instance, file);

	/* A UNIX socket's name has no room for more; who listens there says so. */
	if (n < 0 || n >= 108)
		path[0] = '\0';
}

void launch_viewer_path(const struct launch_places *places, const char *instance, unsigned head,
			char path[108])
{
	char file[32];

	snprintf(file, sizeof(file), "head%u.vnc", head);
	launch_path(places, instance, file, path);
}

static void pair(struct command *command, const char *word, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void pair(struct command *command, const char *word, const char *fmt, ...)
{
	char value[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	command_word(command, "%s", word);
	command_word(command, "%s", value);
}

/* The process above it: its log and its end in the instance's folder, by its role. */
static void keeper(struct command *command, const struct launch_places *places,
		   const struct launch_instance *instance, const char *role)
{
	command_word(command, "%s/divvyd", places->programs);
	command_word(command, "keep");
	pair(command, "--log", "%s/%s/%s.log", places->state, instance->name, role);
	pair(command, "--exit", "%s/%s/%s.exit", places->state, instance->name, role);
	command_word(command, "--");
}

static int spawn(struct command *command, const struct launch_places *places,
		 const struct launch_instance *instance, const char *role, launch_commit *commit,
		 void *opaque, struct launch_process *process, struct error *e)
{
	char group[4096] = "", output[4200];
	const struct surroundings surroundings = { .node = places->state,
						   .instance =
							   instance ? instance->uuid : "arbiter",
						   .group = group,
						   .output = output };
	int err;

	snprintf(output, sizeof(output), "%s/%s%s%s.log", places->state,
		 instance ? instance->name : "", instance ? "/" : "", role);
	if (instance)
		group_make(places, instance, group);
	err = process_spawn(command, &surroundings, role, commit, opaque, process, e);
	command_free(command);
	return err;
}

int launch_spawn_arbiter(const struct launch_places *places, launch_commit *commit, void *opaque,
			 struct launch_process *process, struct error *e)
{
	struct command command = { 0 };

	command_word(&command, "%s/divvy", places->programs);
	command_word(&command, "arbiter");
	pair(&command, "--socket", "%s", places->arbiter);
	if (places->slice_ms)
		pair(&command, "--slice", "%u", (unsigned)places->slice_ms);
	return spawn(&command, places, NULL, "arbiter", commit, opaque, process, e);
}

/* Credits are minutes of a whole GPU. */
static double credits(uint64_t ns)
{
	return (double)ns / 60e9;
}

static void share_words(struct command *command, const struct launch_gpu *gpu)
{
	const bool fixed = !strcmp(gpu->policy, "fixed_share"),
		   burst = !strcmp(gpu->policy, "burst");

	pair(command, "--policy", "%s", gpu->policy);
	if (fixed || burst)
		pair(command, "--share", "%.4f%%", gpu->share_ppm / 1e4);
	if (fixed && gpu->elastic_ppm)
		pair(command, "--elastic", "%.4f%%", gpu->elastic_ppm / 1e4);
	if ((burst || !strcmp(gpu->policy, "weighted")) && gpu->weight)
		pair(command, "--weight", "%u", gpu->weight);
	if (burst) {
		pair(command, "--credits", "%.6f", credits(gpu->credit_max_ns));
		if (gpu->surplus_max_ns)
			pair(command, "--surplus", "%.6f", credits(gpu->surplus_max_ns));
		if (gpu->credit_ns)
			pair(command, "--balance", "%.6f", credits(gpu->credit_ns));
	}
	if (gpu->vram_bytes)
		pair(command, "--memory-quota", "%lluM",
		     (unsigned long long)(gpu->vram_bytes / MIB));
}

int launch_spawn_vgpu(const struct launch_places *places, const struct launch_instance *instance,
		      unsigned index, launch_commit *commit, void *opaque,
		      struct launch_process *process, struct error *e)
{
	const struct launch_gpu *gpu = &instance->gpus[index];
	char role[16], name[48], path[108], file[32], heads[64] = "";
	struct command command = { 0 };

	snprintf(role, sizeof(role), "gpu%u", index);
	launch_vgpu_name(instance->name, index, name);
	keeper(&command, places, instance, role);
	command_word(&command, "%s/divvy", places->programs);
	command_word(&command, "run-native");
	pair(&command, "--socket", "%s", places->arbiter);
	pair(&command, "--name", "%s", name);
	if (gpu->gpu[0])
		pair(&command, "--gpu", "%s", gpu->gpu);
	if (places->layers)
		pair(&command, "--layers", "%s", places->layers);
	share_words(&command, gpu);
	command_word(&command, "--");
	command_word(&command, "%s/divvy-vgpu", places->programs);
	snprintf(file, sizeof(file), "gpu%u.sock", index);
	launch_path(places, instance->name, file, path);
	pair(&command, "--socket", "%s", path);
	snprintf(file, sizeof(file), "gpu%u.ctl", index);
	launch_path(places, instance->name, file, path);
	pair(&command, "--control", "%s", path);
	/* What the guest's monitors are called has 12 letters. */
	pair(&command, "--name", "%.12s", instance->name);
	for (unsigned i = 0; i < gpu->head_count; i++)
		text_append(heads, sizeof(heads), "%s%ux%u", i ? "," : "", gpu->heads[i].width,
			    gpu->heads[i].height);
	if (heads[0]) {
		pair(&command, "--heads", "%s", heads);
		command_word(&command, "--input");
	}
	for (unsigned i = 0; i < gpu->head_count; i++) {
		launch_viewer_path(places, instance->name, i, path);
		pair(&command, "--vnc", "%s", path);
	}
	if (instance->uid) {
		pair(&command, "--jail", "uid=%u", instance->uid + 1);
		pair(&command, "--render-jail", "uid=%u", instance->uid + 2);
	}
	return spawn(&command, places, instance, role, commit, opaque, process, e);
}

/* What `divvy-vgpu --input` offers beside its own socket, by the endings of their names. */
static const char *const inputs[] = { ".keyboard", ".pointer", ".touch" };

int launch_spawn_vmm(const struct launch_places *places, const struct launch_instance *instance,
		     launch_commit *commit, void *opaque, struct launch_process *process,
		     struct error *e)
{
	struct command command = { 0 };
	char path[108], file[32], address[PCI_ADDRESS_LEN];

	keeper(&command, places, instance, "vmm");
	command_word(&command, "%s/divvy-vmm", places->programs);
	pair(&command, "--config", "%s/%s/guest.conf", places->state, instance->name);
	pair(&command, "--name", "%s", instance->name);
	pair(&command, "--cpus", "%u", instance->vcpus);
	pair(&command, "--memory", "%lluM", (unsigned long long)(instance->memory_bytes / MIB));
	if (instance->numa_node >= 0) {
		pair(&command, "--numa", "cpus=0-%u,memory=%lluM,host-node=%d", instance->vcpus - 1,
		     (unsigned long long)(instance->memory_bytes / MIB), instance->numa_node);
	}
	if (instance->huge_pages[0])
		pair(&command, "--huge-pages", "%s", instance->huge_pages);
	launch_path(places, instance->name, "console", path);
	pair(&command, "--serial", "socket:%s", path);
	launch_path(places, instance->name, "vmm.ctl", path);
	pair(&command, "--control", "%s", path);
	/* Nothing is added to an instance while it runs: so its VMM need not be able to open anything. */
	pair(&command, "--hotplug-ports", "0");
	for (unsigned i = 0; i < instance->gpu_count; i++) {
		const struct launch_gpu *gpu = &instance->gpus[i];

		for (unsigned f = 0; gpu->dedicated && f < gpu->function_count; f++)
			pair(&command, "--vfio", "%s",
			     pci_address_format(&gpu->functions[f], address));
		if (gpu->mdev[0])
			pair(&command, "--vfio", "%s", gpu->mdev);
		if (gpu->dedicated)
			continue;
		snprintf(file, sizeof(file), "gpu%u.sock", i);
		launch_path(places, instance->name, file, path);
		pair(&command, "--vfio-user", "%s", path);
		for (unsigned n = 0; gpu->head_count && n < ARRAY_SIZE(inputs); n++)
			pair(&command, "--vfio-user", "%s%s", path, inputs[n]);
	}
	for (unsigned i = 0; i < instance->nic_count; i++)
		pair(&command, "--net", "%s", instance->nics[i]);
	if (instance->uid)
		pair(&command, "--jail", "uid=%u", instance->uid);
	return spawn(&command, places, instance, "vmm", commit, opaque, process, e);
}
