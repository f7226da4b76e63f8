/* monitor: events, an object of JSON a line */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/target.h"

int cmd_monitor(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "type", required_argument, NULL, 't' }, CLI_HELP, { 0 } };
	auto_free char *path = NULL;
	auto_target target = { 0 };
	const char *types = NULL;
	struct ws_client *ws = NULL;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt != 't')
			return cli_usage(cli, opt);
		types = optarg;
	}
	if (!cli_args(cli, argc, 0, 1, &r))
		return r;
	if (types && strspn(types, "abcdefghijklmnopqrstuvwxyz,") != strlen(types))
		return cli_failf("'%s' are no types of events: operation, lifecycle, logging", types);
	r = asprintf(&path, "/1.0/events%s%s", types ? "?type=" : "", types ? types : "");
	if (r >= 0)
		r = target_open(cli->conf, optind < argc ? argv[optind] : "", false, &target, &e);
	if (r >= 0)
		r = ws_client_open(remote_endpoint(target.remote), path, &ws, &e);
	while (r >= 0) {
		enum ws_kind kind;
		char *text = NULL;
		size_t len;

		r = ws_client_recv(ws, -1, &kind, &text, &len, &e);
		if (r == 0)
			r = err_set(&e, -EPIPE, "%s has closed the connection", remote_name(target.remote));
		else if (r > 0 && kind == WS_TEXT)
			puts(text);
		fflush(stdout);
		free(text);
	}
	ws_client_free(ws);
	return cli_fail(&e);
}
