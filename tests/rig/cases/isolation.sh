# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a guest turns its device on the host's memory: the IOMMU stops it, the log says so, the page is intact
# fast: iommufd
# full: type1 iommufd@amd
# limit: 300
mkfifo /tmp/canary.in
exec 9<>/tmp/canary.in
build/rig/bin/canary 600 </tmp/canary.in >/tmp/canary.out &
canary=$!
until [ -s /tmp/canary.out ]; do kill -0 $canary || fail "no canary"; sleep 0.1; done
pa=$(head -n 1 /tmp/canary.out)
note "canary: a page of the host at physical $pa; the guest's RAM is 0 to 0x10000000 ($MEMORY)"

assign $EDU
APPEND="rig.pa=$pa" vm_boot guest pci,edu_attack poweroff --vfio $EDU --iommu "$RIG_VARIANT"
vm_end
guest_facts
guest_ok
expect "attack wrote at $pa"
seen=$(guest_value 'attack read ([0-9a-f]+)')
expect 'edu dma ok'

case $RIG_HOST in
intel) want="\[DMA Write.*\] Request device \[04:00.0\] fault addr $pa " ;;
amd) want="IO_PAGE_FAULT" ;; # QEMU's model reports neither device nor address right (docs/rig.md)
esac
dmesg | grep -E 'DMAR: \[DMA|IO_PAGE_FAULT' | tee /tmp/faults
grep -qE "$want" /tmp/faults || fail "the host's log has no fault of that write"
echo check >&9
wait $canary
status=$?
[ $status -eq 0 ] || fail "the canary is not intact: $(tail -n 1 /tmp/canary.out)"
case $seen in
c3c2c1c0*) fail "the device read the canary's bytes" ;;
esac
all_unpinned
note "canary $(tail -n 1 /tmp/canary.out); the read brought $seen, not the page's bytes; the device's proper DMA still works"
