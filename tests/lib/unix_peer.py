#!/usr/bin/python3
"""Ends of unix sockets for tests of the engine; a line "ready" says that it has begun.

  serve DIR    a stream server at DIR/stream, which answers "re " and what came, and a datagram one at DIR/dgram;
               prints the process of each caller and what came
  call DIR     is connected to both; says something to each now and after each SIGUSR1, and prints the answer
  pair PROGRAM...  runs the program with an end of a socketpair as its stdin, and prints what comes of the other
  read         prints what its stdin brings after a SIGUSR1"""
import os
import select
import signal
import socket
import struct
import sys


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(folder):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind(folder + "/stream")
    stream.listen(5)
    dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dgram.bind(folder + "/dgram")
    fds = [stream, dgram]
    say("ready")
    while True:
        for s in select.select(fds, [], [])[0]:
            if s is stream:
                c = s.accept()[0]
                fds.append(c)
                say("process %d" % struct.unpack("3i", c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
                continue
            m = s.recv(100)
            say("%s %s" % ("dgram" if s is dgram else "stream", m.decode()))
            if not m:
                fds.remove(s)
                s.close()
            elif s is not dgram:
                s.send(b"re " + m)


def call(folder):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(folder + "/stream")
    dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dgram.connect(folder + "/dgram")
    for i in range(10):
        dgram.send(b"%d" % i)
        stream.send(b"%d" % i)
        say(stream.recv(100).decode())
        if not i:
            say("ready")
        signal.sigwait({signal.SIGUSR1})


def pair(program):
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), 0)
    if os.fork() == 0:
        ours.close()
        theirs.close()
        os.setsid()
        os.execv(program[0], program)
    os.close(0)
    theirs.close()
    say("ready")
    say("end %r" % ours.recv(100))


def read():
    say("ready")
    signal.sigwait({signal.SIGUSR1})
    say("got %r" % os.read(0, 100))
    signal.pause()


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
{"serve": lambda: serve(sys.argv[2]), "call": lambda: call(sys.argv[2]), "pair": lambda: pair(sys.argv[2:]),
 "read": read}[sys.argv[1]]()
