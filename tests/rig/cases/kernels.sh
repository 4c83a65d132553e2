# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: other kernels than Debian 13's: as guests of its host, and as hosts of guests of their own
# full: iommufd type1@linux6.1 type1@linux7
# guests: 6.1 7
# limit: 500
assign $E1000E $NVME $EDU
boot() { # NAME TOKEN - the kernel and RAM disk of $KERNEL and $INITRD, with three devices
	APPEND="rig.token=$2" vm_boot "$1" memory,release,pci,edu,e1000e,nvme poweroff \
		--vfio $E1000E --vfio $NVME --vfio $EDU --iommu "$RIG_VARIANT"
	vm_end
	times_of_boot "exec_to_init_$1"
	guest_facts
	guest_ok
	check_edu
	check_e1000e
	check_nvme "$2"
	all_unpinned
	note "host $(uname -r), guest $(guest_value 'release (.*)')"
}
note "host: $(uname -r)"
if [ "$RIG_HOST" = intel ]; then
	for line in 6.1 7; do
		KERNEL=$(tests/rig/kernel path $line)/vmlinux INITRD=/run/images/guest-$line.img boot "linux$line" "$line-$RANDOM"
	done
else
	boot same "same-$RANDOM"
fi
