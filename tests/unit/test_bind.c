// SPDX-License-Identifier: Apache-2.0
/*
 * Binding on a made-up sysfs whose "kernel" is a hook: what the child writes is done there and then
 * to the links of the tree, as the kernel would. A hung unbind is a FIFO that nobody reads.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_sysfs.h"
#include "tests/unit/held_process.h"
#include "vfio/bind.h"

#define GPU   "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define PORT  "0000:00:01.0"

struct world {
	struct fake_sysfs fs;
	char state_dir[128];
	struct pci_address gpu;
	unsigned files; /* open when the world was made */
};

static unsigned open_files(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* A GPU with its audio function in one group, behind a port that is a member too. */
static int world_create(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	fake_sysfs_create(&w->fs);
	snprintf(w->state_dir, sizeof(w->state_dir), "%s/var/bind", w->fs.root);
	fake_sysfs_folder(&w->fs, "var");
	fake_sysfs_add_pci(&w->fs, &(struct fake_pci){ .bdf = PORT,
						       .class_code = 0x060400,
						       .group = 4,
						       .driver = "pcieport" });
	fake_sysfs_add_pci(&w->fs, &(struct fake_pci){ .bdf = GPU,
						       .class_code = 0x030000,
						       .group = 4,
						       .parent = PORT,
						       .driver = "nouveau" });
	fake_sysfs_add_pci(&w->fs, &(struct fake_pci){ .bdf = AUDIO,
						       .class_code = 0x040300,
						       .group = 4,
						       .parent = PORT,
						       .driver = "snd_hda_intel" });
	fake_sysfs_add_driver(&w->fs, "vfio-pci");
	fake_sysfs_write(&w->fs, "proc/sys/kernel/random/boot_id", "boot-one\n");
	assert_int_equal(pci_address_parse(GPU, &w->gpu), 0);
	w->files = open_files();
	*state = w;
	return 0;
}

static int world_destroy(void **state)
{
	struct world *w = *state;

	assert_int_equal(open_files(), w->files);
	fake_sysfs_destroy(&w->fs);
	free(w);
	return 0;
}

static const char *driver_of(const struct world *w, const char *bdf)
{
	static char name[VFIO_DRIVER_LEN];
	struct pci_address address;

	pci_address_parse(bdf, &address);
	vfio_sysfs_link_name(w->fs.root, &address, "driver", name, sizeof(name));
	return name;
}

static const char *override_of(const struct world *w, const char *bdf)
{
	static char text[128];
	char path[128];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/driver_override", bdf);
	return fake_sysfs_read(&w->fs, path, text, sizeof(text));
}

static bool state_exists(const struct world *w)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/group-4", w->state_dir);
	return access(path, F_OK) == 0;
}

/* ---- the kernel's side -------------------------------------------------------------------- */

static const char *default_driver(const char *bdf)
{
	return !strcmp(bdf, GPU) ? "nouveau" : "snd_hda_intel";
}

static int kernel_write(const char *root, const struct bind_step *step)
{
	struct fake_sysfs fs;
	char bdf[PCI_ADDRESS_LEN], path[256], text[128], driver[64];

	snprintf(fs.root, sizeof(fs.root), "%.63s", root);
	pci_address_format(&step->address, bdf);
	switch (step->kind) {
	case BIND_STEP_OVERRIDE:
		fake_sysfs_device_write(&fs, bdf, "driver_override", "%s",
					step->text[0] == '\n' ? "(null)\n" : step->text);
		return 0;
	case BIND_STEP_UNBIND:
		fake_sysfs_set_driver(&fs, bdf, NULL);
		return 0;
	case BIND_STEP_BIND:
		if (sscanf(step->path, "/sys/bus/pci/drivers/%63[^/]/bind", driver) != 1)
			return -EINVAL;
		fake_sysfs_set_driver(&fs, bdf, driver);
		return 0;
	case BIND_STEP_PROBE:
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/driver_override", bdf);
		fake_sysfs_read(&fs, path, text, sizeof(text));
		fake_sysfs_set_driver(&fs, bdf,
				      strcmp(text, "(null)") != 0 ? text : default_driver(bdf));
		/* vfio_pci_core_register_device(): pm_runtime_allow() */
		snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/power/control", root, bdf);
		if (!strcmp(text, "vfio-pci") && !access(path, F_OK))
			fake_sysfs_device_write(&fs, bdf, "power/control", "auto\n");
		return 0;
	case BIND_STEP_D3COLD:
		fake_sysfs_device_write(&fs, bdf, "d3cold_allowed", "%s\n", step->text);
		return 0;
	case BIND_STEP_POWER:
		fake_sysfs_device_write(&fs, bdf, "power/control", "%s\n", step->text);
		return 0;
	}
	return -EINVAL;
}

static int no_load(const char *root, unsigned timeout_ms)
{
	return -ENOENT;
}

static const struct bind_io kernel = { .write = kernel_write, .load_driver = no_load };

/* vfio-pci does not take the audio function. */
static int kernel_refuses_audio(const char *root, const struct bind_step *step)
{
	struct pci_address audio;

	pci_address_parse(AUDIO, &audio);
	if (step->kind == BIND_STEP_PROBE && pci_address_equal(&step->address, &audio))
		return -EINVAL;
	return kernel_write(root, step);
}

/* The probe of the audio function goes well, and nothing has it afterwards. */
static int kernel_ignores_audio(const char *root, const struct bind_step *step)
{
	kernel_refuses_audio(root, step);
	return 0;
}

/* ---- the plan ----------------------------------------------------------------------------- */

static void plan_takes_every_endpoint_and_no_bridge(void **state)
{
	static struct bind_plan plan;
	struct iommu_group group = { .id = 4, .member_count = 4 };

	group.members[0] = (struct iommu_group_member){ .address = { 0, 0, 1, 0 },
							.is_bridge = true,
							.driver = "pcieport" };
	group.members[1] =
		(struct iommu_group_member){ .address = { 0, 1, 0, 0 }, .driver = "nouveau" };
	group.members[2] = (struct iommu_group_member){ .address = { 0, 1, 0, 1 } };
	group.members[3] =
		(struct iommu_group_member){ .address = { 0, 1, 0, 2 }, .driver = "vfio-pci" };
	vfio_bind_plan_take(&group, NULL, &plan);
	assert_int_equal(plan.count, 5);
	assert_string_equal(plan.steps[0].path,
			    "/sys/bus/pci/devices/0000:01:00.0/driver_override");
	assert_string_equal(plan.steps[0].text, "vfio-pci");
	assert_string_equal(plan.steps[1].path,
			    "/sys/bus/pci/devices/0000:01:00.1/driver_override");
	assert_string_equal(plan.steps[2].path, "/sys/bus/pci/drivers/nouveau/unbind");
	assert_string_equal(plan.steps[2].text, "0000:01:00.0");
	assert_string_equal(plan.steps[3].path, "/sys/bus/pci/drivers_probe");
	assert_string_equal(plan.steps[3].text, "0000:01:00.0");
	assert_string_equal(plan.steps[4].text, "0000:01:00.1");
}

/* vfio-pci allows sleep when it takes a function, so its power is seen to after that. */
static void plan_keeps_what_it_takes_awake(void **state)
{
	static struct bind_plan plan;
	static struct bind_state was = { .group = 4, .count = 3 };
	struct iommu_group group = { .id = 4, .member_count = 3 };

	for (uint8_t i = 0; i < 3; i++) {
		group.members[i] = (struct iommu_group_member){ .address = { 0, 1, 0, i } };
		was.records[i].address = group.members[i].address;
	}
	strcpy(was.records[0].d3cold_allowed, "1");
	strcpy(was.records[0].power_control, "auto");
	strcpy(was.records[1].power_control, "on"); /* and no d3cold_allowed: not on ACPI */
	vfio_bind_plan_take(&group, &was, &plan);
	assert_int_equal(plan.count, 3 + 3 + 3);
	assert_int_equal(plan.steps[5].kind, BIND_STEP_PROBE);
	assert_string_equal(plan.steps[6].path, "/sys/bus/pci/devices/0000:01:00.0/d3cold_allowed");
	assert_string_equal(plan.steps[6].text, "0");
	assert_string_equal(plan.steps[7].path, "/sys/bus/pci/devices/0000:01:00.0/power/control");
	assert_string_equal(plan.steps[7].text, "on");
	assert_string_equal(plan.steps[8].path, "/sys/bus/pci/devices/0000:01:00.1/power/control");
}

static bool only_nouveau(const char *root, const char *driver)
{
	return !strcmp(driver, "nouveau");
}

static void plan_restores_what_was_recorded(void **state)
{
	static struct bind_plan plan;
	static struct bind_state was = { .group = 4, .count = 3 };
	struct iommu_group group = { .id = 4, .member_count = 4 };

	for (uint8_t i = 0; i < 4; i++) {
		group.members[i] = (struct iommu_group_member){ .address = { 0, 1, 0, i },
								.driver = "vfio-pci" };
		was.records[i].address = group.members[i].address;
	}
	strcpy(was.records[0].driver, "nouveau");
	strcpy(was.records[0].driver_override, "nouveau");
	strcpy(was.records[1].driver, "gone"); /* its module is no longer there */
	/* records[2]: had none; 3 is not recorded */
	vfio_bind_plan_restore(&group, &was, only_nouveau, "", &plan);
	assert_int_equal(plan.count, 8);
	assert_string_equal(plan.steps[0].text, "nouveau");
	assert_string_equal(plan.steps[1].text, "\n");
	assert_string_equal(plan.steps[2].text, "\n");
	for (unsigned i = 3; i < 6; i++)
		assert_string_equal(plan.steps[i].path, "/sys/bus/pci/drivers/vfio-pci/unbind");
	assert_string_equal(plan.steps[6].path, "/sys/bus/pci/drivers/nouveau/bind");
	assert_string_equal(plan.steps[7].path, "/sys/bus/pci/drivers_probe");
	assert_string_equal(plan.steps[7].text, "0000:01:00.1");
}

/* ---- the state file ----------------------------------------------------------------------- */

static void state_survives_a_round_trip(void **state)
{
	struct world *w = *state;
	static struct bind_state was, is;
	struct error e = { 0 };
	int lock;

	was = (struct bind_state){ .group = 4, .count = 2 };
	was.records[0] = (struct bind_record){ .address = { 0, 1, 0, 0 },
					       .driver = "nouveau",
					       .d3cold_allowed = "1",
					       .power_control = "auto" };
	was.records[1] = (struct bind_record){ .address = { 0xabcd, 0xff, 31, 7 },
					       .driver_override = "pci stub" };
	lock = vfio_bind_state_lock(w->state_dir, 1000, &e);
	assert_true(lock >= 0);
	assert_int_equal(vfio_bind_state_load(w->fs.root, w->state_dir, 4, &is, &e), -ENOENT);
	assert_int_equal(vfio_bind_state_save(w->fs.root, w->state_dir, &was, &e), 0);
	assert_int_equal(vfio_bind_state_load(w->fs.root, w->state_dir, 4, &is, &e), 0);
	assert_memory_equal(&was, &is, sizeof(was));
	/* another boot: the drivers of then are not the drivers of now */
	fake_sysfs_write(&w->fs, "proc/sys/kernel/random/boot_id", "boot-two\n");
	assert_int_equal(vfio_bind_state_load(w->fs.root, w->state_dir, 4, &is, &e), -ENOENT);
	close(lock);
}

#define HEAD "divvy bind state 2\nboot\tboot-one\n"

static void damaged_state_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"something else\n",
		"divvy bind state 2\n",
		HEAD "device\t0000:01:00.0\tnouveau\t-\t1\n",
		HEAD "device\t0000:01:00.0\t../../x\t-\t1\tauto\n",
		HEAD "device\t0000:01:00.0\ta/b\t-\t1\tauto\n",
		HEAD "device\t0000:01:00.0\ta\t-\t1\t../auto\n",
		HEAD "device\tnowhere\tnouveau\t-\t1\tauto\n",
		HEAD "device\t0000:01:00.0\ta\t-\t1\tauto\tmore\n",
		HEAD "device\t0000:01:00.0\ta\t-\t-\t-\ndevice\t0000:01:00.0\tb\t-\t-\t-\n",
	};
	struct world *w = *state;
	static struct bind_state is;
	struct error e;

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		e = (struct error){ 0 };
		fake_sysfs_write(&w->fs, "var/bind/group-4", "%s", texts[i]);
		assert_int_equal(vfio_bind_state_load(w->fs.root, w->state_dir, 4, &is, &e),
				 -EINVAL);
		assert_string_equal(e.code, "bind-state-damaged");
	}
}

static void second_bind_at_once_is_told_to_wait(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };
	int lock = vfio_bind_state_lock(w->state_dir, 1000, &e);

	assert_true(lock >= 0);
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 50, &e),
			 -EBUSY);
	assert_string_equal(e.code, "bind-busy");
	close(lock);
}

/* ---- bind and unbind ---------------------------------------------------------------------- */

static void bind_takes_the_group_and_unbind_gives_it_back(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };

	fake_sysfs_device_write(&w->fs, AUDIO, "driver_override", "snd_hda_intel\n");
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(driver_of(w, GPU), "vfio-pci");
	assert_string_equal(driver_of(w, AUDIO), "vfio-pci");
	assert_string_equal(driver_of(w, PORT), "pcieport");
	assert_string_equal(override_of(w, GPU), "vfio-pci");
	assert_true(state_exists(w));
	/* twice is the same as once */
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_int_equal(vfio_unbind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(driver_of(w, GPU), "nouveau");
	assert_string_equal(driver_of(w, AUDIO), "snd_hda_intel");
	assert_string_equal(override_of(w, GPU), "(null)");
	assert_string_equal(override_of(w, AUDIO), "snd_hda_intel");
	assert_false(state_exists(w));
}

static const char *leaf_of(const struct world *w, const char *bdf, const char *leaf)
{
	static char text[128];
	char path[128];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/%s", bdf, leaf);
	return fake_sysfs_read(&w->fs, path, text, sizeof(text));
}

static void what_is_bound_stays_awake_and_sleeps_again_afterwards(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };

	/* as a hook of the driver or a rule of udev may have set them */
	fake_sysfs_device_write(&w->fs, GPU, "d3cold_allowed", "1\n");
	fake_sysfs_folder(&w->fs, "sys/bus/pci/devices/" GPU "/power");
	fake_sysfs_device_write(&w->fs, GPU, "power/control", "auto\n");
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(leaf_of(w, GPU, "d3cold_allowed"), "0");
	assert_string_equal(leaf_of(w, GPU, "power/control"), "on");
	assert_int_equal(vfio_unbind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(leaf_of(w, GPU, "d3cold_allowed"), "1");
	assert_string_equal(leaf_of(w, GPU, "power/control"), "auto");
	assert_string_equal(driver_of(w, GPU), "nouveau");
}

static void function_that_had_no_driver_gets_none_back(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };

	fake_sysfs_set_driver(&w->fs, AUDIO, NULL);
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(driver_of(w, AUDIO), "vfio-pci");
	assert_int_equal(vfio_unbind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(driver_of(w, AUDIO), "");
	assert_string_equal(driver_of(w, GPU), "nouveau");
}

static void unbind_without_a_record_lets_the_kernel_choose(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };

	fake_sysfs_set_driver(&w->fs, GPU, "vfio-pci");
	fake_sysfs_device_write(&w->fs, GPU, "driver_override", "vfio-pci\n");
	assert_int_equal(vfio_unbind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	assert_string_equal(driver_of(w, GPU), "nouveau");
	assert_string_equal(driver_of(w, AUDIO), "snd_hda_intel");
}

static void failed_bind_is_undone(void **state)
{
	static const struct bind_io refuses = { .write = kernel_refuses_audio,
						.load_driver = no_load };
	struct world *w = *state;
	struct error e = { 0 };

	assert_int_equal(vfio_bind_with(&refuses, w->fs.root, w->state_dir, &w->gpu, 5000, &e),
			 -EINVAL);
	assert_string_equal(e.code, "bind-failed");
	assert_non_null(strstr(e.text, "drivers_probe"));
	assert_non_null(strstr(e.text, AUDIO));
	assert_string_equal(driver_of(w, GPU), "nouveau");
	assert_string_equal(driver_of(w, AUDIO), "snd_hda_intel");
	assert_string_equal(override_of(w, GPU), "(null)");
	assert_string_equal(override_of(w, AUDIO), "(null)");
	assert_false(state_exists(w));
}

static void bind_is_believed_only_after_a_second_look(void **state)
{
	static const struct bind_io ignores = { .write = kernel_ignores_audio,
						.load_driver = no_load };
	struct world *w = *state;
	struct error e = { 0 };

	assert_int_equal(vfio_bind_with(&ignores, w->fs.root, w->state_dir, &w->gpu, 5000, &e),
			 -EIO);
	assert_string_equal(e.code, "bind-failed");
	assert_non_null(strstr(e.text, AUDIO));
}

static void hung_unbind_ends_in_time_and_is_undone(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };
	char path[PATH_MAX];
	uint64_t start = monotonic_ns();

	fake_path(&w->fs, path, "sys/bus/pci/drivers/nouveau/unbind");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(vfio_bind(w->fs.root, w->state_dir, &w->gpu, 1000, &e), -ETIMEDOUT);
	assert_true(monotonic_ns() - start < 20 * NSEC_PER_SEC);
	assert_string_equal(e.code, "bind-timeout");
	assert_non_null(strstr(e.text, "/sys/bus/pci/drivers/nouveau/unbind"));
	assert_null(strstr(e.text, "stays behind"));
	assert_string_equal(driver_of(w, GPU), "nouveau");
	assert_string_equal(override_of(w, GPU), "");
	assert_false(state_exists(w));
}

/* Who waits for "unbind" to return is killed: what it does goes no further, and until it is gone nobody else begins. */
static void a_bind_that_is_killed_changes_nothing_afterwards(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };
	char path[PATH_MAX], text[64];
	pid_t binds, writes;
	int pipe_fd;

	fake_path(&w->fs, path, "sys/bus/pci/drivers/nouveau/unbind");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	binds = fork();
	assert_true(binds >= 0);
	if (!binds) {
		vfio_bind(w->fs.root, w->state_dir, &w->gpu, 60000, &e);
		_exit(0);
	}
	writes = held_find(binds);
	while (strcmp(override_of(w, AUDIO), "vfio-pci") != 0)
		usleep(1000);
	held_take(writes);
	kill(binds, SIGKILL);
	assert_int_equal(waitpid(binds, NULL, 0), binds);
	held_await(writes);
	assert_int_equal(vfio_unbind(w->fs.root, w->state_dir, &w->gpu, 100, &e), -EBUSY);
	assert_string_equal(e.code, "bind-busy");
	assert_non_null(strstr(e.text, "group 4"));
	/* The driver returns: it is rid of the function. */
	fake_sysfs_set_driver(&w->fs, GPU, NULL);
	held_let_go(writes);
	pipe_fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	unlink(path);
	assert_int_equal(vfio_unbind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 20000, &e),
			 0);
	assert_string_equal(driver_of(w, GPU), "nouveau");
	assert_string_equal(driver_of(w, AUDIO), "snd_hda_intel");
	assert_string_equal(override_of(w, GPU), "(null)");
	assert_false(state_exists(w));
	assert_int_equal(read(pipe_fd, text, sizeof(text)), 0);
	close(pipe_fd);
}

static void missing_driver_is_named_and_nothing_changes(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };

	fake_sysfs_remove(&w->fs, "sys/bus/pci/drivers/vfio-pci/bind");
	fake_sysfs_remove(&w->fs, "sys/bus/pci/drivers/vfio-pci/unbind");
	fake_sysfs_remove(&w->fs, "sys/bus/pci/drivers/vfio-pci");
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e),
			 -ENODEV);
	assert_string_equal(e.code, "driver-missing");
	assert_string_equal(e.next, "modprobe vfio-pci");
	assert_string_equal(override_of(w, GPU), "(null)");
	assert_false(state_exists(w));
}

static void bridge_and_absent_function_are_refused(void **state)
{
	struct world *w = *state;
	struct pci_address address;
	struct error e = { 0 };

	pci_address_parse(PORT, &address);
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &address, 5000, &e),
			 -EINVAL);
	assert_string_equal(e.code, "is-a-bridge");
	pci_address_parse("0000:0f:00.0", &address);
	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &address, 5000, &e),
			 -ENOENT);
	assert_string_equal(e.code, "no-such-device");
}

/* ---- holders ------------------------------------------------------------------------------ */

static void bind_refused(struct world *w, const char *fact, const char *next)
{
	struct error e = { 0 };

	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e),
			 -EBUSY);
	assert_string_equal(e.code, "device-in-use");
	if (!strstr(e.text, fact))
		fail_msg("\"%s\" does not have \"%s\"", e.text, fact);
	assert_string_equal(e.next, next);
	assert_string_equal(driver_of(w, GPU), "nouveau");
	assert_string_equal(override_of(w, GPU), "(null)");
	assert_false(state_exists(w));
}

static void process_with_the_drm_node_open_is_named(void **state)
{
	struct world *w = *state;

	fake_sysfs_device_write(&w->fs, GPU, "drm/card0/uevent",
				"MAJOR=226\nMINOR=0\nDEVNAME=dri/card0\nDEVTYPE=drm_minor\n");
	fake_sysfs_folder(&w->fs, "proc/812/fd");
	fake_sysfs_write(&w->fs, "proc/812/comm", "Xorg\n");
	/* the target is not from the fake root: it is what the process sees */
	{
		char path[PATH_MAX];

		fake_path(&w->fs, path, "proc/812/fd/9");
		assert_int_equal(symlink("/dev/dri/card0", path), 0);
	}
	bind_refused(w, "process 812 (Xorg) has /dev/dri/card0 open", "stop process 812 (Xorg)");
}

static void process_with_the_nvidia_node_open_is_named(void **state)
{
	struct world *w = *state;
	char path[PATH_MAX];

	fake_sysfs_write(&w->fs, "proc/driver/nvidia/gpus/" GPU "/information",
			 "Model: \t\t H100\nDevice Minor: \t 3\n");
	fake_sysfs_folder(&w->fs, "proc/77/fd");
	fake_sysfs_write(&w->fs, "proc/77/comm", "nvidia-persiste\n");
	fake_path(&w->fs, path, "proc/77/fd/4");
	assert_int_equal(symlink("/dev/nvidia3", path), 0);
	bind_refused(w, "process 77 (nvidia-persiste) has /dev/nvidia3 open",
		     "stop process 77 (nvidia-persiste)");
}

static void interface_that_is_up_is_named(void **state)
{
	struct world *w = *state;

	fake_sysfs_device_write(&w->fs, AUDIO, "net/eth0/ifindex", "2\n");
	fake_sysfs_device_write(&w->fs, AUDIO, "net/eth0/flags", "0x1003\n");
	bind_refused(w, AUDIO " is in use: interface eth0 is up", "ip link set eth0 down");
	fake_sysfs_device_write(&w->fs, AUDIO, "net/eth0/flags", "0x1002\n");
	{
		struct error e = { 0 };

		assert_int_equal(
			vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	}
}

static void mounted_and_swapped_block_devices_are_named(void **state)
{
	struct world *w = *state;

	fake_sysfs_device_write(&w->fs, GPU, "nvme/nvme0/nvme0n1/uevent",
				"MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk\n");
	fake_sysfs_device_write(&w->fs, GPU, "nvme/nvme0/nvme0n1/nvme0n1p1/uevent",
				"MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1\nDEVTYPE=partition\n");
	fake_sysfs_write(&w->fs, "proc/self/mountinfo",
			 "30 1 259:1 / /data rw,noatime shared:1 - ext4 /dev/root rw\n");
	bind_refused(w, "/dev/nvme0n1p1 is mounted on /data", "umount /data");
	fake_sysfs_write(&w->fs, "proc/self/mountinfo",
			 "30 1 0:41 /@ /srv rw - btrfs /dev/nvme0n1p1 rw\n");
	bind_refused(w, "/dev/nvme0n1p1 is mounted on /srv", "umount /srv");
	fake_sysfs_write(&w->fs, "proc/self/mountinfo", "%s", "");
	fake_sysfs_write(&w->fs, "proc/swaps",
			 "Filename\t\t\tType\n/dev/nvme0n1p1   partition 1 0 -2\n");
	bind_refused(w, "/dev/nvme0n1p1 is swapped on", "swapoff /dev/nvme0n1p1");
	fake_sysfs_write(&w->fs, "proc/swaps", "%s", "");
	fake_sysfs_device_write(&w->fs, GPU, "nvme/nvme0/nvme0n1/holders/dm-0/x", "%s", "");
	bind_refused(w, "/dev/nvme0n1 is part of /dev/dm-0", "take the device above it down first");
}

static void unbind_is_refused_while_a_vmm_has_the_group(void **state)
{
	struct world *w = *state;
	struct error e = { 0 };
	char path[PATH_MAX];

	assert_int_equal(vfio_bind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e), 0);
	fake_sysfs_folder(&w->fs, "proc/99/fd");
	fake_sysfs_write(&w->fs, "proc/99/comm", "divvy-vmm\n");
	fake_path(&w->fs, path, "proc/99/fd/20");
	assert_int_equal(symlink("/dev/vfio/4", path), 0);
	assert_int_equal(vfio_unbind_with(&kernel, w->fs.root, w->state_dir, &w->gpu, 5000, &e),
			 -EBUSY);
	assert_string_equal(e.code, "device-in-use");
	assert_non_null(strstr(e.text, "process 99 (divvy-vmm) has /dev/vfio/4 open"));
	assert_string_equal(driver_of(w, GPU), "vfio-pci");
	assert_true(state_exists(w));
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, world_create, world_destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plan_takes_every_endpoint_and_no_bridge),
		cmocka_unit_test(plan_keeps_what_it_takes_awake),
		cmocka_unit_test(plan_restores_what_was_recorded),
		WORLD_TEST(state_survives_a_round_trip),
		WORLD_TEST(damaged_state_is_refused),
		WORLD_TEST(second_bind_at_once_is_told_to_wait),
		WORLD_TEST(bind_takes_the_group_and_unbind_gives_it_back),
		WORLD_TEST(what_is_bound_stays_awake_and_sleeps_again_afterwards),
		WORLD_TEST(function_that_had_no_driver_gets_none_back),
		WORLD_TEST(unbind_without_a_record_lets_the_kernel_choose),
		WORLD_TEST(failed_bind_is_undone),
		WORLD_TEST(bind_is_believed_only_after_a_second_look),
		WORLD_TEST(hung_unbind_ends_in_time_and_is_undone),
		WORLD_TEST(a_bind_that_is_killed_changes_nothing_afterwards),
		WORLD_TEST(missing_driver_is_named_and_nothing_changes),
		WORLD_TEST(bridge_and_absent_function_are_refused),
		WORLD_TEST(process_with_the_drm_node_open_is_named),
		WORLD_TEST(process_with_the_nvidia_node_open_is_named),
		WORLD_TEST(interface_that_is_up_is_named),
		WORLD_TEST(mounted_and_swapped_block_devices_are_named),
		WORLD_TEST(unbind_is_refused_while_a_vmm_has_the_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
