#!/bin/bash
# long
# limit: 400
# Starts, stops, restarts and moves of several containers at once, on both hosts: none fails.
. "$(dirname "$0")/../lib/tap.sh"
rounds=${ROUNDS:-6}
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "a busybox image"
said=$GODWIT_HOSTS/said
try() { local out; out=$(timeout 60 "$hosts" godwit "$@" 2>&1) || echo "$*: $out" >>"$said"; }
in_place() { for ((k = 0; k < rounds; k++)); do try start "$1"; try stop -f "$1"; done; }
again() { for ((k = 0; k < rounds; k++)); do try restart -f "$1"; done; }
there_and_back() { for ((k = 0; k < rounds; k++)); do try move "h1:$1" h2:; try move "h2:$1" h1:; done; }
stopped_too() { for ((k = 0; k < rounds; k++)); do try move "h1:$1" h2:; try start "h2:$1"; try stop -f "h2:$1"; try move "h2:$1" h1:; done; }
for c in a b; do try launch --no-start h1:busybox h1:$c; done
for c in m n r; do try launch h1:busybox h1:$c; done
in_place h1:a & stopped_too b & there_and_back m & there_and_back n & again h1:r & wait
is "$rounds rounds of everything: nothing failed" "$(cat "$said" 2>/dev/null)" ""
is "all are where they belong" "$(gw list h1: --format json | jq -r '.[] | .name + " " + .status' | sort | tr '\n' ',')" \
	"a Stopped,b Stopped,m Running,n Running,r Running,"
is "and nowhere else" "$(gw list h2: --format json | jq length)" 0
is "each with an address of its own" "$(gw list h1: --format json | jq -r '.[].config."volatile.eth0.ipv4.address"' | sort -u | wc -l)" 5
for c in a b m n r; do gw delete -f h1:$c; done
is "no cgroup is left of them" "$(on h1 sh -c 'ls -d /sys/fs/cgroup/*/godwit/*/ 2>/dev/null')$(on h2 sh -c 'ls -d /sys/fs/cgroup/*/godwit/*/ 2>/dev/null')" ""
is "no lock" "$(on h1 sh -c 'ls $GODWIT_DIR/locks')$(on h2 sh -c 'ls $GODWIT_DIR/locks')" ""
is "no migration" "$(on h1 sh -c 'ls $GODWIT_DIR/migrations')$(on h2 sh -c 'ls $GODWIT_DIR/migrations')" ""
