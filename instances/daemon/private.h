/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the daemon share.
 *
 *   main.c, program.c   the program: options, signals, readiness
 *   daemon.c            made and taken down; the machine, its types, what is taken of it
 *   config.c            divvyd.yaml
 *   job.c               what may take long: a child with a time limit
 *   instance.c          instances, the table of them; their rows
 *   reload.c            what is read again while it runs
 *   define.c            what they are to be
 *   start.c, stop.c     their life, a step at a time
 *   disks.c             room for their disks, and the disks
 *   progress.c          how far it is with what takes long
 *   device.c            whole GPUs and virtual functions: looked at, bound, leased;  device_release.c  reset, looked at, given back
 *   device_mdev.c       mediated devices: made and removed
 *   gpu.c               what is remembered of a GPU, and done with one by an admin
 *   arbiter.c           the arbiter's process, and what it tells of vGPUs; credits
 *   reconcile.c         what is found at the start
 *   events.c            what happened
 *   http.c              requests;  http_peers.c  who is connected;  http_events.c  streams;  http_upgrade.c  what becomes something else
 *   http_remote.c       TCP;  http_tls.c  certificates;  tunnel.c  bytes both ways
 *   api.c               what may be asked, by whom;  api_body.c  in which words
 *   api_instances.c, api_guest.c, api_node.c   the answers;  api_json.c  in which words;  metrics.c
 */
#ifndef INSTANCES_DAEMON_PRIVATE_H
#define INSTANCES_DAEMON_PRIVATE_H

#include <jansson.h>
#include <systemd/sd-event.h>

#include "instances/daemon/daemon.h"
#include "instances/launch/launch.h"
#include "instances/node/node.h"
#include "instances/placement/placement.h"
#include "instances/store/store.h"
#include "instances/types/types.h"

#define INSTANCES_MAX 4096
#define CHANGERS_MAX  256 /* users whose changes are counted at a time */
#define PROCESSES_MAX (LAUNCH_GPUS_MAX + 1)

/* ---- configuration ------------------------------------------------------------------------------ */

#define CONFIG_RULES_MAX	64
#define CONFIG_IMAGES_MAX	16
#define CONFIG_CERTIFICATES_MAX 256

struct config {
	struct {
		bool group; /* @id is a group's */
		uint32_t id;
		enum daemon_role role;
	} rules[CONFIG_RULES_MAX];
	unsigned rule_count, image_count, certificate_count;
	/* Folders that users may take images from: behind all links, and as they are named there. */
	char *images[CONFIG_IMAGES_MAX], *images_written[CONFIG_IMAGES_MAX];
	char *listen; /* ADDRESS:PORT; NULL: no TCP */
	struct {
		char *certificate, *key, *client_ca, *client_crl; /* paths; NULL: none */
	} tls;
	struct config_certificate {
		char *name;   /* the subject's common name, of who connects over TLS */
		uint32_t uid; /* that he is here */
		enum daemon_role role;
	} certificates[CONFIG_CERTIFICATES_MAX];
	bool has_placement;
	enum placement_policy placement;
	uint32_t uid_first, uid_count; /* of instances' processes; 0: none of their own */
	uint32_t instances_per_user;
	uint32_t disk_mib_per_user; /* 0: a quarter of the file system */
	bool thin_disks;	    /* not promised whole */
	uint32_t slice_ms;	    /* of a vGPU's turn */
	uint32_t events_kept, leases_kept;
	uint32_t initial_credits_per_day; /* so often a user gets a type's */
	bool allow_unisolated; /* whole GPUs although the platform does not separate them */
	bool allow_no_reset;   /* and those that cannot be reset go to the next */
};

#define CONFIG_FILE "/etc/divvy/divvyd.yaml"

/* config_read() - defaults, and what @path says. @must: it must be there. "bad-config" with file and line. */
int config_read(const char *path, bool must, struct config *config, struct error *e);
void config_free(struct config *config);
/* config_role() - of who is at the other end of the connected socket @fd, by his user and the groups that he had when he connected. */
struct ucred;
enum daemon_role config_role(const struct config *config, int fd, const struct ucred *peer);
/* config_certificate() - whom the common name of a certificate stands for; NULL: nobody. */
const struct config_certificate *config_certificate(const struct config *config, const char *name);

/* ---- jobs ---------------------------------------------------------------------------------------- */

#define JOB_RESULT_MAX 65536

struct job;
/* In the child: fills up to JOB_RESULT_MAX bytes, aligned for anything. */
typedef int job_work(void *opaque, void *result, struct error *e);
/* In the loop, once. @err and *e are the work's; -ETIMEDOUT "timed-out" where it took too long. @result is gone afterwards. */
typedef void job_done(void *opaque, int err, const void *result, const struct error *e);
int job_run(struct daemon *daemon, job_work *work, void *work_opaque, unsigned timeout_ms,
	    job_done *done, void *done_opaque, struct job **out, struct error *e);
/* job_result() - what the child has written of its result so far: zeroes before that, atomics meanwhile. */
const void *job_result(const struct job *job);
/* The child is killed; @done is not called. NULL is fine. */
void job_cancel(struct job *job);
/* job_lingers() - whether one that was cancelled, or took too long, is not gone yet, of those that job_mark() marked so. 0 is no mark. */
void job_mark(struct job *job, uint64_t mark);
bool job_lingers(const struct daemon *daemon, uint64_t mark);
/* job_tell() - when the daemon ends, @done is told (-ECANCELED): it has something to let go of. */
void job_tell(struct job *job);
void job_end_all(struct daemon *daemon);

/* ---- instances ------------------------------------------------------------------------------------ */

enum step {
	STEP_NONE,
	STEP_BIND,
	STEP_DISKS,
	STEP_ARBITER,
	STEP_VGPU,
	STEP_VMM,
	STEP_POWER,
	STEP_END,   /* the VMM's */
	STEP_GPUS,  /* the vGPUs' end */
	STEP_SWEEP, /* whatever else there is */
	STEP_RESET,
	STEP_DONE, /* to be written down */
	STEPS
};
const char *step_name(enum step step);

struct process {
	char role[16]; /* "": not there */
	struct launch_process process;
	sd_event_source *source;
	bool adopted;
	struct instance *instance; /* NULL: the arbiter */
};

/* What the last reset of a whole GPU said. */
struct device_result {
	unsigned resets, tried; /* functions */
	bool failed;
	bool unbinds;  /* its functions then go back to their driver */
	bool no_reset; /* a function cannot be reset alone: a failure unless that is allowed */
	char link[48], code[48], text[256];
};

struct credit {
	int64_t balance_ns;
	uint64_t usage_ns, charged_ns; /* ever */
	uint64_t seen_ns;	       /* of usage: the arbiter's count at the last look */
	bool live;		       /* the arbiter tells of it now */
	bool known;		       /* it ran before; else it begins with what its type says */
};

struct instance {
	struct daemon *daemon;
	struct store_instance row;
	struct instance_type type;
	bool unreadable; /* what it is to be: it is there to be seen, defined anew, deleted, and ended if it runs */
	json_t *wanted, *definition; /* of the row's texts, once they were shown */
	/* What it has while it is not at rest. */
	bool placed;
	struct placement placement;
	char *image; /* that it was started with; NULL: its row's */
	unsigned part_count;
	struct store_reservation *parts;
	struct process processes[PROCESSES_MAX];
	struct credit credits[LAUNCH_GPUS_MAX];
	struct device_result *results; /* of the dedicated parts, in order; NULL: none yet */
	/* A VMM was let run with them since the start, whichever daemon did it; and since the machine's. */
	bool guest_had, had_this_boot;
	uint64_t life; /* each of its starts has a number of its own; 0: of another daemon's */

	enum step step;
	int64_t change; /* in the journal; 0: none */
	unsigned next;	/* of vGPUs: which one is asked; of signals: which one is sent */
	uint64_t deadline_ns, running_ns;
	sd_event_source *timer, *restart_timer;
	struct launch_request *request;
	struct job *job;
	uint64_t told_ns; /* of its progress */
	/* While its disks are made: all of them, what may still be written to them, what is now. */
	struct {
		uint64_t size_bytes, unwritten_bytes, data_bytes;
	} making;
	/* What a stop is to end in. */
	enum store_state final;
	bool force, restart_after, resume_after;
	unsigned backoff;
	bool dead; /* out of the table, to be freed */
	struct instance *next_dead;
};

bool instance_name_ok(const char *name);
struct instance *instance_find(struct daemon *daemon, const char *name);
/*
 * instance_new() - of a row, which is taken over, also on failure; "too-many-instances" where the table has no room for it.
 * instance_insert() - into the table.
 */
int instance_new(struct daemon *daemon, struct store_instance *row, struct instance **out,
		 struct error *e);
void instance_insert(struct instance *instance);
/* instance_forget() - out of memory, at the loop's next turn. */
void instance_forget(struct instance *instance);
void instance_free(struct instance *instance);
/* instance_save() - its row. */
int instance_save(struct instance *instance, struct error *e);
void instance_error(struct instance *instance, const struct error *e); /* NULL: none */
/* instance_texts() - its row's JSON, parsed once: instance->wanted, ->definition. */
void instance_texts(struct instance *instance);
/* instance_reload() - as its definition says now; at rest, one whose definition cannot be read has failed. */
void instance_reload(struct instance *instance);
void instance_texts_drop(struct instance *instance);
/*
 * definition_read() - a type out of its JSON (NULL: it was none), of the instance @name. "bad-definition", with the key; then *type is empty.
 * instance_type_read() - as the instance is defined.
 */
int definition_read(const json_t *json, const char *name, const char *next,
		    struct instance_type *type, struct error *e);
int instance_type_read(const struct instance *instance, struct instance_type *type,
		       struct error *e);
bool instance_active(const struct instance *instance); /* it has something */
/*
 * instance_define() - as @request says (openapi.yaml, Definition, already checked). @existing: NULL for a new one.
 * @changed: whether anything did
 */
int instance_define(struct daemon *daemon, const char *name, const json_t *request, uint32_t owner,
		    bool transient, struct instance *existing, struct instance **out, bool *changed,
		    struct error *e);
/*
 * instance_user() - the first LAUNCH_UIDS of the pool that nobody has. Without a pool *uid is 0, the daemon's own; a pool that is used up is
 * an error ("no-user-left"): who comes too late does not run as root.
 */
int instance_user(struct daemon *daemon, uint32_t *uid, struct error *e);
/*
 * definition_keep() - what it is started as, type and image, goes into the JSON of where it is placed: what it is to be may change meanwhile. 0 or -ENOMEM.
 * definition_kept() - from there, at the start of the daemon.
 */
int definition_keep(struct instance *instance, json_t *placement);
void definition_kept(struct instance *instance, const json_t *placement);
/* instance_weigh() - another weight in its definition. */
int instance_weigh(struct instance *instance, uint32_t weight, struct error *e);
int instance_delete(struct instance *instance, struct error *e);
struct process *instance_process(struct instance *instance, const char *role);
/* As launch wants it. */
void instance_describe(const struct instance *instance, struct launch_instance *launch);
/*
 * instance_mdev_uuid() - of the mediated device of part @index: the instance's own UUID, marked, so that it is the same at each start, and that
 * what is left of one is known for whose it is.
 * instance_mdev_is() - whether @uuid is one of the instance's.
 */
void instance_mdev_uuid(const struct instance *instance, unsigned index, char uuid[37]);
bool instance_mdev_is(const struct instance *instance, const char *uuid);
void instance_timer(struct instance *instance, uint64_t delay_ms,
		    int (*handler)(sd_event_source *source, uint64_t usec, void *instance));
void instance_quiet(struct instance *instance); /* no timer, question or job any more */
/* process_watch() - hear of its end. */
int process_watch(struct daemon *daemon, struct process *process);
void process_forget(struct process *process);

/* start.c */
int instance_start(struct instance *instance, struct error *e);
void start_continue(struct instance *instance, enum step step);
launch_commit process_commit;

/* disks.c */
void disks_begin(struct instance *instance); /* then STEP_ARBITER, or instance_end() */

/* progress.c */
struct progress {
	const char *what, *unit; /* "disks", "memory": "bytes"; "reset": "functions" */
	uint64_t done, total;
};
/* instance_progress() - of what is done with it now; false: nothing that takes long, or it is not known. */
bool instance_progress(struct instance *instance, struct progress *progress);
/* progress_watch() - every ten seconds an event tells of the step that begins. progress_tell() - one, if the last was so long ago. */
void progress_watch(struct instance *instance);
void progress_tell(struct instance *instance);

/* stop.c */
enum stop_then {
	STOP_STAYS, /* until somebody starts it */
	STOP_RESTARTS,
	STOP_RESUMES, /* it stays so while this daemon lives: the next one starts it, unless it is never to start by itself, or was to stop */
};
/* instance_stop() - by its power button, and by force after @timeout_s, or with @force at once. */
int instance_stop(struct instance *instance, bool force, unsigned timeout_s, enum stop_then then,
		  struct error *e);
/* Something went wrong, or it has ended: all of it is taken down, to end in @final. @e: why; NULL: none. */
void instance_end(struct instance *instance, enum store_state final, const struct error *e);
void stop_continue(struct instance *instance, enum step step);
void instance_process_ended(struct instance *instance, struct process *process);
/* instance_wants_restart() - by its policy, as it ends. */
bool instance_wants_restart(const struct instance *instance);
void instance_restart_later(struct instance *instance);

/* gpu.c */
struct gpu {
	struct store_gpu row;
	char *busy; /* what is done with it now; NULL: nothing */
};
struct gpu *gpu_find(struct daemon *daemon, const char *id, bool make);
/* gpu_busy() - the one whose driver changes now: @id itself, what it is a part of, or a part of it; NULL: none. */
const struct gpu *gpu_busy(const struct daemon *daemon, const char *id);
int gpu_save(struct daemon *daemon, const struct gpu *gpu, struct error *e);
/* gpu_account() - whether anything new is placed on it, in @ledger. */
void gpu_account(struct placement_ledger *ledger, const struct store_gpu *row);
void gpu_quarantine(struct daemon *daemon, const char *id, const char *code, const char *text);
struct http_request;
/* gpu_no_such() - the error for an @id that no GPU has. */
int gpu_no_such(const struct daemon *daemon, const char *id, struct error *e);
/* gpu_do() - @verb: bind, unbind, drain, undrain, release. It is answered, at once or when it is done. */
void gpu_do(struct daemon *daemon, struct http_request *request, const char *id, const char *verb);

/* device.c, device_release.c, device_mdev.c */
#define DEVICE_BIND_MS 30000
void device_prepare(struct instance *instance); /* then STEP_DISKS, or instance_end() */
void device_release(struct instance *instance); /* then STEP_DONE */
/* device_ended() - the leases' end, as instance->results say. Within a transaction. */
int device_ended(struct instance *instance, struct error *e);
/* device_leased() - a function that goes from one tenant to the next; not a mediated device, which is made anew. */
bool device_leased(const struct store_reservation *part);
/*
 * device_mdev_make() - a mediated device of @type, made by the driver of the PCI function @parent; in a child. One of this UUID that is there
 * already was left by an earlier start, and goes first. Errors are mdev_create()'s.
 * device_mdev_remove() - it is no longer there; what was not there is not, either.
 */
int device_mdev_make(const char *root, const char *uuid, const char *parent, const char *type,
		     struct error *e);
int device_mdev_remove(const char *root, const char *uuid, struct error *e);
/* device_orphans() - mediated devices of instances that have nothing are removed, by a child. */
void device_orphans(struct daemon *daemon);
/* device_on_vfio() - whether a driver of VFIO has it. */
bool device_on_vfio(const struct daemon *daemon, const struct pci_address *address);

/* ---- arbiter ---------------------------------------------------------------------------------------- */

struct vgpu_seen { /* what the arbiter told */
	char name[48], gpu[48];
	json_t *json;
	uint64_t used_ns, before_ns; /* graphics; @before_ns: ten seconds ago */
};

/* arbiter_ensure() - it runs or is started. Returns 1 when it answers, 0: not yet, -errno. */
int arbiter_ensure(struct daemon *daemon, struct error *e);
void arbiter_ended(struct daemon *daemon);
int arbiter_begin(struct daemon *daemon, struct error *e); /* the timers */
/*
 * credits_grant() - what its burst vGPUs begin with that never ran: the type's initial credits, or none where its owner had such too often.
 * It is placed, and its row is there. Committed when it returns 0.
 */
int credits_grant(struct instance *instance, struct error *e);
/* The instance's vGPU has come or gone: what it owns is kept. */
void credits_begin(struct instance *instance);
void credits_end(struct instance *instance);
int credits_save(struct daemon *daemon, struct error *e);
const json_t *vgpu_status(const struct daemon *daemon, const char *name);
/* Parts of a GPU that were used in the last ten seconds; below 0: not known. */
double vgpu_share_got(const struct daemon *daemon, const char *name);
double gpu_utilisation(const struct daemon *daemon, const char *vulkan_name);

/* ---- events ------------------------------------------------------------------------------------------ */

/* It is written down, logged and sent to those who listen. */
void event_instance(struct instance *instance, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void event_gpu(struct daemon *daemon, const char *gpu, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Of a whole GPU that an instance gets or gives back: who may not know of the one hears nothing. */
void event_lease(struct instance *instance, const char *gpu, const char *code);
void event_other(struct daemon *daemon, const char *kind, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
char *event_line(const struct store_event *event); /* JSON and a newline, malloc()ed */

/* ---- the daemon ----------------------------------------------------------------------------------------- */

struct http;

struct daemon {
	struct daemon_options options;
	sd_event *event;
	struct store *store;
	struct config config;
	char *state, *run, *programs, *bind, *instances_state, *instances_run, *arbiter_socket,
		*api_path, *cgroup, *ids_path;
	struct launch_places places;
	char boot[37];
	int run_lock;
	int64_t started_ms;
	bool ending;

	struct type_catalogue types;
	struct node_vulkan vulkan;
	struct node_ids ids; /* that GPUs were given, as in the file at ids_path */
	struct node *node;
	struct placement_ledger *ledger;
	struct placement_limits limits;
	struct node_watch *watch;
	struct job *look, *jobs;
	uint64_t lives; /* starts, of all instances */
	bool look_again;

	unsigned instance_count, gpu_count;
	struct instance *instances[INSTANCES_MAX]; /* by name */
	struct gpu gpus[NODE_GPUS_MAX];
	struct instance *dead;
	sd_event_source *burial;

	struct process arbiter;
	bool arbiter_answers;
	int arbiter_fd; /* a question is out */
	uint64_t arbiter_asked_ns, seen_ns[11];
	unsigned seen_at;
	sd_event_source *arbiter_timer, *arbiter_source, *minute_timer;
	json_t *status; /* its last answer; NULL: none */
	json_t *history[11];
	uint64_t restarts_arbiter;

	struct http *http;
	/* Users who change something, each with when he has all of his changes again (api.c). */
	struct changer {
		uint32_t uid;
		uint64_t rested_ns;
	} changers[CHANGERS_MAX];
};

/* daemon_look() - read the machine again, in a child where drivers are asked. */
int daemon_look(struct daemon *daemon, struct error *e);
/* daemon_look_again() - other drivers have its devices now, or none; where there is no udev nobody else tells. */
void daemon_look_again(struct daemon *daemon);
/* config_apply() - what of the configuration others hold a copy of. */
void config_apply(struct daemon *daemon);
/* types_read() - all there are; what is wrong with some is in @findings. Returns 0 or -ENOMEM. */
int types_read(const struct daemon_options *options, struct type_catalogue *types,
	       struct findings *findings);
/* daemon_account() - a new ledger of what is taken. */
int daemon_account(struct daemon *daemon, struct error *e);
int64_t daemon_now_ms(void); /* UTC */
int reconcile(struct daemon *daemon, struct error *e);

/* ---- http ------------------------------------------------------------------------------------------------- */

#define HTTP_BODY_MAX (64 * KIB)

struct upgrade;
struct http_request {
	struct daemon *daemon;
	const char *method, *path;
	const char *if_match, *if_none_match; /* headers; NULL */
	const char *since, *follow;	      /* arguments; NULL */
	bool wants_tunnel;		      /* Connection: Upgrade, Upgrade: tcp */
	char *body;			      /* NUL-terminated */
	size_t size;
	uint32_t uid;
	enum daemon_role role;
	bool unknown; /* his certificate's name is nobody's here */
	/* http.c's: */
	void *connection;
	bool answered, suspended, too_large, last;
	struct http_request *next;
	struct upgrade *upgrade;
	void *response;
	unsigned status;
	char *tag; /* ETag */
};

int http_create(struct daemon *daemon, const char *path, struct http **out, struct error *e);
void http_destroy(struct http *http);
/* http_json(), http_bytes(), http_error() - answer it, at once or later; @json, @bytes are taken over. */
void http_json(struct http_request *request, unsigned status, json_t *json);
void http_bytes(struct http_request *request, unsigned status, const char *type, char *bytes,
		size_t size);
void http_error(struct http_request *request, unsigned status, const struct error *e);
void http_failed(struct http_request *request,
		 const struct error *e);	/* the status fits its errno */
void http_stream(struct http_request *request); /* events */
/* http_tunnel() - 101, and from then on bytes both ways between the client and @fd, which is taken over. */
void http_tunnel(struct http_request *request, int fd);
/* http_large() - whether one more large answer may be made for this user; it counts until it was sent, or could not be. */
bool http_large(struct http_request *request);
/* http_event() - to all who listen. */
void http_event(struct http *http, const struct store_event *event);

/* api_handle() - every request ends in an answer, or keeps the request for one. */
void api_handle(struct http_request *request);
json_t *api_instance(struct instance *instance);
/* @request: who asks; a user sees no others' instances. NULL: all is shown. */
json_t *api_gpu(struct daemon *daemon, const struct http_request *request,
		const struct node_gpu *gpu);
json_t *api_vgpus(struct daemon *daemon, const struct http_request *request);
json_t *api_node(struct daemon *daemon, const struct http_request *request);
json_t *api_type(struct daemon *daemon, const struct instance_type *type);
json_t *api_time(int64_t ms); /* null for 0 */
json_t *api_findings(const struct findings *findings);
json_t *api_lease(const struct store_lease *lease);
/* api_may() - whether who asks may see (@change: and change) it. */
bool api_may(const struct http_request *request, const struct instance *instance, bool change);
char *metrics_text(const struct http_request *request, size_t *size);

#endif
