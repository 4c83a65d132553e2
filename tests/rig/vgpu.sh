# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the cases with a vGPU share, after cases/lib.sh. The guest is tools/guest-image's, which has to be there: making it takes the machine
# that the rig's host is played on. GPU and driver are lavapipe, on the host's processors.
GUEST_SILENCE_LIMIT=1200 # two machines that are emulated, one in the other
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json

guest_image=$(ls -d "$DIVVY_CACHE"/guest-trixie-*/root.img 2>/dev/null | grep -v partial | tail -n 1)
[ -n "$guest_image" ] || fail "no guest image in $DIVVY_CACHE (next: tools/guest-image)"
guest_image=$(dirname "$guest_image")

# vgpu_job SCRIPT - what the guests run: a disk that is an archive (guest-drivers/images/debian/guest-run), with vkload in it
vgpu_job() {
	mkdir -p /tmp/job
	cat >/tmp/job/job
	chmod +x /tmp/job/job
	cp "$RIG_BUILD/tests/live/vkload" /usr/lib/x86_64-linux-gnu/libjansson.so.4 /tmp/job
	tar --format=ustar -C /tmp/job -cf /tmp/job.tar .
}

declare -A vgpu_pids
# vgpu_serve NAME SHARE... -- WORDS... - a vGPU at /tmp/NAME.sock, its share and its own words; on the processors VGPU_CPUS
vgpu_serve() {
	local name=$1 share=()
	shift
	while [ "$1" != -- ]; do share+=("$1"); shift; done
	shift
	${VGPU_CPUS:+taskset -c "$VGPU_CPUS"} "$DIVVY" run-native "${share[@]}" --name "$name" -- "$RIG_BUILD/divvy-vgpu" --socket "/tmp/$name.sock" --control "/tmp/$name.ctl" \
		"$@" >"$RIG_JOB/$name.log" 2>&1 &
	vgpu_pids[$name]=$!
	for _ in {1..300}; do [ ! -S "/tmp/$name.sock" ] || return 0; sleep 0.2; done
	fail "the vGPU $name does not listen: $(tail -n 1 "$RIG_JOB/$name.log")"
}

# vgpu_end NAME - it ends as it should, and was under its share
vgpu_end() {
	kill -TERM "${vgpu_pids[$1]}"
	wait "${vgpu_pids[$1]}" || fail "the vGPU $1 ended with $?: $(tail -n 1 "$RIG_JOB/$1.log")"
	! grep -q never-registered "$RIG_JOB/$1.log" || fail "$1's render workers never registered: $(tail -n 1 "$RIG_JOB/$1.log")"
}

# vgpu_guest NAME VGPU WORDS... - a guest that has it
vgpu_guest() {
	local name=$1 vgpu=$2
	shift 2
	vm_start "$name" --kernel "$guest_image/vmlinuz" --initrd "$guest_image/initrd.img" \
		--cmdline "console=tty0 console=ttyS0 root=/dev/vda ro panic=-1 $FASTER init=/usr/lib/divvy/guest-run divvy.run=job" \
		--log-level debug --cpus 1 --memory 768M --serial stdio --disk "$guest_image/root.img,readonly" --disk /tmp/job.tar,readonly \
		--vfio-user "/tmp/$vgpu.sock" "$@"
}
