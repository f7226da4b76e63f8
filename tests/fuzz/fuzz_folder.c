/* A folder of images from a stranger.  The input is a list of files: a byte that says which (bit 7: without the magic
 * of its kind, which else stands in front), a length in two bytes, and that many bytes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Processes 1 and 7, as the seeds have them. */
static const struct {
	const char *name;
	uint32_t kind; /* 0: a pagemap; UINT32_MAX: no magic */
} folder_files[] = {
	{ "inventory.img", REC_INVENTORY }, { "pstree.img", REC_PSTREE }, { "core-1.img", REC_CORE },
	{ "core-7.img", REC_CORE }, { "ids-1.img", REC_IDS }, { "ids-7.img", REC_IDS }, { "mm-1.img", REC_MM },
	{ "mm-7.img", REC_MM }, { "fs-1.img", REC_FS }, { "fs-7.img", REC_FS }, { "fdinfo-1.img", REC_FDINFO },
	{ "fdinfo-7.img", REC_FDINFO }, { "files.img", REC_FILES }, { "pipes-data.img", REC_PIPES_DATA },
	{ "fifo-data.img", REC_FIFO_DATA }, { "sk-queues.img", REC_SK_QUEUES },
	{ "tcp-stream-abc.img", REC_TCP_STREAM }, { "ghost-file-1f.img", REC_GHOST_FILE },
	{ "ghost-file-1e.img", REC_GHOST_FILE }, { "remap-fpath.img", REC_REMAP_FPATH },
	{ "tty-info.img", REC_TTY_INFO }, { "tty-data.img", REC_TTY_DATA }, { "memfd.img", REC_MEMFD },
	{ "utsns-11.img", REC_UTSNS }, { "mountpoints-12.img", REC_MOUNTPOINTS }, { "userns-13.img", REC_USERNS },
	{ "timens-1.img", REC_TIMENS }, { "filelocks.img", REC_FILELOCKS }, { "cgroup.img", REC_CGROUP },
	{ "seccomp.img", REC_SECCOMP }, { "creds-1.img", REC_CREDS }, { FOLDER_RECORDS, UINT32_MAX },
	{ "pagemap-1.img", 0 }, { "pagemap-7.img", 0 }, { "pagemap-shmem-2.img", 0 },
	{ "pagemap-shmem-1073741864.img", 0 }, { "pages-1.img", UINT32_MAX }, { "pages-2.img", UINT32_MAX },
	{ "core-5.img", REC_CORE }, { "core-8.img", REC_CORE }, { "core-9.img", REC_CORE },
	{ "ghost-file-1d.img", REC_GHOST_FILE }, { "pages-3.img", UINT32_MAX },
};
#define FOLDER_FILES (sizeof(folder_files) / sizeof(folder_files[0]))

static int folder_dir = -1;

static void folder_clear(void)
{
	for (size_t i = 0; i < FOLDER_FILES; i++)
		unlinkat(folder_dir, folder_files[i].name, 0);
}

static void folder_leave(void)
{
	char link[64], path[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", folder_dir);
	n = readlink(link, path, sizeof(path) - 1);
	folder_clear();
	if (n > 0) {
		path[n] = '\0';
		rmdir(path);
	}
}

static void folder_enter(void)
{
	char path[] = "/dev/shm/gw-fuzz-XXXXXX";

	if (folder_dir >= 0)
		return;
	if (!mkdtemp(path) || (folder_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	atexit(folder_leave);
}

static void folder_file(uint8_t which, const uint8_t *data, size_t len)
{
	size_t i = (which & 127) % FOLDER_FILES;
	uint32_t kind = folder_files[i].kind, magic[2] = { IMG_COMMON_MAGIC, PAGEMAP_MAGIC };
	int fd = openat(folder_dir, folder_files[i].name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		abort();
	if (kind && kind != UINT32_MAX)
		magic[1] = folder_kind(kind)->magic;
	if (which & 128)
		kind = UINT32_MAX;
	if (kind != UINT32_MAX && fd_write_full(fd, magic + (kind == REC_INVENTORY), kind == REC_INVENTORY ? 4 : 8) < 0)
		abort();
	if (fd_write_full(fd, data, len) < 0)
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct image *im = NULL;
	struct err e = { 0 };
	struct page_range *v;
	uint32_t id;
	size_t n;
	int r;

	folder_enter();
	folder_clear();
	while (len >= 3) {
		size_t take = (size_t)data[1] | (size_t)data[2] << 8;

		take = take < len - 3 ? take : len - 3;
		folder_file(data[0], data + 3, take);
		data += 3 + take;
		len -= 3 + take;
	}
	r = image_read_folder(folder_dir, &im, &e);
	while (r >= 0 && (r = image_next_pages(im, -1, &id, &v, &n, &e)) > 0) {
		char page[16];

		if (pread(image_data_fd(im), page, sizeof(page), 0) < 0)
			abort();
		free(v);
	}
	/* A failure says why. */
	if (r < 0 && !e.text[0])
		abort();
	image_free(im);
	return 0;
}
