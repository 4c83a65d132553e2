// SPDX-License-Identifier: Apache-2.0
/*
 * An instance's control group (cgroup v2): what all its processes together may use, and the one sure list of them. Where we have no
 * group that is ours, there is none, and processes are known by the mark in their environment alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/launch/launch_private.h"

/*
 * Beside the guest's memory: the VMM itself, page tables (8 bytes a page of 4 KiB, on both sides, so 1/256), what the kernel accounts for
 * a large BAR's mappings; a vGPU's processes, with their Vulkan driver and what of a guest's device memory they hold.
 */
#define VMM_BYTES      (256 * MIB)
#define FUNCTION_BYTES (128 * MIB)
#define VGPU_BYTES     (768 * MIB)
#define PIDS_VMM       512
#define PIDS_VGPU      1024 /* a guest has up to 64 contexts, each a process with some threads */
#define WEIGHT_VCPU    100  /* of cpu.weight, up to its largest */
#define WEIGHT_MAX     10000
#define CPU_PERIOD_US  100000u

void group_path(const struct launch_places *places, const char *name, const char *uuid,
		char path[4096])
{
	path[0] = '\0';
	if (places->cgroup)
		snprintf(path, 4096, "%.3000s/%s@%s", places->cgroup, name, uuid);
}

static void set(const char *group, const char *file, const char *fmt, uint64_t value)
{
	char path[4200], text[64];
	int err;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	snprintf(text, sizeof(text), fmt, (unsigned long long)value);
	err = file_write(AT_FDCWD, path, text);
	/* A controller that is not there limits nothing; the rest holds. */
	if (err)
		log_debug("%s: %s", path, strerror(-err));
}

void group_make(const struct launch_places *places, const struct launch_instance *instance,
		char path[4096])
{
	uint64_t memory = instance->memory_bytes + instance->memory_bytes / 256 * 2 + VMM_BYTES;
	unsigned vgpus = 0;

	group_path(places, instance->name, instance->uuid, path);
	if (!path[0])
		return;
	if (mkdir(path, 0755) < 0 && errno != EEXIST) {
		log_warn("%s: %s: this instance runs without limits", path, strerror(errno));
		path[0] = '\0';
		return;
	}
	for (unsigned i = 0; i < instance->gpu_count; i++) {
		const struct launch_gpu *gpu = &instance->gpus[i];

		memory += gpu->dedicated ? (gpu->function_count + !!gpu->mdev[0]) * FUNCTION_BYTES
					 : VGPU_BYTES + gpu->vram_bytes;
		vgpus += !gpu->dedicated;
	}
	set(path, "memory.max", "%llu", memory);
	set(path, "memory.swap.max", "%llu", 0);
	set(path, "pids.max", "%llu", PIDS_VMM + vgpus * PIDS_VGPU);
	set(path, "cpu.weight", "%llu", MIN((uint64_t)instance->vcpus * WEIGHT_VCPU, WEIGHT_MAX));
	/* Its vCPUs, one for the VMM's own threads, two for each vGPU's. */
	set(path, "cpu.max", "%llu 100000",
	    ((uint64_t)instance->vcpus + 1 + 2 * vgpus) * CPU_PERIOD_US);
}

unsigned group_kill(const char *path)
{
	char file[4200], pids[4096];
	unsigned count = 0;
	ssize_t size;

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	size = file_read(AT_FDCWD, file, pids, sizeof(pids));
	if (size == -ENOENT)
		return 0;
	if (size == -EFBIG)
		count = 1;
	for (const char *line = size > 0 ? pids : NULL; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		count++;
	}
	if (count) {
		snprintf(file, sizeof(file), "%s/cgroup.kill", path);
		file_write(AT_FDCWD, file, "1");
		return count;
	}
	if (rmdir(path) < 0 && errno != ENOENT && errno != EBUSY)
		log_debug("%s: %s", path, strerror(errno));
	return 0;
}
