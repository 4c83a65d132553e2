/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GPU that is cut into virtual functions and one whose driver makes mediated devices, for a made-up node (daemon_world.h). What the kernel does
 * when a UUID is written to "create", or something to "remove", is done here by the process that writes: the test is linked with
 * --wrap=file_write. A file "mdev-stuck" in the root makes it refuse to remove any, one "mdev-slow" lets who makes one wait as long as it is there.
 */
#ifndef TESTS_UNIT_FAKE_MDEV_H
#define TESTS_UNIT_FAKE_MDEV_H

#include "tests/unit/daemon_world.h"

#define WORLD_PF	 "0000:04:00.0"
#define WORLD_VF_A	 "0000:04:00.1"
#define WORLD_VF_B	 "0000:04:00.2"
#define WORLD_MDEVS	 "0000:05:00.0"
#define WORLD_MDEV_TOTAL 2

static const char slice_types[] =
	"- name: vf\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: dedicated, provider: sriov, selector: 04:00.0 }\n"
	"- name: mdev\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: dedicated, provider: mdev, mdev_type: Small }\n"
	"- name: mixed\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: dedicated }\n    - { mode: dedicated, provider: sriov }\n"
	"    - { mode: dedicated, provider: mdev, mdev_type: fake-small }\n";

static inline void fake_mdev_count(const char *parent)
{
	char path[PATH_MAX + 160], text[16];
	unsigned there = 0;
	struct dirent *one;
	DIR *folder = opendir(parent);
	FILE *file;

	while (folder && (one = readdir(folder))) {
		snprintf(path, sizeof(path), "%.*s/sys/bus/mdev/devices/%.40s",
			 (int)(strstr(parent, "/sys/") - parent), parent, one->d_name);
		there += uuid_ok(one->d_name) && !access(path, F_OK);
	}
	if (folder)
		closedir(folder);
	snprintf(path, sizeof(path), "%s/mdev_supported_types/fake-small/available_instances",
		 parent);
	file = fopen(path, "we");
	snprintf(text, sizeof(text), "%u\n", WORLD_MDEV_TOTAL - MIN(there, WORLD_MDEV_TOTAL));
	if (file) {
		fputs(text, file);
		fclose(file);
	}
}

/* @create: the file that @uuid was written to */
static inline int fake_mdev_made(const char *create, const char *uuid)
{
	char folder[PATH_MAX], device[PATH_MAX + 40], path[PATH_MAX + 160], *end;
	char slow[PATH_MAX + 16];
	char file_path[PATH_MAX + 160];
	const char *sys = strstr(create, "/sys/");
	FILE *file;

	if (!sys || !realpath(create, folder))
		return -ENOENT;
	snprintf(slow, sizeof(slow), "%.*s/mdev-slow", (int)(sys - create), create);
	while (!access(slow, F_OK))
		usleep(1000);
	for (unsigned i = 0; i < 3 && (end = strrchr(folder, '/')); i++)
		*end = '\0';
	snprintf(device, sizeof(device), "%s/%s", folder, uuid);
	snprintf(path, sizeof(path), "%.*s/sys/bus/mdev/devices/%s", (int)(sys - create), create,
		 uuid);
	if (!access(path, F_OK))
		return -EEXIST;
	mkdir(device, 0755);
	snprintf(folder, sizeof(folder), "%.*s/sys/bus/mdev", (int)(sys - create), create);
	mkdir(folder, 0755);
	strcat(folder, "/devices");
	mkdir(folder, 0755);
	/* Whoever does this may be killed: what is there can be removed. */
	snprintf(file_path, sizeof(file_path), "%s/remove", device);
	file = fopen(file_path, "we");
	if (file)
		fclose(file);
	if (symlink(device, path))
		return -errno;
	*strrchr(device, '/') = '\0';
	fake_mdev_count(device);
	return 0;
}

/* @path: its file "remove", by way of the bus's folder */
static inline int fake_mdev_removed(const char *path)
{
	char file[PATH_MAX], link[PATH_MAX], stuck[PATH_MAX + 16], *end;
	const char *sys = strstr(path, "/sys/");

	snprintf(stuck, sizeof(stuck), "%.*s/mdev-stuck", sys ? (int)(sys - path) : 0, path);
	if (!access(stuck, F_OK))
		return -EBUSY;
	snprintf(link, sizeof(link), "%s", path);
	*strrchr(link, '/') = '\0';
	if (!realpath(path, file))
		return -ENOENT;
	unlink(link);
	unlink(file);
	end = strrchr(file, '/');
	*end = '\0';
	rmdir(file);
	*strrchr(file, '/') = '\0';
	fake_mdev_count(file);
	return 0;
}

int __real_file_write(int dirfd, const char *path, const char *text);
int __wrap_file_write(int dirfd, const char *path, const char *text);
int __wrap_file_write(int dirfd, const char *path, const char *text)
{
	const char *leaf = strrchr(path, '/');

	if (leaf && !strcmp(leaf, "/create") && strstr(path, "/mdev_supported_types/")) {
		int err = fake_mdev_made(path, text);

		return err ? err : __real_file_write(dirfd, path, text);
	}
	if (leaf && !strcmp(leaf, "/remove") && strstr(path, "/bus/mdev/devices/"))
		return fake_mdev_removed(path);
	return __real_file_write(dirfd, path, text);
}

/* How many there are, whosever. */
static inline unsigned world_mdevs(const struct world *w)
{
	char path[PATH_MAX];
	unsigned count = 0;
	struct dirent *one;
	DIR *folder;

	snprintf(path, sizeof(path), "%s/sys/bus/mdev/devices", w->fs.root);
	folder = opendir(path);
	while (folder && (one = readdir(folder)))
		count += one->d_name[0] != '.';
	if (folder)
		closedir(folder);
	return count;
}

/* Before the daemon starts. */
static inline void world_slices(struct world *w)
{
	static const char *const functions[] = { WORLD_VF_A, WORLD_VF_B };
	char folder[PATH_MAX], path[PATH_MAX + 160], physical[PATH_MAX];
	uint8_t config[64] = { 0xff, 0xff, 0xff, 0xff, [0x0b] = 3, [0x0a] = 0x80 };

	world_gpu(w, WORLD_PF, 4, "xe");
	fake_sysfs_device_write(&w->fs, WORLD_PF, "sriov_totalvfs", "7\n");
	fake_sysfs_device_write(&w->fs, WORLD_PF, "sriov_numvfs", "2\n");
	fake_sysfs_device_path(&w->fs, WORLD_PF, physical);
	for (unsigned i = 0; i < 2; i++) {
		world_gpu(w, functions[i], 41 + (int)i, "vfio-pci");
		fake_sysfs_device_path(&w->fs, functions[i], folder);
		snprintf(path, sizeof(path), "%s/physfn", folder);
		fake_sysfs_link(&w->fs, path, physical);
		/* As virtual functions have it: no numbers of their own. */
		snprintf(path, sizeof(path), "%s/config", folder);
		fake_sysfs_write_bytes(&w->fs, path, config, sizeof(config));
	}
	world_gpu(w, WORLD_MDEVS, -1, "i915");
	fake_sysfs_device_path(&w->fs, WORLD_MDEVS, folder);
	fake_sysfs_link(&w->fs, "sys/class/mdev_bus/" WORLD_MDEVS, folder);
#define TYPE_FILE(leaf, text)                                                              \
	(snprintf(path, sizeof(path), "%s/mdev_supported_types/fake-small/" leaf, folder), \
	 fake_sysfs_write(&w->fs, path, "%s", text))
	TYPE_FILE("name", "Small\n");
	TYPE_FILE("device_api", "vfio-pci\n");
	TYPE_FILE("available_instances", "2\n");
	TYPE_FILE("create", "");
	world_write(w, "types/slices.yaml", slice_types);
}

static inline int world_setup_slices(void **state)
{
	static struct world world;

	world_create(&world);
	world_slices(&world);
	*state = &world;
	return world_start(&world, NULL) ? 0 : -1;
}

#endif
