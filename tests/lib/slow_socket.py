"""slow_socket LISTEN SERVER N SECONDS: passes connections on to a unix socket, the Nth websocket late.

So a client meets a server that is busy just then; the connections that it makes one after the other come to
the server in the same order, however it goes."""
import os
import socket
import sys
import threading
import time

listen, server, late, wait = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
lock = threading.Lock()
count = 0


def is_late(head):
    global count
    if b"/websocket" not in head:
        return False
    with lock:
        count += 1
        return count == late


def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(c):
    s = socket.socket(socket.AF_UNIX)
    s.connect(server)
    head = c.recv(65536)
    if is_late(head):
        time.sleep(wait)
    s.sendall(head)
    threading.Thread(target=copy, args=(s, c), daemon=True).start()
    copy(c, s)


l = socket.socket(socket.AF_UNIX)
l.bind(listen)
l.listen(50)
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
