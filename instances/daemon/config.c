// SPDX-License-Identifier: Apache-2.0
/*
 * divvyd.yaml: who may do what, and what belongs to instances. Read at the start and when it is asked for; a key that is not known is an error, since it may have been
 * meant to forbid something.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "instances/daemon/private.h"
#include "instances/types/private.h"

#define FILE_MAX   (64 * KIB)
#define GROUPS_MAX 256

/*
 * Nobody else's: who could have such a number, or map it, could send signals to an instance. Above what systemd gives containers (524288 to
 * 1879048191) and below its foreign IDs (from 2147352576; both https://systemd.io/UIDS-GIDS/), above what useradd gives people for theirs
 * (100000 to 600100000, SUB_UID_MAX of login.defs(5)), and above where SSSD puts a directory's users (200000 to 2000200000,
 * ldap_idmap_range_max of sssd-ad(5)). Debian gives out nothing there by itself (its policy, 9.2.2).
 */
#define UID_FIRST 2130706432 /* 0x7f000000 */
#define UID_COUNT 16384
#define PER_USER  32
#define LAUNCHES  4
#define SLICE_MS  2
#define SLICE_MAX 1000
#define KEPT_MIN  100
#define KEPT_MAX  1000000

#define CONFIG_NEXT "divvyd --check, once it is mended"

/* What is wrong, with which key ("roles.alice", for its line), and what to do. */
struct wrong {
	char key[128], text[200], next[128];
};

__attribute__((format(printf, 3, 4))) static bool complain(struct wrong *wrong, const char *next,
							   const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(wrong->text, sizeof(wrong->text), fmt, args);
	va_end(args);
	snprintf(wrong->next, sizeof(wrong->next), "%s", next);
	return false;
}

static void complain_at(struct wrong *wrong, const char *key, const char *of)
{
	snprintf(wrong->key, sizeof(wrong->key), "%s.%.90s", key, of);
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* A user's, or a group's, name or number. */
static bool id_find(const char *who, bool is_group, uint32_t *out)
{
	const struct passwd *user = NULL;
	const struct group *group = NULL;
	char *end;
	unsigned long id = strtoul(who, &end, 10);

	if (*end || !*who) {
		if (is_group)
			group = getgrnam(who);
		else
			user = getpwnam(who);
		if (!user && !group)
			return false;
		id = user ? user->pw_uid : group->gr_gid;
	}
	*out = (uint32_t)id;
	return id < UINT32_MAX;
}

static bool is_nobody(struct wrong *wrong, const char *who, bool is_group)
{
	char next[128];

	snprintf(next, sizeof(next), "getent %s %.90s", is_group ? "group" : "passwd", who);
	return complain(wrong, next, "there is no %s %.90s", is_group ? "group" : "user", who);
}

static bool role_add(struct config *config, const char *who, const char *role, struct wrong *wrong)
{
	static const char *const names[] = { "nobody", "viewer", "user", "admin" };
	const bool group = who[0] == '@';
	unsigned index = 0;
	uint32_t id = 0;

	complain_at(wrong, "roles", who);
	while (role && index < ARRAY_SIZE(names) && strcmp(names[index], role) != 0)
		index++;
	if (!role || index == ARRAY_SIZE(names))
		return complain(wrong, "",
				"roles: %.90s: %.40s is no role: admin, user, viewer, nobody", who,
				role ? role : "that");
	if (config->rule_count == CONFIG_RULES_MAX)
		return complain(wrong, "", "roles: there are %u at most", CONFIG_RULES_MAX);
	if (!who[group] || !id_find(who + group, group, &id))
		return is_nobody(wrong, who + group, group);
	config->rules[config->rule_count].group = group;
	config->rules[config->rule_count].id = id;
	config->rules[config->rule_count++].role = (enum daemon_role)index;
	return true;
}

static bool take_roles(struct config *config, const json_t *value, struct wrong *wrong)
{
	const char *who;
	json_t *role;

	if (!json_is_object(value))
		return complain(wrong, "",
				"roles must be USER or @GROUP: admin, user, viewer or nobody");
	json_object_foreach(
		(json_t *)(uintptr_t)value, who,
		role) if (!role_add(config, who, json_string_value(role), wrong)) return false;
	return true;
}

static bool take_images(struct config *config, const json_t *value, struct wrong *wrong)
{
	json_t *one;
	size_t i;

	if (!json_is_array(value) || json_array_size(value) > CONFIG_IMAGES_MAX)
		return complain(wrong, "", "images must be a list of folders, %u at most",
				CONFIG_IMAGES_MAX);
	json_array_foreach((json_t *)(uintptr_t)value, i, one)
	{
		const char *path = json_string_value(one);
		char *real = path && path[0] == '/' ? realpath(path, NULL) : NULL;
		char number[24];

		snprintf(number, sizeof(number), "%zu", i);
		complain_at(wrong, "images", number);
		if (!path || path[0] != '/')
			return complain(wrong, "", "images: %.90s is no absolute path",
					path ? path : "that");
		if (!real)
			return complain(wrong, "", "images: %.120s: %s", path, strerror(errno));
		config->images[config->image_count] = real;
		config->images_written[config->image_count++] = strdup(path);
		if (!config->images_written[config->image_count - 1])
			return complain(wrong, "", "images: no memory");
	}
	return true;
}

static bool take_placement(struct config *config, const json_t *value, struct wrong *wrong)
{
	if (!json_is_string(value) ||
	    placement_policy_parse(json_string_value(value), &config->placement))
		return complain(wrong, "", "placement must be pack, spread or numa-first");
	config->has_placement = true;
	return true;
}

static bool take_listen(struct config *config, const json_t *value, struct wrong *wrong)
{
	const char *where = json_string_value(value);

	if (!where || !tcp_listener_ok(where))
		return complain(wrong, "", "listen: %.60s is no numeric ADDRESS:PORT",
				where ? where : "that");
	config->listen = strdup(where);
	return config->listen || complain(wrong, "", "listen: no memory");
}

static bool take_tls(struct config *config, const json_t *value, struct wrong *wrong)
{
	const struct {
		const char *name;
		char **path;
	} files[] = { { "certificate", &config->tls.certificate },
		      { "key", &config->tls.key },
		      { "client_ca", &config->tls.client_ca },
		      { "client_crl", &config->tls.client_crl } };
	const char *name;
	json_t *path;

	if (!json_is_object(value))
		return complain(
			wrong, "",
			"tls must be certificate, key, client_ca and, if need be, client_crl");
	json_object_foreach((json_t *)(uintptr_t)value, name, path)
	{
		size_t i = 0;

		complain_at(wrong, "tls", name);
		while (i < ARRAY_SIZE(files) && strcmp(files[i].name, name) != 0)
			i++;
		if (i == ARRAY_SIZE(files))
			return complain(
				wrong, "",
				"tls: %.60s is not certificate, key, client_ca or client_crl",
				name);
		if (!json_is_string(path) || json_string_value(path)[0] != '/')
			return complain(wrong, "", "tls: %s must be an absolute path", name);
		*files[i].path = strdup(json_string_value(path));
	}
	return (config->tls.certificate && config->tls.key && config->tls.client_ca) ||
	       complain(wrong, "", "tls: certificate, key and client_ca are wanted");
}

static bool take_certificates(struct config *config, const json_t *value, struct wrong *wrong)
{
	const char *name;
	json_t *user;

	if (!json_is_object(value) || json_object_size(value) > CONFIG_CERTIFICATES_MAX)
		return complain(wrong, "", "certificates must be COMMON NAME: USER, %u at most",
				CONFIG_CERTIFICATES_MAX);
	json_object_foreach((json_t *)(uintptr_t)value, name, user)
	{
		char number[16] = "";
		const char *who = json_string_value(user);
		unsigned at = config->certificate_count;

		complain_at(wrong, "certificates", name);
		if (json_is_integer(user) && json_integer_value(user) >= 0) {
			snprintf(number, sizeof(number), "%u",
				 (unsigned)MIN(json_integer_value(user), UINT32_MAX));
			who = number;
		}
		config->certificates[at].name = strdup(name);
		if (!config->certificates[at].name)
			return complain(wrong, "", "certificates: no memory");
		config->certificate_count++;
		if (!name[0] || !who)
			return complain(wrong, "", "certificates must be COMMON NAME: USER");
		if (!id_find(who, false, &config->certificates[at].uid))
			return is_nobody(wrong, who, false);
	}
	return true;
}

enum key_kind {
	KEY_OTHER,
	KEY_NUMBER,
	KEY_FLAG
};

#define NUMBER(name, least, most) \
	{ #name, KEY_NUMBER, NULL, offsetof(struct config, name), (least), (most), NULL }
#define FLAG(name) { #name, KEY_FLAG, NULL, offsetof(struct config, name), 0, 0, NULL }

static const struct key {
	const char *name;
	enum key_kind kind;
	bool (*take)(struct config *config, const json_t *value, struct wrong *wrong); /* another */
	size_t offset; /* of a number (uint32_t), a flag (bool) */
	uint32_t least, most;
	const char *is; /* a number, for people; NULL: its bounds */
} keys[] = {
	{ .name = "roles", .take = take_roles },
	{ .name = "listen", .take = take_listen },
	{ .name = "tls", .take = take_tls },
	{ .name = "certificates", .take = take_certificates },
	{ .name = "images", .take = take_images },
	{ .name = "placement", .take = take_placement },
	{ "uid_first", KEY_NUMBER, NULL, offsetof(struct config, uid_first), 0, INT32_MAX,
	  "a user's number" },
	NUMBER(uid_count, 0, 1 << 20),
	NUMBER(instances_per_user, 0, INSTANCES_MAX),
	{ "disk_mib_per_user", KEY_NUMBER, NULL, offsetof(struct config, disk_mib_per_user), 1,
	  INT32_MAX, "a number of MiB" },
	FLAG(thin_disks),
	NUMBER(slice_ms, 1, SLICE_MAX),
	NUMBER(events_kept, KEPT_MIN, KEPT_MAX),
	NUMBER(leases_kept, KEPT_MIN, KEPT_MAX),
	NUMBER(initial_credits_per_day, 0, INSTANCES_MAX),
	FLAG(allow_unisolated),
	FLAG(allow_no_reset),
};

static bool take_key(const struct key *key, struct config *config, const json_t *value,
		     struct wrong *wrong)
{
	void *field = (char *)config + key->offset;
	const json_int_t number = json_integer_value(value);

	if (key->kind == KEY_OTHER)
		return key->take(config, value, wrong);
	if (key->kind == KEY_FLAG) {
		*(bool *)field = json_is_true(value);
		return json_is_boolean(value) ||
		       complain(wrong, "", "%s must be true or false", key->name);
	}
	if (json_is_integer(value) && number >= key->least && number <= key->most) {
		*(uint32_t *)field = (uint32_t)number;
		return true;
	}
	return key->is ? complain(wrong, "", "%s must be %s", key->name, key->is)
		       : complain(wrong, "", "%s must be %u to %u", key->name, key->least,
				  key->most);
}

static int take(struct config *config, const char *path, const struct type_yaml *yaml,
		struct error *e)
{
	const char *names[ARRAY_SIZE(keys)], *name;
	json_t *value;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		names[i] = keys[i].name;
	if (!json_is_object(yaml->json))
		return error_set(e, EINVAL, "bad-config", NULL, "%s: keys and values are wanted",
				 path);
	json_object_foreach(yaml->json, name, value)
	{
		struct wrong wrong = { 0 };
		size_t i = 0;

		while (i < ARRAY_SIZE(keys) && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == ARRAY_SIZE(keys)) {
			const char *near = type_nearest(name, names, ARRAY_SIZE(keys));

			return error_set(e, EINVAL, "bad-config", CONFIG_NEXT,
					 "%s:%u: %.60s is no key%s%s", path,
					 type_yaml_line(yaml, name), name, near ? "; is it " : "",
					 near ? near : "");
		}
		snprintf(wrong.key, sizeof(wrong.key), "%s", name);
		if (!take_key(&keys[i], config, value, &wrong))
			return error_set(e, EINVAL, "bad-config",
					 wrong.next[0] ? wrong.next : CONFIG_NEXT, "%s:%u: %s",
					 path, type_yaml_line(yaml, wrong.key), wrong.text);
	}
	return 0;
}

/* ---- roles ------------------------------------------------------------------------------------------------ */

/*
 * The peer's groups as the kernel had them when it connected (SO_PEERGROUPS, Linux 4.13): nobody is asked who might not answer. *count: how many.
 * malloc()ed; NULL: none, or they cannot be had, which gives nobody a role.
 */
static gid_t *peer_groups(int fd, unsigned *count)
{
	socklen_t size = 0;
	gid_t *groups = NULL;

	*count = 0;
	/* Too small, it says how much is wanted. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0 && errno == ERANGE)
		groups = malloc(size);
	if (groups && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		*count = size / sizeof(*groups);
	return groups;
}

/* What is said of the user himself counts; else the most that any of his groups gives. */
static enum daemon_role role_of(const struct config *config, uint32_t uid, const gid_t *groups,
				unsigned count)
{
	enum daemon_role role = DAEMON_NOBODY;

	if (uid == 0 || uid == geteuid())
		return DAEMON_ADMIN;
	for (unsigned i = 0; i < config->rule_count; i++)
		if (!config->rules[i].group && config->rules[i].id == uid)
			return config->rules[i].role;
	for (unsigned i = 0; i < config->rule_count; i++)
		for (unsigned g = 0; g < count && config->rules[i].group; g++)
			if (config->rules[i].id == groups[g])
				role = MAX(role, config->rules[i].role);
	return role;
}

enum daemon_role config_role(const struct config *config, int fd, const struct ucred *peer)
{
	unsigned count;
	gid_t *groups = peer_groups(fd, &count);
	enum daemon_role role = role_of(config, peer->uid, groups, count),
			 other = role_of(config, peer->uid, &peer->gid, 1);

	free(groups);
	return MAX(role, other);
}

/* No process is at the other end whose groups could be seen: those of the directory, when the file is read. */
static void certificates_roles(struct config *config)
{
	for (unsigned i = 0; i < config->certificate_count; i++) {
		struct config_certificate *one = &config->certificates[i];
		const struct passwd *user = getpwuid(one->uid);
		gid_t groups[GROUPS_MAX];
		int count = GROUPS_MAX;

		if (!user)
			count = 0;
		else if (getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
			count = GROUPS_MAX; /* those that there was room for */
		one->role = role_of(config, one->uid, groups, (unsigned)count);
	}
}

const struct config_certificate *config_certificate(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->certificate_count; i++)
		if (!strcmp(config->certificates[i].name, name))
			return &config->certificates[i];
	return NULL;
}

/* ---- the file ---------------------------------------------------------------------------------------------- */

int config_read(const char *path, bool must, struct config *config, struct error *e)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	struct type_yaml yaml = { 0 };
	char *text = malloc(FILE_MAX);
	ssize_t size;
	int err = 0;

	*config = (struct config){ .uid_first = UID_FIRST,
				   .uid_count = UID_COUNT,
				   .instances_per_user = PER_USER,
				   .slice_ms = SLICE_MS,
				   .events_kept = STORE_EVENTS_KEPT,
				   .leases_kept = STORE_LEASES_KEPT,
				   .initial_credits_per_day = LAUNCHES };
	size = text && findings ? file_read(AT_FDCWD, path, text, FILE_MAX) : -ENOMEM;
	if (size < 0 && (must || size != -ENOENT))
		err = error_set(e, (int)-size, "bad-config", NULL, "%s: %s", path,
				strerror((int)-size));
	else if (size > 0 && type_yaml_read(text, (size_t)size, path, &yaml, findings))
		err = error_set(e, EINVAL, "bad-config", NULL, "%s",
				findings->count ? findings->items[0].fact : path);
	else if (size > 0 && yaml.json && !json_is_null(yaml.json))
		err = take(config, path, &yaml, e);
	/* Over a network nobody is known without. */
	if (!err && config->listen && !config->tls.client_ca)
		err = error_set(e, EINVAL, "bad-config", "docs/divvyd.md",
				"%s: listen: and no tls: there is no TCP without certificates",
				path);
	type_yaml_free(&yaml);
	free(findings);
	free(text);
	if (!err)
		certificates_roles(config);
	else
		config_free(config);
	return err;
}

void config_free(struct config *config)
{
	for (unsigned i = 0; i < config->image_count; i++) {
		free(config->images[i]);
		free(config->images_written[i]);
	}
	for (unsigned i = 0; i < config->certificate_count; i++)
		free(config->certificates[i].name);
	free(config->listen);
	free(config->tls.certificate);
	free(config->tls.key);
	free(config->tls.client_ca);
	free(config->tls.client_crl);
	*config = (struct config){ 0 };
}
