# SPDX-License-Identifier: Apache-2.0
"""What Vulkan promises holds under the layer: `vkload test`, alone, beside others, under a low share, and with a judge."""

import re

from liverun import Failure, case

VGPU = {"policy": "equal_share"}
LAYER, VALIDATION = "VK_LAYER_DIVVY_vgpu", "VK_LAYER_KHRONOS_validation"


def verdicts(program):
    """Which tests passed and which were left out."""
    return {m[2]: m[1] for m in re.finditer(r"^(PASS|FAIL|SKIP) ([a-z0-9-]+)", program.text(), re.M)}


def compare(live, name, vgpu, native, env=None, wrapper=()):
    """Run all tests; a failure where one does not do what it does natively."""
    program = live.run(name, [*wrapper, *live.vkload("test")], vgpu, env, status=None)
    found = verdicts(program)
    lines = {m[1]: m[0] for m in re.finditer(r"^FAIL ([a-z0-9-]+).*$", program.text(), re.M)}
    for test, verdict in native.items():
        if found.get(test) != verdict:
            raise Failure(f"{name}: {lines.get(test, test + ': ' + str(found.get(test)))}; natively {verdict}")
    return program


def natively(live):
    native = verdicts(live.run("natively", live.vkload("test")))
    live.check(len(native) > 20 and "FAIL" not in native.values(), "tests fail natively")
    return native


@case("semantics", limit=90)
def semantics(live):
    """submissions, fences, semaphores, presents do under the layer what they do without it"""
    live.start_arbiter()
    compare(live, "alone", VGPU, natively(live))


@case("semantics-beside-a-hog", limit=150)
def semantics_beside_a_hog(live):
    """the same while a hog has the GPU most of the time, so that submissions wait for their turns"""
    native = natively(live)
    live.start_arbiter()
    hog = live.load("hog", 10, {"policy": "weighted", "weight": 300}, "--seconds", 300)
    live.go([hog])
    compare(live, "beside-a-hog", {"policy": "weighted", "weight": 100}, native)
    live.check(hog.running(), "the hog ended early")


@case("semantics-under-a-low-share", sets="full", limit=240)
def semantics_under_a_low_share(live):
    """the same under a fixed share of 10 %, so that most of the time nothing may be submitted"""
    native = natively(live)
    live.start_arbiter()
    compare(live, "low", {"policy": "fixed_share", "share": "10%"}, native)


def messages(program):
    """What the validation layer said, without handles and numbers, by message."""
    said = re.findall(r"^Validation (?:Error|Warning).*$", program.text() + program.errors(), re.M)
    return sorted({re.sub(r"0x[0-9a-f]+", "0x", line)[:300] for line in said})


@case("validation", limit=240)
def validation(live):
    """the validation layer, above ours and below it, says nothing that it does not say without ours"""
    checks = {"VK_LAYER_ENABLES": "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT"}
    alone = live.run("without", live.vkload("test"), env=dict(checks, VK_INSTANCE_LAYERS=VALIDATION), status=None)
    native, known = verdicts(alone), messages(alone)
    live.check(len(native) > 20 and "FAIL" not in native.values(), "tests fail under the validation layer alone")
    live.start_arbiter()
    # What stands first is nearest to the program.
    for where, layers in (("above", f"{VALIDATION}:{LAYER}"), ("below", f"{LAYER}:{VALIDATION}")):
        program = compare(live, where, VGPU, native, checks, ["env", f"VK_INSTANCE_LAYERS={layers}"])
        new = [m for m in messages(program) if m not in known]
        live.check(not new, f"{where}: {len(new)} messages, the first: {new[0] if new else ''}")
    # That it would say something: a fault that it must find.
    broken = live.run("broken", live.vkload("test", "fault-for-a-judge"), VGPU, dict(checks, VK_INSTANCE_LAYERS=VALIDATION), status=None)
    live.check(messages(broken), "the validation layer says nothing about a fault either")
