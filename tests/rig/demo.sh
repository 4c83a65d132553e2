# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What `make demo` shows of a node, typed as a person would: types, a GPU given whole, one shared by 3:1, screens, top, records, and what is left.
# Sourced in the rig (cases/demo.sh) and on a machine with a GPU to spare (demo-native), which start and end divvyd and say
#   DIVVY           the program
#   DEMO            the folder for pictures
#   DEMO_GPU        the PCI address of the GPU that is given whole
#   DEMO_IMAGES     a folder for images
#   DEMO_DEBIAN     tools/guest-image's
#   DEMO_TYPES      the file with demo_types in it
#   DEMO_RUN        divvyd's folder of sockets
#   DEMO_JOB        iterations of a job of about 10 ms on the host (tests/live/vkload)
#   demo_started    called when machines were started; demo_card_screen, when the one with the GPU is up
#   demo_hung REASON   a guest has hung
#   fail, record, seconds_since   of cases/lib.sh

say() { printf '\n== %s\n' "$*"; }

# shown COMMAND WORDS... - the words as they are typed, then the command
shown() {
	printf '$ %s\n' "${*//"$DIVVY"/divvy}"
	"$@"
}
divvy() { shown "$DIVVY" "$@" || fail "divvy $*: exit status $?"; }

# demo_types - the demo's two types; where divvyd looks for types
demo_types() {
	cat <<-TYPES
		- name: demo.card
		  description: a whole GPU
		  vcpus: 1
		  memory_mib: 192
		  gpus:
		    - { mode: dedicated, selector: "$DEMO_GPU" }
		- name: demo.desk
		  description: a desk with a screen, and a share of a GPU by its weight
		  vcpus: 1
		  memory_mib: 768
		  displays:
		    - { width: 640, height: 480 }
		  gpus:
		    - { mode: shared, policy: weighted, weight: 100, vram_mib: 256 }
	TYPES
}

# demo_images KERNEL INITRD DO - images are folders: "card", the rig's guest, which does DO; "debian", stock, with a disk that says what is done
demo_images() {
	mkdir -p "$DEMO_IMAGES/card" "$DEMO_IMAGES/debian/job"
	cat >"$DEMO_IMAGES/card/guest.conf" <<-CONF
		kernel  $1
		initrd  $2
		cmdline console=ttyS0 quiet panic=-1 ${FASTER:-} rig.do=$3
	CONF
	cat >"$DEMO_IMAGES/debian/guest.conf" <<-CONF
		kernel  $DEMO_DEBIAN/vmlinuz
		initrd  $DEMO_DEBIAN/initrd-small.img
		cmdline console=tty0 console=ttyS0 quiet root=/dev/vda ro panic=-1 ${FASTER:-} init=/usr/lib/divvy/guest-run divvy.run=job
		disk    $DEMO_DEBIAN/root.img,readonly
		disk    $DEMO_IMAGES/debian/job.tar,readonly
	CONF
	sed "s/ITERATIONS/$DEMO_JOB/" >"$DEMO_IMAGES/debian/job/job" <<-'SCRIPT'
		#!/bin/sh
		# A picture by Vulkan on the screen, and who drew it; then, once somebody types a line, as much load as can be, until the power button.
		export LD_LIBRARY_PATH=. VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json MESA_VK_VERSION_OVERRIDE=1.3
		modprobe -qa button evdev
		for e in /sys/class/input/event*; do
			grep -q 'Power Button' $e/device/name || continue
			(dd if=/dev/input/${e##*/} bs=24 count=1 of=/dev/null 2>&1; echo "power button"; echo o >/proc/sysrq-trigger) >/dev/console 2>&1 &
		done
		name=$(edid-decode /sys/class/drm/card*-Virtual-1/edid | sed -n "s/.*Product Name: '\(.*\)'.*/\1/p")
		device=$(./vkload frame --frames 1 --width 640 --height 480 --save /tmp/frame | sed 's/.*"device":"\([^"]*\)".*/\1/')
		printf '\033[2J\033[H\033[?25l' >/dev/tty1
		sleep 1 # what was said before is off the screen
		dd if=/tmp/frame of=/dev/fb0 bs=$(cat /sys/class/graphics/fb0/stride) conv=notrunc 2>/dev/null
		printf '\n  %s: Debian %s, Linux %s\n  %s\n' "$name" "$(cat /etc/debian_version)" "$(uname -r)" "$device" | tee /dev/tty1
		echo ready
		read -r typed
		./vkload load --iterations ITERATIONS --seconds 86400 --in-flight 4
	SCRIPT
	chmod +x "$DEMO_IMAGES/debian/job/job"
	cp "${RIG_BUILD:-build/gcc}/tests/live/vkload" /usr/lib/x86_64-linux-gnu/libjansson.so.4 "$DEMO_IMAGES/debian/job"
	tar --format=ustar -C "$DEMO_IMAGES/debian/job" -cf "$DEMO_IMAGES/debian/job.tar" .
}

# demo_console INSTANCE PATTERN SECONDS [TEXT] - its console, with TEXT typed, until it shows PATTERN
demo_console() {
	local t0=$SECONDS file=$DEMO/$1.console pid
	if [ -n "${4:-}" ]; then echo "$4"; fi | "$DIVVY" console "$1" >"$file" 2>&1 &
	pid=$!
	until grep -qE "$2" "$file"; do
		if [ $((SECONDS - t0)) -ge "$3" ] || ! kill -0 $pid 2>/dev/null; then
			"$DIVVY" log "$1" | tail -n 20
			tail -n 5 "$file"
			demo_hung "$1 did not say '$2' within $3 s"
		fi
		sleep 0.5
	done
	kill $pid
	wait $pid 2>/dev/null
}

# demo_said INSTANCE PATTERN SECONDS - what it said until then
demo_said() {
	demo_console "$@"
	printf '$ divvy console %s\n' "$1"
	tr -d '\r' <"$DEMO/$1.console" | grep -v '^ *$'
}

# demo_picture INSTANCE - a screenshot, once the triangle is in it: red, green or blue alone is in no letter of a console
demo_picture() {
	local try
	for try in {1..60}; do
		"$DIVVY" screenshot "$1" --output "$DEMO/$1.png" >/dev/null || fail "no screenshot of $1"
		! pngtopnm "$DEMO/$1.png" | python3 -c '
import sys
magic, size, most, pixels = sys.stdin.buffer.read().split(b"\n", 3)
found = sum(1 for i in range(0, len(pixels), 3) if max(pixels[i:i + 3]) - min(pixels[i:i + 3]) > 80)
sys.exit(found < 5000)' || break
		[ "$try" -lt 60 ] || fail "$1's screen shows no triangle ($DEMO/$1.png)"
		sleep 1 # the guest's kernel shows what was written to its frame buffer when it comes to it
	done
	divvy screenshot "$1" --output "$DEMO/$1.png"
}

# demo_used - nanoseconds of the GPU that desk1 and desk2 were charged, as the arbiter has them
demo_used() {
	"$DIVVY" vgpus --json --socket "$DEMO_RUN/arbiter" | python3 -c '
import json, sys
used = {v["name"]: v["engines"]["graphics"]["used_ns"] for v in json.load(sys.stdin)["vgpus"]}
print(used["desk1/0"], used["desk2/0"])'
}

# demo_loads - until both have been charged for something, and go on
demo_loads() {
	local one two one_now two_now try
	read -r one two <<<"$(demo_used)"
	for try in {1..120}; do
		sleep 1
		read -r one_now two_now <<<"$(demo_used)"
		[ "$one_now" -le "$one" ] || [ "$two_now" -le "$two" ] || return 0
	done
	demo_hung "no load after 120 s"
}

# demo_wrong REASON - the share is not what it should be: a guest that was started anew does not load (docs/rig.md)
demo_wrong() {
	local name
	for name in desk1 desk2; do
		[ "$(timeout 20 "$DIVVY" console $name </dev/null | grep -c '^ready')" = 1 ] || demo_hung "$name started anew by itself"
	done
	fail "$1"
}

# demo_top SECONDS PERCENT - top over that time, and whether desk1 had its part of it by the arbiter's own account; the part goes to $part
demo_top() {
	local one two one_now two_now
	read -r one two <<<"$(demo_used)"
	shown "$DIVVY" top --once --every "$1" | tee -a "$DEMO/top.txt"
	read -r one_now two_now <<<"$(demo_used)"
	part=$(awk -v a=$((one_now - one)) -v b=$((two_now - two)) 'BEGIN { if (a + b) printf "%.1f", 100 * a / (a + b) }')
	echo "(of what both had meanwhile desk1 had ${part:-nothing} %; weights say $2 %)"
	awk -v a="${part:-0}" -v b="$2" 'BEGIN { exit !(a >= b - 15 && a <= b + 15) }' || demo_wrong "desk1 had ${part:-nothing} %, not $2"
}

# timed NAME COMMAND... - how long it took, for build/rig/times.json
timed() {
	local name=$1 began=$EPOCHREALTIME
	shift
	"$@"
	record "$name" "$(seconds_since "$began")"
}

# demo_show - all of it
demo_show() {
	local began name
	rm -f "$DEMO/top.txt"
	say "What the node has, and what it offers"
	divvy list gpus
	shown cat "$DEMO_TYPES"
	shown "$DIVVY" types | grep -e '^\$' -e '^type' -e demo

	say "Three instances: a whole GPU for one; a share for each of two, weights 3:1"
	began=$EPOCHREALTIME
	divvy create card --type demo.card --image "$DEMO_IMAGES/card"
	timed desk_start_s divvy create desk1 --type demo.desk --weight 300 --image "$DEMO_IMAGES/debian" --start
	divvy run --name desk2 --type demo.desk --image "$DEMO_IMAGES/debian" --detach
	timed card_start_s divvy start card
	demo_started
	divvy list instances
	divvy list gpus

	say "Their consoles: one has the GPU's PCI function; the others are stock Debian, with its own Vulkan driver on a share"
	demo_said card 'rig: here' 200
	for name in desk1 desk2; do demo_said $name '^ready' 400; done
	record pictures_s "$(seconds_since "$began")"

	say "Their screens"
	demo_card_screen
	for name in desk1 desk2; do demo_picture $name; done

	say "Both load the GPU as much as they can"
	for name in desk1 desk2; do
		echo "\$ echo load | divvy console $name"
		demo_console $name '^load' 60 load
	done
	demo_loads
	demo_top 20 75
	record heavier_percent "$part"

	say "Another weight, while they run"
	divvy share desk2 --weight 300
	demo_top 10 50

	say "What is known"
	divvy show desk1
	divvy events --since 0 --no-follow

	say "The end"
	divvy stop card desk1 desk2
	divvy leases "$DEMO_GPU"
	divvy delete card desk1
	divvy list instances
	divvy list gpus
}
