/* Records of open files as a stranger has them: they are put together from the input (as messages, since fuzz_stream
 * and fuzz_folder break those), and read by the restore's first phase, which has to refuse what makes no sense before
 * anything is touched. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/file.h"
#include "cr/file/given.h"
#include "cr/file/kinds.h"
#include "cr/file/link.h"
#include "cr/file/tty_priv.h"
#include "image/record.h"

#include "file-lock.pb-c.h"
#include "pipe-data.pb-c.h"
#include "remap-file-path.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct ff_in {
	const uint8_t *p, *end;
};

static unsigned ff_byte(struct ff_in *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/* Small, mostly: records have to meet. */
static uint32_t ff_id(struct ff_in *in)
{
	static const uint32_t high[] = { 0, TTY_OUTSIDE, TTY_HUNG, TTY_INPUT, 0x08000000u, 0x80000000u, TTY_OUTSIDE | TTY_HUNG,
					 4090 };
	unsigned b = ff_byte(in);

	return high[b >> 5] + (b & 15);
}

static char *ff_path(struct ff_in *in)
{
	static const char *const paths[] = { "/a", "/a/link_remap.3", "/link_remap.9", "/a/link_remap.x", "/etc/passwd", "a", "",
					     "/file[1f:2a]", "/file[1f:2a", "/a/link_remap.", "/dev/tty", "/dev/pts/1", "/proc/1/x",
					     "/", "/link_remap.99999999999999999999", "/a/" };

	return (char *)paths[ff_byte(in) & 15];
}

static uint32_t ff_mode(struct ff_in *in)
{
	static const uint32_t modes[] = { 0100644, 040755, 020666, 010600, 0140755, 0120777, 0, 0170000 };

	return modes[ff_byte(in) & 7];
}

static void ff_file(struct ff_in *in, struct sink *s)
{
	FileEntry fe = FILE_ENTRY__INIT;
	RegFileEntry re = REG_FILE_ENTRY__INIT;
	PipeEntry pe = PIPE_ENTRY__INIT;
	FifoEntry fi = FIFO_ENTRY__INIT;
	TtyFileEntry te = TTY_FILE_ENTRY__INIT;
	FownEntry own = FOWN_ENTRY__INIT;
	unsigned has = ff_byte(in);

	fe.id = re.id = pe.id = fi.id = te.id = ff_id(in);
	fe.type = (FdTypes)(ff_byte(in) % 24);
	re.fown = pe.fown = te.fown = &own;
	re.flags = pe.flags = te.flags = ff_byte(in) << ((has & 1) * 8) | ((has & 2) << 20);
	re.name = ff_path(in);
	re.has_mode = has >> 2 & 1;
	re.mode = ff_mode(in);
	re.has_ext = re.ext = has >> 3 & 1;
	re.pos = (uint64_t)ff_byte(in) << ((has >> 4 & 1) * 56);
	pe.pipe_id = fi.pipe_id = ff_id(in);
	te.tty_info_id = ff_id(in);
	fe.reg = has & 0x20 ? NULL : &re;
	fe.pipe = has & 0x40 ? &pe : NULL;
	fe.fifo = has & 0x40 ? NULL : &fi;
	fe.tty = has & 0x80 ? NULL : &te;
	if (fe.type == FD_TYPES__PIPE) {
		fe.pipe = &pe;
		fe.fifo = NULL;
	}
	sink_put(s, REC_FILES, fe.id, &fe.base, NULL);
}

static void ff_extra(struct ff_in *in, struct sink *s)
{
	GwFile gf = GW_FILE__INIT;
	unsigned has = ff_byte(in);

	gf.has_pty_master = gf.pty_master = has & 1;
	gf.has_rdev = has >> 1 & 1;
	gf.rdev = has & 4 ? 0x500 : 0x8801;
	gf.has_outside = gf.outside = has >> 3 & 1;
	gf.has_mode = has >> 4 & 1;
	gf.mode = ff_mode(in);
	gf.has_proc = gf.proc = has >> 5 & 1;
	sink_put(s, REC_GW_FILE, ff_id(in), &gf.base, NULL);
}

static void ff_tty(struct ff_in *in, struct sink *s)
{
	TtyInfoEntry ti = TTY_INFO_ENTRY__INIT;
	TermiosEntry te = TERMIOS_ENTRY__INIT;
	WinsizeEntry we = WINSIZE_ENTRY__INIT;
	TtyPtyEntry pe = TTY_PTY_ENTRY__INIT;
	uint32_t cc[32] = { 0 };
	unsigned has = ff_byte(in);

	ti.id = ff_id(in);
	ti.type = (TtyType)(has & 7);
	ti.sid = ti.pgrp = ff_id(in);
	ti.rdev = ff_id(in);
	te.n_c_cc = ff_byte(in) & 31;
	te.c_cc = cc;
	pe.index = has & 8 ? ff_id(in) : ti.id;
	ti.pty = has & 16 ? NULL : &pe;
	ti.termios = has & 32 ? NULL : &te;
	ti.winsize = has & 64 ? NULL : &we;
	sink_put(s, REC_TTY_INFO, ti.id, &ti.base, NULL);
}

static void ff_rest(struct ff_in *in, struct sink *s, unsigned what)
{
	RemapFilePathEntry rm = REMAP_FILE_PATH_ENTRY__INIT;
	PipeDataEntry pd = PIPE_DATA_ENTRY__INIT;
	FileLockEntry fl = FILE_LOCK_ENTRY__INIT;
	FdinfoEntry fd = FDINFO_ENTRY__INIT;

	switch (what) {
	case 0:
		rm.orig_id = ff_id(in);
		rm.remap_id = ff_id(in);
		rm.has_remap_type = ff_byte(in) & 1;
		rm.remap_type = (RemapType)(ff_byte(in) % 3);
		sink_put(s, REC_REMAP_FPATH, rm.orig_id, &rm.base, NULL);
		break;
	case 1:
		pd.pipe_id = ff_id(in);
		pd.bytes = ff_byte(in);
		sink_put(s, ff_byte(in) & 1 ? REC_FIFO_DATA : REC_PIPES_DATA, pd.pipe_id, &pd.base, NULL);
		break;
	case 2:
		fl.flag = 1u << (ff_byte(in) % 12);
		fl.type = ff_byte(in) & 3;
		fl.pid = (int32_t)ff_byte(in) & 1;
		fl.fd = (int32_t)ff_id(in);
		fl.start = (int64_t)ff_id(in) << 31;
		fl.len = (int64_t)ff_id(in) << 31;
		sink_put(s, REC_FILELOCKS, 1, &fl.base, NULL);
		break;
	default:
		fd.id = ff_id(in);
		fd.fd = ff_id(in);
		fd.type = (FdTypes)(ff_byte(in) % 24);
		sink_put(s, REC_FDINFO, 1, &fd.base, NULL);
	}
}

static int ff_order(const void *pa, const void *pb)
{
	const struct rfile *a = *(struct rfile *const *)pa, *b = *(struct rfile *const *)pb;

	return a->id < b->id ? -1 : a->id > b->id;
}

/* As restore.c has them; false: an id twice, which it refuses. */
static bool ff_list(struct restore *r)
{
	const struct record *rec;
	size_t pos = 0, cap = 0;

	while ((rec = image_find(r->image, REC_FILES, REC_ANY, &pos))) {
		struct rfile *f = calloc(1, sizeof(*f));

		if (!f || array_grow(r->files, r->n_files, cap) < 0)
			abort();
		f->fe = (const FileEntry *)rec->msg;
		f->id = f->fe->id;
		f->fd = -1;
		r->files[r->n_files++] = f;
	}
	if (r->n_files)
		qsort(r->files, r->n_files, sizeof(*r->files), ff_order);
	for (size_t i = 1; i < r->n_files; i++)
		if (r->files[i - 1]->id == r->files[i]->id)
			return false;
	return true;
}

/* What a restore may rely on behind the first phase. */
static void ff_loaded(struct restore *r)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const struct rfile *f = r->files[i];
		const char *link = f->kind == &file_kind_reg ? link_path(r, f) : NULL;

		if (link && !strstr(link, "/link_remap."))
			abort();
		if (!r->opts && (link || (f->kind == &file_kind_reg && f->fe->reg->ext)))
			abort();
		if (f->kind == &file_kind_tty && (!f->fe->tty || !f->fe->reg))
			abort();
	}
}

static void ff_load(struct image *im, const struct cr_opts *o)
{
	struct rthread th = { .nstid = 1 };
	struct rtask t = { .nspid = 1, .nspgid = 1, .nssid = 1, .threads = &th, .n_threads = 1 }, *tasks[] = { &t };
	struct restore r = { .image = im, .opts = o, .tasks = tasks, .n_tasks = 1, .proc_fd = -1, .root_fd = -1,
			     .cgroup_fd = -1, .data_fd = -1 };
	struct err e = { 0 };

	if (ff_list(&r) && cr_part_files.load(&r, &e) >= 0) {
		ff_loaded(&r);
		(void)cr_part_locks.load(&r, &e);
	}
	for (size_t i = 0; i < r.n_files; i++)
		if (!r.files[i]->kind) /* not reached */
			r.files[i]->kind = &file_kind_unsupported;
	cr_part_files.restore_done(&r);
	for (size_t i = 0; i < r.n_files; i++)
		free(r.files[i]);
	free(r.files);
}

/* Names that callers and images give. */
static void ff_names(const uint8_t *data, size_t len)
{
	static const char *const kinds[] = { "tty", "file", "pipe", "socket" };
	char *text = malloc(len + 1);
	uint64_t v[2];

	if (!text)
		abort();
	memcpy(text, data, len);
	text[len] = 0;
	for (size_t i = 0; i < array_len(kinds); i++)
		if (given_parse(text, kinds[i], i < 2 ? 16 : 10, 1 + (i < 2), v) == 1 && !str_starts(text, kinds[i]))
			abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct cr_pair given[] = { { "file[1f:2a]", "", 0 }, { "a/b", "", 0 }, { "pipe:[3]", "", 0 }, { "tty[3:4]", "", 0 } };
	struct cr_opts o = { .inherit_fds = { given, array_len(given) } };
	struct ff_in in = { data, data + len };
	unsigned how = ff_byte(&in);
	struct sink *s = NULL;
	struct image *im = NULL;
	struct err e = { 0 };
	int fd;

	ff_names(data, len);
	fd = memfd_create("files", MFD_CLOEXEC);
	if (fd < 0 || sink_stream_new(fd, &s, &e) < 0)
		abort();
	for (int i = 0; i < 40 && in.p < in.end; i++) {
		unsigned what = ff_byte(&in) & 7;

		if (what < 2)
			ff_file(&in, s);
		else if (what == 2)
			ff_extra(&in, s);
		else if (what == 3)
			ff_tty(&in, s);
		else
			ff_rest(&in, s, what - 4);
	}
	o.file_locks = how & 2;
	o.shell_job = how & 4;
	if (sink_end(s, &e) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	if (image_read_stream(fd, &im, &e) == 0)
		ff_load(im, how & 1 ? &o : NULL);
	image_free(im);
	sink_free(s);
	close(fd);
	return 0;
}
