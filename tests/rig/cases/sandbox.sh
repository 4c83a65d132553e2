# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a jailed VMM with an assigned device, a disk and a user network, looked at from the host's /proc while its guest uses all of them, reboots and powers off
# fast: iommufd type1
# limit: 400
uid=4242
mkdir -p /tmp/www
token=jail-$RANDOM
echo "hello from outside $token" >/tmp/www/hello
busybox httpd -p 8080 -h /tmp/www || fail "no web server in the host"
{ printf 'divvy-disk-0\n' | dd bs=512 conv=sync status=none; head -c $((2 * 1024 * 1024 - 512)) /dev/urandom; } >/tmp/disk0
cp /tmp/disk0 /tmp/disk1
assign $EDU

status_is() { # FIELD VALUE - in every thread that runs a program
	local t name value
	for t in /proc/$vm_pid/task/*; do
		name=$(cat "$t/comm" 2>/dev/null) || continue
		case $name in kvm-* | vhost-* | iou-*) continue ;; esac
		value=$(sed -n "s/^$1:[[:space:]]*//p" "$t/status")
		[ "$value" = "$2" ] || fail "thread $name: $1 is '$value', expected '$2'"
	done
}
confined() {
	local field
	for field in CapInh CapPrm CapEff CapBnd CapAmb; do status_is $field 0000000000000000; done
	status_is Seccomp 2
	status_is NoNewPrivs 1
	status_is Uid "$uid	$uid	$uid	$uid"
	[ -z "$(ls -A /proc/$vm_pid/root/)" ] || fail "the VMM's root is not empty: $(ls -A /proc/$vm_pid/root/)"
	for field in mnt net ipc uts; do
		[ "$(readlink /proc/$vm_pid/ns/$field)" != "$(readlink /proc/self/ns/$field)" ] || fail "the VMM is in the host's $field namespace"
	done
}

APPEND="rig.token=$token" vm_boot guest pci,edu,rng,blk,net,wait ask --vfio $EDU --iommu "$RIG_VARIANT" --disk /tmp/disk0 --disk /tmp/disk1,readonly \
	--net user --jail uid=$uid
guest_wait 'rig: waiting' 200
confined
note "every thread: no capability, a filter, user $uid; empty root, namespaces of its own"
guest_say on
guest_wait 'rig: then' 30
expect "net http hello from outside $token"
expect "blk read written by guest $token"
guest_ok
guest_say reboot
guest_wait 'rig: waiting' 260 2
confined
guest_say on
guest_wait 'rig: then' 30 2
guest_say poweroff
vm_end
guest_ok
check_edu
! grep -E 'error\[sandbox\]|no Landlock' "$RIG_JOB/guest.err" || fail "the sandbox was not whole"
sleep 1
! pgrep -l passt || fail "passt is still there"
all_unpinned
note "disk, network and assigned device used before and after a reboot; nothing is left"
