# SPDX-License-Identifier: Apache-2.0
"""What being scheduled costs: the same work with the layer and without it, in turn."""

from liverun import case


def rate(live, name, clients, ms, seconds, vgpu):
    """Jobs a second, of all clients together."""
    programs = [live.load(f"{name}-{i}", ms, vgpu, "--seconds", seconds, "--in-flight", 3) for i in range(clients)]
    live.go(programs)
    results = live.finish(programs)
    begin = max(r["start_ns"] for r in results.values())
    end = min(r["end_ns"] for r in results.values())
    return sum(live.work(p.name).done(begin, end) for p in programs) / (end - begin) * 1e9


def pairs(live, clients, ms, seconds, rounds):
    """Ratios with : without, each pair measured one after the other, the order alternating: a busy machine changes slowly."""
    ratios = []
    for i in range(rounds):
        order = [{"policy": "equal_share"}, None]
        rates = {}
        for vgpu in order if i % 2 else order[::-1]:
            where = "with" if vgpu else "without"
            rates[where] = rate(live, f"{where}-{i}", clients, ms, seconds, vgpu)
        live.check(rates["without"] > 0, "nothing was done without the layer")
        ratios.append(rates["with"] / rates["without"])
    return ratios


@case("throughput-alone", sets="fast full bench", limit=90)
def throughput_alone(live):
    """alone under the layer as much is done as without it"""
    live.start_arbiter()
    ratios = pairs(live, 1, 5, 3 if live.bench else 1.5, 9 if live.bench else 5)
    live.measure("with : without", ratios, "", ">= 0.98", (0.6, None))


@case("throughput-small-jobs", sets="full bench", limit=90)
def throughput_small_jobs(live):
    """alone, with jobs of a quarter of a millisecond: what a submission costs"""
    live.start_arbiter()
    ratios = pairs(live, 1, 0.25, 3 if live.bench else 1.5, 9 if live.bench else 5)
    live.measure("with : without", ratios, "", "", (0.3, None))


@case("throughput-together", sets="fast full bench", limit=120)
def throughput_together(live):
    """four saturating clients do together what they do unscheduled"""
    live.start_arbiter()
    ratios = pairs(live, 4, 5, 4 if live.bench else 2, 9 if live.bench else 3)
    live.measure("with : without", ratios, "", ">= 0.95", (0.5, None))
