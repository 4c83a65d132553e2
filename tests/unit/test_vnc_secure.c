// SPDX-License-Identifier: Apache-2.0
/* Who may look, and over what: passwords, TLS with a certificate (VeNCrypt), WebSocket in clear and over TLS. */
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

#include "tests/unit/vnc_guest.h"

static char password_file[96], cert_file[96], key_file[96];
#define SHORT_PASSWORD "tr0ub4do"
#define LONG_PASSWORD  "correct horse battery staple"

static void write_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

/* A certificate of 127.0.0.1's own. */
static void make_certificate(void)
{
	static const uint8_t address[4] = { 127, 0, 0, 1 };
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t cert;
	uint8_t pem[8192];
	size_t size;

	snprintf(cert_file, sizeof(cert_file), "%s/server-cert.pem", folder);
	snprintf(key_file, sizeof(key_file), "%s/server-key.pem", folder);
	assert_int_equal(gnutls_x509_privkey_init(&key), 0);
	assert_int_equal(gnutls_x509_crt_init(&cert), 0);
	assert_int_equal(
		gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
		0);
	assert_int_equal(gnutls_x509_crt_set_key(cert, key), 0);
	assert_int_equal(gnutls_x509_crt_set_version(cert, 3), 0);
	assert_int_equal(gnutls_x509_crt_set_serial(cert, "\1", 1), 0);
	gnutls_x509_crt_set_activation_time(cert, time(NULL) - 86400);
	gnutls_x509_crt_set_expiration_time(cert, time(NULL) + 86400);
	gnutls_x509_crt_set_basic_constraints(cert, 1, -1);
	gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_IPADDRESS, address, sizeof(address),
					     GNUTLS_FSAN_SET);
	gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, "127.0.0.1", 9);
	assert_int_equal(gnutls_x509_crt_sign2(cert, cert, key, GNUTLS_DIG_SHA256, 0), 0);
	size = sizeof(pem);
	assert_int_equal(gnutls_x509_crt_export(cert, GNUTLS_X509_FMT_PEM, pem, &size), 0);
	write_file(cert_file, pem, size);
	size = sizeof(pem);
	assert_int_equal(gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, pem, &size), 0);
	write_file(key_file, pem, size);
	gnutls_x509_crt_deinit(cert);
	gnutls_x509_privkey_deinit(key);
}

/* That browsers have to speak first; viewers of RFB wait so long. */
static unsigned patience_ms;

/* In the folder that there is. */
static void open_at(const char *password, bool tls, bool plaintext, bool tcp)
{
	const struct virtio_gpu_config gpu = { .name = "desk",
					       .head_count = 1,
					       .heads = { { 800, 600 } } };
	struct vnc_config config = {
		.name = "desk", .head_count = 1, .plaintext = plaintext, .sniff_ms = patience_ms
	};
	struct error e = { 0 };

	snprintf(head0, sizeof(head0), "%s/head0", folder);
	snprintf(password_file, sizeof(password_file), "%s/password", folder);
	make_certificate();
	gpu_open(&gpu);
	gpu_boot(GPU_FEATURES);
	if (password) {
		write_file(password_file, password, strlen(password));
		config.password_file = password_file;
	}
	config.tls = tls ? folder : NULL;
	config.places[0] = tcp ? "tcp:127.0.0.1:0" : head0;
	if (vnc_server_create(guest.device, &config, &server, &e) || vnc_server_start(server, &e))
		fail_msg("%s: %s", e.code, e.text);
	/* What a sandbox will keep from it is not needed any more. */
	unlink(password_file);
	unlink(key_file);
	show(0, 1, WIDTH, HEIGHT);
	draw_all(1, WIDTH, HEIGHT, 42);
}

static void open_with(const char *password, bool tls, bool plaintext, bool tcp)
{
	strcpy(folder, "/tmp/divvy-vnc-XXXXXX");
	assert_non_null(mkdtemp(folder));
	open_at(password, tls, plaintext, tcp);
}

static int close_all(void **state)
{
	unlink(cert_file);
	unlink(key_file);
	unlink(password_file);
	return teardown(state);
}

/* Whether libvncclient gets in and sees the picture. */
static bool looks(const uint32_t *schemes, const char *password, const char *path, bool with_ca)
{
	struct viewer viewer;

	viewer_make(&viewer, "zrle");
	viewer.password = password;
	viewer.ca = with_ca ? cert_file : NULL;
	if (schemes)
		SetClientAuthSchemes(viewer.client, schemes, -1);
	if (!viewer_join(&viewer, path, path ? 0 : vnc_server_port(server, 0)))
		return false;
	viewer_until(&viewer, viewer_shows(&viewer, picture(), WIDTH, HEIGHT));
	viewer_leave(&viewer);
	return true;
}

static const uint32_t by_vnc[] = { rfbVncAuth, 0 }, by_none[] = { rfbNoAuth, 0 },
		      by_vencrypt[] = { rfbVeNCrypt, 0 };

/* ---- passwords ---------------------------------------------------------------------------------- */

static void a_password_on_a_socket(void **state)
{
	open_with(SHORT_PASSWORD "\n", false, false, false);
	assert_true(looks(by_vnc, SHORT_PASSWORD, head0, false));
	assert_false(looks(by_vnc, "tr0ub4dX", head0, false));
	assert_false(looks(by_vnc, "", head0, false));
	assert_false(looks(by_none, NULL, head0, false));
}

/* VNC Authentication would take its first eight letters for the whole. */
static void a_long_password_is_never_cut(void **state)
{
	uint8_t data[16];
	int fd;

	open_with(LONG_PASSWORD, false, false, false);
	assert_false(looks(by_vnc, LONG_PASSWORD, head0, false));
	fd = raw_connect(head0, 0);
	assert_true(raw_get(fd, data, 12));
	assert_true(raw_put(fd, "RFB 003.008\n", 12));
	assert_true(raw_get(fd, data, 2));
	assert_memory_equal(data, "\1\x13", 2); /* VeNCrypt alone */
	close(fd);
	/* A viewer of RFB 3.3 cannot. */
	fd = raw_connect(head0, 0);
	assert_true(raw_get(fd, data, 12));
	assert_true(raw_put(fd, "RFB 003.003\n", 12));
	assert_true(raw_get(fd, data, 4));
	assert_memory_equal(data, "\0\0\0\0", 4);
	assert_true(raw_ended(fd));
	close(fd);
}

static void old_viewers_give_theirs_too(void **state)
{
	uint8_t data[32];
	int fd;

	open_with(SHORT_PASSWORD, false, false, false);
	fd = raw_connect(head0, 0);
	assert_true(raw_get(fd, data, 12));
	assert_true(raw_put(fd, "RFB 003.003\n", 12));
	assert_true(raw_get(fd, data, 4 + 16));
	assert_memory_equal(data, "\0\0\0\2", 4);
	rfbEncryptBytes(data + 4, (char *)SHORT_PASSWORD);
	assert_true(raw_put(fd, data + 4, 16));
	assert_true(raw_get(fd, data, 4));
	assert_memory_equal(data, "\0\0\0\0", 4);
	close(fd);
}

/* ---- TCP ---------------------------------------------------------------------------------------- */

/* The way that libvncclient does not take while there is another: X509Vnc. Returns the result, -1: it was not offered. */
static int by_x509_vnc(const char *password)
{
	gnutls_certificate_credentials_t credentials;
	gnutls_session_t session;
	uint8_t data[32] = { 0 };
	int fd = raw_connect(NULL, vnc_server_port(server, 0)), result = -1;

	assert_true(raw_get(fd, data, 12));
	assert_true(raw_put(fd, "RFB 003.008\n", 12));
	assert_true(raw_get(fd, data, 2));
	assert_true(raw_put(fd, "\x13", 1));
	assert_true(raw_get(fd, data, 2));
	assert_true(raw_put(fd, "\0\2", 2));
	assert_true(raw_get(fd, data, 2));
	assert_int_equal(data[0], 0);
	assert_true(raw_get(fd, data + 2, 4ul * data[1]));
	if (data[1] == 2) {
		assert_memory_equal(data + 6, "\0\0\1\5", 4);
		assert_true(raw_put(fd, data + 6, 4));
		assert_true(raw_get(fd, data, 1));
		assert_int_equal(data[0], 1);
		assert_int_equal(gnutls_certificate_allocate_credentials(&credentials), 0);
		assert_int_equal(gnutls_init(&session, GNUTLS_CLIENT), 0);
		assert_int_equal(gnutls_set_default_priority(session), 0);
		gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
		gnutls_transport_set_int(session, fd);
		assert_int_equal(gnutls_handshake(session), 0);
		assert_int_equal(gnutls_record_recv(session, data, 16), 16);
		rfbEncryptBytes(data, (char *)(uintptr_t)password);
		assert_int_equal(gnutls_record_send(session, data, 16), 16);
		assert_int_equal(gnutls_record_recv(session, data, 4), 4);
		result = data[3];
		gnutls_deinit(session);
		gnutls_certificate_free_credentials(credentials);
	}
	close(fd);
	return result;
}

static void over_tls_with_either_kind_of_password(void **state)
{
	open_with(SHORT_PASSWORD, true, false, true);
	assert_int_equal(by_x509_vnc(SHORT_PASSWORD), 0);
	assert_int_equal(by_x509_vnc("wrong"), 1);
	assert_true(looks(by_vencrypt, SHORT_PASSWORD, NULL, true));
	assert_true(looks(NULL, SHORT_PASSWORD, NULL, true)); /* the viewer's own choice */
	assert_false(looks(by_vencrypt, "wrong", NULL, true));
	/* In clear there is nothing. */
	assert_false(looks(by_vnc, SHORT_PASSWORD, NULL, true));
	assert_false(looks(by_none, NULL, NULL, true));
	/* A viewer that does not know the certificate goes. */
	assert_false(looks(by_vencrypt, SHORT_PASSWORD, NULL, false));
}

static void over_tls_with_a_long_password(void **state)
{
	open_with(LONG_PASSWORD, true, false, true);
	assert_true(looks(by_vencrypt, LONG_PASSWORD, NULL, true));
	assert_false(looks(by_vencrypt, "correct ", NULL, true));
	assert_int_equal(by_x509_vnc(LONG_PASSWORD), -1);
}

/* What is said in clear before TLS begins does not count as said within it (CVE-2011-0411's kind). */
static void nothing_in_clear_is_carried_into_tls(void **state)
{
	static const uint8_t ahead[] = { 0, 0,	 1,   6,   0,	0,   0,	  1,   0,   0,	0,
					 8, 'x', 't', 'r', '0', 'u', 'b', '4', 'd', 'o' };
	uint8_t data[16];
	int fd;

	open_with(SHORT_PASSWORD, true, false, true);
	fd = raw_connect(NULL, vnc_server_port(server, 0));
	assert_true(raw_get(fd, data, 12));
	assert_true(raw_put(fd, "RFB 003.008\n", 12));
	assert_true(raw_get(fd, data, 2));
	assert_true(raw_put(fd, "\x13", 1));
	assert_true(raw_get(fd, data, 2));
	assert_true(raw_put(fd, "\0\2", 2));
	assert_true(raw_get(fd, data, 10));
	assert_true(raw_put(fd, ahead, sizeof(ahead)));
	assert_true(raw_ended(fd));
	close(fd);
}

static void in_clear_where_that_was_asked_for(void **state)
{
	open_with(SHORT_PASSWORD, false, true, true);
	assert_true(looks(by_vnc, SHORT_PASSWORD, NULL, false));
	assert_false(looks(by_vnc, "wrong", NULL, false));
	assert_false(looks(by_none, NULL, NULL, false));
}

/* ---- what is refused at the start ------------------------------------------------------------------- */

static void refused(const struct vnc_config *config, const char *code)
{
	const unsigned before = count_fds();
	struct vnc_server *none = NULL;
	struct error e = { 0 };

	assert_true(vnc_server_create(guest.device, config, &none, &e) < 0);
	assert_null(none);
	assert_string_equal(e.code, code);
	assert_int_equal(count_fds(), before);
}

static void what_is_not_safe_or_not_there_is_refused(void **state)
{
	struct vnc_config config = { .head_count = 1, .places = { "tcp:127.0.0.1:0" } };
	char path[96], deep[256], text[600];
	struct vnc_server *none = NULL;
	struct error e = { 0 };
	struct stat st;

	open_with(NULL, false, false, false);
	make_certificate();
	assert_int_equal(stat(head0, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	write_file(password_file, SHORT_PASSWORD, strlen(SHORT_PASSWORD));
	refused(&config, "vnc-insecure"); /* no password */
	config.tls = folder;
	refused(&config, "vnc-insecure");
	config.plaintext = true;
	refused(&config, "vnc-insecure");
	config = (struct vnc_config){ .head_count = 1,
				      .places = { "tcp:127.0.0.1:0" },
				      .password_file = password_file };
	refused(&config, "vnc-insecure"); /* no TLS */
	config.plaintext = true;
	write_file(password_file, LONG_PASSWORD, strlen(LONG_PASSWORD));
	refused(&config, "vnc-password"); /* would be cut */
	write_file(password_file, "\n", 1);
	refused(&config, "vnc-password");
	memset(text, 'x', sizeof(text));
	write_file(password_file, text, sizeof(text));
	refused(&config, "vnc-password");
	write_file(password_file, SHORT_PASSWORD, strlen(SHORT_PASSWORD));
	config.places[0] = "tcp:localhost:5900"; /* names would need a resolver */
	refused(&config, "vnc-place");
	config.places[0] = "tcp:127.0.0.1";
	refused(&config, "vnc-place");
	config.places[0] = "tcp::::";
	refused(&config, "vnc-place");
	config.places[0] = "tcp:203.0.113.1:5900"; /* not of this machine */
	refused(&config, "vnc-place");
	config.places[0] = password_file; /* no socket */
	refused(&config, "socket-path");
	config.places[0] = "";
	refused(&config, "vnc-place");
	snprintf(deep, sizeof(deep), "%s/%0100d", folder, 0);
	config.places[0] = deep;
	refused(&config, "socket-path");
	snprintf(path, sizeof(path), "%s/none/head", folder);
	config.places[0] = path;
	refused(&config, "socket-path");
	config.places[0] = "tcp:127.0.0.1:0";
	config.tls = path;
	refused(&config, "vnc-tls");
	config.tls = NULL;
	config.password_file = path;
	refused(&config, "vnc-password");
	/* Somebody listens there, and hears of it. */
	config = (struct vnc_config){ .head_count = 1, .places = { head0 } };
	assert_int_equal(vnc_server_create(guest.device, &config, &none, &e), -EADDRINUSE);
	assert_string_equal(e.code, "socket-in-use");
}

/* What is left of one that died is no hindrance. */
static void a_socket_that_is_nobodys_is_replaced(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(folder, "/tmp/divvy-vnc-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/head0", folder);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	open_at(NULL, false, false, false);
	assert_true(looks(NULL, NULL, head0, false));
}

/* ---- browsers ----------------------------------------------------------------------------------- */

static const char upgrade[] =
	"GET /websockify HTTP/1.1\r\nHost: desk\r\nUpgrade: websocket\r\n"
	"Connection: keep-alive, Upgrade\r\n"
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	"Sec-WebSocket-Protocol: base64, binary\r\nSec-WebSocket-Version: 13\r\n\r\n";

static void web_send(int fd, unsigned first, const void *data, size_t size)
{
	uint8_t frame[256] = { (uint8_t)first, (uint8_t)(0x80 | size), 0x12, 0x34, 0x56, 0x78 };

	assert_true(size < 126);
	for (size_t i = 0; i < size; i++)
		frame[6 + i] = ((const uint8_t *)data)[i] ^ frame[2 + i % 4];
	assert_true(raw_put(fd, frame, 6 + size));
}

/* Payload of binary frames, whatever their borders. */
static uint64_t web_left;

static void web_get(int fd, void *data, size_t size)
{
	uint8_t *at = data, header[8];

	while (size) {
		size_t part;

		if (!web_left) {
			assert_true(raw_get(fd, header, 2));
			assert_int_equal(header[0], 0x82);
			web_left = header[1];
			if (web_left == 126) {
				assert_true(raw_get(fd, header, 2));
				web_left = (uint64_t)header[0] << 8 | header[1];
			} else if (web_left == 127) {
				assert_true(raw_get(fd, header, 8));
				web_left = 0;
				for (unsigned i = 0; i < 8; i++)
					web_left = web_left << 8 | header[i];
			}
		}
		part = MIN(size, web_left);
		assert_true(raw_get(fd, at, part));
		at += part;
		size -= part;
		web_left -= part;
	}
}

static int web_join(void)
{
	char reply[512] = "";
	size_t size = 0;
	int fd = raw_connect(head0, 0);

	web_left = 0;
	assert_true(raw_put(fd, upgrade, sizeof(upgrade) - 1));
	while (!strstr(reply, "\r\n\r\n") && size < sizeof(reply) - 1)
		assert_true(raw_get(fd, reply + size++, 1));
	assert_non_null(strstr(reply, "HTTP/1.1 101 "));
	/* RFC 6455, 1.3 has this very example. */
	assert_non_null(strstr(reply, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	assert_non_null(strstr(reply, "Sec-WebSocket-Protocol: binary\r\n"));
	return fd;
}

static void a_browser_sees_the_picture(void **state)
{
	const uint8_t request[10] = { 3, 0, 0, 0, 0, 0, WIDTH >> 8, WIDTH & 0xff, 0, HEIGHT };
	uint32_t *row = malloc(WIDTH * HEIGHT * 4);
	uint8_t data[64];
	int fd;

	assert_non_null(row);
	open_with(NULL, false, false, false);
	fd = web_join();
	web_get(fd, data, 12);
	assert_memory_equal(data, "RFB 003.008\n", 12);
	/* In three frames, one of them empty, with a ping in between. */
	web_send(fd, 0x02, "RFB 003", 7);
	web_send(fd, 0x89, "hello", 5);
	assert_true(raw_get(fd, data, 7));
	assert_memory_equal(data, "\x8a\5hello", 7);
	web_send(fd, 0x00, "", 0);
	web_send(fd, 0x80, ".008\n", 5);
	web_get(fd, data, 2);
	web_send(fd, 0x82, "\1", 1);
	web_get(fd, data, 4);
	web_send(fd, 0x82, "\1", 1);
	web_get(fd, data, 24 + 4);
	web_send(fd, 0x82, request, sizeof(request));
	web_get(fd, data, 16);
	assert_memory_equal(data, "\0\0\0\1\0\0\0\0\1\x40\0\xc8\0\0\0\0", 16);
	web_get(fd, row, WIDTH * HEIGHT * 4);
	for (unsigned i = 0; i < WIDTH * HEIGHT; i++)
		assert_int_equal(row[i] & 0xffffff, picture()[i] & 0xffffff);
	web_send(fd, 0x88, "", 0);
	assert_true(raw_ended(fd));
	close(fd);
	free(row);
}

static void what_is_no_websocket_is_refused(void **state)
{
	static const char *const requests[] = {
		"GET / HTTP/1.1\r\nHost: desk\r\n\r\n",
		"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
		"GET / HTTP/1.1\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"GOT / HTTP/1.1\r\n\r\n",
	};
	static const char *const frames[] = {
		"\x82\5hello",					    /* not masked */
		"\xc2\x80\0\0\0\0",				    /* a reserved bit */
		"\x81\x80\0\0\0\0",				    /* text */
		"\x83\x80\0\0\0\0",				    /* no such frame */
		"\x09\x80\0\0\0\0",				    /* a ping in pieces */
		"\x89\xfe\1\0\0\0\0\0",				    /* a long ping */
		"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", /* 2^64 bytes */
	};
	static const size_t sizes[] = { 7, 6, 6, 6, 6, 8, 14 };
	char text[5000], data[16];

	open_with(NULL, false, false, false);
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
		int fd = raw_connect(head0, 0);

		assert_true(raw_put(fd, requests[i], strlen(requests[i])));
		assert_true(raw_ended(fd));
		close(fd);
	}
	/* Headers without end. */
	memset(text, 'a', sizeof(text));
	memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
	for (unsigned i = 0; i < 1; i++) {
		int fd = raw_connect(head0, 0);

		raw_put(fd, text, sizeof(text));
		assert_true(raw_ended(fd));
		close(fd);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
		int fd = web_join();

		web_get(fd, data, 12);
		assert_true(raw_put(fd, frames[i], sizes[i]));
		assert_true(raw_ended(fd));
		close(fd);
	}
}

/* A page of somebody else's must not get at what its reader can reach; unless it knows the password. */
static void pages_of_others_are_kept_out(void **state)
{
	static const struct {
		const char *origin, *password;
		bool good;
	} cases[] = {
		{ "Origin: https://desk:5900\r\n", NULL, true },
		{ "oRiGiN:  http://DESK:5900 \r\n", NULL, true },
		{ "Origin: https://desk\r\n", NULL, false },
		{ "Origin: https://evil.example\r\n", NULL, false },
		{ "Origin: https://evil.example/desk:5900\r\n", NULL, false },
		{ "Origin: null\r\n", NULL, false },
		{ "Origin:\r\n", NULL, false },
		{ "", NULL, true },
		{ "Origin: https://evil.example\r\n", SHORT_PASSWORD, true },
	};
	char request[512], reply[13] = "";

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd;

		open_with(cases[i].password, false, false, false);
		fd = raw_connect(head0, 0);
		snprintf(
			request, sizeof(request),
			"GET / HTTP/1.1\r\nHost: desk:5900\r\n%sUpgrade: websocket\r\n"
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
			cases[i].origin);
		assert_true(raw_put(fd, request, strlen(request)));
		assert_true(raw_get(fd, reply, 12));
		assert_string_equal(reply, cases[i].good ? "HTTP/1.1 101" : "HTTP/1.1 400");
		close(fd);
		if (i + 1 < ARRAY_SIZE(cases))
			close_all(NULL);
	}
}

/* By somebody else's WebSocket and TLS. */
static void a_browser_joins_over_tls(void **state)
{
	char command[512], line[128] = "", expected[2 * 32 + 2] = "";
	uint8_t digest[32];
	FILE *script;
	int status, fd;

	open_with(LONG_PASSWORD, true, false, true);
	snprintf(command, sizeof(command), "python3 tests/unit/vnc_browser.py %u %s '%s' %d %d",
		 vnc_server_port(server, 0), cert_file, LONG_PASSWORD, WIDTH, HEIGHT);
	script = popen(command, "re");
	assert_non_null(script);
	assert_non_null(fgets(line, sizeof(line), script));
	status = pclose(script);
	assert_int_equal(status, 0);
	assert_int_equal(gnutls_hash_fast(GNUTLS_DIG_SHA256, picture(), WIDTH * HEIGHT * 4, digest),
			 0);
	for (unsigned i = 0; i < sizeof(digest); i++)
		snprintf(expected + 2ul * i, 4, "%02x\n", digest[i]);
	assert_string_equal(line, expected);
	/* Over TCP in clear there is none. */
	fd = raw_connect(NULL, vnc_server_port(server, 0));
	assert_true(raw_put(fd, upgrade, sizeof(upgrade) - 1));
	assert_true(raw_ended(fd));
	close(fd);
}

/* However busy the machine. */
static int be_patient(void **state)
{
	patience_ms = VIEWER_WAIT_MS;
	return 0;
}

#define WEB_TEST(name)	  cmocka_unit_test_setup_teardown(name, be_patient, close_all)
#define SECURE_TEST(name) cmocka_unit_test_setup_teardown(name, NULL, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SECURE_TEST(a_password_on_a_socket),
		SECURE_TEST(a_long_password_is_never_cut),
		SECURE_TEST(old_viewers_give_theirs_too),
		SECURE_TEST(over_tls_with_either_kind_of_password),
		SECURE_TEST(over_tls_with_a_long_password),
		SECURE_TEST(nothing_in_clear_is_carried_into_tls),
		SECURE_TEST(in_clear_where_that_was_asked_for),
		SECURE_TEST(what_is_not_safe_or_not_there_is_refused),
		SECURE_TEST(a_socket_that_is_nobodys_is_replaced),
		WEB_TEST(a_browser_sees_the_picture),
		WEB_TEST(what_is_no_websocket_is_refused),
		WEB_TEST(pages_of_others_are_kept_out),
		WEB_TEST(a_browser_joins_over_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
