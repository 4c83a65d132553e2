// SPDX-License-Identifier: Apache-2.0
/* The program `divvyd`: options, signals, readiness for systemd. Exit status: 0 it was asked to stop, 1 failure, 2 usage. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include "instances/daemon/private.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif

static const char usage_text[] =
	"usage: divvyd [--config FILE] [--types FOLDER[:FOLDER]] [--state FOLDER]\n"
	"              [--run FOLDER] [--programs FOLDER] [--layers FOLDER]\n"
	"              [--root FOLDER] [--log-level LEVEL] [--check]\n"
	"\n"
	"  --config FILE      roles, folders of images, placement\n"
	"                     (/etc/divvy/divvyd.yaml)\n"
	"  --types FOLDERS    instance types, instead of the shipped ones and\n"
	"                     /etc/divvy/types.d\n"
	"  --state FOLDER     the store, disks, logs\n"
	"                     (/var/lib/divvy; a user's: ~/.local/state/divvy)\n"
	"  --run FOLDER       sockets (/run/divvy; a user's: $XDG_RUNTIME_DIR/divvy)\n"
	"  --programs FOLDER  divvy, divvy-vmm, divvy-vgpu (where divvyd is)\n"
	"  --layers FOLDER    the Vulkan layer's manifest (divvy finds it)\n"
	"  --root FOLDER      what is seen as / when the machine's devices are read\n"
	"  --log-level LEVEL  error, warn, info (the default), debug\n"
	"  --check            only read configuration, certificates and types, and say\n"
	"                     whether they are good\n"
	"  --version          which version this is\n"
	"  --help             this\n"
	"\n"
	"divvyd keep ... is what it runs above each process of an instance.\n";

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "divvyd: %s%s\n%s", problem, word, usage_text);
	return 2;
}

static bool level_parse(const char *text)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i])) {
			log_set_level((enum log_level)i);
			return true;
		}
	return false;
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct daemon_options *options, bool *check)
{
	static const struct option table[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "types", required_argument, NULL, 't' },
		{ "state", required_argument, NULL, 's' },
		{ "run", required_argument, NULL, 'r' },
		{ "programs", required_argument, NULL, 'p' },
		{ "layers", required_argument, NULL, 'l' },
		{ "root", required_argument, NULL, 'R' },
		{ "log-level", required_argument, NULL, 'L' },
		{ "check", no_argument, NULL, 'C' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *word;
	int option, index;

	opterr = 0;
	optind = 0;
	while ((option = getopt_long(argc, argv, ":", table, &index)) != -1) {
		word = option == ':' || option == '?' ? NULL
						      : option_abbreviated(argv, table[index].name);
		if (word)
			return usage("unknown option ", word);
		switch (option) {
		case 'c':
			options->config = optarg;
			break;
		case 't':
			options->types = optarg;
			break;
		case 's':
			options->state = optarg;
			break;
		case 'r':
			options->run = optarg;
			break;
		case 'p':
			options->programs = optarg;
			break;
		case 'l':
			options->layers = optarg;
			break;
		case 'R':
			options->root = optarg;
			break;
		case 'L':
			if (!level_parse(optarg))
				return usage("not error, warn, info or debug: ", optarg);
			break;
		case 'C':
			*check = true;
			break;
		case 'v':
			puts("divvyd " DIVVY_VERSION);
			return 0;
		case 'h':
			fputs(usage_text, stdout);
			return 0;
		case ':':
			return usage("a value is missing after ", argv[optind - 1]);
		default:
			return usage("unknown option ", argv[optind - 1]);
		}
	}
	return argc - optind ? usage("a word too many: ", argv[optind]) : -1;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *opaque)
{
	struct daemon **daemon = opaque;
	struct error e = { 0 };

	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, monotonic_ns() / 1000);
	if (daemon_reload(*daemon, &e))
		log_error("not reloaded, what was read before holds: %s%s%s", e.text,
			  e.next[0] ? "; next: " : "", e.next);
	sd_notifyf(0, "READY=1\nSTATUS=%s%s", daemon_api_path(*daemon),
		   e.text[0] ? "; not reloaded, see the journal" : "");
	return 0;
}

int daemon_run(const struct daemon_options *options, struct error *e)
{
	static const int ends[] = { SIGINT, SIGTERM };
	struct daemon *daemon = NULL;
	sd_event *event = NULL;
	int err = sd_event_new(&event);

	/* Without a handler it ends the loop. */
	for (size_t i = 0; i < ARRAY_SIZE(ends) && err >= 0; i++)
		err = sd_event_add_signal(event, NULL, ends[i] | SD_EVENT_SIGNAL_PROCMASK, NULL,
					  NULL);
	if (err >= 0)
		err = sd_event_add_signal(event, NULL, SIGHUP | SD_EVENT_SIGNAL_PROCMASK, on_reload,
					  &daemon);
	if (err >= 0)
		err = sd_event_set_watchdog(event, true);
	if (err < 0)
		error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
	else
		err = daemon_create(options, event, &daemon, e);
	if (err >= 0) {
		sd_notifyf(0, "READY=1\nSTATUS=%s", daemon_api_path(daemon));
		err = sd_event_loop(event);
		sd_notify(0, "STOPPING=1");
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
	}
	daemon_destroy(daemon);
	sd_event_unref(event);
	return MIN(err, 0);
}

int daemon_main(int argc, char **argv)
{
	struct daemon_options options = { 0 };
	struct error e = { 0 };
	bool check = false;
	int status;

	if (argc > 1 && !strcmp(argv[1], "keep"))
		return launch_keep_main(argc - 1, argv + 1);
	signal(SIGPIPE, SIG_IGN);
	status = parse(argc, argv, &options, &check);
	if (status >= 0)
		return status;
	if (check && !daemon_check(&options, &e)) {
		puts("configuration, certificates and types are good");
		return 0;
	}
	if (!check && !daemon_run(&options, &e))
		return 0;
	error_print(&e, "divvyd");
	return 1;
}
