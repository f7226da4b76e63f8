#!/bin/bash
# Sockets in checkpoints of the engine on its own: connections over a dump and a restore, in a network of the tree's own
# and in one that it shares; what stays outside of the tree.  All of it happens in a network and below a first process of
# this test's own.
if [ "${1:-}" != inside ]; then
	export TCP_TEST_DIR; TCP_TEST_DIR=$(mktemp -d /tmp/gw-tcp.XXXXXX)
	unshare -pfn --mount-proc --kill-child "$0" inside
	rc=$?
	rm -rf "$TCP_TEST_DIR"
	exit $rc
fi
. "$(dirname "$0")/../lib/tap.sh"
trap tests_end EXIT
# What we were given beside the three goes into no tree of ours.
for f in /proc/self/fd/*; do f=${f##*/}; [ "$f" -gt 2 ] && [ "$f" -ne 255 ] && eval "exec $f>&-"; done
engine=$GODWIT_BUILD/src/engine/godwit-criu
peer=$here/tests/lib/tcp_peer.py upeer=$here/tests/lib/unix_peer.py py=/usr/bin/python3
cd "$TCP_TEST_DIR" || exit 1
ip link set lo up
port=7000

said() { grep -q -- "$2" "$1"; } # FILE WORDS
# start NAME COMMAND...: in the background, with NAME.log; its pid is in $pid.  It is there when it says "ready".
start() {
	local name=$1; shift
	: > "$name.log"
	setsid "$@" </dev/null >"$name.log" 2>&1 &
	pid=$!
	disown "$pid"
	for _ in $(seq 100); do said "$name.log" ready && return; sleep 0.1; done
	not_ok "$name begins" "$(cat "$name.log")"
}
serve() { start server $py "$peer" serve "$@"; server=$pid; }
talk() { start "talk$1" $py "$peer" talk "$2" "$3"; talker=$pid; }
watch() { start watch $py "$peer" watch "$1" $port; watcher=$pid; }
ended() { # PID: waits for what may be no child of this shell
	for _ in $(seq 300); do
		[[ $(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) =~ ^Z?$ ]] && return
		sleep 0.1
	done
}
watched() { kill "$watcher"; ended "$watcher"; tail -n 1 watch.log; }
fresh() { rm -rf img; mkdir img; }
dump() { fresh; timeout 60 "$engine" dump -t "$server" -D img -o dump.log -v4 "$@"; }
restore() { timeout 60 "$engine" restore -d -D img -o restore.log -v4 "$@"; }
end_of() { kill -TERM "$2"; ended "$2"; tail -n 1 "talk$1.log"; } # NAME PID
tables() { nft list tables; }
gone() { kill -9 "$@" 2>/dev/null; for p; do ended "$p"; done; }

# ---- a network that is shared ----

serve 127.0.0.1 $port; talk 1 127.0.0.1 $port
refuses "an established connection is refused" 'fd 4: TCP connection: it is established.*127.0.0.1:7000.*--tcp-established.*--tcp-close' dump
like "so says the check of a tree" "$("$engine" check --tree "$server" 2>&1)" 'TCP connection: it is established'
cat > show.sh <<'S'
#!/bin/sh
cd "$TCP_TEST_DIR"; echo "$CRTOOLS_SCRIPT_ACTION" >> moments
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] && nft -s list ruleset > rules
exit 0
S
cat > fail.sh <<'S'
#!/bin/sh
cd "$TCP_TEST_DIR"; nft list tables > "tables.$CRTOOLS_SCRIPT_ACTION"
[ "$CRTOOLS_SCRIPT_ACTION" != post-dump ]
S
cat > kill.sh <<'S'
#!/bin/sh
cd "$TCP_TEST_DIR"; [ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] && nft list tables > tables.killed && kill -9 $PPID
exit 0
S
chmod +x ./*.sh
name="godwit-$server-$(cut -d' ' -f22 "/proc/$server/stat")"
far=$(ss -tnHO state established "sport = :$port" | awk '{ print $4; exit }')
check "a dump that leaves it running" dump --tcp-established -R --action-script "$PWD/show.sh"
is "the table is what it is meant to be" "$(cat rules)" "table inet $name { # progname godwit-criu
	flags owner

	set connections4 {
		type ipv4_addr . inet_service . ipv4_addr . inet_service
		elements = { 127.0.0.1 . $port . 127.0.0.1 . ${far##*:} }
	}

	set connections6 {
		type ipv6_addr . inet_service . ipv6_addr . inet_service
	}

	chain in {
		type filter hook input priority -2147482648; policy accept;
		meta mark 0x47574c4b accept
		ip daddr . tcp dport . ip saddr . tcp sport @connections4 drop
		ip6 daddr . tcp dport . ip6 saddr . tcp sport @connections6 drop
	}

	chain out {
		type filter hook output priority -2147482648; policy accept;
		meta mark 0x47574c4b accept
		ip saddr . tcp sport . ip daddr . tcp dport @connections4 drop
		ip6 saddr . tcp sport . ip6 daddr . tcp dport @connections6 drop
	}
}"
is "scripts are called in their order" "$(tr '\n' ' ' < moments)" "pre-dump network-lock post-dump network-unlock "
is "no table is left" "$(tables)" ""
refuses "a dump that fails at its end" 'post-dump' dump --tcp-established --action-script "$PWD/fail.sh"
like "was locked until then" "$(cat tables.post-dump)" "$name"
is "and leaves no table" "$(tables)" ""
fresh
("$engine" dump -t "$server" -D img -o dump.log --tcp-established --action-script "$PWD/kill.sh"; true) >/dev/null 2>&1
like "a killed engine had locked" "$(cat tables.killed)" "$name"
within "and leaves no table" 5 test -z "$(sleep 0.3; tables)"
nft add table inet "$name" '{ chain in { type filter hook input priority 0; policy drop; }; }'
check "recover takes away one that stays" "$engine" recover --tree "$server"
is "so that none is there" "$(tables)" ""
like "the connection has lived through all of this" "$(end_of 1 "$talker")" '^ok [1-9]'
gone "$server"

# round_trip WHAT LISTEN CALL [CLIENTS]: streams go on over a dump, a second of silence and a restore.
round_trip() {
	local what=$1 clients=${4:-1} talkers=()
	serve "$2" $port; watch lo
	for i in $(seq "$clients"); do talk "$i" "$3" $port; talkers+=("$talker"); done
	sleep 0.5
	check "$what: dump" dump --tcp-established
	is "$what: the tree is gone" "$(ps -o pid= -p "$server")" ""
	like "$what: the lock is there" "$(tables)" "godwit-$server-"
	sleep 1
	check "$what: restore" restore --tcp-established
	is "$what: no table is left" "$(tables)" ""
	sleep 0.5
	is "$what: nobody heard of it" "$(watched)" "fin 0 rst 0"
	for i in $(seq "$clients"); do
		like "$what: both streams are whole" "$(end_of "$i" "${talkers[i - 1]}")" '^ok [1-9]'
	done
	gone "$server"
}
round_trip "IPv4" 127.0.0.1 127.0.0.1
round_trip "IPv6" ::1 ::1
round_trip "IPv4 at an IPv6 socket" :: 127.0.0.1
round_trip "five connections" 127.0.0.1 127.0.0.1 5

# That the watcher sees something: without a lock the kernel says that there is no such connection.
serve 127.0.0.1 $port; watch lo; talk 1 127.0.0.1 $port
check "dump with --network-lock skip" dump --tcp-established --network-lock skip
is "makes no table" "$(tables)" ""
sleep 0.5
like "and its client is reset" "$(watched)" 'rst [1-9]'
gone "$talker"

# Only listening: no option is needed, and the port is free at once.
serve 127.0.0.1 $port
check "a listener alone is dumped without an option" dump
is "without a table" "$(tables)" ""
check "and restored at once" restore
talk 1 127.0.0.1 $port; sleep 0.3
like "it answers" "$(end_of 1 "$talker")" '^ok [1-9]'
# In the wrong place of somebody else.
check "dump" dump
server_pid=$server
serve 127.0.0.1 $port; other=$server
refuses "a port that is taken is said by name" 'TCP 127.0.0.1:7000 cannot be bound: Address already in use' restore
gone "$other"
check "and can be tried again" restore
gone "$server_pid"

# The same with a connection: what a failed restore leaves is what the dump had left.
serve 127.0.0.1 $port; watch lo; talk 1 127.0.0.1 $port; sleep 0.3
check "dump" dump --tcp-established
server_pid=$server
refuses "a restore wants to be asked too" 'TCP connection of 127.0.0.1:7000 to .*--tcp-established' restore
cat > no.sh <<'S'
#!/bin/sh
cd "$TCP_TEST_DIR"; nft list tables > tables.restore
[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]
S
chmod +x no.sh
refuses "a restore that fails at its end" 'post-restore' restore --tcp-established --action-script "$PWD/no.sh"
is "was locked twice" "$(grep -c godwit tables.restore)" 2
within "and leaves the dump's lock" 5 test "$(sleep 0.3; tables | grep -c godwit)" = 1
check "the next one" restore --tcp-established
sleep 0.5
is "nobody heard of it" "$(watched)" "fin 0 rst 0"
like "both streams are whole" "$(end_of 1 "$talker")" '^ok [1-9]'
gone "$server_pid"

# A connection in flight, which comes to light while the tree is taken.
start server $py "$peer" flight 127.0.0.1 $port; server=$pid
watch lo; talk 1 127.0.0.1 $port
within "a connection is in flight" 5 said server.log 'in flight'
check "dump" dump --tcp-established
like "is in the lock as well" "$(nft list ruleset)" "127.0.0.1 . $port . 127.0.0.1 . [0-9]+ }"
sleep 0.5
check "restore" restore --tcp-established
kill -USR1 "$server"; sleep 0.5
is "nobody heard of it" "$(watched)" "fin 0 rst 0"
like "both streams are whole" "$(end_of 1 "$talker")" '^ok [1-9]'
gone "$server"

# Both ends in the tree.
for addr in 127.0.0.1 ::1; do
	start server $py "$peer" self $addr $port; server=$pid
	check "both ends at $addr: dump" dump --tcp-established
	check "both ends at $addr: restore" restore --tcp-established
	kill -USR1 "$server"
	within "both ends at $addr: all is read" 10 said server.log whole
	gone "$server"
done
is "no table is left" "$(tables)" ""

# ---- left out ----

serve 127.0.0.1 $port; start close $py "$peer" close 127.0.0.1 $port; closer=$pid; sleep 0.2
check "dump with --tcp-close" dump --tcp-close
like "says what is left out" "$(cat img/dump.log)" 'TCP connection 127.0.0.1:7000 to 127.0.0.1:[0-9]+ is left out'
is "does not lock" "$(tables)" ""
ended "$closer"
is "the far end sees the end" "$(tail -n 1 close.log)" end
check "restore" restore
talk 1 127.0.0.1 $port; sleep 0.3
like "it takes new ones" "$(end_of 1 "$talker")" '^ok [1-9]'
talk 1 127.0.0.1 $port; sleep 0.3
check "dump with --tcp-established" dump --tcp-established
check "restore with --tcp-close" restore --tcp-close
is "no table is left" "$(tables)" ""
gone "$server" "$talker"

serve 127.0.0.1 $port wait; start close $py "$peer" close 127.0.0.1 $port; closer=$pid
refuses "connections not accepted are refused" 'TCP connections not accepted: 1 wait at port 7000; --skip-in-flight' dump
check "or dropped" dump --skip-in-flight
like "and said" "$(cat img/dump.log)" '1 connections that wait at port 7000 to be accepted are lost'
ended "$closer"
is "their client hears it" "$(tail -n 1 close.log)" reset
check "restore" restore
kill -USR1 "$server"; talk 1 127.0.0.1 $port; sleep 0.3
like "it takes new ones" "$(end_of 1 "$talker")" '^ok [1-9]'
gone "$server"

# ---- over a link, in a network that is shared and in one of the tree's own ----

ip link add br0 type bridge; ip addr add 10.9.9.1/24 dev br0; ip link set br0 up
unshare -n sleep 1000 & client_ns=$!
disown $client_ns
sleep 0.3
link() { # HOST_END PID ADDRESS MAC
	ip link add "$1" type veth peer name eth0 netns "$2" address "$4"
	ip link set "$1" up master br0
	[ -z "$3" ] || nsenter -t "$2" -n sh -c "ip link set lo up; ip addr add $3/24 dev eth0; ip link set eth0 up"
}
link vc $client_ns 10.9.9.3 02:00:00:00:00:03
serve 10.9.9.1 $port; watch br0
start talk1 nsenter -t $client_ns -n $py "$peer" talk 10.9.9.1 $port; talker=$pid
sleep 0.5
check "over a link: dump" dump --tcp-established
sleep 1
check "over a link: restore" restore --tcp-established
sleep 1
is "over a link: nobody heard of it" "$(watched)" "fin 0 rst 0"
like "over a link: both streams are whole" "$(end_of 1 "$talker")" '^ok [1-9]'
gone "$server"

export PLUG="$PWD/plug.sh"
cat > plug.sh <<'S'
#!/bin/sh
cd "$TCP_TEST_DIR"; case $CRTOOLS_SCRIPT_ACTION in
post-dump|post-restore) nsenter -t "$CRTOOLS_INIT_PID" -n nft -s list ruleset > "rules.$CRTOOLS_SCRIPT_ACTION" ;;
pre-resume) nsenter -t "$CRTOOLS_INIT_PID" -n nft list tables > tables.pre-resume ;;
setup-namespaces)
	ip link add vt type veth peer name eth0 netns "$CRTOOLS_INIT_PID" address 02:00:00:00:00:02
	ip link set vt up master br0 ;;
esac
exit 0
S
chmod +x plug.sh
# The server begins when it has its link.
start server unshare -n sh -c "echo ready; until ip addr show dev eth0 2>/dev/null | grep -q 10.9.9.2; do sleep 0.1; done
	exec $py '$peer' serve 10.9.9.2 $port"
server=$pid
link vt "$server" 10.9.9.2 02:00:00:00:00:02
within "a server in a network of its own" 10 test "$(sleep 0.5; grep -c ready server.log)" = 2
watch br0; talk 1 10.9.9.2 $port
sleep 0.5
check "network of its own: dump" dump --tcp-established --action-script "$PLUG"
like "network of its own: everything is dropped" "$(cat rules.post-dump)" 'hook input priority -?[0-9]+; policy drop'
sleep 1
ip link del vt 2>/dev/null
check "network of its own: restore" restore --tcp-established --action-script "$PLUG"
like "network of its own: locked until it stands" "$(cat rules.post-restore)" 'hook output priority -?[0-9]+; policy drop'
is "network of its own: and not longer" "$(cat tables.pre-resume)" ""
sleep 1
is "network of its own: nobody heard of it" "$(watched)" "fin 0 rst 0"
like "network of its own: both streams are whole" "$(end_of 1 "$talker")" '^ok [1-9]'
gone "$server" $client_ns

# ---- unix sockets to somebody outside ----

start outside $py "$upeer" serve "$PWD"; outside=$pid
start call $py "$upeer" call "$PWD"; server=$pid
refuses "a unix socket to somebody outside is refused" "connected to $PWD/(stream|dgram), outside of the tree; --ext-unix-sk" dump
check "and taken along with --ext-unix-sk" dump --ext-unix-sk
is "crit lists its far ends" "$(crit x img fds | grep -c 'unix\[')" 2
refuses "a restore wants to be asked too" "$PWD/stream outside of the tree; --ext-unix-sk" restore
check "and calls them again" restore --ext-unix-sk
kill -USR1 "$server"
within "the stream is answered again" 5 said call.log 're 1'
within "datagrams arrive again" 5 said outside.log 'dgram 1'
is "by the process that had it" "$(grep -c "process $server" outside.log)" 2
gone "$server"
start call $py "$upeer" call "$PWD"; server=$pid
gone "$outside"; rm -f stream dgram
check "a far end that is gone is no matter" dump --ext-unix-sk
check "nor at the restore" restore --ext-unix-sk
gone "$server"

start pair $py "$upeer" pair /bin/sh -c "exec $py '$upeer' read >read.log 2>&1"; keeper=$pid
within "the program runs" 5 said read.log ready
server=$(pgrep -P "$keeper")
ino=$(readlink "/proc/$server/fd/0" | tr -dc 0-9)
refuses "half a socketpair is refused" "no name to be called by; --external unix\[$ino\]" dump
check "or let go by its name" dump --external "unix[$ino]"
within "the one outside hears the end" 5 said pair.log "end b''"
check "restore" restore
kill -USR1 "$server"
within "so does the restored one" 5 said read.log "got b''"
gone "$server"
