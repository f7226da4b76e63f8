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

static void ask_task(struct aprog *p, struct attr_slots *s)
{
	s->v[4] = aprog_out(p, sizeof(int));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_CHILD_SUBREAPER), s->v[4], aarg_imm(0), aarg_imm(0),
		   aarg_imm(0));
	s->op[1] = APROG_CALL(p, AOP_MAY_FAIL, SYS_modify_ldt, aarg_imm(0), aprog_out(p, 16), aarg_imm(16));
	/* Older kernels lack the question; a process that needs the answer registers again when told so. */
	s->op[2] = APROG_CALL(p, AOP_MAY_FAIL, SYS_membarrier, aarg_imm(MEMBARRIER_GET_REGISTRATIONS),
			      aarg_imm(0), aarg_imm(0));
	s->op[3] = APROG_CALL(p, AOP_MAY_FAIL, SYS_prctl, aarg_imm(PR_GET_MDWE_), aarg_imm(0), aarg_imm(0),
			      aarg_imm(0), aarg_imm(0));
}

static void ask(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s)
{
	for (size_t i = 0; i < 4; i++)
		s->v[i] = aprog_out(p, sizeof(uint64_t));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_PDEATHSIG), s->v[0], aarg_imm(0), aarg_imm(0),
		   aarg_imm(0));
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_TID_ADDRESS_), s->v[1], aarg_imm(0), aarg_imm(0),
		   aarg_imm(0));
	APROG_CALL(p, 0, SYS_get_robust_list, aarg_imm(0), s->v[2], s->v[3]);
	s->op[0] = APROG_CALL(p, 0, SYS_personality, aarg_imm(0xffffffff));
	if (th == &t->threads[0])
		ask_task(p, s);
}

static void take_thread(struct thread *th, struct aprog *p, const struct attr_slots *s)
{
	ThreadCoreEntry *tc = th->core->thread_core;
	uint64_t v;
	int sig;

	memcpy(&sig, aprog_out_data(p, s->v[0]), sizeof(sig));
	tc->has_pdeath_sig = true;
	tc->pdeath_sig = (uint32_t)sig;
	memcpy(&v, aprog_out_data(p, s->v[1]), sizeof(v));
	if (th->core->thread_info)
		th->core->thread_info->clear_tid_addr = v;
	memcpy(&tc->futex_rla, aprog_out_data(p, s->v[2]), sizeof(tc->futex_rla));
	memcpy(&v, aprog_out_data(p, s->v[3]), sizeof(v));
	tc->futex_rla_len = (uint32_t)v;
	th->extra->has_personality = true;
	th->extra->personality = (uint32_t)aprog_result(p, s->op[0]);
}

static int read_number(const struct task *t, const char *name, unsigned base, int64_t *ret, struct err *e)
{
	auto_free char *text = NULL;
	uint64_t v;
	int r = fd_read_piece_at(t->proc_fd, name, 64, &text, NULL);

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

static int take_task(struct task *t, struct aprog *p, const struct attr_slots *s, struct err *e)
{
	int64_t score, filter;
	int sub, r;

	r = read_number(t, "oom_score_adj", 10, &score, e);
	if (r >= 0)
		r = read_number(t, "coredump_filter", 16, &filter, e);
	if (r < 0)
		return r;
	if (aprog_result(p, s->op[1]) > 0)
		return err_set(e, -EOPNOTSUPP, "it has a local descriptor table (modify_ldt), which is not "
			       "carried");
	memcpy(&sub, aprog_out_data(p, s->v[4]), sizeof(sub));
	fill_task(t, score, filter, sub, aprog_result(p, s->op[2]), aprog_result(p, s->op[3]));
	t->threads[0].core->tc->personality = t->threads[0].extra->personality;
	return 0;
}

static int take(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		struct err *e)
{
	int r = read_comm(t, th, e);

	if (r < 0)
		return r;
	take_thread(th, p, s);
	return th == &t->threads[0] ? take_task(t, p, s, e) : 0;
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

/* Behind the credentials, whose change resets the parent-death signal. */
static int give(struct restore *r, struct rtask *t, struct rthread *th, struct aprog *p, struct err *e)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	const char *comm = tc->comm ? tc->comm : t->core->tc->comm;

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
	return 0;
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

static int give_task(struct restore *r, struct rtask *t, struct aprog *p, struct err *e)
{
	const GwTask *x = t->extra;
	int ret = x ? set_files(r, t, x, e) : 0;

	if (ret < 0)
		return ret;
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
	return 0;
}

const struct attr_part attr_misc = { .name = "misc", .ask = ask, .take = take, .give = give,
				     .give_task = give_task };

const struct cr_part cr_part_misc = {
	.name = "misc",
	.load = load,
};
