# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a guest without MSI: a disk, a network card and edu by their interrupt pins; edu's registers move while the disk reads
# full: iommufd type1
# limit: 300
token=$RIG_VARIANT-$RANDOM
assign $E1000E $NVME $EDU
CPUS=2 APPEND="pci=nomsi divvy_edu.intx=1 rig.token=$token" vm_boot guest pci,edu,e1000e,nvme,edu_move poweroff \
	--vfio $E1000E --vfio $NVME --vfio $EDU --iommu "$RIG_VARIANT" --intx
vm_end
guest_facts
guest_ok
check_edu 1 intx
check_e1000e intx
check_nvme "$token" 0 intx
check_edu_move
all_unpinned
