// SPDX-License-Identifier: Apache-2.0
/*
 * What divvy top shows, as numbers (top.h). The daemon and the arbiter tell totals, and when they are of; how much of the last second somebody
 * had is the difference of two. A vGPU is the same by its name on its GPU.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "instances/top/top.h"

static double number(const json_t *json, const char *key)
{
	const double value = json_number_value(json_object_get(json, key));

	return isfinite(value) ? value : 0;
}

static uint64_t amount(double value)
{
	return value > 0 && value < 1e18 ? (uint64_t)value : 0;
}

/* Printable ASCII only: names come from launchers and devices. */
static void copy_text(char *to, size_t size, const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	snprintf(to, size, "%s", text ? text : "");
	text_printable(to);
}

/* ---- rates and strips ---------------------------------------------------------------------------- */

static void strip_clear(struct top_strip *strip)
{
	for (unsigned i = 0; i < TOP_STRIP; i++)
		strip->got[i] = -1;
}

/* @seconds passed, in each of which it got @got. */
static void strip_push(struct top_strip *strip, double got, unsigned seconds)
{
	seconds = MIN(seconds, (unsigned)TOP_STRIP);
	memmove(strip->got, strip->got + seconds, (TOP_STRIP - seconds) * sizeof(*strip->got));
	for (unsigned i = 0; i < seconds; i++)
		strip->got[TOP_STRIP - 1 - i] = (float)got;
}

/* Whole seconds that began between two looks, so that a strip is a minute however often it is looked. */
static unsigned seconds_between(uint64_t before, uint64_t now)
{
	return (unsigned)(now / NSEC_PER_SEC - before / NSEC_PER_SEC);
}

static const struct top_vgpu *vgpu_find(const struct top_model *model, const struct top_vgpu *vgpu)
{
	for (unsigned i = 0; i < model->vgpu_count; i++)
		if (!strcmp(model->vgpus[i].name, vgpu->name) &&
		    !strcmp(model->vgpus[i].gpu, vgpu->gpu))
			return &model->vgpus[i];
	return NULL;
}

static const struct top_gpu *gpu_find(const struct top_gpu *gpus, unsigned count, const char *id)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(gpus[i].id, id))
			return &gpus[i];
	return NULL;
}

static void vgpu_rates(const struct top_model *before, struct top_vgpu *vgpu, uint64_t at_ns)
{
	const struct top_vgpu *was = vgpu_find(before, vgpu);
	const double seconds = (double)(at_ns - before->at_ns) / 1e9;

	strip_clear(&vgpu->strip);
	vgpu->got = vgpu->wait = -1;
	if (!was || !before->at_ns || at_ns < before->at_ns)
		return;
	vgpu->strip = was->strip;
	if (at_ns == before->at_ns) {
		vgpu->got = was->got;
		vgpu->wait = was->wait;
		return;
	}
	/* One that began anew under the same name starts again. */
	if (vgpu->used_s < was->used_s)
		return;
	vgpu->got = MIN((vgpu->used_s - was->used_s) / seconds, 9.99);
	vgpu->wait = MAX(MIN((vgpu->waited_s - was->waited_s) / seconds, 9.99), 0);
	strip_push(&vgpu->strip, vgpu->got, seconds_between(before->at_ns, at_ns));
}

/* ---- one look -------------------------------------------------------------------------------------- */

struct look {
	unsigned gpu_count, vgpu_count;
	struct top_gpu *gpus;
	struct top_vgpu *vgpus;
};

static int look_room(struct look *look, size_t gpus, size_t vgpus)
{
	look->gpus = calloc(MIN(gpus, (size_t)TOP_GPUS_MAX) + 1, sizeof(*look->gpus));
	look->vgpus = calloc(MIN(vgpus, (size_t)TOP_VGPUS_MAX) + 1, sizeof(*look->vgpus));
	if (look->gpus && look->vgpus)
		return 0;
	free(look->gpus);
	free(look->vgpus);
	return -ENOMEM;
}

/* A vGPU's GPU that nobody listed is listed by it. */
static struct top_gpu *gpu_of(struct look *look, const char *id, size_t room)
{
	for (unsigned i = 0; i < look->gpu_count; i++)
		if (!strcmp(look->gpus[i].id, id))
			return &look->gpus[i];
	if (look->gpu_count >= room)
		return NULL;
	snprintf(look->gpus[look->gpu_count].id, TOP_ID, "%s", id);
	snprintf(look->gpus[look->gpu_count].state, sizeof(look->gpus->state), "shared");
	return &look->gpus[look->gpu_count++];
}

/* The new look takes the old one's place. */
static void look_take(struct top_model *model, struct look *look, size_t room, uint64_t at_ns)
{
	for (unsigned i = 0; i < look->gpu_count; i++)
		look->gpus[i].busy = -1;
	for (unsigned i = 0; i < look->vgpu_count; i++) {
		struct top_vgpu *vgpu = &look->vgpus[i];
		struct top_gpu *gpu = gpu_of(look, vgpu->gpu, room);

		vgpu_rates(model, vgpu, at_ns);
		if (!gpu)
			continue;
		gpu->vram_mib += vgpu->vram_mib;
		if (vgpu->got >= 0)
			gpu->busy = MAX(gpu->busy, 0) + vgpu->got;
	}
	for (unsigned i = 0; i < look->gpu_count; i++) {
		struct top_gpu *gpu = &look->gpus[i];
		const struct top_gpu *was = gpu_find(model->gpus, model->gpu_count, gpu->id);

		strip_clear(&gpu->strip);
		/* What one that is handed out whole does, nobody here sees. */
		if (!was || !model->at_ns || at_ns < model->at_ns || gpu->whole)
			continue;
		gpu->strip = was->strip;
		if (at_ns == model->at_ns) {
			gpu->busy = was->busy;
			continue;
		}
		gpu->busy = MAX(gpu->busy, 0);
		strip_push(&gpu->strip, gpu->busy, seconds_between(model->at_ns, at_ns));
	}
	free(model->gpus);
	free(model->vgpus);
	model->gpus = look->gpus;
	model->gpu_count = look->gpu_count;
	model->vgpus = look->vgpus;
	model->vgpu_count = look->vgpu_count;
	model->at_ns = at_ns;
	top_sort(model);
}

/* When the totals are of; not when they were asked for: the daemon has them of a second ago. */
static uint64_t measured(const json_t *json, const char *key, uint64_t asked_ns)
{
	const json_int_t ns = json_integer_value(json_object_get(json, key));

	return ns > 0 ? (uint64_t)ns : asked_ns;
}

int top_feed_api(struct top_model *model, const json_t *gpus, const json_t *vgpus, uint64_t at_ns)
{
	const json_t *list = json_object_get(vgpus, "vgpus"), *all = json_object_get(gpus, "gpus");
	const size_t room = MIN(json_array_size(all) + json_array_size(list), (size_t)TOP_GPUS_MAX);
	struct look look = { 0 };
	json_t *item;
	size_t i;

	if (look_room(&look, room, json_array_size(list)))
		return -ENOMEM;
	json_array_foreach((json_t *)(uintptr_t)all, i, item)
	{
		struct top_gpu *gpu = &look.gpus[look.gpu_count];
		char instance[TOP_NAME];

		if (look.gpu_count == room)
			break;
		copy_text(gpu->id, sizeof(gpu->id), item, "id");
		copy_text(gpu->name, sizeof(gpu->name), item, "name");
		copy_text(gpu->state, sizeof(gpu->state), item, "state");
		copy_text(instance, sizeof(instance), item, "instance");
		gpu->whole = !strcmp(gpu->state, "dedicated");
		if (gpu->whole && instance[0])
			text_append(gpu->state, sizeof(gpu->state), ": %s", instance);
		if (json_is_true(json_object_get(item, "drained")))
			text_append(gpu->state, sizeof(gpu->state), ", drained");
		gpu->sold = number(item, "share_sold");
		gpu->memory_mib = amount(number(item, "memory_bytes") / (double)MIB);
		look.gpu_count++;
	}
	json_array_foreach((json_t *)(uintptr_t)list, i, item)
	{
		struct top_vgpu *vgpu = &look.vgpus[look.vgpu_count];
		const json_t *credits = json_object_get(item, "credits");

		if (look.vgpu_count == TOP_VGPUS_MAX)
			break;
		copy_text(vgpu->name, sizeof(vgpu->name), item, "name");
		copy_text(vgpu->gpu, sizeof(vgpu->gpu), item, "gpu");
		copy_text(vgpu->policy, sizeof(vgpu->policy), item, "policy");
		copy_text(vgpu->instance, sizeof(vgpu->instance), item, "instance");
		vgpu->weight = (unsigned)amount(number(item, "weight"));
		vgpu->workers = (unsigned)amount(number(item, "workers"));
		vgpu->sold = number(item, "share");
		vgpu->debt_s = number(item, "debt_seconds");
		vgpu->credits = json_is_object(credits) ? number(credits, "balance") -
								  number(credits, "surplus_balance")
							: NAN;
		vgpu->used_s = number(item, "gpu_seconds");
		vgpu->waited_s = number(item, "wait_seconds");
		vgpu->vram_mib = amount(number(item, "vram_bytes") / (double)MIB);
		vgpu->vram_limit_mib = amount(number(item, "vram_limit_bytes") / (double)MIB);
		look.vgpu_count++;
	}
	look_take(model, &look, room, measured(vgpus, "measured_ns", at_ns));
	return 0;
}

/* Time on all engines of it. */
static double engines(const json_t *vgpu, const char *key)
{
	const char *name;
	json_t *engine;
	double sum = 0;

	json_object_foreach(json_object_get(vgpu, "engines"), name, engine)
	{
		sum += number(engine, key) / 1e9;
	}
	return sum;
}

int top_feed_arbiter(struct top_model *model, const json_t *status, uint64_t at_ns)
{
	const json_t *list = json_object_get(status, "vgpus");
	const size_t room = MIN(json_array_size(list), (size_t)TOP_GPUS_MAX);
	struct look look = { 0 };
	json_t *item;
	size_t i;

	if (look_room(&look, room, json_array_size(list)))
		return -ENOMEM;
	json_array_foreach((json_t *)(uintptr_t)list, i, item)
	{
		struct top_vgpu *vgpu = &look.vgpus[look.vgpu_count];
		struct top_gpu *gpu;

		if (look.vgpu_count == TOP_VGPUS_MAX)
			break;
		copy_text(vgpu->name, sizeof(vgpu->name), item, "name");
		copy_text(vgpu->gpu, sizeof(vgpu->gpu), item, "gpu");
		copy_text(vgpu->policy, sizeof(vgpu->policy), item, "policy");
		vgpu->weight = (unsigned)amount(number(item, "weight"));
		vgpu->workers = (unsigned)amount(number(item, "workers"));
		vgpu->sold = number(item, "share_ppm") / 1e6;
		vgpu->used_s = engines(item, "used_ns") + engines(item, "surcharge_ns");
		vgpu->waited_s = engines(item, "waited_ns");
		vgpu->debt_s = engines(item, "debt_ns");
		vgpu->credits =
			strcmp(vgpu->policy, "burst") ? NAN : engines(item, "credit_ns") / 60;
		vgpu->vram_mib = amount(number(item, "memory_used") / (double)MIB);
		vgpu->vram_limit_mib = amount(number(item, "memory_quota") / (double)MIB);
		look.vgpu_count++;
		gpu = gpu_of(&look, vgpu->gpu, room);
		if (gpu)
			gpu->sold += vgpu->sold;
	}
	look_take(model, &look, room, measured(status, "now_ns", at_ns));
	return 0;
}

/* ---- order and selection ----------------------------------------------------------------------------- */

const char *top_sort_name(enum top_sort sort)
{
	static const char *const names[TOP_SORTS] = {
		[TOP_BY_NAME] = "name", [TOP_BY_GOT] = "got",	[TOP_BY_SOLD] = "sold",
		[TOP_BY_WAIT] = "wait", [TOP_BY_DEBT] = "debt", [TOP_BY_VRAM] = "memory",
	};

	return sort < TOP_SORTS ? names[sort] : "name";
}

static double value_of(const struct top_vgpu *vgpu, enum top_sort sort)
{
	switch (sort) {
	case TOP_BY_GOT:
		return vgpu->got;
	case TOP_BY_SOLD:
		return vgpu->sold;
	case TOP_BY_WAIT:
		return vgpu->wait;
	case TOP_BY_DEBT:
		return vgpu->debt_s;
	case TOP_BY_VRAM:
		return (double)vgpu->vram_mib;
	case TOP_BY_NAME:
	case TOP_SORTS:
		break;
	}
	return 0;
}

static int compare(const void *a, const void *b, void *opaque)
{
	const struct top_vgpu *x = a, *y = b;
	const struct top_model *model = opaque;
	const double dx = value_of(x, model->sort), dy = value_of(y, model->sort);
	int order = strcmp(x->gpu, y->gpu);

	if (order)
		return order;
	/* The most first; names the other way round. */
	order = dx > dy ? -1 : dx < dy ? 1 : strcmp(x->name, y->name);
	return model->backwards ? -order : order;
}

void top_sort(struct top_model *model)
{
	if (model->vgpu_count)
		qsort_r(model->vgpus, model->vgpu_count, sizeof(*model->vgpus), compare, model);
}

static int selected_index(const struct top_model *model)
{
	for (unsigned i = 0; i < model->vgpu_count; i++)
		if (!strcmp(model->vgpus[i].name, model->selected))
			return (int)i;
	return model->vgpu_count ? 0 : -1;
}

const struct top_vgpu *top_selected(const struct top_model *model)
{
	const int index = selected_index(model);

	return index < 0 ? NULL : &model->vgpus[index];
}

void top_select(struct top_model *model, int by)
{
	int index = selected_index(model);

	if (index < 0)
		return;
	index = MAX(MIN(index + by, (int)model->vgpu_count - 1), 0);
	memcpy(model->selected, model->vgpus[index].name, sizeof(model->selected));
}

static json_t *known(double value, bool is_known)
{
	return is_known ? json_real(value) : json_null();
}

json_t *top_json(const struct top_model *model)
{
	json_t *gpus = json_array(), *vgpus = json_array();

	for (unsigned i = 0; i < model->gpu_count; i++) {
		const struct top_gpu *gpu = &model->gpus[i];

		json_array_append_new(gpus,
				      json_pack("{s:s, s:s, s:f, s:o, s:I, s:I}", "id", gpu->id,
						"state", gpu->state, "sold", gpu->sold, "busy",
						known(gpu->busy, gpu->busy >= 0), "memory_used_mib",
						(json_int_t)gpu->vram_mib, "memory_mib",
						(json_int_t)gpu->memory_mib));
	}
	for (unsigned i = 0; i < model->vgpu_count; i++) {
		const struct top_vgpu *vgpu = &model->vgpus[i];

		json_array_append_new(
			vgpus,
			json_pack("{s:s, s:s, s:s, s:i, s:f, s:o, s:o, s:f, s:o, s:I, s:I}", "name",
				  vgpu->name, "gpu", vgpu->gpu, "policy", vgpu->policy, "weight",
				  (int)vgpu->weight, "sold", vgpu->sold, "got",
				  known(vgpu->got, vgpu->got >= 0), "wait",
				  known(vgpu->wait, vgpu->wait >= 0), "debt_seconds", vgpu->debt_s,
				  "credits", known(vgpu->credits, !isnan(vgpu->credits)),
				  "memory_used_mib", (json_int_t)vgpu->vram_mib, "memory_limit_mib",
				  (json_int_t)vgpu->vram_limit_mib));
	}
	return json_pack("{s:o, s:o}", "gpus", gpus, "vgpus", vgpus);
}

void top_free(struct top_model *model)
{
	free(model->gpus);
	free(model->vgpus);
	memset(model, 0, sizeof(*model));
}
