/* A folder of images: what is written is read, as from a stream; and nothing else is. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "core.pb-c.h"
#include "fdinfo.pb-c.h"
#include "file-lock.pb-c.h"
#include "fs.pb-c.h"
#include "ghost-file.pb-c.h"
#include "godwit.pb-c.h"
#include "image/folder.h"
#include "inventory.pb-c.h"
#include "memfd.pb-c.h"
#include "mm.pb-c.h"
#include "mnt.pb-c.h"
#include "pipe-data.pb-c.h"
#include "pstree.pb-c.h"
#include "remap-file-path.pb-c.h"
#include "sk-packet.pb-c.h"
#include "tcp-stream.pb-c.h"
#include "tty.pb-c.h"
#include "userns.pb-c.h"
#include "utsns.pb-c.h"

/* ---- a checkpoint with a record of every kind that is written today ---- */

static void put(struct sink *s, enum rec_kind kind, uint32_t id, const void *m)
{
	struct err e = { 0 };

	if (sink_put(s, kind, id, m, &e) < 0)
		fail_msg("%s", err_text(&e));
}

static void blob(struct sink *s, uint32_t id, const void *data, size_t len, int64_t offset, const char *addr)
{
	GwBlob b = GW_BLOB__INIT;

	b.has_data = 1;
	b.data.data = (uint8_t *)data;
	b.data.len = len;
	b.has_offset = offset >= 0;
	b.offset = offset >= 0 ? (uint64_t)offset : 0;
	b.has_addr = addr != NULL;
	b.addr.data = (uint8_t *)addr;
	b.addr.len = addr ? strlen(addr) : 0;
	put(s, REC_GW_BLOB, id, &b.base);
}

static void process_put(struct sink *s, uint32_t pid, uint32_t ppid, uint32_t *tids, size_t n)
{
	PstreeEntry p = PSTREE_ENTRY__INIT;

	p.pid = p.pgid = p.sid = pid;
	p.ppid = ppid;
	p.threads = tids;
	p.n_threads = n;
	put(s, REC_PSTREE, pid, &p.base);
}

static void core_put(struct sink *s, uint32_t tid, uint32_t state)
{
	CoreEntry c = CORE_ENTRY__INIT;
	TaskCoreEntry tc = TASK_CORE_ENTRY__INIT;

	c.mtype = CORE_ENTRY__MARCH__X86_64;
	tc.task_state = state;
	tc.comm = "test";
	c.tc = &tc;
	put(s, REC_CORE, tid, &c.base);
}

static void tree_put(struct sink *s)
{
	GwHeader h = GW_HEADER__INIT;
	InventoryEntry inv = INVENTORY_ENTRY__INIT;
	uint32_t init[] = { 1 }, many[] = { 7, 9, 8 }, dead[] = { 5 };

	h.has_version = 1;
	h.version = 3;
	put(s, REC_GW_HEADER, 0, &h.base);
	inv.img_version = 2;
	put(s, REC_INVENTORY, 0, &inv.base);
	process_put(s, 1, 0, init, 1);
	process_put(s, 7, 1, many, 3);
	process_put(s, 5, 1, dead, 1);
	for (uint32_t pid = 1; pid <= 7; pid += 6) {
		TaskKobjIdsEntry ids = TASK_KOBJ_IDS_ENTRY__INIT;
		FsEntry fs = FS_ENTRY__INIT;
		GwTask t = GW_TASK__INIT;

		ids.vm_id = ids.fs_id = ids.sighand_id = pid;
		ids.files_id = pid;
		ids.has_uts_ns_id = ids.has_mnt_ns_id = ids.has_user_ns_id = 1;
		ids.uts_ns_id = 11;
		ids.mnt_ns_id = 12;
		ids.user_ns_id = 13;
		put(s, REC_IDS, pid, &ids.base);
		fs.cwd_id = pid;
		put(s, REC_FS, pid, &fs.base);
		put(s, REC_GW_TASK, pid, &t.base);
	}
	core_put(s, 1, 1);
	core_put(s, 7, 1);
	core_put(s, 9, 1);
	core_put(s, 8, 1);
	core_put(s, 5, 3);
}

static void mm_put(struct sink *s)
{
	for (uint32_t pid = 1; pid <= 7; pid += 6) {
		MmEntry mm = MM_ENTRY__INIT;
		VmaEntry va = VMA_ENTRY__INIT, *list[] = { &va };
		GwMem gw = GW_MEM__INIT;

		mm.exe_file_id = 1;
		va.start = 0x10000;
		va.end = 0x90000;
		va.status = 1 | 1 << 8;
		va.shmid = pid == 1 ? 2 : 1;
		mm.vmas = list;
		mm.n_vmas = 1;
		put(s, REC_MM, pid, &mm.base);
		put(s, REC_GW_MEM, pid, &gw.base);
	}
}

static void fd_put(struct sink *s, uint32_t pid, uint32_t fd, uint32_t id, FdTypes type)
{
	FdinfoEntry f = FDINFO_ENTRY__INIT;

	f.id = id;
	f.fd = fd;
	f.type = type;
	put(s, REC_FDINFO, pid, &f.base);
}

static void files_put(struct sink *s)
{
	FownEntry own = FOWN_ENTRY__INIT;

	fd_put(s, 1, 0, 1, FD_TYPES__REG);
	fd_put(s, 1, 5, 2, FD_TYPES__INETSK);
	fd_put(s, 1, 6, 3, FD_TYPES__PIDFD);
	for (uint32_t id = 1; id <= 4; id++) {
		FileEntry f = FILE_ENTRY__INIT;
		RegFileEntry reg = REG_FILE_ENTRY__INIT;
		InetSkEntry sk = INET_SK_ENTRY__INIT;
		SkOptsEntry so = SK_OPTS_ENTRY__INIT;

		f.id = reg.id = sk.id = id;
		f.type = id == 2 ? FD_TYPES__INETSK : id == 4 ? FD_TYPES__PIDFD : FD_TYPES__REG;
		reg.fown = sk.fown = &own;
		reg.name = "/file";
		sk.ino = 0xabc;
		sk.type = SOCK_STREAM;
		sk.opts = &so;
		f.reg = id == 1 || id == 3 ? &reg : NULL;
		f.isk = id == 2 ? &sk : NULL;
		put(s, REC_FILES, id, &f.base);
	}
}

static void pipes_put(struct sink *s)
{
	static const size_t cut[][3] = { { 0 }, { 10 }, { 3, 1, 2 } };

	for (uint32_t i = 0; i < 6; i++) {
		PipeDataEntry p = PIPE_DATA_ENTRY__INIT;
		const size_t *c = cut[i % 3];

		p.pipe_id = 20 + i;
		p.bytes = (uint32_t)(c[0] + c[1] + c[2]);
		put(s, i < 3 ? REC_PIPES_DATA : REC_FIFO_DATA, 20 + i, &p.base);
		for (int k = 0; k < 3 && c[k]; k++)
			blob(s, 20 + i, "0123456789" + k, c[k], -1, NULL);
	}
}

static void queues_put(struct sink *s)
{
	TcpStreamEntry t = TCP_STREAM_ENTRY__INIT;
	static char big[3u << 20];

	for (uint32_t i = 0; i < 4; i++) {
		SkPacketEntry p = SK_PACKET_ENTRY__INIT;

		p.id_for = i == 3 ? 30 : 30 + i;
		p.length = i == 1 ? 0 : i == 3 ? sizeof(big) : 5;
		put(s, REC_SK_QUEUES, p.id_for, &p.base);
		blob(s, p.id_for, i == 3 ? big : "hello", p.length, i == 3 ? 12 : -1, i == 2 ? "from" : NULL);
	}
	t.inq_len = 4;
	put(s, REC_TCP_STREAM, 0xabc, &t.base);
	blob(s, 0xabc, "data", 4, -1, NULL);
	blob(s, 0xabc, NULL, 0, -1, NULL);
}

static void contents_put(struct sink *s)
{
	static char mib[1u << 20];
	MemfdInodeEntry m = MEMFD_INODE_ENTRY__INIT;
	GhostFileEntry g = GHOST_FILE_ENTRY__INIT;

	memset(mib, 'm', sizeof(mib));
	for (uint32_t i = 0; i < 3; i++) {
		RemapFilePathEntry r = REMAP_FILE_PATH_ENTRY__INIT;

		g.mode = i == 1 ? S_IFDIR | 0755 : S_IFREG | 0600;
		put(s, REC_GHOST_FILE, 0x1f - i, &g.base);
		if (i == 0) {
			blob(s, 0x1f, "begin", 5, 0, NULL);
			blob(s, 0x1f, mib, sizeof(mib), 1 << 20, NULL);
		}
		r.orig_id = 0x1f - i;
		r.remap_id = 0x1f - i;
		put(s, REC_REMAP_FPATH, r.orig_id, &r.base);
	}
	m.name = "memfd";
	m.inode_id = 40;
	m.shmid = 0x40000028;
	m.size = (3u << 20) + 100;
	put(s, REC_MEMFD, 40, &m.base);
	blob(s, 40, mib, sizeof(mib), 0, NULL);
	blob(s, 40, mib, 100, 3 << 20, NULL);
	m.inode_id = 41;
	m.shmid = 0x40000029;
	m.size = 0;
	put(s, REC_MEMFD, 41, &m.base);
}

static void rest_put(struct sink *s)
{
	UtsnsEntry u = UTSNS_ENTRY__INIT;
	UsernsEntry un = USERNS_ENTRY__INIT;
	TtyInfoEntry ti = TTY_INFO_ENTRY__INIT;
	TtyDataEntry td = TTY_DATA_ENTRY__INIT;
	GwBlob net = GW_BLOB__INIT;

	u.nodename = u.domainname = "name";
	put(s, REC_UTSNS, 0, &u.base);
	put(s, REC_USERNS, 0, &un.base);
	for (uint32_t i = 90; i < 92; i++) {
		MntEntry m = MNT_ENTRY__INIT;

		m.mnt_id = i;
		m.root = m.mountpoint = m.source = m.options = "/";
		put(s, REC_MOUNTPOINTS, i, &m.base);
	}
	ti.id = td.tty_id = 3;
	ti.type = TTY_TYPE__PTY;
	put(s, REC_TTY_INFO, 3, &ti.base);
	td.data.data = (uint8_t *)"line\n";
	td.data.len = 5;
	put(s, REC_TTY_DATA, 3, &td.base);
	for (int i = 0; i < 2; i++) {
		FileLockEntry l = FILE_LOCK_ENTRY__INIT;

		l.pid = 7;
		l.fd = i;
		put(s, REC_FILELOCKS, 7, &l.base);
	}
	net.has_data = 1;
	net.data.data = (uint8_t *)"addresses";
	net.data.len = 9;
	put(s, REC_GW_NET, 2, &net.base);
	put(s, REC_IFADDR, 1, &net.base);
}

static void pages_put(struct sink *s, uint32_t id, const struct page_range *v, size_t n, char fill)
{
	char page[4096];
	uint64_t total = 0;

	assert_int_equal(sink_pages(s, id, v, n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		total += v[i].n_pages;
	for (uint64_t i = 0; i < total; i++) {
		memset(page, fill + (char)i, sizeof(page));
		assert_int_equal(fd_write_full(sink_fd(s), page, sizeof(page)), 0);
	}
}

static void checkpoint_put(struct sink *s)
{
	static const struct page_range shm[] = { { 0x2000, 1 } }, a[] = { { 0x10000, 2 }, { 0x20000, 1 } },
				       more[] = { { 0x21000, 3 } };
	struct err e = { 0 };

	tree_put(s);
	mm_put(s);
	files_put(s);
	pipes_put(s);
	queues_put(s);
	contents_put(s);
	rest_put(s);
	pages_put(s, REC_SHM_ID(1), shm, 1, 's');
	pages_put(s, 1, a, 2, 'a');
	pages_put(s, 1, more, 1, 'd');
	if (sink_end(s, &e) < 0)
		fail_msg("%s", err_text(&e));
	assert_true(sink_bytes(s) > 0);
}

/* ---- folders ---- */

static char *folder_path;

static int folder_new(void)
{
	char path[] = "/dev/shm/gw-folder-XXXXXX";
	int dir;

	assert_non_null(mkdtemp(path));
	folder_path = strdup(path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	return dir;
}

static void folder_drop(int dir)
{
	char command[128];

	close(dir);
	snprintf(command, sizeof(command), "rm -rf %s", folder_path);
	assert_int_equal(system(command), 0);
	free(folder_path);
}

static int folder_full(void)
{
	int dir = folder_new();
	struct sink *s;

	assert_int_equal(sink_folder_new(dir, &s, NULL), 0);
	checkpoint_put(s);
	sink_free(s);
	return dir;
}

static struct image *read_ok(int dir)
{
	struct image *im = NULL;
	struct err e = { 0 };

	if (image_read_folder(dir, &im, &e) < 0)
		fail_msg("%s", err_text(&e));
	return im;
}

/* Reads everything, pages too. */
static int read_all(int dir, struct err *e)
{
	struct image *im = NULL;
	struct page_range *v;
	uint32_t id;
	size_t n;
	int r = image_read_folder(dir, &im, e);

	while (r >= 0 && (r = image_next_pages(im, -1, &id, &v, &n, e)) > 0)
		free(v);
	image_free(im);
	return r;
}

static void bad(int dir, const char *why)
{
	struct err e = { 0 };
	int r = read_all(dir, &e);

	if (r >= 0)
		fail_msg("%s was taken", why);
	if (!e.text[0])
		fail_msg("%s: no sentence", why);
}

/* ---- tests ---- */

static void same_message(const struct record *a, const struct record *b)
{
	size_t n = protobuf_c_message_get_packed_size(a->msg);
	uint8_t *x = malloc(n + 1), *y = malloc(n + 1);

	assert_int_equal(a->id, b->id);
	assert_int_equal(n, protobuf_c_message_get_packed_size(b->msg));
	protobuf_c_message_pack(a->msg, x);
	protobuf_c_message_pack(b->msg, y);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

/* Of each kind the same records in the same order, and the same blobs behind them. */
static void same_kind(const struct image *a, const struct image *b, uint32_t kind)
{
	size_t pa = 0, pb = 0;

	for (;;) {
		const struct record *x = image_find(a, kind, REC_ANY, &pa), *y = image_find(b, kind, REC_ANY, &pb);

		if (!x != !y)
			fail_msg("%s: one has more than the other", rec_kind_name(kind));
		if (!x)
			return;
		same_message(x, y);
		for (size_t i = 0;; i++) {
			const struct record *u = image_at(a, pa + i), *v = image_at(b, pb + i);
			bool ub = u && u->kind == REC_GW_BLOB, vb = v && v->kind == REC_GW_BLOB;

			if (ub != vb)
				fail_msg("%s %u: blob %zu is missing or too much", rec_kind_name(kind), x->id, i);
			if (!ub)
				break;
			same_message(u, v);
		}
	}
}

static void test_same_as_stream(void **state)
{
	int dir = folder_full(), fd = memfd_create("stream", MFD_CLOEXEC);
	struct image *a = NULL, *b = read_ok(dir);
	struct sink *s;

	assert_int_equal(sink_stream_new(fd, &s, NULL), 0);
	checkpoint_put(s);
	sink_free(s);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(image_read_stream(fd, &a, NULL), 0);
	assert_int_equal(image_data_fd(a), fd);
	assert_int_equal(image_count(a), image_count(b));
	for (uint32_t k = 1; k < REC_KIND_MAX; k++)
		if (k != REC_GW_BLOB)
			same_kind(a, b, k);
	image_free(a);
	image_free(b);
	close(fd);
	folder_drop(dir);
}

static void frame_is(struct image *im, uint32_t want_id, const struct page_range *want, size_t want_n, char first)
{
	struct page_range *v;
	char page[4096];
	uint32_t id;
	size_t n;

	assert_int_equal(image_next_pages(im, -1, &id, &v, &n, NULL), 1);
	assert_int_equal(id, want_id);
	assert_int_equal(n, want_n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(v[i].vaddr, want[i].vaddr);
		assert_int_equal(v[i].n_pages, want[i].n_pages);
		for (uint64_t k = 0; k < v[i].n_pages; k++, first++) {
			assert_int_equal(fd_read_full(image_data_fd(im), page, sizeof(page)), 0);
			assert_int_equal(page[17], first);
		}
	}
	free(v);
}

static void test_pages(void **state)
{
	/* Runs that touch have become one. */
	static const struct page_range shm[] = { { 0x2000, 1 } }, own[] = { { 0x10000, 2 }, { 0x20000, 4 } };
	int dir = folder_full();
	struct image *im = read_ok(dir);
	struct page_range *v;
	uint32_t id;
	size_t n;

	frame_is(im, REC_SHM_ID(1), shm, 1, 's');
	frame_is(im, 1, own, 2, 'a');
	/* Process 7 has none, and there are no more. */
	assert_int_equal(image_next_pages(im, -1, &id, &v, &n, NULL), 0);
	assert_int_equal(image_next_pages(im, -1, &id, &v, &n, NULL), 0);
	image_free(im);
	folder_drop(dir);
}

static const char *const files[] = {
	"inventory.img", "pstree.img", "core-1.img", "core-5.img", "core-7.img", "core-8.img", "core-9.img",
	"ids-1.img", "ids-7.img", "mm-1.img", "mm-7.img", "fs-1.img", "fs-7.img", "fdinfo-1.img", "fdinfo-7.img",
	"files.img", "pipes-data.img", "fifo-data.img", "sk-queues.img", "tcp-stream-abc.img",
	"ghost-file-1f.img", "ghost-file-1e.img", "ghost-file-1d.img", "remap-fpath.img", "tty-info.img",
	"tty-data.img", "memfd.img", "utsns-11.img", "mountpoints-12.img", "userns-13.img", "filelocks.img",
	"godwit.records", "pagemap-1.img", "pagemap-7.img", "pagemap-shmem-2.img", "pagemap-shmem-1073741864.img",
	"pages-1.img", "pages-2.img", "pages-3.img",
};

static char *slurp(int dir, const char *name, size_t *len)
{
	char *data;

	if (fd_read_file_at(dir, name, 64u << 20, &data, len) < 0)
		fail_msg("%s is not there", name);
	return data;
}

static void spill(int dir, const char *name, const char *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, data, len), 0);
	close(fd);
}

static void test_names(void **state)
{
	int dir = folder_full();
	struct stat st;

	for (size_t i = 0; i < array_len(files); i++) {
		if (fstatat(dir, files[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			fail_msg("%s was not written", files[i]);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
	folder_drop(dir);
}

/* Without any one of its files a folder is none. */
static void test_missing(void **state)
{
	int dir = folder_full();

	for (size_t i = 0; i < array_len(files); i++) {
		size_t len;
		char *data = slurp(dir, files[i], &len);

		if (strcmp(files[i], "godwit.records") == 0) {
			free(data);
			continue;
		}
		assert_int_equal(unlinkat(dir, files[i], 0), 0);
		/* Nothing is lost with what is empty. */
		if (len && (len > 8 || strcmp(files[i], "fdinfo-7.img") != 0))
			bad(dir, files[i]);
		spill(dir, files[i], data, len);
		free(data);
	}
	assert_int_equal(read_all(dir, NULL), 0);
	folder_drop(dir);
}

static void test_truncated(void **state)
{
	int dir = folder_full();

	for (size_t i = 0; i < array_len(files); i++) {
		size_t len;
		char *data = slurp(dir, files[i], &len);
		size_t step = len > 3000 ? len / 50 + 1 : 1;

		for (size_t cut = 0; cut < len; cut += step) {
			spill(dir, files[i], data, cut);
			bad(dir, files[i]);
		}
		spill(dir, files[i], data, len);
		free(data);
	}
	assert_int_equal(read_all(dir, NULL), 0);
	folder_drop(dir);
}

static void test_magic(void **state)
{
	int dir = folder_full();

	for (size_t i = 0; i < array_len(files); i++) {
		size_t len;
		char *data = slurp(dir, files[i], &len);

		if (strncmp(files[i], "pages-", 6) != 0) {
			data[5 % (strcmp(files[i], "inventory.img") ? 8 : 4)] ^= 1;
			spill(dir, files[i], data, len);
			bad(dir, files[i]);
			data[5 % (strcmp(files[i], "inventory.img") ? 8 : 4)] ^= 1;
		}
		/* The length of the first entry. */
		if (len >= 12 && strncmp(files[i], "pages-", 6) != 0 && strcmp(files[i], "godwit.records")) {
			size_t at = strcmp(files[i], "inventory.img") ? 11 : 7;

			data[at] = 0x7f;
			spill(dir, files[i], data, len);
			bad(dir, files[i]);
			data[at] = 0;
		}
		spill(dir, files[i], data, len);
		free(data);
	}
	assert_int_equal(read_all(dir, NULL), 0);
	folder_drop(dir);
}

static void test_not_files(void **state)
{
	int dir = folder_full();
	char path[256];

	assert_int_equal(renameat(dir, "mm-1.img", dir, "elsewhere"), 0);
	assert_int_equal(symlinkat("elsewhere", dir, "mm-1.img"), 0);
	bad(dir, "a symbolic link");
	assert_int_equal(unlinkat(dir, "mm-1.img", 0), 0);
	assert_int_equal(mkdirat(dir, "mm-1.img", 0700), 0);
	bad(dir, "a folder");
	assert_int_equal(unlinkat(dir, "mm-1.img", AT_REMOVEDIR), 0);
	snprintf(path, sizeof(path), "%s/mm-1.img", folder_path);
	assert_int_equal(mkfifo(path, 0600), 0);
	bad(dir, "a fifo");
	assert_int_equal(unlinkat(dir, "mm-1.img", 0), 0);
	assert_int_equal(renameat(dir, "elsewhere", dir, "mm-1.img"), 0);
	assert_int_equal(renameat(dir, "pages-2.img", dir, "elsewhere"), 0);
	assert_int_equal(symlinkat("/dev/zero", dir, "pages-2.img"), 0);
	bad(dir, "pages elsewhere");
	folder_drop(dir);
}

/* Twice the same entries: ids that are there twice, and more than was written. */
static void test_duplicates(void **state)
{
	int dir = folder_full();

	unlinkat(dir, "godwit.records", 0); /* so that not the counts speak */
	for (size_t i = 0; i < array_len(files); i++) {
		static const char *const many[] = { "fdinfo-1.img", "fdinfo-7.img", "sk-queues.img", "filelocks.img", "godwit.records" };
		size_t head = strcmp(files[i], "inventory.img") ? 8 : 4, len;
		bool skip = strncmp(files[i], "pages-", 6) == 0;
		char *data, *twice;

		for (size_t k = 0; k < array_len(many); k++)
			skip |= strcmp(files[i], many[k]) == 0;
		/* Chunks of a file: the entry would be read as one. */
		skip |= !strcmp(files[i], "ghost-file-1f.img") || !strcmp(files[i], "ghost-file-1d.img");
		if (skip)
			continue;
		data = slurp(dir, files[i], &len);
		if (len > head) {
			twice = malloc(2 * len);
			memcpy(twice, data, len);
			memcpy(twice + len, data + head, len - head);
			spill(dir, files[i], twice, 2 * len - head);
			free(twice);
			bad(dir, files[i]);
		}
		spill(dir, files[i], data, len);
		free(data);
	}
	folder_drop(dir);
}

static void test_more_than_pages(void **state)
{
	int dir = folder_full();
	size_t len;
	char *data = slurp(dir, "pages-2.img", &len);

	spill(dir, "pages-2.img", data, len - 4096);
	bad(dir, "too few pages");
	spill(dir, "pages-2.img", data, len - 1);
	bad(dir, "half a page");
	free(data);
	folder_drop(dir);
}

static void test_not_written(void **state)
{
	PipeDataEntry p = PIPE_DATA_ENTRY__INIT;
	InventoryEntry inv = INVENTORY_ENTRY__INIT;
	GwBlob b = GW_BLOB__INIT;
	struct stat st;
	struct sink *s;
	int dir = folder_new();

	/* A folder that has one. */
	spill(dir, "inventory.img", "x", 1);
	assert_int_equal(sink_folder_new(dir, &s, NULL), -EEXIST);
	unlinkat(dir, "inventory.img", 0);
	spill(dir, "pipes-data.img", "x", 1);
	assert_int_equal(sink_folder_new(dir, &s, NULL), 0);
	put(s, REC_INVENTORY, 0, &inv.base);
	p.pipe_id = 1;
	put(s, REC_PIPES_DATA, 1, &p.base);
	assert_int_equal(sink_end(s, NULL), -EEXIST);
	sink_folder_remove(s);
	sink_free(s);
	assert_int_equal(fstatat(dir, "inventory.img", &st, 0), -1);
	assert_int_equal(fstatat(dir, "pipes-data.img", &st, 0), 0);
	unlinkat(dir, "pipes-data.img", 0);

	/* An entry that lies about its bytes; a blob of nobody; an id that the message contradicts. */
	assert_int_equal(sink_folder_new(dir, &s, NULL), 0);
	p.bytes = 5;
	put(s, REC_PIPES_DATA, 1, &p.base);
	assert_true(sink_put(s, REC_INVENTORY, 0, &inv.base, NULL) < 0);
	assert_true(sink_put(s, REC_GW_BLOB, 4, &b.base, NULL) < 0);
	assert_true(sink_put(s, REC_PIPES_DATA, 2, &p.base, NULL) < 0);
	sink_free(s);
	/* No inventory. */
	assert_int_equal(sink_folder_new(dir, &s, NULL), 0);
	assert_true(sink_end(s, NULL) < 0);
	sink_free(s);
	folder_drop(dir);
}

static void test_removed(void **state)
{
	int dir = folder_new();
	struct sink *s;

	assert_int_equal(sink_folder_new(dir, &s, NULL), 0);
	checkpoint_put(s);
	sink_folder_remove(s);
	sink_free(s);
	for (size_t i = 0; i < array_len(files); i++)
		if (faccessat(dir, files[i], F_OK, 0) == 0)
			fail_msg("%s is still there", files[i]);
	folder_drop(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_stream), cmocka_unit_test(test_pages),
		cmocka_unit_test(test_names),	       cmocka_unit_test(test_missing),
		cmocka_unit_test(test_truncated),      cmocka_unit_test(test_magic),
		cmocka_unit_test(test_not_files),      cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_more_than_pages), cmocka_unit_test(test_not_written),
		cmocka_unit_test(test_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
