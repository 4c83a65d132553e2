# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: bad input: one clear line, an exit status, and the machine as it was
# fast: type1
# limit: 240
K=$RIG_KERNEL/vmlinuz I=$RIG_GUEST
run() { echo "$VMM --kernel $K --initrd $I --serial none"; }
head -c 100000 "$K" >/tmp/truncated
head -c 200000 /dev/zero >/tmp/zeros
printf 'kernel %s\nmemry 1G\n' "$K" >/tmp/machine

refused 2 unknown-key "$VMM" --florb 1
refused 2 "unknown-key.*/tmp/machine:2|/tmp/machine:2.*memry" "$VMM" --config /tmp/machine
refused '[12]' kernel-missing "$VMM" --kernel /nonexistent --serial none
refused '[12]' 'not-a-kernel' "$VMM" --kernel /tmp/zeros --serial none
refused '[12]' 'kernel-truncated' "$VMM" --kernel /tmp/truncated --serial none
refused '[12]' disk-missing $(run) --disk /nonexistent.img
refused '[12]' 'disk|[Rr]ead-only' $(run) --disk "$PWD/LICENSE"
refused '[12]' memory-too-large $(run) --memory 64G
refused 2 bad-value $(run) --memory 100000T
refused 1 no-such-device $(run) --vfio 0000:77:00.0 --iommu "$RIG_VARIANT"
refused 1 is-a-bridge $(run) --vfio $ROOT_PORT --iommu "$RIG_VARIANT"
refused 1 not-bound-to-vfio $(run) --vfio $EDU --iommu "$RIG_VARIANT"
modprobe -d "$RIG_KERNEL" nvme
bind_to nvme $NVME
refused 1 "not-bound-to-vfio.*|.*nvme" $(run) --vfio $NVME --iommu "$RIG_VARIANT"
refused 1 no-iommufd $(run) --vfio $EDU --iommu iommufd
refused 1 no-kvm unshare -m bash -c "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec $(run)"
refused 1 "BLOCKER.*0000:77:00.0" "$DIVVY" precheck 0000:77:00.0
refused 1 "BLOCKER.*bridge" "$DIVVY" precheck $ROOT_PORT

# A user with too little memory to lock. What the user runs lies where every user can read.
assign $EDU
chmod 666 /dev/kvm /dev/vfio/vfio "/dev/vfio/$(group_of $EDU)"
cp "$VMM" "$K" /tmp/
cp "$I" /tmp/guest.img
chmod 755 /tmp /tmp/divvy-vmm
chmod 644 /tmp/vmlinuz /tmp/guest.img
refused 1 memlock-too-small prlimit --memlock=65536:65536 setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all \
	/tmp/divvy-vmm --kernel /tmp/vmlinuz --initrd /tmp/guest.img --serial none --vfio $EDU --iommu "$RIG_VARIANT"
