/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for tests, by GnuTLS: an authority, and what it signs. After cmocka.h. */
#ifndef TESTS_UNIT_CERTIFICATES_H
#define TESTS_UNIT_CERTIFICATES_H

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct certificate {
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
};

enum certificate_kind {
	CERTIFICATE_AUTHORITY,
	CERTIFICATE_SERVER,
	CERTIFICATE_CLIENT
};

struct certificate_wish {
	enum certificate_kind kind;
	const char *name, *second_name; /* common names; NULL: none */
	bool expired;
};

static time_t certificate_lifetime_s = 86400;

static inline void certificate_write(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

/* @issuer: NULL: itself. Of 127.0.0.1 where it is a server's. */
static inline struct certificate certificate_make(const struct certificate *issuer,
						  struct certificate_wish wish)
{
	static uint8_t serial[4] = { 1 };
	static const uint8_t address[4] = { 127, 0, 0, 1 };
	const bool authority = wish.kind == CERTIFICATE_AUTHORITY;
	const time_t now = time(NULL);
	struct certificate made;
	uint8_t id[64];
	size_t size = sizeof(id);

	serial[3]++;
	assert_int_equal(gnutls_x509_privkey_init(&made.key), 0);
	assert_int_equal(gnutls_x509_crt_init(&made.crt), 0);
	assert_int_equal(
		gnutls_x509_privkey_generate(made.key, GNUTLS_PK_ECDSA,
					     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
		0);
	assert_int_equal(gnutls_x509_crt_set_key(made.crt, made.key), 0);
	assert_int_equal(gnutls_x509_crt_set_version(made.crt, 3), 0);
	assert_int_equal(gnutls_x509_crt_set_serial(made.crt, serial, sizeof(serial)), 0);
	gnutls_x509_crt_set_activation_time(made.crt, now - 2 * 86400);
	gnutls_x509_crt_set_expiration_time(made.crt, wish.expired ? now - 86400
								   : now + certificate_lifetime_s);
	gnutls_x509_crt_set_basic_constraints(made.crt, authority, -1);
	assert_int_equal(gnutls_x509_crt_get_key_id(issuer ? issuer->crt : made.crt, 0, id, &size),
			 0);
	if (issuer)
		gnutls_x509_crt_set_authority_key_id(made.crt, id, size);
	else
		gnutls_x509_crt_set_subject_key_id(made.crt, id, size);
	gnutls_x509_crt_set_key_usage(made.crt,
				      authority ? GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN
						: GNUTLS_KEY_DIGITAL_SIGNATURE);
	if (!authority)
		gnutls_x509_crt_set_key_purpose_oid(made.crt,
						    wish.kind == CERTIFICATE_SERVER
							    ? GNUTLS_KP_TLS_WWW_SERVER
							    : GNUTLS_KP_TLS_WWW_CLIENT,
						    0);
	if (wish.kind == CERTIFICATE_SERVER)
		gnutls_x509_crt_set_subject_alt_name(made.crt, GNUTLS_SAN_IPADDRESS, address,
						     sizeof(address), GNUTLS_FSAN_SET);
	if (wish.name)
		gnutls_x509_crt_set_dn_by_oid(made.crt, GNUTLS_OID_X520_COMMON_NAME, 0, wish.name,
					      (unsigned)strlen(wish.name));
	if (wish.second_name)
		gnutls_x509_crt_set_dn_by_oid(made.crt, GNUTLS_OID_X520_COMMON_NAME, 0,
					      wish.second_name, (unsigned)strlen(wish.second_name));
	assert_int_equal(gnutls_x509_crt_sign2(made.crt, issuer ? issuer->crt : made.crt,
					       issuer ? issuer->key : made.key, GNUTLS_DIG_SHA256,
					       0),
			 0);
	return made;
}

static inline void certificate_free(struct certificate *one)
{
	gnutls_x509_crt_deinit(one->crt);
	gnutls_x509_privkey_deinit(one->key);
}

/* FOLDER/NAME.pem, and its key at FOLDER/NAME.key. */
static inline void certificate_save(const struct certificate *one, const char *folder,
				    const char *name)
{
	uint8_t pem[8192];
	char path[256];
	size_t size = sizeof(pem);

	snprintf(path, sizeof(path), "%s/%s.pem", folder, name);
	assert_int_equal(gnutls_x509_crt_export(one->crt, GNUTLS_X509_FMT_PEM, pem, &size), 0);
	certificate_write(path, pem, size);
	size = sizeof(pem);
	snprintf(path, sizeof(path), "%s/%s.key", folder, name);
	assert_int_equal(gnutls_x509_privkey_export(one->key, GNUTLS_X509_FMT_PEM, pem, &size), 0);
	certificate_write(path, pem, size);
}

/* As certificate_save() left it. */
static inline struct certificate certificate_load(const char *folder, const char *name)
{
	struct certificate one;
	gnutls_datum_t pem;
	char path[256];

	assert_int_equal(gnutls_x509_privkey_init(&one.key), 0);
	assert_int_equal(gnutls_x509_crt_init(&one.crt), 0);
	snprintf(path, sizeof(path), "%s/%s.pem", folder, name);
	assert_int_equal(gnutls_load_file(path, &pem), 0);
	assert_int_equal(gnutls_x509_crt_import(one.crt, &pem, GNUTLS_X509_FMT_PEM), 0);
	gnutls_free(pem.data);
	snprintf(path, sizeof(path), "%s/%s.key", folder, name);
	assert_int_equal(gnutls_load_file(path, &pem), 0);
	assert_int_equal(gnutls_x509_privkey_import(one.key, &pem, GNUTLS_X509_FMT_PEM), 0);
	gnutls_free(pem.data);
	return one;
}

/* What @authority takes back: @one. */
static inline void certificate_revoke(const struct certificate *authority,
				      const struct certificate *one, const char *path)
{
	gnutls_x509_crl_t crl;
	uint8_t pem[8192];
	size_t size = sizeof(pem);

	assert_int_equal(gnutls_x509_crl_init(&crl), 0);
	gnutls_x509_crl_set_version(crl, 2);
	gnutls_x509_crl_set_this_update(crl, time(NULL) - 60);
	gnutls_x509_crl_set_next_update(crl, time(NULL) + 86400);
	assert_int_equal(gnutls_x509_crl_set_crt(crl, one->crt, time(NULL) - 60), 0);
	assert_int_equal(
		gnutls_x509_crl_sign2(crl, authority->crt, authority->key, GNUTLS_DIG_SHA256, 0),
		0);
	assert_int_equal(gnutls_x509_crl_export(crl, GNUTLS_X509_FMT_PEM, pem, &size), 0);
	certificate_write(path, pem, size);
	gnutls_x509_crl_deinit(crl);
}

#endif
