// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net, driven end to end: over a tap interface in a network namespace of its own, and over
 * passt. Where the machine has no tap or no place for passt's sandbox, those tests are skipped, and
 * say why.
 */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#define virtio_net_config virtio_net_config_space
#include <linux/virtio_net.h>
#undef virtio_net_config

#define RECEIVE	      0
#define TRANSMIT      1
#define HEADER	      12
#define FEATURE(bit)  (UINT64_C(1) << (bit))
#define NET_FEATURES  (FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_NET_F_STATUS))
#define RING_PROTOCOL 0x88b5 /* IEEE: local experimental */

static struct guest guest;
static unsigned fds_before;
static const uint8_t guest_mac[6] = { 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee };

static void send_frame(const void *frame, uint32_t length)
{
	struct guest_buffer buffers[2] = { { guest_alloc(&guest, HEADER), HEADER, false },
					   { guest_alloc(&guest, length), length, false } };

	memset(guest_ptr(&guest, buffers[0].gpa), 0, HEADER);
	memcpy(guest_ptr(&guest, buffers[1].gpa), frame, length);
	guest_request(&guest, TRANSMIT, buffers, 2);
}

static uint64_t receive_at[RING_SIZE_MAX]; /* by head */

/* Give receive buffers of 1526 bytes. */
static void give_buffers(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct guest_buffer buffer = { guest_alloc(&guest, 1526), 1526, true };

		receive_at[guest_add(&guest, RECEIVE, &buffer, 1)] = buffer.gpa;
	}
	guest_kick(&guest, RECEIVE);
}

/* The next frame of the given EtherType; others (the host's own chatter) are let go. */
static const uint8_t *next_frame(uint16_t type, int timeout_ms, uint32_t *length)
{
	uint16_t head;

	while (guest_next_used(&guest, RECEIVE, timeout_ms, &head, length)) {
		const uint8_t *at = guest_ptr(&guest, receive_at[head]);
		const uint8_t *frame = at + HEADER;

		assert_true(*length >= HEADER + 14);
		assert_int_equal(((const struct virtio_net_hdr_v1 *)at)->num_buffers, 1);
		*length -= HEADER;
		if (frame[12] == type >> 8 && frame[13] == (type & 0xff))
			return frame;
		give_buffers(1);
	}
	return NULL;
}

/* ---- tap ----------------------------------------------------------------------------------- */

static bool have_tap;

static int enter_namespace(void **state)
{
	have_tap = access("/dev/net/tun", R_OK | W_OK) == 0 && unshare(CLONE_NEWNET) == 0;
	if (!have_tap)
		print_message("no tap here: /dev/net/tun or a network namespace: %s\n",
			      strerror(errno));
	return 0;
}

static int tap_socket;

static int setup_tap(void **state)
{
	struct virtio_net_config config = { .tap = "divvytest0" };
	struct vfio_device *device;
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(RING_PROTOCOL) };
	struct ifreq request = { .ifr_name = "divvytest0" };
	struct error e = { 0 };

	fds_before = count_fds();
	if (!have_tap)
		return 0;
	memcpy(config.mac, guest_mac, 6);
	if (virtio_net_create(&config, &device, &e))
		fail_msg("%s: %s", e.code, e.text);
	guest_open(&guest, device);
	tap_socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(RING_PROTOCOL));
	assert_true(tap_socket >= 0);
	assert_int_equal(ioctl(tap_socket, SIOCGIFINDEX, &request), 0);
	address.sll_ifindex = request.ifr_ifindex;
	assert_int_equal(ioctl(tap_socket, SIOCGIFFLAGS, &request), 0);
	request.ifr_flags |= IFF_UP;
	assert_int_equal(ioctl(tap_socket, SIOCSIFFLAGS, &request), 0);
	assert_int_equal(bind(tap_socket, (struct sockaddr *)&address, sizeof(address)), 0);
	guest_start(&guest, 2, NET_FEATURES);
	return 0;
}

static int teardown_tap(void **state)
{
	if (!have_tap)
		return 0;
	close(tap_socket);
	guest_close(&guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void make_frame(uint8_t *frame, uint32_t length, uint8_t fill)
{
	memset(frame, fill, length);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, guest_mac, 6);
	frame[12] = RING_PROTOCOL >> 8;
	frame[13] = RING_PROTOCOL & 0xff;
}

static void tap_shows_mac_and_link(void **state)
{
	if (!have_tap)
		skip();
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(device_config(&guest, i, 1), guest_mac[i]);
	assert_int_equal(device_config(&guest, 6, 2), VIRTIO_NET_S_LINK_UP);
}

static void tap_carries_frames_out(void **state)
{
	uint8_t frame[1514], got[2048];

	if (!have_tap)
		skip();
	make_frame(frame, sizeof(frame), 0x5c);
	send_frame(frame, sizeof(frame));
	assert_int_equal(recv(tap_socket, got, sizeof(got), 0), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
}

static void tap_carries_frames_in(void **state)
{
	uint8_t frame[600];
	const uint8_t *got;
	uint32_t length;

	if (!have_tap)
		skip();
	make_frame(frame, sizeof(frame), 0x77);
	/* Frames from before there is a buffer wait in the interface. */
	assert_int_equal(send(tap_socket, frame, sizeof(frame), 0), sizeof(frame));
	give_buffers(8);
	got = next_frame(RING_PROTOCOL, GUEST_WAIT_MS, &length);
	assert_non_null(got);
	assert_int_equal(length, sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
	frame[100] = 0x78;
	assert_int_equal(send(tap_socket, frame, sizeof(frame), 0), sizeof(frame));
	got = next_frame(RING_PROTOCOL, GUEST_WAIT_MS, &length);
	assert_non_null(got);
	assert_int_equal(got[100], 0x78);
}

static void tap_drops_what_is_no_frame_and_goes_on(void **state)
{
	uint8_t frame[100], got[2048];
	struct guest_buffer header = { guest_alloc(&guest, HEADER), HEADER, false };

	if (!have_tap)
		skip();
	memset(guest_ptr(&guest, header.gpa), 0xff, HEADER); /* and offloads that make no sense */
	guest_request(&guest, TRANSMIT, &header, 1);
	make_frame(frame, sizeof(frame), 1);
	send_frame(frame, sizeof(frame));
	assert_int_equal(recv(tap_socket, got, sizeof(got), 0), sizeof(frame));
}

static void a_frame_without_header_needs_a_reset(void **state)
{
	struct guest_buffer small = { guest_alloc(&guest, 8), 8, false };

	if (!have_tap)
		skip();
	guest_add(&guest, TRANSMIT, &small, 1);
	guest_kick(&guest, TRANSMIT);
	assert_true(guest_needs_reset(&guest));
}

static void a_receive_buffer_without_room_needs_a_reset(void **state)
{
	struct guest_buffer small = { guest_alloc(&guest, 16), 16, true };

	if (!have_tap)
		skip();
	guest_add(&guest, RECEIVE, &small, 1);
	guest_kick(&guest, RECEIVE);
	assert_true(guest_needs_reset(&guest));
}

static void tap_survives_resets_under_traffic(void **state)
{
	uint8_t frame[600];

	if (!have_tap)
		skip();
	make_frame(frame, sizeof(frame), 0x42);
	for (unsigned round = 0; round < 20; round++) {
		uint32_t length;

		give_buffers(8);
		for (unsigned i = 0; i < 20; i++)
			send(tap_socket, frame, sizeof(frame), MSG_DONTWAIT);
		guest_set_status(&guest, 0);
		guest_start(&guest, 2, NET_FEATURES | FEATURE(VIRTIO_NET_F_GUEST_CSUM));
		send(tap_socket, frame, sizeof(frame), 0);
		give_buffers(8);
		assert_non_null(next_frame(RING_PROTOCOL, GUEST_WAIT_MS, &length));
	}
}

static void refuses_a_tap_that_cannot_be(void **state)
{
	struct virtio_net_config config = { .tap = "a-name-that-is-far-too-long" };
	struct vfio_device *device;
	struct error e = { 0 };
	unsigned before = count_fds();

	assert_true(virtio_net_create(&config, &device, &e) < 0);
	assert_string_equal(e.code, "no-tap");
	config.tap = "lo"; /* is an interface, but no tap */
	assert_true(virtio_net_create(&config, &device, &e) < 0);
	assert_string_equal(e.code, "no-tap");
	assert_int_equal(count_fds(), before);
}

/* ---- user mode ----------------------------------------------------------------------------- */

/* Whether the guest is up on passt; a machine where it cannot run says so. */
static bool open_user(unsigned index)
{
	const struct virtio_net_config config = { .index = index };
	struct vfio_device *device;
	struct error e = { 0 };

	fds_before = count_fds();
	if (virtio_net_create(&config, &device, &e)) {
		print_message("no user-mode network here: %s\n", e.text);
		assert_string_equal(e.code, "no-passt");
		assert_int_equal(count_fds(), fds_before);
		return false;
	}
	guest_open(&guest, device);
	guest_start(&guest, 2, NET_FEATURES);
	return true;
}

static void close_user(void)
{
	guest_close(&guest);
	assert_int_equal(count_fds(), fds_before);
}

static uint16_t checksum(const uint8_t *bytes, unsigned count)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < count; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* DHCPDISCOVER in an Ethernet frame (RFC 2131); returns its length. */
static uint32_t make_discover(uint8_t *frame, const uint8_t *mac)
{
	enum {
		BOOTP = 300,
		UDP = 8 + BOOTP,
		IP = 20 + UDP
	};
	uint8_t *ip = frame + 14, *udp = ip + 20, *bootp = udp + 8;
	const uint8_t options[] = { 99, 130, 83, 99, 53, 1, 1, 255 };
	uint16_t sum;

	memset(frame, 0, 14 + IP);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	frame[12] = 0x08;
	ip[0] = 0x45;
	ip[2] = IP >> 8;
	ip[3] = IP & 0xff;
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memset(ip + 16, 0xff, 4);
	sum = checksum(ip, 20);
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	udp[1] = 68;
	udp[3] = 67;
	udp[4] = UDP >> 8;
	udp[5] = UDP & 0xff;
	bootp[0] = 1;
	bootp[1] = 1;
	bootp[2] = 6;
	memcpy(bootp + 28, mac, 6);
	memcpy(bootp + 236, options, sizeof(options));
	return 14 + IP;
}

static void user_network_answers_dhcp(void **state)
{
	uint8_t frame[512] = { 0 }, mac[6];
	const uint8_t *got = NULL;
	uint32_t length;

	if (!open_user(7))
		skip();
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)device_config(&guest, i, 1);
	assert_int_equal(mac[0] & 3, 2); /* locally administered, not multicast */
	assert_int_equal(mac[5], 7);
	give_buffers(8);
	length = make_discover(frame, mac);
	send_frame(frame, length);
	for (unsigned i = 0; i < 8; i++) {
		got = next_frame(ETH_P_IP, GUEST_WAIT_MS, &length);
		assert_non_null(got);
		if (got[14 + 9] == IPPROTO_UDP && got[14 + 20 + 3] == 68)
			break;
	}
	assert_int_equal(got[14 + 28], 2); /* BOOTREPLY */
	assert_memory_equal(got + 14 + 28 + 28, mac, 6);
	assert_int_not_equal(got[14 + 28 + 16], 0); /* yiaddr: an address is offered */
	close_user();
}

static void user_network_survives_what_is_no_frame(void **state)
{
	static uint8_t big[128 * 1024];
	uint8_t frame[512] = { 0 }, small[4] = { 0 };
	uint32_t length;

	if (!open_user(0))
		skip();
	give_buffers(8);
	send_frame(small, sizeof(small));
	memset(big, 0x11, sizeof(big));
	send_frame(big, sizeof(big));
	length = make_discover(frame, guest_mac);
	send_frame(frame, length);
	assert_non_null(next_frame(ETH_P_IP, GUEST_WAIT_MS, &length));
	assert_int_equal(device_config(&guest, 6, 2), VIRTIO_NET_S_LINK_UP);
	close_user();
}

/* The one child this process has: passt. */
static pid_t child_of_this_process(void)
{
	char text[64];
	int pid = -1;

	snprintf(text, sizeof(text), "/proc/self/task/%d/children", getpid());
	if (file_read(AT_FDCWD, text, text, sizeof(text)) > 0)
		pid = atoi(text);
	return pid;
}

static void link_goes_down_when_passt_dies(void **state)
{
	struct guest_buffer buffer;
	pid_t child;

	if (!open_user(0))
		skip();
	child = child_of_this_process();
	assert_true(child > 0);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_true(guest_wait_vector(&guest, 0, GUEST_WAIT_MS));
	assert_int_equal(device_config(&guest, 6, 2), 0);
	assert_int_not_equal(common_read(&guest, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0);
	/* What is sent now is lost, not stuck. */
	buffer = (struct guest_buffer){ guest_alloc(&guest, 100), 100, false };
	guest_request(&guest, TRANSMIT, &buffer, 1);
	close_user();
}

static void passt_ends_with_the_device(void **state)
{
	pid_t child;

	if (!open_user(0))
		skip();
	child = child_of_this_process();
	assert_true(child > 0);
	close_user();
	assert_int_equal(kill(child, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void says_so_when_there_is_no_passt(void **state)
{
	const struct virtio_net_config config = { 0 };
	struct vfio_device *device;
	struct error e = { 0 };
	char *path = strdup(getenv("PATH"));
	unsigned before = count_fds();

	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(virtio_net_create(&config, &device, &e), -ENOENT);
	setenv("PATH", path, 1);
	free(path);
	assert_string_equal(e.code, "no-passt");
	assert_non_null(strstr(e.next, "passt"));
	assert_int_equal(count_fds(), before);
}

int main(void)
{
#define TAP(f) cmocka_unit_test_setup_teardown(f, setup_tap, teardown_tap)
	const struct CMUnitTest user[] = {
		cmocka_unit_test(user_network_answers_dhcp),
		cmocka_unit_test(user_network_survives_what_is_no_frame),
		cmocka_unit_test(link_goes_down_when_passt_dies),
		cmocka_unit_test(passt_ends_with_the_device),
		cmocka_unit_test(says_so_when_there_is_no_passt),
	};
	const struct CMUnitTest tap[] = {
		TAP(tap_shows_mac_and_link),
		TAP(tap_carries_frames_out),
		TAP(tap_carries_frames_in),
		TAP(tap_drops_what_is_no_frame_and_goes_on),
		TAP(a_frame_without_header_needs_a_reset),
		TAP(a_receive_buffer_without_room_needs_a_reset),
		TAP(tap_survives_resets_under_traffic),
		cmocka_unit_test(refuses_a_tap_that_cannot_be),
	};
	int failed = cmocka_run_group_tests(user, NULL, NULL);

	failed += cmocka_run_group_tests(tap, enter_namespace, NULL);
	return failed + cmocka_run_group_tests_name("packed rings", tap, guest_use_packed_rings,
						    guest_use_split_rings);
}
