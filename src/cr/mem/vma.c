#include "cr/mem/vma.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

static const char flag_codes[VMF_N][3] = {
	[VMF_RD] = "rd", [VMF_WR] = "wr", [VMF_EX] = "ex", [VMF_SH] = "sh", [VMF_MR] = "mr",
	[VMF_MW] = "mw", [VMF_ME] = "me", [VMF_MS] = "ms", [VMF_GD] = "gd", [VMF_PF] = "pf",
	[VMF_LO] = "lo", [VMF_IO] = "io", [VMF_SR] = "sr", [VMF_RR] = "rr", [VMF_DC] = "dc",
	[VMF_DE] = "de", [VMF_LF] = "lf", [VMF_AC] = "ac", [VMF_NR] = "nr", [VMF_HT] = "ht",
	[VMF_SF] = "sf", [VMF_AR] = "ar", [VMF_DD] = "dd", [VMF_WF] = "wf", [VMF_SD] = "sd",
	[VMF_MM] = "mm", [VMF_HG] = "hg", [VMF_NH] = "nh", [VMF_MG] = "mg", [VMF_BT] = "bt",
	[VMF_MT] = "mt", [VMF_UM] = "um", [VMF_UW] = "uw", [VMF_UI] = "ui", [VMF_SS] = "ss",
	[VMF_SL] = "sl", [VMF_DP] = "dp", [VMF_GU] = "gu",
};

void vma_list_done(struct vma_list *l)
{
	free(l->v);
	free(l->text_);
	memset(l, 0, sizeof(*l));
}

static int expect(const char **p, char c)
{
	if (**p != c)
		return -EPROTO;
	(*p)++;
	return 0;
}

/* "rw-p"; a private mapping says p, a shared one s. */
static int parse_perms(const char **p, struct vma *v)
{
	static const char on[] = "rwx";
	static const int bit[] = { PROT_READ, PROT_WRITE, PROT_EXEC };

	for (int i = 0; i < 3; i++) {
		char c = *(*p)++;

		if (c == on[i])
			v->prot |= bit[i];
		else if (c != '-')
			return -EPROTO;
	}
	if (**p != 'p' && **p != 's')
		return -EPROTO;
	v->shared = *(*p)++ == 's';
	return 0;
}

/* "7f00-7f10 rw-p 00000000 00:01 1024    /path"; line has no newline. */
static int parse_head(const char *line, struct vma *v)
{
	const char *p = line;
	uint64_t major, minor;

	if (parse_u64_at(&p, 16, &v->start) < 0 || expect(&p, '-') < 0 ||
	    parse_u64_at(&p, 16, &v->end) < 0 || expect(&p, ' ') < 0 || parse_perms(&p, v) < 0 ||
	    expect(&p, ' ') < 0 || parse_u64_at(&p, 16, &v->pgoff) < 0 || expect(&p, ' ') < 0 ||
	    parse_u64_at(&p, 16, &major) < 0 || expect(&p, ':') < 0 ||
	    parse_u64_at(&p, 16, &minor) < 0 || expect(&p, ' ') < 0 ||
	    parse_u64_at(&p, 10, &v->ino) < 0)
		return -EPROTO;
	if (v->start >= v->end || (v->start | v->end | v->pgoff) & 4095 || major > UINT32_MAX ||
	    minor > UINT32_MAX)
		return -EPROTO;
	v->major = (uint32_t)major;
	v->minor = (uint32_t)minor;
	while (*p == ' ')
		p++;
	v->path = p;
	return 0;
}

static void parse_flags(const char *p, struct vma *v)
{
	for (;;) {
		int i;

		while (*p == ' ')
			p++;
		if (!p[0] || !p[1])
			return;
		for (i = 0; i < VMF_N; i++)
			if (p[0] == flag_codes[i][0] && p[1] == flag_codes[i][1])
				break;
		if (i < VMF_N)
			v->flags |= 1ull << i;
		else if (!v->unknown[0])
			memcpy(v->unknown, p, 2);
		p += 2;
	}
}

/* A detail line of smaps; those we do not need are passed over. */
static int parse_detail(const char *line, struct vma *v)
{
	if (str_starts(line, "VmFlags:")) {
		parse_flags(line + 8, v);
	} else if (str_starts(line, "ProtectionKey:")) {
		const char *p = line + 14;
		uint64_t key;

		while (*p == ' ')
			p++;
		if (parse_u64_at(&p, 10, &key) < 0 || key > UINT32_MAX)
			return -EPROTO;
		v->pkey = (uint32_t)key;
	}
	return 0;
}

int vma_parse(char *text, size_t len, struct vma_list *ret, struct err *e)
{
	struct vma_list l = { .text_ = text };
	size_t cap = 0;
	char *end = text + len, *next;
	int r = 0;

	for (char *line = text; line < end && r == 0; line = next) {
		char *nl = memchr(line, '\n', (size_t)(end - line));

		next = nl ? nl + 1 : end;
		if (nl)
			*nl = '\0';
		/* Detail lines begin with a capital letter, addresses are of lower case. */
		if (line[0] >= 'A' && line[0] <= 'Z') {
			r = l.n ? parse_detail(line, &l.v[l.n - 1]) : -EPROTO;
			continue;
		}
		if (l.n >= VMA_MAX)
			r = -EFBIG;
		else
			r = array_grow(l.v, l.n, cap);
		if (r < 0)
			break;
		memset(&l.v[l.n], 0, sizeof(l.v[0]));
		r = parse_head(line, &l.v[l.n]);
		if (r == 0 && l.n && l.v[l.n].start < l.v[l.n - 1].end)
			r = -EPROTO;
		l.n++;
	}
	if (r < 0) {
		r = err_set(e, r, "the list of mappings cannot be read (at mapping %zu)", l.n);
		vma_list_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

static int read_file(int proc_fd, const char *name, struct vma_list *ret, struct err *e)
{
	char *text;
	size_t len;
	int r;

	r = fd_read_file_at(proc_fd, name, VMA_TEXT_MAX, &text, &len);
	if (r < 0)
		return err_sys(e, r, "reading /proc/PID/%s", name);
	return vma_parse(text, len, ret, e);
}

int vma_read(int proc_fd, struct vma_list *ret, struct err *e)
{
	return read_file(proc_fd, "smaps", ret, e);
}

int vma_read_plain(int proc_fd, struct vma_list *ret, struct err *e)
{
	return read_file(proc_fd, "maps", ret, e);
}
