# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: divvyd hands out slices of GPUs: virtual functions of a network card that looks like one, mediated devices that a driver makes of the display card; guests use them, divvyd is killed, nothing stays
# full: type1 iommufd
# limit: 900
SECOND_VF=0000:06:10.2 WHERE=/sys/bus/pci/devices
kind=stock
[ "$RIG_VARIANT" != iommufd ] || kind=iommufd
slices=$RIG_KERNEL/slices/$kind
export VK_DRIVER_FILES=/nowhere # no GPU is to be shared: Vulkan's drivers take their time here

# ---- the machine ------------------------------------------------------------------------------------

virtual_function
no_virtual_function
echo 2 >$WHERE/$IGB/sriov_numvfs || fail "no second virtual function"
insmod "$slices/rig_gpu.ko" functions=$IGB,$IGB_VF,$SECOND_VF || fail "cannot load rig_gpu"
if [ $kind = iommufd ]; then insmod "$RIG_KERNEL/iommufd/mdev.ko"; else modprobe -d "$RIG_KERNEL" mdev; fi
insmod "$slices/mbochs.ko" count=16 || fail "cannot load mbochs"
[ -d $WHERE/$DISPLAY_CARD/mdev_supported_types/pci-medium ] || fail "$DISPLAY_CARD has no mediated devices"

rm -rf /var/lib/divvy /run/divvy
mkdir -p /tmp/types /tmp/images/vf /tmp/images/md
cat >/tmp/types/slices.yaml <<TYPES
- {name: vf, vcpus: 1, memory_mib: 256, gpus: [{mode: dedicated, provider: sriov, selector: "$IGB"}]}
- {name: md, vcpus: 1, memory_mib: 192, gpus: [{mode: dedicated, provider: mdev, mdev_type: mbochs-medium}]}
- {name: card, vcpus: 1, memory_mib: 192, gpus: [{mode: dedicated, selector: "$DISPLAY_CARD"}]}
TYPES
image() { # NAME DO
	ln -sf "$RIG_KERNEL/vmlinux" "/tmp/images/$1/vmlinux"
	ln -sf "$RIG_GUEST" "/tmp/images/$1/initrd.img"
	printf 'kernel vmlinux\ninitrd initrd.img\ncmdline %s\n' "$QUIET $FASTER rig.do=$2 rig.then=poweroff" >"/tmp/images/$1/guest.conf"
}
image vf pci,igbvf,wait
image md pci,display,wait

node_start() {
	"$RIG_BUILD/divvyd" --types /tmp/types >>"$RIG_JOB/divvyd.log" 2>&1 </dev/null &
	node_pid=$!
	node_answers
}
fits() { "$DIVVY" list types --json | python3 -c 'import json, sys; print(next(t["fits"] for t in json.load(sys.stdin)["types"] if t["name"] == sys.argv[1]))' "$1"; }
state_of() { "$DIVVY" show instance "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }
until_is() { # NAME STATE SECONDS
	local t0=$SECONDS
	until [ "$(state_of "$1")" = "$2" ]; do
		[ $((SECONDS - t0)) -lt "$3" ] || { "$DIVVY" show instance "$1"; fail "$1 is $(state_of "$1"), not $2"; }
		sleep 0.3
	done
}
mdevs() { ls /sys/bus/mdev/devices | wc -l; }

# begin NAME TYPE - it runs, and its console is read as those of the other cases' guests
begin() {
	local socket=/run/divvy/instances/$1/console
	vm=$1
	"$DIVVY" create "$1" --type "$2" --image "/tmp/images/$2" || fail "$1 cannot be defined"
	"$DIVVY" start "$1" || fail "$1 does not start"
	ln -sf "/var/lib/divvy/instances/$1/vmm.log" "$RIG_JOB/$1.err"
	python3 - "$socket" > >(stamp >"$RIG_JOB/$1.console") <<-'READ' &
		import os, socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		while data := s.recv(65536):
		    os.write(1, data)
	READ
	vm_pid=$!
	guest_wait 'rig: waiting' 200
	guest_ok
}
keep_log() { cp --remove-destination "/var/lib/divvy/instances/$1/vmm.log" "$RIG_JOB/$1.err"; }

# ---- virtual functions --------------------------------------------------------------------------------

node_start
"$DIVVY" list gpus
"$DIVVY" list types
[ "$(fits vf)" = 2 ] || fail "there is room for $(fits vf) virtual functions, not 2"
begin vf1 vf
check_igbvf
[ "$(fits vf)" = 1 ] || fail "with one handed out there is room for $(fits vf)"
"$DIVVY" bind "$IGB" 2>&1 | grep -q gpu-in-use || fail "the card can be taken from its driver while a virtual function of it is out"
kill -KILL $node_pid
wait $node_pid
node_start
[ "$(state_of vf1)" = running ] || fail "after divvyd was killed vf1 is $(state_of vf1)"
"$DIVVY" stop vf1 --timeout 0 || fail "vf1 does not stop"
until_is vf1 stopped 60
keep_log vf1
"$DIVVY" leases "$IGB_VF"
"$DIVVY" leases "$IGB_VF" --json | grep -q 'reset, and answers' || fail "the virtual function was not found in order after its reset"
[ "$(fits vf)" = 2 ] || fail "given back there is room for $(fits vf)"
dmesg | grep -i "$IGB_VF.*reset" | tail -n 2
note "a virtual function, named by its card, was bound, used by a guest and reset; divvyd was killed meanwhile"

# ---- mediated devices ---------------------------------------------------------------------------------

# The driver has 16 MiB for all of them together.
[ "$(fits md)" = 1 ] || fail "there is room for $(fits md) mediated devices, not 1"
[ "$(fits card)" = 1 ] || fail "the card cannot be handed out whole"
begin md1 md
expect '1234:1111 class 0380.* driver bochs'
expect 'display drawn'
uuid=$(ls /sys/bus/mdev/devices)
[ -d "$WHERE/$DISPLAY_CARD/$uuid" ] || fail "the mediated device '$uuid' is not the card's"
pgrep -f "divvy-vmm .*--vfio $uuid" >/dev/null || fail "no VMM was given $uuid"
[ "$(fits md)" = 0 ] || fail "with one made there is room for $(fits md)"
"$DIVVY" types | grep 'no more pci-medium' || fail "why there can be no more is not said"
[ "$(fits card)" = 0 ] || fail "the card could be handed out whole although a slice of it is out"
kill -KILL $node_pid
wait $node_pid
node_start
[ "$(state_of md1)" = running ] && [ "$(mdevs)" = 1 ] || fail "after divvyd was killed md1 is $(state_of md1)"
"$DIVVY" stop md1 --timeout 0
until_is md1 stopped 60
keep_log md1
[ "$(mdevs)" = 0 ] || fail "the mediated device stays"
[ "$(fits md)" = 1 ] && [ "$(fits card)" = 1 ] || fail "given back there is room for $(fits md) and $(fits card)"
note "a mediated device ($uuid, mbochs-medium) was made, drawn on by the guest's bochs-drm, and removed; divvyd was killed meanwhile"

# All of it dies at once: the next divvyd finds what is left of the other kind, too.
begin md2 md
kill -KILL $node_pid
wait $node_pid
pkill -KILL -x divvy-vmm
node_start
until_is md2 failed 60
[ "$(mdevs)" = 0 ] || fail "a mediated device was left by a machine that was killed with divvyd"
note "killed with its VMM, divvyd took it away at its next start"
kill -TERM $node_pid
wait $node_pid || fail "divvyd: status $?"

# ---- without divvyd -------------------------------------------------------------------------------------

uuid=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
echo $uuid >$WHERE/$DISPLAY_CARD/mdev_supported_types/pci-small/create || fail "no mediated device"
vm_boot guest pci,display poweroff --vfio $uuid --iommu "$RIG_VARIANT"
vm_end
guest_ok
expect 'display drawn'
echo 1 >/sys/bus/mdev/devices/$uuid/remove
guest_facts
no_slices
all_unpinned
[ "$(pgrep -c 'divvy')" = 0 ] || fail "processes are left: $(pgrep -l divvy)"
