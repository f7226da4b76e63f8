#!/bin/bash
# limit: 240
# README's "In daily use", line by line as it stands there, on two hosts with a second card each and a client.
# Other than there: the programs are installed into a folder (DESTDIR), the daemon is started as the unit does it, and
# the image is busybox, as there is no network to fetch Debian from.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up --bare
i="$GODWIT_HOSTS/a folder" # whose name whoever passes it to a shell, to rsync or to liblxc has to quote
DESTDIR=$i meson install -C "$GODWIT_BUILD" --no-rebuild --quiet >/dev/null 2>&1 || bail "make install"
start=$(sed -n 's/^ExecStart=//p' "$i/usr/lib/systemd/system/godwitd.service")
# The first cards, by which the hosts are reached, and second ones without an address on a switch of their own.
in_sw() { "$GODWIT_BUILD/tests/lib/host-init" enter --dir "$GODWIT_HOSTS/sw" -- "$@"; }
in_sw ip link add sw1 type bridge stp_state 0 mcast_snooping 0; in_sw ip link set sw1 up
n=0
for h in h1 h2 c; do
	n=$((n + 1)); [ $h = c ] && n=10
	on $h sh -c "ip addr flush dev uplink0; ip link set uplink0 down; ip link set uplink0 name eth0; ip link set eth0 up
		ip addr add 192.0.2.$n/24 dev eth0; ip route add default via 192.0.2.254"
	ip link add eth1 netns "$(cut -d' ' -f1 "$GODWIT_HOSTS/$h/pid")" type veth peer name ${h}b \
		netns "$(cut -d' ' -f1 "$GODWIT_HOSTS/sw/pid")" || bail "a second card for $h"
	in_sw ip link set ${h}b master sw1 up
done
on c sh -c 'ip link set eth1 up; ip addr add 10.83.0.250/24 dev eth1'
client() { local h=$1; shift; on "$h" env PATH="$i/usr/bin:$PATH" "$@" 2>&1; }
# "h1 LINE": what a person would type there, but for what is said above.
token1='' token2=''
line() {
	local h=$1 l=$2 out rc
	l=${l//TOKEN1/$token1}; l=${l//TOKEN2/$token2}; l=${l//debian\/12/busybox}; l=${l/ -- bash/ -- sh -c \"echo I am \\\$(hostname)\"}
	case $l in
	systemctl*godwitd*)
		on $h sh -c 'setsid "$0" --state-dir $GODWIT_DIR >>$GODWIT_DIR/../daemon.log 2>&1 </dev/null &' "$i$start"
		up() { on $h test -S "$GODWIT_HOSTS/$h/state/unix.socket"; }
		within "$h: the installed daemon runs" 10 up
		return ;;
	esac
	out=$(eval "client $h $l"); rc=$?
	is "$h: $2" "$rc" 0
	[ $rc = 0 ] || echo "#   $out"
	case $2 in
	*"trust add"*) [ $h = h1 ] && token1=$(tail -n 1 <<<"$out") || token2=$(tail -n 1 <<<"$out") ;;
	*" exec "*) is "it is the container" "$out" "I am c1" ;;
	*" list h1: h2:"*) like "c1 is at its new host" "$out" 'h2:c1 +Running +10\.83\.0\.10 ' ;;
	esac
}
mapfile -t lines < <(sed -n '/^## In daily use/,/^## The way/p' "$here/README.md" | sed -n 's/^    \(host1#\|host2#\|me\$\) */\1 /p' | sed 's/   *#.*//')
check "README has them (${#lines[@]})" test ${#lines[@]} -ge 13
for l in "${lines[@]}"; do
	case $l in
	'host1# '*) line h1 "${l#host1# }" ;;
	'host2# '*) line h2 "${l#host2# }" ;;
	'me$ '*) line c "${l#me\$ }" ;;
	esac
done
check "the container is reached by others on that network" on c busybox ping -c 1 -W 3 10.83.0.10
check "the hosts are, by their first card" on c busybox ping -c 1 -W 3 192.0.2.1
# What the notes below the lines promise.
refuses "the host's own card" 'own address 192\.0\.2\.1/24 and its default route' client h1 godwit init --network gwbr1 --ipv4 10.84.0.1/24 --uplink eth0
is "a second time init changes nothing" "$(client h1 godwit init; echo $?)" 0
gw delete -f h2:c1 >/dev/null
