#!/bin/bash
# limit: 900
# The demo, shorter: Debian with sysvinit, unprivileged, redis, an HTTP server and a counter, clients on a
# third host; two moves.
. "$(dirname "$0")/../lib/tap.sh"
left() { find /sys/fs/cgroup -maxdepth 5 -type d -name 'gwt-godwitdemo*' 2>/dev/null; ls -d /var/tmp/godwit-demo.* 2>/dev/null; }
trap tests_end EXIT
before=$(left)
out=$("$here/scripts/demo" --moves 2 --mib 64 2>&1); rc=$?
sed 's/^/# /' <<<"$out"
is "the demo succeeds" "$rc" 0
like "its connections are the same before and after" "$out" 'connections +9 before, 9 of them after; 10 of 10'
like "no key is lost" "$out" 'keys +[0-9,]+ verified, 0 lost'
like "the clocks never ran backwards" "$out" 'clocks +never ran backwards'
is "nothing of it is left" "$(left)" "$before"
