// SPDX-License-Identifier: Apache-2.0
/* Small files of sysfs and procfs below a root, as untrusted text: bounded, converted once, left out when they make no sense. */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/node/private.h"

const char *node_path(char path[NODE_PATH_MAX], const char *root, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	path_below(path, NODE_PATH_MAX, root, fmt, ap);
	va_end(ap);
	return path;
}

const char *node_pci_path(char path[NODE_PATH_MAX], const char *root,
			  const struct pci_address *address, const char *leaf)
{
	char bdf[PCI_ADDRESS_LEN];

	return node_path(path, root, "/sys/bus/pci/devices/%s%s%s",
			 pci_address_format(address, bdf), leaf[0] ? "/" : "", leaf);
}

bool node_text(const char *path, char *text, size_t size)
{
	if (file_read(AT_FDCWD, path, text, size) < 0)
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	text_printable(text);
	return text[0];
}

uint64_t node_number(const char *path, uint64_t otherwise)
{
	uint64_t value;

	return file_read_u64(AT_FDCWD, path, &value) ? otherwise : value;
}

void node_link_name(const char *path, char *name, size_t size)
{
	char target[NODE_PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	const char *base;

	target[MAX(n, 0)] = '\0';
	base = strrchr(target, '/');
	snprintf(name, size, "%s", base ? base + 1 : target);
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

void node_names(const char *path, unsigned max, void (*found)(void *opaque, const char *name),
		void *opaque)
{
	struct dirent **entries;
	int count = scandir(path, &entries, visible, alphasort);

	for (int i = 0; i < count; i++) {
		if ((unsigned)i < max)
			found(opaque, entries[i]->d_name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

bool node_exists(const char *path)
{
	return path[0] && access(path, F_OK) == 0;
}
