/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the daemon (instances/openapi.yaml), over its UNIX socket or a network. Private to instances/ and its tests. */
#ifndef INSTANCES_CLI_API_H
#define INSTANCES_CLI_API_H

#include "instances/cli/cli.h"

#define API_SOCKET    "/run/divvy/api"
#define API_BODY_MAX  (64 * MIB)
#define API_LINE_MAX  (64 * KIB)
#define API_PATH_SIZE 512

/* api_socket() - where the daemon is: --api, $DIVVY_API, /run/divvy/api, a user's own ($XDG_RUNTIME_DIR/divvy/api). Returns @path. */
char *api_socket(const struct cli *cli, char path[API_PATH_SIZE]);
/* api_remote() - whether that is https://HOST:PORT. */
bool api_remote(const struct cli *cli);
/* api_there() - whether a daemon answers there (connects, no more). */
bool api_there(const struct cli *cli);

struct api_request {
	const char *method; /* NULL: GET */
	const char *
		path; /* "/instances/web", below /api/v1; its words are the caller's to judge (api_path()) */
	json_t *body;	    /* taken over; NULL: none */
	const char *header; /* "If-Match: ..."; NULL: none */
	unsigned timeout_s; /* 0: cli->patience_s, else 60 */
};

struct api_answer {
	unsigned status;
	json_t *json; /* where it is JSON, the caller's */
	char *bytes;  /* what came, @size bytes and a NUL; the caller's */
	size_t size;
};

/* api_path() - "/instances/" and @name with everything but unreserved characters (RFC 3986) percent-encoded. Returns @path. */
char *api_path(char path[API_PATH_SIZE], const char *folder, const char *name, const char *rest);
/*
 * api_call() - ask, and wait for the answer. A status of 400 or more is an error, with what the daemon said of it.
 * Returns 0 or -errno: "no-daemon", "not-permitted", "api-answer", "api-timeout", and the daemon's codes.
 * api_answer_free() - in any case.
 */
int api_call(struct cli *cli, const struct api_request *request, struct api_answer *answer,
	     struct error *e);
void api_answer_free(struct api_answer *answer);
/* api_get() - api_call() for what is JSON and nothing else. NULL with words. */
json_t *api_get(struct cli *cli, const char *path, struct error *e);

/*
 * api_stream() - a GET whose answer is lines of JSON without end. @line: the object is gone when it returns; not 0 ends it.
 * Returns 0 at its end, or as api_call().
 */
int api_stream(struct cli *cli, const char *path, int (*line)(void *opaque, json_t *json),
	       void *opaque, struct error *e);

/*
 * A connection to something behind the daemon: a console, a display. api_tunnel_open() - at @resource. Errors as api_call()'s.
 * api_tunnel_pump() - bytes both ways between it and the socket @fd, which stays the caller's, until one of them ends.
 * api_tunnel_close() - NULL is fine.
 */
struct api_tunnel;
int api_tunnel_open(struct cli *cli, const char *resource, struct api_tunnel **out,
		    struct error *e);
void api_tunnel_pump(struct api_tunnel *tunnel, int fd);
void api_tunnel_close(struct api_tunnel *tunnel);

/*
 * For tunnel.c. api_curl() - a handle (CURL *) that leads to the daemon's @resource, the caller's.
 * api_unreached() - an error for what libcurl says: @code a CURLcode, @why its words, or "". Returns -errno.
 * api_refused() - an error for a status of 400 or more, or one that was not expected. Returns -errno.
 */
int api_curl(const struct cli *cli, const char *resource, void **curl, struct error *e);
int api_unreached(const struct cli *cli, void *curl, int code, const char *why, struct error *e);
int api_refused(struct cli *cli, const struct api_answer *answer, struct error *e);

#endif
