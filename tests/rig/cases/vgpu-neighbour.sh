# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a guest with a hog and a loop that allocates until refused, beside one that draws now and then: its frames, and what is refused
# full: once
# limit: 1500
. tests/rig/vgpu.sh

# The loop is one process, and looks at what it is told (docs/guests.md): render workers that come and go by the dozen are not what is tested.
vgpu_job <<'SCRIPT'
#!/bin/sh
export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3 VN_PERF=no_async_mem_alloc
echo "rig: ready"
while read -r word words; do
	case $word in
	frame) ./vkload frame $words | sed "s/^/rig: frame /" ;;
	hog)
		./vkload memory --fill --chunk 8 --most 256 --seconds 40 | sed "s/^/rig: fill /" &
		./vkload load $words | sed "s/^/rig: hog /"
		wait
		echo "rig: hog is done"
		;;
	end) exit 0 ;;
	esac
done
SCRIPT

field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" | tail -n 1; }
draw="--frames 12 --every 1000 --width 64 --height 64"
pixels=$("$RIG_BUILD/tests/live/vkload" frame $draw | sed 's/.*"hash":"\([0-9a-f]*\)".*/\1/')
work=$(taskset -c 1 "$RIG_BUILD/tests/live/vkload" load --job 20 --jobs 5 | field iterations)
[ "${work:-0}" -gt 0 ] || fail "a job could not be measured"
taskset -c 1 "$DIVVY" arbiter --socket /tmp/arbiter --trace "$RIG_JOB/turns.csv" >"$RIG_JOB/arbiter.log" 2>&1 &
arbiter_pid=$!
for _ in {1..100}; do [ ! -S /tmp/arbiter ] || break; sleep 0.1; done
VGPU_CPUS=1
vgpu_serve desk --socket /tmp/arbiter --weight 100 -- --window 256M
vgpu_serve hog --socket /tmp/arbiter --weight 100 --memory-quota 96M -- --window 256M

declare -A pids inputs
be() { vm=$1 vm_pid=${pids[$1]} vm_in=${inputs[$1]}; }
for name in desk hog; do
	vgpu_guest $name $name
	taskset -pac 0 $vm_pid >/dev/null
	pids[$name]=$vm_pid inputs[$name]=$vm_in
	guest_wait 'rig: ready' 900 # one after the other
done

be desk
guest_say frame $draw
guest_wait 'rig: frame .*"mode":"frame"' 200
alone=$(field p50 <"$RIG_JOB/desk.console")
be hog
guest_say hog --iterations "$work" --in-flight 2 --seconds 40
sleep 8
be desk
guest_say frame $draw
guest_wait 'rig: frame .*"mode":"frame"' 200 2
beside=$(field p50 <"$RIG_JOB/desk.console")
be hog
guest_wait 'rig: hog is done' 300
for name in desk hog; do be $name; guest_say end; vm_end; guest_facts; done

[ "$(grep -c "\"hash\":\"$pixels\"" "$RIG_JOB/desk.console")" = 2 ] || fail "the desk drew other pixels than the host ($pixels)"
# What one of the hog's jobs took, as it ran: two are in flight, and nothing is taken off the GPU again (docs/guests.md).
job=$(grep 'rig: hog {' "$RIG_JOB/hog.console" | sed 's/.*"latency_ms"//' | field p50 | awk '{ print $1 / 2 }')
note "a frame each second: $alone ms alone, $beside ms beside the hog, whose jobs take $job ms (medians)"
awk -v a="$alone" -v b="$beside" -v j="$job" 'BEGIN { exit !(b <= 1.5 * a + 2 + 2 * j) }' || fail "beside the hog a frame takes $beside ms, alone $alone"
granted=$(grep 'rig: fill' "$RIG_JOB/hog.console" | field most_bytes) rounds=$(grep 'rig: fill' "$RIG_JOB/hog.console" | field rounds)
[ "${granted:-0}" -gt 0 ] && [ "$granted" -le $((96 << 20)) ] || fail "with a quota of 96 MiB the hog was granted $granted bytes"
[ "$(grep 'rig: fill' "$RIG_JOB/hog.console" | field refused_rounds)" = "$rounds" ] || fail "the loop was not refused in each of $rounds rounds"
note "the loop was refused in each of its $rounds rounds, at $granted bytes of $((96 << 20))"
vgpu_end desk
vgpu_end hog
kill -TERM $arbiter_pid
wait $arbiter_pid || fail "the arbiter ended with $?"
