// SPDX-License-Identifier: Apache-2.0
/*
 * Fences and calls of the vGPU in orders that no real renderer would give on demand: a fake one does what it is told,
 * when it is told (fake_venus.h), and counts what virglrenderer must not be asked.
 */
/* The renderer that is made up runs on the threads of the real one. */
#define GPU_UNCONFINED
#include "tests/unit/gpu_blob.h"

#include "mdev/gpu/gpu.h"
#include "tests/unit/fake_venus.h"

static const uint32_t both = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX;

static int setup(void **state)
{
	static const struct virtio_gpu_venus_config venus = { 0 };
	static const struct virtio_gpu_config config = { .head_count = 1,
							 .heads = { { 1280, 800 } },
							 .window_size = WINDOW_SIZE,
							 .venus = &venus };

	fake.by_hand = false;
	fake.ret = 0;
	fake.fd_type = FAKE_DMABUF;
	fake.wrong = fake.kills = 0;
	gpu_open(&config);
	shower_open();
	gpu_boot(VENUS_FEATURES);
	return 0;
}

static int teardown(void **state)
{
	shower_close();
	gpu_teardown(state);
	assert_int_equal(fake.wrong, 0);
	return 0;
}

/* Put a submission into the queue without waiting. */
static uint16_t post_submit(unsigned place, uint32_t context, uint32_t flags, uint8_t ring,
			    uint64_t fence)
{
	struct virtio_gpu_cmd_submit request = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D,
			 .flags = flags,
			 .fence_id = fence,
			 .ctx_id = context,
			 .ring_idx = ring },
	};
	const struct guest_buffer buffers[2] = {
		{ request_gpa + place * 64, sizeof(request), false },
		{ memory_gpa + place * 64, 24, true }, /* an answer of its own */
	};

	memcpy(guest_ptr(&guest, request_gpa + place * 64), &request, sizeof(request));
	return guest_add(&guest, CONTROL, buffers, 2);
}

static struct virtio_gpu_ctrl_hdr *answer_at(unsigned place)
{
	return guest_ptr(&guest, memory_gpa + place * 64);
}

static void wait_for_call(void)
{
	for (unsigned i = 0; !__atomic_load_n(&fake.call, __ATOMIC_ACQUIRE) && i < 5000; i++)
		usleep(1000);
}

static void complete(int ret)
{
	for (unsigned i = 0; i < 5000; i++) {
		if (fake_complete(ret))
			return;
		usleep(1000);
	}
	fail_msg("no call came");
}

static void expect(uint16_t head)
{
	uint16_t found;

	assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, &found, NULL));
	assert_int_equal(found, head);
}

static void expect_nothing(void)
{
	assert_false(guest_next_used(&guest, CONTROL, 30, NULL, NULL));
}

static void timelines_do_not_wait_for_each_other(void **state)
{
	uint16_t heads[4];

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	heads[0] = post_submit(0, 1, both, 1, 10);
	heads[1] = post_submit(1, 1, both, 2, 11);
	heads[2] = post_submit(2, 2, both, 1, 12);
	heads[3] = post_submit(3, 1, both, 1, 13);
	guest_kick(&guest, CONTROL);
	for (unsigned i = 0; i < 4; i++)
		complete(0);
	expect_nothing();
	/* The last of context 1's ring 1 is told first: it waits for the one before it. */
	assert_true(fake_retire(3));
	expect_nothing();
	assert_true(fake_retire(2));
	expect(heads[2]);
	assert_true(fake_retire(1));
	expect(heads[1]);
	assert_true(fake_retire(0));
	expect(heads[0]);
	expect(heads[3]);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(answer_at(i)->type, VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(answer_at(i)->fence_id, 10 + i);
		assert_int_equal(answer_at(i)->flags, both);
	}
}

static void a_fence_may_be_done_before_its_call_is(void **state)
{
	uint16_t head;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	head = post_submit(0, 1, both, 0, 1);
	guest_kick(&guest, CONTROL);
	wait_for_call();
	/* What a renderer's other thread may do while the call is under way. */
	pthread_mutex_lock(&fake.lock);
	fake.news.retired[fake.news.retired_count++] = fake.call->fence_id;
	fake_tell();
	pthread_mutex_unlock(&fake.lock);
	expect_nothing();
	complete(0);
	expect(head);
}

static void plain_requests_pass_those_that_wait_for_a_fence(void **state)
{
	struct virtio_gpu_ctrl_hdr fenced = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
					      .flags = VIRTIO_GPU_FLAG_FENCE,
					      .fence_id = 2 };
	uint16_t first, second;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	/* Without a ring it is of the device's own timeline. */
	first = post_submit(0, 1, VIRTIO_GPU_FLAG_FENCE, 0, 1);
	guest_kick(&guest, CONTROL);
	complete(0);
	assert_int_equal(create_2d(5, 1, 8, 8), VIRTIO_GPU_RESP_OK_NODATA);
	/* A fence of the same timeline comes after it, though it has nothing to wait for itself. */
	memcpy(guest_ptr(&guest, request_gpa + 1024), &fenced, sizeof(fenced));
	second = gpu_post(CONTROL, request_gpa + 1024, sizeof(fenced), RESPONSE_SIZE);
	guest_kick(&guest, CONTROL);
	expect_nothing();
	assert_true(fake_retire(0));
	expect(first);
	expect(second);
}

static void a_call_that_fails_has_no_fence(void **state)
{
	uint16_t head;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	head = post_submit(0, 1, both, 0, 1);
	guest_kick(&guest, CONTROL);
	complete(-EIO);
	expect(head);
	assert_int_equal(answer_at(0)->type, VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(answer_at(0)->fence_id, 1);
}

static void a_context_that_is_lost_or_destroyed_owes_no_fence(void **state)
{
	uint16_t heads[3];

	for (uint32_t id = 1; id <= 3; id++)
		assert_int_equal(context_create(id), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	for (unsigned i = 0; i < 3; i++)
		heads[i] = post_submit(i, i + 1, both, 5, i);
	guest_kick(&guest, CONTROL);
	for (unsigned i = 0; i < 3; i++)
		complete(0);
	expect_nothing();
	fake_lose(2);
	expect(heads[1]);
	{
		struct virtio_gpu_ctx_destroy request = {
			.hdr = { .type = VIRTIO_GPU_CMD_CTX_DESTROY, .ctx_id = 1 }
		};

		memcpy(guest_ptr(&guest, request_gpa + 1024), &request, sizeof(request));
		gpu_post(CONTROL, request_gpa + 1024, sizeof(request), RESPONSE_SIZE);
		guest_kick(&guest, CONTROL);
		complete(0);
		expect(heads[0]);
		assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, NULL, NULL));
	}
	fake_lose_server();
	expect(heads[2]);
}

static void fences_in_flight_are_bounded(void **state)
{
	struct virtio_gpu_cmd_submit request = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D,
			 .flags = VIRTIO_GPU_FLAG_FENCE,
			 .ctx_id = 1 },
	};
	const struct guest_buffer buffers[2] = { { request_gpa, sizeof(request), false },
						 { response_gpa, 24, true } };
	struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
	/* A driver that does not wait for what it had: the same descriptors again and again. */
	for (unsigned i = 0; i < 256; i++) {
		guest_add(&guest, CONTROL, buffers, 2);
		guest_kick(&guest, CONTROL);
		complete(0);
	}
	expect_nothing();
	answer->type = 0;
	guest_add(&guest, CONTROL, buffers, 2);
	guest_kick(&guest, CONTROL);
	assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, NULL, NULL));
	assert_int_equal(answer->type, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(guest.queues[CONTROL].ring.seen, 2); /* the context's, and this */
	/* Room again when one is done; and a reset drops them all. */
	assert_true(fake_retire(0));
	assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, NULL, NULL));
	guest_add(&guest, CONTROL, buffers, 2);
	guest_kick(&guest, CONTROL);
	complete(0);
	expect_nothing();
	fake.by_hand = false;
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, both, 0, 1), VIRTIO_GPU_RESP_OK_NODATA);
}

static void dma_bufs_are_attached_where_the_guest_wants(void **state)
{
	const uint32_t in = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
		       out = VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE;
	unsigned calls;

	for (uint32_t id = 1; id <= 2; id++)
		assert_int_equal(context_create(id), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	calls = fake.calls;
	assert_int_equal(context_resource(in, 1, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(fake.calls, calls); /* its maker has it */
	assert_int_equal(context_resource(in, 2, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(fake.calls, calls + 1);
	assert_int_equal(context_resource(in, 2, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(fake.calls, calls + 1);
	/* A context of the same place begins without. */
	assert_int_equal(context_destroy(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_create(3), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_resource(out, 3, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(fake.calls, calls + 3);
	assert_int_equal(context_resource(in, 3, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(fake.calls, calls + 4);
	assert_int_equal(context_resource(out, 3, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(fake.calls, calls + 5);
}

static void blobs_in_the_window_are_bounded(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	for (uint32_t id = 1; id <= 513; id++)
		assert_int_equal(create_shared(1, id, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	for (uint32_t id = 1; id <= 512; id++)
		assert_int_equal(map_blob(id, id * 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(map_blob(513, 0), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(unmap_blob(100), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(map_blob(513, 100 * 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(shower.shown_count, 512);
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(shower.shown_count, 0);
}

/* Its worker may have freed what the guest holds: what the guest holds is counted here, mapped or not. */
static void memory_that_became_blobs_is_bounded(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_numbered(1, 1, 7, 2 * WINDOW_SIZE + 4096),
			 VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(create_numbered(1, 1, 7, 2 * WINDOW_SIZE - 4096),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_numbered(1, 2, 8, 8192), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(create_numbered(1, 2, 8, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	/* Shared memory is counted apart. */
	assert_int_equal(create_shared(1, 3, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	/* One that could not be made, one that is gone, all of them after a reset. */
	assert_int_equal(unref(2), VIRTIO_GPU_RESP_OK_NODATA);
	fake.ret = -EIO;
	assert_int_equal(create_numbered(1, 2, 8, 4096), VIRTIO_GPU_RESP_ERR_UNSPEC);
	fake.ret = 0;
	assert_int_equal(create_numbered(1, 2, 8, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_numbered(1, 1, 7, 2 * WINDOW_SIZE), VIRTIO_GPU_RESP_OK_NODATA);
}

/* Rings are in shared memory; nothing that a program allocates may be taken for one. */
static void only_shared_memory_is_changed_by_both_sides(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_numbered(1, 1, 0, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_numbered(1, 2, 7, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	for (uint32_t id = 1; id <= 2; id++)
		assert_int_equal(map_blob(id, id * 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(shower.shown_count, 2);
	assert_true(shower.shown[0].is_atomic);
	assert_false(shower.shown[1].is_atomic);
}

static void a_blob_that_cannot_be_made_is_not_there(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.ret = -EIO;
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_ERR_UNSPEC);
	fake.ret = -ENOMEM;
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(submit(1, NULL, 0, 0, 0, 0), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	fake.ret = 0;
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(context_create(2), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_shared(1, 1, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	fake.ret = -EPERM;
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* The end of things is never an error. */
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(context_destroy(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.ret = 0;
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_call_under_way_is_dropped_by_a_reset(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	post_submit(0, 1, both, 0, 1);
	guest_kick(&guest, CONTROL);
	wait_for_call();
	assert_non_null(fake.call);
	assert_int_equal(guest.device->ops->reset(guest.device), 0);
	assert_null(fake.call);
	fake.by_hand = false;
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(submit(1, NULL, 0, both, 0, 1), VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_ring_that_breaks_during_a_call_is_reset_and_no_more(void **state)
{
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	fake.by_hand = true;
	post_submit(0, 1, both, 0, 1);
	guest_kick(&guest, CONTROL);
	wait_for_call();
	/* The chain is popped a second time for its answer: it is nonsense by then. */
	for (unsigned i = 0; i < 16; i++)
		guest.queues[CONTROL].ring.desc[i].addr = UINT64_MAX - 4096;
	complete(0);
	assert_true(guest_needs_reset(&guest));
	fake.by_hand = false;
	gpu_boot(VENUS_FEATURES);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
}

static void a_call_that_takes_too_long_ends_the_server(void **state)
{
	struct gpu *gpu = gpu_of(container_of(guest.device, struct virtio_device, vfio));
	uint16_t head;

	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(gpu->call_limit_us, 20000000);
	/* Nothing is under way: the worker does not look. */
	gpu->call_limit_us = 100000;
	fake.by_hand = true;
	head = post_submit(0, 1, both, 0, 1);
	guest_kick(&guest, CONTROL);
	/* Which the fake lets fail, as the end of a server does. */
	expect(head);
	assert_int_equal(fake.kills, 1);
	assert_int_equal(answer_at(0)->type, VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* One that ends in time is let alone. */
	head = post_submit(1, 1, both, 0, 1);
	guest_kick(&guest, CONTROL);
	complete(0);
	usleep(200000);
	assert_int_equal(fake.kills, 1);
	assert_true(fake_retire(0));
	expect(head);
}

#define FENCE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	/* More in flight than a packed ring has room for. */
	static const struct CMUnitTest split[] = { FENCE_TEST(fences_in_flight_are_bounded) };
	static const struct CMUnitTest tests[] = {
		FENCE_TEST(timelines_do_not_wait_for_each_other),
		FENCE_TEST(a_fence_may_be_done_before_its_call_is),
		FENCE_TEST(plain_requests_pass_those_that_wait_for_a_fence),
		FENCE_TEST(a_call_that_fails_has_no_fence),
		FENCE_TEST(a_context_that_is_lost_or_destroyed_owes_no_fence),
		FENCE_TEST(dma_bufs_are_attached_where_the_guest_wants),
		FENCE_TEST(blobs_in_the_window_are_bounded),
		FENCE_TEST(memory_that_became_blobs_is_bounded),
		FENCE_TEST(only_shared_memory_is_changed_by_both_sides),
		FENCE_TEST(a_blob_that_cannot_be_made_is_not_there),
		FENCE_TEST(a_call_under_way_is_dropped_by_a_reset),
		FENCE_TEST(a_call_that_takes_too_long_ends_the_server),
		FENCE_TEST(a_ring_that_breaks_during_a_call_is_reset_and_no_more),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(split, NULL, NULL) + guest_run_over_both_rings(tests);
}
