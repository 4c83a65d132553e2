// SPDX-License-Identifier: Apache-2.0
/*
 * handshake: from a connection to a viewer that is let in (RFC 6143, 7.1 to 7.3; VeNCrypt 0.2 as rfbproto describes it).
 *
 * What a viewer is offered depends on its channel. A private one (a UNIX socket, or TLS from the first byte, as a browser has it)
 * takes nothing, VNC Authentication or VeNCrypt's Plain; TCP in clear takes VeNCrypt, which brings TLS with a certificate, and
 * VNC Authentication alone only where that was asked for. VNC Authentication looks at 8 bytes of a password, so a longer one is
 * never asked for that way. This is ours, and not libvncserver's, for what it does there: challenges from srandom(time), keys
 * read anew for each connection, and waiting in the middle of a message.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <gnutls/crypto.h>

#include "mdev/vnc/private.h"

enum {
	SECURITY_NONE = 1,
	SECURITY_VNC = 2,
	SECURITY_VENCRYPT = 19,
	SUBTYPE_PLAIN = 256,
	SUBTYPE_X509_VNC = 261,
	SUBTYPE_X509_PLAIN = 262,
	TLS_HANDSHAKE = 0x16, /* the type of a TLS connection's first record */
};

static const char version[] = "RFB 003.008\n";

static int say(struct vnc_viewer *viewer, const void *data, size_t size)
{
	return vnc_channel_write(&viewer->channel, data, size);
}

static int say32(struct vnc_viewer *viewer, uint32_t value)
{
	uint8_t data[4];

	vnc_put32(data, value);
	return say(viewer, data, sizeof(data));
}

static int say_reason(struct vnc_viewer *viewer, const char *text)
{
	int err = say32(viewer, (uint32_t)strlen(text));

	return err ? err : say(viewer, text, strlen(text));
}

/* A step is done: @err, or the next is @stage. */
static int next(struct vnc_viewer *viewer, enum vnc_stage stage, int err)
{
	if (err)
		return err;
	viewer->stage = stage;
	return 1;
}

static bool is_private(const struct vnc_viewer *viewer)
{
	return !viewer->screen->tcp || viewer->channel.tls;
}

/* ---- what is offered ---------------------------------------------------------------------------- */

static unsigned offered(const struct vnc_viewer *viewer, uint8_t types[2])
{
	const struct vnc_server *server = viewer->server;
	unsigned count = 0;

	if (is_private(viewer)) {
		if (!server->has_password) {
			types[0] = SECURITY_NONE;
			return 1;
		}
		types[count++] = SECURITY_VENCRYPT;
		if (vnc_password_short(server))
			types[count++] = SECURITY_VNC;
		return count;
	}
	if (server->has_tls)
		types[count++] = SECURITY_VENCRYPT;
	if (server->plaintext && vnc_password_short(server))
		types[count++] = SECURITY_VNC;
	return count;
}

static bool is_offered(const struct vnc_viewer *viewer, unsigned type)
{
	uint8_t types[2];
	unsigned count = offered(viewer, types);

	return (count > 0 && types[0] == type) || (count > 1 && types[1] == type);
}

static unsigned subtypes(const struct vnc_viewer *viewer, unsigned list[2])
{
	unsigned count = 0;

	if (is_private(viewer)) {
		list[count++] = SUBTYPE_PLAIN;
		return count;
	}
	list[count++] = SUBTYPE_X509_PLAIN;
	if (vnc_password_short(viewer->server))
		list[count++] = SUBTYPE_X509_VNC;
	return count;
}

/* ---- the outcome -------------------------------------------------------------------------------- */

static int refuse(struct vnc_viewer *viewer, const char *why, uint64_t now)
{
	log_limited(LOG_LEVEL_WARN, "vnc: viewer %u (%s) is refused: %s", viewer->number,
		    viewer->peer, why);
	viewer->refusal = why;
	/* Who guesses, waits. */
	viewer->until_ns = now + VNC_REFUSE_NS;
	return next(viewer, VNC_REFUSED, 0);
}

static int allow(struct vnc_viewer *viewer, bool with_result, uint64_t now)
{
	if (viewer->screen->viewers >= VNC_VIEWERS_MAX)
		return refuse(viewer, "too many look already", now);
	return next(viewer, VNC_INIT, with_result ? say32(viewer, 0) : 0);
}

static int challenge(struct vnc_viewer *viewer)
{
	if (gnutls_rnd(GNUTLS_RND_NONCE, viewer->challenge, sizeof(viewer->challenge)) < 0)
		return -EIO;
	return next(viewer, VNC_DES, say(viewer, viewer->challenge, sizeof(viewer->challenge)));
}

static int begin(struct vnc_viewer *viewer, unsigned type, uint64_t now)
{
	static const uint8_t vencrypt[] = { 0, 2 };

	switch (type) {
	case SECURITY_NONE:
		return allow(viewer, viewer->minor >= 8, now);
	case SECURITY_VNC:
		return challenge(viewer);
	default:
		return next(viewer, VNC_VENCRYPT, say(viewer, vencrypt, sizeof(vencrypt)));
	}
}

/* ---- the steps: each is called again until enough has come ----------------------------------------- */

/* A browser speaks first; RFB's viewers wait to be spoken to. */
static int step_sniff(struct vnc_viewer *viewer, uint64_t now)
{
	struct vnc_server *server = viewer->server;
	uint8_t first;
	ssize_t got = recv(viewer->channel.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

	if (got < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	if (!got)
		return -EPIPE;
	if (got < 0 && now < viewer->until_ns)
		return 0;
	if (got > 0 && first == TLS_HANDSHAKE)
		return !server->has_tls
			       ? -EPROTO
			       : next(viewer, VNC_GREET,
				      vnc_channel_secure(&viewer->channel, server->credentials,
							 server->priority));
	if (got > 0 && first == 'G')
		return viewer->screen->tcp && !server->plaintext ? -EPROTO
								 : next(viewer, VNC_UPGRADE, 0);
	return next(viewer, VNC_VERSION, say(viewer, version, sizeof(version) - 1));
}

static int step_greet(struct vnc_viewer *viewer, uint64_t now)
{
	int err = vnc_channel_greet(&viewer->channel);

	return err == -EAGAIN ? 0 : next(viewer, VNC_UPGRADE, err);
}

static int step_upgrade(struct vnc_viewer *viewer, uint64_t now)
{
	int err = vnc_web_upgrade(&viewer->channel, viewer->server->has_password);

	if (!err)
		err = say(viewer, version, sizeof(version) - 1);
	return err == -EAGAIN ? 0 : next(viewer, VNC_VERSION, err);
}

static int step_version(struct vnc_viewer *viewer, uint64_t now)
{
	uint8_t list[3];
	char text[13] = "";
	unsigned major, minor;

	if (viewer->channel.in_size < 12)
		return 0;
	memcpy(text, viewer->channel.in, 12);
	vnc_channel_take(&viewer->channel, 12);
	if (sscanf(text, "RFB %3u.%3u\n", &major, &minor) != 2 || major != 3)
		return -EPROTO;
	/* 7.1.1: what is none of the three is 3.3. */
	viewer->minor = minor >= 8 ? 8 : minor == 7 ? 7 : 3;
	list[0] = (uint8_t)offered(viewer, list + 1);
	if (viewer->minor >= 7)
		return next(viewer, VNC_SECURITY, say(viewer, list, 1u + list[0]));
	if (is_offered(viewer, SECURITY_NONE) || is_offered(viewer, SECURITY_VNC)) {
		const unsigned type =
			is_offered(viewer, SECURITY_NONE) ? SECURITY_NONE : SECURITY_VNC;
		int err = say32(viewer, type);

		return err ? err : begin(viewer, type, now);
	}
	say32(viewer, 0);
	say_reason(viewer, "a viewer that knows RFB 3.8 and VeNCrypt is needed");
	return -EPROTO;
}

static int step_security(struct vnc_viewer *viewer, uint64_t now)
{
	unsigned type;

	if (viewer->channel.in_size < 1)
		return 0;
	type = viewer->channel.in[0];
	vnc_channel_take(&viewer->channel, 1);
	return is_offered(viewer, type) ? begin(viewer, type, now) : -EPROTO;
}

static int step_vencrypt(struct vnc_viewer *viewer, uint64_t now)
{
	uint8_t reply[2 + 2 * 4] = { 0 };
	unsigned list[2], count;
	bool good;

	if (viewer->channel.in_size < 2)
		return 0;
	good = viewer->channel.in[0] == 0 && viewer->channel.in[1] == 2;
	vnc_channel_take(&viewer->channel, 2);
	if (!good) {
		reply[0] = 0xff;
		say(viewer, reply, 1);
		return -EPROTO;
	}
	count = subtypes(viewer, list);
	reply[1] = (uint8_t)count;
	for (unsigned i = 0; i < count; i++)
		vnc_put32(reply + 2 + 4ul * i, list[i]);
	return next(viewer, VNC_SUBTYPE, say(viewer, reply, 2 + 4ul * count));
}

static int step_subtype(struct vnc_viewer *viewer, uint64_t now)
{
	unsigned list[2], count = subtypes(viewer, list), chosen;
	const uint8_t one = 1;
	int err;

	if (viewer->channel.in_size < 4)
		return 0;
	chosen = vnc_get32(viewer->channel.in);
	vnc_channel_take(&viewer->channel, 4);
	if (chosen != list[0] && (count < 2 || chosen != list[1]))
		return -EPROTO;
	if (chosen == SUBTYPE_PLAIN)
		return next(viewer, VNC_PLAIN, 0);
	viewer->after_tls = chosen;
	err = say(viewer, &one, 1);
	if (!err && !vnc_channel_idle(&viewer->channel))
		err = -EPIPE; /* a socket that takes no byte now never will be a viewer's */
	if (!err)
		err = vnc_channel_secure(&viewer->channel, viewer->server->credentials,
					 viewer->server->priority);
	return next(viewer, VNC_SECURE, err);
}

static int step_secure(struct vnc_viewer *viewer, uint64_t now)
{
	int err = vnc_channel_greet(&viewer->channel);

	if (err == -EAGAIN)
		return 0;
	if (!err && viewer->after_tls == SUBTYPE_X509_VNC)
		return challenge(viewer);
	return next(viewer, VNC_PLAIN, err);
}

/* Whether the @size bytes at @given are the password, in a time that does not tell how much of it is right. */
static bool is_password(const struct vnc_server *server, const uint8_t *given, size_t size)
{
	char padded[VNC_PASSWORD_MAX + 1] = { 0 };

	memcpy(padded, given, MIN(size, (size_t)VNC_PASSWORD_MAX));
	return !gnutls_memcmp(padded, server->password, sizeof(padded)) &&
	       strlen(server->password) == size;
}

static int step_plain(struct vnc_viewer *viewer, uint64_t now)
{
	const uint8_t *in = viewer->channel.in;
	uint32_t name, password;
	bool good;

	if (viewer->channel.in_size < 8)
		return 0;
	name = vnc_get32(in);
	password = vnc_get32(in + 4);
	if (name > VNC_PASSWORD_MAX || password > VNC_PASSWORD_MAX)
		return -EPROTO;
	if (viewer->channel.in_size < 8ul + name + password)
		return 0;
	/* One password, and so no names: any will do. */
	good = is_password(viewer->server, in + 8 + name, password);
	gnutls_memset(viewer->channel.in, 0, 8ul + name + password);
	vnc_channel_take(&viewer->channel, 8ul + name + password);
	return good ? allow(viewer, true, now) : refuse(viewer, "wrong password", now);
}

static int step_des(struct vnc_viewer *viewer, uint64_t now)
{
	uint8_t expected[sizeof(viewer->challenge)];
	bool good;

	if (viewer->channel.in_size < sizeof(expected))
		return 0;
	memcpy(expected, viewer->challenge, sizeof(expected));
	rfbEncryptBytes(expected, viewer->server->password);
	good = !gnutls_memcmp(expected, viewer->channel.in, sizeof(expected));
	vnc_channel_take(&viewer->channel, sizeof(expected));
	return good ? allow(viewer, true, now) : refuse(viewer, "wrong password", now);
}

static int step_refused(struct vnc_viewer *viewer, uint64_t now)
{
	if (now < viewer->until_ns)
		return 0;
	say32(viewer, 1);
	if (viewer->minor >= 8)
		say_reason(viewer, viewer->refusal);
	return -EACCES;
}

static int step_init(struct vnc_viewer *viewer, uint64_t now)
{
	static const uint8_t format[16] = {
		32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0
	};
	const char *title = viewer->screen->title;
	uint8_t reply[24 + sizeof(viewer->screen->title)], *at = reply;
	int err;

	/* Whether it would share: it does. */
	if (viewer->channel.in_size < 1)
		return 0;
	vnc_channel_take(&viewer->channel, 1);
	err = vnc_viewer_let_in(viewer);
	if (err)
		return err;
	at = vnc_put16(vnc_put16(at, viewer->width), viewer->height);
	memcpy(at, format, sizeof(format));
	at = vnc_put32(at + sizeof(format), (uint32_t)strlen(title));
	memcpy(at, title, strlen(title));
	return next(viewer, VNC_NORMAL, say(viewer, reply, (size_t)(at - reply) + strlen(title)));
}

int vnc_handshake_step(struct vnc_viewer *viewer, uint64_t now)
{
	static int (*const steps[])(struct vnc_viewer *viewer, uint64_t now) = {
		[VNC_SNIFF] = step_sniff,	[VNC_GREET] = step_greet,
		[VNC_UPGRADE] = step_upgrade,	[VNC_VERSION] = step_version,
		[VNC_SECURITY] = step_security, [VNC_VENCRYPT] = step_vencrypt,
		[VNC_SUBTYPE] = step_subtype,	[VNC_SECURE] = step_secure,
		[VNC_PLAIN] = step_plain,	[VNC_DES] = step_des,
		[VNC_REFUSED] = step_refused,	[VNC_INIT] = step_init,
	};

	return steps[viewer->stage](viewer, now);
}
