// SPDX-License-Identifier: Apache-2.0
/*
 * Viewers of vGPUs, natively: a guest's driver draws, libvncclient looks, in a process of its own.
 *
 * Each picture carries the time at which it was drawn, in its first pixel; what a viewer reads of it when the update is whole is the
 * latency: flush, copy, encoding, socket, decoding. Processor time is that of the threads "vnc", and of the devices' workers, where
 * the copies are made.
 *
 *	bench_vnc many [SECONDS]	25 vGPUs of 1280 x 800, a square of 200 x 200 in which all moves, 30 times a second, a viewer each
 *	bench_vnc large [SECONDS]	4096 x 2160, 30 whole frames a second, by encoding
 */
#define GUEST_SIZE  (48 * MIB)
#define MEMORY_SIZE (36 * MIB)

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/bench/bench.h"
#include "tests/unit/gpu_guest.h"
#include "tests/unit/vnc_viewer.h"

#define MANY	    25
#define FORMAT	    VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM
#define SQUARE	    200
#define FRAME_NS    (NSEC_PER_SEC / 30)
#define SAMPLES_MAX 4096

static struct desk {
	struct guest guest;
	uint64_t request, response, memory;
	struct vnc_server *server;
	char path[96];
	uint32_t width, height;
} desks[MANY];

/* What the viewers' process says. */
static struct seen_by {
	unsigned count;
	unsigned ready; /* viewers that have a whole picture */
	bool begin, end;
	uint64_t frames, pixels;
	float us[SAMPLES_MAX];
} *shared;

static char folder[] = "/tmp/divvy-bench-XXXXXX";

/* gpu_guest.h has one guest: this one's turn. */
static void enter(const struct desk *desk)
{
	guest = desk->guest;
	request_gpa = desk->request;
	response_gpa = desk->response;
	memory_gpa = desk->memory;
}

static void leave(struct desk *desk)
{
	desk->guest = guest;
	desk->request = request_gpa;
	desk->response = response_gpa;
	desk->memory = memory_gpa;
}

/* A page that is not all of one colour, nor noise: text on a gradient. */
static void paint(struct desk *desk)
{
	uint32_t *pixels = guest_ptr(&guest, memory_gpa);

	for (uint32_t y = 0; y < desk->height; y++)
		for (uint32_t x = 0; x < desk->width; x++)
			pixels[y * desk->width + x] =
				(x / 8 * 2654435761u ^ y / 16 * 40503u) % 11 == 0 && x % 8 < 5 &&
						y % 16 < 11
					? 0x202020
					: 0x8090a0 + (y * 64 / desk->height) * 0x010101;
}

static void blob_create(uint32_t width, uint32_t height)
{
	struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entry;
	} create = {
		.request = { .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
			     .resource_id = 1,
			     .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
			     .nr_entries = 1,
			     .size = ALIGN_UP((uint64_t)width * height * 4, 4096) },
		.entry = memory_entry(0, ALIGN_UP(width * height * 4, 4096u)),
	};
	struct virtio_gpu_set_scanout_blob scanout = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
		.r = { 0, 0, width, height },
		.resource_id = 1,
		.width = width,
		.height = height,
		.format = FORMAT,
		.strides = { width * 4 },
	};

	ASK_OK(create);
	ASK_OK(scanout);
}

static void open_desk(struct desk *desk, unsigned index, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_config gpu = { .head_count = 1, .heads = { { width, height } } };
	struct vnc_config config = { .head_count = 1, .heads = { { width, height } } };
	struct error e = { 0 };

	desk->width = width;
	desk->height = height;
	snprintf(desk->path, sizeof(desk->path), "%s/%u", folder, index);
	config.places[0] = desk->path;
	gpu_open(&gpu);
	gpu_boot(GPU_FEATURES | FEATURE(VIRTIO_GPU_F_RESOURCE_BLOB));
	paint(desk);
	blob_create(width, height);
	if (vnc_server_create(guest.device, &config, &desk->server, &e) ||
	    vnc_server_start(desk->server, &e)) {
		error_print(&e, "bench_vnc");
		exit(1);
	}
	leave(desk);
}

static void close_desk(struct desk *desk)
{
	vnc_server_destroy(desk->server);
	enter(desk);
	guest_close(&guest);
}

/* ---- the viewers -------------------------------------------------------------------------------- */

static uint32_t now_us(void)
{
	return (uint32_t)(monotonic_ns() / 1000) & 0xffffff;
}

static void on_whole(rfbClient *client)
{
	struct viewer *viewer = viewer_of(client);
	const uint32_t drawn = viewer_pixel(viewer, 0, 0);

	viewer->updates++;
	if (!shared->begin)
		return;
	shared->frames++;
	if (shared->count < SAMPLES_MAX)
		shared->us[shared->count++] = (float)((now_us() - drawn) & 0xffffff);
}

static void look(unsigned count, const char *encodings, bool jpeg)
{
	static struct viewer viewers[MANY];
	struct pollfd polls[MANY];

	/* It ends with the bench. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < count; i++) {
		viewer_make(&viewers[i], encodings);
		viewers[i].client->FinishedFrameBufferUpdate = on_whole;
		viewers[i].client->appData.enableJPEG = jpeg;
		viewers[i].client->appData.qualityLevel = 8;
		viewers[i].client->appData.compressLevel = 1;
		if (!viewer_join(&viewers[i], desks[i].path, 0))
			_exit(1);
		viewer_until(&viewers[i], viewers[i].updates > 1);
		shared->ready = i + 1;
		polls[i] = (struct pollfd){ viewers[i].client->sock, POLLIN, 0 };
	}
	while (!shared->end) {
		poll(polls, count, 100);
		for (unsigned i = 0; i < count; i++) {
			const uint64_t before = viewers[i].pixels;

			if ((polls[i].revents || viewers[i].client->buffered) &&
			    !HandleRFBServerMessage(viewers[i].client))
				_exit(1);
			if (shared->begin)
				shared->pixels += viewers[i].pixels - before;
		}
	}
	_exit(0);
}

/* ---- the guests --------------------------------------------------------------------------------- */

static void flush_time(struct desk *desk, struct virtio_gpu_rect rect)
{
	uint32_t *pixels;

	enter(desk);
	pixels = guest_ptr(&guest, memory_gpa);
	pixels[0] = now_us();
	flush(1, rect);
	leave(desk);
}

/* A square in which all moves, the time in its corner. */
static void move_square(struct desk *desk, unsigned frame)
{
	uint32_t *pixels;

	enter(desk);
	pixels = guest_ptr(&guest, memory_gpa);
	for (uint32_t y = 0; y < SQUARE; y++)
		for (uint32_t x = 0; x < SQUARE; x++)
			pixels[y * desk->width + x] = (y ^ (x + frame)) * 0x010203;
	leave(desk);
	flush_time(desk, (struct virtio_gpu_rect){ 0, 0, SQUARE, SQUARE });
}

/* Processor time of this process's threads of a name, in seconds. */
static double thread_seconds(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	double seconds = 0;

	while (tasks && (task = readdir(tasks))) {
		char path[300], text[512], *at;
		unsigned long user = 0, system = 0;
		FILE *stat;

		snprintf(path, sizeof(path), "/proc/self/task/%s/stat", task->d_name);
		stat = fopen(path, "re");
		if (!stat)
			continue;
		if (fgets(text, sizeof(text), stat) && (at = strrchr(text, ')'))) {
			*at = 0;
			sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			       &system);
			if ((at = strchr(text, '(')) && !strcmp(at + 1, name))
				seconds += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
		}
		fclose(stat);
	}
	if (tasks)
		closedir(tasks);
	return seconds;
}

static double resident_mib(void)
{
	char line[128];
	double kib = 0;
	FILE *status = fopen("/proc/self/status", "re");

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmRSS: %lf", &kib) == 1)
			break;
	if (status)
		fclose(status);
	return kib / 1024;
}

static void one(const char *title, const char *what, const char *unit, double value)
{
	char name[128];

	snprintf(name, sizeof(name), "%s: %s", title, what);
	bench_result(name, unit, &value, 1);
}

static void measure(const char *title, unsigned count, unsigned seconds, const char *encodings,
		    bool jpeg, bool whole)
{
	const double rss = resident_mib();
	double vnc, workers, frames = 0, us[SAMPLES_MAX];
	uint64_t begin, next;
	char name[128];
	unsigned frame = 0;
	pid_t child;
	int status;

	memset(shared, 0, sizeof(*shared));
	child = fork();
	if (!child)
		look(count, encodings, jpeg);
	while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) < count &&
	       !waitpid(child, NULL, WNOHANG))
		usleep(10000);
	vnc = thread_seconds("vnc");
	workers = thread_seconds("virtio-gpu");
	shared->begin = true;
	begin = next = monotonic_ns();
	while (monotonic_ns() < begin + seconds * NSEC_PER_SEC) {
		for (unsigned i = 0; i < count; i++) {
			const struct virtio_gpu_rect all = { 0, 0, desks[i].width,
							     desks[i].height };

			if (whole)
				flush_time(&desks[i], all);
			else
				move_square(&desks[i], frame);
		}
		frame++;
		next += FRAME_NS;
		/* A machine that is late does not catch up. */
		if (monotonic_ns() < next)
			usleep((useconds_t)((next - monotonic_ns()) / 1000));
		else
			next = monotonic_ns();
	}
	frames = (double)shared->frames / count / seconds;
	one(title, "flushes, a vGPU", "1/s", (double)frame / seconds);
	one(title, "updates, a viewer", "1/s", frames);
	one(title, "pixels, all viewers", "Mpx/s", (double)shared->pixels / 1e6 / seconds);
	one(title, "processor time of the VNC threads", "%",
	    (thread_seconds("vnc") - vnc) * 100 / seconds);
	one(title, "of the devices' workers", "%",
	    (thread_seconds("virtio-gpu") - workers) * 100 / seconds);
	one(title, "memory with viewers, beyond that without", "MiB", resident_mib() - rss);
	for (unsigned i = 0; i < shared->count; i++)
		us[i] = (double)shared->us[i] / 1000;
	snprintf(name, sizeof(name), "%s: from flush to viewer", title);
	if (shared->count)
		bench_result(name, "ms", us, shared->count);
	shared->end = true;
	waitpid(child, &status, 0);
}

static void many(unsigned seconds)
{
	for (unsigned i = 0; i < MANY; i++)
		open_desk(&desks[i], i, 1280, 800);
	measure("25 vGPUs, Tight", MANY, seconds, "tight", false, false);
	measure("25 vGPUs, ZRLE", MANY, seconds, "zrle", false, false);
	measure("25 vGPUs, raw", MANY, seconds, "raw", false, false);
	for (unsigned i = 0; i < MANY; i++)
		close_desk(&desks[i]);
}

static void large(unsigned seconds)
{
	open_desk(&desks[0], 0, 4096, 2160);
	measure("4096 x 2160, raw", 1, seconds, "raw", false, true);
	measure("4096 x 2160, Tight", 1, seconds, "tight", false, true);
	measure("4096 x 2160, Tight with JPEG", 1, seconds, "tight", true, true);
	measure("4096 x 2160, ZRLE", 1, seconds, "zrle", false, true);
	close_desk(&desks[0]);
}

int main(int argc, char **argv)
{
	const unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 10;

	log_set_level(LOG_LEVEL_ERROR);
	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED || !mkdtemp(folder) || !seconds)
		return 1;
	if (argc > 1 && !strcmp(argv[1], "large"))
		large(seconds);
	else
		many(seconds);
	rmdir(folder);
	return 0;
}
