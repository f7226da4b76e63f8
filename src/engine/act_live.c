/* The modes that godwitd calls, with the command line they had before CRIU's. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/dump.h"
#include "cr/live.h"
#include "engine/action.h"
#include "engine/cgroup.h"

struct args {
	int tree, init, ctl_fd, data_fd;
	const char *cgroup;
};

static int usage(const char *why)
{
	if (why)
		fprintf(stderr, "godwit-criu: %s\n", why);
	fprintf(stderr,
		"usage: godwit-criu live-dump --tree PID --cgroup DIR --ctl-fd N --data-fd N\n"
		"       godwit-criu live-restore --init PID --cgroup DIR --ctl-fd N --data-fd N\n"
		"       godwit-criu recover --tree PID [--cgroup DIR]\n"
		"       -v: say more; --log-file FILE\n");
	return EXIT_USAGE;
}

static int args_parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "tree", required_argument, NULL, 't' },    { "init", required_argument, NULL, 'i' },
		{ "cgroup", required_argument, NULL, 'c' },  { "ctl-fd", required_argument, NULL, 'C' },
		{ "data-fd", required_argument, NULL, 'D' }, { "log-file", required_argument, NULL, 'o' },
		{ "verbose", no_argument, NULL, 'v' },	     { NULL, 0, NULL, 0 },
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

static int recover_main(const struct args *a)
{
	auto_free char *found = NULL;
	struct err e = { 0 };
	int r = a->cgroup ? 0 : cgroup_of_process(a->tree, &found, &e);

	if (r >= 0)
		r = dump_recover(a->tree, a->cgroup ? a->cgroup : found, &e);
	if (r < 0)
		log_error("%s", err_text(&e));
	return r < 0 ? LIVE_FAILED : LIVE_OK;
}

static int restore_main(const struct args *a)
{
	if (a->init < 0 || a->ctl_fd < 0 || a->data_fd < 0 || !a->cgroup)
		return usage("live-restore needs --init, --cgroup, --ctl-fd and --data-fd");
	return live_restore(a->init, a->cgroup, a->ctl_fd, a->data_fd);
}

static int dump_main(const struct args *a)
{
	auto_free char *found = NULL;
	struct err e = { 0 };

	if (a->tree < 0 || a->ctl_fd < 0 || a->data_fd < 0)
		return usage("live-dump needs --tree, --ctl-fd and --data-fd");
	if (!a->cgroup && cgroup_of_process(a->tree, &found, &e) < 0) {
		log_error("%s", err_text(&e));
		return LIVE_FAILED;
	}
	return live_dump(a->tree, a->cgroup ? a->cgroup : found, a->ctl_fd, a->data_fd);
}

bool live_is_mode(const char *word)
{
	return strcmp(word, "live-dump") == 0 || strcmp(word, "live-restore") == 0 || strcmp(word, "recover") == 0;
}

int live_main(int argc, char **argv)
{
	struct args a;
	int r = args_parse(argc - 1, argv + 1, &a);

	if (r != 0)
		return r;
	if (a.ctl_fd >= 0)
		fd_set_cloexec(a.ctl_fd, 1);
	if (a.data_fd >= 0)
		fd_set_cloexec(a.data_fd, 1);
	if (strcmp(argv[1], "live-restore") == 0)
		return restore_main(&a);
	if (strcmp(argv[1], "live-dump") == 0)
		return dump_main(&a);
	return a.tree < 0 ? usage("--tree is missing") : recover_main(&a);
}
