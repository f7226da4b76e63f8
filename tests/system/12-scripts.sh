#!/bin/bash
# limit: 300
# What is in scripts/: help, wrong words, a clone whose path has a blank and that moves, and what is installed.
. "$(dirname "$0")/../lib/tap.sh"
trap tests_end EXIT
s=$here/scripts
t=$(mktemp -d /var/tmp/godwit-test.XXXXXX); trap 'rm -rf "$t"; tests_end' EXIT
export GODWIT_HOSTS=$t/none

# Nothing of this does anything: it would not be done in 5 s.
for x in build deps demo hosts check; do
	out=$(timeout 5 "$s/$x" --help 2>"$t/err"); rc=$?
	is "$x --help succeeds" "$rc $(cat "$t/err")" "0 "
	like "$x --help shows how it is called" "$out" "scripts/$x"
done
# wrong PATTERN SCRIPT ARG…: exit status 2 and a sentence, which is not bash's.
wrong() {
	local pattern=$1 x=$2 out rc; shift 2
	out=$(timeout 5 "$s/$x" "$@" 2>&1); rc=$?
	is "$x $*: the exit status" $rc 2
	like "$x $*: the sentence" "$out" "^$x: .*($pattern)"
	is "$x $*: no line of bash's own" "$(grep -c 'unbound\|line [0-9]' <<<"$out")" 0
}
wrong "no option '--frob'" build --frob
wrong "what is '--frob'" deps --frob
wrong "what is '--list more'" deps --list more
wrong "what is '--frob'" check --frob
wrong "no system test matches" check nosuchtest
wrong "what is '--frob'" demo --frob
wrong "takes a number" demo --moves
wrong "takes a number" demo --moves --keep
wrong "takes a number" demo --mib -3
wrong "is from 1 to 1000" demo --moves 0
wrong "there is no verb 'frob'" hosts frob
wrong "no option '--frob'" hosts --frob
wrong "takes a folder" hosts --dir
wrong "takes a folder" hosts up --dir
wrong "what is 'frob'" hosts up frob
wrong "which host is meant" hosts run
wrong "what is to be run" hosts run h1
wrong "no host 'h3'" hosts run h3 true
for v in shell cut mend slow power-off power-on daemon; do wrong "which host is meant" hosts $v; done
wrong "what is 'frob'" hosts down frob
out=$("$s/hosts" godwit list 2>&1); rc=$?
is "hosts without hosts" "$rc $out" "1 hosts: no hosts are up in $t/none: scripts/hosts up"
is "deps --list is the list" "$("$s/deps" --list | grep -cx -e gcc -e lxc -e make)" 3
is "nothing of it is missing here" "$("$s/deps" --missing)" ""

# A clone that lies elsewhere afterwards: build folders know whole paths.
mkdir "$t/a b"
tar -C "$here" --exclude=./build --exclude=./.git -cf - . | tar -xf - -C "$t/a b" || bail "a copy of the sources"
check "a build folder below a blank" timeout 100 "$t/a b/scripts/build" --setup-only
check "the client is built there" timeout 200 ninja -C "$t/a b/build/release" src/cli/godwit
mv "$t/a b" "$t/c'd"
like "moved, it is made anew" "$(timeout 100 "$t/c'd/scripts/build" --setup-only 2>&1)" "made for $t/a b: made anew"
is "of what lies there now" "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["directories"]["source"])' \
	"$t/c'd/build/release/meson-info/meson-info.json")" "$t/c'd"
is "and is left alone the next time" "$(timeout 100 "$t/c'd/scripts/build" --setup-only 2>&1)" ""
ln -s "$t/c'd" "$t/link"
is "also when it is come to by a link" "$(timeout 100 "$t/link/scripts/build" --setup-only 2>&1)" ""
rm -rf "$t/link" "$t/c'd"

# Installed.
check "make install DESTDIR" env DESTDIR="$t/i" meson install -C "$GODWIT_BUILD" --no-rebuild --quiet
is "the client is in the path" "$("$t/i/usr/bin/godwit" --version | cut -d' ' -f1)" godwit
unit=$t/i/usr/lib/systemd/system/godwitd.service
d=$(sed -n 's/^ExecStart=//p' "$unit")
like "the unit starts the daemon" "$d" godwitd
check "which is where the unit says" test -x "$t/i$d"
for p in godwit-criu godwit-wire godwit-pipe gw-init; do check "$p is beside it" test -x "$t/i$(dirname "$d")/$p"; done
if command -v systemd-analyze >/dev/null; then
	# It looks for the program at the place where it will be.
	is "systemd finds nothing wrong with the unit but that" \
		"$(systemd-analyze verify "$unit" 2>&1 | grep godwitd.service | grep -v 'is not executable\|No such file')" ""
fi
