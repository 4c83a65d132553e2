# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: two NUMA nodes of reserved huge pages, sockets and threads, pinned vCPUs, as a stock guest that owns a device sees them
# full: iommufd type1
# limit: 400
pool=/sys/devices/system/node/node0/hugepages/hugepages-2048kB
echo 128 >$pool/nr_hugepages
[ "$(cat $pool/free_hugepages)" = 128 ] || fail "the host gives only $(cat $pool/free_hugepages) huge pages"
refused 1 'huge-pages-short.*160 pages of 2 MiB are needed, 128 are free .*echo 160 ' \
	"$VMM" --kernel "$RIG_KERNEL/vmlinux" --memory 320M --huge-pages 2M
[ "$(cat $pool/free_hugepages)" = 128 ] || fail "a refused VM keeps huge pages"

assign $EDU
CPUS=4 MEMORY=256M vm_boot guest topology,pci,edu,wait ask --vfio $EDU --iommu "$RIG_VARIANT" \
	--topology sockets=2,cores=1,threads=2 --huge-pages 2M --pin 0=0,1=1 \
	--numa cpus=0-1,memory=160M,host-node=0 --numa cpus=2-3,memory=96M,host-node=0
guest_wait 'rig: waiting' 250
[ "$(cat $pool/free_hugepages)" = 0 ] || fail "$(cat $pool/free_hugepages) huge pages are not in use"
for v in 0 1; do
	for t in /proc/"$vm_pid"/task/*; do
		[ "$(cat "$t/comm")" != vcpu$v ] || on=$(sed -n 's/^Cpus_allowed_list:\t//p' "$t/status")
	done
	[ "$on" = $v ] || fail "vCPU $v may run on host CPUs '$on'"
done
guest_say on
guest_wait 'rig: then' 60
guest_say poweroff
vm_end
guest_facts
guest_ok
check_edu
expect 'node 0 cpus 0-1 memory 1[0-5][0-9]... kB distance 10 11'
expect 'node 1 cpus 2-3 memory [89].... kB distance 11 10'
expect 'cpu 0 socket 0 core 0 threads 0-1 node 0'
expect 'cpu 3 socket 1 core 0 threads 2-3 node 1'
all_unpinned
[ "$(cat $pool/free_hugepages)" = 128 ] || fail "huge pages are still in use"
grep -E "guest memory: 256 MiB populated by 2 threads" "$RIG_JOB/guest.err" || fail "memory was not populated by threads"
echo 0 >$pool/nr_hugepages
note "two nodes, two sockets of two threads, vCPUs where they were pinned; DMA to huge pages; every page given back"
