// SPDX-License-Identifier: Apache-2.0
/*
 * The vfio-user server with the tree's own client: virtio devices driven through the socket, clients that
 * come, go and die, and what is left of each: nothing.
 */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#define virtio_blk_config virtio_blk_config_space
#include <linux/virtio_blk.h>
#undef virtio_blk_config

#include "tests/unit/server_bench.h"
#include "vfio/user_client.h"

static unsigned fds_before;
static struct bench bench;
static struct bench_device made_up;
static struct vfio_device *device, *client;
static struct guest guest;
static char image[64];

static unsigned count_tasks(void)
{
	DIR *folder = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static unsigned count_maps_of(const char *name)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned count = 0;

	assert_non_null(maps);
	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, name) != NULL;
	if (maps)
		fclose(maps);
	return count;
}

static void connect_client(void)
{
	struct error e = { 0 };

	if (vfio_user_open(bench.path, &client, &e))
		fail_msg("%s: %s", e.code, e.text);
}

/* ---- virtio through the socket ------------------------------------------------------------- */

static int rng_setup(void **state)
{
	fds_before = count_fds();
	assert_int_equal(virtio_rng_create(&device, NULL), 0);
	assert_int_equal(vfio_device_start(device, NULL), 0);
	bench_start(&bench, device, 0);
	connect_client();
	guest_open(&guest, client);
	return 0;
}

static int blk_setup(void **state)
{
	struct virtio_blk_config config = { .path = image };
	int fd;

	fds_before = count_fds();
	snprintf(image, sizeof(image), "/tmp/test-server-XXXXXX");
	fd = mkstemp(image);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	close(fd);
	assert_int_equal(virtio_blk_create(&config, &device, NULL), 0);
	assert_int_equal(vfio_device_start(device, NULL), 0);
	bench_start(&bench, device, 0);
	connect_client();
	guest_open(&guest, client);
	return 0;
}

static int virtio_teardown(void **state)
{
	guest_close(&guest);
	bench_stop(&bench);
	device->ops->close(device);
	if (image[0])
		unlink(image);
	image[0] = '\0';
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void fill_from_rng(void)
{
	const uint64_t gpa = guest_alloc(&guest, 64);
	struct guest_buffer buffer = { gpa, 64, true };
	static const uint8_t zeroes[64];

	memset(guest_ptr(&guest, gpa), 0, 64);
	assert_int_equal(guest_request(&guest, 0, &buffer, 1), 64);
	assert_memory_not_equal(guest_ptr(&guest, gpa), zeroes, 64);
}

static void a_served_rng_fills_a_guests_buffer(void **state)
{
	guest_start(&guest, 1, 0);
	fill_from_rng();
	fill_from_rng();
}

static void disk_request(uint32_t type, uint64_t header_gpa, uint64_t data_gpa, uint64_t status_gpa)
{
	struct virtio_blk_outhdr *header = guest_ptr(&guest, header_gpa);
	uint8_t *status = guest_ptr(&guest, status_gpa);
	struct guest_buffer buffers[3] = { { header_gpa, sizeof(*header), false },
					   { data_gpa, 4096, type == VIRTIO_BLK_T_IN },
					   { status_gpa, 1, true } };

	*header = (struct virtio_blk_outhdr){ .type = type, .sector = 16 };
	*status = 0xff;
	guest_request(&guest, 0, buffers, 3);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
}

static void write_and_read_back(uint8_t value)
{
	const uint64_t header = guest_alloc(&guest, sizeof(struct virtio_blk_outhdr));
	const uint64_t status = guest_alloc(&guest, 1), data_gpa = guest_alloc(&guest, 4096);
	uint8_t *data = guest_ptr(&guest, data_gpa), bytes[4096];
	int fd = open(image, O_RDONLY | O_CLOEXEC);

	memset(data, value, 4096);
	disk_request(VIRTIO_BLK_T_OUT, header, data_gpa, status);
	assert_int_equal(pread_full(fd, bytes, sizeof(bytes), 16 * 512), 0);
	close(fd);
	assert_memory_equal(bytes, data, sizeof(bytes));
	memset(data, 0, 4096);
	disk_request(VIRTIO_BLK_T_IN, header, data_gpa, status);
	assert_memory_equal(bytes, data, sizeof(bytes));
}

static void a_served_disk_is_written_and_read(void **state)
{
	guest_start(&guest, 1, 0);
	assert_int_equal(device_config(&guest, 0, 8), MIB / 512);
	write_and_read_back(0x5a);
}

static void a_served_disk_works_again_after_its_reset(void **state)
{
	guest_start(&guest, 1, 0);
	write_and_read_back(1);
	assert_int_equal(vfio_device_reset(client, NULL), 0);
	assert_int_equal(guest_status(&guest), 0);
	guest_start(&guest, 1, 0);
	write_and_read_back(2);
}

static void its_doorbells_are_eventfds(void **state)
{
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	struct guest_buffer buffer;

	guest_start(&guest, 1, 0);
	assert_int_equal(client->ops->get_io_fds(client, 0, fds), 1);
	assert_int_equal(fds[0].offset, guest.queues[0].notify);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &buffer, 1);
	eventfd_write(fds[0].fd, 1);
	assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, NULL, NULL));
}

static void the_next_client_finds_the_device_reset(void **state)
{
	guest_start(&guest, 1, 0);
	fill_from_rng();
	guest_close(&guest);
	for (unsigned i = 0; i < 3; i++) {
		connect_client();
		guest_open(&guest, client);
		assert_int_equal(guest_status(&guest), 0);
		guest_start(&guest, 1, 0);
		fill_from_rng();
		if (i < 2)
			guest_close(&guest);
	}
}

static void a_second_client_is_turned_away_at_once(void **state)
{
	const uint64_t begin = monotonic_ns();
	struct vfio_device *second = NULL;
	struct error e = { 0 };

	assert_true(vfio_user_open(bench.path, &second, &e) < 0);
	assert_string_equal(e.code, "vfio-user-version");
	assert_null(second);
	/* Not after the client's own ten seconds. */
	assert_true(monotonic_ns() - begin < 8 * NSEC_PER_SEC);
	guest_start(&guest, 1, 0);
	fill_from_rng();
}

/* ---- clients that die ---------------------------------------------------------------------- */

static int made_up_setup(void **state)
{
	bench_device_init(&made_up);
	fds_before = count_fds();
	device = &made_up.fake.device;
	bench_start(&bench, device, 0);
	return 0;
}

static int made_up_teardown(void **state)
{
	bench_stop(&bench);
	assert_int_equal(made_up.range_count, 0);
	assert_null(made_up.mapper);
	assert_int_equal(count_maps_of("bench-memory"), 0);
	assert_int_equal(count_fds(), fds_before);
	bench_device_release(&made_up);
	return 0;
}

/* What a VMM does, up to step @until, in a process of its own that is killed there. */
static void live_and_die(unsigned until)
{
	const unsigned resets = made_up.fake.resets;
	int status, pair[2], step;
	pid_t pid;

	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct raw *raw = malloc(sizeof(*raw));
		int fd = bench_memory(64 * KIB, F_SEAL_SHRINK), vector = eventfd(0, EFD_NONBLOCK);
		struct user_dma_map map = {
			.argsz = sizeof(map), .flags = 3, .address = 0x100000, .size = 64 * KIB
		};
		struct vfio_irq_set set = { .argsz = sizeof(set),
					    .flags = VFIO_IRQ_SET_DATA_EVENTFD |
						     VFIO_IRQ_SET_ACTION_TRIGGER,
					    .index = VFIO_PCI_MSIX_IRQ_INDEX,
					    .count = 1 };
		struct user_header half = { .command = USER_DEVICE_RESET, .size = 1000 };

		raw_connect(raw, &bench);
		for (unsigned at = 0; at <= until; at++) {
			if (at == 1)
				RAW_VERSION(raw, RAW_CAPABILITIES);
			if (at == 2)
				raw_call(raw, USER_DMA_MAP, &map, sizeof(map), &fd, 1);
			if (at == 3)
				raw_call(raw, USER_DEVICE_SET_IRQS, &set, sizeof(set), &vector, 1);
			/* Half a header; half a payload with a descriptor along. */
			if (at == 4 && until == 4)
				raw_send(raw, &half, 7, NULL, 0);
			if (at == 5 && until == 5)
				raw_send(raw, &half, sizeof(half), &fd, 1);
			/* A request whose answer it does not wait for. */
			if (at == 6)
				raw_request(raw, USER_DEVICE_RESET, 0, NULL, 0, NULL, 0);
		}
		if (write(pair[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(read(pair[0], &step, 1), 1);
	close(pair[0]);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Somebody who said nothing has not touched the device either. */
	if (until)
		BENCH_WAIT(__atomic_load_n(&made_up.fake.resets, __ATOMIC_ACQUIRE) > resets);
	BENCH_WAIT(__atomic_load_n(&made_up.range_count, __ATOMIC_ACQUIRE) == 0);
	BENCH_WAIT(__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE) == NULL);
	assert_int_equal(made_up.fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	assert_int_equal(made_up.maps, made_up.unmaps);
}

static void a_client_may_be_killed_at_any_step(void **state)
{
	const unsigned tasks = count_tasks();

	for (unsigned until = 0; until <= 6; until++)
		live_and_die(until);
	/* And the next one is served. */
	connect_client();
	assert_int_equal(vfio_device_start(client, NULL), 0);
	assert_int_equal(client->ops->reset(client), 0);
	vfio_device_close(client);
	assert_int_equal(count_tasks(), tasks);
}

static void a_thousand_clients_leave_nothing(void **state)
{
	unsigned fds = count_fds();

	for (unsigned i = 0; i < 1000; i++) {
		struct error e = { 0 };
		int err;

		/* One that comes while the last one's end is not seen yet is turned away. */
		for (unsigned tries = 0; tries < 2000; tries++) {
			err = vfio_user_open(bench.path, &client, &e);
			if (!err)
				break;
			usleep(1000);
		}
		if (err)
			fail_msg("%s: %s", e.code, e.text);
		vfio_device_close(client);
	}
	BENCH_WAIT(made_up.fake.resets >= 1000);
	BENCH_WAIT(count_fds() == fds);
}

/* ---- what a client finds --------------------------------------------------------------------- */

static void the_device_is_what_it_is(void **state)
{
	struct vfio_region region;
	struct vfio_irq irq;
	uint32_t value = 0x11223344, got = 0;
	uint8_t *at;

	connect_client();
	assert_int_equal(client->flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	assert_int_equal(client->region_count, VFIO_PCI_NUM_REGIONS);
	assert_int_equal(client->irq_count, FAKE_IRQS);
	assert_int_equal(client->ops->get_region(client, 0, &region), 0);
	assert_memory_equal(&region, &made_up.fake.regions[0], sizeof(region));
	assert_int_equal(client->ops->get_irq(client, VFIO_PCI_MSIX_IRQ_INDEX, &irq), 0);
	assert_int_equal(irq.count, 20);
	assert_int_equal(client->ops->region_write(client, 0, 0x24, &value, 4), 4);
	assert_int_equal(client->ops->region_read(client, 0, 0x24, &got, 4), 4);
	assert_int_equal(got, value);
	/* The device's own memory, mapped. */
	at = mmap(NULL, 0x1000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(client->ops->region_mmap(client, 0, 0x8000, 0x1000, at), 0);
	at[5] = 0x77;
	assert_int_equal(pread(made_up.fake.memory[0], &got, 1, 0x8005), 1);
	assert_int_equal(got & 0xff, 0x77);
	munmap(at, 0x1000);
	vfio_device_close(client);
}

static void long_accesses_go_in_parts(void **state)
{
	uint8_t bytes[64 * KIB], got[64 * KIB] = { 0 };

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 13);
	connect_client();
	assert_int_equal(client->ops->region_write(client, 0, 0, bytes, sizeof(bytes)),
			 sizeof(bytes));
	assert_int_equal(client->ops->region_read(client, 0, 0, got, sizeof(got)), sizeof(got));
	assert_memory_equal(got, bytes, sizeof(bytes));
	vfio_device_close(client);
}

/* ---- the socket ---------------------------------------------------------------------------- */

static void expect_no_server(const char *path, int err, const char *code, const char *text)
{
	const struct mdev_server_options options = { .path = path };
	struct mdev_server *server = NULL;
	struct error e = { 0 };
	sd_event *event = NULL;

	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(mdev_server_create(event, device, &options, &server, &e), err);
	assert_string_equal(e.code, code);
	assert_non_null(strstr(e.text, text));
	assert_null(server);
	sd_event_unref(event);
}

static void a_path_that_cannot_be_is_refused(void **state)
{
	char long_path[200];

	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	expect_no_server(long_path, -ENAMETOOLONG, "socket-path", "too long");
	expect_no_server("/tmp/there-is-no-such-folder/sock", -ENOENT, "socket-path",
			 "No such file");
	expect_no_server("/dev/null", -EEXIST, "socket-path", "no socket");
	expect_no_server(bench.path, -EADDRINUSE, "socket-in-use", "listens there");
	/* Ours goes on. */
	connect_client();
	vfio_device_close(client);
}

static void a_socket_that_was_left_behind_is_taken_over(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct mdev_server_options options = { .path = address.sun_path };
	struct mdev_server *server = NULL;
	struct stat st;
	sd_event *event = NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/divvy-left-%d", (int)getpid());
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(mdev_server_create(event, device, &options, &server, NULL), 0);
	assert_int_equal(stat(address.sun_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	mdev_server_destroy(server);
	assert_int_equal(access(address.sun_path, F_OK), -1);
	sd_event_unref(event);
}

int main(void)
{
#define RNG(f)	   cmocka_unit_test_setup_teardown(f, rng_setup, virtio_teardown)
#define BLK(f)	   cmocka_unit_test_setup_teardown(f, blk_setup, virtio_teardown)
#define MADE_UP(f) cmocka_unit_test_setup_teardown(f, made_up_setup, made_up_teardown)
	const struct CMUnitTest tests[] = {
		RNG(a_served_rng_fills_a_guests_buffer),
		BLK(a_served_disk_is_written_and_read),
		BLK(a_served_disk_works_again_after_its_reset),
		RNG(its_doorbells_are_eventfds),
		RNG(the_next_client_finds_the_device_reset),
		RNG(a_second_client_is_turned_away_at_once),
		MADE_UP(a_client_may_be_killed_at_any_step),
		MADE_UP(a_thousand_clients_leave_nothing),
		MADE_UP(the_device_is_what_it_is),
		MADE_UP(long_accesses_go_in_parts),
		MADE_UP(a_path_that_cannot_be_is_refused),
		MADE_UP(a_socket_that_was_left_behind_is_taken_over),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
