// SPDX-License-Identifier: Apache-2.0
/* A listening TCP socket at a numeric address. Who connects is nobody yet: what proves him is up to who listens. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"

#define BACKLOG 64

/* "ADDRESS:PORT" or "[ADDRESS]:PORT", cut in place. */
static bool address_cut(char *text, char **address, char **port)
{
	*address = text;
	*port = strrchr(text, ':');
	if (!*port)
		return false;
	*(*port)++ = 0;
	if (**address != '[')
		return !strchr(*address, ':');
	++*address;
	if ((*address)[0] == 0 || (*address)[strlen(*address) - 1] != ']')
		return false;
	(*address)[strlen(*address) - 1] = 0;
	return true;
}

static struct addrinfo *address_find(const char *where)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found = NULL;
	char text[64], *address, *port;

	if (strlen(where) >= sizeof(text))
		return NULL;
	strcpy(text, where);
	if (!address_cut(text, &address, &port) || !*address || !*port ||
	    getaddrinfo(address, port, &hints, &found))
		return NULL;
	return found;
}

bool tcp_listener_ok(const char *where)
{
	struct addrinfo *found = address_find(where);

	if (found)
		freeaddrinfo(found);
	return found;
}

int tcp_listener_open(const char *where, int *out)
{
	struct addrinfo *found = address_find(where);
	const int one = 1;
	int fd, err;

	*out = -1;
	if (!found)
		return -EINVAL;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = fd < 0 ? -errno : 0;
	if (!err && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		     bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0))
		err = -errno;
	freeaddrinfo(found);
	if (err)
		fd_close(&fd);
	else
		*out = fd;
	return err;
}

uint16_t tcp_listener_port(int fd)
{
	struct sockaddr_storage bound = { 0 };
	socklen_t size = sizeof(bound);

	if (getsockname(fd, (struct sockaddr *)&bound, &size) < 0)
		return 0;
	return ntohs(bound.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&bound)->sin6_port
						 : ((const struct sockaddr_in *)&bound)->sin_port);
}
