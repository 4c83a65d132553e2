/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vfio-user protocol as it goes over the wire: numbers, structures, and our limits.
 *
 * Follows the vfio-user Protocol Specification 0.9.2 (libvfio-user, docs/vfio-user.rst). All is little
 * endian; every message is a header and what the command adds. The structures of linux/vfio.h that the
 * protocol takes over (struct vfio_region_info, vfio_irq_info, vfio_irq_set) are used as they are.
 */
#ifndef VFIO_USER_PROTOCOL_H
#define VFIO_USER_PROTOCOL_H

#include <linux/vfio.h>
#include <stdint.h>

#define USER_VERSION_MAJOR 0
#define USER_VERSION_MINOR 1

enum user_command {
	USER_VERSION = 1,
	USER_DMA_MAP = 2,
	USER_DMA_UNMAP = 3,
	USER_DEVICE_GET_INFO = 4,
	USER_DEVICE_GET_REGION_INFO = 5,
	USER_DEVICE_GET_REGION_IO_FDS = 6,
	USER_DEVICE_GET_IRQ_INFO = 7,
	USER_DEVICE_SET_IRQS = 8,
	USER_REGION_READ = 9,
	USER_REGION_WRITE = 10,
	USER_DMA_READ = 11,  /* server to client */
	USER_DMA_WRITE = 12, /* server to client */
	USER_DEVICE_RESET = 13,

	/* Divvy's own, server to client (docs/mdev.md). The specification counts up from 1. */
	USER_DIVVY_REGION_MAP = 0xd100,
	USER_DIVVY_REGION_UNMAP = 0xd101,
};

/* "Header" */
struct user_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* of the whole message */
	uint32_t flags;
	uint32_t error; /* errno, in a reply with USER_FLAG_ERROR; may be 0 there */
};
#define USER_FLAG_TYPE	   0xfu
#define USER_TYPE_COMMAND  0u
#define USER_TYPE_REPLY	   1u
#define USER_FLAG_NO_REPLY 0x10u
#define USER_FLAG_ERROR	   0x20u

/* "VFIO_USER_VERSION"; JSON text and its NUL follow. */
struct user_version {
	uint16_t major, minor;
};

/* "VFIO_USER_DMA_MAP" */
struct user_dma_map {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset; /* in the file that goes along */
	uint64_t address, size;
};
#define USER_DMA_MAP_READ  1u
#define USER_DMA_MAP_WRITE 2u

/* "VFIO_USER_DMA_UNMAP" */
struct user_dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t address, size;
};

/* "VFIO_USER_DEVICE_GET_INFO": struct vfio_device_info as it was before it had capabilities. */
struct user_device_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t num_regions, num_irqs;
};

/* "VFIO_USER_DEVICE_GET_REGION_IO_FDS"; @count sub-regions follow in the reply. */
struct user_region_io_fds {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};

struct user_io_fd {
	uint64_t offset, size;
	uint32_t fd_index;
	uint32_t type;
	uint32_t flags;
	uint32_t padding;
	uint64_t datamatch;
};
#define USER_IO_FD_IOEVENTFD	      0u
#define USER_IO_FD_FLAG_DATAMATCH     0x1u /* the numbers of KVM_IOEVENTFD_FLAG_* */
#define USER_IO_FD_FLAG_PIO	      0x2u
#define USER_IO_FD_FLAG_VIRTIO_NOTIFY 0x8u

/* "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE"; data may follow. */
struct user_region_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

/* "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE"; data may follow. */
struct user_dma_access {
	uint64_t address;
	uint64_t count;
};

/*
 * USER_DIVVY_REGION_MAP, with one file along, and USER_DIVVY_REGION_UNMAP: [offset, offset + size) of a
 * region is the file's bytes from file_offset on; or no longer. Only to a client that named the
 * capability, whose value is the version of this, and to which the server answered with it.
 */
#define USER_DIVVY_REGION_MAP_CAPABILITY "divvy_region_map"
#define USER_DIVVY_REGION_MAP_VERSION	 1
struct user_region_map {
	uint32_t argsz; /* of this structure */
	uint32_t flags; /* 0 */
	uint32_t region;
	uint32_t reserved; /* 0 */
	uint64_t offset, size;
	uint64_t file_offset; /* 0 in USER_DIVVY_REGION_UNMAP */
};

_Static_assert(sizeof(struct user_header) == 16, "Header");
_Static_assert(sizeof(struct user_version) == 4, "VFIO_USER_VERSION");
_Static_assert(sizeof(struct user_dma_map) == 32, "VFIO_USER_DMA_MAP");
_Static_assert(sizeof(struct user_dma_unmap) == 24, "VFIO_USER_DMA_UNMAP");
_Static_assert(sizeof(struct user_device_info) == 16, "VFIO_USER_DEVICE_GET_INFO");
_Static_assert(sizeof(struct vfio_region_info) == 32, "VFIO_USER_DEVICE_GET_REGION_INFO");
_Static_assert(sizeof(struct user_region_io_fds) == 16, "VFIO_USER_DEVICE_GET_REGION_IO_FDS");
_Static_assert(sizeof(struct user_io_fd) == 40, "Sub-Region IO FD info format");
_Static_assert(sizeof(struct vfio_irq_info) == 16, "VFIO_USER_DEVICE_GET_IRQ_INFO");
_Static_assert(sizeof(struct vfio_irq_set) == 20, "VFIO_USER_DEVICE_SET_IRQS");
_Static_assert(sizeof(struct user_region_access) == 16, "VFIO_USER_REGION_READ");
_Static_assert(sizeof(struct user_dma_access) == 16, "VFIO_USER_DMA_READ");
_Static_assert(sizeof(struct user_region_map) == 40, "USER_DIVVY_REGION_MAP");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little endian");

/* What the specification assumes of a peer that does not say. */
#define USER_DEFAULT_FDS      1u
#define USER_DEFAULT_TRANSFER (1024u * 1024u)

/* What we take in one message, and say so when we connect. */
#define USER_FDS_MAX	  64u
#define USER_TRANSFER_MAX (1024u * 1024u)
#define USER_PAYLOAD_MAX  (sizeof(struct user_dma_access) + USER_TRANSFER_MAX)
/* Room for the JSON of a version, and for a region's capabilities. */
#define USER_VERSION_MAX 4096u
#define USER_REGION_MAX	 4096u

#endif
