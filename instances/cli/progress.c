// SPDX-License-Identifier: Apache-2.0
/* The line that says how far something is (progress.h). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli/progress.h"
#include "instances/cli/table.h"

#define RATE_NS (NSEC_PER_SEC / 2) /* before that it would be a guess */

char *progress_text(struct progress_line *line, const char *what, const char *unit, uint64_t done,
		    uint64_t total, uint64_t now_ns, char text[128])
{
	const bool large = total >= 10 * GIB;
	const double scale = large ? (double)GIB : (double)MIB;
	const unsigned digits = large ? 1 : 0;

	if (strcmp(unit, "bytes") != 0) {
		snprintf(text, 128, "%.15s %llu of %llu %.20s", what, (unsigned long long)done,
			 (unsigned long long)total, unit);
		return text;
	}
	if (strcmp(line->what, what) != 0 || done < line->since) {
		snprintf(line->what, sizeof(line->what), "%s", what);
		line->since_ns = now_ns;
		line->since = done;
	}
	snprintf(text, 128, "%.15s %u %%, %.*f of %.*f %s", what,
		 total ? (unsigned)((double)done * 100 / (double)total) : 100, (int)digits,
		 (double)done / scale, (int)digits, (double)total / scale, large ? "GiB" : "MiB");
	if (now_ns - line->since_ns >= RATE_NS && done > line->since)
		text_append(text, 128, ", %.0f MiB/s",
			    (double)(done - line->since) / MIB /
				    ((double)(now_ns - line->since_ns) / NSEC_PER_SEC));
	return text;
}

static bool shown(const struct cli *cli)
{
	return !cli->json && isatty(STDERR_FILENO);
}

void progress_show(const struct cli *cli, const char *name, const char *state, const char *text)
{
	char line[256], cut[256];

	if (!shown(cli))
		return;
	snprintf(line, sizeof(line), "%.60s: %.20s%s%.128s%s", name, state, text[0] ? " (" : "",
		 text, text[0] ? ")" : "");
	/* One that reaches the last column would go on in the next line, and stay there. */
	fprintf(stderr, "\r\033[K%s",
		table_text_copy(cut, sizeof(cut), line, table_width(stderr) - 1));
}

void progress_end(const struct cli *cli)
{
	if (shown(cli))
		fputs("\r\033[K", stderr);
}
