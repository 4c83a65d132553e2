// SPDX-License-Identifier: Apache-2.0
/* Instance types: what is shipped, every mistake told at once with its line, hostile YAML, and JSON both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "instances/types/private.h"

static struct findings findings;
static struct type_catalogue catalogue;

static int setup(void **state)
{
	memset(&findings, 0, sizeof(findings));
	return 0;
}

static int teardown(void **state)
{
	type_catalogue_free(&catalogue);
	return 0;
}

/* The finding that has @code and @words, or NULL. */
static const struct finding *find(const char *code, const char *words)
{
	for (unsigned i = 0; i < findings.count; i++)
		if (!strcmp(findings.items[i].code, code) && strstr(findings.items[i].fact, words))
			return &findings.items[i];
	return NULL;
}

static void print_findings(void)
{
	for (unsigned i = 0; i < findings.count; i++)
		print_message("%s: %s (next: %s)\n", findings.items[i].code, findings.items[i].fact,
			      findings.items[i].next);
}

/* @text, as the file "t.yaml". */
static int add(const char *text)
{
	return type_catalogue_add_text(&catalogue, text, strlen(text), "t.yaml", &findings);
}

#define GOOD                 \
	"name: s1.quarter\n" \
	"vcpus: 4\n"         \
	"memory_mib: 8192\n" \
	"gpus:\n"            \
	"  - { mode: shared, count: 1, partition: 0.25, policy: fixed_share }\n"

static void shipped_families_are_good_and_go_through_json_exactly(void **state)
{
	static const char *const names[] = {
		"d1.1x",     "d1.2x",	   "d1.4x",	"d1.8x",     "s1.half",
		"s1.third",  "s1.quarter", "s1.sixth",	"s1.eighth", "w1.small",
		"w1.medium", "w1.large",   "w1.xlarge", "b1.small",  "b1.medium",
		"b1.large",  "v1.single",  "v1.dual",	"v1.quad",
	};
	char folder[4096];

	assert_int_equal(
		type_catalogue_add_folder(&catalogue, type_shipped_folder(folder), &findings),
		ARRAY_SIZE(names));
	print_findings();
	assert_int_equal(findings.count, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_non_null(type_catalogue_find(&catalogue, names[i]));
	for (unsigned i = 0; i < catalogue.count; i++) {
		json_t *json = type_json(&catalogue.items[i]), *again;
		char *text = json_dumps(json, 0);
		json_t *parsed = json_loads(text, 0, NULL);
		struct instance_type type;

		assert_int_equal(type_from_json(parsed, "again", &type, &findings), 0);
		again = type_json(&type);
		assert_true(json_equal(json, again));
		memcpy(type.source, catalogue.items[i].source, sizeof(type.source));
		assert_memory_equal(&type, &catalogue.items[i], sizeof(type));
		json_decref(json);
		json_decref(parsed);
		json_decref(again);
		free(text);
	}
}

static void example_of_the_documents_is_what_it_says(void **state)
{
	const struct instance_type *type;

	assert_int_equal(add(GOOD), 1);
	type = type_catalogue_find(&catalogue, "s1.quarter");
	assert_non_null(type);
	assert_int_equal(type->vcpus, 4);
	assert_int_equal(type->gpus[0].time_ppm, 250000);
	assert_int_equal(type_gpu_vram_mib(&type->gpus[0], 81559), 20389);
	assert_null(type_catalogue_find(&catalogue, "../s1.quarter"));
}

static void every_mistake_is_told_with_its_line(void **state)
{
	assert_int_equal(add("name: ../etc/passwd\n"
			     "vpcus: 4\n"
			     "memory_mib: lots\n"
			     "gpus:\n"
			     "  - mode: shared\n"
			     "    polcy: fixed_share\n"
			     "    partition: 1.5\n"
			     "displays:\n"
			     "  - { width: 4097, height: 2160 }\n"),
			 0);
	print_findings();
	assert_non_null(find("type-name", "t.yaml:1: name: \"../etc/passwd\""));
	assert_non_null(
		find("type-unknown-key", "t.yaml:2: vpcus: unknown key; did you mean vcpus?"));
	assert_non_null(find("type-value", "t.yaml:3: memory_mib: \"lots\""));
	assert_non_null(find("type-unknown-key",
			     "t.yaml:6: gpus.0.polcy: unknown key; did you mean policy?"));
	assert_non_null(find("type-value", "t.yaml:7: gpus.0.partition: \"1.5\""));
	assert_non_null(find("type-value", "t.yaml:9: displays.0.width: 4097"));
	assert_non_null(find("type-key", "vcpus is missing"));
	assert_int_equal(catalogue.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			shipped_families_are_good_and_go_through_json_exactly, setup, teardown),
		cmocka_unit_test_setup_teardown(example_of_the_documents_is_what_it_says, setup,
						teardown),
		cmocka_unit_test_setup_teardown(every_mistake_is_told_with_its_line, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
