// SPDX-License-Identifier: Apache-2.0
/* divvy top without a terminal: what it makes of what it is told, and what it draws, line by line. Run from the top. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "instances/cli/table.h"
#include "instances/top/top.h"

#define SECOND NSEC_PER_SEC

static json_t *parsed(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, 0, &error);

	if (!json)
		fail_msg("%s", error.text);
	return json;
}

/* A vGPU as the API has it. */
static json_t *vgpu(const char *name, const char *gpu, const char *policy, double share,
		    double used, double waited)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:i, s:f, s:f, s:o}",
			 "name", name, "instance", "web", "gpu", gpu, "policy", policy, "weight",
			 100, "share", share, "gpu_seconds", used, "wait_seconds", waited,
			 "debt_seconds", 0.0125, "workers", 2, "vram_bytes", 512.0 * 1048576,
			 "vram_limit_bytes", 2048.0 * 1048576, "credits",
			 strcmp(policy, "burst") ? json_null()
						 : json_pack("{s:f, s:f}", "balance", 3.5,
							     "surplus_balance", 1.25));
}

/* Two looks, @seconds apart: three vGPUs on one GPU, none on the other. */
static void two_looks(struct top_model *model, unsigned seconds)
{
	json_t *gpus = parsed(
		"{\"gpus\": ["
		"{\"id\": \"pci-0000:01:00.0\", \"name\": \"A GPU\", \"state\": \"shared\", \"share_sold\": 0.35,"
		" \"memory_bytes\": 17179869184, \"drained\": true},"
		"{\"id\": \"pci-0000:02:00.0\", \"name\": \"Another\", \"state\": \"quarantined\", \"share_sold\": 0,"
		" \"memory_bytes\": 0, \"drained\": false},"
		"{\"id\": \"pci-0000:03:00.0\", \"name\": \"A third\", \"state\": \"dedicated\", \"share_sold\": 1,"
		" \"memory_bytes\": 0, \"drained\": false, \"instance\": \"render\"}]}");

	for (unsigned look = 0; look < 2; look++) {
		const double t = look * seconds;
		json_t *vgpus = json_pack(
			"{s:[o, o, o]}", "vgpus",
			vgpu("web/0", "pci-0000:01:00.0", "fixed_share", 0.25, 10 + t * 0.25,
			     t * 0.75),
			vgpu("batch/0", "pci-0000:01:00.0", "weighted", 0, t * 0.5, 0),
			vgpu("desk/0", "pci-0000:01:00.0", "burst", 0.1, t * 0.125, t * 0.0625));

		assert_int_equal(top_feed_api(model, gpus, vgpus, (100 + look * seconds) * SECOND),
				 0);
		json_decref(vgpus);
	}
	json_decref(gpus);
	strcpy(model->source, "divvyd /run/divvy/api");
}

static const struct top_vgpu *find(const struct top_model *model, const char *name)
{
	for (unsigned i = 0; i < model->vgpu_count; i++)
		if (!strcmp(model->vgpus[i].name, name))
			return &model->vgpus[i];
	fail_msg("no %s", name);
	return NULL;
}

static void shares_are_of_the_time_between_two_looks(void **state)
{
	struct top_model model = { 0 };
	const struct top_vgpu *web;

	two_looks(&model, 4);
	web = find(&model, "web/0");
	assert_true(fabs(web->got - 0.25) < 1e-9);
	assert_true(fabs(web->wait - 0.75) < 1e-9);
	assert_true(fabs(find(&model, "desk/0")->credits - 2.25) < 1e-9);
	assert_true(isnan(web->credits));
	assert_true(fabs(model.gpus[0].busy - 0.875) < 1e-9);
	/* Four seconds of the strip are seen, and none before. */
	assert_true(web->strip.got[TOP_STRIP - 4] > 0 && web->strip.got[TOP_STRIP - 5] < 0);
	assert_true(model.gpus[1].strip.got[TOP_STRIP - 1] == 0);
	top_free(&model);
}

static void one_that_begins_anew_under_its_name_is_another(void **state)
{
	struct top_model model = { 0 };
	json_t *gpus = parsed("{\"gpus\": []}");

	for (unsigned look = 0; look < 2; look++) {
		json_t *vgpus = json_pack("{s:[o]}", "vgpus",
					  vgpu("web/0", "g", "weighted", 0, look ? 1 : 500, 0));

		top_feed_api(&model, gpus, vgpus, (1 + look) * SECOND);
		json_decref(vgpus);
	}
	assert_true(find(&model, "web/0")->got < 0);
	json_decref(gpus);
	top_free(&model);
}

/* The daemon looks once a second by a clock of its own: between two answers to us there may be none of its looks, or two. */
static void shares_are_of_when_they_were_measured(void **state)
{
	/* when we asked; what it knew then, and of when */
	static const struct {
		double asked, measured, got;
	} looks[] = { { 1.0, 0.9, -1 }, { 2.0, 1.9, 0.5 }, { 3.0, 1.9, 0.5 }, { 4.0, 3.9, 0.5 } };
	json_t *gpus =
		parsed("{\"gpus\": [{\"id\": \"g\", \"share_sold\": 0},"
		       " {\"id\": \"whole\", \"share_sold\": 1, \"state\": \"dedicated\"}]}");
	struct top_model model = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(looks); i++) {
		json_t *vgpus = json_pack(
			"{s:I, s:[o]}", "measured_ns", (json_int_t)(looks[i].measured * SECOND),
			"vgpus", vgpu("web/0", "g", "weighted", 0, looks[i].measured / 2, 0));

		assert_int_equal(
			top_feed_api(&model, gpus, vgpus, (uint64_t)(looks[i].asked * SECOND)), 0);
		assert_true(fabs(find(&model, "web/0")->got - looks[i].got) < 1e-9);
		assert_true(fabs(model.gpus[0].busy - looks[i].got) < 1e-9);
		/* Of one that is handed out whole nobody here sees what it does. */
		assert_true(model.gpus[1].busy < 0);
		json_decref(vgpus);
	}
	/* Three of them were seen, each once. */
	assert_true(fabs(find(&model, "web/0")->strip.got[TOP_STRIP - 3] - 0.5) < 1e-6);
	assert_true(find(&model, "web/0")->strip.got[TOP_STRIP - 4] < 0);
	json_decref(gpus);
	top_free(&model);
}

/* All lines of a picture, looks and all, beside what is in the file. */
static void golden(const struct top_model *model, unsigned width, unsigned height, bool utf8,
		   const char *name)
{
	static char text[65536], kept[65536];
	const char *mode = getenv("DIVVY_GOLDEN");
	struct top_line *lines = calloc(height, sizeof(*lines));
	char path[128];
	FILE *file;
	size_t n;

	assert_non_null(lines);
	top_draw(model, width, height, utf8, lines);
	text[0] = '\0';
	for (unsigned i = 0; i < height; i++) {
		assert_true(table_text_width(lines[i].text) <= width);
		text_append(text, sizeof(text), "%d|%s\n", (int)lines[i].look, lines[i].text);
	}
	free(lines);
	snprintf(path, sizeof(path), "tests/unit/golden/%s", name);
	file = fopen(path, mode && !strcmp(mode, "update") ? "we" : "re");
	if (!file)
		fail_msg("no %s (next: DIVVY_GOLDEN=update)", path);
	if (mode && !strcmp(mode, "update")) {
		fputs(text, file);
		fclose(file);
		return;
	}
	n = fread(kept, 1, sizeof(kept) - 1, file);
	fclose(file);
	kept[n] = '\0';
	assert_string_equal(text, kept);
}

static void pictures_are_as_they_were(void **state)
{
	struct top_model model = { 0 };

	golden(&model, 80, 24, true, "top-empty.txt");
	two_looks(&model, 8);
	golden(&model, 80, 24, true, "top-80x24.txt");
	golden(&model, 132, 10, false, "top-132x10-ascii.txt");
	golden(&model, 20, 8, true, "top-20x8.txt");
	model.sort = TOP_BY_GOT;
	top_sort(&model);
	top_select(&model, 1);
	model.mode = TOP_WEIGHT;
	strcpy(model.typed, "250");
	golden(&model, 80, 8, true, "top-weight.txt");
	model.mode = TOP_HELP;
	golden(&model, 80, 24, true, "top-help.txt");
	top_free(&model);
}

static void what_is_selected_is_on_the_screen(void **state)
{
	struct top_model model = { 0 };
	json_t *gpus = parsed("{\"gpus\": []}"), *vgpus = json_pack("{s:[]}", "vgpus");
	struct top_line lines[10];
	bool seen;
	char name[16];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "v%03u", i);
		json_array_append_new(json_object_get(vgpus, "vgpus"),
				      vgpu(name, "g", "weighted", 0, 0, 0));
	}
	top_feed_api(&model, gpus, vgpus, SECOND);
	for (unsigned i = 0; i < 120; i++) {
		top_draw(&model, 80, ARRAY_SIZE(lines), true, lines);
		seen = false;
		for (unsigned k = 0; k < ARRAY_SIZE(lines); k++)
			seen |= lines[k].look == TOP_SELECTED &&
				strstr(lines[k].text, top_selected(&model)->name);
		assert_true(seen);
		top_select(&model, 1);
	}
	assert_string_equal(top_selected(&model)->name, "v099");
	json_decref(gpus);
	json_decref(vgpus);
	top_free(&model);
}

/* Anything may be told, and any size may be asked for. */
static void nonsense_is_drawn_within_its_lines(void **state)
{
	static const char *const told[] = {
		"{}",
		"{\"vgpus\": 7}",
		"{\"vgpus\": [1, null, [], \"x\", {}]}",
		"{\"vgpus\": [{\"name\": \"\\u001b[2J\\u00e9\", \"gpu\": \"g\", \"policy\": \"x\", \"weight\": -5,"
		" \"memory_used\": 1e300, \"memory_quota\": -1, \"share_ppm\": 1e300,"
		" \"engines\": {\"graphics\": {\"used_ns\": 1e300, \"debt_ns\": 1e300, \"credit_ns\": -1e300}, \"x\": 5}}]}",
	};
	struct top_line *lines = calloc(60, sizeof(*lines));
	struct top_model model = { 0 };

	assert_non_null(lines);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(told); i++) {
		json_t *json = parsed(told[i % ARRAY_SIZE(told)]);

		assert_int_equal(top_feed_arbiter(&model, json, (i + 1) * SECOND), 0);
		json_decref(json);
		for (unsigned width = 0; width < 200; width += 7)
			for (unsigned height = 0; height < 60; height += 3) {
				top_draw(&model, width, height, width & 1, lines);
				for (unsigned l = 0; l < height; l++) {
					if (table_text_width(lines[l].text) > width)
						fail_msg("%ux%u: %s", width, height, lines[l].text);
					assert_null(strchr(lines[l].text, '\033'));
				}
			}
		model.mode = (model.mode + 1) % 3;
	}
	free(lines);
	top_free(&model);
}

static int group_setup(void **state)
{
	return setlocale(LC_CTYPE, "C.UTF-8") ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_of_the_time_between_two_looks),
		cmocka_unit_test(shares_are_of_when_they_were_measured),
		cmocka_unit_test(one_that_begins_anew_under_its_name_is_another),
		cmocka_unit_test(pictures_are_as_they_were),
		cmocka_unit_test(what_is_selected_is_on_the_screen),
		cmocka_unit_test(nonsense_is_drawn_within_its_lines),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
