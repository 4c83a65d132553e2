# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor (QMP): devices that come and go while a guest runs."""

import json
import socket

from guestvm import Failure, until


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)

        def connected():
            try:
                self.socket.connect(path)
                return True
            except OSError:
                return False
        until("QEMU's monitor", connected)
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.file.readline()  # its greeting
        self.ask("qmp_capabilities")

    def ask(self, name, **arguments):
        self.file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.file.flush()
        while "event" in (answer := json.loads(self.file.readline())):
            pass
        if "error" in answer:
            raise Failure(f"QEMU's {name}: {answer['error']['desc']}")
        return answer["return"]

    def close(self):
        self.file.close()
        self.socket.close()
