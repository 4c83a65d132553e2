// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon made and taken down: its folders and its store; the machine and its types; what is taken of it; then what is found of instances, and
 * at last the socket, so that nobody is answered before everything is known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#define LOOK_MS (NODE_VULKAN_TIMEOUT_MS + 10000u)

_Static_assert(sizeof(struct node_vulkan) <= JOB_RESULT_MAX, "a job's result has room for it");

int64_t daemon_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the machine, and what is taken of it --------------------------------------------------------------- */

int daemon_account(struct daemon *daemon, struct error *e)
{
	struct placement_ledger *ledger;
	int err = placement_ledger_create(daemon->node, &daemon->limits, &ledger, e);

	if (err)
		return err;
	for (unsigned i = 0; i < daemon->instance_count; i++)
		if (daemon->instances[i]->placed)
			placement_take(ledger, &daemon->instances[i]->placement);
	for (unsigned i = 0; i < daemon->gpu_count; i++)
		gpu_account(ledger, &daemon->gpus[i].row);
	placement_ledger_destroy(daemon->ledger);
	daemon->ledger = ledger;
	return 0;
}

/* GPUs keep their IDs while a driver has them that does not tell their numbers, and while the daemon is away. */
static void ids_remember(struct daemon *daemon, const struct node *node)
{
	struct error e = { 0 };

	if (node_ids_learn(&daemon->ids, node) && node_ids_save(daemon->ids_path, &daemon->ids, &e))
		log_warn("%s", e.text);
}

/* Told to those who listen: GPUs that are there now and were not, and the other way round. */
static void gpus_tell(struct daemon *daemon, const struct node *old, const struct node *new)
{
	for (unsigned i = 0; i < old->gpu_count; i++)
		if (!node_gpu_find(new, old->gpus[i].id))
			event_gpu(daemon, old->gpus[i].id, "gone", "%s", old->gpus[i].name);
	for (unsigned i = 0; i < new->gpu_count; i++)
		if (!node_gpu_find(old, new->gpus[i].id))
			event_gpu(daemon, new->gpus[i].id, "appeared", "%s", new->gpus[i].name);
}

static void limits_set(struct daemon *daemon)
{
	placement_limits_default(daemon->node, &daemon->limits);
	if (daemon->config.has_placement)
		daemon->limits.policy = daemon->config.placement;
	daemon->limits.allow_unisolated = daemon->config.allow_unisolated;
}

void config_apply(struct daemon *daemon)
{
	limits_set(daemon);
	daemon->places.slice_ms = daemon->config.slice_ms;
	store_keep(daemon->store, daemon->config.events_kept, daemon->config.leases_kept);
}

/* From its files: some milliseconds. The ledger looks into the node: both change together. */
static int node_renew(struct daemon *daemon, struct error *e)
{
	const struct node_options options = { .root = daemon->options.root,
					      .vulkan = &daemon->vulkan,
					      .known = daemon->ids.items,
					      .known_count = daemon->ids.count };
	struct node *node = NULL, *old = daemon->node;
	int err = node_read(&options, &node, e);

	if (err)
		return err;
	ids_remember(daemon, node);
	if (old && node_equal(old, node)) {
		node_free(node);
		return 0;
	}
	daemon->node = node;
	if (!old)
		limits_set(daemon);
	err = daemon_account(daemon, e);
	if (err) {
		daemon->node = old;
		node_free(node);
		return err;
	}
	if (old)
		gpus_tell(daemon, old, node);
	node_free(old);
	return 0;
}

static int vulkan_work(void *opaque, void *result, struct error *e)
{
	return node_vulkan_read(NODE_VULKAN_TIMEOUT_MS, result, e);
}

static void vulkan_done(void *opaque, int err, const void *result, const struct error *why)
{
	struct daemon *daemon = opaque;
	struct error e = { 0 };

	daemon->look = NULL;
	if (err)
		log_warn("Vulkan: %s", why->text);
	else
		memcpy(&daemon->vulkan, result, sizeof(daemon->vulkan));
	if (daemon->look_again ? daemon_look(daemon, &e) : node_renew(daemon, &e))
		log_error("the machine: %s", e.text);
}

int daemon_look(struct daemon *daemon, struct error *e)
{
	int err = node_renew(daemon, e);

	/* Drivers hang: they are asked by a child, and what they say comes later. */
	daemon->look_again = daemon->look; /* which may have looked before what it is to see */
	if (!err && !daemon->options.vulkan && !daemon->look)
		err = job_run(daemon, vulkan_work, NULL, LOOK_MS, vulkan_done, daemon,
			      &daemon->look, e);
	return err;
}

void daemon_look_again(struct daemon *daemon)
{
	struct error e = { 0 };

	if (!daemon->ending && daemon_look(daemon, &e))
		log_warn("the machine: %s", e.text);
}

static void on_devices(void *opaque)
{
	struct error e = { 0 };

	if (daemon_look(opaque, &e))
		log_error("the machine: %s", e.text);
}

/* At the start it is waited for: who shall be started anew needs a GPU. */
static int machine_begin(struct daemon *daemon, struct error *e)
{
	struct error why = { 0 };

	if (node_ids_load(daemon->ids_path, &daemon->ids, &why))
		log_warn("%s (%s)", why.text, why.next);
	if (daemon->options.vulkan)
		daemon->vulkan = *daemon->options.vulkan;
	else if (node_vulkan_read(NODE_VULKAN_TIMEOUT_MS, &daemon->vulkan, &why))
		log_warn("no GPU can be shared: %s", why.text);
	return node_renew(daemon, e);
}

static int types_begin(struct daemon *daemon, struct error *e)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	char next[256];
	int err;

	if (!findings)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for types");
	err = types_read(&daemon->options, &daemon->types, findings);
	for (unsigned i = 0; i < findings->count; i++)
		if (findings->items[i].level == FINDING_BLOCKER)
			log_warn("types: %s", findings->items[i].fact);
	free(findings);
	if (err || !daemon->types.count) {
		snprintf(next, sizeof(next), "divvy types check%s%.200s",
			 daemon->options.types ? " " : "",
			 daemon->options.types ? daemon->options.types : "");
		for (char *one = strchr(next, ':'); one; one = strchr(one, ':'))
			*one = ' ';
		return error_set(e, ENOENT, "no-types", next, "there are no instance types");
	}
	return 0;
}

/* ---- places ------------------------------------------------------------------------------------------------ */

static int folder(const char *path, mode_t mode, struct error *e)
{
	char copy[4096];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(copy, 0755);
		*slash = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return error_set(e, errno, "no-folder", NULL, "%s: %s", copy, strerror(errno));
	return 0;
}

static char *join(const char *folder_path, const char *leaf)
{
	char *path;

	return asprintf(&path, "%s/%s", folder_path, leaf) < 0 ? NULL : path;
}

/* "/run/divvy", or for a user what XDG's specification of base directories says. */
static char *place(const char *wanted, const char *root_path, const char *variable,
		   const char *home_leaf)
{
	const char *base = getenv(variable), *home = getenv("HOME");
	char *path = NULL;

	if (wanted)
		return realpath(wanted, NULL);
	if (!geteuid())
		return strdup(root_path);
	if (base && base[0] == '/')
		return join(base, "divvy");
	/* Never below /tmp: there a name is whose comes first. */
	if (!home || asprintf(&path, "%s/%s/divvy", home, home_leaf) < 0)
		return NULL;
	return path;
}

static char *own_folder(void)
{
	char *path = realpath("/proc/self/exe", NULL), *slash = path ? strrchr(path, '/') : NULL;

	if (slash)
		*slash = '\0';
	return path;
}

/*
 * Our cgroup, where it has been given to us (Delegate=yes): this process is in a leaf of it, so that the group itself may have controllers
 * for instances' (cgroup v2: no processes in inner groups). systemd puts it there (DelegateSubgroup=), or it goes itself. NULL where
 * there is none: nobody else's is touched.
 */
static char *cgroup_begin(void)
{
	static const char leaf[] = "/daemon";
	char text[4096], path[4200], file[4300], mark[8], *base;
	size_t length;

	if (geteuid() || file_read(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)) < 0 ||
	    strncmp(text, "0::/", 4) != 0)
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	length = strlen(text);
	if (length > sizeof(leaf) + 3 && !strcmp(text + length - strlen(leaf), leaf))
		text[length - strlen(leaf)] = '\0';
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s", text + 3);
	/* systemd's mark on what it gives away. */
	if (getxattr(path, "trusted.delegate", mark, sizeof(mark)) != 1 &&
	    getxattr(path, "user.delegate", mark, sizeof(mark)) != 1)
		return NULL;
	base = strdup(path);
	snprintf(file, sizeof(file), "%s%s", path, leaf);
	if (!base || (mkdir(file, 0755) < 0 && errno != EEXIST)) {
		free(base);
		return NULL;
	}
	snprintf(file, sizeof(file), "%s%s/cgroup.procs", path, leaf);
	if (file_write(AT_FDCWD, file, "0")) {
		free(base);
		return NULL;
	}
	snprintf(file, sizeof(file), "%s/cgroup.subtree_control", path);
	if (file_write(AT_FDCWD, file, "+cpu +memory +pids"))
		log_warn("%s: no controllers: instances run without limits", path);
	return base;
}

static int places_begin(struct daemon *daemon, struct error *e)
{
	const struct daemon_options *options = &daemon->options;
	int err = 0;

	/* Given, they must be absolute afterwards: made first. */
	if (options->state)
		err = folder(options->state, 0711, e);
	if (!err && options->run)
		err = folder(options->run, 0755, e);
	if (err)
		return err;
	daemon->state = place(options->state, "/var/lib/divvy", "XDG_STATE_HOME", ".local/state");
	daemon->run = place(options->run, "/run/divvy", "XDG_RUNTIME_DIR", ".cache");
	daemon->programs = options->programs ? realpath(options->programs, NULL) : own_folder();
	if (!daemon->state || !daemon->run || !daemon->programs)
		return error_set(e, ENOENT, "no-folder", NULL, "a folder cannot be found");
	daemon->bind = join(daemon->state, "bind");
	daemon->instances_state = join(daemon->state, "instances");
	daemon->instances_run = join(daemon->run, "instances");
	daemon->arbiter_socket = join(daemon->run, "arbiter");
	daemon->api_path = join(daemon->run, "api");
	daemon->ids_path = join(daemon->state, "gpu-ids.json");
	if (!daemon->bind || !daemon->instances_state || !daemon->instances_run ||
	    !daemon->arbiter_socket || !daemon->api_path || !daemon->ids_path)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory");
	err = folder(daemon->state, 0711, e);
	if (!err)
		err = folder(daemon->run, 0755, e);
	if (!err)
		err = folder(daemon->bind, 0700, e);
	if (!err)
		err = folder(daemon->instances_state, 0711, e);
	if (!err)
		err = folder(daemon->instances_run, 0711, e);
	daemon->cgroup = cgroup_begin();
	daemon->places = (struct launch_places){ .programs = daemon->programs,
						 .layers = options->layers,
						 .run = daemon->instances_run,
						 .state = daemon->instances_state,
						 .arbiter = daemon->arbiter_socket,
						 .slice_ms = daemon->config.slice_ms,
						 .cgroup = daemon->cgroup };
	return err;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

static const struct daemon_options *defaults(struct daemon_options *options)
{
	if (!options->root)
		options->root = "";
	return options;
}

int daemon_create(const struct daemon_options *options, struct sd_event *event, struct daemon **out,
		  struct error *e)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	uint64_t begun = monotonic_ns(), machine;
	struct error unseen = { 0 };
	int err;

	if (!daemon)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for the daemon");
	daemon->options = *options;
	defaults(&daemon->options);
	daemon->event = event;
	daemon->arbiter.process.pidfd = daemon->arbiter_fd = daemon->run_lock = -1;
	daemon->started_ms = daemon_now_ms();
	json_object_seed(0);
	err = config_read(options->config ? options->config : CONFIG_FILE, options->config != NULL,
			  &daemon->config, e);
	if (!err)
		err = places_begin(daemon, e);
	if (!err)
		err = store_open(daemon->state, &daemon->store, e);
	if (!err) {
		store_keep(daemon->store, daemon->config.events_kept, daemon->config.leases_kept);
		daemon->run_lock = store_lock(daemon->run, e);
		err = MIN(daemon->run_lock, 0);
	}
	if (!err && launch_boot_id(daemon->boot))
		err = error_set(e, EIO, "no-boot-id", NULL,
				"/proc/sys/kernel/random/boot_id cannot be read");
	if (!err)
		err = types_begin(daemon, e);
	/* Before it is read, so that nothing comes between. */
	if (!err && !daemon->options.root[0] &&
	    node_watch_create(event, on_devices, daemon, &daemon->watch, &unseen))
		log_warn("devices that come and go are not seen: %s", unseen.text);
	if (!err)
		err = machine_begin(daemon, e);
	machine = monotonic_ns();
	if (!err)
		err = arbiter_begin(daemon, e);
	if (!err)
		err = reconcile(daemon, e);
	/* The folder is ours: what listens there is left of one that was killed, in the hands of a child that ends. */
	if (!err && unlink(daemon->api_path) < 0 && errno != ENOENT)
		err = error_set(e, errno, "api-socket", NULL, "%s: %s", daemon->api_path,
				strerror(errno));
	if (!err)
		err = http_create(daemon, daemon->api_path, &daemon->http, e);
	if (err) {
		daemon_destroy(daemon);
		return err;
	}
	log_info("time: machine %.1f ms, instances %.1f ms", (double)(machine - begun) / 1e6,
		 (double)(monotonic_ns() - machine) / 1e6);
	event_other(daemon, "daemon", "ready", "%u instance%s, %u GPU%s", daemon->instance_count,
		    daemon->instance_count == 1 ? "" : "s", daemon->node->gpu_count,
		    daemon->node->gpu_count == 1 ? "" : "s");
	*out = daemon;
	return 0;
}

const char *daemon_api_path(const struct daemon *daemon)
{
	return daemon->api_path;
}

void daemon_destroy(struct daemon *daemon)
{
	struct error e = { 0 };

	if (!daemon)
		return;
	daemon->ending = true;
	if (daemon->store && credits_save(daemon, &e))
		log_warn("credits are not kept: %s", e.text);
	/* Those of instances are found undone at the next start; others' are told. */
	for (unsigned i = 0; i < daemon->instance_count; i++)
		instance_quiet(daemon->instances[i]);
	job_end_all(daemon);
	http_destroy(daemon->http);
	daemon->http = NULL;
	node_watch_destroy(daemon->watch);
	sd_event_source_disable_unref(daemon->arbiter_timer);
	sd_event_source_disable_unref(daemon->arbiter_source);
	sd_event_source_disable_unref(daemon->minute_timer);
	sd_event_source_disable_unref(daemon->burial);
	process_forget(&daemon->arbiter);
	fd_close(&daemon->arbiter_fd);
	while (daemon->dead) {
		struct instance *next = daemon->dead->next_dead;

		instance_free(daemon->dead);
		daemon->dead = next;
	}
	for (unsigned i = 0; i < daemon->instance_count; i++)
		instance_free(daemon->instances[i]);
	for (unsigned i = 0; i < daemon->gpu_count; i++)
		free(daemon->gpus[i].busy);
	for (size_t i = 0; i < ARRAY_SIZE(daemon->history); i++)
		json_decref(daemon->history[i]);
	json_decref(daemon->status);
	placement_ledger_destroy(daemon->ledger);
	node_free(daemon->node);
	type_catalogue_free(&daemon->types);
	store_close(daemon->store);
	fd_close(&daemon->run_lock);
	config_free(&daemon->config);
	free(daemon->state);
	free(daemon->run);
	free(daemon->programs);
	free(daemon->bind);
	free(daemon->instances_state);
	free(daemon->instances_run);
	free(daemon->arbiter_socket);
	free(daemon->api_path);
	free(daemon->ids_path);
	free(daemon->cgroup);
	free(daemon);
}
