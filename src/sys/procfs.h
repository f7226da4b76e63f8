/* procfs - what /proc/PID says, parsed once and bounded.
 *
 * `dir` is a descriptor of a /proc/PID or /proc/PID/task/TID folder; numbers are those of the PID
 * namespace that the procfs was mounted in, unless they are called ns_. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define PROC_NS_LEVELS_MAX 33

struct proc_status {
	char comm[64];
	char state;                       /* R S D T t Z X I */
	pid_t tgid, pid, ppid, tracer;
	size_t levels;                    /* PID namespaces, from the procfs' own to the task's own */
	pid_t ns_pid, ns_tgid;            /* in the task's own (innermost) namespace */
	pid_t ns_pids[PROC_NS_LEVELS_MAX]; /* by level */
	pid_t ns_pgid, ns_sid;            /* there too; 0: the leader is from outside of it */
	uint32_t threads;
	uint32_t uid[4], gid[4];          /* real, effective, saved, fs; the reader's user namespace */
	uint64_t sig_blocked, sig_pending, sig_shared, sig_ignored, sig_caught;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t seccomp, no_new_privs, umask;
	uint64_t ctxt_voluntary, ctxt_involuntary;
};

/* Opens /proc/PID below a descriptor of /proc.  The fd, or -errno. */
int proc_open(int proc_fd, pid_t pid);
/* Opens /proc/PID/task/TID. */
int proc_open_thread(int dir, pid_t tid);

int proc_status_parse(const char *text, struct proc_status *ret);
int proc_status_read(int dir, struct proc_status *ret, struct err *e);

struct proc_stat {
	char state;
	pid_t ppid, pgrp, session;
	int tty_nr, tpgid;
	uint32_t flags;
	uint64_t starttime;  /* clock ticks since boot, of the reader's time namespace */
	uint64_t start_code, end_code, start_stack, start_data, end_data, start_brk;
	uint64_t arg_start, arg_end, env_start, env_end;
	int processor;       /* that it runs, or last ran, on */
	int exit_code;       /* wait status of a zombie; 0 where the reader may not see it */
};
int proc_stat_parse(const char *text, struct proc_stat *ret);
int proc_stat_read(int dir, struct proc_stat *ret, struct err *e);

/* Lists, malloc'd (free), unsorted as the kernel gives them.  `dir` is the process `pid`. */
int proc_threads(int dir, pid_t pid, pid_t **ret, size_t *ret_n, struct err *e);
/* Children of all threads of the process, zombies included; exact only while it stands still. */
int proc_children(int dir, pid_t pid, pid_t **ret, size_t *ret_n, struct err *e);
/* The same, of threads that are known. */
int proc_children_of(int dir, const pid_t *tids, size_t n_tids, pid_t **ret, size_t *ret_n, struct err *e);
/* The numbered descriptors. */
int proc_fds(int dir, int **ret, size_t *ret_n, struct err *e);

/* /proc/PID/fdinfo/FD as text (malloc'd). */
int proc_fdinfo(int dir, int fd, char **ret, struct err *e);
/* The value of a line "key:\tvalue" of such a text as a number in this base; -ENOENT: no such line. */
int proc_fdinfo_u64(const char *text, const char *key, unsigned base, uint64_t *ret);
/* Target of a link below dir ("fd/3", "exe", "cwd"), malloc'd. */
int proc_readlink(int dir, const char *name, char **ret, struct err *e);

/* The path of the process in the v2 hierarchy as seen from the reader's cgroup namespace. */
int proc_cgroup_v2(int dir, char **ret, struct err *e);

/* How far a clock (CLOCK_MONOTONIC, CLOCK_BOOTTIME; of all others: 0) of a process is ahead of the kernel's,
 * in ns; `name` is its timens_offsets, below dir.  0 too where there are no time namespaces. */
int64_t proc_clock_offset(int dir, const char *name, int clock);

/* A whole small file below dir. */
#define PROC_FILE_MAX (16u << 20)
int proc_file(int dir, const char *name, char **ret, size_t *ret_len, struct err *e);
