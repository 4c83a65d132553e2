# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: four devices in one guest, each used; with iommufd the guest then reboots and uses them again
# fast: iommufd type1
# limit: 500
token=$RIG_VARIANT-$RANDOM
assign $E1000E $NVME $DISPLAY_CARD $EDU
APPEND="rig.token=$token" vm_boot guest pci,edu,e1000e,nvme,display,wait ask \
	--vfio $E1000E --vfio $NVME --vfio $DISPLAY_CARD --vfio $EDU --iommu "$RIG_VARIANT"
guest_wait 'rig: waiting' 200
check_display "$RIG_JOB/screen.ppm"
guest_say on
guest_wait 'rig: then' 60
times_of_boot exec_to_init_4_devices
record pages_pinned "$(pinned)"
[ "$(pinned)" -gt 0 ] || fail "nothing is pinned although devices are assigned"
guest_ok
check_edu
check_e1000e
check_nvme "$token"
grep -E "$NVME: reset \(.*flr" "$RIG_JOB/guest.err" || fail "the VMM did not log a function-level reset"

if [ "$RIG_VARIANT" = iommufd ]; then
	guest_say reboot
	guest_wait 'rig: init' 200 2
	guest_wait 'rig: waiting' 200 2
	guest_say on
	guest_wait 'rig: then' 60 2
	for fact in 'edu dma ok' 'edu raise 100 100 ' 'e1000e ping 3 packets transmitted, 3' "nvme read back written by guest $token" 'display drawn'; do
		guest_wait "$fact" 1 2
	done
	note "after the guest's reboot all four work again"
fi
guest_say poweroff
vm_end
guest_facts
guest_ok
all_unpinned
note "nothing left pinned after power-off"
