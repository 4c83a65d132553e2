# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a device that reports an error, and a host that wants it back, end the VM in order and in words
# fast: iommufd
# full: type1
# limit: 300
assign $E1000E

vm_boot error pci,wait poweroff --vfio $E1000E --iommu "$RIG_VARIANT"
guest_wait 'rig: waiting' 200
# VFIO's own loopback: a trigger without data on the error index signals the eventfd that is armed on it.
python3 - "$vm_pid" <<'PYTHON' || fail "the error index of $E1000E cannot be triggered"
import ctypes, fcntl, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
SYS_PIDFD_GETFD, VFIO_DEVICE_SET_IRQS, ERROR_INDEX = 438, 0x3b6e, 3
NO_DATA, TRIGGER = 1 << 0, 1 << 5
pid = int(sys.argv[1])
pidfd = os.pidfd_open(pid)
request = struct.pack("=IIIII", 20, NO_DATA | TRIGGER, ERROR_INDEX, 0, 1)
for fd in os.listdir(f"/proc/{pid}/fd"):
    target = os.readlink(f"/proc/{pid}/fd/{fd}")
    if "vfio-device" in target or "/vfio/devices/" in target:
        mine = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(fd), 0)
        fcntl.ioctl(mine, VFIO_DEVICE_SET_IRQS, request)
        sys.exit(0)
sys.exit("no device file")
PYTHON
vm_wait 30
[ $vm_status -eq 1 ] || fail "exit status $vm_status after a device error, expected 1"
grep "error\[device-error\].*$E1000E reported an uncorrectable error" "$RIG_JOB/error.err" || fail "$(tail -n 1 "$RIG_JOB/error.err")"
all_unpinned

vm_boot request pci,wait poweroff --vfio $E1000E --iommu "$RIG_VARIANT"
guest_wait 'rig: waiting' 200
t0=$EPOCHREALTIME
timeout 60 bash -c "echo $E1000E >/sys/bus/pci/drivers/vfio-pci/unbind" || fail "the host did not get $E1000E back"
note "the host had it back after $(seconds_since "$t0") s"
vm_wait 30
[ $vm_status -eq 0 ] || fail "exit status $vm_status after the host's request, expected 0"
grep "the host asks for $E1000E back" "$RIG_JOB/request.err" || fail "$(tail -n 1 "$RIG_JOB/request.err")"
all_unpinned
note "both ended the VM cleanly; nothing is pinned"
