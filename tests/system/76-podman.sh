#!/bin/bash
# long
# limit: 600
# podman container checkpoint and restore, Debian's and unmodified, with runc and the engine as its criu.
lib=$(dirname "$0")/../lib
[ "${1:-}" = inside ] || { . "$lib/callers.sh"; callers_outside podman; }
. "$lib/tap.sh"; . "$lib/callers.sh"
callers_inside
n=$CALLERS_NAME
mkdir store state tmpdir net
# Networks need plugins that podman only recommends; a root without CAP_SYS_RESOURCE cannot raise limits to podman's.
podman_is=(podman --root "$t/store" --runroot "$t/state" --tmpdir "$t/tmpdir" --network-config-dir "$t/net"
	--storage-driver overlay --cgroup-manager cgroupfs --runtime runc --events-backend file)
options=(--ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --cgroup-parent "/$n")
P() { timeout -k 2 60 "${podman_is[@]}" "$@" </dev/null; }
C() { P container "$@"; }
state() { C inspect "$1" 2>/dev/null | jq -r '.[0].State.Status'; }
count_of() { # NAME: how far it has counted, seen from inside
	local v
	for _ in $(seq 50); do v=$(P exec "$1" cat /tmp/count 2>/dev/null); [ -n "$v" ] && break; sleep 0.05; done
	echo "${v:-0}"
}
goes_on() { local a; a=$(count_of "$1"); sleep 0.3; [ "$(count_of "$1")" -gt "$a" ]; }
# Its groups for containers and for their monitors stay; nobody is in them.
left() { local x; x=$(nothing_left); grep -vE "/$n(/conmon)?\$" <<<"$x"; }
logs_of() { find "$t/store" -path "*$(C inspect "$1" | jq -r '.[0].Id')*" -name "$2"; }
image() { tar -C "$1" -c . | timeout 60 "${podman_is[@]}" import - "$2" >"$t/out" 2>&1 || bail "an image: $(tail -n 1 "$t/out")"; }
busybox_root root
image root bb:1
mkdir vol
P ps >/dev/null # mounts its store
mounts_before=$(mounts_now)
begin() { # NAME OPTIONS...
	local name=$1; shift
	P run -d --name "$name" "${options[@]}" "$@" bb:1 /count >"$t/out" 2>&1 || not_ok "a container" "$(cat "$t/out")"
	for _ in $(seq 100); do P exec "$name" test -s /tmp/count 2>/dev/null && break; sleep 0.05; done
}

# ---- in its place ----
begin c1 --network none -v "$t/vol:/vol" --tmpfs /scratch --env A=b
P exec c1 sh -c 'echo kept >/scratch/file; echo kept >/vol/file'
check "a checkpoint" C checkpoint --keep c1
is "the container has ended" "$(state c1)" exited
like "as podman knows" "$(C inspect c1 | jq '.[0].State.Checkpointed')" true
is "nothing is left of it" "$(left)" ""
like "crit reads the image" "$(crit x "$(dirname "$(logs_of c1 inventory.img)")" ps)" '1 +1 +1 +count'
check "a restore" C restore --keep c1
is "it runs" "$(state c1)" running
check "and goes on" goes_on c1
is "its log has no gap" "$(P logs c1 | head -n 40 | awk 'NR > 1 && substr($1, 2) != last + 1 {print "gap at " $1} {last = substr($1, 2)}')" ""
is "a tmpfs has its file" "$(P exec c1 cat /scratch/file)" kept
is "and a volume is there" "$(P exec c1 cat /vol/file)" kept
check "a second checkpoint, over the image that was kept" C checkpoint --keep c1
check "a second restore" C restore c1
check "it goes on" goes_on c1
out=$(C checkpoint --print-stats c1 2>&1)
like "podman reads the statistics of a dump" "$out" '"frozen_time": [1-9]'
like "their pages" "$out" '"pages_written": [1-9]'
out=$(C restore --print-stats c1 2>&1)
like "and of a restore" "$out" '"restore_time": [1-9]'
check "it goes on" goes_on c1

# ---- and on ----
check "a checkpoint that leaves it running" C checkpoint --leave-running c1
check "it goes on" goes_on c1
fails "podman's pre-checkpoints are not served" 'CRIU is missing features' 60 "${podman_is[@]}" container checkpoint \
	--pre-checkpoint c1
check "it goes on" goes_on c1

# ---- elsewhere, under another name ----
check "an export that leaves it running" C checkpoint --leave-running --compress none --export "$t/c1.tar" c1
check "the image under another name" C restore --import "$t/c1.tar" --name c2
is "both run" "$(state c1) $(state c2)" "running running"
check "the first goes on" goes_on c1
check "and the second" goes_on c2
is "which has the tmpfs" "$(P exec c2 cat /scratch/file)" kept
passes "stop works" 60 "${podman_is[@]}" stop -t 5 c2
is "with the container's own status" "$(C inspect c2 | jq '.[0].State.ExitCode')" 5
passes "rm works" 60 "${podman_is[@]}" rm c2
check "an export" C checkpoint --export "$t/c1b.tar.zst" --compress zstd c1
P rm c1 >/dev/null
is "after which nothing is left" "$(left)" ""
check "comes back under its name" C restore --import "$t/c1b.tar.zst"
check "it goes on" goes_on c1
is "its file system is that of then" "$(P exec c1 cat /vol/file)" kept
passes "kill works" 60 "${podman_is[@]}" kill c1
passes "and rm" 60 "${podman_is[@]}" rm c1

# ---- failures ----
mkdir x && tar -C x -xf c1.tar && truncate -s -4096 x/checkpoint/pages-1.img && tar -C x -cf bad.tar .
fails "a damaged image is a failure" 'criu failed' 60 "${podman_is[@]}" container restore --import "$t/bad.tar" --name c3
P rm -f c3 >/dev/null 2>&1
# conmon cleans up behind it.
nothing() { local x; x=$(left); [ -z "$x" ] || { echo "$x"; false; }; }
within "with nothing left" 10 nothing
is "that podman knew of" "$(P ps -aq)" ""

# ---- connections, in a network that others made and in ours ----
ip netns add "$n" && ip link add gwt0 type veth peer name eth0 netns "$n"
ip addr add 10.99.1.1/24 dev gwt0 && ip link set gwt0 up
ip -n "$n" addr add 10.99.1.2/24 dev eth0 && ip -n "$n" link set eth0 up && ip -n "$n" link set lo up
talk() { # ADDRESS
	/usr/bin/python3 "$here/tests/lib/tcp_peer.py" talk "$1" 7001 >talk.out 2>&1 & talk=$!
	within "a connection" 10 grep -q ready talk.out
}
for net in "ns:/run/netns/$n 10.99.1.2" "host 127.0.0.1"; do
	P run -d --name c4 --network "${net% *}" "${options[@]}" bb:1 sh -c 'nc -ll -p 7001 -e cat & exec /count' >/dev/null
	sleep 0.5; talk "${net#* }"
	fails "${net%:*}: a connection is refused without a word for it" 'failed' 60 "${podman_is[@]}" container checkpoint c4
	check "the container goes on" goes_on c4
	check "a checkpoint" C checkpoint --tcp-established c4
	sleep 0.5
	check "a restore" C restore --tcp-established c4
	check "it goes on" goes_on c4
	sleep 0.5; kill -TERM $talk; wait $talk
	like "the connection has lost nothing" "$(tail -n 1 talk.out)" '^ok [0-9]'
	P rm -f -t 0 c4 >/dev/null
done
ip link del gwt0; ip netns del "$n"

# ---- Debian ----
debian_root deb
image deb deb:1; rm -rf deb
P run -d --name c5 --network none "${options[@]}" deb:1 sh -c 'redis-server --save "" >/dev/null & cron; exec python3 -c "
import time, fcntl
f = open(\"/tmp/lock\", \"w\"); fcntl.flock(f, fcntl.LOCK_EX); i = 0
while True:
    i += 1; open(\"/tmp/count\", \"w\").write(str(i)); time.sleep(.1)"' >/dev/null
answers() { [ "$(P exec c5 redis-cli ping)" = PONG ]; }
within "redis answers" 20 answers
P exec c5 redis-cli set key "kept $$" >/dev/null
check "an export of Debian" C checkpoint --file-locks --export "$t/deb.tar.gz" c5
P rm c5 >/dev/null
check "under another name" C restore --file-locks --import "$t/deb.tar.gz" --name c6
check "it goes on" goes_on c6
is "redis has its key" "$(P exec c6 redis-cli get key)" "kept $$"
run 10 "${podman_is[@]}" exec c6 flock -n /tmp/lock true; is "its lock is held" $? 1
P rm -f -t 0 c6 >/dev/null
is "nothing is left" "$(left)" ""
P rmi -af >/dev/null 2>&1
umount "$t/store/overlay" 2>/dev/null
