#!/usr/bin/python3
"""holder.py CODE: a process that holds what CODE has made, and says what it is asked: the file `ask` in its folder is
a Python expression (or, beginning with a newline, statements), its value goes to `answer`.  `pid` says when it is ready."""
import errno
import fcntl
import mmap
import os
import socket
import struct
import sys
import time

have = {"os": os, "fcntl": fcntl, "errno": errno, "mmap": mmap, "socket": socket, "struct": struct, "time": time}


def said(text):
    try:
        if text.startswith("\n"):
            exec(text, have)
            return "done"
        return eval(text, have)
    except OSError as e:
        return errno.errorcode[e.errno]
    except Exception as e:  # a test shows it
        return repr(e)


def write(name, text):
    with open(name + ".new", "w") as f:
        f.write(text)
    os.rename(name + ".new", name)


exec(sys.argv[1], have)
write("pid", "%d\n" % os.getpid())
while True:
    time.sleep(0.02)
    try:
        with open("ask") as f:
            text = f.read()
        os.unlink("ask")
    except FileNotFoundError:
        continue
    write("answer", "%s\n" % (said(text),))
