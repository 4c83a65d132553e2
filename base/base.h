/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base: the little that every room needs: errors, logging, file descriptors, small files.
 *
 * Relies on libc only. Nothing here allocates on a hot path or holds global mutable state, except
 * the log level and the threads' hook, which are set once at start.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_SIZE(a)	      (sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a)	      (((x) + ((typeof(x))(a) - 1)) & ~((typeof(x))(a) - 1))
#define ALIGN_DOWN(x, a)      ((x) & ~((typeof(x))(a) - 1))
#define MIN(a, b)	      ((a) < (b) ? (a) : (b))
#define MAX(a, b)	      ((a) > (b) ? (a) : (b))
#define KIB		      (UINT64_C(1) << 10)
#define MIB		      (UINT64_C(1) << 20)
#define GIB		      (UINT64_C(1) << 30)
#define NSEC_PER_SEC	      UINT64_C(1000000000)
#define container_of(p, t, m) ((t *)((char *)(p) - offsetof(t, m)))

/* add_saturated() - the sum, or the most that there is: of sizes that somebody else chose. */
static inline uint64_t add_saturated(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/*
 * An error as a person meets it. Filled once, where the facts are known; passed up unchanged;
 * printed in one place (error_print()). Functions that take a `struct error *` accept NULL.
 */
struct error {
	int err;	  /* positive errno */
	const char *code; /* machine-readable, static storage, kebab case: "group-not-viable" */
	char text[768];	  /* what failed, which device or key, why (the fact that was read) */
	char next[256];	  /* the next command or action; "" when there is none */
};

/*
 * error_set() - fill *e, replacing what was there.
 * @e: may be NULL (then only the return value is of use)
 * @err: positive errno
 * @code: machine-readable code, static storage
 * @next: next command or action, copied; NULL for none
 * @fmt: text of one line, without a trailing full stop or newline
 *
 * Returns -err, so that `return error_set(e, EBUSY, ...)` reads well. Thread-safe per object.
 */
int error_set(struct error *e, int err, const char *code, const char *next, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* error_next() - "divvy VERB NAME", for an error's next command. Returns @next. */
#define ERROR_NEXT_SIZE 128
char *error_next(const char *verb, const char *name, char next[ERROR_NEXT_SIZE]);

/*
 * error_print() - the one place that prints an error: "PROGRAM: error[CODE]: TEXT (next: NEXT)"
 * on stderr, one line.
 */
void error_print(const struct error *e, const char *program);

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* log_set_level() - set once at start, before threads exist. The default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/*
 * log_write() - one line on stderr: seconds since the program's start (CLOCK_MONOTONIC), level,
 * text; where stderr is the journal, the text with its priority. One write(2) a line, so lines of several
 * threads do not mix. Bytes that are not printable ASCII are shown as '?', since text may come from a
 * guest or a device.
 */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * log_prefix() - what stands before a line of that level on stderr where that is the journal: "<3>"; "" elsewhere. Returns its
 * length. @size: 8 is enough.
 */
int log_prefix(enum log_level level, char *text, size_t size);

/*
 * log_limited() - log_write() for what a guest can provoke: at most LOG_LIMIT_BURST lines from one
 * call site in the life of the process; the last says that further ones are dropped.
 */
#define LOG_LIMIT_BURST 16
#define log_limited(level, ...)                                                             \
	do {                                                                                \
		static unsigned log_limit_count__;                                          \
		unsigned n__ = __atomic_fetch_add(&log_limit_count__, 1, __ATOMIC_RELAXED); \
		if (n__ < LOG_LIMIT_BURST)                                                  \
			log_write(level, __VA_ARGS__);                                      \
		else if (n__ == LOG_LIMIT_BURST)                                            \
			log_write(level, "(further messages of this kind are dropped)");    \
		else                                                                        \
			__atomic_store_n(&log_limit_count__, LOG_LIMIT_BURST + 1,           \
					 __ATOMIC_RELAXED);                                 \
		if (n__ >= LOG_LIMIT_BURST)                                                 \
			log_drop(level);                                                    \
	} while (0)

/* log_drop() - count a line that log_limited() kept back, or that stderr had no room for; log_dropped() - how many so far. */
void log_drop(enum log_level level);
unsigned long log_dropped(void);

/* monotonic_ns() - CLOCK_MONOTONIC in nanoseconds. */
uint64_t monotonic_ns(void);

/*
 * thread_create() - start a thread of a kind, which is also its name until it takes another.
 * @kind: static storage, at most 15 bytes: what the process's hook knows it by
 *
 * It blocks every signal but those of its own faults. Returns 0 or -errno; *thread is meaningful
 * only then. Every thread of the house starts here.
 */
int thread_create(pthread_t *thread, const char *kind, void *(*run)(void *arg), void *arg);
/* thread_enter() - the same for a thread that a library started: called on it, first of all. */
void thread_enter(const char *kind);
/*
 * thread_set_hook() - @hook is run by every new thread before anything else; NULL: none. Set while
 * there is one thread.
 */
void thread_set_hook(void (*hook)(const char *kind));

/*
 * parallel_run() - @run for each index below @count, at once: in threads of @kind (thread_create()), up
 * to PARALLEL_THREADS_MAX, and in the caller's. Returns when all are done; nothing stays behind.
 */
#define PARALLEL_THREADS_MAX 32
void parallel_run(const char *kind, unsigned count, void (*run)(void *opaque, unsigned index),
		  void *opaque);

/*
 * text_append() - append to the NUL-terminated text in @text, which has room for @size bytes; what does
 * not fit is cut.
 */
void text_append(char *text, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* text_size() - "4096", "512M", "4g" to bytes: K, M, G, T are powers of 1024. -EINVAL for anything else, -ERANGE beyond 64 bits. */
int text_size(const char *text, uint64_t *bytes);

/*
 * option_abbreviated() - the word that getopt_long(3) has just taken for the option @name, where it is only the beginning of its name; else NULL.
 * Such words are refused: a new option must not change what a script means.
 */
const char *option_abbreviated(char *const *argv, const char *name);

/* uuid_ok() - a UUID as the kernel writes it: lower case, five groups. Also what keeps one from being a path. */
#define UUID_TEXT_SIZE 37
bool uuid_ok(const char *text);

/* text_printable() - what is not printable ASCII in @text, which is somebody else's, becomes '?'. Returns @text. */
char *text_printable(char *text);

/*
 * path_below() - a path below @root (NULL: ""), as vprintf(3) has it, in @path, which has room for @size bytes; empty when it does not
 * fit. Returns @path.
 */
const char *path_below(char *path, size_t size, const char *root, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));

/* fd_close() - close *fd if it is >= 0 and set it to -1; errno is preserved. */
void fd_close(int *fd);

/*
 * file_read() - the whole of a small file (sysfs, procfs), NUL-terminated, trailing newlines cut.
 * @dirfd, @path: as for openat(2)
 * @size: room in @buf; a longer file is -EFBIG
 *
 * Returns the length or -errno.
 */
ssize_t file_read(int dirfd, const char *path, char *buf, size_t size);

/*
 * file_read_u64() - one unsigned number ("0x..." or decimal) in a small file.
 * Returns 0, -errno, or -EINVAL when the content is not one number.
 */
int file_read_u64(int dirfd, const char *path, uint64_t *value);

/* file_write() - write @text in one write(2) to an existing file. Returns 0 or -errno. */
int file_write(int dirfd, const char *path, const char *text);

/*
 * pread_full(), pwrite_full() - all of @count bytes at @offset; EINTR is retried, a short end of
 * file is -EIO. Return 0 or -errno.
 */
int pread_full(int fd, void *buf, size_t count, uint64_t offset);
int pwrite_full(int fd, const void *buf, size_t count, uint64_t offset);

/*
 * A set of CPUs, of the host's or a guest's: one bit each, in the form that sched_setaffinity(2)
 * takes (sizeof(struct cpu_list), a cast to cpu_set_t *).
 */
#define CPU_LIST_MAX 8192
struct cpu_list {
	unsigned long bits[CPU_LIST_MAX / (8 * sizeof(unsigned long))];
};

bool cpu_list_has(const struct cpu_list *list, unsigned cpu);
void cpu_list_add(struct cpu_list *list, unsigned cpu);
unsigned cpu_list_count(const struct cpu_list *list);
/* cpu_list_and() - drop from @list what is not in @other. */
void cpu_list_and(struct cpu_list *list, const struct cpu_list *other);
/*
 * cpu_list_parse() - "0-3,8" as the kernel writes it; "" is the empty list.
 * Returns 0 or -EINVAL (no list, a CPU of CPU_LIST_MAX or above, a range that runs backwards).
 */
int cpu_list_parse(const char *text, struct cpu_list *list);
/* cpu_list_format() - the same the other way round, cut where @size ends. Returns @text. */
char *cpu_list_format(const struct cpu_list *list, char *text, size_t size);
/* cpu_list_allowed() - where this thread may run (sched_getaffinity(2)). Returns 0 or -errno. */
int cpu_list_allowed(struct cpu_list *list);
/*
 * cpu_list_node() - the CPUs of NUMA node @node (ROOT/sys/devices/system/node/nodeN/cpulist).
 * Returns 0 or -errno: -ENOENT when there is no such node, or no NUMA in this kernel.
 */
int cpu_list_node(const char *root, unsigned node, struct cpu_list *list);

/* A PCI function's address, "DDDD:BB:DD.F". */
struct pci_address {
	uint16_t domain;
	uint8_t bus;
	uint8_t device;	  /* 0-31 */
	uint8_t function; /* 0-7 */
};
#define PCI_ADDRESS_LEN 13 /* "0000:00:00.0" and its NUL */

/*
 * pci_address_parse() - accepts "DDDD:BB:DD.F" and the short "BB:DD.F" (domain 0), either case.
 * Returns 0 or -EINVAL.
 */
int pci_address_parse(const char *text, struct pci_address *address);

/* pci_address_format() - always the full, lower-case form. Returns @buf. */
char *pci_address_format(const struct pci_address *address, char buf[PCI_ADDRESS_LEN]);

/* pci_address_equal() - whether both name the same function. */
bool pci_address_equal(const struct pci_address *a, const struct pci_address *b);

/*
 * What a check found: a fact that was read, what it means, the next command. A list is filled by
 * several rooms and printed by the command line, as text or JSON.
 */
enum finding_level {
	FINDING_OK,
	FINDING_NOTE,
	FINDING_BLOCKER
};

struct finding {
	enum finding_level level;
	const char *code; /* machine-readable, static storage, kebab case */
	char fact[512];	  /* what was read, and where: "/proc/cmdline: no intel_iommu=on" */
	char meaning[256];
	char next[256]; /* next command or action, "" when none */
};

#define FINDINGS_MAX 64
struct findings {
	unsigned count;
	struct finding items[FINDINGS_MAX];
};

/*
 * findings_add() - append one; silently full at FINDINGS_MAX, where a blocker replaces the last
 * finding that is none, so that a list with a blocker never looks clean.
 * @meaning, @next: copied; NULL for none
 */
void findings_add(struct findings *f, enum finding_level level, const char *code,
		  const char *meaning, const char *next, const char *fact_fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* findings_blockers() - how many blockers the list holds. */
unsigned findings_blockers(const struct findings *f);

/*
 * A listening UNIX socket with a name, mode 0600. Its name goes with it, from a folder that is held open.
 *
 * unix_listener_open() - at @path. A socket that nobody listens on any more is replaced; anything else that is
 * there is not. On failure nothing is open. Errors: "socket-in-use", "socket-path".
 * unix_listener_accept() - as listener_accept(), below; who it is in *peer (SO_PEERCRED).
 * unix_listener_close() - also of one that is not open, which is { .fd = -1, .folder_fd = -1 }.
 */
struct unix_listener {
	int fd, folder_fd;
	char name[108]; /* in the folder; "": none */
};
struct ucred;
int unix_listener_open(const char *path, struct unix_listener *listener, struct error *e);
int unix_listener_accept(int fd, const char *what, struct ucred *peer);
void unix_listener_close(struct unix_listener *listener);

/*
 * listener_accept() - who connected to the listening socket @fd, of any family, in an event loop: a descriptor that does not wait, or -1. Out of
 * descriptors it sleeps 10 ms, since the socket stays readable, and says so in the name of @what.
 */
int listener_accept(int fd, const char *what);

/*
 * unix_connect() - to who listens at @path. @type: SOCK_STREAM or SOCK_SEQPACKET, with SOCK_NONBLOCK where it shall not wait; what is
 * executed does not get it. Returns the descriptor, which is the caller's, or -errno: -ENAMETOOLONG also where @path is empty.
 */
int unix_connect(const char *path, int type);

/*
 * tcp_listener_open() - listen at @where, a numeric ADDRESS:PORT or [ADDRESS]:PORT; port 0: any. *fd does not wait, and is the caller's.
 * Returns 0 or -errno: -EINVAL where it is no such text.
 * tcp_listener_ok() - whether it is such a text.
 * tcp_listener_port() - the port it has; 0: none.
 */
int tcp_listener_open(const char *where, int *fd);
bool tcp_listener_ok(const char *where);
uint16_t tcp_listener_port(int fd);

/* ---- control sockets ---------------------------------------------------------------------------- */

/*
 * HTTP/1.1 with JSON over a UNIX socket that its owner and root may use, in the caller's event loop (docs/control.md). The loop's
 * thread does all of it. What comes while no loop is attached waits in the socket.
 */
struct sd_event;
struct json_t;
struct control_socket;

#define CONTROL_BODY_MAX (16 * KIB)

struct control_reply {
	unsigned status;     /* HTTP */
	const char *allow;   /* methods, with 405 */
	struct json_t *body; /* JSON, or NULL; the receiver's */
	char *bytes; /* instead: malloc()ed, the receiver's; @size of them, of MIME type @type */
	size_t size;
	const char *type;
};

/*
 * Does what is asked for and says what came of it.
 * @body: @size bytes, at most CONTROL_BODY_MAX; not NUL-terminated
 */
typedef struct control_reply control_answer(void *opaque, const char *method, const char *path,
					    const char *body, size_t size);

/* control_refuse() - a reply of @status with {code, text, next} of @e. control_failed() - of the status that fits its errno. */
struct control_reply control_refuse(unsigned status, const struct error *e);
struct control_reply control_failed(const struct error *e);

/*
 * control_socket_create() - at a socket as unix_listener_open() makes it. Errors: that one's, "control-failed".
 * control_socket_open() - without a name, for control_socket_adopt() only: to speak HTTP on the connected socket @fd, which is
 * taken over. Attached only.
 * control_socket_destroy() - close all connections and remove the socket. NULL is fine.
 * control_socket_attach() - answer requests from the loop @event, until control_socket_detach().
 */
int control_socket_create(const char *path, struct control_socket **out, struct error *e);
int control_socket_open(struct control_socket **out, struct error *e);
void control_socket_adopt(struct control_socket *control, int fd);
void control_socket_destroy(struct control_socket *control);
int control_socket_attach(struct control_socket *control, struct sd_event *event,
			  control_answer *answer, void *opaque, struct error *e);
void control_socket_detach(struct control_socket *control);

#endif
