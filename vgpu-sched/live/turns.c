// SPDX-License-Identifier: Apache-2.0
/*
 * Turns: between what workers want and what the core decides. A vGPU is one client of the core however many processes it
 * has; among them turns go round.
 *
 * A grant appears in its worker's page. While nobody else waits the page says so, and the worker goes on beyond its slice
 * without asking; what it used by then is settled with the core before anybody else's wish is heard, so that having
 * used an idle GPU costs nothing and hides nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

/* Of a process that has more threads asleep than this one sleeps on: they would be woken at the others' expense. */
#define SLEEPERS_MAX 32

/* Only those who take what is left may go on: a share or credits end when they end. */
static bool may_go_on(const struct live_vgpu *vgpu)
{
	return vgpu->config.policy != SCHED_FIXED_SHARE && vgpu->config.policy != SCHED_BURST;
}

void turns_wake(struct client *client)
{
	atomic_fetch_add(&client->page->wake, 1);
	syscall(SYS_futex, &client->page->wake, FUTEX_WAKE, SLEEPERS_MAX, NULL, NULL, 0);
}

/* Who keeps its grant though it does nothing, for its next submission, hears that others have come. */
static void alone_show(struct client *client, enum sched_engine engine, bool alone)
{
	const bool was_alone = client->engines[engine].alone;

	client->engines[engine].alone = alone;
	atomic_store(&client->page->grants[engine].alone_until_ns,
		     alone ? monotonic_ns() + LIVE_LEASE_NS : 0);
	if (was_alone && !alone)
		turns_wake(client);
}

/* Whether more than one vGPU has a turn: with a depth above 1, or where one kept its own so long that another went beside it. */
static bool several_have(const struct live_gpu *gpu, enum sched_engine engine)
{
	const struct arbiter *arbiter = gpu->arbiter;
	const struct live_vgpu *first = NULL;

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		const struct client *client = arbiter->clients[i];

		if (!client->page || !client->vgpu || client->vgpu->gpu != gpu ||
		    !client->engines[engine].grant)
			continue;
		if (first && first != client->vgpu)
			return true;
		first = client->vgpu;
	}
	return false;
}

/* As long as somebody is alone the arbiter comes back to renew the lease. */
static void alone_update(struct live_gpu *gpu, enum sched_engine engine, uint64_t *next_ns)
{
	const bool others = gpu->waiting[engine] || several_have(gpu, engine);
	struct arbiter *arbiter = gpu->arbiter;

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		struct client *client = arbiter->clients[i];

		if (!client->page || !client->vgpu || client->vgpu->gpu != gpu ||
		    !client->engines[engine].grant)
			continue;
		alone_show(client, engine, may_go_on(client->vgpu) && !others);
		if (client->engines[engine].alone)
			*next_ns = MIN(*next_ns, monotonic_ns() + LIVE_LEASE_NS / 5);
	}
}

static void grant_show(struct client *client, enum sched_engine engine)
{
	struct live_page *page = client->page;

	atomic_store(&page->grants[engine].slice_ns, client->engines[engine].slice_ns);
	atomic_store(&page->grants[engine].id, client->engines[engine].grant);
	turns_wake(client);
}

static void trace(const struct client *client, enum sched_engine engine, uint64_t waited_ns,
		  uint64_t slice_ns, const struct sched_charge *charge)
{
	FILE *file = client->arbiter->trace;

	if (file)
		fprintf(file,
			"%" PRIu64 ",%s,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
			"\n",
			charge->granted_ns, client->vgpu->name, sched_engine_name(engine),
			waited_ns, slice_ns, charge->used_ns, charge->overrun_ns, charge->debt_ns);
}

static uint64_t waited_ns(const struct client *client, enum sched_engine engine)
{
	return client->engines[engine].granted_ns - client->engines[engine].since_ns;
}

/* @told: this is a turn's line in the trace; a turn that was booked already has one. */
static void end(struct client *client, enum sched_engine engine, uint64_t used_ns, bool told)
{
	struct sched_charge charge;

	if (!sched_complete(client->vgpu->gpu->sched, monotonic_ns(), client->engines[engine].grant,
			    used_ns, &charge) &&
	    told)
		trace(client, engine, waited_ns(client, engine), client->engines[engine].slice_ns,
		      &charge);
	client->engines[engine].grant = 0;
	client->engines[engine].alone = false;
	atomic_store(&client->page->grants[engine].id, 0);
	atomic_store(&client->page->grants[engine].alone_until_ns, 0);
}

/* Whose turn it is within a vGPU: who has waited longest. */
static struct client *worker_of(struct live_vgpu *vgpu, enum sched_engine engine)
{
	struct arbiter *arbiter = vgpu->gpu->arbiter;
	struct client *found = NULL;

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		struct client *client = arbiter->clients[i];

		if (client->vgpu == vgpu && client->page && client->engines[engine].wants &&
		    !client->engines[engine].grant &&
		    (!found || client->engines[engine].since_ns < found->engines[engine].since_ns))
			found = client;
	}
	return found;
}

static void waiting_add(struct client *client, enum sched_engine engine, int count)
{
	client->vgpu->waiting[engine] += (unsigned)count;
	client->vgpu->gpu->waiting[engine] += (unsigned)count;
}

static void dispatch(struct live_gpu *gpu, enum sched_engine engine, uint64_t *next_ns)
{
	struct sched_decision decision;

	while ((decision = sched_pick(gpu->sched, monotonic_ns(), engine)).granted) {
		struct live_vgpu *vgpu = gpu->vgpus[decision.vgpu];
		struct client *client = vgpu ? worker_of(vgpu, engine) : NULL;

		if (!client) { /* its work went meanwhile */
			sched_complete(gpu->sched, monotonic_ns(), decision.grant, 0, NULL);
			continue;
		}
		client->engines[engine].wants = false;
		client->engines[engine].grant = decision.grant;
		client->engines[engine].granted_ns = monotonic_ns();
		client->engines[engine].slice_ns = decision.slice_ns;
		vgpu->waited_ns[engine] += waited_ns(client, engine);
		waiting_add(client, engine, -1);
		grant_show(client, engine);
	}
	*next_ns = MIN(*next_ns, decision.next_ns);
	alone_update(gpu, engine, next_ns);
}

/* Grants that keep others waiting beyond what is bearable. */
static void hogs_end(struct live_gpu *gpu, uint64_t *next_ns)
{
	struct arbiter *arbiter = gpu->arbiter;
	const uint64_t now = monotonic_ns();

	for (unsigned i = 0; arbiter->hog_ns && i < arbiter->client_count; i++) {
		struct client *client = arbiter->clients[i];

		for (unsigned e = 0; e < SCHED_ENGINES && client->vgpu && client->vgpu->gpu == gpu;
		     e++) {
			uint64_t due = client->engines[e].granted_ns + arbiter->hog_ns;

			if (!client->engines[e].grant || !gpu->waiting[e])
				continue;
			if (now < due) {
				*next_ns = MIN(*next_ns, due);
				continue;
			}
			log_warn(
				"arbiter: %s: process %d has had %s for %.1f s while others wait: it is ended",
				client->vgpu->name, client->pid,
				sched_engine_name((enum sched_engine)e),
				(double)(now - client->engines[e].granted_ns) / 1e9);
			if (client->pidfd >= 0)
				syscall(SYS_pidfd_send_signal, client->pidfd, SIGKILL, NULL, 0);
			/* Whoever else holds it: this is its end, which the loop will see. */
			shutdown(client->fd, SHUT_RDWR);
			client->engines[e].granted_ns =
				now; /* once more only after as long again */
		}
	}
}

void turns_changed(struct live_gpu *gpu)
{
	uint64_t next_ns = SCHED_NEVER;

	for (unsigned e = 0; e < SCHED_ENGINES; e++)
		dispatch(gpu, (enum sched_engine)e, &next_ns);
	hogs_end(gpu, &next_ns);
	if (next_ns == SCHED_NEVER) {
		sd_event_source_set_enabled(gpu->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(gpu->timer, next_ns / 1000 + 1);
	sd_event_source_set_enabled(gpu->timer, SD_EVENT_ONESHOT);
}

int turns_on_timer(sd_event_source *source, uint64_t usec, void *gpu)
{
	turns_changed(gpu);
	return 0;
}

/*
 * One that goes on alone is booked up to now. @used_ns is taken out of what the client tells. False: it has no turn any more (its place
 * had gone to another while it did not end).
 */
static bool book(struct client *client, enum sched_engine engine, uint64_t used_ns)
{
	struct sched_charge charge;

	if (sched_settle(client->vgpu->gpu->sched, monotonic_ns(), client->engines[engine].grant,
			 used_ns, &charge)) {
		end(client, engine, used_ns, true);
		turns_wake(client);
		return false;
	}
	trace(client, engine, waited_ns(client, engine), client->engines[engine].slice_ns, &charge);
	client->engines[engine].granted_ns = client->engines[engine].since_ns = monotonic_ns();
	return true;
}

/* Before somebody else is heard: who went on alone is where it would be had it only begun now. */
static void settle(struct live_gpu *gpu, enum sched_engine engine)
{
	struct arbiter *arbiter = gpu->arbiter;

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		struct client *client = arbiter->clients[i];

		if (client->page && client->vgpu && client->vgpu->gpu == gpu &&
		    client->engines[engine].alone &&
		    monotonic_ns() - client->engines[engine].granted_ns >
			    client->engines[engine].slice_ns)
			book(client, engine, atomic_exchange(&client->page->used_ns[engine], 0));
	}
}

/* Its wish is with the core, before anybody is asked whose turn it is. */
static void want(struct client *client, enum sched_engine engine)
{
	struct live_vgpu *vgpu = client->vgpu;

	client->engines[engine].wants = true;
	client->engines[engine].since_ns = monotonic_ns();
	waiting_add(client, engine, 1);
	sched_submit(vgpu->gpu->sched, monotonic_ns(), vgpu->index, engine, 1);
}

static void unwant(struct client *client, enum sched_engine engine)
{
	struct live_vgpu *vgpu = client->vgpu;

	client->engines[engine].wants = false;
	waiting_add(client, engine, -1);
	sched_withdraw(vgpu->gpu->sched, monotonic_ns(), vgpu->index, engine, 1);
}

void turns_want(struct client *client, enum sched_engine engine)
{
	if (client->engines[engine].wants || client->engines[engine].grant)
		return;
	settle(client->vgpu->gpu, engine);
	want(client, engine);
	turns_changed(client->vgpu->gpu);
}

/* Its turn is over. What it had alone is no debt, used or not: it is booked, and then has just begun. */
static void give_back(struct client *client, enum sched_engine engine, uint64_t used_ns)
{
	const bool booked = client->engines[engine].alone && book(client, engine, used_ns);

	if (client->engines[engine].grant)
		end(client, engine, booked ? 0 : used_ns, !booked);
}

void turns_release(struct client *client, enum sched_engine engine, uint64_t used_ns, bool again)
{
	/* None, when it was settled away meanwhile. */
	if (client->engines[engine].grant)
		give_back(client, engine, used_ns);
	else if (client->engines[engine].wants && !again)
		unwant(client, engine);
	/* Not after the next was picked: who always has work would be taken for one who has none. */
	if (again && !client->engines[engine].wants)
		want(client, engine);
	turns_changed(client->vgpu->gpu);
}

/* First of all who went on alone is settled with: the debt is to be one towards the turn of now. */
void turns_forced(struct client *client, enum sched_engine engine, uint64_t used_ns)
{
	struct live_vgpu *vgpu = client->vgpu;
	struct sched_charge charge;

	settle(vgpu->gpu, engine);
	if (!sched_charge_forced(vgpu->gpu->sched, monotonic_ns(), vgpu->index, engine, used_ns,
				 &charge))
		trace(client, engine, 0, 0, &charge);
	turns_changed(vgpu->gpu);
}

void turns_drop(struct client *client)
{
	for (unsigned e = 0; e < SCHED_ENGINES; e++) {
		const bool alone = client->engines[e].alone;

		/* Nobody will say what it used: the time it had; while it was alone, what it had told. */
		if (client->engines[e].grant)
			give_back(client, (enum sched_engine)e,
				  alone ? atomic_exchange(&client->page->used_ns[e], 0)
					: SCHED_USED_UNKNOWN);
		if (client->engines[e].wants)
			unwant(client, (enum sched_engine)e);
	}
	/* It sees at once that it has nothing any more. */
	turns_wake(client);
}
