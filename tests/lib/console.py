#!/usr/bin/python3
"""console.py SOCKET SHOWN TYPED: takes terminals' masters at a unix socket, as runc's --console-socket wants it.

What each of them shows goes to the file SHOWN, "hung up" when it does; what is written into the fifo TYPED is typed at the
last one."""
import array
import os
import select
import socket
import sys


def master_take(listener):
    c, _ = listener.accept()
    _, anc, _, _ = c.recvmsg(4096, socket.CMSG_LEN(4))
    fds = array.array("i")
    for level, kind, data in anc:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[:4])
    return fds[0]


def main():
    path, shown, typed = sys.argv[1:4]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(4)
    out = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    keys = os.open(typed, os.O_RDWR | os.O_NONBLOCK)
    masters = []
    while True:
        ready, _, _ = select.select([listener, keys] + masters, [], [])
        if listener in ready:
            masters.append(master_take(listener))
        if keys in ready and masters:
            os.write(masters[-1], os.read(keys, 4096))
        for m in [m for m in masters if m in ready]:
            try:
                os.write(out, os.read(m, 65536))
            except OSError:
                os.write(out, b"hung up\n")
                masters.remove(m)
                os.close(m)


main()
