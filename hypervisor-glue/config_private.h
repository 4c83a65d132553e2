/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that read a machine's words share: config.c has the table of words, config_guest.c
 * those about processors and memory, config_control.c those about the control socket and hot-plug.
 */
#ifndef GLUE_CONFIG_PRIVATE_H
#define GLUE_CONFIG_PRIVATE_H

#include "hypervisor-glue/hypervisor-glue.h"

#define CONFIG_MEMORY_MIN (16 * MIB)
#define CONFIG_MEMORY_MAX (UINT64_C(16) << 40)

/* What a value belongs to: @folder prefixes relative paths ("": the current one). */
struct setting {
	const char *word, *value, *folder;
};

/* config_bad_value() - "bad-value": the word, its value, and that it is not @expected. */
int config_bad_value(const struct setting *setting, const char *expected, struct error *e);

/*
 * config_parse_size() - "512M", "2G", "1T" to bytes. A number alone is refused, since people mean bytes
 * and megabytes alike. Returns false for anything else, parts of a mebibyte, and beyond CONFIG_MEMORY_MAX.
 */
bool config_parse_size(const char *text, uint64_t *size);

/* Setters of words, as in the table. */
int config_set_cpus(struct machine_config *config, const struct setting *setting, struct error *e);
int config_set_topology(struct machine_config *config, const struct setting *setting,
			struct error *e);
int config_set_pin(struct machine_config *config, const struct setting *setting, struct error *e);
int config_set_memory(struct machine_config *config, const struct setting *setting,
		      struct error *e);
int config_set_numa(struct machine_config *config, const struct setting *setting, struct error *e);
int config_set_huge_pages(struct machine_config *config, const struct setting *setting,
			  struct error *e);
int config_set_control(struct machine_config *config, const struct setting *setting,
		       struct error *e);
int config_set_hotplug_ports(struct machine_config *config, const struct setting *setting,
			     struct error *e);
int config_set_hotplug_window(struct machine_config *config, const struct setting *setting,
			      struct error *e);
int config_set_hotplug_path(struct machine_config *config, const struct setting *setting,
			    struct error *e);

/*
 * config_settle_guest() - fill in what the words left open (cpus of the topology or of the nodes,
 * memory of the nodes, a topology) and see that they agree. Idempotent.
 * Errors: "bad-value".
 */
int config_settle_guest(struct machine_config *config, struct error *e);

#endif
