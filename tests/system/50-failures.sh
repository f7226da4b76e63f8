#!/bin/bash
# limit: 700
# Exactly one owner: whatever dies, and whenever, there is one running container, its connections live on,
# nothing is left where it does not belong, and the next move succeeds.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "a busybox image"
t=$GODWIT_HOSTS/t; mkdir "$t"
state() { "$hosts" where "$1"; }
in_host() { local h=$1; shift; on "$h" sh -c "$*"; }

check "launch" gw launch h1:busybox h1:c1
gw exec h1:c1 -- sh -c 'cat >/root/count.sh; chmod +x /root/count.sh' <<'SH'
#!/bin/sh
i=0
while :; do i=$((i + 1)); echo $i >/root/n.new; mv /root/n.new /root/n; usleep 20000; done
SH
gw exec --detach h1:c1 -- /root/count.sh
gw exec --detach h1:c1 -- nc -ll -p 7000 -e cat
address=$(address_of h1 c1)
sleep 1
"$hosts" run c python3 "$here/tests/lib/echo_client.py" "$address" 7000 "$t/echo" </dev/null >/dev/null 2>&1 &
client=$!
within "a client is connected" 5 test -s "$t/echo"

echo_runs() { # the connection answers now, and has never been another
	local a b; a=$(cat "$t/echo"); sleep 0.3; b=$(cat "$t/echo")
	[[ $a =~ ^[0-9]+$ && $b =~ ^[0-9]+$ && $b -gt $a ]]
}
counter_runs() { local a b; a=$(gw exec "$1:c1" -- cat /root/n); sleep 0.2; b=$(gw exec "$1:c1" -- cat /root/n); [ "$b" -gt "$a" ]; }
nothing_at() { # no row, process, link, volume or cgroup of c1
	local h=$1
	[ -z "$(status_of "$h" c1)" ] &&
		[ ! -e "$(state "$h")/pools/default/containers/c1" ] &&
		! in_host "$h" 'ls /sys/class/net' | grep -qE '^gw[0-9a-f]{8}$' &&
		! in_host "$h" 'find /sys/fs/cgroup -type d -name c1' | grep -q . &&
		! in_host "$h" 'cat /proc/[0-9]*/comm 2>/dev/null' | grep -qxE 'gw-init|godwit-criu|count.sh'
}
nothing_unresolved() { [ "$(in_host "$1" "sqlite3 \$GODWIT_DIR/godwit.db 'select count(*) from migrations'")" = 0 ]; }
stop_at() { rm -f "$(state "$1")/migrations/stopped"; mkdir -p "$(state "$1")/migrations"; echo "$2" >"$(state "$1")/migrations/stop-at"; }
go_on() { rm -f "$(state h1)/migrations/stop-at" "$(state h2)/migrations/stop-at"; }
stopped() { [ -e "$(state "$1")/migrations/stopped" ]; }
kill_engine() { in_host "$1" 'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = godwit-criu ] && kill -9 ${p#/proc/}; done; true'; }
kill_job() { in_host "$1" "for p in /proc/[0-9]*; do tr ' \\0' '_ ' <\$p/cmdline 2>/dev/null | grep -q '^[^ ]*godwitd job move-' && kill -9 \${p#/proc/}; done; true"; }

begin() { # POINT (side.name): starts a move h1 -> h2 that stops there
	local side=h1; [[ $1 == target.* ]] && side=h2
	stop_at $side "$1"
	timeout 90 "$hosts" godwit move h1:c1 h2: >"$t/move" 2>&1 </dev/null &
	move=$!
	for _ in $(seq 300); do stopped $side && return; sleep 0.05; done
	not_ok "$1 is reached" "$(cat "$t/move")"
}
hurt() { # WHAT
	case $1 in
	target-daemon) "$hosts" daemon h2 kill ;;
	source-daemon) "$hosts" daemon h1 kill ;;
	source-engine) kill_engine h1 ;;
	target-engine) kill_engine h2 ;;
	source-job) kill_job h1 ;;
	target-job) kill_job h2 ;;
	target-power) "$hosts" power-off h2 ;;
	cut) "$hosts" cut h2 ;;
	esac >/dev/null 2>&1
}
heal() {
	case $1 in
	target-daemon) "$hosts" daemon h2 start ;;
	source-daemon) "$hosts" daemon h1 start ;;
	target-power) "$hosts" power-on h2 ;;
	cut) "$hosts" mend h2 ;;
	esac >/dev/null 2>&1
}
after() { # LABEL: all is as before, and a move there and back succeeds
	within "$1: nothing is left at the target" 15 nothing_at h2
	within "$1: nothing is in doubt" 15 nothing_unresolved h1
	within "$1: nor at the target" 15 nothing_unresolved h2
	check "$1: the next move succeeds" timeout 60 "$hosts" godwit move h1:c1 h2:
	check "$1: and back" timeout 60 "$hosts" godwit move h2:c1 h1:
	within "$1: with the connection" 10 echo_runs
}

# Before COMMIT: the container runs on at the source.  Silence is noticed after 3 s; then it has 2 s.
before() { # POINT WHAT
	local l="$2 at $1"
	begin "$1"
	hurt "$2"
	[ "$2" = cut ] || go_on
	[ "$2" = source-daemon ] && { sleep 1; heal "$2"; }
	within "$l: the connection answers within 5 s" 5 echo_runs
	go_on
	wait $move && not_ok "$l: the client is told" "$(cat "$t/move")" || ok "$l: the client is told"
	heal "$2"
	within "$l: it runs at the source" 5 counter_runs h1
	after "$l"
}
if [ "${1:-}" = all ] || [ -n "${CHECK_ALL:-}" ]; then
	points="source.disk1 target.prepared source.frozen target.disk2 source.sent target.restored source.ready"
else
	points="source.frozen target.restored"
fi
for point in $points; do
	for what in target-daemon target-job target-power cut source-daemon source-job; do
		before $point $what
	done
done
before source.frozen source-engine
before target.disk2 target-engine

# After COMMIT was written down: exactly one, when both daemons are up and the link is mended.
exactly_one() {
	local a b; a=$(status_of h1 c1) b=$(status_of h2 c1)
	{ [ "$a" = Running ] && [ -z "$b" ] && one=h1; } || { [ "$b" = Running ] && [ -z "$a" ] && one=h2; }
}
both_resolved() { nothing_unresolved h1 && nothing_unresolved h2; }
never_two() { # both hosts' copies never count at the same time
	local a1 a2 b1 b2 p
	n_of() { cat "$(state $1)/pools/default/containers/c1/rootfs/root/n" 2>/dev/null; }
	a1=$(n_of h1) b1=$(n_of h2); sleep 0.3; a2=$(n_of h1) b2=$(n_of h2)
	# An original that was just removed does not count either.
	[ "$a1" = "$a2" ] || [ "$b1" = "$b2" ] || [ -z "$a2" ] || [ -z "$b2" ]
}
behind() { # POINT WHAT
	local l="$2 at $1, handed over"
	begin "$1"
	hurt "$2"
	sleep 1
	check "$l: not two" never_two
	go_on
	sleep 3.5
	check "$l: still not two" never_two
	heal "$2"
	wait $move
	within "$l: nothing is in doubt in the end" 40 both_resolved
	one=
	if exactly_one; then ok "$l: there is exactly one"; else not_ok "$l: there is exactly one"; fi
	if [ "${one:-}" = h2 ] && [ "$2" = target-power ]; then
		# It had become the target's and died with its host: it was started anew there.
		within "$l: it was started at the target" 20 gw exec h2:c1 -- true
		check "$l: it can move" timeout 60 "$hosts" godwit move h2:c1 h1:
		gw exec --detach h1:c1 -- /root/count.sh
		gw exec --detach h1:c1 -- nc -ll -p 7000 -e cat
		kill $client 2>/dev/null; sleep 0.5; rm -f "$t/echo"
		"$hosts" run c python3 "$here/tests/lib/echo_client.py" "$address" 7000 "$t/echo" </dev/null >/dev/null 2>&1 &
		client=$!
		within "$l: a new client" 5 test -s "$t/echo"
	else
		within "$l: its connection lives" 20 echo_runs
		within "$l: it counts" 5 counter_runs "${one:-h1}"
	fi
	[ "${one:-h1}" = h2 ] && [ "$(status_of h2 c1)" = Running ] && gw move h2:c1 h1: >/dev/null 2>&1
	after "$l"
}
if [ "${1:-}" = all ] || [ -n "${CHECK_ALL:-}" ]; then
	points="source.handed target.commit source.committed target.mine target.running source.running"
else
	points="source.handed target.mine"
fi
for point in $points; do
	for what in target-daemon target-job cut source-daemon source-job; do
		behind $point $what
	done
done
behind target.commit target-power
behind target.mine target-power
kill $client 2>/dev/null
wait 2>/dev/null
