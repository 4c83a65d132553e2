# SPDX-License-Identifier: Apache-2.0
"""Keyboard, pointer and touch screen: a stock guest finds them, and gets what somebody in front of the vGPU does."""

import os
import subprocess

from desktop import changed, settled, weston
from guestvm import BUILD, TOP, Failure, case, expect_packed_rings, until
from picture import Picture
from viewer import Viewer

# Which event device is which, and what udev makes of it.
DEVICES = """for e in /sys/class/input/event*; do
    case $(cat $e/device/name) in Divvy*) echo "$(cat $e/device/name | tr ' ' _) /dev/input/${e##*/} $(udevadm info -q property $e | grep ^ID_INPUT_ | tr '\\n' ' ')" ;; esac
done"""
# Events as "TYPE CODE VALUE" lines (struct input_event of 64-bit machines, linux/input.h).
READ = "perl -e 'open(my $f, \"<\", \"%s\") or die; $| = 1; while (sysread($f, my $e, 24) == 24) { printf \"%%d %%d %%d\\n\", unpack(\"x16SSl\", $e) }' >/tmp/events-%s 2>&1 & echo $! >>/tmp/readers"
EV_SYN, EV_KEY, EV_REL, EV_ABS = range(4)


def devices(guest):
    found = {}
    for line in guest.sh(DEVICES).splitlines():
        words = line.split()
        found[words[0]] = words[1], {w.split("=")[0] for w in words[2:]}
    return found


def events(guest, name):
    return [tuple(map(int, line.split())) for line in guest.sh(f"cat /tmp/events-{name}").splitlines()]


def expect(guest, name, wanted):
    """These events in this order; what is between them does not matter."""
    def there():
        rest = iter(events(guest, name))
        return all(w in rest for w in wanted)
    try:
        until("", there, 10)
    except Failure:
        raise Failure(f"{name}: {events(guest, name)} instead of {wanted}") from None


@case("input", sets="fast full")
def evdev(bench):
    """the guest's own driver takes keyboard, pointer and touch screen for what they are; each event arrives, and an LED goes back"""
    guest, vgpu = bench.two_heads()
    expect_packed_rings(guest, "virtio_input")
    found = devices(guest)
    for name, kind in (("Divvy_Keyboard", "ID_INPUT_KEYBOARD"), ("Divvy_Pointer", "ID_INPUT_MOUSE"), ("Divvy_Touch_Screen", "ID_INPUT_TOUCHSCREEN")):
        if kind not in found.get(name, (None, ()))[1]:
            raise Failure(f"{name} is no {kind}: {found}")
    guest.sh("rm -f /tmp/readers; " + "; ".join(READ % (found[n][0], n) for n in sorted(found)) + "; sleep 1")
    try:
        vgpu.keys("Control_L", "Alt_L", "F24")
        vgpu.type("aB")
        expect(guest, "Divvy_Keyboard", [(EV_KEY, 29, 1), (EV_KEY, 56, 1), (EV_KEY, 194, 1), (EV_KEY, 194, 0), (EV_KEY, 56, 0), (EV_KEY, 29, 0),
                                         (EV_KEY, 30, 1), (EV_KEY, 30, 0), (EV_KEY, 42, 1), (EV_KEY, 48, 1), (EV_KEY, 48, 0), (EV_KEY, 42, 0)])
        # The middle of the second head, of a desktop of 2304 x 800.
        vgpu.click(1, 512, 384, (1024, 768))
        vgpu.point(1, 512, 384, (1024, 768), 8)
        expect(guest, "Divvy_Pointer", [(EV_ABS, 0, (2 * (1280 + 512) + 1) * 32768 // (2 * 2304)), (EV_ABS, 1, (2 * 384 + 1) * 32768 // (2 * 800)),
                                        (EV_KEY, 272, 1), (EV_KEY, 272, 0), (EV_REL, 8, 1)])
        for finger, x in ((1, 100), (2, 300)):
            vgpu.request("PUT", "touch", {"head": 0, "finger": finger, "x": x, "y": 10, "width": 1280, "height": 800, "down": True})
        for finger in (1, 2):
            vgpu.request("PUT", "touch", {"head": 0, "finger": finger, "x": 0, "y": 0, "width": 1280, "height": 800, "down": False})
        expect(guest, "Divvy_Touch_Screen", [(EV_ABS, 57, 0), (EV_KEY, 330, 1), (EV_ABS, 47, 1), (EV_ABS, 57, 1), (EV_ABS, 47, 0), (EV_ABS, 57, -1),
                                             (EV_ABS, 47, 1), (EV_ABS, 57, -1), (EV_KEY, 330, 0)])
        # Its own keyboard's light.
        for on in (1, 0):
            guest.sh(f"for l in /sys/class/leds/*::capslock; do echo {on} >$l/brightness; done")
            until(f"the Caps Lock light being {on}", lambda: vgpu.info()["leds"]["caps_lock"] == bool(on), 10)
    finally:
        guest.sh("kill $(cat /tmp/readers)", status=None)


# Each pointer and touch screen is on the monitor of its number: what weston takes from udev.
PER_HEAD = r"""
mkdir -p /run/udev/rules.d
for n in 1 2; do echo "SUBSYSTEM==\"input\", KERNEL==\"event*\", ATTRS{name}==\"Divvy * $n\", ENV{WL_OUTPUT}=\"Virtual-$n\""; done >/run/udev/rules.d/60-divvy.rules
udevadm control --reload && udevadm trigger --action=change --subsystem-match=input && udevadm settle
"""
SIZES = (1280, 800), (1024, 768)
BLUE = (0x20, 0x40, 0x80)


def background(vgpu, head):
    picture = Picture(vgpu.screenshot(head, "empty"))
    return picture if picture.size == "%dx%d" % SIZES[head] and picture.share(BLUE) > 0.9 else None


# Keys of a German keyboard by their places (PC/XT make codes): "y" is where others have "z".
PLACES = {c: 0x10 + i for i, c in enumerate("qwertzuiop")} | {c: 0x1e + i for i, c in enumerate("asdfghjkl")} | \
    {c: 0x2c + i for i, c in enumerate("yxcvbnm")} | {str((i + 1) % 10): 2 + i for i in range(10)} | {" ": 0x39, "\n": 0x1c, ">": 0x56, "-": 0x35, "/": 0x08}


def by_place(viewer):
    """How that viewer types by the places of keys. What their letters are does not matter then, so a wrong one goes along."""
    def write(text):
        for character in text:
            shift = character in ">/"
            if shift:
                viewer.key(0xffe1, True, 0x2a)
            for down in (True, False):
                viewer.key(ord("?"), down, PLACES[character])
            if shift:
                viewer.key(0xffe1, False, 0x2a)
    return write


def try_pointer(viewer, head):
    """The pointer goes where somebody points."""
    viewer.point(300, 300)
    before = until(f"a pointer on head {head}", lambda: (p := settled(viewer, "the pointer")).share(BLUE) < 1 and p)
    viewer.point(500, 400)
    box = until(f"the pointer moving on head {head}", lambda: changed(before, settled(viewer, "the pointer")))
    if not (290 <= box[0] <= 305 and 290 <= box[1] <= 305 and 495 <= box[2] <= 540 and 395 <= box[3] <= 440):
        raise Failure(f"head {head}: the pointer moved from (300, 300) to (500, 400), the picture changed in {box}")


def try_libvncclient(bench, vgpu, guest, head):
    """Somebody else's reading of the protocol, at the same desktop."""
    text, shown = f"by libvncclient on head {head}", f"{bench.folder}/libvncclient-head{head}"
    done = subprocess.run([f"{BUILD}/tests/guest/vnc_client", vgpu.vnc[head], f"{shown}.ppm", f"echo {text} >/tmp/client-{head}\n"],
                          stderr=subprocess.PIPE, text=True, cwd=TOP, timeout=180, check=False)
    if done.returncode:
        raise Failure(f"libvncclient: {done.stderr.strip()}")
    until(f"'{text}' being typed on head {head}", lambda: guest.sh(f"cat /tmp/client-{head}", status=None) == text, 30)
    with open(f"{shown}.png", "wb") as f:
        subprocess.run(["pnmtopng", "-quiet", f"{shown}.ppm"], stdout=f, check=True)
    os.unlink(f"{shown}.ppm")
    if changed(Picture(f"{shown}.png"), Picture(vgpu.screenshot(head, "typed"))):
        raise Failure(f"head {head}: libvncclient shows something else than the screenshot in the folder")


@case("desktop", sets="full")
def desktop(bench):
    """VNC viewers at weston on two heads, with a German keyboard: a terminal is opened on each by its panel, and typed into"""
    vgpu = bench.vgpu(["%dx%d" % s for s in SIZES], options=("--no-render", "--input-per-head", "--layout", "de"), vnc=True)
    guest = bench.guest(vgpu).ready()
    guest.sh(PER_HEAD + weston("204080", "de"))
    viewers = [Viewer(path) for path in vgpu.vnc]
    texts = "Grüße: z/y {} [] \\ @ € |", "typed by the places of keys"
    try:
        for head, viewer in enumerate(viewers):
            until(f"weston's background on head {head} (pictures in the folder)", lambda: background(vgpu, head), 60)
            until(f"the same for its viewer, of {viewer.width}x{viewer.height}",
                  lambda: viewer.look().share(BLUE) > 0.9 and (viewer.width, viewer.height) == SIZES[head])
            if not viewer.extended:
                raise Failure("the VNC server does not take keys by their places")
        for head, viewer in enumerate(viewers):
            try_pointer(viewer, head)
            viewer.click(16, 16)
            until(f"a terminal on head {head}", lambda: viewer.look().share((0, 0, 0)) > 0.2, 60)
            other = settled(viewers[1 - head], "the other head")
            if head == 0:
                viewer.type_watching(f"echo '{texts[0]}' >/tmp/typed-0\n")
            else:
                viewer.type_watching(f"echo {texts[1]} >/tmp/typed-1\n", write=by_place(viewer))
            until(f"'{texts[head]}' being typed on head {head}", lambda: guest.sh(f"cat /tmp/typed-{head}", status=None) == texts[head], 30)
            if changed(other, settled(viewers[1 - head], "the other head")):
                raise Failure(f"head {1 - head} changed while somebody typed on head {head}")
            # A viewer shows what is there.
            shown = settled(viewer, f"head {head}")
            if changed(shown, Picture(vgpu.screenshot(head, "typed"))):
                raise Failure(f"head {head}: the viewer shows something else than the screenshot in the folder")
            try_libvncclient(bench, vgpu, guest, head)
    except Failure:
        with open(f"{bench.folder}/weston.log", "w", encoding="utf-8") as f:
            f.write(guest.sh("cat /tmp/weston.out /tmp/weston.log", status=None))
        raise
    finally:
        for viewer in viewers:
            viewer.close()
        guest.sh("pkill weston; true")
    guest.power_off()


XORG = r"""
(Xorg :0 vt2 -novtswitch -nolisten tcp -noreset -logfile /tmp/xorg.log >/tmp/xorg.out 2>&1 &)
export DISPLAY=:0
for i in $(seq 100); do xrandr >/tmp/xrandr 2>/dev/null && break; sleep 0.2; done
xrandr --output Virtual-2 --right-of Virtual-1
xsetroot -solid '#204080' -cursor_name left_ptr
for n in 0 1; do
    xterm -geometry 60x10+$((n * 1280 + 100))+200 -e sh -c "read -r line; echo \"\$line\" >/tmp/x-$n; exec cat" >/dev/null 2>&1 &
done
"""


@case("xorg", sets="full")
def xorg(bench):
    """Xorg on two heads: its one pointer gets to both, and what is typed goes to the terminal under it"""
    guest, vgpu = bench.two_heads()
    try:
        guest.sh(XORG, limit=90)
        for head in (0, 1):
            until(f"a terminal on head {head} (pictures in the folder)",
                  lambda: 0.02 < Picture(vgpu.screenshot(head, "opened")).share((255, 255, 255)) < 0.5, 60)
            # Without a window manager keys go where the pointer is.
            vgpu.point(head, 300, 300, SIZES[head])
            for piece in (f"on head {head}", " of X", "\n"):
                before = Picture(vgpu.screenshot(head, "typed")).pixels
                vgpu.type(piece)
                until(f"{piece!r} on head {head} (pictures in the folder)", lambda: Picture(vgpu.screenshot(head, "typed")).pixels != before)
            until(f"what was typed on head {head}", lambda: guest.sh(f"cat /tmp/x-{head}", status=None) == f"on head {head} of X", 30)
            vgpu.screenshot(head, "typed")
    except Failure:
        with open(f"{bench.folder}/xorg.log", "w", encoding="utf-8") as f:
            f.write(guest.sh("cat /tmp/xorg.out /tmp/xrandr /tmp/xorg.log", status=None))
        raise
    finally:
        guest.sh("pkill xterm; pkill Xorg; for i in $(seq 50); do pgrep -x Xorg >/dev/null || break; sleep 0.2; done; chvt 1; true", status=None)
