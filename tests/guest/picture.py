# SPDX-License-Identifier: Apache-2.0
"""Screenshots: their pixels, and the text of a console on them, read by the font that the guest's kernel says it draws with."""

import subprocess

# The console's font by KDFONTOP (linux/kd.h): 32 rows a glyph, rows of whole bytes. Run in the guest.
FONT_SCRIPT = r"""perl -e '
	my $data = "\0" x (512 * 32 * 4);
	my $op = pack("I5x4P", 1, 0, 32, 32, 512, $data);
	open(my $tty, "+<", "/dev/tty1") or die "tty1: $!";
	ioctl($tty, 0x4b72, $op) or die "KDFONTOP: $!";
	my (undef, undef, $width, $height, $count) = unpack("I5", $op);
	print "$width $height $count\n", unpack("H*", substr($data, 0, $count * 32 * int(($width + 7) / 8))), "\n";
'"""


class Picture:
    """8-bit RGB, rows from the top."""

    def __init__(self, path):
        ppm = subprocess.run(["pngtopam", path], stdout=subprocess.PIPE, check=True).stdout
        magic, size, depth, self.pixels = ppm.split(b"\n", 3)
        self.width, self.height = map(int, size.split())
        if magic != b"P6" or depth != b"255" or len(self.pixels) != 3 * self.width * self.height:
            raise ValueError(f"{path}: {magic!r} {size!r} {depth!r}")

    @property
    def size(self):
        return f"{self.width}x{self.height}"

    def at(self, x, y):
        return tuple(self.pixels[3 * (y * self.width + x):][:3])

    def share(self, color, near=24):
        """Which part of the picture (a sample: every 7th pixel) has this color."""
        sample = [self.pixels[i:i + 3] for i in range(0, len(self.pixels), 21)]
        return sum(all(abs(a - b) <= near for a, b in zip(p, color)) for p in sample) / len(sample)

    def colors(self):
        """How many there are, in a sample."""
        return len({self.pixels[i:i + 3] for i in range(0, len(self.pixels), 21)})


class Font:
    def __init__(self, text):
        """text: what FONT_SCRIPT wrote."""
        head, glyphs = text.split("\n")
        self.width, self.height, count = map(int, head.split())
        raw, row = bytes.fromhex(glyphs), (self.width + 7) // 8
        pitch = len(raw) // count
        self.glyphs = {}
        for code in range(min(count, 127)):
            if code >= 32:
                self.glyphs[raw[code * pitch:code * pitch + self.height * row]] = chr(code)

    def read(self, picture, count):
        """The first lines of a console, from the picture's corner on; what is no letter is "~"."""
        lines, row = [], (self.width + 7) // 8
        for top in range(0, min(count * self.height, picture.height - self.height + 1), self.height):
            # One number a pixel row: bit set where there is any light.
            bits = []
            for y in range(top, top + self.height):
                line = picture.pixels[3 * y * picture.width:3 * (y + 1) * picture.width]
                bits.append([any(line[3 * x:3 * x + 3]) for x in range(picture.width)] if any(line) else None)
            text = ""
            for left in range(0, picture.width - self.width + 1, self.width):
                glyph = b"".join(self._bytes(r, left, row) for r in bits)
                text += self.glyphs.get(glyph, "~")
            lines.append(text.rstrip())
        return lines

    def _bytes(self, bits, left, row):
        value = 0
        if bits:
            for x in range(self.width):
                value |= bits[left + x] << (row * 8 - 1 - x)
        return value.to_bytes(row, "big")
