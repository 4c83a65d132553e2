# SPDX-License-Identifier: Apache-2.0
"""The program of tests/live as it is run in a guest."""

import json
import os
import subprocess

from guestvm import BUILD, TOP, Failure

LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.json"
LOAD = f"{BUILD}/tests/live/vkload"
LIBRARY = "libjansson.so.4"
# Venus on lavapipe calls itself 1.2, for want of sync_fd semaphores; what our programs use of 1.3 is there.
PROGRAM = "cd /run/divvy && VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json LD_LIBRARY_PATH=. MESA_VK_VERSION_OVERRIDE=1.3 ./vkload "


def program():
    """What goes to the guest: the program, and what Debian's images have not got."""
    library = next((f"{d}/{LIBRARY}" for d in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
                    if os.path.exists(f"{d}/{LIBRARY}")), None)
    if not library:
        raise Failure(f"{LIBRARY} is not found (next: apt install libjansson4)")
    return {"vkload": LOAD, LIBRARY: library}


def natively(words, wrapper=()):
    """What it says of itself on the host's own driver, without the layer."""
    env = dict(os.environ, VK_DRIVER_FILES=LAVAPIPE)
    said = subprocess.run([*wrapper, LOAD, *words.split()], stdout=subprocess.PIPE, check=True, timeout=60, env=env, cwd=TOP).stdout
    return json.loads(said)
