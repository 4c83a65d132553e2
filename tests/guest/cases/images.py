# SPDX-License-Identifier: Apache-2.0
"""The images: booted as Debian boots them, and those of other releases."""

from guestvm import Failure, case, connectors, expect_packed_rings, until
from picture import FONT_SCRIPT, Font, Picture


def shows_a_console(guest, vgpu, sizes, line):
    """Both heads show what is written to the console."""
    font = Font(guest.sh(FONT_SCRIPT))
    guest.sh(f"printf '\\033[2J\\033[H%s\\n' '{line}' >/dev/tty1")
    for head, size in enumerate(sizes):
        def shown():
            path = vgpu.screenshot(head, "console")
            picture = Picture(path) if path else None
            return picture and picture.size == size and font.read(picture, 1) == [line]
        until(f"'{line}' in {size} on head {head} (picture in the folder)", shown)


@case("stock", sets="full")
def stock(bench):
    """Debian's own RAM disk and systemd: a login prompt is on both heads, and somebody logs in at it; it powers off"""
    vgpu = bench.vgpu(["1280x800", "1024x768"], options=("--no-render", "--input"))
    guest = bench.guest(vgpu, stock=True, append="systemd.mask=serial-getty@ttyS0.service").ready()
    bench.note(f"up after {guest.boot_seconds:.1f} s, {guest.cpu_seconds():.1f} s of CPU")
    if guest.sh("cat /proc/1/comm") != "systemd":
        raise Failure("the first process is not systemd")
    until("the console on the vGPU", lambda: guest.sh("[ -e /sys/class/graphics/fb0 ] && echo there", status=None))
    font = Font(guest.sh(FONT_SCRIPT))
    guest.sh("systemctl --quiet stop getty@tty1; printf '\\033[2J\\033[H' >/dev/tty1; systemctl start --no-block getty@tty1")

    def prompts():
        said = [font.read(Picture(vgpu.screenshot(head, "login")), 8) for head in (0, 1)]
        return all(any(line.startswith("divvy-trixie login:") for line in lines) for lines in said)
    until("a login prompt on both heads (pictures in the folder)", prompts, 60)

    def reads(head, line):
        return any(said.startswith(line) for said in font.read(Picture(vgpu.screenshot(head, "typed")), 30))
    vgpu.type("root\n")
    until("a shell's prompt (pictures in the folder)", lambda: reads(0, "root@divvy-trixie:~#"), 60)
    vgpu.type("echo \"TYPED: $(tty) ~ {a|b} [c] \\\\ 'd' <e> @ # ^ * _ ?\"\n")
    for head in (0, 1):
        until(f"what was typed, on head {head} (pictures in the folder)", lambda: reads(head, "TYPED: /dev/tty1 ~ {a|b} [c] \\ 'd' <e> @ # ^ * _ ?"), 30)
    if guest.power_off():
        raise Failure("QEMU did not end well")


def another_release(bench, variant):
    vgpu = bench.vgpu(["1280x800", "1024x768"])
    guest = bench.guest(vgpu, variant=variant).ready()
    bench.note(f"Linux {guest.sh('uname -r')}, up after {guest.boot_seconds:.1f} s, {guest.cpu_seconds():.1f} s of CPU")
    expect_packed_rings(guest, "virtio_gpu")
    found = connectors(guest)
    preferred = [found[name]["modes"][:1] for name in ("Virtual-1", "Virtual-2")]
    if preferred != [["1280x800"], ["1024x768"]]:
        raise Failure(f"its monitors prefer {preferred}")
    shows_a_console(guest, vgpu, ("1280x800", "1024x768"), f"a console of {variant}")
    if guest.power_off():
        raise Failure("QEMU did not end well")


@case("bookworm", sets="full")
def bookworm(bench):
    """Debian 12: Linux 6.1 finds both heads and shows its console on them"""
    another_release(bench, "bookworm")


@case("forky", sets="full")
def forky(bench):
    """Debian testing: the newest kernel does so too"""
    another_release(bench, "forky")
