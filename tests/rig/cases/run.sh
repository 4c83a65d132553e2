# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: divvy run, with no daemon: a stock kernel with a share of a GPU, and one with a whole card; nothing stays behind
# full: iommufd
# limit: 1200
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json HOME=/tmp
GUEST_SILENCE_LIMIT=600

# An image is a folder; types are a file.
mkdir -p /tmp/image /tmp/types
ln -sf "$RIG_KERNEL/vmlinux" /tmp/image/vmlinux
ln -sf "$RIG_GUEST" /tmp/image/initrd.img
cat >/tmp/image/guest.conf <<CONF
kernel  vmlinux
initrd  initrd.img
cmdline $QUIET $FASTER rig.do=memory,pci rig.then=poweroff
CONF
cat >/tmp/types/rig.yaml <<TYPES
- {name: s1.rig, vcpus: 1, memory_mib: 256, gpus: [{mode: shared, partition: 1/4, policy: fixed_share, selector: software}]}
- {name: d1.rig, vcpus: 1, memory_mib: 256, gpus: [{mode: dedicated, count: 1, selector: "$DISPLAY_CARD"}]}
TYPES

nothing_left() {
	[ -z "$(grep -lzs '^DIVVY_NODE=' /proc/[0-9]*/environ)" ] || fail "processes were left: $(pgrep -a divvy)"
	[ ! -e /tmp/.local/state/divvy ] && ! ls -d /tmp/divvy-run* 2>/dev/null || fail "folders were left"
}

# run_type TYPE - its console goes where guest_wait and expect look
run_type() {
	vm=$1
	: >"$RIG_JOB/$vm.console"
	printf '$ divvy run --type %s --image /tmp/image\n' "$1"
	"$DIVVY" run --type "$1" --image /tmp/image --types /tmp/types </dev/null > >(stamp >"$RIG_JOB/$vm.console") 2>"$RIG_JOB/$vm.err" &
	vm_pid=$!
	vm_in=0
	guest_wait 'rig: init' 600
	guest_wait 'rig: done' 300
	while vm_alive; do sleep 0.2; done
	wait "$vm_pid" || fail "divvy run --type $1: status $?: $(tail -n 1 "$RIG_JOB/$vm.err")"
	guest_facts
	guest_ok
	nothing_left
}

# Read once, the driver is quick to answer: an emulated host takes half a minute for that.
"$RIG_BUILD/tests/live/vkload" frame --frames 1 >/dev/null || fail "no Vulkan device in the host"
"$DIVVY" types --types /tmp/types
run_type s1.rig
expect 'pci .* 1af4:1050'

vfio_stack "$RIG_VARIANT"
"$DIVVY" run --type d1.rig --image /tmp/image --types /tmp/types </dev/null >/tmp/refused 2>&1 && fail "a card that is not bound was taken"
cat /tmp/refused
grep -q "not-bound.*next: divvy bind $DISPLAY_CARD" /tmp/refused || fail "it was not said what to do"
"$DIVVY" bind $DISPLAY_CARD || fail "divvy bind"
run_type d1.rig
expect 'pci .* 1234:1111'
"$DIVVY" unbind $DISPLAY_CARD || fail "divvy unbind"
all_unpinned
note "a stock kernel booted by divvy run with a quarter of a GPU, and with a whole card; nothing was left"
