# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: divvy run with an image of tools/guest-image as it is: its disk cloned, Debian up to its login prompt; the console leaves, and nothing stays
# full: once
# limit: 2400
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json HOME=/tmp
GUEST_SILENCE_LIMIT=1200
image=$(ls -d "$DIVVY_CACHE"/guest-trixie-*/guest.conf 2>/dev/null | grep -v partial | tail -n 1)
[ -n "$image" ] || fail "no guest image in $DIVVY_CACHE (next: tools/guest-image make)"
image=$(dirname "$image")
mkdir -p /tmp/types
cat >/tmp/types/rig.yaml <<'TYPES'
- {name: s1.rig, vcpus: 1, memory_mib: 768, gpus: [{mode: shared, partition: 1/4, policy: fixed_share, selector: software}]}
TYPES
"$RIG_BUILD/tests/live/vkload" frame --frames 1 >/dev/null || fail "no Vulkan device in the host"
df -h /tmp | tail -n 1
vm=debian
: >"$RIG_JOB/$vm.console"
"$DIVVY" run --type s1.rig --image "$image" --types /tmp/types </dev/null > >(stamp >"$RIG_JOB/$vm.console") 2>"$RIG_JOB/$vm.err" &
vm_pid=$!
# The prompt itself is no line yet.
guest_wait 'Debian GNU.Linux 13 divvy-trixie ttyS0' 2000
kill -TERM $vm_pid
wait $vm_pid || fail "divvy run: status $?: $(tail -n 1 "$RIG_JOB/$vm.err")"
[ ! -e /tmp/.local/state/divvy ] && ! ls -d /tmp/divvy-run* 2>/dev/null || fail "folders were left"
[ -z "$(grep -lzs '^DIVVY_NODE=' /proc/[0-9]*/environ)" ] || fail "processes were left"
note "tools/guest-image's Debian came up to its login prompt under divvy run with a quarter of a GPU"
