# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: render processes killed in mid-work, a dozen times: the guest sees its device lost, goes on with the next, and nothing is left behind
# full: once
# limit: 2400
. tests/rig/vgpu.sh

vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3
echo "rig: ready"
round=0
while read -r word && [ "$word" = go ]; do
	round=$((round + 1))
	timeout 60 ./vkload load --iterations 50 --seconds 30 >/dev/null 2>&1
	echo "rig: round $round status $?"
	./vkload frame --frames 1 --width 64 --height 64 | sed "s/^/rig: after $round /"
done
SCRIPT

counts() { # of a process: descriptors, mappings
	echo "$(ls "/proc/$1/fd" | wc -l) $(wc -l <"/proc/$1/maps")"
}
frame=$("$RIG_BUILD/tests/live/vkload" frame --frames 1 --width 64 --height 64 | sed 's/.*"hash":"\([0-9a-f]*\)".*/\1/')
vgpu_serve vgpu --embedded --share 50% -- --window 256M
vgpu_guest guest vgpu
guest_wait 'rig: ready' 1800
server=$(pgrep -xo divvy-vgpu) # its warden is younger
# Workers are the render server's children, and like it but for that.
workers() {
	local one parent
	for one in $(pgrep -f virgl_render_server); do
		parent=$(sed -n 's/^PPid:\s*//p' "/proc/$one/status" 2>/dev/null) || continue
		! grep -q virgl_render_server "/proc/$parent/cmdline" 2>/dev/null || echo "$one"
	done
}
for round in {1..12}; do
	for _ in {1..100}; do [ -n "$(workers)" ] || break; sleep 0.2; done
	[ -z "$(workers)" ] || fail "round $round: the last round's worker is still there"
	guest_say go
	for _ in {1..300}; do
		worker=$(workers | head -n 1)
		[ -z "$worker" ] || break
		sleep 0.2
	done
	[ -n "$worker" ] || fail "round $round: there is no render worker"
	sleep "$((RANDOM % 3)).$((RANDOM % 10))"
	kill -KILL "$worker" || fail "round $round: the worker was gone before it was killed"
	guest_wait "rig: round $round status [1-9]" 200
	guest_wait "rig: after $round .*\"hash\":\"$frame\"" 200
	# The program has drawn, and is about to end: what it had in the window goes with it.
	for _ in {1..100}; do [ -n "$(workers)" ] || break; sleep 0.2; done
	sleep 1
	after="$(counts "$server") $(counts "$vm_pid")"
	[ "$round" -gt 2 ] || before=$after
	note "round $round: $after"
done
note "descriptors and mappings of the vGPU, and of the VMM: $before after the second round, $after after the twelfth"
# Heaps grow and shrink by a mapping or two.
read -r fds maps vmm_fds vmm_maps <<<"$before"
read -r fds_now maps_now vmm_fds_now vmm_maps_now <<<"$after"
[ "$fds_now $vmm_fds_now" = "$fds $vmm_fds" ] && [ "$maps_now" -le $((maps + 4)) ] && [ "$vmm_maps_now" -le $((vmm_maps + 4)) ] ||
	fail "something was left behind"
guest_say end
vm_end
vgpu_end vgpu
note "a render worker killed in mid-work 12 times: the guest's program saw its device lost, the next one drew as ever"
