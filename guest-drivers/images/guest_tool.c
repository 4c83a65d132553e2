// SPDX-License-Identifier: Apache-2.0
/*
 * guest_tool: what tests need inside a Linux guest and busybox has not. Static, in the guest's image.
 *
 *   guest_tool vsock-cid               prints the guest's own address
 *   guest_tool vsock-send CID PORT     standard input to a socket of CID, to its end
 *   guest_tool vsock-receive PORT      one connection's bytes to standard output
 *   guest_tool exit-cost BDF COUNT     nanoseconds of a read that leaves the guest: of the MSI-X table of this
 *                                      PCI function, which has no driver; every VMM answers that itself
 *   guest_tool touch-bar FILE TEXT     FILE is a memory BAR in sysfs: TEXT is written at its start and into its last 32
 *                                      bytes and read back; then both ends are read a million times, so that the
 *                                      VMM's count of exits says whether such a read leaves the guest
 *   guest_tool kexec KERNEL INITRD WORDS   this kernel ends, that one starts with these words; nothing is shut down
 *                                      but devices, as after a crash of user space
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "guest_tool: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void copy(int from, int to)
{
	char buffer[65536];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(to, buffer + done, (size_t)(n - done));
			if (w < 0)
				die("write");
		}
	if (n < 0)
		die("read");
}

static int vsock_socket(struct sockaddr_vm *address, unsigned cid, unsigned port)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		die("vsock");
	*address = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	return fd;
}

static void vsock_cid(void)
{
	int fd = open("/dev/vsock", O_RDONLY);
	unsigned cid = 0;

	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		die("/dev/vsock");
	printf("%u\n", cid);
}

static void vsock_send(const char *cid, const char *port)
{
	struct sockaddr_vm address;
	int fd = vsock_socket(&address, (unsigned)strtoul(cid, NULL, 0),
			      (unsigned)strtoul(port, NULL, 0));

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	copy(STDIN_FILENO, fd);
	shutdown(fd, SHUT_WR);
	copy(fd, STDOUT_FILENO); /* the other side has it all when it closes */
}

static void vsock_receive(const char *port)
{
	struct sockaddr_vm address;
	int fd = vsock_socket(&address, VMADDR_CID_ANY, (unsigned)strtoul(port, NULL, 0)), one;

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		die("listen");
	fprintf(stderr, "listening\n");
	one = accept(fd, NULL, NULL);
	if (one < 0)
		die("accept");
	copy(one, STDOUT_FILENO);
}

/* Where the MSI-X table is: its capability says BAR and offset. */
static volatile uint32_t *msix_table(const char *bdf)
{
	uint8_t config[256], at;
	uint32_t table;
	char path[128];
	void *map;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", bdf);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, config, sizeof(config)) < 64)
		die(path);
	close(fd);
	at = config[0x34];
	for (unsigned i = 0; i < 48 && at && config[at] != 0x11; i++)
		at = config[at + 1];
	if (!at || config[at] != 0x11) {
		errno = ENODEV;
		die("MSI-X");
	}
	memcpy(&table, config + at + 4, sizeof(table));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%u", bdf, table & 7);
	fd = open(path, O_RDWR | O_SYNC);
	if (fd < 0)
		die(path);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(table & ~0xfffu));
	if (map == MAP_FAILED)
		die(path);
	return (volatile uint32_t *)((char *)map + (table & 0xff8));
}

static double ns_between(const struct timespec *a, const struct timespec *b)
{
	return (double)(b->tv_sec - a->tv_sec) * 1e9 + (double)(b->tv_nsec - a->tv_nsec);
}

static void exit_cost(const char *bdf, const char *text)
{
	volatile uint32_t *table = msix_table(bdf);
	const unsigned long count = strtoul(text, NULL, 0);
	struct timespec a, b;

	(void)*table;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (unsigned long i = 0; i < count; i++)
		(void)*table;
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%.0f\n", ns_between(&a, &b) / (double)count);
}

#define TEXT_WORDS 4
#define BAR_READS  1000000

static void touch_bar(const char *path, const char *text)
{
	union {
		char text[TEXT_WORDS * 8];
		uint64_t words[TEXT_WORDS];
	} wanted = { .text = "" }, got[2];
	volatile uint64_t *bar, *ends[2];
	struct timespec a, b;
	uint64_t sum = 0;
	struct stat st;
	int fd = open(path, O_RDWR | O_SYNC);

	if (fd < 0 || fstat(fd, &st))
		die(path);
	bar = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED)
		die(path);
	ends[0] = bar;
	ends[1] = bar + (size_t)st.st_size / 8 - TEXT_WORDS;
	snprintf(wanted.text, sizeof(wanted.text), "%s", text);
	for (unsigned i = 0; i < 2 * TEXT_WORDS; i++)
		ends[i / TEXT_WORDS][i % TEXT_WORDS] = wanted.words[i % TEXT_WORDS];
	for (unsigned i = 0; i < 2 * TEXT_WORDS; i++)
		got[i / TEXT_WORDS].words[i % TEXT_WORDS] = ends[i / TEXT_WORDS][i % TEXT_WORDS];
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (unsigned i = 0; i < BAR_READS; i++)
		sum += ends[i & 1][0];
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%lld MiB first %.31s last %.31s read %d in %.1f ns each%s\n",
	       (long long)st.st_size >> 20, got[0].text, got[1].text, BAR_READS,
	       ns_between(&a, &b) / BAR_READS, sum == wanted.words[0] * BAR_READS ? "" : " WRONG");
}

static void kexec(const char *kernel, const char *initrd, const char *words)
{
	int kernel_fd = open(kernel, O_RDONLY), initrd_fd = open(initrd, O_RDONLY);

	if (kernel_fd < 0 || initrd_fd < 0)
		die(kernel_fd < 0 ? kernel : initrd);
	if (syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(words) + 1, words, 0UL))
		die("kexec_file_load");
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	die("kexec");
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";

	if (argc == 2 && !strcmp(word, "vsock-cid"))
		vsock_cid();
	else if (argc == 4 && !strcmp(word, "vsock-send"))
		vsock_send(argv[2], argv[3]);
	else if (argc == 3 && !strcmp(word, "vsock-receive"))
		vsock_receive(argv[2]);
	else if (argc == 4 && !strcmp(word, "exit-cost"))
		exit_cost(argv[2], argv[3]);
	else if (argc == 4 && !strcmp(word, "touch-bar"))
		touch_bar(argv[2], argv[3]);
	else if (argc == 5 && !strcmp(word, "kexec"))
		kexec(argv[2], argv[3], argv[4]);
	else
		return 2;
	return 0;
}
