/* options - what a caller of the program has asked for: the table of CRIU's options, and one object that a
 * command line, configuration files and RPC requests all fill by the same names (`man criu`).
 *
 * An option that is not in the table is an error.  One that is there and cannot be served is collected in
 * `unserved`, so that options_unserved names all of them at once, before anything is touched. */
#pragma once
#include "base/buf.h"
#include "cr/opts.h"

enum action {
	ACTION_NONE,
	ACTION_DUMP,
	ACTION_RESTORE,
	ACTION_CHECK,
	ACTION_PAGE_SERVER,
	ACTION_DEDUP,
	ACTION_CPUINFO_DUMP,
	ACTION_CPUINFO_CHECK,
	ACTION_SWRK,
	ACTION_SERVICE,
	ACTION_PRE_DUMP,   /* known, of a later issue */
	ACTION_LAZY_PAGES,
	ACTION_N
};

/* --cpu-cap */
enum { CPU_CAP_FPU = 1, CPU_CAP_CPU = 2, CPU_CAP_INS = 4 };

struct options {
	struct cr_opts cr; /* images_fd is folders_open's */
	enum action action;
	bool version, help;
	/* Folders and files; all but images_dir relative to the work dir. */
	const char *images_dir, *work_dir, *log_file, *pidfile;
	int verbosity; /* 0 nothing … 4 everything; -1: the default, 2 */
	bool log_pid, display_stats;
	int status_fd; /* -1: none */
	struct cr_pairs scripts; /* keys */
	/* restore */
	bool detach, exec_cmd;
	char *const *command; /* behind "--", ends with NULL; of exec_cmd */
	/* check */
	bool all, extra, experimental, json;
	const char *feature, *cgroup;
	/* page-server, service, and a dump to a page server */
	bool page_server, daemon;
	const char *address;
	int port; /* 0: any */
	int ps_socket; /* -1: none */
	int swrk_fd;
	bool replace; /* an image that is in the folder */
	unsigned cpu_cap; /* CPU_CAP_*; what was not asked for is the action's default */
	bool cpu_cap_given;
	/* configuration files */
	const char *config;
	bool no_default_config;

	struct buf unserved; /* each option that is known and not served, with "; " behind it */
	struct buf notes;    /* a line for each option that changes nothing */
	char **owned;        /* strings that have no other owner */
	size_t n_owned, cap_owned;
};

void options_init(struct options *o);
void options_done(struct options *o);

/* One option by its long name without dashes ("no-NAME" too); value NULL where none was given.  -EINVAL: there is
 * no such option.  Value and name have to live as long as o, but for configuration files and RPC: options_keep. */
int options_set(struct options *o, const char *name, const char *value, struct err *e);
/* A copy that lives as long as o; NULL: no memory. */
const char *options_keep(struct options *o, const char *s);
int options_keep_len(struct options *o, const char *s, size_t len, const char **ret);
/* Adds to one of the lists. */
int options_pair(struct options *o, struct cr_pairs *p, const char *key, const char *value, int fd, struct err *e);

/* A command line.  Configuration files come first, unless it says --no-default-config; then the words, then
 * what contradicts itself is refused. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
/* What a set of options may not say together, whoever gave them. */
int options_check(const struct options *o, struct err *e);
/* -EOPNOTSUPP with every option that is known and not served; 0: none. */
int options_unserved(const struct options *o, struct err *e);

const char *action_name(enum action a);

/* ---- the table, for parsing and for tests ---- */

enum opt_arg { OPT_NONE, OPT_MUST, OPT_MAY };
struct option_row {
	const char *name;
	char letter; /* 0: none */
	enum opt_arg arg;
	/* on is false for "no-NAME", which only options without argument have. */
	int (*set)(struct options *o, const struct option_row *row, const char *value, bool on, struct err *e);
	size_t at;         /* where in struct options, for the setters that need no code of their own */
	const char *later; /* why it is not served; NULL: it is */
	const char *note;  /* why it changes nothing, for the log; NULL: it does */
};
extern const struct option_row option_rows[];
extern const size_t option_rows_n;
const struct option_row *option_find(const char *name); /* without "no-" */
const struct option_row *option_letter(char letter);
