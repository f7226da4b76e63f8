#!/bin/bash
# limit: 900
# A busybox container moves while it runs: privileged and unprivileged, with 1, 10 and 50 processes, and a
# client on a third host that talks to it all the time; nothing grows on either host.
. "$(dirname "$0")/../lib/tap.sh"
moves=${MOVES:-4}
hosts_up
busybox=$(cached_image busybox) || bail "a busybox image"
gw image import "$busybox" h1: --alias busybox >/dev/null || bail "the image is imported"

# What must not grow: processes (counted without a pipeline, whose own ends may or may not be there yet), mounts,
# cgroups, interfaces, descriptors of the daemon, rows.
growth() {
	on "$1" sh -c '
		set -- /proc/[0-9]*
		echo "processes $#"
		echo "mounts $(grep -c . /proc/self/mounts)"
		echo "cgroups $(find /sys/fs/cgroup -type d | wc -l)"
		echo "interfaces $(ls /sys/class/net | wc -l)"
		echo "descriptors $(ls /proc/$(cat '"$GODWIT_HOSTS/$1"'/daemon.pid)/fd | wc -l)"
		echo "run $(ls $GODWIT_DIR/run | wc -l)"
		echo "volumes $(ls $GODWIT_DIR/pools/default/containers | wc -l)"'
	for t in instances migrations operations; do
		echo "$t $(python3 - "$("$hosts" where "$1")/godwit.db" $t <<'PY'
import sqlite3, sys
try:
    print(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute(f"SELECT count(*) FROM {sys.argv[2]}").fetchone()[0])
except sqlite3.OperationalError:
    print("-")
PY
)"
	done
}

# The last job may still be ending.
nothing_grew() {
	paste -d' ' <(echo "$base") <(growth h1; growth h2) | awk '$4 != "-" && $4 > $2 { print; bad = 1 } END { exit bad }'
}

# In the container: a server that answers each line with a number that counts up, and N sleepers.
serve='i=0; while read -r x; do i=$((i + 1)); echo "$i $x"; done'
for kind in unprivileged privileged; do
	for n in 1 10 50; do
		what="$kind, $n processes"
		flag=; [ $kind = privileged ] && flag=--privileged
		gw launch $flag h1:busybox h1:c1 >/dev/null || { not_ok "$what: launch"; continue; }
		for ((k = 1; k < n; k++)); do echo 'sleep 100000 &'; done >"$GODWIT_HOSTS/start"
		gw exec -T h1:c1 -- sh -c 'cat > /tmp/start; echo wait >> /tmp/start' <"$GODWIT_HOSTS/start"
		[ $n -gt 1 ] && gw exec --detach h1:c1 -- sh /tmp/start
		gw exec -T h1:c1 -- sh -c "cat > /tmp/serve; chmod +x /tmp/serve" <<<"#!/bin/sh
$serve"
		gw exec --detach h1:c1 -- busybox nc -ll -p 7000 -e /tmp/serve
		address=$(address_of h1 c1)
		"$hosts" run c python3 -u - "$address" "$GODWIT_HOSTS/client" <<'PY' &
import json, os, socket, sys, time
for _ in range(50):
    try:
        s = socket.create_connection((sys.argv[1], 7000), timeout=60)
        break
    except OSError:
        time.sleep(0.2)
f = s.makefile("rw")
n, gap, error = 0, 0.0, ""
try:
    while not os.path.exists(sys.argv[2] + ".stop"):
        begun = time.monotonic()
        n += 1
        f.write(f"line {n}\n"); f.flush()
        got = f.readline()
        if got != f"{n} line {n}\n":
            error = f"asked line {n}, got {got!r}"
            break
        gap = max(gap, time.monotonic() - begun)
        time.sleep(0.005)
except OSError as e:
    error = str(e)
with open(sys.argv[2], "w") as out:
    json.dump({"lines": n, "gap_ms": round(gap * 1000), "error": error}, out)
PY
		client=$!
		sleep 1
		before=$(gw exec h1:c1 -- sh -c 'ps -o pid,args' | grep -v 'ps -o' | sort)
		from=h1; to=h2; failed=; base=
		for ((m = 1; m <= moves; m++)); do
			out=$(gw move $from:c1 $to: 2>&1) || { failed="move $m, $from to $to: $out"; break; }
			t=$from; from=$to; to=$t
			# The first round trip makes what stays (folders, caches); from then on nothing may be added.
			if [ $m -eq 2 ]; then
				gw exec $from:c1 -- true # liblxc makes a cgroup for what is attached
				sleep 1
				base=$(growth h1; growth h2)
			fi
		done
		is "$what: $moves moves" "$failed" ""
		after=$(gw exec $from:c1 -- sh -c 'ps -o pid,args' | grep -v 'ps -o' | sort)
		is "$what: the same processes with the same numbers" "$after" "$before"
		touch "$GODWIT_HOSTS/client.stop"; wait $client
		is "$what: the client's connection never broke ($(jq -r '"\(.lines) lines, longest gap \(.gap_ms) ms"' "$GODWIT_HOSTS/client"))" \
			"$(jq -r .error "$GODWIT_HOSTS/client")" ""
		rm -f "$GODWIT_HOSTS/client" "$GODWIT_HOSTS/client.stop"
		[ -z "$failed" ] && [ $((moves % 2)) = 0 ] && within "$what: nothing has grown" 10 nothing_grew
		is "$what: it is on one host only" "$(status_of h1 c1)$(status_of h2 c1)" Running
		check "$what: it can be stopped" gw stop -f $from:c1
		check "$what: and started" gw start $from:c1
		gw delete -f $from:c1
	done
done
