# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: what `make demo` shows: divvyd with a whole and two shared instances, from types to top and to nothing left; a guest's attack on the host
# demo: type1
# limit: 1200
. tests/rig/node.sh
. tests/rig/demo.sh

guest_image=$(ls -d "$DIVVY_CACHE"/guest-trixie-*/root.img 2>/dev/null | grep -v partial | tail -n 1)
[ -n "$guest_image" ] || fail "no guest image in $DIVVY_CACHE (next: tools/guest-image)"
DEMO=${RIG_JOB#"$PWD/"} DEMO_GPU=$DISPLAY_CARD DEMO_IMAGES=/tmp/images DEMO_DEBIAN=$(dirname "$guest_image") DEMO_RUN=/run/divvy DEMO_TYPES=/etc/divvy/types.d/node.yaml

demo_started() { node_place; }

# An emulated machine in an emulated one: the harness tries once more (docs/rig.md).
demo_hung() {
	echo "FAIL: $1"
	exit 75
}

# What the outer machine sees on the card's screen is what the guest drew there, every pixel.
demo_card_screen() {
	vm=card
	sed 's/^/0 /' "$DEMO/card.console" | tr -d '\r' >"$DEMO/card.stamped"
	mv "$DEMO/card.stamped" "$DEMO/card.console"
	check_display "$DEMO/card.ppm"
}

say "The host: two processors, an IOMMU, and two GPUs: a display card behind the IOMMU, and lavapipe, Vulkan on one of the processors"
DEMO_JOB=$(taskset -c "$NODE_GPU_CPUS" "$RIG_BUILD/tests/live/vkload" load --job 10 --jobs 10 | sed 's/.*"iterations":\([0-9]*\).*/\1/')
[ "${DEMO_JOB:-0}" -gt 0 ] || fail "a job could not be measured"
demo_images "$RIG_KERNEL/vmlinux" "$RIG_GUEST" pci,display,stay
node_begin < <(demo_types) >"$RIG_JOB/begin"
echo '$ divvyd &'
demo_show
node_end
all_unpinned
note "Left: no process, no cgroup, no file, no page pinned for a device; the card has its driver back."

say "Beneath it: a guest that turns a device on its host's memory (divvy-vmm alone)"
. tests/rig/cases/isolation.sh
