// SPDX-License-Identifier: Apache-2.0
/* The program `divvy`: three open descriptors, the caller's language, and an exit status that knows whether the output arrived. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli/cli.h"

/* What is opened next must never be what text is written to. A write to a closed output fails as it did. */
static void standard_fds_open(void)
{
	static const int modes[] = { O_RDONLY, O_RDONLY, O_RDWR };

	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
			_exit(CLI_FAILED);
}

int main(int argc, char **argv)
{
	struct error e = { 0 };
	int status;

	standard_fds_open();
	setlocale(LC_CTYPE, "");
	status = cli_main(argc, argv, stdout);
	errno = 0;
	if ((fflush(stdout) || ferror(stdout)) && errno != EPIPE) {
		error_set(&e, errno ? errno : EIO, "output", NULL, "standard output: %s",
			  strerror(errno ? errno : EIO));
		cli_error_print(&e);
		return status ? status : CLI_FAILED;
	}
	return status;
}
