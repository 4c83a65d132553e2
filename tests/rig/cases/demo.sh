# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: what `make demo` shows: the boot, the devices, the isolation proof, the screen
# limit: 500
# demo: iommufd
say() { printf '\n== %s\n' "$*"; }
mkfifo /tmp/canary.in
exec 9<>/tmp/canary.in
build/rig/bin/canary 300 </tmp/canary.in >/tmp/canary.out &
canary=$!
until [ -s /tmp/canary.out ]; do kill -0 $canary || fail "no canary"; sleep 0.1; done
pa=$(head -n 1 /tmp/canary.out)
token=demo-$RANDOM

say "On the host: what can be assigned"
"$DIVVY" list devices
for f in $E1000E $NVME $DISPLAY_CARD $EDU; do "$DIVVY" bind $f || fail "divvy bind $f"; done
"$DIVVY" precheck $NVME

say "The VMM's command line"
echo "divvy-vmm --kernel vmlinuz --initrd guest.img --cpus 2 --memory $MEMORY --vfio $E1000E --vfio $NVME --vfio $DISPLAY_CARD --vfio $EDU"
say "The guest: Debian's own kernel, unmodified"
CPUS=2 QUIET="console=ttyS0 panic=-1" FASTER="" KERNEL=$RIG_KERNEL/vmlinuz APPEND="rig.token=$token rig.pa=$pa" \
	vm_boot guest pci,edu,e1000e,nvme,display,wait,edu_attack poweroff \
	--vfio $E1000E --vfio $NVME --vfio $DISPLAY_CARD --vfio $EDU --iommu "$RIG_VARIANT"
tail -n +1 -s 0.5 -f --pid=$vm_pid "$RIG_JOB/guest.console" | sed -u 's,^[0-9.]* ,,' &
follow=$!
guest_wait 'rig: waiting' 300
check_display "$RIG_JOB/screen.ppm"
guest_say go
vm_end
wait $follow

say "What that showed"
guest_ok
times_of_boot
check_edu
check_e1000e
check_nvme "$token"
grep -o 'info: .*reset (.*' "$RIG_JOB/guest.err" | sed 's/^info: /VMM: /'

say "Isolation: the guest told its device to write to the host's physical address $pa"
dmesg | grep -E 'DMAR: \[DMA' | tee /tmp/faults
grep -q "DMA Write.*fault addr $pa " /tmp/faults || fail "the host's log has no fault of that write"
echo check >&9
wait $canary || fail "the canary is not intact: $(tail -n 1 /tmp/canary.out)"
all_unpinned
note "The IOMMU stopped it, and the host's page there is intact; every page is unpinned again."
sed -nE 's/.*info: time: ([a-z]+) +([0-9.]+) ms.*/vmm_\1_ms \2/p' "$RIG_JOB/guest.err" >>"$RIG_JOB/times"
