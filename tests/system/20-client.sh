#!/bin/bash
# Two daemons and a client: trust, remotes, images, and input that is wrong.
. "$(dirname "$0")/../lib/tap.sh"
hosts_up
busybox=$(cached_image busybox) || bail "a busybox image"
curl1() { on h1 curl -s --unix-socket "$("$hosts" where h1)/unix.socket" "$@"; }
tls() { on c curl -sk "$@"; }
t=$GODWIT_HOSTS/t; mkdir "$t"

# What the daemons keep: nothing of it changes by what is refused.
kept() {
	for h in h1 h2; do
		on $h sh -c 'cd $GODWIT_DIR && sqlite3 godwit.db .dump | grep -v "INSERT INTO tokens" | md5sum &&
			ls -A tmp images pools/default/containers lxc run locks migrations 2>/dev/null'
	done
	cat "$GODWIT_HOSTS/c/conf/remotes.json"
}
# As refuses, and nothing changes.
refuses_all() {
	local before after; before=$(kept)
	refuses "$@"
	after=$(kept)
	[ "$before" = "$after" ] || not_ok "$1: it changes nothing" "$(diff <(echo "$before") <(echo "$after"))"
}

# init
like "init makes the pool, the network and the profile" "$(curl1 http://x/1.0/profiles/default)" 'gwbr0.*'
check "init again leaves everything as it is" on h1 godwit init --address 10.83.0.1:8443 --network gwbr0
like "the server says who it is" "$(gw info h1:)" 'Server: godwit'
is "the remotes are listed" "$(gw remote list --format csv | cut -d, -f1 | tr '\n' ' ')" "h1 h2 local "
is "a client was let in" "$(on h1 godwit config trust list --format json | jq -r '.[].name')" c

# trust
token=$(on h1 godwit config trust add --name twice --quiet)
check "a token is given" test -n "$token"
is "a token lets a new client in" "$(on c env GODWIT_CONF=$t/one godwit remote add h1 "$token" 2>&1)" ""
refuses_all "a token used twice does not" 'token|trust|valid' on c env GODWIT_CONF="$t/two" godwit remote add h1 "$token"
is "and the remote is not added" "$(on c env GODWIT_CONF=$t/two godwit remote list --format csv | cut -d, -f1)" local
check "a new client may look" on c env GODWIT_CONF="$t/one" godwit list h1:
fp=$(on h1 godwit config trust list --format json | jq -r '.[] | select(.name == "twice") | .fingerprint')
refuses "a certificate that is not there" "no client named 'nobody'" on h1 godwit config trust remove nobody
refuses "a start that is too short" 'no client named' on h1 godwit config trust remove "${fp:0:3}"
check "trust can be taken away" on h1 godwit config trust remove "$fp"
refuses_all "and is gone then" 'not trusted|not auth|certificate|forbidden' on c env GODWIT_CONF="$t/one" godwit list h1:
on h1 godwit config trust add --name by-start --quiet | xargs "$hosts" run c env GODWIT_CONF="$t/three" godwit remote add h1
fp=$(on h1 godwit config trust list --format json | jq -r '.[] | select(.name == "by-start") | .fingerprint')
check "also by how the fingerprint begins" on h1 godwit config trust remove "${fp:0:12}"
for i in four five; do
	on h1 godwit config trust add --name same --quiet | xargs "$hosts" run c env GODWIT_CONF="$t/$i" godwit remote add h1
done
refuses "a name that two have" 'more than one' on h1 godwit config trust remove same
fp=$(on h1 godwit config trust list --format json | jq -r '[.[] | select(.name == "same") | .fingerprint][0]')
check "one of them goes by its fingerprint" on h1 godwit config trust remove "${fp:0:16}"
check "the other by its name" on h1 godwit config trust remove same
is "the rest stays" "$(on h1 godwit config trust list --format csv | cut -d, -f1)" c
refuses_all "a token of another server is refused" 'certificate|not the one' \
	on c env GODWIT_CONF="$t/two" godwit remote add h2 "$(on h1 godwit config trust add --quiet)" --address 10.83.0.2:8443
cut=$(on h1 godwit config trust add --quiet)
refuses_all "a token whose end is missing" 'looks like a token, but a part of it is missing' \
	on c env GODWIT_CONF="$t/two" godwit remote add h1 "${cut:0:150}"
refuses "one whose beginning is missing" 'looks like a token' on c env GODWIT_CONF="$t/two" godwit remote add h1 "${cut:50}"
check "one that a mail program has broken up works" on c env GODWIT_CONF="$t/two" godwit remote add whole "${cut:0:60}
  ${cut:60}"
on c env GODWIT_CONF="$t/two" godwit remote remove whole
refuses_all "a made-up token is refused" 'looks like a token, but holds no secret' on c env GODWIT_CONF="$t/two" godwit remote add h1 eyJhIjoxfQ==
# forgotten, and taken up again: the host still trusts the client
check "a remote is forgotten" gw remote remove h1
refuses "and unknown then" "no remote 'h1'" gw list h1:
token=$(on h1 godwit config trust add --name again --quiet)
like "a new token makes it known again" "$(gw remote add h1 "$token" 2>&1; echo "rc $?")" 'trusts this client already.*|rc 0'
check "it is used as before" gw list h1:
is "the client is let in once" "$(on h1 godwit config trust list --format csv | grep -c "^c,")" 1
refuses_all "the token that was not needed lets nobody else in" 'token' on c env GODWIT_CONF="$t/nobody" godwit remote add h1 "$token"
check "also by a token that was used" sh -c "'$hosts' godwit remote remove h1 && '$hosts' godwit remote add h1 '$token'"
check "and by the address" sh -c "'$hosts' godwit remote remove h1 && '$hosts' godwit remote add h1 10.83.0.1:8443 --accept-certificate"
check "which is used too" gw list h1:
token=$(on h1 godwit config trust add --name six --quiet)
refuses_all "a remote's name that is taken" "already; .godwit remote remove h2. forgets it" gw remote add h2 "$token"
refuses_all "the name of this machine" "is this machine" gw remote add local "$token"
refuses_all "a name that is none" "cannot name a remote" gw remote add ../h1 "$token"
check "none of these has used up the token" on c env GODWIT_CONF="$t/six" godwit remote add h1 "$token"
on h1 godwit config trust remove six

# who does not answer
in_time() { local n=$SECONDS rc; timeout 30 "$@"; rc=$?; [ $((SECONDS - n)) -le 15 ] || rc=124; return $rc; }
refuses_all "nobody is at the address" 'cannot talk to https://10\.83\.0\.77:8443.*Is the host up' in_time "$hosts" godwit remote add h9 10.83.0.77
refuses_all "nobody listens at the port" 'cannot talk to .*:9: .*Is the host up' in_time "$hosts" godwit remote add h9 10.83.0.1:9
refuses_all "a name that nobody knows" 'resolve.*nosuch\.invalid' in_time "$hosts" godwit remote add h9 nosuch.invalid
on h1 python3 -c 'import socket, time
s = socket.socket(); s.bind(("0.0.0.0", 9001)); s.listen(); print("up", flush=True); time.sleep(60)' >"$t/mute" & mute=$!
within "somebody listens and says nothing" 10 grep -q up "$t/mute"
refuses_all "who is not waited for" 'cannot talk to .*:9001.*Is the host up' in_time "$hosts" godwit remote add h9 10.83.0.1:9001
kill $mute; wait $mute 2>/dev/null
token=$(on h2 godwit config trust add --quiet)
"$hosts" cut h2
refuses "a host whose cable is out" 'h2: cannot talk to .*Is the host up' in_time "$hosts" godwit list h2:
refuses_all "its token" 'cannot talk to .*Is the host up' in_time "$hosts" godwit remote add h9 "$token"
"$hosts" mend h2

# the local daemon
"$hosts" daemon h2 stop
refuses "a daemon that does not run" 'no godwitd runs on this machine .*systemctl start godwitd' on h2 godwit list
"$hosts" daemon h2 start; "$hosts" daemon h2 kill
check "one that was killed leaves its socket" on h2 test -S "$GODWIT_HOSTS/h2/state/unix.socket"
refuses "which nobody listens at" 'no godwitd runs on this machine .*systemctl start godwitd' on h2 godwit list
refuses "nor takes an image" 'no godwitd runs on this machine' on h2 godwit image import "$busybox"
refuses "a state folder that is not there" 'no godwitd runs on this machine .*/nosuch/unix.socket' on h2 env GODWIT_DIR=/nosuch godwit list
refuses "a remote one" 'h2: cannot talk to .*Is the host up' gw list h2:
"$hosts" daemon h2 start
refuses "who is not root" 'only root and the group .godwit. may talk .*sudo' \
	on h2 setpriv --reuid 65534 --regid 65534 --clear-groups env GODWIT_CONF=/nosuch godwit list

# what others on the machine may not read
modes() { on c sh -c 'cd $GODWIT_CONF && stat -c "%n %a" client.key remotes.json servercerts/h1.crt | tr "\n" " "'; }
is "the client's files are its own" "$(modes)" "client.key 600 remotes.json 600 servercerts/h1.crt 600 "
is "so is the server's key" "$(on h1 sh -c 'stat -c %a $GODWIT_DIR/server.key')" 600
is "with an umask that would show it too" "$(on c sh -c 'umask 0; GODWIT_CONF=/tmp/open; export GODWIT_CONF
	godwit remote add h1 10.83.0.1 --accept-certificate 2>/dev/null; stat -c %a /tmp/open /tmp/open/client.key | tr "\n" " "')" "700 600 "
like "an untrusted client learns next to nothing" "$(tls https://10.83.0.1:8443/1.0)" '"auth": *"untrusted"'
is "no configuration among it" "$(tls https://10.83.0.1:8443/1.0 | jq '.metadata | has("config") or has("environment")')" false
for p in instances images profiles networks storage-pools operations certificates events; do
	is "an untrusted client may not ask for $p" \
		"$(tls -o /dev/null -w '%{http_code}' "https://10.83.0.1:8443/1.0/$p")" 403
done

# bodies
before=$(kept)
like "a body that is not JSON is refused in a sentence" "$(curl1 -X POST -d '{"name":' http://x/1.0/instances)" '"error_code": *400.*'
like "an array is no object" "$(curl1 -X POST -d '[1,2]' http://x/1.0/instances)" '"error_code": *400'
like "twice the same key is refused" "$(curl1 -X POST -d '{"name":"a","name":"b"}' http://x/1.0/profiles)" '"error_code": *400'
for p in instances profiles networks storage-pools certificates images/aliases instances/c1/exec; do
	like "not JSON, to $p" "$(curl1 -X POST -H 'Content-Type: application/json' -d 'no JSON' http://x/1.0/$p)" '"error": *"[^"]+.*"error_code": *400|"error_code": *400.*"error": *"[^"]+'
done
is "nothing has changed by all these" "$(kept)" "$before"
is "an unknown path is not found" "$(curl1 -o /dev/null -w '%{http_code}' http://x/1.0/nothing)" 404
is "a method that is not there" "$(curl1 -o /dev/null -w '%{http_code}' -X DELETE http://x/1.0)" 405
is "the daemon is well after all this" "$(curl1 http://x/1.0 | jq -r .metadata.auth)" trusted

# names and remotes
refuses_all "an unknown remote" "no remote 'h9'" gw list h9:
refuses_all "an unknown container" 'no instance|not found' gw info h1:nothere
refuses_all "a move to an unknown remote" "no remote 'h9'" gw move h1:c1 h9:
refuses_all "an unknown image" "no image 'nothere'" gw launch h1:nothere h1:c1
refuses_all "a verb that is not there" "no verb 'frobnicate'" gw frobnicate
refuses_all "a name with a slash" "no name" gw start h1:../../etc
refuses_all "an unknown key" 'core.nonsense' gw config set h1: core.nonsense=1
is "usage errors end with 2" "$(gw move h1:c1 >/dev/null 2>&1; echo $?)" 2

# images
head -c 100000 /dev/urandom >"$t/noise"
refuses_all "an image that is not one" 'image|archive|tar' gw image import "$t/noise" h1:
python3 - "$t" <<'PY'
import io, sys, tarfile
def tar(name, entries):
    with tarfile.open(f"{sys.argv[1]}/{name}.tar", "w") as t:
        for path, kind, data in entries:
            i = tarfile.TarInfo(path)
            i.mode = 0o755
            if kind == "dir": i.type = tarfile.DIRTYPE
            elif kind == "link": i.type, i.linkname = tarfile.SYMTYPE, data
            elif kind == "hard": i.type, i.linkname = tarfile.LNKTYPE, data
            else: i.size = len(data)
            t.addfile(i, io.BytesIO(data) if kind == "file" else None)
meta = ("metadata.yaml", "file", b"architecture: x86_64\ncreation_date: 1\nproperties: {}\n")
tar("climb", [meta, ("rootfs", "dir", None), ("rootfs/../../../../climbed", "file", b"x")])
tar("abs", [meta, ("rootfs", "dir", None), ("/climbed", "file", b"x")])
tar("link", [meta, ("rootfs", "dir", None), ("rootfs/d", "link", "/"), ("rootfs/d/climbed", "file", b"x")])
tar("hard", [meta, ("rootfs", "dir", None), ("rootfs/h", "hard", "../../../../../../etc/passwd")])
tar("nometa", [("rootfs", "dir", None), ("rootfs/x", "file", b"x")])
PY
for x in climb abs hard nometa; do
	refuses_all "a tar: $x" 'leads out of it|has no metadata' gw image import "$t/$x.tar" h1: --alias $x
done
# A link on the way is followed inside of the root only.
check "a tar with a link to / on the way of a file" gw image import "$t/link.tar" h1: --alias link
check "can be unpacked" gw launch --no-start h1:link h1:bad-link
is "nothing has climbed out" "$(ls -d /climbed 2>/dev/null; on h1 sh -c 'ls -d /climbed $GODWIT_DIR/climbed' 2>/dev/null)" ""
check "it has stayed in the root" on h1 sh -c 'test -f $GODWIT_DIR/pools/default/containers/bad-link/rootfs/climbed'
gw delete -f h1:bad-link
is "and no container is left of it" "$(gw list h1: --format csv | cut -d, -f1)" ""
check "a right image is taken" gw image import "$busybox" h1: --alias busybox
is "and listed" "$(gw image list h1: --format json | jq -r '[.[].aliases[]?.name] | index("busybox") != null')" true
check "deleted" gw image delete h1:busybox
refuses "and gone" 'no image' gw launch h1:busybox h1:c1

# events
gw image import "$busybox" h1: --alias busybox >/dev/null
"$hosts" run c timeout 3 godwit monitor h1: >"$t/events" 2>/dev/null & m=$!
sleep 0.5
gw launch h1:busybox h1:c1 >/dev/null
wait $m
like "monitor shows what happens" "$(cat "$t/events")" 'instance-started'
gw delete -f h1:c1
