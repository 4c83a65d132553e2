// SPDX-License-Identifier: Apache-2.0
/*
 * Writing AML: just the terms that the DSDT of acpi.c needs. ACPI 6.5: 20.2 (grammar), 6.4 (resource
 * descriptors). Relies on nothing; promises never to write past the buffer.
 */
#include <string.h>

#include "hypervisor-glue/acpi_aml.h"

void aml_bytes(struct aml *a, const void *bytes, size_t count)
{
	if (a->full || count > a->size - a->used) {
		a->full = true;
		return;
	}
	memcpy(a->at + a->used, bytes, count);
	a->used += count;
}

void aml_byte(struct aml *a, uint8_t value)
{
	aml_bytes(a, &value, 1);
}

static void little_endian(struct aml *a, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		aml_byte(a, (uint8_t)(value >> (8 * i)));
}

void aml_word(struct aml *a, uint16_t value)
{
	little_endian(a, value, 2);
}

void aml_dword(struct aml *a, uint32_t value)
{
	little_endian(a, value, 4);
}

void aml_qword(struct aml *a, uint64_t value)
{
	little_endian(a, value, 8);
}

/* ---- names and data (20.2.2, 20.2.3) --------------------------------------------------------- */

static void name_segment(struct aml *a, const char *name, size_t length)
{
	for (size_t i = 0; i < 4; i++)
		aml_byte(a, i < length ? (uint8_t)name[i] : '_');
}

void aml_name_string(struct aml *a, const char *path)
{
	uint8_t segments = 1;

	if (*path == '\\')
		aml_byte(a, (uint8_t)*path++);
	for (const char *p = path; *p; p++)
		segments += *p == '.';
	if (!*path)
		aml_byte(a, 0x00); /* NullName */
	else if (segments == 2)
		aml_byte(a, 0x2e); /* DualNamePrefix */
	else if (segments > 2) {
		aml_byte(a, 0x2f); /* MultiNamePrefix */
		aml_byte(a, segments);
	}
	while (*path) {
		size_t length = strcspn(path, ".");

		name_segment(a, path, length);
		path += length;
		path += *path == '.';
	}
}

void aml_integer(struct aml *a, uint64_t value)
{
	if (value <= 1) {
		aml_byte(a, (uint8_t)value); /* ZeroOp, OneOp */
	} else if (value <= UINT8_MAX) {
		aml_byte(a, 0x0a);
		aml_byte(a, (uint8_t)value);
	} else if (value <= UINT16_MAX) {
		aml_byte(a, 0x0b);
		aml_word(a, (uint16_t)value);
	} else if (value <= UINT32_MAX) {
		aml_byte(a, 0x0c);
		aml_dword(a, (uint32_t)value);
	} else {
		aml_byte(a, 0x0e);
		aml_qword(a, value);
	}
}

void aml_name(struct aml *a, const char *name)
{
	aml_byte(a, 0x08);
	aml_name_string(a, name);
}

void aml_name_integer(struct aml *a, const char *name, uint64_t value)
{
	aml_name(a, name);
	aml_integer(a, value);
}

static unsigned hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	return (unsigned)((c | 0x20) - 'a' + 10);
}

/* 19.3.4: three letters of five bits, four hexadecimal digits, most significant byte first. */
void aml_eisa_id(struct aml *a, const char *id)
{
	unsigned letters = (unsigned)(id[0] - '@') << 10 | (unsigned)(id[1] - '@') << 5 |
			   (unsigned)(id[2] - '@');

	aml_byte(a, 0x0c);
	aml_byte(a, (uint8_t)(letters >> 8));
	aml_byte(a, (uint8_t)letters);
	aml_byte(a, (uint8_t)(hex_digit(id[3]) << 4 | hex_digit(id[4])));
	aml_byte(a, (uint8_t)(hex_digit(id[5]) << 4 | hex_digit(id[6])));
}

void aml_name_eisa_id(struct aml *a, const char *name, const char *id)
{
	aml_name(a, name);
	aml_eisa_id(a, id);
}

void aml_name_string_value(struct aml *a, const char *name, const char *text)
{
	aml_name(a, name);
	aml_byte(a, 0x0d);
	aml_bytes(a, text, strlen(text) + 1);
}

/* 19.6.142: the first three fields are little-endian, the rest is in order of text. */
void aml_uuid(struct aml *a, const char *uuid)
{
	static const uint8_t order[16] = {
		6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34
	};

	aml_byte(a, 0x11); /* BufferOp, its length below 64 */
	aml_byte(a, 1 + 2 + 16);
	aml_integer(a, 16);
	for (size_t i = 0; i < sizeof(order); i++)
		aml_byte(a,
			 (uint8_t)(hex_digit(uuid[order[i]]) << 4 | hex_digit(uuid[order[i] + 1])));
}

/* ---- objects with a body (20.2.4, 20.2.5) ---------------------------------------------------- */

static size_t body_begin(struct aml *a, uint8_t prefix, uint8_t opcode)
{
	if (prefix)
		aml_byte(a, prefix);
	aml_byte(a, opcode);
	return a->used;
}

size_t aml_scope_begin(struct aml *a, const char *path)
{
	size_t start = body_begin(a, 0, 0x10);

	aml_name_string(a, path);
	return start;
}

size_t aml_device_begin(struct aml *a, const char *name)
{
	size_t start = body_begin(a, 0x5b, 0x82);

	aml_name_string(a, name);
	return start;
}

size_t aml_method_begin(struct aml *a, const char *name, unsigned arguments, bool serialized)
{
	size_t start = body_begin(a, 0, 0x14);

	aml_name_string(a, name);
	aml_byte(a, (uint8_t)((arguments & 7) | (serialized ? 8 : 0)));
	return start;
}

size_t aml_if_begin(struct aml *a)
{
	return body_begin(a, 0, 0xa0);
}

size_t aml_else_begin(struct aml *a)
{
	return body_begin(a, 0, 0xa1);
}

size_t aml_package_begin(struct aml *a, uint8_t count)
{
	size_t start = body_begin(a, 0, 0x12);

	aml_byte(a, count);
	return start;
}

/* PkgLength counts itself, so it is put in front when the body's length is known (20.2.4). */
void aml_end(struct aml *a, size_t start)
{
	size_t body = a->used - start, length;
	uint8_t encoded[4];
	unsigned bytes;

	if (a->full)
		return;
	if (body + 1 <= 0x3f)
		bytes = 1;
	else if (body + 2 <= 0xfff)
		bytes = 2;
	else if (body + 3 <= 0xfffff)
		bytes = 3;
	else
		bytes = 4;
	length = body + bytes;
	if (bytes == 1) {
		encoded[0] = (uint8_t)length;
	} else {
		encoded[0] = (uint8_t)((bytes - 1) << 6 | (length & 0x0f));
		for (unsigned i = 1; i < bytes; i++)
			encoded[i] = (uint8_t)(length >> (8 * i - 4));
	}
	if (bytes > a->size - a->used) {
		a->full = true;
		return;
	}
	memmove(a->at + start + bytes, a->at + start, body);
	memcpy(a->at + start, encoded, bytes);
	a->used += bytes;
}

/* ---- resources (6.4) ------------------------------------------------------------------------- */

#define BUFFER_SIZE_TERM 3 /* WordPrefix and a word, filled in at the end */

size_t aml_resources_begin(struct aml *a, const char *name)
{
	size_t start;

	aml_name(a, name);
	start = body_begin(a, 0, 0x11);
	aml_byte(a, 0x0b);
	aml_word(a, 0);
	return start;
}

void aml_resources_end(struct aml *a, size_t start)
{
	size_t length;

	/* End tag; checksum 0 stands for "not computed" (6.4.2.9). */
	aml_byte(a, 0x79);
	aml_byte(a, 0);
	if (a->full)
		return;
	length = a->used - start - BUFFER_SIZE_TERM;
	a->at[start + 1] = (uint8_t)length;
	a->at[start + 2] = (uint8_t)(length >> 8);
	aml_end(a, start);
}

void aml_resource_io(struct aml *a, uint16_t start, uint8_t size)
{
	aml_byte(a, 0x47);
	aml_byte(a, 1); /* decodes 16 bits */
	aml_word(a, start);
	aml_word(a, start);
	aml_byte(a, 1);
	aml_byte(a, size);
}

/* Edge, active high, exclusive: what the short form without flags means. */
void aml_resource_irq(struct aml *a, unsigned irq)
{
	aml_byte(a, 0x22);
	aml_word(a, (uint16_t)(1u << irq));
}

void aml_resource_memory32(struct aml *a, uint32_t start, uint32_t size)
{
	aml_byte(a, 0x86);
	aml_word(a, 9);
	aml_byte(a, 1); /* writable */
	aml_dword(a, start);
	aml_dword(a, size);
}

/* 6.4.3.5: what an address space descriptor starts with. */
#define SPACE_MEMORY	   0
#define SPACE_IO	   1
#define SPACE_BUS	   2
#define SPACE_FIXED	   0x0c /* minimum and maximum are fixed, decode is positive, produced */
#define SPACE_IO_ENTIRE	   0x03 /* ISA and non-ISA ranges */
#define SPACE_MEMORY_WRITE 0x01 /* writable, not cacheable, not prefetchable */

static void space_head(struct aml *a, uint8_t tag, uint16_t length, uint8_t kind, uint8_t flags)
{
	aml_byte(a, tag);
	aml_word(a, length);
	aml_byte(a, kind);
	aml_byte(a, SPACE_FIXED);
	aml_byte(a, flags);
}

/* Granularity, minimum, maximum, translation, length in @size bytes each. */
static void space_range(struct aml *a, unsigned size, uint64_t start, uint64_t last)
{
	const uint64_t fields[] = { 0, start, last, 0, last - start + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		little_endian(a, fields[i], size);
}

void aml_resource_bus(struct aml *a, uint16_t first, uint16_t last)
{
	space_head(a, 0x88, 3 + 5 * 2, SPACE_BUS, 0);
	space_range(a, 2, first, last);
}

void aml_resource_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	space_head(a, 0x88, 3 + 5 * 2, SPACE_IO, SPACE_IO_ENTIRE);
	space_range(a, 2, first, last);
}

void aml_resource_memory32_window(struct aml *a, uint32_t start, uint32_t size)
{
	space_head(a, 0x87, 3 + 5 * 4, SPACE_MEMORY, SPACE_MEMORY_WRITE);
	space_range(a, 4, start, (uint64_t)start + size - 1);
}

void aml_resource_memory64_window(struct aml *a, uint64_t start, uint64_t size)
{
	space_head(a, 0x8a, 3 + 5 * 8, SPACE_MEMORY, SPACE_MEMORY_WRITE);
	space_range(a, 8, start, start + size - 1);
}
