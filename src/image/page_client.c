#include "image/page_proto.h"

#include "base/fd.h"

static int say(int sock, const struct ps_iov *m, void *answer, size_t len, struct err *e)
{
	int r = fd_write_full(sock, m, sizeof(*m));

	if (r >= 0 && len)
		r = fd_read_full(sock, answer, len);
	return r < 0 ? err_sys(e, r, "the page server has gone") : 0;
}

int page_client_open(int sock, bool shm, uint32_t number, struct err *e)
{
	struct ps_iov m = { .cmd = PS_OPEN2, .dst_id = (uint64_t)number << 8 | (shm ? PS_OWNER_SHM : PS_OWNER_PID) };
	char has_parent;

	/* A parent makes no difference: nothing is left out. */
	return say(sock, &m, &has_parent, sizeof(has_parent), e);
}

int page_client_run(int sock, uint64_t vaddr, uint64_t n_pages, struct err *e)
{
	struct ps_iov m = { .cmd = PS_ADD_F | PS_FLAG_PRESENT << 16, .nr_pages = (uint32_t)n_pages, .vaddr = vaddr };

	if (n_pages > UINT32_MAX)
		return err_set(e, -EOVERFLOW, "a run of %llu pages", (unsigned long long)n_pages);
	return say(sock, &m, NULL, 0, e);
}

int page_client_close(int sock, struct err *e)
{
	struct ps_iov m = { .cmd = PS_CLOSE };
	int32_t status = -1;
	int r = say(sock, &m, &status, sizeof(status), e);

	if (r >= 0 && status != 0)
		r = err_set(e, -EIO, "the page server has not kept the pages (status %d)", status);
	return r;
}
