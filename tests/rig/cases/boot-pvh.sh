# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: the same kernel as an ELF image by PVH, one CPU and four, memory above 4 GiB
# fast: once
# limit: 300
KERNEL=$RIG_KERNEL/vmlinux MEMORY=3328M CPUS=4 vm_boot large memory,rng poweroff
vm_end
times_of_boot exec_to_init_pvh_4_cpus
guest_facts
guest_ok
expect 'memory 3[0-9]{6} kB, 4 cpus'
KERNEL=$RIG_KERNEL/vmlinux MEMORY=256M CPUS=1 vm_boot small memory poweroff
vm_end
times_of_boot exec_to_init_pvh
guest_facts
guest_ok
expect 'memory 2[0-9]{5} kB, 1 cpus'
