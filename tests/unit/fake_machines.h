/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole machines in a made-up /sys and /proc (fake_sysfs.h), after real ones: names, identities, BARs, links and shapes are
 * theirs as far as they are known (docs/hardware.md; lspci listings of such boards), the rest is what the kernel writes.
 */
#ifndef TESTS_UNIT_FAKE_MACHINES_H
#define TESTS_UNIT_FAKE_MACHINES_H

#include "instances/node/node.h"
#include "tests/unit/fake_sysfs.h"

/* ---- parts -------------------------------------------------------------------------------------------- */

/* CPUs @first to @last (and, of hyper-threads, more) with @memory_mib, as NUMA node @id. */
static FAKE_UNUSED void fake_numa_node(const struct fake_sysfs *fs, unsigned id, const char *cpus,
				       uint64_t memory_mib, unsigned huge_2m, unsigned huge_1g)
{
	char path[256];

	snprintf(path, sizeof(path), "sys/devices/system/node/node%u/cpulist", id);
	fake_sysfs_write(fs, path, "%s\n", cpus);
	snprintf(path, sizeof(path), "sys/devices/system/node/node%u/meminfo", id);
	fake_sysfs_write(fs, path,
			 "Node %u MemTotal:       %llu kB\nNode %u MemFree:        1000 kB\n", id,
			 (unsigned long long)memory_mib * 1024, id);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path),
			 "sys/devices/system/node/node%u/hugepages/hugepages-%skB/nr_hugepages", id,
			 i ? "1048576" : "2048");
		fake_sysfs_write(fs, path, "%u\n", i ? huge_1g : huge_2m);
	}
}

static FAKE_UNUSED void fake_totals(const struct fake_sysfs *fs, const char *cpus,
				    const char *nodes, uint64_t memory_mib, unsigned huge_2m,
				    unsigned huge_1g)
{
	fake_sysfs_write(fs, "sys/devices/system/cpu/online", "%s\n", cpus);
	fake_sysfs_write(fs, "sys/devices/system/node/online", "%s\n", nodes);
	fake_sysfs_write(fs, "proc/meminfo", "MemTotal:       %llu kB\nMemFree:        1000 kB\n",
			 (unsigned long long)memory_mib * 1024);
	fake_sysfs_write(fs, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "%u\n",
			 huge_2m);
	fake_sysfs_write(fs, "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "%u\n",
			 huge_1g);
}

/* An IOMMU that remaps interrupts too. */
static FAKE_UNUSED void fake_iommu_on(const struct fake_sysfs *fs, const char *unit)
{
	fake_sysfs_add_iommu(fs, unit);
	fake_sysfs_write(
		fs, "proc/interrupts",
		"   CPU0\n  2: 9 IR-IO-APIC 2-edge timer\n 24: 1 IR-PCI-MSI-0000 0-edge x\n");
}

/* A port with ACS as capable ones have it: switched on by the kernel. @type: 4 root, 5 upstream, 6 downstream */
static FAKE_UNUSED void fake_port(const struct fake_sysfs *fs, const char *bdf, const char *parent,
				  int group, unsigned type, bool acs)
{
	uint8_t config[4096];

	fake_config_bridge(config, 0x8086, 0x1901);
	fake_put16(config, 0x42, 2 | type << 4);
	if (acs)
		fake_config_add_acs(config, 0x100, 0x1f, 0x1d);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
						   .vendor = 0x8086,
						   .device = 0x1901,
						   .class_code = 0x060400,
						   .group = group,
						   .parent = parent,
						   .driver = "pcieport",
						   .config = config,
						   .config_size = sizeof(config) });
}

static FAKE_UNUSED void fake_place(const struct fake_sysfs *fs, const char *bdf, int numa,
				   const char *cpus)
{
	fake_sysfs_device_write(fs, bdf, "numa_node", "%d\n", numa);
	fake_sysfs_device_write(fs, bdf, "local_cpulist", "%s\n", cpus);
	fake_sysfs_device_write(fs, bdf, "power_state", "D0\n");
}

static FAKE_UNUSED void fake_link(const struct fake_sysfs *fs, const char *bdf, const char *speed,
				  unsigned width, const char *max_speed, unsigned max_width)
{
	fake_sysfs_device_write(fs, bdf, "current_link_speed", "%s GT/s PCIe\n", speed);
	fake_sysfs_device_write(fs, bdf, "current_link_width", "%u\n", width);
	fake_sysfs_device_write(fs, bdf, "max_link_speed", "%s GT/s PCIe\n", max_speed);
	fake_sysfs_device_write(fs, bdf, "max_link_width", "%u\n", max_width);
}

static FAKE_UNUSED void fake_drm(const struct fake_sysfs *fs, const char *bdf, unsigned card,
				 unsigned render)
{
	char folder[PATH_MAX], path[PATH_MAX + 64];

	fake_sysfs_device_path(fs, bdf, folder);
	snprintf(path, sizeof(path), "%s/drm/card%u/dev", folder, card);
	fake_sysfs_write(fs, path, "226:%u\n", card);
	if (!render)
		return;
	snprintf(path, sizeof(path), "%s/drm/renderD%u/dev", folder, render);
	fake_sysfs_write(fs, path, "226:%u\n", render);
}

/* ---- machines ------------------------------------------------------------------------------------------- */

static const char *const fake_h100_addresses[] = { "0000:1b:00.0", "0000:43:00.0", "0000:52:00.0",
						   "0000:61:00.0", "0000:9d:00.0", "0000:c3:00.0",
						   "0000:d1:00.0", "0000:df:00.0" };

/* Two sockets, four PCIe switches with two H100 each (10de:2330, BARs of docs/hardware.md), driver nvidia, and the NVSwitches. */
static FAKE_UNUSED void fake_machine_h100(struct fake_sysfs *fs)
{
	static const char *const cpus[] = { "0-55,112-167", "56-111,168-223" };
	char path[128];

	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/nvme0n1p2 intel_iommu=on iommu=pt");
	fake_iommu_on(fs, "dmar0");
	fake_totals(fs, "0-223", "0-1", 2063936, 0, 1024);
	fake_numa_node(fs, 0, cpus[0], 1031968, 0, 512);
	fake_numa_node(fs, 1, cpus[1], 1031968, 0, 512);
	for (unsigned i = 0; i < 8; i++) {
		const char *bdf = fake_h100_addresses[i];
		const unsigned bus = (unsigned)strtoul(bdf + 5, NULL, 16);
		char root[16], upstream[16], downstream[16];

		/* The switch of a pair hangs below a root port, and is named after the bus of the first. */
		snprintf(root, sizeof(root), "0000:%02x:01.0", i / 2 * 0x30 + 0x10);
		snprintf(upstream, sizeof(upstream), "0000:%02x:00.0", i / 2 * 0x30 + 0x11);
		snprintf(downstream, sizeof(downstream), "0000:%02x:%02x.0", i / 2 * 0x30 + 0x12,
			 i % 2 * 4);
		if (i % 2 == 0) {
			fake_port(fs, root, NULL, 10 + (int)i * 4, 4, true);
			fake_port(fs, upstream, root, 11 + (int)i * 4, 5, false);
		}
		fake_port(fs, downstream, upstream, 12 + (int)i * 4, 6, true);
		fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
							   .vendor = 0x10de,
							   .device = 0x2330,
							   .class_code = 0x030200,
							   .group = 100 + (int)i,
							   .parent = downstream,
							   .driver = "nvidia" });
		fake_sysfs_device_write(fs, bdf, "subsystem_vendor", "0x10de\n");
		fake_sysfs_device_write(fs, bdf, "subsystem_device", "0x16c1\n");
		fake_place(fs, bdf, i < 4 ? 0 : 1, cpus[i < 4 ? 0 : 1]);
		fake_link(fs, bdf, "32.0", 16, "32.0", 16);
		fake_sysfs_device_write(fs, bdf, "reset_method", "flr bus\n");
		fake_sysfs_device_write(fs, bdf, "sriov_totalvfs", "16\n");
		fake_sysfs_device_write(fs, bdf, "sriov_numvfs", "0\n");
		fake_sysfs_device_write(
			fs, bdf, "resource",
			"0x00002%x2042000000 0x00002%x2042ffffff 0x000000000014220c\n"
			"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
			"0x00002%x0000000000 0x00002%x1fffffffff 0x000000000014220c\n"
			"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
			"0x00002%x2040000000 0x00002%x2041ffffff 0x000000000014220c\n"
			"0x0000000000000000 0x0000000000000000 0x0000000000000000\n",
			i, i, i, i, i, i);
		snprintf(path, sizeof(path), "proc/driver/nvidia/gpus/%s/information", bdf);
		fake_sysfs_write(fs, path,
				 "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 320\n"
				 "GPU UUID: \t GPU-5a1f0d3c-0000-4b8e-9d2a-0000000000%02x\n"
				 "Bus Location: \t %s\n",
				 bus, bdf);
	}
	for (unsigned i = 0; i < 4; i++) {
		char bdf[16];

		snprintf(bdf, sizeof(bdf), "0000:%02x:00.0", 0x7 + i);
		fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
							   .vendor = 0x10de,
							   .device = 0x22a3,
							   .class_code = 0x068000,
							   .group = 90 + (int)i,
							   .driver = "nvidia-nvswitch" });
	}
}

/* What Vulkan says of it. */
static FAKE_UNUSED void fake_vulkan_h100(struct node_vulkan *vulkan)
{
	*vulkan = (struct node_vulkan){ .count = 8 };
	for (unsigned i = 0; i < 8; i++) {
		strcpy(vulkan->gpus[i].name, fake_h100_addresses[i]);
		strcpy(vulkan->gpus[i].device, "NVIDIA H100 80GB HBM3");
		vulkan->gpus[i].memory_mib = 81559;
	}
}

/*
 * A virtual machine to which one H200 was passed through, as it was seen (docs/hardware.md): no IOMMU, no bridge, no DRM node, since of NVIDIA's
 * modules nvidia and nvidia_uvm are loaded and nvidia_drm is not. The UUID is made up.
 */
static FAKE_UNUSED void fake_machine_h200_vm(struct fake_sysfs *fs)
{
	static const char bdf[] = "0000:00:06.0";

	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "mitigations=auto console=ttyS0 quiet panic=1 pci=realloc=off");
	fake_sysfs_write(fs, "proc/interrupts",
			 "   CPU0\n 24: 0 IO-APIC 5-edge ACPI:Ged\n"
			 " 42: 0 PCI-MSIX-0000:00:06.0 0-edge nvidia\n");
	fake_totals(fs, "0-15", "0", 128887, 0, 0);
	fake_numa_node(fs, 0, "0-15", 128887, 0, 0);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
						   .vendor = 0x10de,
						   .device = 0x2335,
						   .class_code = 0x030200,
						   .group = -1,
						   .driver = "nvidia" });
	fake_sysfs_device_write(fs, bdf, "subsystem_vendor", "0x10de\n");
	fake_sysfs_device_write(fs, bdf, "subsystem_device", "0x18bf\n");
	fake_place(fs, bdf, -1, "0-15");
	fake_link(fs, bdf, "32.0", 16, "32.0", 16);
	fake_sysfs_device_write(fs, bdf, "reset_method", "flr\n");
	fake_sysfs_device_write(fs, bdf, "resource",
				"0x0000104002000000 0x0000104002ffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000100000000000 0x0000103fffffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000104000000000 0x0000104001ffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	fake_sysfs_write(fs, "proc/driver/nvidia/gpus/0000:00:06.0/information",
			 "Model: \t\t NVIDIA H200\nIRQ:   \t\t 41\n"
			 "GPU UUID: \t GPU-7c2e9a10-0000-4d3b-8f61-000000000006\n"
			 "Video BIOS: \t 96.00.a5.00.1a\nBus Type: \t PCIe\nDMA Size: \t 52 bits\n"
			 "DMA Mask: \t 0xfffffffffffff\nBus Location: \t 0000:00:06.0\n"
			 "Device Minor: \t 0\n");
}

/* Intel's GPU is the console; NVIDIA's sleeps behind a port without ACS, with its audio function. */
static FAKE_UNUSED void fake_machine_laptop(struct fake_sysfs *fs)
{
	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/nvme0n1p2 quiet splash intel_iommu=on");
	fake_iommu_on(fs, "dmar0");
	fake_totals(fs, "0-15", "0", 15687, 0, 0);
	fake_numa_node(fs, 0, "0-15", 15687, 0, 0);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:00:02.0",
						   .vendor = 0x8086,
						   .device = 0xa7a0,
						   .class_code = 0x030000,
						   .group = 0,
						   .driver = "i915" });
	fake_place(fs, "0000:00:02.0", -1, "0-15");
	fake_sysfs_device_write(fs, "0000:00:02.0", "boot_vga", "1\n");
	fake_sysfs_device_write(fs, "0000:00:02.0", "reset_method", "flr\n");
	fake_sysfs_device_write(fs, "0000:00:02.0", "sriov_totalvfs", "7\n");
	fake_sysfs_device_write(fs, "0000:00:02.0", "sriov_numvfs", "0\n");
	fake_sysfs_device_write(fs, "0000:00:02.0", "resource",
				"0x000000603c000000 0x000000603cffffff 0x0000000000140204\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000004000000000 0x000000400fffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000000000003000 0x000000000000303f 0x0000000000040101\n");
	fake_drm(fs, "0000:00:02.0", 1, 128);
	fake_sysfs_group_reserved(fs, 0,
				  "0x000000004c000000 0x00000000507fffff direct-relaxable\n"
				  "0x00000000fee00000 0x00000000feefffff msi\n");
	fake_port(fs, "0000:00:01.0", NULL, 2, 4, false);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:01:00.0",
						   .vendor = 0x10de,
						   .device = 0x25a0,
						   .class_code = 0x030200,
						   .group = 2,
						   .parent = "0000:00:01.0",
						   .driver = "nouveau" });
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:01:00.1",
						   .vendor = 0x10de,
						   .device = 0x2291,
						   .class_code = 0x040300,
						   .group = 2,
						   .parent = "0000:00:01.0",
						   .driver = "snd_hda_intel" });
	fake_place(fs, "0000:01:00.0", -1, "0-15");
	fake_sysfs_device_write(fs, "0000:01:00.0", "power_state", "D3cold\n");
	fake_link(fs, "0000:01:00.0", "2.5", 8, "16.0", 8);
	fake_sysfs_device_write(fs, "0000:01:00.0", "boot_vga", "0\n");
	fake_sysfs_device_write(fs, "0000:01:00.0", "reset_method", "flr bus\n");
	fake_sysfs_device_write(fs, "0000:01:00.0", "resource",
				"0x000000005f000000 0x000000005fffffff 0x0000000000040200\n"
				"0x0000006000000000 0x00000060ffffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000006100000000 0x0000006101ffffff 0x000000000014220c\n");
	fake_drm(fs, "0000:01:00.0", 2, 129);
}

/*
 * An AMD Radeon RX 7900 XTX: its own switch on the card, audio, USB and its controller beside it; the console is a server's BMC behind a
 * bridge to conventional PCI.
 */
static FAKE_UNUSED void fake_machine_workstation(struct fake_sysfs *fs)
{
	static const struct {
		const char *bdf;
		uint16_t device;
		uint32_t class_code;
		const char *driver;
	} functions[] = {
		{ "0000:03:00.0", 0x744c, 0x030000, "amdgpu" },
		{ "0000:03:00.1", 0xab30, 0x040300, "snd_hda_intel" },
		{ "0000:03:00.2", 0x7446, 0x0c0330, "xhci_hcd" },
		{ "0000:03:00.3", 0x7444, 0x0c8000, NULL },
	};

	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/nvme0n1p2 quiet");
	fake_iommu_on(fs, "ivhd0");
	fake_totals(fs, "0-31", "0", 128745, 4096, 0);
	fake_numa_node(fs, 0, "0-31", 128745, 4096, 0);
	fake_port(fs, "0000:00:01.1", NULL, 1, 4, true);
	fake_port(fs, "0000:01:00.0", "0000:00:01.1", 12, 5, false);
	fake_port(fs, "0000:02:00.0", "0000:01:00.0", 13, 6, true);
	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++)
		fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = functions[i].bdf,
							   .vendor = 0x1002,
							   .device = functions[i].device,
							   .class_code = functions[i].class_code,
							   .group = 14,
							   .parent = "0000:02:00.0",
							   .driver = functions[i].driver });
	fake_place(fs, "0000:03:00.0", 0, "0-31");
	fake_link(fs, "0000:03:00.0", "16.0", 16, "16.0", 16);
	fake_sysfs_device_write(fs, "0000:03:00.0", "boot_vga", "0\n");
	fake_sysfs_device_write(fs, "0000:03:00.0", "reset_method", "bus\n");
	fake_sysfs_device_write(fs, "0000:03:00.0", "unique_id", "a7ba6d3f1c0e52b8\n");
	fake_sysfs_device_write(fs, "0000:03:00.0", "mem_info_vram_total", "25753026560\n");
	fake_sysfs_device_write(fs, "0000:03:00.0", "resource",
				"0x0000007800000000 0x0000007fffffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000008000000000 0x00000080001fffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x000000000000f000 0x000000000000f0ff 0x0000000000040101\n"
				"0x00000000fcb00000 0x00000000fcbfffff 0x0000000000040200\n");
	fake_drm(fs, "0000:03:00.0", 1, 128);
	fake_port(fs, "0000:00:03.1", NULL, 3, 4, true);
	fake_port(fs, "0000:05:00.0", "0000:00:03.1", 20, 7, false);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:06:00.0",
						   .vendor = 0x1a03,
						   .device = 0x2000,
						   .class_code = 0x030000,
						   .group = 20,
						   .parent = "0000:05:00.0",
						   .driver = "ast" });
	fake_place(fs, "0000:06:00.0", 0, "0-31");
	fake_sysfs_device_write(fs, "0000:06:00.0", "boot_vga", "1\n");
	fake_sysfs_device_write(fs, "0000:06:00.0", "resource",
				"0x00000000fb000000 0x00000000fbffffff 0x0000000000040200\n"
				"0x00000000fc000000 0x00000000fc03ffff 0x0000000000040200\n"
				"0x000000000000e000 0x000000000000e07f 0x0000000000040101\n");
	fake_drm(fs, "0000:06:00.0", 0, 0);
}

/* An Intel Data Center GPU Flex 170 with three of its 31 virtual functions, two of them on vfio-pci. */
static FAKE_UNUSED void fake_machine_sriov(struct fake_sysfs *fs)
{
	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/sda2 intel_iommu=on");
	fake_iommu_on(fs, "dmar0");
	fake_totals(fs, "0-63", "0-1", 257574, 0, 0);
	fake_numa_node(fs, 0, "0-31", 128787, 0, 0);
	fake_numa_node(fs, 1, "32-63", 128787, 0, 0);
	fake_port(fs, "0000:48:01.0", NULL, 30, 4, true);
	fake_port(fs, "0000:49:00.0", "0000:48:01.0", 31, 5, false);
	fake_port(fs, "0000:4a:01.0", "0000:49:00.0", 32, 6, true);
	for (unsigned i = 0; i < 4; i++) {
		char bdf[16], folder[PATH_MAX], physical[PATH_MAX], path[PATH_MAX + 16];

		snprintf(bdf, sizeof(bdf), "0000:4d:00.%u", i);
		fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
							   .vendor = 0x8086,
							   .device = 0x56c0,
							   .class_code = 0x038000,
							   .group = 33 + (int)i,
							   .parent = "0000:4a:01.0",
							   .driver = i == 0  ? "xe"
								     : i < 3 ? "vfio-pci"
									     : NULL });
		fake_place(fs, bdf, 0, "0-31");
		fake_sysfs_device_write(fs, bdf, "reset_method", "flr\n");
		if (!i)
			continue;
		fake_sysfs_device_path(fs, bdf, folder);
		fake_sysfs_device_path(fs, "0000:4d:00.0", physical);
		snprintf(path, sizeof(path), "%s/physfn", folder);
		fake_sysfs_link(fs, path, physical);
		fake_sysfs_device_write(
			fs, bdf, "resource",
			"0x0000206%u00000000 0x0000206%u00ffffff 0x000000000014220c\n"
			"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
			"0x0000207%u00000000 0x0000207%u7fffffff 0x000000000014220c\n",
			i, i, i, i);
	}
	fake_link(fs, "0000:4d:00.0", "16.0", 16, "16.0", 16);
	fake_sysfs_device_write(fs, "0000:4d:00.0", "sriov_totalvfs", "31\n");
	fake_sysfs_device_write(fs, "0000:4d:00.0", "sriov_numvfs", "3\n");
	fake_sysfs_device_write(fs, "0000:4d:00.0", "resource",
				"0x0000206000000000 0x0000206000ffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000202000000000 0x00002023ffffffff 0x000000000014220c\n");
	fake_drm(fs, "0000:4d:00.0", 1, 128);
}

/* A desktop whose i915 makes mediated devices (GVT-g) of an UHD Graphics 630; one of them is there. */
static FAKE_UNUSED void fake_machine_mdev(struct fake_sysfs *fs)
{
	static const struct {
		const char *type, *left;
	} types[] = { { "i915-GVTg_V5_4", "0" }, { "i915-GVTg_V5_8", "1" } };
	static const char uuid[] = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
	char folder[PATH_MAX], path[PATH_MAX + 128], device[PATH_MAX + 64];

	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/sda2 intel_iommu=on i915.enable_gvt=1");
	fake_iommu_on(fs, "dmar0");
	fake_totals(fs, "0-11", "0", 31940, 0, 0);
	fake_numa_node(fs, 0, "0-11", 31940, 0, 0);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:00:02.0",
						   .vendor = 0x8086,
						   .device = 0x3e98,
						   .class_code = 0x030000,
						   .group = 0,
						   .driver = "i915" });
	fake_place(fs, "0000:00:02.0", -1, "0-11");
	fake_sysfs_device_write(fs, "0000:00:02.0", "boot_vga", "1\n");
	fake_sysfs_device_write(fs, "0000:00:02.0", "reset_method", "flr\n");
	fake_drm(fs, "0000:00:02.0", 0, 128);
	fake_sysfs_device_path(fs, "0000:00:02.0", folder);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		snprintf(path, sizeof(path), "%s/mdev_supported_types/%s/name", folder,
			 types[i].type);
		fake_sysfs_write(fs, path, "%s\n", types[i].type + 5);
		snprintf(path, sizeof(path), "%s/mdev_supported_types/%s/device_api", folder,
			 types[i].type);
		fake_sysfs_write(fs, path, "vfio-pci\n");
		snprintf(path, sizeof(path), "%s/mdev_supported_types/%s/available_instances",
			 folder, types[i].type);
		fake_sysfs_write(fs, path, "%s\n", types[i].left);
	}
	/* Of another API: no function for a guest. */
	snprintf(path, sizeof(path), "%s/mdev_supported_types/i915-other/device_api", folder);
	fake_sysfs_write(fs, path, "vfio-ap\n");
	snprintf(device, sizeof(device), "%s/%s", folder, uuid);
	snprintf(path, sizeof(path), "%s/uevent", device);
	fake_sysfs_write(fs, path, "DRIVER=vfio_mdev\n");
	snprintf(path, sizeof(path), "sys/bus/mdev/devices/%s", uuid);
	fake_sysfs_link(fs, path, device);
	fake_sysfs_write(fs, "sys/bus/mdev/devices/no-uuid/uevent", "%s", "");
}

/* Two gaming cards in a desktop whose chipset keeps nothing apart, split by pcie_acs_override. */
static FAKE_UNUSED void fake_machine_acs_override(struct fake_sysfs *fs)
{
	fake_sysfs_create(fs);
	fake_sysfs_cmdline(
		fs, "root=/dev/sda2 intel_iommu=on pcie_acs_override=downstream,multifunction");
	fake_iommu_on(fs, "dmar0");
	fake_totals(fs, "0-11", "0", 64219, 0, 0);
	fake_numa_node(fs, 0, "0-11", 64219, 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		char port[16], gpu[16], audio[16];

		snprintf(port, sizeof(port), "0000:00:1c.%u", i * 4);
		snprintf(gpu, sizeof(gpu), "0000:0%u:00.0", i + 1);
		snprintf(audio, sizeof(audio), "0000:0%u:00.1", i + 1);
		fake_port(fs, port, NULL, (int)i * 4 + 5, 4, false);
		fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = gpu,
							   .vendor = 0x10de,
							   .device = 0x2204,
							   .class_code = 0x030000,
							   .group = (int)i * 4 + 6,
							   .parent = port,
							   .driver = i ? "vfio-pci" : "nouveau" });
		fake_sysfs_add_pci(
			fs, &(struct fake_pci){ .bdf = audio,
						.vendor = 0x10de,
						.device = 0x1aef,
						.class_code = 0x040300,
						.group = (int)i * 4 + 7,
						.parent = port,
						.driver = i ? "vfio-pci" : "snd_hda_intel" });
		fake_place(fs, gpu, -1, "0-11");
		fake_link(fs, gpu, i ? "16.0" : "2.5", i ? 4 : 16, "16.0", 16);
		fake_sysfs_device_write(fs, gpu, "boot_vga", "%u\n", !i);
		fake_sysfs_device_write(fs, gpu, "reset_method", "bus\n");
		fake_sysfs_device_write(
			fs, gpu, "resource",
			"0x00000000a%u000000 0x00000000a%uffffff 0x0000000000040200\n"
			"0x0000004%u00000000 0x0000004%u0fffffff 0x000000000014220c\n",
			i, i, i, i);
	}
	fake_drm(fs, "0000:01:00.0", 0, 128);
}

/* The same card in a machine whose IOMMU is off. */
static FAKE_UNUSED void fake_machine_no_iommu(struct fake_sysfs *fs)
{
	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/sda2 quiet");
	fake_sysfs_write(fs, "proc/interrupts", "   CPU0\n  2: 9 IO-APIC 2-edge timer\n");
	fake_totals(fs, "0-11", "0", 64219, 0, 0);
	fake_numa_node(fs, 0, "0-11", 64219, 0, 0);
	fake_port(fs, "0000:00:01.0", NULL, -1, 4, false);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:01:00.0",
						   .vendor = 0x10de,
						   .device = 0x2204,
						   .class_code = 0x030000,
						   .group = -1,
						   .parent = "0000:00:01.0",
						   .driver = "nvidia" });
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = "0000:01:00.1",
						   .vendor = 0x10de,
						   .device = 0x1aef,
						   .class_code = 0x040300,
						   .group = -1,
						   .parent = "0000:00:01.0",
						   .driver = "snd_hda_intel" });
	fake_place(fs, "0000:01:00.0", -1, "0-11");
	fake_link(fs, "0000:01:00.0", "16.0", 16, "16.0", 16);
	fake_sysfs_device_write(fs, "0000:01:00.0", "boot_vga", "1\n");
	fake_sysfs_device_write(fs, "0000:01:00.0", "reset_method", "bus\n");
}

#endif
