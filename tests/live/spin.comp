// SPDX-License-Identifier: Apache-2.0
// A job of any length whose result is known without running it: each lane is stepped through a linear
// congruential sequence, and the n-th member of that has a closed form (job.c).
#version 450

layout(local_size_x = 64) in;
layout(std430, set = 0, binding = 0) buffer Lanes
{
	uint lanes[];
};
layout(push_constant) uniform Length
{
	uint iterations;
};

void main()
{
	uint x = lanes[gl_GlobalInvocationID.x];

	for (uint i = 0; i < iterations; i++)
		x = x * 1664525u + 1013904223u;
	lanes[gl_GlobalInvocationID.x] = x;
}
