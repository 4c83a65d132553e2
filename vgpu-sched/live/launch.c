// SPDX-License-Identifier: Apache-2.0
/*
 * A program under a share (vgpu-sched.h): its vGPU is made, held as long as it runs, and gone with it.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vgpu-sched/live/client.h"
#include "vgpu-sched/live/launch_private.h"

/* What the program needs to find its vGPU. */
struct identity {
	char layer[PATH_MAX], socket[PATH_MAX];
	uint8_t token[LIVE_TOKEN_SIZE];
};

static int show_identity(void *opaque)
{
	const struct identity *identity = opaque;

	return launch_layer_environment(identity->layer, identity->socket, identity->token);
}

static int quota_check(const struct launch_options *options, const struct vulkan_gpu *gpu,
		       struct error *e)
{
	char next[64];

	if (options->memory_quota <= gpu->memory)
		return 0;
	snprintf(next, sizeof(next), "--memory-quota %lluM",
		 (unsigned long long)(gpu->memory / MIB));
	return error_set(e, ENOSPC, "quota-too-large", next,
			 "%s (%s) has %llu MiB of device-local memory, less than %llu MiB",
			 gpu->name, gpu->device, (unsigned long long)(gpu->memory / MIB),
			 (unsigned long long)(options->memory_quota / MIB));
}

/* A name that the arbiter takes, of the program's own where none is given. */
static void vgpu_name(const struct launch_options *options, char name[LIVE_NAME_SIZE])
{
	const char *from = options->name, *slash = strrchr(options->argv[0], '/');

	if (!from)
		from = slash && slash[1] ? slash + 1 : options->argv[0];
	for (unsigned i = 0; i < LIVE_NAME_SIZE - 1 && from[i]; i++)
		name[i] =
			from[i] <= ' ' || from[i] > '~' || strchr("\"\\,", from[i]) ? '_' : from[i];
	if (!name[0])
		strcpy(name, "program");
}

static int vgpu_create(int fd, const struct launch_options *options, const struct vulkan_gpu *gpu,
		       uint8_t token[LIVE_TOKEN_SIZE], struct launch_result *result,
		       struct error *e)
{
	struct live_message message = {
		.type = LIVE_CREATE,
		.version = LIVE_VERSION,
		.policy = options->config.policy,
		.weight = options->config.weight,
		.share_ppm = options->config.share_ppm,
		.elastic_ppm = options->config.elastic_ppm,
		.credit_max_ns = options->config.credit_max_ns,
		.surplus_max_ns = options->config.surplus_max_ns,
		.credit_ns = options->credit_ns,
		.memory_quota = options->memory_quota,
	};
	struct live_message reply;
	int err;

	memcpy(message.gpu, gpu->name, sizeof(message.gpu));
	vgpu_name(options, message.name);
	snprintf(result->gpu, sizeof(result->gpu), "%s", message.gpu);
	snprintf(result->name, sizeof(result->name), "%s", message.name);
	err = live_call(fd, &message, &reply, NULL, e);
	if (!err)
		memcpy(token, reply.token, LIVE_TOKEN_SIZE);
	return err;
}

/* Until the program has ended. What the arbiter has to say of it is asked for while the vGPU is there. */
static int program_run(int fd, const struct launch_options *options, struct identity *identity,
		       struct launch_result *result, struct error *e)
{
	const struct live_message ask = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	struct live_message reply;
	struct launch_child child;
	int err = launch_child_start(&child, options->argv, show_identity, identity, e);

	if (err)
		return err;
	err = launch_child_wait(&child, fd);
	if (err > 0) {
		/* An arbiter says nothing by itself: it is gone, and the program goes on without a GPU. */
		log_error("the arbiter on %s has ended: the program has lost its vGPU",
			  identity->socket);
		result->arbiter_lost = true;
		err = launch_child_wait(&child, -1);
	}
	if (err < 0) {
		error_set(e, -err, "program-not-watched", NULL, "%s: %s", options->argv[0],
			  strerror(-err));
		launch_child_end(&child);
		return err;
	}
	launch_child_end(&child);
	result->status = child.status;
	if (!result->arbiter_lost && !live_call(fd, &ask, &reply, NULL, NULL))
		result->workers = reply.workers;
	else
		result->arbiter_lost = true;
	return 0;
}

int launch_program(const struct launch_options *options, struct launch_result *result,
		   struct error *e)
{
	const char *socket = options->socket ? options->socket : ARBITER_SOCKET;
	struct vulkan_gpu gpus[VULKAN_GPUS_MAX];
	struct launch_arbiter arbiter = { 0 };
	const struct vulkan_gpu *gpu = NULL;
	struct identity identity;
	int fd = -1, err, count;

	*result = (struct launch_result){ 0 };
	err = launch_layer_find(options->layers, identity.layer, e);
	/* Before Vulkan's drivers are in this process: a fork of it goes on as the arbiter. */
	if (!err && options->embedded) {
		err = launch_arbiter_start(&arbiter, e);
		socket = arbiter.socket;
	}
	if (err)
		return err;
	launch_signals(true);
	fd = live_connect(socket, e);
	err = MIN(fd, 0);
	if (!err) {
		count = launch_gpu_list(gpus, e);
		gpu = count < 0 ? NULL : launch_gpu_choose(gpus, (unsigned)count, options->gpu, e);
		err = count < 0 ? count : gpu ? quota_check(options, gpu, e) : -ENODEV;
	}
	if (!err && gpu->cpu && !options->gpu)
		log_info("there is no GPU: %s (%s), which renders on the CPU, is shared", gpu->name,
			 gpu->device);
	if (!err)
		err = vgpu_create(fd, options, gpu, identity.token, result, e);
	/* The program may go to another folder. */
	if (!err && !realpath(socket, identity.socket))
		err = error_set(e, errno, "no-arbiter", NULL, "%s: %s", socket, strerror(errno));
	if (!err)
		err = program_run(fd, options, &identity, result, e);
	fd_close(&fd);
	launch_arbiter_end(&arbiter);
	launch_signals(false);
	return err;
}
