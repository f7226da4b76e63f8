/* start, stop, restart, delete: for each name, going on where one fails */
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/target.h"

struct change {
	const char *action; /* NULL: delete */
	bool force;
	int timeout;
};

static int change_state(struct target *t, const char *action, bool force, int timeout, struct err *e)
{
	return remote_call(t->remote, "PUT",
			   json_pack("{s:s, s:i, s:b, s:b}", "action", action, "timeout", timeout, "force", force,
				     "stateful", 0),
			   NULL, e, "/1.0/instances/%s/state", t->name);
}

static int delete_one(struct target *t, bool force, struct err *e)
{
	auto_json *c = NULL;
	int r;

	if (force) {
		r = remote_call(t->remote, "GET", NULL, &c, e, "/1.0/instances/%s", t->name);
		if (r < 0)
			return r;
		if (!str_eq(json_str(c, "status"), "Stopped")) {
			r = change_state(t, "stop", true, -1, e);
			if (r < 0)
				return r;
		}
	}
	return remote_call(t->remote, "DELETE", NULL, NULL, e, "/1.0/instances/%s", t->name);
}

static int change_all(struct cli *cli, int argc, char **argv, struct change ch)
{
	static const struct option options[] = { { "force", no_argument, NULL, 'f' },
						 { "timeout", required_argument, NULL, 't' },
						 CLI_HELP, { 0 } };
	int opt, r, status = 0;

	while ((opt = getopt_long(argc, argv, "hf", options, NULL)) != -1) {
		if (opt == 'f')
			ch.force = true;
		else if (opt != 't')
			return cli_usage(cli, opt);
		else if (parse_int(optarg, &ch.timeout) < 0)
			return cli_failf("'%s' is no number of seconds", optarg);
	}
	if (!cli_args(cli, argc, 1, -1, &r))
		return r;
	for (int i = optind; i < argc && !interrupt_count(); i++) {
		auto_target target = { 0 };
		struct err e = { 0 };

		r = target_open(cli->conf, argv[i], true, &target, &e);
		if (r >= 0)
			r = ch.action ? change_state(&target, ch.action, ch.force, ch.timeout, &e) :
					delete_one(&target, ch.force, &e);
		if (r < 0)
			status = cli_fail(&e);
	}
	return status;
}

int cmd_start(struct cli *cli, int argc, char **argv)
{
	return change_all(cli, argc, argv, (struct change){ .action = "start", .timeout = -1 });
}

int cmd_stop(struct cli *cli, int argc, char **argv)
{
	return change_all(cli, argc, argv, (struct change){ .action = "stop", .timeout = 30 });
}

int cmd_restart(struct cli *cli, int argc, char **argv)
{
	return change_all(cli, argc, argv, (struct change){ .action = "restart", .timeout = 30 });
}

int cmd_delete(struct cli *cli, int argc, char **argv)
{
	return change_all(cli, argc, argv, (struct change){ 0 });
}
