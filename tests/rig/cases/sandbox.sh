# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a jailed VMM with an assigned device, a disk and a user network, looked at from the host's /proc while its guest uses all of them, reboots and powers off
# fast: iommufd
# full: type1
# limit: 500
uid=4242
mkdir -p /tmp/www
token=jail-$RANDOM
echo "hello from outside $token" >/tmp/www/hello
busybox httpd -p 8080 -h /tmp/www || fail "no web server in the host"
{ printf 'divvy-disk-0\n' | dd bs=512 conv=sync status=none; head -c $((2 * 1024 * 1024 - 512)) /dev/urandom; } >/tmp/disk0
cp /tmp/disk0 /tmp/disk1
assign $EDU

# Of one thread that runs a program. Nothing is forked: there are many lines to read, and processes are dear here.
thread_confined() { # FOLDER in /proc
	local key value want name=?
	while IFS=$':\t' read -r key value; do
		case $key in
		Name)
			name=$value
			case $name in kvm-* | vhost-* | iou-*) return ;; esac
			continue
			;;
		CapInh | CapPrm | CapEff | CapBnd | CapAmb) want=0000000000000000 ;;
		Seccomp) want=2 ;;
		NoNewPrivs) want=1 ;;
		Uid) want="$uid	$uid	$uid	$uid" ;;
		*) continue ;;
		esac
		[ "$value" = "$want" ] || fail "thread $name: $key is '$value', expected '$want'"
		checked=$((checked + 1))
	done 2>/dev/null <"$1/status"
}
confined() {
	local field t checked=0
	for t in /proc/$vm_pid/task/*; do thread_confined "$t"; done
	[ $checked -ge 40 ] || fail "only $checked facts about threads were there to be read"
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
