#!/bin/bash
# limit: 600
# What is true of a container after a move, and of moves that are refused.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "the image is imported"
up() { gw exec "$1" -- sh -c 'read a b < /proc/uptime; echo ${a%.*}'; }
monitor_state() { on "$1" lxc-info -P "$("$hosts" where "$1")/lxc" -n "$2" -s -H 2>&1; }

for kind in unprivileged privileged; do
	flag=; [ $kind = privileged ] && flag=--privileged
	gw launch $flag h1:busybox h1:c1 >/dev/null || { not_ok "$kind: launch"; continue; }
	gw exec h1:c1 -- sh -c 'echo before > /root/file; ln -s file /root/link; mkdir -p /root/d; chown 1000:1000 /root/d'
	gw exec --detach h1:c1 -- sh -c 'echo $$ > /tmp/pid; i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done'
	address=$(address_of h1 c1); mac=$(gw exec h1:c1 -- cat /sys/class/net/eth0/address)
	cgroups=$(gw exec h1:c1 -- sh -c 'cat /proc/$(cat /tmp/pid)/cgroup')
	u=$(up h1:c1)
	is "$kind: a dry run says that it could" "$(gw move --dry-run h1:c1 h2: 2>&1)" "c1 could move to h2."
	is "$kind: and moves nothing" "$(status_of h1 c1) $(status_of h2 c1)" "Running "
	check "$kind: it moves" gw move h1:c1 h2:
	is "$kind: it is at the target, and only there" "$(status_of h1 c1) $(status_of h2 c1)" " Running"
	is "$kind: its address is the same" "$(address_of h2 c1)" "$address"
	is "$kind: and its MAC" "$(gw exec h2:c1 -- cat /sys/class/net/eth0/address)" "$mac"
	check "$kind: it answers there" on c busybox ping -c 1 -W 3 "$address"
	is "$kind: its files came along" "$(gw exec h2:c1 -- cat /root/link)" before
	is "$kind: with their owners" "$(gw exec h2:c1 -- stat -c %u:%g /root/d)" 1000:1000
	n=$(gw exec h2:c1 -- cat /tmp/n); sleep 1
	check "$kind: what was started detached runs on" test "$(gw exec h2:c1 -- cat /tmp/n)" -gt "$n"
	is "$kind: in the same cgroups" "$(gw exec h2:c1 -- sh -c 'cat /proc/$(cat /tmp/pid)/cgroup')" "$cgroups"
	v=$(up h2:c1)
	check "$kind: its uptime went on ($u s, then $v s)" test "$v" -ge "$u" -a "$v" -le $((u + 60))
	is "$kind: for liblxc it is an ordinary container" "$(monitor_state h2 c1)" RUNNING
	refuses "$kind: gw-init's folder is gone" '' gw exec h2:c1 -- ls /.godwit/gw-init

	"$hosts" daemon h2 kill; "$hosts" daemon h2 start
	is "$kind: the daemon's death changes nothing" "$(status_of h2 c1)" Running
	is "$kind: it is entered after it" "$(gw exec h2:c1 -- echo in)" in
	pid=$(gw info h2:c1 --format json | jq .state.pid)
	gw exec --detach h2:c1 -- reboot
	rebooted() { p=$(gw info h2:c1 --format json | jq .state.pid); [ "$p" -gt 0 ] && [ "$p" != "$pid" ]; }
	within "$kind: a moved one reboots from inside" 15 rebooted
	within "$kind: and can be entered" 10 gw exec h2:c1 -- true
	check "$kind: it answers after that" on c busybox ping -c 1 -W 3 "$address"
	check "$kind: it moves back" gw move h2:c1 h1:
	check "$kind: it stops" gw stop h1:c1
	check "$kind: stopped, it moves too" gw move h1:c1 h2:
	is "$kind: and is there, stopped" "$(status_of h1 c1) $(status_of h2 c1)" " Stopped"
	check "$kind: it starts there" gw start h2:c1
	is "$kind: with its files" "$(gw exec h2:c1 -- cat /root/file)" before
	check "$kind: it moves under another name" gw move h2:c1 h1:other
	is "$kind: which it has then" "$(status_of h1 other)$(status_of h1 c1)$(status_of h2 c1)" Running
	is "$kind: it can be entered under it" "$(gw exec h1:other -- echo in)" in
	gw delete -f h1:other
done

# An attached command ends, with a word about where the container went.
gw launch h1:busybox h1:c1 >/dev/null
gw exec h1:c1 -- sleep 1000 >"$GODWIT_HOSTS/attached" 2>&1 & attached=$!
sleep 1
check "a container moves under an attached command" gw move h1:c1 h2:
wait $attached; rc=$?
check "which ends, not with success ($rc)" test $rc -ne 0
like "and says where the container went" "$(cat "$GODWIT_HOSTS/attached")" 'moved|h2|10\.83\.0\.2'

# Refused before anything is touched.
gw image import "$(cached_image busybox)" h2: --alias busybox >/dev/null
gw launch --no-start h1:busybox h1:c1 >/dev/null
refuses "a name that is taken at the target" 'exists|taken|already' gw move h2:c1 h1:
is "nothing has changed by that" "$(status_of h1 c1) $(status_of h2 c1)" "Stopped Running"
check "the running one answers" gw exec h2:c1 -- true
gw delete h1:c1
refuses "a name that climbs" "'h1:../x' is no name" gw move h2:c1 h1:../x
refuses "a target that nobody knows" "no remote 'h9'" gw move h2:c1 h9:
is "it runs on where it was" "$(status_of h1 c1)$(status_of h2 c1)" Running
refuses "what the engine cannot take refuses the move by name" 'namespace|cannot be moved' \
	sh -c "'$hosts' godwit exec --detach h2:c1 -- busybox unshare -p -f sleep 1000; sleep 1; '$hosts' godwit move h2:c1 h1:"
is "nothing has changed by that either" "$(status_of h1 c1)$(status_of h2 c1)" Running
check "and the container answers" gw exec h2:c1 -- true
# The nested namespaces go, as they would refuse whatever follows: the first process of one heeds only SIGKILL from outside.
gw exec h2:c1 -- sh -c 'killall -9 sleep unshare; sleep 0.5' >/dev/null 2>&1
check "without them it could move" gw move --dry-run h2:c1 h1:
# No room for it at the target.
on h1 sh -c 'mount -t tmpfs -o size=512k none $GODWIT_DIR/pools/default/containers'
refuses "a target without space" 'no space|No space left on device|is full' gw move h2:c1 h1:
is "it runs on where it was" "$(status_of h1 c1)$(status_of h2 c1)" Running
is "and nothing is left at the target" "$(on h1 sh -c 'ls -A $GODWIT_DIR/pools/default/containers')" ""
on h1 sh -c 'umount $GODWIT_DIR/pools/default/containers'
on h1 sh -c 'mount -t tmpfs -o size=512k none $GODWIT_DIR/pools/default && mkdir $GODWIT_DIR/pools/default/containers'
refuses "a pool without space is known before anything is sent" 'has 0 MiB left, [0-9]+ MiB are needed' gw move h2:c1 h1:
refuses "also to a dry run" 'MiB are needed' gw move --dry-run h2:c1 h1:
on h1 sh -c 'umount $GODWIT_DIR/pools/default'
is "it runs on where it was" "$(status_of h1 c1)$(status_of h2 c1)" Running
check "with space it moves" gw move h2:c1 h1:
"$hosts" slow h1 50mbit
check "it moves over a slow link" gw move h1:c1 h2:
"$hosts" slow h1 off
gw delete -f h2:c1

# Whose first process the configuration names.
check "a container with another first process starts" \
	gw launch -c 'raw.lxc=lxc.init.cmd = /bin/busybox init' h1:busybox h1:c3
is "which it is" "$(gw exec h1:c3 -- sh -c 'tr "\0" " " </proc/1/cmdline')" "/bin/busybox init "
check "it moves like any other" gw move h1:c3 h2:
is "with it" "$(gw exec h2:c3 -- sh -c 'tr "\0" " " </proc/1/cmdline')" "/bin/busybox init "
gw delete -f h2:c3
