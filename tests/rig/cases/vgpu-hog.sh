# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a guest with a hog and a loop that allocates until refused, beside one that draws now and then: its waits, and what the hog is refused
# full: once
# limit: 2400
. tests/rig/vgpu.sh

vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json
echo "rig: ready"
while read -r word words; do
	case $word in
	load) ./vkload load $words | sed "s/^/rig: load /" ;;
	hog)
		(while :; do ./vkload memory --fill --chunk 8 | sed "s/^/rig: fill /"; done) &
		./vkload load $words | sed "s/^/rig: hog /"
		kill $!
		;;
	end) exit 0 ;;
	esac
done
SCRIPT

field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" | tail -n 1; }
# A job of each: the hog's is ten times as long.
short=$(taskset -c 1 "$RIG_BUILD/tests/live/vkload" load --job 5 --jobs 5 | field iterations)
[ "${short:-0}" -gt 0 ] || fail "a job could not be measured"
taskset -c 1 "$DIVVY" arbiter --socket /tmp/arbiter --trace "$RIG_JOB/turns.csv" >"$RIG_JOB/arbiter.log" 2>&1 &
arbiter_pid=$!
for _ in {1..100}; do [ ! -S /tmp/arbiter ] || break; sleep 0.1; done
VGPU_CPUS=1
vgpu_serve desk --socket /tmp/arbiter --weight 100 -- --window 256M
vgpu_serve hog --socket /tmp/arbiter --weight 100 --memory-quota 96M -- --window 256M

declare -A pids inputs
for name in desk hog; do
	vgpu_guest $name $name
	taskset -pac 0 $vm_pid >/dev/null
	pids[$name]=$vm_pid inputs[$name]=$vm_in
done
be() { vm=$1 vm_pid=${pids[$1]} vm_in=${inputs[$1]}; }
for name in desk hog; do be $name; guest_wait 'rig: ready' 1800; done

be desk
guest_say load --iterations "$short" --every 300 --seconds 30
guest_wait 'rig: load .*"mode":"load"' 200
alone=$(field p95 <"$RIG_JOB/desk.console")
be hog
guest_say hog --iterations $((10 * short)) --in-flight 8 --seconds 60
guest_wait 'rig: fill ' 200
be desk
guest_say load --iterations "$short" --every 300 --seconds 30
guest_wait 'rig: load .*"mode":"load"' 300 2
beside=$(field p95 <"$RIG_JOB/desk.console")
be hog
guest_wait 'rig: hog .*"mode":"load"' 300
for name in desk hog; do be $name; guest_say end; vm_end; guest_facts; done

# What one of the hog's jobs took on the GPU, the longest turn but the odd one that the machine held up.
job=$(awk -F, '$2 == "hog" { print $6 / 1e6 }' "$RIG_JOB/turns.csv" | sort -n | awk '{ v[NR] = $1 } END { print v[int(NR * 0.9)] }')
note "a job every 300 ms: 95 of 100 are done within $alone ms alone, $beside ms beside the hog, whose jobs take $job ms"
awk -v a="$alone" -v b="$beside" -v j="$job" 'BEGIN { exit !(b <= 1.5 * a + 2 + 1.5 * j) }' || fail "beside the hog the desk waits $beside ms, alone $alone"
granted=$(sed -n 's/.*rig: fill .*"granted_bytes":\([0-9]*\).*/\1/p' "$RIG_JOB/hog.console" | sort -n | tail -n 1)
[ "${granted:-0}" -gt 0 ] && [ "$granted" -le $((96 << 20)) ] || fail "with a quota of 96 MiB the hog was granted $granted bytes"
grep -q '"refused":"VK_ERROR_OUT_OF_DEVICE_MEMORY"' "$RIG_JOB/hog.console" || fail "the hog was never refused"
note "the hog allocated until refused: $granted bytes at most, of $((96 << 20))"
vgpu_end desk
vgpu_end hog
kill -TERM $arbiter_pid
wait $arbiter_pid || fail "the arbiter ended with $?"
