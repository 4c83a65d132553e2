# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A node in the rig's host, for the cases that go through divvyd and divvy; after cases/lib.sh. divvyd runs as its unit runs it (dist/divvyd.service):
# as root, in a cgroup that is its own, with /etc/divvy, /var/lib/divvy and /run/divvy; nobody else is told where they are. Its GPUs are lavapipe
# (software-0), and the display cards of the host with the driver of theirs. Host "node" (tests/rig/rig) has two cards and four processors.
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json
GUEST_SILENCE_LIMIT=600
SECOND_DISPLAY=0000:0a:00.0
NODE_CARDS=$DISPLAY_CARD
[ ! -e /sys/bus/pci/devices/$SECOND_DISPLAY ] || NODE_CARDS="$DISPLAY_CARD $SECOND_DISPLAY"
# lavapipe is on the second half of the processors, with everything that divvyd starts; node_place puts guests on the first.
NODE_GPU_CPUS=$(($(nproc) / 2))-$(($(nproc) - 1)) NODE_GUEST_CPUS=0-$(($(nproc) / 2 - 1))
NODE_TRACE=$RIG_JOB/turns.csv # the arbiter's

# node_image NAME GUEST_WORDS... - a folder with guest.conf, at /tmp/images/NAME: Debian's kernel, and the rig's RAM disk with Venus in it
# (rig.do=vulkan, rig.do=paint: guest-drivers/images/rig-init)
node_image() {
	local folder=/tmp/images/$1
	shift
	mkdir -p "$folder"
	ln -sf "$RIG_KERNEL/vmlinux" "$folder/vmlinux"
	ln -sf "/run/images/guest-gpu-${RIG_GUEST##*-}" "$folder/initrd.img"
	cat >"$folder/guest.conf" <<-CONF
		kernel  vmlinux
		initrd  initrd.img
		cmdline $QUIET $FASTER $*
	CONF
}

# node_begin - everything that divvyd finds at its start; instance types are read from standard input
node_begin() {
	local group f
	vfio_stack "$RIG_VARIANT"
	modprobe -d "$RIG_KERNEL" -a bochs overlay || fail "no driver for the display cards"
	for f in $NODE_CARDS; do
		bind_to bochs-drm "$f"
		echo >"/sys/bus/pci/devices/$f/driver_override"
	done
	# The host's root is read-only.
	mkdir -p /tmp/etc/over /tmp/etc/work
	mount -t overlay -o lowerdir=/etc,upperdir=/tmp/etc/over,workdir=/tmp/etc/work overlay /etc || fail "/etc cannot be written"
	mkdir -p /etc/divvy/types.d
	cat >/etc/divvy/types.d/node.yaml
	"$DIVVY" types check || fail "types"
	# The arbiter is to leave a trace, for which divvyd has no word; and lavapipe compiles a shader within its first job, which keeps others waiting
	# for longer here than a hog may (10 s).
	mkdir -p /tmp/programs
	for f in divvyd divvy-vmm divvy-vgpu; do ln -sf "$PWD/$RIG_BUILD/$f" /tmp/programs/$f; done
	cat >/tmp/programs/divvy <<-SCRIPT
		#!/bin/sh
		[ "\$1" != arbiter ] || exec "$PWD/$DIVVY" "\$@" --trace "$NODE_TRACE" --hog 300
		exec "$PWD/$DIVVY" "\$@"
	SCRIPT
	chmod +x /tmp/programs/divvy
	# The unit's group, in the case's: a group with controllers has no processes of its own.
	group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
	mkdir "$group/case" "$group/divvyd.service"
	for f in $(cat "$group/cgroup.procs"); do echo "$f" >"$group/case/cgroup.procs" 2>/dev/null; done
	echo "+cpu +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
	echo "+cpu +memory +pids" >"$group/cgroup.subtree_control" || fail "no controllers for $group"
	python3 -c 'import os, sys; os.setxattr(sys.argv[1], "trusted.delegate", b"1")' "$group/divvyd.service" || fail "the group cannot be given away"
	NODE_GROUP=$group/divvyd.service
	# Read once, the driver is quick to answer: an emulated host takes half a minute for that.
	"$RIG_BUILD/tests/live/vkload" frame --frames 1 >/dev/null || fail "no Vulkan device in the host"
	node_start
}

# node_start - divvyd, until it answers; also one that takes back what another left
node_start() {
	(
		echo 0 >"$NODE_GROUP/cgroup.procs" 2>/dev/null || echo 0 >"$NODE_GROUP/daemon/cgroup.procs"
		exec taskset -c "$NODE_GPU_CPUS" "$RIG_BUILD/divvyd" --programs /tmp/programs
	) >>"$RIG_JOB/divvyd.log" 2>&1 </dev/null &
	node_pid=$!
	node_answers
}

# node_place - the machines' threads off the GPU's processors
node_place() {
	local pid
	for pid in $(pgrep -x divvy-vmm); do taskset -pac "$NODE_GUEST_CPUS" "$pid" >/dev/null 2>&1; done
}

# node_end - divvyd and the arbiter end, and nothing is left but what they write down
node_end() {
	local f arbiter
	kill -TERM "$node_pid"
	wait "$node_pid" || fail "divvyd ended with $?: $(tail -n 1 "$RIG_JOB/divvyd.log")"
	# It outlives the daemon, as vGPUs do.
	arbiter=$(pgrep -f 'divvy arbiter --socket /run/divvy/arbiter')
	[ -z "$arbiter" ] || kill -TERM "$arbiter"
	for _ in {1..50}; do pgrep -f 'divvy arbiter' >/dev/null || break; sleep 0.1; done
	f=$(grep -lzs '^DIVVY_NODE=' /proc/[0-9]*/environ)
	[ -z "$f" ] || fail "processes were left: $(pgrep -af divvy)"
	f=$(find "$NODE_GROUP" -mindepth 1 -type d ! -name daemon)
	[ -z "$f" ] || fail "cgroups were left: $f"
	f=$(find /run/divvy -type s ! -name api ! -name arbiter; find /run/divvy/instances /var/lib/divvy/instances -mindepth 1 ! -name 'arbiter.log*')
	[ -z "$f" ] || fail "files were left: $f"
	for f in $NODE_CARDS; do
		[ "$(driver_of "$f")" = bochs-drm ] || fail "$f has not got its driver back but '$(driver_of "$f")'"
		[ -z "$(tr -d '\n' <"/sys/bus/pci/devices/$f/driver_override" | sed 's/(null)//')" ] || fail "$f is still overridden"
	done
	all_unpinned
	umount /etc
}
