// SPDX-License-Identifier: Apache-2.0
/* What a vGPU's control socket answers: states, monitors that change, and every way to ask wrongly. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mdev/mdev.h"
#include "tests/unit/input_guest.h"

static struct virtio_gpu_control control;

static int begin(void **state)
{
	const struct virtio_gpu_config config = { .head_count = 2,
						  .heads = { { 1280, 800 }, { 0, 0 } } };

	control = (struct virtio_gpu_control){ .name = "vgpu", .head_count = 2 };
	assert_int_equal(virtio_gpu_create(&config, &control.device, NULL), 0);
	return vfio_device_start(control.device, NULL);
}

static int end(void **state)
{
	vfio_device_close(control.device);
	return 0;
}

/* The status; *code gets the refusal's code, "" for none. */
static unsigned ask(const char *method, const char *path, const char *body, char code[32])
{
	struct control_reply reply =
		virtio_gpu_control_answer(&control, method, path, body, strlen(body));
	const char *found = json_string_value(json_object_get(reply.body, "code"));

	snprintf(code, 32, "%s", found ? found : "");
	assert_true((reply.status == 405) == !!reply.allow);
	json_decref(reply.body);
	free(reply.bytes);
	return reply.status;
}

static void it_says_what_is_plugged_in(void **state)
{
	struct control_reply reply =
		virtio_gpu_control_answer(&control, "GET", "/api/v1/vgpu.info", "", 0);
	json_t *head = json_array_get(json_object_get(reply.body, "heads"), 0);

	assert_int_equal(reply.status, 200);
	assert_int_equal(json_integer_value(json_object_get(head, "width")), 1280);
	assert_true(json_is_false(json_object_get(reply.body, "attached")));
	json_decref(reply.body);
}

static void a_monitor_is_changed_and_told(void **state)
{
	struct control_reply reply;
	char code[32];

	assert_int_equal(ask("PUT", "/api/v1/vgpu.head",
			     "{\"head\": 1, \"width\": 1920, \"height\": 1080}", code),
			 204);
	reply = virtio_gpu_control_answer(&control, "GET", "/api/v1/vgpu.info", "", 0);
	assert_int_equal(
		json_integer_value(json_object_get(
			json_array_get(json_object_get(reply.body, "heads"), 1), "height")),
		1080);
	json_decref(reply.body);
	assert_int_equal(
		ask("PUT", "/api/v1/vgpu.head", "{\"head\": 1, \"width\": 0, \"height\": 0}", code),
		204);
}

static void what_is_asked_wrongly_is_refused_and_changes_nothing(void **state)
{
	static const struct {
		const char *method, *path, *body, *code;
		unsigned status;
	} wrong[] = {
		{ "GET", "/api/v1/vgpu.nothing", "", "no-such-resource", 404 },
		{ "PUT", "/api/v1/vgpu.info", "", "bad-method", 405 },
		{ "GET", "/api/v1/vgpu.head", "", "bad-method", 405 },
		{ "PUT", "/api/v1/vgpu.screenshot/0", "", "bad-method", 405 },
		{ "GET", "/api/v1/vgpu.screenshot/0", "", "head-off", 409 },
		{ "GET", "/api/v1/vgpu.screenshot/2", "", "no-such-head", 404 },
		{ "GET", "/api/v1/vgpu.screenshot/", "", "no-such-head", 404 },
		{ "GET", "/api/v1/vgpu.screenshot/-1", "", "no-such-head", 404 },
		{ "GET", "/api/v1/vgpu.screenshot/0x", "", "no-such-head", 404 },
		{ "PUT", "/api/v1/vgpu.head", "", "bad-request", 400 },
		{ "PUT", "/api/v1/vgpu.head", "[]", "bad-request", 400 },
		{ "PUT", "/api/v1/vgpu.head", "{\"head\": 0}", "bad-request", 400 },
		{ "PUT", "/api/v1/vgpu.head",
		  "{\"head\": 0, \"width\": 800, \"height\": 600, \"x\": 1}", "bad-request", 400 },
		{ "PUT", "/api/v1/vgpu.head", "{\"head\": 2, \"width\": 800, \"height\": 600}",
		  "no-such-head", 404 },
		{ "PUT", "/api/v1/vgpu.head", "{\"head\": 0, \"width\": 4097, \"height\": 600}",
		  "bad-mode", 400 },
		{ "PUT", "/api/v1/vgpu.head",
		  "{\"head\": 0, \"width\": 4294968576, \"height\": 800}", "bad-mode", 400 },
		{ "PUT", "/api/v1/vgpu.head", "{\"head\": 0, \"width\": 5, \"height\": 5}",
		  "bad-mode", 400 },
		{ "PUT", "/api/v1/vgpu.head", "{\"head\": 0, \"width\": -1, \"height\": 600}",
		  "bad-mode", 400 },
	};
	struct virtio_gpu_mode mode;
	char code[32];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(ask(wrong[i].method, wrong[i].path, wrong[i].body, code),
				 wrong[i].status);
		assert_string_equal(code, wrong[i].code);
	}
	assert_int_equal(virtio_gpu_head_mode(control.device, 0, &mode), 0);
	assert_int_equal(mode.width, 1280);
}

/* ---- input --------------------------------------------------------------------------------------- */

#define PLACE "\"head\": 0, \"x\": 5, \"y\": 6, \"width\": 100, \"height\": 100"

static void what_is_typed_and_pointed_wrongly_is_refused(void **state)
{
	static const struct {
		const char *path, *body, *code;
		unsigned status;
	} wrong[] = {
		{ "keys", "", "bad-request", 400 },
		{ "keys", "[]", "bad-request", 400 },
		{ "keys", "{}", "bad-request", 400 },
		{ "keys", "{\"keys\": []}", "bad-request", 400 },
		{ "keys", "{\"keys\": [\"a\"], \"x\": 1}", "bad-request", 400 },
		{ "keys", "{\"keys\": [5]}", "bad-key", 400 },
		{ "keys", "{\"keys\": [\"a\", \"AnyKey\"]}", "bad-key", 400 },
		{ "text", "{\"text\": \"\"}", "bad-request", 400 },
		{ "text", "{\"text\": 5}", "bad-request", 400 },
		{ "text",
		  "{\"text\": \"1234567890123456789012345678901234567890123456789012345678901234\u00e4\"}",
		  "bad-request", 400 },
		{ "pointer", "{" PLACE "}", "bad-request", 400 },
		{ "pointer", "{" PLACE ", \"buttons\": 512}", "bad-request", 400 },
		{ "pointer",
		  "{\"head\": 4, \"x\": 5, \"y\": 6, \"width\": 100, \"height\": 100, \"buttons\": 0}",
		  "bad-request", 400 },
		{ "pointer",
		  "{\"head\": 0, \"x\": 100, \"y\": 6, \"width\": 100, \"height\": 100, \"buttons\": 0}",
		  "bad-request", 400 },
		{ "touch", "{" PLACE ", \"finger\": 0}", "bad-request", 400 },
		{ "touch", "{" PLACE ", \"finger\": -1, \"down\": true}", "bad-request", 400 },
	};
	char code[32], path[64];

	for (unsigned with = 0; with < 2; with++) {
		for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
			snprintf(path, sizeof(path), "/api/v1/vgpu.%s", wrong[i].path);
			assert_int_equal(ask("PUT", path, wrong[i].body, code),
					 with ? wrong[i].status : 404);
			assert_string_equal(code, with ? wrong[i].code : "no-input");
			assert_int_equal(ask("GET", path, "", code), 405);
		}
		if (!with)
			assert_int_equal(
				input_seat_create(&(struct input_config){ 0 }, &control.seat, NULL),
				0);
	}
	input_seat_destroy(control.seat);
	control.seat = NULL;
}

static void it_types_and_points(void **state)
{
	struct input_guest keyboard, pointer;
	char code[32];

	assert_int_equal(
		input_seat_create(&(struct input_config){ .layout = "de" }, &control.seat, NULL),
		0);
	input_guest_open(&keyboard, control.seat, INPUT_KEYBOARD, 0);
	input_guest_open(&pointer, control.seat, INPUT_POINTER, 0);
	assert_int_equal(ask("PUT", "/api/v1/vgpu.text", "{\"text\": \"y\\u00e4\\n\"}", code), 204);
	/* Not read yet. */
	assert_int_equal(ask("PUT", "/api/v1/vgpu.text", "{\"text\": \"x\"}", code), 409);
	assert_string_equal(code, "not-read");
	input_guest_read(&keyboard);
	for (unsigned i = 0; i < 3; i++) {
		const uint16_t keys[] = { KEY_Z, KEY_APOSTROPHE, KEY_ENTER };

		input_guest_expect_key(&keyboard, keys[i], 1);
		input_guest_expect_key(&keyboard, keys[i], 0);
	}
	assert_int_equal(
		ask("PUT", "/api/v1/vgpu.keys", "{\"keys\": [\"Control_L\", \"Delete\"]}", code),
		204);
	input_guest_expect_key(&keyboard, KEY_LEFTCTRL, 1);
	input_guest_expect_key(&keyboard, KEY_DELETE, 1);
	input_guest_expect_key(&keyboard, KEY_DELETE, 0);
	input_guest_expect_key(&keyboard, KEY_LEFTCTRL, 0);
	input_guest_read(&pointer);
	assert_int_equal(ask("PUT", "/api/v1/vgpu.pointer", "{" PLACE ", \"buttons\": 1}", code),
			 204);
	input_guest_expect(&pointer, EV_ABS, ABS_X, 11 * 32768 / 200);
	input_guest_expect(&pointer, EV_ABS, ABS_Y, 13 * 32768 / 200);
	input_guest_expect(&pointer, EV_KEY, BTN_LEFT, 1);
	assert_int_equal(ask("PUT", "/api/v1/vgpu.touch",
			     "{" PLACE ", \"finger\": 0, \"down\": true}", code),
			 204);
	input_seat_destroy(control.seat);
	control.seat = NULL;
	guest_leave(&keyboard.guest);
	guest_leave(&pointer.guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_typed_and_pointed_wrongly_is_refused),
		cmocka_unit_test(it_types_and_points),
		cmocka_unit_test_setup_teardown(it_says_what_is_plugged_in, begin, end),
		cmocka_unit_test_setup_teardown(a_monitor_is_changed_and_told, begin, end),
		cmocka_unit_test_setup_teardown(
			what_is_asked_wrongly_is_refused_and_changes_nothing, begin, end),
	};

	return cmocka_run_group_tests_name("vgpu_control", tests, NULL, NULL);
}
