# SPDX-License-Identifier: Apache-2.0
"""Other people's programs under the layer: they say and draw what they do without it."""

import json
import os
import re
import shutil

from liverun import LeftOut, case

VGPU = {"policy": "equal_share", "memory-quota": "2048M"}
# What may differ: sizes, budgets and use of memory heaps, the layer itself, what no two runs share.
MAY_DIFFER = re.compile(r"^\s*(size|budget|usage)\s*=|DIVVY|Layers: count|Instance Layers|deviceUUID|^\s*Device Properties and Ext|"
                        r"pipelineCacheUUID|shaderModuleIdentifier|^\s*\(0x|Layer Extensions|Layer-Device Extensions")


def without_layers(text):
    """vulkaninfo's output without the section about layers, and without what may differ."""
    text = re.sub(r"^Layers: count.*?(?=^(Presentable Surfaces|Device Groups|Device Properties and Features))", "", text, flags=re.M | re.S)
    return [line.rstrip() for line in text.splitlines() if not MAY_DIFFER.search(line)]


@case("vulkaninfo", limit=60)
def vulkaninfo(live):
    """reports the same device, but for the sizes of its heaps"""
    if not shutil.which("vulkaninfo"):
        raise LeftOut("vulkaninfo is not installed")
    native = live.run("natively", ["vulkaninfo"]).text()
    live.start_arbiter()
    under = live.run("under", ["vulkaninfo"], VGPU).text()
    a, b = without_layers(native), without_layers(under)
    live.check(len(a) > 200, "vulkaninfo reports next to nothing natively")
    new = [line for line in b if line not in set(a)]
    gone = [line for line in a if line not in set(b)]
    live.check(not new and not gone, f"under the layer new: {new[:5]}, gone: {gone[:5]}")
    heap = re.search(r"memoryHeaps\[0\]:\s*\n\s*size\s*=\s*(\d+)", under)
    live.check(heap and int(heap[1]) == 2048 << 20, f"the heap is reported as {heap and heap[1]} bytes, the quota is 2 GiB")


@case("frames", limit=60)
def frames(live):
    """frames that are drawn have the same pixels, every one"""
    words = live.vkload("frame", "--frames", 50)
    native = json.loads(live.run("natively", words).text())
    live.start_arbiter()
    under = json.loads(live.run("under", words, VGPU).text())
    live.check(native["hash"] == under["hash"], f"pixels are {under['hash']}, natively {native['hash']}")


SCENES = ("vertex:duration=1", "texture:duration=1", "shading:duration=1", "desktop:duration=1", "cube:duration=1")


@case("vkmark", sets="full bench", limit=120)
def vkmark(live):
    """somebody else's scenes run to their end, about as fast"""
    if not shutil.which("vkmark"):
        raise LeftOut("vkmark is not installed")
    words = ["vkmark", "--winsys", "headless", "--size", "320x240"]
    for scene in SCENES:
        words += ["-b", scene]
    native = live.run("natively", words, status=None)
    scores = r"^\[(\w+)\].*FPS: (\d+)"
    fps = dict(re.findall(scores, native.text(), re.M))
    if not fps:
        raise LeftOut(f"vkmark does not run natively{native.why()}")
    live.start_arbiter()
    under = dict(re.findall(scores, live.run("under", words, VGPU).text(), re.M))
    live.check(set(under) == set(fps), f"scenes {sorted(under)} ran, natively {sorted(fps)}")
    ratios = [int(under[s]) / max(int(fps[s]), 1) for s in fps]
    live.measure("frames a second, with : without", ratios, "", "", (0.4, None))


@case("ggml", sets="full", limit=240)
def ggml(live):
    """ggml's own tests of its Vulkan backend pass as without the layer"""
    test = os.environ.get("LIVE_GGML", "/usr/libexec/x86_64-linux-gnu/llama.cpp-tests/test-backend-ops")
    if not os.path.exists(test):
        raise LeftOut(f"{test} is not there (LIVE_GGML=PATH names another)")
    env = {"GGML_VK_VISIBLE_DEVICES": "0"}
    words = [test, "test", "-o", "ADD"]
    passed = r"(\d+)/(\d+) tests passed"
    native = re.search(passed, live.run("natively", words, env=env, status=None).text())
    if not native:
        raise LeftOut("test-backend-ops does not run natively")
    live.start_arbiter()
    under = re.search(passed, live.run("under", words, VGPU, env=env).text())
    live.check(under and under.groups() == native.groups(), f"passed {under and under[0]}, natively {native[0]}")
