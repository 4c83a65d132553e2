#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""openapi.yaml as JSON in a C array: what GET /api/v1/openapi.json answers."""
import json
import sys

import yaml

with open(sys.argv[1], encoding="ascii") as source:
    text = json.dumps(yaml.safe_load(source), separators=(",", ":")).encode()
print("/* Generated from openapi.yaml. */")
print("static const unsigned char openapi_json[] = {")
for at in range(0, len(text), 16):
    print("\t" + " ".join(f"0x{byte:02x}," for byte in text[at:at + 16]))
print("\t0x00,\n};")
