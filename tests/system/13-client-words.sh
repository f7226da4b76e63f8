#!/bin/bash
# The client by itself: help, words it does not know, exit statuses (0, 1 what failed, 2 wrong use), output.
. "$(dirname "$0")/../lib/tap.sh"
t=$(mktemp -d /var/tmp/godwit-test.XXXXXX); trap 'rm -rf "$t"; tests_end' EXIT
export GODWIT_CONF=$t/conf GODWIT_DIR=$t/none HOME=$t
godwit() { timeout 5 "$GODWIT_BUILD/src/cli/godwit" "$@"; }
# says WHAT STATUS PATTERN ARG…
says() {
	local what=$1 status=$2 pattern=$3 out rc; shift 3
	out=$(godwit "$@" 2>&1 </dev/null); rc=$?
	is "$what: the exit status" $rc "$status"
	like "$what" "$out" "$pattern"
}

godwit help >"$t/verbs"; is "help succeeds" $? 0
is "--help and -h are the same" "$(godwit --help | cmp - "$t/verbs" && godwit -h | cmp - "$t/verbs" && echo same)" same
godwit >"$t/out" 2>"$t/err"; is "no verb at all is wrong use" "$? $(cat "$t/out")" "2 "
is "and shows them" "$(cat "$t/err")" "$(cat "$t/verbs")"
mapfile -t verbs < <(sed -n 's/^  \([a-z ]*[a-z]\)   *[^ ].*/\1/p' "$t/verbs")
check "the verbs are found (${#verbs[@]})" test ${#verbs[@]} -ge 25
for v in "${verbs[@]}"; do
	out=$(godwit $v --help 2>"$t/err"); rc=$?
	is "$v --help" "$rc $(cat "$t/err")|$(head -n 1 <<<"$out" | grep -c "^usage: godwit $v ")" "0 |1"
	is "help $v: the same" "$(godwit help $v)" "$out"
	is "$v -h: the same" "$(godwit $v -h)" "$out"
	says "$v --frob" 2 "^Error: unrecognized option '--frob'" $v --frob
done
for g in image remote config 'config trust'; do
	is "help $g shows its verbs" "$(godwit help $g | cut -d' ' -f1-4 | sort -u | wc -l)" 1
	says "$g alone" 2 "godwit $g [a-z]+" $g
	says "$g --help" 0 "godwit $g [a-z]+" $g --help
	says "$g frob" 2 "^Error: there is no verb '$g frob'; .godwit help $g. shows" $g frob
done
says "help of nothing" 2 "^Error: there is no verb 'frob'; .godwit help. shows" help frob
says "an unknown verb" 2 "^Error: there is no verb 'frob'" frob
says "an unknown option" 2 "^Error: there is no option '--frob'" --frob
says "the version" 0 '^godwit [0-9.]+$' --version
says "too little" 2 'Error: something is missing' start
says "too much" 2 'Error: that is too much' remote list more
says "an option without its value" 2 "Error: option '--format' requires an argument" list --format
says "a format that is not there" 1 "Error: there is no format 'xml': table, csv or json" list --format xml
says "a host in the place of a container" 1 "'local:' names a host" start local:
says "a remote that nobody knows" 1 "there is no remote 'nosuch'; .godwit remote list. shows those there are, .godwit remote add nosuch TOKEN. adds it" list nosuch:
says "no daemon" 1 '^Error: no godwitd runs on this machine' list
is "help looks at nothing" "$(ls "$t")" "$(printf 'err\nout\nverbs')"
is "what cannot be written is a failure" "$(godwit remote list 2>&1 >/dev/full; echo $?)" $'Error: cannot write the output\n1'

# Formats, and no escape sequence where no terminal is.
is "a table" "$(godwit remote list | tr -s ' ')" "NAME ADDRESS DEFAULT
local unix:$t/none/unix.socket yes"
is "csv" "$(godwit remote list --format csv)" "local,unix:$t/none/unix.socket,yes"
is "json" "$(godwit remote list --format json | jq -c .)" "[{\"address\":\"unix:$t/none/unix.socket\",\"default\":\"yes\",\"name\":\"local\"}]"
godwit image build busybox --output "$t/image.tar.zst" >"$t/out" 2>&1; is "an image is built without a daemon" $? 0
check "it is there" test -s "$t/image.tar.zst"
is "no terminal, no escape sequences" "$(grep -c $'\e\|\r' "$t/out")" 0

# An image whose builder fails: its reason is told, not that no tar has come; and no file is left.
mkdir "$t/bin"
fake() { printf '#!/bin/sh\n%s\n' "$1" >"$t/bin/mmdebstrap"; chmod 755 "$t/bin/mmdebstrap"; }
fails() { # WHAT PATTERN
	local out rc
	out=$(PATH="$t/bin:$PATH" godwit image build debian/12 --output "$t/d.tar.zst" 2>&1); rc=$?
	is "$1: the exit status" $rc 1
	like "$1" "$(tail -n 3 <<<"$out" | tr '\n' ' ')" "$2"
	is "$1: nothing is left" "$(ls "$t" | grep -c '^d\.tar')" 0
}
fake 'echo "E: unable to pick chroot mode" >&2; exit 25'
fails "mmdebstrap refuses" 'Error: mmdebstrap failed: +E: unable to pick chroot mode'
fake 'head -c 700 /dev/zero; echo "E: no room" >&2; exit 25'
fails "it dies in the middle" 'Error: mmdebstrap failed: +E: no room'
fake 'head -c 100000 /dev/urandom; exit 0'
fails "what it writes is no tar" 'tar'
