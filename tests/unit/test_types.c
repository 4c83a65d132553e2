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
#include "tests/unit/fake_sysfs.h"

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

static void slices_of_a_gpu_are_asked_for_and_go_through_json(void **state)
{
	const struct instance_type *type;
	struct instance_type again;
	json_t *json;

	assert_int_equal(
		add("name: t\nvcpus: 1\nmemory_mib: 64\ngpus:\n  - { mode: dedicated }\n"
		    "  - { mode: dedicated, provider: sriov, count: 2, selector: Flex }\n"
		    "  - { mode: dedicated, provider: mdev, mdev_type: \"NVIDIA A40-4Q\" }\n"),
		1);
	type = type_catalogue_find(&catalogue, "t");
	assert_non_null(type);
	assert_int_equal(type->gpus[0].provider, TYPE_WHOLE);
	assert_true(type->gpus[1].provider == TYPE_SRIOV && type->gpus[1].count == 2);
	assert_int_equal(type->gpus[2].provider, TYPE_MDEV);
	assert_string_equal(type->gpus[2].mdev_type, "NVIDIA A40-4Q");
	json = type_json(type);
	assert_int_equal(type_from_json(json, "again", &again, &findings), 0);
	memcpy(again.source, type->source, sizeof(again.source));
	assert_memory_equal(&again, type, sizeof(again));
	json_decref(json);
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

/* One type of the words that are common, and @gpu as its only entry. Returns how many were taken. */
static int add_gpu(const char *gpu)
{
	char text[1024];

	snprintf(text, sizeof(text), "name: t\nvcpus: 1\nmemory_mib: 1024\ngpus:\n  - %s\n", gpu);
	findings.count = 0;
	return add(text);
}

static void what_no_gpu_could_keep_is_refused(void **state)
{
	static const struct {
		const char *gpu, *code, *words;
	} cases[] = {
		{ "{ mode: shared, partition: 1.01 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 0 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: -0.5 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: .nan }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 1e-1 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 0.0000001 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 5/4 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 1/0 }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 101% }", "type-value", "is no part of a GPU" },
		{ "{ mode: shared, partition: 0.5, elastic: -0.0 }", "type-value", "elastic" },
		{ "{ mode: shared, partition: 0.5, count: 2 }", "type-count", "one GPU" },
		{ "{ mode: shared, policy: fixed_share, vram_mib: 1024 }", "type-share",
		  "needs a part" },
		{ "{ mode: shared, policy: burst, vram_mib: 1024 }", "type-baseline", "baseline" },
		{ "{ mode: shared, policy: weighted }", "type-memory",
		  "how much of the GPU's memory" },
		{ "{ mode: shared, partition: 0.8, elastic: 0.3 }", "type-share",
		  "more than one whole" },
		{ "{ mode: shared, partition: 0.5, weight: 3 }", "type-key", "" },
		{ "{ mode: shared, policy: fixed_share, partition: 0.5, weight: 3 }", "type-key",
		  "weight: means nothing but for weighted" },
		{ "{ mode: shared, policy: weighted, partition: 0.5, elastic: 0.1 }", "type-key",
		  "elastic: means nothing" },
		{ "{ mode: shared, policy: burst, partition: 0.1, credits: { initial: 5, max: 4 } }",
		  "type-credits", "credits.initial" },
		{ "{ mode: shared, policy: burst, partition: 0.1, credits: { max: 1000001 } }",
		  "type-value", "no number of credits" },
		{ "{ mode: shared, partition: 0.5, vram_mib: 99999999 }", "type-value", "4194304" },
		{ "{ mode: dedicated, partition: 0.5 }", "type-key",
		  "means nothing for a dedicated device" },
		{ "{ mode: dedicated, provider: sr-iov }", "type-value",
		  "none of whole, sriov, mdev" },
		{ "{ mode: dedicated, provider: vulkan }", "type-value", "provider" },
		{ "{ mode: dedicated, provider: mdev }", "type-mdev", "of which type" },
		{ "{ mode: dedicated, provider: mdev, mdev_type: 558 }", "type-value",
		  "is not text" },
		{ "{ mode: dedicated, provider: mdev, mdev_type: m, count: 2 }", "type-count",
		  "made of one GPU" },
		{ "{ mode: dedicated, provider: sriov, mdev_type: m }", "type-key",
		  "means nothing but for provider: mdev" },
		{ "{ mode: dedicated, mdev_type: m }", "type-key", "means nothing" },
		{ "{ mode: shared, partition: 0.5, provider: sriov }", "type-key",
		  "means nothing for a vGPU" },
		{ "{ mode: shared, partition: 0.5, mdev_type: m }", "type-key",
		  "means nothing for a vGPU" },
		{ "{ mode: dedicated, count: 0 }", "type-value", "from 1 to 16" },
		{ "{ mode: dedicated, count: 17 }", "type-value", "from 1 to 16" },
		{ "{ mode: dedicated, count: 18446744073709551617 }", "type-value",
		  "from 1 to 16" },
		{ "{ mode: dedicated, count: 08 }", "type-value", "from 1 to 16" },
		{ "{ mode: both }", "type-value", "none of dedicated, shared" },
		{ "{ count: 1 }", "type-key", "mode is missing" },
		{ "{ mode: dedicated, selector: 1234 }", "type-value", "is not text" },
		{ "{ mode: dedicated, selector: \"a\\e[31mb\" }", "type-value", "printable ASCII" },
		{ "{ mode: dedicated, selector: [ a ] }", "type-value", "a list is not text" },
		{ "dedicated", "type-value", "is to be a mapping" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const bool weight_implies = strstr(cases[i].gpu, "0.5, weight: 3 }") ==
					    cases[i].gpu + strlen("{ mode: shared, partition: ");

		/* A weight without a policy is weighted: the only one here that is good. */
		if (weight_implies) {
			assert_int_equal(add_gpu(cases[i].gpu), 1);
			assert_int_equal(type_catalogue_find(&catalogue, "t")->gpus[0].policy,
					 SCHED_WEIGHTED);
			type_catalogue_free(&catalogue);
			continue;
		}
		if (add_gpu(cases[i].gpu) != 0 || !find(cases[i].code, cases[i].words)) {
			print_findings();
			fail_msg("%s: no %s with \"%s\"", cases[i].gpu, cases[i].code,
				 cases[i].words);
		}
		assert_non_null(strstr(findings.items[0].fact, "t.yaml:5: gpus.0"));
	}
	assert_int_equal(catalogue.count, 0);
}

static void entries_that_may_meet_on_one_gpu_fit_it_together(void **state)
{
	static const char head[] = "name: t\nvcpus: 1\nmemory_mib: 1024\ngpus:\n";
	char text[1024];

	snprintf(
		text, sizeof(text), "%s%s", head,
		"  - { mode: shared, partition: 0.6 }\n  - { mode: shared, partition: 0.400001 }\n");
	assert_int_equal(add(text), 0);
	assert_non_null(
		find("type-sum", "t.yaml:4: gpus: its shares and baselines add up to 1.000001"));
	findings.count = 0;
	snprintf(text, sizeof(text), "%s%s", head,
		 "  - { mode: shared, policy: weighted, partition: 0.6 }\n"
		 "  - { mode: shared, policy: best_effort, partition: 0.6 }\n");
	assert_int_equal(add(text), 0);
	assert_non_null(find("type-sum", "of a GPU's memory"));
	findings.count = 0;
	/* Each has a GPU of its own. */
	snprintf(text, sizeof(text), "%s%s", head,
		 "  - { mode: shared, partition: 0.6, selector: A100 }\n"
		 "  - { mode: shared, partition: 0.6, selector: H100 }\n");
	assert_int_equal(add(text), 1);
	findings.count = 0;
	snprintf(
		text, sizeof(text), "%s%s", head,
		"  - { mode: dedicated, count: 16 }\n  - { mode: dedicated, count: 1, selector: A }\n");
	assert_int_equal(add(text), 0);
	assert_non_null(find("type-count", "17 GPUs in all"));
}

static void words_of_ec2_mean_the_same(void **state)
{
	struct instance_type ours;

	assert_int_equal(add("name: t\nvcpus: 4\nmemory_mib: 8192\n"
			     "gpus: [ { mode: shared, partition: 0.125, vram_mib: 3072 } ]\n"),
			 1);
	ours = *type_catalogue_find(&catalogue, "t");
	type_catalogue_free(&catalogue);
	assert_int_equal(
		add("name: t\nvCpuInfo: { defaultVCpus: 4 }\nmemoryInfo: { sizeInMiB: 8192 }\n"
		    "gpus: [ { mode: shared, gpuPartitionSize: 0.125, memoryInfo: { sizeInMiB: 3072 } } ]\n"),
		1);
	assert_memory_equal(&ours, type_catalogue_find(&catalogue, "t"), sizeof(ours));
	assert_int_equal(findings.count, 0);
	assert_int_equal(add_gpu("{ mode: shared, gpuPartitionSize: 0.125, partition: 0.125 }"), 0);
	assert_non_null(find("type-key", "partition says the same"));
	assert_int_equal(
		add_gpu("{ mode: shared, gpuPartitionSize: 0.125, memoryInfo: { sizeInGiB: 3 } }"),
		0);
	assert_non_null(find("type-unknown-key", "did you mean sizeInMiB?"));
}

static void names_that_are_paths_are_none(void **state)
{
	static const char *const bad[] = {
		"a/b",	    "/etc/passwd",
		"..",	    ".",
		".hidden",  "-rf",
		"A1",	    "a b",
		"a\tb",	    "",
		"~",	    "a%2fb",
		"\xc3\xa4", "123456789012345678901234567890123456789012345678"
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(type_name_ok(bad[i]));
	assert_true(type_name_ok("s1.quarter"));
	assert_true(type_name_ok("0"));
	assert_int_equal(
		add("name: s1/quarter\nvcpus: 1\nmemory_mib: 64\ngpus: [ { mode: dedicated } ]\n"),
		0);
	assert_non_null(find("type-name", "t.yaml:1: name: \"s1/quarter\" is no name"));
}

static void hostile_yaml_is_harmless(void **state)
{
	static const char laughs[] =
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n";
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ laughs, "t.yaml:1: anchors and aliases are not taken" },
		{ "&a name: t\n", "t.yaml:1: " },
		{ "name: *a\n", "t.yaml:1: " },
		{ "name: &a x\n<<: *a\n", "t.yaml:1: anchors" },
		{ "name: !!binary aGVsbG8=\n", "t.yaml:1: tags are not taken" },
		{ "!!map {name: t}\n", "t.yaml:1: tags are not taken" },
		{ "name: t\nvcpus: 1\nname: u\n",
		  "t.yaml:1: name: is there twice (again in line 3)" },
		{ "name: t\n--- \nname: u\n", "t.yaml:2: a second document" },
		{ "name: \"t\\0u\"\n", "t.yaml:1: a NUL has no place" },
		{ "\"na\\0me\": t\n", "t.yaml:1: no key of a type is like that" },
		{ "? [name]\n: t\n", "t.yaml:1: a key is a plain word" },
		{ "name: [[[[[[[[t]]]]]]]]\n", "t.yaml:1: nested deeper" },
		{ "name: t\n\tvcpus: 1\n", "t.yaml:" },
		{ "name: \xff\xfe\n", "t.yaml:" },
		{ "name: {t\n", "t.yaml:" },
		{ "%YAML 9.9\n---\nname: t\n", "t.yaml:" },
		{ "", "there is nothing in it" },
		{ "# only words\n", "there is nothing in it" },
		{ "just text\n", "t.yaml:1: is to be a mapping" },
		{ "- 1\n- 2\n", "t.yaml:1: 0: is to be a mapping" },
		{ "name: null\nvcpus: 1\nmemory_mib: 64\ngpus: [ { mode: dedicated } ]\n",
		  "t.yaml:1: name: nothing is no name" },
		{ "name: t\nvcpus: 1\nmemory_mib: 64\ngpus: {}\n",
		  "t.yaml:4: gpus: is to be a list" },
		{ "name: t\nvcpus: 1\nmemory_mib: 64\ngpus: []\n", "a type without any GPU" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		findings.count = 0;
		if (add(cases[i].text) != 0 || !findings_blockers(&findings) ||
		    !strstr(findings.items[0].fact, cases[i].words)) {
			print_findings();
			fail_msg("%s: not \"%s\"", cases[i].text, cases[i].words);
		}
	}
	assert_int_equal(catalogue.count, 0);
}

/* A byte repeated to the size of the largest file, and one more. */
static void size_and_depth_are_bounded(void **state)
{
	static char text[TYPE_FILE_BYTES + 1];
	static const char bytes[] = "[{-? :\n&*!|>'\"%@`#,aZ09\0";

	for (unsigned i = 0; i < sizeof(bytes); i++) {
		memset(text, bytes[i], sizeof(text));
		findings.count = 0;
		assert_int_equal(type_catalogue_add_text(&catalogue, text, TYPE_FILE_BYTES,
							 "t.yaml", &findings),
				 0);
		assert_true(findings_blockers(&findings) > 0);
	}
	assert_int_equal(
		type_catalogue_add_text(&catalogue, text, sizeof(text), "t.yaml", &findings),
		-EFBIG);
	/* Many small things. */
	for (size_t i = 1; i + 3 <= TYPE_FILE_BYTES; i += 3)
		memcpy(text + i, "[],", 3);
	text[0] = '[';
	findings.count = 0;
	assert_int_equal(
		type_catalogue_add_text(&catalogue, text, TYPE_FILE_BYTES, "t.yaml", &findings), 0);
	assert_non_null(find("type-yaml", "more values than"));
}

static void words_that_reach_a_terminal_are_plain(void **state)
{
	assert_int_equal(add("\"na\\e[2Jme\": x\nname: \"\\e]0;x\\a\"\n"), 0);
	for (unsigned i = 0; i < findings.count; i++)
		for (const char *c = findings.items[i].fact; *c; c++)
			assert_true(*c >= ' ' && *c <= '~');
}

/* ---- folders ------------------------------------------------------------------------------------ */

static struct fake_sysfs fs;

static int setup_folder(void **state)
{
	fake_sysfs_create(&fs);
	return setup(state);
}

static int teardown_folder(void **state)
{
	fake_sysfs_destroy(&fs);
	return teardown(state);
}

#define TYPE(name, vcpus) \
	"name: " name "\nvcpus: " vcpus "\nmemory_mib: 64\ngpus: [ { mode: dedicated } ]\n"

static void later_folder_overrides_with_a_note(void **state)
{
	char path[128];

	fake_sysfs_write(&fs, "one/a.yaml", "%s", TYPE("x1", "1"));
	fake_sysfs_write(&fs, "one/b.yaml", "%s", TYPE("x2", "1"));
	fake_sysfs_write(&fs, "two/z.yaml", "%s", TYPE("x2", "7"));
	snprintf(path, sizeof(path), "%s/one", fs.root);
	assert_int_equal(type_catalogue_add_folder(&catalogue, path, &findings), 2);
	snprintf(path, sizeof(path), "%s/two", fs.root);
	assert_int_equal(type_catalogue_add_folder(&catalogue, path, &findings), 1);
	assert_int_equal(catalogue.count, 2);
	assert_int_equal(type_catalogue_find(&catalogue, "x2")->vcpus, 7);
	assert_int_equal(findings.count, 1);
	assert_int_equal(findings.items[0].level, FINDING_NOTE);
	assert_non_null(find("type-overridden", "two/z.yaml: x2 replaces that of"));
}

static void wrong_replacement_leaves_what_was_there(void **state)
{
	assert_int_equal(add(TYPE("x1", "3")), 1);
	assert_int_equal(add(TYPE("x1", "0")), 0);
	assert_int_equal(type_catalogue_find(&catalogue, "x1")->vcpus, 3);
	assert_non_null(find("type-value", "t.yaml:2: vcpus: 0 is not a whole number"));
}

static void wrong_type_of_a_list_leaves_the_others(void **state)
{
	assert_int_equal(
		add("- { name: x1, vcpus: 1, memory_mib: 64, gpus: [ { mode: dedicated } ] }\n"
		    "- { name: x2, vcpus: 1, memory_mib: 63, gpus: [ { mode: dedicated } ] }\n"
		    "- { name: x1, vcpus: 2, memory_mib: 64, gpus: [ { mode: dedicated } ] }\n"
		    "- { name: x3, vcpus: 1, memory_mib: 64, gpus: [ { mode: dedicated } ] }\n"),
		2);
	assert_non_null(find("type-value", "t.yaml:2: 1.memory_mib: 63"));
	assert_non_null(find("type-twice", "t.yaml:3: 2.name: \"x1\" is there twice"));
	assert_int_equal(type_catalogue_find(&catalogue, "x1")->vcpus, 1);
	assert_non_null(type_catalogue_find(&catalogue, "x3"));
}

static void only_files_are_read(void **state)
{
	char path[256];

	fake_sysfs_write(&fs, "t/a.yaml", "%s", TYPE("x1", "1"));
	fake_sysfs_write(&fs, "t/.b.yaml", "%s", "nonsense");
	fake_sysfs_write(&fs, "t/c.yaml~", "%s", "nonsense");
	fake_sysfs_folder(&fs, "t/d.yaml");
	snprintf(path, sizeof(path), "%s/t/e.yaml", fs.root);
	assert_int_equal(mkfifo(path, 0600), 0);
	fake_sysfs_link(&fs, "t/f.yaml", "t/f.yaml"); /* to itself */
	snprintf(path, sizeof(path), "%s/t", fs.root);
	assert_int_equal(type_catalogue_add_folder(&catalogue, path, &findings), 1);
	assert_int_equal(findings_blockers(&findings), 3);
	assert_non_null(find("type-unreadable", "t/d.yaml"));
	assert_non_null(find("type-unreadable", "t/e.yaml"));
	assert_non_null(find("type-unreadable", "t/f.yaml"));
	findings.count = 0;
	snprintf(path, sizeof(path), "%s/nowhere", fs.root);
	assert_int_equal(type_catalogue_add_folder(&catalogue, path, &findings), -ENOENT);
}

static void catalogue_is_bounded(void **state)
{
	char text[256];

	for (unsigned i = 0; i <= TYPE_CATALOGUE_MAX; i++) {
		snprintf(text, sizeof(text),
			 "{ name: t%u, vcpus: 1, memory_mib: 64, gpus: [ { mode: dedicated } ] }",
			 i);
		assert_int_equal(add(text), i < TYPE_CATALOGUE_MAX);
	}
	assert_int_equal(catalogue.count, TYPE_CATALOGUE_MAX);
	assert_non_null(find("type-too-many", "t1024"));
	for (unsigned i = 1; i < catalogue.count; i++)
		assert_true(strcmp(catalogue.items[i - 1].name, catalogue.items[i].name) < 0);
}

/* ---- JSON, numbers, words ------------------------------------------------------------------------ */

static void json_of_a_stranger_is_checked_as_a_file_is(void **state)
{
	static const char *const bad[] = {
		"[]",
		"7",
		"{}",
		"{\"name\": \"t\", \"vcpus\": 1.5, \"memory_mib\": 64, \"gpus\": [{\"mode\": \"dedicated\"}]}",
		"{\"name\": \"t\", \"vcpus\": -1, \"memory_mib\": 64, \"gpus\": [{\"mode\": \"dedicated\"}]}",
		"{\"name\": \"t/u\", \"vcpus\": 1, \"memory_mib\": 64, \"gpus\": [{\"mode\": \"dedicated\"}]}",
		"{\"name\": \"t\", \"vcpus\": 1, \"memory_mib\": 64, \"gpus\": [{\"mode\": \"shared\", \"partition\": 1e308}]}",
		"{\"name\": \"t\", \"vcpus\": 1, \"memory_mib\": 64, \"gpus\": [{\"mode\": \"shared\", \"partition\": -0.1}]}",
		"{\"name\": \"t\", \"vcpus\": 1, \"memory_mib\": 64, \"gpus\": [{\"mode\": \"dedicated\"}], \"source\": \"/\"}",
	};
	struct instance_type type;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *json = json_loads(bad[i], JSON_DECODE_ANY, NULL);

		assert_non_null(json);
		findings.count = 0;
		assert_int_equal(type_from_json(json, "request", &type, &findings), -EINVAL);
		assert_true(findings_blockers(&findings) > 0);
		assert_non_null(strstr(findings.items[0].fact, "request: "));
		json_decref(json);
	}
}

static void shares_are_exact(void **state)
{
	static const struct {
		const char *text;
		uint32_t ppm;
	} good[] = { { "1", 1000000 },	      { "1.0", 1000000 },  { "0.25", 250000 },
		     { ".5", 500000 },	      { "1/3", 333333 },   { "2/3", 666666 },
		     { "100%", 1000000 },     { "12.5%", 125000 }, { "0.000001", 1 },
		     { "0.9999999", 999999 }, { "1/1000000", 1 } };
	static const char *const bad[] = { "",	    "%",
					   "/",	    "1/",
					   "/2",    "1.1",
					   "0.0",   "1/3/4",
					   "0x1",   "1 ",
					   " 1",    "+1",
					   "-1",    "1,5",
					   "1.2.3", "nan",
					   "inf",   "50%%",
					   "1/0.5", "0.5/1",
					   ".",	    "99999999999999999999999999999",
					   "1/2%" };
	uint32_t ppm;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(type_share(good[i].text, &ppm), 0);
		assert_int_equal(ppm, good[i].ppm);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(type_share(bad[i], &ppm), -EINVAL);
}

static void nearest_word_is_the_one_that_was_meant(void **state)
{
	static const char *const words[] = { "name", "vcpus", "memory_mib", "gpus", "displays" };
	static const char far[] = "gpsu-gpsu-gpsu-gpsu-gpsu-gpsu-gpsu-gpsu-gpsu-gpsu-gpsu-gpsu";

	assert_string_equal(type_nearest("vpcus", words, 5), "vcpus");
	assert_string_equal(type_nearest("memory-mib", words, 5), "memory_mib");
	assert_string_equal(type_nearest("Memory_MiB", words, 5), "memory_mib");
	assert_string_equal(type_nearest("display", words, 5), "displays");
	assert_string_equal(type_nearest("gpu", words, 5), "gpus");
	assert_null(type_nearest("colour", words, 5));
	assert_null(type_nearest("", words, 5));
	/* One that is too long is nobody's neighbour. */
	assert_string_equal(type_nearest("gpsu", (const char *const[]){ far, "gpus" }, 2), "gpus");
	assert_null(type_nearest("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
				 words, 5));
}

static void no_elastic_time_may_be_said(void **state)
{
	static const char *const none[] = { "0", "0.0", "0.000000", "0.00" };
	char gpu[96];

	for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
		snprintf(gpu, sizeof(gpu), "{ mode: shared, partition: 0.5, elastic: %s }",
			 none[i]);
		assert_int_equal(add_gpu(gpu), 1);
		assert_int_equal(type_catalogue_find(&catalogue, "t")->gpus[0].elastic_ppm, 0);
	}
}

static void memory_of_a_part_is_rounded_down(void **state)
{
	struct type_gpu gpu = { .partition_ppm = 333333 };

	assert_int_equal(type_gpu_vram_mib(&gpu, 81559), 27186);
	assert_int_equal(type_gpu_vram_mib(&gpu, 0), 0);
	gpu.partition_ppm = SCHED_PPM;
	assert_int_equal(type_gpu_vram_mib(&gpu, UINT64_C(1) << 40), UINT64_C(1) << 40);
	gpu.vram_mib = 7;
	assert_int_equal(type_gpu_vram_mib(&gpu, 81559), 7);
}

#define TEST(name)   cmocka_unit_test_setup_teardown(name, setup, teardown)
#define FOLDER(name) cmocka_unit_test_setup_teardown(name, setup_folder, teardown_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shipped_families_are_good_and_go_through_json_exactly),
		TEST(slices_of_a_gpu_are_asked_for_and_go_through_json),
		TEST(example_of_the_documents_is_what_it_says),
		TEST(every_mistake_is_told_with_its_line),
		TEST(what_no_gpu_could_keep_is_refused),
		TEST(entries_that_may_meet_on_one_gpu_fit_it_together),
		TEST(words_of_ec2_mean_the_same),
		TEST(names_that_are_paths_are_none),
		TEST(hostile_yaml_is_harmless),
		TEST(size_and_depth_are_bounded),
		TEST(words_that_reach_a_terminal_are_plain),
		TEST(wrong_replacement_leaves_what_was_there),
		TEST(wrong_type_of_a_list_leaves_the_others),
		TEST(catalogue_is_bounded),
		TEST(json_of_a_stranger_is_checked_as_a_file_is),
		TEST(no_elastic_time_may_be_said),
		FOLDER(later_folder_overrides_with_a_note),
		FOLDER(only_files_are_read),
		cmocka_unit_test(shares_are_exact),
		cmocka_unit_test(nearest_word_is_the_one_that_was_meant),
		cmocka_unit_test(memory_of_a_part_is_rounded_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
