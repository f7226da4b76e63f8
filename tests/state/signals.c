/* Dispositions, alternative stacks, masks, and pending signals with what they carry. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib.h"

static volatile int handled, on_alt;
static char alt[65536];

static void handler(int sig, siginfo_t *si, void *ctx)
{
	char here;

	handled = si->si_value.sival_int;
	on_alt = &here >= alt && &here < alt + sizeof(alt);
}

static void take(int sig, int code, int value)
{
	struct timespec none = { 0 };
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK(sigtimedwait(&set, &si, &none) == sig, "signal %d is not pending: %m", sig);
	CHECK(si.si_code == code && si.si_value.sival_int == value, "signal %d came with code %d, value %d",
	      sig, si.si_code, si.si_value.sival_int);
}

static pthread_barrier_t before, after;
static char complaint[200];
static int thread_code; /* what this kernel says of a signal for a thread */

static void *thread_main(void *arg)
{
	struct timespec none = { 0 };
	siginfo_t si;
	sigset_t set;
	int got;
	stack_t ss = { .ss_sp = malloc(20000), .ss_size = 20000 }, now;

	sigaltstack(&ss, NULL);
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	/* Sent to this very thread. */
	got = sigtimedwait(&set, &si, &none);
	if (got != SIGUSR2 || si.si_code != thread_code || si.si_pid != getpid())
		snprintf(complaint, sizeof(complaint), "private signal: %d (%m), code %d, from %d", got,
			 si.si_code, si.si_pid);
	sigaltstack(NULL, &now);
	if (now.ss_sp != ss.ss_sp || now.ss_size != ss.ss_size)
		snprintf(complaint, sizeof(complaint), "the thread's alternative stack is gone");
	return NULL;
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	struct sigaction now;
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	union sigval v;
	siginfo_t si;
	sigset_t block, mask;
	pthread_t th;

	MUST(sigaltstack(&ss, NULL));
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGWINCH);
	MUST(sigaction(SIGRTMIN + 5, &sa, NULL));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN + 1);
	sigaddset(&block, SIGRTMIN + 2);
	sigaddset(&block, SIGUSR2);
	sigaddset(&block, SIGTERM);
	MUST(sigprocmask(SIG_BLOCK, &block, NULL));
	pthread_kill(pthread_self(), SIGUSR2);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	CHECK(sigwaitinfo(&mask, &si) == SIGUSR2, "sigwaitinfo: %m");
	thread_code = si.si_code;
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	pthread_create(&th, NULL, thread_main, NULL);
	pthread_barrier_wait(&before);
	for (int i = 0; i < 100; i++) {
		v.sival_int = i;
		MUST(sigqueue(getpid(), SIGRTMIN + 1, v));
	}
	v.sival_int = 4711;
	MUST(sigqueue(getpid(), SIGRTMIN + 2, v));
	MUST(kill(getpid(), SIGTERM));
	pthread_kill(th, SIGUSR2);

	state_wait();

	for (int i = 0; i < 100; i++)
		take(SIGRTMIN + 1, SI_QUEUE, i);
	take(SIGRTMIN + 2, SI_QUEUE, 4711);
	take(SIGTERM, SI_USER, 0);
	pthread_barrier_wait(&after);
	pthread_join(th, NULL);
	CHECK(!complaint[0], "%s", complaint);
	MUST(sigaction(SIGRTMIN + 5, NULL, &now));
	CHECK(now.sa_sigaction == handler && (now.sa_flags & ~0x04000000) == sa.sa_flags &&
		      sigismember(&now.sa_mask, SIGWINCH) && !sigismember(&now.sa_mask, SIGHUP),
	      "the action of a signal differs: flags %x", now.sa_flags);
	MUST(sigaction(SIGTTOU, NULL, &now));
	CHECK(now.sa_handler == SIG_IGN, "an ignored signal is not ignored any more");
	MUST(sigaction(SIGTTIN, NULL, &now));
	CHECK(now.sa_handler == SIG_DFL, "a default action is none any more");
	MUST(sigprocmask(SIG_BLOCK, NULL, &mask));
	CHECK(sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGINT), "the mask differs");
	v.sival_int = 5;
	MUST(sigqueue(getpid(), SIGRTMIN + 5, v));
	CHECK(handled == 5, "the handler was not called");
	CHECK(on_alt, "the handler did not run on the alternative stack");
	state_pass();
}
