"""load - clients of a container that moves: they write and read all the time and miss nothing.

  load.py ADDRESS --out REPORT [--connections N] [--fill MIB] [--http PORT]

Fills redis at ADDRESS:6379 with MIB of known values, prints "ready", then keeps N redis connections busy
(each sets and reads back keys of its own) and, with --http, one HTTP connection that reads /counter and
/clock.  On SIGTERM, or a line on stdin, it verifies every key ever written and writes REPORT (JSON): gaps of
more than 5 ms with their wall-clock times, what was lost, and how often each connection had to be opened
(1 is right: a connection that broke is a failure, and is opened again only so that the rest can be seen)."""
import argparse
import hashlib
import json
import random
import signal
import socket
import sys
import threading
import time

GAP_S = 0.005
stop = threading.Event()


class Redis:
    """One connection; knows RESP's simple strings, errors, numbers and bulk strings."""

    def __init__(self, address, port=6379):
        self.at = (address, port)
        self.opened = 0
        self.connect()

    def connect(self):
        self.sock = socket.create_connection(self.at, timeout=120)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        self.opened += 1
        self.local_port = self.sock.getsockname()[1]

    @staticmethod
    def pack(*words):
        out = [b"*%d\r\n" % len(words)]
        for w in words:
            w = w if isinstance(w, bytes) else str(w).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(w), w))
        return b"".join(out)

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ValueError(rest.decode())
        if kind == b"$":
            n = int(rest)
            if n < 0:
                return None
            data = self.file.read(n + 2)
            if len(data) != n + 2:
                raise ConnectionError("the connection ended")
            return data[:-2]
        return rest

    def ask(self, *words):
        self.sock.sendall(self.pack(*words))
        return self.reply()


def value_of(key, size):
    """Known from the key alone, and different for each."""
    seed = hashlib.sha256(key.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


class Worker(threading.Thread):
    """Something that answers in turn; times the gaps between answers."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.what = name
        self.answers = 0
        self.gaps = []
        self.errors = []

    def timed(self, ask):
        begun = time.time()
        ask()
        ended = time.time()
        if ended - begun > GAP_S:
            self.gaps.append([begun, ended])
        self.answers += 1

    def run(self):
        while not stop.is_set():
            try:
                self.timed(self.step)
            except (OSError, ValueError) as e:
                self.errors.append(f"{time.time():.3f} {type(e).__name__}: {e}")
                if len(self.errors) > 50:
                    return
                time.sleep(0.2)
                try:
                    self.again()
                except OSError:
                    pass

    def report(self):
        return {"what": self.what, "answers": self.answers, "gaps": self.gaps, "errors": self.errors}


class Writer(Worker):
    """Writes a key, reads an older one of its own, compares."""

    def __init__(self, address, n):
        super().__init__(f"redis {n}")
        self.n = n
        self.redis = Redis(address)
        self.redis.ask("CLIENT", "SETNAME", f"load-{n}")
        self.random = random.Random(n)
        self.written = 0
        self.lost = []

    def key(self, i):
        return f"w{self.n}:{i}"

    def step(self):
        i = self.written
        self.redis.ask("SET", self.key(i), value_of(self.key(i), 512))
        self.written += 1
        j = self.random.randrange(self.written)
        if self.redis.ask("GET", self.key(j)) != value_of(self.key(j), 512):
            self.lost.append(self.key(j))
        time.sleep(0.002)

    def again(self):
        self.redis.connect()

    def report(self):
        return dict(super().report(), opened=self.redis.opened, port=self.redis.local_port,
                    written=self.written, lost=len(self.lost))


class Reader(Worker):
    """One HTTP/1.1 connection that is kept: a counter that only grows, a clock that only goes forward."""

    def __init__(self, address, port):
        super().__init__("http")
        self.at = (address, port)
        self.opened = 0
        self.counter = 0
        self.backwards = 0
        self.clock = {}
        self.again()

    def again(self):
        self.sock = socket.create_connection(self.at, timeout=120)
        self.file = self.sock.makefile("rb")
        self.local_port = self.sock.getsockname()[1]
        self.opened += 1

    def get(self, path):
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        status = self.file.readline()
        length = 0
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("the connection ended")
            if line in (b"\r\n", b"\n"):
                break
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = self.file.read(length)
        if b" 200 " not in status:
            raise ValueError(status.decode().strip())
        return body

    def step(self):
        text = self.get("/counter").strip()
        if text:
            n = int(text)
            if n < self.counter:
                self.backwards += 1
            self.counter = n
        text = self.get("/clock").strip()
        if text:
            self.clock = json.loads(text)
        time.sleep(0.002)

    def report(self):
        return dict(super().report(), opened=self.opened, port=self.local_port, counter=self.counter,
                    backwards=self.backwards, clock=self.clock)


def fill(redis, mib):
    """64 KiB values in batches, so that a quarter of a GiB takes a second or two."""
    n = mib * 16
    for base in range(0, n, 64):
        keys = [f"fill:{i}" for i in range(base, min(base + 64, n))]
        redis.sock.sendall(b"".join(Redis.pack("SET", k, value_of(k, 65536)) for k in keys))
        for _ in keys:
            redis.reply()
    return n


def verify(redis, keys, size):
    wrong = 0
    keys = list(keys)
    for base in range(0, len(keys), 64):
        part = keys[base:base + 64]
        redis.sock.sendall(b"".join(Redis.pack("GET", k) for k in part))
        for k in part:
            if redis.reply() != value_of(k, size):
                wrong += 1
    return wrong


def main():
    p = argparse.ArgumentParser()
    p.add_argument("address")
    p.add_argument("--out", required=True)
    p.add_argument("--connections", type=int, default=8)
    p.add_argument("--fill", type=int, default=0)
    p.add_argument("--http", type=int, default=0)
    o = p.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    main_connection = Redis(o.address)
    filled = fill(main_connection, o.fill)
    workers = [Writer(o.address, n) for n in range(o.connections)]
    if o.http:
        workers.append(Reader(o.address, o.http))
    for w in workers:
        w.start()
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    stop.wait()
    for w in workers:
        w.join(130)

    report = {"connections": [w.report() for w in workers], "filled": filled, "verified": 0, "wrong": 0}
    try:
        report["wrong"] += verify(main_connection, (f"fill:{i}" for i in range(filled)), 65536)
        report["verified"] += filled
        for w in workers:
            if isinstance(w, Writer):
                report["wrong"] += verify(main_connection, (w.key(i) for i in range(w.written)), 512)
                report["verified"] += w.written
        report["connections"].append({"what": "redis main", "opened": main_connection.opened, "answers": 1,
                                      "gaps": [], "errors": []})
    except (OSError, ValueError) as e:
        report["connections"].append({"what": "redis main", "opened": 1, "answers": 0, "gaps": [],
                                      "errors": [f"{type(e).__name__}: {e}"]})
    with open(o.out, "w") as f:
        json.dump(report, f)


main()
