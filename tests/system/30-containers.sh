#!/bin/bash
# Containers on one host, privileged and unprivileged: their life, and the daemon's death meanwhile.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "a busybox image"
t=$GODWIT_HOSTS/t; mkdir "$t"
head -c 3000000 /dev/urandom >"$t/bytes"
in_h1() { on h1 sh -c "$1"; }
count() { in_h1 'ls /sys/class/net | wc -l; grep -c . /proc/self/mounts; find /sys/fs/cgroup -type d | wc -l'; }
# The folder of all containers' cgroups stays once it was made.
gw launch h1:busybox h1:first >/dev/null && gw delete -f h1:first
empty=$(count)

for kind in unprivileged privileged; do
	c=h1:$kind n=$kind
	flag=; [ $kind = privileged ] && flag=--privileged
	check "$kind: launch" gw launch $flag h1:busybox $c
	is "$kind: it runs" "$(status_of h1 $n)" Running
	address=$(address_of h1 $n)
	like "$kind: it has an address" "$address" '^10\.83\.0\.'
	check "$kind: which the client's host reaches" on c busybox ping -c 1 -W 3 "$address"
	is "$kind: root inside is root outside or not" \
		"$(in_h1 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = init ] && stat -c %u $p; done 2>/dev/null | head -n 1')" \
		"$([ $kind = privileged ] && echo 0 || in_h1 'cat $GODWIT_DIR/x 2>/dev/null; stat -c %u $GODWIT_DIR/pools/default/containers/unprivileged/rootfs')"

	is "$kind: exec: stdout" "$(gw exec $c -- echo hello 2>/dev/null)" hello
	is "$kind: exec: stderr is apart" "$(gw exec $c -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" err
	is "$kind: exec: the exit status" "$(gw exec $c -- sh -c 'exit 42'; echo $?)" 42
	is "$kind: exec: a command that is not there" "$(gw exec $c -- /nothere 2>/dev/null; echo $?)" 127
	check "$kind: exec: 3 MB there and back" sh -c "'$hosts' godwit exec $c -- cat < $t/bytes | cmp - $t/bytes"
	is "$kind: exec: the environment" "$(gw exec $c --env A=b\ c -- sh -c 'echo $A')" "b c"
	is "$kind: exec: the folder" "$(gw exec $c --cwd /etc -- pwd)" /etc
	is "$kind: exec: the user" "$(gw exec $c --user 1000 --group 1000 -- id -u)" 1000
	like "$kind: exec: a terminal" "$(script -qec "'$hosts' godwit exec $c -t -- sh -c 'tty; exit 5'" /dev/null </dev/null)" /dev/pts/0
	check "$kind: exec: detached" gw exec --detach $c -- sleep 4242
	like "$kind: it lives on" "$(gw exec $c -- ps)" 'sleep 4242'
	is "$kind: its parent is the container's init" \
		"$(gw exec $c -- sh -c 'for p in /proc/[0-9]*; do grep -q 4242 $p/cmdline 2>/dev/null && cut -d" " -f4 $p/stat; done' | head -n 1)" 1
	is "$kind: it is in the cgroups of its init" "$(gw exec $c -- sh -c 'for p in /proc/[0-9]*; do
		grep -q ^sleep.4242 $p/cmdline && cat $p/cgroup; done 2>/dev/null')" "$(gw exec $c -- cat /proc/1/cgroup)"
	is "$kind: so is what is attached" "$(gw exec $c -- cat /proc/self/cgroup)" "$(gw exec $c -- cat /proc/1/cgroup)"
	is "$kind: its clocks began with it" "$(gw exec $c -- sh -c 'read a b < /proc/uptime; [ ${a%.*} -lt 60 ] && echo young')" young

	gw exec $c -- sh -c 'echo mark > /root/mark'
	check "$kind: stop" gw stop $c
	is "$kind: it is stopped" "$(status_of h1 $n)" Stopped
	refuses "$kind: no exec then" 'not running' gw exec $c -- true
	refuses "$kind: stopping it again" 'not running|already stopped|stopped' gw stop $c
	check "$kind: start" gw start $c
	refuses "$kind: starting it again" 'running' gw start $c
	is "$kind: its files are there" "$(gw exec $c -- cat /root/mark)" mark
	pid=$(gw info $c --format json | jq .state.pid)
	gw exec --detach $c -- reboot
	rebooted() { p=$(gw info $c --format json | jq .state.pid); [ "$p" -gt 0 ] && [ "$p" != "$pid" ]; }
	within "$kind: a reboot from inside is one" 15 rebooted
	within "$kind: it can be entered after it" 10 gw exec $c -- true
	check "$kind: restart" gw restart -f $c

	pid=$(gw info $c --format json | jq .state.pid)
	gw exec --detach $c -- sleep 777
	"$hosts" daemon h1 kill
	is "$kind: the daemon's death is no container's" "$(in_h1 'for p in /proc/[0-9]*; do tr "\0" " " < $p/cmdline; echo; done 2>/dev/null | grep -c "^sleep 777"')" 1
	"$hosts" daemon h1 start
	is "$kind: the new daemon knows it" "$(status_of h1 $n) $(gw info $c --format json | jq .state.pid)" "Running $pid"
	is "$kind: and enters it" "$(gw exec $c -- echo in)" in
	refuses "$kind: a running one is not deleted" 'running' gw delete $c
	check "$kind: delete" gw delete -f $c
	is "$kind: it is gone" "$(status_of h1 $n)" ""
	refuses "$kind: a name that is taken" 'exists|already' sh -c "
		'$hosts' godwit launch --no-start h1:busybox h1:twice && '$hosts' godwit launch h1:busybox h1:twice"
	gw delete h1:twice
done

# An image without an init.
python3 - "$t/noinit.tar" <<'PY'
import io, sys, tarfile
with tarfile.open(sys.argv[1], "w") as t:
    def put(path, data):
        i = tarfile.TarInfo(path); i.size, i.mode = len(data), 0o755; t.addfile(i, io.BytesIO(data))
    put("metadata.yaml", b"architecture: x86_64\ncreation_date: 1\nproperties: {}\n")
    put("rootfs/bin/busybox", open("/bin/busybox", "rb").read())
    for x in "proc", "sys", "dev", "etc", "tmp", "root":
        d = tarfile.TarInfo("rootfs/" + x); d.type, d.mode = tarfile.DIRTYPE, 0o755; t.addfile(d)
PY
like "an image without an init is imported with a warning" "$(gw image import "$t/noinit.tar" h1: --alias noinit 2>&1)" \
	'Warning: the image has no /sbin/init'
refuses "its container does not start, and the reason is said" \
	'c1: it has no /sbin/init, which is to be its first process. Put an init there' gw launch h1:noinit h1:c1
is "it is there, stopped" "$(status_of h1 c1)" Stopped
check "another first process can be named" gw config set h1:c1 'raw.lxc=lxc.init.cmd = /bin/busybox sleep 5000'
check "with which it starts" gw start h1:c1
like "and runs" "$(gw exec h1:c1 -- /bin/busybox ps)" '1 .*/bin/busybox sleep 5000'
gw stop -f h1:c1
gw config set h1:c1 'raw.lxc=lxc.init.cmd = /bin/nothere'
refuses "one that is not there" 'it has no /bin/nothere' gw start h1:c1
gw delete h1:c1
gw launch --no-start h1:busybox h1:c1 >/dev/null
on h1 sh -c 'chmod 0644 $GODWIT_DIR/pools/default/containers/c1/rootfs/bin/busybox'
refuses "an init that cannot be executed" 'first process /sbin/init cannot be executed: its mode' gw start h1:c1
gw delete h1:c1

# An image with an owner that an unprivileged container has not.
python3 - "$t/uids.tar" <<'PY'
import io, sys, tarfile
with tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT) as t:
    def put(path, type=tarfile.REGTYPE, data=b"", link="", **owner):
        i = tarfile.TarInfo(path); i.type, i.size, i.mode, i.linkname = type, len(data), 0o755, link
        for k, v in owner.items(): setattr(i, k, v)
        t.addfile(i, io.BytesIO(data))
    put("metadata.yaml", data=b"architecture: x86_64\ncreation_date: 1\nproperties: {}\n")
    put("rootfs/bin/busybox", data=open("/bin/busybox", "rb").read())
    put("rootfs/sbin/init", tarfile.SYMTYPE, link="../bin/busybox")
    for x in "proc", "sys", "dev", "etc", "tmp", "root": put("rootfs/" + x, tarfile.DIRTYPE)
    put("rootfs/esc\x1b[2J", uid=100000)
    put("rootfs/srv", gid=70000)
PY
out=$(gw image import "$t/uids.tar" h1: --alias uids 2>&1)
like "an image with high ids is imported, and what cannot be made of it is said" "$out" \
	'Warning: 2 of its files belong to ids that an unprivileged container has not \(0 to 65535\): "esc\?\[2J" to 100000'
like "also in the operation" "$(on h1 curl -sS --unix-socket "$GODWIT_HOSTS/h1/state/unix.socket" -X POST --data-binary @"$t/uids.tar" \
	'http://x/1.0/images' | jq -r .operation | xargs -I{} "$hosts" run h1 curl -sS --unix-socket "$GODWIT_HOSTS/h1/state/unix.socket" \
	'http://x{}/wait' | jq -r '.metadata.metadata.warnings[0]')" 'ids that an unprivileged container has not'
out=$(gw launch h1:uids h1:c1 2>&1); rc=$?
check "an unprivileged container of it is not made" test $rc -eq 1
like "and the file is named, and the id" "$out" '"esc\?\[2J" belongs to the id 100000, and the container has the ids 0 to 65535 only'
is "nothing is left of it" "$(status_of h1 c1)" ""
check "a privileged one is" gw launch --privileged h1:uids h1:c1
is "with the owner" "$(gw exec h1:c1 -- /bin/busybox stat -c %g /srv)" 70000
gw delete -f h1:c1

# A command that fails at once, while the client is still opening its channels: the last of them comes late.
gw launch h1:busybox h1:c1 >/dev/null
for late in 1 2 3 4; do
	on h1 python3 "$here/tests/lib/slow_socket.py" "$GODWIT_HOSTS/h1/tmp/slow$late" "$GODWIT_HOSTS/h1/state/unix.socket" $late 0.7 \
		2>/dev/null & slow=$!
	slow_up() { test -S "$GODWIT_HOSTS/h1/tmp/slow$late"; }
	within "a slow way to the daemon" 10 slow_up
	is "a command that is not there, channel $late coming late" \
		"$(on h1 env GODWIT_SOCKET="$GODWIT_HOSTS/h1/tmp/slow$late" godwit exec -T c1 -- /nothere 2>/dev/null </dev/null; echo $?)" 127
	kill $slow; wait $slow 2>/dev/null
done
is "forty at a time: each says so" \
	"$(for i in $(seq 40); do (gw exec -T h1:c1 -- /nothere 2>/dev/null </dev/null; echo $?) & done | sort | uniq -c | tr -s ' ')" " 40 127"
gw delete -f h1:c1

# The power fails under a running container; what was written stays.
gw launch h1:busybox h1:c1 >/dev/null
gw exec h1:c1 -- sh -c 'echo kept > /root/kept; sync'
"$hosts" power-off h1; "$hosts" power-on h1
within "after a power failure the daemon serves again" 20 gw list h1:
runs_again() { [ "$(status_of h1 c1)" = Running ]; }
within "and what ran is started again" 20 runs_again
is "the container's files are there" "$(gw exec h1:c1 -- cat /root/kept)" kept
gw delete -f h1:c1
is "nothing is left of all that" "$(count)" "$empty"
