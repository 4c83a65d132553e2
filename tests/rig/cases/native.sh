# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: make demo on a machine that has an IOMMU and a GPU to spare: it takes the native way, with a divvyd of its own, and says so
# full: once
# limit: 1200
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json
vfio_stack type1
"$DIVVY" bind $DISPLAY_CARD || fail "divvy bind $DISPLAY_CARD"
tests/rig/demo >/tmp/demo 2>&1
status=$?
cat /tmp/demo
[ $status -eq 0 ] || fail "the demo's exit status is $status"
for said in "natively on this machine, with $DISPLAY_CARD" "rig: pci 0000:01:00.0 1234:1111 class 03" "Virtio-GPU Venus" "desk2: stopped, and gone" \
	"Left: no process; pages pinned for devices before and now: 0, 0; .* driver: vfio-pci"; do
	grep -qE "$said" /tmp/demo || fail "the demo does not say '$said'"
done
[ -z "$(ls -d /tmp/divvy-demo-* 2>/dev/null)" ] || fail "the demo's folder was left"
all_unpinned
