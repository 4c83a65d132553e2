# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: measures: Vulkan by Venus in a Debian guest, in divvy-vmm with a vGPU beside QEMU's own virtio-gpu-gl
# demo: once
# limit: 1800
# What is measured is in $RIG_JOB/results; tests/bench/run shows it. QEMU's needs its OpenGL modules (a Debian package of their own), libEGL, and
# a render node, although Venus draws nothing by OpenGL: the modules are in build/rig/gl (tests/bench/run), the node is vgem's.
. tests/rig/vgpu.sh

vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3
echo "rig: ready"
for round in 1 2; do
	./vkload measure --chunk 8 2>&1 | sed "s/^/rig: /"
done
SCRIPT

gl=$PWD/build/rig/gl/usr/lib/x86_64-linux-gnu
skip() { echo "{\"name\": \"$1\", \"skipped\": \"$2\"}" >>"$RIG_JOB/results"; }
# figures WHO - medians of what its guest said, as results
figures() {
	sed -n 's/^[0-9.]* rig: \({.*"mode":"measure".*\)/\1/p' "$RIG_JOB/$vm.console" | python3 -c '
import json, statistics, sys
runs = [json.loads(line) for line in sys.stdin]
if not runs:
    sys.exit(1)
words = {"submit_us": ("a submission and its fence", "us"), "write_gib_s": ("written to mapped memory", "GiB/s"), "read_gib_s": ("read from it", "GiB/s"),
         "upload_gib_s": ("written, and copied by the device", "GiB/s"), "download_gib_s": ("copied by the device, and read", "GiB/s")}
for key, (name, unit) in words.items():
    values = sorted(value for run in runs for value in run[key])
    print(json.dumps({"name": f"{name}: {sys.argv[1]}", "unit": unit, "median": statistics.median(values), "min": values[0], "max": values[-1], "runs": len(values)}))
    with open(sys.argv[2], "a", encoding="utf-8") as f:
        print(key, statistics.median(values), file=f)
' "$1" "$RIG_JOB/medians-$vm" >>"$RIG_JOB/results"
}

vgpu_serve vgpu --embedded -- --window 256M
vgpu_guest divvy vgpu
guest_wait 'divvy-guest: end' 900
vm_end
figures "divvy-vmm, a vGPU" || fail "the guest with the vGPU said nothing"
vgpu_end vgpu

# The same guest, memory, processor and disks. KVM as well; QEMU's render server is virglrenderer's own.
peer() {
	LD_LIBRARY_PATH=$gl QEMU_MODULE_DIR=$gl/qemu LIBGL_DRIVERS_PATH=$gl/dri __EGL_VENDOR_LIBRARY_FILENAMES=$gl/../../share/glvnd/egl_vendor.d/50_mesa.json VMM=qemu-system-x86_64 vm_start qemu -nodefaults -no-user-config -M q35,memory-backend=ram -accel kvm -cpu host -smp 1 -m 768M \
		-object memory-backend-memfd,id=ram,size=768M,share=on -display egl-headless,rendernode="$1" -monitor none -serial stdio -no-reboot \
		-device virtio-gpu-gl-pci,venus=on,blob=on,hostmem=256M -kernel "$guest_image/vmlinuz" -initrd "$guest_image/initrd.img" \
		-append "console=ttyS0 root=/dev/vda ro panic=-1 $FASTER init=/usr/lib/divvy/guest-run divvy.run=job" \
		-drive "if=virtio,file=$guest_image/root.img,format=raw,readonly=on" -drive if=virtio,file=/tmp/job.tar,format=raw,readonly=on
}
what="QEMU's virtio-gpu-gl"
if [ ! -d "$gl/qemu" ]; then
	skip "$what" "QEMU_GL=DIR names no tree with qemu-system-modules-opengl, libegl1, libegl-mesa0, libglvnd0, libopengl0 and libgl1-mesa-dri"
elif ! modprobe -d "$RIG_KERNEL" vgem || ! node=$(ls /dev/dri/renderD* 2>/dev/null | head -n 1) || [ -z "$node" ]; then
	skip "$what" "there is no render node, and no vgem that would be one"
else
	peer "$node"
	for _ in {1..4000}; do vm_alive && ! guest_has 'divvy-guest: end' || break; sleep 0.25; done
	vm_alive && vm_wait 300
	if figures "QEMU, virtio-gpu-gl"; then
		paste -d ' ' "$RIG_JOB/medians-divvy" "$RIG_JOB/medians-qemu" | while read -r key ours _ theirs; do
			awk -v k="$key" -v a="$ours" -v b="$theirs" 'BEGIN { r = a / b; printf "{\"name\": \"divvy : QEMU, %s\", \"unit\": \"\", \"median\": %.4g, \"min\": %.4g, \"max\": %.4g, \"runs\": 1}\n", k, r, r, r }'
		done >>"$RIG_JOB/results"
	else
		skip "$what" "$(tail -n 1 "$RIG_JOB/qemu.err" | tr -d '"\\' | cut -c1-200)"
	fi
fi
cat "$RIG_JOB/results"
