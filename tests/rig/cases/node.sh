# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a node: one dedicated and six shared instances of mixed types under load while others come and go; books, shares, metrics, top, divvyd killed
# full: type1@node
# limit: 3000
# NODE_SECONDS is how long they work (600 is the whole show); what is looked at is the same (tests/rig/nodeshow).
. tests/rig/node.sh

node_image gpu rig.do=vulkan
node_image desk rig.do=display,vulkan
node_image card rig.do=paint
processes() { ps --ppid 2 -p 2 --deselect -o args= | grep -cv '^ps '; } # without the kernel's
processes=$(processes) mounts=$(wc -l </proc/mounts)
node_begin <<TYPES
- {name: show.whole, vcpus: 1, memory_mib: 192, gpus: [{mode: dedicated, selector: "$DISPLAY_CARD"}]}
- {name: show.second, vcpus: 1, memory_mib: 128, gpus: [{mode: dedicated, selector: "$SECOND_DISPLAY"}]}
- {name: show.fifth, vcpus: 1, memory_mib: 192, gpus: [{mode: shared, policy: fixed_share, partition: 0.2, vram_mib: 128, selector: software}]}
- {name: show.tenth, vcpus: 1, memory_mib: 192, gpus: [{mode: shared, policy: fixed_share, partition: 0.1, vram_mib: 128, selector: software}]}
- {name: show.heavy, vcpus: 1, memory_mib: 192, gpus: [{mode: shared, policy: weighted, weight: 300, vram_mib: 128, selector: software}]}
- {name: show.light, vcpus: 1, memory_mib: 192, gpus: [{mode: shared, policy: weighted, weight: 100, vram_mib: 64, selector: software}]}
- {name: show.burst, vcpus: 1, memory_mib: 192, gpus: [{mode: shared, policy: burst, vram_mib: 64, credits: {baseline: 0.1, max: 1, initial: 0.25}, selector: software}]}
- {name: show.desk, vcpus: 1, memory_mib: 256, gpus: [{mode: shared, policy: equal_share, vram_mib: 128, selector: software}], displays: [{width: 800, height: 600}]}
- {name: show.idle, vcpus: 1, memory_mib: 128, gpus: [{mode: shared, policy: best_effort, vram_mib: 64, selector: software}]}
# for which there is no room, each for another reason
- {name: show.most, vcpus: 1, memory_mib: 128, gpus: [{mode: shared, policy: fixed_share, partition: 0.7, vram_mib: 64, selector: software}]}
- {name: show.memory, vcpus: 1, memory_mib: 128, gpus: [{mode: shared, policy: weighted, vram_mib: 5800, selector: software}]}
- {name: show.ram, vcpus: 1, memory_mib: 65536, gpus: [{mode: shared, policy: weighted, vram_mib: 64, selector: software}]}
- {name: show.cpus, vcpus: 64, memory_mib: 128, gpus: [{mode: shared, policy: weighted, vram_mib: 64, selector: software}]}
TYPES
# A job's length makes the guests' own speed no matter, and is far below hold_max, beyond which another may go beside it.
iterations=$(taskset -c "$NODE_GPU_CPUS" "$RIG_BUILD/tests/live/vkload" load --job 10 --jobs 5 | sed 's/.*"iterations":\([0-9]*\).*/\1/')
[ "${iterations:-0}" -gt 0 ] || fail "a job could not be measured"

mkfifo /tmp/kill /tmp/back
DIVVY=$PWD/$DIVVY python3 tests/rig/nodeshow "${NODE_SECONDS:-60}" "$iterations" "$RIG_JOB" /tmp/kill /tmp/back &
show=$!
if read -r _ </tmp/kill; then
	kill -KILL "$node_pid"
	wait "$node_pid"
	node_start
	echo back >/tmp/back
fi
wait $show || {
	for f in /var/lib/divvy/instances/*/*.log; do cp "$f" "$RIG_JOB/$(basename "$(dirname "$f")")-$(basename "$f")"; done
	exit 1
}
node_end
[ "$(processes)" -le "$processes" ] || fail "there are more processes than before: $(ps --ppid 2 -p 2 --deselect -o args=)"
[ "$(wc -l </proc/mounts)" = "$mounts" ] || fail "there are more mounts than before: $(cat /proc/mounts)"
note "nothing is left: processes, control groups, mounts, sockets, folders; each card has its driver again"
