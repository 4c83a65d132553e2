// SPDX-License-Identifier: Apache-2.0
#version 450

layout(push_constant) uniform Frame
{
	float turn; // radians
};
layout(location = 0) out vec3 colour;

void main()
{
	float angle = turn + 2.0943951 * gl_VertexIndex;

	colour = vec3(gl_VertexIndex == 0, gl_VertexIndex == 1, gl_VertexIndex == 2);
	gl_Position = vec4(0.8 * sin(angle), -0.8 * cos(angle), 0, 1);
}
