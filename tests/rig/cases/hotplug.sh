# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Case: a stock guest started without a device; e1000e and edu come by the control socket, are used, go, come again
# fast: iommufd
# full: type1
# limit: 500
assign $E1000E $EDU

api() { # METHOD NAME [JSON] - the answer's status in $status, its body in $answer
	answer=$(curl -sS --max-time 120 -X "$1" --unix-socket /tmp/control -w '\n%{http_code}' ${3:+-d "$3"} "http://vm/api/v1/vm.$2") ||
		fail "curl $1 vm.$2: $answer"
	status=${answer##*$'\n'} answer=${answer%$'\n'*}
	note "\$ curl -X $1 --unix-socket /tmp/control ${3:+-d '$3' }http://vm/api/v1/vm.$2"
	printf '%s\n' "$answer" | sed '/^$/d; s/^/    /'
}
expect_status() { [ "$status" = "$1" ] || fail "status $status, expected $1: $answer"; }
device_state() { api GET info >/dev/null; printf '%s' "$answer" | python3 -c '
import json, sys
print(next((d["state"] for d in json.load(sys.stdin)["devices"] if d["id"] == sys.argv[1]), "gone"))' "$1"; }
gone() { # ID SECONDS
	local t0=$SECONDS
	until [ "$(device_state "$1")" = gone ]; do
		[ $((SECONDS - t0)) -lt "$2" ] || { vm_log; fail "$1 is still there after $2 s"; }
		sleep 1
	done
}
guest_do() { guest_say "do $1"; }

vm_boot guest pci ask --control /tmp/control --iommu "$RIG_VARIANT"
guest_wait 'rig: then' 200
[ "$(stat -c %a /tmp/control)" = 600 ] || fail "the socket's mode is $(stat -c %a /tmp/control)"
[ "$(pinned)" = 0 ] || fail "$(pinned) pages are pinned without a device"
api GET info
expect_status 200

api PUT add-device '{"device": "0000:63:00.0"}'
expect_status 404
api PUT add-device "{\"device\": \"$NVME\"}" # not on vfio-pci
[ "$status" != 200 ] || fail "$NVME was added"
[ "$(pinned)" = 0 ] || fail "$(pinned) pages are pinned after what was refused"

t0=$EPOCHREALTIME
api PUT add-device "{\"device\": \"$E1000E\"}"
expect_status 200
record hotplug_add_first_s "$(seconds_since "$t0")"
[ "$(pinned)" -gt 0 ] || fail "nothing is pinned with a device"
t0=$EPOCHREALTIME
api PUT add-device "{\"device\": \"$EDU\"}"
expect_status 200
record hotplug_add_second_s "$(seconds_since "$t0")"
api PUT add-device "{\"device\": \"$EDU\"}"
expect_status 409
guest_do arrive:1234:11e8,arrive:8086:10d3,pci,edu,e1000e
guest_wait 'rig: e1000e interrupts' 120
check_edu
expect 'e1000e ping 3 packets transmitted, 3'

api PUT pause
expect_status 204
api PUT pause
expect_status 409
api PUT resume
expect_status 204

api PUT remove-device "{\"id\": \"$EDU\", \"timeout_s\": 90}"
expect_status 202
api PUT remove-device "{\"id\": \"$EDU\"}"
expect_status 409
t0=$EPOCHREALTIME
gone $EDU 90
record hotplug_remove_s "$(seconds_since "$t0")"
api PUT remove-device "{\"id\": \"$E1000E\", \"timeout_s\": 90}"
expect_status 202
gone $E1000E 90
all_unpinned
note "both went when the guest gave them up; nothing pinned"
guest_do leave:1234:11e8,leave:8086:10d3
guest_wait 'rig: left 8086:10d3' 60

api PUT add-device "{\"device\": \"$EDU\"}"
expect_status 200
guest_do arrive:1234:11e8,edu
guest_wait 'rig: edu interrupts' 60 2
guest_ok
# Torn out: the guest is not asked.
api PUT remove-device "{\"id\": \"$EDU\", \"force\": true}"
expect_status 204
all_unpinned
guest_do leave:1234:11e8
guest_wait 'rig: left 1234:11e8' 60 2
api PUT add-device "{\"device\": \"$EDU\"}"
expect_status 200
guest_do arrive:1234:11e8,edu
guest_wait 'rig: edu interrupts' 60 3
guest_ok
api GET counters
expect_status 200

# What was added stays over a reset of the guest, and the socket with it.
api PUT reset
expect_status 204
guest_wait 'rig: then' 200 7
guest_do edu
guest_wait 'rig: edu interrupts' 60 4
guest_ok
guest_say poweroff
vm_end
guest_facts
[ ! -e /tmp/control ] || fail "the socket is still there"
all_unpinned
note "added, used, removed, added again, torn out, kept over a reset; nothing left pinned"
