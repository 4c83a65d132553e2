// SPDX-License-Identifier: Apache-2.0
/*
 * divvyd.yaml: who may do what, and what belongs to instances. Read once, at the start; a key that is not known is an error, since it may have been
 * meant to forbid something.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
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

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* A name or a number. */
static bool user_find(const char *who, uint32_t *uid)
{
	char *end;
	unsigned long id = strtoul(who, &end, 10);

	if (*end || !*who) {
		const struct passwd *found = getpwnam(who);

		if (!found)
			return false;
		id = found->pw_uid;
	}
	*uid = (uint32_t)id;
	return id < UINT32_MAX;
}

static bool group_find(const char *name, uint32_t *gid)
{
	char *end;
	unsigned long id = strtoul(name, &end, 10);

	if (*end || !*name) {
		const struct group *found = getgrnam(name);

		if (!found)
			return false;
		id = found->gr_gid;
	}
	*gid = (uint32_t)id;
	return id < UINT32_MAX;
}

static bool role_add(struct config *config, const char *who, const char *role)
{
	static const char *const names[] = { "nobody", "viewer", "user", "admin" };
	const bool group = who[0] == '@';
	unsigned index = 0;
	uint32_t id = 0;

	while (index < ARRAY_SIZE(names) && strcmp(names[index], role) != 0)
		index++;
	if (index == ARRAY_SIZE(names) || config->rule_count == CONFIG_RULES_MAX || !who[group])
		return false;
	if (group ? !group_find(who + 1, &id) : !user_find(who, &id))
		return false;
	config->rules[config->rule_count].group = group;
	config->rules[config->rule_count].id = id;
	config->rules[config->rule_count++].role = (enum daemon_role)index;
	return true;
}

static const char *take_roles(struct config *config, const json_t *value)
{
	const char *who;
	json_t *role;

	if (!json_is_object(value))
		return "roles must be USER or @GROUP: admin, user, viewer or nobody";
	json_object_foreach((json_t *)(uintptr_t)value, who, role)
	{
		if (!json_is_string(role) || !role_add(config, who, json_string_value(role)))
			return "roles: there is no such user or group, or role (admin, user, viewer, nobody)";
	}
	return NULL;
}

static const char *take_images(struct config *config, const json_t *value)
{
	json_t *one;
	size_t i;

	if (!json_is_array(value) || json_array_size(value) > CONFIG_IMAGES_MAX)
		return "images must be a list of folders, 16 at most";
	json_array_foreach((json_t *)(uintptr_t)value, i, one)
	{
		const char *path = json_string_value(one);
		char *real = path && path[0] == '/' ? realpath(path, NULL) : NULL;

		if (!real)
			return "images: a folder that is not there, or no absolute path";
		config->images[config->image_count++] = real;
	}
	return NULL;
}

static const char *take_placement(struct config *config, const json_t *value)
{
	if (!json_is_string(value) ||
	    placement_policy_parse(json_string_value(value), &config->placement))
		return "placement must be pack, spread or numa-first";
	config->has_placement = true;
	return NULL;
}

static bool number(const json_t *value, json_int_t most, uint32_t *out)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) > most)
		return false;
	*out = (uint32_t)json_integer_value(value);
	return true;
}

static const char *take_uid_first(struct config *config, const json_t *value)
{
	return number(value, INT32_MAX, &config->uid_first) ? NULL
							    : "uid_first must be a user's number";
}

static const char *take_uid_count(struct config *config, const json_t *value)
{
	return number(value, 1 << 20, &config->uid_count) ? NULL : "uid_count must be 0 to 1048576";
}

static const char *take_per_user(struct config *config, const json_t *value)
{
	return number(value, INSTANCES_MAX, &config->instances_per_user)
		       ? NULL
		       : "instances_per_user must be 0 to 4096";
}

static const char *take_disk(struct config *config, const json_t *value)
{
	return number(value, INT32_MAX, &config->disk_mib_per_user) && config->disk_mib_per_user
		       ? NULL
		       : "disk_mib_per_user must be a number of MiB";
}

static const char *take_thin(struct config *config, const json_t *value)
{
	config->thin_disks = json_is_true(value);
	return json_is_boolean(value) ? NULL : "thin_disks must be true or false";
}

static const char *take_slice(struct config *config, const json_t *value)
{
	return number(value, SLICE_MAX, &config->slice_ms) && config->slice_ms
		       ? NULL
		       : "slice_ms must be 1 to 1000";
}

static const char *take_events_kept(struct config *config, const json_t *value)
{
	return number(value, KEPT_MAX, &config->events_kept) && config->events_kept >= KEPT_MIN
		       ? NULL
		       : "events_kept must be 100 to 1000000";
}

static const char *take_leases_kept(struct config *config, const json_t *value)
{
	return number(value, KEPT_MAX, &config->leases_kept) && config->leases_kept >= KEPT_MIN
		       ? NULL
		       : "leases_kept must be 100 to 1000000";
}

static const char *take_initial_credits(struct config *config, const json_t *value)
{
	return number(value, INSTANCES_MAX, &config->initial_credits_per_day)
		       ? NULL
		       : "initial_credits_per_day must be 0 to 4096";
}

static const char *take_unisolated(struct config *config, const json_t *value)
{
	config->allow_unisolated = json_is_true(value);
	return json_is_boolean(value) ? NULL : "allow_unisolated must be true or false";
}

static const char *take_no_reset(struct config *config, const json_t *value)
{
	config->allow_no_reset = json_is_true(value);
	return json_is_boolean(value) ? NULL : "allow_no_reset must be true or false";
}

static const char *take_listen(struct config *config, const json_t *value)
{
	if (json_is_string(value))
		config->listen = strdup(json_string_value(value));
	return config->listen ? NULL : "listen must be ADDRESS:PORT";
}

static const char *take_tls(struct config *config, const json_t *value)
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
		return "tls must be certificate, key, client_ca and, if need be, client_crl";
	json_object_foreach((json_t *)(uintptr_t)value, name, path)
	{
		size_t i = 0;

		while (i < ARRAY_SIZE(files) && strcmp(files[i].name, name) != 0)
			i++;
		if (i == ARRAY_SIZE(files) || !json_is_string(path) ||
		    json_string_value(path)[0] != '/')
			return "tls: certificate, key, client_ca or client_crl, each an absolute path";
		*files[i].path = strdup(json_string_value(path));
	}
	return config->tls.certificate && config->tls.key && config->tls.client_ca
		       ? NULL
		       : "tls: certificate, key and client_ca are wanted";
}

static const char *take_certificates(struct config *config, const json_t *value)
{
	const char *name;
	json_t *user;

	if (!json_is_object(value) || json_object_size(value) > CONFIG_CERTIFICATES_MAX)
		return "certificates must be COMMON NAME: USER, 256 at most";
	json_object_foreach((json_t *)(uintptr_t)value, name, user)
	{
		char number[16] = "";
		const char *who = json_string_value(user);
		unsigned at = config->certificate_count;

		if (json_is_integer(user) && json_integer_value(user) >= 0) {
			snprintf(number, sizeof(number), "%u",
				 (unsigned)MIN(json_integer_value(user), UINT32_MAX));
			who = number;
		}
		config->certificates[at].name = strdup(name);
		if (!config->certificates[at].name)
			return "certificates: no memory";
		config->certificate_count++;
		if (!name[0] || !who || !user_find(who, &config->certificates[at].uid))
			return "certificates: there is no such user";
	}
	return NULL;
}

static const struct {
	const char *name;
	const char *(*take)(struct config *config,
			    const json_t *value); /* NULL, or what is wrong */
} keys[] = {
	{ "roles", take_roles },
	{ "listen", take_listen },
	{ "tls", take_tls },
	{ "certificates", take_certificates },
	{ "images", take_images },
	{ "placement", take_placement },
	{ "uid_first", take_uid_first },
	{ "uid_count", take_uid_count },
	{ "instances_per_user", take_per_user },
	{ "disk_mib_per_user", take_disk },
	{ "thin_disks", take_thin },
	{ "slice_ms", take_slice },
	{ "events_kept", take_events_kept },
	{ "leases_kept", take_leases_kept },
	{ "initial_credits_per_day", take_initial_credits },
	{ "allow_unisolated", take_unisolated },
	{ "allow_no_reset", take_no_reset },
};

static int take(struct config *config, const char *path, const struct type_yaml *yaml,
		struct error *e)
{
	const char *names[ARRAY_SIZE(keys)], *name, *wrong;
	json_t *value;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		names[i] = keys[i].name;
	if (!json_is_object(yaml->json))
		return error_set(e, EINVAL, "bad-config", NULL, "%s: keys and values are wanted",
				 path);
	json_object_foreach(yaml->json, name, value)
	{
		size_t i = 0;

		while (i < ARRAY_SIZE(keys) && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == ARRAY_SIZE(keys)) {
			const char *near = type_nearest(name, names, ARRAY_SIZE(keys));

			return error_set(e, EINVAL, "bad-config", NULL,
					 "%s:%u: %.60s is no key%s%s", path,
					 type_yaml_line(yaml, name), name, near ? "; is it " : "",
					 near ? near : "");
		}
		wrong = keys[i].take(config, value);
		if (wrong)
			return error_set(e, EINVAL, "bad-config", NULL, "%s:%u: %s", path,
					 type_yaml_line(yaml, name), wrong);
	}
	return 0;
}

static void certificates_roles(struct config *config);

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
	for (unsigned i = 0; i < config->image_count; i++)
		free(config->images[i]);
	for (unsigned i = 0; i < config->certificate_count; i++)
		free(config->certificates[i].name);
	free(config->listen);
	free(config->tls.certificate);
	free(config->tls.key);
	free(config->tls.client_ca);
	free(config->tls.client_crl);
	*config = (struct config){ 0 };
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

/* No process is at the other end whose groups could be seen: those of the directory, once, at the start. */
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
