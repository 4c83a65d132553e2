# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: an ordinary Debian guest with a vGPU: its console on two heads, Vulkan by Venus with the quota as its heap, under a share
# full: once
# limit: 2400
#
# The guest is tools/guest-image's, which has to be there: making it takes the machine that the rig's host is played on.
# Two machines that are emulated, one in the other: minutes pass between the guest's words.
GUEST_SILENCE_LIMIT=1200

image=$(ls -d "$DIVVY_CACHE"/guest-trixie-*/root.img 2>/dev/null | grep -v partial | head -n 1)
[ -n "$image" ] || fail "no guest image in $DIVVY_CACHE (next: tools/guest-image)"
image=$(dirname "$image")

# What the guest does; what is said of Vulkan is said of Venus alone.
mkdir /tmp/job
cat >/tmp/job/job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json
echo "rig: heads $(ls -d /sys/class/drm/card*-* | wc -l) modes $(cat /sys/class/drm/card*-*/modes 2>/dev/null | head -n 1)"
dmesg | grep -E '\[drm\].*(Host memory window|features|number of)' | sed 's/^/rig: /'
vulkaninfo --summary 2>&1 | sed -n 's/^[[:space:]]*\(deviceName\|driverName\|driverInfo\|apiVersion\)[[:space:]]*=/rig: vulkan \1/p'
for words in "memory" "frame --frames 2 --width 320 --height 200" "load --jobs 20 --iterations 50" "load --jobs 20 --iterations 50 --submit2"; do
	timeout 300 ./vkload $words | sed "s/^/rig: vkload /"
done
echo "rig: waiting"
read -r word
echo "rig: END"
SCRIPT
chmod +x /tmp/job/job
cp "$RIG_BUILD/tests/live/vkload" /usr/lib/x86_64-linux-gnu/libjansson.so.4 /tmp/job
tar --format=ustar -C /tmp/job -cf /tmp/job.tar .

export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json
host_frame=$("$RIG_BUILD/tests/live/vkload" frame --frames 2 --width 320 --height 200 | sed 's/.*"hash":"\([0-9a-f]*\)".*/\1/')
"$DIVVY" run-native --embedded --share 50% --memory-quota 512M -- "$RIG_BUILD/divvy-vgpu" --socket /tmp/vgpu.sock --control /tmp/vgpu.ctl \
	--heads 1280x800,1024x768 --window 256M >"$RIG_JOB/vgpu.log" 2>&1 &
vgpu_pid=$!
for _ in {1..300}; do [ ! -S /tmp/vgpu.sock ] || break; sleep 0.2; done
[ -S /tmp/vgpu.sock ] || fail "the vGPU does not listen: $(tail -n 1 "$RIG_JOB/vgpu.log")"

vm_start guest --kernel "$image/vmlinuz" --initrd "$image/initrd.img" \
	--cmdline "console=tty0 console=ttyS0 root=/dev/vda ro panic=-1 $FASTER init=/usr/lib/divvy/guest-run divvy.run=job" \
	--log-level debug --cpus 1 --memory 1G --serial stdio --disk "$image/root.img,readonly" --disk /tmp/job.tar,readonly --vfio-user /tmp/vgpu.sock
guest_wait 'divvy-guest: begin' 1500
guest_wait 'rig: waiting' 900
guest_facts
expect 'heads 2 modes 1280x800'
expect 'vulkan deviceName .*Virtio-GPU Venus \(llvmpipe'
expect 'vulkan driverName .*venus'
expect 'vkload .*"mode":"memory".*"heaps":\[\{"size":536870912,'
expect 'vkload .*"mode":"load".*"jobs":20,'
[ "$(guest_value 'vkload .*"hash":"([0-9a-f]+)"')" = "$host_frame" ] || fail "the guest drew other pixels than the host ($host_frame)"
for head in 0 1; do
	curl -sf --unix-socket /tmp/vgpu.ctl "http://vgpu/api/v1/vgpu.screenshot/$head" -o "$RIG_JOB/head$head.png" || fail "no screenshot of head $head"
done
guest_say on
guest_wait 'divvy-guest: end 0' 120
vm_end
kill -TERM $vgpu_pid
wait $vgpu_pid || fail "the vGPU ended with $?: $(tail -n 1 "$RIG_JOB/vgpu.log")"
! grep -q never-registered "$RIG_JOB/vgpu.log" || fail "its render workers never registered: $(tail -n 1 "$RIG_JOB/vgpu.log")"
for head in 0 1; do
	# Letters on black: neither nothing nor everything is lit.
	lit=$(pngtopnm "$RIG_JOB/head$head.png" | ppmtopgm | pgmhist | awk '$1 > 100 { n += $2 } END { print n + 0 }')
	[ "$lit" -gt 500 ] || fail "head $head shows no console: $lit lit pixels"
done
note "a Debian guest drove a vGPU of the host: two heads, Vulkan by Venus, the layer registered"
