/* Pseudo terminals: modes, window, controlling terminal and foreground group, /dev/tty, hung-up
 * slaves. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "lib.h"

static int pty_open(char *name, size_t len)
{
	int fd = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));

	MUST(grantpt(fd));
	MUST(unlockpt(fd));
	CHECK(ptsname_r(fd, name, len) == 0, "ptsname");
	return fd;
}

/* Job in the foreground of the terminal: is interrupted by its control-C. */
static int job(void)
{
	char c;
	int tty;

	MUST(setpgid(0, 0));
	tty = MUST(open("/dev/tty", O_RDWR));
	signal(SIGTTOU, SIG_IGN);
	MUST(tcsetpgrp(tty, getpid()));
	signal(SIGTTOU, SIG_DFL);
	state_mark("job");
	if (read(tty, &c, 1) != 1 || c != 'j')
		return 1;
	if (write(tty, "J", 1) != 1)
		return 2;
	for (;;)
		pause();
}

/* Leader of the terminal's session. */
static int leader(const char *name)
{
	int fd, status;
	pid_t pid;

	MUST(setsid());
	fd = MUST(open(name, O_RDWR)); /* becomes the controlling terminal */
	dup2(fd, 0);
	pid = MUST(fork());
	if (pid == 0)
		_exit(job());
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGINT)
		return 10 + (status & 0x7f);
	return getsid(0) == getpid() && tcgetsid(0) == getpid() ? 0 : 2;
}

static void read_is(int fd, const char *want)
{
	char buf[64] = "";
	struct pollfd p = { fd, POLLIN, 0 };
	size_t n = 0;

	while (n < strlen(want)) {
		CHECK(poll(&p, 1, 3000) == 1, "nothing follows \"%s\" of \"%s\"", buf, want);
		n += (size_t)MUST(read(fd, buf + n, strlen(want) - n));
	}
	CHECK(strcmp(buf, want) == 0, "read \"%s\" instead of \"%s\"", buf, want);
}

int main(void)
{
	char name[32], name2[32], name3[32], name4[32], name5[32];
	int m = pty_open(name, sizeof(name)), spare = pty_open(name2, sizeof(name2)),
	    m2 = pty_open(name3, sizeof(name3));
	int s2, hung, closed, m4, status, locked, m5, s5;
	struct winsize w = { .ws_row = 33, .ws_col = 77 };
	struct termios t, t2;
	struct stat st;
	pid_t pid;

	/* The one between is closed: numbers 0 and 2 stay. */
	MUST(close(spare));
	s2 = MUST(open(name3, O_RDWR | O_NOCTTY | O_NONBLOCK));
	MUST(tcgetattr(s2, &t));
	cfmakeraw(&t);
	t.c_cc[VINTR] = 7;
	MUST(tcsetattr(s2, TCSANOW, &t));
	MUST(ioctl(m2, TIOCSWINSZ, &w));
	MUST(fchmod(s2, 0602));
	pid = MUST(fork());
	if (pid == 0) {
		close(m);
		_exit(leader(name));
	}
	state_await("job");
	m4 = pty_open(name4, sizeof(name4));
	closed = MUST(open(name4, O_RDWR | O_NOCTTY));
	MUST(close(closed)); /* m4: its slave was open and is not */
	hung = pty_open(name2, sizeof(name2));
	closed = hung;
	hung = MUST(open(name2, O_RDWR | O_NOCTTY));
	MUST(close(closed));
	locked = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	/* On their way: output that was processed, a line and an unfinished one. */
	m5 = pty_open(name5, sizeof(name5));
	s5 = MUST(open(name5, O_RDWR | O_NOCTTY | O_NONBLOCK));
	CHECK(write(s5, "some\noutput", 11) == 11, "write");
	usleep(20000);
	CHECK(write(m5, "line\npart", 9) == 9, "write");
	usleep(20000);
	read_is(m5, "some\r\noutputline\r\npart");
	CHECK(write(s5, "more\n", 5) == 5, "write");

	state_wait();

	CHECK(ptsname_r(m2, name2, sizeof(name2)) == 0 && strcmp(name2, name3) == 0,
	      "terminal is %s instead of %s", name2, name3);
	MUST(tcgetattr(s2, &t2));
	CHECK(t.c_iflag == t2.c_iflag && t.c_oflag == t2.c_oflag && t.c_lflag == t2.c_lflag &&
		      t2.c_cc[VINTR] == 7,
	      "modes");
	memset(&w, 0, sizeof(w));
	MUST(ioctl(s2, TIOCGWINSZ, &w));
	CHECK(w.ws_row == 33 && w.ws_col == 77, "window %ux%u", w.ws_row, w.ws_col);
	MUST(fstat(s2, &st));
	CHECK((st.st_mode & 0777) == 0602 && st.st_uid == 0, "mode %o, owner %u", st.st_mode,
	      st.st_uid);
	CHECK(fcntl(s2, F_GETFL) & O_NONBLOCK, "flags");
	CHECK(write(s2, "out\n", 4) == 4, "write");
	read_is(m2, "out\n");
	CHECK(write(m2, "in", 2) == 2, "write");
	read_is(s2, "in");

	CHECK(write(m, "j\n", 2) == 2, "write");
	read_is(m, "j\r\n");
	read_is(m, "J");
	CHECK(write(m, "\003", 1) == 1, "write");
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "session leader: status %#x", status);

	read_is(m5, "more\r\n");
	read_is(s5, "line\n");
	CHECK(read(s5, name, 1) < 0 && errno == EAGAIN, "an unfinished line can be read");
	CHECK(write(m5, "y\n", 2) == 2, "write");
	read_is(s5, "party\n");

	CHECK(read(m4, name, 1) < 0 && errno == EIO,
	      "a master whose slave was closed does not say EIO");
	CHECK(read(hung, name, 1) == 0 || errno == EIO,
	      "a slave whose master is closed can be read");
	status = 0;
	MUST(ioctl(locked, TIOCGPTLCK, &status));
	CHECK(status == 1, "lock");
	state_pass();
}
