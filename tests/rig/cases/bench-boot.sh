# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: measures: exec to first instruction and to init, memory, cost of an exit, beside QEMU and (build/rig/bin/lkvm) kvmtool
# demo: once
# limit: 850
# What is measured is in $RIG_JOB/results; tests/bench/run shows it.
lkvm=$PWD/build/rig/bin/lkvm initrd=$RIG_GUEST mib=256
append="$QUIET $FASTER rig.do=exit_cost,wait rig.then=poweroff"
BENCH_RUNS=${BENCH_RUNS:-3}

divvy() { echo "divvy=$VMM --kernel $1 --initrd $initrd --cmdline '$append' --memory ${mib}M"; }
kvmtool() {
	[ ! -x "$lkvm" ] || echo "kvmtool=$lkvm run --kernel $1 --initrd $initrd --params '$append' --mem $mib --cpus 1 --console serial --network mode=none --rng"
}
qemu() { # NAME KERNEL ARGS
	echo "QEMU $1=qemu-system-x86_64 -nodefaults -no-user-config -nographic -no-reboot -accel kvm -cpu host -smp 1 -m ${mib}M" \
		"-object memory-backend-memfd,id=ram,size=${mib}M,share=on -M $1,memory-backend=ram -serial stdio -kernel $2 -initrd $initrd -append '$append' $3"
}
measure() { # LABEL ARGS
	local label=$1
	shift
	tests/bench/vmms --memory $mib --label "$label" --errors "$RIG_JOB/errors" "$@" >>"$RIG_JOB/results" || fail "vmms: exit status $?"
}

cp "$RIG_KERNEL/vmlinux" "$RIG_KERNEL/vmlinuz" /run/ # read once, not through the share each time
tests/bench/mkfirst /run/first
mapfile -t all < <(divvy /run/first; kvmtool /run/first; qemu q35 /run/first "-device virtio-rng-pci")
measure "an image that says so at once" --line first --runs 7 "${all[@]}"

init=(--line 'rig: init' --then 'rig: exit cost ,MMIO read; exit and back,ns' --runs "$BENCH_RUNS")
mapfile -t all < <(divvy /run/vmlinuz; kvmtool /run/vmlinuz; qemu q35 /run/vmlinuz "-device virtio-rng-pci")
measure "bzImage" "${init[@]}" "${all[@]}"
mapfile -t all < <(divvy /run/vmlinux; qemu q35 /run/vmlinux "-device virtio-rng-pci"; qemu microvm /run/vmlinux "-device virtio-rng-device")
measure "ELF kernel" "${init[@]}" "${all[@]}"

[ -x "$lkvm" ] || echo '{"name": "kvmtool", "skipped": "LKVM=PATH names no built lkvm"}' >>"$RIG_JOB/results"
rm /run/vmlinux /run/vmlinuz /run/first
cat "$RIG_JOB/results"
