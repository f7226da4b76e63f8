#!/bin/bash
# limit: 300
# The power of a host fails, and what had not been written to its disk is gone: nothing that was said to be done is lost.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up --disks
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "a busybox image"
gw image import "$(cached_image busybox)" h2: --alias busybox >/dev/null || bail "a busybox image"
in_host() { local h=$1; shift; on "$h" sh -c "$*"; }
stop_at() { in_host "$1" "rm -f \$GODWIT_DIR/migrations/stopped; mkdir -p \$GODWIT_DIR/migrations; echo $2 >\$GODWIT_DIR/migrations/stop-at"; }
go_on() { in_host "$1" 'rm -f $GODWIT_DIR/migrations/stop-at'; }
stopped() { in_host "$1" 'test -e $GODWIT_DIR/migrations/stopped'; }
fails_power() { "$hosts" power-off "$1" && "$hosts" power-on "$1"; }
runs_on() { [ "$(status_of "$1" c1)" = Running ] && gw exec "$1:c1" -- true; }
nowhere() { [ -z "$(status_of "$1" c1)" ]; }
sum() { gw exec "$1:c1" -- sh -c 'cd /root/data && find . | sort | xargs ls -ld; find . -type f | sort | xargs md5sum' | md5sum; }
unresolved() { in_host "$1" 'sqlite3 $GODWIT_DIR/godwit.db "select count(*) from migrations"'; }
is_resolved() { [ "$(unresolved h1)$(unresolved h2)" = 00 ]; }
fill() { # HOST: folders, links and some MB
	gw exec "$1:c1" -- sh -c 'mkdir -p /root/data/a/b; cd /root/data; for i in $(seq 200); do echo $i >a/$i; done
		dd if=/dev/urandom of=big bs=1M count=24 2>/dev/null; ln a/7 a/b/7; ln -s ../big a/big; chmod 4711 a/9; sync'
}

check "launch" gw launch h1:busybox h1:c1
check "its host's power fails right after" fails_power h1
within "it is there, and starts" 20 runs_on h1
fill h1
wanted=$(sum h1)
big=$(gw exec h1:c1 -- md5sum /root/data/big | sed 's/ .*/  -/')

check "it moves" gw move h1:c1 h2:
check "the target's power fails right after" fails_power h2
within "the container is there" 20 runs_on h2
check "and not at the source" nowhere h1
is "with all its files" "$(sum h2)" "$wanted"

# Written after the first copy, and so by the second round.
gw exec --detach h2:c1 -- sh -c 'while [ ! -e /root/go ]; do usleep 50000; done; cd /root/data
	dd if=/dev/urandom of=late bs=1M count=8 2>/dev/null; rm a/1; mv a/2 a/two; echo new >a/3; echo >/root/done'
root() { echo "\$GODWIT_DIR/pools/default/containers/c1/rootfs/root"; }
stop_at h1 target.prepared
timeout 60 "$hosts" godwit move h2:c1 h1: >"$GODWIT_HOSTS/move" 2>&1 </dev/null &
move=$!
within "the first copy is made" 20 stopped h1
in_host h2 "touch $(root)/go"
within "it writes" 10 in_host h2 "test -e $(root)/done"
go_on h1
wait $move
is "it moves" $? 0
check "the target's power fails right after" fails_power h1
within "the container is there" 20 runs_on h1
check "and not at the source" nowhere h2
wanted=$(sum h1)
is "with the late files too" "$(gw exec h1:c1 -- sh -c 'cd /root/data; ls a | wc -l; ls a/1 a/2; cat a/3; wc -c <late; md5sum <big' 2>/dev/null |
	tr '\n' ' ')" "201 new 8388608 $big "

# At each moment around the commit: one container, with its files.
points="restored commit mine"
[ -z "${CHECK_ALL:-}" ] || points="disk1 restored commit mine running"
for point in $points; do
	stop_at h2 target.$point
	timeout 60 "$hosts" godwit move h1:c1 h2: >"$GODWIT_HOSTS/move" 2>&1 </dev/null &
	move=$!
	within "$point is reached" 20 stopped h2
	check "$point: the target's power fails" "$hosts" power-off h2
	case $point in disk1|restored) within "$point: it runs on at the source" 8 runs_on h1 ;; esac
	"$hosts" power-on h2
	go_on h2
	wait $move
	within "$point: both know" 30 is_resolved
	case $point in
	disk1|restored|commit) at=h1 other=h2 ;;
	*) at=h2 other=h1 ;;
	esac
	within "$point: it runs at $at" 20 runs_on $at
	check "$point: and not at $other" nowhere $other
	is "$point: with all its files" "$(sum $at)" "$wanted"
	if [ $at = h2 ]; then check "$point: it moves back" gw move h2:c1 h1:; fi
done

# It moves stopped.
gw stop --force h1:c1
check "stopped, it moves" gw move h1:c1 h2:
check "the target's power fails right after" fails_power h2
check "it starts there" gw start h2:c1
is "with all its files" "$(sum h2)" "$wanted"
