# SPDX-License-Identifier: Apache-2.0
"""Two stock guests on one GPU, each with a vGPU of its own under one arbiter: one behaves badly, the other draws now and then."""

import json
import os
import time

from guestvm import BUILD, Failure, LeftOut, case, renderers
from vkload import LAVAPIPE, PROGRAM, natively, program

MIB = 1 << 20
QUOTA = 256  # MiB of device memory, of each
JOB_MS = 10  # of the hog, five times the arbiter's slice
IN_FLIGHT = 4
SLICE_MS = 2  # the arbiter's
FRAMES = 30
DRAW = "frame --width 32 --height 32"


def give_processors(pids, processors):
    """All threads of processes, and those that they will make."""
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), processors)


def drawn(guest, pixels, what, frames=FRAMES):
    """Frames of a guest, which must have those pixels; their times in milliseconds, from a submission to its fence."""
    said = json.loads(guest.sh(PROGRAM + f"{DRAW} --frames {frames} --every 300 2>/dev/null", limit=400))
    if not said["device"].startswith("Virtio-GPU Venus (") or pixels not in (None, said["hash"]):
        raise Failure(f"{what}: {said}, natively {pixels}")
    return said["frame_ms"]


def of(times):
    return f"{times['p50']:.1f} and {times['p95']:.1f}"


@case("neighbour", sets="full")
def neighbour(bench):
    """beside a guest with a hog and an allocating loop, another's frames take what they take beside a guest that is merely busy"""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        raise LeftOut("it takes two processors: one is the GPU")
    gpu, others = processors[-1], ",".join(str(p) for p in processors[:-1])
    work = natively(f"load --groups 1 --job {JOB_MS} --jobs 5", ("taskset", "-c", str(gpu)))["iterations"]
    arbiter = bench.arbiter()
    guests, vgpus = {}, {}
    for name in ("noisy", "light"):
        share = ("taskset", "-c", others, "env", f"VK_DRIVER_FILES={LAVAPIPE}", f"{BUILD}/divvy", "run-native",
                 "--socket", arbiter.socket, "--weight", "100", "--memory-quota", f"{QUOTA}M", "--name", name, "--")
        vgpus[name] = bench.vgpu(["1280x800"], name=name, options=("--window", "1G"), wrapper=share)
        guests[name] = bench.guest(vgpus[name], name=name, files=program(), cpus=1, wrapper=("taskset", "-c", others))
    for name, guest in guests.items():
        guest.ready()
        guest.sh(PROGRAM + "memory >/dev/null 2>&1")
        give_processors(renderers(vgpus[name].process.pid)[0], [gpu])
    noisy, light = guests["noisy"], guests["light"]
    frames = natively(f"{DRAW} --frames {FRAMES}")["hash"]
    alone = drawn(light, frames, "alone")
    noisy.sh("(while :; do :; done) >/dev/null 2>&1 & echo $! >/tmp/busy")
    busy = drawn(light, frames, "beside a guest that is busy with itself")
    noisy.sh("kill $(cat /tmp/busy)")

    # To allocate is no work of a GPU's: what does that for the loop has a processor beside it.
    noisy.sh(f"(export VN_PERF=no_async_mem_alloc; {PROGRAM} memory --fill --chunk 16 --most {4 * QUOTA} --seconds 3600 >/tmp/fill 2>&1 &)")
    time.sleep(5)
    give_processors(renderers(vgpus["noisy"].process.pid)[1], processors[:-1])
    noisy.sh(f"({PROGRAM} load --groups 1 --iterations {work} --in-flight {IN_FLIGHT} --seconds 3600 >/tmp/hog 2>&1 &); sleep 5")
    beside = drawn(light, frames, "beside the hog")
    used = arbiter.vgpus()["noisy"]["memory_used"]
    noisy.sh("pkill -TERM vkload; for i in $(seq 300); do pgrep -x vkload >/dev/null || break; sleep 0.2; done; ! pgrep -x vkload", limit=120)
    hog, fill = (json.loads(noisy.sh(f"grep ^{{ /tmp/{which}")) for which in ("hog", "fill"))
    # As it ran: the machine may have had other work.
    job = max(JOB_MS, hog["latency_ms"]["p50"] / IN_FLIGHT)
    bound = busy["p50"] + 2 * job + SLICE_MS
    bench.note(f"frames in ms (median, 95 of 100): alone {of(alone)}, beside a busy guest {of(busy)}, beside the hog {of(beside)}, at most {bound:.1f} allowed; "
               f"the hog did {hog['jobs']} jobs; refused in {fill['refused_rounds']} of {fill['rounds']} rounds, at {fill['most_bytes'] // MIB} of {QUOTA} MiB")
    if beside["p50"] > bound:
        raise Failure(f"a frame took {beside['p50']:.1f} ms beside the hog, {busy['p50']:.1f} without it: two of its jobs ({job:.1f} ms) and a slice are allowed")
    if fill["rounds"] < 10 or fill["refused_rounds"] != fill["rounds"] or fill["most_bytes"] > QUOTA * MIB or used > QUOTA * MIB:
        raise Failure(f"the quota is {QUOTA} MiB, {used >> 20} MiB were held, and the loop says {fill}")
    # A program that Venus does not tell of the refusal (docs/guests.md) loses its context, and nothing else is lost.
    for _ in range(3):
        noisy.sh(PROGRAM + f"memory --fill --chunk 16 --most {4 * QUOTA} >/dev/null 2>&1; [ $? != 0 ]")
        drawn(noisy, None, "after a program that did not look", 1)
    drawn(light, None, "after the neighbour's programs", 1)
    for guest in guests.values():
        guest.power_off()
