#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A browser's part, by a public WebSocket library: vnc_browser.py PORT CA PASSWORD WIDTH HEIGHT

Joins over wss with VeNCrypt's Plain, as noVNC does, asks for one raw frame and prints the SHA-256 of its pixels.
"""
import asyncio
import hashlib
import ssl
import struct
import sys

import websockets


class Stream:
    def __init__(self, socket):
        self.socket, self.data = socket, b""

    async def get(self, size):
        while len(self.data) < size:
            self.data += await self.socket.recv()
        data, self.data = self.data[:size], self.data[size:]
        return data

    async def expect(self, data):
        got = await self.get(len(data))
        assert got == data, (got, data)


async def main(port, ca, password, width, height):
    context = ssl.create_default_context(cafile=ca)
    async with websockets.connect(f"wss://127.0.0.1:{port}/websockify", ssl=context, subprotocols=["binary"],
                                  max_size=None) as socket:
        assert socket.subprotocol == "binary"
        stream = Stream(socket)
        await stream.expect(b"RFB 003.008\n")
        await socket.send(b"RFB 003.008\n")
        count = (await stream.get(1))[0]
        assert 19 in await stream.get(count)
        await socket.send(b"\x13")
        await stream.expect(b"\0\2")
        await socket.send(b"\0\2")
        await stream.expect(b"\0\1" + struct.pack(">I", 256))
        await socket.send(struct.pack(">I", 256))
        name = b"anybody"
        await socket.send(struct.pack(">II", len(name), len(password)) + name + password)
        await stream.expect(b"\0\0\0\0")
        await socket.send(b"\1")
        init = await stream.get(24)
        assert struct.unpack(">HH", init[:4]) == (width, height), init
        await stream.get(struct.unpack(">I", init[20:])[0])
        await socket.send(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        _, count = struct.unpack(">HH", await stream.get(4))
        pixels = bytearray(width * height * 4)
        for _ in range(count):
            x, y, w, h, encoding = struct.unpack(">HHHHi", await stream.get(12))
            assert encoding == 0
            for row in range(h):
                at = ((y + row) * width + x) * 4
                pixels[at:at + w * 4] = await stream.get(w * 4)
        print(hashlib.sha256(pixels).hexdigest())


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3].encode(), int(sys.argv[4]), int(sys.argv[5])))
