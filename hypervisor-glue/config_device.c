// SPDX-License-Identifier: Apache-2.0
/*
 * An assigned device in words: its address (or UUID), then options, "0000:01:00.0,WORD=VALUE,...". The command
 * line, files and whoever adds a device to a running VM read it here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hypervisor-glue/hypervisor-glue.h"

#define CLIQUE_MAX 15

static int set_rom(struct machine_device *device, const char *value, const char *folder,
		   struct error *e)
{
	const char *slash = value[0] == '/' || !folder[0] ? "" : "/";
	int n;

	device->device_rom = !strcmp(value, "device");
	device->rom_path[0] = '\0';
	if (device->device_rom || !strcmp(value, "off"))
		return 0;
	n = snprintf(device->rom_path, sizeof(device->rom_path), "%s%s%s", slash[0] ? folder : "",
		     slash, value);
	if (n >= (int)sizeof(device->rom_path))
		return error_set(e, ENAMETOOLONG, "bad-value", NULL, "rom: the path is too long");
	return 0;
}

static int set_clique(struct machine_device *device, const char *value, const char *folder,
		      struct error *e)
{
	unsigned clique = 0;
	size_t length = strlen(value);

	for (size_t i = 0; i < length; i++)
		clique = value[i] >= '0' && value[i] <= '9' && length <= 2
				 ? clique * 10 + (unsigned)(value[i] - '0')
				 : CLIQUE_MAX + 1;
	if (clique > CLIQUE_MAX)
		return error_set(e, EINVAL, "bad-value", NULL, "clique: \"%.64s\" is not 0 to %d",
				 value, CLIQUE_MAX);
	device->in_p2p_clique = true;
	device->p2p_clique = (uint8_t)clique;
	return 0;
}

static const struct option_word {
	const char *name;
	int (*set)(struct machine_device *device, const char *value, const char *folder,
		   struct error *e);
} words[] = {
	{ "rom", set_rom },
	{ "clique", set_clique },
};

/* @option: "WORD=VALUE", changed */
static int set_option(struct machine_device *device, char *option, const char *folder,
		      struct error *e)
{
	char *value = strchr(option, '=');

	if (value)
		*value++ = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(option, words[i].name))
			continue;
		if (!value || !value[0])
			return error_set(e, EINVAL, "bad-value", NULL, "%s= needs a value", option);
		return words[i].set(device, value, folder, e);
	}
	return error_set(e, EINVAL, "bad-value",
			 "the options are rom= and clique=", "\"%.64s\" is no option of a device",
			 option);
}

const char *machine_device_name(const struct machine_device *device, char text[PCI_ADDRESS_LEN])
{
	return device->mdev[0] ? device->mdev : pci_address_format(&device->address, text);
}

int machine_device_parse(const char *text, const char *folder, struct machine_device *device,
			 struct error *e)
{
	char copy[sizeof(device->rom_path) + 256], *option, *rest = copy;
	int err = 0;

	*device = (struct machine_device){ 0 };
	if (strlen(text) >= sizeof(copy))
		return error_set(e, EINVAL, "bad-value", NULL, "a device of more than %zu bytes",
				 sizeof(copy) - 1);
	strcpy(copy, text);
	option = strsep(&rest, ",");
	if (uuid_ok(option))
		strcpy(device->mdev, option);
	else if (pci_address_parse(option, &device->address))
		return error_set(e, EINVAL, "bad-value", NULL,
				 "\"%.200s\" is neither a PCI address such as 0000:01:00.0 nor the "
				 "UUID of a mediated device",
				 option);
	while (!err && (option = strsep(&rest, ",")))
		err = set_option(device, option, folder, e);
	return err;
}
