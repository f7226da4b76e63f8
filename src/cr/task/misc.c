/* Small attributes of processes and threads.
 *
 * Process: oom_score_adj and coredump_filter (files, written by the engine), child subreaper, dumpable
 * (from the memory record), registrations for membarrier(2), memory-deny-write-execute.  Thread: personality, name, parent-death signal, robust futex list, address to clear at exit
 * (set_tid_address).  What a change of credentials resets (parent-death signal, dumpable) is set behind
 * part `creds`.
 * A process with a local descriptor table (modify_ldt) is refused while it is being read.
 * Not covered: speculation and machine-check policies, landlock domains, keyrings, mlockall(MCL_FUTURE):
 * the kernel does not show them; a restored process has gw-init's. */
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
#define PR_SET_MDWE_ 65 /* Linux 6.3 */
#define PR_GET_MDWE_ 66
#define MEMBARRIER_GET_REGISTRATIONS (1 << 9) /* Linux 6.3 */
#define MDWE_SETTABLE 3u /* refuse exec gain, no inherit */
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

static int read_number(const struct task *t, const char *name, unsigned base, int64_t *ret, struct err *e)
{
	auto_free char *text = NULL;
	uint64_t v;
	int r = fd_read_file_at(t->proc_fd, name, 64, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading %s", name);
	text[strcspn(text, "\n")] = '\0';
	r = base == 16 ? parse_u64(text, 16, &v) : parse_i64(text, 10, ret);
	if (r == 0 && base == 16)
		*ret = (int64_t)v;
	return r < 0 ? err_set(e, -EPROTO, "%s is %s", name, text) : 0;
}

static void fill_task(struct task *t, int64_t score, int64_t filter, int sub, long barrier, long mdwe)
{
	TaskCoreEntry *tc = t->threads[0].core->tc;
	GwTask *x = t->extra;

	x->has_child_subreaper = x->has_oom_score_adj = x->has_coredump_filter = true;
	x->child_subreaper = sub != 0;
	x->oom_score_adj = (int32_t)score;
	x->coredump_filter = (uint32_t)filter;
	x->has_membarrier = barrier > 0;
	x->membarrier = barrier > 0 ? (uint32_t)barrier : 0;
	x->has_mdwe = mdwe > 0;
	x->mdwe = mdwe > 0 ? (uint32_t)mdwe : 0;
	tc->has_oom_score_adj = tc->has_child_subreaper = true;
	tc->oom_score_adj = (int32_t)score;
	tc->child_subreaper = sub != 0;
}

static int read_task(struct task *t, struct err *e)
{
	size_t ldt, barrier, mdwe;
	int64_t score, filter;
	struct aprog *p;
	struct aarg out;
	int sub, r;

	r = read_number(t, "oom_score_adj", 10, &score, e);
	if (r >= 0)
		r = read_number(t, "coredump_filter", 16, &filter, e);
	if (r < 0)
		return r;
	p = aprog_new();
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	out = aprog_out(p, sizeof(int));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_CHILD_SUBREAPER), out, aarg_imm(0), aarg_imm(0),
		   aarg_imm(0));
	ldt = APROG_CALL(p, AOP_MAY_FAIL, SYS_modify_ldt, aarg_imm(0), aprog_out(p, 16), aarg_imm(16));
	/* Older kernels lack the question; a process that needs the answer registers again when told so. */
	barrier = APROG_CALL(p, AOP_MAY_FAIL, SYS_membarrier, aarg_imm(MEMBARRIER_GET_REGISTRATIONS),
			     aarg_imm(0), aarg_imm(0));
	mdwe = APROG_CALL(p, AOP_MAY_FAIL, SYS_prctl, aarg_imm(PR_GET_MDWE_), aarg_imm(0), aarg_imm(0),
			  aarg_imm(0), aarg_imm(0));
	r = agent_run(t->threads[0].agent, p, e);
	if (r >= 0 && aprog_result(p, ldt) > 0)
		r = err_set(e, -EOPNOTSUPP, "it has a local descriptor table (modify_ldt), which is not "
			    "carried");
	if (r >= 0) {
		memcpy(&sub, aprog_out_data(p, out), sizeof(sub));
		fill_task(t, score, filter, sub, aprog_result(p, barrier), aprog_result(p, mdwe));
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

/* Writes a file of the process unless it says so already: a host may lack the right to. */
static int set_number(int dir, const char *name, const char *text, const char *hint, struct err *e)
{
	auto_free char *now = NULL;
	int ret;

	if (fd_read_file_at(dir, name, 64, &now, NULL) >= 0 && strcmp(now, text) == 0)
		return 0;
	ret = fd_write_file_at(dir, name, text);
	return ret < 0 ? err_sys(e, ret, "setting %s to %.*s%s", name, (int)strcspn(text, "\n"), text, hint)
		       : 0;
}

static int set_files(struct restore *r, struct rtask *t, const GwTask *x, struct err *e)
{
	auto_fd int dir = proc_open(r->proc_fd, t->pid);
	char text[32];
	int ret = 0;

	if (dir < 0)
		return err_sys(e, dir, "opening /proc/%d", (int)t->pid);
	if (x->has_oom_score_adj) {
		snprintf(text, sizeof(text), "%d\n", x->oom_score_adj);
		ret = set_number(dir, "oom_score_adj", text,
				 " (a lower value than here wants CAP_SYS_RESOURCE)", e);
	}
	if (ret >= 0 && x->has_coredump_filter) {
		snprintf(text, sizeof(text), "%08x\n", x->coredump_filter);
		auto_free char *now = NULL;

		if (fd_read_file_at(dir, "coredump_filter", 64, &now, NULL) >= 0 && strcmp(now, text)) {
			/* Written, it is read as a C number. */
			snprintf(text, sizeof(text), "0x%x\n", x->coredump_filter);
			ret = set_number(dir, "coredump_filter", text, "", e);
		}
	}
	return ret;
}

static int task_end(struct restore *r, struct rtask *t, struct err *e)
{
	const GwTask *x = t->extra;
	struct aprog *p;
	int ret = x ? set_files(r, t, x, e) : 0;

	if (ret < 0)
		return ret;
	p = aprog_new();
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	if (x && x->child_subreaper)
		APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_SET_CHILD_SUBREAPER), aarg_imm(1), aarg_imm(0),
			   aarg_imm(0), aarg_imm(0));
	for (uint32_t bit = 1; x && bit && x->membarrier; bit <<= 1)
		if (x->membarrier & bit)
			APROG_CALL(p, 0, SYS_membarrier, aarg_imm(bit), aarg_imm(0), aarg_imm(0));
	if (x && x->mdwe & MDWE_SETTABLE)
		APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_SET_MDWE_), aarg_imm(x->mdwe & MDWE_SETTABLE),
			   aarg_imm(0), aarg_imm(0), aarg_imm(0));
	/* 2 (dumpable by root only) cannot be set; a change of credentials has made it what
	 * fs.suid_dumpable says here, and "not at all" is the safe side of it. */
	if (t->mm && t->mm->has_dumpable)
		APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_SET_DUMPABLE), aarg_imm(t->mm->dumpable == 1),
			   aarg_imm(0), aarg_imm(0), aarg_imm(0));
	ret = agent_run(t->agent, p, e);
	aprog_free(p);
	return ret < 0 ? ret : 0;
}

const struct cr_part cr_part_misc = {
	.name = "misc",
	.inside = inside,
	.load = load,
	.thread_end = thread_end,
	.task_end = task_end,
};
