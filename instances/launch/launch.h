/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch: the processes of one instance. Their command lines, spawned with as little as each needs, found again by whoever comes after
 * the one that spawned them, and ended without a rest.
 *
 *     divvy run-native --share 25% ... -- divvy-vgpu      one a vGPU
 *     divvy-vmm                                           the VM
 *
 * Each below a small process (`divvyd keep`) that keeps its log short and writes down how it ended. None of them dies with whoever spawned
 * it, and none needs it. Used by divvyd and by `divvy run` without one.
 */
#ifndef INSTANCES_LAUNCH_LAUNCH_H
#define INSTANCES_LAUNCH_LAUNCH_H

#include "base/base.h"

#define LAUNCH_GPUS_MAX	 16
#define LAUNCH_HEADS_MAX 4
#define LAUNCH_UIDS	 4
#define LAUNCH_WORDS_MAX 160

struct sd_event;

/* Where programs and files are. Strings are borrowed. */
struct launch_places {
	const char *programs; /* folder of divvy, divvyd, divvy-vgpu, divvy-vmm */
	const char *layers;   /* of the Vulkan layer's manifest; NULL: divvy finds it */
	const char *run;      /* "/run/divvy/instances": sockets, one folder an instance */
	const char *state; /* "/var/lib/divvy/instances": disks, the log, one folder an instance */
	const char *arbiter; /* socket */
	uint32_t slice_ms;   /* how long its turns are; 0: as it finds right */
	const char *cgroup;  /* a folder of cgroup v2 that is ours; NULL: none */
};

struct launch_gpu {
	/* dedicated: PCI addresses of its functions, or the UUID of a mediated device; vGPU: none */
	unsigned function_count;
	struct pci_address functions[8];
	char mdev[UUID_TEXT_SIZE];
	bool dedicated;
	/* vGPU, as divvy run-native takes it */
	char gpu[48];	 /* "": the only one */
	char policy[16]; /* "fixed_share" ... */
	uint32_t share_ppm, elastic_ppm, weight;
	uint64_t credit_max_ns, surplus_max_ns,
		credit_ns; /* burst; @credit_ns: what it begins with */
	uint64_t vram_bytes;
	unsigned head_count;
	struct {
		unsigned width, height;
	} heads[LAUNCH_HEADS_MAX];
};

/* One instance as it is to run. */
struct launch_instance {
	char name[48], uuid[37];
	const char *image; /* folder with guest.conf */
	unsigned vcpus;
	uint64_t memory_bytes;
	char huge_pages[4]; /* "", "2M", "1G" */
	int numa_node;	    /* of the host; -1: any */
	unsigned gpu_count;
	struct launch_gpu gpus[LAUNCH_GPUS_MAX];
	unsigned
		disk_count; /* of the type: the image's in their order are made so large, further ones are empty */
	uint64_t disk_bytes[8];
	/* Whether its image was measured: the disks that are made now have so many bytes together, or are refused. */
	bool disks_measured;
	uint64_t disk_most_bytes;
	unsigned nic_count;
	char nics[8][40]; /* "user", "tap=NAME" */
	/* The first of LAUNCH_UIDS of its own: the VMM's, its vGPUs', what executes the guest's commands. 0: all are the caller's. */
	uint32_t uid;
};

/*
 * launch_take_share() - policy, share, weight and credits of a vGPU, by its entry in the type.
 * launch_take_type() - all that an instance has by its type but where its GPUs are: CPUs, memory, disks, interfaces, and the heads, which
 * are the first vGPU's. Its name and its GPUs are known by then.
 */
struct type_gpu;
struct instance_type;
void launch_take_share(struct launch_gpu *gpu, const struct type_gpu *type);
void launch_take_type(struct launch_instance *instance, const struct instance_type *type);

/* A process as it is known over restarts. */
struct launch_process {
	int32_t pid;
	uint64_t start_time; /* 0: none */
	int pidfd;	     /* -1: not open */
};

/* launch_boot_id() - of this boot of the machine. */
int launch_boot_id(char id[37]);

/*
 * launch_folders() - make the instance's folders below run and state, with its owner; idempotent.
 * launch_folders_remove() - remove the one below run; @all: and the one below state, with its disks.
 */
int launch_folders(const struct launch_places *places, const struct launch_instance *instance,
		   struct error *e);
int launch_folders_remove(const struct launch_places *places, const char *name, bool all,
			  struct error *e);
/* What disks take. */
struct launch_room {
	uint64_t size_bytes; /* as long as they are, holes and all: what may be in them one day */
	uint64_t data_bytes; /* of that written, or to be written at once */
};
/* How far a clone is: atomics, for whoever shares its memory; @step is called after each piece (NULL: nothing is). */
struct launch_progress {
	uint64_t done_bytes, total_bytes;
	void (*step)(void *opaque);
	void *opaque;
};
/*
 * launch_disks() - writable disks of the image are the instance's own: cloned below state (FICLONE, else copied) where they are not there
 * yet, and a guest.conf written that names them. May take long; to be run where one can wait, and be killed. A clone that is cut off leaves
 * no disk. @progress: NULL, or zeroes but for @step.
 * launch_disks_measure() - what it would make; the image may lie where one waits for it.
 * launch_disks_held() - what the disks take that the instance @name has.
 */
int launch_disks(const struct launch_places *places, const struct launch_instance *instance,
		 struct launch_progress *progress, struct error *e);
int launch_disks_measure(const struct launch_places *places, const struct launch_instance *instance,
			 struct launch_room *room, struct error *e);
void launch_disks_held(const struct launch_places *places, const char *name,
		       struct launch_room *room);

/*
 * launch_spawn_*() - fork a process that waits; @commit is told its pid and start time and writes them down; when it returns 0
 * the process runs on, otherwise, or when the caller dies, it ends. *process is then the caller's (its pidfd to be closed).
 * Returns 0 or -errno: "program-not-started", or what @commit said.
 */
typedef int launch_commit(void *opaque, const char *role, const struct launch_process *process,
			  struct error *e);
int launch_spawn_arbiter(const struct launch_places *places, launch_commit *commit, void *opaque,
			 struct launch_process *process, struct error *e);
int launch_spawn_vgpu(const struct launch_places *places, const struct launch_instance *instance,
		      unsigned gpu, launch_commit *commit, void *opaque,
		      struct launch_process *process, struct error *e);
int launch_spawn_vmm(const struct launch_places *places, const struct launch_instance *instance,
		     launch_commit *commit, void *opaque, struct launch_process *process,
		     struct error *e);

/* launch_vgpu_name() - what the arbiter calls it: "NAME/0". */
void launch_vgpu_name(const char *instance, unsigned gpu, char name[48]);
/* launch_path() - a file of the instance's below run: "vmm.ctl", "gpu0.sock", "gpu0.ctl", "console". */
void launch_path(const struct launch_places *places, const char *instance, const char *file,
		 char path[108]);

/* launch_viewer_path() - where a head is shown by VNC: "head0.vnc". Only the first vGPU has heads of the type's. */
void launch_viewer_path(const struct launch_places *places, const char *instance, unsigned head,
			char path[108]);

/*
 * launch_find() - whether the process with this pid and start time is there: opens its pidfd.
 * Returns 0, -ESRCH.
 */
int launch_find(struct launch_process *process);
/* launch_kill() - @signal, by pidfd. -ESRCH when it is gone. */
int launch_kill(const struct launch_process *process, int signal);
/* launch_memory_bytes() - what the process below that one has of its memory: shared (its guest's), and huge pages (proc(5), status). */
uint64_t launch_memory_bytes(const struct launch_process *process);
/*
 * launch_sweep() - SIGKILL for every process of the instance, by its cgroup and by DIVVY_INSTANCE in its environment. Returns how many
 * there were: to be called again, a little later, until it is 0.
 * launch_orphans() - the same for all processes that a node with this state folder ever started for instances that are not @known.
 */
unsigned launch_sweep(const struct launch_places *places, const char *name, const char *uuid);
unsigned launch_orphans(const struct launch_places *places,
			bool (*known)(void *opaque, const char *uuid), void *opaque);
/* launch_exit_status() - of the last process of @role, as the one above it wrote it: 0 to 255, or -ENOENT. */
int launch_exit_status(const struct launch_places *places, const char *name, const char *role);
/* launch_log_tail() - the end of the instance's log, at most @size bytes, malloc()ed. */
char *launch_log_tail(const struct launch_places *places, const char *name, size_t size,
		      size_t *length);

/* launch_keep_main() - the process above each: `divvyd keep --log FILE --exit FILE -- PROGRAM ...`. Returns its exit status. */
int launch_keep_main(int argc, char **argv);

/* ---- asking a process by its control socket ----------------------------------------------------------- */

struct launch_request;
/* @status: HTTP's, 0 when nobody answered in time; @body: @size bytes, gone when this returns. The request is over then. */
typedef void launch_answered(void *opaque, unsigned status, const char *body, size_t size);
/*
 * launch_ask() - one HTTP request over the UNIX socket @path, in the loop. @done is called once, never from within launch_ask().
 * @most: bytes of an answer, its head included; one that is longer is none
 * Returns 0 or -errno (@done is not called then).
 */
#define LAUNCH_ANSWER_MAX  (64 * KIB) /* where only the status counts */
#define LAUNCH_PICTURE_MAX (64 * MIB)
/* In the loop, answers have turns with the daemon's own requests (http.h): no peer keeps these waiting, nor do they keep it from being heard. */
#define LAUNCH_ASK_PRIORITY (SD_EVENT_PRIORITY_NORMAL + 10)
int launch_ask(struct sd_event *event, const char *path, const char *method, const char *url,
	       const char *body, size_t most, unsigned timeout_ms, launch_answered *done,
	       void *opaque, struct launch_request **out);
/* launch_ask_cancel() - @done is not called any more. NULL is fine. */
void launch_ask_cancel(struct launch_request *request);

#endif
