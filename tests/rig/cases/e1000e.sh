# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: e1000e alone: traffic to the outer network, MSI-X vectors counted in the guest
# full: iommufd type1 iommufd@amd
# limit: 300
assign $E1000E
CPUS=2 vm_boot guest pci,e1000e poweroff --vfio $E1000E --iommu "$RIG_VARIANT"
vm_end
guest_facts
guest_ok
check_e1000e
all_unpinned
