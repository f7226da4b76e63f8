#!/bin/bash
# limit: 240
# What is written while a container moves is there afterwards: files that are written again within a second, to the
# same length, and logs that are cut short while they are copied. The writers check themselves before each write.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
busybox=$(cached_image busybox) || bail "a busybox image"
gw image import "$busybox" h1: --alias busybox >/dev/null || bail "the image is imported"
gw launch h1:busybox h1:c1 >/dev/null || bail "launch"
gw exec -T h1:c1 -- sh -c 'cat > /same; chmod +x /same' <<'SH'
#!/bin/sh
# Twenty files, each in place and always of 8 bytes.
n=10000000
for f in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo $n > /same.$f; done
while :; do
	for f in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		read was < /same.$f
		[ "$was" = $n ] || echo "/same.$f has $was, not $n" >> /bad
	done
	n=$((n + 1))
	for f in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo $n 1<> /same.$f; done
done
SH
gw exec -T h1:c1 -- sh -c 'cat > /cut; chmod +x /cut' <<'SH'
#!/bin/sh
# A log of 30 MB that begins anew all the time.
while :; do dd if=/dev/zero of=/log bs=1M count=30 2>/dev/null; : > /log; done
SH
gw exec --detach h1:c1 -- /same
gw exec --detach h1:c1 -- /cut
sleep 1
from=h1; to=h2
for m in 1 2 3 4 5 6; do
	out=$(gw move $from:c1 $to: 2>&1); rc=$?
	is "move $m, while files are written and cut short" "$rc" 0 || echo "$out" | sed 's/^/#   /'
	[ $rc = 0 ] && { t=$from; from=$to; to=$t; }
	sleep 0.3
done
is "no write was lost" "$(gw exec -T $from:c1 -- sh -c 'cat /bad 2>/dev/null | head -n 5')" ""
like "the writer still writes" "$(gw exec -T $from:c1 -- sh -c 'cat /same.1; sleep 1; cat /same.1' | uniq | wc -l)" '^2$'
gw delete -f $from:c1
