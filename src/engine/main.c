/* godwit-criu - one checkpoint, one restore, or one end of a migration.  Exit status: 0, 1 (failed),
 * 2 (wrong usage), 3 (refused: the tree is untouched). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/dump.h"
#include "cr/live.h"
#include "engine/cgroup.h"

enum { EXIT_USAGE = 2 };

struct args {
	int tree, init, ctl_fd, data_fd;
	const char *cgroup;
	bool json;
};

static int usage(const char *why)
{
	if (why)
		fprintf(stderr, "godwit-criu: %s\n", why);
	fprintf(stderr,
		"usage: godwit-criu live-dump --tree PID --cgroup DIR --ctl-fd N --data-fd N\n"
		"       godwit-criu live-restore --init PID --cgroup DIR --ctl-fd N --data-fd N\n"
		"       godwit-criu check --tree PID [--cgroup DIR] [--json]\n"
		"       godwit-criu recover --tree PID [--cgroup DIR]\n"
		"       godwit-criu --version\n"
		"       -v: say more; --log-file FILE\n");
	return EXIT_USAGE;
}

static int args_parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "tree", required_argument, NULL, 't' },    { "init", required_argument, NULL, 'i' },
		{ "cgroup", required_argument, NULL, 'c' },  { "ctl-fd", required_argument, NULL, 'C' },
		{ "data-fd", required_argument, NULL, 'D' }, { "json", no_argument, NULL, 'j' },
		{ "log-file", required_argument, NULL, 'o' }, { "verbose", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*a = (struct args){ .tree = -1, .init = -1, .ctl_fd = -1, .data_fd = -1 };
	while ((c = getopt_long(argc, argv, "t:o:v", options, NULL)) != -1) {
		int *number = c == 't' ? &a->tree : c == 'i' ? &a->init : c == 'C' ? &a->ctl_fd :
			      c == 'D' ? &a->data_fd : NULL;

		if (number && (parse_int(optarg, number) < 0 || *number < 0))
			return usage("a number is not a number");
		if (c == 'c') {
			a->cgroup = optarg;
		} else if (c == 'j') {
			a->json = true;
		} else if (c == 'v') {
			log_set_level(LOG_LV_DEBUG);
		} else if (c == 'o') {
			FILE *f = fopen(optarg, "ae");

			if (!f)
				return usage("the log file cannot be opened");
			log_set_fd(fileno(f)); /* stays open to the end */
		} else if (!number) {
			return EXIT_USAGE;
		}
	}
	return optind < argc ? usage("there is an argument too many") : 0;
}

static int check_main(const struct args *a, const char *cgroup)
{
	struct dump_subject subject = { .pid = a->tree, .cgroup = cgroup };
	struct refusals rf = REFUSALS_INIT;
	auto_free char *text = NULL;
	struct err e = { 0 };
	int n;

	if (dump_check(&subject, &rf, &e) < 0) {
		log_error("%s", err_text(&e));
		refusals_done(&rf);
		return LIVE_FAILED;
	}
	text = a->json ? refusals_json(&rf) : refusals_text(&rf);
	n = (int)rf.n;
	refusals_done(&rf);
	if (!text)
		return LIVE_FAILED;
	fputs(text, stdout);
	if (a->json)
		fputc('\n', stdout);
	return n ? LIVE_REFUSED : LIVE_OK;
}

static int recover_main(const struct args *a, const char *cgroup)
{
	struct err e = { 0 };

	if (dump_recover(a->tree, cgroup, &e) < 0) {
		log_error("%s", err_text(&e));
		return LIVE_FAILED;
	}
	return LIVE_OK;
}

/* Every descriptor of the container passes through our table. */
static void limits_raise(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	auto_free char *found = NULL;
	struct err e = { 0 };
	struct args a;
	int r;

	if (strcmp(mode, "--version") == 0) {
		printf("Version: 0.1.0\n");
		return 0;
	}
	if (argc < 2)
		return usage(NULL);
	r = args_parse(argc - 1, argv + 1, &a);
	if (r != 0)
		return r;
	log_set_prefix("godwit-criu");
	limits_raise();
	if (strcmp(mode, "live-restore") == 0) {
		if (a.init < 0 || a.ctl_fd < 0 || a.data_fd < 0 || !a.cgroup)
			return usage("live-restore needs --init, --cgroup, --ctl-fd and --data-fd");
		fd_set_cloexec(a.ctl_fd, 1);
		fd_set_cloexec(a.data_fd, 1);
		return live_restore(a.init, a.cgroup, a.ctl_fd, a.data_fd);
	}
	if (a.tree < 0)
		return usage("--tree is missing");
	if (!a.cgroup) {
		if (cgroup_of_process(a.tree, &found, &e) < 0) {
			log_error("%s", err_text(&e));
			return LIVE_FAILED;
		}
		a.cgroup = found;
	}
	if (strcmp(mode, "check") == 0)
		return check_main(&a, a.cgroup);
	if (strcmp(mode, "recover") == 0)
		return recover_main(&a, a.cgroup);
	if (strcmp(mode, "live-dump") == 0) {
		if (a.ctl_fd < 0 || a.data_fd < 0)
			return usage("live-dump needs --ctl-fd and --data-fd");
		fd_set_cloexec(a.ctl_fd, 1);
		fd_set_cloexec(a.data_fd, 1);
		return live_dump(a.tree, a.cgroup, a.ctl_fd, a.data_fd);
	}
	return usage("this action is not there (dump and restore to folders come later)");
}
