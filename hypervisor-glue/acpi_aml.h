/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to acpi*.c: writing AML (ACPI 6.5, chapter 20) and resource descriptors (6.4).
 *
 * A writer appends to a buffer and never past its end: what does not fit sets @full, and everything
 * after is a no-op, so that callers check once. Objects with a body are opened by an aml_*_begin(),
 * whose result goes to aml_end() when the body is written.
 */
#ifndef GLUE_ACPI_AML_H
#define GLUE_ACPI_AML_H

#include "base/base.h"

struct aml {
	uint8_t *at;
	size_t size, used;
	bool full;
};

void aml_bytes(struct aml *a, const void *bytes, size_t count);
void aml_byte(struct aml *a, uint8_t value);
void aml_word(struct aml *a, uint16_t value);
void aml_dword(struct aml *a, uint32_t value);
void aml_qword(struct aml *a, uint64_t value);

/* Opcodes (20.2, 20.3) that callers write with aml_byte(). */
#define AML_LOCAL0	 0x60
#define AML_ARG(n)	 (0x68 + (n))
#define AML_STORE	 0x70
#define AML_AND		 0x7b
#define AML_OR		 0x7d
#define AML_CREATE_DWORD 0x8a
#define AML_LNOT	 0x92
#define AML_LEQUAL	 0x93
#define AML_RETURN	 0xa4
#define AML_NO_TARGET	 0x00

/* "\\_SB.PCI0": names of up to four characters, padded with '_'. */
void aml_name_string(struct aml *a, const char *path);
void aml_integer(struct aml *a, uint64_t value);
/* Name (NAME, ...): the object comes next. */
void aml_name(struct aml *a, const char *name);
void aml_name_integer(struct aml *a, const char *name, uint64_t value);
/* Name (NAME, EISAID ("PNP0A08")) */
void aml_name_eisa_id(struct aml *a, const char *name, const char *id);
void aml_eisa_id(struct aml *a, const char *id);
void aml_name_string_value(struct aml *a, const char *name, const char *text);
/* ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766") */
void aml_uuid(struct aml *a, const char *uuid);

size_t aml_scope_begin(struct aml *a, const char *path);
size_t aml_device_begin(struct aml *a, const char *name);
size_t aml_method_begin(struct aml *a, const char *name, unsigned arguments, bool serialized);
size_t aml_if_begin(struct aml *a);
size_t aml_else_begin(struct aml *a);
size_t aml_package_begin(struct aml *a, uint8_t count);
void aml_end(struct aml *a, size_t start);

/* Name (_CRS, ResourceTemplate () { ... }) around the descriptors below. */
size_t aml_resources_begin(struct aml *a, const char *name);
void aml_resources_end(struct aml *a, size_t start);
void aml_resource_io(struct aml *a, uint16_t start, uint8_t size);
void aml_resource_irq(struct aml *a, unsigned irq);
void aml_resource_memory32(struct aml *a, uint32_t start, uint32_t size);
/* What a bridge hands on: [start, start + size) of bus numbers, I/O ports, memory. */
void aml_resource_bus(struct aml *a, uint16_t first, uint16_t last);
void aml_resource_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_resource_memory32_window(struct aml *a, uint32_t start, uint32_t size);
void aml_resource_memory64_window(struct aml *a, uint64_t start, uint64_t size);

#endif
