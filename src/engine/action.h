/* action - what the program does, one function for each action; main and RPC call them, after folders_* and log_open.
 * Exit statuses are main's. */
#pragma once
#include "engine/scripts.h"

/* Exit statuses of the program; never a signal. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3 };

/* -EOPNOTSUPP: refused, nothing was touched; the list is in the log. */
int action_dump(struct options *o, struct scripts *s, struct err *e);
/* The pidfile is written before anything of the tree runs. */
int action_restore(struct options *o, struct scripts *s, pid_t *ret_pid, struct err *e);
/* Waits for the restored init; its exit status, as a shell has it.  As a job of a shell (--shell-job) we stop when it
 * is stopped, and it goes on when we do. */
int restore_wait(pid_t pid, bool job, struct err *e);

/* What the kernel has and what we may do; on stdout.  -EOPNOTSUPP: something is missing. */
int action_check(const struct options *o, struct err *e);
/* check --tree: 0, -EOPNOTSUPP with everything on stdout. */
int action_check_tree(const struct options *o, struct err *e);

int action_cpuinfo_dump(const struct options *o, struct err *e);
int action_cpuinfo_check(const struct options *o, struct err *e);

int action_dedup(const struct options *o, struct err *e);
int action_page_server(struct options *o, struct err *e);

/* RPC over an inherited socket, until it is closed. */
int action_swrk(const struct options *o, struct err *e);
int action_service(struct options *o, struct err *e);

/* live-dump, live-restore, recover: their own command line (ARCHITECTURE.md, "Engine"). */
bool live_is_mode(const char *word);
int live_main(int argc, char **argv);
