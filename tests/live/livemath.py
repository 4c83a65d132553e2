# SPDX-License-Identifier: Apache-2.0
"""What is made of recordings: the arbiter's turns, and what programs say they did. Times in nanoseconds of CLOCK_MONOTONIC."""

import csv

SECOND = 1_000_000_000


def jain(values):
    """Jain's index: 1 when all are equal, 1/n when one has everything."""
    square = sum(v * v for v in values)
    return sum(values) ** 2 / (len(values) * square) if square else 0.0


def spread(values):
    """The least by the most."""
    return min(values) / max(values) if values and max(values) > 0 else 0.0


def rank(values, percent):
    """The value below which so many percent are; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0


def median(values):
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        return 0.0
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def overlap(start, end, a, b):
    return max(0, min(end, b) - max(start, a))


class Turns:
    """The arbiter's trace: who had the engine from when, for how long."""

    def __init__(self, path):
        self.rows = []
        with open(path, encoding="utf-8") as f:
            for row in csv.DictReader(f):
                # A last line may be on its way.
                if row.get("debt_ns"):
                    self.rows.append((row["vgpu"], int(row["when_ns"]), int(row["ran_ns"]), int(row["waited_ns"])))

    def charged(self, vgpu, start, end):
        """GPU time that was charged to a vGPU in an interval; a turn across its border counts in part."""
        return sum(overlap(when, when + ran, start, end) for name, when, ran, _ in self.rows if name == vgpu)

    def shares(self, vgpus, start, end):
        had = [self.charged(v, start, end) for v in vgpus]
        return [h / sum(had) if sum(had) else 0.0 for h in had]


class Work:
    """A program's log: each job is work that was done between the end of the one before it and its own."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.jobs = [(int(r["submit_ns"]), int(r["done_ns"])) for r in csv.DictReader(f)]
        self.first = self.jobs[0][0] if self.jobs else 0
        self.last = self.jobs[-1][1] if self.jobs else 0

    def done(self, start, end):
        """Jobs done in an interval, with parts."""
        total, before = 0.0, 0
        for submit, done in self.jobs:
            begin = max(submit, before)
            if done > begin:
                total += overlap(begin, done, start, end) / (done - begin)
            before = done
        return total

    def waits(self):
        return [(done - submit) / 1e6 for submit, done in self.jobs]


def windows(start, end, length=SECOND):
    """Whole windows of a length in an interval."""
    return [(a, a + length) for a in range(int(start), int(end) - length + 1, length)]
