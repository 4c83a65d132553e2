# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a display card alone: its DRM driver binds, what the guest draws is what the screen shows
# full: iommufd type1
# limit: 300
assign $DISPLAY_CARD
vm_boot guest pci,display,wait poweroff --vfio $DISPLAY_CARD --iommu "$RIG_VARIANT"
guest_wait 'rig: waiting' 200
check_display "$RIG_JOB/screen.ppm"
guest_say on
vm_end
guest_facts
guest_ok
all_unpinned
