# SPDX-License-Identifier: Apache-2.0
"""Many at once, who come and go."""

import os
import random
import signal
import time

from livemath import SECOND, jain
from liverun import Failure, case, tasks_of_group

PERIOD_NS = SECOND // 10


def held_by(pid):
    """Memory and descriptors of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return pss, len(os.listdir(f"/proc/{pid}/fd"))


@case("churn", sets="fast full bench", limit=120)
def churn(live):
    """of many clients one is ended by SIGKILL each second; the others' shares are equal again at once, the arbiter keeps nothing"""
    count, seconds = (16, 60) if live.bench else (8, 10)
    dice = random.Random(1)
    arbiter = live.start_arbiter()
    serial = 0

    def one():
        nonlocal serial
        serial += 1
        return live.load(f"client-{serial}", 2, {"policy": "equal_share"}, "--seconds", 600)

    clients = [one() for _ in range(count)]
    live.go(clients)
    time.sleep(1)
    begin, (pss, fds) = time.monotonic(), held_by(arbiter.process.pid)
    deaths, even = [], []
    while time.monotonic() < begin + seconds:
        victim = dice.choice(clients)
        clients.remove(victim)
        deaths.append((time.monotonic_ns(), [c.name for c in clients]))
        victim.end()
        newcomer = one()
        time.sleep(max(0, 1 - (time.monotonic_ns() - deaths[-1][0]) / SECOND))
        live.go([newcomer])
        clients.append(newcomer)
    time.sleep(0.5)
    after = held_by(arbiter.process.pid)
    live.check(arbiter.running(), "the arbiter ended")
    turns = live.turns()
    for when, names in deaths:
        # From two periods after it until the next one.
        had = [turns.charged(name, when + 2 * PERIOD_NS, when + SECOND) for name in names]
        even.append(jain(had))
    live.measure("Jain of those who stay, from 200 ms after a death", even, "", ">= 0.99", (0.8, None))
    live.check(all(c.running() for c in clients), "a client that nobody killed has ended")
    live.measure("the arbiter's memory grew by", after[0] - pss, "KiB", "flat", (None, 512))
    live.check(after[1] <= fds, f"the arbiter has {after[1]} descriptors, {fds} before")


def ended(program, seconds, what):
    """Its status once it has ended by itself, in time."""
    end = time.monotonic() + seconds
    while program.running():
        if time.monotonic() > end:
            raise Failure(f"{what}, and after {seconds} s it still runs")
        time.sleep(0.02)
    return program.process.returncode


@case("arbiter-dies", limit=60)
def arbiter_dies(live):
    """no arbiter, no GPU: whoever has work pending learns within seconds that the device is lost, and nobody hangs"""
    for way in (signal.SIGKILL, signal.SIGTERM):
        live.start_arbiter()
        clients = [live.load(f"client-{way.name}-{i}", 5, {"policy": "equal_share"}, "--seconds", 60) for i in range(3)]
        live.go(clients)
        time.sleep(0.7)
        live.arbiter.end(way)
        live.arbiter.wait(10)
        live.arbiter = None
        for client in clients:
            status = ended(client, 10, f"the arbiter was ended by {way.name}")
            live.check(status != 0, f"{client.name} ended as if nothing had happened")


@case("launcher-dies", limit=60)
def launcher_dies(live):
    """the program goes with its launcher, and its vGPU and memory with both"""
    live.start_arbiter()
    other = live.load("other", 5, {"policy": "equal_share"}, "--seconds", 60)
    client = live.load("client", 5, {"policy": "equal_share"}, "--seconds", 60)
    live.go([other, client])
    time.sleep(0.5)
    live.check({"other", "client"} <= set(live.vgpus()[0]), "the vGPUs are not both there")
    os.kill(client.process.pid, signal.SIGKILL)
    ended(client, 5, "the launcher was killed")
    time.sleep(0.5)
    alive = tasks_of_group(client.process.pid)
    live.check(not alive, f"of the killed launcher there still run: {alive}")
    live.check(set(live.vgpus()[0]) == {"other"}, "the vGPU of the killed launcher is still there")
    live.check(other.running(), "its neighbour ended too")
