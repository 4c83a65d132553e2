// SPDX-License-Identifier: Apache-2.0
/*
 * edid: what the monitor of a head says of itself (VESA E-EDID Standard, Release A, Revision 2: EDID 1.4).
 *
 * A base block with one detailed timing, the mode the operator asked for, at 60 Hz with the blanking of
 * VESA CVT 1.2 (reduced blanking, version 1). A detailed timing has 12 bits for a size: a mode 4096 wide does
 * not fit. It is then said by a DisplayID 1.3 extension (type I timing, 16 bits), which says that it is preferred, and the base block
 * has a mode of at most 1920 x 1080 for readers that know no extension. (Pixel clocks never decide: the
 * largest mode that is offered needs 567 MHz, and 655 fit.)
 */
#include <stdio.h>
#include <string.h>

#include "mdev/gpu/gpu.h"

#define BLOCK		 128
#define ACTIVE_MAX	 4095 /* 3.10.2, table 3.21: 12 bits */
#define FALLBACK_WIDTH	 1920
#define FALLBACK_HEIGHT	 1080
#define REFRESH		 60
#define DOTS_PER_INCH_96 96

struct timing {
	uint32_t clock_10khz;
	uint32_t width, h_blank, h_front, h_sync;
	uint32_t height, v_blank, v_front, v_sync;
};

/* CVT 1.2, 3.4.2: the width of the vertical sync tells the aspect ratio. */
static uint32_t sync_lines(const struct virtio_gpu_mode *mode)
{
	static const struct {
		uint32_t width, height, lines;
	} ratios[] = { { 4, 3, 4 }, { 16, 9, 5 }, { 16, 10, 6 }, { 5, 4, 7 }, { 15, 9, 7 } };

	for (size_t i = 0; i < ARRAY_SIZE(ratios); i++)
		if (mode->width * ratios[i].height == mode->height * ratios[i].width)
			return ratios[i].lines;
	return 10;
}

/* CVT 1.2, 3.4.3, in whole numbers: microseconds are counted in units of 1/1000. */
static struct timing timing_of(const struct virtio_gpu_mode *mode)
{
	const uint32_t blank_min_ns = 460000, front = 3, back_min = 6;
	const uint32_t line_ns = (1000000000 / REFRESH - blank_min_ns) / mode->height;
	struct timing timing = {
		.width = mode->width,
		.h_blank = 160,
		.h_front = 48,
		.h_sync = 32,
		.height = mode->height,
		.v_front = front,
		.v_sync = sync_lines(mode),
	};
	uint64_t clock;

	timing.v_blank = MAX(blank_min_ns / line_ns + 1, timing.v_front + timing.v_sync + back_min);
	clock = (uint64_t)REFRESH * (timing.height + timing.v_blank) *
		(timing.width + timing.h_blank);
	timing.clock_10khz = (uint32_t)(clock / 250000 * 25); /* in steps of 0.25 MHz */
	return timing;
}

static void put_le(uint8_t *at, uint32_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint8_t checksum(const uint8_t *data, size_t size)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + data[i]);
	return (uint8_t)-sum;
}

static uint32_t millimetres(uint32_t pixels)
{
	return pixels * 254 / (DOTS_PER_INCH_96 * 10);
}

/* 3.10.2: a detailed timing. @native: of the size of the picture. */
static void put_timing(uint8_t *at, const struct timing *timing,
		       const struct virtio_gpu_mode *native)
{
	const uint32_t h_mm = millimetres(native->width), v_mm = millimetres(native->height);

	put_le(at, timing->clock_10khz, 2);
	at[2] = (uint8_t)timing->width;
	at[3] = (uint8_t)timing->h_blank;
	at[4] = (uint8_t)(timing->width >> 8 << 4 | timing->h_blank >> 8);
	at[5] = (uint8_t)timing->height;
	at[6] = (uint8_t)timing->v_blank;
	at[7] = (uint8_t)(timing->height >> 8 << 4 | timing->v_blank >> 8);
	at[8] = (uint8_t)timing->h_front;
	at[9] = (uint8_t)timing->h_sync;
	at[10] = (uint8_t)(timing->v_front << 4 | timing->v_sync);
	at[12] = (uint8_t)h_mm;
	at[13] = (uint8_t)v_mm;
	at[14] = (uint8_t)(h_mm >> 8 << 4 | v_mm >> 8);
	at[17] = 0x1a; /* digital separate sync; horizontal positive, vertical negative (CVT) */
}

/* 3.10.3.9: which frequencies are in range. */
static void put_limits(uint8_t *at, const struct timing *timing)
{
	const uint32_t line_khz = timing->clock_10khz * 10 / (timing->width + timing->h_blank);

	at[3] = 0xfd;
	at[5] = 50;
	at[6] = 75;
	/* No narrower than the well-known modes need, 1920 x 1200 with 193 MHz the most. */
	at[7] = (uint8_t)MIN(line_khz, 30u);
	at[8] = (uint8_t)MAX(line_khz + 1, 76u);
	at[9] = (uint8_t)MAX((timing->clock_10khz + 999) / 1000, 20u);
	at[10] = 0x01; /* these limits and nothing else */
	memcpy(at + 11, "\n      ", 7);
}

/* 3.10.3.1 and .4: a text of up to 13 characters. */
static void put_text(uint8_t *at, uint8_t tag, const char *text)
{
	char padded[14];
	size_t length = (size_t)snprintf(padded, sizeof(padded), "%s", text);

	at[3] = tag;
	memset(at + 5, ' ', 13);
	length = MIN(length, 13u);
	memcpy(at + 5, padded, length);
	if (length < 13)
		at[5 + length] = '\n';
}

static const struct standard {
	uint32_t width, height;
	uint8_t byte, bits; /* established: where and which */
	uint8_t aspect;	    /* standard: bits 7 and 6 */
} established[] = {
	{ 640, 480, 35, 0x20, 0 },
	{ 800, 600, 35, 0x01, 0 },
	{ 1024, 768, 36, 0x08, 0 },
}, standards[] = {
	{ 1280, 720, 0, 0, 0xc0 },  { 1280, 800, 0, 0, 0x00 },	{ 1280, 1024, 0, 0, 0x80 },
	{ 1600, 900, 0, 0, 0xc0 },  { 1600, 1200, 0, 0, 0x40 }, { 1920, 1080, 0, 0, 0xc0 },
	{ 1920, 1200, 0, 0, 0x00 },
};

static bool fits(const struct standard *one, const struct virtio_gpu_mode *mode)
{
	return one->width <= mode->width && one->height <= mode->height;
}

/* 3.8 and 3.9: well-known modes that are no larger than the picture. */
static void put_known(uint8_t *edid, const struct virtio_gpu_mode *mode)
{
	uint8_t *at = edid + 38;

	for (size_t i = 0; i < ARRAY_SIZE(established); i++)
		if (fits(&established[i], mode))
			edid[established[i].byte] |= established[i].bits;
	memset(at, 0x01, 16);
	for (size_t i = 0; i < ARRAY_SIZE(standards); i++)
		if (fits(&standards[i], mode)) {
			*at++ = (uint8_t)(standards[i].width / 8 - 31);
			*at++ = standards[i].aspect | (REFRESH - 60);
		}
}

/* The head of a DisplayID data block at @at; returns where the next one begins. */
static uint8_t *put_block(uint8_t *at, uint8_t tag, uint8_t size)
{
	at[0] = tag;
	at[2] = size;
	return at + 3 + size;
}

/*
 * VESA DisplayID 1.3 in an extension block: what it asks of a display (its identity, size and interface), and one type I
 * detailed timing (4.4.1), preferred.
 */
static void put_displayid(uint8_t *block, const struct timing *timing, uint32_t serial)
{
	uint8_t *const section = block + 1;
	uint8_t *at = section + 4, *next;

	block[0] = 0x70;
	section[0] = 0x13;
	section[2] = 0x03; /* a display device */
	/* 4.1: as the base block has it. */
	next = put_block(at, 0x00, 12);
	memcpy(at + 3, "DVY", 3);
	put_le(at + 6, 1, 2);
	put_le(at + 8, serial, 4);
	at[13] = 2025 - 2000;
	at = next;
	/* 4.2: in tenths of a millimetre, pixels; gamma 2.2, 8 bits a colour. */
	next = put_block(at, 0x01, 12);
	put_le(at + 3, millimetres(timing->width) * 10, 2);
	put_le(at + 5, millimetres(timing->height) * 10, 2);
	put_le(at + 7, timing->width, 2);
	put_le(at + 9, timing->height, 2);
	at[12] = 120;
	at[13] = (uint8_t)MIN(timing->width * 100 / timing->height - 100, 255u);
	at[14] = 0x77;
	at = next;
	/* 4.11: as DisplayPort, four lanes; RGB of 8 bits. */
	next = put_block(at, 0x0f, 10);
	at[3] = 0xa4;
	at[5] = 0x02;
	at = next;

	next = put_block(at, 0x03, 20);
	put_le(at + 3, timing->clock_10khz - 1, 3);
	/* Preferred; 256:135 has a number, others are "undefined". */
	at[6] = 0x80 | (timing->width * 135 == timing->height * 256 ? 7 : 8);
	put_le(at + 7, timing->width - 1, 2);
	put_le(at + 9, timing->h_blank - 1, 2);
	put_le(at + 11, (timing->h_front - 1) | 0x8000, 2); /* sync is positive */
	put_le(at + 13, timing->h_sync - 1, 2);
	put_le(at + 15, timing->height - 1, 2);
	put_le(at + 17, timing->v_blank - 1, 2);
	put_le(at + 19, timing->v_front - 1, 2);
	put_le(at + 21, timing->v_sync - 1, 2);
	section[1] = (uint8_t)(next - (section + 4));
	*next = checksum(section, 4u + section[1]);
	block[BLOCK - 1] = checksum(block, BLOCK - 1);
}

size_t gpu_edid_make(const struct virtio_gpu_mode *mode, const char *name, uint32_t serial,
		     uint8_t edid[GPU_EDID_SIZE])
{
	static const uint8_t header[8] = { 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00 };
	/* 3.7: the primaries and white of sRGB. */
	static const uint8_t chromaticity[10] = { 0xee, 0x91, 0xa3, 0x54, 0x4c,
						  0x99, 0x26, 0x0f, 0x50, 0x54 };
	const bool extended = mode->width > ACTIVE_MAX || mode->height > ACTIVE_MAX;
	const struct virtio_gpu_mode first =
		extended ? (struct virtio_gpu_mode){ MIN(mode->width, (uint32_t)FALLBACK_WIDTH),
						     MIN(mode->height, (uint32_t)FALLBACK_HEIGHT) }
			 : *mode;
	const struct timing timing = timing_of(mode), base = timing_of(&first);
	char text[14];

	memset(edid, 0, GPU_EDID_SIZE);
	memcpy(edid, header, sizeof(header));
	/* 3.4.1: three letters of five bits, "DVY", big endian. */
	edid[8] = 4 << 2 | 22 >> 3;
	edid[9] = (22 & 7) << 5 | 25;
	put_le(edid + 10, 1, 2);
	put_le(edid + 12, serial, 4);
	edid[17] = 2025 - 1990;
	edid[18] = 1;
	edid[19] = 4;
	edid[20] = 0xa5; /* digital, 8 bits a colour, as DisplayPort */
	edid[21] = (uint8_t)(millimetres(mode->width) / 10);
	edid[22] = (uint8_t)(millimetres(mode->height) / 10);
	edid[23] = 120;			   /* gamma 2.2 */
	edid[24] = extended ? 0x04 : 0x06; /* sRGB; the first detailed timing is the native one */
	memcpy(edid + 25, chromaticity, sizeof(chromaticity));
	put_known(edid, mode);
	put_timing(edid + 54, &base, mode);
	put_limits(edid + 72, &timing);
	put_text(edid + 90, 0xfc, name);
	snprintf(text, sizeof(text), "head-%u", serial);
	put_text(edid + 108, 0xff, text);
	edid[126] = extended;
	edid[BLOCK - 1] = checksum(edid, BLOCK - 1);
	if (!extended)
		return BLOCK;
	put_displayid(edid + BLOCK, &timing, serial);
	return 2 * (size_t)BLOCK;
}
