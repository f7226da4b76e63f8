#!/bin/bash
# limit: 300
# Two hosts on one layer 2: who has an address is asked on the network; dnsmasq serves its own host's only.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "the image is imported"
api() { # HOST METHOD PATH BODY
	on "$1" curl -sS -X "$2" -d "$4" --unix-socket "$GODWIT_HOSTS/$1/state/unix.socket" "http://x$3"
}
mac_of() { gw exec "$1" -- cat /sys/class/net/eth0/address; }
reaches() { on c busybox ping -c 1 -W 3 "$1"; }
# Who answers for an address at the client's host, however often it is asked.
owners() { on c busybox arping -c 3 -w 4 -I uplink0 "$1" | grep -oE '[0-9a-f:]{17}' | sort -u; }

# A stopped container goes away, and its address to another.
gw launch h1:busybox h1:c1 >/dev/null; gw stop -f h1:c1
is "the first has the first address of its host" "$(gw list h1: --format json | jq -r '.[].config."volatile.eth0.ipv4.address"')" 10.83.0.100
check "it moves while it is stopped" gw move h1:c1 h2:
gw launch h1:busybox h1:c2 >/dev/null
is "its host gives its address away" "$(address_of h1 c2)" 10.83.0.100
m2=$(mac_of h1:c2)
out=$(gw start h2:c1 2>&1); rc=$?
is "it starts all the same" $rc 0
like "and says why it has another address" "$out" "c1.*10\.83\.0\.100 .*$m2.* 10\.83\.0\.150"
like "so does the log" "$(cat "$GODWIT_HOSTS/h2/daemon.log")" "c1: its address 10\.83\.0\.100 .*$m2"
is "it has it" "$(gw exec h2:c1 -- ip -4 addr show eth0 | grep -o '10\.83\.0\.[0-9]*/')" 10.83.0.150/
check "it is reached there" reaches 10.83.0.150
is "the other is reached where it was, alone" "$(owners 10.83.0.100)" "$m2"
is "started again, it keeps its address in silence" "$(gw restart -f h2:c1 2>&1) $(address_of h2 c1)" " 10.83.0.150"

# An address that the user has chosen is not exchanged for another.
gw stop -f h2:c1
like "an address is configured" "$(api h2 PATCH /1.0/instances/c1 '{"devices":{"eth0":{"type":"nic","nictype":"bridged","parent":"gwbr0","name":"eth0","ipv4.address":"10.83.0.100"}}}')" '"status_code": ?200|Operation created'
refuses "one that is taken elsewhere: no start, and who has it" "10\.83\.0\.100 .*$m2" gw start h2:c1
is "it stays stopped" "$(status_of h2 c1)" Stopped
is "the other has not noticed" "$(owners 10.83.0.100)" "$m2"
gw stop -f h1:c2
check "once it is free, it starts" gw start h2:c1
is "with the address" "$(owners 10.83.0.100)" "$(mac_of h2:c1)"
out=$(gw start h1:c2 2>&1)
like "and the other, whose address was the daemon's choice, gets a new one" "$out" '10\.83\.0\.101'
check "it is reached there" reaches 10.83.0.101

# A new container does not get what somebody unknown to the daemon has.
on c ip addr add 10.83.0.102/24 dev uplink0
gw launch h1:busybox h1:c3 >/dev/null
is "a new one gets an address that nobody answers for" "$(address_of h1 c3)" 10.83.0.103
gw delete -f h1:c3; gw delete -f h2:c1

# dnsmasq: both hosts have one on the same layer 2.
looks_up() { gw exec "$1" -- nslookup "$2" "$3" 2>&1; }
lease() { # HOST:NAME: "ADDRESS from SERVER"
	gw exec -T "$1" -- sh -c 'cat > /tmp/said; chmod +x /tmp/said' <<'EOF'
#!/bin/sh
[ "$1" = bound ] && echo "$ip from $serverid"
exit 0
EOF
	gw exec "$1" -- udhcpc -i eth0 -f -n -q -t 3 -T 1 -s /tmp/said 2>/dev/null
}
like "a host's names: its own container" "$(looks_up h1:c2 c2.godwit 10.83.0.1)" '10\.83\.0\.101'
out=$(looks_up h1:c2 c2.godwit 10.83.0.2); rc=$?
check "not another host's" test $rc -ne 0
is "and there is no such address in its answer" "$(grep -c '10\.83\.0\.101' <<<"$out")" 0
is "DHCP: what it has, from its host" "$(lease h1:c2)" "10.83.0.101 from 10.83.0.1"
check "DHCP: nothing for who is nobody's container" sh -c "! '$hosts' run c busybox udhcpc -i uplink0 -f -n -q -t 2 -T 1 -s /bin/true"
check "it moves" gw move h1:c2 h2:
like "its new host has its name" "$(looks_up h2:c2 c2.godwit 10.83.0.2)" '10\.83\.0\.101'
check "its former host, which gave it a lease, has not" sh -c "! '$hosts' godwit exec h2:c2 -- nslookup c2.godwit 10.83.0.1"
is "DHCP: the same address, from its new host" "$(lease h2:c2)" "10.83.0.101 from 10.83.0.2"
on h2 sh -c 'kill $(cat $GODWIT_DIR/networks/gwbr0/dnsmasq.pid)'
is "DHCP: not from another" "$(lease h2:c2)" ""
api h2 PATCH /1.0/networks/gwbr0 '{"config":{}}' >/dev/null
is "DHCP: its host's dnsmasq, started again, knows it" "$(lease h2:c2)" "10.83.0.101 from 10.83.0.2"

# Names that are gone leave no locks.
gw delete -f h2:c2
is "no lock is left at either host" "$(on h1 sh -c 'ls $GODWIT_DIR/locks')$(on h2 sh -c 'ls $GODWIT_DIR/locks')" ""
gw launch --no-start h1:busybox h1:c4 >/dev/null; gw start h1:c4
is "a living one's is there" "$(on h1 sh -c 'ls $GODWIT_DIR/locks')" c4
gw stop -f h1:c4
like "a renamed one" "$(api h1 POST /1.0/instances/c4 '{"name":"c5"}')" 'Operation created|"status_code": ?[12]00'
renamed() { [ "$(status_of h1 c5)" = Stopped ]; }
within "has its new name" 10 renamed
is "and no old lock" "$(on h1 sh -c 'ls $GODWIT_DIR/locks')" c5
