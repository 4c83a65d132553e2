# SPDX-License-Identifier: Apache-2.0
"""Vulkan in a stock QEMU, as far as messages carry it (docs/guests.md)."""

import json
import os
import re
import subprocess

from guestvm import BUILD, TOP, Failure, case

LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.json"
VKLOAD = f"{TOP}/{BUILD}/tests/live/vkload"
JANSSON = "/usr/lib/x86_64-linux-gnu/libjansson.so.4"
SHARE = [f"{TOP}/{BUILD}/divvy", "run-native", "--embedded", "--share", "50%", "--memory-quota", "300M", "--"]
ASK = "export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json; timeout 20 vulkaninfo 2>/tmp/vulkaninfo.err"


@case("vulkaninfo", sets="full")
def vulkaninfo(bench):
    """vulkaninfo in the guest names the host's device by Venus, and the quota of its share as its memory"""
    os.environ.setdefault("VK_DRIVER_FILES", LAVAPIPE)
    vgpu = bench.vgpu(["1280x800"], options=(), wrapper=SHARE)
    guest = bench.guest(vgpu).ready()
    # The ring can lose its wake-up where accesses are messages; then Mesa waits for good.
    for attempt in (1, 2, 3):
        said = guest.sh(ASK, limit=40, status=None)
        if "GPU0" in said:
            break
        bench.note("hung once")
    else:
        raise Failure(f"vulkaninfo hung three times: {guest.sh('tail -n 3 /tmp/vulkaninfo.err', status=None)}")
    name = re.search(r"deviceName += (.*)", said)
    heap = re.search(r"memoryHeaps\[0\]:\s+size += (\d+)", said)
    if not name or not name.group(1).startswith("Virtio-GPU Venus ("):
        raise Failure(f"the device is '{name and name.group(1)}'")
    if not heap or int(heap.group(1)) != 300 << 20:
        raise Failure(f"its heap has {heap and heap.group(1)} bytes, the share's quota is 300 MiB")
    bench.note(name.group(1))
    errors = guest.sh("dmesg | grep 'virtio_gpu.*ERROR' || true")
    if errors:
        raise Failure(f"the guest's kernel says: {errors}")


@case("vulkan", sets="full")
def vulkan(bench):
    """a frame drawn in the guest has the pixels of one drawn natively; compute jobs are done, right, under the share"""
    os.environ.setdefault("VK_DRIVER_FILES", LAVAPIPE)
    frame = ["frame", "--frames", "1", "--width", "64", "--height", "64"]
    native = json.loads(subprocess.run([VKLOAD] + frame, stdout=subprocess.PIPE, check=True, timeout=60).stdout)
    vgpu = bench.vgpu(["1280x800"], options=(), wrapper=SHARE)
    guest = bench.guest(vgpu, files={"vkload": VKLOAD, "lib/libjansson.so.4": JANSSON}).ready()

    def vkload(words, limit=40):
        # Venus on lavapipe says Vulkan 1.2 on trixie, and has what vkload needs of 1.3.
        command = ("export LD_LIBRARY_PATH=/run/divvy/lib VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3; "
                   f"timeout {limit} /run/divvy/vkload {' '.join(words)} 2>/tmp/vkload.err")
        for _ in range(3):
            said = [line for line in guest.sh(command, limit + 20, status=None).splitlines() if line.startswith("{")]
            if said:
                return json.loads(said[-1])
            bench.note(f"{words[0]} hung once")
        raise Failure(f"vkload {words[0]} ended three times without a result: {guest.sh('tail -n 3 /tmp/vkload.err', status=None)}")
    drawn = vkload(frame)
    if not drawn["device"].startswith("Virtio-GPU Venus (") or drawn["hash"] != native["hash"]:
        raise Failure(f"in the guest {drawn}, natively {native}")
    load = vkload(["load", "--jobs", "10", "--job", "2"])
    if load["jobs"] != 10:
        raise Failure(f"10 jobs were to be done: {load}")
    tests = vkload(["test", "--limit", "20", "counter-is-polled", "many-in-a-row", "fence-is-polled", "threads-share-a-queue"], 90)
    if tests["passed"] != 4:
        raise Failure(f"of 4 tests {tests}: {guest.sh('cat /tmp/vkload.err', status=None)}")
    bench.note(f"frame {drawn['hash']}; a job {load['job_ns'] / 1e6:.2f} ms")
