# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a slot reset as one, because its functions cannot be reset alone; ROMs of a device and of a file; a device that reaches another's BAR
# fast: type1
# full: iommufd
# limit: 300
rom=/sys/bus/pci/devices/$SECOND_EDU/rom
echo 1 >$rom
sum=$(md5sum <$rom | cut -c1-32)
{ head -c 2000 $rom; head -c 48 /dev/zero; } >/tmp/other.rom # another one that begins like a ROM
echo 0 >$rom
other=$(md5sum </tmp/other.rom | cut -c1-32)
[ "$sum" != "$other" ] || fail "the host reads no ROM from $SECOND_EDU"
# (of the first function the kernel says "bus", having looked when it was the only one)
[ ! -e /sys/bus/pci/devices/$TWIN_EDU_1/reset_method ] || fail "$TWIN_EDU_1 can be reset alone: $(cat /sys/bus/pci/devices/$TWIN_EDU_1/reset_method)"

assign $TWIN_EDU $TWIN_EDU_1 $SECOND_EDU
refused 1 bad-rom "$VMM" --kernel "$RIG_KERNEL/vmlinuz" --initrd "$RIG_GUEST" --serial none --vfio $SECOND_EDU,rom=/etc/passwd --iommu "$RIG_VARIANT"
do=pci,rom,edu
[ "$RIG_VARIANT" = iommufd ] || do=$do,edu_p2p
vm_boot guest $do poweroff --p2p --vfio $TWIN_EDU --vfio $TWIN_EDU_1,rom=/tmp/other.rom --vfio $SECOND_EDU,rom=device --iommu "$RIG_VARIANT"
vm_end
guest_facts
guest_ok
check_edu 3

# once before the guest and once after it, and no function twice
n=$(grep -c "$TWIN_EDU: hot reset of its slot or bus, 2 functions" "$RIG_JOB/guest.err")
[ "$n" = 2 ] || fail "$n hot resets of the slot are logged, not 2"
note "$(grep -m1 -o "$TWIN_EDU: hot reset.*" "$RIG_JOB/guest.err")"
record hot_reset_ms "$(sed -nE 's/.*hot reset of its slot.* in ([0-9.]+) ms.*/\1/p' "$RIG_JOB/guest.err" | head -n 1)"

expect "rom 1234:11e8 of 0000:01:00.1 bytes 2048 md5 $other"
expect "rom 1234:11e8 of 0000:02:00.0 bytes 2048 md5 $sum"
[ "$(grep -c 'rig: rom' "$RIG_JOB/guest.console")" = 2 ] || fail "the guest sees ROMs that it was not given"

if [ "$RIG_VARIANT" = iommufd ]; then
	n=$(grep -c 'peer-to-peer DMA to the BAR' "$RIG_JOB/guest.err")
	[ "$n" = 1 ] || fail "that iommufd maps no BARs is said $n times, not once"
	note "$(grep -m1 -o 'peer-to-peer DMA to the BAR.*' "$RIG_JOB/guest.err")"
else
	grep -q 'mapped 1024 KiB of a BAR' "$RIG_JOB/guest.err" || fail "no BAR was mapped for DMA"
	expect 'edu_p2p read 66666666666666666666666666666666'
	note "one edu wrote into the other's registers and read them back"
fi
grep -q 'map.* left' "$RIG_JOB/guest.err" && fail "$(grep -m1 'map.* left' "$RIG_JOB/guest.err")"
no_faults
all_unpinned
