/* memfd - files of memory without a name in any file system.
 *
 * State: name, content, seals, owner, mode; which open files are the same one.
 * Read: told from other files by the device of the kernel's internal shmem mount. Content as with
 * deleted files (ghost.c), holes left out.
 * Back: memfd_create and writing by the engine, each open file by /proc/self/fd. Seals last
 * (`placed`): a mapping that was made before F_SEAL_FUTURE_WRITE could not be made after it.
 * Refused: content above the limit; memfds of huge pages and secret ones (unsupported.c). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/ghost.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"

#define PREFIX "/memfd:"
#define SUFFIX " (deleted)"
#define SHMID 0x40000000u /* shmids of memfds; those of anonymous shared memory count from 1 */
#define MEMFD_LIMIT (512ull << 20)
#define NAME_LEN_MAX 249

static dev_t shmem_dev(void)
{
	auto_fd int fd = memfd_create("dev", MFD_CLOEXEC);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_dev : 0;
}

static bool memfd_recognise(const struct ofile *f)
{
	return S_ISREG(f->st.st_mode) && str_starts(f->link, PREFIX) && str_ends(f->link, SUFFIX) &&
	       f->st.st_nlink == 0 && f->st.st_dev == shmem_dev();
}

static int memfd_check(struct dump *d, struct ofile *f, struct err *e)
{
	uint64_t bytes = (uint64_t)f->st.st_blocks * 512;

	if (bytes > MEMFD_LIMIT &&
	    ofile_refuse(d, f, "memfd",
			 "%s holds %llu MiB, which is more than the limit of %llu MiB", f->link,
			 (unsigned long long)(bytes >> 20), MEMFD_LIMIT >> 20) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

static uint32_t inode_id(struct dump *d, const struct ofile *f)
{
	uint32_t id = f->id;

	for (const struct ofile *o = NULL; (o = dump_inode_next(d, f->st.st_dev, f->st.st_ino, o));)
		if (o->id < id)
			id = o->id;
	return id;
}

static int inode_put(struct dump *d, const struct ofile *f, struct err *e)
{
	MemfdInodeEntry me = MEMFD_INODE_ENTRY__INIT;
	const struct idmap *map = dump_idmap(d, e);
	GwFile gf = GW_FILE__INIT;
	auto_free char *name = strdup(f->link + strlen(PREFIX));
	auto_fd int fd = -1;
	char path[48];
	struct stat st;
	int seals, r;

	if (!map || !name)
		return map ? err_sys(e, -ENOMEM, "memfd") : -EIO;
	name[strlen(name) - strlen(SUFFIX)] = 0;
	seals = fcntl(f->lfd, F_GET_SEALS);
	if (fstat(f->lfd, &st) < 0 || seals < 0)
		return err_sys(e, -errno, "%s", f->link);
	me.name = name;
	idmap_uid_in(map, st.st_uid, &me.uid);
	idmap_gid_in(map, st.st_gid, &me.gid);
	me.size = (uint64_t)st.st_size;
	me.shmid = SHMID | f->id;
	me.seals = (uint32_t)seals;
	me.inode_id = f->id;
	r = sink_put(d->sink, REC_MEMFD, f->id, &me.base, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->lfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "reading %s", f->link);
	r = content_put(d, fd, me.size, f->id, e);
	if (r < 0)
		return r;
	gf.has_mode = 1;
	gf.mode = st.st_mode;
	return sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
}

static int memfd_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	MemfdFileEntry me = MEMFD_FILE_ENTRY__INIT;
	FownEntry own;
	int r;

	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	me.id = f->id;
	me.flags = f->flags;
	me.pos = (uint64_t)f->pos;
	me.fown = &own;
	me.inode_id = inode_id(d, f);
	fe.memfd = &me;
	r = ofile_put(d, f, &fe, e);
	return r == 0 && me.inode_id == f->id ? inode_put(d, f, e) : r;
}

/* ---- restore ---- */

struct memfd {
	int fd;
	uint32_t seals;
};

static int memfd_load(struct restore *r, struct rfile *f, struct err *e)
{
	const MemfdFileEntry *me = f->fe->memfd;
	const struct rfile *first = me ? restore_file(r, me->inode_id) : NULL;
	const struct record *rec = me ? image_find(r->image, REC_MEMFD, me->inode_id, NULL) : NULL;
	const MemfdInodeEntry *in = rec ? (const MemfdInodeEntry *)rec->msg : NULL;

	if (!first || first->kind != f->kind || !in || !in->name ||
	    strlen(in->name) > NAME_LEN_MAX || in->size > INT64_MAX || me->pos > INT64_MAX)
		return err_set(e, -EINVAL, "file %u: the record of a memfd makes no sense", f->id);
	return 0;
}

static int memfd_make(struct restore *r, struct rfile *first, struct err *e)
{
	size_t pos = 0;
	const struct record *rec = image_find(r->image, REC_MEMFD, first->id, &pos);
	const MemfdInodeEntry *in = (const MemfdInodeEntry *)rec->msg;
	const struct record *xr = image_find(r->image, REC_GW_FILE, first->id, NULL);
	const GwFile *gf = xr ? (const GwFile *)xr->msg : NULL;
	const struct idmap *map = restore_idmap(r, e);
	struct memfd *m = calloc(1, sizeof(*m));
	uid_t uid;
	gid_t gid;
	int got;

	if (!m)
		return err_sys(e, -ENOMEM, "memfd");
	m->fd = -1;
	first->priv = m;
	if (!map)
		return -EIO;
	m->fd = memfd_create(in->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0)
		return err_sys(e, -errno, "memfd %s", in->name);
	m->seals = in->seals;
	if (ftruncate(m->fd, (off_t)in->size) < 0)
		return err_sys(e, -errno, "size of memfd %s", in->name);
	got = content_get(r, pos, first->id, m->fd, in->size, e);
	if (got < 0)
		return got;
	idmap_uid_out(map, in->uid, &uid);
	idmap_gid_out(map, in->gid, &gid);
	if (fchown(m->fd, uid, gid) < 0 ||
	    (gf && gf->has_mode && fchmod(m->fd, gf->mode & 07777) < 0))
		return err_sys(e, -errno, "owner of memfd %s", in->name);
	return 0;
}

static int memfd_build(struct restore *r, struct rfile *f, struct err *e)
{
	const MemfdFileEntry *me = f->fe->memfd;
	struct rfile *first = restore_file(r, me->inode_id);
	const struct memfd *m;
	auto_fd int fd = -1;
	int got;

	if (!first->priv) {
		got = memfd_make(r, first, e);
		if (got < 0)
			return got;
	}
	m = first->priv;
	fd = rfile_reopen(r, m->fd, me->flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_NOATIME));
	if (fd < 0)
		return err_sys(e, fd, "opening a memfd");
	if (me->pos && lseek(fd, (off_t)me->pos, SEEK_SET) < 0)
		return err_sys(e, -errno, "position of a memfd");
	f->fd = fd_take(&fd);
	return 0;
}

static int memfd_placed(struct restore *r, struct rfile *f, struct err *e)
{
	struct memfd *m = f->priv;

	if (m && m->fd >= 0) {
		if (m->seals && fcntl(m->fd, F_ADD_SEALS, (int)m->seals) < 0)
			return err_sys(e, -errno, "seals %#x of a memfd", m->seals);
		fd_close(&m->fd);
	}
	return fown_restore(r, f, f->fe->memfd->fown, f->fe->memfd->flags, e);
}

const struct file_kind file_kind_memfd = {
	.name = "memfd",
	.type = FD_TYPES__MEMFD,
	.recognise = memfd_recognise,
	.check = memfd_check,
	.capture = memfd_capture,
	.load = memfd_load,
	.build = memfd_build,
	.placed = memfd_placed,
};
