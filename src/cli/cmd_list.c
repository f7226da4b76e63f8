#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"

/* LXD's word, but for a container between two hosts. */
static const char *status_of(const json_t *c)
{
	const char *moving = json_str(json_object_get(c, "migration"), "state");

	return strcmp(moving, "moving") == 0   ? "Moving away" :
	       strcmp(moving, "arriving") == 0 ? "Arriving" :
	       strcmp(moving, "in doubt") == 0 ? "In doubt" :
						 json_str(c, "status");
}

/* The addresses others can reach it by. */
static void addresses_of(const json_t *state, const char *family, char *ret, size_t size)
{
	const char *card;
	json_t *net, *a;
	size_t i;

	ret[0] = 0;
	json_object_foreach(json_object_get(state, "network"), card, net) {
		json_array_foreach(json_object_get(net, "addresses"), i, a) {
			if (strcmp(json_str(a, "family"), family) != 0 || !str_eq(json_str(a, "scope"), "global"))
				continue;
			snprintf(ret + strlen(ret), size - strlen(ret), "%s%s (%s)", ret[0] ? ", " : "",
				 json_str(a, "address"), card);
		}
	}
}

static int add_row(struct table *t, const json_t *c, const char *prefix)
{
	const json_t *state = json_object_get(c, "state");
	char name[160], ipv4[256], ipv6[256], memory[32] = "", processes[32] = "";
	int64_t used = json_int(json_object_get(state, "memory"), "usage", -1), n = json_int(state, "processes", -1);
	const char *const row[] = { name, status_of(c), ipv4, ipv6, processes, memory };

	snprintf(name, sizeof(name), "%s%s", prefix, json_str(c, "name"));
	addresses_of(state, "inet", ipv4, sizeof(ipv4));
	addresses_of(state, "inet6", ipv6, sizeof(ipv6));
	if (used > 0)
		snprintf(memory, sizeof(memory), "%s", cli_bytes((uint64_t)used));
	if (n > 0)
		snprintf(processes, sizeof(processes), "%lld", (long long)n);
	return table_row(t, row);
}

/* raw: the servers' objects, collected for JSON. */
static int list_one(struct cli *cli, const char *ref, bool with_prefix, struct table *t, json_t *raw, struct err *e)
{
	auto_target target = { 0 };
	auto_json *list = NULL;
	char prefix[80] = "";
	json_t *c;
	size_t i;
	int r = target_open(cli->conf, ref, false, &target, e);

	if (r >= 0)
		r = remote_call(target.remote, "GET", NULL, &list, e, "/1.0/instances?recursion=2");
	if (r < 0)
		return r;
	if (with_prefix)
		snprintf(prefix, sizeof(prefix), "%s:", remote_name(target.remote));
	json_array_foreach(list, i, c) {
		if (*target.name && strcmp(target.name, json_str(c, "name")) != 0)
			continue;
		if (add_row(t, c, prefix) < 0 || json_array_append(raw, c) < 0)
			return err_sys(e, -ENOMEM, "cannot list");
	}
	return 0;
}

int cmd_list(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' }, CLI_HELP, { 0 } };
	static const char *const headers[] = { "NAME", "STATUS", "IPV4", "IPV6", "PROCESSES", "MEMORY" };
	enum table_format format = TABLE_PLAIN;
	auto_json *raw = json_array();
	struct err e = { 0 };
	struct table *t;
	int opt, r = 0;

	while ((opt = getopt_long(argc, argv, "hf:", options, NULL)) != -1) {
		if (opt != 'f')
			return cli_usage(cli, opt);
		if (table_format_parse(optarg, &format, &e) < 0)
			return cli_fail(&e);
	}
	t = table_new(headers, array_len(headers));
	if (!t)
		return cli_failf("out of memory");
	if (optind == argc)
		r = list_one(cli, "", false, t, raw, &e);
	for (int i = optind; i < argc && r >= 0; i++)
		r = list_one(cli, argv[i], argc - optind > 1, t, raw, &e);
	if (r >= 0 && format == TABLE_JSON)
		json_print(raw);
	else if (r >= 0)
		table_print(t, format);
	table_free(t);
	return r < 0 ? cli_fail(&e) : 0;
}
