# SPDX-License-Identifier: Apache-2.0
"""Vulkan in a stock guest: Mesa's Venus, its window served by messages, since a stock QEMU cannot map it (docs/mdev.md)."""

import json
import time

from guestvm import BUILD, Failure, case
from vkload import LAVAPIPE, PROGRAM, natively, program

CONTEXTS = 20
FRAME = "frame --frames 1 --width 64 --height 64"  # every pixel that is read in the guest is a message
# A share of the CPU's own Vulkan.
SHARE = ("env", f"VK_DRIVER_FILES={LAVAPIPE}", f"{BUILD}/divvy", "run-native", "--embedded", "--share", "50%",
         "--memory-quota", "1G", "--")


def rendering(bench, **how):
    vgpu = bench.vgpu(["1280x800"], options=("--window", "1G"), wrapper=SHARE)
    return bench.guest(vgpu, **how).ready(), vgpu


@case("contexts", sets="full")
def contexts(bench):
    """20 Vulkan programs, one after the other: each finds the vGPU, none hangs"""
    guest, _ = rendering(bench)
    taken = []
    for i in range(CONTEXTS):
        begin = time.monotonic()
        said = guest.sh("timeout 60 vulkaninfo --summary 2>&1", limit=90, status=None)
        if "Virtio-GPU Venus" not in said:
            raise Failure(f"program {i + 1} of {CONTEXTS}: {said[-300:] or 'nothing for 60 s'}")
        taken.append(time.monotonic() - begin)
    bench.note(f"{min(taken):.1f} to {max(taken):.1f} s each")
    guest.power_off()


@case("vulkan", sets="full")
def vulkan(bench):
    """what submissions promise, and a load, with results checked (tests/live's program in the guest)"""
    guest, _ = rendering(bench, files=program())
    memory = json.loads(guest.sh(PROGRAM + "memory 2>/dev/null"))
    if [heap["size"] for heap in memory["heaps"]] != [1 << 30]:
        raise Failure(f"the quota is 1 GiB, the guest's heaps are {memory['heaps']}")
    load = json.loads(guest.sh(PROGRAM + "load --job 10 --seconds 5 2>/dev/null", limit=120))
    if load["jobs"] < 1 or load["missed"]:
        raise Failure(f"the load: {load}")
    begin = time.monotonic()
    lines = guest.sh(PROGRAM + "test 2>&1", limit=600, status=None).splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    total = next((json.loads(line) for line in lines if line.startswith("{")), None)
    if failed or not total or total["failed"] or total["passed"] < 20:
        raise Failure("; ".join(failed) or f"no good end: {lines[-3:]}")
    bench.note(f"{load['jobs']} jobs in the load; {total['passed']} tests passed, {total['left_out']} left out, {time.monotonic() - begin:.0f} s")
    guest.power_off()


@case("frame", sets="full")
def frame(bench):
    """a frame drawn in the guest, under a share, has the same pixels as one drawn natively"""
    native = natively(FRAME)
    guest, _ = rendering(bench, files=program())
    drawn = json.loads(guest.sh(PROGRAM + FRAME + " 2>/dev/null", limit=60))
    if not drawn["device"].startswith("Virtio-GPU Venus (") or drawn["hash"] != native["hash"]:
        raise Failure(f"in the guest {drawn}, natively {native}")
    bench.note(f"{drawn['hash']} in {drawn['seconds']:.1f} s, natively in {native['seconds']:.3f} s")
    errors = guest.sh("dmesg | grep 'virtio_gpu.*ERROR' || true")
    if errors:
        raise Failure(f"the guest's kernel says: {errors}")
    guest.power_off()
