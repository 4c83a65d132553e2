# SPDX-License-Identifier: Apache-2.0
"""How long a light client waits beside heavy ones."""

from liverun import case
from livemath import rank

HOG_MS = 10


def light_beside_hogs(live, seconds, scheduled):
    """Waits of a client with a job of 2 ms every 20 ms beside three hogs; with the layer or without it."""
    vgpu = {"policy": "equal_share"} if scheduled else None
    where = "with" if scheduled else "without"
    light = live.load(f"light-{where}", 2, vgpu, "--every", 20, "--seconds", seconds)
    hogs = [live.load(f"hog-{where}-{i}", HOG_MS, vgpu, "--seconds", seconds + 1) for i in range(3)]
    live.go(hogs + [light])
    live.finish(hogs + [light])
    return live.work(f"light-{where}").waits()


def light_alone(live, name, seconds, vgpu):
    light = live.load(name, 2, vgpu, "--every", 20, "--seconds", seconds)
    live.go([light])
    live.finish([light])
    return live.work(name).waits()


@case("light-client", sets="fast full bench", limit=90)
def light_client(live):
    """a short job every 20 ms beside three hogs waits for a slice and one neighbour's job, not for all of them"""
    seconds = 20 if live.bench else 5
    live.start_arbiter()
    alone = light_alone(live, "light-alone", seconds / 2, None)
    under = light_alone(live, "light-alone-with", seconds / 2, {"policy": "equal_share"})
    without = light_beside_hogs(live, seconds, False)
    scheduled = light_beside_hogs(live, seconds, True)
    promise = rank(alone, 99) + live.slice_ms + live.job_ms(HOG_MS)
    for percent in (50, 95, 99, 100):
        word = f"p{percent}" if percent < 100 else "most"
        live.measure(f"alone, {word}", rank(alone, percent), "ms")
        live.measure(f"alone with us, {word}", rank(under, percent), "ms")
        live.measure(f"beside hogs without us, {word}", rank(without, percent), "ms")
        aim = f"<= {promise:.1f}: alone, a slice, a neighbour's job" if percent == 99 else ""
        # On a busy machine nobody's jobs take as long as they were calibrated for.
        live.measure(f"beside hogs, {word}", rank(scheduled, percent), "ms", aim, (None, 2 * promise) if percent == 50 else None)
