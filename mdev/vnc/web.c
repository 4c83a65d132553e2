// SPDX-License-Identifier: Apache-2.0
/*
 * web: a browser's way in: the upgrade of an HTTP request (RFC 6455, 4.2) and the frames that follow (5.2). RFB is the payload of
 * binary frames, whose borders mean nothing; it is taken as it comes, so that no frame is too long to be held.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <gnutls/crypto.h>

#include "mdev/vnc/private.h"

#define REQUEST_MAX (4 * KIB)
#define KEY_LENGTH  24 /* 16 bytes in base64 */

enum {
	CONTINUED,
	TEXT,
	BINARY,
	CLOSE = 8,
	PING,
	PONG
};

/* The value of a header field in the request's lines, cut of blanks, in @value; "" when there is none, or too long a one. */
static void field(const char *lines, const char *name, char *value, size_t size)
{
	const size_t length = strlen(name);

	*value = 0;
	for (const char *line = lines; (line = strstr(line, "\r\n"));) {
		const char *end;

		line += 2;
		if (strncasecmp(line, name, length) || line[length] != ':')
			continue;
		line += length + 1;
		line += strspn(line, " \t");
		end = line + strcspn(line, "\r\n");
		while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		if ((size_t)(end - line) < size)
			snprintf(value, size, "%.*s", (int)(end - line), line);
		return;
	}
}

/* Whether the list @value has @word. */
static bool lists(const char *value, const char *word)
{
	const size_t length = strlen(word);

	while (*value) {
		value += strspn(value, ", \t");
		if (!strncasecmp(value, word, length) && strchr(", \t", value[length]))
			return true; /* strchr() finds the end too */
		value += strcspn(value, ",");
	}
	return false;
}

/* 4.2.2: what proves that the request was understood. */
static int accept_key(const char *key, char out[32])
{
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	gnutls_datum_t hash, text = { 0 };
	char joined[KEY_LENGTH + sizeof(magic)];
	uint8_t digest[20];

	snprintf(joined, sizeof(joined), "%s%s", key, magic);
	hash = (gnutls_datum_t){ digest, sizeof(digest) };
	if (gnutls_hash_fast(GNUTLS_DIG_SHA1, joined, strlen(joined), digest) < 0 ||
	    gnutls_base64_encode2(&hash, &text) < 0)
		return -ENOMEM;
	snprintf(out, 32, "%.*s", (int)text.size, (const char *)text.data);
	gnutls_free(text.data);
	return 0;
}

/*
 * A browser says of which page it is (RFC 6454). Where no password is asked for, a page of somebody else's must not get through to
 * a place that its reader can reach, such as a port that SSH forwards; one of the same host as the place (a proxy's) may. Who
 * says nothing is no browser.
 */
static bool is_same_origin(const char *request)
{
	char origin[256], host[256];
	const char *at;

	field(request, "Origin", origin, sizeof(origin));
	field(request, "Host", host, sizeof(host));
	at = strstr(origin, "://");
	if (!*origin)
		return !strcasestr(request, "\r\nOrigin:");
	return at && *host && !strcasecmp(at + 3, host);
}

int vnc_web_upgrade(struct vnc_channel *channel, bool any_origin)
{
	static const char refusal[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
				      "Content-Length: 0\r\n\r\n";
	char request[REQUEST_MAX + 1], key[KEY_LENGTH + 1], value[256], proof[32], reply[256];
	const char *end;
	size_t size;
	int err;

	size = MIN(channel->in_size, (size_t)REQUEST_MAX);
	memcpy(request, channel->in, size);
	request[size] = 0;
	if (strlen(request) != size)
		return -EPROTO;
	end = strstr(request, "\r\n\r\n");
	if (!end)
		return size == REQUEST_MAX ? -EPROTO : -EAGAIN;
	/* A client waits for the answer before it goes on. */
	size = (size_t)(end + 4 - request);
	if (size != channel->in_size || strncmp(request, "GET /", 5))
		return -EPROTO;
	vnc_channel_take(channel, size);
	field(request, "Sec-WebSocket-Key", key, sizeof(key));
	field(request, "Sec-WebSocket-Version", value, sizeof(value));
	err = strlen(key) != KEY_LENGTH || strcmp(value, "13") ? -EPROTO : 0;
	field(request, "Upgrade", value, sizeof(value));
	if (!lists(value, "websocket"))
		err = -EPROTO;
	if (!any_origin && !is_same_origin(request))
		err = -EPERM;
	if (err) {
		vnc_channel_write(channel, refusal, sizeof(refusal) - 1);
		return err;
	}
	err = accept_key(key, proof);
	if (err)
		return err;
	field(request, "Sec-WebSocket-Protocol", value, sizeof(value));
	snprintf(reply, sizeof(reply),
		 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Accept: %s\r\n%s\r\n",
		 proof, lists(value, "binary") ? "Sec-WebSocket-Protocol: binary\r\n" : "");
	err = vnc_channel_write(channel, reply, strlen(reply));
	channel->web = true;
	return err;
}

/* ---- frames ------------------------------------------------------------------------------------- */

size_t vnc_web_header(uint8_t header[10], unsigned opcode, size_t size)
{
	header[0] = (uint8_t)(0x80 | opcode);
	if (size < 126) {
		header[1] = (uint8_t)size;
		return 2;
	}
	if (size < 65536) {
		header[1] = 126;
		vnc_put16(header + 2, (uint32_t)size);
		return 4;
	}
	header[1] = 127;
	vnc_put32(vnc_put32(header + 2, (uint32_t)((uint64_t)size >> 32)), (uint32_t)size);
	return 10;
}

/* One byte of a header more. Returns 0 or -errno. */
static int header_byte(struct vnc_frame *frame, uint8_t byte)
{
	const uint8_t *header = frame->header;
	unsigned length, need = 2 + 4; /* a client's is masked (5.1) */

	frame->header[frame->header_size++] = byte;
	if (frame->header_size < 2)
		return 0;
	length = header[1] & 0x7f;
	need += length == 126 ? 2 : length == 127 ? 8 : 0;
	if (frame->header_size < need)
		return 0;
	frame->opcode = header[0] & 0x0f;
	if (header[0] & 0x70 || !(header[1] & 0x80))
		return -EPROTO;
	if (frame->opcode != CONTINUED && frame->opcode != BINARY &&
	    (frame->opcode < CLOSE || frame->opcode > PONG))
		return -EPROTO;
	frame->left = length;
	if (length == 126)
		frame->left = vnc_get16(header + 2);
	else if (length == 127)
		frame->left = (uint64_t)vnc_get32(header + 2) << 32 | vnc_get32(header + 6);
	if (frame->left >> 63 ||
	    (frame->opcode >= CLOSE && (length > sizeof(frame->control) || !(header[0] & 0x80))))
		return -EPROTO;
	memcpy(frame->mask, header + need - 4, 4);
	frame->mask_at = 0;
	frame->control_size = 0;
	frame->header_size = 0;
	frame->inside = true;
	return 0;
}

static int frame_end(struct vnc_channel *channel)
{
	struct vnc_frame *frame = &channel->frame;
	uint8_t reply[2 + sizeof(frame->control)];
	size_t size;
	int err;

	frame->inside = false;
	if (frame->opcode == CLOSE)
		return -EPIPE;
	/* Who does not read its answers gets none. */
	if (frame->opcode != PING || !vnc_channel_idle(channel))
		return 0;
	size = vnc_web_header(reply, PONG, frame->control_size);
	memcpy(reply + size, frame->control, frame->control_size);
	channel->web = false;
	err = vnc_channel_write(channel, reply, size + frame->control_size);
	channel->web = true;
	return err;
}

int vnc_web_unwrap(struct vnc_channel *channel, uint8_t *data, size_t size)
{
	struct vnc_frame *frame = &channel->frame;
	int err = 0;

	for (size_t at = 0; at < size && !err;) {
		size_t part;

		if (!frame->inside) {
			err = header_byte(frame, data[at++]);
			if (err || !frame->inside || frame->left)
				continue;
			err = frame_end(channel);
			continue;
		}
		part = (size_t)MIN((uint64_t)(size - at), frame->left);
		for (size_t i = 0; i < part; i++)
			data[at + i] ^= frame->mask[frame->mask_at++ % 4];
		if (frame->opcode < CLOSE) {
			memcpy(channel->in + channel->in_size, data + at, part);
			channel->in_size += part;
		} else {
			memcpy(frame->control + frame->control_size, data + at, part);
			frame->control_size += (uint8_t)part;
		}
		at += part;
		frame->left -= part;
		if (!frame->left)
			err = frame_end(channel);
	}
	return err;
}
