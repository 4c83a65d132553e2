// SPDX-License-Identifier: Apache-2.0
/* Configuration files from hostile hands: parsed, or refused with a named error, within bounds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hypervisor-glue/hypervisor-glue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ended(text) (memchr(text, '\0', sizeof(text)) != NULL)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine_config config;
	static char path[64];
	static int fd = -1;
	struct error e = { 0 };

	if (fd < 0) {
		fd = memfd_create("config", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (fd < 0 || ftruncate(fd, 0) || pwrite_full(fd, data, size, 0))
		abort();
	machine_config_init(&config);
	if (machine_config_file(&config, path, &e) && (!e.code || !e.text[0] || e.err <= 0))
		abort();
	if (!ended(config.name) || !ended(config.kernel) || !ended(config.initrd) ||
	    !ended(config.cmdline) || !ended(config.serial))
		abort();
	if (config.disk_count > MACHINE_DISKS_MAX || config.net_count > MACHINE_NETS_MAX ||
	    config.device_count > MACHINE_DEVICES_MAX || !config.cpus || config.cpus > 254 ||
	    config.memory % MIB)
		abort();
	for (unsigned i = 0; i < config.disk_count; i++)
		if (!config.disks[i].path[0] || !ended(config.disks[i].path))
			abort();
	for (unsigned i = 0; i < config.net_count; i++)
		if (!ended(config.nets[i].tap))
			abort();
	return 0;
}
