# SPDX-License-Identifier: Apache-2.0
"""The Debian package on a stock Debian that was booted by systemd: what it puts there, and what the daemon's unit does."""

import re
import time

from guestvm import TOP, Failure, case, until
from node_host import CARD, FILES, NEW_CARD, UNIT, NodeHost, expect

UID_FIRST = 2130706432  # instances/daemon/config.c
MIB = 1 << 20
# linux/capability.h
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
                "NET_ADMIN": 12, "IPC_LOCK": 14, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_NICE": 23, "SYS_RESOURCE": 24, "MKNOD": 27}
EXPOSURE_MOST = 6.5  # systemd-analyze security, of 10


def status_of(host, pid):
    said = host.sh(f"cat /proc/{pid}/status")
    return dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)


def comes_by_itself(host):
    """apt installs it without a question; the daemon runs and will at each boot, as Debian's packages do."""
    expect("unit before", host.sh("systemctl is-active divvyd", status=None), "inactive")
    said = host.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y -q ./divvy.deb </dev/null", 600)
    expect("package", host.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Version}' divvy").split(), ["ii", host.version])
    if "templates" in host.sh("ls /var/lib/dpkg/info/divvy.*") or "[default=" in said:
        raise Failure(f"it asks something: {said[-300:]}")
    for verb, wanted in (("is-enabled", "enabled"), ("is-active", "active")):
        expect(f"systemctl {verb}", host.sh(f"systemctl {verb} divvyd", status=None), wanted)
    expect("who ends guests with the machine", host.sh("systemctl is-active divvy-guests", status=None), "active")
    expect("units that failed", host.sh("systemctl list-units --failed --no-legend --plain 'divvy*' 'systemd-*' 'modprobe*'"), "")
    host.sh(f"cp {FILES}/types.yaml /etc/divvy/types.d/test.yaml; systemctl restart divvyd; cp -r {FILES}/image /srv/image")


def owns_its_folders(host):
    """Groups and folders are there, with owners and modes."""
    groups = {line.split(":")[0]: line.split(":")[3] for line in host.sh("getent group divvy divvy-vfio").splitlines()}
    expect("groups and members", groups, {"divvy": "", "divvy-vfio": ""})
    wanted = {"/etc/divvy": "755", "/etc/divvy/divvyd.yaml": "644", "/etc/divvy/types.d": "755", "/run/divvy": "755", "/run/divvy/api": "666",
              "/run/divvy/instances": "711", "/var/lib/divvy": "711", "/var/lib/divvy/bind": "700", "/var/lib/divvy/instances": "711",
              "/var/lib/divvy/state.db": "600", "/usr/bin/divvyd": "755"}
    got = dict(line.split(" ", 1) for line in host.sh(f"stat -c '%n %a %U:%G' {' '.join(wanted)}").splitlines())
    expect("modes and owners", got, {path: f"{mode} root:root" for path, mode in wanted.items()})


def has_words_where_they_are_looked_for(host):
    """man and bash find theirs."""
    for page in ("divvy", "divvyd", "divvy-vmm", "divvy-vgpu", "divvy-types"):
        host.sh(f"man -w {page}")
    if "GPU instances" not in host.sh("man divvyd | cat"):
        raise Failure("man divvyd shows nothing")
    complete = """. /usr/share/bash-completion/bash_completion
        _comp_load divvy; COMP_WORDS=(divvy sto); COMP_CWORD=1; COMP_LINE='divvy sto'; COMP_POINT=9
        f=$(complete -p divvy | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $f divvy sto divvy; echo "${COMPREPLY[@]}" """
    expect("completion of 'divvy sto'", host.sh(complete).split(), ["stop"])
    host.sh("ls /usr/share/zsh/vendor-completions/_divvy /usr/share/fish/vendor_completions.d/divvy.fish")


def is_ready_when_it_says_so(host):
    """The unit becomes active once the socket answers, and never before; a daemon that cannot start fails it, with the reason in the journal."""
    said = host.sh("""systemctl stop divvyd; systemctl start --no-block divvyd
        for i in $(seq 400); do s=$(systemctl is-active divvyd); divvy list instances >/dev/null 2>&1; echo "$s $?"; [ "$s" = active ] && break; done""", status=None)
    seen = said.splitlines()
    if seen[-1] != "active 0" or "activating 1" not in seen:
        raise Failure(f"it was seen, with what the socket answered then: {seen}")
    host.sh("cp /etc/divvy/divvyd.yaml /tmp/good; echo 'rolse: {}' >>/etc/divvy/divvyd.yaml")
    if host.sh("systemctl restart divvyd", status=None) == "" and host.sh("systemctl is-active divvyd", status=None) == "active":
        raise Failure("a configuration with a wrong key starts")
    found = [e["MESSAGE"] for e in host.journal("-p err --since -60s") if e.get("SYSLOG_IDENTIFIER") == "divvyd"]
    if not any("rolse" in message and "roles" in message for message in found):
        raise Failure(f"the journal's errors: {found}")
    host.sh("cp /tmp/good /etc/divvy/divvyd.yaml; systemctl reset-failed divvyd; systemctl start divvyd")


def reads_its_files_again(host):
    """systemctl reload takes a new type, and fails on a wrong word, with the reason in the journal; the daemon is the same, and goes on with what it had."""
    pid = host.show("MainPID")
    host.sh("""sed 's/name: small/name: another/' /etc/divvy/types.d/test.yaml >/etc/divvy/types.d/another.yaml
        systemctl reload divvyd; divvy show type another""")
    host.sh("echo 'rolse: {}' >>/etc/divvy/divvyd.yaml; ! systemctl reload divvyd; divvy list instances")
    if not any("not reloaded" in e["MESSAGE"] and "rolse" in e["MESSAGE"] for e in host.journal("-p err --since -60s")):
        raise Failure("the journal does not say why it was not reloaded")
    host.sh("cp /tmp/good /etc/divvy/divvyd.yaml; rm /etc/divvy/types.d/another.yaml; systemctl reload divvyd; ! divvy show type another")
    expect("the daemon, and its unit", (host.show("MainPID"), host.sh("systemctl is-active divvyd")), (pid, "active"))


def is_closed_in(host):
    """What the unit forbids is impossible in it and possible outside; capabilities, namespaces and mounts as /proc shows them."""
    probe = "/run/systemd/system/divvyd.service.d/probe.conf"
    host.sh(f"""cp probe /srv/probe; fallocate -l 1M swap; chmod 600 swap; mkswap -q swap; cp /bin/true suid
        mkdir -p {probe.rsplit('/', 1)[0]}; printf '[Service]\\nExecStartPre=/bin/sh -c "/srv/probe >/run/divvy/probed"\\n' >{probe}
        systemctl daemon-reload; systemctl restart divvyd""")
    inside = set(host.sh("cat /run/divvy/probed; rm -f /run/divvy/probed").split())
    outside = set(host.sh(f"/srv/probe; swapoff swap; rm -f {probe} /usr/probe /etc/probe /boot/probe /var/lib/divvy/probe; rmmod dummy; systemctl daemon-reload; systemctl restart divvyd").split())
    may = {"state", "run", "namespaces"}
    forbidden = {"usr", "etc", "boot", "modules", "load-module", "kernel-log", "hostname", "clock", "swap", "suid", "realtime", "personality"}
    expect("what can be done outside the unit", outside, may | forbidden)
    expect("what can be done in the unit", inside, may)

    pid = host.show("MainPID")
    status = status_of(host, pid)
    with open(f"{TOP}/dist/divvyd.service.in", encoding="utf-8") as f:
        names = re.search(r"^CapabilityBoundingSet=(.*)$", f.read(), re.M).group(1).split()
    bound = sum(1 << CAPABILITIES[name.removeprefix("CAP_")] for name in names)
    for field in ("CapBnd", "CapEff", "CapPrm"):
        expect(field, int(status[field], 16), bound)
    expect("NoNewPrivs, Seccomp", (status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
    own = set(host.sh(f"for n in mnt uts net pid ipc user cgroup; do [ $(readlink /proc/{pid}/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done").split())
    expect("namespaces of its own", own, {"mnt", "uts"})
    mounts = {line.split()[4]: line.split()[5].split(",")[0] for line in host.sh(f"cat /proc/{pid}/mountinfo").splitlines()}
    expect("mounts", {path: mounts.get(path) for path in ("/usr", "/etc", "/boot", "/var/lib/divvy", "/run/divvy")},
           {"/usr": "ro", "/etc": "ro", "/boot": "ro", "/var/lib/divvy": "rw", "/run/divvy": "rw"})
    figure = re.search(r"Overall exposure level for divvyd.service: ([0-9.]+)", host.sh("systemd-analyze security --no-pager divvyd"))
    if not figure or float(figure.group(1)) > EXPOSURE_MOST:
        raise Failure(f"systemd-analyze security: {figure and figure.group(1)}, {EXPOSURE_MOST} at most")
    return f"exposure {figure.group(1)}"


def limits_its_instances(host):
    """An instance's processes are in a control group below the unit's, with the limits that docs/divvyd.md promises, and each is nobody's user."""
    host.sh("divvy create a --type small --image /srv/image --restart always && divvy start a", 300)
    expect("state", host.instance("a")["state"], "running")
    said = host.sh(f"cd {UNIT}/a@*; for f in memory.max memory.swap.max pids.max cpu.max cpu.weight; do echo $f $(cat $f); done; echo procs $(cat cgroup.procs)")
    got = dict(line.split(" ", 1) for line in said.splitlines())
    memory = 64 * MIB + 64 * MIB // 256 * 2 + (256 + 768 + 64) * MIB
    expect("memory.max", int(got["memory.max"]) // 4096, memory // 4096)
    expect("other limits", [got[f] for f in ("memory.swap.max", "pids.max", "cpu.max", "cpu.weight")], ["0", "1536", "400000 100000", "100"])
    inside = set(got["procs"].split())
    for role, keeper in host.processes("a").items():
        if str(keeper) not in inside:
            raise Failure(f"{role}'s keeper is not in the group: {inside}")
    users = set()
    for pid in inside:
        status = status_of(host, pid)
        if status["Name"] in ("divvy-vmm", "divvy-vgpu"):
            expect(f"{status['Name']}: capabilities", int(status["CapEff"], 16) | int(status["CapBnd"], 16), 0)
            users.add(int(status["Uid"].split()[0]))
    if len(users) != 2 or min(users) < UID_FIRST or max(users) > UID_FIRST + 16384:
        raise Failure(f"VMM and vGPU run as the users {users}")
    expect("daemon's leaf", host.show("MainPID") in host.sh(f"cat {UNIT}/daemon/cgroup.procs").split(), True)


def watchdog_finds_one_that_stands_still(host):
    """A daemon that does not turn its loop is killed by systemd and started anew."""
    folder = "/run/systemd/system/divvyd.service.d"
    host.sh(f"mkdir -p {folder}; printf '[Service]\\nWatchdogSec=10s\\n' >{folder}/watchdog.conf; systemctl daemon-reload; systemctl restart divvyd")
    before = host.show("MainPID")
    host.sh(f"kill -STOP {before}")
    until("the daemon is another", lambda: host.show("MainPID") not in (before, "0") and host.show("ActiveState") == "active", 200)
    if not any("Watchdog timeout" in entry["MESSAGE"] for entry in host.journal("--since -200s")):
        raise Failure("the journal does not speak of the watchdog")
    host.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl restart divvyd")


def outlived_by_instances(host):
    """Restarted, killed, stopped and started, hanging: the instance's processes stay the same, with their limits, and are taken back."""
    before, limits = host.processes("a"), f"cat {UNIT}/a@*/memory.max {UNIT}/a@*/cpu.max {UNIT}/a@*/pids.max"
    had = host.sh(limits)

    def kill():
        old = host.show("MainPID")
        host.sh(f"kill -9 {old}")
        until("another daemon", lambda: host.show("MainPID") not in (old, "0") and host.show("ActiveState") == "active", 120)

    def stop():
        host.sh("systemctl stop divvyd")
        expect("unit", host.sh("systemctl is-active divvyd", status=None), "inactive")
        host.sh(" && ".join(f"kill -0 {pid}" for pid in before.values()))
        expect("limits while it is stopped", host.sh(limits), had)
        host.sh("systemctl start divvyd")

    for what, does in (("systemctl restart", lambda: host.sh("systemctl restart divvyd")), ("kill -9", kill), ("systemctl stop, start", stop),
                       ("watchdog", lambda: watchdog_finds_one_that_stands_still(host))):
        does()
        expect(f"{what}: state", host.instance("a")["state"], "running")
        expect(f"{what}: processes", host.processes("a"), before)
        expect(f"{what}: limits", host.sh(limits), had)
    adopted = [e for e in host.events() if e["code"] == "adopted" and e["instance"] == "a"]
    if len(adopted) < 4:
        raise Failure(f"taken back {len(adopted)} times")


def tells_the_journal(host):
    """Lines in the journal have their priority, and no time or level of their own."""
    host.sh("divvy create b --type small --image /srv/image && divvy start b", 300)
    host.sh(f"kill -9 {host.processes('b')['vmm']}")
    until("b is told to have failed", lambda: host.instance("b")["state"] == "failed", 60)
    found = {}
    for entry in host.journal():
        message = entry["MESSAGE"]
        if entry.get("SYSLOG_IDENTIFIER") != "divvyd" or entry.get("_COMM") != "divvyd":
            continue
        if not isinstance(message, str) or message[:1] in "<[":
            raise Failure(f"a line of the journal's: {message!r}")
        for word in ("daemon ready", "instance b running", "instance b failed"):
            if message.startswith(word):
                found[word] = (entry["PRIORITY"], entry["_SYSTEMD_UNIT"])
    unit = "divvyd.service"
    expect("priorities", found, {"daemon ready": ("6", unit), "instance b running": ("6", unit), "instance b failed": ("4", unit)})
    host.sh("divvy delete b")


def driver_of(host, address):
    return host.sh(f"basename $(readlink /sys/bus/pci/devices/{address}/driver)")


def gpu_state(host, gpu):
    return next((g["state"] for g in host.json("list gpus")["gpus"] if g["id"] == gpu), None)


def hands_out_a_whole_gpu(host):
    """vfio-pci is there without a boot in between; the rules give its node to their group; a card goes from the host's driver to an instance and back."""
    host.sh("udevadm verify --no-summary /usr/lib/udev/rules.d/60-divvy.rules")
    expect("the host's driver", driver_of(host, CARD), "bochs-drm")
    host.sh("divvy create w --type whole --image /srv/image && divvy start w", 300)
    expect("its driver", driver_of(host, CARD), "vfio-pci")
    expect("who has it", gpu_state(host, f"pci-{CARD}"), "dedicated")
    nodes = host.sh("udevadm settle; stat -c '%a %U:%G' /dev/vfio/[0-9]*").splitlines()
    expect("group's nodes in /dev/vfio", nodes, ["660 root:divvy-vfio"])
    host.sh("divvy stop --force w", 200)
    expect("afterwards", (gpu_state(host, f"pci-{CARD}"), driver_of(host, CARD)), ("free", "bochs-drm"))


def sees_gpus_come_and_go(host):
    """A card plugged in while the daemon runs is in the inventory, and told of; so is its going, also from under an instance."""
    def told(code, gpu):
        return any(e["code"] == code and e["gpu"] == gpu for e in host.events())
    card, new = f"pci-{CARD}", f"pci-{NEW_CARD}"
    pid, begun = host.show("MainPID"), time.monotonic()
    host.monitor.ask("device_add", driver="bochs-display", id="new", bus="port2", romfile="")
    until("the new card is listed", lambda: gpu_state(host, new) == "free", 60)
    note = f"a new card was listed after {time.monotonic() - begun:.1f} s"
    until("its coming is told", lambda: told("appeared", new), 30)
    host.monitor.ask("device_del", id="new")
    until("it is listed no more", lambda: gpu_state(host, new) is None, 60)
    until("its going is told", lambda: told("gone", new), 30)

    host.sh("divvy start w", 300)
    host.monitor.ask("device_del", id="card")
    until("its instance has ended", lambda: host.instance("w")["state"] in ("stopped", "failed"), 120)
    until("its going is told", lambda: told("gone", card), 60)
    if "asks for" not in host.sh("divvy log w"):
        raise Failure("its VMM does not say why it ended")
    host.monitor.ask("device_add", driver="bochs-display", id="card", bus="port1", romfile="")
    until("it is back, and set aside", lambda: gpu_state(host, card) == "quarantined", 60)
    host.sh(f"divvy release {card}; divvy start w", 300)
    host.sh("divvy stop --force w; divvy delete w", 200)
    expect("the daemon", host.show("MainPID"), pid)
    return note


def knows_its_users(host):
    """A member of the group has what the configuration says and no more; others have nothing."""
    host.sh("""useradd -m alice; useradd -m bob; cp -r /srv/image /opt/image; usermod -aG divvy alice
        printf 'roles:\\n  "@divvy": user\\nimages: [/srv]\\n' >>/etc/divvy/divvyd.yaml; systemctl restart divvyd""")
    host.sh("su alice -c 'divvy create hers --type small --image /srv/image && divvy start hers'", 300)
    expect("what she sees", [i["name"] for i in host.json("list instances", "alice")["instances"]], ["hers"])
    for words, code in (("stop a", "no-such-instance"), (f"bind {CARD}", "not-allowed"), ("create x --type small --image /opt/image", "image-not-allowed")):
        said = host.sh(f"su alice -c 'divvy {words}'", status=1)
        if f"error[{code}]" not in said:
            raise Failure(f"alice, {words}: {said}")
    if "error[no-role]" not in host.sh("su bob -c 'divvy list instances'", status=1):
        raise Failure("bob sees instances")
    host.sh("su alice -c 'divvy stop --force hers && divvy delete hers'", 200)


def is_updated_under_its_instances(host):
    """A higher version over it: no question, the admin's configuration stays, another daemon, the same instance."""
    before, daemon, config = host.processes("a"), host.show("MainPID"), host.sh("md5sum /etc/divvy/divvyd.yaml")
    host.sh("apt-get install -y -q ./next.deb </dev/null", 600)
    expect("version", host.sh("dpkg-query -W -f '${Version}' divvy"), f"{host.version}+next")
    expect("configuration", host.sh("md5sum /etc/divvy/divvyd.yaml"), config)
    now = host.show("MainPID")
    if now == daemon or host.sh(f"readlink /proc/{now}/exe") != "/usr/bin/divvyd":
        raise Failure("the daemon is still the old one")
    expect("instance", (host.instance("a")["state"], host.processes("a")), ("running", before))


def comes_back_at_boot(host):
    """The machine started anew: the guest's power button was pressed before; the daemon is there by itself, and so is the instance that is always to run."""
    folder = "/etc/systemd/system/divvy-guests.service.d"
    # Its guest does not listen, and is not waited for so long.
    host.sh(f"""mkdir {folder}; systemctl daemon-reload; systemctl is-active divvy-guests
        printf '[Service]\nExecStop=\nExecStop=/usr/bin/divvy stop --all --resume --timeout 5\n' >{folder}/brief.conf; systemctl daemon-reload""")
    known = len(host.events())
    host.restart()
    note = f"up again after {host.guest.boot_seconds:.1f} s"
    until("the daemon", lambda: host.sh("systemctl is-active divvyd", status=None) == "active", 120)
    until("the instance runs", lambda: host.instance("a")["state"] == "running", 200)
    told = [e["text"] if e["code"] == "step" else e["code"] for e in host.events()[known:] if e["instance"] == "a"]
    if told[:3] != ["stopping", "its guest does not listen to the power button", "stopped"] or told[-1] != "running":
        raise Failure(f"what is told of the machine's end and beginning: {told}")
    host.sh(f"rm -r {folder}; systemctl daemon-reload")
    return note


def goes_in_two_steps(host):
    """Removed, it leaves what it wrote, and running instances; installed again it takes them back; purged, nothing is left but disks."""
    before = host.processes("a")
    said = host.sh("apt-get remove -y -q divvy </dev/null", 600)
    if "instances run on" not in said:
        raise Failure(f"removed under an instance, it says nothing of it: {said[-300:]}")
    expect("unit", host.sh("systemctl is-active divvyd", status=None), "inactive")
    host.sh(" && ".join(f"kill -0 {pid}" for pid in before.values()) + " && ls /var/lib/divvy/state.db /etc/divvy/divvyd.yaml")
    said = host.sh("dpkg --purge divvy </dev/null", 600)
    if "instances run" not in said:
        raise Failure(f"purged under an instance, it says nothing of it: {said[-300:]}")
    host.sh("ls /var/lib/divvy/state.db && apt-get install -y -q ./next.deb </dev/null", 600)
    expect("instance", (host.instance("a")["state"], host.processes("a")), ("running", before))
    host.sh("divvy stop --force a; echo disk >/var/lib/divvy/instances/a/disk0.img", 200)
    said = host.sh("apt-get purge -y -q divvy </dev/null", 600)
    if "disks of instances are there" not in said:
        raise Failure(f"it says nothing of a disk: {said[-300:]}")
    expect("processes", host.sh("pgrep -a divvy | grep -v guest-run", status=None), "")
    left = host.sh("find /var/lib/divvy -type f -not -path '/var/lib/divvy/instances/a/*'; ls -d /run/divvy /etc/divvy/divvyd.yaml 2>/dev/null; find /etc/systemd -name 'divvyd*'", status=None).split()
    expect("left besides the instance with a disk", left, [])
    host.sh("ls /var/lib/divvy/instances/a/disk0.img")
    host.sh("rm -r /var/lib/divvy /etc/divvy")


STEPS = (comes_by_itself, owns_its_folders, has_words_where_they_are_looked_for, is_ready_when_it_says_so, reads_its_files_again, is_closed_in, limits_its_instances,
         outlived_by_instances, tells_the_journal, hands_out_a_whole_gpu, sees_gpus_come_and_go, knows_its_users, is_updated_under_its_instances,
         comes_back_at_boot, goes_in_two_steps)


@case("package", sets="full")
def package(bench):
    """the Debian package and its units on a booted Debian 13: installed, run, limited, updated, booted, removed"""
    host = NodeHost(bench)
    bench.note(f"up after {host.guest.boot_seconds:.1f} s")
    with open(f"{bench.folder}/steps", "w", encoding="utf-8", buffering=1) as f:
        for step in STEPS:
            begun = time.monotonic()
            try:
                note = step(host)
            except Failure as failure:
                host.tell(f"{bench.folder}/found")
                raise Failure(f"{step.__name__}: {failure}") from None
            f.write(f"{step.__name__} {time.monotonic() - begun:.1f} s\n")
            if note:
                bench.note(note)
    if host.guest.power_off():
        raise Failure("QEMU did not end well")
