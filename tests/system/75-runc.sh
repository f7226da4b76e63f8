#!/bin/bash
# limit: 600
# runc checkpoint and restore, Debian's and unmodified, with the engine as its criu: static busybox, then Debian.
lib=$(dirname "$0")/../lib
[ "${1:-}" = inside ] || { . "$lib/callers.sh"; callers_outside runc; }
. "$lib/tap.sh"; . "$lib/callers.sh"
callers_inside
n=$CALLERS_NAME
R() { runc --root "$t/runc" "$@"; }
export -f R
pid_of() { R state "$n" | jq .pid; }
state() { R state "$n" 2>/dev/null | jq -r .status; }
# bundle DIR JQ-FILTER: busybox and the default configuration, changed by the filter.
bundle() {
	rm -rf "$1/config.json"
	(cd "$1" && runc spec) && jq ".root.readonly=false | .process.terminal=false | .process.args=[\"/count\"] | $2" \
		"$1/config.json" >"$1/c" && mv "$1/c" "$1/config.json"
}
# A container writes into a pipe whose other end is a cat of ours.
heard() { : >"$1"; exec 3> >(exec cat >>"$1" 2>/dev/null); }
start() { # BUNDLE
	b=$t/$1 count=$b/rootfs/tmp/count; rm -f "$count"
	heard heard1
	timeout 20 runc --root "$t/runc" run -d -b "$b" "$n" </dev/null >&3 2>&1 || not_ok "a container" "$(cat heard1)"
	exec 3>&-
	for _ in $(seq 100); do [ -s "$count" ] && break; sleep 0.05; done
}
checkpoint() { rm -rf img; timeout 60 runc --root "$t/runc" checkpoint --image-path "$t/img" --work-path "$t/work" "$@" "$n" </dev/null; }
restore() { # OPTIONS; what it writes is in the file heard2
	local rc
	heard heard2
	timeout 60 runc --root "$t/runc" restore -d --image-path "$t/img" --work-path "$t/work" -b "$b" "$@" "$n" </dev/null >&3 2>&1
	rc=$?; exec 3>&-
	[ $rc = 0 ] || cat heard2
	return $rc
}
is_stopped() { [ "$(state)" = stopped ]; }
finish() {
	R kill "$n" KILL
	for _ in $(seq 50); do is_stopped && break; sleep 0.1; done
	R delete "$n"
}
mkdir work b; log=$t/work/dump.log
busybox_root b/rootfs
bundle b .

# ---- detached, with pipes ----
start b
check "a checkpoint" checkpoint
is "the container is gone" "$(state)" ""
is "and all of it" "$(nothing_left)" ""
check "the log is in the work folder" test -s work/dump.log -a ! -e img/dump.log
like "crit reads the image" "$(crit x img ps)" '1 +1 +1 +count'
last=$(number "$count")
check "a restore" restore
is "it runs" "$(state)" running
check "and goes on" grows "$count"
check "from where it was" test "$(number "$count")" -gt "$last"
is "what it writes goes where the restore has its output" "$(head -n 1 heard2 | tr -d c)" "$((last + 1))"
is "its network has a loopback" "$(R exec "$n" ip -o link show lo </dev/null | grep -o 'LOOPBACK,UP')" LOOPBACK,UP
is "exec works" "$(R exec "$n" cat /proc/1/cmdline </dev/null | tr '\0' ' ')" "/bin/sh /count "
passes "update works" 10 runc --root "$t/runc" update --pids-limit 77 "$n"
is "and reaches it" "$(R exec "$n" cat /sys/fs/cgroup/pids/pids.max </dev/null)" 77
passes "pause works" 10 runc --root "$t/runc" pause "$n"
is "so it says" "$(state)" paused
R resume "$n"
check "and goes on when resumed" grows "$count"
check "a second checkpoint" checkpoint
check "a second restore" restore
check "it goes on again" grows "$count"
R kill "$n" TERM
within "kill reaches it" 5 is_stopped
within "it ends as it wants" 5 grep -q ended heard2
passes "delete works" 10 runc --root "$t/runc" delete "$n"
is "nothing is left" "$(nothing_left)" ""

# ---- it goes on, and another takes its place ----
start b
check "a checkpoint that leaves it running" checkpoint --leave-running
is "it runs" "$(state)" running
check "and goes on" grows "$count"
at=$(number "$count")
finish
check "the image is another start" restore
check "from where it was" test "$(number "$count")" -lt "$((at + 20))"
check "and goes on" grows "$count"
run 60 runc --root "$t/runc" checkpoint --image-path "$t/img" --work-path "$t/work" "$n"; is "into the same folder again" $? 0
check "which has one image, the last" restore
check "and goes on" grows "$count"
finish

# ---- failures ----
start b
check "a checkpoint" checkpoint
cp -a img whole
truncate -s -4096 img/pages-1.img
log=$t/work/restore.log
fails "a damaged image is a failure" 'pages-1.img has' 60 runc --root "$t/runc" restore -d --image-path "$t/img" \
	--work-path "$t/work" -b "$b" "$n"
is "with nothing left" "$(nothing_left)" ""
is "that runc knew of" "$(R list -q)" ""
rm -rf img; mv whole img
mv b/rootfs/bin/busybox b/rootfs/bin/elsewhere
fails "so is a file that is missing" '/bin/busybox' 60 runc --root "$t/runc" restore -d --image-path "$t/img" \
	--work-path "$t/work" -b "$b" "$n"
is "with nothing left" "$(nothing_left)" ""
mv b/rootfs/bin/elsewhere b/rootfs/bin/busybox
check "the whole image still serves" restore
finish
log=$t/work/dump.log

# ---- who has come by exec ----
start b
R exec -d "$n" sleep 1000 </dev/null >/dev/null 2>&1
fails "a process that exec has brought in would be lost" 'process from outside: it has entered' 60 runc --root "$t/runc" \
	checkpoint --image-path "$t/img" --work-path "$t/work" "$n"
check "the container goes on" grows "$count"
finish

# ---- cgroups ----
cp -a b limits
bundle limits '.process.args=["/bin/sh", "-c", "sleep 1000 & exec /count"] | .linux.resources.memory.limit=67108864 | .linux.resources.pids.limit=55'
group() { awk -F: -v c="$1" '$2 == c {print "/sys/fs/cgroup/" (c ~ /=/ ? "systemd" : c) $3}' "/proc/$(pid_of)/cgroup"; } # CONTROLLER
of() { cat "$(group "$1")/$2"; }
for mode in soft full strict; do
	start limits
	passes "$mode: limits change" 10 runc --root "$t/runc" update --memory 83886080 "$n"
	rules=$(of devices devices.list)
	mkdir "$(group pids)/sub"; echo 33 >"$(group pids)/sub/pids.max"
	pgrep -P "$(pid_of)" -f 'sleep 1000' >"$(group pids)/sub/cgroup.procs"
	check "a checkpoint" checkpoint --manage-cgroups-mode $mode
	is "nothing is left" "$(nothing_left)" ""
	check "a restore" restore --manage-cgroups-mode $mode
	# It makes the groups itself, and tells nobody the mode at a restore.
	is "the limit is what runc sets" "$(of memory memory.limit_in_bytes)" 67108864
	is "pids" "$(of pids pids.max)" 55
	is "device rules" "$(of devices devices.list)" "$rules"
	is "a group below has its limit" "$(of pids sub/pids.max)" 33
	is "and its process" "$(wc -l <"$(group pids)/sub/cgroup.procs")" 1
	check "it goes on" grows "$count"
	finish
done
is "nothing is left" "$(nothing_left)" ""

# ---- Debian, in a network that others made, called from outside ----
mkdir deb && debian_root deb/rootfs
cp "$here/tests/lib/tcp_peer.py" deb/rootfs/peer.py
cat >deb/rootfs/work <<'X'
#!/bin/sh
redis-server --save '' --bind 127.0.0.1 --daemonize no >/dev/null &
cron
python3 /peer.py serve 10.99.0.2 7000 &
python3 -c 'import fcntl, time
f = open("/tmp/lock", "w"); fcntl.flock(f, fcntl.LOCK_EX); i = 0
while True:
    i += 1; open("/tmp/new", "w").write(str(i)); __import__("os").rename("/tmp/new", "/tmp/count"); time.sleep(.1)' &
wait
X
chmod +x deb/rootfs/work
ip netns add "$n" && ip link add gwt0 type veth peer name eth0 netns "$n"
ip addr add 10.99.0.1/24 dev gwt0 && ip link set gwt0 up
ip -n "$n" addr add 10.99.0.2/24 dev eth0 && ip -n "$n" link set eth0 up && ip -n "$n" link set lo up
bundle deb ".process.args=[\"/work\"] | (.linux.namespaces[] | select(.type==\"network\")).path=\"/run/netns/$n\""
start deb
redis() { R exec "$n" redis-cli "$@" </dev/null; }
answers() { [ "$(redis ping)" = PONG ]; }
within "redis answers" 20 answers
redis set key "kept $$" >/dev/null
locked() { ! flock -n "$b/rootfs/tmp/lock" true; }
check "a lock is held" locked
/usr/bin/python3 "$here/tests/lib/tcp_peer.py" talk 10.99.0.2 7000 >talk.out 2>&1 & talk=$!
within "a connection" 10 grep -q ready talk.out
sleep 0.5
processes() { R ps -f json "$n" 2>/dev/null | jq length; }
had=$(processes)
fails "connections and locks are refused without a word for them" '--tcp-established' 60 runc --root "$t/runc" checkpoint \
	--image-path "$t/img" --work-path "$t/work" "$n"
check "the lock as well" grep -q -e --file-locks work/dump.log
check "and the container goes on" grows "$count"
for i in 1 2; do
	check "checkpoint $i" checkpoint --tcp-established --file-locks
	check "the lock is free" flock -n "$b/rootfs/tmp/lock" true
	check "the network is there still" ip -n "$n" link show eth0
	check "restore $i" restore --tcp-established --file-locks
	is "all processes" "$(processes)" "$had"
	check "it goes on" grows "$count"
	check "the lock is held" locked
	is "redis has its key" "$(redis get key)" "kept $$"
done
kill -TERM $talk; wait $talk
like "the connection has lost nothing" "$(tail -n 1 talk.out)" '^ok [0-9]'
like "crit reads Debian's image" "$(crit x img ps)" 'redis-server'
finish
ip link del gwt0; ip netns del "$n"
is "nothing is left" "$(nothing_left)" ""

# ---- in the foreground ----
b=$t/b count=$b/rootfs/tmp/count; rm -f "$count"
timeout 60 runc --root "$t/runc" run -b "$b" "$n" </dev/null >fore1 2>&1 & fore=$!
within "in the foreground" 10 test -s "$count"
check "a checkpoint" checkpoint
check "runc ends with it" gone $fore
timeout 60 runc --root "$t/runc" restore --image-path "$t/img" --work-path "$t/work" -b "$b" "$n" </dev/null >fore2 2>&1 & fore=$!
is_running() { [ "$(state)" = running ]; }
within "a restore in the foreground" 10 is_running
check "it goes on" grows "$count"
R kill "$n" TERM
wait $fore; is "its status is the container's" $? 5
check "its output as well" grep -q ended fore2
is "nothing is left" "$(nothing_left)" ""

# ---- a terminal ----
cp -a b term
bundle term '.process.terminal=true | .process.args=["/bin/sh"] | .process.env += ["PS1=> "]'
mkfifo typed; /usr/bin/python3 "$here/tests/lib/console.py" "$t/console" "$t/shown" "$t/typed" & console=$!
within "a console" 5 test -S console
passes "a container with a terminal" 20 runc --root "$t/runc" run -d --console-socket "$t/console" -b "$t/term" "$n"
echo 'x=kept; echo "a$x"' >typed
within "a shell at it" 5 grep -q akept shown
b=$t/term
check "a checkpoint" checkpoint
within "it hangs up" 5 grep -q 'hung up' shown
passes "a restore" 60 runc --root "$t/runc" restore -d --console-socket "$t/console" --image-path "$t/img" \
	--work-path "$t/work" -b "$b" "$n"
echo 'echo "b$x"; tty' >typed
within "the shell has another terminal" 5 grep -q bkept shown
within "of the same name" 5 grep -q -e /dev/console -e /dev/pts/0 shown
printf 'sleep 100\n' >typed; sleep 0.5; printf '\003' >typed; echo 'echo "c$?"' >typed
within "whose keys are signals" 5 grep -q c130 shown
finish; kill $console
