# SPDX-License-Identifier: Apache-2.0
"""A stock guest finds its vGPU, and shows its console on it."""

import re

from guestvm import Failure, case, connectors, expect_packed_rings, until
from picture import FONT_SCRIPT, Font, Picture


@case("boot", sets="fast full")
def boot(bench):
    """a guest with a vGPU boots and powers off; the vGPU's process goes on and holds nothing of it"""
    vgpu = bench.vgpu(["1280x800"])
    fresh = vgpu.held()
    guest = bench.guest(vgpu).ready()
    bench.note(f"up after {guest.boot_seconds:.1f} s, {guest.cpu_seconds():.1f} s of CPU")
    if not vgpu.info()["attached"]:
        raise Failure("the vGPU says that nobody is attached")
    status = guest.power_off()
    if status:
        raise Failure(f"QEMU ended with status {status}")
    until("nobody attached", lambda: not vgpu.info()["attached"])
    for what in ("fds", "threads"):
        until(f"as many {what} as before the guest, {fresh[what]}", lambda: vgpu.held()[what] == fresh[what], 10)
    status = vgpu.close()
    if status:
        raise Failure(f"divvy-vgpu ended with status {status}: {vgpu.words()}")


@case("driver", sets="fast full")
def driver(bench):
    """the guest's own driver takes the vGPU; each head is a connector with the modes of its EDID"""
    guest, _ = bench.two_heads()
    device = guest.sh("""grep -l PCI_ID=1AF4:1050 /sys/bus/pci/devices/*/uevent""")
    if not device or "\n" in device:
        raise Failure(f"not one PCI function is 1af4:1050: '{device}'")
    taken = guest.sh("basename $(readlink -f /sys/class/drm/card0/device/driver); cat /sys/class/drm/card0/device/uevent")
    if "virtio" not in taken:
        raise Failure(f"card0 is not virtio's: {taken}")
    expect_packed_rings(guest, "virtio_gpu")
    found = connectors(guest)
    for name, first in (("Virtual-1", "1280x800"), ("Virtual-2", "1024x768")):
        one = found.get(name)
        if not one or one["status"] != "connected":
            raise Failure(f"{name} is not connected: {found}")
        if one["modes"][:1] != [first]:
            raise Failure(f"{name} prefers {one['modes'][:1]}, its head is {first}")
        text = " ".join(one["edid"])
        if f"DTD 1:  {first.replace('x', 'x')}" not in re.sub(r"DTD 1: *", "DTD 1:  ", text) or "PASS" not in text:
            raise Failure(f"{name}: edid-decode says: {text}")
    errors = guest.sh("dmesg --level=emerg,alert,crit,err | grep -i -E 'virtio|drm' || true")
    if errors:
        raise Failure(f"the guest's kernel says: {errors}")


@case("console", sets="fast full")
def console(bench):
    """the text console is on both heads, and what the guest writes can be read from pictures of them"""
    guest, vgpu = bench.two_heads()
    font = Font(guest.sh(FONT_SCRIPT))
    rows = ["The quick brown fox jumps over the lazy dog. 0123456789", "!\"#$%&'()*+,-./:;<=>?@[]^_{|}", f"kernel {guest.sh('uname -r')}"]
    guest.sh("printf '\\033[2J\\033[H\\033[?25l' >/dev/tty1; while read -r row; do printf '%s\\n' \"$row\" >/dev/tty1; done <<'END'\n" + "\n".join(rows) + "\nEND\n"
             "printf '\\033[31mred\\033[32m green\\033[34m blue\\033[0m\\n' >/dev/tty1")
    for head, size in ((0, "1280x800"), (1, "1024x768")):
        def shown():
            picture = Picture(vgpu.screenshot(head, "console"))
            return picture if font.read(picture, 4) == rows + ["red green blue"] else None
        picture = until(f"the text on head {head} (picture in the folder)", shown, 20)
        if picture.size != size:
            raise Failure(f"head {head} shows {picture.size}, its mode is {size}")
        # Letters are of their color and nothing else, so red is not blue.
        for column, channel in ((0, 0), (4, 1), (10, 2)):
            seen = [0, 0, 0]
            for x in range(column * font.width, (column + 3) * font.width):
                for y in range(3 * font.height, 4 * font.height):
                    seen = [max(a, b) for a, b in zip(seen, picture.at(x, y))]
            if seen[channel] < 100 or any(v for i, v in enumerate(seen) if i != channel):
                raise Failure(f"head {head}: the {('red', 'green', 'blue')[channel]} word's colors go up to {seen}")
    guest.sh("printf '\\033[?25h' >/dev/tty1")
