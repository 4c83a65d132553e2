# SPDX-License-Identifier: Apache-2.0
"""A desktop in a guest, and whether its picture changes."""

from guestvm import until

WESTON = """
mkdir -p -m 700 /tmp/xdg
cat >/tmp/weston.ini <<'END'
[core]
idle-time=0
[shell]
background-color=0xff@COLOR@
clock-format=none
animation=none
[keyboard]
keymap_layout=@LAYOUT@
[launcher]
icon=/usr/share/weston/terminal.png
path=/usr/bin/weston-terminal
END
export XDG_RUNTIME_DIR=/tmp/xdg
(SEATD_VTBOUND=0 seatd-launch -- weston --backend=drm --renderer=pixman --config=/tmp/weston.ini --log=/tmp/weston.log </dev/null >/tmp/weston.out 2>&1 &)
"""


def weston(color, layout):
    """A script that starts it, drawn by the processor: a background of this colour (rrggbb), and a panel whose first button is a terminal."""
    return WESTON.replace("@COLOR@", color).replace("@LAYOUT@", layout)


def changed(before, after):
    """The rectangle outside of which two pictures are the same; None: they are the same."""
    rows = [y for y in range(after.height)
            if before.pixels[3 * y * after.width:3 * (y + 1) * after.width] != after.pixels[3 * y * after.width:3 * (y + 1) * after.width]]
    columns = [x for x in range(after.width) if any(before.at(x, y) != after.at(x, y) for y in rows)]
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if columns else None


def settled(viewer, what):
    seen = [viewer.look()]

    def still():
        seen.append(viewer.look())
        return seen[-1] if not changed(*seen[-2:]) else None
    return until(f"{what} standing still", still, 60)
