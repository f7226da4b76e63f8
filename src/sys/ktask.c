#include "sys/ktask.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/ktask_priv.h"

AUTO_OF_DEFINE(btf)
AUTO_OF_DEFINE(ktask)

struct ktask *ktask_free(struct ktask *k)
{
	if (k) {
		fd_close(&k->restart);
		fd_close(&k->timers);
		free(k);
	}
	return NULL;
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : r;
}

int ktask_prog_load(const struct bpf_insn *code, size_t n, uint32_t target)
{
	union bpf_attr a = {
		.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = BPF_TRACE_ITER,
		.attach_btf_id = target,
		.insns = (uintptr_t)code,
		.insn_cnt = (uint32_t)n,
		/* These helpers want a word that the GPL is among a program's licences.  It is, for the
		 * instructions that are loaded here. */
		.license = (uintptr_t) "Dual BSD/GPL",
		.prog_name = "godwit_ktask",
	};

	return sys_bpf(BPF_PROG_LOAD, &a);
}

static int layout_find(struct ktask_layout *l, struct err *e)
{
	auto_of(btf) *b = NULL;
	int r = btf_open(NULL, 0, &b);

	if (r < 0)
		return err_sys(e, r, "the kernel's description of its types");
	r = btf_func(b, "bpf_iter_task", &l->target);
	if (r >= 0)
		r = ktask_restart_find(b, l);
	if (r >= 0)
		r = ktask_timers_find(b, l);
	if (r < 0 || !ktask_layout_sane(l))
		return err_set(e, r < 0 ? r : -ENOENT, "this kernel keeps interrupted calls or timers in another way");
	return 0;
}

static int progs_load(struct ktask *k)
{
	k->restart = ktask_restart_load(&k->l);
	if (k->restart >= 0)
		k->timers = ktask_timers_load(&k->l);
	return k->restart < 0 ? k->restart : k->timers < 0 ? k->timers : 0;
}

int ktask_open(struct ktask **ret, struct err *e)
{
	auto_of(ktask) *k = calloc(1, sizeof(*k));
	bool cached;
	int r;

	if (!k)
		return err_sys(e, -ENOMEM, "looking at tasks");
	k->restart = k->timers = -1;
	cached = ktask_cache_read(&k->l) >= 0;
	r = cached ? 0 : layout_find(&k->l, e);
	if (r < 0)
		return r;
	r = progs_load(k);
	if (r < 0)
		return err_sys(e, r, "a BPF program that looks at tasks");
	if (!cached)
		ktask_cache_write(&k->l);
	*ret = ptr_take(k);
	return 0;
}

/* An iterator over this one task. */
static int iter_open(int prog, pid_t tid)
{
	union bpf_iter_link_info which = { .task = { .tid = (uint32_t)tid } };
	union bpf_attr a = { .link_create = { .prog_fd = (uint32_t)prog,
					      .attach_type = BPF_TRACE_ITER,
					      .iter_info = (uintptr_t)&which,
					      .iter_info_len = sizeof(which) } };
	auto_fd int link = sys_bpf(BPF_LINK_CREATE, &a);

	if (link < 0)
		return link;
	a = (union bpf_attr){ .iter_create = { .link_fd = (uint32_t)link } };
	return sys_bpf(BPF_ITER_CREATE, &a);
}

ssize_t ktask_run(int prog, pid_t tid, void *buf, size_t len)
{
	auto_fd int fd = iter_open(prog, tid);
	size_t done = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	do {
		n = read(fd, (char *)buf + done, len - done);
		if (n < 0)
			return -errno;
		done += (size_t)n;
	} while (n && done < len);
	return (ssize_t)done;
}
