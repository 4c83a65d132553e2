# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a group whose other function is still the host's: precheck says so, the VMM refuses; case "assigned" uses all of it
# fast: iommufd
# full: type1
# limit: 120
modprobe -d "$RIG_KERNEL" nvme
bind_to nvme $PAIR_NVME
assign $PAIR_EDU
refused 1 "BLOCKER.*group.*not viable.*$PAIR_NVME" "$DIVVY" precheck $PAIR_EDU
refused 1 group-not-viable "$VMM" --kernel "$RIG_KERNEL/vmlinuz" --initrd "$RIG_GUEST" --serial none --vfio $PAIR_EDU --iommu "$RIG_VARIANT"
release $PAIR_NVME
assign $PAIR_NVME
"$DIVVY" precheck $PAIR_EDU || fail "precheck still objects although the whole group is on vfio-pci"
