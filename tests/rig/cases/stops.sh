# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a PCI Express error of a device, and a host that wants it back while the guest uses it, end the VM in order and in words
# fast: iommufd
# full: type1
# limit: 300
assign $E1000E

vm_boot error pci,wait poweroff --vfio $E1000E --iommu "$RIG_VARIANT"
guest_wait 'rig: waiting' 200
# An error on the link, reported by the port above the card (QEMU's cards cannot report theirs: docs/rig.md): the host's
# kernel tells the drivers of everything below that port, vfio-pci signals the VMM.
inject rp1 COMP_ABORT
vm_wait 30
[ $vm_status -eq 1 ] || fail "exit status $vm_status after a device error, expected 1"
grep "error\[device-error\].*$E1000E reported an uncorrectable error" "$RIG_JOB/error.err" || fail "$(tail -n 1 "$RIG_JOB/error.err")"
dmesg | grep -E "$ROOT_PORT.*(AER: .*recovery|CmpltAbrt|PCIe Bus Error)" || fail "the host's log does not have the error"
all_unpinned

vm_boot request pci,busy,wait poweroff --vfio $E1000E --iommu "$RIG_VARIANT"
guest_wait 'rig: waiting' 200
expect 'busy [1-9]'
t0=$EPOCHREALTIME
timeout 60 bash -c "echo $E1000E >/sys/bus/pci/drivers/vfio-pci/unbind" || fail "the host did not get $E1000E back"
note "the host had it back after $(seconds_since "$t0") s"
vm_wait 30
[ $vm_status -eq 0 ] || fail "exit status $vm_status after the host's request, expected 0"
grep "the host asks for $E1000E back" "$RIG_JOB/request.err" || fail "$(tail -n 1 "$RIG_JOB/request.err")"
all_unpinned
note "both ended the VM cleanly; nothing is pinned"
