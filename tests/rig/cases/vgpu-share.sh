# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: two guests that both saturate one GPU, weights 3:1: GPU time as it is charged, and the work that is done in the guests
# full: once
# limit: 2400
. tests/rig/vgpu.sh

vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3
echo "rig: ready"
read -r iterations seconds
./vkload load --iterations $iterations --seconds $seconds --in-flight 4 | sed "s/^/rig: load /"
SCRIPT

used() { # NAME - GPU nanoseconds charged so far
	"$DIVVY" vgpus --json --socket /tmp/arbiter | python3 -c '
import json, sys
print(next(v["engines"]["graphics"]["used_ns"] for v in json.load(sys.stdin)["vgpus"] if v["name"] == sys.argv[1]))' "$1"
}
percent() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", 100 * a / (a + b) }'; }
within() { awk -v a="$1" 'BEGIN { exit !(a >= 71.25 && a <= 78.75) }'; } # 75 % within 5 % of it

# The GPU, which is lavapipe, has one of the host's two processors, and the virtual machines the other. A job's length makes the
# guests' own speed no matter, and is well below hold_max, beyond which another may go beside it.
iterations=$(taskset -c 1 "$RIG_BUILD/tests/live/vkload" load --job 50 --jobs 5 | sed 's/.*"iterations":\([0-9]*\).*/\1/')
[ "${iterations:-0}" -gt 0 ] || fail "a job could not be measured"
taskset -c 1 "$DIVVY" arbiter --socket /tmp/arbiter --trace "$RIG_JOB/turns.csv" >"$RIG_JOB/arbiter.log" 2>&1 &
arbiter_pid=$!
for _ in {1..100}; do [ ! -S /tmp/arbiter ] || break; sleep 0.1; done
VGPU_CPUS=1
vgpu_serve heavy --socket /tmp/arbiter --weight 300 -- --window 256M
vgpu_serve light --socket /tmp/arbiter --weight 100 -- --window 256M

declare -A pids inputs
for name in heavy light; do
	vgpu_guest $name $name
	taskset -pac 0 $vm_pid >/dev/null
	pids[$name]=$vm_pid inputs[$name]=$vm_in
done
for name in heavy light; do
	vm=$name vm_pid=${pids[$name]}
	guest_wait 'rig: ready' 1800
done
for name in heavy light; do echo "$iterations 60" >&"${inputs[$name]}"; done
sleep 15 # both are at it
heavy=$(used heavy) light=$(used light)
sleep 40
heavy=$(($(used heavy) - heavy)) light=$(($(used light) - light))
for name in heavy light; do
	vm=$name vm_pid=${pids[$name]} vm_in=${inputs[$name]}
	vm_end
	guest_facts
done
jobs() { sed -n 's/.*"mode":"load".*"jobs":\([0-9]*\).*/\1/p' "$RIG_JOB/$1.console"; }
time_part=$(percent "$heavy" "$light") work_part=$(percent "$(jobs heavy)" "$(jobs light)")
note "weights 3:1, both saturating: $time_part % of the GPU time charged, $work_part % of the jobs done ($(jobs heavy) and $(jobs light))"
record vgpu_time_percent "$time_part"
within "$time_part" || fail "of the GPU time the heavier one has $time_part %, not 75"
# Jobs are counted from the first to the last; who begins or ends later has a few alone.
awk -v a="$work_part" 'BEGIN { exit !(a >= 68 && a <= 82) }' || fail "of the work the heavier one did $work_part %, not 75"
vgpu_end heavy
vgpu_end light
kill -TERM $arbiter_pid
wait $arbiter_pid || fail "the arbiter ended with $?"
