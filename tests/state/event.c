/* eventfd, signalfd, timerfd, epoll over all of them. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "lib.h"

static uint64_t number(int fd)
{
	uint64_t v = 0;

	CHECK(read(fd, &v, sizeof(v)) == sizeof(v), "fd %d cannot be read: %m", fd);
	return v;
}

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { events, { .u64 = data } };

	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

/* Is this data among what is ready? */
static uint32_t ready(int ep, uint64_t data)
{
	struct epoll_event ev[64];
	int n = MUST(epoll_wait(ep, ev, 64, 0));

	while (n-- > 0)
		if (ev[n].data.u64 == data)
			return ev[n].events;
	return 0;
}

int main(void)
{
	struct itimerspec in = { { 0, 0 }, { 3600, 0 } },
			  often = { { 0, 20000000 }, { 0, 20000000 } },
			  abs = { { 0, 0 }, { 0, 0 } };
	struct itimerspec left;
	struct signalfd_siginfo si;
	struct timespec now;
	sigset_t set;
	int ev, sem, sfd, tfd, per, tabs, ep, outer, sv[2], moved, pp[2], other, ep2;
	uint64_t v = 41;

	ev = MUST(eventfd(5, EFD_NONBLOCK));
	CHECK(write(ev, &v, sizeof(v)) == sizeof(v), "write");
	sem = MUST(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	sfd = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
	tfd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	MUST(timerfd_settime(tfd, 0, &in, NULL));
	per = MUST(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK));
	MUST(timerfd_settime(per, 0, &often, NULL));
	tabs = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	clock_gettime(CLOCK_MONOTONIC, &now);
	abs.it_value = now;
	abs.it_value.tv_sec += 1000;
	MUST(timerfd_settime(tabs, TFD_TIMER_ABSTIME, &abs, NULL));

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	MUST(pipe(pp));
	ep = MUST(epoll_create1(EPOLL_CLOEXEC));
	add(ep, ev, EPOLLIN, 1);
	add(ep, sem, EPOLLIN | EPOLLET, 2);
	add(ep, sfd, EPOLLIN, 0x123456789abcdefull);
	add(ep, tfd, EPOLLIN, 4);
	add(ep, sv[0], EPOLLIN | EPOLLRDHUP, 5);
	add(ep, pp[0], EPOLLIN | EPOLLONESHOT, 6);
	/* Added as `other`, which is something else by now. */
	moved = MUST(eventfd(0, EFD_NONBLOCK));
	other = moved;
	moved = MUST(fcntl(other, F_DUPFD, 40));
	add(ep, other, EPOLLIN, 7);
	MUST(dup2(ev, other));
	outer = MUST(epoll_create1(0));
	add(outer, ep, EPOLLIN, 8);
	/* The same, but the number is free now. */
	ep2 = MUST(epoll_create1(0));
	MUST(dup2(moved, 50));
	add(ep2, 50, EPOLLIN, 9);
	MUST(close(50));

	state_wait();

	CHECK(ready(ep, 1) == EPOLLIN, "the eventfd is not ready");
	CHECK(number(ev) == 46, "count");
	CHECK(ready(ep, 1) == 0, "the eventfd is ready, but empty");
	CHECK(number(sem) == 1 && number(sem) == 1 && number(sem) == 1 && read(sem, &v, 8) < 0,
	      "semaphore");
	MUST(raise(SIGRTMIN + 3));
	CHECK(ready(ep, 0x123456789abcdefull) == EPOLLIN, "signalfd in epoll");
	CHECK(read(sfd, &si, sizeof(si)) == sizeof(si) && (int)si.ssi_signo == SIGRTMIN + 3,
	      "signalfd");
	MUST(timerfd_gettime(tfd, &left));
	CHECK(left.it_value.tv_sec > 3500 && left.it_value.tv_sec < 3600, "%ld s left",
	      (long)left.it_value.tv_sec);
	MUST(timerfd_gettime(tabs, &left));
	clock_gettime(CLOCK_MONOTONIC, &now);
	CHECK(labs(left.it_value.tv_sec + now.tv_sec - abs.it_value.tv_sec) <= 1,
	      "absolute timer: %ld s left", (long)left.it_value.tv_sec);
	usleep(50000);
	CHECK(number(per) >= 2, "periodic timer");
	CHECK(ready(ep, 4) == 0, "an idle timer is ready");
	CHECK(write(sv[1], "x", 1) == 1 && ready(ep, 5) == EPOLLIN, "socket in epoll");
	CHECK(write(pp[1], "x", 1) == 1 && ready(ep, 6) == EPOLLIN, "pipe in epoll");
	CHECK(ready(ep, 6) == 0, "oneshot twice");
	v = 1;
	CHECK(write(moved, &v, 8) == 8 && ready(ep, 7) == EPOLLIN,
	      "a file that changed its number");
	CHECK(ready(ep2, 9) == EPOLLIN, "a file whose number is free");
	CHECK(ready(outer, 8) == EPOLLIN, "epoll in epoll");
	MUST(close(sv[1]));
	CHECK(ready(ep, 5) & EPOLLRDHUP, "hangup");
	CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, ev, NULL) == 0, "cannot be removed: %m");
	state_pass();
}
