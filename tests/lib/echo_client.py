"""echo_client - one TCP connection to an echo server in a container that moves.

  echo_client.py ADDRESS PORT STATUSFILE

Sends a numbered line every 20 ms and checks its echo; STATUSFILE (written by rename) holds the number of
the last echo, or "broken: why".  A connection that ends or answers wrongly is never opened again."""
import os
import socket
import sys
import time


def put(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


def main():
    address, port, status = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    try:
        s = socket.create_connection((address, port), timeout=10)
        s.settimeout(300)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        f = s.makefile("rb")
        n = 0
        while True:
            n += 1
            line = b"%d\n" % n
            s.sendall(line)
            got = f.readline()
            if got != line:
                raise OSError("sent %r, got %r" % (line, got))
            put(status, str(n))
            time.sleep(0.02)
    except OSError as e:
        put(status, "broken: %s" % e)


main()
