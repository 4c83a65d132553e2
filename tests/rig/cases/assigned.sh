# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: eight devices in one guest, each used: a slot with two functions, a virtual function and a BAR of 4 GiB among them; with iommufd the guest then uses edu by INTx, reboots and uses them again
# fast: iommufd type1
# full: type1@linux6.1 type1@linux7
# limit: 500
token=$RIG_VARIANT-$RANDOM
virtual_function
all="$E1000E $NVME $DISPLAY_CARD $EDU $PAIR_NVME $PAIR_EDU $IGB_VF $BIG $SECOND_EDU"
assign $all
APPEND="rig.token=$token" vm_boot guest pci,edu,e1000e,igbvf,nvme,big,display,wait ask \
	$(printf -- '--vfio %s ' $all) --iommu "$RIG_VARIANT" --intx
guest_wait 'rig: waiting' 200
check_display "$RIG_JOB/screen.ppm"
guest_say on
guest_wait 'rig: then' 60
times_of_boot exec_to_init_8_devices
times_of_vmm
record pages_pinned "$(pinned)"
[ "$(pinned)" -gt 0 ] || fail "nothing is pinned although devices are assigned"
guest_ok
check_edu 3
check_e1000e
check_igbvf
check_nvme "$token" 0
check_nvme "$token" 1
pair=$(guest_value 'pci (0000:[0-9a-f:]*)\.1 1234:11e8')
[ -n "$pair" ] && expect "pci $pair.0 1b36:0010 .*driver nvme" || fail "the slot with two functions is not one slot in the guest"
grep -E "$NVME: reset \(.*flr" "$RIG_JOB/guest.err" || fail "the VMM did not log a function-level reset"

if [ "$RIG_VARIANT" = iommufd ]; then
	guest_say do edu_intx
	guest_wait 'rig: then' 60 2
	guest_ok
	check_edu 3 intx
	guest_say reboot
	guest_wait 'rig: init' 200 2
	guest_wait 'rig: waiting' 200 2
	guest_say on
	guest_wait 'rig: then' 60 3
	for fact in 'edu dma ok' 'edu raise 100 100 '; do guest_wait "$fact" 1 9; done
	for fact in 'e1000e ping 3 packets transmitted, 3' 'igbvf ping 3 packets transmitted, 3' "nvme rig[01] read back written by guest $token" \
		"big 4096 MiB first $token last $token" 'display drawn'; do
		guest_wait "$fact" 1 2
	done
	note "after the guest's reboot all of them work again"
fi
guest_say poweroff
vm_end
guest_facts
guest_ok
check_big "$token"
no_faults
all_unpinned
note "nothing left pinned after power-off"
