// SPDX-License-Identifier: Apache-2.0
/*
 * TLS, and who somebody is by his certificate. It must be there, lead to the CA that divvyd.yaml names, be of today, not be revoked, and not be
 * made for another purpose (RFC 5280, 4.2.1.12: id-kp-clientAuth): all that within the handshake, so that nobody else says a word of HTTP. Which
 * user of this machine it stands for is the configuration's to say, by the subject's common name.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "instances/daemon/http.h"

#define PRIORITIES    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define NEXT	      "docs/divvyd.md says how to make them"
#define HANDSHAKE_MAX (32 * KIB) /* of a message; a chain of five certificates has 10 */
#define CHAIN_MAX     5
#define KEY_BITS_MAX  8192

struct http_tls {
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priority;
};

/* ---- files ------------------------------------------------------------------------------------------ */

static int key_private(const char *path, struct error *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_set(e, errno, "bad-tls", NEXT, "tls: %s: %s", path, strerror(errno));
	if (st.st_mode & 07)
		return error_set(e, EPERM, "bad-tls", "chmod 600", "tls: %s: everybody may read it",
				 path);
	return 0;
}

/* @err: what GnuTLS says; what it read else is a number. */
static int judge(int err, const char *path, struct error *e)
{
	return err < 0 ? error_set(e, EINVAL, "bad-tls", NEXT, "tls: %s: %s", path,
				   gnutls_strerror(err))
		       : 0;
}

int http_tls_create(const struct config *config, struct http_tls **out, struct error *e)
{
	const char *key = config->tls.key, *ca = config->tls.client_ca,
		   *crl = config->tls.client_crl;
	struct http_tls *tls = calloc(1, sizeof(*tls));
	int err, count = 0;

	if (!tls || gnutls_certificate_allocate_credentials(&tls->credentials) < 0 ||
	    gnutls_priority_init(&tls->priority, PRIORITIES, NULL) < 0) {
		http_tls_destroy(tls);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for TLS");
	}
	err = key_private(key, e);
	if (!err)
		err = judge(gnutls_certificate_set_x509_key_file(tls->credentials,
								 config->tls.certificate, key,
								 GNUTLS_X509_FMT_PEM),
			    config->tls.certificate, e);
	if (!err) {
		count = gnutls_certificate_set_x509_trust_file(tls->credentials, ca,
							       GNUTLS_X509_FMT_PEM);
		err = judge(count ? count : GNUTLS_E_NO_CERTIFICATE_FOUND, ca, e);
	}
	if (!err && crl)
		err = judge(gnutls_certificate_set_x509_crl_file(tls->credentials, crl,
								 GNUTLS_X509_FMT_PEM),
			    crl, e);
	if (err) {
		http_tls_destroy(tls);
		return err;
	}
	gnutls_certificate_set_verify_limits(tls->credentials, KEY_BITS_MAX, CHAIN_MAX);
	*out = tls;
	return 0;
}

void http_tls_destroy(struct http_tls *tls)
{
	if (!tls)
		return;
	if (tls->priority)
		gnutls_priority_deinit(tls->priority);
	if (tls->credentials)
		gnutls_certificate_free_credentials(tls->credentials);
	free(tls);
}

/* ---- the handshake ------------------------------------------------------------------------------------ */

/* Within the handshake. Not 0 ends it. */
static int on_certificate(gnutls_session_t session)
{
	gnutls_typed_vdata_st purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
					  .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT };
	gnutls_datum_t why = { 0 };
	unsigned status = 0;
	int err = gnutls_certificate_verify_peers(session, &purpose, 1, &status);

	if (err >= 0 && !status)
		return 0;
	if (err >= 0)
		gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0);
	log_limited(LOG_LEVEL_INFO, "API: a certificate is refused: %s",
		    why.data ? (const char *)why.data : gnutls_strerror(err));
	gnutls_free(why.data);
	return GNUTLS_E_CERTIFICATE_ERROR;
}

gnutls_session_t http_tls_open(struct http_tls *tls, int fd)
{
	gnutls_session_t session = NULL;

	if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
		return NULL;
	if (gnutls_priority_set(session, tls->priority) < 0 ||
	    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->credentials) < 0) {
		gnutls_deinit(session);
		return NULL;
	}
	gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_function(session, on_certificate);
	gnutls_handshake_set_max_packet_length(session, HANDSHAKE_MAX);
	gnutls_transport_set_int(session, fd);
	return session;
}

/* ---- who it is -------------------------------------------------------------------------------------------- */

/* Of two, others may read the other one. */
bool http_tls_name(gnutls_session_t session, char *name, size_t size)
{
	unsigned count = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
	gnutls_x509_crt_t certificate;
	size_t length = size, none = 0;
	bool is = false;

	name[0] = '\0';
	if (!chain || !count || gnutls_x509_crt_init(&certificate) < 0)
		return false;
	if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) >= 0 &&
	    gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 1, 0, NULL,
					  &none) == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE &&
	    gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name,
					  &length) >= 0)
		is = strlen(name) == length;
	else
		name[0] = '\0';
	gnutls_x509_crt_deinit(certificate);
	return is;
}

uint64_t http_tls_end_us(gnutls_session_t session)
{
	unsigned count = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
	uint64_t end_us = 0;

	for (unsigned i = 0; chain && i < count; i++) {
		gnutls_x509_crt_t certificate;
		time_t end = -1;

		if (gnutls_x509_crt_init(&certificate) < 0)
			return 0;
		if (gnutls_x509_crt_import(certificate, &chain[i], GNUTLS_X509_FMT_DER) >= 0)
			end = gnutls_x509_crt_get_expiration_time(certificate);
		gnutls_x509_crt_deinit(certificate);
		if (end <= 0)
			return 0;
		if (!i || (uint64_t)end * 1000000 < end_us)
			end_us = (uint64_t)end * 1000000;
	}
	return end_us;
}
