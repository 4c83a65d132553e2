// SPDX-License-Identifier: Apache-2.0
/*
 * divvy-vgpu: one vGPU, offered to a virtual machine over vfio-user. Its share of a GPU comes from who starts it (`divvy run-native`,
 * the node daemon), by the environment. Exit status: 0 it was asked to stop, 1 failure while running, 2 usage or configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "mdev/input/input.h"
#include "mdev/jail.h"
#include "mdev/mdev.h"
#include "mdev/vnc/vnc.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif

enum {
	STATUS_OK,
	STATUS_FAILED,
	STATUS_USAGE
};

static const char usage_text[] =
	"usage: divvy run-native --share 25% -- divvy-vgpu --socket PATH [OPTIONS]\n"
	"       divvy-vgpu --no-render --socket PATH [OPTIONS]\n"
	"\n"
	"  --socket PATH         where a VMM attaches (divvy-vmm --vfio-user PATH; QEMU's\n"
	"                        vfio-user-pci)\n"
	"  --heads WxH[,WxH]     the monitors, up to 4, each from 640x480 to 4096x2160\n"
	"                        (1280x800)\n"
	"  --window SIZE         how much of the host's memory the guest can see at once\n"
	"                        (1G); K, M, G; a power of two\n"
	"  --no-render           a display only: no Vulkan, and no share of a GPU is\n"
	"                        needed\n"
	"  --input               a keyboard, a pointer and a touch screen too, at\n"
	"                        PATH.keyboard, PATH.pointer, PATH.touch\n"
	"  --input-per-head      the same with a pointer and a touch screen for each\n"
	"                        monitor: PATH.pointer0 ... (docs/input.md)\n"
	"  --layout NAME         the guest's keyboard layout, as X names it: de,\n"
	"                        us:dvorak (us)\n"
	"  --control PATH        screenshots and other monitors while it runs\n"
	"                        (docs/vgpu.md)\n"
	"  --jail uid=N[,gid=N]  as root: run as this user, in an empty root, without\n"
	"                        network (docs/sandbox.md)\n"
	"  --render-jail uid=N[,gid=N]\n"
	"                        as root: what executes the guest's commands is this user\n"
	"  --render-node PATH    a device that it may open; else the GPU's own, by its\n"
	"                        PCI address; up to 4\n"
	"  --register-within SECONDS\n"
	"                        what uses the GPU unknown to the arbiter for longer is\n"
	"                        ended (10)\n"
	"  --render-server PATH  virglrenderer's, where it is not at\n"
	"                        " VIRTIO_GPU_RENDER_SERVER "\n"
	"  --sandbox on|off      off: nothing of it is confined\n"
	"  --name NAME           up to 12 letters, as the guest's monitors are called\n"
	"                        (vgpu)\n"
	"\n"
	"  --vnc WHERE           head 0 for VNC viewers and browsers; again for head 1,\n"
	"                        and so on. WHERE is the path of a socket (mode 0600), or\n"
	"                        tcp:ADDRESS:PORT, which takes --vnc-tls and\n"
	"                        --vnc-password\n"
	"  --vnc-desktop WHERE   all heads side by side\n"
	"  --vnc-tls FOLDER      with server-cert.pem and server-key.pem\n"
	"  --vnc-password FILE   its first line is the password\n"
	"  --vnc-plaintext       TCP without TLS: whoever is on the way sees all and can\n"
	"                        try passwords at leisure\n"
	"\n"
	"  --help                this\n"
	"  --version             which version this is\n";

struct options {
	const char *socket, *control, *name;
	struct virtio_gpu_config config;
	bool render;
	enum {
		INPUT_NONE,
		INPUT_ONE,
		INPUT_PER_HEAD
	} input;
	const char *layout;
	struct vnc_config vnc;
	unsigned vnc_count;
	struct vgpu_jail jail;
};

/* ---- options ----------------------------------------------------------------------------------- */

static int usage(const char *problem, const char *word)
{
	struct error e = { 0 };

	error_set(&e, EINVAL, "usage", "divvy-vgpu --help", "%s%s", problem, word);
	error_print(&e, "divvy-vgpu");
	return STATUS_USAGE;
}

static bool heads_parse(const char *text, struct virtio_gpu_config *config)
{
	config->head_count = 0;
	for (;;) {
		struct virtio_gpu_mode *mode = &config->heads[config->head_count];
		int length = 0;

		if (config->head_count == VIRTIO_GPU_HEADS_MAX ||
		    sscanf(text, "%5ux%5u%n", &mode->width, &mode->height, &length) != 2)
			return false;
		config->head_count++;
		if (!text[length])
			return true;
		if (text[length] != ',')
			return false;
		text += length + 1;
	}
}

/* Options of the jail. Returns whether @value is one. */
static bool jail_parse(int option, const char *value, struct vgpu_jail *jail)
{
	unsigned seconds;
	int end = -1;

	switch (option) {
	case 'J':
		return !sandbox_user_parse(value, &jail->self);
	case 'R':
		return !sandbox_user_parse(value, &jail->render);
	case 'G':
		if (value[0] != '/' || jail->node_count == JAIL_NODES_MAX)
			return false;
		jail->nodes[jail->node_count++] = value;
		return true;
	case 'W':
		if (value[0] < '0' || value[0] > '9' ||
		    sscanf(value, "%6u%n", &seconds, &end) != 1 || value[end] || !seconds ||
		    seconds > 86400)
			return false;
		jail->register_ms = seconds * 1000;
		return true;
	default:
		jail->off = !strcmp(value, "off");
		return jail->off || !strcmp(value, "on");
	}
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "heads", required_argument, NULL, 'h' },
		{ "window", required_argument, NULL, 'w' },
		{ "no-render", no_argument, NULL, 'n' },
		{ "input", no_argument, NULL, 'i' },
		{ "input-per-head", no_argument, NULL, 'I' },
		{ "layout", required_argument, NULL, 'l' },
		{ "control", required_argument, NULL, 'c' },
		{ "name", required_argument, NULL, 'N' },
		{ "vnc", required_argument, NULL, 'V' },
		{ "vnc-desktop", required_argument, NULL, 'D' },
		{ "vnc-tls", required_argument, NULL, 'T' },
		{ "vnc-password", required_argument, NULL, 'P' },
		{ "vnc-plaintext", no_argument, NULL, 'p' },
		{ "jail", required_argument, NULL, 'J' },
		{ "render-jail", required_argument, NULL, 'R' },
		{ "render-node", required_argument, NULL, 'G' },
		{ "register-within", required_argument, NULL, 'W' },
		{ "sandbox", required_argument, NULL, 'S' },
		{ "render-server", required_argument, NULL, 'X' },
		{ "help", no_argument, NULL, '?' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	const char *word;
	int option, index;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":", table, &index)) != -1) {
		word = option == ':' || option == '?' ? NULL
						      : option_abbreviated(argv, table[index].name);
		if (word)
			return usage("unknown option ", word);
		switch (option) {
		case 's':
			options->socket = optarg;
			break;
		case 'h':
			if (!heads_parse(optarg, &options->config))
				return usage("not WIDTHxHEIGHT, up to four times: ", optarg);
			break;
		case 'w':
			if (text_size(optarg, &options->config.window_size) ||
			    !options->config.window_size)
				return usage("not a size: ", optarg);
			break;
		case 'n':
			options->render = false;
			break;
		case 'i':
			options->input = MAX(options->input, INPUT_ONE);
			break;
		case 'I':
			options->input = INPUT_PER_HEAD;
			break;
		case 'l':
			options->layout = optarg;
			break;
		case 'c':
			options->control = optarg;
			break;
		case 'N':
			options->name = optarg;
			break;
		case 'V':
			if (options->vnc_count == VIRTIO_GPU_HEADS_MAX)
				return usage("a --vnc too many: ", optarg);
			options->vnc.places[options->vnc_count++] = optarg;
			break;
		case 'D':
			options->vnc.desktop = optarg;
			break;
		case 'T':
			options->vnc.tls = optarg;
			break;
		case 'P':
			options->vnc.password_file = optarg;
			break;
		case 'p':
			options->vnc.plaintext = true;
			break;
		case 'X':
			options->jail.server = optarg;
			break;
		case 'J':
		case 'R':
		case 'G':
		case 'W':
		case 'S':
			if (!jail_parse(option, optarg, &options->jail))
				return usage("not what its option takes: ", optarg);
			break;
		case 'v':
			puts("divvy-vgpu " DIVVY_VERSION);
			return STATUS_OK;
		case ':':
			return usage("a value is missing after ", argv[optind - 1]);
		default:
			if (!strcmp(argv[optind - 1], "--help")) {
				fputs(usage_text, stdout);
				return STATUS_OK;
			}
			return usage("unknown option ", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return usage("a word too many: ", argv[optind]);
	if (options->layout && !options->input)
		return usage("--layout is of no use without ", "--input");
	if ((options->vnc.tls || options->vnc.password_file || options->vnc.plaintext) &&
	    !options->vnc_count && !options->vnc.desktop)
		return usage("--vnc or --vnc-desktop is missing", "");
	if (options->vnc_count > options->config.head_count)
		return usage("there is no such head for --vnc ",
			     options->vnc.places[options->vnc_count - 1]);
	return options->socket ? -1 : usage("--socket is missing", "");
}

/* ---- the render server's world --------------------------------------------------------------------- */

/* All that it sees of ours: which vGPU it is, the layer that makes it one, the driver. */
static const char *const handed_on[] = {
	"DIVVY_VGPU_SOCKET",  "DIVVY_VGPU_TOKEN",	"VK_ADD_LAYER_PATH", "VK_LAYER_PATH",
	"VK_INSTANCE_LAYERS", "VK_LOADER_LAYERS_ALLOW", "VK_DRIVER_FILES",   "VK_ICD_FILENAMES",
};

struct surroundings {
	const char *list[ARRAY_SIZE(handed_on) + 2]; /* NULL at the end */
	char *owned[ARRAY_SIZE(handed_on)];
};

static int surroundings_make(struct surroundings *surroundings, struct error *e)
{
	unsigned count = 0;

	*surroundings = (struct surroundings){ 0 };
	for (unsigned i = 0; i < ARRAY_SIZE(handed_on); i++) {
		const char *value = getenv(handed_on[i]);

		if (!value)
			continue;
		if (asprintf(&surroundings->owned[count], "%s=%s", handed_on[i], value) < 0) {
			surroundings->owned[count] = NULL;
			return error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
		}
		surroundings->list[count] = surroundings->owned[count];
		count++;
	}
	/* Drivers keep caches at home; this one has none, and nowhere to make one. */
	surroundings->list[count] = "HOME=/dev/null";
	return 0;
}

static void surroundings_free(struct surroundings *surroundings)
{
	for (unsigned i = 0; i < ARRAY_SIZE(surroundings->owned); i++)
		free(surroundings->owned[i]);
}

/* ---- it runs ------------------------------------------------------------------------------------- */

static int signals_watch(sd_event *event, struct error *e)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	int err = 0;

	/* Without a handler it ends the loop. */
	for (size_t i = 0; i < ARRAY_SIZE(ends) && err >= 0; i++)
		err = sd_event_add_signal(event, NULL, ends[i] | SD_EVENT_SIGNAL_PROCMASK, NULL,
					  NULL);
	return err < 0 ? error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err))
		       : 0;
}

/* Everything is open. It is closed in, threads begin, and only then. */
static int start(const struct vgpu_jail *jail, struct virtio_gpu_control *answers,
		 struct vnc_server *vnc, struct error *e)
{
	int err = jail_close(jail, e);

	if (!err)
		err = vfio_device_start(answers->device, e);
	if (!err && answers->seat)
		err = input_seat_start(answers->seat, e);
	if (!err && vnc)
		err = vnc_server_start(vnc, e);
	return err ? err : jail_close_main(jail, e);
}

static int loop(sd_event *event, struct virtio_gpu_control *answers, struct vnc_server *vnc,
		struct options *options, struct error *e)
{
	const struct mdev_server_options where = { .path = options->socket };
	struct control_socket *control = NULL;
	struct mdev_server *server = NULL;
	struct input_offer *input = NULL;
	int err = mdev_server_create(event, answers->device, &where, &server, e);

	answers->server = server;
	if (!err && answers->seat)
		err = input_offer_create(answers->seat, event, options->socket, &input, e);
	if (!err && options->control)
		err = control_socket_create(options->control, &control, e);
	if (!err && control)
		err = control_socket_attach(control, event, virtio_gpu_control_answer, answers, e);
	jail_socket(&options->jail, options->socket);
	jail_socket(&options->jail, options->control);
	for (unsigned i = 0; i < options->vnc_count; i++)
		jail_socket(&options->jail, options->vnc.places[i]);
	jail_socket(&options->jail, options->vnc.desktop);
	options->jail.control = options->control;
	if (!err)
		err = start(&options->jail, answers, vnc, e);
	if (!err) {
		err = sd_event_loop(event);
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
	}
	if (control)
		control_socket_detach(control);
	control_socket_destroy(control);
	input_offer_destroy(input);
	mdev_server_destroy(server);
	return err;
}

static int seat_make(const struct options *options, struct vfio_device *gpu,
		     struct input_seat **out, struct error *e)
{
	const struct input_config config = {
		.name = options->name,
		.layout = options->layout,
		.per_head = options->input == INPUT_PER_HEAD ? options->config.head_count : 0,
	};
	int err;

	if (!options->input)
		return 0;
	err = input_seat_create(&config, out, e);
	if (err)
		return err;
	err = input_seat_follow(*out, gpu);
	return err ? error_set(e, -err, "device-failed", NULL, "input: cannot follow the heads: %s",
			       strerror(-err))
		   : 0;
}

static bool shows_vnc(const struct options *options)
{
	return options->vnc_count || options->vnc.desktop;
}

static int vnc_make(struct options *options, const struct virtio_gpu_control *answers,
		    struct vnc_server **out, struct error *e)
{
	if (!shows_vnc(options))
		return 0;
	options->vnc.name = options->name;
	options->vnc.head_count = options->config.head_count;
	memcpy(options->vnc.heads, options->config.heads, sizeof(options->vnc.heads));
	options->vnc.seat = answers->seat;
	return vnc_server_create(answers->device, &options->vnc, out, e);
}

static int run(struct options *options, struct error *e)
{
	struct virtio_gpu_control answers = { .name = options->name, .vulkan = options->render };
	struct virtio_gpu_venus_config venus = { 0 };
	struct surroundings surroundings = { 0 };
	struct vfio_device *device = NULL;
	struct vnc_server *vnc = NULL;
	sd_event *event = NULL;
	int err = 0;

	if (options->render) {
		err = jail_render(&options->jail, &venus, e);
		if (!err)
			err = surroundings_make(&surroundings, e);
		venus.environment = surroundings.list;
		options->config.venus = &venus;
	}
	if (!err && sd_event_new(&event) < 0)
		err = error_set(e, ENOMEM, "event-loop", NULL, "event loop: out of memory");
	/* Signals are blocked before any thread is made. */
	if (!err)
		err = signals_watch(event, e);
	if (!err)
		err = virtio_gpu_create(&options->config, &device, e);
	if (!err)
		err = seat_make(options, device, &answers.seat, e);
	if (!err) {
		answers.device = device;
		answers.head_count = options->config.head_count;
		err = vnc_make(options, &answers, &vnc, e);
	}
	if (!err)
		err = loop(event, &answers, vnc, options, e);
	vnc_server_destroy(vnc);
	if (answers.seat)
		input_seat_unfollow(answers.seat, device);
	input_seat_destroy(answers.seat);
	if (device)
		vfio_device_close(device);
	sd_event_unref(event);
	surroundings_free(&surroundings);
	jail_end(&options->jail);
	return err;
}

int main(int argc, char **argv)
{
	struct options options = {
		.name = "vgpu",
		.render = true,
		.config = { .head_count = 1, .heads = { { 1280, 800 } }, .window_size = GIB },
	};
	struct error e = { 0 };
	int status;

	/* A viewer or a VMM that went away is EPIPE, not the end. */
	signal(SIGPIPE, SIG_IGN);
	jail_init(&options.jail);
	status = parse(argc, argv, &options);
	if (status >= 0)
		return status;
	options.config.name = options.name;
	if (!options.render)
		options.config.window_size = 0;
	if (!run(&options, &e))
		return STATUS_OK;
	error_print(&e, "divvy-vgpu");
	return e.code && (!strcmp(e.code, "bad-config") || !strcmp(e.code, "no-vgpu") ||
			  !strcmp(e.code, "bad-layout") || !strcmp(e.code, "vnc-insecure") ||
			  !strcmp(e.code, "vnc-password") || !strcmp(e.code, "vnc-place") ||
			  !strcmp(e.code, "vnc-tls"))
		       ? STATUS_USAGE
		       : STATUS_FAILED;
}
