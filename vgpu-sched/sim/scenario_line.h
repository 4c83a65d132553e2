/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a key stands in a YAML text. Private to vgpu-sched/sim/.
 */
#ifndef VGPU_SCHED_SIM_SCENARIO_LINE_H
#define VGPU_SCHED_SIM_SCENARIO_LINE_H

#include <stddef.h>

/*
 * scenario_line() - the line, from 1 on, of the key that @path leads to ("vgpus.2.share": keys and indexes with dots);
 * where it is not there, of what is the nearest around it. 0 when the text is no YAML.
 */
unsigned scenario_line(const char *text, size_t size, const char *path);

#endif
