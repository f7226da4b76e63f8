/* cli - what the verbs of `godwit` share: the table of verbs, options, messages and numbers.
 *
 * A verb is a function in a file of its own (cmd_NAME.c) and a line in the table of main.c.  It returns
 * the exit status of the program: 0, 1 when something failed (after cli_fail), 130 when ^C ended it, 2 for wrong
 * usage. */
#pragma once
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/conf.h"

struct cli {
	struct conf *conf;
	const struct verb *verb;
};

struct verb {
	const char *name;    /* "list", "remote add" */
	const char *args;    /* "[REMOTE:]NAME" */
	const char *summary; /* one line of `godwit help` */
	const char *help;    /* what --help adds: options and examples; may be NULL */
	int (*run)(struct cli *cli, int argc, char **argv); /* argv[0] is what getopt's complaints begin with */
};

/* "WORD: text" on stderr. What a server said may hold anything: escape sequences do not reach the terminal. */
void cli_complain(const char *word, const char *text);
/* Prints "Error: ..." and returns 1; 130 after ^C. */
int cli_fail(const struct err *e);
int cli_failf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For the default case of a getopt switch: prints the verb's usage; 0 for -h, else 2. */
int cli_usage(struct cli *cli, int opt);
/* How many arguments are left may be said: checks and complains. */
bool cli_args(struct cli *cli, int argc, int min, int max, int *ret_status);

#define CLI_HELP { "help", no_argument, NULL, 'h' }

/* "12.3 MiB", "1.2 s" into one of a few static buffers. */
const char *cli_bytes(uint64_t n);
const char *cli_duration_us(uint64_t us);

/* Fields of JSON that may not be there. */
const char *json_str(const json_t *o, const char *key);            /* "" when missing */
int64_t json_int(const json_t *o, const char *key, int64_t other);
bool json_flag(const json_t *o, const char *key);

int cmd_init(struct cli *cli, int argc, char **argv);
int cmd_remote_add(struct cli *cli, int argc, char **argv);
int cmd_remote_list(struct cli *cli, int argc, char **argv);
int cmd_remote_remove(struct cli *cli, int argc, char **argv);
int cmd_remote_default(struct cli *cli, int argc, char **argv);
int cmd_trust_add(struct cli *cli, int argc, char **argv);
int cmd_trust_list(struct cli *cli, int argc, char **argv);
int cmd_trust_remove(struct cli *cli, int argc, char **argv);
int cmd_config_get(struct cli *cli, int argc, char **argv);
int cmd_config_set(struct cli *cli, int argc, char **argv);
int cmd_config_show(struct cli *cli, int argc, char **argv);
int cmd_image_build(struct cli *cli, int argc, char **argv);
int cmd_image_import(struct cli *cli, int argc, char **argv);
int cmd_image_list(struct cli *cli, int argc, char **argv);
int cmd_image_delete(struct cli *cli, int argc, char **argv);
int cmd_launch(struct cli *cli, int argc, char **argv);
int cmd_list(struct cli *cli, int argc, char **argv);
int cmd_info(struct cli *cli, int argc, char **argv);
int cmd_exec(struct cli *cli, int argc, char **argv);
int cmd_start(struct cli *cli, int argc, char **argv);
int cmd_stop(struct cli *cli, int argc, char **argv);
int cmd_restart(struct cli *cli, int argc, char **argv);
int cmd_delete(struct cli *cli, int argc, char **argv);
int cmd_move(struct cli *cli, int argc, char **argv);
int cmd_monitor(struct cli *cli, int argc, char **argv);
