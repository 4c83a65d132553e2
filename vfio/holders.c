// SPDX-License-Identifier: Apache-2.0
/*
 * Who uses a PCI function right now: its device nodes are found by walking what lies beneath it in
 * sysfs (every device there that has a node says so in its uevent file), then one pass over
 * /proc/PID/fd, /proc/self/mountinfo and /proc/swaps says who has them.
 *
 * The walk is bounded in depth and number of folders, the answer in number of holders.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vfio/holders.h"

#define WALK_DEPTH_MAX	 16
#define WALK_FOLDERS_MAX 8192
#define NODES_MAX	 256

struct node {
	struct pci_address address;
	char path[96];	 /* "/dev/dri/card0", without the root */
	bool has_number; /* number is known */
	bool is_mounted;
	bool is_block; /* else a character device */
	dev_t number;
};

struct search {
	const char *root;
	struct vfio_holders *holders;
	struct pci_address address; /* the function being walked */
	unsigned folders;
	unsigned node_count;
	struct node nodes[NODES_MAX];
};

static void add_holder(struct search *s, const struct pci_address *address, int pid,
		       const char *next, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

static void add_holder(struct search *s, const struct pci_address *address, int pid,
		       const char *next, const char *fmt, ...)
{
	struct vfio_holder *holder;
	va_list ap;

	if (s->holders->count == VFIO_HOLDERS_MAX)
		return;
	holder = &s->holders->items[s->holders->count++];
	holder->address = *address;
	holder->pid = pid;
	snprintf(holder->next, sizeof(holder->next), "%s", next);
	va_start(ap, fmt);
	vsnprintf(holder->what, sizeof(holder->what), fmt, ap);
	va_end(ap);
	for (char *p = holder->what; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
}

static struct node *add_node(struct search *s, const char *path)
{
	struct node *node;

	if (s->node_count == NODES_MAX || strlen(path) >= sizeof(node->path))
		return NULL;
	node = &s->nodes[s->node_count++];
	*node = (struct node){ .address = s->address };
	snprintf(node->path, sizeof(node->path), "%s", path);
	return node;
}

/* ---- what lies beneath a function in sysfs ------------------------------------------------ */

/* A uevent file of "KEY=value" lines; a device with a node has MAJOR, MINOR and DEVNAME. */
static void read_uevent(struct search *s, int dir)
{
	char text[4096], name[80] = "", path[96], *save, *line;
	unsigned major_number = 0, minor_number = 0;
	bool is_block = false;
	struct node *node;

	if (file_read(dir, "uevent", text, sizeof(text)) < 0)
		return;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "MAJOR=%u", &major_number) == 1 ||
		    sscanf(line, "MINOR=%u", &minor_number) == 1 ||
		    sscanf(line, "DEVNAME=%79s", name) == 1)
			continue;
		if (!strcmp(line, "DEVTYPE=disk") || !strcmp(line, "DEVTYPE=partition"))
			is_block = true;
	}
	if (!name[0])
		return;
	snprintf(path, sizeof(path), "/dev/%s", name);
	node = add_node(s, path);
	if (!node)
		return;
	node->is_block = is_block;
	node->number = makedev(major_number, minor_number);
	node->has_number = major_number != 0;
}

/* A network interface's folder has its index and flags. */
static void read_interface(struct search *s, int dir, const char *name)
{
	char next[128];
	uint64_t value;

	if (file_read_u64(dir, "ifindex", &value) || file_read_u64(dir, "flags", &value) ||
	    !(value & IFF_UP))
		return;
	snprintf(next, sizeof(next), "ip link set %s down", name);
	add_holder(s, &s->address, 0, next, "interface %s is up", name);
}

/* A block device that device-mapper or md stands on has them in holders/. */
static void read_stacked(struct search *s, int dir, const char *name)
{
	int fd = openat(dir, "holders", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *stream;

	if (fd < 0)
		return;
	stream = fdopendir(fd);
	if (!stream) {
		close(fd);
		return;
	}
	while ((entry = readdir(stream)))
		if (entry->d_name[0] != '.')
			add_holder(s, &s->address, 0, "take the device above it down first",
				   "/dev/%s is part of /dev/%s", name, entry->d_name);
	closedir(stream);
}

static bool is_folder(int dir, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_name[0] == '.')
		return false;
	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Takes over @dir. Links are not followed, so the walk stays beneath the function. */
static void walk(struct search *s, int dir, const char *name, unsigned depth)
{
	struct dirent *entry;
	DIR *stream;
	int fd;

	stream = fdopendir(dir);
	if (!stream) {
		close(dir);
		return;
	}
	if (depth) {
		read_uevent(s, dir);
		read_interface(s, dir, name);
		read_stacked(s, dir, name);
	}
	while (depth < WALK_DEPTH_MAX && (entry = readdir(stream))) {
		if (!is_folder(dir, entry) || ++s->folders > WALK_FOLDERS_MAX)
			continue;
		fd = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			walk(s, fd, entry->d_name, depth + 1);
	}
	closedir(stream);
}

/*
 * NVIDIA's driver makes /dev/nvidiaN itself, unknown to sysfs; the number is in its proc file:
 * "Device Minor: 	 0".
 */
static void add_nvidia_node(struct search *s)
{
	char path[VFIO_PATH_MAX], text[2048], node[32], bdf[PCI_ADDRESS_LEN], *line;
	unsigned minor_number;

	vfio_sysfs_path(path, s->root, "/proc/driver/nvidia/gpus/%s/information",
			pci_address_format(&s->address, bdf));
	if (file_read(-1, path, text, sizeof(text)) < 0)
		return;
	line = strstr(text, "Device Minor:");
	if (!line || sscanf(line, "Device Minor: %u", &minor_number) != 1)
		return;
	snprintf(node, sizeof(node), "/dev/nvidia%u", minor_number);
	add_node(s, node);
}

/* ---- who has the nodes -------------------------------------------------------------------- */

/*
 * By name, and by device number where the node is really a device: a process in another mount
 * namespace has it under another name.
 */
static const struct node *find_node(const struct search *s, const char *target,
				    const struct stat *st)
{
	for (unsigned i = 0; i < s->node_count; i++) {
		const struct node *node = &s->nodes[i];

		if (!strcmp(node->path, target))
			return node;
		if (st && node->has_number && node->number == st->st_rdev &&
		    (node->is_block ? S_ISBLK(st->st_mode) : S_ISCHR(st->st_mode)))
			return node;
	}
	return NULL;
}

static void look_into_process(struct search *s, const char *proc, const char *pid_text)
{
	char path[VFIO_PATH_MAX], comm_path[VFIO_PATH_MAX], comm[32], target[256], next[128];
	int pid = atoi(pid_text), dir;
	const struct node *last = NULL;
	struct dirent *entry;
	DIR *stream;

	dir = open(vfio_sysfs_path(path, "", "%s/%s/fd", proc, pid_text),
		   O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	stream = dir >= 0 ? fdopendir(dir) : NULL;
	if (!stream) {
		if (errno == EACCES || errno == EPERM)
			s->holders->unreadable++;
		fd_close(&dir);
		return;
	}
	while ((entry = readdir(stream))) {
		const struct node *node;
		struct stat st;
		ssize_t n = readlinkat(dir, entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (target[0] != '/')
			continue;
		node = find_node(s, target, fstatat(dir, entry->d_name, &st, 0) == 0 ? &st : NULL);
		if (!node || node == last)
			continue;
		last = node;
		vfio_sysfs_path(comm_path, "", "%s/%s/comm", proc, pid_text);
		if (file_read(-1, comm_path, comm, sizeof(comm)) <= 0)
			strcpy(comm, "?");
		snprintf(next, sizeof(next), "stop process %d (%s)", pid, comm);
		add_holder(s, &node->address, pid, next, "process %d (%s) has %s open", pid, comm,
			   node->path);
	}
	closedir(stream);
}

static void look_into_processes(struct search *s)
{
	char proc[VFIO_PATH_MAX];
	struct dirent *entry;
	DIR *stream;

	stream = opendir(vfio_sysfs_path(proc, s->root, "/proc"));
	if (!stream)
		return;
	while ((entry = readdir(stream)))
		if (isdigit((unsigned char)entry->d_name[0]))
			look_into_process(s, proc, entry->d_name);
	closedir(stream);
}

/*
 * proc(5), mountinfo: fields 3 and 5 are the device's number and the mount point; after " - " come
 * type and source. A btrfs has a number of its own, so the source is compared too.
 */
static void look_into_mounts(struct search *s)
{
	char path[VFIO_PATH_MAX], at[128], source[128], next[160], *line = NULL, *rest;
	unsigned major_number, minor_number;
	size_t room = 0;
	FILE *file;

	file = fopen(vfio_sysfs_path(path, s->root, "/proc/self/mountinfo"), "re");
	if (!file)
		return;
	while (getline(&line, &room, file) > 0) {
		rest = strstr(line, " - ");
		if (!rest || sscanf(rest, " - %*s %127s", source) != 1 ||
		    sscanf(line, "%*u %*u %u:%u %*s %127s", &major_number, &minor_number, at) != 3)
			continue;
		for (unsigned i = 0; i < s->node_count; i++) {
			struct node *node = &s->nodes[i];

			if (!node->is_block || node->is_mounted ||
			    (strcmp(node->path, source) != 0 &&
			     (!node->has_number ||
			      node->number != makedev(major_number, minor_number))))
				continue;
			node->is_mounted = true; /* one mount of it is enough to know */
			snprintf(next, sizeof(next), "umount %s", at);
			add_holder(s, &node->address, 0, next, "%s is mounted on %s", node->path,
				   at);
		}
	}
	free(line);
	fclose(file);
}

static void look_into_swaps(struct search *s)
{
	char path[VFIO_PATH_MAX], name[128], next[160], *line = NULL;
	size_t room = 0;
	FILE *file;

	file = fopen(vfio_sysfs_path(path, s->root, "/proc/swaps"), "re");
	if (!file)
		return;
	while (getline(&line, &room, file) > 0) {
		const struct node *node;

		if (sscanf(line, "%127s", name) != 1 || !(node = find_node(s, name, NULL)))
			continue;
		snprintf(next, sizeof(next), "swapoff %s", name);
		add_holder(s, &node->address, 0, next, "%s is swapped on", name);
	}
	free(line);
	fclose(file);
}

int vfio_holders_find(const char *root, const struct pci_address *addresses, unsigned count,
		      const unsigned *group, struct vfio_holders *holders)
{
	char path[VFIO_PATH_MAX];
	struct search *s;
	int dir;

	*holders = (struct vfio_holders){ 0 };
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->root = root;
	s->holders = holders;
	for (unsigned i = 0; i < count; i++) {
		s->address = addresses[i];
		s->folders = 0;
		dir = open(vfio_sysfs_pci(path, root, &s->address, ""),
			   O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir >= 0)
			walk(s, dir, "", 0);
		add_nvidia_node(s);
	}
	if (group && count) {
		s->address = addresses[0];
		snprintf(path, sizeof(path), "/dev/vfio/%u", *group);
		add_node(s, path);
	}
	if (s->node_count) {
		look_into_mounts(s);
		look_into_swaps(s);
		look_into_processes(s);
	}
	free(s);
	return 0;
}

int vfio_holders_refuse(const struct vfio_holders *holders, struct error *e)
{
	const struct vfio_holder *first = &holders->items[0];
	char bdf[PCI_ADDRESS_LEN], more[32] = "";

	if (!holders->count)
		return 0;
	if (holders->count > 1)
		snprintf(more, sizeof(more), " (and %u more)", holders->count - 1);
	return error_set(e, EBUSY, "device-in-use", first->next, "%s is in use: %s%s",
			 pci_address_format(&first->address, bdf), first->what, more);
}
