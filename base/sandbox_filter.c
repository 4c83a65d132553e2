// SPDX-License-Identifier: Apache-2.0
/*
 * The table as seccomp filters: one program a kind of thread, made by libseccomp while everything is
 * still allowed, put on by each thread with one system call.
 *
 * What is not listed is not carried out: the kernel sends SIGSYS, whose handler writes down which
 * call it was and ends the process. No thread can change that handler afterwards; one that blocks
 * the signal is ended by the kernel without the message.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/sandbox_table.h"

#define NAMES_MAX 512 /* x86-64 has fewer than 480 calls (arch/x86/entry/syscalls/syscall_64.tbl) */
#define NAME_SIZE 32

static const struct sandbox_table *table;
static struct sock_fprog programs[SANDBOX_KINDS_MAX];
/* Looked up beforehand, since a signal handler cannot. */
static char (*names)[NAME_SIZE];
static __thread const char *thread_kind = "of no kind";

/* ---- what happened -------------------------------------------------------------------------- */

static void append(char *text, size_t size, const char *more)
{
	size_t length = strlen(text);

	while (*more && length + 1 < size)
		text[length++] = *more++;
	text[length] = '\0';
}

static void append_hex(char *text, size_t size, uint64_t value)
{
	char digits[19] = "0x";
	unsigned at = 2;

	for (int shift = 60; shift >= 0; shift -= 4)
		if (value >> shift || !shift)
			digits[at++] = "0123456789abcdef"[value >> shift & 15];
	digits[at] = '\0';
	append(text, size, digits);
}

/* Async-signal-safe: a buffer, write(2), and the end. There is a table where there is a filter. */
static void on_violation(int number, siginfo_t *info, void *context)
{
	const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
	static const int arguments[] = { REG_RDI, REG_RSI, REG_RDX };
	int call = info->si_syscall;
	char text[384] = "";

	append(text, sizeof(text), table->program);
	append(text, sizeof(text), ": error[sandbox]: thread ");
	append(text, sizeof(text), thread_kind);
	append(text, sizeof(text), ": system call ");
	append(text, sizeof(text),
	       names && call >= 0 && call < NAMES_MAX && names[call][0] ? names[call] : "unknown");
	append(text, sizeof(text), ", number ");
	append_hex(text, sizeof(text), (uint64_t)(unsigned)call);
	for (size_t i = 0; i < ARRAY_SIZE(arguments); i++) {
		append(text, sizeof(text), i ? ", " : "(");
		append_hex(text, sizeof(text), (uint64_t)registers[arguments[i]]);
	}
	append(text, sizeof(text),
	       ") is not on its list: ended (next: docs/sandbox.md, \"When a call was missing\")\n");
	(void)!write(STDERR_FILENO, text, strlen(text));
	if (table->last_words)
		table->last_words();
	/* SA_RESETHAND: the default's turn. */
	raise(number);
	_exit(128 + number);
}

static int handler_install(void)
{
	const struct sigaction action = {
		.sa_sigaction = on_violation,
		.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER),
	};

	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

static int names_load(void)
{
	names = calloc(NAMES_MAX, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (int i = 0; i < NAMES_MAX; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, i);

		if (name)
			strncpy(names[i], name, NAME_SIZE - 1);
		free(name);
	}
	return 0;
}

/* ---- programs ------------------------------------------------------------------------------- */

static int rule_add(scmp_filter_ctx filter, const struct sandbox_rule *rule)
{
	struct scmp_arg_cmp test = { .arg = rule->argument,
				     .op = SCMP_CMP_MASKED_EQ,
				     .datum_a = rule->mask,
				     .datum_b = rule->value };

	switch (rule->test) {
	case RULE_ANY:
		return seccomp_rule_add(filter, SCMP_ACT_ALLOW, rule->syscall, 0);
	case RULE_ERRNO:
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)rule->value),
					rule->syscall, 0);
	case RULE_KILL:
		return seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, rule->syscall, 0);
	case RULE_OWN_PROCESS:
		test.datum_a = UINT32_MAX;
		test.datum_b = (scmp_datum_t)getpid();
		break;
	case RULE_ARGUMENT:
		break;
	}
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->syscall, 1, &test);
}

/* The kernel takes at most BPF_MAXINSNS, which also bounds what is allocated here. */
static int program_take(scmp_filter_ctx filter, struct sock_fprog *program)
{
	size_t size = 0;
	int err = seccomp_export_bpf_mem(filter, NULL, &size);

	if (err)
		return err;
	if (size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -E2BIG;
	free(program->filter);
	program->filter = malloc(size);
	if (!program->filter)
		return -ENOMEM;
	program->len = (unsigned short)(size / sizeof(struct sock_filter));
	return seccomp_export_bpf_mem(filter, program->filter, &size);
}

static int rules_add(scmp_filter_ctx filter, const struct sandbox_rule *rules, unsigned count,
		     unsigned kinds)
{
	int err = 0;

	for (unsigned i = 0; i < count && !err; i++)
		if (rules[i].kinds & kinds)
			err = rule_add(filter, &rules[i]);
	return err;
}

static int program_make(const struct sandbox_table *of, unsigned kinds, bool thread,
			uint32_t otherwise, struct sock_fprog *program)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int err = filter ? 0 : -ENOMEM;

	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err && thread)
		err = rules_add(filter, sandbox_thread_rules, sandbox_thread_rule_count, kinds);
	if (!err)
		err = rules_add(filter, of->rules, of->rule_count, kinds);
	if (!err)
		err = program_take(filter, program);
	seccomp_release(filter);
	return err;
}

int sandbox_program_make(const struct sandbox_table *of, unsigned kinds, uint32_t otherwise,
			 struct sock_fprog *program)
{
	return program_make(of, kinds, false, otherwise, program);
}

int sandbox_filters_make(const struct sandbox_table *of, unsigned first_has, struct error *e)
{
	const uint32_t action = SECCOMP_RET_TRAP;
	int err = 0;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
		return error_set(e, errno, "no-seccomp",
				 "boot a kernel with CONFIG_SECCOMP_FILTER, or --sandbox off",
				 "sandbox: this kernel does not filter system calls: %s",
				 strerror(errno));
	if (of->kind_count > SANDBOX_KINDS_MAX)
		err = -E2BIG;
	for (unsigned i = 0; i < of->kind_count && !err; i++)
		err = program_make(of, 1u << i | (i ? 0 : first_has), true, SCMP_ACT_TRAP,
				   &programs[i]);
	if (!err)
		table = of;
	if (!err)
		err = names_load();
	if (!err)
		err = handler_install();
	return err ? error_set(e, -err, "no-seccomp", NULL, "sandbox: filters cannot be made: %s",
			       strerror(-err))
		   : 0;
}

int sandbox_filter_load(const char *kind)
{
	for (unsigned i = 0; table && i < table->kind_count; i++) {
		if (strcmp(kind, table->kinds[i]) != 0)
			continue;
		thread_kind = table->kinds[i];
		return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[i]) ? -errno : 0;
	}
	/* Somebody's new kind without an entry: it does not get to run unconfined. */
	return -ENOENT;
}
