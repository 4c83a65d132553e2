# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: an ordinary Debian guest with a vGPU: its console on two heads, somebody types at it, Vulkan by Venus with the quota as its heap, the host's pixels
# full: once
# limit: 2400
. tests/rig/vgpu.sh

# What is said of Vulkan is said of Venus alone.
vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3
echo "rig: heads $(ls -d /sys/class/drm/card*-* | wc -l) modes $(cat /sys/class/drm/card*-*/modes 2>/dev/null | head -n 1)"
dmesg | grep -E '\[drm\].*(Host memory window|features|number of)' | sed 's/^/rig: /'
vulkaninfo --summary 2>&1 | sed -n 's/^[[:space:]]*\(deviceName\|driverName\|driverInfo\|apiVersion\)[[:space:]]*=/rig: vulkan \1/p'
for words in "memory" "frame --frames 2 --width 320 --height 200" "load --jobs 20 --iterations 50" "load --jobs 20 --iterations 50 --submit2"; do
	timeout 300 ./vkload $words | sed "s/^/rig: vkload /"
done
echo "rig: input $(cat /sys/class/input/event*/device/name | grep -c Divvy)"
echo "rig: type now"
read -r typed </dev/tty1
echo "rig: typed $typed"
echo "rig: waiting"
read -r word
SCRIPT

host_frame=$("$RIG_BUILD/tests/live/vkload" frame --frames 2 --width 320 --height 200 | sed 's/.*"hash":"\([0-9a-f]*\)".*/\1/')
vgpu_serve vgpu --embedded --share 50% --memory-quota 512M -- --heads 1280x800,1024x768 --window 256M --input
vgpu_guest guest vgpu --vfio-user /tmp/vgpu.sock.keyboard --vfio-user /tmp/vgpu.sock.pointer --vfio-user /tmp/vgpu.sock.touch
guest_wait 'divvy-guest: begin' 1500
guest_wait 'rig: type now' 900
curl -sf -X PUT --unix-socket /tmp/vgpu.ctl -d '{"text": "It works: {a} [b] ~\n"}' http://vgpu/api/v1/vgpu.text || fail "nothing can be typed"
guest_wait 'rig: waiting' 300
guest_facts
expect 'input 3'
expect 'typed It works: \{a\} \[b\] ~'
expect 'heads 2 modes 1280x800'
expect 'vulkan deviceName .*Virtio-GPU Venus \(llvmpipe'
expect 'vulkan driverName .*venus'
expect 'vkload .*"mode":"memory".*"heaps":\[\{"size":536870912,'
expect 'vkload .*"mode":"load".*"jobs":20,'
[ "$(guest_value 'vkload .*"hash":"([0-9a-f]+)"')" = "$host_frame" ] || fail "the guest drew other pixels than the host ($host_frame)"
for head in 0 1; do
	curl -sf --unix-socket /tmp/vgpu.ctl "http://vgpu/api/v1/vgpu.screenshot/$head" -o "$RIG_JOB/head$head.png" || fail "no screenshot of head $head"
	# Letters on black: neither nothing nor everything is lit.
	lit=$(pngtopnm "$RIG_JOB/head$head.png" | ppmtopgm | pgmhist | awk '$1 > 100 { n += $2 } END { print n + 0 }')
	[ "$lit" -gt 500 ] && [ "$lit" -lt 300000 ] || fail "head $head shows no console: $lit lit pixels"
done
guest_say on
guest_wait 'divvy-guest: end 0' 120
vm_end
vgpu_end vgpu
note "a Debian guest drove a vGPU of the host: its console on two heads, keyboard, pointer and touch screen, Vulkan by Venus with 512 MiB, the host's pixels, the layer registered"
