/* runner - runs one state program: in a source container, through moves, to its verdict.
 *
 *	runner [--flavour privileged|userns] [--rounds N] [--no-compare] [--expect-refusal WORD]
 *	       [--net] [--no-bpf] [-v] [--via COMMAND] [--checkpoint tree|host] [--walk stages|all] --engine FILE --guest FILE --init FILE PROGRAM [ARGS]
 *
 * Exit: 0 passed, 1 failed, 77 skipped. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/mem.h"
#include "checkpoint.h"
#include "container.h"
#include "move.h"
#include "snapshot.h"
#include "walk.h"
#include "sys/freezer.h"
#include "sys/procfs.h"

enum { PASSED = 0, FAILED = 1, SKIPPED = 77 };

struct options {
	struct place place;
	const char *engine, *expect;
	unsigned rounds, faults;
	bool compare, verbose, keep;
	enum checkpoint_how checkpoint;
	const char *walk;
};

/* Content of /work/NAME once it is there; NULL: it did not come. */
static char *work_await(const struct options *o, const char *name, int timeout_ms)
{
	char path[400], *text = NULL;

	snprintf(path, sizeof(path), "%s/work/%s", o->place.root, name);
	for (int t = 0; t < timeout_ms; t += 5) {
		if (fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL) >= 0)
			return text;
		usleep(5000);
	}
	return NULL;
}

/* The program has pid 2 in the container. */
static pid_t program_pid(const struct ct *c)
{
	auto_fd int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_fd int dir = proc_open(proc, c->init);
	auto_free pid_t *kids = NULL;
	size_t n = 0;

	if (dir < 0 || proc_children(dir, c->init, &kids, &n, NULL) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		auto_fd int kd = proc_open(proc, kids[i]);
		struct proc_status st;

		if (kd >= 0 && proc_status_read(kd, &st, NULL) >= 0 && st.ns_pid == 2)
			return kids[i];
	}
	return -1;
}

static int say(int verdict, const char *text)
{
	printf("%s: %s\n", verdict == PASSED ? "PASS" : verdict == SKIPPED ? "SKIP" : "FAIL", text);
	return verdict;
}

static void log_print(const struct options *o)
{
	char *text = work_await(o, "log", 1);

	if (text && *text)
		printf("# the program said: %s\n", text);
	free(text);
}

static bool left_behind(const struct ct *c)
{
	auto_free char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)c->init);
	return fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0 || strstr(text, ".godwit");
}

static int verdict_wait(struct options *o, struct ct *c);

/* One move; *c becomes the target. */
static int round_run(struct options *o, struct ct *c)
{
	auto_buf before = BUF_INIT, after = BUF_INIT;
	struct ct target = { .cgroup_fd = -1 };
	struct move_result m;
	struct err e = { 0 };
	int r = place_next(&o->place, &e);

	if (r == 0)
		r = ct_start(&o->place, NULL, &target, &e);
	if (r < 0) {
		ct_kill(&target);
		return say(FAILED, err_text(&e));
	}
	if (o->place.net.on)
		usleep(300000); /* the new link comes up well before the move */
	r = move_run(&o->place, o->engine, o->verbose, c, &target, NULL, &m);
	if (r == 0)
		r = snapshot_take(c->init, &before);
	if (r == 0)
		r = snapshot_take(target.init, &after);
	if (r < 0) {
		if (!m.text[0])
			snprintf(m.text, sizeof(m.text), "a container has vanished");
		ct_kill(&target);
		if (o->expect && m.refused && strstr(m.text, o->expect)) {
			printf("# %s\n", m.text);
			return verdict_wait(o, c); /* and it runs on where it was */
		}
		return say(FAILED, m.text);
	}
	printf("# %s\n", m.numbers);
	if (o->place.net.on)
		net_drop(&o->place.net, c->link);
	ct_kill(c);
	*c = target;
	place_moved(&o->place);
	if (o->compare && snapshot_compare(before.data, after.data))
		return say(FAILED, "the container does not look the same after the move");
	if (left_behind(c))
		return say(FAILED, "the mount of gw-init is still there");
	if (o->place.net.on && net_joined(&o->place.net, c->link, true) < 0)
		return say(FAILED, "the link cannot be joined");
	if (freezer_set(c->cgroup_fd, false, 5000, &e) < 0)
		return say(FAILED, err_text(&e));
	return -1;
}

static int verdict_wait(struct options *o, struct ct *c)
{
	pid_t pid = program_pid(c);
	auto_free char *text = NULL;

	if (pid < 0 || kill(pid, SIGUSR1) < 0)
		return say(FAILED, "the program is not there any more");
	text = work_await(o, "result", 15000);
	if (!text)
		return say(FAILED, "the program never came to a verdict");
	if (strcmp(text, "PASS") == 0)
		return say(PASSED, o->place.userns ? "userns" : "privileged");
	return say(FAILED, text);
}

/* The same through a folder of images, where it was. */
static int checkpoint_round(struct options *o, struct ct *c)
{
	auto_buf before = BUF_INIT, after = BUF_INIT;
	struct move_result m;

	if (snapshot_take(c->init, &before) < 0)
		return say(FAILED, "a container has vanished");
	if (checkpoint_run(&o->place, o->checkpoint, o->engine, o->verbose, c, &m) < 0) {
		if (o->expect && m.refused && strstr(m.text, o->expect)) {
			printf("# %s\n", m.text);
			return verdict_wait(o, c);
		}
		return say(FAILED, m.text);
	}
	if (*m.text)
		printf("# %s\n", m.text);
	/* Both were taken of a tree that runs: a wait that begins or ends shows for a moment. */
	for (int i = 0; i < 40; i++) {
		after.len = 0;
		if (snapshot_take(c->init, &after) < 0)
			return say(FAILED, "what was restored has vanished");
		if (strcmp(before.data, after.data) == 0)
			return -1;
		usleep(5000);
	}
	if (o->compare && snapshot_compare(before.data, after.data))
		return say(FAILED, "the container does not look the same after the restore");
	return -1;
}

/* Dumps and restores that fail at every moment. */
static int walk(struct options *o, struct ct *c)
{
	static struct walk w;

	w.c = c;
	w.all = strcmp(o->walk, "all") == 0;
	checkpoint_init(&w.k, &o->place, o->checkpoint, o->engine, o->verbose);
	return walk_run(&w) < 0 ? say(FAILED, w.text) : verdict_wait(o, c);
}

/* Moves that fail at random moments: each leaves the container as it was. */
static int fault_run(struct options *o, struct ct *c, unsigned n)
{
	static const struct move_fault kinds[] = {
		{ .sig = SIGKILL, .dump = true },
		{ .sig = SIGKILL, .restore = true },
		{ .sig = SIGKILL, .dump = true, .restore = true },
		{ .sig = SIGTERM, .dump = true },
	};
	struct move_fault f = kinds[n % array_len(kinds)];
	auto_buf before = BUF_INIT, after = BUF_INIT;
	struct ct target = { .cgroup_fd = -1 };
	struct move_result m;
	struct err e = { 0 };
	int r = snapshot_take(c->init, &before);

	if (r == 0)
		r = place_next(&o->place, &e);
	if (r == 0)
		r = ct_start(&o->place, NULL, &target, &e);
	if (r < 0) {
		ct_kill(&target);
		return say(FAILED, err_text(&e));
	}
	f.delay_us = (unsigned)rand() % 30000;
	r = move_run(&o->place, o->engine, o->verbose, c, &target, &f, &m);
	ct_kill(&target);
	if (o->verbose)
		printf("# fault %u, signal %d after %u us: %s\n", n, f.sig, f.delay_us,
		       r ? m.text : "it came too late");
	if (move_recover(o->engine, c) < 0)
		return say(FAILED, "recover failed");
	if (o->place.net.on && net_joined(&o->place.net, c->link, true) < 0)
		return say(FAILED, "the link cannot be joined");
	/* What an agent does when its engine is gone takes a moment. */
	for (int i = 0; i < 40; i++) {
		usleep(5000);
		after.len = 0;
		if (snapshot_take(c->init, &after) < 0)
			return say(FAILED, "the container died of a failed move");
		if (strcmp(before.data, after.data) == 0)
			return -1;
	}
	if (o->compare && snapshot_compare(before.data, after.data)) {
		printf("# after fault %u, signal %d, %u us, dump %d restore %d\n", n, f.sig, f.delay_us,
		       f.dump, f.restore);
		return say(FAILED, "the container does not look the same after a failed move");
	}
	return -1;
}

static int program_run(struct options *o, char *const argv[], struct ct *c)
{
	auto_free char *ready = NULL, *result = NULL;
	struct err e = { 0 };

	if (ct_start(&o->place, argv, c, &e) < 0)
		return say(FAILED, err_text(&e));
	for (int i = 0; i < 2000 && !ready && !result; i++) {
		result = work_await(o, "result", 5);
		ready = work_await(o, "ready", 5);
	}
	if (result)
		return strncmp(result, "SKIP", 4) == 0 ? say(SKIPPED, result) : say(FAILED, result);
	if (!ready)
		return say(FAILED, "the program never was ready");
	usleep(o->faults ? 30000 : 0);
	for (unsigned i = 0; i < o->faults; i++) {
		int v = fault_run(o, c, i);

		if (v >= 0)
			return v;
	}
	if (o->walk) {
		usleep(30000);
		return walk(o, c);
	}
	for (unsigned i = 0; i < o->rounds; i++) {
		/* Time to reach the wait (or whatever it does meanwhile). */
		usleep(30000);
		int v = o->checkpoint ? checkpoint_round(o, c) : round_run(o, c);

		if (v >= 0)
			return v;
	}
	if (o->expect)
		return say(FAILED, "it was not refused");
	return verdict_wait(o, c);
}

#define OVERCOMMIT "/proc/sys/vm/nr_overcommit_hugepages"

/* Hosts keep no huge pages by default; one test needs some.  Returns what was there, for the way back, or NULL
 * when nothing had to be changed. */
static char *hugepages_allow(const char *expect)
{
	char *was = NULL;

	if (!expect || strcmp(expect, "hugetlb") != 0 || fd_read_file_at(AT_FDCWD, OVERCOMMIT, 64, &was, NULL) < 0)
		return NULL;
	if (atoi(was) >= 4 || fd_write_file_at(AT_FDCWD, OVERCOMMIT, "4") < 0) {
		free(was);
		return NULL;
	}
	return was;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "flavour", required_argument, NULL, 'f' },
					       { "rounds", required_argument, NULL, 'n' },
					       { "no-compare", no_argument, NULL, 'C' },
					       { "expect-refusal", required_argument, NULL, 'x' },
					       { "engine", required_argument, NULL, 'e' },
					       { "guest", required_argument, NULL, 'g' },
					       { "init", required_argument, NULL, 'i' },
					       { "net", no_argument, NULL, 'N' },
					       { "faults", required_argument, NULL, 'F' },
					       { "no-bpf", no_argument, NULL, 'B' },
					       { "policy", required_argument, NULL, 'p' },
					       { "via", required_argument, NULL, 'V' },
					       { "checkpoint", required_argument, NULL, 'c' },
					       { "walk", required_argument, NULL, 'w' },
					       { "keep", no_argument, NULL, 'k' },
					       { NULL, 0, NULL, 0 } };
	struct options o = { .rounds = 1, .compare = true };
	struct ct c = { .cgroup_fd = -1 };
	struct err e = { 0 };
	int opt, v;

	while ((opt = getopt_long(argc, argv, "+v", longs, NULL)) != -1) {
		switch (opt) {
		case 'f': o.place.userns = strcmp(optarg, "userns") == 0; break;
		case 'n': o.rounds = (unsigned)atoi(optarg); break;
		case 'F': o.faults = (unsigned)atoi(optarg); break;
		case 'C': o.compare = false; break;
		case 'x': o.expect = optarg; break;
		case 'e': o.engine = optarg; break;
		case 'g': o.place.guest = optarg; break;
		case 'i': o.place.init = optarg; break;
		case 'N': o.place.net.on = true; break;
		case 'B': o.place.no_bpf = true; break;
		case 'p': o.place.policy = strcmp(optarg, "other") == 0 ? 2 : 1; break;
		case 'V': o.place.via = optarg; break;
		case 'c': o.checkpoint = strcmp(optarg, "host") == 0 ? CHECKPOINT_HOST : CHECKPOINT_TREE; break;
		case 'w': o.walk = optarg; break;
		case 'k': o.keep = true; break;
		case 'v': o.verbose = true; break;
		default: return FAILED;
		}
	}
	if (optind >= argc || !o.engine || !o.place.guest || !o.place.init)
		return say(FAILED, "usage: see runner.c");
	if (geteuid() != 0)
		return say(SKIPPED, "this needs root");
	setvbuf(stdout, NULL, _IOLBF, 0);
	srand((unsigned)getpid());
	if (o.walk && walk_apart() < 0)
		return say(FAILED, "the runner cannot be set apart");
	signal(SIGPIPE, SIG_IGN);
	if (o.place.net.on && (net_make(&o.place.net) < 0 || net_peer(&o.place.net, argv[optind]) < 0))
		return say(FAILED, "the network of the test cannot be made");
	auto_free char *hugepages = hugepages_allow(o.expect);

	if (o.checkpoint == CHECKPOINT_HOST)
		o.place.engine = o.engine;
	/* The containers' inits are made by a process between and handed to us. */
	v = place_make(&o.place, argv[optind], &e) < 0 ? say(FAILED, err_text(&e)) :
							 program_run(&o, argv + optind + 1, &c);
	if (o.place.net.on && net_done(&o.place.net) < 0 && v == PASSED)
		v = say(FAILED, "the peer outside is not content");
	if (hugepages)
		fd_write_file_at(AT_FDCWD, OVERCOMMIT, hugepages);
	if (v == FAILED)
		log_print(&o);
	if (o.keep)
		return v;
	ct_kill(&c);
	place_remove(&o.place);
	return v;
}
