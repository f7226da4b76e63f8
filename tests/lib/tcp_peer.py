#!/usr/bin/python3
"""Ends of connections for tests of the engine.

  serve ADDR PORT [wait]   echoes what comes on every connection; with "wait" it accepts only after a SIGUSR1
  flight ADDR PORT         accepts one connection and sends it to itself, so that nobody holds it; takes it out and echoes
                           after a SIGUSR1
  self ADDR PORT           has both ends of a connection, with data in both directions and one of them closed, and of one
                           that its far end has ended; reads it all after a SIGUSR1 and says "whole"
  talk ADDR PORT           sends numbered words, and checks that the same come back, until a SIGTERM; then the last
                           ones, the end of the stream, and "ok WORDS" or what went wrong as its last line
  close ADDR PORT          connects, and says how the connection ends: "end", "reset", "quiet" (10 s)
  watch IFACE PORT         counts packets with FIN and with RST to and from that port until a SIGTERM: "fin N rst N"
A line "ready" says that it has begun."""
import errno
import select
import signal
import socket
import struct
import sys
import time

stop = False


def on_term(_sig, _frame):
    global stop
    stop = True


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def serve(addr, port, wait):
    listener = socket.socket(family(addr), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((addr, port))
    listener.listen(16)
    say("ready")
    if wait:
        signal.sigwait({signal.SIGUSR1})
    echo(listener, {})


def flight(addr, port):
    listener = socket.socket(family(addr), socket.SOCK_STREAM)
    listener.bind((addr, port))
    listener.listen(16)
    say("ready")
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    c = listener.accept()[0]
    socket.send_fds(a, [b"x"], [c.fileno()])
    c.close()
    say("in flight")
    signal.sigwait({signal.SIGUSR1})
    c = socket.socket(fileno=socket.recv_fds(b, 1, 1)[1][0])
    c.setblocking(False)
    echo(listener, {c: b""})


def read_all(s):
    data = b""
    while True:
        more = s.recv(1 << 16)
        if not more:
            return data
        data += more


def both_ends(addr, port):
    listener = socket.socket(family(addr), socket.SOCK_STREAM)
    listener.bind((addr, port))
    listener.listen(16)
    a = socket.create_connection((addr, port))
    b = listener.accept()[0]
    over = socket.create_connection((addr, port))
    c = listener.accept()[0]
    there, back = bytes(range(256)) * 400, bytes(range(255, -1, -1)) * 200
    a.sendall(there)
    a.shutdown(socket.SHUT_WR)
    b.sendall(back)
    c.sendall(b"last words")
    c.shutdown(socket.SHUT_WR)
    over.shutdown(socket.SHUT_WR)
    c.close()
    say("ready")
    signal.sigwait({signal.SIGUSR1})
    if read_all(b) != there:
        exit_with("what was sent is not what came")
    b.close()
    if read_all(a) != back:
        exit_with("what came back is something else")
    if read_all(over) != b"last words":
        exit_with("of a connection that is over something is lost")
    say("whole")


def echo(listener, queues):
    while True:
        r, w, _ = select.select([listener] + [c for c, q in queues.items() if len(q) < 1 << 20],
                                [c for c, q in queues.items() if q], [])
        for c in r:
            if c is listener:
                c = listener.accept()[0]
                c.setblocking(False)
                queues[c] = b""
                continue
            try:
                data = c.recv(1 << 16)
            except OSError as e:
                say("lost: %s" % e)
                data = b""
            if data:
                queues[c] += data
            else:
                if not queues[c]:
                    c.close()
                del queues[c]
        for c in w:
            if c in queues:
                try:
                    n = c.send(queues[c])
                    queues[c] = queues[c][n:]
                except BlockingIOError:
                    pass
                except OSError as e:
                    say("lost: %s" % e)
                    del queues[c]


def talk(addr, port):
    s = socket.create_connection((addr, port))
    s.setblocking(False)
    say("ready")
    sent = got = 0
    out, rest = b"", b""
    pause = 0
    while not stop or got < sent or out:
        if not stop and not out and sent - got < 200000:
            out = b"".join(struct.pack(">Q", sent + i) for i in range(100))
            sent += 100
        r, w, _ = select.select([s], [s] if out else [], [], 0.05)
        if w:
            try:
                out = out[s.send(out):]
            except BlockingIOError:
                pass
            time.sleep(0.001)
        if r:
            rest += s.recv(1 << 16) or exit_with("the stream ended after %d words" % got)
            whole = len(rest) // 8
            for i in range(whole):
                n = struct.unpack_from(">Q", rest, 8 * i)[0]
                if n != got:
                    exit_with("word %d came instead of %d" % (n, got))
                got += 1
            rest = rest[8 * whole:]
            pause = time.monotonic()
        elif stop and time.monotonic() - max(pause, stopped_at()) > 20:
            exit_with("nothing came for 20 s, %d words of %d are back" % (got, sent))
    s.shutdown(socket.SHUT_WR)
    s.settimeout(10)
    if s.recv(1) != b"":
        exit_with("bytes behind the end")
    say("ok %d" % got)


first_stop = []


def stopped_at():
    if not first_stop:
        first_stop.append(time.monotonic())
    return first_stop[0]


def exit_with(line):
    say(line)
    sys.exit(1)


def close(addr, port):
    s = socket.create_connection((addr, port))
    say("ready")
    s.settimeout(10)
    try:
        data = s.recv(1)
        say("end" if not data else "data")
    except socket.timeout:
        say("quiet")
    except OSError as e:
        say("reset" if e.errno == errno.ECONNRESET else str(e))


def watch(iface, port):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    s.bind((iface, 3))
    s.settimeout(0.1)
    fin = rst = 0
    say("ready")
    while not stop:
        try:
            packet = s.recv(200)
        except socket.timeout:
            continue
        version = packet[0] >> 4
        at = (packet[0] & 15) * 4 if version == 4 else 40
        if packet[9 if version == 4 else 6] != 6 or port not in struct.unpack_from(">HH", packet, at):
            continue
        fin += packet[at + 13] & 1
        rst += packet[at + 13] >> 2 & 1
    say("fin %d rst %d" % (fin, rst))


def main():
    signal.signal(signal.SIGTERM, on_term)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    role, addr, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if role in ("serve", "flight", "self"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if role == "serve":
        serve(addr, port, sys.argv[4:] == ["wait"])
    else:
        {"flight": flight, "self": both_ends, "talk": talk, "close": close, "watch": watch}[role](addr, port)


main()
