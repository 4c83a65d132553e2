# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: the second half of what `make demo` shows: two guests share one GPU by 3:1, the table of who has what, their screens
# limit: 900
# demo: once
. tests/rig/vgpu.sh
say() { printf '\n== %s\n' "$*"; }

# Each draws a picture by Vulkan, puts it on its screen and says there who it is, and then loads the GPU as much as it can.
vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3
device=$(vulkaninfo --summary 2>&1 | sed -n 's/^[[:space:]]*deviceName[[:space:]]*= //p')
./vkload frame --frames 1 --width 640 --height 480 --save /tmp/frame | sed "s/^/rig: frame /"
name=$(sed -n 's/.*\bdemo\.name=\([^ ]*\).*/\1/p' /proc/cmdline)
printf '\033[2J\033[H\033[?25l' >/dev/tty1
sleep 2 # what was said before is off the screen
stride=$(cat /sys/class/graphics/fb0/stride)
dd if=/tmp/frame of=/dev/fb0 bs=$stride conv=notrunc 2>/dev/null
printf '\n  %s: Debian %s, Linux %s\n  %s\n' "$name" "$(cat /etc/debian_version)" "$(uname -r)" "$device" >/dev/tty1
echo "rig: ready"
read -r iterations seconds
./vkload load --iterations $iterations --seconds $seconds --in-flight 4 | sed "s/^/rig: load /"
SCRIPT

iterations=$(taskset -c 1 "$RIG_BUILD/tests/live/vkload" load --job 50 --jobs 5 | sed 's/.*"iterations":\([0-9]*\).*/\1/')
[ "${iterations:-0}" -gt 0 ] || fail "a job could not be measured"
say "The arbiter shares out the GPU (lavapipe, on one of this host's two processors); two vGPUs, weights 300 and 100"
taskset -c 1 "$DIVVY" arbiter --socket /tmp/arbiter --trace "$RIG_JOB/turns.csv" >"$RIG_JOB/arbiter.log" 2>&1 &
arbiter_pid=$!
for _ in {1..100}; do [ ! -S /tmp/arbiter ] || break; sleep 0.1; done
VGPU_CPUS=1
declare -A weights=([desk1]=300 [desk2]=100) pids inputs
for name in desk1 desk2; do
	echo "divvy run-native --weight ${weights[$name]} --memory-quota 256M --name $name -- divvy-vgpu --socket /tmp/$name.sock --control /tmp/$name.ctl --heads 640x480"
	vgpu_serve $name --socket /tmp/arbiter --weight "${weights[$name]}" --memory-quota 256M -- --heads 640x480 --window 256M
done

say "Two stock Debian guests: its own kernel, its own Mesa, nothing of Divvy's"
echo "divvy-vmm --kernel vmlinuz --initrd initrd.img --disk root.img,readonly --memory 768M --vfio-user /tmp/desk1.sock"
began=$EPOCHREALTIME
FASTER_ONCE=$FASTER
for name in desk1 desk2; do
	FASTER="$FASTER_ONCE demo.name=$name" vgpu_guest $name $name
	taskset -pac 0 $vm_pid >/dev/null
	pids[$name]=$vm_pid inputs[$name]=$vm_in
done
for name in desk1 desk2; do
	vm=$name vm_pid=${pids[$name]}
	guest_wait 'rig: ready' 800
	guest_facts
done
record shared_boot_s "$(seconds_since "$began")"

# triangle FILE - it is in the picture: red, green or blue alone is in no letter of a console
triangle() {
	pngtopnm "$1" | python3 -c '
import sys
magic, size, most, pixels = sys.stdin.buffer.read().split(b"\n", 3)
found = sum(1 for i in range(0, len(pixels), 3) if max(pixels[i:i + 3]) - min(pixels[i:i + 3]) > 80)
sys.exit(found < 5000)'
}
say "Their screens, by the vGPUs' control sockets"
for name in desk1 desk2; do
	# The guest's kernel shows what was written to its frame buffer when it comes to it.
	for try in {1..60}; do
		curl -sf --unix-socket "/tmp/$name.ctl" http://vgpu/api/v1/vgpu.screenshot/0 -o "$RIG_JOB/$name.png" || fail "no screenshot of $name"
		! triangle "$RIG_JOB/$name.png" || break
		[ "$try" -lt 60 ] || fail "$name's screen shows no triangle ($RIG_JOB/$name.png)"
		sleep 1
	done
	echo "$name: $(pngtopnm "$RIG_JOB/$name.png" | pnmfile | cut -f2-)"
done

say "Both load it as much as they can"
for name in desk1 desk2; do echo "$iterations 60" >&"${inputs[$name]}"; done
sleep 8
used() { "$DIVVY" vgpus --json --socket /tmp/arbiter | python3 -c '
import json, sys
print(*(v["engines"]["graphics"]["used_ns"] for v in sorted(json.load(sys.stdin)["vgpus"], key=lambda v: v["name"])))'; }
read -r one two <<<"$(used)"
for _ in 1 2 3; do
	sleep 10
	"$DIVVY" vgpus --socket /tmp/arbiter
	read -r one_now two_now <<<"$(used)"
	part=$(awk -v a=$((one_now - one)) -v b=$((two_now - two)) 'BEGIN { printf "%.1f", 100 * a / (a + b) }')
	echo "  of the GPU's time since the load began desk1 had $part %, weights say 75 %"
done
record shared_heavier_percent "$part"
awk -v a="$part" 'BEGIN { exit !(a >= 65 && a <= 85) }' || fail "desk1 had $part %, not 75"
for name in desk1 desk2; do
	vm=$name vm_pid=${pids[$name]} vm_in=${inputs[$name]}
	# An emulated machine in an emulated one: it was seen to start anew by itself, once (docs/rig.md).
	[ "$(grep -c 'rig: ready' "$RIG_JOB/$name.console")" = 1 ] || { echo "FAIL: $name started anew by itself"; exit 75; }
	vm_end
	guest_facts | grep load | sed -E "s/.*(\"jobs\":[0-9]*).*/  $name did \1/"
	vgpu_end $name
done
kill -TERM $arbiter_pid
wait $arbiter_pid || fail "the arbiter ended with $?"
