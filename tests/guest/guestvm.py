# SPDX-License-Identifier: Apache-2.0
"""A vGPU's process, and a stock Debian guest in a stock QEMU that has it.

Both are ended whatever happens, with this program too; every wait has a limit. What they said lies in the folder they are given.
"""

import base64
import glob
import http.client
import io
import json
import os
import shutil
import select
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", ".."))
BUILD = os.environ.get("GUEST_BUILD", "build/gcc")
OUT = "build/guest"
ALONE = "init=/usr/lib/divvy/guest-run"
BOOT_LIMIT = 120  # seconds; 7 to 20 are usual


class Failure(Exception):
    """The case has failed, for the reason given."""


class LeftOut(Exception):
    """The case cannot be run here, for the reason given."""


def say(text):
    print(f"guest: {text}", file=sys.stderr, flush=True)


def until(what, condition, limit=30.0):
    """The condition's first true answer."""
    end = time.monotonic() + limit
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"{what}: not after {limit:.0f} s")
        time.sleep(0.2)


def start(command, log, **how):
    """A process that ends with this one, and has no terminal."""
    with open(log, "wb") as f:
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL"] + command, stderr=f, cwd=TOP, start_new_session=True, **how)


def end(process):
    """By its id, first kindly."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(30)


def held(pid):
    """What a process holds: descriptors, mappings, threads, and its memory in KiB."""
    proc = f"/proc/{pid}"
    with open(f"{proc}/maps", encoding="utf-8", errors="replace") as f:
        maps = sum(1 for _ in f)
    with open(f"{proc}/smaps_rollup", encoding="ascii") as f:
        anonymous = next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))
    return {"fds": len(os.listdir(f"{proc}/fd")), "maps": maps, "threads": len(os.listdir(f"{proc}/task")), "anonymous_kib": anonymous}


def settled(reading):
    """A reading that stays for a moment."""
    now = reading()
    for _ in range(20):
        before, now = now, reading()
        if before == now:
            break
        time.sleep(0.1)
    return now


def children(pid):
    """Those of all threads of a process."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            found += [int(child) for child in f.read().split()]
    return found


def renderers(pid):
    """Below a vGPU's process, however deep: its render servers, of which there is one or none, and their workers."""
    def is_one(process):
        try:
            return os.path.basename(os.readlink(f"/proc/{process}/exe")) == "virgl_render_server"
        except OSError:
            return False  # it has ended, or is about to
    servers, workers, below = [], [], [(pid, False)]
    while below:
        process, is_server = below.pop()
        try:
            found = children(process)
        except OSError:
            continue
        for child in found:
            if is_one(child):
                (workers if is_server else servers).append(child)
            below.append((child, is_one(child)))
    return servers, workers


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("vgpu", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Vgpu:
    """divvy-vgpu, and its control socket."""

    def __init__(self, folder, heads, options=("--no-render",), wrapper=(), vnc=False):
        self.folder, self.log = folder, f"{folder}/vgpu.log"
        self.sockets = tempfile.mkdtemp(prefix="guest-")  # a socket's path has a limit
        self.socket, self.control = f"{self.sockets}/vgpu", f"{self.sockets}/control"
        self.pictures = 0
        self.vnc = [f"{self.sockets}/vnc{i}" for i in range(len(heads))] if vnc else []
        options = [*options, *(word for path in self.vnc for word in ("--vnc", path))]
        command = [*wrapper, f"{BUILD}/divvy-vgpu", "--socket", self.socket, "--control", self.control, "--heads", ",".join(heads), *options]
        self.process = start(command, self.log, stdin=subprocess.DEVNULL)
        try:
            until("divvy-vgpu listens", lambda: os.path.exists(self.control) or self.process.poll() is not None)
            if self.process.poll() is not None:
                raise Failure(f"divvy-vgpu ended with status {self.process.returncode}: {self.words()}")
        except Failure:
            self.close()
            raise

    def words(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read().strip()

    def request(self, method, path, body=None, status=(200, 204)):
        connection = UnixConnection(self.control)
        try:
            connection.request(method, f"/api/v1/vgpu.{path}", json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as problem:
            raise Failure(f"{method} vgpu.{path}: {problem!r}; the log: {self.words()}") from None
        finally:
            connection.close()
        if answer.status not in status:
            raise Failure(f"{method} vgpu.{path}: {answer.status} {data[:300]!r}")
        return answer.status, data

    def info(self):
        return json.loads(self.request("GET", "info")[1])

    def inputs(self):
        """Sockets of its keyboard, pointers and touch screens."""
        return sorted(glob.glob(f"{self.socket}.*"))

    def keys(self, *names):
        """Pressed together, as X11 calls them."""
        self.request("PUT", "keys", {"keys": names})

    def type(self, text):
        for i in range(0, len(text), 64):
            until("what was typed before being read", lambda: self.request("PUT", "text", {"text": text[i:i + 64]}, status=(204, 409))[0] == 204)

    def point(self, head, x, y, size, buttons=0):
        self.request("PUT", "pointer", {"head": head, "x": x, "y": y, "width": size[0], "height": size[1], "buttons": buttons})

    def click(self, head, x, y, size):
        for buttons in (0, 1, 0):
            self.point(head, x, y, size, buttons)

    def head(self, head, width, height):
        self.request("PUT", "head", {"head": head, "width": width, "height": height})

    def screenshot(self, head, name=None):
        """Path of a PNG; None where the head is off."""
        status, data = self.request("GET", f"screenshot/{head}", status=(200, 409))
        if status == 409:
            return None
        self.pictures += 1
        path = f"{self.folder}/{name or f'shot-{self.pictures}'}-head{head}.png"
        with open(path, "wb") as f:
            f.write(data)
        return path

    def held(self):
        return held(self.process.pid)

    def settled(self):
        """held(), once the connection of the last request is gone."""
        return settled(self.held)

    def close(self):
        status = end(self.process)
        shutil.rmtree(self.sockets, ignore_errors=True)
        return status


class Arbiter:
    """divvy arbiter, and what it says of its vGPUs."""

    def __init__(self, folder, wrapper=()):
        self.log, self.sockets = f"{folder}/arbiter.log", tempfile.mkdtemp(prefix="guest-")
        self.socket = f"{self.sockets}/arbiter"
        command = [*wrapper, f"{BUILD}/divvy", "arbiter", "--socket", self.socket, "--trace", f"{folder}/turns.csv"]
        self.process = start(command, self.log, stdin=subprocess.DEVNULL)
        try:
            until("the arbiter listens", lambda: os.path.exists(self.socket) or self.process.poll() is not None)
            if self.process.poll() is not None:
                with open(self.log, encoding="utf-8", errors="replace") as f:
                    raise Failure(f"the arbiter ended with status {self.process.returncode}: {f.read().strip()}")
        except Failure:
            self.close()
            raise

    def vgpus(self):
        """As `divvy vgpus --json` has them, by name."""
        said = subprocess.run([f"{BUILD}/divvy", "vgpus", "--json", "--socket", self.socket], stdout=subprocess.PIPE, check=True, cwd=TOP, timeout=60).stdout
        return {vgpu["name"]: vgpu for vgpu in json.loads(said)["vgpus"]}

    def close(self):
        status = end(self.process)
        shutil.rmtree(self.sockets, ignore_errors=True)
        return status


def archive(path, files):
    """A disk that is a tar archive; guest-run unpacks it. files: name inside to path, or to bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.mode = 0o755
            if isinstance(content, bytes):
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
            else:
                with open(content, "rb") as f:
                    about.size = os.fstat(f.fileno()).st_size
                    tar.addfile(about, f)
    with open(path, "ab") as f:  # whole sectors, and not so few that it is no disk
        f.truncate((max(f.tell(), 65536) + 4095) & ~4095)


def image(variant):
    """Folder of an image, made when it is not there yet."""
    made = subprocess.run([f"{TOP}/tools/guest-image", "make", variant], stdout=subprocess.PIPE, check=False, text=True)
    if made.returncode:
        raise Failure(f"tools/guest-image make {variant} failed (the lines above say why)")
    return made.stdout.strip()


def qemu_command(folder, append, stock=False, vgpu=None, disks=(), memory="1G", display="none", devices=(), cpus=2, reboots=False):
    """
    A stock QEMU with a guest of an image's folder. stock: Debian's own RAM disk and systemd, on a disk whose changes are thrown
    away; without it udev and the program of divvy.run= alone, from a root that is not written to.
    """
    words = f"root=/dev/vda {'rw' if stock else 'ro ' + ALONE} console=ttyS0 quiet panic=-1 {append}"
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", display,
               "-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi,tb-size=256", "-smp", str(cpus), "-cpu", "max", "-m", memory,
               "-object", f"memory-backend-memfd,id=mem,size={memory},share=on",
               "-kernel", f"{folder}/vmlinuz", "-initrd", f"{folder}/initrd{'' if stock else '-small'}.img", "-append", words,
               "-drive", f"if=virtio,file={folder}/root.img,format=raw," + ("snapshot=on" if stock else "readonly=on"),
               "-serial", "stdio", "-monitor", "none"]
    for disk in disks:
        command += ["-drive", f"if=virtio,file={disk},format=raw,readonly=on"]
    if vgpu:
        # Behind a port, as on real machines: there it can be reset from outside.
        command += ["-device", "pcie-root-port,id=slot1,chassis=1,slot=1", "-device",
                    json.dumps({"driver": "vfio-user-pci", "id": "vgpu", "bus": "slot1", "socket": {"type": "unix", "path": vgpu.socket}})]
        for path in vgpu.inputs():
            command += ["-device", json.dumps({"driver": "vfio-user-pci", "socket": {"type": "unix", "path": path}})]
    return command + ([] if reboots else ["-no-reboot"]) + list(devices)


class Guest:
    """A guest whose commands go over the serial console to tests/guest/agent."""

    def __init__(self, folder, vgpu=None, variant="trixie", files=None, append="", wrapper=(), **how):
        """files: more for the disk of the agent. wrapper: words before QEMU's. how: as for qemu_command()."""
        self.folder, self.console_path = folder, f"{folder}/console"
        self.buffer, self.number, self.boot_seconds, self.boot_limit = b"", 0, 0.0, BOOT_LIMIT
        archive(f"{folder}/archive", {"agent": f"{TOP}/tests/guest/agent", **(files or {})})
        command = qemu_command(image(variant), f"divvy.run=agent {append}", vgpu=vgpu, disks=[f"{folder}/archive"], **how)
        self.console = open(self.console_path, "wb")
        self.process = start([*wrapper, *command], f"{folder}/qemu.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.started = time.monotonic()

    def _line(self, deadline, waiting_for):
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure(f"the guest was silent while {waiting_for} was waited for; its last words: {self.words()}")
            if not select.select([self.process.stdout], [], [], left)[0]:
                continue
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                self.process.wait(30)
                raise Failure(f"the guest ended while {waiting_for} was waited for (QEMU's status {self.process.returncode}): {self.words()}")
            self.console.write(data)
            self.console.flush()
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    def words(self):
        for path in (f"{self.folder}/qemu.log", self.console_path):
            with open(path, encoding="utf-8", errors="replace") as f:
                lines = [line.strip() for line in f if line.strip()]
            if lines:
                return " | ".join(lines[-3:])
        return "nothing"

    def wait_for(self, word, limit):
        """Lines up to one that begins with the word, and what follows it."""
        deadline, lines = time.monotonic() + limit, []
        while True:
            line = self._line(deadline, word)
            at = line.find(word + " ")  # systemd's escape sequences may stand before it
            if at == 0 or at > 0 and "\x1b" in line[:at]:
                return lines, line[at:].split(" ")[1:]
            lines.append(line)

    def ready(self):
        self.wait_for("@ready", self.boot_limit)
        self.boot_seconds = time.monotonic() - self.started
        return self

    def restart(self, script):
        """A script that ends this life of the guest's; returns when the next one takes commands."""
        self.send(script)
        self.started = time.monotonic()
        return self.ready()

    def send(self, script):
        self.number += 1
        self.process.stdin.write(f"{self.number} {base64.b64encode(script.encode()).decode()}\n".encode())
        self.process.stdin.flush()

    def sh(self, script, limit=60.0, status=0):
        """A script in the guest (bash); its output. status: the only good one, None for any."""
        self.send(script)
        lines, (number, got) = self.wait_for("@done", limit)
        if int(number) != self.number:
            raise Failure(f"the guest answered {number}, not {self.number}")
        output = "\n".join(lines).strip("\n")
        if status is not None and int(got) != status:
            raise Failure(f"in the guest: '{script.strip().splitlines()[-1]}' ended with status {got}: {output[-500:]}")
        return output

    def power_off(self, limit=60.0):
        """The guest ends itself. QEMU's exit status."""
        self.process.stdin.write(b"end\n")
        self.process.stdin.flush()
        _, words = self.wait_for("divvy-guest:", limit)
        if words[:2] != ["end", "0"]:
            raise Failure(f"the guest's program did not end well: {words}")
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failure(f"the guest did not power off in {limit:.0f} s") from None

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        end(self.process)
        self.process.stdin.close()
        self.process.stdout.close()
        self.console.close()


def connectors(guest):
    """What the guest's kernel knows of its monitors: name to status, modes, the serial number and size in the EDID."""
    said = guest.sh("""for c in /sys/class/drm/card0-*; do
        echo "connector ${c##*/card0-} $(cat $c/status) $(cat $c/modes | tr '\\n' ' ')"
        edid-decode --check <$c/edid 2>&1 | grep -E 'Display Product Name|DTD 1:|Manufacturer|Warning|Failure|conformity' ; done""", status=None)
    found = {}
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["connector"]:
            name = words[1]
            found[name] = {"status": words[2], "modes": words[3:], "edid": []}
        elif found:
            found[name]["edid"].append(line.strip())
    return found


def expect_packed_rings(guest, driver):
    """The guest's driver of that name has taken packed rings (VIRTIO_F_RING_PACKED, bit 34) of each of its devices."""
    said = guest.sh(f"for d in /sys/bus/virtio/drivers/{driver}/virtio*; do cut -c35 $d/features; done").split()
    if not said or set(said) != {"1"}:
        raise Failure(f"{driver} has packed rings of its devices: {said}")


def case(name, sets="full"):
    """A function of a Bench is a case."""
    def mark(function):
        function.guest_case = {"name": name, "sets": sets.split()}
        return function
    return mark


class Bench:
    """What a case stands on. Everything that it starts is ended with it, but for what is shared."""

    def __init__(self, name, shared):
        self.folder, self.shared = f"{TOP}/{OUT}/{name}", shared
        self.started, self.notes = [], []

    def note(self, text):
        """To be told beside the result."""
        self.notes.append(text)

    def place(self, name):
        """A folder of its own for one of several; the case's own without a name."""
        folder = f"{self.folder}/{name}" if name else self.folder
        os.makedirs(folder, exist_ok=True)
        return folder

    def arbiter(self, **how):
        arbiter = Arbiter(self.folder, **how)
        self.started.append(arbiter)
        return arbiter

    def vgpu(self, heads, name=None, **how):
        vgpu = Vgpu(self.place(name), heads, **how)
        self.started.append(vgpu)
        return vgpu

    def guest(self, vgpu=None, name=None, **how):
        guest = Guest(self.place(name), vgpu, **how)
        self.started.append(guest)
        return guest

    def two_heads(self):
        """A guest with a vGPU of two heads, 1280x800 and 1024x768, that other cases have too."""
        if not self.shared:
            folder = f"{TOP}/{OUT}/shared"
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            self.shared["vgpu"] = Vgpu(folder, ["1280x800", "1024x768"], options=("--no-render", "--input"))
            self.shared["guest"] = Guest(folder, self.shared["vgpu"])
            self.shared["guest"].ready()
            self.note(f"its guest was up after {self.shared['guest'].boot_seconds:.1f} s, {self.shared['guest'].cpu_seconds():.1f} s of CPU")
        self.shared["vgpu"].folder = self.folder
        return self.shared["guest"], self.shared["vgpu"]

    def end_shared(self):
        for name in ("guest", "vgpu"):
            if name in self.shared:
                self.shared.pop(name).close()

    def close(self):
        for one in reversed(self.started):
            one.close()


def boot_by_hand(variant):
    """A guest on this terminal, with a login."""
    folder = f"{TOP}/{OUT}/by-hand"
    os.makedirs(folder, exist_ok=True)
    vgpu = Vgpu(folder, ["1280x800", "1024x768"], options=("--no-render", "--input"))
    print(f"curl --unix-socket {vgpu.control} http://vgpu/api/v1/vgpu.screenshot/0 -o head0.png   # a picture of the first head\n"
          "log in as root; poweroff ends it", flush=True)
    try:
        return subprocess.run(qemu_command(image(variant), "", stock=True, vgpu=vgpu), check=False).returncode
    finally:
        vgpu.close()
