// SPDX-License-Identifier: Apache-2.0
/*
 * Configuration from hostile hands, as a file or (first byte 0) as a command line of words that end
 * with 0: parsed, or refused with a named error, within bounds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hypervisor-glue/hypervisor-glue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ended(text) (memchr(text, '\0', sizeof(text)) != NULL)

#define ARGS_MAX 64

static int parse_file(struct machine_config *config, const uint8_t *data, size_t size,
		      struct error *e)
{
	static char path[64];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("config", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (fd < 0 || ftruncate(fd, 0) || pwrite_full(fd, data, size, 0))
		abort();
	return machine_config_file(config, path, e);
}

/* getopt_long(3) may change the order of the pointers: they are copies. */
static int parse_args(struct machine_config *config, const uint8_t *data, size_t size,
		      struct error *e)
{
	char *text = malloc(size + 1), *args[ARGS_MAX + 2] = { (char *)(uintptr_t)"divvy-vmm" };
	enum machine_action action;
	int count = 1, err;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	for (size_t at = 0; at < size && count <= ARGS_MAX; at += strlen(text + at) + 1)
		args[count++] = text + at;
	err = machine_config_args(config, count, args, &action, e);
	free(text);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine_config config;
	struct error e = { 0 };
	int err;

	machine_config_init(&config);
	if (size && !data[0])
		err = parse_args(&config, data + 1, size - 1, &e);
	else
		err = parse_file(&config, data, size, &e);
	if (err && (!e.code || !e.text[0] || e.err <= 0))
		abort();
	if (!ended(config.name) || !ended(config.kernel) || !ended(config.initrd) ||
	    !ended(config.cmdline) || !ended(config.serial))
		abort();
	if (config.disk_count > MACHINE_DISKS_MAX || config.net_count > MACHINE_NETS_MAX ||
	    config.device_count > MACHINE_DEVICES_MAX || !config.cpus ||
	    config.cpus > MACHINE_CPUS_MAX || config.memory % MIB)
		abort();
	for (unsigned i = 0; i < config.disk_count; i++)
		if (!config.disks[i].path[0] || !ended(config.disks[i].path))
			abort();
	for (unsigned i = 0; i < config.net_count; i++)
		if (!ended(config.nets[i].tap))
			abort();
	return 0;
}
