#!/bin/bash
# The engine as a program: dumps and restores beside it, its command line, scripts, exit statuses, RPC and the page
# server.  In process and mount namespaces of its own, so that pids are free again after a dump.
if [ "${ENGINE_INSIDE:-}" != 1 ]; then
	exec env ENGINE_INSIDE=1 unshare --pid --mount --fork --kill-child --mount-proc --propagation private "$0" "$@"
fi
. "$(dirname "$0")/../lib/tap.sh"
G=$GODWIT_BUILD/src/engine/godwit-criu
t=$(mktemp -d /tmp/godwit-engine.XXXXXX)
trap 'rm -rf "$t"; tests_end' EXIT
cd "$t" || bail "a folder"
export HOME=$t
# What our caller left open is none of the trees'.
for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && [ "$fd" -lt 255 ] && eval "exec $fd>&-"; done

cat >loop <<'EOF'
#!/bin/sh
trap 'exit 7' TERM
i=0
while [ ! -e stop ]; do i=$((i + 1)); echo $i >count; sleep 0.05; done
exit 5
EOF
cat >tree <<'EOF'
#!/bin/sh
sh -c 'while :; do sleep 0.05; echo a >>child; done' &
sleep 1000 | cat &
exec ./loop
EOF
cat >hook <<'EOF'
#!/bin/sh
echo "$CRTOOLS_SCRIPT_ACTION ${CRTOOLS_INIT_PID:-none} $CRTOOLS_IMAGE_DIR" >>"$(dirname "$0")/moments"
[ "$CRTOOLS_SCRIPT_ACTION" != "$(cat "$(dirname "$0")/fail" 2>/dev/null)" ]
EOF
chmod +x loop tree hook
begin() { # PROGRAM: in a session of its own, without a terminal; $p is its pid
	rm -rf stop count img; mkdir img
	setsid "./$1" </dev/null >/dev/null 2>&1 & p=$!
	for _ in $(seq 100); do [ -s count ] && break; sleep 0.05; done
}
lives() { [ -d "/proc/$1" ] && ! grep -q '^State:.*[ZX]' "/proc/$1/status"; }
goes_on() { # in time: the machine may be busy
	local a; a=$(cat count)
	for _ in $(seq 20); do sleep 0.2; [ "$(cat count)" != "$a" ] && return; done
	return 1
}
stands() { local a; a=$(cat count); sleep 0.5; [ "$(cat count)" = "$a" ]; }
gone() { ! lives "$1"; }
# All of a session but zombies and those that come and go: as few as there are at any of some moments.
members() {
	for _ in 1 2 3 4 5 6; do
		ps -eo sid=,stat=,args= | awk -v s="$1" '$1 == s && $2 !~ /Z/ && !/sleep 0/' | wc -l; sleep 0.03
	done | sort -n | head -n 1
}
ignored() { grep SigIgn "/proc/$1/status"; }
finish() { kill -9 -- "-$1" 2>/dev/null; wait "$1" 2>/dev/null; rm -f stop moments fail; sleep 0.1; }
run() { timeout 30 "$G" "$@"; }
last_line() { tail -n 1 err; }

# ---- words ----
is "who it is for callers of CRIU" "$("$G" --version | head -n 1)" "Version: 4.2"
like "and who it really is" "$("$G" --version | tail -n 1)" 'Godwit'
ln -s "$G" criu
is "the same under the name criu" "$(./criu --version)" "$("$G" --version)"
run dump --frobnicate 2>err; is "an unknown option: status 2" $? 2
like "the reason is the last line" "$(last_line)" 'Error: there is no option --frobnicate'
run pre-dump -t 1 2>err; is "pre-dump is of a later version" $? 2
like "and says so" "$(last_line)" 'later version'
mkdir img; touch img/mark
run dump -t $$ -D img --track-mem --lazy-pages 2>err; is "options not served: status 1" $? 1
like "each by its name" "$(last_line)" '--track-mem.*--lazy-pages'
is "and nothing was touched" "$(ls img)" mark
run dump -t 999999 -D img -o log 2>err; is "no such process: status 1" $? 1
like "with a reason" "$(last_line)" 'Error: .*999999'
run dump -t 1 -D /nonexistent 2>err; is "no such folder" $? 1
mkdir -p .criu; echo 'pidfile "from file"' >.criu/default.conf
rm -rf .criu

# ---- one process, and what is left of it ----
begin loop
signals=$(ignored $p)
run dump -t $p -D img -o dump.log -v4 2>err; is "a dump" $? 0
wait $p 2>/dev/null
check "the tree is gone" gone $p
for f in inventory.img pstree.img core-$p.img files.img stats-dump dump.log cpuinfo.img; do
	check "there is $f" test -s img/$f
done
like "crit reads the processes" "$(/usr/bin/crit x img ps)" "$p.*loop"
like "crit reads the statistics" "$(/usr/bin/crit decode -i img/stats-dump)" '"frozen_time": [1-9]'
is "as many pages as the files are long" \
	"$(/usr/bin/crit decode -i img/stats-dump | jq '.entries[0].dump | .pages_written + .shpages_written')" \
	"$(($(cat img/pages-*.img | wc -c) / 4096))"
like "crit reads the processor" "$(/usr/bin/crit decode -i img/cpuinfo.img)" 'xfeatures_mask'
like "the log says what was done" "$(cat img/dump.log)" "dumped process $p"
run dump -t $$ -D img 2>err; is "a folder with an image is not written over" $? 1
like "and that is the reason" "$(last_line)" 'inventory.img'
before=$(cat count)
check "a restore, detached" run restore -d -D img -o restore.log -v4 --pidfile pid
is "the pidfile" "$(cat img/pid)" $p
check "it runs" lives $p
check "and goes on" goes_on
check "from where it was" test "$(cat count)" -gt "$before"
is "nothing of us is open in it" "$(readlink /proc/$p/fd/* | grep -cvE "^(/dev/null|$t/loop)$")" 0
is "no signal is ignored that was not" "$(ignored $p)" "$signals"
like "crit reads what it took" "$(/usr/bin/crit decode -i img/stats-restore)" '"restore_time": [1-9]'
run restore -d -D img 2>err; is "not twice: the pid is taken" $? 1
like "and that is the reason" "$(last_line)" "$p is taken"
check "which does not hurt the first" goes_on
finish $p

# ---- what becomes of the tree ----
begin tree
n=$(members $p)
check "a dump that leaves it running" run dump -R -t $p -D img
check "it goes on" goes_on
is "all of it" "$(members $p)" "$n"
finish $p
begin tree
check "a dump that leaves it stopped" run dump -s -t $p -D img
check "it stands" stands
kill -CONT -- -$p
check "and goes on when told so" goes_on
finish $p
begin tree
n=$(members $p)
check "a tree" run dump -t $p -D img
wait $p 2>/dev/null; sleep 0.2
is "is gone, all of it" "$(members $p)" 0
check "and comes back" run restore -d -D img
is "all of it" "$(members $p)" "$n"
check "and goes on" goes_on
finish $p

# ---- in the foreground ----
begin loop
run dump -t $p -D img; wait $p 2>/dev/null
(sleep 1; touch stop) &
run restore -D img 2>err; is "in the foreground: the status of the init" $? 5
like "with a word about it" "$(last_line)" 'ended with status 5'
rm -f stop
(goes_on; sleep 0.2; kill -KILL $p) &
run restore -D img 2>err; is "and of a signal" $? 137
run restore -D img --exec-cmd -- sh -c 'echo $PPID >parent; ps -o ppid= -p '$p' >of; echo $$ >self' 2>err
sleep 0.2
is "--exec-cmd: the command is its parent" "$(tr -d ' ' <img/of)" "$(cat img/self)"
finish $p

# ---- scripts ----
begin loop
check "a dump with scripts" run dump -t $p -D img --action-script "$t/hook"
wait $p 2>/dev/null
like "called before" "$(head -n 1 moments)" "^pre-dump [^ ]+ $t/img$"
like "and after" "$(cat moments)" '^post-dump'
rm moments
check "a restore with scripts" run restore -d -D img --action-script "$t/hook"
is "in their order" "$(cut -d' ' -f1 moments | grep -E 'restore|resume' | tr '\n' ' ')" \
	"pre-restore post-restore pre-resume post-resume "
for a in pre-restore post-restore pre-resume post-resume; do
	like "$a was called" "$(cat moments)" "^$a "
done
like "with the pid of the init" "$(grep ^post-restore moments)" " $p "
finish $p
for a in pre-dump post-dump; do
	begin loop
	echo $a >fail
	run dump -t $p -D img --action-script "$t/hook" 2>err; is "a script that fails at $a fails the dump" $? 1
	like "by name" "$(last_line)" "$a: the action script $t/hook failed with status 1"
	check "the tree runs on" goes_on
	check "and there is no image" test ! -e img/inventory.img
	finish $p
done
begin loop
run dump -t $p -D img; wait $p 2>/dev/null
for a in pre-restore post-restore; do
	echo $a >fail
	run restore -d -D img --action-script "$t/hook" --pidfile pid 2>err
	is "a script that fails at $a fails the restore" $? 1
	check "nothing of it is left" gone $p
done
rm -f fail
check "and afterwards it works" run restore -d -D img
finish $p

# ---- refusals ----
cat >refused.py <<'EOF'
import os, time
fds = [os.open("/dev/kmsg", os.O_RDONLY) for _ in range(2)]
open("count", "w").write("1")
while True: time.sleep(0.1)
EOF
printf '#!/bin/sh\nexec python3 refused.py\n' >refused; chmod +x refused
begin refused
run dump -t $p -D img -o log 2>err; is "a refused dump: status 3" $? 3
like "what, where and why, last" "$(last_line)" "refused.*process $p.*fd"
is "all of it in the log" "$(grep -c ': refused: ' img/log)" 2
check "it runs on" lives $p
is "no image is left" "$(ls img)" log
run check --tree $p >out 2>err; is "check --tree says so without a dump" $? 3
is "a line for each" "$(wc -l <out)" 2
run check --tree $p --json >out 2>err
is "and as JSON" "$(jq length <out)" 2
finish $p
begin loop
check "check --tree of one that can be carried" run check --tree $p
finish $p

# ---- check ----
run check >out; is "check" $? 0
is "looks good" "$(tail -n 1 out)" 'Looks good.'
check "check --feature" run check --feature clone3_set_tid
run check --feature frobnicate 2>err; is "no such feature" $? 1
like "is said" "$(last_line)" "no feature 'frobnicate'"

run check --feature mem_dirty_track 2>/dev/null; r=$?
is "soft-dirty as the kernel's pagemap says" $((r == 0)) "$(python3 - <<'EOF'
import mmap, struct, ctypes
m = mmap.mmap(-1, 4096); m[0] = 1
a = ctypes.addressof(ctypes.c_char.from_buffer(m))
f = open("/proc/self/pagemap", "rb"); f.seek(a // 4096 * 8)
print(struct.unpack("Q", f.read(8))[0] >> 55 & 1)
EOF
)"
setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace "$G" check >out 2>err; is "a missing capability" $? 3
like "and what it costs" "$(grep CAP_SYS_PTRACE out)" 'no .*only processes of the same user'
is "cpuinfo" "$(mkdir -p c && run cpuinfo dump -D c && run cpuinfo check -D c && echo fits)" fits

# ---- page server ----
begin tree
mkdir -p pages; rm -f pages/*
n=$(members $p)
check "a page server" run page-server -D pages --address 127.0.0.1 --port 0 --daemon --pidfile ps.pid -o ps.log
port=$(ss -ltnpH "src 127.0.0.1" | sed -n "s/.*:\([0-9]*\) .*pid=$(cat pages/ps.pid),.*/\1/p")
check "listens" test -n "$port"
check "a dump to it" run dump -t $p -D img --page-server --address 127.0.0.1 --port "$port"
wait $p 2>/dev/null; sleep 0.2
is "no memory is here" "$(ls img | grep -c '^page')" 0
check "it is there" test -s pages/pages-1.img
check "the server has gone" gone "$(cat pages/ps.pid)"
mv img/*.img img/godwit.records pages/
check "a restore of both together" run restore -d -D pages
is "all of it" "$(members $p)" "$n"
check "goes on" goes_on
finish $p
begin loop
run dump -t $p -D img --page-server --address 127.0.0.1 --port 9 2>err; is "no page server there" $? 1
like "is the reason" "$(last_line)" 'connecting to the page server'
check "the tree runs on" goes_on
finish $p

# ---- dedup ----
mkdir -p old new; ln -sfn ../old new/parent
python3 - <<'EOF'
import sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
import pycriu
def image(d, runs):
    pages = sum(r["nr_pages"] for r in runs if "PE_PRESENT" in r["flags"])
    open(d + "/pages-1.img", "wb").write(b"x" * 4096 * pages)
    pycriu.images.dump({"magic": "PAGEMAP", "entries": [{"pages_id": 1}] + runs}, open(d + "/pagemap-5.img", "wb"))
run = lambda at, n, f="PE_PRESENT": {"vaddr": hex(at), "nr_pages": n, "flags": f}
image("old", [run(0x1000, 4), run(0x10000, 2)])
image("new", [run(0x2000, 2), run(0x4000, 1, "PE_PARENT"), run(0x11000, 1)])
EOF
check "dedup" run dedup -D new
is "makes holes of what the younger image has" "$(python3 - <<'EOF'
d = open("old/pages-1.img", "rb").read()
print("".join("x" if d[i] else "." for i in range(0, len(d), 4096)))
EOF
)" "x..xx."
truncate -s 100 old/pages-1.img
run dedup -D new 2>err; is "not in a file that is no pages file of it" $? 1

# ---- RPC ----
cat >rpc.py <<'EOF'
import os, socket, subprocess, sys, array
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from pycriu import rpc_pb2 as rpc
def swrk(exe):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    p = subprocess.Popen([exe, "swrk", str(b.fileno())], pass_fds=[b.fileno()])
    b.close()
    return a, p
def service(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    return s, None
def ask(s, q, moments=None, answer=True):
    s.send(q.SerializeToString())
    while True:
        r = rpc.criu_resp.FromString(s.recv(1 << 20))
        if r.type != rpc.NOTIFY: return r
        moments.append((r.notify.script, r.notify.pid))
        n = rpc.criu_req(type=rpc.NOTIFY, notify_success=answer)
        s.send(n.SerializeToString())
def dump(s, pid, folder, moments=None, answer=True, **more):
    q = rpc.criu_req(type=rpc.DUMP)
    q.opts.images_dir_fd = os.open(folder, os.O_DIRECTORY)
    q.opts.pid, q.opts.log_file, q.opts.log_level = pid, "rpc.log", 4
    q.opts.notify_scripts = moments is not None
    for k, v in more.items(): setattr(q.opts, k, v)
    return ask(s, q, moments, answer)
def restore(s, folder, moments=None, **more):
    q = rpc.criu_req(type=rpc.RESTORE)
    q.opts.images_dir_fd = os.open(folder, os.O_DIRECTORY)
    q.opts.log_file, q.opts.notify_scripts = "restore.log", moments is not None
    for k, v in more.items(): setattr(q.opts, k, v)
    return ask(s, q, moments)
EOF
py() { PYTHONPATH=$t /usr/bin/python3 -c "from rpc import *
$1"; }
begin loop
is "swrk: a dump" "$(py "
s, c = swrk('$G'); m = []
r = dump(s, $p, 'img', m)
print(r.success, r.dump.restored, [x[0] for x in m if x[0] in ('pre-dump', 'post-dump')], c.wait())")" \
	"True False ['pre-dump', 'post-dump'] 0"
wait $p 2>/dev/null
check "its log is in the images" test -s img/rpc.log
is "swrk: a restore, as our own child" "$(py "
s, c = swrk('$G'); m = []
r = restore(s, 'img', m, rst_sibling=True)
st = c.wait()
ppid = int(open('/proc/%d/stat' % r.restore.pid).read().rsplit(')', 1)[1].split()[1])
print(r.success, r.restore.pid, ('post-restore', $p) in m, ppid == os.getpid(), st)")" "True $p True True 0"
check "goes on" goes_on
rm -rf img; mkdir img
is "swrk: a peer that says no" "$(py "
s, c = swrk('$G'); m = []
r = dump(s, $p, 'img', m, False)
print(r.success, r.cr_errno, 'the peer said no' in r.cr_errmsg, c.wait(), len(m))")" "False 125 True 1 1"
check "the tree runs on" goes_on
is "swrk: a field that is not served" "$(py "
s, c = swrk('$G')
r = dump(s, $p, 'img', track_mem=True)
print(r.success, '--track-mem' in r.cr_errmsg)")" "False True"
is "swrk: runc's fields" "$(py "
s, c = swrk('$G'); m = []
r = dump(s, $p, 'img', m, leave_running=True, ext_unix_sk=False, tcp_established=False, shell_job=False,
	file_locks=False, auto_dedup=False, manage_cgroups=True, manage_cgroups_mode=rpc.IGNORE, empty_ns=0x40000000,
	freeze_cgroup='/', lazy_pages=False, orphan_pts_master=True, config_file='/etc/criu/runc.conf')
print(r.success, r.cr_errmsg)")" "True "
check "the tree runs on" goes_on
finish $p

# ---- service ----
begin loop
setsid "$G" service --address "$t/sock" --no-default-config -o "$t/service.log" 2>/dev/null & srv=$!
within "a service" 5 test -S sock
is "a dump for root" "$(py "
s, c = service('sock')
r = dump(s, $p, 'img', leave_running=True)
print(r.success, r.cr_errmsg)")" "True "
chmod 755 .; mkdir -p other; chmod 777 other
is "not of a process of somebody else's" "$(setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c "
import sys; sys.path.insert(0, '$t')
from rpc import *
s, c = service('sock')
r = dump(s, $p, 'other')
print(r.success, len(r.cr_errmsg) > 0)")" "False True"
check "which runs on" goes_on
is "its log is the peer's" "$(stat -c %u other/rpc.log)" 65534
is "not as a sibling" "$(py "
s, c = service('sock')
r = restore(s, 'img', rst_sibling=True)
print(r.success, 'rst_sibling' in r.cr_errmsg)")" "False True"
refuses "not twice at one address" 'somebody listens' "$G" service --address "$t/sock"
kill $srv; wait $srv
is "it ends when told to" $? 0
check "and takes its socket away" test ! -e sock
finish $p
