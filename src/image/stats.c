/* stats-dump and stats-restore: what it took, for programs that call us. */
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/priv.h"

int stats_write(int dir_fd, const StatsEntry *s, struct err *e)
{
	const char *name = s->restore ? "stats-restore" : "stats-dump";
	struct {
		uint32_t magic[2], len;
		uint8_t message[512];
	} file = { { IMG_SERVICE_MAGIC, STATS_MAGIC }, 0, { 0 } };
	size_t len = stats_entry__get_packed_size(s);
	auto_fd int fd = -1;
	int r;

	if (!s->dump == !s->restore || len > sizeof(file.message))
		return err_set(e, -EINVAL, "figures of a dump or of a restore, not of both");
	file.len = (uint32_t)len;
	stats_entry__pack(s, file.message);
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return err_sys(e, -errno, "replacing %s", name);
	fd = fd_open_beneath(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	r = fd < 0 ? fd : fd_write_full(fd, &file, offsetof(__typeof__(file), message) + len);
	return r < 0 ? err_sys(e, r, "writing %s", name) : 0;
}
