#!/usr/bin/env python3
"""How large the structures are that may extend a device's or a queue's creation, from Vulkan's registry.

    chain_sizes.py VK_XML > chain_sizes.inc

Prints the cases of a switch over sType (vgpu-sched/layer/chain.c). What vulkan_core.h does not have (structures of one
platform, provisional ones) is left out: to the layer these are of unknown size.
"""
import sys
import xml.etree.ElementTree as ElementTree

EXTENDED = {"VkDeviceCreateInfo", "VkDeviceQueueCreateInfo"}


def of_vulkan(element, attribute):
    return "vulkan" in (element.get(attribute) or "vulkan").split(",")


def in_core_header(registry):
    """The types that a feature or a plain extension brings in."""
    names = set()
    for room in registry.findall("feature") + registry.findall("extensions/extension"):
        api = "api" if room.tag == "feature" else "supported"
        if of_vulkan(room, api) and not room.get("platform") and not room.get("provisional"):
            for require in room.findall("require"):
                if of_vulkan(require, "api"):
                    names.update(t.get("name") for t in require.findall("type"))
    return names


def main():
    registry = ElementTree.parse(sys.argv[1]).getroot()
    known = in_core_header(registry)
    print("/* Made by chain_sizes.py. */")
    for struct in registry.findall("types/type[@category='struct']"):
        name = struct.get("name")
        if name not in known or not of_vulkan(struct, "api"):
            continue
        if EXTENDED.isdisjoint((struct.get("structextends") or "").split(",")):
            continue
        stype = next(m.get("values") for m in struct.findall("member") if m.get("values"))
        print(f"case {stype}:\n\treturn sizeof({name});")


main()
