#!/bin/bash
# limit: 200
# A host whose containers have a network of their own behind it: what they reach outside sees the host.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up --bare
image=$(cached_image busybox) || bail "a busybox image"
on h1 ip addr add 10.83.0.1/24 dev uplink0
"$hosts" daemon h1 start || bail "the daemon starts"
g() { on h1 godwit "$@"; }
check "a host is made ready, as init proposes" g init --address 10.83.0.1:8443 --network natbr0 --ipv4 10.84.0.1/24
cp "$image" "$GODWIT_HOSTS/h1/image.tar.zst"
g image import "$GODWIT_HOSTS/h1/image.tar.zst" --alias busybox >/dev/null || bail "the image is imported"
check "a container starts" g launch busybox c1
is "with an address of the inner network" "$(g list --format json | jq -r '.[].config."volatile.eth0.ipv4.address"')" 10.84.0.2

# On the client's host, which has no way to the inner network: says who comes, then gives back all it gets.
on c python3 -u - "$GODWIT_HOSTS/seen" 2>/dev/null <<'PY' &
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("10.83.0.10", 7000))
s.listen()
while True:
    open(sys.argv[1] + ".up", "w").close()
    c, who = s.accept()
    with open(sys.argv[1], "a") as f:
        f.write(who[0] + "\n")
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
PY
server=$!
within "a server outside listens" 10 test -e "$GODWIT_HOSTS/seen.up"
g exec -T c1 -- sh -c 'head -c 2000000 /dev/urandom > /root/bytes'
# nc ends with its input, maybe before the answer is whole: as much as is sent is waited for.
there_and_back() {
	g exec c1 -- sh -c 'rm -f /root/back; mkfifo /root/in; nc -w 5 10.83.0.10 7000 < /root/in > /root/back &
		{ cat /root/bytes; for i in 1 2 3 4 5 6 7 8 9 10; do
			[ "$(stat -c %s /root/back)" = 2000000 ] && break; sleep 0.3; done; } > /root/in
		rm /root/in; wait; cmp /root/bytes /root/back'
}
check "2 MB go out to the server and come back whole" there_and_back
is "the server saw the host, not the container" "$(cat "$GODWIT_HOSTS/seen")" 10.83.0.1
check "the host itself is reached by its inner address" g exec c1 -- ping -c 1 -W 3 10.84.0.1

nat() {
	on h1 curl -sS -X PATCH -d "{\"config\":{\"ipv4.nat\":\"$1\"}}" --unix-socket "$GODWIT_HOSTS/h1/state/unix.socket" \
		http://x/1.0/networks/natbr0 | jq -r .status_code
}
is "which has a table for it" "$(on h1 nft list tables | grep godwit_)" "table inet godwit_natbr0"
: >"$GODWIT_HOSTS/seen"
is "NAT is switched off" "$(nat false)" 200
is "no rule of ours is left" "$(on h1 nft list tables | grep -c godwit_)" 0
check "nothing comes through then" sh -c "! '$hosts' run h1 godwit exec c1 -- nc -w 2 10.83.0.10 7000 </dev/null"
is "the server saw nobody" "$(cat "$GODWIT_HOSTS/seen")" ""
check "the host is still reached" g exec c1 -- ping -c 1 -W 3 10.84.0.1
is "NAT is switched on again" "$(nat true)" 200
check "and all comes through" there_and_back
is "as the host" "$(cat "$GODWIT_HOSTS/seen")" 10.83.0.1
g delete -f c1
kill $server; wait $server 2>/dev/null || true # by our own signal
