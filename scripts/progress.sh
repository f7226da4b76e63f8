# Sourced by the other scripts (sh and bash): long commands whose words go into a file.
#
# shown WORD LOG COMMAND…: runs it with its words into LOG, and says on stderr how far it is by the last line there: in
# place on a terminal, else a line every half minute. Its status is the command's.
# The command stays in the foreground, so that ^C reaches it; who watches ends with it, or with the script.
shown() {
	_word=$1 _log=$2
	shift 2
	: >"$_log"
	watch_log "$_word" "$_log" $$ &
	_watcher=$!
	"$@" >"$_log" 2>&1
	_rc=$?
	{ kill $_watcher; wait $_watcher; } 2>/dev/null
	[ -t 2 ] && printf '\r\033[K' >&2
	return $_rc
}

watch_log() {
	trap 'kill $_nap 2>/dev/null; exit 0' TERM
	_passed=0
	while kill -0 "$3" 2>/dev/null; do
		sleep 1 &
		_nap=$!
		wait $_nap
		_passed=$((_passed + 1))
		_line=$(tail -n 1 "$2" 2>/dev/null | tr -d '\000-\037\177' | cut -c1-70)
		if [ -t 2 ]; then
			printf '\r\033[K%s: %s' "$1" "$_line" >&2
		elif [ $((_passed % 30)) = 0 ]; then
			echo "$1: $_passed s; $_line" >&2
		fi
	done
}

# help_of FILE: the comment at a script's beginning, but for the line of the interpreter.
help_of() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"; }
