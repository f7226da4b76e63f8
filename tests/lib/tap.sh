# Sourced by the tests in tests/system: TAP, and two hosts that are gone when the test ends.
# The client runs on c; "gw ARGS" is the client there.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GODWIT_BUILD=${GODWIT_BUILD:-$here/build/release}
hosts=$here/scripts/hosts
tests=0; failures=0

ok() { tests=$((tests + 1)); echo "ok $tests - $1"; }
not_ok() {
	tests=$((tests + 1)); failures=$((failures + 1))
	echo "not ok $tests - $1"
	[ -n "${2:-}" ] && echo "$2" | sed 's/^/#   /'
	return 0
}
# check "what" COMMAND...: passes when the command does; its output is shown when it does not.
check() {
	local what=$1 out; shift
	if out=$("$@" 2>&1); then ok "$what"; else not_ok "$what" "$* gave $?: $out"; fi
}
# is "what" GOT WANTED
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', wanted '$3'"; fi; }
# like "what" TEXT PATTERN (of grep -E)
like() { if grep -qE -- "$3" <<<"$2"; then ok "$1"; else not_ok "$1" "nothing like '$3' in: $2"; fi; }
# refuses "what" PATTERN COMMAND...: has to fail, with one sentence (PATTERN) and no crash.
refuses() {
	local what=$1 pattern=$2 out rc; shift 2
	out=$("$@" 2>&1); rc=$?
	if [ $rc -eq 0 ]; then not_ok "$what" "it succeeded: $out"
	elif [ $rc -ge 124 ]; then not_ok "$what" "it ended with $rc: $out"
	elif ! grep -qiE -- "$pattern" <<<"$out"; then not_ok "$what" "nothing like '$pattern' in: $out"
	else ok "$what"; fi
}
# within "what" SECONDS COMMAND...: becomes true in time.
within() {
	local what=$1 end=$((SECONDS + $2)) out; shift 2
	while ! out=$("$@" 2>&1); do
		[ $SECONDS -ge $end ] && { not_ok "$what" "$* stayed false: $out"; return; }
		sleep 0.2
	done
	ok "$what"
}
bail() { echo "Bail out! $1"; not_ok "$1"; exit 1; }

gw() { "$hosts" godwit "$@"; }
on() { "$hosts" run "$@"; }
status_of() { # HOST NAME: "Running", "Stopped", "" when it is not there
	gw list "$1:" --format json | jq -r --arg n "$2" '.[] | select(.name == $n) | .status'
}
address_of() {
	gw list "$1:" --format json | jq -r --arg n "$2" \
		'.[] | select(.name == $n) | .state.network[]?.addresses[]? | select(.family == "inet" and .scope == "global") | .address' |
		head -n 1
}

hosts_up() {
	GODWIT_HOSTS=$(mktemp -d /var/tmp/godwit-test.XXXXXX) && export GODWIT_HOSTS
	trap tests_end EXIT
	"$hosts" --dir "$GODWIT_HOSTS" up "$@" >/dev/null || bail "the test hosts come up"
}
# The daemons' last words, where something failed; then everything goes.
tests_end() {
	if [ -d "${GODWIT_HOSTS:-/nonexistent}" ]; then
		if [ $failures -gt 0 ]; then
			for h in h1 h2; do
				[ -r "$GODWIT_HOSTS/$h/daemon.log" ] || continue
				echo "# the end of $h's log:"
				tail -n 25 "$GODWIT_HOSTS/$h/daemon.log" | sed 's/^/#   /'
			done
		fi
		if [ -n "${KEEP_HOSTS:-}" ]; then
			echo "# kept: $GODWIT_HOSTS"
		else
			"$hosts" down || not_ok "nothing of the hosts is left"
		fi
	fi
	echo "1..$tests"
	[ $failures -eq 0 ] || exit 1
}

# An image tarball made once for all tests: cached_image busybox | cached_image debian/12 PKG,PKG
cached_image() {
	local what=$1 include=${2:-} file
	file=$here/build/cache/$(tr '/,' '__' <<<"$what${include:+-$include}").tar.zst
	if [ ! -e "$file" ]; then
		mkdir -p "$here/build/cache"
		"$GODWIT_BUILD/src/cli/godwit" image build "$what" ${include:+--include "$include"} \
			--output "$file" >&2 || return 1
	fi
	echo "$file"
}
