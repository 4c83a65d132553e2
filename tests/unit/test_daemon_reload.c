// SPDX-License-Identifier: Apache-2.0
/* The daemon reads its files again: all that is new holds, or nothing; who may not any more is let go; whoever runs does not notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/tls_world.h"

#define USER 65534u

static bool log_has(const struct world *w, const char *words)
{
	char path[128];
	char *text = malloc(1 << 20);
	ssize_t size;
	bool has;

	assert_non_null(text);
	snprintf(path, sizeof(path), "%s/log", w->folder);
	size = file_read(AT_FDCWD, path, text, 1 << 20);
	assert_true(size > 0);
	has = strstr(text, words);
	free(text);
	return has;
}

/* @words: what its log says then, and did not before. */
static void reload(const struct world *w, const char *words)
{
	assert_false(log_has(w, words));
	kill(w->daemon, SIGHUP);
	for (unsigned i = 0; i < WORLD_WAIT_MS / 10 && !log_has(w, words); i++)
		usleep(10000);
	assert_true(log_has(w, words));
}

/* Somebody has a stream of events, until it ends. */
static void stream(const struct world *w, int ready)
{
	static const char ask[] = "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n";
	char text[4096];
	int fd = http_connect(w->api);

	if (send(fd, ask, strlen(ask), MSG_NOSIGNAL) < 0 || recv(fd, text, sizeof(text), 0) <= 12 ||
	    memcmp(text, "HTTP/1.1 200", 12) != 0)
		_exit(1);
	if (write(ready, "r", 1) < 0)
		_exit(1);
	while (recv(fd, text, sizeof(text), 0) > 0)
		;
}

static void types_and_roles_are_read_again_and_instances_go_on(void **state)
{
	struct world *w = *state;
	pid_t hears;
	char text[300];
	int32_t vmm;
	int status;

	assert_int_equal(chmod(w->folder, 0755), 0);
	world_define(w, "a", "plain", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	vmm = world_pid(w, "a", "vmm");
	world_expect(w, "GET", "types/new", NULL, 404u);
	hears = world_as_user(w, USER, stream);
	world_write(w, "types/new.yaml",
		    "- name: new\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
		    "    - { mode: shared, policy: best_effort, vram_mib: 64 }\n");
	reload(w, "daemon reloaded");
	world_expect(w, "GET", "types/new", NULL, 200u);
	world_define(w, "b", "new", "");
	/* He may what he might, and hears on; then not. */
	assert_int_equal(waitpid(hears, NULL, WNOHANG), 0);
	snprintf(text, sizeof(text),
		 "images: [ %s/images ]\nroles: { \"%u\": viewer }\nplacement: spread\n", w->folder,
		 USER);
	world_write(w, "divvyd.yaml", text);
	kill(w->daemon, SIGHUP);
	assert_int_equal(waitpid(hears, &status, 0), hears);
	assert_int_equal(status, 0);
	assert_true(world_is(w, "a", "running"));
	assert_int_equal(world_pid(w, "a", "vmm"), vmm);
	assert_int_equal(waitpid(w->daemon, NULL, WNOHANG), 0);
}

static void what_is_wrong_changes_nothing(void **state)
{
	static const struct {
		const char *file, *text, *says;
	} wrong[] = {
		{ "divvyd.yaml", "rolse: {}\n", "divvyd.yaml:1: rolse is no key; is it roles" },
		{ "divvyd.yaml", "# who\nroles:\n  \"0\": user\n  \"@no-such-group\": user\n",
		  "divvyd.yaml:4: there is no group no-such-group; next: getent group no-such-group" },
		{ "divvyd.yaml", "roles:\n  \"0\": usr\n",
		  "divvyd.yaml:2: roles: 0: usr is no role: admin, user, viewer, nobody" },
		{ "divvyd.yaml", "slice_ms: 2\nimages:\n  - /\n  - /no/such/folder\n",
		  "divvyd.yaml:4: images: /no/such/folder: No such file or directory" },
		{ "divvyd.yaml", "tls: { certificat: /x }\n",
		  "divvyd.yaml:1: tls: certificat is not certificate, key" },
		{ "divvyd.yaml", "certificates:\n  a: no-such-user\n",
		  "divvyd.yaml:2: there is no user no-such-user" },
		{ "divvyd.yaml", "listen: here\n", "listen: here is no numeric ADDRESS:PORT" },
		{ "divvyd.yaml", "placement: near\n",
		  "placement must be pack, spread or numa-first" },
		{ "divvyd.yaml", "slice_ms: 0\n", "slice_ms must be 1 to 1000" },
		{ "divvyd.yaml", "listen: 127.0.0.1:0\n", "listen: and no tls" },
		{ "types/bad.yaml", "- name: bad\n  vcpus: none\n", "bad.yaml" },
	};
	struct world *w = *state;
	char path[200], good[300];
	pid_t hears;

	assert_int_equal(chmod(w->folder, 0755), 0);
	snprintf(good, sizeof(good), "images: [ %s/images ]\nroles: { \"%u\": user }\n", w->folder,
		 USER);
	hears = world_as_user(w, USER, stream);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		/* Good beside it, and not taken. */
		world_write(w, "types/new.yaml",
			    "- name: new\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
			    "    - { mode: shared, policy: best_effort, vram_mib: 64 }\n");
		world_write(w, wrong[i].file, wrong[i].text);
		reload(w, wrong[i].says);
		assert_true(log_has(w, "not reloaded, what was read before holds"));
		world_expect(w, "GET", "types/new", NULL, 404u);
		world_expect(w, "GET", "types/plain", NULL, 200u);
		world_write(w, "divvyd.yaml", good);
		snprintf(path, sizeof(path), "%s/types/bad.yaml", w->folder);
		unlink(path);
	}
	assert_int_equal(waitpid(hears, NULL, WNOHANG), 0);
	reload(w, "daemon reloaded");
	world_expect(w, "GET", "types/new", NULL, 200u);
	assert_int_equal(waitpid(hears, NULL, WNOHANG), 0);
	kill(hears, SIGKILL);
	assert_int_equal(waitpid(hears, NULL, 0), hears);
}

static void a_check_says_what_a_reload_would(void **state)
{
	struct world *w = *state;
	char build[PATH_MAX], command[2 * PATH_MAX];

	assert_true(build_folder(build, sizeof(build)));
	snprintf(command, sizeof(command),
		 "%s/divvyd --check --config %s/divvyd.yaml --types %s/types", build, w->folder,
		 w->folder);
	assert_int_equal(system(command), 0);
	world_write(w, "types/bad.yaml", "- name: bad\n  vcpus: none\n");
	assert_int_equal(WEXITSTATUS(system(command)), 1);
	/* The one that runs has nothing to do with it. */
	world_expect(w, "GET", "node", NULL, 200u);
}

static void a_certificate_that_is_taken_back_ends_with_a_reload(void **state)
{
	struct world *w = *state;
	struct certificate ca, alice;
	struct tls_client c;
	char folder[128], path[160], text[4096];
	ssize_t n;

	assert_true(tls_open(&c, w, "alice", NULL));
	assert_true(gnutls_record_send(c.session, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
				       41) > 0);
	assert_true(gnutls_record_recv(c.session, text, sizeof(text)) > 12);
	assert_memory_equal(text, "HTTP/1.1 200", 12);
	snprintf(folder, sizeof(folder), "%s/tls", w->folder);
	snprintf(path, sizeof(path), "%s/crl.pem", folder);
	ca = certificate_load(folder, "ca");
	alice = certificate_load(folder, "alice");
	certificate_revoke(&ca, &alice, path);
	/* Nobody has looked yet. */
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 200);
	reload(w, "daemon reloaded");
	do
		n = gnutls_record_recv(c.session, text, sizeof(text));
	while (n > 0 || n == GNUTLS_E_INTERRUPTED);
	tls_close(&c);
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 0);
	assert_int_equal(tls_ask(w, "ops", "GET", "node", NULL, NULL), 200);
	/* What cannot be read is not half of what is. */
	world_write(w, "tls/crl.pem", "nothing\n");
	reload(w, "not reloaded");
	assert_int_equal(tls_ask(w, "alice", "GET", "node", NULL, NULL), 0);
	assert_int_equal(tls_ask(w, "ops", "GET", "node", NULL, NULL), 200);
	certificate_free(&alice);
	certificate_free(&ca);
}

static void another_place_waits_for_a_restart(void **state)
{
	struct world *w = *state;
	char path[128], text[4096] = "";
	ssize_t size;

	snprintf(path, sizeof(path), "%s/divvyd.yaml", w->folder);
	size = file_read(AT_FDCWD, path, text, sizeof(text));
	assert_true(size > 0);
	memcpy(strstr(text, "127.0.0.1:0"), "127.0.0.1:1", 11);
	/* All else is taken. */
	memcpy(strstr(text, "bob:"), "bib:", 4);
	world_write(w, "divvyd.yaml", text);
	assert_int_equal(tls_ask(w, "bob", "GET", "node", NULL, NULL), 200);
	reload(w, "listen: another place waits for a restart");
	assert_int_equal(tls_ask(w, "ops", "GET", "node", NULL, NULL), 200);
	assert_int_equal(tls_ask(w, "bob", "GET", "node", NULL, NULL), 403);
}

int main(int argc, char **argv)
{
#define T(name)	  cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
#define TLS(name) cmocka_unit_test_setup_teardown(name, tls_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(types_and_roles_are_read_again_and_instances_go_on),
		T(what_is_wrong_changes_nothing),
		T(a_check_says_what_a_reload_would),
		TLS(a_certificate_that_is_taken_back_ends_with_a_reload),
		TLS(another_place_waits_for_a_restart),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
