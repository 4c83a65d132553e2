// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_blk: a disk (VIRTIO 1.2, 5.2) over a raw file or a block device.
 *
 * One request queue, served synchronously on the device's worker with vectored I/O straight between
 * the file and guest memory. Writes may stay in the host's cache until the driver flushes; a driver
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
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/mdev.h"
#include "mdev/virtio.h"

#define SECTOR		    512u
#define REQUEST_QUEUE	    0
#define DISCARD_SECTORS_MAX (UINT32_C(1) << 22) /* 2 GiB a request */

struct blk {
	struct virtio_device dev; /* first */
	int fd;
	bool readonly;
	uint64_t sectors;
	uint8_t writeback; /* the driver's choice (VIRTIO_BLK_F_CONFIG_WCE), atomic */
	char serial[VIRTIO_BLK_ID_BYTES];
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

static uint8_t host_error(struct blk *blk, const char *what, int err)
{
	log_limited(LOG_LEVEL_ERROR, "%s: %s: %s", blk->dev.vfio.name, what, strerror(err));
	return VIRTIO_BLK_S_IOERR;
}

/* Move all of @iov (which is used up) at @offset. */
static uint8_t transfer(struct blk *blk, bool write, struct iovec *iov, unsigned count,
			uint64_t offset)
{
	const int flags = write && write_through(blk) ? RWF_DSYNC : 0;

	while (count) {
		ssize_t done = write ? pwritev2(blk->fd, iov, (int)count, (off_t)offset, flags)
				     : preadv2(blk->fd, iov, (int)count, (off_t)offset, 0);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return host_error(blk, write ? "write" : "read", errno);
		if (!done)
			return host_error(blk, "the image is shorter than it was", EIO);
		offset += (uint64_t)done;
		count = virtio_iov_slice(iov, count, (size_t)done, SIZE_MAX);
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t read_or_write(struct blk *blk, bool write, struct iovec *iov, unsigned count,
			     uint64_t length, uint64_t sector)
{
	if (write && blk->readonly)
		return VIRTIO_BLK_S_IOERR;
	if (length % SECTOR || !in_disk(blk, sector, length / SECTOR))
		return VIRTIO_BLK_S_IOERR;
	return transfer(blk, write, iov, count, sector * SECTOR);
}

static uint8_t flush(struct blk *blk)
{
	/* A read-only disk has nothing to flush. */
	if (!blk->readonly && fdatasync(blk->fd) < 0)
		return host_error(blk, "flush", errno);
	return VIRTIO_BLK_S_OK;
}

/* VIRTIO_BLK_T_DISCARD and _WRITE_ZEROES: one segment, as max_*_seg says. */
static uint8_t discard_or_zero(struct blk *blk, uint32_t type, const struct virtio_chain *chain)
{
	const bool discard = type == VIRTIO_BLK_T_DISCARD;
	struct virtio_blk_discard_write_zeroes segment;
	uint64_t sector;
	uint32_t sectors, flags;
	int mode;

	if (blk->readonly)
		return VIRTIO_BLK_S_IOERR;
	if (chain->out_length != sizeof(struct virtio_blk_outhdr) + sizeof(segment))
		return VIRTIO_BLK_S_UNSUPP;
	virtio_iov_read(chain->out, chain->out_count, sizeof(struct virtio_blk_outhdr), &segment,
			sizeof(segment));
	sector = le64toh(segment.sector);
	sectors = le32toh(segment.num_sectors);
	flags = le32toh(segment.flags);
	/* 5.2.6.2: unknown flags, and unmap in a discard, are unsupported. */
	if (flags & ~(discard ? 0u : (uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		return VIRTIO_BLK_S_UNSUPP;
	if (!sectors || sectors > DISCARD_SECTORS_MAX || !in_disk(blk, sector, sectors))
		return VIRTIO_BLK_S_IOERR;
	mode = FALLOC_FL_KEEP_SIZE;
	mode |= discard || flags ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	if (fallocate(blk->fd, mode, (off_t)(sector * SECTOR), (off_t)sectors * SECTOR) < 0) {
		if (errno == EOPNOTSUPP || errno == ENOSYS)
			return VIRTIO_BLK_S_UNSUPP;
		return host_error(blk, discard ? "discard" : "write zeroes", errno);
	}
	return write_through(blk) ? flush(blk) : VIRTIO_BLK_S_OK;
}

/*
 * The framing of a request is not to be relied on (2.7.4): the header is the first 16 readable
 * bytes, the status the last writable one, whatever descriptors they are in.
 */
static int64_t serve(struct virtio_device *dev, struct virtio_chain *chain)
{
	struct blk *blk = blk_of(dev);
	struct virtio_blk_outhdr header;
	const uint64_t in_length = chain->in_length;
	uint64_t data = 0; /* bytes that a request of this kind wrote before the status */
	uint8_t status;
	uint32_t type;
	struct iovec *last;
	uint8_t *status_at;
	unsigned count;

	if (!in_length || chain->out_length < sizeof(header)) {
		virtio_device_broken(dev, REQUEST_QUEUE, "a request without header or status");
		return -EBADMSG;
	}
	last = &chain->in[chain->in_count - 1];
	status_at = (uint8_t *)last->iov_base + last->iov_len - 1;
	virtio_iov_read(chain->out, chain->out_count, 0, &header, sizeof(header));
	type = le32toh(header.type);

	switch (type) {
	case VIRTIO_BLK_T_IN:
		count = virtio_iov_slice(chain->in, chain->in_count, 0, in_length - 1);
		status = read_or_write(blk, false, chain->in, count, in_length - 1,
				       le64toh(header.sector));
		data = status == VIRTIO_BLK_S_OK ? in_length - 1 : 0;
		break;
	case VIRTIO_BLK_T_OUT:
		count = virtio_iov_slice(chain->out, chain->out_count, sizeof(header), SIZE_MAX);
		status = read_or_write(blk, true, chain->out, count,
				       chain->out_length - sizeof(header), le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		status = flush(blk);
		break;
	case VIRTIO_BLK_T_GET_ID:
		count = virtio_iov_slice(chain->in, chain->in_count, 0, in_length - 1);
		data = virtio_iov_write(chain->in, count, 0, blk->serial, sizeof(blk->serial));
		status = VIRTIO_BLK_S_OK;
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		status = discard_or_zero(blk, type, chain);
		break;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	*status_at = status;
	/* The length says how much is written from the start on (2.7.8.2). */
	return status == VIRTIO_BLK_S_OK && data == in_length - 1 ? (int64_t)in_length
								  : (int64_t)data + 1;
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	virtio_queue_service(dev, index, serve);
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
	__atomic_store_n(&blk_of(dev)->writeback, 1, __ATOMIC_RELAXED);
}

static void destroy(struct virtio_device *dev)
{
	fd_close(&blk_of(dev)->fd); /* and with it the lock */
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
	.destroy = destroy,
};

/* Open @path and find its size. On success blk->fd and blk->sectors are set. */
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
	blk->fd = open(path, flags);
	if (blk->fd < 0) {
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
	if (fstat(blk->fd, &st) < 0)
		return error_set(e, errno, "disk-not-a-disk", NULL, "disk %s: fstat: %s", path,
				 strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(blk->fd, BLKGETSIZE64, &size) < 0)
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
	return 0;
}

/*
 * Refuse a disk that another device writes to, or, for a writable one, that another reads. Locks of
 * the open file description end with it, also when the process is killed.
 */
static int lock_disk(struct blk *blk, const char *path, struct error *e)
{
	struct flock lock = { .l_type = blk->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(blk->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(e, EBUSY, "disk-locked", "end the virtual machine that uses it",
				 "disk %s: in use by another virtual machine", path);
	/* A file system without locks is no reason to have no disk. */
	log_warn("disk %s: cannot be locked against a second user: %s", path, strerror(errno));
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
	blk->fd = -1;
	blk->readonly = config->readonly;
	blk->writeback = 1;
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
	*out = &blk->dev.vfio;
	return 0;

fail:
	fd_close(&blk->fd);
	free(blk);
	return ret;
}
