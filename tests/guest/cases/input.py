# SPDX-License-Identifier: Apache-2.0
"""Keyboard, pointer and touch screen: a stock guest finds them, and gets what somebody in front of the vGPU does."""

from guestvm import Failure, case, until
from picture import Picture

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
WESTON = """
mkdir -p -m 700 /tmp/xdg
cat >/tmp/weston.ini <<'END'
[core]
idle-time=0
[shell]
background-color=0xff204080
clock-format=none
animation=none
[keyboard]
keymap_layout=de
[launcher]
icon=/usr/share/weston/terminal.png
path=/usr/bin/weston-terminal
END
export XDG_RUNTIME_DIR=/tmp/xdg
(SEATD_VTBOUND=0 seatd-launch -- weston --backend=drm --renderer=pixman --config=/tmp/weston.ini --log=/tmp/weston.log </dev/null >/tmp/weston.out 2>&1 &)
"""
SIZES = (1280, 800), (1024, 768)
BLUE = (0x20, 0x40, 0x80)


def changed(before, after):
    """The rectangle outside of which two pictures are the same; None: they are the same."""
    rows = [y for y in range(after.height)
            if before.pixels[3 * y * after.width:3 * (y + 1) * after.width] != after.pixels[3 * y * after.width:3 * (y + 1) * after.width]]
    columns = [x for x in range(after.width) if any(before.at(x, y) != after.at(x, y) for y in rows)]
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if columns else None


def background(vgpu, head):
    picture = Picture(vgpu.screenshot(head, "empty"))
    return picture if picture.size == "%dx%d" % SIZES[head] and picture.share(BLUE) > 0.9 else None


def type_watching(vgpu, head, text):
    """As people type: a few letters, a look at them. A guest that does not get to run loses what is beyond 64 events."""
    for i in range(0, len(text), 4):
        before = Picture(vgpu.screenshot(head, "typed")).pixels
        vgpu.type(text[i:i + 4])
        until(f"{text[i:i + 4]!r} of {text!r} on head {head} (pictures in the folder)",
              lambda: Picture(vgpu.screenshot(head, "typed")).pixels != before, 60)


def typed_and_seen(guest, vgpu, head, text):
    """Somebody types into the terminal on this head: its program reads it, and the picture shows it."""
    other = Picture(vgpu.screenshot(1 - head, "before"))
    type_watching(vgpu, head, f"echo '{text}' >/tmp/typed-{head}\n")
    until(f"'{text}' being typed on head {head} (pictures in the folder)", lambda: guest.sh(f"cat /tmp/typed-{head}", status=None) == text, 30)

    seen = [Picture(vgpu.screenshot(head, "before"))]

    def still():
        seen.append(Picture(vgpu.screenshot(head, "typed")))
        return not changed(*seen[-2:])
    until(f"head {head} standing still (pictures in the folder)", still)
    if changed(other, Picture(vgpu.screenshot(1 - head, "other"))):
        raise Failure(f"head {1 - head} changed while somebody typed on head {head}")


@case("desktop", sets="full")
def desktop(bench):
    """weston on two heads, a German keyboard: somebody opens a terminal on each by its panel, and types into it"""
    vgpu = bench.vgpu(["%dx%d" % s for s in SIZES], options=("--no-render", "--input-per-head", "--layout", "de"))
    guest = bench.guest(vgpu).ready()
    guest.sh(PER_HEAD + WESTON)
    try:
        for head in (0, 1):
            until(f"weston's background on head {head} (pictures in the folder)", lambda: background(vgpu, head), 60)
        for head in (0, 1):
            # The pointer goes where it is pointed.
            vgpu.point(head, 300, 300, SIZES[head])
            until(f"a pointer on head {head}", lambda: Picture(vgpu.screenshot(head, "pointer")).colors() > background(vgpu, head).colors() - 1)
            before = Picture(vgpu.screenshot(head, "pointer"))
            vgpu.point(head, 500, 400, SIZES[head])
            box = until(f"the pointer moving on head {head}", lambda: changed(before, Picture(vgpu.screenshot(head, "moved"))))
            if not (290 <= box[0] <= 305 and 290 <= box[1] <= 305 and 495 <= box[2] <= 540 and 395 <= box[3] <= 440):
                raise Failure(f"head {head}: the pointer moved from (300, 300) to (500, 400), the picture changed in {box}")
            vgpu.click(head, 16, 16, SIZES[head])
            until(f"a terminal on head {head} (pictures in the folder)",
                  lambda: Picture(vgpu.screenshot(head, "opened")).share((0, 0, 0)) > 0.2, 30)
            typed_and_seen(guest, vgpu, head, f"head {head}: Grüße, z/y {{}} [] \\ @ € |")
    except Failure:
        with open(f"{bench.folder}/weston.log", "w", encoding="utf-8") as f:
            f.write(guest.sh("cat /tmp/weston.out /tmp/weston.log", status=None))
        raise
    finally:
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
            type_watching(vgpu, head, f"on head {head} of X\n")
            until(f"what was typed on head {head}", lambda: guest.sh(f"cat /tmp/x-{head}", status=None) == f"on head {head} of X", 30)
            vgpu.screenshot(head, "typed")
    except Failure:
        with open(f"{bench.folder}/xorg.log", "w", encoding="utf-8") as f:
            f.write(guest.sh("cat /tmp/xorg.out /tmp/xrandr /tmp/xorg.log", status=None))
        raise
    finally:
        guest.sh("pkill xterm; pkill Xorg; for i in $(seq 50); do pgrep -x Xorg >/dev/null || break; sleep 0.2; done; chvt 1; true", status=None)
