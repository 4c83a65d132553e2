// SPDX-License-Identifier: Apache-2.0
/*
 * Runs as a picture: for each run, who had how much of the graphics engine over time, and below it how long jobs took.
 * gnuplot(1) draws; it is given its script and data through a pipe, and the scenario's names only as data.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vgpu-sched/sim/report.h"

#define PLOT_POINTS_MAX 400 /* along the time axis */
#define PLOT_VGPUS_MAX	32  /* more are not told apart */

extern char **environ;

/* Names come from a file: what gnuplot would interpret in a string becomes a space. */
static void plot_name(FILE *to, const char *name)
{
	for (; *name; name++)
		fputc(strchr("\"\\`$@%{}^_&~", *name) ? (*name == '_' ? '-' : ' ') : *name, to);
}

/* One block of data a vGPU: seconds, per cent. */
static void shares_data(FILE *to, const struct sim_scenario *scenario, const struct report_run *run,
			unsigned shown)
{
	const unsigned step = (run->result->window_count + PLOT_POINTS_MAX - 1) / PLOT_POINTS_MAX;

	fprintf(to, "$shares << END_OF_DATA\n");
	for (unsigned v = 0; v < shown; v++) {
		for (unsigned w = 0; step && w + step <= run->result->window_count; w += step) {
			double used = 0;

			for (unsigned i = 0; i < step; i++)
				used += run->result->vgpus[v].windows[w + i].used_ns;
			fprintf(to, "%.3f %.3f\n",
				(double)(scenario->warmup_ns + (w + step / 2) * SIM_WINDOW_NS) /
					1e9,
				100 * used / (double)(step * SIM_WINDOW_NS));
		}
		fprintf(to, "\n\n");
	}
	fprintf(to, "END_OF_DATA\n$times << END_OF_DATA\n");
	for (unsigned v = 0; v < shown; v++) {
		const struct histogram *latency = &run->result->vgpus[v].latency;

		fprintf(to, "\"");
		plot_name(to, scenario->vgpus[v].name);
		fprintf(to, "\" %.4f %.4f %.4f\n", (double)histogram_quantile(latency, 0.5) / 1e6,
			(double)histogram_quantile(latency, 0.99) / 1e6,
			(double)histogram_quantile(latency, 0.999) / 1e6);
	}
	fprintf(to, "END_OF_DATA\n");
}

static void script(FILE *to, const char *path, const char *terminal,
		   const struct sim_scenario *scenario, const struct report_run *runs,
		   unsigned count)
{
	fprintf(to, "set terminal %s size %u,760 background rgb 'white'\nset output '%s'\n",
		terminal, MIN(620 * count, 3000), path);
	fprintf(to, "set multiplot layout 2,%u columnsfirst title \"", count);
	plot_name(to, scenario->name);
	fprintf(to, "\"\nset grid ytics lc rgb '#dddddd'\nset border 3\nset tics nomirror\n");
	for (unsigned i = 0; i < count; i++) {
		const unsigned shown = MIN(runs[i].result->vgpu_count, PLOT_VGPUS_MAX);

		shares_data(to, scenario, &runs[i], shown);
		fprintf(to,
			"set title \"%s: share of the GPU\" noenhanced\nset xlabel 'seconds' offset 0,0.7\nset ylabel 'per cent'\n"
			"unset logscale y\nset yrange [0:*]\nset xtics norotate\nset key %s\nplot ",
			runs[i].policy,
			shown > 8 ? "off"
				  : "default bmargin center horizontal noenhanced offset 0,-0.7");
		for (unsigned v = 0; v < shown; v++) {
			fprintf(to, "%s$shares index %u with lines lw 1.5 title \"", v ? ", " : "",
				v);
			plot_name(to, scenario->vgpus[v].name);
			fprintf(to, "\"");
		}
		fprintf(to,
			"\nset title \"%s: from submitted to done\" noenhanced\nunset xlabel\nset ylabel 'milliseconds'\n"
			"set logscale y\nset yrange [0.1:*]\nset xtics rotate by -40 noenhanced\nset key default inside top left\n"
			"set style data histograms\nset style fill solid 0.8\n"
			"plot $times using 2:xtic(1) title 'p50', '' using 3 title 'p99', '' using 4 title 'p99.9'\n",
			runs[i].policy);
	}
	fprintf(to, "unset multiplot\n");
}

static int run_gnuplot(const char *path, const char *terminal, const struct sim_scenario *scenario,
		       const struct report_run *runs, unsigned count, struct error *e)
{
	char program[] = "gnuplot", from_stdin[] = "-";
	char *const argv[] = { program, from_stdin, NULL };
	posix_spawn_file_actions_t actions;
	int ends[2], err, status = 0;
	FILE *to;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(e, errno, "no-gnuplot", NULL, "pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[0]);
	to = err ? NULL : fdopen(ends[1], "w");
	if (!to)
		close(ends[1]);
	if (err)
		return error_set(e, err, "no-gnuplot", "apt-get install gnuplot-nox",
				 "gnuplot cannot be run: %s", strerror(err));
	if (to) {
		script(to, path, terminal, scenario, runs, count);
		fclose(to);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!to || !WIFEXITED(status) || WEXITSTATUS(status))
		return error_set(e, EIO, "no-gnuplot", NULL,
				 "gnuplot failed on %s (what it said is above)", path);
	return 0;
}

int report_plot(const char *path, const struct sim_scenario *scenario,
		const struct report_run *runs, unsigned count, struct error *e)
{
	const char *dot = strrchr(path, '.');

	if (strpbrk(path, "'\\\n"))
		return error_set(e, EINVAL, "bad-value", "divvy sim --help",
				 "plot: a path with quotes or backslashes cannot be drawn to");
	if (dot && !strcmp(dot, ".svg"))
		return run_gnuplot(path, "svg dynamic font 'sans,12'", scenario, runs, count, e);
	if (dot && !strcmp(dot, ".png"))
		return run_gnuplot(path, "pngcairo font 'sans,10'", scenario, runs, count, e);
	return error_set(e, EINVAL, "bad-value", "divvy sim --help",
			 "plot: %s ends in neither .svg nor .png", path);
}
