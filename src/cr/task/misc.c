/* Small attributes of processes and threads.
 *
 * Process: oom_score_adj (a file, written by the engine), child subreaper, dumpable (from the memory
 * record), personality.  Thread: name, parent-death signal, robust futex list, address to clear at exit
 * (set_tid_address).  What a change of credentials resets (parent-death signal, dumpable) is set behind
 * part `creds`.
 * Not covered: speculation and machine-check policies, memory-deny-write-execute, coredump_filter: a
 * restored process has gw-init's. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/task/attr.h"
#include "sys/procfs.h"

#define PR_GET_TID_ADDRESS_ 40
#define COMM_MAX 64

static int read_comm(struct task *t, struct thread *th, struct err *e)
{
	char *comm = NULL, *copy;
	size_t len;
	int r = attr_thread_file(t, th, "comm", COMM_MAX, &comm, &len, e);

	if (r < 0)
		return r;
	if (len && comm[len - 1] == '\n')
		comm[len - 1] = '\0';
	th->core->thread_core->comm = comm;
	if (th != &t->threads[0])
		return 0;
	copy = strdup(comm);
	if (!copy)
		return err_set(e, -ENOMEM, "no memory");
	if (th->core->tc->comm && th->core->tc->comm != protobuf_c_empty_string)
		free(th->core->tc->comm);
	th->core->tc->comm = copy;
	return 0;
}

static int read_thread(struct task *t, struct thread *th, struct err *e)
{
	struct aprog *p = aprog_new();
	struct aarg death, address, head, head_len;
	size_t persona;
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	death = aprog_out(p, sizeof(int));
	address = aprog_out(p, sizeof(uint64_t));
	head = aprog_out(p, sizeof(uint64_t));
	head_len = aprog_out(p, sizeof(uint64_t));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_PDEATHSIG), death, aarg_imm(0), aarg_imm(0), aarg_imm(0));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_TID_ADDRESS_), address, aarg_imm(0), aarg_imm(0),
		   aarg_imm(0));
	APROG_CALL(p, 0, SYS_get_robust_list, aarg_imm(0), head, head_len);
	persona = APROG_CALL(p, 0, SYS_personality, aarg_imm(0xffffffff));
	r = agent_run(th->agent, p, e);
	if (r >= 0) {
		ThreadCoreEntry *tc = th->core->thread_core;
		uint64_t v;
		int sig;

		memcpy(&sig, aprog_out_data(p, death), sizeof(sig));
		tc->has_pdeath_sig = true;
		tc->pdeath_sig = (uint32_t)sig;
		memcpy(&tc->futex_rla, aprog_out_data(p, head), sizeof(tc->futex_rla));
		memcpy(&v, aprog_out_data(p, head_len), sizeof(v));
		tc->futex_rla_len = (uint32_t)v;
		memcpy(&v, aprog_out_data(p, address), sizeof(v));
		if (th->core->thread_info)
			th->core->thread_info->clear_tid_addr = v;
		th->extra->has_personality = true;
		th->extra->personality = (uint32_t)aprog_result(p, persona);
		if (th == &t->threads[0])
			th->core->tc->personality = th->extra->personality;
	}
	aprog_free(p);
	return r < 0 ? r : 0;
}

static int read_task(struct task *t, struct err *e)
{
	auto_free char *text = NULL;
	struct aprog *p;
	struct aarg out;
	int score, sub, r;

	r = fd_read_file_at(t->proc_fd, "oom_score_adj", 64, &text, NULL);
	if (r < 0)
		return err_sys(e, r, "reading oom_score_adj");
	text[strcspn(text, "\n")] = '\0';
	if (parse_int(text, &score) < 0)
		return err_set(e, -EPROTO, "oom_score_adj is %s", text);
	p = aprog_new();
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	out = aprog_out(p, sizeof(int));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_CHILD_SUBREAPER), out, aarg_imm(0), aarg_imm(0),
		   aarg_imm(0));
	r = agent_run(t->threads[0].agent, p, e);
	if (r >= 0) {
		memcpy(&sub, aprog_out_data(p, out), sizeof(sub));
		t->extra->has_child_subreaper = t->extra->has_oom_score_adj = true;
		t->extra->child_subreaper = sub != 0;
		t->extra->oom_score_adj = score;
		t->threads[0].core->tc->has_oom_score_adj = true;
		t->threads[0].core->tc->oom_score_adj = score;
		t->threads[0].core->tc->has_child_subreaper = true;
		t->threads[0].core->tc->child_subreaper = sub != 0;
	}
	aprog_free(p);
	return r < 0 ? r : 0;
}

static int inside(struct dump *d, struct task *t, struct err *e)
{
	int r = 0;

	if (!attr_task_core(&t->threads[0]))
		return err_set(e, -ENOMEM, "no memory");
	for (size_t i = 0; i < t->n_threads && r >= 0; i++) {
		if (!attr_thread_core(&t->threads[i]))
			return err_set(e, -ENOMEM, "no memory");
		r = read_comm(t, &t->threads[i], e);
		if (r >= 0)
			r = read_thread(t, &t->threads[i], e);
	}
	return r < 0 ? r : read_task(t, e);
}

/* ---- restore ---- */

static int load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];

		for (size_t k = 0; k < t->n_threads && !t->zombie; k++)
			if (!t->threads[k].core->thread_core)
				return err_set(e, -EPROTO, "thread %d: its record lacks the attributes of a "
					       "thread", (int)t->threads[k].nstid);
	}
	return 0;
}

static int thread_end(struct restore *r, struct rtask *t, struct rthread *th, struct err *e)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	const char *comm = tc->comm ? tc->comm : t->core->tc->comm;
	struct aprog *p = aprog_new();
	int ret;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	if (comm && strlen(comm) < COMM_MAX)
		APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_SET_NAME), aprog_str(p, comm), aarg_imm(0),
			   aarg_imm(0), aarg_imm(0));
	if (tc->futex_rla_len)
		APROG_CALL(p, 0, SYS_set_robust_list, aarg_imm(tc->futex_rla), aarg_imm(tc->futex_rla_len));
	APROG_CALL(p, 0, SYS_set_tid_address,
		   aarg_imm(th->core->thread_info ? th->core->thread_info->clear_tid_addr : 0));
	if (th->extra && th->extra->has_personality)
		APROG_CALL(p, 0, SYS_personality, aarg_imm(th->extra->personality));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_SET_PDEATHSIG),
		   aarg_imm(tc->has_pdeath_sig ? tc->pdeath_sig : 0), aarg_imm(0), aarg_imm(0), aarg_imm(0));
	ret = agent_run(th->agent, p, e);
	aprog_free(p);
	return ret < 0 ? ret : 0;
}

static int set_oom_score(struct restore *r, struct rtask *t, int score, struct err *e)
{
	auto_fd int dir = proc_open(r->proc_fd, t->pid);
	auto_free char *now = NULL;
	char text[16];
	int ret;

	if (dir < 0)
		return err_sys(e, dir, "opening /proc/%d", (int)t->pid);
	snprintf(text, sizeof(text), "%d\n", score);
	if (fd_read_file_at(dir, "oom_score_adj", 64, &now, NULL) >= 0 && strcmp(now, text) == 0)
		return 0;
	ret = fd_write_file_at(dir, "oom_score_adj", text);
	return ret < 0 ? err_sys(e, ret, "setting oom_score_adj to %d (a lower value than here wants "
				 "CAP_SYS_RESOURCE)", score)
		       : 0;
}

static int task_end(struct restore *r, struct rtask *t, struct err *e)
{
	const GwTask *x = t->extra;
	int ret = 0;

	if (x && x->has_oom_score_adj)
		ret = set_oom_score(r, t, x->oom_score_adj, e);
	if (ret >= 0 && x && x->child_subreaper)
		ret = AGENT_CALL(t->agent, NULL, e, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
	/* 2 (dumpable by root only) cannot be set; a change of credentials has made it what
	 * fs.suid_dumpable says here, and "not at all" is the safe side of it. */
	if (ret >= 0 && t->mm && t->mm->has_dumpable)
		ret = AGENT_CALL(t->agent, NULL, e, SYS_prctl, PR_SET_DUMPABLE, t->mm->dumpable == 1, 0, 0, 0,
				 0);
	return ret < 0 ? ret : 0;
}

const struct cr_part cr_part_misc = {
	.name = "misc",
	.inside = inside,
	.load = load,
	.thread_end = thread_end,
	.task_end = task_end,
};
