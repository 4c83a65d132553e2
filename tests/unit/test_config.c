// SPDX-License-Identifier: Apache-2.0
/* The words that describe a machine: on the command line, in files, and when they are wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/hypervisor-glue.h"

struct fixture {
	struct machine_config config;
	struct error e;
	char folder[32];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	machine_config_init(&f->config);
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	*state = f;
	return mkdtemp(f->folder) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static int set(struct fixture *f, const char *word, const char *value)
{
	memset(&f->e, 0, sizeof(f->e));
	return machine_config_set(&f->config, word, value, &f->e);
}

static void expect_bad(struct fixture *f, const char *word, const char *value)
{
	assert_true(set(f, word, value) < 0);
	assert_string_equal(f->e.code, "bad-value");
	assert_non_null(strstr(f->e.text, word));
}

/* machine_config_args() over words that end with NULL. */
static int parse(struct fixture *f, enum machine_action *action, const char *const *words)
{
	char *argv[32] = { NULL };
	int argc = 0, err;

	for (; words[argc]; argc++) {
		argv[argc] = strdup(words[argc]);
		assert_non_null(argv[argc]);
	}
	err = machine_config_args(&f->config, argc, argv, action, &f->e);
	/* getopt_long(3) may have changed their order. */
	while (argc)
		free(argv[--argc]);
	return err;
}
#define ARGS(f, action, ...) \
	parse(f, action, (const char *const[]){ "divvy-vmm", __VA_ARGS__, NULL })

static const char *write_file(struct fixture *f, const char *name, const char *text)
{
	static char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static void defaults_are_as_documented(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->config.cpus, 1);
	assert_int_equal(f->config.memory, 512 * MIB);
	assert_true(f->config.rng);
	assert_string_equal(f->config.serial, "stdio");
	assert_int_equal(f->config.log_level, LOG_LEVEL_WARN);
	assert_false(f->config.no_reboot || f->config.intx || f->config.virtio_console);
}

static void memory_takes_sizes_with_a_suffix_only(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "memory", "2G"), 0);
	assert_int_equal(f->config.memory, 2 * GIB);
	assert_int_equal(set(f, "memory", "768m"), 0);
	assert_int_equal(f->config.memory, 768 * MIB);
	assert_int_equal(set(f, "memory", "1T"), 0);
	assert_int_equal(f->config.memory, 1024 * GIB);
	expect_bad(f, "memory", "512");
	expect_bad(f, "memory", "");
	expect_bad(f, "memory", "-1G");
	expect_bad(f, "memory", "1GB");
	expect_bad(f, "memory", "1M");
	expect_bad(f, "memory", "1025T");
	expect_bad(f, "memory", "18446744073709551615G");
	expect_bad(f, "memory", "99999999999999999999999M");
	assert_int_equal(f->config.memory, 1024 * GIB);
}

static void a_control_socket_brings_hot_plug_ports(void **state)
{
	struct fixture *f = *state;
	char longest[120];

	assert_int_equal(machine_hotplug_ports(&f->config), 0);
	assert_int_equal(f->config.hotplug_window, 64 * GIB);
	assert_int_equal(set(f, "control", "/run/vm.sock"), 0);
	assert_string_equal(f->config.control, "/run/vm.sock");
	assert_int_equal(machine_hotplug_ports(&f->config), 2);
	assert_int_equal(set(f, "hotplug-ports", "0"), 0);
	assert_int_equal(machine_hotplug_ports(&f->config), 0);
	assert_int_equal(set(f, "hotplug-ports", "8"), 0);
	assert_int_equal(machine_hotplug_ports(&f->config), 8);
	expect_bad(f, "hotplug-ports", "9");
	expect_bad(f, "hotplug-ports", "10");
	expect_bad(f, "hotplug-ports", "-1");
	expect_bad(f, "hotplug-ports", "");
	assert_int_equal(set(f, "hotplug-window", "264G"), 0);
	assert_int_equal(f->config.hotplug_window, 264 * GIB);
	expect_bad(f, "hotplug-window", "5T");
	expect_bad(f, "hotplug-window", "64");
	expect_bad(f, "control", "");
	memset(longest, 'a', sizeof(longest));
	longest[107] = '\0';
	assert_int_equal(set(f, "control", longest), 0);
	longest[107] = 'a';
	longest[108] = '\0';
	expect_bad(f, "control", longest);
	assert_int_equal(strlen(f->config.control), 107);
}

static void cpus_are_1_to_254(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "cpus", "255"), 0);
	assert_int_equal(f->config.cpus, 255);
	expect_bad(f, "cpus", "0");
	expect_bad(f, "cpus", "256");
	expect_bad(f, "cpus", "4x");
	expect_bad(f, "cpus", " 4");
	expect_bad(f, "cpus", "-4");
}

static void disks_may_be_read_only_and_have_commas(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "disk", "/a/b,c.img"), 0);
	assert_int_equal(set(f, "disk", "/d.img,readonly"), 0);
	assert_int_equal(f->config.disk_count, 2);
	assert_string_equal(f->config.disks[0].path, "/a/b,c.img");
	assert_false(f->config.disks[0].readonly);
	assert_string_equal(f->config.disks[1].path, "/d.img");
	assert_true(f->config.disks[1].readonly);
	expect_bad(f, "disk", "");
	while (f->config.disk_count < MACHINE_DISKS_MAX)
		assert_int_equal(set(f, "disk", "/x"), 0);
	expect_bad(f, "disk", "/y");
}

static void nets_are_user_or_tap_with_a_mac(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xab, 0xcd, 0xef };
	struct fixture *f = *state;

	assert_int_equal(set(f, "net", "user"), 0);
	assert_string_equal(f->config.nets[0].tap, "");
	assert_int_equal(set(f, "net", "tap=tap0,mac=52:54:00:ab:CD:ef"), 0);
	assert_string_equal(f->config.nets[1].tap, "tap0");
	assert_memory_equal(f->config.nets[1].mac, mac, 6);
	expect_bad(f, "net", "tap=");
	expect_bad(f, "net", "tap=longer-than-15-bytes");
	expect_bad(f, "net", "tap=../x");
	expect_bad(f, "net", "bridge");
	expect_bad(f, "net", "user,mac=53:54:00:ab:cd:ef"); /* a group address */
	expect_bad(f, "net", "user,mac=00:00:00:00:00:00");
	expect_bad(f, "net", "user,mac=52:54:00:ab:cd");
	expect_bad(f, "net", "user,mac=52-54-00-ab-cd-ef");
	expect_bad(f, "net", "user,mtu=9000");
	assert_int_equal(f->config.net_count, 2);
}

static void devices_are_addresses_named_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "vfio", "01:00.0"), 0);
	assert_int_equal(set(f, "vfio", "0001:02:03.4"), 0);
	assert_int_equal(f->config.device_count, 2);
	assert_int_equal(f->config.devices[1].address.domain, 1);
	expect_bad(f, "vfio", "0000:01:00.0");
	assert_non_null(strstr(f->e.text, "0000:01:00.0"));
	expect_bad(f, "vfio", "gpu");
	/* Mediated devices have no address. */
	assert_int_equal(set(f, "vfio", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001,rom=off"), 0);
	assert_string_equal(f->config.devices[2].mdev, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
	assert_int_equal(set(f, "vfio", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"), 0);
	assert_int_equal(f->config.device_count, 4);
	expect_bad(f, "vfio", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
	assert_non_null(strstr(f->e.text, "named twice"));
	expect_bad(f, "vfio", "83B8F4F2-509F-382F-3C1E-E6BFE0FA1001");
	expect_bad(f, "vfio", "83b8f4f2-509f-382f-3c1e-e6bfe0fa100/");
	expect_bad(f, "vfio", "../../../83b8f4f2-509f-382f-3c1e-e6b");
}

static void a_device_has_options(void **state)
{
	struct fixture *f = *state;
	struct machine_device *d = f->config.devices;
	char text[5000];

	assert_int_equal(set(f, "vfio", "01:00.0,rom=device,clique=15"), 0);
	assert_true(d[0].device_rom && !d[0].rom_path[0]);
	assert_true(d[0].in_p2p_clique && d[0].p2p_clique == 15);
	assert_int_equal(set(f, "vfio", "02:00.0,rom=vbios.rom"), 0);
	assert_string_equal(d[1].rom_path, "vbios.rom");
	assert_true(!d[1].device_rom && !d[1].in_p2p_clique);
	assert_int_equal(set(f, "vfio", "03:00.0,clique=0,rom=/a.rom,rom=off"), 0);
	assert_true(!d[2].device_rom && !d[2].rom_path[0]);
	assert_true(d[2].in_p2p_clique && d[2].p2p_clique == 0);
	assert_int_equal(f->config.device_count, 3);

	expect_bad(f, "vfio", "04:00.0,");
	expect_bad(f, "vfio", "04:00.0,rom");
	expect_bad(f, "vfio", "04:00.0,rom=");
	expect_bad(f, "vfio", "04:00.0,clique=16");
	expect_bad(f, "vfio", "04:00.0,clique=-1");
	expect_bad(f, "vfio", "04:00.0,clique=1x");
	expect_bad(f, "vfio", "04:00.0,clique=000000000000000000001");
	expect_bad(f, "vfio", "04:00.0,colour=red");
	assert_non_null(strstr(f->e.text, "colour"));
	expect_bad(f, "vfio", "01:00.0,rom=off"); /* still named twice */
	snprintf(text, sizeof(text), "04:00.0,rom=/%04090d", 0);
	assert_int_equal(set(f, "vfio", text), 0);
	snprintf(text, sizeof(text), "05:00.0,rom=/%04095d", 0);
	expect_bad(f, "vfio", text);
	snprintf(text, sizeof(text), "05:00.0,rom=%04900d", 0);
	expect_bad(f, "vfio", text);
	assert_int_equal(f->config.device_count, 4);
}

static void vfio_user_servers_are_sockets_named_once(void **state)
{
	struct fixture *f = *state;
	char text[200];

	assert_int_equal(set(f, "vfio-user", "/run/gpu.sock"), 0);
	assert_int_equal(set(f, "vfio-user", "other.sock"), 0);
	assert_int_equal(f->config.user_count, 2);
	assert_string_equal(f->config.users[1], "other.sock");
	expect_bad(f, "vfio-user", "/run/gpu.sock");
	expect_bad(f, "vfio-user", "");
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	expect_bad(f, "vfio-user", text);
	for (unsigned i = 2; i < MACHINE_USERS_MAX; i++) {
		snprintf(text, sizeof(text), "%u.sock", i);
		assert_int_equal(set(f, "vfio-user", text), 0);
	}
	expect_bad(f, "vfio-user", "one-too-many.sock");
}

static void vsock_takes_a_guests_cid(void **state)
{
	static const char *const bad[] = { "",	 "2",	"-3", "4294967295", "18446744073709551619",
					   "3x", "0x10" };
	struct fixture *f = *state;

	assert_int_equal(f->config.vsock_cid, 0);
	assert_int_equal(set(f, "vsock", "3"), 0);
	assert_int_equal(f->config.vsock_cid, 3);
	assert_int_equal(set(f, "vsock", "4294967294"), 0);
	assert_int_equal(f->config.vsock_cid, 4294967294);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_bad(f, "vsock", bad[i]);
}

static void flags_stand_alone_or_with_yes_or_no(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "no-rng", NULL), 0);
	assert_false(f->config.rng);
	assert_int_equal(set(f, "no-rng", "no"), 0);
	assert_true(f->config.rng);
	assert_int_equal(set(f, "intx", "yes"), 0);
	assert_true(f->config.intx);
	assert_false(f->config.p2p);
	assert_int_equal(set(f, "p2p", ""), 0);
	assert_true(f->config.p2p);
	assert_int_equal(set(f, "no-reboot", ""), 0);
	assert_true(f->config.no_reboot);
	expect_bad(f, "intx", "maybe");
}

static void paths_of_disks_that_come_later_are_absolute(void **state)
{
	struct fixture *f = *state;

	expect_bad(f, "hotplug-path", "");
	expect_bad(f, "hotplug-path", "disks");
	for (unsigned i = 0; i < MACHINE_REACH_MAX; i++)
		assert_int_equal(set(f, "hotplug-path", "/var/lib/disks"), 0);
	assert_string_equal(f->config.hotplug_paths[MACHINE_REACH_MAX - 1], "/var/lib/disks");
	expect_bad(f, "hotplug-path", "/one/too/many");
}

static void a_jail_has_a_user_that_is_not_root(void **state)
{
	static const char *const wrong[] = {
		"",
		"yes",
		"uid=",
		"uid=0",
		"uid=-1",
		"uid=10,gid=0",
		"uid=10,",
		"uid=10,gid=-1",
		"uid=4294967295",
		"uid= 10",
		"uid=+1",
		"gid=10",
		"uid=10x",
		"uid=12345678901",
		"uid=nobody",
		"uid=10,gid=5,x",
	};
	struct fixture *f = *state;

	assert_true(f->config.sandbox);
	assert_false(f->config.jail.wanted);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		expect_bad(f, "jail", wrong[i]);
	assert_false(f->config.jail.wanted);
	assert_int_equal(set(f, "jail", "uid=4242"), 0);
	assert_true(f->config.jail.wanted);
	assert_int_equal(f->config.jail.uid, 4242);
	assert_int_equal(f->config.jail.gid, 4242);
	assert_int_equal(set(f, "jail", "uid=7,gid=8"), 0);
	assert_int_equal(f->config.jail.uid, 7);
	assert_int_equal(f->config.jail.gid, 8);
	/* It is the sandbox's. */
	strcpy(f->config.kernel, "/proc/self/exe");
	assert_int_equal(set(f, "sandbox", "off"), 0);
	assert_int_equal(machine_config_validate(&f->config, &f->e), -EINVAL);
	assert_string_equal(f->e.code, "bad-value");
}

static void choices_refuse_what_they_do_not_know(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "iommu", "type1"), 0);
	assert_int_equal(f->config.iommu, IOMMU_TYPE1);
	expect_bad(f, "iommu", "mock");
	assert_int_equal(set(f, "console", "virtio"), 0);
	assert_true(f->config.virtio_console);
	expect_bad(f, "console", "vga");
	assert_int_equal(set(f, "serial", "file:/tmp/log"), 0);
	assert_string_equal(f->config.serial, "file:/tmp/log");
	expect_bad(f, "serial", "file:");
	assert_int_equal(set(f, "serial", "socket:/tmp/console"), 0);
	assert_string_equal(f->config.serial, "socket:/tmp/console");
	expect_bad(f, "serial", "socket:");
	expect_bad(
		f, "serial",
		"socket:/a-path-that-is-longer-than-any-name-of-a-unix-socket-may-be/which-is-one-"
		"hundred-and-eight-bytes-with-its-nul");
	expect_bad(f, "serial", "pty");
	assert_int_equal(set(f, "log-level", "debug"), 0);
	assert_int_equal(f->config.log_level, LOG_LEVEL_DEBUG);
	expect_bad(f, "log-level", "loud");
	expect_bad(f, "name", "a b");
	expect_bad(f, "name", "");
}

static void texts_longer_than_their_room_are_refused(void **state)
{
	struct fixture *f = *state;
	char text[8192];

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	expect_bad(f, "name", text);
	expect_bad(f, "kernel", text);
	expect_bad(f, "cmdline", text);
	expect_bad(f, "disk", text);
	expect_bad(f, "net", text);
	expect_bad(f, "vfio", text);
	memcpy(text, "file:", 5);
	expect_bad(f, "serial", text);
}

static void unknown_word_names_the_nearest(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "memroy", "1G"), -EINVAL);
	assert_string_equal(f->e.code, "unknown-key");
	assert_non_null(strstr(f->e.text, "memroy"));
	assert_non_null(strstr(f->e.next, "\"memory\""));
	assert_int_equal(set(f, "xyzzyplugh", "1"), -EINVAL);
	assert_null(strstr(f->e.next, "did you mean"));
	assert_int_equal(set(f, "config", "x"), -EINVAL); /* no file within a file */
}

static void command_line_takes_words_in_order(void **state)
{
	enum machine_action action = MACHINE_HELP;
	struct fixture *f = *state;

	assert_int_equal(ARGS(f, &action, "--kernel", "bz", "--cpus=4", "--no-rng", "--disk", "a",
			      "--disk", "b,readonly", "--cpus", "2"),
			 0);
	assert_int_equal(action, MACHINE_RUN);
	assert_string_equal(f->config.kernel, "bz");
	assert_int_equal(f->config.cpus, 2);
	assert_int_equal(f->config.disk_count, 2);
	assert_false(f->config.rng);
}

static void command_line_tells_what_is_asked(void **state)
{
	enum machine_action action;
	struct fixture *f = *state;

	assert_int_equal(ARGS(f, &action, "--help"), 0);
	assert_int_equal(action, MACHINE_HELP);
	assert_int_equal(ARGS(f, &action, "--version"), 0);
	assert_int_equal(action, MACHINE_VERSION);
	assert_int_equal(ARGS(f, &action, "--check", "--cpus", "3"), 0);
	assert_int_equal(action, MACHINE_CHECK);
	assert_int_equal(f->config.cpus, 3);
}

static void command_line_mistakes_are_named(void **state)
{
	enum machine_action action;
	struct fixture *f = *state;

	assert_true(ARGS(f, &action, "--kernal", "x") < 0);
	assert_string_equal(f->e.code, "unknown-key");
	assert_non_null(strstr(f->e.next, "kernel"));
	assert_true(ARGS(f, &action, "--kernel") < 0);
	assert_string_equal(f->e.code, "bad-value");
	assert_true(ARGS(f, &action, "-q") < 0);
	assert_string_equal(f->e.code, "unknown-key");
	assert_true(ARGS(f, &action, "stray") < 0);
	assert_non_null(strstr(f->e.text, "stray"));
	assert_true(ARGS(f, &action, "--config", "/nonexistent") < 0);
	assert_string_equal(f->e.code, "config-unreadable");
}

static void file_has_the_same_words_and_its_own_folder(void **state)
{
	struct fixture *f = *state;
	char expected[64];
	const char *path = write_file(f, "vm.conf",
				      "# a comment\n\n"
				      "  kernel\tvmlinuz\r\n"
				      "initrd /boot/initrd\n"
				      "cmdline console=ttyS0  root=/dev/vda # kept\n"
				      "no-rng\n"
				      "disk disk.img,readonly\n"
				      "serial file:log\n"
				      "vfio 01:00.0,rom=vbios.rom\n"
				      "memory 1G");

	assert_int_equal(machine_config_file(&f->config, path, &f->e), 0);
	snprintf(expected, sizeof(expected), "%s/vmlinuz", f->folder);
	assert_string_equal(f->config.kernel, expected);
	assert_string_equal(f->config.initrd, "/boot/initrd");
	assert_string_equal(f->config.cmdline, "console=ttyS0  root=/dev/vda # kept");
	snprintf(expected, sizeof(expected), "%s/disk.img", f->folder);
	assert_string_equal(f->config.disks[0].path, expected);
	assert_true(f->config.disks[0].readonly);
	snprintf(expected, sizeof(expected), "file:%s/log", f->folder);
	assert_string_equal(f->config.serial, expected);
	snprintf(expected, sizeof(expected), "%s/vbios.rom", f->folder);
	assert_string_equal(f->config.devices[0].rom_path, expected);
	assert_false(f->config.rng);
	assert_int_equal(f->config.memory, GIB);
}

static void file_mistakes_name_file_and_line(void **state)
{
	struct fixture *f = *state;
	const char *path = write_file(f, "vm.conf", "cpus 1\n\nmemori 1G\n");
	static char large[300 * 1024];

	assert_true(machine_config_file(&f->config, path, &f->e) < 0);
	assert_string_equal(f->e.code, "unknown-key");
	assert_non_null(strstr(f->e.text, "vm.conf:3:"));
	path = write_file(f, "vm.conf", "cpus\n");
	assert_true(machine_config_file(&f->config, path, &f->e) < 0);
	assert_string_equal(f->e.code, "bad-value");
	assert_non_null(strstr(f->e.text, "vm.conf:1:"));
	assert_true(machine_config_file(&f->config, f->folder, &f->e) < 0);
	assert_string_equal(f->e.code, "config-unreadable");
	memset(large, '\n', sizeof(large) - 1);
	path = write_file(f, "vm.conf", large);
	assert_true(machine_config_file(&f->config, path, &f->e) < 0);
	assert_string_equal(f->e.code, "config-unreadable");
}

static void validation_names_what_is_missing(void **state)
{
	struct fixture *f = *state;
	const char *path;

	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "no-kernel");
	assert_int_equal(set(f, "kernel", "/nonexistent/k"), 0);
	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "kernel-missing");
	path = write_file(f, "kernel", "x");
	assert_int_equal(set(f, "kernel", path), 0);
	assert_int_equal(machine_config_validate(&f->config, &f->e), 0);
	assert_int_equal(set(f, "initrd", f->folder), 0);
	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "initrd-missing");
	f->config.initrd[0] = '\0';
	assert_int_equal(set(f, "disk", "/nonexistent/d"), 0);
	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "disk-missing");
	assert_non_null(strstr(f->e.text, "/nonexistent/d"));
	f->config.disk_count = 0;
	assert_int_equal(set(f, "vfio", "01:00.0,rom=/nonexistent/r"), 0);
	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "rom-missing");
	f->config.device_count = 0;
	assert_int_equal(set(f, "vfio-user", "/nonexistent/s"), 0);
	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "no-vfio-user-socket");
	f->config.user_count = 0;
	assert_int_equal(set(f, "vfio-user", path), 0);
	assert_true(machine_config_validate(&f->config, &f->e) < 0);
	assert_string_equal(f->e.code, "no-vfio-user-socket");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(defaults_are_as_documented),
		TEST(memory_takes_sizes_with_a_suffix_only),
		TEST(a_control_socket_brings_hot_plug_ports),
		TEST(cpus_are_1_to_254),
		TEST(disks_may_be_read_only_and_have_commas),
		TEST(nets_are_user_or_tap_with_a_mac),
		TEST(devices_are_addresses_named_once),
		TEST(a_device_has_options),
		TEST(vfio_user_servers_are_sockets_named_once),
		TEST(vsock_takes_a_guests_cid),
		TEST(flags_stand_alone_or_with_yes_or_no),
		TEST(a_jail_has_a_user_that_is_not_root),
		TEST(paths_of_disks_that_come_later_are_absolute),
		TEST(choices_refuse_what_they_do_not_know),
		TEST(texts_longer_than_their_room_are_refused),
		TEST(unknown_word_names_the_nearest),
		TEST(command_line_takes_words_in_order),
		TEST(command_line_tells_what_is_asked),
		TEST(command_line_mistakes_are_named),
		TEST(file_has_the_same_words_and_its_own_folder),
		TEST(file_mistakes_name_file_and_line),
		TEST(validation_names_what_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
