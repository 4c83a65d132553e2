# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: stock bzImage with disks, network, console and rng; reboot from inside; power off
# fast: once
# limit: 400
mkdir -p /tmp/www
token=boot-$RANDOM
echo "hello from outside $token" >/tmp/www/hello
busybox httpd -p 8080 -h /tmp/www || fail "no web server in the host"
for i in 0 1; do
	{ printf 'divvy-disk-%d\n' $i | dd bs=512 conv=sync status=none; head -c $((2 * 1024 * 1024 - 512)) /dev/urandom; } >/tmp/disk$i
done
CPUS=2 FASTER="" KERNEL=$RIG_KERNEL/vmlinuz APPEND="rig.token=$token" vm_boot guest memory,rings,rng,blk,net,wait ask \
	--disk /tmp/disk0 --disk /tmp/disk1,readonly --net user
guest_wait 'rig: waiting' 200
times_of_boot exec_to_init_bzimage
guest_say "typed $token"
guest_wait "rig: got typed $token" 30
expect 'memory .* 2 cpus'
for driver in virtio_blk virtio_net virtio_rng; do expect "rings $driver packed"; done
expect 'rng virtio_rng.* [0-9a-f]{16}'
expect 'blk size 4096 magic divvy-disk-0'
expect "blk read written by guest $token"
expect 'blk readonly 1 magic divvy-disk-1'
expect "net http hello from outside $token"
[ "$(guest_value 'blk md5 ([0-9a-f]+)')" = "$(dd if=/tmp/disk0 bs=64k skip=1 status=none | md5sum | cut -c1-32)" ] ||
	fail "the guest read other bytes than /tmp/disk0 has"
dd if=/tmp/disk0 bs=512 skip=8 count=1 status=none | grep -q "written by guest $token" || fail "what the guest wrote is not in /tmp/disk0"

guest_wait 'rig: then' 30
guest_say reboot
guest_wait 'rig: init' 200 2
guest_wait 'rig: waiting' 60 2
guest_say again
guest_wait 'rig: then' 30 2
guest_say poweroff
vm_end
guest_facts
guest_ok
! pgrep -x 'passt|passt.avx2' || fail "passt is still there"
note "disk (writable and read-only), HTTP through passt, console both ways, rng; rebooted, powered off, exit status 0"
