# SPDX-License-Identifier: Apache-2.0
"""Keyboard, pointer and touch screen: a stock guest finds them, and gets what somebody in front of the vGPU does."""

from guestvm import Failure, case, until

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
