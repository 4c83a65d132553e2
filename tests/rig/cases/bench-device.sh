# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: measures: what an assigned device adds to the start, DMA map and unmap, exits while a guest uses its device
# demo: once
# limit: 850
# What is measured is in $RIG_JOB/results; tests/bench/run shows it.
lkvm=$PWD/build/rig/bin/lkvm initrd=$RIG_GUEST mib=256
append="$QUIET $FASTER rig.do=wait rig.then=poweroff"
qemu="qemu-system-x86_64 -nodefaults -no-user-config -nographic -no-reboot -accel kvm -cpu host -smp 1 -m ${mib}M \
-object memory-backend-memfd,id=ram,size=${mib}M,share=on -serial stdio -kernel $RIG_KERNEL/vmlinuz -initrd $initrd -append '$append' -M q35,memory-backend=ram"
BENCH_RUNS=${BENCH_RUNS:-3}

# Doorbells and queues of an assigned NVMe disk, more and more of it: the VMM counts what leaves the guest.
vfio_stack type1
assign $NVME $EDU
exits() { # NAME DO - boots, uses the disk, and prints the MMIO exits of the whole life
	vm_boot "$1" "$2" poweroff --vfio $NVME >&2
	vm_end >&2
	guest_ok >&2
	sed -n 's/.*exits: \([0-9]*\) mmio.*/\1/p' "$RIG_JOB/$1.err"
}
once=$(exits once nvme) || exit
often=$(exits often nvme,nvme,nvme,nvme,nvme) || exit
note "MMIO exits of a whole life: $once with 8 MiB read once, $often with 40 MiB"
echo "{\"name\": \"MMIO exits for 32 MiB more read from an assigned NVMe disk, divvy\", \"unit\": \"exits\", \"median\": $((often - once)), \"min\": $((often - once)), \"max\": $((often - once)), \"runs\": 1}" >>"$RIG_JOB/results"

vmms=("divvy=$VMM --kernel $RIG_KERNEL/vmlinuz --initrd $initrd --cmdline '$append' --memory ${mib}M --iommu type1"
	"divvy with edu=$VMM --kernel $RIG_KERNEL/vmlinuz --initrd $initrd --cmdline '$append' --memory ${mib}M --iommu type1 --vfio $EDU"
	"QEMU q35=$qemu" "QEMU q35 with edu=$qemu -device vfio-pci,host=$EDU")
[ ! -x "$lkvm" ] || vmms+=("kvmtool=$lkvm run --kernel $RIG_KERNEL/vmlinuz --initrd $initrd --params '$append' --mem $mib --cpus 1 --console serial --network mode=none"
	"kvmtool with edu=$lkvm run --kernel $RIG_KERNEL/vmlinuz --initrd $initrd --params '$append' --mem $mib --cpus 1 --console serial --network mode=none --vfio-pci=$EDU")
tests/bench/vmms --line 'rig: init' --runs "$BENCH_RUNS" --memory $mib --label "type1" --errors "$RIG_JOB/errors" "${vmms[@]}" >>"$RIG_JOB/results" || fail "vmms: exit status $?"

echo 160 >/proc/sys/vm/nr_hugepages
for kind in type1 iommufd; do
	vfio_stack $kind
	assign $EDU
	"$RIG_BUILD/tests/bench/bench_dma" $EDU $kind 256 >>"$RIG_JOB/results" || fail "bench_dma $kind: exit status $?"
done
echo 0 >/proc/sys/vm/nr_hugepages
cat "$RIG_JOB/results"
