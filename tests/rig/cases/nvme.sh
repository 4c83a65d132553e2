# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: nvme alone: read, write, compared with the image outside; function-level reset logged
# full: iommufd type1
# limit: 300
token=$RIG_VARIANT-$RANDOM
assign $NVME
CPUS=2 APPEND="rig.token=$token" vm_boot guest pci,nvme poweroff --vfio $NVME --iommu "$RIG_VARIANT"
vm_end
guest_facts
guest_ok
check_nvme "$token"
grep -E "$NVME: reset \(.*flr" "$RIG_JOB/guest.err" || fail "the VMM did not log a function-level reset"
all_unpinned
