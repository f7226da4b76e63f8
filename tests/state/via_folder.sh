#!/bin/sh
# Between the two engines of a move: the stream from stdin is written as a folder of images, which Debian's crit has
# to read and write back, and which is sent on to stdout.  via_folder.sh FOLDER_TOOL [KEEP_IN]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d /tmp/gw-via-XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$1" save "$dir"
[ -z "${2:-}" ] || cp -a "$dir/." "$2"
/usr/bin/python3 "$here/crit_check.py" "$dir" >&2
"$1" load "$dir"
