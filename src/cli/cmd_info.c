#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"

static void print_pairs(const char *title, const json_t *o)
{
	const char *key;
	json_t *v;

	if (!json_object_size(o))
		return;
	printf("%s:\n", title);
	json_object_foreach((json_t *)o, key, v) {
		if (json_is_string(v) && !strchr(json_string_value(v), '\n'))
			printf("  %s: %s\n", key, json_string_value(v));
	}
}

static void print_server(const json_t *s)
{
	const json_t *env = json_object_get(s, "environment");
	size_t i;
	json_t *a;

	printf("Server: %s %s, %s\n", json_str(env, "server"), json_str(env, "server_version"),
	       json_str(env, "server_name"));
	printf("Trusts us: %s\n", strcmp(json_str(s, "auth"), "trusted") == 0 ? "yes" : "no");
	if (!env)
		return;
	printf("Kernel: %s %s (%s)\n", json_str(env, "kernel"), json_str(env, "kernel_version"),
	       json_str(env, "kernel_architecture"));
	json_array_foreach(json_object_get(env, "addresses"), i, a)
		printf("Address: %s\n", json_string_value(a));
	printf("Certificate: %s\n", json_str(env, "certificate_fingerprint"));
	print_pairs("Configuration", json_object_get(s, "config"));
}

static void print_network(const json_t *state)
{
	const char *card;
	json_t *net, *a;
	size_t i;

	json_object_foreach(json_object_get(state, "network"), card, net) {
		printf("  %s: %s, %s\n", card, json_str(net, "hwaddr"), json_str(net, "state"));
		json_array_foreach(json_object_get(net, "addresses"), i, a)
			printf("    %s/%s (%s)\n", json_str(a, "address"), json_str(a, "netmask"), json_str(a, "scope"));
	}
}

static void print_instance(const json_t *c, const json_t *state)
{
	const json_t *memory = json_object_get(state, "memory"), *cpu = json_object_get(state, "cpu");
	const json_t *moving = json_object_get(c, "migration");
	json_t *p;
	size_t i;

	printf("Name: %s\nStatus: %s\n", json_str(c, "name"), json_str(c, "status"));
	if (*json_str(moving, "state"))
		printf("Migration: %s; %s\n", json_str(moving, "state"), json_str(moving, "text"));
	printf("Made: %s\nArchitecture: %s\n", json_str(c, "created_at"), json_str(c, "architecture"));
	json_array_foreach(json_object_get(c, "profiles"), i, p)
		printf("Profile: %s\n", json_string_value(p));
	if (json_int(state, "pid", 0) > 0) {
		printf("First process: %lld\nProcesses: %lld\n", (long long)json_int(state, "pid", 0),
		       (long long)json_int(state, "processes", 0));
		printf("Memory: %s (peak %s)\n", cli_bytes((uint64_t)json_int(memory, "usage", 0)),
		       cli_bytes((uint64_t)json_int(memory, "usage_peak", 0)));
		printf("CPU time: %s\n", cli_duration_us((uint64_t)json_int(cpu, "usage", 0) / 1000));
		puts("Network:");
		print_network(state);
	}
	print_pairs("Configuration", json_object_get(c, "expanded_config"));
}

int cmd_info(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' }, CLI_HELP, { 0 } };
	enum table_format format = TABLE_PLAIN;
	auto_target target = { 0 };
	auto_json *what = NULL, *state = NULL;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "hf:", options, NULL)) != -1) {
		if (opt != 'f')
			return cli_usage(cli, opt);
		if (table_format_parse(optarg, &format, &e) < 0)
			return cli_fail(&e);
	}
	if (!cli_args(cli, argc, 0, 1, &r))
		return r;
	r = target_open(cli->conf, optind < argc ? argv[optind] : "", false, &target, &e);
	if (r >= 0 && !*target.name) {
		r = remote_call(target.remote, "GET", NULL, &what, &e, "/1.0");
	} else if (r >= 0) {
		r = remote_call(target.remote, "GET", NULL, &what, &e, "/1.0/instances/%s", target.name);
		if (r >= 0)
			r = remote_call(target.remote, "GET", NULL, &state, &e, "/1.0/instances/%s/state", target.name);
		if (r >= 0)
			json_object_set(what, "state", state);
	}
	if (r < 0)
		return cli_fail(&e);
	if (format == TABLE_JSON)
		json_print(what);
	else if (*target.name)
		print_instance(what, state);
	else
		print_server(what);
	return 0;
}
