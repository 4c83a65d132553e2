# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: DMA through our own VFIO and IOMMU layers, without a guest: mapped, unmapped, read-only, stale addresses
# fast: iommufd type1 iommufd@amd
# full: type1@amd type1@linux6.1 type1@linux7
# limit: 120
assign $EDU
[ -x build/rig/bin/edu_host ] || fail "build/rig/bin/edu_host is not there"
build/rig/bin/edu_host $EDU "$RIG_VARIANT" | tee /tmp/out
[ "${PIPESTATUS[0]}" -eq 0 ] || fail "edu_host: $(grep -m1 FAIL /tmp/out || echo "no result")"
! grep -q '^FAIL' /tmp/out || fail "$(grep -m1 '^FAIL' /tmp/out)"
grep -q '^PASS' /tmp/out || fail "edu_host said nothing"
dmesg | grep -E 'DMAR: \[DMA|IO_PAGE_FAULT' | head -n 20
all_unpinned
