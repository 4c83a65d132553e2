/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the control socket, as simple as can be: one request a connection. After cmocka.h. */
#ifndef TESTS_UNIT_HTTP_CLIENT_H
#define TESTS_UNIT_HTTP_CLIENT_H

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HTTP_TIMEOUT_MS 20000

/* Connected, or -errno. */
static inline int http_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err;

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* All that comes until the other end closes; the status, 0 when it closed without a word. */
static inline unsigned http_receive(int fd, char *text, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t length = 0;
	unsigned status = 0;
	ssize_t n;

	do {
		assert_int_equal(poll(&p, 1, HTTP_TIMEOUT_MS), 1);
		n = recv(fd, text + length, size - 1 - length, 0);
		length += n > 0 ? (size_t)n : 0;
	} while (n > 0 && length < size - 1);
	text[length] = '\0';
	if (sscanf(text, "HTTP/1.1 %u", &status) != 1)
		return 0;
	return status;
}

/* The status; *body (when not NULL) is the answer's JSON, the caller's, NULL when there is none. */
static inline unsigned http(const char *path, const char *method, const char *resource,
			    const char *send_body, json_t **body)
{
	char text[65536], head[512];
	int fd = http_connect(path);
	const char *json;
	unsigned status;

	assert_true(fd >= 0);
	snprintf(head, sizeof(head),
		 "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
		 method, resource, send_body ? strlen(send_body) : 0);
	assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
	if (send_body)
		assert_int_equal(send(fd, send_body, strlen(send_body), MSG_NOSIGNAL),
				 strlen(send_body));
	status = http_receive(fd, text, sizeof(text));
	close(fd);
	json = strstr(text, "\r\n\r\n");
	if (body)
		*body = json ? json_loads(json + 4, 0, NULL) : NULL;
	return status;
}

/* An error's code of an answer, which is let go. */
static inline void http_expect_code(json_t *body, const char *code)
{
	const char *text = json_string_value(json_object_get(body, "code"));

	if (!text || strcmp(text, code))
		fail_msg("\"%s\" instead of \"%s\": %s", text ? text : "(no code)", code,
			 json_string_value(json_object_get(body, "text")));
	json_decref(body);
}

#endif
