# SPDX-License-Identifier: Apache-2.0
"""Memory: what is granted, and what is reported."""

import json
import time

from liverun import Failure, case

MIB = 1 << 20


def filled(program):
    """What `vkload memory` said, once it has said it."""
    for line in program.text().splitlines():
        if line.startswith("{"):
            return json.loads(line)
    raise Failure(f"{program.name} reported nothing{program.why()}")


def fill(live, name, vgpu, quota_mib, chunk_mib=16):
    return filled(live.run(name, live.vkload("memory", "--fill", "--chunk", chunk_mib, "--most", 2 * quota_mib), vgpu))


@case("memory-quota", limit=60)
def memory_quota(live):
    """nothing over the quota is granted, and heaps and budgets say so beforehand"""
    live.start_arbiter()
    for quota, chunk in ((256, 16), (256, 1), (100, 64)):
        said = fill(live, f"quota-{quota}-{chunk}", {"policy": "equal_share", "memory-quota": f"{quota}M"}, quota, chunk)
        live.check(said["refused"] == "VK_ERROR_OUT_OF_DEVICE_MEMORY", f"beyond the quota: {said['refused']}")
        live.check(said["granted_bytes"] <= quota * MIB, f"{said['granted_bytes']} bytes of {quota} MiB were granted")
        live.check(said["granted_bytes"] >= quota * MIB * 0.9 - chunk * MIB, f"only {said['granted_bytes']} bytes of {quota} MiB were granted")
        live.check(said["refilled"], "what was given back was not granted again")
        live.check(said["heaps_agree"], "the three queries report heaps of different sizes")
        for heap in said["heaps"] + said["heaps_filled"]:
            if not heap["device_local"]:
                continue
            live.check(heap["size"] == quota * MIB, f"a heap of {heap['size']} bytes is reported, not of {quota} MiB")
            live.check(0 < heap["budget"] <= heap["size"], f"a budget of {heap['budget']} in a heap of {heap['size']}")
        used = sum(h["usage"] for h in said["heaps_filled"] if h["device_local"])
        live.check(used >= said["granted_bytes"], f"{used} bytes are reported as used, {said['granted_bytes']} were granted")
    natively = fill(live, "natively", None, 256)
    live.check(natively["granted_bytes"] == 512 * MIB, "without a quota it was refused as well: the test shows nothing")


@case("memory-quota-shared", limit=60)
def memory_quota_shared(live):
    """processes of one vGPU share its quota, and the death of one gives its part back"""
    live.start_arbiter()
    vkload = " ".join(live.vkload("memory", "--fill", "--chunk", 8, "--most", 512))
    script = (f"{vkload} --hold 3 > {live.folder}/first & sleep 1.5; {vkload} > {live.folder}/second; "
              f"wait; {vkload} > {live.folder}/third")
    vgpu = {"policy": "equal_share", "memory-quota": "128M"}
    live.run("three", ["sh", "-c", script], vgpu)
    said = []
    for name in ("first", "second", "third"):
        with open(f"{live.folder}/{name}", encoding="utf-8") as f:
            said.append(json.loads(f.readline()))
    first, second, third = (s["granted_bytes"] // MIB for s in said)
    live.check(first == 128, f"the first was granted {first} MiB of 128")
    live.check(second == 0, f"the second was granted {second} MiB while the first had all 128")
    live.check(third == 128, f"after the first had ended the third was granted {third} MiB of 128")


@case("memory-of-the-killed", limit=60)
def memory_of_the_killed(live):
    """who is ended by SIGKILL gives its memory back at once"""
    live.start_arbiter()
    vkload = " ".join(live.vkload("memory", "--fill", "--chunk", 8, "--most", 512))
    script = (f"{vkload} --hold 60 > {live.folder}/first & sleep 1.5; kill -9 $!; sleep 0.5; {vkload} > {live.folder}/second")
    live.run("two", ["sh", "-c", script], {"policy": "equal_share", "memory-quota": "128M"})
    time.sleep(0.1)
    with open(f"{live.folder}/second", encoding="utf-8") as f:
        said = json.loads(f.readline())
    live.check(said["granted_bytes"] == 128 * MIB, f"the second was granted {said['granted_bytes'] // MIB} MiB of 128")
