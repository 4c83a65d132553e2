// SPDX-License-Identifier: Apache-2.0
/*
 * divvy top on a terminal. ncurses has the terminal, and gives it back when the process ends by a signal, too; what is on it is top_draw()'s.
 * Who is asked: the daemon, or the arbiter where there is none.
 */
#include <ctype.h>
#include <errno.h>
#include <langinfo.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli/api.h"
#include "instances/cli/here.h"
#include "instances/cli/table.h"
#include "instances/top/top.h"
#include "vgpu-sched/vgpu-sched.h"

#define ONCE_LINES 200
#define LINES_MAX  1000
#define ESCAPE_MS  25
#define PATIENCE_S 5 /* keys wait for it */

#define ANEW_EVERY_US 100000u
#define ANEW_TRIES    20

struct screen {
	struct cli *cli;
	const char *arbiter; /* its socket; NULL: the default one */
	bool daemon, utf8;
	struct top_model model;
};

/* ---- asking ------------------------------------------------------------------------------------------- */

static int ask_daemon(struct screen *s, struct error *e)
{
	json_t *gpus = api_get(s->cli, "/gpus", e);
	json_t *vgpus = gpus ? api_get(s->cli, "/vgpus", e) : NULL;
	int err = vgpus ? top_feed_api(&s->model, gpus, vgpus, monotonic_ns())
			: -(e->err ? e->err : EIO);

	json_decref(gpus);
	json_decref(vgpus);
	return err;
}

static int ask_arbiter(struct screen *s, struct error *e)
{
	char *text = NULL;
	json_t *status;
	int err = arbiter_status(s->arbiter, &text, e);

	if (err)
		return err;
	status = json_loads(text, 0, NULL);
	free(text);
	err = status ? top_feed_arbiter(&s->model, status, monotonic_ns())
		     : error_set(e, EPROTO, "arbiter-answer", NULL,
				 "what the arbiter said is no JSON");
	json_decref(status);
	return err;
}

/* What is shown stays, with a note, when nobody answers. */
static int ask(struct screen *s, struct error *e)
{
	int err = s->daemon ? ask_daemon(s, e) : ask_arbiter(s, e);

	if (err)
		snprintf(s->model.note, sizeof(s->model.note), "%.200s", e->text);
	else
		s->model.note[0] = '\0';
	return err;
}

static void reweigh(struct screen *s)
{
	const struct top_vgpu *vgpu = top_selected(&s->model);
	struct api_request request = { .method = "PATCH" };
	struct api_answer answer;
	char path[API_PATH_SIZE], name[TOP_NAME];
	struct error e = { 0 };
	uint64_t weight;
	int err;

	if (!vgpu || cli_number(s->model.typed, 1, SCHED_WEIGHT_MAX, &weight)) {
		snprintf(s->model.note, sizeof(s->model.note), "a weight is 1 to %u",
			 SCHED_WEIGHT_MAX);
		return;
	}
	memcpy(name, vgpu->name, sizeof(name));
	if (!s->daemon) {
		err = arbiter_reweigh(s->arbiter, name, (uint32_t)weight, &e);
	} else if (!vgpu->instance[0]) {
		err = error_set(&e, ENOENT, "no-instance", NULL, "%s is no instance's", name);
	} else {
		request.path = api_path(path, "/instances/", vgpu->instance, "/share");
		request.body = json_pack("{s:I}", "weight", (json_int_t)weight);
		err = api_call(s->cli, &request, &answer, &e);
		if (!err)
			api_answer_free(&answer);
	}
	if (err)
		snprintf(s->model.note, sizeof(s->model.note), "%.200s", e.text);
	else
		snprintf(s->model.note, sizeof(s->model.note), "%s: weight %u", name,
			 (unsigned)weight);
}

/* ---- the terminal ----------------------------------------------------------------------------------------- */

static chtype look_of(enum top_look look)
{
	static const chtype looks[] = {
		[TOP_NORMAL] = A_NORMAL, [TOP_TITLE] = A_BOLD,	      [TOP_HEAD] = A_REVERSE,
		[TOP_GPU] = A_BOLD,	 [TOP_SELECTED] = A_STANDOUT, [TOP_DIM] = A_DIM,
		[TOP_ALARM] = A_BOLD,
	};

	if (look == TOP_ALARM && has_colors())
		return (chtype)COLOR_PAIR(1) | A_BOLD;
	if (look == TOP_GPU && has_colors())
		return (chtype)COLOR_PAIR(2) | A_BOLD;
	return looks[look];
}

static void show(const struct screen *s, struct top_line *lines)
{
	const int height = MIN(getmaxy(stdscr), LINES_MAX), width = getmaxx(stdscr);

	top_draw(&s->model, (unsigned)MAX(width, 0), (unsigned)MAX(height, 0), s->utf8, lines);
	erase();
	for (int i = 0; i < height; i++) {
		attrset((int)look_of(lines[i].look));
		mvaddstr(i, 0, lines[i].text);
		attrset(A_NORMAL);
	}
	refresh();
}

/* A key while a number is typed. */
static void key_typed(struct screen *s, int key)
{
	const size_t length = strlen(s->model.typed);

	if (key == '\n' || key == KEY_ENTER) {
		s->model.mode = TOP_PLAIN;
		reweigh(s);
	} else if (key == 27 || key == 'q') {
		s->model.mode = TOP_PLAIN;
	} else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && length) {
		s->model.typed[length - 1] = '\0';
	} else if (key < 256 && isdigit(key) && length + 1 < sizeof(s->model.typed)) {
		s->model.typed[length] = (char)key;
		s->model.typed[length + 1] = '\0';
	}
}

/* False: the end. */
static bool key_pressed(struct screen *s, int key)
{
	struct top_model *model = &s->model;

	if (model->mode == TOP_WEIGHT) {
		key_typed(s, key);
		return true;
	}
	switch (key) {
	case 'q':
		return false;
	case 's':
		model->sort = (model->sort + 1) % TOP_SORTS;
		top_sort(model);
		break;
	case 'S':
		model->backwards = !model->backwards;
		top_sort(model);
		break;
	case 'p':
	case ' ':
		model->paused = !model->paused;
		break;
	case 'h':
	case '?':
		model->mode = model->mode == TOP_HELP ? TOP_PLAIN : TOP_HELP;
		break;
	case 'w':
		model->typed[0] = '\0';
		model->mode = top_selected(model) ? TOP_WEIGHT : TOP_PLAIN;
		break;
	case KEY_UP:
	case 'k':
		top_select(model, -1);
		break;
	case KEY_DOWN:
	case 'j':
		top_select(model, 1);
		break;
	default:
		break;
	}
	return true;
}

static int watch(struct screen *s, uint64_t every_ns)
{
	struct top_line *lines = calloc(LINES_MAX, sizeof(*lines));
	uint64_t next = monotonic_ns() + every_ns;
	struct error e = { 0 };
	SCREEN *terminal;
	bool go_on = true;

	/* newterm(3), since initscr(3) ends the program where it cannot begin */
	terminal = lines ? newterm(NULL, stdout, stdin) : NULL;
	if (!terminal) {
		free(lines);
		error_set(&e, ENOTTY, "no-terminal", "TERM=xterm divvy top; or divvy top --once",
			  "there is no terminal that can be drawn on (TERM=%s)",
			  getenv("TERM") ? getenv("TERM") : "");
		return cli_fail(s->cli, &e);
	}
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	set_escdelay(ESCAPE_MS);
	if (!(getenv("NO_COLOR") && getenv("NO_COLOR")[0]) && has_colors()) {
		start_color();
		use_default_colors();
		init_pair(1, COLOR_RED, -1);
		init_pair(2, COLOR_CYAN, -1);
	}
	while (go_on) {
		const uint64_t now = monotonic_ns();
		int key;

		if (now >= next) {
			if (!s->model.paused && s->model.mode != TOP_WEIGHT)
				ask(s, &e);
			/* After a stop of the machine or of us, not all that was missed. */
			next = MAX(next + every_ns, now);
		}
		show(s, lines);
		timeout((int)((next - MIN(now, next)) / 1000000 + 1));
		key = getch();
		if (key != ERR)
			go_on = key_pressed(s, key);
		else if (!isatty(STDIN_FILENO) || errno == EIO)
			go_on = false;
	}
	endwin();
	delscreen(terminal);
	free(lines);
	return CLI_OK;
}

/* Another look than the one that is there: the daemon looks once a second, and not when it is asked. */
static int ask_anew(struct screen *s, struct error *e)
{
	const uint64_t before = s->model.at_ns;
	int err = ask(s, e);

	for (unsigned i = 0; i < ANEW_TRIES && !err && s->model.at_ns == before; i++) {
		usleep(ANEW_EVERY_US);
		err = ask(s, e);
	}
	return err;
}

/* Two looks, since rates need them; then every row, whatever the terminal's height. */
static int once(struct screen *s, uint64_t every_ns)
{
	struct top_line *lines = calloc(ONCE_LINES, sizeof(*lines));
	const unsigned width = table_width(s->cli->out);
	unsigned height;
	struct error e = { 0 };

	usleep((useconds_t)(every_ns / 1000));
	if (!lines || ask_anew(s, &e)) {
		free(lines);
		return cli_fail(s->cli, &e);
	}
	if (s->cli->json) {
		cli_json_print(s->cli, top_json(&s->model));
		free(lines);
		return CLI_OK;
	}
	height = MIN(MAX(s->model.gpu_count + s->model.vgpu_count + 3, 4u), (unsigned)ONCE_LINES);
	top_draw(&s->model, width == TABLE_WIDE ? 120 : width, height, s->utf8, lines);
	for (unsigned i = 0; i + 1 < height; i++)
		fprintf(s->cli->out, "%s\n", lines[i].text);
	free(lines);
	return CLI_OK;
}

/* Either would do, and a node has the first. */
static void neither(const struct cli *cli, struct error *e)
{
	char path[API_PATH_SIZE], text[sizeof(e->text)];

	snprintf(text, sizeof(text), "%s", e->text);
	error_set(e, e->err, e->code, "systemctl start divvyd; or divvy arbiter",
		  "divvyd is not running at %s, and %.200s", api_socket(cli, path), text);
}

int cli_top(struct cli *cli)
{
	const char *every = cli_value(cli, "every");
	struct screen s = { .cli = cli, .arbiter = cli_value(cli, "socket") };
	char path[API_PATH_SIZE];
	struct error e = { 0 };
	uint64_t seconds = 1;
	int status, err;

	if (every && cli_number(every, 1, 3600, &seconds))
		return cli_usage(cli, "not a time in seconds, up to 3600: %s", every);
	cli->patience_s = PATIENCE_S;
	s.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	s.daemon = !s.arbiter && !here_is_asked(cli);
	snprintf(s.model.source, sizeof(s.model.source), "%s %.100s",
		 s.daemon ? "divvyd" : "arbiter",
		 s.daemon    ? api_socket(cli, path)
		 : s.arbiter ? s.arbiter
			     : ARBITER_SOCKET);
	err = ask(&s, &e);
	if (err && !s.daemon && !s.arbiter && (e.err == ENOENT || e.err == ECONNREFUSED))
		neither(cli, &e);
	if (err)
		status = cli_fail(cli, &e);
	else if (cli_value(cli, "once") || cli->json)
		status = once(&s, seconds * NSEC_PER_SEC);
	else
		status = watch(&s, seconds * NSEC_PER_SEC);
	top_free(&s.model);
	return status;
}
