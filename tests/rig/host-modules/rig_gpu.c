// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Functions that look like GPUs to those who read their class in sysfs: QEMU has no display with SR-IOV, but a network card. For the rig's
 * host only; the devices themselves, their config space and what a guest sees are as they were. Given back when the module goes.
 *
 *   insmod rig_gpu.ko functions=0000:06:00.0,0000:06:10.0
 */
#include <linux/module.h>
#include <linux/pci.h>

#define MOST 8

static char *functions[MOST];
static int count;
module_param_array(functions, charp, &count, 0444);
MODULE_PARM_DESC(functions, "PCI addresses");

static struct {
	struct pci_dev *dev;
	unsigned int class;
} kept[MOST];

static void give_back(void)
{
	for (int i = 0; i < count; i++)
		if (kept[i].dev) {
			kept[i].dev->class = kept[i].class;
			pci_dev_put(kept[i].dev);
		}
}

static int __init rig_gpu_init(void)
{
	for (int i = 0; i < count; i++) {
		unsigned int domain, bus, slot, function;

		if (sscanf(functions[i], "%x:%x:%x.%x", &domain, &bus, &slot, &function) == 4)
			kept[i].dev =
				pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
		if (!kept[i].dev) {
			pr_err("rig_gpu: no function %s\n", functions[i]);
			give_back();
			return -ENODEV;
		}
		kept[i].class = kept[i].dev->class;
		kept[i].dev->class = PCI_CLASS_DISPLAY_OTHER << 8;
	}
	return 0;
}

static void __exit rig_gpu_exit(void)
{
	give_back();
}

module_init(rig_gpu_init);
module_exit(rig_gpu_exit);
MODULE_DESCRIPTION("Functions that look like GPUs, for Divvy's rig");
MODULE_LICENSE("Dual BSD/GPL");
