# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: edu alone: registers, MSI, DMA both ways; memory decoding off, and registers moved during transfers, under a reading CPU
# fast: iommufd@amd
# full: iommufd type1
# limit: 500
assign $EDU
CPUS=2 vm_boot guest pci,edu,clear_mem,edu_move,edu poweroff --vfio $EDU --iommu "$RIG_VARIANT"
vm_end
times_of_boot
guest_facts
guest_ok
check_edu 2
expect 'clear_mem while off 4294967295, then 3628800'
check_edu_move
all_unpinned
note "registers read all-ones while decoding was off, and came back; nothing left pinned"
