/* tty_data - see tty_data.h.
 *
 * Reading is the only way to see the bytes, so they are put back at once where the container may
 * run on. All of it is done with processing switched off: output without OPOST, input without echo,
 * signals, flow control and translation. ICANON stays as it is while input is given (switching it
 * would end an unfinished line), and is off while input is taken (only then unfinished lines can
 * be read). */
#include "cr/file/tty_data.h"

#include <asm/termbits.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DATA_MAX (256u << 10) /* more than the kernel keeps for a terminal */
#define INPUT_MAX 4000	      /* less than the line discipline's buffer */
#define SETTLE_MS 2	      /* the kernel moves bytes on by a worker */

static int quiet_set(int tty, const struct termios2 *t, bool canon)
{
	struct termios2 q = *t;

	q.c_iflag = t->c_iflag & IUTF8;
	q.c_oflag &= ~(tcflag_t)OPOST;
	q.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ECHOCTL | ISIG | IEXTEN | EXTPROC);
	if (!canon) {
		q.c_lflag &= ~(tcflag_t)ICANON;
		q.c_cc[VMIN] = 1;
		q.c_cc[VTIME] = 0;
	}
	return ioctl(tty, TCSETS2, &q) < 0 ? -errno : 0;
}

/* Reads what is there; never waits for more than the kernel's worker. */
static int drain(int fd, struct buf *ret)
{
	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		char buf[4096];
		int waiting = 0;
		ssize_t n;

		if (poll(&p, 1, ret->len ? SETTLE_MS : 0) <= 0 || !(p.revents & POLLIN))
			return 0;
		if (ioctl(fd, FIONREAD, &waiting) < 0)
			return -errno;
		if (waiting <= 0)
			return 0;
		n = read(fd, buf, (size_t)waiting < sizeof(buf) ? (size_t)waiting : sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EIO ? 0 : -errno;
		if (n == 0)
			return 0;
		if (ret->len + (size_t)n > DATA_MAX)
			return -EFBIG;
		if (buf_add(ret, buf, (size_t)n) < 0)
			return -ENOMEM;
	}
}

static int give(int fd, const struct buf *b)
{
	size_t done = 0;

	for (int tries = 0; done < b->len;) {
		struct pollfd p = { fd, POLLOUT, 0 };
		ssize_t n;

		if (poll(&p, 1, 100) <= 0 && tries++ > 5)
			return -EAGAIN;
		if (!(p.revents & POLLOUT))
			continue;
		n = write(fd, b->data + done, b->len - done);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/* By the slave, which takes each at once: what a master writes arrives a moment later, when the modes may be
 * those of everyday again, with echo.  More than the reader's buffer holds would be lost.  *ret_done: how many. */
static int push(int slave, const struct buf *b, size_t *ret_done)
{
	for (*ret_done = 0; *ret_done < b->len && *ret_done < INPUT_MAX; ++*ret_done)
		if (ioctl(slave, TIOCSTI, b->data + *ret_done) < 0)
			return -errno;
	return 0;
}

int tty_data_give(int master, int slave, const struct buf *output, const struct buf *input,
		  struct err *e)
{
	struct termios2 t;
	size_t done = 0;
	int r, back;

	if (!output->len && !input->len)
		return 0;
	if (ioctl(master, TCGETS2, &t) < 0)
		return err_sys(e, -errno, "modes of a terminal");
	r = quiet_set(master, &t, true);
	if (r == 0)
		r = give(slave, output);
	if (r == 0 && input->len) {
		r = push(slave, input, &done);
		if (r == 0 || r == -EPERM || r == -EIO) /* who may not, or has more, goes by the master */
			r = give(master, &(struct buf){ input->data + done, input->len - done, 0 });
	}
	back = ioctl(master, TCSETS2, &t) < 0 ? -errno : 0;
	if (r == 0)
		r = back;
	return r < 0 ? err_sys(e, r, "bytes of a terminal") : 0;
}

int tty_data_take(int master, int slave, struct buf *output, struct buf *input, struct err *e)
{
	int pkt = 0, off = 0, r, back;
	struct termios2 t;

	if (ioctl(master, TCGETS2, &t) < 0 || ioctl(master, TIOCGPKT, &pkt) < 0)
		return err_sys(e, -errno, "modes of a terminal");
	if (pkt && ioctl(master, TIOCPKT, &off) < 0)
		return err_sys(e, -errno, "packet mode of a terminal");
	r = drain(master, output);
	if (r == 0)
		r = quiet_set(master, &t, false);
	if (r == 0)
		r = drain(slave, input);
	back = ioctl(master, TCSETS2, &t) < 0 ? -errno : 0;
	if (pkt && ioctl(master, TIOCPKT, &pkt) < 0)
		back = -errno;
	if (r == 0)
		r = back;
	return r < 0 ? err_sys(e, r, "bytes of a terminal") : 0;
}

int tty_input_take(int slave, struct buf *input, struct err *e)
{
	struct termios2 t;
	int waiting = 0, r, back;

	if (ioctl(slave, TCGETS2, &t) < 0)
		return err_sys(e, -errno, "modes of a terminal");
	r = quiet_set(slave, &t, false);
	if (r == 0 && (ioctl(slave, FIONREAD, &waiting) < 0 || waiting > INPUT_MAX))
		r = -EFBIG; /* it could not be put back */
	if (r == 0)
		r = drain(slave, input);
	back = ioctl(slave, TCSETS2, &t) < 0 ? -errno : 0;
	if (r == 0)
		r = back;
	return r < 0 ? err_sys(e, r, "what was typed at a terminal") : 0;
}

int tty_input_give(int slave, const struct buf *input, struct err *e)
{
	struct termios2 t;
	size_t done;
	int r, back;

	if (!input->len)
		return 0;
	if (ioctl(slave, TCGETS2, &t) < 0)
		return err_sys(e, -errno, "modes of a terminal");
	r = quiet_set(slave, &t, true);
	if (r == 0)
		r = push(slave, input, &done);
	back = ioctl(slave, TCSETS2, &t) < 0 ? -errno : 0;
	if (r == 0)
		r = back;
	return r < 0 ? err_sys(e, r, "what was typed at a terminal") : 0;
}
