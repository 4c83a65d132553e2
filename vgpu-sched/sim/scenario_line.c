// SPDX-License-Identifier: Apache-2.0
/* Where a key stands (scenario_line.h): libyaml's document tree remembers it, libcyaml's result does not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "vgpu-sched/sim/scenario_line.h"

static yaml_node_t *item_of(yaml_document_t *document, yaml_node_t *node, const char *step,
			    unsigned *line)
{
	if (node->type == YAML_SEQUENCE_NODE) {
		yaml_node_item_t *item = node->data.sequence.items.start + strtoul(step, NULL, 10);

		return item < node->data.sequence.items.top
			       ? yaml_document_get_node(document, *item)
			       : NULL;
	}
	if (node->type != YAML_MAPPING_NODE)
		return NULL;
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     pair < node->data.mapping.pairs.top; pair++) {
		yaml_node_t *key = yaml_document_get_node(document, pair->key);

		if (key && key->type == YAML_SCALAR_NODE &&
		    !strcmp((char *)key->data.scalar.value, step)) {
			*line = (unsigned)key->start_mark.line + 1;
			return yaml_document_get_node(document, pair->value);
		}
	}
	return NULL;
}

unsigned scenario_line(const char *text, size_t size, const char *path)
{
	char steps[256], *rest = steps, *step;
	yaml_document_t document;
	yaml_parser_t parser;
	yaml_node_t *node;
	unsigned line = 0;

	if (!yaml_parser_initialize(&parser))
		return 0;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
	if (yaml_parser_load(&parser, &document)) {
		snprintf(steps, sizeof(steps), "%s", path);
		node = yaml_document_get_root_node(&document);
		while (node && (step = strsep(&rest, "."))) {
			node = item_of(&document, node, step, &line);
			if (node && node->type != YAML_SCALAR_NODE && rest && rest[0] >= '0' &&
			    rest[0] <= '9')
				continue; /* an index follows: its own line is better */
			if (node && step[0] >= '0' && step[0] <= '9')
				line = (unsigned)node->start_mark.line + 1;
		}
		yaml_document_delete(&document);
	}
	yaml_parser_delete(&parser);
	return line;
}
