# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: kill -9 of the VMM under DMA: nothing stays pinned, and the device can be assigned again
# fast: iommufd
# full: type1
# limit: 400
assign $EDU
vm_boot first edu,wait poweroff --vfio $EDU --iommu "$RIG_VARIANT" --net user
guest_wait 'rig: waiting' 200
expect 'edu dma ok'
held=$(pinned)
[ "$held" -gt 1000 ] || fail "only $held pages were pinned while the guest ran"
kill -9 $vm_pid
wait $vm_pid
all_unpinned
[ "$(driver_of $EDU)" = vfio-pci ] || fail "$EDU is on driver '$(driver_of $EDU)' now"
sleep 1
! pgrep -l 'divvy-vmm|passt' || fail "processes are left"
note "killed with $held pages pinned: none is now, no process left, device still on vfio-pci"
vm_boot second pci,edu poweroff --vfio $EDU --iommu "$RIG_VARIANT"
vm_end
guest_ok
check_edu
all_unpinned
