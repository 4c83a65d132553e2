/* SPDX-License-Identifier: Apache-2.0 */
/* A node (daemon_world.h) whose API is at a port of 127.0.0.1, too, and clients of it, good and bad. After cmocka.h. */
#ifndef TESTS_UNIT_TLS_WORLD_H
#define TESTS_UNIT_TLS_WORLD_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "tests/unit/certificates.h"
#include "tests/unit/daemon_world.h"

#define TLS_WAIT_MS 20000

static uint16_t tls_port;
static in_addr_t tls_from = INADDR_LOOPBACK; /* whence tls_connect() comes */

/* Certificates at FOLDER/tls: ca, server; of clients, each an enum's name below. */
static inline void tls_certificates(const struct world *w)
{
	struct certificate ca, other_ca, one, revoked;
	char folder[128], path[160];
	static const struct {
		const char *file;
		bool other;
		struct certificate_wish wish;
	} all[] = {
		{ "server", false, { CERTIFICATE_SERVER, "node", NULL, false } },
		{ "alice", false, { CERTIFICATE_CLIENT, "alice", NULL, false } },
		{ "ops", false, { CERTIFICATE_CLIENT, "ops", NULL, false } },
		{ "bob", false, { CERTIFICATE_CLIENT, "bob", NULL, false } },
		{ "watcher", false, { CERTIFICATE_CLIENT, "watcher", NULL, false } },
		{ "unknown", false, { CERTIFICATE_CLIENT, "mallory", NULL, false } },
		{ "nameless", false, { CERTIFICATE_CLIENT, NULL, NULL, false } },
		{ "two-names", false, { CERTIFICATE_CLIENT, "ops", "alice", false } },
		{ "expired", false, { CERTIFICATE_CLIENT, "alice", NULL, true } },
		{ "not-client", false, { CERTIFICATE_SERVER, "alice", NULL, false } },
		{ "other-ca", true, { CERTIFICATE_CLIENT, "alice", NULL, false } },
	};

	snprintf(folder, sizeof(folder), "%s/tls", w->folder);
	assert_int_equal(mkdir(folder, 0755), 0);
	ca = certificate_make(
		NULL, (struct certificate_wish){ CERTIFICATE_AUTHORITY, "CA", NULL, false });
	/* Of the same name. */
	other_ca = certificate_make(
		NULL, (struct certificate_wish){ CERTIFICATE_AUTHORITY, "CA", NULL, false });
	certificate_save(&ca, folder, "ca");
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		one = certificate_make(all[i].other ? &other_ca : &ca, all[i].wish);
		certificate_save(&one, folder, all[i].file);
		certificate_free(&one);
	}
	revoked = certificate_make(
		&ca, (struct certificate_wish){ CERTIFICATE_CLIENT, "alice", NULL, false });
	certificate_save(&revoked, folder, "revoked");
	snprintf(path, sizeof(path), "%s/crl.pem", folder);
	certificate_revoke(&ca, &revoked, path);
	/* His own. */
	one = certificate_make(NULL, all[1].wish);
	certificate_save(&one, folder, "self-signed");
	certificate_free(&one);
	certificate_free(&revoked);
	certificate_free(&ca);
	certificate_free(&other_ca);
}

static inline void tls_find_port(const struct world *w)
{
	char path[128], text[400];
	FILE *file;

	tls_port = 0;
	snprintf(path, sizeof(path), "%s/log", w->folder);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(text, sizeof(text), file)) {
		const char *at = strstr(text, "the API is at 127.0.0.1:0, port ");

		if (at)
			tls_port = (uint16_t)atoi(at + strlen("the API is at 127.0.0.1:0, port "));
	}
	fclose(file);
	assert_int_not_equal(tls_port, 0);
}

static inline int tls_setup(void **state)
{
	static struct world world;
	struct world *w = &world;
	char text[2000];

	world_create(w);
	tls_certificates(w);
	snprintf(text, sizeof(text),
		 "images: [ %s/images ]\n"
		 "roles: { \"65534\": user, \"65533\": user, \"65532\": viewer }\n"
		 "listen: 127.0.0.1:0\n"
		 "tls: { certificate: %s/tls/server.pem, key: %s/tls/server.key,\n"
		 "       client_ca: %s/tls/ca.pem, client_crl: %s/tls/crl.pem }\n"
		 "certificates: { alice: 65534, bob: 65533, ops: root, watcher: 65532 }\n",
		 w->folder, w->folder, w->folder, w->folder, w->folder);
	world_write(w, "divvyd.yaml", text);
	*state = w;
	if (!world_start(w, NULL))
		return -1;
	tls_find_port(w);
	return 0;
}

/* ---- clients ------------------------------------------------------------------------------------- */

static inline int tls_connect(void)
{
	const struct sockaddr_in address = { .sin_family = AF_INET,
					     .sin_port = htons(tls_port),
					     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr_in from = { .sin_family = AF_INET,
					  .sin_addr.s_addr = htonl(tls_from) };
	const struct timeval patience = { .tv_sec = TLS_WAIT_MS / 1000 };
	/* Without this the last word of a handshake waits 40 ms, for the first one's to be acknowledged, and many shake hands at a time. */
	const int at_once = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* One that waits; who it is: FOLDER/tls/WHO.pem. */
struct tls_client {
	int fd;
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
};

/* @who: NULL: no certificate. False: the handshake failed, and nothing is left. */
static inline bool tls_open(struct tls_client *c, const struct world *w, const char *who,
			    const char *priority)
{
	char cert[200], key[200], ca[200];
	int err;

	snprintf(ca, sizeof(ca), "%s/tls/ca.pem", w->folder);
	assert_int_equal(gnutls_certificate_allocate_credentials(&c->credentials), 0);
	assert_int_equal(
		gnutls_certificate_set_x509_trust_file(c->credentials, ca, GNUTLS_X509_FMT_PEM), 1);
	if (who) {
		snprintf(cert, sizeof(cert), "%s/tls/%s.pem", w->folder, who);
		snprintf(key, sizeof(key), "%s/tls/%s.key", w->folder, who);
		assert_int_equal(gnutls_certificate_set_x509_key_file(c->credentials, cert, key,
								      GNUTLS_X509_FMT_PEM),
				 0);
	}
	/* Also where the server names another issuer: it is the server's to refuse. */
	assert_int_equal(gnutls_init(&c->session,
				     GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT | GNUTLS_NO_SIGNAL),
			 0);
	assert_int_equal(
		gnutls_priority_set_direct(c->session, priority ? priority : "NORMAL", NULL), 0);
	gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials);
	gnutls_session_set_verify_cert(c->session, "127.0.0.1", 0);
	c->fd = tls_connect();
	gnutls_transport_set_int(c->session, c->fd);
	gnutls_handshake_set_timeout(c->session, TLS_WAIT_MS);
	do
		err = gnutls_handshake(c->session);
	while (err == GNUTLS_E_INTERRUPTED);
	return err == 0;
}

static inline void tls_close(struct tls_client *c)
{
	gnutls_deinit(c->session);
	gnutls_certificate_free_credentials(c->credentials);
	close(c->fd);
}

/* The status of an answer; 0: none came. */
static inline unsigned tls_request(struct tls_client *c, const char *method, const char *resource,
				   const char *headers, const char *body)
{
	char text[65536], head[512];
	size_t length = 0, whole = 0;
	unsigned status = 0;
	ssize_t n;

	snprintf(head, sizeof(head),
		 "%s /api/v1/%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n", method,
		 resource, headers ? headers : "", body ? strlen(body) : 0);
	if (gnutls_record_send(c->session, head, strlen(head)) < 0 ||
	    (body && gnutls_record_send(c->session, body, strlen(body)) < 0))
		return 0;
	do {
		const char *end, *size;

		n = gnutls_record_recv(c->session, text + length, sizeof(text) - 1 - length);
		if (n == GNUTLS_E_INTERRUPTED)
			continue;
		if (n <= 0)
			break;
		length += (size_t)n;
		text[length] = '\0';
		end = strstr(text, "\r\n\r\n");
		size = strstr(text, "Content-Length: ");
		if (end)
			whole = (size_t)(end + 4 - text) +
				(size > text && size < end ? strtoul(size + 16, NULL, 10) : 0);
	} while (!whole || length < whole);
	if (sscanf(text, "HTTP/1.1 %u", &status) != 1 || !length)
		return 0;
	return status;
}

static inline unsigned tls_ask(const struct world *w, const char *who, const char *method,
			       const char *resource, const char *headers, const char *body)
{
	struct tls_client c;
	unsigned status = 0;

	if (tls_open(&c, w, who, NULL))
		status = tls_request(&c, method, resource, headers, body);
	tls_close(&c);
	return status;
}

#endif
