// SPDX-License-Identifier: Apache-2.0
/*
 * What a GPU is called for good. Addresses move when hardware does, so a number that the hardware has is better, where somebody tells
 * it: NVIDIA's driver (its UUID), AMD's (unique_id), vital product data, or the Device Serial Number capability. Drivers tell only while
 * they have the device, so a GPU keeps the ID it was once given (struct node_known); where two say the same number, it is no identity.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "instances/node/private.h"

/* Letters, digits and "-._"; anything else, or nothing, is no number. */
static bool is_word(const char *text, size_t max)
{
	const size_t length = strlen(text);

	return length && length <= max &&
	       strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._") ==
		       length &&
	       strspn(text, "0-._") != length && strspn(text, "fF") != length;
}

/* "GPU UUID: \t GPU-6c0e5d1f-...", with question marks until the driver knows it. */
static bool from_nvidia(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX], text[2048], bdf[PCI_ADDRESS_LEN], *at;

	pci_address_format(&gpu->address, bdf);
	node_path(path, root, "/proc/driver/nvidia/gpus/%s/information", bdf);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) < 0)
		return false;
	at = strstr(text, "GPU UUID:");
	if (!at)
		return false;
	at += strlen("GPU UUID:");
	at += strspn(at, " \t");
	at[strcspn(at, " \t\n")] = '\0';
	if (!is_word(at, 48) || strncmp(at, "GPU-", 4) != 0)
		return false;
	snprintf(gpu->serial, sizeof(gpu->serial), "%s", at);
	return true;
}

static bool from_amdgpu(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX], text[64];

	if (!node_text(node_pci_path(path, root, &gpu->address, "unique_id"), text, sizeof(text)) ||
	    !is_word(text, 40))
		return false;
	snprintf(gpu->serial, sizeof(gpu->serial), "amdgpu-%.40s", text);
	return true;
}

/* PCI Local Bus 3.0, appendix I: resources of tag, length, data; the serial number is keyword SN of the read-only one (0x90). */
static bool from_vpd(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX], word[41];
	uint8_t vpd[1024];
	size_t at = 0, size, end, length;
	int fd = open(node_pci_path(path, root, &gpu->address, "vpd"), O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, vpd, sizeof(vpd));
	close(fd);
	size = (size_t)MAX(n, 0);
	while (at + 3 <= size && vpd[at] & 0x80) {
		length = (size_t)(vpd[at + 1] | vpd[at + 2] << 8);
		end = MIN(at + 3 + length, size);
		if (vpd[at] != 0x90) {
			at = end;
			continue;
		}
		for (at += 3; at + 3 <= end; at += 3 + vpd[at + 2]) {
			length = vpd[at + 2];
			if (vpd[at] != 'S' || vpd[at + 1] != 'N' || at + 3 + length > end ||
			    length >= sizeof(word))
				continue;
			memcpy(word, &vpd[at + 3], length);
			word[length] = '\0';
			word[strcspn(word, " ")] = '\0';
			if (!is_word(word, 40))
				return false;
			snprintf(gpu->serial, sizeof(gpu->serial), "serial-%s", word);
			return true;
		}
		return false;
	}
	return false;
}

/* PCIe 6.0, 7.9.3: Device Serial Number, extended capability 3: eight bytes, an EUI-64. */
static bool from_config(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX];
	uint8_t config[4096] = { 0 };
	unsigned at = 0x100;
	size_t size = 0;
	ssize_t n;
	int fd = open(node_pci_path(path, root, &gpu->address, "config"), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	while (size < sizeof(config) && (n = read(fd, config + size, sizeof(config) - size)) > 0)
		size += (size_t)n;
	close(fd);
	/* As many as there can be: a chain may be a ring. */
	for (unsigned i = 0; i < 480 && at >= 0x100 && at + 12 <= size; i++) {
		const uint8_t *c = config + at;

		if ((c[0] | c[1] << 8) != 3) {
			at = (unsigned)(c[2] >> 4 | c[3] << 4) & ~3u;
			continue;
		}
		snprintf(gpu->serial, sizeof(gpu->serial), "dsn-%02x%02x%02x%02x%02x%02x%02x%02x",
			 c[11], c[10], c[9], c[8], c[7], c[6], c[5], c[4]);
		if (is_word(gpu->serial + strlen("dsn-"), 40))
			return true;
		gpu->serial[0] = '\0';
		return false;
	}
	return false;
}

void node_serial_read(const char *root, struct node_gpu *gpu)
{
	/* A virtual function has no number of its own; one that sleeps deeply would be woken. */
	if (gpu->is_virtual_function)
		return;
	if (from_nvidia(root, gpu) || from_amdgpu(root, gpu) || !strcmp(gpu->power_state, "D3cold"))
		return;
	if (!from_vpd(root, gpu))
		from_config(root, gpu);
}

/* ---- IDs --------------------------------------------------------------------------------------------- */

static void address_id(struct node_gpu *gpu)
{
	char bdf[PCI_ADDRESS_LEN];

	snprintf(gpu->id, sizeof(gpu->id), "pci-%s", pci_address_format(&gpu->address, bdf));
}

static bool is_known(const char *id, const struct node_known *known, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(known[i].id, id))
			return true;
	return false;
}

static bool is_taken(const struct node *node, const char *id)
{
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (!strcmp(node->gpus[i].id, id))
			return true;
	return false;
}

/* Whether both are numbers of one source: "GPU-...", "amdgpu-...", "serial-...", "dsn-...". */
static bool same_source(const char *a, const char *b)
{
	const size_t length = strcspn(a, "-");

	return length == strcspn(b, "-") && !strncmp(a, b, length);
}

/*
 * The ID that what is at this address had before, unless its number says that it is another one. A number from another source says
 * nothing: which one can be read goes with the driver.
 */
static const char *id_before(const struct node_gpu *gpu, const struct node_known *known,
			     unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pci_address_equal(&known[i].address, &gpu->address) &&
		    known[i].vendor == gpu->vendor && known[i].device == gpu->device &&
		    !same_source(known[i].id, gpu->serial))
			return known[i].id;
	return NULL;
}

static bool same_serial(const struct node *node, unsigned index)
{
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (i != index && !strcmp(node->gpus[i].serial, node->gpus[index].serial))
			return true;
	return false;
}

void node_identify(struct node *node, const struct node_known *known, unsigned known_count)
{
	bool twice[NODE_GPUS_MAX] = { false };

	for (unsigned i = 0; i < node->gpu_count; i++)
		twice[i] = node->gpus[i].serial[0] && same_serial(node, i);
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (twice[i])
			node->gpus[i].serial[0] = '\0';
	/* Who has a number that is known has its ID, wherever it is now. */
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (node->gpus[i].serial[0] && is_known(node->gpus[i].serial, known, known_count))
			strcpy(node->gpus[i].id, node->gpus[i].serial);
	for (unsigned i = 0; i < node->gpu_count; i++) {
		struct node_gpu *gpu = &node->gpus[i];
		const char *before;

		if (gpu->id[0] || !gpu->has_address)
			continue;
		before = id_before(gpu, known, known_count);
		if (before && !is_taken(node, before))
			snprintf(gpu->id, sizeof(gpu->id), "%s", before);
		else if (gpu->serial[0])
			strcpy(gpu->id, gpu->serial);
		else
			address_id(gpu);
	}
}
