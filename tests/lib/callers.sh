# Sourced, behind tap.sh, by the tests of Debian's programs that call CRIU: our engine under that name on PATH, in
# process, mount and network namespaces of the test's own, with all that they keep in the folder $t.
#
#	[ "${1:-}" = inside ] || { . tests/lib/callers.sh; callers_outside NAME; }
#	. tests/lib/tap.sh; . tests/lib/callers.sh; callers_inside

# callers_outside NAME: runs this script anew, inside, and removes what it leaves: $t, and cgroups named after it.
callers_outside() {
	local rc
	# Its packages come from a network that there is none of inside.
	(. "$lib/tap.sh"; cached_image debian/12 redis-server,python3,cron) >/dev/null || exit 1
	CALLERS_NAME=gwt-$1-$$ t=$(mktemp -d "/var/tmp/gwt-$1.XXXXXX") || exit 1
	export CALLERS_NAME t
	unshare --pid --mount --net --fork --kill-child --mount-proc --propagation private "$0" inside
	rc=$?
	# A container that its caller has lost goes with the first process; its cgroups are the test's to tell of.
	find /sys/fs/cgroup -depth -type d -name "*$CALLERS_NAME*" -exec rmdir {} + 2>/dev/null
	rm -rf "$t"
	exit $rc
}

cgroups_left() { find /sys/fs/cgroup -type d -name "*$CALLERS_NAME*"; }

# Links and their folders in sysfs are those of this network, cgroups the machine's.
callers_inside() {
	trap callers_end EXIT
	mkdir -p "$t"/{bin,home,sys,tmp} && cd "$t" || bail "a folder"
	ln -s "$GODWIT_BUILD/src/engine/godwit-criu" bin/criu
	export PATH=$t/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=$t/home TMPDIR=$t/tmp
	unset XDG_RUNTIME_DIR
	for f in /proc/self/fd/*; do f=${f##*/}; [ "$f" -gt 2 ] && [ "$f" -lt 255 ] && eval "exec $f>&-"; done
	mount -t sysfs sysfs sys && mount --rbind /sys/fs/cgroup sys/fs/cgroup && mount --rbind sys /sys || bail "a /sys"
	# What these programs do to the devices and the run-time folders of their callers is done to these.
	mount -t tmpfs tmpfs /run && mkdir -p /run/lock /run/netns /run/user && mount --rbind /dev /dev || bail "a /run"
	mount --bind /run/netns /run/netns && mount --make-shared /run/netns # as ip-netns would
	ip link set lo up
	mounts_before=$(mounts_now)
}

mounts_now() { cut -d' ' -f5 /proc/self/mountinfo | sort; }
links_now() { ip -o link | wc -l; }
# All processes of the test but this shell, its helpers and what has ended.
others() { ps -eo pid=,stat=,args= | awk -v me="$0" '$2 !~ /Z/ && $1 != 1 && $0 !~ /ps -eo|awk / && !index($0, me) {print}'; }
nothing_left() { # says what is
	local m
	others; cgroups_left
	m=$(comm -13 <(echo "$mounts_before") <(mounts_now)); [ -z "$m" ] || echo "mounts: $m"
	nft list tables
}

callers_end() {
	[ $failures -gt 0 ] && for f in "$t"/*.log "$t"/*/*.log; do
		[ -s "$f" ] && echo "# the end of $f:" && tail -n "${TAIL:-12}" "$f" | sed 's/^/#   /'
	done
	tests_end
}

# run SECONDS COMMAND...: without our standard files, its words in $t/out.
run() {
	local s=$1; shift
	timeout -k 2 "$s" "$@" </dev/null >"$t/out" 2>&1
}
# passes "what" SECONDS COMMAND...
passes() {
	local what=$1; shift
	if run "$@"; then ok "$what"; else not_ok "$what" "$* gave $?: $(tail -n 5 "$t/out")"; fi
}
# fails "what" PATTERN SECONDS COMMAND...: with a word on its output or in the engine's log that PATTERN matches.
fails() {
	local what=$1 pattern=$2 rc; shift 2
	run "$@"; rc=$?
	if [ $rc = 0 ] || [ $rc = 124 ] || [ $rc -ge 126 ]; then not_ok "$what" "$* gave $rc: $(tail -n 5 "$t/out")"
	elif ! cat "$t/out" ${log:+"$log"} 2>/dev/null | grep -qE -- "$pattern"; then
		not_ok "$what" "nothing like '$pattern' in: $(cat "$t/out" ${log:+"$log"} | tail -n 5)"
	else ok "$what"; fi
}
number() { # FILE: its number, which somebody writes anew again and again
	local v
	for _ in $(seq 50); do v=$(cat "$1" 2>/dev/null); [ -n "$v" ] && break; sleep 0.02; done
	echo "${v:-0}"
}
grows() { # FILE
	local a; a=$(number "$1")
	for _ in $(seq 50); do [ "$(number "$1")" -gt "$a" ] && return; sleep 0.1; done
	return 1
}
gone() { # PID
	for _ in $(seq 100); do [ -d "/proc/$1" ] || return 0; sleep 0.05; done
	return 1
}
# What crit of Debian says, which is Python's.
crit() { /usr/bin/python3 /usr/bin/crit "$@"; }

# busybox_root DIR: a root folder with nothing but the static busybox.
busybox_root() {
	mkdir -p "$1"/{bin,proc,sys,dev,tmp,etc,run,root,mnt}
	cp /bin/busybox "$1/bin/" && chroot "$1" /bin/busybox --install -s /bin
	echo root:x:0:0:root:/root:/bin/sh >"$1/etc/passwd"
	cat >"$1/count" <<'X'
#!/bin/sh
# Counts into a file and to whoever listens; ends with 5 at a TERM.
trap 'echo ended; exit 5' TERM
i=0
while :; do i=$((i + 1)); echo $i >/tmp/count; echo "c$i"; sleep 0.1; done
X
	chmod +x "$1/count"
}
# debian_root DIR: Debian with sysvinit, redis, python3 and cron.
debian_root() {
	local tar
	tar=$(cached_image debian/12 redis-server,python3,cron) || bail "a Debian image"
	mkdir -p "$1" && tar --zstd -C "$1" --strip-components 1 -xf "$tar" rootfs || bail "a Debian root"
}
