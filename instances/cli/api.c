// SPDX-License-Identifier: Apache-2.0
/*
 * The command line's end of the API: libcurl speaks HTTP over the daemon's socket, or over TLS; here is what is asked, how much of an answer is
 * taken, and what an error of it is called.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "instances/cli/api.h"

#define TIMEOUT_S 60
#define CONNECT_S 10

/* What comes in: all of it, or line by line. */
struct intake {
	char *bytes;
	size_t size, room, max;
	bool too_much, no_json;
	int (*line)(void *opaque, json_t *json); /* NULL: all of it */
	void *opaque;
	CURL *curl;
	char why[CURL_ERROR_SIZE];
};

/* Where somebody said that it is; NULL: nobody did. */
static const char *said_where(const struct cli *cli)
{
	const char *said = cli->api ? cli->api : getenv("DIVVY_API");

	return said && said[0] ? said : NULL;
}

char *api_socket(const struct cli *cli, char path[API_PATH_SIZE])
{
	const char *said = said_where(cli), *own = getenv("XDG_RUNTIME_DIR");

	snprintf(path, API_PATH_SIZE, "%s", said ? said : API_SOCKET);
	if (!said && access(API_SOCKET, F_OK) && own && own[0] == '/') {
		snprintf(path, API_PATH_SIZE, "%s/divvy/api", own);
		if (access(path, F_OK))
			snprintf(path, API_PATH_SIZE, API_SOCKET);
	}
	return path;
}

bool api_there(const struct cli *cli)
{
	char path[API_PATH_SIZE];
	int fd = unix_connect(api_socket(cli, path), SOCK_STREAM);
	const bool there = fd >= 0;

	fd_close(&fd);
	return there;
}

/* ---- over a network --------------------------------------------------------------------------------- */

bool api_remote(const struct cli *cli)
{
	char path[API_PATH_SIZE];

	return !strncmp(api_socket(cli, path), "https://", 8);
}

/* --NAME FILE, or the environment's. */
static const char *credential(const struct cli *cli, const char *name, const char *variable)
{
	const char *said = cli_value(cli, name) ? cli_value(cli, name) : getenv(variable);

	return said && said[0] ? said : NULL;
}

static int set_tls(const struct cli *cli, CURL *curl, struct error *e)
{
	const struct {
		const char *name, *variable;
		CURLoption option;
	} files[] = { { "cert", "DIVVY_CERT", CURLOPT_SSLCERT },
		      { "key", "DIVVY_KEY", CURLOPT_SSLKEY },
		      { "cacert", "DIVVY_CACERT", CURLOPT_CAINFO } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		const char *path = credential(cli, files[i].name, files[i].variable);

		/* Without a CA of its own it is the system's that vouch for the node. */
		if (!path && files[i].option == CURLOPT_CAINFO)
			continue;
		if (!path)
			return error_set(
				e, EINVAL, "no-certificate", "divvy help list",
				"over a network the daemon wants a certificate: --%s FILE or $%s",
				files[i].name, files[i].variable);
		if (access(path, R_OK) < 0)
			return error_set(e, errno, "no-certificate", NULL, "--%s %s: %s",
					 files[i].name, path, strerror(errno));
		curl_easy_setopt(curl, files[i].option, path);
	}
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	return 0;
}

/* While the queue of the daemon's socket is full curl's connecting, which does not wait, fails: we wait for a place. */
static curl_socket_t on_socket(void *opaque, curlsocktype purpose, struct curl_sockaddr *address)
{
	const struct timeval patience = { .tv_sec = CONNECT_S }, none = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return CURL_SOCKET_BAD;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	/* Where that fails curl tries as well, and tells why. */
	if (connect(fd, &address->addr, address->addrlen) < 0)
		log_debug("API: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	return fd;
}

static int on_socket_made(void *opaque, curl_socket_t fd, curlsocktype purpose)
{
	struct sockaddr_un peer;
	socklen_t size = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &size) < 0
		       ? CURL_SOCKOPT_OK
		       : CURL_SOCKOPT_ALREADY_CONNECTED;
}

static void set_socket(CURL *curl, const char *path)
{
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, path);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(curl, CURLOPT_SOCKOPTFUNCTION, on_socket_made);
}

int api_curl(const struct cli *cli, const char *resource, void **out, struct error *e)
{
	char url[2 * API_PATH_SIZE], path[API_PATH_SIZE], next[ERROR_NEXT_SIZE];
	const bool remote = api_remote(cli);
	CURL *curl = NULL;
	int err = 0;

	*out = NULL;
	api_socket(cli, path);
	if (!remote && strstr(path, "://"))
		return error_set(
			e, EINVAL, "bad-value",
			error_next(cli->verb ? cli->verb->name : "", "--help", next),
			"%s %s: it takes the path of the daemon's socket, or https://HOST:PORT",
			cli->api ? "--api" : "$DIVVY_API", path);
	while (remote && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	if (!curl_global_init(CURL_GLOBAL_SSL))
		curl = curl_easy_init();
	if (!curl)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory to ask the daemon");
	snprintf(url, sizeof(url), "%s/api/v1%s", remote ? path : "http://divvy", resource);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	if (remote)
		err = set_tls(cli, curl, e);
	else
		set_socket(curl, path);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, remote ? "https" : "http");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
	if (err)
		curl_easy_cleanup(curl);
	else
		*out = curl;
	return err;
}

char *api_path(char path[API_PATH_SIZE], const char *folder, const char *name, const char *rest)
{
	snprintf(path, API_PATH_SIZE, "%s", folder);
	for (; *name; name++) {
		const bool plain = (*name >= '0' && *name <= '9') ||
				   (*name >= 'a' && *name <= 'z') ||
				   (*name >= 'A' && *name <= 'Z') || strchr("-._~:", *name);

		text_append(path, API_PATH_SIZE, plain ? "%c" : "%%%02X",
			    plain ? *name : (unsigned char)*name);
	}
	text_append(path, API_PATH_SIZE, "%s", rest);
	return path;
}

/* ---- taking it in ------------------------------------------------------------------------------- */

static bool intake_grow(struct intake *in, size_t more)
{
	char *grown;
	size_t room;

	if (more > in->max || in->size > in->max - more) {
		in->too_much = true;
		return false;
	}
	if (in->size + more < in->room)
		return true;
	room = MAX(2 * in->room, in->size + more + 1);
	grown = realloc(in->bytes, room);
	if (!grown)
		return false;
	in->bytes = grown;
	in->room = room;
	return true;
}

/* Whole lines are handed on, what is left of them stays. False: the caller has enough, or it was no JSON. */
static bool lines_give(struct intake *in)
{
	char *start = in->bytes, *end;
	bool go_on = true;

	while (go_on && (end = memchr(start, '\n', in->size - (size_t)(start - in->bytes)))) {
		json_t *json = json_loadb(start, (size_t)(end - start), 0, NULL);

		in->no_json |= end != start && !json;
		go_on = end == start || (json && !in->line(in->opaque, json));
		json_decref(json);
		start = end + 1;
	}
	in->size -= (size_t)(start - in->bytes);
	memmove(in->bytes, start, in->size);
	return go_on;
}

static size_t on_bytes(char *bytes, size_t one, size_t count, void *opaque)
{
	struct intake *in = opaque;
	long status = 0;

	if (!intake_grow(in, count))
		return CURL_WRITEFUNC_ERROR;
	memcpy(in->bytes + in->size, bytes, count);
	in->size += count;
	in->bytes[in->size] = '\0';
	curl_easy_getinfo(in->curl, CURLINFO_RESPONSE_CODE, &status);
	if (in->line && status == 200 && !lines_give(in))
		return CURL_WRITEFUNC_ERROR;
	return count;
}

/* ---- errors --------------------------------------------------------------------------------------- */

/* Text of somebody else's, for a terminal. */
static void copy_printable(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
	for (char *c = to; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

static const char *field(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

int api_refused(struct cli *cli, const struct api_answer *answer, struct error *e)
{
	static const struct {
		unsigned status;
		int err;
	} errnos[] = { { 400, EINVAL }, { 401, EACCES }, { 403, EACCES },
		       { 404, ENOENT }, { 409, EBUSY },	 { 412, ESTALE },
		       { 413, E2BIG },	{ 429, EAGAIN }, { 503, EAGAIN } };
	const json_t *error = json_object_get(answer->json, "error");
	int err = EIO;

	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++)
		if (errnos[i].status == answer->status)
			err = errnos[i].err;
	if (!field(error, "code"))
		return error_set(e, err, "api-answer", NULL,
				 "divvyd answered with status %u and no reason", answer->status);
	copy_printable(cli->code, sizeof(cli->code), field(error, "code"));
	error_set(e, err, cli->code, NULL, "%s", "");
	copy_printable(e->text, sizeof(e->text), field(error, "text"));
	copy_printable(e->next, sizeof(e->next), field(error, "next"));
	/* For those who speak HTTP; here it is the verb's options that were wrong. */
	if (!strncmp(e->next, "GET /", 5))
		error_next(cli->verb ? cli->verb->name : "", "--help", e->next);
	return -err;
}

int api_unreached(const struct cli *cli, void *curl, int code, const char *said, struct error *e)
{
	const bool remote = api_remote(cli);
	char path[API_PATH_SIZE], why[CURL_ERROR_SIZE], next[256];
	long number = 0;

	/* It may quote a certificate. */
	copy_printable(why, sizeof(why), said);
	api_socket(cli, path);
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
		curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
		if (number == EACCES)
			return error_set(e, EACCES, "not-permitted",
					 "an admin adds you in /etc/divvy/divvyd.yaml",
					 "%s may not be opened by this user", path);
		/* Another place than the usual one: there is nothing, or nobody there. */
		snprintf(next, sizeof(next), "ls -l %.240s", path);
		return error_set(e, ECONNREFUSED, "no-daemon",
				 remote ? "listen: in the node's /etc/divvy/divvyd.yaml"
				 : said_where(cli) && strcmp(path, API_SOCKET) != 0
					 ? next
					 : "systemctl start divvyd; or run divvyd yourself",
				 "divvyd is not running at %s", path);
	}
	if (code == CURLE_OPERATION_TIMEDOUT)
		return error_set(e, ETIMEDOUT, "api-timeout", "divvy events --since 0",
				 "divvyd at %s did not answer in time", path);
	if (code == CURLE_PEER_FAILED_VERIFICATION)
		return error_set(e, EACCES, "bad-server-certificate",
				 "--cacert FILE: whom the node's certificate is of", "%s: %s", path,
				 why);
	/* It ends the connection, with TLS 1.3 when we think that it is made. */
	if (remote && (code == CURLE_SSL_CONNECT_ERROR || code == CURLE_RECV_ERROR ||
		       code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING))
		return error_set(e, EACCES, "certificate-refused",
				 "journalctl -u divvyd, on the node",
				 "%s let go of us in the handshake: %s", path, why);
	return error_set(e, EPROTO, "api-answer", remote ? NULL : "systemctl status divvyd",
			 "divvyd at %s: %s%s%s", path, curl_easy_strerror(code), why[0] ? ": " : "",
			 why);
}

static int unreached(const struct cli *cli, CURL *curl, CURLcode code, const struct intake *in,
		     struct error *e)
{
	char path[API_PATH_SIZE];

	api_socket(cli, path);
	if (in->no_json)
		return error_set(e, EPROTO, "api-answer", NULL,
				 "divvyd at %s sent a line that is no JSON", path);
	if (in->too_much)
		return error_set(e, E2BIG, "api-answer", NULL, "divvyd's answer is too large");
	return api_unreached(cli, curl, (int)code, in->why, e);
}

/* ---- asking -------------------------------------------------------------------------------------- */

static CURL *prepare(const struct cli *cli, const char *resource, struct intake *in,
		     struct error *e)
{
	CURL *curl;

	if (api_curl(cli, resource, &curl, e))
		return NULL;
	in->curl = curl;
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, in);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, in->why);
	return curl;
}

int api_call(struct cli *cli, const struct api_request *request, struct api_answer *answer,
	     struct error *e)
{
	struct intake in = { .max = API_BODY_MAX };
	CURL *curl = prepare(cli, request->path, &in, e);
	char *body = request->body ? json_dumps(request->body, JSON_COMPACT) : NULL;
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	long status = 0;
	CURLcode code;
	int err = 0;

	memset(answer, 0, sizeof(*answer));
	json_decref(request->body);
	if (request->header)
		headers = curl_slist_append(headers, request->header);
	if (!curl || !headers || (request->body && !body)) {
		err = !curl ? -e->err
			    : error_set(e, ENOMEM, "no-memory", NULL,
					"no memory to ask the daemon");
		goto out;
	}
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT,
			 (long)(request->timeout_s ? request->timeout_s
				: cli->patience_s  ? cli->patience_s
						   : TIMEOUT_S));
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method ? request->method : "GET");
	/* A POST without a body says so. */
	if (body || (request->method && strcmp(request->method, "GET") != 0 &&
		     strcmp(request->method, "DELETE") != 0))
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body ? body : "");
	code = curl_easy_perform(curl);
	if (code) {
		err = unreached(cli, curl, code, &in, e);
		goto out;
	}
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (unsigned)status;
	answer->bytes = in.bytes;
	answer->size = in.size;
	answer->json = in.size && (in.bytes[0] == '{' || in.bytes[0] == '[')
			       ? json_loadb(in.bytes, in.size, 0, NULL)
			       : NULL;
	in.bytes = NULL;
	if (status >= 300 || status < 200)
		err = api_refused(cli, answer, e);
out:
	free(in.bytes);
	free(body);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	if (err)
		api_answer_free(answer);
	return err;
}

void api_answer_free(struct api_answer *answer)
{
	json_decref(answer->json);
	free(answer->bytes);
	memset(answer, 0, sizeof(*answer));
}

json_t *api_get(struct cli *cli, const char *path, struct error *e)
{
	const struct api_request request = { .path = path };
	struct api_answer answer;
	json_t *json = NULL;

	if (api_call(cli, &request, &answer, e))
		return NULL;
	if (json_is_object(answer.json))
		json = json_incref(answer.json);
	else
		error_set(e, EPROTO, "api-answer", NULL, "divvyd's answer to %s is no JSON object",
			  path);
	api_answer_free(&answer);
	return json;
}

int api_stream(struct cli *cli, const char *path, int (*line)(void *opaque, json_t *json),
	       void *opaque, struct error *e)
{
	struct intake in = { .max = API_LINE_MAX, .line = line, .opaque = opaque };
	CURL *curl = prepare(cli, path, &in, e);
	struct api_answer answer = { 0 };
	long status = 0;
	CURLcode code;
	int err = 0;

	if (!curl)
		return -e->err;
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 300) {
		answer.status = (unsigned)status;
		answer.json = json_loadb(in.bytes ? in.bytes : "", in.size, 0, NULL);
		err = api_refused(cli, &answer, e);
		api_answer_free(&answer);
	} else if (code && (code != CURLE_WRITE_ERROR || in.too_much || in.no_json)) {
		err = unreached(cli, curl, code, &in, e);
	}
	free(in.bytes);
	curl_easy_cleanup(curl);
	return err;
}
