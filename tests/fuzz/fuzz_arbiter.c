// SPDX-License-Identifier: Apache-2.0
/*
 * Everybody who can reach the arbiter's socket, with bad intentions. A byte string is a script: connections come and go, say what is a message and
 * what is none, with descriptors attached or not, read their answers or not, write into their pages, and time passes. The socket is a real one, the
 * clock is not.
 *
 * Checked beside the sanitizers, after every step: the arbiter's books and the scheduler's agree, and counts are those of the clients that are there.
 * At the end, with all that has gathered: a client that keeps to the rules gets its turn in bounded time, and every descriptor is given back.
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

#define SLOTS	  8
#define STEPS_MAX 400
#define MS	  UINT64_C(1000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
uint64_t __wrap_monotonic_ns(void);

/*
 * The arbiter's clock: it goes on a little with every look, and a lot when the script says so. It is so far ahead of the machine's that no timer
 * rings by itself.
 */
#define CLOCK_START (UINT64_C(1) << 61)
static uint64_t clock_ns;

uint64_t __wrap_monotonic_ns(void)
{
	return clock_ns += 100;
}

static void must(bool holds)
{
	if (!holds)
		abort();
}

struct script {
	const uint8_t *at, *end;
};

static uint8_t next(struct script *script)
{
	return script->at < script->end ? *script->at++ : 0;
}

/* A number of any size: most are small, some are at the end of the scale. */
static uint64_t number(struct script *script)
{
	const uint8_t kind = next(script);
	uint64_t value = next(script);

	if (kind == 0xff)
		return UINT64_MAX - value;
	return value << (kind & 63);
}

struct slot {
	int fd;
	uint8_t token[LIVE_TOKEN_SIZE];
	struct live_page *page;
	struct live_vgpu_page *vgpu;
};

struct world {
	sd_event *event;
	struct arbiter *arbiter;
	char path[64];
	struct slot slots[SLOTS], honest, owner;
};

/* All that there is to do now; timers are called by time_passes(). */
static void settle_down(struct world *w)
{
	for (unsigned i = 0; i < 10000; i++)
		if (sd_event_run(w->event, 0) <= 0)
			return;
	abort(); /* it never comes to rest */
}

static void time_passes(struct world *w, uint64_t ns)
{
	clock_ns += ns;
	for (unsigned i = 0; i < w->arbiter->gpu_count; i++)
		turns_on_timer(NULL, 0, w->arbiter->gpus[i]);
	arbiter_resume(w->arbiter);
	settle_down(w);
}

static void slot_close(struct slot *slot)
{
	if (slot->page)
		munmap(slot->page, sizeof(*slot->page));
	if (slot->vgpu)
		munmap(slot->vgpu, sizeof(*slot->vgpu));
	slot->page = NULL;
	slot->vgpu = NULL;
	fd_close(&slot->fd);
}

static void slot_connect(struct world *w, struct slot *slot)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	slot_close(slot);
	strcpy(address.sun_path, w->path);
	slot->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(slot->fd >= 0);
	if (connect(slot->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fd_close(&slot->fd);
	settle_down(w);
}

static void send_bytes(struct world *w, const struct slot *slot, const void *bytes, size_t size,
		       unsigned fds)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(fds * sizeof(int));
		for (unsigned i = 0; i < fds; i++)
			memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &slot->fd, sizeof(int));
	}
	if (slot->fd >= 0 && sendmsg(slot->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		settle_down(w);
}

/* The next answer, if there is one; its descriptors, -1 where there is none. */
static bool answer(const struct slot *slot, struct live_message *reply, int fds[2])
{
	struct iovec iov = { reply, sizeof(*reply) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	struct cmsghdr *head;

	fds[0] = fds[1] = -1;
	if (slot->fd < 0 || recvmsg(slot->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
		return false;
	head = CMSG_FIRSTHDR(&header);
	if (head)
		memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
	must(reply->version == LIVE_VERSION);
	must(memchr(reply->text, 0, sizeof(reply->text)) &&
	     memchr(reply->code, 0, sizeof(reply->code)));
	must(!reply->error || (reply->error > 0 && reply->text[0]));
	return true;
}

/* A memfd of JSON, whoever asked. */
static void check_status(int fd)
{
	struct stat st;
	char *text;
	json_t *json;

	must(!fstat(fd, &st) && st.st_size > 0);
	text = calloc(1, (size_t)st.st_size + 1);
	must(text && pread(fd, text, (size_t)st.st_size, 0) == st.st_size);
	json = json_loads(text, 0, NULL);
	must(json);
	json_decref(json);
	free(text);
}

static void answers_read(struct slot *slot)
{
	struct live_message reply;
	int fds[2];

	while (answer(slot, &reply, fds)) {
		if (reply.type == LIVE_CREATED && !reply.error)
			memcpy(slot->token, reply.token, LIVE_TOKEN_SIZE);
		if (reply.type == LIVE_STATUS && !reply.error)
			check_status(fds[0]);
		if (reply.type == LIVE_REGISTERED && !reply.error && !slot->page) {
			slot->page = mmap(NULL, sizeof(*slot->page), PROT_READ | PROT_WRITE,
					  MAP_SHARED, fds[0], 0);
			slot->vgpu = mmap(NULL, sizeof(*slot->vgpu), PROT_READ | PROT_WRITE,
					  MAP_SHARED, fds[1], 0);
			must(slot->page != MAP_FAILED && slot->vgpu != MAP_FAILED);
			/* What is shared can be made neither smaller nor larger. */
			must(ftruncate(fds[0], 0) < 0 && ftruncate(fds[1], 1 << 20) < 0);
		}
		fd_close(&fds[0]);
		fd_close(&fds[1]);
	}
}

/* ---- books ------------------------------------------------------------------------------------ */

static void check_vgpu(struct world *w, struct live_vgpu *vgpu)
{
	unsigned workers = 0, askers = 0;

	for (unsigned i = 0; i < w->arbiter->client_count; i++) {
		const struct client *client = w->arbiter->clients[i];

		workers += client->vgpu == vgpu && client->page;
		askers += client->vgpu == vgpu && client->asks;
		must(!client->asks ||
		     (!client->page && client->vgpu && client->vgpu->owner != client));
	}
	must(vgpu->workers == workers && workers <= ARBITER_WORKERS_MAX);
	must(vgpu->askers == askers && askers <= 4);
	for (unsigned e = 0; e < SCHED_ENGINES; e++) {
		struct sched_vgpu_stats stats;
		unsigned wants = 0, grants = 0;

		for (unsigned i = 0; i < w->arbiter->client_count; i++) {
			struct client *client = w->arbiter->clients[i];

			if (client->vgpu != vgpu)
				continue;
			wants += client->engines[e].wants;
			grants += client->engines[e].grant != 0;
			/* One or the other, and alone only with a grant and with nobody who waits. */
			must(!client->engines[e].wants || !client->engines[e].grant);
			must(!client->engines[e].alone ||
			     (client->engines[e].grant && !vgpu->gpu->waiting[e]));
		}
		must(!sched_vgpu_stats(vgpu->gpu->sched, clock_ns, vgpu->index,
				       (enum sched_engine)e, &stats));
		must(vgpu->waiting[e] == wants && stats.pending == wants);
		must(stats.in_flight == grants);
		must(stats.forced_ns <= stats.used_ns);
	}
}

static void check(struct world *w)
{
	struct arbiter *arbiter = w->arbiter;

	must(arbiter->client_count <= ARBITER_CLIENTS_MAX &&
	     arbiter->gpu_count <= ARBITER_GPUS_MAX);
	for (unsigned g = 0; g < arbiter->gpu_count; g++) {
		unsigned waiting[SCHED_ENGINES] = { 0 };

		for (unsigned v = 0; v < ARBITER_VGPUS_MAX; v++) {
			struct live_vgpu *vgpu = arbiter->gpus[g]->vgpus[v];

			if (!vgpu)
				continue;
			must(vgpu->index == v && vgpu->owner && vgpu->owner->vgpu == vgpu);
			check_vgpu(w, vgpu);
			for (unsigned e = 0; e < SCHED_ENGINES; e++)
				waiting[e] += vgpu->waiting[e];
		}
		must(!memcmp(waiting, arbiter->gpus[g]->waiting, sizeof(waiting)));
	}
}

/* ---- the script ---------------------------------------------------------------------------------- */

static struct live_message message_of(struct world *w, struct script *script, uint32_t type)
{
	struct live_message message = { .type = type, .version = LIVE_VERSION };

	switch (type) {
	case LIVE_CREATE:
	case LIVE_CHANGE:
		message.policy = next(script) % (SCHED_POLICIES + 1);
		message.weight = (uint32_t)number(script);
		/* What the honest one has is promised to it; the rest can be given away. */
		message.share_ppm = (uint32_t)number(script);
		message.elastic_ppm = (uint32_t)number(script);
		message.credit_max_ns = number(script);
		message.surplus_max_ns = number(script);
		message.memory_quota = number(script);
		snprintf(message.gpu, sizeof(message.gpu), "gpu%d", next(script) % 18 / 4);
		snprintf(message.name, sizeof(message.name), "vgpu%u", next(script));
		break;
	case LIVE_REGISTER:
	case LIVE_ASK:
		memcpy(message.token, w->slots[next(script) % SLOTS].token, LIVE_TOKEN_SIZE);
		break;
	default:
		message.engine = next(script) % SCHED_ENGINES;
		message.again = next(script) & 1;
		message.used_ns = number(script);
	}
	return message;
}

static void say(struct world *w, struct script *script, const struct slot *slot, uint32_t type)
{
	struct live_message message = message_of(w, script, type);

	send_bytes(w, slot, &message, sizeof(message), 0);
}

static void step(struct world *w, struct script *script)
{
	const uint8_t byte = next(script);
	struct slot *slot = &w->slots[byte >> 4 & (SLOTS - 1)];
	uint8_t bytes[sizeof(struct live_message) + 64] = { 0 };
	struct live_message message;
	size_t size;

	switch (byte & 15) {
	case 0:
		slot_connect(w, slot);
		break;
	case 1:
		slot_close(slot);
		settle_down(w);
		break;
	case 2:
		say(w, script, slot, LIVE_CREATE);
		answers_read(slot);
		break;
	case 3:
		say(w, script, slot, LIVE_REGISTER);
		answers_read(slot);
		break;
	case 4:
		say(w, script, slot, LIVE_WANT);
		break;
	case 5:
		say(w, script, slot, LIVE_RELEASE);
		break;
	case 6:
		say(w, script, slot, LIVE_FORCED);
		break;
	case 7:
		say(w, script, slot, LIVE_CHANGE);
		break;
	case 8: /* asked often, and read or not */
		for (unsigned i = next(script) % 64; i; i--)
			say(w, script, slot, LIVE_STATUS);
		if (next(script) & 1)
			answers_read(slot);
		break;
	case 9: /* a message, a few bytes of which are others */
		message = message_of(w, script, 1 + next(script) % LIVE_ANSWER);
		for (unsigned i = next(script) % 8; i; i--)
			((uint8_t *)&message)[number(script) % sizeof(message)] = next(script);
		send_bytes(w, slot, &message, sizeof(message), next(script) & 7);
		break;
	case 10: /* bytes */
		size = number(script) % sizeof(bytes);
		for (size_t i = 0; i < size && script->at < script->end; i++)
			bytes[i] = next(script);
		send_bytes(w, slot, bytes, size, next(script) & 7);
		break;
	case 11:
		answers_read(slot);
		break;
	case 12:
		for (unsigned i = next(script) % 16; slot->page && i; i--)
			((uint8_t *)slot->page)[number(script) % sizeof(*slot->page)] =
				next(script);
		break;
	case 13:
		if (slot->vgpu)
			atomic_store(&slot->vgpu->memory_used, number(script));
		if (slot->page)
			atomic_store(&slot->page->memory_used, number(script));
		break;
	case 14:
		time_passes(w, number(script) % (10 * NSEC_PER_SEC));
		break;
	default: /* a flood of the last kind of thing */
		for (unsigned i = next(script); i; i--)
			say(w, script, slot, LIVE_WANT + (i & 1) * (LIVE_RELEASE - LIVE_WANT));
	}
	check(w);
}

/* ---- one who keeps to the rules ------------------------------------------------------------------- */

static void honest_begin(struct world *w)
{
	struct live_message message = { .type = LIVE_CREATE,
					.version = LIVE_VERSION,
					.policy = SCHED_FIXED_SHARE,
					.share_ppm = 100000,
					.gpu = "gpu0",
					.name = "honest" };

	slot_connect(w, &w->owner);
	send_bytes(w, &w->owner, &message, sizeof(message), 0);
	answers_read(&w->owner);
	message = (struct live_message){ .type = LIVE_REGISTER, .version = LIVE_VERSION };
	memcpy(message.token, w->owner.token, LIVE_TOKEN_SIZE);
	slot_connect(w, &w->honest);
	send_bytes(w, &w->honest, &message, sizeof(message), 0);
	answers_read(&w->honest);
	must(w->honest.page);
}

/*
 * However many sit on turns: each loses its own after hold_max (250 ms) and gets none before it has paid. A minute is more than all of a script's
 * come to.
 */
static void honest_is_served(struct world *w)
{
	const struct live_message want = { .type = LIVE_WANT, .version = LIVE_VERSION };
	const struct live_message release = { .type = LIVE_RELEASE,
					      .version = LIVE_VERSION,
					      .used_ns = MS };

	send_bytes(w, &w->honest, &want, sizeof(want), 0);
	for (unsigned i = 0; i < 6000; i++) {
		if (atomic_load(&w->honest.page->grants[0].id))
			break;
		time_passes(w, 10 * MS);
	}
	must(atomic_load(&w->honest.page->grants[0].id));
	send_bytes(w, &w->honest, &release, sizeof(release), 0);
	must(!atomic_load(&w->honest.page->grants[0].id));
	check(w);
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	must(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script script = { data, data + size };
	const struct sched_gpu_config config = { .depth = size ? 1 + data[0] % 3 : 1,
						 .linger_ns =
							 size > 1 && data[1] & 1 ? MS / 3 : 0 };
	struct world w = { .honest.fd = -1, .owner.fd = -1 };
	const unsigned before = descriptors();
	struct error e = { 0 };

	log_set_level(LOG_LEVEL_ERROR);
	clock_ns = CLOCK_START;
	for (unsigned i = 0; i < SLOTS; i++)
		w.slots[i].fd = -1;
	snprintf(w.path, sizeof(w.path), "/tmp/divvy-fuzz-arbiter-%d", getpid());
	must(sd_event_new(&w.event) >= 0);
	must(!arbiter_create(w.event, w.path, &config, 0, NULL, &w.arbiter, &e));
	honest_begin(&w);
	for (unsigned i = 0; i < STEPS_MAX && script.at < script.end; i++)
		step(&w, &script);
	honest_is_served(&w);
	for (unsigned i = 0; i < SLOTS; i++)
		slot_close(&w.slots[i]);
	settle_down(&w);
	slot_close(&w.honest);
	slot_close(&w.owner);
	settle_down(&w);
	must(!arbiter_clients(w.arbiter));
	arbiter_destroy(w.arbiter);
	sd_event_unref(w.event);
	must(descriptors() == before);
	return 0;
}
