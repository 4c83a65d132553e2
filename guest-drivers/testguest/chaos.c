// SPDX-License-Identifier: Apache-2.0
/*
 * chaos: a guest that reads and writes everywhere at random, on all processors, and so plays every
 * driver that ever went wrong: config space, BARs where they were put and where they were moved from,
 * the registers and rings of virtio devices (begun properly often enough that they run), MSI-X tables,
 * interrupt controllers, ports, addresses that nobody has.
 *
 *   seed=    where the numbers start; a life's number is added to it, which RAM keeps over a reset
 *   count=   how much the first processor does in a life, which it ends with a reset
 *
 * The first processor stays in ring 0, as do those with even numbers: only there ports can be reached. The
 * others are in ring 3, which is fast where ring 0 is emulated. What turns the machine off is done
 * seldom, writes over the guest's own code and tables hardly ever: each ends a life, as intended.
 */
#include "guest-drivers/testguest/testguest.h"

#define ECAM	    0xe0000000u
#define BARS	    0xd0000000u /* where they are put: 64 KiB each */
#define BAR_STEP    0x10000u
#define TARGETS_MAX 16
#define LIVES	    0x180000u /* counted here; above the guest's image */
#define LIVES_MAGIC 0x6c697665u
#define RINGS	    0x200000u /* all rings and most buffers are in 64 KiB from here */
#define RINGS_SIZE  0x10000u
#define QUEUES	    3
#define QUEUE_SIZE  16
#define RAM_SIZE    0x800000u
#define PUT_AGAIN   4096 /* operations after which a device is put where it was */

struct processor {
	uint64_t state;
	int ring3;
};

static struct target {
	uint32_t config, bar;
} targets[TARGETS_MAX];
static uint32_t target_count, processor_count;
static uint64_t base_seed;

/* xorshift64* */
static uint64_t next(struct processor *p)
{
	p->state ^= p->state >> 12;
	p->state ^= p->state << 25;
	p->state ^= p->state >> 27;
	return p->state * 0x2545f4914f6cdd1dull;
}

static uint32_t below(struct processor *p, uint32_t bound)
{
	return (uint32_t)((next(p) >> 32) * bound >> 32);
}

/* Values that registers have opinions on. */
static uint64_t interesting(struct processor *p)
{
	switch (below(p, 8)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return below(p, 16);
	case 3:
		return 1ull << below(p, 64);
	case 4:
		return BARS + below(p, TARGETS_MAX) * BAR_STEP;
	case 5:
		return RINGS + below(p, RINGS_SIZE);
	case 6:
		return 0xfee00000u + below(p, 0x1000);
	default:
		return next(p);
	}
}

static void access(struct processor *p, uint64_t address)
{
	uint64_t size = 1u << below(p, 4);

	if (below(p, 4))
		write_sized(address, size, interesting(p));
	else
		read_sized(address, size);
}

/* ---- what there is ------------------------------------------------------------------------------ */

static void put_target(const struct target *target)
{
	write32(target->config + 0x10, target->bar);
	write32(target->config + 0x14, 0);
	write32(target->config + 0x04, 0x6);
}

static void find_targets(void)
{
	for (uint32_t bus = 0; bus < 4; bus++)
		for (uint32_t device = 0; device < (bus ? 1 : 32); device++) {
			uint32_t config = ECAM + (bus << 20 | device << 15);
			struct target *target = &targets[target_count];

			if (read32(config) == UINT32_MAX || target_count == TARGETS_MAX)
				continue;
			target->config = config;
			target->bar = BARS + target_count++ * BAR_STEP;
			/* A bridge has its bus there; it is a target as it stands. */
			if (!(read32(config + 0x0c) >> 16 & 0x7f))
				put_target(target);
		}
}

/* ---- what it does ------------------------------------------------------------------------------- */

static void config_space(struct processor *p, const struct target *target)
{
	uint32_t reg = below(p, 16) ? below(p, 256) : below(p, 4096);

	/* Most registers are four bytes; the others matter too. */
	access(p, target->config + (below(p, 2) ? reg & ~3u : reg));
}

static void bar(struct processor *p, const struct target *target)
{
	static const uint16_t places[] = { VIRTIO_COMMON, VIRTIO_COMMON,     VIRTIO_DEVICE,
					   VIRTIO_NOTIFY, VIRTIO_MSIX_TABLE, VIRTIO_MSIX_PBA,
					   VIRTIO_ISR };
	uint32_t offset = below(p, VIRTIO_BAR_SIZE);

	if (below(p, 8))
		offset = places[below(p, sizeof(places) / sizeof(places[0]))] + below(p, 64);
	access(p, target->bar + offset);
}

static void move(struct processor *p, const struct target *target)
{
	write32(target->config + 0x10, (uint32_t)interesting(p));
	write32(target->config + 0x14, below(p, 4) ? 0 : (uint32_t)interesting(p));
	write32(target->config + 0x04, below(p, 8));
	if (below(p, 2))
		put_target(target);
}

/* MSI-X on, with a table of some kind. */
static void interrupts(struct processor *p, const struct target *target)
{
	uint32_t at = read32(target->config + 0x34) & 0xfc;

	for (unsigned i = 0; i < 4; i++) {
		write_sized(target->bar + VIRTIO_MSIX_TABLE + i * 16, 8,
			    below(p, 8) ? 0xfee00000u + (below(p, 4) << 12) : interesting(p));
		write_sized(target->bar + VIRTIO_MSIX_TABLE + i * 16 + 8, 8, 0x30 + below(p, 16));
	}
	for (unsigned i = 0; at && i < 16; i++, at = read32(target->config + at) >> 8 & 0xfc)
		if ((read32(target->config + at) & 0xff) == 0x11)
			write_sized(target->config + at + 2, 2, 0x8000 | below(p, 2) << 14);
}

/* Where queue @queue has its descriptors, and behind them its available and used rings. */
static uint64_t rings_of(uint32_t queue)
{
	return RINGS + queue % QUEUES * 0x3000;
}

/* A virtio device from reset to running, its rings, of either kind, where chains are put or anywhere in the 64 KiB. */
static void start_virtio(struct processor *p, const struct target *target)
{
	uint64_t common = target->bar + VIRTIO_COMMON;
	int in_place = below(p, 4) != 0;

	write_sized(common + 20, 1, 0);
	write_sized(common + 20, 1, 3);
	write32(common + 8, 0);
	write32(common + 12, below(p, 2) ? (uint32_t)next(p) : read32(common + 4));
	write32(common + 8, 1);
	write32(common + 12, below(p, 2) ? 1 : 5); /* VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED */
	write_sized(common + 20, 1, 11);
	for (unsigned queue = 0; queue < QUEUES; queue++) {
		write_sized(common + 22, 2, queue);
		write_sized(common + 24, 2, in_place ? QUEUE_SIZE : 1u << below(p, 9));
		write_sized(common + 26, 2, below(p, 4));
		if (in_place)
			write32(rings_of(queue) + 0x1000, 0);
		for (unsigned part = 0; part < 3; part++)
			write_sized(common + 32 + 8 * part, 8,
				    in_place ? rings_of(queue) + 0x1000 * part
					     : RINGS + below(p, 16) * 0x1000);
		write_sized(common + 28, 2, 1);
	}
	write_sized(common + 20, 1, 15);
}

/*
 * A request that a device can make sense of, a disk above all: a header, a buffer, a status. All devices
 * share the rings, so the one that is notified finds what was meant for another, or of the other kind.
 */
static void chain(struct processor *p, const struct target *target)
{
	uint32_t queue = below(p, QUEUES), head = below(p, QUEUE_SIZE / 4) * 4;
	uint64_t desc = rings_of(queue) + head * 16, avail = rings_of(queue) + 0x1000;
	uint64_t header = RINGS + RINGS_SIZE - 0x1000 + below(p, 64) * 16;
	uint64_t index = read_sized(avail + 2, 2);
	static const uint8_t types[] = { 0, 1, 1, 4, 8, 11, 13 }; /* VIRTIO_BLK_T_* */
	uint32_t write = below(p, 2) * 2;
	/* Packed: which flags are the next round's is a guess. */
	uint32_t packed = below(p, 2) ? below(p, 2) ? 1u << 7 : 1u << 15 : 0;

	write32(header, below(p, 16) ? types[below(p, sizeof(types))] : (uint32_t)next(p));
	write_sized(header + 8, 8, below(p, 8) ? below(p, 2048) : interesting(p));
	write_sized(desc, 8, header);
	write32(desc + 8, 16);
	write32(desc + 12, packed ? head | (1 | packed) << 16 : 1 | (head + 1) << 16);
	write_sized(desc + 16, 8, below(p, 64) ? RINGS + below(p, RINGS_SIZE) : interesting(p));
	write32(desc + 24, below(p, 4) ? below(p, 16) * 512 : (uint32_t)interesting(p));
	write32(desc + 28,
		packed ? head | (1 | write | packed) << 16 : 1 | write | (head + 2) << 16);
	write_sized(desc + 32, 8, header + 0x400);
	write32(desc + 40, 1);
	write32(desc + 44, packed ? head | (2 | packed) << 16 : 2);
	write_sized(avail + 4 + index % QUEUE_SIZE * 2, 2, head);
	write_sized(avail + 2, 2, index + 1);
	write_sized(target->bar + VIRTIO_NOTIFY + queue * 4, 2, queue);
}

static void ring(struct processor *p)
{
	uint64_t at = RINGS + below(p, RINGS_SIZE - 16);

	switch (below(p, 4)) {
	case 0: /* a descriptor */
		at &= ~15ull;
		write_sized(at, 8, below(p, 64) ? RINGS + below(p, RINGS_SIZE) : interesting(p));
		write32(at + 8, below(p, 4) ? below(p, 4096) : (uint32_t)interesting(p));
		write32(at + 12, below(p, 8) | below(p, 16) << 16);
		break;
	case 1: /* an available index, a little on */
		at = RINGS + below(p, 16) * 0x1000;
		write_sized(at + 2, 2, read_sized(at + 2, 2) + below(p, 3));
		break;
	case 2: /* a ring's head */
		at = RINGS + below(p, 16) * 0x1000;
		write_sized(at + 4 + below(p, 16) * 2, 2, below(p, 16));
		break;
	default:
		write_sized(at, 1u << below(p, 4), interesting(p));
		break;
	}
}

static void anywhere(struct processor *p)
{
	switch (below(p, 8)) {
	case 0:
		access(p, 0xfec00000u + below(p, 0x1000));
		break;
	case 1:
		/* Not its command register: an INIT would leave a processor out of it. */
		read_sized(0xfee00000u + (below(p, 0x400) & ~15u), 4);
		break;
	case 2:
		if (below(p, 64) == 0)
			access(p, below(p, RAM_SIZE));
		break;
	case 3:
		access(p, ECAM + below(p, 0x10000000u));
		break;
	case 4:
		/* Beside its first register, which powers off. */
		access(p, 0xf0000008u + below(p, 0x1000));
		break;
	default:
		access(p, 0xc0000000u + below(p, 0x3c000000u));
		break;
	}
}

static void port(struct processor *p)
{
	static const uint16_t known[] = { 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe,
					  0x3ff, 0x600, 0x602, 0x604, 0x608, 0xcf8, 0xcfc,
					  0xcfe, 0x70,	0x71,  0x60,  0x64,  0x20,  0x21,
					  0xa0,	 0xa1,	0x40,  0x43,  0x61,  0xc000 };
	uint16_t at = known[below(p, sizeof(known) / sizeof(known[0]))];
	uint32_t value = (uint32_t)interesting(p);

	if (below(p, 8) == 0)
		at = (uint16_t)next(p);
	/* What ends a life: only now and then. */
	if ((at == 0x64 || at == 0x604 || (at >= 0xcf6 && at <= 0xcf9)) && below(p, 64))
		value = 0x80000000u | below(p, 0x20000);
	if (at == PORT_RESET || at == 0x64)
		value &= below(p, 64) ? 0x03u : 0xffffffffu;
	switch (below(p, 6)) {
	case 0:
		__asm__ volatile("outb %b0, %1" : : "a"(value), "Nd"(at));
		break;
	case 1:
		__asm__ volatile("outw %w0, %1" : : "a"(value), "Nd"(at));
		break;
	case 2:
		__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(at));
		break;
	case 3:
		__asm__ volatile("inb %1, %b0" : "=a"(value) : "Nd"(at));
		break;
	case 4:
		__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(at));
		break;
	default: {
		uint64_t count = below(p, 64);
		uint64_t to = RINGS + below(p, RINGS_SIZE - 64);

		__asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(at) : "memory");
		break;
	}
	}
}

static void once(struct processor *p)
{
	const struct target *target = &targets[below(p, target_count)];

	if (!p->ring3 && below(p, 4) == 0) {
		port(p);
		return;
	}
	switch (below(p, 16)) {
	case 0:
	case 1:
	case 2:
		config_space(p, target);
		break;
	case 3:
		move(p, target);
		break;
	case 4:
		interrupts(p, target);
		break;
	case 5:
		start_virtio(p, target);
		break;
	case 6:
	case 7:
		anywhere(p);
		break;
	case 8:
		chain(p, target);
		break;
	case 9:
		write_sized(target->bar + VIRTIO_NOTIFY + below(p, 4) * 4, 2, below(p, 4));
		break;
	case 10:
	case 11:
		bar(p, target);
		break;
	default:
		ring(p);
		break;
	}
}

static void run(struct processor *p, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (i % PUT_AGAIN == PUT_AGAIN - 1)
			put_target(&targets[below(p, target_count)]);
		once(p);
	}
}

static void other(void)
{
	uint32_t number = __atomic_add_fetch(&processor_count, 1, __ATOMIC_RELAXED);
	struct processor p = { (base_seed + number) * 0x9e3779b97f4a7c15ull | 1, number & 1 };

	if (p.ring3)
		enter_ring3(2);
	run(&p, UINT64_MAX);
}

uint32_t do_chaos(const char *cmdline)
{
	uint64_t lives = read_sized(LIVES, 8), count = number(cmdline, "count", 10000);
	struct processor p = { 0 };

	/* The magic in its upper half says that it is a number of ours. */
	lives = (uint32_t)(lives >> 32) == LIVES_MAGIC ? lives + 1 : (uint64_t)LIVES_MAGIC << 32;
	write_sized(LIVES, 8, lives);
	base_seed = (number(cmdline, "seed", 1) << 20) + (uint32_t)lives * 64;
	p.state = base_seed * 0x9e3779b97f4a7c15ull | 1;
	find_targets();
	if (!target_count)
		return 0xbad;
	start_processors(other);
	run(&p, count);
	for (;;)
		outb(PORT_RESET, 0x6);
}
