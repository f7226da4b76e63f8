#!/usr/bin/python3
"""on_pty.py OUT IN STATUS COMMAND...: runs COMMAND on a new terminal, as leader of a session of its own.

What the terminal shows goes to the file OUT, what is written into the fifo IN is typed, and when COMMAND has ended its
exit status goes to STATUS.  IN may be opened by others again and again.  The terminal hangs up when this ends.
With ON_PTY_NOCTTY set nobody's session has the terminal."""
import fcntl
import os
import pty
import select
import signal
import sys
import termios


def child(slave, command):
    os.setsid()
    if not os.environ.get("ON_PTY_NOCTTY"):
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 4096)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)


def main():
    out, typed, status, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 77)) if hasattr(termios, "tcsetwinsize") else None
    pid = os.fork()
    if pid == 0:
        os.close(master)
        child(slave, command)
    os.close(slave)
    shown = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    keys = os.open(typed, os.O_RDWR | os.O_NONBLOCK)
    ended = os.pidfd_open(pid)
    watch = [master, keys, ended]
    while master in watch:
        ready, _, _ = select.select(watch, [], [], 60)
        if not ready:
            break
        if master in ready:
            try:
                os.write(shown, os.read(master, 65536))
            except OSError:  # nobody has it open any more
                watch.remove(master)
        if keys in ready:
            os.write(master, os.read(keys, 4096))
        if ended in ready:
            _, how = os.waitpid(pid, 0)
            with open(status + ".new", "w") as f:
                f.write("%d\n" % os.waitstatus_to_exitcode(how))
            os.rename(status + ".new", status)
            watch.remove(ended)
    if ended in watch:
        os.kill(pid, signal.SIGKILL)


main()
