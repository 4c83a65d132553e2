# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: divvy bind and unbind: a whole group, drivers remembered and restored, holders named
# fast: once
# limit: 180
vfio_stack type1
modprobe -d "$RIG_KERNEL" nvme
bind_to nvme $NVME $PAIR_NVME
echo >/sys/bus/pci/devices/$NVME/driver_override
echo >/sys/bus/pci/devices/$PAIR_NVME/driver_override
before=$(machine_state)
name=$(basename /sys/bus/pci/devices/$NVME/nvme/nvme*)
for _ in {1..50}; do [ ! -b /dev/"$name"n1 ] || break; sleep 0.1; done

exec 8</dev/"$name"n1
refused 1 "device-in-use.*|.*$$" "$DIVVY" bind $NVME
exec 8<&-

for f in $NVME $PAIR_EDU; do
	"$DIVVY" bind $f || fail "divvy bind $f"
done
for f in $NVME $PAIR_NVME $PAIR_EDU; do
	[ "$(driver_of $f)" = vfio-pci ] || fail "$f is on '$(driver_of $f)' after bind"
done
"$DIVVY" bind $NVME || fail "divvy bind a second time"
for f in $NVME $PAIR_NVME; do
	"$DIVVY" unbind $f || fail "divvy unbind $f"
done
[ "$before" = "$(machine_state)" ] || { diff <(echo "$before") <(machine_state); fail "unbind did not restore the machine"; }
refused 1 is-a-bridge "$DIVVY" bind $ROOT_PORT
refused 1 no-such-device "$DIVVY" bind 0000:77:00.0
note "a group of two bound and restored; a holder was named; a second bind changes nothing"
