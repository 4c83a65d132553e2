/* SPDX-License-Identifier: Apache-2.0 */
/* What the test guest draws (gpu.c), for itself and for the test that looks at it: no pixel is like its neighbours. */
#ifndef TESTGUEST_PICTURE_H
#define TESTGUEST_PICTURE_H

#include <stdint.h>

#define PICTURE_CURSOR_X 100u /* where its hot spot points */
#define PICTURE_CURSOR_Y 50u
#define PICTURE_HOT_X	 7u
#define PICTURE_HOT_Y	 9u
#define PICTURE_CURSOR	 64u /* its width and height */

/* A pixel, 0xRRGGBB, of the picture of that number. */
static inline uint32_t picture_pixel(uint32_t number, uint32_t x, uint32_t y)
{
	return (x * 7919u ^ y * 104729u ^ number * 2654435761u) & 0xffffff;
}

/* A pixel of the cursor, 0xAARRGGBB: opaque or not there at all, like a chess board. */
static inline uint32_t picture_cursor(uint32_t x, uint32_t y)
{
	return (x / 8 ^ y / 8) & 1 ? 0xff000000u | x << 18 | y << 10 | (x ^ y) : 0;
}

#endif
