# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the cases share. Runs inside the rig's host as root, from the top of the checkout; the harness sets
# RIG_* (tests/rig/rig) and RIG_JOB, the case's folder. A case passes when it reaches its end; `fail` says
# why not, and is the line the harness shows.
set -u

# The devices of the host (tests/rig/righost.py): one behind each root port, two functions at 05:00 and 09:00. IGB's first
# virtual function is IGB_VF once virtual_function() made it; BIG has a BAR of 4 GiB.
E1000E=0000:01:00.0 NVME=0000:02:00.0 DISPLAY_CARD=0000:03:00.0 EDU=0000:04:00.0
PAIR_NVME=0000:05:00.0 PAIR_EDU=0000:05:00.1 IGB=0000:06:00.0 IGB_VF=0000:06:10.0 BIG=0000:07:00.0
SECOND_EDU=0000:08:00.0 TWIN_EDU=0000:09:00.0 TWIN_EDU_1=0000:09:00.1 ROOT_PORT=0000:00:11.0
DEVICES="$E1000E $NVME $DISPLAY_CARD $EDU $PAIR_NVME $PAIR_EDU $IGB $BIG $SECOND_EDU $TWIN_EDU $TWIN_EDU_1"

VMM=${RIG_VMM:-$RIG_BUILD/divvy-vmm}
DIVVY=$RIG_BUILD/divvy
QUIET="console=ttyS0 quiet panic=-1"
# Saves a sixth of a boot under emulation; case "boot" does without.
FASTER="mitigations=off tsc=reliable no_timer_check"
MEMORY=${MEMORY:-256M} # all of it is zeroed and pinned when a device is assigned

note() { echo "$*"; }
fail() {
	echo "FAIL: $*"
	exit 1
}
record() { echo "$1 $2" >>"$RIG_JOB/times"; } # for build/rig/times.json
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'; }

[ -x "$VMM" ] || fail "$VMM is not there (next: make)"

# ---- devices and drivers ------------------------------------------------------------------------

driver_of() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" 2>/dev/null)" 2>/dev/null || true; }
group_of() { basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"; }

# vfio_stack KIND - load VFIO: iommufd = rebuilt with device cdevs, anything else = the stock modules
vfio_stack() {
	local want=stock have=none
	[ "$1" != iommufd ] || want=iommufd
	[ ! -e /sys/module/vfio ] || have=stock
	[ ! -e /sys/module/iommufd ] || have=iommufd
	[ "$want" != "$have" ] || return 0
	no_virtual_function
	release $DEVICES
	for m in vfio-pci vfio-pci-core vfio_iommu_type1 vfio iommufd; do
		[ ! -e "/sys/module/${m//-/_}" ] || rmmod "$m" || fail "cannot unload $m"
	done
	if [ $want = iommufd ]; then
		modprobe -d "$RIG_KERNEL" irqbypass
		for m in iommufd vfio vfio_iommu_type1 vfio-pci-core vfio-pci; do
			insmod "$RIG_KERNEL/iommufd/$m.ko" || fail "cannot load $m"
		done
	else
		modprobe -d "$RIG_KERNEL" -a vfio_iommu_type1 vfio-pci || fail "cannot load vfio-pci"
	fi
}

# bind_to DRIVER BDF... - by driver_override, as divvy does; case "bind" tests divvy's own verb
bind_to() {
	local driver=$1 f d
	shift
	for f; do
		d=/sys/bus/pci/devices/$f
		[ "$(driver_of "$f")" != "$driver" ] || continue
		[ ! -e "$d/driver" ] || echo "$f" >"$d/driver/unbind"
		echo "$driver" >"$d/driver_override"
		echo "$f" >/sys/bus/pci/drivers_probe
		[ "$(driver_of "$f")" = "$driver" ] || fail "$f does not take driver $driver"
	done
}
release() { # BDF... - no driver, no override
	local f d
	for f; do
		d=/sys/bus/pci/devices/$f
		[ ! -e "$d/driver" ] || echo "$f" >"$d/driver/unbind"
		echo >"$d/driver_override"
	done
}
assign() { bind_to vfio-pci "$@"; }

# virtual_function - the network card's first, with the host's driver on the physical one, which must be up to answer it
virtual_function() {
	local d=/sys/bus/pci/devices/$IGB
	modprobe -d "$RIG_KERNEL" igb || fail "no driver igb"
	bind_to igb $IGB
	ip link set "$(ls "$d/net")" up
	echo 0 >"$d/sriov_drivers_autoprobe"
	echo 1 >"$d/sriov_numvfs" || fail "$IGB has no virtual function"
	[ -d /sys/bus/pci/devices/$IGB_VF ] || fail "$IGB's virtual function is not $IGB_VF"
}
no_virtual_function() { [ "$(cat /sys/bus/pci/devices/$IGB/sriov_numvfs)" = 0 ] || echo 0 >/sys/bus/pci/devices/$IGB/sriov_numvfs; }

# no_slices - what case "slices" loads goes, with what it made
no_slices() {
	local f
	for f in /sys/bus/mdev/devices/*; do [ ! -e "$f/remove" ] || echo 1 >"$f/remove"; done
	for f in rig_gpu mbochs mdev; do [ ! -e /sys/module/$f ] || rmmod $f || fail "cannot unload $f"; done
}

# Pages of any process held for DMA right now; /proc/vmstat counts both ways, once CPUs have added up.
pinned() { cat /proc/sys/vm/stat_refresh 2>/dev/null; awk '/^nr_foll_pin_acquired/ { a = $2 } /^nr_foll_pin_released/ { r = $2 } END { print a - r }' /proc/vmstat; }

# machine_state - what must be the same after something was refused
machine_state() {
	(
		cd /sys/bus/pci/devices || exit
		grep -H . $(printf '%s/driver_override ' $DEVICES) $(printf '%s/enable ' $DEVICES)
		stat -c %N $(printf '%s/driver ' $DEVICES) 2>/dev/null
	)
	echo "pinned=$(pinned)"
	pgrep -l 'divvy|passt' || true
}

# ---- divvyd -----------------------------------------------------------------------------------------

# node_answers - divvyd, the process $node_pid, is waited for
node_answers() {
	for _ in {1..600}; do
		! "$DIVVY" show node >/dev/null 2>&1 || return 0
		kill -0 "$node_pid" 2>/dev/null || fail "divvyd ended: $(tail -n 1 "$RIG_JOB/divvyd.log")"
		sleep 0.2
	done
	fail "divvyd does not answer: $(tail -n 1 "$RIG_JOB/divvyd.log")"
}

# ---- the VMM and its guest ----------------------------------------------------------------------

vm=none vm_pid=0 vm_status=0 vm_in=0

stamp() { # lines get the time they came
	local line
	while IFS= read -r line || [ -n "$line" ]; do printf '%s %s\n' "$EPOCHREALTIME" "${line%$'\r'}"; done
}

# vm_start NAME ARGS... - its console goes to NAME.console, its errors to NAME.err, its input is $vm_in
vm_start() {
	vm=$1
	shift
	mkfifo "/tmp/$vm.in"
	exec {vm_in}<>"/tmp/$vm.in"
	: >"$RIG_JOB/$vm.console"
	printf '%q ' "$VMM" "$@" >"$RIG_JOB/$vm.command"
	vm_t0=$EPOCHREALTIME
	"$VMM" "$@" <"/tmp/$vm.in" > >(stamp >"$RIG_JOB/$vm.console") 2>"$RIG_JOB/$vm.err" &
	vm_pid=$!
}

# vm_boot NAME DO THEN ARGS... - the stock kernel (its ELF image: unpacking a bzImage takes long here) and the rig's guest image; DO and THEN as in rig-init.
# APPEND adds to the guest's command line, KERNEL and INITRD replace what it runs, CPUS is 1: with more, the guest patches its
# code at boot while another emulated CPU runs it, the race of kvmhold.c within the guest. Cases that are about
# several vCPUs say so.
vm_boot() {
	local name=$1 do=$2 then=$3
	shift 3
	vm_start "$name" --kernel "${KERNEL:-$RIG_KERNEL/vmlinux}" --initrd "${INITRD:-$RIG_GUEST}" \
		--cmdline "$QUIET ${FASTER:-} rig.do=$do rig.then=$then ${APPEND:-}" --log-level debug --cpus "${CPUS:-1}" --memory "$MEMORY" --serial stdio "$@"
}

# vm_stuck - what every thread of a VMM that does not get on is doing, and how KVM's counters move
vm_stuck() {
	local i t
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
	for i in 1 2; do
		for t in /proc/$vm_pid/task/*; do
			echo "$(cat "$t/comm"): $(cut -d' ' -f3,14,15 "$t/stat") in $(cat "$t/wchan" "$t/syscall" | tr '\n' ' ')"
		done
		grep -sH . /sys/kernel/debug/kvm/"$vm_pid"-*/* /sys/kernel/debug/kvm/"$vm_pid"-*/vcpu*/* | grep -v ':0$'
		sleep 2
	done >"$RIG_JOB/$vm.stuck" 2>&1
	(
		cd /sys/kernel/debug/tracing || exit
		echo 64 >buffer_size_kb
		for e in kvm_exit kvm_emulate_insn kvm_inj_exception kvm_page_fault kvm_inj_virq kvm_pio; do echo 1 >events/kvm/$e/enable; done
		sleep 1
		echo 0 >events/kvm/enable
		tail -n 120 trace
	) >>"$RIG_JOB/$vm.stuck" 2>&1
	# Told to stop, it logs where each vCPU was.
	kill -TERM "$vm_pid"
	sleep 2
}

# Emulated guests with several vCPUs now and then hang, most often while their kernel boots (docs/rig.md): a guest that
# has been silent for this long while it was waited for ends the case with a status of its own, what was found is kept,
# and the harness tries the case once more.
GUEST_SILENCE_LIMIT=150
guest_hung() { # SECONDS it was waited for
	local silent
	silent=$((EPOCHSECONDS - $(stat -c %Y "$RIG_JOB/$vm.console")))
	[ "$1" -ge $GUEST_SILENCE_LIMIT ] && [ $silent -ge $GUEST_SILENCE_LIMIT ] || return 0
	vm_log
	vm_stuck
	echo "FAIL: $vm: the guest hung: not a word for $silent s, last: $(tail -n 1 "$RIG_JOB/$vm.console" | cut -d' ' -f2- | cut -c1-100)"
	exit 75
}

vm_alive() { kill -0 "$vm_pid" 2>/dev/null; }
vm_log() { tail -n 12 -- "$RIG_JOB/$vm.err" "$RIG_JOB/$vm.console" | cut -c1-200; }

# guest_wait PATTERN SECONDS [COUNT] - until the console shows it (COUNT times)
guest_wait() {
	local t0=$SECONDS n
	while :; do
		n=$(grep -cE "$1" "$RIG_JOB/$vm.console")
		[ "$n" -lt "${3:-1}" ] || return 0
		if ! vm_alive; then
			sleep 0.5
			[ "$(grep -cE "$1" "$RIG_JOB/$vm.console")" -lt "${3:-1}" ] || return 0
			vm_log
			fail "$vm: the VMM ended before the guest said '$1': $(tail -n 1 "$RIG_JOB/$vm.err" | cut -c1-160)"
		fi
		guest_hung $((SECONDS - t0))
		[ $((SECONDS - t0)) -lt "$2" ] || { vm_log; vm_stuck; fail "$vm: the guest did not say '$1' within $2 s"; }
		sleep 0.25
	done
}
guest_say() { echo "$*" >&"$vm_in"; }
guest_has() { grep -qE "$1" "$RIG_JOB/$vm.console"; }
expect() { guest_has "$1" || { grep -a 'rig: ' "$RIG_JOB/$vm.console" | cut -d' ' -f2- ; fail "$vm: the guest did not say '$1'"; }; }
# guest_value PATTERN - what the first group of the extended regular expression matched, last time
guest_value() { sed -nE "s/^[0-9.]+ rig: $1.*/\\1/p" "$RIG_JOB/$vm.console" | tail -n 1; }
guest_ok() { ! guest_has 'rig: FAIL' || fail "$vm: $(grep -m1 -o 'rig: FAIL .*' "$RIG_JOB/$vm.console")"; }
guest_facts() { sed -n 's/^[0-9.]* rig: /  guest: /p' "$RIG_JOB/$vm.console"; }

# times_of_boot - exec to init, from the console's time stamps
times_of_boot() {
	local at
	at=$(sed -n 's/^\([0-9.]*\) .*rig: init .*/\1/p' "$RIG_JOB/$vm.console" | head -n 1)
	[ -n "$at" ] || return 0
	at=$(awk -v a="$vm_t0" -v b="$at" 'BEGIN { printf "%.2f", b - a }')
	record "${1:-exec_to_init}" "$at"
	note "exec to init: $at s (guest's own clock: $(guest_value 'init ([0-9.]+)') s)"
}

# times_of_vmm - how long the VMM says that its phases took, in the first life
times_of_vmm() {
	local phase ms
	for phase in open map reset vm place load; do
		ms=$(sed -nE "s/.*info: time: $phase +([0-9.]+) ms.*/\1/p" "$RIG_JOB/$vm.err" | head -n 1)
		[ -z "$ms" ] || record "vmm_${phase}_ms" "$ms"
		[ -z "$ms" ] || note "VMM: $phase $ms ms"
	done
}

vm_wait() { # SECONDS - until the VMM ends by itself; its exit status in vm_status
	local t0=$SECONDS
	while vm_alive; do
		guest_hung $((SECONDS - t0))
		[ $((SECONDS - t0)) -lt "$1" ] || { vm_log; vm_stuck; fail "$vm: the VMM was still running after $1 s"; }
		sleep 0.1
	done
	wait "$vm_pid"
	vm_status=$?
	exec {vm_in}>&-
	rm -f "/tmp/$vm.in"
	sleep 0.2 # the console's last line
}
vm_end() { # until it ends, as a machine that was powered off does; guest_hung comes long before
	vm_wait 400
	[ $vm_status -eq 0 ] || { vm_log; fail "$vm: exit status $vm_status: $(tail -n 1 "$RIG_JOB/$vm.err" | cut -c1-160)"; }
}

more_than_zero() { # "3 0 12": at least one vector counted
	local n
	for n in $1; do [ "$n" = none ] || [ "$n" -le 0 ] || return 0; done
	return 1
}

# refused STATUS CODE COMMAND... - ends with STATUS, says CODE and one line, and changes nothing
refused() {
	local want=$1 code=$2 before after out status
	shift 2
	before=$(machine_state)
	out=$(timeout 30 "$@" 2>&1 </dev/null)
	status=$?
	after=$(machine_state)
	note "\$ ${*//$PWD\//}"
	printf '%s\n' "$out" | sed 's/^/    /'
	[[ $status = $want ]] || fail "'$*': exit status $status, expected $want"
	printf '%s' "$out" | grep -qE -- "$code" || fail "'$*' does not say '$code'"
	[ "$(wc -l <<<"$out")" -eq 1 ] || [ "${2:-}" = precheck ] || fail "'$*' says more than one line"
	[ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after"); fail "'$*' changed the machine"; }
}

# inject ID ERROR - have QEMU's device ID (tests/rig/righost.py) report an error of PCI Express
inject() { echo "inject $1 $2" >/dev/ttyS1; }

# ---- what a guest's use of each device must have shown ------------------------------------------

# check_edu [COUNT [msi|intx]] - so many of them, used by their interrupt of that kind
check_edu() {
	local count=${1:-1} kind=${2:-msi} n
	expect '1234:11e8 .*driver divvy_edu'
	for fact in 'edu factorial 3628800' 'edu dma ok 2048' 'edu raise 100 100 ' "edu interrupts $kind [0-9]"; do
		n=$(grep -cE "rig: $fact" "$RIG_JOB/$vm.console")
		[ "$n" -ge "$count" ] || fail "$vm: the guest said '$fact' $n times, not $count"
	done
	for n in $(sed -nE "s/.*rig: edu interrupts $kind ([0-9]+).*/\1/p" "$RIG_JOB/$vm.console"); do
		[ "$n" -ge 103 ] || fail "edu: fewer interrupts ($n) than were raised"
	done
	[ "$kind" != msi ] || record edu_raise_to_handler_us "$(($(guest_value 'edu raise 100 100 ([0-9]+)') / 1000))"
	note "edu: $count used: 10! by the device, 100 of 100 interrupts ($kind), DMA both ways through the DMA API"
}

check_edu_move() {
	local answered absent
	expect 'edu_move 24 moves, 24 intact; reads: [0-9]+ answered, [0-9]+ absent, [0-9]+ narrow, 0 wrong'
	answered=$(guest_value 'edu_move .* ([0-9]+) answered') absent=$(guest_value 'edu_move .* ([0-9]+) absent')
	# One of the two addresses is the device's, the other nobody's.
	[ $((answered * 2)) -gt "$absent" ] && [ $((absent * 2)) -gt "$answered" ] || fail "edu: of the two addresses both or neither answered: $(guest_value 'edu_move (.*)')"
	no_faults
	note "edu: registers moved during transfers: $(guest_value 'edu_move (.*)')"
}

# Nothing that the guest did made a device reach for what is not its own.
no_faults() { ! dmesg | grep -E 'DMAR: \[DMA|IO_PAGE_FAULT' || fail "the IOMMU of the host reports a fault"; }

check_e1000e() {
	expect '8086:10d3 .*driver e1000e'
	check_wire e1000e "${1:-msix}"
}
check_igbvf() {
	expect '8086:10ca .*driver igbvf'
	check_wire igbvf msix
}
check_wire() { # NAME KIND
	local counts
	expect "$1 ping 3 packets transmitted, 3"
	expect "$1 interrupts $2 "
	counts=$(guest_value "$1 interrupts $2 ([0-9 ]+)")
	more_than_zero "$counts" || fail "$1: no interrupt ($2) counted anything ($counts)"
	note "$1: ping 3 of 3, interrupts ($2) counted $counts"
}

# check_nvme TOKEN [0|1 [KIND]] - the host's first or second disk, also against its image, read from outside the guest
check_nvme() {
	local n=${2:-0} kind=${3:-msix} image counts sum
	image=$RIG_DISKS/nvme$n.img
	expect '1b36:0010 .*driver nvme'
	expect "nvme rig$n magic divvy-rig-nvme-$n"
	sum=$(dd if="$image" bs=1M skip=1 count=8 status=none | md5sum | cut -c1-32)
	[ "$(guest_value "nvme rig$n md5 ([0-9a-f]+)")" = "$sum" ] || fail "nvme: the guest read other bytes than the image has ($sum)"
	expect "nvme rig$n read back written by guest $1"
	dd if="$image" bs=512 skip=8 count=1 status=none | grep -q "written by guest $1" || fail "nvme: what the guest wrote is not in the image"
	cmp -s <(dd if="$image" bs=64k skip=16 count=4 status=none) <(dd if="$image" bs=64k skip=8 count=4 status=none) ||
		fail "nvme: the 256 KiB that the guest copied differ in the image"
	counts=$(guest_value "nvme rig$n interrupts $kind ([0-9 ]+)")
	more_than_zero "$counts" || fail "nvme: no interrupt ($kind) counted anything ($counts)"
	record nvme_read_8mib_s "$(guest_value "nvme rig$n read 8 MiB in ([0-9.]+)")"
	note "nvme rig$n: 8 MiB read and 256 KiB written, equal in the image; interrupts ($kind) counted $counts"
}

# check_big TOKEN - the BAR of 4 GiB: where the guest has it, both its ends, and that its use does not leave the guest
check_big() {
	local at exits big=$RIG_DISKS/big.mem end=$((4 * 1024 * 1024 * 1024))
	at=$(guest_value 'big at (0x[0-9a-f]+) to ')
	[ -n "$at" ] && [ $((at)) -ge $end ] && [ $((at % (1024 * 1024 * 1024))) -eq 0 ] ||
		fail "the large BAR is at '$at', not above RAM at a multiple of 1 GiB"
	expect "big 4096 MiB first $1 last $1 read 1000000 in [0-9.]+ ns each\$"
	dd if="$big" bs=32 count=1 status=none | grep -qa "^$1" || fail "what the guest wrote at the BAR's start is not in the device"
	dd if="$big" bs=32 skip=$((end / 32 - 1)) status=none | grep -qa "^$1" || fail "what the guest wrote at the BAR's end is not in the device"
	exits=$(sed -n 's/.*exits: \([0-9]*\) mmio.*/\1/p' "$RIG_JOB/$vm.err" | head -n 1)
	[ "${exits:-1000000}" -lt 100000 ] || fail "$exits exits for MMIO: a million reads of the BAR left the guest"
	record bar_read_ns "$(guest_value 'big .* in ([0-9.]+) ns each')"
	note "4 GiB BAR at $at: both ends written and read, $(guest_value 'big .* in ([0-9.]+) ns each') ns a read; the guest made $exits MMIO exits in all"
}

# check_display FILE - while the guest waits with its picture on: the screen as seen from outside the host
check_display() {
	local t0=$SECONDS size
	expect '1234:1111 class 03.* driver bochs'
	expect 'display fb0 .* driver bochs'
	size=$(guest_value 'display drawn ([0-9x]+)')
	[ -n "$size" ] || fail "display: nothing was drawn"
	echo "screendump $1" >/dev/ttyS1
	until [ -e "$1" ]; do
		[ $((SECONDS - t0)) -lt 60 ] || fail "display: no screen dump"
		sleep 0.3
	done
	python3 tests/rig/picture "$1" "$size" || fail "display: the screen is not what the guest drew"
	note "display: DRM driver bound, ${size} pixels drawn by the guest are on the screen, every one"
}

all_unpinned() {
	local t0=$SECONDS
	until [ "$(pinned)" = 0 ]; do
		[ $((SECONDS - t0)) -lt 10 ] || fail "$(pinned) pages are still pinned"
		sleep 0.2
	done
}

trap 'exit 143' TERM
no_slices
no_virtual_function
[ "$RIG_VARIANT" = once ] || vfio_stack "$RIG_VARIANT"
release $DEVICES
