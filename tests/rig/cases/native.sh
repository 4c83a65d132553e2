# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: make demo on a machine that has an IOMMU and a free device: it takes the native way and says so
# full: once
# limit: 300
vfio_stack type1
"$DIVVY" bind $EDU || fail "divvy bind $EDU"
tests/rig/demo >/tmp/demo 2>&1
status=$?
cat /tmp/demo
[ $status -eq 0 ] || fail "the demo's exit status is $status"
for said in "natively on this machine, with $EDU" "rig: pci 0000:01:00.0 1234:11e8 .*driver divvy_edu" "$EDU: reset \(.*\) in" "pinned for DMA now, and before: 0, 0"; do
	grep -qE "$said" /tmp/demo || fail "the demo does not say '$said'"
done
all_unpinned
