// SPDX-License-Identifier: Apache-2.0
/*
 * A VNC viewer that is somebody else's (libvncclient), for tests/guest: it types a text, waits until the picture stands still, and writes it down.
 *
 *	vnc_client SOCKET FILE.ppm [TEXT]
 *
 * Exit status 0, or 1 with a line on stderr.
 */
#include <rfb/rfbclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define STILL_NS (2 * NSEC_PER_SEC)
#define LIMIT_NS (60 * NSEC_PER_SEC)
#define BETWEEN_NS \
	(150 *     \
	 1000000ul) /* two keys: a guest that does not get to run loses what is beyond 64 events */

static uint64_t changed_ns;

static void on_update(rfbClient *client, int x, int y, int width, int height)
{
	changed_ns = monotonic_ns();
}

static bool serve(rfbClient *client, uint64_t until_ns)
{
	while (monotonic_ns() < until_ns) {
		int ready = WaitForMessage(client, 20000);

		if (ready < 0 || (ready > 0 && !HandleRFBServerMessage(client)))
			return false;
	}
	return true;
}

static bool type(rfbClient *client, const char *text)
{
	for (; *text; text++) {
		const uint32_t keysym = *text == '\n' ? 0xff0d : (unsigned char)*text;

		if (!SendKeyEvent(client, keysym, TRUE) || !SendKeyEvent(client, keysym, FALSE) ||
		    !serve(client, monotonic_ns() + BETWEEN_NS))
			return false;
	}
	return true;
}

static bool save(const rfbClient *client, const char *path)
{
	const size_t count = (size_t)client->width * (size_t)client->height;
	FILE *file = fopen(path, "we");
	bool good;

	if (!file)
		return false;
	fprintf(file, "P6\n%d %d\n255\n", client->width, client->height);
	/* Words of red, green, blue in the order of libvncclient's default format. */
	for (size_t i = 0; i < count; i++)
		fwrite(client->frameBuffer + 4 * i, 1, 3, file);
	good = !ferror(file);
	return !fclose(file) && good;
}

int main(int argc, char **argv)
{
	char program[] = "vnc_client", *arguments[] = { program, argv[argc > 1 ? 1 : 0], NULL };
	const uint64_t end_ns = monotonic_ns() + LIMIT_NS;
	rfbClient *client;
	int count = 2;

	if (argc < 3)
		return 1;
	client = rfbGetClient(8, 3, 4);
	if (!client)
		return 1;
	client->appData.encodingsString = "zrle raw";
	client->GotFrameBufferUpdate = on_update;
	if (!rfbInitClient(client, &count, arguments)) {
		fprintf(stderr, "vnc_client: no connection to %s\n", argv[1]);
		return 1;
	}
	if (argc > 3 && !type(client, argv[3])) {
		fprintf(stderr, "vnc_client: the connection ended while typing\n");
		return 1;
	}
	changed_ns = monotonic_ns();
	while (monotonic_ns() < changed_ns + STILL_NS && monotonic_ns() < end_ns)
		if (!serve(client, monotonic_ns() + STILL_NS / 4)) {
			fprintf(stderr, "vnc_client: the connection ended\n");
			return 1;
		}
	if (!save(client, argv[2])) {
		perror(argv[2]);
		return 1;
	}
	rfbClientCleanup(client);
	return 0;
}
