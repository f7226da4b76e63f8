#!/bin/bash
# limit: 600
# lxc-checkpoint, Debian's and unmodified, with the engine as its criu: busybox and Debian with sysvinit, with and
# without a network card, privileged and unprivileged.
lib=$(dirname "$0")/../lib
[ "${1:-}" = inside ] || { . "$lib/callers.sh"; callers_outside lxc; }
. "$lib/tap.sh"; . "$lib/callers.sh"
callers_inside
n=$CALLERS_NAME
base=500000000 # of the ids of unprivileged containers
state() { lxc-info -P "$t/lxc" -n "$n" -sH 2>/dev/null; }
pid_of() { lxc-info -P "$t/lxc" -n "$n" -pH; }
inside() { timeout 20 lxc-attach -P "$t/lxc" -n "$n" -- "$@" </dev/null; }
is_state() { [ "$(state)" = "$1" ]; }

# A container: container KIND CARD(0|1) UNPRIVILEGED(0|1).  Its root is a copy of $t/root.KIND.
container() {
	local kind=$1 card=$2 unpriv=$3 dir=$t/lxc/$n
	mkdir -p "$dir"
	cp -a "$t/root.$kind" "$dir/rootfs"
	{
		echo "lxc.uts.name = box"
		echo "lxc.rootfs.path = dir:$dir/rootfs"
		echo "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed"
		echo "lxc.cgroup.relative = 0"
		echo "lxc.cgroup.dir.container = $n"
		echo "lxc.cgroup.dir.monitor = $n.monitor"
		echo "lxc.cgroup.dir.monitor.pivot = $n.pivot"
		# What lxc-checkpoint asks of its containers (lxc.container.conf(5) and its man page).
		echo "lxc.console.path = none"
		echo "lxc.tty.max = 0"
		echo "lxc.cgroup2.devices.deny = c 5:1 rwm"
		if [ "$kind" = busybox ]; then echo "lxc.init.cmd = /count"; else echo "lxc.init.cmd = /sbin/init"; fi
		if [ "$card" = 1 ]; then
			printf '%s\n' "lxc.net.0.type = veth" "lxc.net.0.link = br0" "lxc.net.0.flags = up" "lxc.net.0.name = eth0" \
				"lxc.net.0.veth.pair = veth$$" "lxc.net.0.ipv4.address = 10.77.0.2/24" "lxc.net.0.hwaddr = 00:16:3e:77:00:02"
		else
			printf '%s\n' "lxc.net.0.type = empty" "lxc.net.0.flags = up" # the loopback's
		fi
		if [ "$unpriv" = 1 ]; then
			echo "lxc.idmap = u 0 $base 65536"; echo "lxc.idmap = g 0 $base 65536"
			chmod 755 "$t" "$t/lxc" "$dir"
		fi
	} >"$dir/config"
	[ "$unpriv" = 0 ] || shift_ids "$dir/rootfs"
}
shift_ids() {
	python3 - "$1" "$base" <<-'P'
	import os, sys
	root, base = os.fsencode(sys.argv[1]), int(sys.argv[2])
	for d, folders, files in os.walk(root):
	    for p in [d] + [os.path.join(d, f) for f in files + [x for x in folders if os.path.islink(os.path.join(d, x))]]:
	        s = os.lstat(p)
	        os.lchown(p, base + s.st_uid, base + s.st_gid)
	        if not os.path.islink(p):
	            os.chmod(p, s.st_mode & 0o7777)
	P
}
start() {
	quiet lxc-start -P "$t/lxc" -n "$n" -o "$t/start.log" -l INFO -d || bail "a start: $(grep -m5 ERROR start.log)"
	within "it runs" 10 is_state RUNNING
}
# Where the container has its output is not here, or whoever reads ours would wait for its end.
quiet() { local rc; timeout 60 "$@" </dev/null >"$t/out" 2>&1; rc=$?; [ $rc = 0 ] || { cat "$t/out"; engine_log; }; return $rc; }
checkpoint() { rm -rf img; mkdir img; quiet lxc-checkpoint -P "$t/lxc" -n "$n" -D "$t/img" -v -o "$t/ckpt.log" -l TRACE "$@"; }
restore() { quiet lxc-checkpoint -P "$t/lxc" -n "$n" -r -D "$t/img" -v -o "$t/restore.log" -l TRACE "$@"; }
# A monitor leaves the cgroup behind that it goes to at its end, from which it could not remove it.
pivots() { find /sys/fs/cgroup -depth -type d -path "*/$n.pivot*" -exec rmdir {} + 2>/dev/null; }
# Whose its own cgroups are, but for that which lxc-attach makes.
cgroup_rights() {
	find /sys/fs/cgroup \( -path "*/$n" -o -path "*/$n/*" \) \( -type d -o -name cgroup.procs -o -name tasks -o -name cgroup.threads \) \
		! -path "*/.lxc*" \
		-exec stat -c '%n %u %g %a' {} + | sort
}
destroy() {
	timeout 30 lxc-stop -P "$t/lxc" -n "$n" -k </dev/null
	within "stop works" 10 is_state STOPPED
	rm -rf "$t/lxc/$n"
	pivots
	is "nothing is left" "$(nothing_left)" ""
}
engine_log() { local f; for f in img/dump.log img/restore.log; do [ -s "$f" ] && tail -n 5 "$f"; done; }

# round NAME KIND CARD UNPRIVILEGED: twice out and in.
round() {
	local name=$1 kind=$2 card=$3 unpriv=$4 count=$t/lxc/$n/rootfs/tmp/count last i left rights
	container "$kind" "$card" "$unpriv"
	start
	within "$name: it counts" 20 grows "$count"
	if [ "$kind" = debian ]; then within "$name: redis answers" 30 redis_says PONG PING; redis_says OK SET k "v$$" || not_ok "set"; fi
	[ "$card" = 0 ] || within "$name: it is reached" 5 busybox ping -c1 -W1 10.77.0.2
	rights=$(cgroup_rights)
	like "$name: it has cgroups" "$rights" cgroup.procs
	for i in 1 2; do
		check "$name: checkpoint $i" checkpoint -s
		within "$name: it is gone" 10 is_state STOPPED
		like "$name: crit reads the image" "$(crit x img ps)" '^ +1 '
		pivots; left=$(nothing_left); is "$name: all of it" "$left" ""
		last=$(number "$count")
		check "$name: restore $i" restore
		is "$name: it runs" "$(state)" RUNNING
		within "$name: it goes on" 10 grows "$count"
		check "$name: from where it was" test "$(number "$count")" -gt "$last"
		is "$name: attach works" "$(inside cat /etc/issue)" "$(cat "$t/lxc/$n/rootfs/etc/issue")"
		[ "$card" = 0 ] || within "$name: it is reached again" 5 busybox ping -c1 -W1 10.77.0.2
		[ "$kind" != debian ] || check "$name: redis knows" redis_says "v$$" GET k
		is "$name: its cgroups are whose they were" "$(diff <(echo "$rights") <(cgroup_rights))" ""
	done
	if [ "$kind" = busybox ]; then
		# It goes on beside its checkpoint.
		last=$(number "$count")
		check "$name: a checkpoint that leaves it running" checkpoint
		is "$name: it runs" "$(state)" RUNNING
		within "$name: and counts" 10 grows "$count"
	fi
	destroy
}
redis_says() { [ "$(inside redis-cli "${@:2}")" = "$1" ]; }

mkdir lxc
# lxc-start asks newuidmap, which asks these.
for f in subuid subgid; do
	echo "root:$base:65536" >"$f" && touch "/etc/$f" && mount --bind "$f" "/etc/$f" || bail "a range of ids"
done
busybox_root root.busybox
echo "a box" >root.busybox/etc/issue
ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up
mounts_before=$(mounts_now)
round "busybox" busybox 0 0
round "busybox with a card" busybox 1 0
round "busybox, unprivileged" busybox 0 1
round "busybox, unprivileged with a card" busybox 1 1

debian_root root.debian
cp root.busybox/count root.debian/count
sed -i 's/^\(ca\|pf\|l.\|[1-6]\):.*getty.*$//' root.debian/etc/inittab
echo 'ct:2345:respawn:/count' >>root.debian/etc/inittab
round "Debian" debian 0 0
[ -z "${CHECK_ALL:-}" ] || round "Debian with a card" debian 1 0
[ -z "${CHECK_ALL:-}" ] || round "Debian, unprivileged" debian 0 1
round "Debian, unprivileged with a card" debian 1 1
