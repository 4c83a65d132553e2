// SPDX-License-Identifier: Apache-2.0
/*
 * The description of a machine: one table of words, read by the command line and by files alike.
 *
 * Values are checked where they are set, so that an error names the word (and the line); what only
 * the whole can tell is checked by machine_config_validate(). docs/divvy-vmm.md describes each
 * word.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hypervisor-glue/config_private.h"

#define CONFIG_FILE_MAX (256 * KIB)
#define SUGGEST_WITHIN	3 /* edits */

typedef int (*word_setter)(struct machine_config *config, const struct setting *setting,
			   struct error *e);

struct word {
	const char *name;
	const char *argument; /* NULL: a flag */
	const char *help;
	word_setter set; /* NULL: only on the command line */
};

int config_bad_value(const struct setting *setting, const char *expected, struct error *e)
{
	return error_set(e, EINVAL, "bad-value", NULL, "%s: \"%.200s\" is not %s", setting->word,
			 setting->value, expected);
}

static int copy_text(char *to, size_t size, const struct setting *setting, struct error *e)
{
	if (!setting->value[0])
		return config_bad_value(setting, "a value: it is empty", e);
	if (strlen(setting->value) >= size)
		return error_set(e, E2BIG, "bad-value", NULL, "%s: longer than %zu bytes",
				 setting->word, size - 1);
	strcpy(to, setting->value);
	return 0;
}

/* @path may differ from the setting's value (a prefix or a suffix cut off). */
static int copy_path(char *to, size_t size, const char *path, const struct setting *setting,
		     struct error *e)
{
	int n;

	if (!path[0])
		return config_bad_value(setting, "a path: it is empty", e);
	if (path[0] == '/' || !setting->folder[0])
		n = snprintf(to, size, "%s", path);
	else
		n = snprintf(to, size, "%s/%s", setting->folder, path);
	if (n < 0 || (size_t)n >= size)
		return error_set(e, ENAMETOOLONG, "bad-value", NULL, "%s: the path is too long",
				 setting->word);
	return 0;
}

static int copy_flag(bool *to, const struct setting *setting, struct error *e)
{
	static const struct {
		const char *text;
		bool value;
	} texts[] = {
		{ "", true },	 { "yes", true },  { "on", true },     { "true", true },
		{ "no", false }, { "off", false }, { "false", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (!strcmp(setting->value, texts[i].text)) {
			*to = texts[i].value;
			return 0;
		}
	return config_bad_value(setting, "yes or no", e);
}

static int set_name(struct machine_config *config, const struct setting *setting, struct error *e)
{
	for (const char *c = setting->value; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			return config_bad_value(setting,
						"made of letters, digits, '.', '_' and '-'", e);
	return copy_text(config->name, sizeof(config->name), setting, e);
}

static int set_kernel(struct machine_config *config, const struct setting *setting, struct error *e)
{
	return copy_path(config->kernel, sizeof(config->kernel), setting->value, setting, e);
}

static int set_initrd(struct machine_config *config, const struct setting *setting, struct error *e)
{
	return copy_path(config->initrd, sizeof(config->initrd), setting->value, setting, e);
}

static int set_cmdline(struct machine_config *config, const struct setting *setting,
		       struct error *e)
{
	return copy_text(config->cmdline, sizeof(config->cmdline), setting, e);
}

static int set_disk(struct machine_config *config, const struct setting *setting, struct error *e)
{
	static const char readonly[] = ",readonly";
	size_t length = strlen(setting->value), suffix = sizeof(readonly) - 1;
	struct machine_disk disk = { 0 };
	char path[sizeof(disk.path)];
	int err;

	if (config->disk_count == MACHINE_DISKS_MAX)
		return error_set(e, ENOSPC, "bad-value", NULL, "%s: %u disks are the most",
				 setting->word, MACHINE_DISKS_MAX);
	if (length >= sizeof(path))
		return error_set(e, ENAMETOOLONG, "bad-value", NULL, "%s: the path is too long",
				 setting->word);
	strcpy(path, setting->value);
	if (length > suffix && !strcmp(path + length - suffix, readonly)) {
		disk.readonly = true;
		path[length - suffix] = '\0';
	}
	err = copy_path(disk.path, sizeof(disk.path), path, setting, e);
	if (err)
		return err;
	config->disks[config->disk_count++] = disk;
	return 0;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
	if (strlen(text) != 17)
		return false;
	for (unsigned i = 0; i < 6; i++) {
		const char *p = text + 3 * i;

		if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) ||
		    (i < 5 && p[2] != ':'))
			return false;
		mac[i] = (uint8_t)strtoul((const char[]){ p[0], p[1], '\0' }, NULL, 16);
	}
	/* Not a group address; all zero means "choose one" further down. */
	return !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

static int set_net(struct machine_config *config, const struct setting *setting, struct error *e)
{
	static const char expected[] = "user or tap=INTERFACE, then perhaps ,mac=52:54:00:xx:xx:xx";
	struct machine_net net = { 0 };
	char text[128], *option;

	if (config->net_count == MACHINE_NETS_MAX)
		return error_set(e, ENOSPC, "bad-value", NULL, "%s: %u interfaces are the most",
				 setting->word, MACHINE_NETS_MAX);
	if (strlen(setting->value) >= sizeof(text))
		return config_bad_value(setting, expected, e);
	strcpy(text, setting->value);
	option = strchr(text, ',');
	if (option) {
		*option++ = '\0';
		if (strncmp(option, "mac=", 4) || !parse_mac(option + 4, net.mac))
			return config_bad_value(setting, expected, e);
	}
	if (!strncmp(text, "tap=", 4)) {
		size_t length = strlen(text + 4);

		/* netdevice(7): IFNAMSIZ, with its NUL */
		if (!length || length >= sizeof(net.tap) || strchr(text + 4, '/'))
			return config_bad_value(setting, "an interface name of 1 to 15 bytes", e);
		strcpy(net.tap, text + 4);
	} else if (strcmp(text, "user")) {
		return config_bad_value(setting, expected, e);
	}
	config->nets[config->net_count++] = net;
	return 0;
}

static int set_vfio(struct machine_config *config, const struct setting *setting, struct error *e)
{
	struct machine_device device;
	struct error inner = { 0 };
	char full[PCI_ADDRESS_LEN], other[PCI_ADDRESS_LEN];

	if (config->device_count == MACHINE_DEVICES_MAX)
		return error_set(e, ENOSPC, "bad-value", NULL, "%s: %u devices are the most",
				 setting->word, MACHINE_DEVICES_MAX);
	if (machine_device_parse(setting->value, setting->folder, &device, &inner))
		return error_set(e, inner.err, inner.code, inner.next[0] ? inner.next : NULL,
				 "%s: %s", setting->word, inner.text);
	for (unsigned i = 0; i < config->device_count; i++)
		if (!strcmp(machine_device_name(&config->devices[i], other),
			    machine_device_name(&device, full)))
			return error_set(e, EEXIST, "bad-value", NULL, "%s: %s is named twice",
					 setting->word, machine_device_name(&device, full));
	config->devices[config->device_count++] = device;
	return 0;
}

static int set_vfio_user(struct machine_config *config, const struct setting *setting,
			 struct error *e)
{
	char path[sizeof(config->users[0])];
	int err;

	if (config->user_count == MACHINE_USERS_MAX)
		return error_set(e, ENOSPC, "bad-value", NULL, "%s: %u devices are the most",
				 setting->word, MACHINE_USERS_MAX);
	err = copy_path(path, sizeof(path), setting->value, setting, e);
	if (err)
		return err;
	/* A server has one client. */
	for (unsigned i = 0; i < config->user_count; i++)
		if (!strcmp(config->users[i], path))
			return error_set(e, EEXIST, "bad-value", NULL, "%s: %s is named twice",
					 setting->word, path);
	strcpy(config->users[config->user_count++], path);
	return 0;
}

static int set_iommu(struct machine_config *config, const struct setting *setting, struct error *e)
{
	if (!strcmp(setting->value, "auto"))
		config->iommu = IOMMU_AUTO;
	else if (!strcmp(setting->value, "iommufd"))
		config->iommu = IOMMU_IOMMUFD;
	else if (!strcmp(setting->value, "type1"))
		config->iommu = IOMMU_TYPE1;
	else
		return config_bad_value(setting, "auto, iommufd or type1", e);
	return 0;
}

static int set_vsock(struct machine_config *config, const struct setting *setting, struct error *e)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(setting->value, &end, 10);
	/* 0 to 2 are the hypervisor, loopback and the host, the last one means "any" (vsock(7)). */
	if (!isdigit((unsigned char)setting->value[0]) || *end || errno || value < 3 ||
	    value >= UINT32_MAX)
		return config_bad_value(setting, "a number from 3 to 4294967294", e);
	config->vsock_cid = (uint32_t)value;
	return 0;
}

static int set_intx(struct machine_config *config, const struct setting *setting, struct error *e)
{
	return copy_flag(&config->intx, setting, e);
}

static int set_populate(struct machine_config *config, const struct setting *setting,
			struct error *e)
{
	return copy_flag(&config->populate, setting, e);
}

static int set_p2p(struct machine_config *config, const struct setting *setting, struct error *e)
{
	return copy_flag(&config->p2p, setting, e);
}

static int set_no_rng(struct machine_config *config, const struct setting *setting, struct error *e)
{
	bool off = false;
	int err = copy_flag(&off, setting, e);

	if (!err)
		config->rng = !off;
	return err;
}

static int set_console(struct machine_config *config, const struct setting *setting,
		       struct error *e)
{
	if (!strcmp(setting->value, "serial"))
		config->virtio_console = false;
	else if (!strcmp(setting->value, "virtio"))
		config->virtio_console = true;
	else
		return config_bad_value(setting, "serial or virtio", e);
	return 0;
}

static int set_serial(struct machine_config *config, const struct setting *setting, struct error *e)
{
	static const char *const places[] = { "file:", "socket:" };
	const char *place = NULL;
	char path[sizeof(config->serial) - sizeof("socket:")];
	int err;

	if (!strcmp(setting->value, "stdio") || !strcmp(setting->value, "none"))
		return copy_text(config->serial, sizeof(config->serial), setting, e);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (!strncmp(setting->value, places[i], strlen(places[i])))
			place = places[i];
	if (!place)
		return config_bad_value(setting, "stdio, none, file:PATH or socket:PATH", e);
	err = copy_path(path, sizeof(path), setting->value + strlen(place), setting, e);
	/* sockaddr_un's, as unix_listener_open() would say, but before anything is done */
	if (!err && place == places[1] && strlen(path) >= sizeof(((struct unix_listener *)0)->name))
		err = config_bad_value(setting, "a socket's path of at most 107 bytes", e);
	if (!err)
		snprintf(config->serial, sizeof(config->serial), "%s%s", place, path);
	return err;
}

static int set_no_reboot(struct machine_config *config, const struct setting *setting,
			 struct error *e)
{
	return copy_flag(&config->no_reboot, setting, e);
}

static int set_sandbox(struct machine_config *config, const struct setting *setting,
		       struct error *e)
{
	return copy_flag(&config->sandbox, setting, e);
}

static int set_jail(struct machine_config *config, const struct setting *setting, struct error *e)
{
	if (sandbox_user_parse(setting->value, &config->jail))
		return config_bad_value(setting, "uid=N or uid=N,gid=N, with numbers above 0", e);
	return 0;
}

static int set_log_level(struct machine_config *config, const struct setting *setting,
			 struct error *e)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(setting->value, names[i])) {
			config->log_level = (enum log_level)i;
			return 0;
		}
	return config_bad_value(setting, "error, warn, info or debug", e);
}

/* The one list of words: usage, files and options are made of it. */
static const struct word words[] = {
	{ "name", "NAME", "name of the VM, for messages", set_name },
	{ "kernel", "PATH", "bzImage or PVH ELF kernel", set_kernel },
	{ "initrd", "PATH", "initial RAM disk", set_initrd },
	{ "cmdline", "TEXT", "kernel command line", set_cmdline },
	{ "cpus", "N", "vCPUs (1)", config_set_cpus },
	{ "topology", "sockets=N,cores=N,threads=N", "how the vCPUs sit in sockets and cores",
	  config_set_topology },
	{ "pin", "VCPUS=CPUS[,...]", "host CPUs for vCPUs, one each, such as 0=2,1-3=4-6",
	  config_set_pin },
	{ "memory", "SIZE", "RAM, such as 512M or 2G (512M)", config_set_memory },
	{ "numa", "cpus=LIST,memory=SIZE[,host-node=N]",
	  "a NUMA node of the guest; may be repeated", config_set_numa },
	{ "huge-pages", "2M|1G", "RAM of the host's reserved huge pages", config_set_huge_pages },
	{ "populate", NULL, "take all RAM from the host at once", set_populate },
	{ "disk", "PATH[,readonly]", "virtio disk: raw file or block device; may be repeated",
	  set_disk },
	{ "net", "user|tap=IF[,mac=MAC]", "virtio network interface; may be repeated", set_net },
	{ "vsock", "CID", "sockets between guest and host; CID: the guest's address", set_vsock },
	{ "vfio", "BDF|UUID[,rom=off|device|PATH][,clique=N]",
	  "assign this PCI function or mediated device; may be repeated", set_vfio },
	{ "vfio-user", "SOCKET", "the device of a vfio-user server; may be repeated",
	  set_vfio_user },
	{ "iommu", "auto|iommufd|type1", "how DMA of assigned devices is mapped (auto)",
	  set_iommu },
	{ "intx", NULL, "offer the INTx interrupt of assigned devices", set_intx },
	{ "p2p", NULL, "map the BARs of assigned devices for each other's DMA", set_p2p },
	{ "no-rng", NULL, "no virtio entropy device", set_no_rng },
	{ "console", "serial|virtio", "what the terminal is on: ttyS0 or hvc0 (serial)",
	  set_console },
	{ "serial", "stdio|none|file:PATH|socket:PATH", "where ttyS0 goes (stdio)", set_serial },
	{ "control", "PATH", "a UNIX socket for commands (docs/control.md)", config_set_control },
	{ "hotplug-ports", "N", "PCIe ports for devices that come later (2 with --control)",
	  config_set_hotplug_ports },
	{ "hotplug-window", "SIZE", "64-bit window of each such port (64G)",
	  config_set_hotplug_window },
	{ "hotplug-path", "PATH", "disk that may come later, or folder of such; may be repeated",
	  config_set_hotplug_path },
	{ "no-reboot", NULL, "a reset of the guest ends the VM", set_no_reboot },
	{ "sandbox", "on|off", "confine this process before the guest runs (on)", set_sandbox },
	{ "jail", "uid=N[,gid=N]", "run as this user, in an empty root, without network",
	  set_jail },
	{ "log-level", "error|warn|info|debug", "what is logged on standard error (warn)",
	  set_log_level },
	{ "config", "FILE", "read words from FILE: \"word value\" a line", NULL },
	{ "check", NULL, "check the configuration, run nothing", NULL },
	{ "help", NULL, "this text", NULL },
	{ "version", NULL, "the version", NULL },
};

void machine_config_init(struct machine_config *config)
{
	memset(config, 0, sizeof(*config));
	strcpy(config->name, "vm");
	strcpy(config->serial, "stdio");
	config->cpus = 1;
	config->memory = 512 * MIB;
	for (unsigned i = 0; i < MACHINE_CPUS_MAX; i++)
		config->pins[i] = -1;
	config->iommu = IOMMU_AUTO;
	config->hotplug_ports = -1;
	config->hotplug_window = 64 * GIB;
	config->rng = true;
	config->sandbox = true;
	config->log_level = LOG_LEVEL_WARN;
}

/* Levenshtein distance, given up beyond what a table row holds. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[32], diagonal, above;
	size_t m = strlen(a), n = strlen(b);

	if (m >= ARRAY_SIZE(row) || n >= ARRAY_SIZE(row))
		return UINT32_MAX;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; i <= m; i++) {
		diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			above = row[j];
			row[j] =
				MIN(MIN(row[j], row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[n];
}

static int unknown_word(const char *word, bool in_file, struct error *e)
{
	unsigned best = SUGGEST_WITHIN + 1;
	const char *nearest = NULL;
	char next[128] = "divvy-vmm --help";

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		unsigned distance = edit_distance(word, words[i].name);

		if ((in_file && !words[i].set) || distance >= best)
			continue;
		best = distance;
		nearest = words[i].name;
	}
	if (nearest)
		snprintf(next, sizeof(next), "did you mean \"%s\"?", nearest);
	return error_set(e, EINVAL, "unknown-key", next, "unknown word \"%.64s\"", word);
}

static int config_set(struct machine_config *config, const struct setting *setting, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].set && !strcmp(setting->word, words[i].name))
			return words[i].set(config, setting, e);
	return unknown_word(setting->word, true, e);
}

int machine_config_set(struct machine_config *config, const char *key, const char *value,
		       struct error *e)
{
	const struct setting setting = { key, value ? value : "", "" };

	return config_set(config, &setting, e);
}

/* Cuts spaces at both ends, in place. */
static char *trim(char *text)
{
	size_t length;

	while (isspace((unsigned char)*text))
		text++;
	length = strlen(text);
	while (length && isspace((unsigned char)text[length - 1]))
		text[--length] = '\0';
	return text;
}

static int line_set(struct machine_config *config, char *line, const char *folder, struct error *e)
{
	struct setting setting = { .folder = folder, .value = "" };
	char *word = trim(line), *end;

	if (!word[0] || word[0] == '#')
		return 0;
	end = word + strcspn(word, " \t");
	if (*end) {
		*end = '\0';
		setting.value = trim(end + 1);
	}
	setting.word = word;
	return config_set(config, &setting, e);
}

int machine_config_file(struct machine_config *config, const char *path, struct error *e)
{
	char *text = malloc(CONFIG_FILE_MAX), *folder = strdup(path), *line, *rest, *slash;
	struct error inner = { 0 };
	unsigned number = 0;
	ssize_t length;
	int err = 0;

	if (!text || !folder) {
		err = error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", path);
		goto out;
	}
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0'; /* "/file" lies in "/" */
	else
		folder[0] = '\0';
	length = file_read(AT_FDCWD, path, text, CONFIG_FILE_MAX);
	if (length < 0) {
		err = error_set(e, (int)-length, "config-unreadable", NULL, "%s: %s", path,
				strerror((int)-length));
		goto out;
	}
	if (memchr(text, '\0', (size_t)length)) {
		err = error_set(e, EINVAL, "config-unreadable", NULL, "%s: not a text file", path);
		goto out;
	}
	for (line = text; line && !err; line = rest) {
		rest = strchr(line, '\n');
		if (rest)
			*rest++ = '\0';
		number++;
		err = line_set(config, line, folder, &inner);
	}
	if (err)
		error_set(e, inner.err, inner.code, inner.next, "%s:%u: %s", path, number,
			  inner.text);
out:
	free(folder);
	free(text);
	return err;
}

int machine_config_args(struct machine_config *config, int argc, char **argv,
			enum machine_action *action, struct error *e)
{
	struct option options[ARRAY_SIZE(words) + 1] = { 0 };
	int index, c, err;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		options[i].name = words[i].name;
		options[i].has_arg = words[i].argument ? required_argument : no_argument;
		options[i].val = 1;
	}
	*action = MACHINE_RUN;
	optind = 0; /* getopt(3): start anew */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, &index)) != -1) {
		const char *name, *at = argv[optind - 1];

		if (c == ':')
			return error_set(e, EINVAL, "bad-value", "divvy-vmm --help",
					 "%.64s needs a value", at);
		if (c == '?')
			return unknown_word(at + strspn(at, "-"), false, e);
		name = words[index].name;
		at = option_abbreviated(argv, name);
		if (at)
			return unknown_word(at + strspn(at, "-"), false, e);
		err = 0;
		if (words[index].set)
			err = machine_config_set(config, name, optarg, e);
		else if (!strcmp(name, "config"))
			err = machine_config_file(config, optarg, e);
		else if (!strcmp(name, "help"))
			*action = MACHINE_HELP;
		else if (!strcmp(name, "version"))
			*action = MACHINE_VERSION;
		else if (*action == MACHINE_RUN)
			*action = MACHINE_CHECK;
		if (err)
			return err;
	}
	if (optind < argc)
		return error_set(e, EINVAL, "unknown-key", "divvy-vmm --help",
				 "\"%.200s\" stands alone: every value follows its word",
				 argv[optind]);
	return config_settle_guest(config, e);
}

static int readable(const char *what, const char *code, const char *path, struct error *e)
{
	struct stat st;

	if (stat(path, &st) < 0 || access(path, R_OK) < 0)
		return error_set(e, errno, code, NULL, "%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(e, EINVAL, code, NULL,
				 "%s %s: neither a regular file nor a block device", what, path);
	return 0;
}

static int is_socket(const char *path, struct error *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_set(e, errno, "no-vfio-user-socket",
				 "start the device's server before the VM", "vfio-user %s: %s",
				 path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return error_set(e, ENOTSOCK, "no-vfio-user-socket", NULL,
				 "vfio-user %s: not a socket", path);
	return 0;
}

int machine_config_validate(const struct machine_config *config, struct error *e)
{
	int err;

	if (!config->kernel[0])
		return error_set(
			e, EINVAL, "no-kernel", "add --kernel /boot/vmlinuz-...",
			"no kernel is named, and there is no firmware to boot from a disk");
	if (config->jail.wanted && !config->sandbox)
		return error_set(e, EINVAL, "bad-value", "leave one of them out",
				 "jail: it is a part of the sandbox, which is off");
	err = readable("kernel", "kernel-missing", config->kernel, e);
	if (!err && config->initrd[0])
		err = readable("initrd", "initrd-missing", config->initrd, e);
	for (unsigned i = 0; i < config->disk_count && !err; i++)
		err = readable("disk", "disk-missing", config->disks[i].path, e);
	for (unsigned i = 0; i < config->device_count && !err; i++)
		if (config->devices[i].rom_path[0])
			err = readable("ROM", "rom-missing", config->devices[i].rom_path, e);
	for (unsigned i = 0; i < config->user_count && !err; i++)
		err = is_socket(config->users[i], e);
	return err;
}

#define HELP_COLUMN 28
#define HELP_WIDTH  80

/* From the second column on, broken between words. */
static void help_print(const char *text)
{
	const size_t room = HELP_WIDTH - HELP_COLUMN;

	while (strlen(text) > room) {
		size_t cut = room;

		while (cut && text[cut] != ' ')
			cut--;
		if (!cut)
			break;
		printf("%.*s\n%*s", (int)cut, text, HELP_COLUMN, "");
		text += cut + 1;
	}
	printf("%s\n", text);
}

void machine_config_usage(void)
{
	printf("usage: divvy-vmm --kernel PATH [--WORD VALUE]...\n"
	       "       divvy-vmm --config FILE [--WORD VALUE]...\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *argument = words[i].argument;
		int at = printf("  --%s%s%s", words[i].name, argument ? " " : "",
				argument ? argument : "");

		if (at + 2 > HELP_COLUMN)
			at = printf("\n") - 1;
		printf("%*s", HELP_COLUMN - at, "");
		help_print(words[i].help);
	}
	printf("\nOn the terminal: Ctrl-A x ends the VM, Ctrl-A p presses its power button,\n"
	       "Ctrl-A a sends Ctrl-A.\n"
	       "Exit status: 0 the guest powered off or was asked to stop, 1 failure while\n"
	       "running, 2 usage or configuration.\n");
}
