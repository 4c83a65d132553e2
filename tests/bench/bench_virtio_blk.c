// SPDX-License-Identifier: Apache-2.0
/*
 * What io_uring gives a virtio disk over one system call a request: 4 KiB requests through the whole
 * device (rings, worker, interrupt), both ways in turn within each run, as requests a second and as
 * the ratio of the two.
 *
 *   bench_virtio_blk FOLDER...     each gets an image for the time of the measurement
 *
 * "cold": the image is not in the host's page cache when the run begins.
 */
#include "tests/unit/virtio_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#define virtio_blk_config virtio_blk_config_space
#include <linux/virtio_blk.h>
#undef virtio_blk_config

#include "tests/bench/bench.h"

#define IMAGE_SIZE (128 * MIB)
#define BLOCK	   4096u
#define DEPTH_MAX  32u
#define RUNS	   5u
#define RUN_NS	   (100 * UINT64_C(1000000))

struct load {
	const char *name;
	bool write, random, cold;
};

static const struct load loads[] = {
	{ "read, sequential", false, false, false }, { "read, random", false, true, false },
	{ "read, random, cold", false, true, true }, { "write, sequential", true, false, false },
	{ "write, random", true, true, false },
};

static struct guest guest;
static uint64_t headers_gpa, statuses_gpa, data_gpa;
static uint32_t seed = 1;

static void open_disk(const char *path, bool synchronous)
{
	const struct virtio_blk_config config = { .path = path, .synchronous = synchronous };
	struct vfio_device *device;
	struct error e = { 0 };

	if (virtio_blk_create(&config, &device, &e)) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	guest_open(&guest, device);
	guest_negotiate(&guest, GUEST_FEATURES | UINT64_C(1) << VIRTIO_BLK_F_FLUSH);
	guest_setup_queue(&guest, 0, 128);
	guest_driver_ok(&guest);
	headers_gpa = guest_alloc(&guest, DEPTH_MAX * sizeof(struct virtio_blk_outhdr));
	statuses_gpa = guest_alloc(&guest, DEPTH_MAX);
	guest.allocated = ALIGN_UP(guest.allocated, BLOCK);
	data_gpa = guest_alloc(&guest, DEPTH_MAX * BLOCK);
}

/* Request @slot, over its own three descriptors: they come back in any order. */
static void start(const struct load *load, unsigned slot, uint64_t block)
{
	struct virtio_blk_outhdr *header =
		(struct virtio_blk_outhdr *)guest_ptr(&guest, headers_gpa) + slot;
	struct vring_desc *desc = &guest.queues[0].ring.desc[slot * 3];

	*header = (struct virtio_blk_outhdr){
		.type = load->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.sector = block * (BLOCK / 512),
	};
	desc[0] = (struct vring_desc){ headers_gpa + slot * sizeof(*header), sizeof(*header),
				       VRING_DESC_F_NEXT, (uint16_t)(slot * 3 + 1) };
	desc[1] = (struct vring_desc){ data_gpa + slot * BLOCK, BLOCK,
				       (uint16_t)(VRING_DESC_F_NEXT |
						  (load->write ? 0 : VRING_DESC_F_WRITE)),
				       (uint16_t)(slot * 3 + 2) };
	desc[2] = (struct vring_desc){ statuses_gpa + slot, 1, VRING_DESC_F_WRITE, 0 };
	guest_publish(&guest, 0, (uint16_t)(slot * 3));
}

static uint64_t next_block(const struct load *load, uint64_t before)
{
	if (!load->random)
		return (before + 1) % (IMAGE_SIZE / BLOCK);
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % (IMAGE_SIZE / BLOCK);
}

/* Requests a second with @depth of them always under way. */
static double measure(const struct load *load, unsigned depth)
{
	const uint64_t began = monotonic_ns();
	uint64_t block = 0, done = 0, now = began;
	unsigned under_way = 0;

	for (unsigned slot = 0; slot < depth; slot++, under_way++)
		start(load, slot, block = next_block(load, block));
	guest_kick(&guest, 0);
	while (under_way) {
		bool added = false;
		uint16_t head = 0;

		assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, &head, NULL));
		now = monotonic_ns();
		do {
			assert_int_equal(*(uint8_t *)guest_ptr(&guest, statuses_gpa + head / 3u),
					 0);
			done++;
			under_way--;
			if (now - began < RUN_NS) {
				start(load, head / 3u, block = next_block(load, block));
				under_way++;
				added = true;
			}
		} while (ring_has_used(&guest.queues[0].ring) &&
			 guest_next_used(&guest, 0, 0, &head, NULL));
		if (added)
			guest_kick(&guest, 0);
	}
	return (double)done * 1e9 / (double)(now - began);
}

static double run(const char *path, const struct load *load, unsigned depth, bool synchronous)
{
	double rate;

	if (load->cold) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		fdatasync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	open_disk(path, synchronous);
	rate = measure(load, depth);
	guest_close(&guest);
	return rate;
}

static void compare(const char *path, const char *where, const struct load *load, unsigned depth)
{
	double sync[RUNS], ring[RUNS], ratio[RUNS];
	char name[128];

	for (unsigned i = 0; i < RUNS; i++) {
		/* In turn, and each first as often as the other. */
		if (i % 2)
			sync[i] = run(path, load, depth, true);
		ring[i] = run(path, load, depth, false);
		if (!(i % 2))
			sync[i] = run(path, load, depth, true);
		ratio[i] = ring[i] / sync[i];
	}
	snprintf(name, sizeof(name), "%s, depth %u, %s", load->name, depth, where);
	bench_result(name, "requests/s by calls", sync, RUNS);
	bench_result(name, "requests/s by io_uring", ring, RUNS);
	bench_result(name, "io_uring / calls", ratio, RUNS);
}

static void fill(int fd)
{
	static uint8_t piece[1 << 20];

	memset(piece, 0x5a, sizeof(piece));
	for (uint64_t at = 0; at < IMAGE_SIZE; at += sizeof(piece))
		if (write(fd, piece, sizeof(piece)) != (ssize_t)sizeof(piece)) {
			fprintf(stderr, "image: %s\n", strerror(errno));
			exit(1);
		}
	fdatasync(fd);
}

int main(int argc, char **argv)
{
	static const unsigned depths[] = { 1, 8, 32 };

	for (int i = 1; i < argc; i++) {
		struct statfs fs;
		const char *where;
		char path[4096];
		int fd;

		snprintf(path, sizeof(path), "%s/bench-disk-XXXXXX", argv[i]);
		fd = mkstemp(path);
		if (fd < 0 || statfs(path, &fs) < 0) {
			fprintf(stderr, "%s: %s\n", path, strerror(errno));
			return 1;
		}
		where = fs.f_type == 0x01021994 ? "tmpfs" : "disk"; /* TMPFS_MAGIC */
		fill(fd);
		close(fd);
		for (size_t l = 0; l < ARRAY_SIZE(loads); l++)
			for (size_t d = 0; d < ARRAY_SIZE(depths); d++)
				if (!loads[l].cold || fs.f_type != 0x01021994)
					compare(path, where, &loads[l], depths[d]);
		unlink(path);
	}
	return 0;
}
