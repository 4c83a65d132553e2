// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Guest driver of QEMU's "edu" device, for tests of device assignment.
 *
 * edu computes factorials, raises an interrupt when asked, and has a DMA engine that copies between
 * its 4 KiB buffer and any bus address. This driver offers each as a file in the device's sysfs
 * folder, so that a test is a line of shell:
 *
 *	irqs		interrupts handled since probe
 *	interrupt	"msi" or "intx"
 *	factorial	write N; read N!, computed by the device, which interrupts when it is done
 *	raise		write COUNT; read "COUNT RECEIVED AVERAGE_NS" of that many interrupts
 *	dma_round_trip	read: memory to device and back through the DMA API: "ok BYTES BUS_ADDRESS"
 *	dma_write	write "ADDRESS COUNT BYTE": the device writes COUNT times BYTE at a bus address
 *	dma_read	write "ADDRESS COUNT"; read the first bytes that the device saw there, in hex
 *	move		write COUNT: that many transfers, and during each the registers move to another
 *			address or back while another CPU reads at both; read what came of it
 *
 * dma_write and dma_read take any address on purpose: that an IOMMU stops the wrong ones is what is
 * being tested. The registers are described in QEMU's docs/specs/edu.rst.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/pci.h>

#ifndef PCI_IRQ_INTX /* named so since Linux 6.8 */
#define PCI_IRQ_INTX PCI_IRQ_LEGACY
#endif

#define EDU_ID		   0x00 /* reads 0x010000ed */
#define EDU_FACTORIAL	   0x08
#define EDU_STATUS	   0x20
#define EDU_IRQ_STATUS	   0x24
#define EDU_IRQ_RAISE	   0x60
#define EDU_IRQ_ACK	   0x64
#define EDU_DMA_SOURCE	   0x80
#define EDU_DMA_TARGET	   0x88
#define EDU_DMA_COUNT	   0x90
#define EDU_DMA_COMMAND	   0x98

#define EDU_STATUS_BUSY		0x01
#define EDU_STATUS_INTERRUPT	0x80 /* interrupt when the factorial is there */
#define EDU_IRQ_FACTORIAL	0x001
#define EDU_IRQ_DMA		0x100
#define EDU_IRQ_TEST		0x200 /* any bit the device does not use itself */
#define EDU_DMA_START		0x1
#define EDU_DMA_TO_MEMORY	0x2
#define EDU_DMA_INTERRUPT	0x4

#define EDU_BUFFER	0x40000 /* the device's own address of its buffer */
#define EDU_BYTES_MAX	2048
#define EDU_WAIT	msecs_to_jiffies(5000)

static bool intx;
module_param(intx, bool, 0444);
MODULE_PARM_DESC(intx, "use the interrupt pin instead of MSI");

struct edu {
	struct pci_dev *pdev;
	void __iomem *regs;
	spinlock_t regs_lock; /* where they are, against the interrupt handler */
	struct mutex lock; /* one operation of the device at a time */
	struct completion factorial, dma, test;
	atomic_t irqs;
	void *memory;
	dma_addr_t memory_dma;
	u32 raise_count, raise_received;
	u64 raise_ns;
	u8 seen[16];
	u32 moves, moves_intact;
	u64 seen_here, seen_absent, seen_narrow, seen_wrong; /* by the reader during moves */
	u32 last_wrong;
};

static irqreturn_t edu_interrupt(int irq, void *data)
{
	struct edu *edu = data;
	u32 status;

	spin_lock(&edu->regs_lock);
	status = readl(edu->regs + EDU_IRQ_STATUS);
	if (status)
		writel(status, edu->regs + EDU_IRQ_ACK);
	spin_unlock(&edu->regs_lock);
	if (!status)
		return IRQ_NONE;
	atomic_inc(&edu->irqs);
	if (status & EDU_IRQ_FACTORIAL)
		complete(&edu->factorial);
	if (status & EDU_IRQ_DMA)
		complete(&edu->dma);
	if (status & EDU_IRQ_TEST)
		complete(&edu->test);
	return IRQ_HANDLED;
}

/* One transfer, waited for by its interrupt. The device takes a tenth of a second over each. */
static void edu_dma_start(struct edu *edu, u64 source, u64 target, u32 count, bool to_memory)
{
	reinit_completion(&edu->dma);
	writeq(source, edu->regs + EDU_DMA_SOURCE);
	writeq(target, edu->regs + EDU_DMA_TARGET);
	writeq(count, edu->regs + EDU_DMA_COUNT);
	writeq(EDU_DMA_START | EDU_DMA_INTERRUPT | (to_memory ? EDU_DMA_TO_MEMORY : 0),
	       edu->regs + EDU_DMA_COMMAND);
}

static int edu_dma_wait(struct edu *edu)
{
	if (!wait_for_completion_timeout(&edu->dma, EDU_WAIT))
		return -ETIMEDOUT;
	return 0;
}

static int edu_dma(struct edu *edu, u64 source, u64 target, u32 count, bool to_memory)
{
	edu_dma_start(edu, source, target, count, to_memory);
	return edu_dma_wait(edu);
}

static ssize_t irqs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d\n", atomic_read(&edu->irqs));
}
static DEVICE_ATTR_RO(irqs);

static ssize_t interrupt_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", to_pci_dev(dev)->msi_enabled ? "msi" : "intx");
}
static DEVICE_ATTR_RO(interrupt);

static ssize_t factorial_store(struct device *dev, struct device_attribute *attr, const char *buf,
			       size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	int ret;
	u32 n;

	ret = kstrtou32(buf, 0, &n);
	if (ret)
		return ret;
	mutex_lock(&edu->lock);
	reinit_completion(&edu->factorial);
	writel(EDU_STATUS_INTERRUPT, edu->regs + EDU_STATUS);
	writel(n, edu->regs + EDU_FACTORIAL);
	if (!wait_for_completion_timeout(&edu->factorial, EDU_WAIT))
		ret = -ETIMEDOUT;
	mutex_unlock(&edu->lock);
	return ret ?: count;
}

static ssize_t factorial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", readl(edu->regs + EDU_FACTORIAL));
}
static DEVICE_ATTR_RW(factorial);

static ssize_t raise_store(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	ktime_t start;
	u32 n, i;
	int ret;

	ret = kstrtou32(buf, 0, &n);
	if (ret)
		return ret;
	if (n < 1 || n > 10000)
		return -EINVAL;
	mutex_lock(&edu->lock);
	edu->raise_count = n;
	edu->raise_received = 0;
	start = ktime_get();
	for (i = 0; i < n; i++) {
		reinit_completion(&edu->test);
		writel(EDU_IRQ_TEST, edu->regs + EDU_IRQ_RAISE);
		if (!wait_for_completion_timeout(&edu->test, msecs_to_jiffies(1000)))
			break;
		edu->raise_received++;
	}
	edu->raise_ns = ktime_to_ns(ktime_sub(ktime_get(), start)) / n;
	mutex_unlock(&edu->lock);
	return count;
}

static ssize_t raise_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u %u %llu\n", edu->raise_count, edu->raise_received, edu->raise_ns);
}
static DEVICE_ATTR_RW(raise);

static void round_trip_fill(struct edu *edu)
{
	u8 *from = edu->memory;
	int i;

	for (i = 0; i < EDU_BYTES_MAX; i++)
		from[i] = 0x5a ^ i ^ (i >> 8);
	memset(from + PAGE_SIZE, 0, PAGE_SIZE);
}

static bool round_trip_intact(struct edu *edu)
{
	u8 *from = edu->memory, *to = from + PAGE_SIZE;

	return !memcmp(from, to, EDU_BYTES_MAX) && !to[EDU_BYTES_MAX];
}

static ssize_t dma_round_trip_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);
	int ret;

	mutex_lock(&edu->lock);
	round_trip_fill(edu);
	ret = edu_dma(edu, edu->memory_dma, EDU_BUFFER, EDU_BYTES_MAX, false);
	if (!ret)
		ret = edu_dma(edu, EDU_BUFFER, edu->memory_dma + PAGE_SIZE, EDU_BYTES_MAX, true);
	if (ret)
		ret = sysfs_emit(buf, "no interrupt of the DMA engine: error %d\n", ret);
	else if (!round_trip_intact(edu))
		ret = sysfs_emit(buf, "differs %*ph\n", 16, edu->memory + PAGE_SIZE);
	else
		ret = sysfs_emit(buf, "ok %d %pad\n", EDU_BYTES_MAX, &edu->memory_dma);
	mutex_unlock(&edu->lock);
	return ret;
}
static DEVICE_ATTR_RO(dma_round_trip);

/* ---- moving the registers ---- */

/* Where the registers can be. A moved BAR needs a window of its port that leads there. */
struct edu_place {
	u32 address, window;
	void __iomem *regs;
};

struct edu_reader {
	struct edu *edu;
	struct edu_place *places;
};

/* Whatever happens to the BAR, a read brings the device's answer or nobody's. */
static int edu_read_both(void *data)
{
	struct edu_reader *reader = data;
	struct edu *edu = reader->edu;
	int i;

	while (!kthread_should_stop()) {
		for (i = 0; i < 2; i++) {
			u32 id = readl(reader->places[i].regs + EDU_ID);

			if (id == 0x010000ed)
				edu->seen_here++;
			else if (id == ~0U)
				edu->seen_absent++;
			/*
			 * KVM took the fault when nothing was there and emulates the read now that
			 * something is: byte by byte (copy_from_user()), to which edu answers 0.
			 */
			else if (!id)
				edu->seen_narrow++;
			else {
				edu->seen_wrong++;
				edu->last_wrong = id;
			}
		}
		cond_resched();
	}
	return 0;
}

/* Every other time as an operating system does it, with decoding off; else while it is on. */
static void edu_move_to(struct edu *edu, const struct edu_place *place, bool decode_off)
{
	struct pci_dev *pdev = edu->pdev, *port = pdev->bus->self;
	unsigned long flags;
	u16 command;

	spin_lock_irqsave(&edu->regs_lock, flags);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	if (decode_off)
		pci_write_config_word(pdev, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	if (port)
		pci_write_config_dword(port, PCI_MEMORY_BASE, place->window);
	pci_write_config_dword(pdev, PCI_BASE_ADDRESS_0, place->address);
	if (decode_off)
		pci_write_config_word(pdev, PCI_COMMAND, command);
	edu->regs = place->regs;
	spin_unlock_irqrestore(&edu->regs_lock, flags);
}

static int edu_moves(struct edu *edu, struct edu_place *places, u32 count)
{
	struct edu_reader reader = { edu, places };
	struct task_struct *task;
	unsigned int other;
	int ret = 0;
	u32 i;

	other = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	task = kthread_create(edu_read_both, &reader, "edu_reader");
	if (IS_ERR(task))
		return PTR_ERR(task);
	if (other < nr_cpu_ids)
		kthread_bind(task, other);
	wake_up_process(task);
	for (i = 0; i < count && !ret; i++) {
		round_trip_fill(edu);
		edu_dma_start(edu, edu->memory_dma, EDU_BUFFER, EDU_BYTES_MAX, false);
		edu_move_to(edu, &places[1], i & 1);
		ret = edu_dma_wait(edu);
		if (!ret) {
			edu_dma_start(edu, EDU_BUFFER, edu->memory_dma + PAGE_SIZE, EDU_BYTES_MAX, true);
			edu_move_to(edu, &places[0], i & 1);
			ret = edu_dma_wait(edu);
		}
		edu->moves += 2;
		edu->moves_intact += !ret && round_trip_intact(edu) ? 2 : 0;
	}
	edu_move_to(edu, &places[0], true);
	kthread_stop(task);
	return ret;
}

static ssize_t move_store(struct device *dev, struct device_attribute *attr, const char *buf,
			  size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	struct pci_dev *pdev = edu->pdev;
	struct resource away = { .name = "divvy_edu", .flags = IORESOURCE_MEM };
	resource_size_t size = pci_resource_len(pdev, 0);
	struct edu_place places[2] = { { .regs = edu->regs } };
	struct pci_bus *root = pdev->bus;
	int ret;
	u32 n;

	ret = kstrtou32(buf, 0, &n);
	if (ret)
		return ret;
	if (n < 1 || n > 1000)
		return -EINVAL;
	while (root->parent)
		root = root->parent;
	ret = pci_bus_alloc_resource(root, &away, size, size, 0, 0, NULL, NULL);
	if (ret)
		return ret;
	places[1].regs = ioremap(away.start, size);
	if (!places[1].regs) {
		ret = -ENOMEM;
		goto out;
	}
	pci_read_config_dword(pdev, PCI_BASE_ADDRESS_0, &places[0].address);
	places[1].address = away.start;
	if (pdev->bus->self)
		pci_read_config_dword(pdev->bus->self, PCI_MEMORY_BASE, &places[0].window);
	places[1].window = (away.start >> 16 & 0xfff0) | (away.end & 0xfff00000);
	mutex_lock(&edu->lock);
	edu->moves = edu->moves_intact = 0;
	edu->seen_here = edu->seen_absent = edu->seen_narrow = edu->seen_wrong = 0;
	ret = edu_moves(edu, places, n);
	mutex_unlock(&edu->lock);
	iounmap(places[1].regs);
out:
	release_resource(&away);
	return ret ?: count;
}

static ssize_t move_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u moves, %u intact; reads: %llu answered, %llu absent, %llu narrow, %llu wrong (0x%x)\n",
			  edu->moves, edu->moves_intact, edu->seen_here, edu->seen_absent,
			  edu->seen_narrow, edu->seen_wrong, edu->last_wrong);
}
static DEVICE_ATTR_RW(move);

static ssize_t dma_write_store(struct device *dev, struct device_attribute *attr, const char *buf,
			       size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	u32 bytes, value;
	u64 address;
	int ret;

	if (sscanf(buf, "%lli %i %i", (long long *)&address, (int *)&bytes, (int *)&value) != 3 ||
	    bytes < 1 || bytes > EDU_BYTES_MAX)
		return -EINVAL;
	mutex_lock(&edu->lock);
	memset(edu->memory, value, bytes);
	ret = edu_dma(edu, edu->memory_dma, EDU_BUFFER, bytes, false);
	if (!ret)
		ret = edu_dma(edu, EDU_BUFFER, address, bytes, true);
	mutex_unlock(&edu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_WO(dma_write);

static ssize_t dma_read_store(struct device *dev, struct device_attribute *attr, const char *buf,
			      size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	u64 address;
	u32 bytes;
	int ret;

	if (sscanf(buf, "%lli %i", (long long *)&address, (int *)&bytes) != 2 ||
	    bytes < sizeof(edu->seen) || bytes > EDU_BYTES_MAX)
		return -EINVAL;
	mutex_lock(&edu->lock);
	/* A blocked read leaves the buffer as it was, so put known bytes there first. */
	memset(edu->memory, 0xee, EDU_BYTES_MAX);
	ret = edu_dma(edu, edu->memory_dma, EDU_BUFFER, EDU_BYTES_MAX, false);
	if (!ret)
		ret = edu_dma(edu, address, EDU_BUFFER, bytes, false);
	if (!ret)
		ret = edu_dma(edu, EDU_BUFFER, edu->memory_dma, bytes, true);
	memcpy(edu->seen, edu->memory, sizeof(edu->seen));
	mutex_unlock(&edu->lock);
	return ret ?: count;
}

static ssize_t dma_read_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%*phN\n", (int)sizeof(edu->seen), edu->seen);
}
static DEVICE_ATTR_RW(dma_read);

static struct attribute *edu_attrs[] = {
	&dev_attr_irqs.attr, &dev_attr_interrupt.attr, &dev_attr_factorial.attr,
	&dev_attr_raise.attr, &dev_attr_dma_round_trip.attr, &dev_attr_dma_write.attr,
	&dev_attr_dma_read.attr, &dev_attr_move.attr, NULL,
};
ATTRIBUTE_GROUPS(edu);

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu;
	int ret;

	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	mutex_init(&edu->lock);
	spin_lock_init(&edu->regs_lock);
	init_completion(&edu->factorial);
	init_completion(&edu->dma);
	init_completion(&edu->test);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap(pdev, 0, 0);
	if (!edu->regs)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(38));
	if (ret)
		return ret;
	edu->memory = dmam_alloc_coherent(&pdev->dev, 2 * PAGE_SIZE, &edu->memory_dma, GFP_KERNEL);
	if (!edu->memory)
		return -ENOMEM;
	pci_set_master(pdev);
	ret = pci_alloc_irq_vectors(pdev, 1, 1, intx ? PCI_IRQ_INTX : PCI_IRQ_MSI);
	if (ret < 0)
		return ret;
	pci_set_drvdata(pdev, edu);
	ret = request_irq(pci_irq_vector(pdev, 0), edu_interrupt, IRQF_SHARED, "divvy_edu", edu);
	if (ret) {
		pci_free_irq_vectors(pdev);
		return ret;
	}
	dev_info(&pdev->dev, "edu %08x, %s\n", readl(edu->regs + EDU_ID),
		 pdev->msi_enabled ? "msi" : "intx");
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	free_irq(pci_irq_vector(pdev, 0), pci_get_drvdata(pdev));
	pci_free_irq_vectors(pdev);
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_ids[] = { { PCI_DEVICE(0x1234, 0x11e8) }, {} };
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "divvy_edu",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
	.dev_groups = edu_groups,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("Guest driver of QEMU's edu device, for tests of device assignment");
MODULE_LICENSE("GPL"); /* the kernel has no word for "GPL-2.0 OR Apache-2.0" */
