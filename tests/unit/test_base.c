// SPDX-License-Identifier: Apache-2.0
/* base: what the other rooms take for granted. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"

static void a_pci_address_is_read_in_both_forms_and_written_in_one(void **state)
{
	struct pci_address a, b;
	char text[PCI_ADDRESS_LEN];

	assert_int_equal(pci_address_parse("0000:3B:1f.7", &a), 0);
	assert_string_equal(pci_address_format(&a, text), "0000:3b:1f.7");
	assert_int_equal(pci_address_parse("3b:1f.7", &b), 0);
	assert_true(pci_address_equal(&a, &b));
	b.function = 0;
	assert_false(pci_address_equal(&a, &b));
}

static void what_is_not_a_pci_address_is_refused(void **state)
{
	static const char *const bad[] = {
		"",	     "0000:00:20.0", "00:00.8",	 "0000:00:00.0x", "00000:00:00.0", "0:0",
		"../../etc", "zz:00.0",	     "00:00.0 ", "0000:00:00",	  "-1:00.0"
	};
	struct pci_address a;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(pci_address_parse(bad[i], &a), -EINVAL);
}

static void cpu_lists_are_read_and_written_as_the_kernel_does(void **state)
{
	static const char *const bad[] = { ",", "1,",	"-1",	  "3-1", "1-",
					   "a", "8192", "0-8192", "1 ",	 "1;2" };
	struct cpu_list list, other;
	char text[64], cut[6];

	assert_int_equal(cpu_list_parse("0-3,8,63-65,8191", &list), 0);
	assert_int_equal(cpu_list_count(&list), 9);
	assert_true(cpu_list_has(&list, 64) && cpu_list_has(&list, 8191));
	assert_false(cpu_list_has(&list, 7) || cpu_list_has(&list, 8192));
	assert_string_equal(cpu_list_format(&list, text, sizeof(text)), "0-3,8,63-65,8191");
	assert_string_equal(cpu_list_format(&list, cut, sizeof(cut)), "0-3,8");
	assert_int_equal(cpu_list_parse("2-9", &other), 0);
	cpu_list_and(&list, &other);
	assert_string_equal(cpu_list_format(&list, text, sizeof(text)), "2-3,8");
	assert_int_equal(cpu_list_parse("", &list), 0);
	assert_int_equal(cpu_list_count(&list), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cpu_list_parse(bad[i], &list), -EINVAL);
	assert_int_equal(cpu_list_allowed(&list), 0);
	assert_true(cpu_list_count(&list) > 0);
}

static void an_error_keeps_code_text_and_next_command(void **state)
{
	struct error e = { 0 };

	assert_int_equal(
		error_set(&e, EBUSY, "device-in-use", "divvy unbind x", "%s: held by %d", "x", 7),
		-EBUSY);
	assert_int_equal(e.err, EBUSY);
	assert_string_equal(e.code, "device-in-use");
	assert_string_equal(e.text, "x: held by 7");
	assert_string_equal(e.next, "divvy unbind x");
	assert_int_equal(error_set(NULL, EIO, "io", NULL, "ignored"), -EIO);
}

static void small_files_are_read_whole_or_refused(void **state)
{
	char name[] = "/tmp/divvy-base-XXXXXX", buf[8];
	uint64_t v;
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0x1f\n", 5), 5);
	assert_int_equal(file_read(AT_FDCWD, name, buf, sizeof(buf)), 4);
	assert_string_equal(buf, "0x1f");
	assert_int_equal(file_read_u64(AT_FDCWD, name, &v), 0);
	assert_int_equal(v, 0x1f);
	assert_int_equal(write(fd, "more than eight", 15), 15);
	assert_int_equal(file_read(AT_FDCWD, name, buf, sizeof(buf)), -EFBIG);
	assert_int_equal(file_read_u64(AT_FDCWD, name, &v), -EINVAL);
	close(fd);
	unlink(name);
	assert_int_equal(file_read(AT_FDCWD, name, buf, sizeof(buf)), -ENOENT);
}

static void a_short_file_is_an_error_and_not_a_short_read(void **state)
{
	char name[] = "/tmp/divvy-base-XXXXXX", buf[8] = "";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, "abcd", 4, 4), 0);
	assert_int_equal(pread_full(fd, buf, 8, 0), 0);
	assert_memory_equal(buf, "\0\0\0\0abcd", 8);
	assert_int_equal(pread_full(fd, buf, 8, 4), -EIO);
	unlink(name);
	fd_close(&fd);
	assert_int_equal(fd, -1);
	fd_close(&fd);
}

static void a_full_list_of_findings_still_shows_a_blocker(void **state)
{
	struct findings f = { 0 };

	for (unsigned i = 0; i < FINDINGS_MAX + 3; i++)
		findings_add(&f, FINDING_OK, "fine", NULL, NULL, "fact %u", i);
	assert_int_equal(f.count, FINDINGS_MAX);
	assert_int_equal(findings_blockers(&f), 0);
	findings_add(&f, FINDING_BLOCKER, "bad", "it is bad", "mend it", "fact");
	assert_int_equal(f.count, FINDINGS_MAX);
	assert_int_equal(findings_blockers(&f), 1);
}

static void a_log_that_nobody_reads_stops_nobody(void **state)
{
	const int kept = dup(STDERR_FILENO);
	const unsigned long before = log_dropped();
	unsigned long dropped;
	int ends[2];
	char line[64];

	assert_true(kept >= 0);
	assert_int_equal(pipe(ends), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	/* A pipe has 64 KiB; SIGALRM ends a test that waits. */
	alarm(60);
	for (unsigned i = 0; i < 10000; i++)
		log_error("line %u", i);
	alarm(0);
	dropped = log_dropped() - before;
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	assert_in_range(dropped, 1000, 9999);
	assert_true(read(ends[0], line, sizeof(line)) > 0);
	assert_non_null(strstr(line, "error: line 0\n"));
	close(ends[0]);
	close(ends[1]);
	close(kept);
}

static void a_size_is_a_number_and_a_power_of_1024(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "1K", KIB },
		{ "512M", 512 * MIB },
		{ "4g", 4 * GIB },
		{ "16777215T", UINT64_C(16777215) << 40 },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const bad[] = { "",	  "M",	  "-1",	  "+1", " 1", "4GB",
					   "4 G", "0x10", "1.5G", "4P", "4GG" };
	static const char *const beyond[] = { "16777216T", "18446744073709551616",
					      "18014398509481984k" };
	uint64_t bytes = 7;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(text_size(bad[i], &bytes), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(beyond); i++)
		assert_int_equal(text_size(beyond[i], &bytes), -ERANGE);
	assert_int_equal(bytes, 7);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(text_size(good[i].text, &bytes), 0);
		assert_true(bytes == good[i].bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pci_address_is_read_in_both_forms_and_written_in_one),
		cmocka_unit_test(what_is_not_a_pci_address_is_refused),
		cmocka_unit_test(a_log_that_nobody_reads_stops_nobody),
		cmocka_unit_test(a_size_is_a_number_and_a_power_of_1024),
		cmocka_unit_test(cpu_lists_are_read_and_written_as_the_kernel_does),
		cmocka_unit_test(an_error_keeps_code_text_and_next_command),
		cmocka_unit_test(small_files_are_read_whole_or_refused),
		cmocka_unit_test(a_short_file_is_an_error_and_not_a_short_read),
		cmocka_unit_test(a_full_list_of_findings_still_shows_a_blocker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
