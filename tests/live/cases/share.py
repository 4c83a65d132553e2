# SPDX-License-Identifier: Apache-2.0
"""Shares of time: weights, fixed shares, credits, and how exactly they are kept."""

import time

from livemath import SECOND, jain, spread, windows
from liverun import case

WEIGHTS = (1, 2, 4, 8)


def by_weight(live, lengths, seconds):
    """Four saturating clients; returns share errors, Jain's index and min/max over windows of a second, by charge and by work."""
    live.start_arbiter()
    names = [f"weight-{w}" for w in WEIGHTS]
    programs = [live.load(name, ms, {"policy": "weighted", "weight": w}, "--seconds", seconds + 1)
                for name, w, ms in zip(names, WEIGHTS, lengths)]
    begin = live.go(programs) + SECOND // 2
    results = live.finish(programs)
    # All are busy until the first one ends.
    end = min([r["end_ns"] for r in results.values()] + [begin + seconds * SECOND])
    live.check(end - begin > seconds * SECOND // 2, "the clients were not busy together")
    turns, works = live.turns(), [live.work(name) for name in names]
    total = sum(WEIGHTS)

    def charged(a, b):
        return [turns.charged(name, a, b) for name in names]

    def worked(a, b):
        return [work.done(a, b) * live.job_ms(ms) for work, ms in zip(works, lengths)]

    found = {}
    for kind, had in (("charged", charged), ("work", worked)):
        whole = had(begin, end)
        live.check(min(whole) > 0, f"somebody had nothing ({kind}: {whole})")
        found[kind] = {
            "errors": [abs(h / sum(whole) * total / w - 1) * 100 for h, w in zip(whole, WEIGHTS)],
            "jain": [jain([h / w for h, w in zip(had(a, b), WEIGHTS)]) for a, b in windows(begin, end)],
            "spread": [spread([h / w for h, w in zip(had(a, b), WEIGHTS)]) for a, b in windows(begin, end)],
        }
    return found


@case("weights", sets="fast full bench", limit=60)
def weights(live):
    """four clients with weights 1:2:4:8 and jobs of 1 to 10 ms have time in these parts"""
    found = by_weight(live, (1, 2, 5, 10), 10 if live.bench else 5)
    for kind in ("charged", "work"):
        slack = 6 if kind == "charged" else 20
        live.measure(f"largest error of a share, {kind}", max(found[kind]["errors"]), "%", "<= 3", (None, slack))
        live.measure(f"Jain over 1 s, {kind}", found[kind]["jain"], "", ">= 0.999", (0.99 if kind == "charged" else 0.97, None))
        live.measure(f"min/max over 1 s, {kind}", found[kind]["spread"], "", ">= 0.97", (0.8 if kind == "charged" else 0.6, None))


@case("weights-long-jobs-light", sets="bench full", limit=60)
def weights_long_jobs_light(live):
    """the same with the longest jobs where the weight is least: a job of 10 ms is ten turns' worth there"""
    found = by_weight(live, (10, 5, 2, 1), 20 if live.bench else 8)
    for kind in ("charged", "work"):
        live.measure(f"largest error of a share, {kind}", max(found[kind]["errors"]), "%", "<= 3",
                     (None, 10 if kind == "charged" else 25))
        live.measure(f"Jain over 1 s, {kind}", found[kind]["jain"], "", ">= 0.99", (0.95, None))


@case("fixed-share-alone", sets="fast full bench", limit=60)
def fixed_share_alone(live):
    """a share of 25 % is 25 % for as long as it runs, though the machine is idle"""
    seconds = 30 if live.bench else 6
    live.start_arbiter()
    program = live.load("quarter", 5, {"policy": "fixed_share", "share": "25%"}, "--seconds", seconds)
    begin = live.go([program]) + SECOND
    said = live.finish([program])["quarter"]
    end = said["end_ns"] - SECOND // 4
    turns, work = live.turns(), live.work("quarter")
    length = live.job_ms(5)
    live.measure("charged", turns.charged("quarter", begin, end) / (end - begin) * 100, "%", "25 +- 1", (20, 26.5))
    live.measure("work", work.done(begin, end) * length * 1e6 / (end - begin) * 100, "%", "25 +- 1", (12, 27.5))
    parts = [turns.charged("quarter", a, b) / (b - a) * 100 for a, b in windows(begin, end)]
    live.measure("most in a second, charged", max(parts), "%", "<= 26 + a job", (None, 30))


@case("fixed-share-beside-hogs", sets="fast full bench", limit=60)
def fixed_share_beside_hogs(live):
    """a share of 25 % is there beside three best-effort hogs, and they have the rest in equal parts"""
    seconds = 15 if live.bench else 5
    live.start_arbiter()
    hogs = [live.load(f"hog-{i}", 5, {"policy": "best_effort"}, "--seconds", seconds) for i in range(3)]
    fixed = live.load("fixed", 5, {"policy": "fixed_share", "share": "25%"}, "--seconds", seconds)
    begin = live.go(hogs + [fixed]) + SECOND
    results = live.finish(hogs + [fixed])
    end = min(r["end_ns"] for r in results.values()) - SECOND // 4
    turns = live.turns()
    live.measure("the share", turns.charged("fixed", begin, end) / (end - begin) * 100, "%", "25 +- 1", (18, 27))
    rest = [turns.charged(f"hog-{i}", begin, end) for i in range(3)]
    live.measure("Jain of the hogs", jain(rest), "", ">= 0.999", (0.97, None))


def watch(live, name, seconds):
    """Balance and what was charged, as the arbiter says it, again and again."""
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        vgpus, now = live.vgpus()
        if name in vgpus:
            engine = vgpus[name]["engines"]["graphics"]
            seen.append((now, engine["credit_ns"], engine["used_ns"] + engine["surcharge_ns"]))
        time.sleep(0.1)
    return seen


@case("burst-credits", sets="fast full bench", limit=90)
def burst_credits(live):
    """credits are spent by running, earned at the baseline, and at their end there is the baseline"""
    baseline, most = 0.2, 2.0
    live.start_arbiter()
    vgpu = {"policy": "burst", "share": "20%", "credit-max": f"{most}s", "credits": f"{most}s"}
    seconds = 8
    program = live.load("burst", 5, vgpu, "--seconds", seconds)
    # Setting up has used some; what it has then is its balance.
    begin = live.go([program])
    seen = watch(live, "burst", seconds - 1)
    live.finish([program])
    turns = live.turns()
    live.check(len(seen) > 10, "the arbiter did not say what the vGPU has")
    # Rule: what is there now is what was there, plus baseline x time, less what was charged. Not where it is capped or idle.
    (t0, c0, u0), moved = seen[0], []
    for t, c, u in seen[1:]:
        owed = c0 + baseline * (t - t0) - (u - u0)
        moved.append(abs(c - owed) / max(u - u0, SECOND // 10) * 100)
    live.measure("balance beside its rule", moved, "% of what was charged", "<= 1", (None, 10))
    # With 2 s of credits at 20 % it is at full speed for 2 / (1 - 0.2) s, and then at its baseline.
    early = turns.charged("burst", begin, begin + 2 * SECOND) / (2 * SECOND) * 100
    late = turns.charged("burst", begin + 4 * SECOND, begin + 7 * SECOND) / (3 * SECOND) * 100
    live.measure("at first", early, "%", "100 while credits last", (60, None))
    live.measure("when they are spent", late, "%", "20 +- 1", (14, 24))


@case("burst-recovers", sets="full bench", limit=90)
def burst_recovers(live):
    """who rests saves credits up at the baseline, and can burst again"""
    live.start_arbiter()
    vgpu = {"policy": "burst", "share": "20%", "credit-max": "2s", "credits": "0s"}
    busy = live.load("burst", 5, vgpu, "--every", 5000, "--seconds", 12)
    live.go([busy])
    seen = watch(live, "burst", 9)
    live.finish([busy])
    live.check(len(seen) > 10, "the arbiter did not say what the vGPU has")
    middle = [s for s in seen if s[0] - seen[0][0] > SECOND]
    rate = (middle[-1][1] - middle[0][1] + middle[-1][2] - middle[0][2]) / (middle[-1][0] - middle[0][0]) * 100
    live.measure("earned at rest", rate, "% of the time", "20", (15, 21))
    live.measure("saved up", middle[-1][1] / SECOND, "s", "<= 2", (1, 2.01))
