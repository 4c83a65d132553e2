# SPDX-License-Identifier: Apache-2.0
"""Monitors that change, drivers that go and come, a desktop: what a guest does with its heads while it runs."""

import time

from guestvm import Failure, case, until
from picture import FONT_SCRIPT, Font, Picture

# The upper two thirds of modetest's picture, from the left (libdrm, tests/util/pattern.c: SMPTE's bars)
BARS = ((192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0), (0, 0, 192))

FIND = "device=$(dirname $(grep -l PCI_ID=1AF4:1050 /sys/bus/pci/devices/*/uevent)); "
CONSOLES = "for v in /sys/class/vtconsole/*; do grep -q 'frame buffer' $v/name && echo 0 >$v/bind; done; "


def write(guest, text):
    guest.sh(f"printf '\\033[2J\\033[H%s\\n' '{text}' >/dev/tty1")


def console_reads(vgpu, font, head, text, size):
    def shown():
        path = vgpu.screenshot(head)
        picture = Picture(path) if path else None
        return picture and picture.size == size and font.read(picture, 1) == [text]
    until(f"'{text}' in {size} on head {head} (pictures in the folder)", shown, 30)


@case("modes", sets="fast full")
def modes(bench):
    """a monitor of another mode is plugged in while the guest runs, and one is unplugged and comes back"""
    guest, vgpu = bench.two_heads()
    font = Font(guest.sh(FONT_SCRIPT))
    # Smaller: the console goes along by itself.
    vgpu.head(0, 800, 600)
    write(guest, "now 800x600")
    console_reads(vgpu, font, 0, "now 800x600", "800x600")
    # Larger than the console's frame buffer: there for who asks, in its full size.
    vgpu.head(0, 1920, 1080)

    def preferred():
        found = guest.sh("modetest -M virtio_gpu -c 2>/dev/null | awk '/Virtual-1/ { id = $1 } /preferred/ && id { print id, $2; exit }'").split()
        return found if found[1:] == ["1920x1080"] else None
    connector = until("1920x1080 being the mode that Virtual-1 prefers", preferred)[0]
    guest.sh(f"sleep 600 | modetest -M virtio_gpu -s {connector}:1920x1080 >/tmp/modetest 2>&1 & echo $! >/tmp/modetest.pid")

    def bars():
        picture = Picture(vgpu.screenshot(0, "bars"))
        y, seen = picture.height // 4, []
        for i, _ in enumerate(BARS):
            seen.append(picture.at((2 * i + 1) * picture.width // 14, y))
        return picture.size == "1920x1080" and tuple(seen) == BARS
    try:
        until("modetest's bars in 1920x1080 on head 0 (picture in the folder)", bars)
    finally:
        guest.sh("pkill modetest; pkill sleep; true")
    # None at all, and one again.
    vgpu.head(1, 0, 0)
    status = "cat /sys/class/drm/card0-Virtual-2/status"
    until("Virtual-2 disconnected", lambda: guest.sh(status) == "disconnected")
    until("head 1 off", lambda: vgpu.screenshot(1) is None)
    vgpu.head(1, 1024, 768)
    vgpu.head(0, 1280, 800)
    until("Virtual-2 connected", lambda: guest.sh(status) == "connected")
    write(guest, "both are back")
    console_reads(vgpu, font, 0, "both are back", "1280x800")
    console_reads(vgpu, font, 1, "both are back", "1024x768")


@case("reload", sets="fast full")
def reload(bench):
    """10 times: the driver goes, the function is reset, the driver comes and shows its console; the vGPU holds no more for it"""
    guest, vgpu = bench.two_heads()
    font = Font(guest.sh(FONT_SCRIPT))
    held, seconds = [], []
    for i in range(10):
        begin = time.monotonic()
        guest.sh(CONSOLES + "modprobe -r virtio_gpu && [ ! -e /dev/dri/card0 ]")
        until("both heads off", lambda: vgpu.screenshot(0) is None and vgpu.screenshot(1) is None)
        guest.sh(FIND + "echo ${device##*/} >$device/driver/unbind && echo 1 >$device/reset && "
                 "echo ${device##*/} >/sys/bus/pci/drivers/virtio-pci/bind")
        guest.sh("modprobe virtio_gpu && udevadm settle && [ -e /dev/dri/card0 ]")
        write(guest, f"round {i}")
        console_reads(vgpu, font, 0, f"round {i}", "1280x800")
        seconds.append(time.monotonic() - begin)
        held.append(vgpu.settled())
    bench.note(f"a round {sorted(seconds)[5]:.1f} s; held {held[-1]}")
    with open(f"{bench.folder}/held", "w", encoding="utf-8") as f:
        f.writelines(f"{h}\n" for h in held)
    first, last = held[1], held[-1]
    for what, more in (("fds", 0), ("threads", 0), ("maps", 4), ("anonymous_kib", 512)):
        if last[what] > first[what] + more:
            raise Failure(f"{what}: {first[what]} after the second round, {last[what]} after the tenth; all of them: {[h[what] for h in held]}")


WESTON = """
mkdir -p -m 700 /tmp/xdg
cat >/tmp/weston.ini <<'END'
[core]
require-input=false
idle-time=0
[shell]
background-color=0xff204080
clock-format=none
END
export XDG_RUNTIME_DIR=/tmp/xdg
(SEATD_VTBOUND=0 seatd-launch -- weston --backend=drm --renderer=pixman --config=/tmp/weston.ini --log=/tmp/weston.log -- weston-terminal --maximized </dev/null >/tmp/weston.out 2>&1 &)
"""


@case("weston", sets="fast full")
def weston(bench):
    """a desktop (weston, drawn by the processor) has both heads: its background, its panel, and a terminal on one of them"""
    guest, vgpu = bench.two_heads()
    guest.sh(WESTON)

    def desktop():
        pictures = [Picture(vgpu.screenshot(head, "weston")) for head in (0, 1)]
        blue = [p.share((0x20, 0x40, 0x80)) for p in pictures]
        # The terminal fills one head but for the panel; the other shows the background.
        return blue if [p.size for p in pictures] == ["1280x800", "1024x768"] and max(blue) > 0.9 and min(blue) < 0.1 else None
    try:
        blue = until("a background and a terminal (pictures in the folder)", desktop, 60)
        bench.note(f"background {blue[0]:.0%} and {blue[1]:.0%}")
    except Failure:
        with open(f"{bench.folder}/weston.log", "w", encoding="utf-8") as f:
            f.write(guest.sh("cat /tmp/weston.out /tmp/weston.log", status=None))
        raise
    finally:
        guest.sh("pkill weston; for i in $(seq 50); do pgrep -x weston >/dev/null || break; sleep 0.2; done; ! pgrep -x weston")
