// SPDX-License-Identifier: Apache-2.0
/*
 * A model of divvy top as lines (top.h): a title, each GPU with its vGPUs below it, and what keys do. Columns are there as far as they fit,
 * the important ones first; the last minute gets the room that is left. Pure: the same model and size give the same lines.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "instances/top/top.h"

#define FRAME	  3 /* lines that are no rows: title, head, keys */
#define STRIP_MIN 10
#define NAME_MIN  10
#define NAME_MAX  28

/* Columns of numbers, in the order they stand; @rank: the lower, the sooner it is there. */
enum column {
	COLUMN_POLICY,
	COLUMN_SOLD,
	COLUMN_GOT,
	COLUMN_WAIT,
	COLUMN_DEBT,
	COLUMN_CREDITS,
	COLUMN_VRAM,
	COLUMNS
};

static const struct {
	const char *title;
	unsigned width, rank;
} columns[COLUMNS] = {
	[COLUMN_POLICY] = { "policy", 8, 6 }, [COLUMN_SOLD] = { "sold", 6, 1 },
	[COLUMN_GOT] = { "got", 6, 0 },	      [COLUMN_WAIT] = { "wait", 5, 2 },
	[COLUMN_DEBT] = { "debt", 7, 3 },     [COLUMN_CREDITS] = { "credits", 7, 5 },
	[COLUMN_VRAM] = { "memory", 11, 4 },
};

struct layout {
	unsigned width, name, strip; /* @strip 0: none */
	bool there[COLUMNS];
	bool utf8;
};

static void layout_make(struct layout *layout, unsigned width, bool utf8)
{
	unsigned left;

	*layout = (struct layout){ .width = width, .utf8 = utf8 };
	layout->name = MIN(width, (unsigned)NAME_MIN);
	left = width - layout->name;
	for (unsigned rank = 0; rank < COLUMNS; rank++)
		for (unsigned c = 0; c < COLUMNS; c++)
			if (columns[c].rank == rank && left > columns[c].width) {
				layout->there[c] = true;
				left -= columns[c].width + 1;
			}
	if (left > STRIP_MIN) {
		const unsigned more = MIN(left - STRIP_MIN - 1, (unsigned)(NAME_MAX - NAME_MIN));

		layout->name += more;
		layout->strip = MIN(left - more - 1, (unsigned)TOP_STRIP);
		left -= more + 1 + layout->strip;
	}
	layout->name += MIN(left, NAME_MAX > layout->name ? NAME_MAX - layout->name : 0);
}

/* ---- cells ------------------------------------------------------------------------------------- */

/* Columns of what was written so far: strips are the only text that is not ASCII. */
static unsigned columns_of(const char *text)
{
	unsigned count = 0;

	for (; *text; text++)
		count += (*text & 0xc0) != 0x80;
	return count;
}

static void put(struct top_line *line, const struct layout *layout, const char *text,
		unsigned width, bool right)
{
	const unsigned used = columns_of(line->text), gap = used ? 1 : 0;
	const unsigned room = layout->width > used + gap ? layout->width - used - gap : 0;

	width = MIN(width, room);
	if (!width)
		return;
	text_append(line->text, sizeof(line->text), right ? "%*s%*.*s" : "%*s%-*.*s", (int)gap, "",
		    (int)width, (int)width, text);
}

static const char *part(char *to, size_t size, double value)
{
	if (value < 0)
		snprintf(to, size, "-");
	else if (value < 0.9995)
		snprintf(to, size, "%.1f%%", 100 * value);
	else
		snprintf(to, size, "%.0f%%", 100 * value);
	return to;
}

static const char *mib(char *to, size_t size, uint64_t used, uint64_t limit)
{
	const bool large = MAX(used, limit) >= 10000;

	snprintf(to, size, "%llu", (unsigned long long)(large ? (used + 512) / 1024 : used));
	if (limit)
		text_append(to, size, "/%llu",
			    (unsigned long long)(large ? (limit + 512) / 1024 : limit));
	text_append(to, size, "%s", large ? "G" : "M");
	return to;
}

/* The end of the last minute, a second a column: a full block is all of a GPU. */
static void strip_put(struct top_line *line, const struct layout *layout,
		      const struct top_strip *strip)
{
	static const char *const blocks[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const plain[] = { " ", ".", ".", ":", "-", "=", "+", "*", "#" };

	if (!layout->strip || columns_of(line->text) + 1 + layout->strip > layout->width)
		return;
	text_append(line->text, sizeof(line->text), " ");
	for (unsigned i = TOP_STRIP - layout->strip; i < TOP_STRIP; i++) {
		const double got = strip->got[i];
		/* The least that is not nothing is seen. */
		const int level = got < 0.002 ? 0 : (int)MIN(MAX(ceil(got * 8 - 0.5), 1), 8);

		text_append(line->text, sizeof(line->text), "%s",
			    layout->utf8 ? blocks[level] : plain[level]);
	}
}

/* ---- rows --------------------------------------------------------------------------------------- */

static void head_row(struct top_line *line, const struct layout *layout)
{
	line->look = TOP_HEAD;
	put(line, layout, "GPU, vGPU", layout->name, false);
	for (unsigned c = 0; c < COLUMNS; c++)
		if (layout->there[c])
			put(line, layout, columns[c].title, columns[c].width, c != COLUMN_POLICY);
	if (layout->strip)
		put(line, layout, layout->strip >= 12 ? "last minute" : "minute", layout->strip,
		    false);
	/* so that a reversed line is one bar */
	put(line, layout, "", layout->width, false);
}

/* Columns @first to @last as one cell. */
static void put_span(struct top_line *line, const struct layout *layout, const char *text,
		     unsigned width, enum column first, enum column last)
{
	for (unsigned c = first; c <= last; c++)
		if (layout->there[c])
			width += columns[c].width + (width ? 1 : 0);
	put(line, layout, text, width, false);
}

/* Its ID reaches over the policies of its vGPUs, its state stands where they have waits, debts and credits. */
static void gpu_row(struct top_line *line, const struct layout *layout, const struct top_gpu *gpu)
{
	char text[48];

	line->look = strstr(gpu->state, "quarantined") ? TOP_ALARM : TOP_GPU;
	put_span(line, layout, gpu->id, layout->name, COLUMN_POLICY, COLUMN_POLICY);
	if (layout->there[COLUMN_SOLD])
		put(line, layout, part(text, sizeof(text), gpu->sold), columns[COLUMN_SOLD].width,
		    true);
	if (layout->there[COLUMN_GOT])
		put(line, layout, part(text, sizeof(text), gpu->busy), columns[COLUMN_GOT].width,
		    true);
	put_span(line, layout, gpu->state, 0, COLUMN_WAIT, COLUMN_CREDITS);
	if (layout->there[COLUMN_VRAM]) {
		/* What a card has that no driver of the host's looks after is not known. */
		mib(text, sizeof(text), gpu->vram_mib, gpu->memory_mib);
		put(line, layout, gpu->vram_mib || gpu->memory_mib ? text : "-",
		    columns[COLUMN_VRAM].width, true);
	}
	strip_put(line, layout, &gpu->strip);
}

/* What it was sold: a part, or a weight. */
static const char *sold(char *to, size_t size, const struct top_vgpu *vgpu)
{
	if (vgpu->sold > 0)
		return part(to, size, vgpu->sold);
	if (!strcmp(vgpu->policy, "weighted"))
		snprintf(to, size, "w%u", vgpu->weight);
	else
		snprintf(to, size, "-");
	return to;
}

static void vgpu_row(struct top_line *line, const struct layout *layout,
		     const struct top_vgpu *vgpu, bool selected)
{
	char text[48], name[TOP_NAME + 2], policy[16];

	line->look = selected ? TOP_SELECTED : TOP_NORMAL;
	snprintf(name, sizeof(name), "  %s", vgpu->name);
	put(line, layout, name, layout->name, false);
	for (unsigned c = 0; c < COLUMNS; c++) {
		const char *cell = "-";

		if (!layout->there[c])
			continue;
		switch ((enum column)c) {
		case COLUMN_POLICY:
			/* "fixed_share" is "fixed": the column's name says the rest */
			snprintf(policy, sizeof(policy), "%.*s", (int)strcspn(vgpu->policy, "_"),
				 vgpu->policy);
			cell = policy;
			break;
		case COLUMN_SOLD:
			cell = sold(text, sizeof(text), vgpu);
			break;
		case COLUMN_GOT:
			cell = part(text, sizeof(text), vgpu->got);
			break;
		case COLUMN_WAIT:
			if (vgpu->wait >= 0)
				snprintf(text, sizeof(text), "%.0f%%", 100 * vgpu->wait);
			cell = vgpu->wait >= 0 ? text : "-";
			break;
		case COLUMN_DEBT:
			snprintf(text, sizeof(text), vgpu->debt_s < 10 ? "%.0fms" : "%.0fs",
				 vgpu->debt_s < 10 ? 1e3 * vgpu->debt_s : vgpu->debt_s);
			cell = text;
			break;
		case COLUMN_CREDITS:
			if (!isnan(vgpu->credits))
				/* no "-0.00" */
				snprintf(text, sizeof(text), "%.2f",
					 fabs(vgpu->credits) < 0.005 ? 0 : vgpu->credits);
			cell = isnan(vgpu->credits) ? "-" : text;
			break;
		case COLUMN_VRAM:
			cell = mib(text, sizeof(text), vgpu->vram_mib, vgpu->vram_limit_mib);
			break;
		case COLUMNS:
			break;
		}
		put(line, layout, cell, columns[c].width, c != COLUMN_POLICY);
	}
	strip_put(line, layout, &vgpu->strip);
}

/* ---- all of it ------------------------------------------------------------------------------------ */

/* The row'th of all rows, drawn into @line; false behind the last. @line NULL: which row the selected vGPU is. */
static bool row_draw(const struct top_model *model, const struct layout *layout, unsigned row,
		     struct top_line *line, unsigned *selected_row)
{
	const struct top_vgpu *selected = top_selected(model);
	unsigned at = 0;

	for (unsigned g = 0; g < model->gpu_count; g++) {
		if (line && at == row) {
			gpu_row(line, layout, &model->gpus[g]);
			return true;
		}
		at++;
		for (unsigned v = 0; v < model->vgpu_count; v++) {
			const struct top_vgpu *vgpu = &model->vgpus[v];

			if (strcmp(vgpu->gpu, model->gpus[g].id) != 0)
				continue;
			if (line && at == row) {
				vgpu_row(line, layout, vgpu, vgpu == selected);
				return true;
			}
			if (selected_row && vgpu == selected)
				*selected_row = at;
			at++;
		}
	}
	return false;
}

static void title_row(struct top_line *line, const struct layout *layout,
		      const struct top_model *model)
{
	char text[512];

	line->look = TOP_TITLE;
	snprintf(text, sizeof(text), "divvy top: %u GPU%s, %u vGPU%s, by %s%s%s   %s",
		 model->gpu_count, model->gpu_count == 1 ? "" : "s", model->vgpu_count,
		 model->vgpu_count == 1 ? "" : "s", top_sort_name(model->sort),
		 model->backwards ? " backwards" : "", model->paused ? ", PAUSED" : "",
		 model->source);
	put(line, layout, text, MIN((unsigned)strlen(text), layout->width), false);
}

static void keys_row(struct top_line *line, const struct layout *layout,
		     const struct top_model *model)
{
	const struct top_vgpu *selected = top_selected(model);
	char text[512];

	line->look = TOP_DIM;
	if (model->mode == TOP_WEIGHT && selected) {
		line->look = TOP_TITLE;
		snprintf(text, sizeof(text), "weight of %s (%u): %s_", selected->name,
			 selected->weight, model->typed);
	} else if (model->note[0]) {
		line->look = TOP_ALARM;
		snprintf(text, sizeof(text), "%s", model->note);
	} else {
		snprintf(text, sizeof(text),
			 "q quit  s sort  S backwards  p pause  w weight  h help");
	}
	put(line, layout, text, MIN((unsigned)strlen(text), layout->width), false);
}

static void help_rows(const struct layout *layout, unsigned height, struct top_line *lines)
{
	static const char *const help[] = {
		"q     quit",
		"s, S  sort by name, got, sold, wait, debt, memory; backwards",
		"p     pause: what is shown stays",
		"w     another weight for the selected vGPU (arrows, j, k select)",
		"h     this",
		"",
		"sold  promised part of the GPU's time, or w and the weight",
		"got   part of the GPU's time since the last look, as it was charged",
		"wait  part of that time that work of it waited for a turn",
		"debt  what it had too much and has not yet paid back",
		"credits  a credit is the whole GPU for a minute",
		"memory   device memory used, and the most it may have",
		"last minute: a column a second, full height is the whole GPU",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(help) && i + FRAME < height; i++)
		put(&lines[i + 2], layout, help[i], MIN((unsigned)strlen(help[i]), layout->width),
		    false);
}

void top_draw(const struct top_model *model, unsigned width, unsigned height, bool utf8,
	      struct top_line *lines)
{
	struct layout layout;
	unsigned first = 0, selected = 0, room;

	for (unsigned i = 0; i < height; i++)
		lines[i] = (struct top_line){ .look = TOP_NORMAL };
	/* A line has room for three bytes a column. */
	layout_make(&layout, MIN(width, (TOP_LINE_MAX - 1) / 3u), utf8);
	if (!height || !width)
		return;
	title_row(&lines[0], &layout, model);
	if (height < FRAME + 1)
		return;
	room = height - FRAME;
	keys_row(&lines[height - 1], &layout, model);
	if (model->mode == TOP_HELP) {
		help_rows(&layout, height, lines);
		return;
	}
	head_row(&lines[1], &layout);
	row_draw(model, &layout, 0, NULL, &selected);
	if (selected >= room)
		first = selected - room + 1;
	for (unsigned i = 0; i < room; i++)
		if (!row_draw(model, &layout, first + i, &lines[2 + i], NULL))
			break;
	if (!model->gpu_count)
		put(&lines[2], &layout,
		    model->at_ns ? "no GPU and no vGPU" : "nothing was heard yet", layout.width,
		    false);
}
