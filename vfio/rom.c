// SPDX-License-Identifier: Apache-2.0
/*
 * The contents of an expansion ROM, read once, from the device or from a file. Guests are shown the
 * copy: what they write, and what the device answers later, changes nothing.
 *
 * PCI Local Bus 3.0, 6.3.1.1: an image begins with 55 AA. Sizes are those of ROM BARs, powers of two
 * from 2 KiB on; what the contents do not fill reads as ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfio/pci_internal.h"

#define ROM_MIN	  (2 * KIB)
#define ROM_CHUNK (4 * KIB) /* of one read from a device: no server's message is too small for it */

static struct vfio_rom *rom_new(uint64_t content)
{
	uint64_t size = ROM_MIN;
	struct vfio_rom *rom;

	while (size < content)
		size *= 2;
	rom = malloc(sizeof(*rom) + size);
	if (!rom)
		return NULL;
	rom->size = size;
	memset(rom->data, 0xff, size);
	return rom;
}

static int from_file(const char *name, const char *path, struct vfio_rom **out, struct error *e)
{
	int err, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		err = error_set(e, errno, "rom-unreadable", NULL, "%s: ROM %s: %s", name, path,
				strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < 2 || st.st_size > (off_t)VFIO_ROM_MAX) {
		err = error_set(e, EINVAL, "bad-rom", NULL,
				"%s: ROM %s: not a file of 2 bytes to 16 MiB", name, path);
		goto out;
	}
	*out = rom_new((uint64_t)st.st_size);
	if (!*out) {
		err = error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", name);
		goto out;
	}
	err = pread_full(fd, (*out)->data, (size_t)st.st_size, 0);
	if (err)
		error_set(e, -err, "rom-unreadable", NULL, "%s: ROM %s: %s", name, path,
			  strerror(-err));
out:
	fd_close(&fd);
	return err;
}

static int read_region(struct vfio_device *device, struct vfio_rom *rom, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += ROM_CHUNK) {
		size_t count = MIN(ROM_CHUNK, size - at);
		ssize_t got = device->ops->region_read(device, VFIO_PCI_ROM_REGION_INDEX, at,
						       rom->data + at, count);

		if (got != (ssize_t)count)
			return got < 0 ? (int)got : -EIO;
	}
	return 0;
}

static int from_device(struct vfio_device *device, struct vfio_rom **out, struct error *e)
{
	const struct vfio_device_ops *ops = device->ops;
	struct vfio_region region = { 0 };
	uint8_t before[2], on[2];
	ssize_t got;
	int err = 0;

	if (device->region_count > VFIO_PCI_ROM_REGION_INDEX)
		err = ops->get_region(device, VFIO_PCI_ROM_REGION_INDEX, &region);
	if (err || !region.size)
		return error_set(e, err ? -err : ENOENT, "no-rom",
				 "give its contents as a file, rom=PATH, or leave rom= out",
				 "%s: the device has no expansion ROM that can be read",
				 device->name);
	if (region.size > VFIO_ROM_MAX)
		return error_set(e, EINVAL, "bad-rom", NULL, "%s: a ROM of %llu MiB", device->name,
				 (unsigned long long)(region.size / MIB));
	*out = rom_new(region.size);
	if (!*out)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);

	/* A ROM answers while the device decodes memory; the kernel knows only what it was told. */
	got = ops->region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, before, 2);
	pci_put16(on, 0, (uint16_t)(pci_get16(before, 0) | PCI_COMMAND_MEMORY));
	if (got == 2)
		got = ops->region_write(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, on, 2);
	err = got == 2 ? read_region(device, *out, region.size) : got < 0 ? (int)got : -EIO;
	if (got == 2)
		ops->region_write(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, before, 2);
	if (err)
		return error_set(e, -err, "rom-unreadable", NULL, "%s: reading its ROM: %s",
				 device->name, strerror(-err));
	return 0;
}

int vfio_rom_load(struct vfio_device *device, const char *path, struct vfio_rom **out,
		  struct error *e)
{
	struct vfio_rom *rom = NULL;
	int err = path ? from_file(device->name, path, &rom, e) : from_device(device, &rom, e);

	if (!err && (rom->data[0] != 0x55 || rom->data[1] != 0xaa))
		err = error_set(
			e, EINVAL, "bad-rom",
			path ? "cut off what stands before 55 AA in it (a header of the tool "
			       "that dumped it)"
			     : "give its contents as a file, rom=PATH",
			"%s: ROM %s begins with %02x %02x, an expansion ROM with 55 aa",
			device->name, path ? path : "of the device", rom->data[0], rom->data[1]);
	if (err) {
		free(rom);
		return err;
	}
	log_info("%s: ROM of %llu KiB from %s", device->name, (unsigned long long)(rom->size / KIB),
		 path ? path : "the device");
	*out = rom;
	return 0;
}

void vfio_rom_free(struct vfio_rom *rom)
{
	free(rom);
}
