/* SPDX-License-Identifier: Apache-2.0 */
/*
 * divvy top: what every GPU and vGPU has, live. Private to instances/ and its tests.
 *
 *   model.c    what was told, as numbers; rates since the last time, and the last minute of each
 *   draw.c     a model as lines of text: pure, so that tests can hold them
 *   screen.c   the terminal: ncurses, keys, asking again
 */
#ifndef INSTANCES_TOP_TOP_H
#define INSTANCES_TOP_TOP_H

#include <jansson.h>

#include "base/base.h"

#define TOP_NAME      48
#define TOP_ID	      72
#define TOP_STRIP     60 /* seconds */
#define TOP_VGPUS_MAX 8192
#define TOP_GPUS_MAX  512
#define TOP_LINE_MAX  1024 /* bytes of a line that is drawn */

/* What was got in each of the last seconds, parts of one GPU; newest last; below 0: not seen. */
struct top_strip {
	float got[TOP_STRIP];
};

struct top_vgpu {
	char name[TOP_NAME], gpu[TOP_ID], policy[16], instance[TOP_NAME];
	unsigned weight, workers;
	double sold;		 /* promised part of the GPU; 0: none is */
	double got, wait;	 /* of the time since the last look; below 0: not known yet */
	double debt_s;		 /* now */
	double credits;		 /* now; below 0 there are none: NAN */
	double used_s, waited_s; /* ever */
	uint64_t vram_mib, vram_limit_mib;
	struct top_strip strip;
};

struct top_gpu {
	char id[TOP_ID], name[160], state[80];
	bool whole;	   /* an instance has it: what it does with it nobody here sees */
	double sold, busy; /* parts; busy below 0: not known yet, or never */
	uint64_t memory_mib, vram_mib;
	struct top_strip strip;
};

enum top_sort {
	TOP_BY_NAME,
	TOP_BY_GOT,
	TOP_BY_SOLD,
	TOP_BY_WAIT,
	TOP_BY_DEBT,
	TOP_BY_VRAM,
	TOP_SORTS
};

enum top_mode {
	TOP_PLAIN,
	TOP_HELP,
	TOP_WEIGHT, /* a number is being typed */
};

struct top_model {
	char source[128]; /* who tells: "divvyd at /run/divvy/api" */
	char note[256];	  /* what went wrong, or was done, last */
	uint64_t at_ns;	  /* CLOCK_MONOTONIC of when what is shown was measured; 0: nothing yet */
	unsigned gpu_count, vgpu_count;
	struct top_gpu *gpus;
	struct top_vgpu *vgpus; /* by GPU, then as sorted */
	enum top_sort sort;
	bool backwards, paused;
	enum top_mode mode;
	char typed[12];
	char selected[TOP_NAME]; /* the vGPU's name; "": the first */
};

/*
 * top_feed_api() - the daemon's /gpus and /vgpus. top_feed_arbiter() - what arbiter_status() says. Rates are of the time since the model's last
 * look; what is not there any more goes. Whatever is missing or of another kind is taken for nothing. When the look is of is said by it, in
 * CLOCK_MONOTONIC of the node; where it is not, by @at_ns. The same look again leaves the rates as they are.
 * Return 0 or -ENOMEM.
 */
int top_feed_api(struct top_model *model, const json_t *gpus, const json_t *vgpus, uint64_t at_ns);
int top_feed_arbiter(struct top_model *model, const json_t *status, uint64_t at_ns);
/* top_sort() - after @sort or @backwards were changed. */
void top_sort(struct top_model *model);
/* top_select() - the vGPU @by further down. */
void top_select(struct top_model *model, int by);
/* top_selected() - NULL: there is no vGPU. */
const struct top_vgpu *top_selected(const struct top_model *model);
const char *top_sort_name(enum top_sort sort);
/* top_json() - what is shown, as numbers; what is not known yet is null. NULL: out of memory. */
json_t *top_json(const struct top_model *model);
void top_free(struct top_model *model);

enum top_look {
	TOP_NORMAL,
	TOP_TITLE,
	TOP_HEAD, /* names of columns */
	TOP_GPU,
	TOP_SELECTED,
	TOP_DIM,
	TOP_ALARM,
};

struct top_line {
	enum top_look look;
	char text[TOP_LINE_MAX]; /* UTF-8 or ASCII, at most @width columns */
};

/*
 * top_draw() - the model as @height lines of at most @width columns.
 * @utf8: strips are drawn with block elements, else with ASCII
 * @lines: room for @height
 */
void top_draw(const struct top_model *model, unsigned width, unsigned height, bool utf8,
	      struct top_line *lines);

#endif
