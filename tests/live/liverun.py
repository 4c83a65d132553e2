# SPDX-License-Identifier: Apache-2.0
"""What a live test stands on: a private arbiter, programs under `divvy run-native` or without it, and what they said.

Everything that is started belongs to a Live object and is ended with it, whatever happens; every wait has a limit.
"""

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time

from livemath import Turns, Work

TOP = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", ".."))
BUILD = os.environ.get("LIVE_BUILD", "build/gcc")
OUT = "build/live"
LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.json"


class Failure(Exception):
    """The case has failed, for the reason given."""


class LeftOut(Exception):
    """The case cannot be run here, for the reason given."""


def say(text):
    print(f"live: {text}", file=sys.stderr, flush=True)


def tasks_of_group(group):
    """Folders in /proc of all threads of a process group that run or could."""
    tasks = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                state, _, its_group = f.read().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                tasks += [f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return tasks


class Program:
    """A process that was started, with its output in files."""

    def __init__(self, name, command, env, folder, lines=False):
        self.name, self.command = name, command
        self.out, self.err = f"{folder}/{name}.out", f"{folder}/{name}.err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE if lines else subprocess.DEVNULL,
                                            stdout=subprocess.PIPE if lines else out, stderr=err, env=env, cwd=TOP,
                                            process_group=0)
        self.lines = b""

    def running(self):
        return self.process.poll() is None

    def line(self, limit):
        """The next line of a program that was started with lines=True."""
        end = time.monotonic() + limit
        while b"\n" not in self.lines:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failure(f"{self.name} said nothing for {limit:.0f} s{self.why()}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise Failure(f"{self.name} ended with status {self.wait(10)}{self.why()}")
            self.lines += data
        line, _, self.lines = self.lines.partition(b"\n")
        return line.decode(errors="replace")

    def start(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def wait(self, limit):
        """Its exit status; ended by force, and a failure, when it is not done in time."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.end()
            raise Failure(f"{self.name} was not done after {limit:.0f} s{self.why()}") from None

    def end(self, how=signal.SIGKILL):
        """It and what it started."""
        try:
            os.killpg(self.process.pid, how)
        except ProcessLookupError:
            pass
        if how == signal.SIGKILL:
            self.process.wait(30)

    def text(self):
        with open(self.out, encoding="utf-8", errors="replace") as f:
            return f.read()

    def errors(self):
        with open(self.err, encoding="utf-8", errors="replace") as f:
            return f.read()

    def why(self):
        last = [line for line in self.errors().splitlines() if line.strip()]
        return f": {last[-1][:300]}" if last else ""

    def result(self, limit):
        """What a vkload started with lines=True says at its end, as a dictionary."""
        while True:
            line = self.line(limit)
            if line.startswith("{"):
                break
        status = self.wait(limit)
        if status:
            raise Failure(f"{self.name} ended with status {status}{self.why()}")
        return json.loads(line)


class Live:
    """One case: its folder, its arbiter, its programs, its results."""

    def __init__(self, name, device, bench, limit, slice_ms=2):
        self.name, self.device, self.bench, self.slice_ms = name, device, bench, slice_ms
        self.folder = os.path.join(TOP, OUT, name)
        self.end_time = time.monotonic() + limit
        self.programs, self.results, self.arbiter = [], [], None
        self.socket = f"{self.folder}/arbiter"
        self.length = None

    # -- programs ---------------------------------------------------------------------------------

    def left(self):
        """Seconds that this case has left."""
        left = self.end_time - time.monotonic()
        if left <= 0:
            raise Failure("not done in time")
        return left

    def env(self, **more):
        env = dict(os.environ, **more)
        if not self.device:
            env.setdefault("VK_DRIVER_FILES", LAVAPIPE)
        env.setdefault("XDG_RUNTIME_DIR", self.folder)
        return env

    def start(self, name, command, vgpu=None, lines=False, env=None, pinned=False):
        """
        Start a command; with @vgpu, a dictionary of run-native's options, as a vGPU called @name. @pinned: where the GPU is made of
        processors, it is made of one, the same for all (load() says why).
        """
        if vgpu is not None:
            words = [f"{BUILD}/divvy", "run-native", "--socket", self.socket, "--name", name]
            for option, value in vgpu.items():
                words += [f"--{option}", str(value)]
            command = words + ["--"] + command
        env = env or {}
        if pinned and not self.device:
            command = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] + command
            env = dict(env, LP_NUM_THREADS="1")
        program = Program(name, command, self.env(**env), self.folder, lines)
        with open(f"{self.folder}/commands", "a", encoding="utf-8") as f:
            f.write(f"{name}: {shlex.join(command)}\n")
        self.programs.append(program)
        return program

    def run(self, name, command, vgpu=None, env=None, status=0):
        """Run a command to its end; a failure when it ends with another status. @status None: any."""
        program = self.start(name, command, vgpu, env=env)
        ended = program.wait(self.left())
        if status is not None and ended != status:
            raise Failure(f"{name} ended with status {ended}{program.why()} ({program.err})")
        return program

    def vkload(self, *words):
        return [f"{BUILD}/tests/live/vkload", *map(str, words)] + (["--device", self.device] if self.device else [])

    def close(self):
        for program in reversed(self.programs):
            program.end()
            if program.process.stdout:
                program.process.stdout.close()
            if program.process.stdin:
                try:
                    program.process.stdin.close()
                except BrokenPipeError:
                    pass

    # -- the arbiter ------------------------------------------------------------------------------

    def start_arbiter(self, *words):
        """Returns when it answers. Its trace begins anew."""
        if self.arbiter:
            self.arbiter.end(signal.SIGTERM)
            self.arbiter.wait(20)
        if os.path.exists(self.socket):  # of one that was killed
            os.unlink(self.socket)
        trace = f"{self.folder}/turns.csv"
        self.arbiter = self.start("arbiter", [f"{BUILD}/divvy", "arbiter", "--socket", self.socket, "--trace", trace,
                                              "--slice", str(self.slice_ms), *map(str, words)], pinned=True)
        end = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if not self.arbiter.running() or time.monotonic() > end:
                raise Failure(f"the arbiter did not start{self.arbiter.why()}")
            time.sleep(0.01)
        return self.arbiter

    def turns(self):
        return Turns(f"{self.folder}/turns.csv")

    def vgpus(self):
        """What `divvy vgpus --json` says now, by name, and when that was."""
        done = subprocess.run([f"{BUILD}/divvy", "vgpus", "--socket", self.socket, "--json"], cwd=TOP, timeout=self.left(),
                              stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise Failure("the arbiter does not say what its vGPUs have")
        said = json.loads(done.stdout)
        return {v["name"]: v for v in said["vgpus"]}, said["now_ns"]

    # -- load -------------------------------------------------------------------------------------

    def calibrate(self):
        """
        One length is calibrated, natively, and the others follow from it, so that they are in proportion even where the machine is
        busy with other things. (Iterations, shortest time of a job, shortest time of an empty one, in ms.)
        """
        if not self.length:
            words = self.vkload("load", "--job", 10, "--jobs", 1, "--in-flight", 1)
            said = [self.start(f"calibrate-{i}", words, lines=True, pinned=True).result(self.left()) for i in range(2)]
            # Of two the one with more iterations in 10 ms: it was disturbed less.
            best = max(said, key=lambda s: s["iterations"] / s["job_ns"])
            self.length = (best["iterations"], best["job_ns"] / 1e6, best["empty_ns"] / 1e6)
        return self.length

    def job(self, ms):
        """Options of a job of about this length."""
        iterations, length, empty = self.calibrate()
        return ["--iterations", str(max(1, round(iterations * (ms - empty) / (length - empty))))]

    def job_ms(self, ms):
        """How long such a job takes alone, submitting and waiting included."""
        iterations, length, empty = self.calibrate()
        return empty + (length - empty) * int(self.job(ms)[1]) / iterations

    def load(self, name, ms, vgpu, *words, env=None):
        """
        A vkload that is set up and waits for go(), with a log. Lavapipe's jobs take the longer the fewer processors it finds free; with
        several, what is measured would be how Linux places threads. On one, which others can leave, all programs meet as on a GPU.
        """
        command = self.vkload("load", *self.job(ms), "--wait-line", "--log", f"{self.folder}/{name}.csv", *words)
        return self.start(name, command, vgpu, lines=True, env=env, pinned=True)

    def go(self, programs):
        """Start them all at once. Returns when that was."""
        for program in programs:
            said = program.line(self.left())
            if said != "ready":
                raise Failure(f"{program.name} said '{said[:100]}'")
        now = time.monotonic_ns()
        for program in programs:
            program.start()
        return now

    def finish(self, programs):
        """Their results, by name, when all are done."""
        return {p.name: p.result(self.left()) for p in programs}

    def work(self, name):
        return Work(f"{self.folder}/{name}.csv")

    # -- results ----------------------------------------------------------------------------------

    def check(self, condition, text):
        """What must hold, measured or not."""
        if not condition:
            raise Failure(text)

    def measure(self, name, values, unit, aim="", bound=None):
        """
        A figure: the median of @values. @aim says in words what it is held against in a quiet benchmark; @bound, least and most
        (None: open), is what must hold on any machine. Benchmarks fail on no figure.
        """
        values = values if isinstance(values, list) else [values]
        ordered = sorted(values)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        self.results.append({"name": f"{self.name}: {name}", "median": middle, "min": ordered[0], "max": ordered[-1],
                             "runs": len(values), "unit": unit, "aim": aim})
        if bound and not self.bench:
            least, most = bound
            if least is not None and middle < least:
                raise Failure(f"{name}: {middle:.4g} {unit}, which is below {least:g}")
            if most is not None and middle > most:
                raise Failure(f"{name}: {middle:.4g} {unit}, which is above {most:g}")
        return middle


def case(name, sets="fast full", limit=60):
    """Make a case of a function of one Live: its sets, and how many seconds it may take (three times as many as a benchmark)."""
    def mark(function):
        function.live_case = {"name": name, "sets": sets.split(), "limit": limit}
        return function
    return mark
