/* SPDX-License-Identifier: Apache-2.0 */
/* Where what a test runs was built: the folder BUILD of this program, which is BUILD/tests/KIND/NAME. */
#ifndef TESTS_BUILD_FOLDER_H
#define TESTS_BUILD_FOLDER_H

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static inline bool build_folder(char *build, size_t size)
{
	ssize_t length = readlink("/proc/self/exe", build, size - 1);
	char *slash;

	if (length <= 0)
		return false;
	build[length] = '\0';
	for (unsigned i = 0; i < 3; i++) {
		slash = strrchr(build, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
	return true;
}

#endif
