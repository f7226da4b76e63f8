#include "cr/ns/rtnl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MAX (32u << 20)

static int request_send(int sock, struct nlmsghdr *m)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	m->nlmsg_seq++;
	return sendto(sock, m, m->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0
		       ? -errno
		       : 0;
}

/* 1: the end. */
static int answer_take(const char *data, size_t len, struct buf *ret)
{
	size_t pos = 0;
	const struct nlmsghdr *m;

	while ((m = rtnl_next(data, len, &pos))) {
		if (m->nlmsg_type == NLMSG_DONE)
			return 1;
		if (m->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *err = rtnl_head(m, sizeof(*err));

			return err && err->error < 0 ? err->error : -EPROTO;
		}
		if (m->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EAGAIN;
		if (ret->len + m->nlmsg_len > ANSWER_MAX)
			return -EFBIG;
		if (buf_add(ret, m, m->nlmsg_len) < 0 ||
		    buf_add(ret, "\0\0\0", NLMSG_ALIGN(m->nlmsg_len) - m->nlmsg_len) < 0)
			return -ENOMEM;
	}
	return 0;
}

int rtnl_dump(int sock, uint16_t type, const void *hdr, size_t len, struct buf *ret)
{
	static char answer[65536] __attribute__((aligned(8)));
	char req[64] __attribute__((aligned(8))) = { 0 };
	struct nlmsghdr *m = (struct nlmsghdr *)req;
	int r;

	if (NLMSG_LENGTH(len) > sizeof(req))
		return -EINVAL;
	m->nlmsg_len = (uint32_t)NLMSG_LENGTH(len);
	m->nlmsg_type = type;
	m->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	memcpy(NLMSG_DATA(m), hdr, len);
	r = request_send(sock, m);
	while (r == 0) {
		ssize_t n = recv(sock, answer, sizeof(answer), MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((size_t)n > sizeof(answer))
			return -EMSGSIZE;
		r = answer_take(answer, (size_t)n, ret);
	}
	return r < 0 ? r : 0;
}

int rtnl_talk(int sock, struct nlmsghdr *m)
{
	char answer[8192] __attribute__((aligned(8)));
	const struct nlmsghdr *a;
	const struct nlmsgerr *err;
	size_t pos = 0;
	ssize_t n;
	int r;

	m->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	r = request_send(sock, m);
	if (r < 0)
		return r;
	do
		n = recv(sock, answer, sizeof(answer), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	a = rtnl_next(answer, (size_t)n, &pos);
	err = a && a->nlmsg_type == NLMSG_ERROR ? rtnl_head(a, sizeof(*err)) : NULL;
	if (!err)
		return -EPROTO;
	return err->error <= 0 ? err->error : -EPROTO;
}

const struct nlmsghdr *rtnl_next(const void *data, size_t len, size_t *pos)
{
	const struct nlmsghdr *m;

	if (*pos > len || len - *pos < sizeof(*m))
		return NULL;
	m = (const struct nlmsghdr *)((const char *)data + *pos);
	if (m->nlmsg_len < sizeof(*m) || m->nlmsg_len > len - *pos)
		return NULL;
	*pos += NLMSG_ALIGN(m->nlmsg_len);
	return m;
}

const void *rtnl_head(const struct nlmsghdr *m, size_t len)
{
	return m->nlmsg_len >= NLMSG_LENGTH(len) ? NLMSG_DATA(m) : NULL;
}

const struct rtattr *rtnl_attr_next(const struct nlmsghdr *m, size_t head, size_t *pos)
{
	size_t start = NLMSG_LENGTH(NLMSG_ALIGN(head)), at;
	const struct rtattr *a;

	if (m->nlmsg_len < start)
		return NULL;
	at = start + *pos;
	if (at > m->nlmsg_len || m->nlmsg_len - at < sizeof(*a))
		return NULL;
	a = (const struct rtattr *)((const char *)m + at);
	if (a->rta_len < sizeof(*a) || a->rta_len > m->nlmsg_len - at)
		return NULL;
	*pos += RTA_ALIGN(a->rta_len);
	return a;
}

const struct rtattr *rtnl_attr(const struct nlmsghdr *m, size_t head, unsigned short type)
{
	const struct rtattr *a;
	size_t pos = 0;

	while ((a = rtnl_attr_next(m, head, &pos)))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

bool rtnl_attr_u32(const struct rtattr *a, uint32_t *ret)
{
	if (!a || rtnl_attr_len(a) < sizeof(*ret))
		return false;
	memcpy(ret, RTA_DATA(a), sizeof(*ret));
	return true;
}

int rtnl_begin(struct buf *b, uint16_t type, uint16_t flags, const void *hdr, size_t len)
{
	struct nlmsghdr m = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(len),
			      .nlmsg_type = type,
			      .nlmsg_flags = flags };
	int r;

	b->len = 0;
	r = buf_add(b, &m, sizeof(m));
	if (r >= 0)
		r = buf_add(b, hdr, len);
	if (r >= 0)
		r = buf_add(b, "\0\0\0", NLMSG_ALIGN(len) - len);
	return r;
}

int rtnl_add(struct buf *b, unsigned short type, const void *data, size_t len)
{
	struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = type };
	int r;

	if (len > 60000)
		return -EMSGSIZE;
	r = buf_add(b, &a, sizeof(a));
	if (r >= 0)
		r = buf_add(b, data, len);
	if (r >= 0)
		r = buf_add(b, "\0\0\0", RTA_ALIGN(len) - len);
	if (r >= 0)
		((struct nlmsghdr *)b->data)->nlmsg_len = (uint32_t)b->len;
	return r;
}
