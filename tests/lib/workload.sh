#!/bin/sh
# Runs in the demo's container: a counter in shell, a clock watcher and an HTTP server in Python.  All of
# /srv is served on port 8000; /counter and /clock are written by rename, so that a reader sees whole files.
mkdir -p /srv && cd /srv || exit 1
(
	i=0
	while :; do
		i=$((i + 1))
		echo $i >/srv/.counter && mv /srv/.counter /srv/counter
		sleep 0.05
	done
) &
exec python3 - <<'PY'
import http.server, json, os, threading, time

def watch():
    """The largest step forward and any step back of three clocks, as the container's own processes see them."""
    ids = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME, "realtime": time.CLOCK_REALTIME}
    last = {k: time.clock_gettime_ns(v) for k, v in ids.items()}
    seen = {k: {"back_ns": 0, "step_ns": 0} for k in ids}
    n = 0
    while True:
        for k, v in ids.items():
            now = time.clock_gettime_ns(v)
            d = now - last[k]
            last[k] = now
            seen[k]["back_ns"] = max(seen[k]["back_ns"], -d)
            seen[k]["step_ns"] = max(seen[k]["step_ns"], d)
        n += 1
        if n % 20 == 0:
            with open("/srv/.clock", "w") as f:
                json.dump(seen, f)
            os.rename("/srv/.clock", "/srv/clock")
        time.sleep(0.001)

class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a):
        pass

threading.Thread(target=watch, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
PY
