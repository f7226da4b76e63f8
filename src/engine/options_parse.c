/* The words of a command line.  getopt_long has its state in globals and takes abbreviations, so that a word with
 * a typing error may mean another option: CRIU's own letters and forms are read here instead. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "engine/config.h"
#include "engine/options.h"

static const struct {
	const char *name, *second;
	enum action action;
} actions[] = {
	{ "dump", NULL, ACTION_DUMP },
	{ "restore", NULL, ACTION_RESTORE },
	{ "check", NULL, ACTION_CHECK },
	{ "page-server", NULL, ACTION_PAGE_SERVER },
	{ "dedup", NULL, ACTION_DEDUP },
	{ "cpuinfo", "dump", ACTION_CPUINFO_DUMP },
	{ "cpuinfo", "check", ACTION_CPUINFO_CHECK },
	{ "swrk", "", ACTION_SWRK }, /* second: any */
	{ "service", NULL, ACTION_SERVICE },
	{ "pre-dump", NULL, ACTION_PRE_DUMP },
	{ "lazy-pages", NULL, ACTION_LAZY_PAGES },
};

const char *action_name(enum action a)
{
	for (size_t i = 0; i < array_len(actions); i++)
		if (actions[i].action == a)
			return actions[i].name;
	return "";
}

struct words {
	char *plain[3];
	size_t n;
};

static int action_take(struct options *o, const struct words *w, struct err *e)
{
	bool named = false;

	for (size_t i = 0; i < array_len(actions); i++) {
		const char *second = actions[i].second;

		if (strcmp(w->plain[0], actions[i].name) != 0)
			continue;
		named = true;
		if (second && (w->n < 2 || (*second && strcmp(w->plain[1], second) != 0)))
			continue;
		if (w->n > (second ? 2u : 1u))
			return err_set(e, -EINVAL, "'%s' is an argument too many", w->plain[second ? 2 : 1]);
		o->action = actions[i].action;
		if (o->action == ACTION_SWRK && (parse_int(w->plain[1], &o->swrk_fd) < 0 || o->swrk_fd < 0))
			return err_set(e, -EINVAL, "swrk %s: a descriptor was expected", w->plain[1]);
		return 0;
	}
	if (named && w->n > 1)
		return err_set(e, -EINVAL, "%s has no '%s'", w->plain[0], w->plain[1]);
	if (named)
		return err_set(e, -EINVAL, strcmp(w->plain[0], "swrk") == 0 ? "swrk needs a descriptor" :
			       "cpuinfo is dump or check");
	return err_set(e, -EINVAL, "there is no action '%s'", w->plain[0]);
}

/* "--name", "--name=value", "--name value". */
static int long_take(struct options *o, int argc, char **argv, int *i, struct err *e)
{
	const char *word = argv[*i] + 2, *equal = strchr(word, '='), *name = word, *value = NULL;
	const struct option_row *row;

	if (equal) {
		if (options_keep_len(o, word, (size_t)(equal - word), &name) < 0)
			return err_sys(e, -ENOMEM, "%s", argv[*i]);
		value = equal + 1;
	}
	row = option_find(name);
	if (row && row->arg == OPT_MUST && !value && *i + 1 < argc)
		value = argv[++*i];
	return options_set(o, name, value, e);
}

/* "-dj", "-t PID", "-tPID", "-v4". */
static int letters_take(struct options *o, int argc, char **argv, int *i, struct err *e)
{
	for (const char *s = argv[*i] + 1; *s; s++) {
		const struct option_row *row = option_letter(*s);
		const char *value = NULL;
		int r;

		if (!row)
			return err_set(e, -EINVAL, "there is no option -%c", *s);
		if (row->arg != OPT_NONE && s[1])
			value = s + 1;
		else if (row->arg == OPT_MUST && *i + 1 < argc)
			value = argv[++*i];
		r = options_set(o, row->name, value, e);
		if (r < 0 || value)
			return r;
	}
	return 0;
}

static int words_take(struct options *o, int argc, char **argv, struct words *w, struct err *e)
{
	for (int i = 1; i < argc; i++) {
		int r = 0;

		if (strcmp(argv[i], "--") == 0) {
			o->command = argv + i + 1;
			break;
		}
		if (argv[i][0] == '-' && argv[i][1] == '-')
			r = long_take(o, argc, argv, &i, e);
		else if (argv[i][0] == '-' && argv[i][1])
			r = letters_take(o, argc, argv, &i, e);
		else if (w->n == array_len(w->plain))
			r = err_set(e, -EINVAL, "'%s' is an argument too many", argv[i]);
		else
			w->plain[w->n++] = argv[i];
		if (r < 0)
			return r;
	}
	return 0;
}

/* The two words that say which files are read before all other words. */
static int config_find(struct options *o, int argc, char **argv, struct err *e)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const struct option_row *row;

		if (strcmp(argv[i], "--no-default-config") == 0)
			o->no_default_config = true;
		if (str_starts(argv[i], "--config="))
			o->config = argv[i] + 9;
		if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
			o->config = argv[i + 1];
		/* A value that looks like one of them is a value. */
		row = str_starts(argv[i], "--") ? option_find(argv[i] + 2) :
		      argv[i][0] == '-' && argv[i][1] && !argv[i][2] ? option_letter(argv[i][1]) : NULL;
		if (row && row->arg == OPT_MUST)
			i++;
	}
	return 0;
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	struct words w = { .n = 0 };
	int r;

	config_find(o, argc, argv, e);
	r = config_apply_default(o, e);
	if (r >= 0)
		r = words_take(o, argc, argv, &w, e);
	if (r < 0)
		return r;
	if (o->version || o->help)
		return 0;
	if (w.n == 0)
		return err_set(e, -EINVAL, "an action is missing: dump, restore, check, page-server, dedup, cpuinfo, swrk "
			       "or service");
	r = action_take(o, &w, e);
	return r < 0 ? r : options_check(o, e);
}

int options_check(const struct options *o, struct err *e)
{
	const char *why =
		o->action == ACTION_PRE_DUMP || o->action == ACTION_LAZY_PAGES ?
			"memory in rounds (pre-dump) and memory that follows (lazy-pages) belong to a later version" :
		o->action == ACTION_DUMP && !o->cr.pid ? "dump needs --tree PID" :
		o->cr.sibling && !o->detach ? "--restore-sibling needs --restore-detached" :
		o->action == ACTION_RESTORE && o->cr.after == CR_AFTER_STOP ?
			"--leave-stopped is not served for a restore: the tree runs when it is complete" :
		o->exec_cmd && (!o->command || !*o->command) ? "--exec-cmd needs a command behind \"--\"" :
		o->command && !o->exec_cmd ? "words behind \"--\" are the command of --exec-cmd" :
		o->cr.tcp_established && o->cr.tcp_close ? "--tcp-established and --tcp-close exclude each other" :
		o->daemon && o->status_fd >= 0 ? "--daemon and --status-fd exclude each other" :
		o->page_server && o->action == ACTION_DUMP && o->ps_socket < 0 && (!o->address || !o->port) ?
			"--page-server needs --address and --port" :
		o->cgroup && o->action != ACTION_CHECK ? "--cgroup belongs to check --tree" : NULL;

	return why ? err_set(e, -EINVAL, "%s", why) : options_unserved(o, e);
}
