# SPDX-License-Identifier: Apache-2.0
"""A VNC viewer (RFC 6143) over a UNIX socket: what it shows, and a person's hands at it."""

import select
import socket
import struct
import time

from guestvm import Failure, until
from picture import Picture

RAW, DESKTOP_SIZE, EXTENDED_KEYS = 0, -223, -258
KEYSYMS = {"\n": 0xff0d, "\t": 0xff09}
NAMED = {"Control_L": 0xffe3, "Alt_L": 0xffe9, "Shift_L": 0xffe1, "Delete": 0xffff, "Super_L": 0xffeb, "Tab": 0xff09}


class Viewer:
    """One that paints pixels as they are. All that there are are served while one looks, since one that does not read is dropped."""

    there_are = []

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.extended = False
        self.buttons, self.x, self.y = 0, 0, 0
        self._handshake()
        self.there_are.append(self)

    def fileno(self):
        return self.socket.fileno()

    def _read(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise Failure("the VNC server ended the connection")
            data += more
        return data

    def _handshake(self):
        if self._read(12) != b"RFB 003.008\n":
            raise Failure("no RFB 3.8")
        self.socket.sendall(b"RFB 003.008\n")
        kinds = self._read(self._read(1)[0])
        if 1 not in kinds:
            raise Failure(f"the UNIX socket wants security of {list(kinds)}")
        self.socket.sendall(b"\x01")
        if self._read(4) != b"\0\0\0\0":
            raise Failure("the VNC server refuses")
        self.socket.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", self._read(4))
        self._read(16)
        self.name = self._read(struct.unpack(">I", self._read(4))[0]).decode()
        # Blue, green, red, nothing; raw, and told of another size and that keys may have a place.
        self.socket.sendall(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.socket.sendall(struct.pack(">BxHiii", 2, 3, RAW, DESKTOP_SIZE, EXTENDED_KEYS))
        self.screen = bytearray(4 * self.width * self.height)
        self._ask(False)

    def _ask(self, incremental):
        self.socket.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def _rectangle(self):
        x, y, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
        if encoding == DESKTOP_SIZE:
            self.width, self.height = width, height
            self.screen = bytearray(4 * width * height)
        elif encoding == EXTENDED_KEYS:
            self.extended = True
        elif encoding == RAW:
            for row in range(height):
                at = 4 * ((y + row) * self.width + x)
                self.screen[at:at + 4 * width] = self._read(4 * width)
        else:
            raise Failure(f"a rectangle of encoding {encoding}, which was not asked for")

    def _message(self):
        kind = self._read(1)[0]
        if kind == 0:
            resized = (self.width, self.height)
            for _ in range(struct.unpack(">xH", self._read(3))[0]):
                self._rectangle()
            self._ask(resized == (self.width, self.height))
        elif kind == 3:
            self._read(struct.unpack(">xxxI", self._read(7))[0])
        elif kind != 2:
            raise Failure(f"message {kind} of the VNC server")

    def look(self, seconds=0.3):
        """What has come until nothing came for a moment; a copy: width, height, RGB pixels as of picture.Picture."""
        end = time.monotonic() + 10 * seconds
        while time.monotonic() < end:
            ready = select.select(self.there_are, [], [], seconds)[0]
            if not ready:
                break
            for viewer in ready:
                viewer._message()
        return self.picture()

    def picture(self):
        pixels = bytearray(3 * self.width * self.height)
        for channel in range(3):
            pixels[channel::3] = self.screen[2 - channel::4]
        return Shown(self.width, self.height, bytes(pixels))

    def key(self, keysym, down, scancode=0):
        if scancode:
            self.socket.sendall(struct.pack(">BBHII", 255, 0, down, keysym, scancode))
        else:
            self.socket.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, text):
        """By what it means alone, as viewers do that know no places of keys."""
        for character in text:
            code = ord(character)
            keysym = KEYSYMS.get(character, code if code < 0x100 else 0x01000000 | code)
            self.key(keysym, True)
            self.key(keysym, False)

    def press(self, *names):
        for name in names:
            self.key(NAMED[name], True)
        for name in reversed(names):
            self.key(NAMED[name], False)

    def point(self, x, y, buttons=0):
        self.buttons, self.x, self.y = buttons, x, y
        self.socket.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def click(self, x, y):
        """As a hand does: libinput takes a button that is up at once for a worn contact."""
        for buttons in (0, 1, 0):
            self.point(x, y, buttons)
            time.sleep(0.2)

    def type_watching(self, text, write=None):
        """As people type: a few letters, a look at them. A guest that does not get to run loses what is beyond 64 events."""
        for i in range(0, len(text), 4):
            before = self.look(0.1).pixels
            (write or self.type)(text[i:i + 4])
            until(f"{text[i:i + 4]!r} of {text!r} being seen", lambda: self.look(0.1).pixels != before, 60)

    def close(self):
        self.there_are.remove(self)
        self.socket.close()


class Shown(Picture):
    """The same as a picture of a file."""

    def __init__(self, width, height, pixels):
        self.width, self.height, self.pixels = width, height, pixels
