#!/bin/bash
# limit: 200
# A container has arrived, and its former host cannot be told: it is a container like any other meanwhile.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "a busybox image"
gw launch h1:busybox h1:c1 >/dev/null || bail "a container"
m=$("$hosts" where h2)/migrations; mkdir -p "$m"
untold() { on h2 sqlite3 "$GODWIT_HOSTS/h2/state/godwit.db" "select state from migrations"; }

# What h2 says to h1 gets lost from just before RUNNING on.
echo target.running >"$m/stop-at"
timeout 60 "$hosts" godwit move h1:c1 h2: >/dev/null 2>&1 </dev/null & move=$!
within "it is about to say that it runs" 20 test -e "$m/stopped"
on h1 nft 'table inet deaf { chain in { type filter hook input priority 0; ip saddr 10.83.0.2 tcp dport 8443 drop; }; }'
rm "$m/stop-at"
check "the client hears that this is not sure" sh -c "! wait $move"
within "the target knows that it has taken it" 10 sh -c "[ \$('$hosts' run h2 sqlite3 $GODWIT_HOSTS/h2/state/godwit.db 'select state from migrations') = taken ]"
is "it runs there" "$(status_of h2 c1)" Running
is "and is entered" "$(gw exec h2:c1 -- echo in)" in
within "once the move has given up there, it is stopped" 20 gw stop -f h2:c1
sleep 8 # the daemon tries to tell every three seconds
is "and stays so" "$(status_of h2 c1)" Stopped
is "though nobody could be told" "$(untold)" taken
check "it starts" gw start h2:c1
pid=$(gw info h2:c1 --format json | jq .state.pid)
"$hosts" daemon h2 kill; "$hosts" daemon h2 start
sleep 4
is "a new daemon finds it as it was" "$(gw info h2:c1 --format json | jq .state.pid)" "$pid"

on h1 nft delete table inet deaf
told() { [ -z "$(untold)" ]; }
within "in the end the former host is told" 20 told
gone() { [ -z "$(status_of h1 c1)" ]; }
within "and has nothing of it any more" 10 gone
is "it runs on" "$(gw info h2:c1 --format json | jq .state.pid)" "$pid"
check "it moves back" gw move h2:c1 h1:
is "and is there only" "$(status_of h1 c1)$(status_of h2 c1)" Running
