// SPDX-License-Identifier: Apache-2.0
/*
 * The words about commands to a running VM: its control socket, and the PCIe ports for devices that
 * come while it runs.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hypervisor-glue/config_private.h"

#define PORTS_DEFAULT 2
/* A window of less would take no BAR; one of more fits no address space. */
#define WINDOW_MIN MIB
#define WINDOW_MAX (UINT64_C(4) << 40)

int config_set_control(struct machine_config *config, const struct setting *setting,
		       struct error *e)
{
	const char *slash = setting->value[0] == '/' || !setting->folder[0] ? "" : "/";
	int n;

	if (!setting->value[0])
		return config_bad_value(setting, "a path", e);
	n = snprintf(config->control, sizeof(config->control), "%s%s%s",
		     slash[0] ? setting->folder : "", slash, setting->value);
	if (n >= (int)sizeof(config->control))
		return error_set(e, ENAMETOOLONG, "bad-value", NULL,
				 "%s: the path of a UNIX socket has %zu bytes at most",
				 setting->word, sizeof(config->control) - 1);
	return 0;
}

int config_set_hotplug_ports(struct machine_config *config, const struct setting *setting,
			     struct error *e)
{
	const char *digit = setting->value;

	if (digit[0] < '0' || digit[0] > '0' + MACHINE_PORTS_MAX || digit[1])
		return config_bad_value(setting, "a number from 0 to 8", e);
	config->hotplug_ports = digit[0] - '0';
	return 0;
}

int config_set_hotplug_window(struct machine_config *config, const struct setting *setting,
			      struct error *e)
{
	uint64_t size;

	if (!config_parse_size(setting->value, &size) || size < WINDOW_MIN || size > WINDOW_MAX)
		return config_bad_value(setting, "a size such as 256M or 64G, 4T at most", e);
	config->hotplug_window = size;
	return 0;
}

int config_set_hotplug_path(struct machine_config *config, const struct setting *setting,
			    struct error *e)
{
	const size_t room = sizeof(config->hotplug_paths[0]);
	int n;

	if (config->hotplug_path_count == MACHINE_REACH_MAX)
		return error_set(e, ENOSPC, "bad-value", NULL, "%s: %u paths are the most",
				 setting->word, MACHINE_REACH_MAX);
	/* Absolute: the process's folder is not there any more in a jail. */
	if (setting->value[0] != '/')
		return config_bad_value(setting, "an absolute path", e);
	n = snprintf(config->hotplug_paths[config->hotplug_path_count], room, "%s", setting->value);
	if (n < 0 || (size_t)n >= room)
		return config_bad_value(setting, "a path of less than 4096 bytes", e);
	config->hotplug_path_count++;
	return 0;
}

unsigned machine_hotplug_ports(const struct machine_config *config)
{
	if (config->hotplug_ports >= 0)
		return (unsigned)config->hotplug_ports;
	return config->control[0] ? PORTS_DEFAULT : 0;
}
