# SPDX-License-Identifier: Apache-2.0
"""The rig's host: a QEMU that plays a whole machine with an IOMMU, and the way to run things in it.

QEMU gets the tree this program runs in as the machine's root (read-only, by 9p), a fixed set of PCI
devices behind root ports, and two serial ports: the console, and the line to the agent
(tests/rig/host-agent). A Host can be started and stopped, or attached to when it was left running; it
ends by its process id, and with this program when this program dies.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CACHE = os.environ.get("DIVVY_CACHE") or os.path.expanduser("~/.cache/divvy")
WORK = os.path.join(TOP, "build", "rig")
BOOT_LIMIT = 150  # seconds; 6 to 8 are usual

INTEL = (["-device", "intel-iommu,intremap=on,caching-mode=off"], "intel_iommu=on")
# dma-remap: without it the AMD model leaves DMA alone. no_timer_check: the timer test behind an
# interrupt-remapped IO-APIC is a race that a busy machine loses (docs/rig.md).
AMD = (["-device", "amd-iommu,intremap=on,dma-remap=on"], "amd_iommu=on no_timer_check")
FLAVOURS = {  # of the host: the IOMMU, and the line of its kernel (tests/rig/kernel)
    "intel": (*INTEL, "6.12"),
    "amd": (*AMD, "6.12"),
    "linux6.1": (*INTEL, "6.1"),
    "linux7": (*INTEL, "7"),
    "node": (*INTEL, "6.12"),
}
# Room for seven instances and those that come and go; and a second display card, to be given away whole beside the first.
SHAPES = {"node": (4, "6G", ["secondary-vga,romfile="])}  # processors, memory, devices behind the usual ones
SHAPE = (2, "4608M", [])


def say(text):
    print("rig: " + text, file=sys.stderr, flush=True)


class HostDied(Exception):
    """The host went away or fell silent; the text says how far it had come."""


def make_image(path, magic):
    """A disk of known content: its name in the first sector, the rest pseudo-random."""
    with open(path, "wb") as f:
        f.write(magic.encode().ljust(512, b"\0"))
        f.write(random.Random(magic).randbytes((16 << 20) - 512))


def make_rom(path):
    """An expansion ROM of 2 KiB that no firmware runs: its code type is EFI's, its contents are noise."""
    rom = bytearray(random.Random("divvy-rig-rom").randbytes(2048))
    rom[0:3] = b"\x55\xaa\x04"
    rom[0x18:0x1a] = b"\x1c\0"
    # PCI Firmware 3.2, 5.1.2: ids, class, length in 512 bytes, code type 3, the last image
    rom[0x1c:0x34] = b"PCIR" + bytes.fromhex("3412e811 0000 1800 00 00ff00 0400 0000 03 80 0000")
    with open(path, "wb") as f:
        f.write(rom)


def devices(folder, more):
    """The PCI devices, each behind a root port of its own: the n-th is at 0000:0n:00.0. more: after the usual ones."""
    ports = [
        ["e1000e,netdev=n0,mac=52:54:00:11:22:33,romfile="],
        ["nvme,serial=rig0,drive=d0"],
        ["bochs-display,id=display0,romfile="],
        ["edu,dma_mask=0x3fffffffff"],
        # Two functions of one slot: one isolation group.
        ["nvme,serial=rig1,drive=d1,addr=0.0,multifunction=on", "edu,dma_mask=0x3fffffffff,addr=0.1"],
        # Its virtual functions come up at 0000:06:10.0 and on.
        ["igb,netdev=n1,mac=52:54:00:11:22:44,romfile="],
        # A 64-bit BAR of 4 GiB, which is a file: only the pages that somebody touched take room.
        ["ivshmem-plain,memdev=big"],
        [f"edu,dma_mask=0x3fffffffff,romfile={folder}/edu.rom"],
        # Neither can be reset alone; and without power management the kernel does not wait for a link that QEMU loses.
        ["edu,dma_mask=0x3fffffffff,addr=0.0,multifunction=on", "edu,dma_mask=0x3fffffffff,addr=0.1"],
    ]
    ports += [[device] for device in more]
    make_rom(f"{folder}/edu.rom")
    args = ["-netdev", "user,id=n0,restrict=off", "-netdev", "user,id=n1,restrict=off",
            "-object", f"memory-backend-file,id=big,size=4G,share=on,mem-path={folder}/big.mem"]
    for i in range(2):
        image = os.path.join(folder, f"nvme{i}.img")
        make_image(image, f"divvy-rig-nvme-{i}")
        args += ["-drive", f"if=none,id=d{i},file={image},format=raw,cache=writeback"]
    for n, functions in enumerate(ports, 1):
        args += ["-device", f"pcie-root-port,id=rp{n},slot={n},chassis={n},addr={0x10 + n:#x}"]
        for f in functions:
            args += ["-device", f"{f.split(',')[0]},bus=rp{n},{f.split(',', 1)[1]}" if "," in f else f"{f},bus=rp{n}"]
    return args


class Host:
    def __init__(self, flavour, kernel):
        self.flavour, self.kernel = flavour, kernel
        self.folder = os.path.join(WORK, "host-" + flavour)
        self.pid = None
        self.process = self.agent = self.sockets = None
        self.buffer = b""
        self.boot_seconds = 0.0

    # -- starting and ending ----------------------------------------------------------------------

    def start(self, detached=False):
        """Boot and wait for the agent. detached: outlive this program ("rig up")."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        # Socket paths are limited to 108 bytes, so they do not lie under the checkout.
        self.sockets = tempfile.mkdtemp(prefix="rig-")
        iommu, words, line = FLAVOURS[self.flavour]
        cpus, memory, more = SHAPES.get(self.flavour, SHAPE)
        append = f"console=ttyS0 quiet panic=-1 {words} rig.top={TOP} rig.cache={CACHE}"
        share = "local,security_model=none,multidevs=remap"
        args = ["qemu-system-x86_64", "-nodefaults", "-nographic", "-no-reboot", "-M", "q35",
                "-accel", "tcg,thread=multi,tb-size=512", "-smp", str(cpus), "-cpu", "max,+svm", "-m", memory,
                "-serial", f"file:{self.folder}/console",
                "-serial", f"unix:{self.sockets}/agent,server=on,wait=off",
                "-qmp", f"unix:{self.sockets}/qmp,server=on,wait=off",
                "-kernel", f"{self.kernel}/vmlinux", "-initrd", f"{WORK}/images/host-{line}.img", "-append", append]
        for tag, path, mode in (("root", "/", ",readonly=on"), ("top", TOP, ",readonly=on"),
                                ("cache", CACHE, ",readonly=on"), ("work", WORK, "")):
            args += ["-fsdev", f"{share},id={tag},path={path}{mode}",
                     "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},disable-legacy=on"]
        args += iommu + devices(self.folder, more)
        if self.flavour in SHAPES:
            # All its processors are threads of one here: side by side they lose a race in QEMU sooner or later (docs/rig.md).
            args = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] + args
        if not detached:
            args = ["setpriv", "--pdeathsig", "KILL"] + args
        started = time.monotonic()
        with open(os.path.join(self.folder, "qemu.log"), "wb") as log:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        self.pid = self.process.pid
        with open(os.path.join(self.folder, "state"), "w", encoding="utf-8") as f:
            json.dump({"pid": self.pid, "sockets": self.sockets}, f)
        self._connect(started + 10)
        self._wait_for("ready", started + BOOT_LIMIT)
        self.boot_seconds = time.monotonic() - started
        return self

    @staticmethod
    def left_running(flavour, kernel):
        """The Host that "rig up" left behind, or None."""
        host = Host(flavour, kernel)
        try:
            with open(os.path.join(host.folder, "state"), encoding="utf-8") as f:
                state = json.load(f)
            with open(f"/proc/{state['pid']}/cmdline", "rb") as f:
                if state["sockets"].encode() not in f.read():
                    return None
        except (OSError, ValueError, KeyError):
            return None
        host.pid, host.sockets = state["pid"], state["sockets"]
        host._connect(time.monotonic() + 5)
        return host

    def _connect(self, deadline):
        while True:
            try:
                self.agent = socket.socket(socket.AF_UNIX)
                self.agent.connect(os.path.join(self.sockets, "agent"))
                return
            except OSError:
                self.agent.close()
                if time.monotonic() > deadline or self._exited():
                    raise HostDied(self._last_words()) from None
                time.sleep(0.05)

    def _exited(self):
        if self.process:
            return self.process.poll() is not None
        return not os.path.exists(f"/proc/{self.pid}")

    def stop(self):
        """End the machine, whatever state it is in."""
        if self.pid and not self._exited():
            try:
                os.kill(self.pid, signal.SIGTERM)
                for _ in range(50):
                    if self._exited():
                        break
                    time.sleep(0.1)
                else:
                    os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            self.process.wait()
        if self.agent:
            self.agent.close()
        shutil.rmtree(self.sockets or "", ignore_errors=True)
        try:
            os.unlink(os.path.join(self.folder, "state"))
        except OSError:
            pass
        self.pid = self.process = self.agent = self.sockets = None

    def cpu_seconds(self):
        """Processor time that the machine has had: unlike the clock, hardly a matter of what else this one does."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _last_words(self):
        for name in ("console", "qemu.log"):
            try:
                with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as f:
                    lines = [line.strip() for line in f if line.strip()]
            except OSError:
                continue
            panic = [line for line in lines if "Kernel panic" in line or "Oops" in line]
            if panic or lines:
                return (panic or lines)[-1]
        return "no output at all"

    # -- talking to the agent ---------------------------------------------------------------------

    def _lines(self, deadline, meanwhile=lambda: None):
        """Lines of the agent until the deadline; HostDied when there will be no more."""
        while True:
            meanwhile()
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                yield line.decode(errors="replace").strip()
            left = deadline - time.monotonic()
            if left <= 0:
                raise HostDied("silent: " + self._last_words())
            self.agent.settimeout(min(left, 0.5))
            try:
                data = self.agent.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                raise HostDied(self._last_words())
            self.buffer += data

    def _wait_for(self, *words, meanwhile=lambda: None):
        *words, deadline = words
        for line in self._lines(deadline, meanwhile):
            got = line.split()
            if got[:len(words)] == list(words):
                return got[len(words):]
            if got[:1] == ["screendump"]:
                self._screendump(got[1])
            if got[:1] == ["inject"]:
                self._inject(got[1], got[2])

    def run(self, job, script, limit, follow=False):
        """Run a shell script in the host as build/rig/JOB; its exit status, 124 when it was too slow."""
        folder = os.path.join(WORK, job)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "script"), "w", encoding="utf-8") as f:
            f.write(script)
        output = os.path.join(folder, "stdout")
        with open(output, "w+", encoding="utf-8", errors="replace") as shown:
            def show():
                if follow:
                    print(shown.read(), end="", flush=True)
            try:
                self.agent.sendall(f"run {job} {limit}\n".encode())
            except OSError:
                raise HostDied(self._last_words()) from None
            status = self._wait_for("done", job, time.monotonic() + limit + 30, meanwhile=show)
            show()
        return int(status[0])

    def shell(self, command, limit=60):
        """One command; its output."""
        self.run("shell", command, limit)
        with open(os.path.join(WORK, "shell", "stdout"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def _qmp(self, name, arguments):
        """One command of QEMU's monitor; its answer, or None after saying why there is none."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(20)
                s.connect(os.path.join(self.sockets, "qmp"))
                f = s.makefile("rw", encoding="utf-8")
                f.readline()
                for command in (("qmp_capabilities", {}), (name, arguments)):
                    f.write(json.dumps({"execute": command[0], "arguments": command[1]}) + "\n")
                    f.flush()
                    while "event" in (answer := json.loads(f.readline())):
                        pass
                    if "error" in answer:
                        say(f"{name}: {answer['error']['desc']}")
                        return None
        except (OSError, ValueError) as problem:
            say(f"{name}: {problem}")
            return None
        return answer["return"]

    def _screendump(self, path):
        """What the assigned display shows, seen from outside the host: not the guest's own word for it."""
        path = os.path.join(WORK, os.path.relpath(path, WORK))
        if self._qmp("screendump", {"filename": path + ".part", "device": "display0", "head": 0}) is not None:
            os.rename(path + ".part", path)

    def _inject(self, device, error):
        """A PCI Express error of a device, reported to the host by Advanced Error Reporting."""
        said = self._qmp("human-monitor-command", {"command-line": f"pcie_aer_inject_error {device} {error}"})
        say(f"injecting {error} into {device}: {(said or '').strip()}")
