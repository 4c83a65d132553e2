// SPDX-License-Identifier: Apache-2.0
/*
 * What a vfio-user client may ask, one row a command: how long the message may be and how many descriptors
 * go with it is the table's to say, before anything looks inside.
 *
 * Each command checks what it reads, one rule at a time, and then either stages a reply
 * (server_reply()) or returns the errno that becomes one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "mdev/server/server.h"

void server_reply(struct mdev_server *server, size_t size, const int *fds, unsigned fd_count)
{
	server->reply_size = sizeof(struct user_header) + size;
	server->reply_fd_count = fd_count;
	if (fd_count)
		memcpy(server->reply_fds, fds, fd_count * sizeof(fds[0]));
}

/* ---- version ------------------------------------------------------------------------------- */

/* What the client says of itself; each of them may be missing. */
struct proposal {
	json_int_t fds, transfer, map; /* 0: not said */
	bool maps, page_sizes;
};

/* A number of at least 1, or nothing. */
static bool proposal_number(const json_t *capabilities, const char *name, json_int_t *value)
{
	const json_t *item = json_object_get(capabilities, name);

	if (!item)
		return true;
	*value = json_integer_value(item);
	return json_is_integer(item) && *value >= 1;
}

static int proposal_read(const char *text, size_t size, struct proposal *proposal)
{
	json_t *root, *capabilities;
	bool good;

	memset(proposal, 0, sizeof(*proposal));
	if (!size)
		return 0;
	/* "including terminating NUL" */
	if (text[size - 1])
		return -EINVAL;
	root = json_loadb(text, size - 1, 0, NULL);
	capabilities = json_object_get(root, "capabilities");
	good = json_is_object(root) && (!capabilities || json_is_object(capabilities));
	good = good && proposal_number(capabilities, "max_msg_fds", &proposal->fds);
	good = good && proposal_number(capabilities, "max_data_xfer_size", &proposal->transfer);
	good = good &&
	       proposal_number(capabilities, USER_DIVVY_REGION_MAP_CAPABILITY, &proposal->map);
	proposal->maps = json_object_get(capabilities, "max_dma_maps");
	proposal->page_sizes = json_object_get(capabilities, "pgsizes");
	json_decref(root);
	return good ? 0 : -EINVAL;
}

/*
 * "The capability list must be a subset of those proposed": only what the client named is answered, and
 * so is the answer never longer than the request, which QEMU takes for granted. Transfers are of
 * 1 MiB, which is what a client assumes that hears nothing.
 */
static size_t version_text(const struct proposal *proposal, bool region_map, char *text,
			   size_t room)
{
	struct {
		bool named;
		const char *name;
		json_int_t value;
	} items[] = {
		{ proposal->fds, "max_msg_fds", MIN(proposal->fds, (json_int_t)SERVER_FDS_MAX) },
		{ proposal->transfer, "max_data_xfer_size", USER_TRANSFER_MAX },
		{ proposal->maps, "max_dma_maps", SERVER_RANGES_MAX },
		{ proposal->page_sizes, "pgsizes", 4096 },
		{ region_map, USER_DIVVY_REGION_MAP_CAPABILITY, USER_DIVVY_REGION_MAP_VERSION },
	};
	const char *comma = "";

	snprintf(text, room, "{\"capabilities\":{");
	for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
		if (!items[i].named)
			continue;
		text_append(text, room, "%s\"%s\":%lld", comma, items[i].name,
			    (long long)items[i].value);
		comma = ",";
	}
	text_append(text, room, "}}");
	return strlen(text) + 1;
}

static int version(struct mdev_server *server, const struct user_message *message)
{
	char *text = (char *)server_payload(server) + sizeof(struct user_version);
	struct user_version asked, agreed = { USER_VERSION_MAJOR, USER_VERSION_MINOR };
	struct proposal proposal;
	size_t size = 0;
	int err;

	/* Once a connection. */
	if (server->agreed)
		return -EINVAL;
	memcpy(&asked, message->payload, sizeof(asked));
	/* "The major version in the reply must be the same as proposed." */
	if (asked.major != USER_VERSION_MAJOR)
		return -EPROTONOSUPPORT;
	err = proposal_read((const char *)message->payload + sizeof(asked),
			    message->payload_size - sizeof(asked), &proposal);
	if (err)
		return err;
	agreed.minor = MIN(agreed.minor, asked.minor);
	server->client_fds_max = proposal.fds
					 ? (unsigned)MIN(proposal.fds, (json_int_t)SERVER_FDS_MAX)
					 : USER_DEFAULT_FDS;
	server->region_map =
		proposal.map >= USER_DIVVY_REGION_MAP_VERSION && server->device->ops->set_mapper;
	memcpy(server_payload(server), &agreed, sizeof(agreed));
	if (message->payload_size > sizeof(asked))
		size = version_text(&proposal, server->region_map, text, USER_VERSION_MAX);
	server->agreed = true;
	if (server->region_map)
		server_map_begin(server);
	else if (server->device->ops->set_mapper)
		server_trap_begin(server);
	server_reply(server, sizeof(agreed) + size, NULL, 0);
	return 0;
}

/* ---- the device ---------------------------------------------------------------------------- */

static int device_info(struct mdev_server *server, const struct user_message *message)
{
	struct user_device_info info;

	memcpy(&info, message->payload, sizeof(info));
	/* "argsz is the maximum size of the reply payload", here and below. */
	if (info.argsz < sizeof(info))
		return -EINVAL;
	info = (struct user_device_info){
		.argsz = sizeof(info),
		.flags = server->device->flags & (VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI),
		.num_regions = server->region_count,
		.num_irqs = server->irq_count,
	};
	memcpy(server_payload(server), &info, sizeof(info));
	server_reply(server, sizeof(info), NULL, 0);
	return 0;
}

static int reset(struct mdev_server *server, const struct user_message *message)
{
	int err = server->device->ops->reset ? server->device->ops->reset(server->device) : -ENOTTY;

	if (!err)
		server_reply(server, 0, NULL, 0);
	return err;
}

/* ---- regions ------------------------------------------------------------------------------- */

struct region_reply {
	struct vfio_region_info info;
	struct { /* struct vfio_region_info_cap_sparse_mmap */
		struct vfio_info_cap_header header;
		uint32_t nr_areas, reserved;
	} sparse;
	struct vfio_region_sparse_mmap_area areas[VFIO_SPARSE_AREAS_MAX];
};

static int region_info(struct mdev_server *server, const struct user_message *message)
{
	struct region_reply reply = { 0 };
	const struct server_region *kept;
	struct vfio_region_info asked;
	bool mappable, whole;
	size_t size;

	memcpy(&asked, message->payload, sizeof(asked));
	if (asked.argsz < sizeof(asked) || asked.index >= server->region_count)
		return -EINVAL;
	kept = &server->regions[asked.index];
	mappable = kept->region.flags & VFIO_REGION_INFO_FLAG_MMAP;
	size = sizeof(reply.info);
	if (mappable)
		size = offsetof(struct region_reply, areas) +
		       kept->region.area_count * sizeof(reply.areas[0]);
	/*
	 * "The full payload is not included in the reply, but argsz indicates the needed size": then it has
	 * no capability, of which QEMU would otherwise want the place, and no file, since it is asked again.
	 */
	whole = asked.argsz >= size;
	reply.info = (struct vfio_region_info){
		.argsz = (uint32_t)size,
		.flags = kept->region.flags,
		.index = asked.index,
		.size = kept->region.size,
	};
	if (mappable && whole) {
		reply.info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		reply.info.cap_offset = offsetof(struct region_reply, sparse);
		reply.info.offset = kept->fd_offset;
		reply.sparse.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		reply.sparse.header.version = 1;
		reply.sparse.nr_areas = kept->region.area_count;
		for (unsigned i = 0; i < kept->region.area_count; i++)
			reply.areas[i] =
				(struct vfio_region_sparse_mmap_area){ kept->region.areas[i].offset,
								       kept->region.areas[i].size };
	}
	size = whole ? size : sizeof(reply.info);
	memcpy(server_payload(server), &reply, size);
	server_reply(server, size, &kept->fd, mappable && whole);
	return 0;
}

static int region_io_fds(struct mdev_server *server, const struct user_message *message)
{
	const struct vfio_device_ops *ops = server->device->ops;
	struct user_io_fd *subs =
		(void *)((char *)server_payload(server) + sizeof(struct user_region_io_fds));
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	struct user_region_io_fds head;
	int out[SERVER_FDS_MAX] = { -1 }, count;
	size_t size;

	memcpy(&head, message->payload, sizeof(head));
	/* "count" is the reply's; no flag is defined. */
	if (head.argsz < sizeof(head) || head.flags || head.index >= server->region_count)
		return -EINVAL;
	count = ops->get_io_fds ? ops->get_io_fds(server->device, head.index, fds) : 0;
	if (count < 0)
		return count;
	/* Those that do not go into one message of the client's are written by messages. */
	head.count = MIN((unsigned)count, server->client_fds_max);
	size = sizeof(head) + head.count * sizeof(*subs);
	for (unsigned i = 0; i < head.count; i++) {
		const struct user_io_fd sub = {
			.offset = fds[i].offset,
			.size = fds[i].size,
			.fd_index = i,
			.type = USER_IO_FD_IOEVENTFD,
			.flags = fds[i].datamatch ? USER_IO_FD_FLAG_DATAMATCH : 0,
			.datamatch = fds[i].value,
		};

		memcpy(&subs[i], &sub, sizeof(sub));
		out[i] = fds[i].fd;
	}
	if (head.argsz < size) {
		head.argsz = (uint32_t)size;
		head.count = 0;
		size = sizeof(head);
	} else {
		head.argsz = (uint32_t)size;
	}
	memcpy(server_payload(server), &head, sizeof(head));
	server_reply(server, size, out, head.count);
	return 0;
}

/* VFIO_USER_REGION_READ and VFIO_USER_REGION_WRITE, whose replies begin with the request's words. */
static int access_region(struct mdev_server *server, const struct user_message *message)
{
	const bool write = message->header.command == USER_REGION_WRITE;
	struct vfio_device *device = server->device;
	struct user_region_access access;
	const struct vfio_region *region;
	uint8_t *data = (uint8_t *)server_payload(server) + sizeof(access);
	ssize_t ret;

	memcpy(&access, message->payload, sizeof(access));
	/* What was agreed on, and not nothing. */
	if (!access.count || access.count > USER_TRANSFER_MAX)
		return -EINVAL;
	/* The bytes to write go along; a read has none. */
	if (message->payload_size != sizeof(access) + (write ? access.count : 0))
		return -EINVAL;
	if (access.region >= server->region_count)
		return -EINVAL;
	region = &server->regions[access.region].region;
	/* All of it in the region. */
	if (access.offset >= region->size || access.count > region->size - access.offset)
		return -EINVAL;
	/* What the region allows. */
	if (!(region->flags & (write ? VFIO_REGION_INFO_FLAG_WRITE : VFIO_REGION_INFO_FLAG_READ)))
		return -EPERM;
	/* What the device leaves untouched is nothing of an earlier reply. */
	if (write)
		memcpy(data, message->payload + sizeof(access), access.count);
	else
		memset(data, 0, access.count);
	if (server_trap_access(server, access.region, access.offset, data, access.count, write))
		ret = access.count;
	else if (write)
		ret = device->ops->region_write(device, access.region, access.offset, data,
						access.count);
	else
		ret = device->ops->region_read(device, access.region, access.offset, data,
					       access.count);
	if (ret < 0)
		return (int)ret;
	access.count = (uint32_t)ret;
	memcpy(server_payload(server), &access, sizeof(access));
	server_reply(server, sizeof(access) + (write ? 0 : access.count), NULL, 0);
	return 0;
}

/* ---- the table ----------------------------------------------------------------------------- */

struct command {
	int (*run)(struct mdev_server *server, const struct user_message *message);
	size_t least, most; /* bytes of payload */
	unsigned fds;	    /* at most */
};

#define EXACTLY(type) sizeof(type), sizeof(type)

static const struct command commands[] = {
	[USER_VERSION] = { version, sizeof(struct user_version),
			   sizeof(struct user_version) + USER_VERSION_MAX, 0 },
	[USER_DMA_MAP] = { server_dma_map, EXACTLY(struct user_dma_map), 1 },
	[USER_DMA_UNMAP] = { server_dma_unmap, EXACTLY(struct user_dma_unmap), 0 },
	[USER_DEVICE_GET_INFO] = { device_info, EXACTLY(struct user_device_info), 0 },
	[USER_DEVICE_GET_REGION_INFO] = { region_info, EXACTLY(struct vfio_region_info), 0 },
	[USER_DEVICE_GET_REGION_IO_FDS] = { region_io_fds, EXACTLY(struct user_region_io_fds), 0 },
	[USER_DEVICE_GET_IRQ_INFO] = { server_irq_info, EXACTLY(struct vfio_irq_info), 0 },
	[USER_DEVICE_SET_IRQS] = { server_set_irqs, sizeof(struct vfio_irq_set),
				   sizeof(struct vfio_irq_set) + VFIO_PCI_VECTORS_MAX,
				   SERVER_FDS_MAX },
	[USER_REGION_READ] = { access_region, EXACTLY(struct user_region_access), 0 },
	[USER_REGION_WRITE] = { access_region, sizeof(struct user_region_access), USER_PAYLOAD_MAX,
				0 },
	[USER_DEVICE_RESET] = { reset, 0, 0, 0 },
};

static int run(struct mdev_server *server, const struct user_message *message)
{
	const uint16_t number = message->header.command;
	const struct command *command = number < ARRAY_SIZE(commands) ? &commands[number] : NULL;

	/* Migration, multiple writes, dirty pages: nothing of it was said to be here. */
	if (!command || !command->run)
		return -EOPNOTSUPP;
	if (message->payload_size < command->least || message->payload_size > command->most)
		return -EINVAL;
	if (message->fd_count > command->fds)
		return -EINVAL;
	return command->run(server, message);
}

const char *server_handle(struct mdev_server *server, const struct user_message *message)
{
	struct user_header header = {
		.id = message->header.id,
		.command = message->header.command,
		.flags = USER_TYPE_REPLY,
	};
	int err;

	if ((message->header.flags & USER_FLAG_TYPE) == USER_TYPE_REPLY)
		return server_map_reply(server, message);
	/* "The initial message sent by the client": what it may say later depends on it. */
	if (!server->agreed && message->header.command != USER_VERSION)
		return "the client's first message is not its version";
	server->reply_size = 0;
	server->reply_fd_count = 0;
	err = run(server, message);
	if (err) {
		log_debug("%s: the client's command %u: %s", server->device->name,
			  message->header.command, strerror(-err));
		header.flags |= USER_FLAG_ERROR;
		header.error = (uint32_t)-err;
		server_reply(server, 0, NULL, 0);
	}
	header.size = (uint32_t)server->reply_size;
	memcpy(server->out_buffer, &header, sizeof(header));
	if (message->header.flags & USER_FLAG_NO_REPLY)
		server->reply_size = 0;
	return NULL;
}
