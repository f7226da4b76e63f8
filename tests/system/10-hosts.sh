#!/bin/bash
# The harness itself: hosts that are apart, a link that can be cut and slowed, power that can fail.
. "$(dirname "$0")/../lib/tap.sh"
ns_list() { find /sys/fs/cgroup -maxdepth 5 -type d -name 'gwt-*' 2>/dev/null | sort; }
before=$(ns_list)
hosts_up --bare
id=$(cat "$GODWIT_HOSTS/id")

is "a host has its own name" "$(on h2 hostname)" h2
is "its first process is host-init" "$(on h1 cat /proc/1/comm)" host-init
m=$(cut -d. -f1 /proc/uptime); a=$(on h1 cut -d. -f1 /proc/uptime); b=$(on h2 cut -d. -f1 /proc/uptime)
check "h1's clock is the machine's" test $((a - m)) -le 5
check "h2's clock is 100,000 s ahead" test $((b - m)) -ge 100000 -a $((b - m)) -le 100005
is "it sees its own cgroup as the root" "$(on h1 sh -c 'cut -d: -f3 /proc/self/cgroup | sort -u')" /
is "it has no interface but its own" "$(on h1 sh -c 'ls /sys/class/net | tr "\n" " "')" "lo uplink0 "
check "its /tmp is its own" on h1 sh -c 'echo x > /tmp/own && [ -e /tmp/own ]'
check "which the machine does not have" test ! -e /tmp/own
is "exit statuses come through" "$(on h1 sh -c 'exit 37'; echo $?)" 37

on h1 ip addr add 10.83.0.1/24 dev uplink0; on h2 ip addr add 10.83.0.2/24 dev uplink0
ping() { on "$1" busybox ping -c 1 -W 2 "$2" >/dev/null; }
check "the client's host reaches h1" ping c 10.83.0.1
check "h1 reaches h2" ping h1 10.83.0.2
"$hosts" cut h2
refuses "a cut cable carries nothing" '' ping h1 10.83.0.2
"$hosts" mend h2
within "a mended one does" 5 ping h1 10.83.0.2
check "a link can be slowed" "$hosts" slow h1 10mbit
# What goes through 10 Mbit/s: 2 MB take more than a second.
on h2 sh -c 'cd $HOME && head -c 2000000 /dev/zero > zeros && exec python3 -m http.server 5000 >/dev/null 2>&1' &
server=$!
within "a server on h2 answers" 5 on h1 curl -sf -o /dev/null http://10.83.0.2:5000/
t=$(date +%s%N); on h1 curl -sf --max-time 30 -o /dev/null http://10.83.0.2:5000/zeros
t=$((($(date +%s%N) - t) / 1000000)); kill $server; wait $server 2>/dev/null
check "and is slow then ($t ms for 2 MB)" test $t -ge 1000
check "and fast again" "$hosts" slow h1 off

on h2 sh -c 'echo kept > $GODWIT_DIR/kept; setsid sleep 1000 >/dev/null 2>&1 &'
check "the power fails" "$hosts" power-off h2
like "nothing runs on it then" "$(on h2 true 2>&1)" 'not up'
check "the power comes back" "$hosts" power-on h2
is "what was on its disk is there" "$(on h2 sh -c 'cat $GODWIT_DIR/kept')" kept
is "what ran is not" "$(on h2 sh -c 'ps -e -o comm= | grep -c sleep')" 0
on h2 ip addr add 10.83.0.2/24 dev uplink0
within "and it is in the network" 5 ping h1 10.83.0.2

run=$GODWIT_HOSTS
check "the hosts go" "$hosts" down
check "their folder with them" test ! -e "$run"
is "no cgroup is left" "$(find /sys/fs/cgroup -maxdepth 5 -type d -name "$id-*" 2>/dev/null)" ""
is "no process is left" "$(grep -lsa -- "[g]${id#g}" /proc/[0-9]*/cmdline | wc -l)" 0
is "no mount is left" "$(grep -c "$run" /proc/self/mounts)" 0
