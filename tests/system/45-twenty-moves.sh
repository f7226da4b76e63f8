#!/bin/bash
# long
# limit: 3000
# 20 moves in a row of each kind of container.
MOVES=20 exec "$(dirname "$0")/40-move.sh"
