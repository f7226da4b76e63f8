#!/bin/bash
# Files that a tree has from outside, in checkpoints: terminals, pipes, files given by the caller; file locks, deleted
# files and links.  In process and mount namespaces of its own, so that pids are free again after a dump.
# limit: 400
if [ "${ENGINE_INSIDE:-}" != 1 ]; then
	exec env ENGINE_INSIDE=1 unshare --pid --mount --fork --kill-child --mount-proc --propagation private "$0" "$@"
fi
. "$(dirname "$0")/../lib/tap.sh"
G=$GODWIT_BUILD/src/engine/godwit-criu
lib=$here/tests/lib
t=$(mktemp -d /tmp/godwit-files.XXXXXX)
trap 'exec 2>/dev/null; rm -rf "$t"; exec 2>&1; tests_end' EXIT
cd "$t" || bail "a folder"
export HOME=$t
# What our caller left open is none of the trees'.
for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && [ "$fd" -lt 255 ] && eval "exec $fd>&-"; done

run() { timeout 30 "$G" "$@"; }
dump() { rm -rf img; mkdir img; run dump -t "$p" -D img -v4 -o log "$@" 2>err; }
restore() { run restore -d -D img -v4 -o log "$@" 2>err; }
last_line() { tail -n 1 err; }
lives() { [ -d "/proc/$1" ] && ! grep -q '^State:.*[ZX]' "/proc/$1/status"; }
gone() { ! lives "$1"; }
wait_file() { for _ in $(seq 200); do [ -s "$1" ] && return; sleep 0.05; done; false; }
number_of() { # FORMAT FIELD... of stat: os.stat of a path
	python3 -c 'import os, sys; s = os.stat(sys.argv[1]); print(sys.argv[2] % tuple(getattr(s, "st_" + x) for x in sys.argv[3:]))' "$@"
}
crit() { /usr/bin/crit "$@"; }

# ---- a process that holds files and answers ----
holder() { # CODE [DESCRIPTORS...]: $p is its pid
	local code=$1; shift
	rm -f pid ask answer
	setsid /usr/bin/python3 "$lib/holder.py" "$code" </dev/null >/dev/null 2>&1 &
	wait_file pid || bail "the holder starts"
	p=$(cat pid)
}
ask() {
	rm -f answer; printf '%s' "$1" >ask.new; mv ask.new ask
	wait_file answer && cat answer
}
finish() { kill -9 "$p" 2>/dev/null; wait "$p" 2>/dev/null; for _ in $(seq 50); do gone "$p" && break; sleep 0.05; done; }
refuses_dump() { # WHAT PATTERN OPTIONS: refused by name, the tree runs on and is asked
	local what=$1 pattern=$2; shift 2
	dump "$@"; is "$what" $? 3
	like "... by its name" "$(cat img/log)" "$pattern"
	is "... and it goes on" "$(ask '1 + 1')" 2
}

# ---- terminals ----
cat >job <<'X'
#!/bin/sh
# Reads its terminal by two names.
exec 3</dev/tty
trap 'echo INT' INT
trap 'echo CONT' CONT
echo $$ >pid
n=0
while :; do
	read -r l <&3 || continue
	n=$((n + 1)); echo "$n: $l"
	[ "$l" = size ] && stty size <&3
	[ "$l" = bye ] && exit 3
done
X
chmod +x job
terminal() { # NAME COMMAND...: on a terminal of its own
	local n=$1; shift
	rm -f "$n".out "$n".in "$n".st; mkfifo "$n.in"
	"$lib/on_pty.py" "$n.out" "$n.in" "$n.st" "$@" & eval "pty_$n=$!"
	wait_file "$n.out" || sleep 0.3
}
type_in() { printf '%b' "$2" >"$1.in"; }
shows() { within "$1" 10 grep -qE -- "$3" "$2.out"; }
pty_end() { local v="pty_$1"; kill "${!v}" 2>/dev/null; wait "${!v}" 2>/dev/null; }
tty_key() { number_of "/proc/$p/fd/$1" 'tty[%x:%x]' rdev dev; }

rm -f pid
terminal a bash --norc -i
type_in a './job\n'; wait_file pid; p=$(cat pid)
type_in a 'one\n'
shows "a job of a shell, on a terminal" a '^1: one'
dump; is "a dump without a word about it is refused" $? 3
like "for its session" "$(cat img/log)" 'process [0-9]+: session.*--shell-job'
like "for /dev/tty" "$(cat img/log)" 'fd 0: terminal: the other end of /dev/tty is outside'
like "and the terminal, with what can be done" "$(cat img/log)" \
	'fd 1: terminal: .*/dev/pts/[0-9]+ is outside.*--shell-job.*--external tty\['"$(tty_key 1 | sed 's/.*\[\(.*\)\]/\1/')"'\].*--inherit-fd'
type_in a 'two\n'
shows "it goes on" a '^2: two'
check "a dump as a shell's job" dump -j
type_in a 'stty -echo\n'
shows "its shell has seen it go" a 'Killed'
like "crit reads a terminal" "$(crit decode --pretty -i img/tty-info.img)" '"type": "PTY"'
like "and its files" "$(crit x img fds)" '1: TTY\.'
restore; is "not without the word" $? 1
like "which is said" "$(last_line)" 'shell-job'
setsid "$G" restore -d -j -D img -o log </dev/null >/dev/null 2>err
is "nor without a terminal" $? 1
like "which is said" "$(last_line)" 'none of its standard descriptors is a terminal'
terminal b bash --norc -i
type_in b "stty rows 17 cols 99; PS1='> '; '$G' restore -j -D img -o log\n"
within "a restore from the shell of another terminal" 10 test -d "/proc/$p"
type_in b 'three\n'
shows "what is typed there is read" b '^3: three'
is "by the same process, a group of its own" "$(ps -o pgid= -p "$p" | tr -d ' ')" "$p"
is "in the foreground there" "$(ps -o tpgid= -p "$p" | tr -d ' ')" "$p"
is "with all of its descriptors there" "$(readlink /proc/"$p"/fd/[12] | sort -u)" "/dev/pts/$(ps -o tty= -p "$p" | sed 's/pts.//')"
is "and /dev/tty as before" "$(readlink /proc/"$p"/fd/0 /proc/"$p"/fd/3 | sort -u)" /dev/tty
type_in b '\003'
shows "control-C reaches it" b 'INT'
type_in b 'size\n'
shows "the window is that of the new terminal" b '17 99'
type_in b '\032'
shows "control-Z stops it, and its shell notices" b 'Stopped'
within "it is stopped" 5 grep -q 'State:.T' "/proc/$p/status"
type_in b 'fg\n'
shows "the shell has it go on" b 'CONT'
type_in b 'four\n'
shows "in the foreground" b '^5: four'
type_in b '\032'; sleep 0.5; type_in b 'bg\n'
within "and in the background" 5 grep -qv 'State:.T' "/proc/$p/status"
sleep 0.3; type_in b 'fg\n'; sleep 0.5; type_in b 'bye\n'
shows "it ends" b 'ended with status 3'
type_in b 'echo status=$?\n'
shows "and its shell hears it" b 'status=3'
pty_end a; pty_end b

# ---- a terminal that has a name ----
rm -f pid
terminal a ./job
wait_file pid; p=$(cat pid); type_in a 'one\n'
shows "a program that leads the session of its terminal" a '^1: one'
key=$(tty_key 1)
check "a dump that names the terminal" dump --external "$key"
like "crit reads a terminal from outside" "$(crit decode --pretty -i img/tty-info.img)" '"type": "EXT_TTY"'
is "with the numbers that name it" \
	"$(crit decode -i img/tty-info.img | jq -r '.entries[0] | "\(.rdev) \(.dev)"' | xargs printf 'tty[%x:%x]')" "$key"
within "it is gone" 5 gone "$p"
pty_end a
restore; is "a restore needs it" $? 1
like "and says how" "$(last_line)" "has to be given .--inherit-fd fd.N.:${key//[\[\]]/.}"
restore --inherit-fd "fd[0]:$key" </dev/null; is "a terminal, and nothing else" $? 1
like "says so" "$(last_line)" 'is no terminal'
ON_PTY_NOCTTY=1 terminal b sh -c "'$G' restore -d -D img -o log --inherit-fd 'fd[1]:$key'; sleep 1000"
type_in b 'two\n'
shows "given another it goes on" b '^2: two'
type_in b '\003'
shows "as the leader of that one's session" b 'INT'
finish; pty_end b

# ---- two terminals ----
cat >two <<'X'
import os, pty
m, s = os.openpty()
pid = os.fork()
if pid == 0:
    os.close(m)
    os.setsid()
    for fd in range(3):
        os.dup2(s, fd)
    os.execv("/usr/bin/python3", ["python3", os.environ["HOLDER"], "t = os.open('/dev/pts/%s', os.O_RDWR | os.O_NOCTTY)" % os.environ["OTHER"]])
os.close(s)
while True:
    os.read(m, 100)
X
rm -f pid
terminal a sh -c 'tty >name; sleep 1000'
wait_file name
HOLDER="$lib"/holder.py OTHER=$(sed 's/.*pts.//' name) python3 two & two=$!
wait_file pid; p=$(cat pid)
refuses_dump "of two terminals --shell-job explains one" 'a second terminal whose other end is outside.*--external tty' -j
other=$(number_of "/proc/$p/fd/3" 'tty[%x:%x]' rdev dev)
check "and a name the other" dump -j --external "$other" -R
is "one of each in the image" "$(crit decode -i img/tty-info.img | jq -r '.entries[].type' | sort | tr '\n' ' ')" "EXT_TTY PTY "
finish; kill $two; pty_end a

# ---- pairs of the tree's own, in the mount namespace of the host ----
holder 'import pty; m, s = os.openpty(); os.write(s, b"out")'
check "a terminal of which the tree has both ends" dump
check "comes back" restore
is "with its bytes" "$(ask 'os.read(m, 10)')" "b'out'"
is "and both ends" "$(ask '(os.write(m, b"in\n"), os.read(s, 10))')" "(3, b'in\\n')"
finish

# ---- an orphan: a container's terminal whose master is outside ----
mkdir -p root/bin root/dev/pts root/proc root/old root/tmp
cp "$(command -v busybox)" root/bin/busybox
for a in sh sleep cat stty; do ln -s busybox root/bin/$a; done
cat >root/job <<'X'
#!/bin/sh
n=0
while read -r l; do n=$((n + 1)); echo "$n: $l"; while [ ! -e go ]; do sleep 0.05; done; done
X
chmod +x root/job
cat >container <<'X'
# A container with a terminal as runc makes it: its devpts, a console bound to the slave; the master goes out.
import array, ctypes, fcntl, os, signal, socket, struct, sys, termios
libc = ctypes.CDLL(None, use_errno=True)
def ok(r, what):
    if r != 0:
        raise OSError(ctypes.get_errno(), what)
def mount(src, dst, kind, flags, data=None):
    ok(libc.mount(src.encode(), dst.encode(), kind.encode() if kind else None, flags, data.encode() if data else None), dst)
root = os.path.abspath("root")
ours, theirs = socket.socketpair()
ok(libc.unshare(0x20000 | 0x20000000 | 0x4000000), "unshare")
pid = os.fork()
if pid == 0:
    mount("none", "/", None, 0x40000 | 0x4000)
    mount(root, root, None, 4096)
    os.chdir(root)
    mount("proc", "proc", "proc", 0)
    mount("tmpfs", "dev", "tmpfs", 0, "mode=755")
    os.mkdir("dev/pts")
    mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620")
    os.symlink("pts/ptmx", "dev/ptmx")
    os.mknod("dev/null", 0o20666, os.makedev(1, 3))
    os.close(os.open("dev/console", os.O_CREAT))
    ok(libc.syscall(155, b".", b"."), "pivot_root")
    ok(libc.umount2(b".", 2), "umount")
    os.chdir("/")
    m = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(m, termios.TIOCSPTLCK if hasattr(termios, "TIOCSPTLCK") else 0x40045431, struct.pack("i", 0))
    mount("/dev/pts/0", "/dev/console", None, 4096)
    socket.send_fds(theirs, [b"m"], [m])
    os.setsid()
    s = os.open("/dev/pts/0", os.O_RDWR)
    for fd in range(3):
        os.dup2(s, fd)
    os.closerange(3, 4096)
    os.execv("/bin/sh", ["sh", "/job"])
theirs.close()
_, fds, _, _ = socket.recv_fds(ours, 10, 1)
with open("init.new", "w") as f:
    f.write("%d\n" % pid)
os.rename("init.new", "init")
with open("old", "wb", 0) as out:
    os.write(fds[0], b"one\n")
    while True:
        try:
            d = os.read(fds[0], 1000)
        except OSError:
            break
        out.write(d)
        if b"1: one" in d:
            os.write(fds[0], b"ahead\nunfin")
X
# A caller like runc: RPC over a socket, and a descriptor with one of the answers.
cat >caller.py <<'X'
import os, select, socket, sys
from pycriu import rpc
prog, kind, what = sys.argv[1:4]
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if os.fork() == 0:
    os.dup2(b.fileno(), 9)
    os.execv(prog, [prog, "swrk", "9"])
b.close()
q = rpc.criu_req()
o = q.opts
o.images_dir_fd = os.open("img", os.O_RDONLY)
o.log_file, o.log_level, o.orphan_pts_master = "log", 4, "refuse" not in sys.argv
q.type = rpc.DUMP if kind == "dump" else rpc.RESTORE
if kind == "dump":
    o.pid = int(what)
else:
    o.root = what
    o.notify_scripts = True
master = None
for x in sys.argv[4:]:
    if x == "external-mounts":
        o.external.append("mnt[]:")
    elif x == "leave-running":
        o.leave_running = True
    elif x.startswith("fd="):
        n, key = x[3:].split(":", 1)
        i = o.inherit_fd.add()
        i.fd, i.key = int(n), key
while True:
    a.send(q.SerializeToString())
    data, fds, _, _ = socket.recv_fds(a, 65536, 1)
    r = rpc.criu_resp()
    r.ParseFromString(data)
    if fds:
        master = fds[0]
        print("master at", r.notify.script)
    if r.type != rpc.NOTIFY:
        break
    q = rpc.criu_req(type=rpc.NOTIFY, notify_success=True)
print("success", r.success, r.cr_errmsg)
sys.stdout.flush()
if master is not None and r.success:
    for line in sys.stdin:
        os.write(master, line.encode())
    while select.select([master], [], [], 2)[0]:
        sys.stdout.write(os.read(master, 1000).decode().replace("\r", ""))
sys.exit(not r.success)
X
python3 container & c=$!
wait_file init; p=$(cat init)
within "a container with a terminal that somebody outside holds" 5 grep -q '1: one' old
sleep 0.3 # what is typed then
rm -rf img; mkdir img
check "a dump that it survives" timeout 30 /usr/bin/python3 caller.py "$G" dump "$p" leave-running
rm -rf img; mkdir img
check "a dump takes it as its own" timeout 30 /usr/bin/python3 caller.py "$G" dump "$p"
wait $c
within "and it is gone" 5 gone "$p"
like "a pair, with its number" "$(crit decode --pretty -i img/tty-info.img)" '"index": 0'
mount --bind root root
run restore -d -D img -r "$t/root" -o log 2>err; is "nobody there to take the other end: no restore" $? 1
like "which is said" "$(cat img/log)" 'other end'
touch root/go
out=$(echo ished | timeout 30 /usr/bin/python3 caller.py "$G" restore "$t/root")
is "the peer is given the other end" "$(head -n 1 <<<"$out")" "master at orphan-pts-master"
like "of the terminal, with what was typed before" "$out" '^2: ahead'
is "which is not echoed once more" "$(grep -c 'ahead' <<<"$out")" 1
like "and the line that was not complete" "$out" '^3: unfinished'
umount root
within "hung up, it ends" 5 test -z "$(pgrep -f '^sh /job')"

# ---- pipes ----
cat >reader <<'X'
#!/bin/sh
echo $$ >pid
while read -r l; do n=$((n + 1)); echo "$n: $l"; [ -e pause ] && while [ -e pause ]; do sleep 0.05; done; done
echo end
X
chmod +x reader
# What is given at the restore, and what comes out of it.
cat >given.py <<'X'
import os, subprocess, sys
prog, i, o = sys.argv[1:4]
r, w = os.pipe()
r2, w2 = os.pipe()
x = subprocess.run([prog, "restore", "-d", "-D", "img", "-o", "log", "--inherit-fd", "fd[%d]:%s" % (r, i), "--inherit-fd",
                    "fd[%d]:%s" % (w2, o)], pass_fds=(r, w2))
os.close(r)
os.close(w2)
os.unlink("pause")
os.write(w, b"new\n")
os.close(w)
print("restore", x.returncode)
while True:
    d = os.read(r2, 100)
    if not d:
        break
    print(d.decode(), end="")
X
pipes() { # a reader between two pipes whose other ends are ours (6, 7), two lines unread
	rm -f pid pause; touch pause
	mkfifo in out; exec 6<>in 7<>out; rm in out
	{ setsid ./reader 6>&- 7>&- | cat >&7; } < <(exec cat <&6) 2>/dev/null &
	wait_file pid; p=$(cat pid)
	printf 'one\nold 1\nold 2\n' >&6; sleep 0.5
	exec 6>&- 7>&-
	in=$(readlink "/proc/$p/fd/0"); out=$(readlink "/proc/$p/fd/1")
}
pipes
dump; is "a pipe whose other end is outside is refused" $? 3
like "both, by name" "$(cat img/log)" "fd 0: pipe: somebody outside of the tree writes into ${in//[\[\]]/.}.*--external"
like "and by direction" "$(cat img/log)" "fd 1: pipe: somebody outside of the tree reads from ${out//[\[\]]/.}.*--external"
check "named they are taken" dump --external "${in/:/}" --external "${out/:/}"
like "crit shows them by their inodes" "$(crit x img fds)" "${in/:\[/\\[}"
like "with what was not read" "$(crit decode -i img/pipes-data.img | jq -r '.entries[].extra' | base64 -d)" 'old 2'
restore; is "a restore needs them" $? 1
like "says so" "$(last_line)" 'has to be given .--inherit-fd fd.N.:pipe'
is "given two others it goes on between them, with the old first" "$(timeout 20 python3 given.py "$G" "$in" "${out/:/}" | tr '\n' ' ')" \
	"restore 0 2: old 1 3: old 2 4: new end "
pipes
rm -rf img; mkdir img
check "peers name no pipes at a dump" timeout 30 /usr/bin/python3 caller.py "$G" dump "$p"
is "but at the restore" "$(timeout 20 python3 given.py "$G" "$in" "$out" | tr '\n' ' ')" \
	"restore 0 2: old 1 3: old 2 4: new end "

# ---- fifos ----
mkfifo fifo
holder 'r = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)'
check "a fifo that nobody writes into" dump -R
exec 6>fifo
refuses_dump "a fifo that somebody outside writes into" "fd 3: fifo: somebody outside of the tree writes into .*--external file"
key=$(python3 -c 'import os,sys; i=open("/proc/%s/fdinfo/3" % sys.argv[1]).read(); print("file[%x:%x]" % (int(i.split("mnt_id:")[1].split()[0]), os.stat("fifo").st_ino))' "$p")
echo waits >&6
check "named it is taken" dump --external "$key"
check "and opened by its path" restore
is "with its bytes, once" "$(ask 'os.read(r, 100)')" "b'waits\\n'"
echo more >&6
is "and the same writer" "$(ask 'os.read(r, 100)')" "b'more\\n'"
exec 6>&-
finish

# ---- files ----
echo outside >elsewhere; echo other content >other
holder 'f = os.open("elsewhere", os.O_RDWR); os.lseek(f, 3, 0)'
mnt=$(awk '/^mnt_id/ {printf "%x", $2}' "/proc/$p/fdinfo/3"); key="file[$mnt:$(number_of elsewhere %x ino)]"
check "a file with a name from the caller" dump --external "$key"
like "crit shows the name" "$(crit x img fds)" "3: /${key//[\[\]]/.}"
restore; is "a restore needs it" $? 1
like "says so" "$(last_line)" "has to be given"
restore --inherit-fd "fd[8]:$key" 8<other; is "for reading only, where it wrote" $? 0
is "it is given the file, as it is" "$(ask 'os.read(f, 5)')" "b'other'"
is "opened again where the access was another" "$(ask 'os.write(f, b"!")')" 1
finish
holder 'f = os.open("elsewhere", os.O_RDONLY); os.lseek(f, 3, 0)'
check "a file by its path" dump
exec 8<other; read -r -N 6 <&8
check "another in its place" restore --inherit-fd "fd[8]:${t#/}/elsewhere"
is "from where it is" "$(ask 'os.read(f, 7)')" "b'content'"
exec 8<&-
finish
mkdir covered; echo below >covered/file
holder 'f = os.open("covered/file", os.O_RDONLY)'
mount -t tmpfs none covered
refuses_dump "a file that no path leads to" 'fd 3: file: .*/covered/file does not lead .*--external file\['
umount covered; finish

# ---- locks ----
cat >lock.py <<'X'
import fcntl, os, struct, sys, time
kind, path = sys.argv[1:3]
f = os.open(path, os.O_RDWR)
lk = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 10, 10, 0)
def take(wait):
    if kind == "posix":
        fcntl.lockf(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 10, 10)
    elif kind == "flock":
        fcntl.flock(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    else:
        fcntl.fcntl(f, 38 if wait else 37, lk)
try:
    take("wait" in sys.argv)
    print("taken", flush=True)
    if "hold" in sys.argv:
        time.sleep(1000)
except OSError:
    print("busy")
X
code='f = os.open("locked", os.O_RDWR)
fcntl.lockf(f, fcntl.LOCK_EX, 10, 10)
g = os.open("flocked", os.O_RDWR); fcntl.flock(g, fcntl.LOCK_EX)
h = os.open("ofd", os.O_RDWR); fcntl.fcntl(h, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 10, 10, 0))'
touch locked flocked ofd foreign
python3 lock.py posix foreign hold >/dev/null & foreign=$!
holder "$code"
refuses_dump "locks are refused" 'fd 3: file lock: .*/locked: process [0-9]+ has a POSIX lock on it; --file-locks'
like "... of all kinds" "$(cat img/log)" 'flocked: process [0-9]+ has a flock lock'
like "... of all kinds" "$(cat img/log)" 'ofd: process [0-9]+ has a OFD lock'
check "with the word they are taken" dump -l
is "those of the tree alone" "$(crit decode -i img/filelocks.img | jq '.entries | length')" 3
is "and gone with it" "$(python3 lock.py posix locked; python3 lock.py flock flocked; python3 lock.py ofd ofd)" "taken
taken
taken"
restore; is "a restore needs the word, too" $? 1
like "says so" "$(last_line)" 'file locks.*--file-locks'
check "a restore with locks" restore -l
is "which are there" "$(python3 lock.py posix locked; python3 lock.py flock flocked; python3 lock.py ofd ofd)" "busy
busy
busy"
for k in posix:locked flock:flocked ofd:ofd; do
	python3 lock.py ${k%:*} ${k#*:} wait >waited & w=$!
	within "somebody waits for the ${k%:*} lock" 5 grep -qE -- '-> ' /proc/locks
	refuses_dump "... and would have it: refused" "file lock: .*/${k#*:}: (process $w|somebody) outside of the tree waits" -l
	check "... not where the tree stays" dump -l -R
	kill $w; wait $w 2>/dev/null
done
finish
# The tree waits for somebody else's.
holder 'f = os.open("foreign", os.O_RDWR)'
printf '%s' 'fcntl.lockf(f, fcntl.LOCK_EX, 10, 10)' >ask.new; rm -f answer; mv ask.new ask
within "the tree waits for a lock of somebody outside" 5 grep -qE -- "-> POSIX.* $p " /proc/locks
check "a dump" dump -l
check "a restore" restore -l
within "it waits again" 5 grep -qE -- "-> POSIX.* $p " /proc/locks
kill $foreign; wait $foreign 2>/dev/null
within "and has it when it is free" 10 grep -q None answer
finish

# ---- deleted files ----
holder 'f = os.open("big", os.O_RDWR | os.O_CREAT); os.write(f, b"x" * (1 << 20)); os.unlink("big")
g = os.open("small", os.O_RDWR | os.O_CREAT); os.write(g, b"small"); os.unlink("small")'
check "a MiB without a name travels" dump -R
ask 'os.write(f, b"y" * 5000)' >/dev/null
refuses_dump "more does not" 'fd 3: deleted file: .*big .deleted.* more than the limit of 1024 KiB .--ghost-limit'
refuses_dump "nor with a limit that is too low" 'limit of 1024 KiB' --ghost-limit 1M
check "but with one that is high enough" dump --ghost-limit 2M
check "comes back" restore
is "whole" "$(ask 'os.pread(f, 4, (1 << 20) - 2) + b" " + os.pread(g, 10, 0)')" "b'xxyy small'"
finish

# ---- files whose other names nobody knows ----
code='f = os.open("own", os.O_RDWR | os.O_CREAT); os.write(f, b"content"); os.link("own", "away/hidden"); os.unlink("own")
g = os.open("/proc/self/fd/%d" % f, os.O_RDONLY)'
links() { find . -name 'link_remap.*' | wc -l; }
mkdir away
holder "$code"
refuses_dump "a file whose own name is gone" 'fd 3: deleted file: .*own .deleted.: this name is gone, but the file has 1 others.*--link-remap'
is "... leaves nothing" "$(links)" 0
check "a dump with a link" dump --link-remap -R
is "that goes when the tree runs on" "$(links)" 0
printf '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-dump ]\n' >fails; chmod +x fails
dump --link-remap --action-script "$t/fails"; is "a dump that fails after it was made" $? 1
is "it is gone" "$(links)" 0
is "and the tree runs" "$(ask '1 + 1')" 2
check "a dump that ends the tree" dump --link-remap
is "one link for both" "$(links)" 1
like "crit reads it" "$(crit decode -i img/remap-fpath.img)" '"LINKED".*"LINKED"'
like "as a file" "$(crit decode -i img/files.img)" "$t/link_remap.[0-9]+"
printf '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n' >fails
restore --action-script "$t/fails"; is "a restore that fails" $? 1
is "leaves it for the next" "$(links)" 1
check "a restore" restore
is "takes it away" "$(links)" 0
is "it is the same file" "$(ask 'os.pwrite(f, b"C", 0), os.pread(g, 10, 0)')" "(1, b'Content')"
is "still" "$(cat away/hidden)" Content
check "and dumped again" dump --link-remap
check "restored again" restore
is "it has no link" "$(links)" 0
finish
