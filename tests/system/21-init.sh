#!/bin/bash
# limit: 240
# `godwit init`: what is wrong is refused before anything is touched, what fails later is taken back.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up --bare
"$hosts" daemon h1 start || bail "a daemon on h1"
"$hosts" daemon h2 start || bail "a daemon on h2"
# What init might touch: rows, links and whether they are on, addresses, NAT, forwarding, dnsmasq.
kept() {
	on "$1" sh -c 'sqlite3 $GODWIT_DIR/godwit.db .dump | md5sum; ip -o link | sed "s/ state [A-Z]*//; s/NO-CARRIER,//; s/,LOWER_UP//"
		ip -o -4 addr; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward; ps -e -o comm= | grep -c dnsmasq'
}
# bad WHAT PATTERN ARG…: `godwit init ARG…` on h1 says PATTERN, and nothing has changed.
bad() {
	local what=$1 pattern=$2 before after; shift 2
	before=$(kept h1)
	refuses "$what" "$pattern" on h1 timeout 20 godwit init "$@"
	after=$(kept h1)
	is "$what: nothing has changed" "$after" "$before"
}
like "what is looked at is there" "$(kept h1)" 'uplink0'

# The card by which the host itself is reached.
on h1 ip addr add 192.0.2.1/24 dev uplink0
bad "a card that carries the host's address" "uplink0 carries this host's own address 192\.0\.2\.1/24: put into a bridge, .*second card" \
	--uplink uplink0
on h1 ip route add default via 192.0.2.254
bad "and its default route" "uplink0 carries this host's own address 192\.0\.2\.1/24 and its default route" --uplink uplink0
on h1 ip addr flush dev uplink0; on h1 ip route add default dev uplink0
bad "a default route alone" "uplink0 carries this host's own default route" --uplink uplink0
on h1 ip route del default; on h1 ip -6 addr add 2001:db8::1/64 dev uplink0 nodad
bad "an address of IPv6" "uplink0 carries this host's own address 2001:db8::1/64" --uplink uplink0
on h1 ip -6 addr flush dev uplink0
bad "a card that is not there" "no network card eth9: this host has uplink0" --uplink eth9
bad "one of two that is not there" "no network card eth9" --uplink uplink0,eth9
bad "the loopback" "lo cannot be an uplink" --uplink lo
bad "the bridge itself" "cannot be its own uplink" --uplink gwbr0
on h1 ip link add other type bridge; on h1 ip link add v0 type veth peer name v1; on h1 ip link set v0 master other
bad "a card of another bridge" "v0 cannot be an uplink: it is part of other already" --uplink v0
bad "another bridge" "other cannot be an uplink: it is a bridge itself" --uplink other
bad "a bridge that somebody else has made" "a network link other already" --network other
bad "a card's name for the bridge" "a network link v1 already" --network v1
on h1 ip link del other; on h1 ip link del v0

# Addresses and names.
for a in 300.1.1.1/24 10.0.0.0/31 10.0.0.1/0 10.0.0.1/32 10.0.0.1 10.0.0.1/24x nonsense 10.0.0.1/-1 ''; do
	bad "--ipv4 '$a'" 'address' --ipv4 "$a"
done
bad "the subnet as the bridge's address" "\"10\.0\.0\.0/24\" is the subnet itself" --ipv4 10.0.0.0/24
bad "its broadcast address" "is the subnet's broadcast address" --ipv4 10.0.0.255/24
bad "an address of the loopback" "no host can have" --ipv4 127.0.0.1/8
bad "one of a group" "no host can have" --ipv4 224.0.0.1/24
on h1 ip addr add 10.77.0.5/16 dev uplink0
bad "a subnet that another card has" "overlap with that of uplink0 \(10\.77\.0\.5/16\)" --ipv4 10.77.3.1/24
bad "one around it" "overlap with that of uplink0" --ipv4 10.200.3.1/8
on h1 ip addr flush dev uplink0
bad "ranges that are none" "no ranges of addresses" --ranges 10.83.0.9
bad "a range from behind" "no ranges of addresses" --ranges 10.83.0.99-10.83.0.10
bad "a range elsewhere" "leave the bridge's subnet, which is 10\.83\.0\.0/24" --ranges 10.84.0.1-10.84.0.9
bad "a range that leaves it" "leave the bridge's subnet" --ranges 10.83.0.200-10.83.1.9
bad "a range of the bridge alone" "no address for a container" --ranges 10.83.0.1-10.83.0.1
for n in abcdefghijklmnop a/b ../x '' -x x 'a b'; do
	bad "the bridge's name '$n'" 'cannot name the bridge' --network "$n"
done
bad "a name of the host's own" "a network link lo already" --network lo
bad "port 0" 'valid port' --address 127.0.0.1:0
bad "port 99999" 'valid port' --address 127.0.0.1:99999
bad "port 99999 of all addresses" 'valid port' --address :99999
bad "an address that is another host's" '192\.0\.2\.77.*no address of this host' --address 192.0.2.77:8443
bad "an address that is a name" 'no IP address' --address example.invalid:8443
bad "an address with a path" 'no IP address' --address 127.0.0.1:8443/x
bad "an option that is not there" "usage: godwit init" --frobnicate
bad "an argument that has no place" "too much" now

# A port that is taken, of an address that is there and of the bridge's, which is not yet.
on h1 ip link set uplink0 down
on h1 python3 -c 'import socket,time; s = socket.socket(); s.bind(("0.0.0.0", 9000)); s.listen(); time.sleep(600)' & listener=$!
taken() { on h1 sh -c 'ss -ltn | grep -q 0.0.0.0:9000'; }
within "a port is taken" 10 taken
bad "what is refused then" 'another program listens there already' --address 127.0.0.1:9000 --uplink uplink0
bad "the same port of the bridge to be" 'another program listens there already' --address 10.83.0.1:9000 --uplink uplink0

# What fails later is taken back: at the pool, at the network when it is half up, at the last step.
on h1 sh -c 'cd $GODWIT_DIR && mv pools pools.away && echo > pools'
bad "the pool fails" 'pools' --uplink uplink0
on h1 sh -c 'cd $GODWIT_DIR && rm pools && mv pools.away pools && mkdir -p networks && echo > networks/gwbr0'
bad "dnsmasq's folder fails, when the bridge stands: it goes, the card is off again, nothing is forwarded" 'networks/gwbr0' --uplink uplink0
on h1 rm "$GODWIT_HOSTS/h1/state/networks/gwbr0"
on h1 ip link set uplink0 up
# It listens already, so that only the daemon finds out.
check "the daemon listens" on h1 godwit config set core.https_address=127.0.0.1:9001
bad "the last step fails" 'cannot listen at 127\.0\.0\.1:9000' --address 127.0.0.1:9000 --uplink uplink0 --no-nat
kill $listener; wait $listener 2>/dev/null

# The good one, and again.
like "a right one is taken" "$(on h1 godwit init --ipv4 10.83.0.1/24 --uplink uplink0 --address 10.83.0.1:8443 2>&1 | tr '\n' ' ')" \
	'Storage pool .default.*Network .gwbr0.*10\.83\.0\.1/24.*Profile .default.*listens on 10\.83\.0\.1:8443'
check "again it leaves what is there" on h1 godwit init --ipv4 10.83.0.1/24 --uplink uplink0
bad "another address than there is" 'there already, with ipv4.address "10\.83\.0\.1/24" and not "10\.83\.0\.9/24"' --ipv4 10.83.0.9/24
bad "other uplinks than there are" 'there already, with bridge.external_interfaces' --uplink eth7

# The second host with the first one's address, as the default would have it.
mac=$(on h1 cat /sys/class/net/gwbr0/address)
before=$(kept h2)
refuses "the address of another host" "10\.83\.0\.1 is the address of another host behind uplink0 already \($mac\)" \
	on h2 timeout 20 godwit init --uplink uplink0
is "nothing is left of the attempt" "$(kept h2)" "$before"
check "with one of its own it is" on h2 godwit init --ipv4 10.83.0.2/24 --uplink uplink0 --address 10.83.0.2:8443

# Changes over the API.
patch() { on h1 curl -sS -X PATCH -d "{\"config\":{$1}}" --unix-socket "$GODWIT_HOSTS/h1/state/unix.socket" http://x/1.0/networks/gwbr0; }
before=$(kept h1)
for wrong in '"ipv4.address":"10.83.0.0/24"' '"ipv4.address":"10.83.0.2/24"' '"ipv4.dhcp.ranges":"10.84.0.1-10.84.0.2"' \
	'"bridge.external_interfaces":"eth9"' '"ipv4.address":"10.84.0.1/24","ipv4.dhcp.ranges":"10.83.0.7-10.83.0.9"'; do
	like "refused: $wrong" "$(patch "$wrong")" '"type": *"error"|"error": *"[^"]'
	is "and nothing has changed" "$(kept h1)" "$before"
done
like "an address is changed" "$(patch '"ipv4.address":"10.83.0.5/24"')" '"status_code": *200'
is "the former one is gone" "$(on h1 sh -c 'ip -4 -o addr show gwbr0 | grep -o "inet [^ ]*"')" "inet 10.83.0.5/24"
like "an uplink is given up" "$(patch '"bridge.external_interfaces":""')" '"status_code": *200'
check "it has left the bridge" on h1 sh -c '! test -e /sys/class/net/uplink0/master'
like "and taken again" "$(patch '"bridge.external_interfaces":"uplink0"')" '"status_code": *200'
check "it is back" on h1 sh -c 'test -e /sys/class/net/uplink0/master'
like "the address too" "$(patch '"ipv4.address":"10.83.0.1/24"')" '"status_code": *200'

# A reboot finds the uplink in other use: the host stays reachable, the network is up without it, the log says why.
"$hosts" power-off h2; "$hosts" power-on h2; "$hosts" daemon h2 stop
on h2 ip link del gwbr0; on h2 ip addr add 198.51.100.2/24 dev uplink0
"$hosts" daemon h2 start
comes_up() { on h2 sh -c 'ip -4 addr show gwbr0 | grep -q 10.83.0.2/24'; }
within "the bridge is up after it" 10 comes_up
is "the card is left alone" "$(on h2 sh -c 'cat /sys/class/net/uplink0/master/ifindex' 2>/dev/null)" ""
like "and the log says why" "$(tail -n 30 "$GODWIT_HOSTS/h2/daemon.log")" "uplink0 carries this host's own address 198\.51\.100\.2/24"
