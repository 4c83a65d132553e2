# SPDX-License-Identifier: Apache-2.0
"""One life of a stock QEMU and of its vGPU, through whatever ends work on it."""

import json
import os
import signal
import time

from guestvm import BUILD, TOP, Failure, case, children, held, image, renderers, settled, until
from vkload import LAVAPIPE, PROGRAM, natively, program

ROUNDS = int(os.environ.get("GUEST_ROUNDS", "50"))
SETTLED = 20  # rounds after which heaps have found their size; what is held is counted from there
WORK = "load --groups 1 --iterations 3000 --in-flight 4 --seconds 3600"
DRAW = "frame --width 32 --height 32 --frames 2"
FIND = "pci=$(basename $(dirname $(grep -l PCI_ID=1AF4:1050 /sys/bus/pci/devices/*/uevent))); "
GONE = "for i in $(seq 300); do pgrep -x vkload >/dev/null || break; sleep 0.1; done; ! pgrep -x vkload"


class Scene:
    """An arbiter, a vGPU that it knows, a guest; and what their processes hold."""

    def __init__(self, bench):
        self.arbiter = bench.arbiter()
        share = ("env", f"VK_DRIVER_FILES={LAVAPIPE}", f"{BUILD}/divvy", "run-native", "--socket", self.arbiter.socket, "--share", "50%",
                 "--memory-quota", "256M", "--name", "one", "--")
        self.vgpu = bench.vgpu(["1280x800"], options=("--window", "1G"), wrapper=share)
        folder = image("trixie")
        files = {**program(), "vmlinuz": f"{folder}/vmlinuz", "initrd": f"{folder}/initrd-small.img", "guest_tool": f"{TOP}/{BUILD}/guest-drivers/images/guest_tool"}
        self.guest = bench.guest(self.vgpu, files=files, reboots=True).ready()
        # The launcher is the process that we started; the vGPU is its child.
        self.server = children(self.vgpu.process.pid)[0]

    def workers(self):
        return renderers(self.server)[1]

    def used_ns(self):
        return self.arbiter.vgpus()["one"]["engines"]["graphics"]["used_ns"]

    def begin_work(self):
        before = self.used_ns()
        self.guest.sh(f"({PROGRAM} {WORK} >/tmp/work 2>&1 &)")
        until("the guest at work on the GPU", lambda: self.workers() and self.used_ns() > before + 20000000, 60)

    def counts(self):
        until("the last program's worker gone", lambda: not self.workers(), 60)
        said = self.arbiter.vgpus()["one"]
        return {"vgpu": settled(lambda: held(self.server)), "vmm": settled(lambda: held(self.guest.process.pid)),
                "arbiter": settled(lambda: held(self.arbiter.process.pid)),
                "all": {"wardens": len(children(self.server)), "render_servers": len(renderers(self.server)[0]), "gpu_memory": said["memory_used"], "workers": said["workers"]}}


def reset(scene, _):
    """The machine is reset under its kernel."""
    scene.guest.restart("echo b >/proc/sysrq-trigger")


def kexec(scene, _):
    """Another kernel begins where this one ends."""
    scene.guest.restart("cd /run/divvy && ./guest_tool kexec vmlinuz initrd \"$(cat /proc/cmdline)\"")


def rebind(scene, i):
    """The driver is taken from the device while a program uses it, virtio's own or its bus's, and comes back."""
    bus = ("virtio", "/sys/bus/virtio/drivers/virtio_gpu", "$(ls -d /sys/bus/pci/devices/$pci/virtio* | xargs -n 1 basename)") if i % 2 else (
        "pci", "/sys/bus/pci/drivers/virtio-pci", "$pci")
    scene.guest.sh(FIND + f"name={bus[2]}; echo $name >{bus[1]}/unbind; pkill -KILL vkload; {GONE}; echo $name >{bus[1]}/bind; "
                   "for i in $(seq 100); do [ -e /dev/dri/renderD128 ] && break; sleep 0.1; done; udevadm settle; [ -e /dev/dri/renderD128 ]")


def kill(scene, i):
    """The render worker is killed, or all of them with their server."""
    servers, workers = renderers(scene.server)
    victim = workers[0] if i % 2 else servers[0]
    os.kill(victim, signal.SIGKILL)
    scene.guest.sh(GONE, limit=90)
    if not i % 2:
        # Without a server there are no contexts until the device is reset.
        rebind(scene, i)


def drawn(guest, when):
    """A short program's word on what it drew; where it is when it does not end."""
    said = guest.sh(f"""(cd /run/divvy; {PROGRAM} {DRAW} >/tmp/drawn 2>/tmp/drawn.err) &
        for i in $(seq 1800); do kill -0 $! 2>/dev/null || break; sleep 0.1; done
        if kill -0 $! 2>/dev/null; then
            for task in /proc/$(pgrep -x vkload | head -n 1)/task/*; do echo "stuck: $(cat $task/comm) in $(cat $task/wchan) $(cat $task/syscall)"; done
            dmesg | tail -n 20
        fi
        cat /tmp/drawn.err /tmp/drawn""", limit=400)
    last = said.splitlines()[-1] if said else ""
    if not last.startswith("{"):
        raise Failure(f"{when}: {said[-1000:]}")
    return json.loads(last)


WAYS = (reset, kexec, rebind, kill)
# QEMU has threads that come and go, and what it translated.
MAY_GROW = {"fds": 0, "threads": 0, "maps": 4, "anonymous_kib": 1024, "wardens": 0, "render_servers": 0, "gpu_memory": 0, "workers": 0}
VMM_MAY_GROW = {"fds": 0, "threads": 4, "maps": 24, "anonymous_kib": 65536}


@case("recover", sets="full")
def recover(bench):
    """resets, kexecs, drivers unbound and render processes killed, each in mid-work: after each a program draws right, nothing is left behind"""
    pixels = natively(DRAW)["hash"]
    scene = Scene(bench)
    counted, seconds = [], {way.__name__: [] for way in WAYS}
    with open(f"{bench.folder}/held", "w", encoding="utf-8") as log:
        for i in range(ROUNDS):
            way, begin = WAYS[i % len(WAYS)], time.monotonic()
            scene.begin_work()
            way(scene, i // len(WAYS))
            said = drawn(scene.guest, f"round {i + 1}, {way.__name__}")
            if said["hash"] != pixels or not said["device"].startswith("Virtio-GPU Venus ("):
                raise Failure(f"round {i + 1}, {way.__name__}: {said}, natively {pixels}")
            counted.append(scene.counts())
            seconds[way.__name__].append(time.monotonic() - begin)
            print(i + 1, way.__name__, json.dumps(counted[-1]), file=log, flush=True)
    before, after = counted[min(SETTLED, ROUNDS) - 1], counted[-1]
    for process, early in before.items():
        for what, value in early.items():
            allowed = (VMM_MAY_GROW if process == "vmm" else MAY_GROW)[what]
            if after[process][what] > value + allowed:
                raise Failure(f"{process} {what}: {value} after {SETTLED} rounds, {after[process][what]} after {ROUNDS}; "
                              f"all of them: {[c[process][what] for c in counted]}")
    bench.note(f"held after {SETTLED} rounds {before}, after {ROUNDS} {after}")
