// SPDX-License-Identifier: Apache-2.0
/*
 * A console or a display through the API: a GET that the daemon answers 101, and bytes from then on (instances/openapi.yaml). libcurl connects,
 * at the UNIX socket or over TLS; what is said is said here, as its API for HTTP knows no other protocol behind it.
 */
#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "instances/cli/api.h"

#define BUFFER	  (16 * KIB)
#define HEAD_MAX  (8 * KIB)
#define ANSWER_MS 60000
#define FLUSH_MS  2000 /* for what was typed last, when we leave */

struct api_tunnel {
	CURL *curl;
	curl_socket_t socket;
	bool remote;
	char why[CURL_ERROR_SIZE];
};

void api_tunnel_close(struct api_tunnel *tunnel)
{
	if (!tunnel)
		return;
	curl_easy_cleanup(tunnel->curl);
	free(tunnel);
}

/* ---- the beginning ------------------------------------------------------------------------------- */

static bool wait_for(const struct api_tunnel *tunnel, short events)
{
	struct pollfd p = { .fd = tunnel->socket, .events = events };

	return poll(&p, 1, ANSWER_MS) > 0;
}

static CURLcode say(struct api_tunnel *tunnel, const char *text)
{
	CURLcode code = CURLE_OK;
	size_t n;

	for (size_t at = 0, size = strlen(text); at < size && !code; at += n) {
		n = 0;
		code = curl_easy_send(tunnel->curl, text + at, size - at, &n);
		if (code == CURLE_AGAIN)
			code = wait_for(tunnel, POLLOUT) ? CURLE_OK : CURLE_OPERATION_TIMEDOUT;
	}
	return code;
}

/* Up to @size bytes; *got 0: there are no more. */
static CURLcode hear(struct api_tunnel *tunnel, char *bytes, size_t size, size_t *got)
{
	CURLcode code;

	do {
		*got = 0;
		code = curl_easy_recv(tunnel->curl, bytes, size, got);
		if (code == CURLE_AGAIN && !wait_for(tunnel, POLLIN))
			return CURLE_OPERATION_TIMEDOUT;
	} while (code == CURLE_AGAIN);
	return code;
}

/* The answer's head, and not a byte of what is behind it. */
static CURLcode hear_head(struct api_tunnel *tunnel, char head[HEAD_MAX])
{
	CURLcode code = CURLE_OK;
	size_t length = 0, n;

	head[0] = '\0';
	while (length < HEAD_MAX - 1) {
		code = hear(tunnel, head + length, 1, &n);
		if (code || !n)
			return code ? code : CURLE_GOT_NOTHING;
		length += n;
		head[length] = '\0';
		if (length >= 4 && !strcmp(head + length - 4, "\r\n\r\n"))
			return CURLE_OK;
	}
	return CURLE_WEIRD_SERVER_REPLY;
}

/* Not 101: a body says why. */
static int judge(struct cli *cli, struct api_tunnel *tunnel, unsigned status, struct error *e)
{
	struct api_answer answer = { .status = status };
	char *body = malloc(API_LINE_MAX);
	size_t length = 0, n = 0;
	int err;

	while (body && length < API_LINE_MAX &&
	       !hear(tunnel, body + length, API_LINE_MAX - length, &n) && n) {
		length += n;
		answer.json = json_loadb(body, length, 0, NULL);
		if (answer.json)
			break;
	}
	free(body);
	err = api_refused(cli, &answer, e);
	api_answer_free(&answer);
	return err;
}

int api_tunnel_open(struct cli *cli, const char *resource, struct api_tunnel **out, struct error *e)
{
	struct api_tunnel *tunnel = calloc(1, sizeof(*tunnel));
	char text[API_PATH_SIZE + 256], head[HEAD_MAX];
	unsigned status = 0;
	CURLcode code;
	int err;

	*out = NULL;
	if (!tunnel)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory to ask the daemon");
	err = api_curl(cli, resource, (void **)&tunnel->curl, e);
	if (err) {
		free(tunnel);
		return err;
	}
	tunnel->remote = api_remote(cli);
	curl_easy_setopt(tunnel->curl, CURLOPT_ERRORBUFFER, tunnel->why);
	curl_easy_setopt(tunnel->curl, CURLOPT_CONNECT_ONLY, 1L);
	snprintf(
		text, sizeof(text),
		"GET /api/v1%s HTTP/1.1\r\nHost: divvy\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
		resource);
	code = curl_easy_perform(tunnel->curl);
	if (!code)
		code = curl_easy_getinfo(tunnel->curl, CURLINFO_ACTIVESOCKET, &tunnel->socket);
	if (!code)
		code = say(tunnel, text);
	if (!code)
		code = hear_head(tunnel, head);
	if (code)
		err = api_unreached(cli, tunnel->curl, (int)code, tunnel->why, e);
	else if (sscanf(head, "HTTP/1.1 %3u", &status) != 1 || status < 101)
		err = error_set(e, EPROTO, "api-answer", NULL, "divvyd's answer is no HTTP");
	else if (status != 101)
		err = judge(cli, tunnel, status, e);
	if (err)
		api_tunnel_close(tunnel);
	else
		*out = tunnel;
	return err;
}

/* ---- and then ----------------------------------------------------------------------------------------- */

struct buffer {
	char bytes[BUFFER];
	size_t at, size;
};

static bool is_empty(const struct buffer *buffer)
{
	return buffer->at == buffer->size;
}

enum pumped {
	GOES_ON,
	ENDED, /* the daemon's end */
	LEFT   /* ours */
};

/* What the daemon says, to @fd. */
static enum pumped pump_down(struct api_tunnel *tunnel, int fd, struct buffer *down)
{
	CURLcode code = CURLE_OK;
	ssize_t n;
	size_t got;

	do {
		while (!is_empty(down)) {
			n = send(fd, down->bytes + down->at, down->size - down->at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN || errno == EINTR ? GOES_ON : LEFT;
			down->at += (size_t)n;
		}
		down->at = down->size = got = 0;
		code = curl_easy_recv(tunnel->curl, down->bytes, sizeof(down->bytes), &got);
		down->size = got;
	} while (!code && got);
	return code == CURLE_AGAIN ? GOES_ON : ENDED;
}

/* What @fd says, to the daemon. *quiet: it says no more. */
static enum pumped pump_up(struct api_tunnel *tunnel, int fd, struct buffer *up, bool *quiet)
{
	CURLcode code;
	ssize_t n;
	size_t sent;

	for (;;) {
		while (!is_empty(up)) {
			sent = 0;
			code = curl_easy_send(tunnel->curl, up->bytes + up->at, up->size - up->at,
					      &sent);
			if (code)
				return code == CURLE_AGAIN ? GOES_ON : ENDED;
			up->at += sent;
		}
		if (*quiet)
			return GOES_ON;
		up->at = up->size = 0;
		n = recv(fd, up->bytes, sizeof(up->bytes), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return GOES_ON;
		n = MAX(n, 0);
		up->size = (size_t)n;
		/* Over TLS nothing says so: it listens on, and hears nothing. */
		*quiet = n == 0;
		if (*quiet && !tunnel->remote)
			shutdown(tunnel->socket, SHUT_WR);
	}
}

void api_tunnel_pump(struct api_tunnel *tunnel, int fd)
{
	struct buffer *up = calloc(1, sizeof(*up)), *down = calloc(1, sizeof(*down));
	enum pumped how = up && down ? GOES_ON : ENDED;
	bool quiet = false, left = false;

	while (how != ENDED) {
		struct pollfd p[] = { { .fd = tunnel->socket }, { .fd = left ? -1 : fd } };

		how = left ? GOES_ON : pump_down(tunnel, fd, down);
		left |= how == LEFT;
		if (how != ENDED)
			how = pump_up(tunnel, fd, up, &quiet);
		/* What it said last still goes. */
		if (left && quiet && is_empty(up))
			break;
		p[0].events = (short)((!left && is_empty(down) ? POLLIN : 0) |
				      (is_empty(up) ? 0 : POLLOUT));
		p[1].events = (short)((is_empty(down) ? 0 : POLLOUT) |
				      (is_empty(up) && !quiet ? POLLIN : 0));
		if (how != ENDED && poll(p, 2, left ? FLUSH_MS : -1) <= 0 &&
		    (left || errno != EINTR))
			break;
		/* Not a half of it, which is no event: all. */
		left |= (p[1].revents & (POLLHUP | POLLERR)) != 0;
	}
	free(up);
	free(down);
}
