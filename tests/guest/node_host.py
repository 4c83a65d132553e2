# SPDX-License-Identifier: Apache-2.0
"""
A stock Debian 13 that is a node: the image "node" booted with its systemd, with an IOMMU, and with virtualisation that QEMU emulates; and the
packages that are installed on it. Nothing of Divvy's is in it before.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

from guestvm import BUILD, TOP, Failure
from monitor import Monitor

FILES = "/srv/test"  # what the test brought, and where its commands run
CARD = "0000:01:00.0"     # a display card that is there from the start
NEW_CARD = "0000:02:00.0"  # one that comes and goes
UNIT = "/sys/fs/cgroup/system.slice/divvyd.service"

TYPES = """- name: small
  vcpus: 1
  memory_mib: 64
  gpus:
    - { mode: shared, policy: weighted, weight: 200, vram_mib: 64, selector: software }
- name: whole
  vcpus: 1
  memory_mib: 64
  gpus:
    - { mode: dedicated, count: 1, selector: "1234:1111" }
"""


def command(*words, **how):
    done = subprocess.run(words, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **how)
    if done.returncode:
        raise Failure(f"{' '.join(words)}: status {done.returncode}: {done.stdout[-800:]}")
    return done.stdout


def package():
    """build/deb/divvy_*.deb, made anew when anything that may be in it has changed since."""
    there = glob.glob(f"{TOP}/build/deb/divvy_*.deb")
    known = command("git", "ls-files", ":!tests", ":!guest-drivers").splitlines()
    newest = max(os.path.getmtime(f"{TOP}/{f}") for f in known if os.path.exists(f"{TOP}/{f}"))
    if len(there) != 1 or os.path.getmtime(there[0]) < newest:
        command("dist/deb")
        there = glob.glob(f"{TOP}/build/deb/divvy_*.deb")
    return there[0]


def version(deb):
    return command("dpkg-deb", "-f", deb, "Version").strip()


def next_version(deb, folder):
    """The same files with a higher version."""
    tree, out = f"{folder}/next", f"{folder}/next.deb"
    shutil.rmtree(tree, ignore_errors=True)
    command("dpkg-deb", "-R", deb, tree)
    with open(f"{tree}/DEBIAN/control", "r+", encoding="utf-8") as f:
        text = re.sub(r"^(Version: .*)$", r"\1+next", f.read(), flags=re.M)
        f.seek(0)
        f.write(text)
    command("dpkg-deb", "--root-owner-group", "-b", tree, out)
    shutil.rmtree(tree)
    return out


class NodeHost:
    def __init__(self, bench):
        deb = package()
        self.version = version(deb)
        self.sockets = tempfile.mkdtemp(prefix="guest-")
        files = {"agent": f"{TOP}/tests/guest/node-agent", "agent-everywhere": f"{TOP}/tests/guest/agent", "divvy.deb": deb, "next.deb": next_version(deb, bench.folder),
                 "image/testguest.elf": f"{TOP}/{BUILD}/guest-drivers/testguest/testguest.elf",
                 "image/guest.conf": b"kernel testguest.elf\ncmdline irq count=100000\n",
                 "types.yaml": TYPES.encode(), "kvmhold": f"{TOP}/{BUILD}/tests/rig/kvmhold",
                 "probe": f"{TOP}/tests/guest/unit-probe"}
        devices = ["-cpu", "max,+svm", "-device", "intel-iommu,intremap=on,caching-mode=off", "-qmp", f"unix:{self.sockets}/qmp,server=on,wait=off"]
        for n in (1, 2):
            devices += ["-device", f"pcie-root-port,id=port{n},slot={n},chassis={n},mem-reserve=32M"]
        devices += ["-device", "bochs-display,id=card,bus=port1,romfile="]
        self.monitor = None
        self.guest = bench.guest(variant="node", files=files, stock=True, memory="2G", devices=devices, reboots=True,
                                 append="intel_iommu=on no_timer_check systemd.mask=serial-getty@ttyS0.service")
        bench.started.append(self)
        self.guest.boot_limit = 600  # all of systemd; half a minute alone, three on a machine with a load of 16
        self.guest.ready()
        self.monitor = Monitor(f"{self.sockets}/qmp")
        self.sh("rm -f /etc/dpkg/dpkg.cfg.d/99mmdebstrap")  # the image leaves manual pages out

    def sh(self, script, limit=300.0, status=0):
        """A script that ends at the first command that fails, unless any status will do."""
        return self.guest.sh(script if status is None else f"set -e\n{script}", limit, status)

    def restart(self):
        self.guest.restart("sync; systemctl reboot")

    def json(self, words, user=None):
        words = f"divvy {words} --json"
        said = self.sh(f"su {user} -c '{words}'" if user else words)
        try:
            return json.loads(said)
        except ValueError:
            raise Failure(f"{words}: no JSON: {said[-300:]}") from None

    def show(self, unit_property):
        return self.sh(f"systemctl show -p {unit_property} --value divvyd")

    def instance(self, name):
        return next((i for i in self.json("list instances")["instances"] if i["name"] == name), None)

    def processes(self, name):
        """Of an instance, by role of its keeper; each the keeper's process ID."""
        return {p["role"]: p["pid"] for p in self.json(f"show instance {name}")["processes"]}

    def journal(self, words=""):
        """Of the unit: entries as systemd has them."""
        return [json.loads(line) for line in self.sh(f"journalctl -u divvyd -o json --no-pager {words}").splitlines() if line.startswith("{")]

    def events(self):
        said = self.sh("timeout 20 divvy events --since 0 --json & p=$!; sleep 1; kill $p; wait $p", status=None)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def tell(self, path):
        """Into a file, for whoever wants to know why something failed."""
        try:
            said = self.sh("""journalctl -b -o short-monotonic --no-pager | tail -n 300; systemctl status --no-pager divvyd
                divvy list instances; divvy list gpus; tail -n 50 /var/lib/divvy/instances/*.log /var/lib/divvy/instances/*/*.log""", status=None)
        except Failure as failure:
            said = str(failure)
        with open(path, "w", encoding="utf-8") as f:
            f.write(said + "\n")

    def close(self):
        if self.monitor:
            self.monitor.close()
        shutil.rmtree(self.sockets, ignore_errors=True)


def expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what}: {got}, not {wanted}")
