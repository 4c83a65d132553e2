// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_blk: a disk (VIRTIO 1.2, 5.2) over a raw file or a block device.
 *
 * One request queue, served on the device's worker with vectored I/O straight between the file and
 * guest memory (blk_file.c), many requests at once where the kernel has io_uring. Writes may stay in the host's cache until the driver flushes; a driver
 * that does not know flush, or turned the cache off, gets write-through. A request the disk cannot
 * do is answered in the protocol; one that is not even a request breaks the device. A writable disk
 * is locked against a second user for as long as the device lives.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
/* The ABI's name for its config is that of our public header. */
#define virtio_blk_config virtio_blk_config_space
#include <linux/virtio_blk.h>
#undef virtio_blk_config
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/blk_file.h"
#include "mdev/mdev.h"
#include "mdev/virtio.h"

#define SECTOR		    512u
#define REQUEST_QUEUE	    0
#define DISCARD_SECTORS_MAX (UINT32_C(1) << 22) /* 2 GiB a request */
#define DEPTH		    64			/* requests in flight */

/* One request of the driver, from its chain to its status. */
struct blk_request {
	struct blk_file_request file;
	const char *what; /* for messages */
	uint8_t *status_at;
	uint64_t data; /* bytes that it has written before the status when it succeeds */
	struct virtio_chain chain;
};

struct blk {
	struct virtio_device dev; /* first */
	struct blk_file file;
	bool readonly;
	uint64_t sectors;
	uint8_t writeback; /* the driver's choice (VIRTIO_BLK_F_CONFIG_WCE), atomic */
	char serial[VIRTIO_BLK_ID_BYTES];

	/* The worker's. */
	struct virtio_source ring_source;
	struct blk_request *requests; /* DEPTH */
	uint8_t idle[DEPTH];	      /* indexes of those not in use, the last used on top */
	unsigned idle_count;
};

static struct blk *blk_of(struct virtio_device *dev)
{
	return container_of(dev, struct blk, dev);
}

/* Whether a write must be on the medium before it is answered (5.2.6.2). */
static bool write_through(struct blk *blk)
{
	return !virtio_device_has(&blk->dev, VIRTIO_BLK_F_FLUSH) ||
	       (virtio_device_has(&blk->dev, VIRTIO_BLK_F_CONFIG_WCE) &&
		!__atomic_load_n(&blk->writeback, __ATOMIC_RELAXED));
}

static bool in_disk(const struct blk *blk, uint64_t sector, uint64_t count)
{
	return sector <= blk->sectors && count <= blk->sectors - sector;
}

/* Answer the driver; @request is idle again. */
static void finish(struct blk *blk, struct blk_request *request, uint8_t status)
{
	const uint64_t data = status == VIRTIO_BLK_S_OK ? request->data : 0;

	*request->status_at = status;
	/* The length says how much is written from the start on (2.7.8.2). */
	virtio_queue_push(&blk->dev, REQUEST_QUEUE, &request->chain, (uint32_t)data + 1);
	blk->idle[blk->idle_count++] = (uint8_t)(request - blk->requests);
}

static void file_done(struct blk_file *file, struct blk_file_request *done)
{
	struct blk *blk = container_of(file, struct blk, file);
	struct blk_request *request = container_of(done, struct blk_request, file);
	const int err = done->error;

	if (!err) {
		finish(blk, request, VIRTIO_BLK_S_OK);
	} else if (done->op == BLK_FILE_ALLOCATE && (err == EOPNOTSUPP || err == ENOSYS)) {
		finish(blk, request, VIRTIO_BLK_S_UNSUPP);
	} else {
		log_limited(LOG_LEVEL_ERROR, "%s: %s: %s", blk->dev.vfio.name, request->what,
			    err == ENODATA ? "the image is shorter than it was" : strerror(err));
		finish(blk, request, VIRTIO_BLK_S_IOERR);
	}
}

static void read_or_write(struct blk *blk, struct blk_request *request, uint64_t length,
			  uint64_t sector)
{
	const bool write = request->file.op == BLK_FILE_WRITE;

	if ((write && blk->readonly) || length % SECTOR || !in_disk(blk, sector, length / SECTOR)) {
		finish(blk, request, VIRTIO_BLK_S_IOERR);
		return;
	}
	request->what = write ? "write" : "read";
	request->data = write ? 0 : length;
	request->file.offset = sector * SECTOR;
	request->file.durable = write && write_through(blk);
	blk_file_start(&blk->file, &request->file);
}

static void flush(struct blk *blk, struct blk_request *request)
{
	/* A read-only disk has nothing to flush. */
	if (blk->readonly) {
		finish(blk, request, VIRTIO_BLK_S_OK);
		return;
	}
	request->what = "flush";
	request->file.op = BLK_FILE_FLUSH;
	blk_file_start(&blk->file, &request->file);
}

/* VIRTIO_BLK_T_DISCARD and _WRITE_ZEROES: one segment, as max_*_seg says. */
static void discard_or_zero(struct blk *blk, struct blk_request *request, bool discard)
{
	const struct virtio_chain *chain = &request->chain;
	struct virtio_blk_discard_write_zeroes segment;
	uint8_t status = VIRTIO_BLK_S_IOERR;
	uint64_t sector;
	uint32_t sectors, flags;

	if (blk->readonly)
		goto refuse;
	status = VIRTIO_BLK_S_UNSUPP;
	if (chain->out_length != sizeof(struct virtio_blk_outhdr) + sizeof(segment))
		goto refuse;
	virtio_iov_read(chain->out, chain->out_count, sizeof(struct virtio_blk_outhdr), &segment,
			sizeof(segment));
	sector = le64toh(segment.sector);
	sectors = le32toh(segment.num_sectors);
	flags = le32toh(segment.flags);
	/* 5.2.6.2: unknown flags, and unmap in a discard, are unsupported. */
	if (flags & ~(discard ? 0u : (uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		goto refuse;
	status = VIRTIO_BLK_S_IOERR;
	if (!sectors || sectors > DISCARD_SECTORS_MAX || !in_disk(blk, sector, sectors))
		goto refuse;
	request->what = discard ? "discard" : "write zeroes";
	request->file.op = BLK_FILE_ALLOCATE;
	request->file.mode = FALLOC_FL_KEEP_SIZE |
			     (discard || flags ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	request->file.offset = sector * SECTOR;
	request->file.length = (uint64_t)sectors * SECTOR;
	request->file.durable = write_through(blk);
	blk_file_start(&blk->file, &request->file);
	return;
refuse:
	finish(blk, request, status);
}

/*
 * The framing of a request is not to be relied on (2.7.4): the header is the first 16 readable
 * bytes, the status the last writable one, whatever descriptors they are in. Returns false for what is no
 * request at all.
 */
static bool begin(struct blk *blk, struct blk_request *request)
{
	struct virtio_chain *chain = &request->chain;
	struct blk_file_request *file = &request->file;
	const uint64_t in_length = chain->in_length;
	struct virtio_blk_outhdr header;
	struct iovec *last;
	uint32_t type;

	if (!in_length || chain->out_length < sizeof(header))
		return false;
	last = &chain->in[chain->in_count - 1];
	request->status_at = (uint8_t *)last->iov_base + last->iov_len - 1;
	request->data = 0;
	virtio_iov_read(chain->out, chain->out_count, 0, &header, sizeof(header));
	type = le32toh(header.type);

	switch (type) {
	case VIRTIO_BLK_T_IN:
		file->op = BLK_FILE_READ;
		file->iov = chain->in;
		file->iov_count = virtio_iov_slice(chain->in, chain->in_count, 0, in_length - 1);
		read_or_write(blk, request, in_length - 1, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_OUT:
		file->op = BLK_FILE_WRITE;
		file->iov = chain->out;
		file->iov_count =
			virtio_iov_slice(chain->out, chain->out_count, sizeof(header), SIZE_MAX);
		read_or_write(blk, request, chain->out_length - sizeof(header),
			      le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		flush(blk, request);
		break;
	case VIRTIO_BLK_T_GET_ID:
		chain->in_count = virtio_iov_slice(chain->in, chain->in_count, 0, in_length - 1);
		request->data = virtio_iov_write(chain->in, chain->in_count, 0, blk->serial,
						 sizeof(blk->serial));
		finish(blk, request, VIRTIO_BLK_S_OK);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		discard_or_zero(blk, request, type == VIRTIO_BLK_T_DISCARD);
		break;
	default:
		finish(blk, request, VIRTIO_BLK_S_UNSUPP);
	}
	return true;
}

/* Begin requests until there are none, all of ours are in flight, or somebody waits for the worker. */
static void serve(struct blk *blk)
{
	struct virtio_device *dev = &blk->dev;

	for (unsigned turn = 0; turn < VIRTIO_QUEUE_SIZE_MAX; turn++) {
		struct blk_request *request;

		if (__atomic_load_n(&dev->call_pending, __ATOMIC_RELAXED))
			break;
		if (!blk->idle_count)
			blk_file_submit(&blk->file);
		if (!blk->idle_count)
			return; /* until one of them is done */
		request = &blk->requests[blk->idle[blk->idle_count - 1]];
		if (!virtio_queue_pop_into(dev, REQUEST_QUEUE, &request->chain)) {
			blk_file_submit(&blk->file);
			return;
		}
		blk->idle_count--;
		if (!begin(blk, request)) {
			blk->idle_count++;
			virtio_device_broken(dev, REQUEST_QUEUE,
					     "a request without header or status");
		}
	}
	blk_file_submit(&blk->file);
	virtio_queue_again(dev, REQUEST_QUEUE);
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	serve(blk_of(dev));
}

/* Something in the ring is done; the queue may have waited for it. */
static void on_ring(struct virtio_device *dev, uint32_t epoll_events)
{
	blk_file_submit(&blk_of(dev)->file);
	if (dev->running)
		serve(blk_of(dev));
}

static void drain(struct virtio_device *dev)
{
	blk_file_drain(&blk_of(dev)->file);
}

static void config_read(struct virtio_device *dev, void *config)
{
	const struct blk *blk = blk_of(dev);
	struct virtio_blk_config_space space = {
		.capacity = htole64(blk->sectors),
		/* A chain also has a header and a status. */
		.seg_max = htole32(VIRTIO_QUEUE_SIZE_MAX - 2),
		.blk_size = htole32(SECTOR),
		.wce = __atomic_load_n(&blk->writeback, __ATOMIC_RELAXED),
		.num_queues = htole16(1),
		.max_discard_sectors = htole32(DISCARD_SECTORS_MAX),
		.max_discard_seg = htole32(1),
		.discard_sector_alignment = htole32(4096 / SECTOR),
		.max_write_zeroes_sectors = htole32(DISCARD_SECTORS_MAX),
		.max_write_zeroes_seg = htole32(1),
		.write_zeroes_may_unmap = 1,
	};

	memcpy(config, &space, offsetof(struct virtio_blk_config_space, max_secure_erase_sectors));
}

static void config_write(struct virtio_device *dev, uint32_t offset, const void *data, size_t count)
{
	if (offset == offsetof(struct virtio_blk_config_space, wce) && count == 1 &&
	    virtio_device_has(dev, VIRTIO_BLK_F_CONFIG_WCE))
		__atomic_store_n(&blk_of(dev)->writeback, *(const uint8_t *)data & 1,
				 __ATOMIC_RELAXED);
}

static void reset(struct virtio_device *dev)
{
	drain(dev);
	__atomic_store_n(&blk_of(dev)->writeback, 1, __ATOMIC_RELAXED);
}

static void destroy(struct virtio_device *dev)
{
	struct blk *blk = blk_of(dev);

	virtio_source_remove(&blk->ring_source);
	blk_file_ring_close(&blk->file);
	fd_close(&blk->file.fd); /* and with it the lock */
	free(blk->requests);
}

static const struct virtio_device_ops blk_ops = {
	.thread_kind = "virtio-blk",
	.device_id = VIRTIO_ID_BLOCK,
	.class_code = 0x018000,
	.queue_count = 1,
	.config_size = offsetof(struct virtio_blk_config_space, max_secure_erase_sectors),
	.config_read = config_read,
	.config_write = config_write,
	.queue_notify = queue_notify,
	.reset = reset,
	.drain = drain,
	.destroy = destroy,
};

/* Open @path and find its size. On success blk->file.fd and blk->sectors are set. */
static int open_disk(struct blk *blk, const char *path, struct error *e)
{
	/* O_NONBLOCK: opening a FIFO must fail, not wait. It means nothing to files and disks. */
	int flags = (blk->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
	struct stat st;
	uint64_t size;
	int err;

	/* A disk that the host has mounted, or a part of it, is claimed (open(2), O_EXCL). */
	if (!blk->readonly && !stat(path, &st) && S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	blk->file.fd = open(path, flags);
	if (blk->file.fd < 0) {
		err = errno;
		if (err == EBUSY)
			return error_set(e, err, "disk-locked", "lsblk shows what it is used for",
					 "disk %s: in use by this machine (mounted, or part of "
					 "something) or by another virtual machine",
					 path);
		if (err == ENOENT || err == ENOTDIR)
			return error_set(e, err, "disk-missing", "check the path",
					 "disk %s: no such file", path);
		if (!blk->readonly && (err == EACCES || err == EROFS || err == EPERM))
			return error_set(e, err, "disk-readonly",
					 "give the disk as read-only, or make the file writable",
					 "disk %s: cannot be opened for writing: %s", path,
					 strerror(err));
		return error_set(e, err, "disk-not-a-disk", NULL, "disk %s: cannot be opened: %s",
				 path, strerror(err));
	}
	if (fstat(blk->file.fd, &st) < 0)
		return error_set(e, errno, "disk-not-a-disk", NULL, "disk %s: fstat: %s", path,
				 strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(blk->file.fd, BLKGETSIZE64, &size) < 0)
			return error_set(e, errno, "disk-not-a-disk", NULL,
					 "disk %s: its size cannot be read: %s", path,
					 strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		size = (uint64_t)st.st_size;
	} else {
		return error_set(e, ENOTBLK, "disk-not-a-disk",
				 "give a raw image or a block device",
				 "disk %s: neither a regular file nor a block device", path);
	}
	if (!size || size % SECTOR)
		return error_set(e, EINVAL, "disk-not-a-disk", "truncate --size=%512 FILE",
				 "disk %s: its size, %llu bytes, is not a multiple of %u", path,
				 (unsigned long long)size, SECTOR);
	blk->sectors = size / SECTOR;
	/* It has served: io_uring would fail what has to wait. */
	if (fcntl(blk->file.fd, F_SETFL, 0) < 0)
		return error_set(e, errno, "disk-not-a-disk", NULL, "disk %s: fcntl: %s", path,
				 strerror(errno));
	return 0;
}

/*
 * Refuse a disk that another device writes to, or, for a writable one, that another reads. Locks of
 * the open file description end with it, also when the process is killed.
 */
static int lock_disk(struct blk *blk, const char *path, struct error *e)
{
	struct flock lock = { .l_type = blk->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(blk->file.fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(e, EBUSY, "disk-locked", "end the virtual machine that uses it",
				 "disk %s: in use by another virtual machine", path);
	/* A file system without locks is no reason to have no disk. */
	log_warn("disk %s: cannot be locked against a second user: %s", path, strerror(errno));
	return 0;
}

/* Many requests at once where the kernel lets us, else one at a time, and the operator is told. */
static int open_ring(struct blk *blk, const struct virtio_blk_config *config, struct error *e)
{
	int ret = config->synchronous ? 0 : blk_file_ring(&blk->file, DEPTH);

	if (ret < 0)
		log_warn("disk %s: no io_uring (%s): one request at a time; the sysctl "
			 "kernel.io_uring_disabled or a seccomp filter may forbid it",
			 config->path, strerror(-ret));
	if (!blk->file.has_ring)
		return 0;
	ret = virtio_source_add(&blk->dev, &blk->ring_source, blk->file.ring.ring_fd, EPOLLIN,
				on_ring);
	if (ret < 0)
		return error_set(e, -ret, "device-failed", NULL, "disk %s: io_uring: %s",
				 config->path, strerror(-ret));
	return 0;
}

int virtio_blk_create(const struct virtio_blk_config *config, struct vfio_device **out,
		      struct error *e)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	char copy[PATH_MAX], name[64], *base;
	uint64_t features =
		UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX | UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE |
		UINT64_C(1) << VIRTIO_BLK_F_FLUSH | UINT64_C(1) << VIRTIO_BLK_F_CONFIG_WCE;
	int ret;

	if (!blk)
		return error_set(e, ENOMEM, "device-failed", NULL, "virtio-blk: out of memory");
	blk->file = (struct blk_file){ .fd = -1, .done = file_done };
	blk->readonly = config->readonly;
	blk->writeback = 1;
	blk->requests = calloc(DEPTH, sizeof(*blk->requests));
	for (unsigned i = 0; i < DEPTH; i++)
		blk->idle[blk->idle_count++] = (uint8_t)(DEPTH - 1 - i);
	if (!blk->requests) {
		ret = error_set(e, ENOMEM, "device-failed", NULL, "virtio-blk: out of memory");
		goto fail;
	}
	ret = open_disk(blk, config->path, e);
	if (ret)
		goto fail;
	ret = lock_disk(blk, config->path, e);
	if (ret)
		goto fail;
	snprintf(copy, sizeof(copy), "%s", config->path);
	base = basename(copy);
	snprintf(name, sizeof(name), "virtio-blk(%.48s)", base);
	/* Not necessarily terminated (5.2.6): what fits of the file's name. */
	memcpy(blk->serial, base, MIN(strlen(base), sizeof(blk->serial)));
	features |= blk->readonly ? UINT64_C(1) << VIRTIO_BLK_F_RO
				  : UINT64_C(1) << VIRTIO_BLK_F_DISCARD |
					    UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
	ret = virtio_device_init(&blk->dev, &blk_ops, features, name, e);
	if (ret)
		goto fail;
	ret = open_ring(blk, config, e);
	if (ret) {
		virtio_device_close(&blk->dev);
		return ret;
	}
	*out = &blk->dev.vfio;
	return 0;

fail:
	fd_close(&blk->file.fd);
	free(blk->requests);
	free(blk);
	return ret;
}
