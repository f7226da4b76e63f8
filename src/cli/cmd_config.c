/* config show, get, set: of a container, or of a host where no name is said */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"

static int config_get(struct target *t, json_t **ret_whole, struct err *e)
{
	return *t->name ? remote_call(t->remote, "GET", NULL, ret_whole, e, "/1.0/instances/%s", t->name) :
			  remote_call(t->remote, "GET", NULL, ret_whole, e, "/1.0");
}

static void print_sorted(const json_t *config)
{
	auto_free char *text = json_dumps(config, JSON_SORT_KEYS);
	auto_json *sorted = text ? json_loads(text, 0, NULL) : NULL;
	const char *key;
	json_t *value;

	json_object_foreach(sorted, key, value)
		printf("%s: %s\n", key, json_is_string(value) ? json_string_value(value) : "");
}

int cmd_config_show(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { CLI_HELP, { 0 } };
	auto_target target = { 0 };
	auto_json *whole = NULL;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_usage(cli, opt);
	if (!cli_args(cli, argc, 0, 1, &r))
		return r;
	r = target_open(cli->conf, optind < argc ? argv[optind] : "", false, &target, &e);
	if (r >= 0)
		r = config_get(&target, &whole, &e);
	if (r < 0)
		return cli_fail(&e);
	print_sorted(json_object_get(whole, *target.name ? "expanded_config" : "config"));
	return 0;
}

int cmd_config_get(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { CLI_HELP, { 0 } };
	auto_target target = { 0 };
	auto_json *whole = NULL;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_usage(cli, opt);
	if (!cli_args(cli, argc, 1, 2, &r))
		return r;
	r = target_open(cli->conf, argc - optind == 2 ? argv[optind] : "", false, &target, &e);
	if (r >= 0)
		r = config_get(&target, &whole, &e);
	if (r < 0)
		return cli_fail(&e);
	puts(json_str(json_object_get(whole, *target.name ? "expanded_config" : "config"), argv[argc - 1]));
	return 0;
}

int cmd_config_set(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { CLI_HELP, { 0 } };
	auto_target target = { 0 };
	auto_json *config = json_object();
	struct err e = { 0 };
	const char *where = "";
	int opt, r, first;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_usage(cli, opt);
	if (!cli_args(cli, argc, 1, -1, &r))
		return r;
	first = optind;
	if (!strchr(argv[first], '='))
		where = argv[first++];
	if (first >= argc)
		return cli_failf("KEY=VALUE is missing");
	for (int i = first; i < argc; i++) {
		char *eq = strchr(argv[i], '=');
		auto_free char *key = eq ? strndup(argv[i], (size_t)(eq - argv[i])) : NULL;

		if (!key || !*key)
			return cli_failf("'%s' is not KEY=VALUE", argv[i]);
		if (json_object_set_new(config, key, json_string(eq + 1)) < 0)
			return cli_failf("'%s' is no text in UTF-8", argv[i]);
	}
	r = target_open(cli->conf, where, false, &target, &e);
	if (r >= 0 && *target.name)
		r = remote_call(target.remote, "PATCH", json_pack("{s:O}", "config", config), NULL, &e,
				"/1.0/instances/%s", target.name);
	else if (r >= 0)
		r = remote_call(target.remote, "PATCH", json_pack("{s:O}", "config", config), NULL, &e, "/1.0");
	return r < 0 ? cli_fail(&e) : 0;
}
