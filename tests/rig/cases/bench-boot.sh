# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: measures: exec to the guest's first line, memory, cost of an exit, beside QEMU and (build/rig/bin/lkvm) kvmtool
# demo: once
# limit: 850
# What is measured is in $RIG_JOB/results; tests/bench/run shows it.
lkvm=$PWD/build/rig/bin/lkvm initrd=$RIG_IMAGES/guest.img mib=256
append="$QUIET $FASTER rig.do=exit_cost,wait rig.then=poweroff"
qemu="qemu-system-x86_64 -nodefaults -no-user-config -nographic -no-reboot -accel kvm -cpu host -smp 1 -m ${mib}M \
-object memory-backend-memfd,id=ram,size=${mib}M,share=on -serial stdio -initrd $initrd -append '$append'"
rng="-device virtio-rng-pci"

vmms() { # LABEL KERNEL NAME=COMMAND... - KERNEL is put where a command says @
	local label=$1 kernel=$2
	shift 2
	tests/bench/vmms --line 'rig: init' --then 'rig: exit cost ,MMIO read; exit and back,ns' --runs "$BENCH_RUNS" --memory $mib --label "$label" \
		--errors "$RIG_JOB/errors" "${@//@/$kernel}" >>"$RIG_JOB/results" || fail "vmms: exit status $?"
}
BENCH_RUNS=${BENCH_RUNS:-3}
cp "$RIG_KERNEL/vmlinux" "$RIG_KERNEL/vmlinuz" /run/ # read once, not through the share each time
divvy="divvy=$VMM --kernel @ --initrd $initrd --cmdline '$append' --memory ${mib}M"
peers=()
[ ! -x "$lkvm" ] || peers=("kvmtool=$lkvm run --kernel @ --initrd $initrd --params '$append' --mem $mib --cpus 1 --console serial --network mode=none --rng")
vmms "ELF kernel" /run/vmlinux "$divvy" "QEMU q35=$qemu -M q35,memory-backend=ram $rng -kernel @" \
	"QEMU microvm=$qemu -M microvm,memory-backend=ram -device virtio-rng-device -kernel @"
vmms "bzImage" /run/vmlinuz "$divvy" "${peers[@]}" "QEMU q35=$qemu -M q35,memory-backend=ram $rng -kernel @"
[ ${#peers[@]} -gt 0 ] || echo '{"name": "kvmtool", "skipped": "LKVM=PATH names no built lkvm"}' >>"$RIG_JOB/results"
rm /run/vmlinux /run/vmlinuz
cat "$RIG_JOB/results"
