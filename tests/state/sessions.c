/* Sessions and groups as shells and daemons make them: setsid() after a fork, children of a session
 * from before its parent's setsid(), orphans in sessions whose leader lives and whose leader is dead,
 * groups with a dead leader, subreapers. */
#include "family.h"

#include <sys/prctl.h>


/* On disk, so that it does not depend on shared memory being carried. */
static void tell(int slot)
{
	char name[32];

	snprintf(name, sizeof(name), "slot-%d", slot);
	state_mark(name);
}

static void hear(int slot)
{
	char name[32];

	snprintf(name, sizeof(name), "slot-%d", slot);
	state_await(name);
}

/* A process that waits, checks itself and says so by a file, since orphans have no parent of ours. */
static _Noreturn void live(int slot)
{
	struct identity me = identity_now();
	char name[48];
	int bad;

	tell(slot);
	go_wait();
	bad = identity_differs(&me);
	snprintf(name, sizeof(name), "verdict-%d-%s", slot, bad ? "bad" : "good");
	state_mark(name);
	/* Children must see who their parent is. */
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static int n_slots;

static void remember(int slot)
{
	if (slot >= n_slots)
		n_slots = slot + 1;
	hear(slot);
}

/* fork, and the child's child lives while the child is gone: an orphan. */
static void orphan(int slot, bool new_session, bool new_group)
{
	pid_t mid = MUST(fork());

	if (mid == 0) {
		if (new_session)
			setsid();
		if (new_group)
			setpgid(0, 0);
		if (fork() == 0) {
			while (getppid() == 0)
				usleep(1000);
			/* Only when the parent is gone is it what it will be. */
			usleep(50000);
			live(slot);
		}
		_exit(0);
	}
	MUST(waitpid(mid, NULL, 0));
	remember(slot);
}

int main(void)
{
	pid_t p;

	go_block();
	/* 0: a session of its own. */
	if (fork() == 0) {
		setsid();
		live(0);
	}
	remember(0);
	/* 1: a group of its own; 2: a member of it. */
	p = MUST(fork());
	if (p == 0) {
		setpgid(0, 0);
		if (fork() == 0)
			live(2);
		live(1);
	}
	remember(1);
	remember(2);
	/* 3: forked before its parent's setsid(); 4: the parent; 5: forked after. */
	if (fork() == 0) {
		if (fork() == 0)
			live(3);
		hear(3);
		setsid();
		if (fork() == 0)
			live(5);
		hear(5);
		live(4);
	}
	remember(3);
	remember(5);
	remember(4);
	/* 6: an orphan in our session; 7: in a dead session; 8: in a dead group. */
	orphan(6, false, false);
	orphan(7, true, false);
	orphan(8, false, true);
	/* 9, 10: two orphans of one dead session, the second in a group of its own. */
	p = MUST(fork());
	if (p == 0) {
		setsid();
		if (fork() == 0) {
			usleep(50000);
			live(9);
		}
		if (fork() == 0) {
			setpgid(0, 0);
			usleep(50000);
			live(10);
		}
		_exit(0);
	}
	MUST(waitpid(p, NULL, 0));
	remember(9);
	remember(10);
	/* 11: a subreaper; 12: an orphan that fell to it, in a session whose leader is dead. */
	if (fork() == 0) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		p = fork();
		if (p == 0) {
			setsid();
			if (fork() == 0) {
				usleep(50000);
				live(12);
			}
			_exit(0);
		}
		waitpid(p, NULL, 0);
		hear(12);
		live(11);
	}
	remember(12);
	remember(11);
	state_wait();
	CHECK(kill(-1, SIGUSR2) == 0, "nobody is there");
	for (int i = 0; i < n_slots; i++) {
		char good[48], bad[48];

		snprintf(good, sizeof(good), "/work/verdict-%d-good", i);
		snprintf(bad, sizeof(bad), "/work/verdict-%d-bad", i);
		for (int t = 0; t < 500 && access(good, F_OK) < 0; t++) {
			CHECK(access(bad, F_OK) < 0, "process of slot %d is not who it was", i);
			usleep(10000);
		}
		CHECK(access(good, F_OK) == 0, "process of slot %d says nothing", i);
	}
	state_pass();
}
