/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the launcher share: command.c (words), process.c (spawning, finding), group.c (cgroups). Private to instances/launch/. */
#ifndef INSTANCES_LAUNCH_LAUNCH_PRIVATE_H
#define INSTANCES_LAUNCH_LAUNCH_PRIVATE_H

#include "instances/launch/launch.h"

/* A command line, built up; what does not fit is remembered and refused at the end. */
struct command {
	char *words[LAUNCH_WORDS_MAX + 1]; /* malloc()ed, NULL at the end */
	unsigned count;
	bool failed;
};
void command_word(struct command *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void command_free(struct command *command);

/* What a process gets besides its words. */
struct surroundings {
	const char *node;     /* DIVVY_NODE: the state folder */
	const char *instance; /* DIVVY_INSTANCE: its uuid, or "arbiter" */
	const char *group;    /* its cgroup's folder; "": none */
	const char *output;   /* file for stdout and stderr, appended to */
};
int process_spawn(const struct command *command, const struct surroundings *surroundings,
		  const char *role, launch_commit *commit, void *opaque,
		  struct launch_process *process, struct error *e);

/* launch_file_failed() - "disk-full", or "image", at @path. Returns -@err. */
int launch_file_failed(struct error *e, int err, const char *path);
/*
 * disk_measure() - adds what disk_make() would make and write of it at once.
 * disk_make() - the disk @to, @bytes at least: a clone of the file @from, "": empty. @progress: NULL, or what is copied is added to it.
 * @left: as large it may be, at most; what it takes is taken from that. -ESTALE: it is larger
 */
int disk_measure(const char *from, uint64_t bytes, struct launch_room *room, struct error *e);
int disk_make(const char *from, const char *to, uint64_t bytes, uint64_t *left,
	      struct launch_progress *progress, struct error *e);

/* The instance's cgroup with its limits; path[0] is '\0' where there are none. */
void group_make(const struct launch_places *places, const struct launch_instance *instance,
		char path[4096]);
void group_path(const struct launch_places *places, const char *name, const char *uuid,
		char path[4096]);
/* SIGKILL for all of it; removed once it is empty. Returns how many processes there were. */
unsigned group_kill(const char *path);

#endif
