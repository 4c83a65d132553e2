# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a stock guest whose disk and entropy are in other processes, two vfio-user servers: through a reboot, in two VMs, and when one dies
# fast: once
# limit: 500
serve() { # NAME WORDS... - a server at /tmp/NAME.sock
	local name=$1
	shift
	"$RIG_BUILD/tests/rig/vfio_user_server" "/tmp/$name.sock" "$@" >"$RIG_JOB/$name.out" 2>"$RIG_JOB/$name.log" &
	servers[$name]=$!
	for _ in {1..100}; do [ ! -S "/tmp/$name.sock" ] || return 0; sleep 0.1; done
	fail "the server of $name does not listen: $(tail -n 1 "$RIG_JOB/$name.log")"
}
look() { # ROUND - what the guest found and wrote
	guest_wait 'rig: waiting' 200 "$1"
	expect 'pci .* 1af4:1042 .*driver virtio-pci'
	expect 'blk size 4096 magic divvy-disk-0'
	expect 'rng virtio_rng.* [0-9a-f]{16}'
	[ "$(guest_value 'blk md5 ([0-9a-f]+)')" = "$(dd if=/tmp/disk0 bs=64k skip=1 status=none | md5sum | cut -c1-32)" ] ||
		fail "round $1: the guest read other bytes than /tmp/disk0 has"
	dd if=/tmp/disk0 bs=512 skip=8 count=1 status=none | grep -q "written by guest $token" || fail "round $1: what the guest wrote is not in /tmp/disk0"
}

declare -A servers
{ printf 'divvy-disk-0\n' | dd bs=512 conv=sync status=none; head -c $((2 * 1024 * 1024 - 512)) /dev/urandom; } >/tmp/disk0
serve disk disk /tmp/disk0
serve rng rng
vm_words="--no-rng --vfio-user /tmp/disk.sock --vfio-user /tmp/rng.sock"

token=first-$RANDOM
APPEND="rig.token=$token" vm_boot guest pci,rng,blk,wait ask $vm_words
look 1
# One client at a time, and the one that is there notices nothing.
out=$(timeout 30 "$VMM" --kernel "$RIG_KERNEL/vmlinux" --cmdline panic=-1 --memory 64M --vfio-user /tmp/disk.sock 2>&1 </dev/null) && fail "a second client was served"
grep -q 'error\[vfio-user-version\]' <<<"$out" || fail "a second client is told: $out"
guest_say on
guest_wait 'rig: then' 30
guest_say reboot
look 2
guest_say on
guest_wait 'rig: then' 30 2
guest_say poweroff
vm_end
guest_facts
guest_ok

# The same servers, another VM; then one of them dies under its guest, which goes on. It cannot power itself off any more:
# Linux waits for a virtio device to say that it was reset, for ever.
token=second-$RANDOM
APPEND="rig.token=$token" vm_boot other pci,rng,blk,wait ask $vm_words
look 1
kill -KILL "${servers[rng]}"
guest_say on
guest_wait 'rig: then' 60
grep -q 'the server closed the connection; the device is gone' "$RIG_JOB/other.err" || fail "the VMM does not say that a server is gone"
kill -TERM "$vm_pid"
vm_wait 60
guest_ok
kill -TERM "${servers[disk]}"
wait "${servers[disk]}" || fail "the disk's server ended with $?"
[ ! -e /tmp/disk.sock ] || fail "the disk's server left its socket"
note "disk and entropy of two vfio-user servers: read, written, compared, after a reboot and in a second VM; a second client refused; a server killed under its guest"
