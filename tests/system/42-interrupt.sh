#!/bin/bash
# limit: 300
# ^C of the client at several moments: before COMMIT the move is undone, after it the client waits; and what
# the hosts say of a container that is between them.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
gw image import "$(cached_image busybox)" h1: --alias busybox >/dev/null || bail "a busybox image"
t=$GODWIT_HOSTS/t; mkdir "$t"
state() { "$hosts" where "$1"; }
stop_at() { rm -f "$(state "$1")/migrations/stopped"; mkdir -p "$(state "$1")/migrations"; echo "$2" >"$(state "$1")/migrations/stop-at"; }
go_on() { rm -f "$(state h1)/migrations/stop-at" "$(state h2)/migrations/stop-at"; }
stopped() { [ -e "$(state "$1")/migrations/stopped" ]; }
shown() { gw list "$1:" --format csv | grep "^c1," | cut -d, -f2; } # HOST: the client's word
shows() { [ "$(shown "$1")" = "$2" ]; }

# NAME COMMAND...: the client on c, which can be interrupted by its number there.
client() {
	local name=$1; shift
	rm -f "$t/$name.pid"
	"$hosts" run c sh -c 'echo $$ >"$0"; exec env --default-signal=INT "$@"' "$t/$name.pid" timeout --foreground -k 5 90 "$@" \
		>"$t/$name" 2>&1 </dev/null &
	started=$!
	for _ in $(seq 100); do [ -s "$t/$name.pid" ] && return; sleep 0.05; done
}
interrupt() { on c sh -c "for p in /proc/[0-9]*; do [ \"\$(cat \$p/comm 2>/dev/null)\" = godwit ] && kill -INT \${p#/proc/}; done; true"; }
ends() { # LABEL STATUS SECONDS: the client ends so, soon
	local begun=$SECONDS rc
	wait $started; rc=$?
	is "$1: the client's exit status" "$rc" "$2"
	[ $((SECONDS - begun)) -le "$3" ] || not_ok "$1: it ends within $3 s" "$((SECONDS - begun)) s: $(cat "$t/move")"
}

check "launch" gw launch h1:busybox h1:c1
gw exec --detach h1:c1 -- nc -ll -p 7000 -e cat
# 40 MB that do not compress: on the disk, and in a tmpfs, which travels with the memory.
gw exec h1:c1 -- sh -c 'mkdir /mnt/m && mount -t tmpfs tmpfs /mnt/m && head -c 40000000 /dev/urandom >/mnt/m/memory &&
	head -c 40000000 /dev/urandom >/root/disk' || bail "the container is filled"
address=$(address_of h1 c1)
sleep 1
"$hosts" run c python3 "$here/tests/lib/echo_client.py" "$address" 7000 "$t/echo" </dev/null >/dev/null 2>&1 &
echo_client=$!
within "a client is connected" 5 test -s "$t/echo"
echo_runs() {
	local a b; a=$(cat "$t/echo"); sleep 0.3; b=$(cat "$t/echo")
	[[ $a =~ ^[0-9]+$ && $b =~ ^[0-9]+$ && $b -gt $a ]]
}
nothing_at() {
	[ -z "$(status_of "$1" c1)" ] && [ ! -e "$(state "$1")/pools/default/containers/c1" ] &&
		! on "$1" sh -c 'ls /sys/class/net' | grep -qE '^gw[0-9a-f]{8}$' &&
		! on "$1" sh -c 'cat /proc/[0-9]*/comm 2>/dev/null' | grep -qxE 'gw-init|godwit-criu|rsync'
}
undone() { # LABEL
	ends "$1" 130 8
	like "$1: it says where the container is" "$(cat "$t/move")" 'cancelled; c1 runs on h1 as before'
	is "$1: which is true" "$(status_of h1 c1)" Running
	within "$1: its connection lives" 5 echo_runs
	within "$1: nothing is left at the target" 5 nothing_at h2
	is "$1: nor of the migration" "$(for h in h1 h2; do on $h sh -c 'sqlite3 $GODWIT_DIR/godwit.db "select count(*) from migrations"; ls $GODWIT_DIR/migrations | grep -c lock'; done | tr '\n' ' ')" "0 0 0 0 "
}

# A slow link: moments that last.
"$hosts" slow h2 40mbit
client move godwit move h1:c1 h2:
within "an arriving container is shown as such" 10 shows h2 Arriving
is "with a status of LXD's" "$(gw list h2: --format json | jq -c '.[] | [.status, .status_code, .migration.state]')" '["Starting",106,"arriving"]'
is "and at its host as leaving" "$(shown h1) $(status_of h1 c1)" "Moving away Running"
like "info says where it goes" "$(gw info h1:c1)" '^Migration: moving; it is being sent to h2 and runs here'
like "and where it comes from" "$(gw info h2:c1)" '^Migration: arriving; it is on its way from 10.83.0.1'
sleep 1
interrupt
undone "^C in the first rsync"

gw exec h1:c1 -- rm /root/disk
client move godwit move h1:c1 h2:
within "its memory is on the way" 20 sh -c "'$hosts' godwit info h1:c1 | grep -q 'Migration: moving; it stands still'"
sleep 1.5
interrupt
undone "^C while memory is sent"
"$hosts" slow h2 off

gw exec h1:c1 -- rm /mnt/m/memory

for point in target.prepared source.frozen source.sent target.restored source.ready; do
	side=h1; [[ $point == target.* ]] && side=h2
	stop_at $side $point
	client move godwit move h1:c1 h2:
	within "$point is reached" 15 stopped $side
	interrupt
	undone "^C at $point"
	go_on
done

# After COMMIT it is too late.
for point in source.handed target.mine; do
	side=h1; [[ $point == target.* ]] && side=h2
	stop_at $side $point
	client move godwit move h1:c1 h2:
	within "$point is reached" 15 stopped $side
	interrupt
	within "^C at $point: it says that it is too late" 5 grep -q 'too late to cancel: h2 takes c1 over' "$t/move"
	sleep 1
	check "^C at $point: the client waits" kill -0 $started
	go_on
	ends "^C at $point" 0 10
	is "^C at $point: the container is at the target" "$(status_of h1 c1)$(status_of h2 c1)" Running
	within "^C at $point: its connection lives" 10 echo_runs
	check "and back" gw move h2:c1 h1:
done

# A second ^C ends the client, and only the client.
stop_at h1 source.handed
client move godwit move h1:c1 h2:
within "source.handed is reached" 15 stopped h1
interrupt
within "the first is answered" 5 grep -q 'too late' "$t/move"
interrupt
ends "the second ^C" 130 3
like "it says that the move goes on" "$(cat "$t/move")" 'the move goes on without us'
go_on
within "which it does" 10 shows h2 Running
within "and is on one host only" 5 shows h1 ""
check "and back" gw move h2:c1 h1:

# In doubt.
stop_at h1 source.handed
client move godwit move h1:c1 h2:
within "source.handed is reached" 15 stopped h1
"$hosts" cut h2
go_on
within "a container whose target is not heard of is in doubt" 15 shows h1 "In doubt"
is "with a status of LXD's" "$(gw list h1: --format json | jq -c '.[] | [.status, .status_code]')" '["Frozen",110]'
like "info says what it waits for" "$(gw info h1:c1)" 'Migration: in doubt; it was handed over to h2, which has not said'
refuses "it cannot be started meanwhile" 'handed over' gw start h1:c1
"$hosts" mend h2
wait $started
settled() { [ "$(shown h1)$(shown h2)" = Running ]; }
within "it is settled when the link is mended" 40 settled
within "its connection lives" 20 echo_runs
shows h2 Running && check "and back" gw move h2:c1 h1:
kill $echo_client 2>/dev/null; wait $echo_client 2>/dev/null

# Other verbs.
python3 - "$t/big.tar.gz" <<'PY'
import gzip, io, sys, tarfile
class Zeros(io.RawIOBase):
    def readinto(self, b):
        b[:] = bytes(len(b)); return len(b)
with gzip.open(sys.argv[1], "wb", 1) as z, tarfile.open(fileobj=z, mode="w") as t:
    def put(path, size, data):
        i = tarfile.TarInfo(path); i.size, i.mode = size, 0o755; t.addfile(i, data)
    meta = b"architecture: x86_64\ncreation_date: 1\nproperties: {}\n"
    put("metadata.yaml", len(meta), io.BytesIO(meta))
    d = tarfile.TarInfo("rootfs"); d.type, d.mode = tarfile.DIRTYPE, 0o755; t.addfile(d)
    put("rootfs/sbin/init", 4, io.BytesIO(b"init"))
    for n in range(8):
        put(f"rootfs/zeros{n}", 150000000, Zeros())
PY
"$hosts" slow h1 4mbit
client move godwit image import "$t/big.tar.gz" h1: --alias big
sleep 1; interrupt
ends "^C of an import" 130 8
"$hosts" slow h1 off
is "no image is there" "$(gw image list h1: --format json | jq '[.[].aliases[]?.name | select(. == "big")] | length')" 0
no_file_left() { [ "$(on h1 sh -c 'ls $GODWIT_DIR/tmp | wc -l; ls $GODWIT_DIR/images | wc -l' | tr '\n' ' ')" = "0 1 " ]; }
within "nor a file of it" 5 no_file_left
check "the image is imported" gw image import "$t/big.tar.gz" h1: --alias big
client move godwit launch h1:big h1:c2
sleep 0.5; interrupt
ends "^C of a launch" 130 8
like "it says so" "$(cat "$t/move")" 'cancel|interrupted'
is "no container is there" "$(status_of h1 c2)" ""
is "nor files of it" "$(on h1 sh -c 'ls -A $GODWIT_DIR/pools/default/containers')" c1
client move godwit exec -T h1:c1 -- sh -c 'trap "echo heard; exit 7" INT; while :; do sleep 0.1; done'
sleep 1; interrupt
ends "^C of an exec is its command's" 7 5
is "which hears it" "$(cat "$t/move")" heard
client move godwit image build debian/12 --output "$t/deb.tar"
sleep 3; interrupt
ends "^C of a build" 130 20
is "no half image is left" "$(ls "$t" | grep deb)" ""
within "nor mmdebstrap" 5 sh -c "! '$hosts' run c sh -c 'cat /proc/[0-9]*/cmdline' | tr '\\0' ' ' | grep -q mmdebstrap"
