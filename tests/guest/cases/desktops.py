# SPDX-License-Identifier: Apache-2.0
"""Ten desktops on one GPU (docs/ten-desktops.md): no case of a set, since it takes minutes; DESKS=N makes it another number."""

import json
import os
import time

from desktop import settled, weston
from guestvm import BUILD, Failure, case, children, say, until
from viewer import Viewer
from vkload import LAVAPIPE, PROGRAM, natively, program

DESKS = int(os.environ.get("DESKS", "10"))
SIZE = 1024, 768
FRAME = "frame --frames 1 --width 32 --height 32"
COLORS = ("204080", "206040", "602040", "604020", "402060", "206060", "405020", "803030", "303080", "505050")


def rgb(color):
    return tuple(bytes.fromhex(color))


def open_terminal(vgpu, guest, viewer, name):
    for attempt in range(3):
        viewer.click(16, 16)
        try:
            until(f"a terminal on {name} (picture in its folder)", lambda: viewer.look().share((0, 0, 0)) > 0.2, 40)
            settled(viewer, name)
            return
        except Failure:
            vgpu.screenshot(0, "failed")
            with open(f"{vgpu.folder}/weston.log", "w", encoding="utf-8") as f:
                f.write(guest.sh("cat /tmp/weston.out /tmp/weston.log", status=None))
            if attempt == 2:
                raise


def start_desk(bench, arbiter, name, color):
    """A vGPU under the arbiter with a VNC server, a guest with a desktop on it, and a viewer."""
    share = ("env", f"VK_DRIVER_FILES={LAVAPIPE}", f"{BUILD}/divvy", "run-native", "--socket", arbiter.socket, "--weight", "100",
             "--memory-quota", "256M", "--name", name, "--")
    vgpu = bench.vgpu(["%dx%d" % SIZE], name=name, options=("--window", "256M", "--input", "--name", name), wrapper=share, vnc=True)
    guest = bench.guest(vgpu, name=name, files=program(), cpus=1, memory="512M").ready()
    guest.sh(weston(color, "us"))
    viewer = Viewer(vgpu.vnc[0])
    until(f"{name}'s background", lambda: viewer.look().share(rgb(color)) > 0.9 and (viewer.width, viewer.height) == SIZE, 120)
    # The panel comes after the background, its buttons after the panel.
    until(f"{name}'s panel", lambda: viewer.look().at(500, 10) != rgb(color), 120)
    settled(viewer, name)
    open_terminal(vgpu, guest, viewer, name)
    viewer.type_watching(f"echo {name} >/tmp/mine\n")
    until(f"{name}'s program having what was typed", lambda: guest.sh("cat /tmp/mine", status=None) == name, 60)
    vgpu.screenshot(0, name)
    say(f"{name} is there")
    return vgpu, guest, viewer


def memory_mib(pid):
    """Of a process and all below it, what is shared divided among those who share it."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        own = next(int(line.split()[1]) for line in f if line.startswith("Pss:")) // 1024
    return own + sum(memory_mib(child) for child in children(pid))


@case("desktops", sets="alone")
def desktops(bench):
    """ten stock guests share one GPU: a viewer opens a terminal on each one's desktop and types, each draws a frame by Vulkan, all at once stay apart"""
    arbiter = bench.arbiter()
    pixels, desks, begin = natively(FRAME)["hash"], {}, time.monotonic()
    for n in range(DESKS):
        name = f"desk{n + 1}"
        desks[name] = start_desk(bench, arbiter, name, COLORS[n % len(COLORS)])
    bench.note(f"{DESKS} desktops in {time.monotonic() - begin:.0f} s")
    known = arbiter.vgpus()
    if sorted(known) != sorted(desks):
        raise Failure(f"the arbiter knows {sorted(known)}")
    # By each, and in none but its own: a word that no other is told.
    for name, (vgpu, guest, viewer) in desks.items():
        viewer.type_watching(f"echo only {name}\n")
        settled(viewer, name)
        if guest.sh("cat /tmp/mine") != name:
            raise Failure(f"{name} holds {guest.sh('cat /tmp/mine')}")
        said = json.loads(guest.sh(PROGRAM + FRAME + " 2>/dev/null", limit=300))
        if not said["device"].startswith("Virtio-GPU Venus (") or said["hash"] != pixels:
            raise Failure(f"{name} drew {said}, natively {pixels}")
        vgpu.screenshot(0, name)
    idle = {name: guest.cpu_seconds() for name, (_, guest, _) in desks.items()}
    time.sleep(20)
    idle = [(guest.cpu_seconds() - idle[name]) / 20 for name, (_, guest, _) in desks.items()]
    of_vgpus = [memory_mib(vgpu.process.pid) for vgpu, _, _ in desks.values()]
    of_guests = [memory_mib(guest.process.pid) for _, guest, _ in desks.values()]
    bench.note(f"idle guests take {sum(idle):.2f} processors together; memory (PSS, MiB): guests' QEMUs {min(of_guests)} to {max(of_guests)}, "
               f"vGPUs' processes {min(of_vgpus)} to {max(of_vgpus)}")
    with open(f"{bench.folder}/vgpus.json", "w", encoding="utf-8") as f:
        json.dump(arbiter.vgpus(), f, indent=1)
    for _, _, viewer in desks.values():
        viewer.close()
