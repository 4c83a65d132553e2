# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: vsock over the host's vhost: bytes both ways, interrupts counted, again after a reboot; refusals in words
# fast: once
# limit: 400
vmm_words="--kernel $RIG_KERNEL/vmlinux --cmdline panic=-1 --memory 64M"
[ ! -e /sys/module/vhost_vsock ] || rmmod vhost_vsock || fail "cannot unload vhost_vsock"
refused 1 'no-vhost-vsock.*modprobe vhost_vsock' "$VMM" $vmm_words --vsock 42
modprobe -d "$RIG_KERNEL" vhost_vsock || fail "cannot load vhost_vsock"
[ -e /dev/vhost-vsock ] || fail "no /dev/vhost-vsock"

exchange() { # ROUND - what the guest's do_vsock wants of the host
	socat -u VSOCK-LISTEN:5000 CREATE:"/tmp/from-guest.$1" &
	listener=$!
	guest_wait 'rig: vsock sent' 200 "$1"
	wait $listener || fail "round $1: the listening socket ended with $?"
	[ "$(md5sum <"/tmp/from-guest.$1" | cut -c1-32)" = "$(guest_value 'vsock sent ([0-9a-f]+)')" ] || fail "round $1: the host got other bytes than the guest sent"
	guest_wait 'rig: vsock listens' 60 "$1"
	head -c 300000 /dev/urandom >/tmp/to-guest
	timeout 60 socat -u FILE:/tmp/to-guest VSOCK-CONNECT:42:6000 || fail "round $1: cannot send to the guest"
	guest_wait 'rig: vsock received' 60 "$1"
	[ "$(md5sum </tmp/to-guest | cut -c1-32)" = "$(guest_value 'vsock received ([0-9a-f]+)')" ] || fail "round $1: the guest got other bytes than the host sent"
	guest_wait 'rig: then' 30 "$1"
	more_than_zero "$(guest_value 'vsock interrupts ([0-9 ]+)')" || fail "round $1: no MSI-X vector counted anything"
}

vm_boot guest rings,vsock ask --vsock 42 --no-rng
exchange 1
refused 1 'cid-taken.*CID 42' "$VMM" $vmm_words --vsock 42
guest_say reboot
exchange 2
guest_say poweroff
vm_end
guest_facts
guest_ok
expect 'rings vmw_vsock_virtio_transport split'
expect 'vsock cid 42'
# The CID is free again, and nobody answers there.
! timeout 5 socat -u FILE:/dev/null VSOCK-CONNECT:42:6000 2>/dev/null || fail "somebody answers at CID 42"
note "300000 bytes each way, compared, before and after a reboot of the guest; a taken CID and a missing module refused"
