// SPDX-License-Identifier: Apache-2.0
/*
 * venus: the one thread in which virglrenderer runs, for Venus and nothing else.
 *
 * Its loop waits for calls of the device's worker and for the ends of the render server and of each render
 * worker. virglrenderer does not tell of the latter, and a thread of its own then turns in circles until the
 * context is destroyed: so the sockets of the workers are found among our descriptors (venus_watch.c) and watched. Fences
 * are told from other threads of virglrenderer's, which only leave a number here.
 *
 * A reset ends virglrenderer and its server altogether, and both are started again by the next context. So a
 * guest gets nothing of the one before, and whatever a library or driver has leaked goes with its process.
 * Starts are paid for with tokens, so that a guest that resets in a loop does not start processes in one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "mdev/gpu/venus_private.h"

#define FLAGS                                                                            \
	(VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER | \
	 VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define GRACE_MS	500  /* for a server to end its workers and itself */
#define CALL_GRACE_MS	500  /* for a call under way when a reset comes */
#define KILLED_GRACE_MS 5000 /* for one whose server was killed */
#define STARTS_AT_ONCE	60
#define STARTS_A_SECOND 1

/* virglrenderer is one in a process, and so is this. */
static bool taken;

/* ---- news, from any thread ------------------------------------------------------------------ */

static void tell(struct venus *venus)
{
	eventfd_write(venus->wake_fd, 1);
}

static void on_fence(void *cookie, uint32_t context, uint32_t ring, uint64_t fence)
{
	struct venus *venus = cookie;

	pthread_mutex_lock(&venus->lock);
	/* There are no more of them than were asked for, and each is told once. */
	if (venus->retired_count < ARRAY_SIZE(venus->retired))
		venus->retired[venus->retired_count++] = fence;
	else
		log_limited(LOG_LEVEL_ERROR, "%s: too many fences", venus->name);
	pthread_mutex_unlock(&venus->lock);
	tell(venus);
}

void venus_news(struct venus *venus, struct venus_news *news)
{
	eventfd_t count;

	eventfd_read(venus->wake_fd, &count);
	*news = (struct venus_news){ 0 };
	pthread_mutex_lock(&venus->lock);
	news->done = venus->call_done;
	venus->call_done = false;
	news->server_lost = venus->server_lost;
	venus->server_lost = false;
	news->retired_count = MIN(venus->retired_count, (unsigned)VENUS_NEWS_MAX);
	memcpy(news->retired, venus->retired, news->retired_count * sizeof(news->retired[0]));
	venus->retired_count -= news->retired_count;
	memmove(venus->retired, venus->retired + news->retired_count,
		venus->retired_count * sizeof(venus->retired[0]));
	news->lost_count = venus->lost_count;
	memcpy(news->lost, venus->lost, venus->lost_count * sizeof(news->lost[0]));
	venus->lost_count = 0;
	news->more = venus->retired_count;
	pthread_mutex_unlock(&venus->lock);
}

/* ---- the server: the thread's --------------------------------------------------------------- */

static int get_server_fd(void *cookie, uint32_t version)
{
	struct venus *venus = cookie;
	int fd = venus->server_fd;

	/* Without one the library starts a server itself, with our environment. */
	venus->server_fd = -1;
	return fd;
}

static struct virgl_renderer_callbacks callbacks = {
	.version = 3,
	.write_context_fence = on_fence,
	.get_server_fd = get_server_fd,
};

static bool may_start(struct venus *venus)
{
	const uint64_t now = monotonic_ns(), token = NSEC_PER_SEC / STARTS_A_SECOND;
	const uint64_t earned = (now - venus->token_ns) / token;

	venus->tokens = (unsigned)MIN(venus->tokens + earned, (uint64_t)STARTS_AT_ONCE);
	venus->token_ns += earned * token;
	if (!venus->tokens)
		return false;
	venus->tokens--;
	return true;
}

static int on_messages(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct venus *venus = userdata;
	char text[1024], *line, *rest = text;
	ssize_t got = read(fd, text, sizeof(text) - 1);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		venus->messages = sd_event_source_disable_unref(venus->messages);
		return 0;
	}
	text[got] = '\0';
	while ((line = strsep(&rest, "\n")))
		if (*line)
			log_limited(LOG_LEVEL_INFO, "%s: render server: %s", venus->name, line);
	return 0;
}

/* End everything of virglrenderer's; whatever it had is gone. */
static void shut_down(struct venus *venus)
{
	venus_unwatch_all(venus);
	venus->death = sd_event_source_disable_unref(venus->death);
	if (venus->running)
		virgl_renderer_cleanup(venus);
	venus->running = false;
	fd_close(&venus->server_fd);
	if (venus->messages)
		on_messages(NULL, venus->server.messages_fd, 0, venus);
	venus->messages = sd_event_source_disable_unref(venus->messages);
	render_server_end(&venus->server, venus->is_lost ? 0 : GRACE_MS);
}

static int on_death(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct venus *venus = userdata;

	log_error("%s: its render server has ended; its guest has lost what it rendered with",
		  venus->name);
	/* Its workers too, before their sockets are found to be dead one by one. */
	render_server_kill(&venus->server);
	__atomic_store_n(&venus->is_lost, true, __ATOMIC_RELEASE);
	shut_down(venus);
	pthread_mutex_lock(&venus->lock);
	venus->server_lost = true;
	pthread_mutex_unlock(&venus->lock);
	tell(venus);
	return 0;
}

/* Have virglrenderer and a server. Returns 0 or -errno. */
static int start_up(struct venus *venus)
{
	int ret;

	if (venus->running)
		return 0;
	/* After its death only a reset helps: the guest must know that all is gone. */
	if (venus->is_lost)
		return -EPIPE;
	if (!may_start(venus)) {
		log_limited(LOG_LEVEL_WARN, "%s: its render server is started too often",
			    venus->name);
		return -EAGAIN;
	}
	ret = render_server_start(&venus->server);
	if (ret < 0)
		return ret;
	venus->server_fd = ret;
	/* Its cookie, flags and callbacks. It says 0, -1, and errno with either sign. */
	ret = virgl_renderer_init(venus, FLAGS, &callbacks);
	venus->running = !ret;
	if (!ret)
		ret = sd_event_add_io(venus->event, &venus->death, venus->server.pidfd, EPOLLIN,
				      on_death, venus);
	if (ret >= 0)
		ret = sd_event_add_io(venus->event, &venus->messages, venus->server.messages_fd,
				      EPOLLIN, on_messages, venus);
	if (ret < 0 || !venus->running) {
		shut_down(venus);
		return -EIO;
	}
	return 0;
}

static void on_log(enum virgl_log_level_flags level, const char *message, void *userdata)
{
	/* Parts of lines, with their newline or without. */
	log_limited(level >= VIRGL_LOG_LEVEL_ERROR ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
		    "virglrenderer: %.*s", (int)strcspn(message, "\n"), message);
}

/* ---- the thread ---------------------------------------------------------------------------- */

void venus_context_lost(struct venus *venus, uint32_t context)
{
	virgl_renderer_context_destroy(context);
	pthread_mutex_lock(&venus->lock);
	/* No more of them than contexts, unless the worker is slow: then those are lost by their errors. */
	if (venus->lost_count < ARRAY_SIZE(venus->lost))
		venus->lost[venus->lost_count++] = context;
	pthread_mutex_unlock(&venus->lock);
	tell(venus);
}

static int on_call(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct venus *venus = userdata;
	enum venus_order order;
	struct venus_call *call;
	eventfd_t count;

	eventfd_read(fd, &count);
	pthread_mutex_lock(&venus->lock);
	order = venus->order;
	call = venus->call;
	pthread_mutex_unlock(&venus->lock);
	if (order == VENUS_IDLE)
		return 0;
	if (order == VENUS_CALL) {
		call->ret = call->op == VENUS_CONTEXT_CREATE ? start_up(venus) : 0;
		if (!call->ret && !venus->running)
			call->ret = -EPIPE;
		if (!call->ret)
			venus_make(venus, call);
	} else {
		shut_down(venus);
		__atomic_store_n(&venus->is_lost, false, __ATOMIC_RELEASE);
	}
	pthread_mutex_lock(&venus->lock);
	venus->order = VENUS_IDLE;
	venus->call_done = order == VENUS_CALL;
	if (order != VENUS_CALL) {
		/* News of what is no more. */
		venus->retired_count = venus->lost_count = 0;
		venus->server_lost = false;
	}
	pthread_cond_broadcast(&venus->idle);
	pthread_mutex_unlock(&venus->lock);
	if (order == VENUS_CALL)
		tell(venus);
	if (order == VENUS_EXIT)
		sd_event_exit(venus->event, 0);
	return 0;
}

static void *thread_main(void *arg)
{
	struct venus *venus = arg;
	uint32_t version = 0, size = 0;
	int ret;

	virgl_set_log_callback(on_log, NULL, NULL);
	ret = start_up(venus);
	if (!ret) {
		virgl_renderer_get_cap_set(VENUS_CAPSET, &version, &size);
		if (!size || size > sizeof(venus->capset))
			ret = -EOPNOTSUPP;
	}
	if (!ret) {
		virgl_renderer_fill_caps(VENUS_CAPSET, version, venus->capset);
		venus->capset_version = version;
		venus->capset_size = size;
	}
	pthread_mutex_lock(&venus->lock);
	venus->start_result = ret;
	venus->order = VENUS_IDLE;
	pthread_cond_broadcast(&venus->idle);
	pthread_mutex_unlock(&venus->lock);
	if (!ret)
		sd_event_loop(venus->event);
	shut_down(venus);
	pthread_mutex_lock(&venus->lock);
	venus->has_ended = true;
	pthread_cond_broadcast(&venus->idle);
	pthread_mutex_unlock(&venus->lock);
	return NULL;
}

/* Wait up to @ms for the thread to have nothing to do. venus->lock is held. */
static bool wait_idle(struct venus *venus, unsigned ms)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000l;
	if (until.tv_nsec >= (long)NSEC_PER_SEC) {
		until.tv_sec++;
		until.tv_nsec -= (long)NSEC_PER_SEC;
	}
	while (venus->order != VENUS_IDLE && !venus->has_ended && !ret)
		ret = pthread_cond_timedwait(&venus->idle, &venus->lock, &until);
	return venus->order == VENUS_IDLE || venus->has_ended;
}

/* ---- the worker's side ---------------------------------------------------------------------- */

void venus_post(struct venus *venus, struct venus_call *call)
{
	bool lost;

	venus->is_used = true;
	pthread_mutex_lock(&venus->lock);
	lost = venus->is_stuck || venus->has_ended;
	if (lost) {
		call->ret = -EPIPE;
		venus->call_done = true;
	} else {
		venus->order = VENUS_CALL;
		venus->call = call;
	}
	pthread_mutex_unlock(&venus->lock);
	if (lost)
		tell(venus);
	else
		eventfd_write(venus->call_fd, 1);
}

void venus_kill(struct venus *venus)
{
	render_server_kill(&venus->server);
}

/* Have @order carried out, whatever is under way. Returns false when the thread does not come back. */
static bool command(struct venus *venus, enum venus_order order)
{
	bool idle;

	pthread_mutex_lock(&venus->lock);
	idle = wait_idle(venus, CALL_GRACE_MS);
	if (!idle) {
		/* It waits for a worker that does not answer; without workers nobody can be waited for. */
		render_server_kill(&venus->server);
		idle = wait_idle(venus, KILLED_GRACE_MS);
	}
	if (idle && !venus->has_ended) {
		venus->order = order;
		eventfd_write(venus->call_fd, 1);
		idle = wait_idle(venus, KILLED_GRACE_MS);
	}
	if (!idle)
		venus->is_stuck = true;
	venus->call_done = false;
	pthread_mutex_unlock(&venus->lock);
	return idle;
}

void venus_reset(struct venus *venus)
{
	/* Where nothing was asked of it yet the server that waits is as good as new. */
	if (venus->is_stuck ||
	    (!venus->is_used && !__atomic_load_n(&venus->is_lost, __ATOMIC_ACQUIRE)))
		return;
	if (!command(venus, VENUS_RESET))
		log_error("%s: its renderer is stuck: no Vulkan until the process is started again",
			  venus->name);
	venus->is_used = false;
}

const void *venus_capset(const struct venus *venus, uint32_t *version, uint32_t *size)
{
	if (!venus->capset_size || __atomic_load_n(&venus->is_stuck, __ATOMIC_RELAXED))
		return NULL;
	*version = venus->capset_version;
	*size = venus->capset_size;
	return venus->capset;
}

int venus_wake_fd(const struct venus *venus)
{
	return venus->wake_fd;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void release(struct venus *venus)
{
	render_server_close(&venus->server);
	free(venus->path);
	if (venus->descriptors)
		closedir(venus->descriptors);
	venus->call_source = sd_event_source_disable_unref(venus->call_source);
	sd_event_unref(venus->event);
	fd_close(&venus->call_fd);
	fd_close(&venus->wake_fd);
	pthread_cond_destroy(&venus->idle);
	pthread_mutex_destroy(&venus->lock);
	free(venus);
	__atomic_store_n(&taken, false, __ATOMIC_RELEASE);
}

int venus_create(const struct virtio_gpu_venus_config *config, const char *name, struct venus **out,
		 struct error *e)
{
	pthread_condattr_t attributes;
	struct venus *venus;
	int ret;

	if (__atomic_exchange_n(&taken, true, __ATOMIC_ACQUIRE))
		return error_set(e, EBUSY, "venus-taken", "give each vGPU a process of its own",
				 "%s: this process has a renderer for another vGPU", name);
	venus = calloc(1, sizeof(*venus));
	if (!venus) {
		__atomic_store_n(&taken, false, __ATOMIC_RELEASE);
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", name);
	}
	snprintf(venus->name, sizeof(venus->name), "%s", name);
	pthread_mutex_init(&venus->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&venus->idle, &attributes);
	pthread_condattr_destroy(&attributes);
	render_server_init(&venus->server);
	venus->server_fd = -1;
	venus->tokens = STARTS_AT_ONCE;
	venus->token_ns = monotonic_ns();
	venus->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	venus->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	venus->descriptors = opendir("/proc/self/fd");
	venus->path =
		strdup(config->render_server ? config->render_server : VIRTIO_GPU_RENDER_SERVER);
	if (venus->call_fd < 0 || venus->wake_fd < 0)
		ret = -EMFILE;
	else if (!venus->path)
		ret = -ENOMEM;
	else
		ret = 0;
	if (!ret)
		ret = sd_event_new(&venus->event);
	if (ret >= 0)
		ret = sd_event_add_io(venus->event, &venus->call_source, venus->call_fd, EPOLLIN,
				      on_call, venus);
	if (ret < 0) {
		release(venus);
		return error_set(e, -ret, "no-memory", NULL, "%s: its renderer: %s", name,
				 strerror(-ret));
	}
	ret = render_server_open(&venus->server, config, venus->path, name, e);
	if (ret) {
		release(venus);
		return ret;
	}
	*out = venus;
	return 0;
}

int venus_start(struct venus *venus, struct error *e)
{
	int ret;

	venus->order = VENUS_CALL; /* until it has started */
	ret = thread_create(&venus->thread, "venus", thread_main, venus);
	if (!ret) {
		venus->has_thread = true;
		pthread_mutex_lock(&venus->lock);
		/* Bounded by the time a process takes to start: nothing is asked of it. */
		while (venus->order != VENUS_IDLE)
			pthread_cond_wait(&venus->idle, &venus->lock);
		ret = venus->start_result;
		pthread_mutex_unlock(&venus->lock);
	}
	if (ret)
		return error_set(e, -ret, "no-render-server",
				 "apt install virgl-server, or say where it is",
				 "%s cannot be started: %s%s%s", venus->path, venus->server.why,
				 venus->server.why[0] ? ": " : "", strerror(-ret));
	return 0;
}

void venus_destroy(struct venus *venus)
{
	if (!venus)
		return;
	if (venus->has_thread) {
		if (venus->is_stuck || !command(venus, VENUS_EXIT)) {
			/* What it still holds cannot be freed, and nobody can be had to wait for it. */
			log_error("%s: its renderer is stuck and is left behind", venus->name);
			return;
		}
		pthread_join(venus->thread, NULL);
	}
	release(venus);
}
