// SPDX-License-Identifier: Apache-2.0
/*
 * The command line of `divvy`: words in, one verb out. Exit status 0 is yes, 1 is no (with the
 * reason printed), 2 is a command line that says nothing.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli.h"

static const char usage_text[] =
	"usage: divvy precheck BDF [--memory SIZE]    what stands in the way of assigning it\n"
	"       divvy bind BDF [--timeout MS]         give its isolation group to vfio-pci\n"
	"       divvy unbind BDF [--timeout MS]       give the group back to its drivers\n"
	"       divvy list gpus|devices               what is there, and what could be made of it\n"
	"       divvy types [check] ...               what instances there can be, and how many more (divvy types --help)\n"
	"       divvy sim SCENARIO ...                the vGPU scheduler on a made-up GPU (divvy sim --help)\n"
	"       divvy arbiter ...                     share GPUs between those who register (divvy arbiter --help)\n"
	"       divvy vgpus                           what each of them has and owes\n"
	"       divvy run-native ... -- PROGRAM ...   a Vulkan program under a share (divvy run-native --help)\n"
	"\n"
	"  BDF          address of a PCI function: 0000:01:00.0, or 01:00.0\n"
	"  --json       print JSON\n"
	"  --memory     guest RAM that must be pinned: 512M, 4G\n"
	"  --state-dir  where bind remembers drivers (/var/lib/divvy/bind)\n"
	"  --root       read /sys, /proc and /dev beneath this folder (tests)\n";

enum {
	OPTION_JSON = 256,
	OPTION_MEMORY,
	OPTION_TIMEOUT,
	OPTION_STATE_DIR,
	OPTION_ROOT,
	OPTION_HELP
};

static const struct option option_table[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
	{ "root", required_argument, NULL, OPTION_ROOT },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

/* Verbs that take the address of one function. */
static const struct {
	const char *name;
	int (*run)(const struct cli_options *options, const struct pci_address *address);
} verbs[] = {
	{ "precheck", cli_precheck },
	{ "bind", cli_bind },
	{ "unbind", cli_unbind },
};

/* Verbs that touch no PCI function: each has options of its own. */
static const struct {
	const char *name;
	int (*run)(int argc, char **argv, FILE *out);
} own_options[] = {
	{ "types", cli_types },		  { "sim", cli_sim },
	{ "arbiter", cli_arbiter },	  { "vgpus", cli_vgpus },
	{ "run-native", cli_run_native },
};

int cli_size(const char *text, uint64_t *size)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned shift = 0;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	*size = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	if (*end) {
		suffix = strchr(suffixes, *end & ~0x20);
		if (!suffix || !*suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (*size > UINT64_MAX >> shift)
		return -EINVAL;
	*size <<= shift;
	return 0;
}

json_t *cli_json_text(const char *text)
{
	char copy[sizeof(((struct error *)0)->text)];

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return json_string(copy);
}

int cli_fail(const struct cli_options *options, const struct error *e)
{
	json_t *json;

	error_print(e, "divvy");
	if (!options->json)
		return CLI_FAILED;
	json = json_pack("{s:{s:s, s:o, s:o}}", "error", "code", e->code ? e->code : "internal",
			 "text", cli_json_text(e->text), "next", cli_json_text(e->next));
	if (json) {
		json_dumpf(json, options->out, JSON_INDENT(2));
		fputc('\n', options->out);
		json_decref(json);
	}
	return CLI_FAILED;
}

static int usage(const char *problem, const char *word)
{
	if (problem)
		fprintf(stderr, "divvy: %s%s\n", problem, word);
	fputs(usage_text, stderr);
	return CLI_USAGE;
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(int argc, char **argv, struct cli_options *options)
{
	uint64_t number;
	int option;

	opterr = 0;
	optind = 0; /* glibc: start over, since tests call this more than once */
	while ((option = getopt_long(argc, argv, ":", option_table, NULL)) != -1) {
		switch (option) {
		case OPTION_JSON:
			options->json = true;
			break;
		case OPTION_MEMORY:
			if (cli_size(optarg, &options->memory_size))
				return usage("not a size: ", optarg);
			break;
		case OPTION_TIMEOUT:
			if (cli_size(optarg, &number) || !number || number > 3600000)
				return usage("not a time in milliseconds: ", optarg);
			options->timeout_ms = (unsigned)number;
			break;
		case OPTION_STATE_DIR:
			options->state_dir = optarg;
			break;
		case OPTION_ROOT:
			options->root = optarg;
			break;
		case OPTION_HELP:
			fputs(usage_text, options->out);
			return CLI_OK;
		case ':':
			return usage("a value is missing after ", argv[optind - 1]);
		default:
			return usage("unknown option ", argv[optind - 1]);
		}
	}
	return -1;
}

int cli_main(int argc, char **argv, FILE *out)
{
	struct cli_options options = { .root = "", .out = out };
	struct pci_address address;
	int status;

	for (unsigned i = 0; argc > 1 && i < ARRAY_SIZE(own_options); i++)
		if (!strcmp(argv[1], own_options[i].name))
			return own_options[i].run(argc - 1, argv + 1, out);
	status = parse_options(argc, argv, &options);
	if (status >= 0)
		return status;
	argc -= optind;
	argv += optind;
	if (argc == 0)
		return usage(NULL, NULL);
	if (!strcmp(argv[0], "list")) {
		if (argc != 2 || (strcmp(argv[1], "gpus") != 0 && strcmp(argv[1], "devices") != 0))
			return usage("list what? gpus or devices", "");
		return strcmp(argv[1], "gpus") ? cli_list_devices(&options)
					       : cli_list_gpus(&options);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[0], verbs[i].name) != 0)
			continue;
		if (argc != 2)
			return usage("one PCI address is needed after ", argv[0]);
		if (pci_address_parse(argv[1], &address))
			return usage("not a PCI address: ", argv[1]);
		return verbs[i].run(&options, &address);
	}
	return usage("unknown verb ", argv[0]);
}
