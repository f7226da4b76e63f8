#include "network/rtnl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define RTNL_OVERFLOW UINT32_MAX

void rtnl_init(struct rtnl *q, uint16_t type, uint16_t flags, size_t size)
{
	memset(q, 0, sizeof(*q));
	q->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
	q->h.nlmsg_type = type;
	q->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	q->h.nlmsg_seq = 1;
}

void rtnl_put(struct rtnl *q, uint16_t type, const void *data, size_t len)
{
	size_t at = NLMSG_ALIGN(q->h.nlmsg_len);
	struct rtattr *a = (void *)((char *)q + at);

	if (q->h.nlmsg_len == RTNL_OVERFLOW || len > sizeof(q->room) ||
	    at + RTA_SPACE(len) > sizeof(*q)) {
		q->h.nlmsg_len = RTNL_OVERFLOW;
		return;
	}
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	q->h.nlmsg_len = (uint32_t)(at + RTA_SPACE(len));
}

void rtnl_put_str(struct rtnl *q, uint16_t type, const char *s)
{
	rtnl_put(q, type, s, strlen(s) + 1);
}

void rtnl_put_u32(struct rtnl *q, uint16_t type, uint32_t v)
{
	rtnl_put(q, type, &v, sizeof(v));
}

size_t rtnl_nest(struct rtnl *q, uint16_t type)
{
	size_t at = NLMSG_ALIGN(q->h.nlmsg_len);

	rtnl_put(q, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void rtnl_nest_end(struct rtnl *q, size_t at)
{
	struct rtattr *a = (void *)((char *)q + at);

	if (q->h.nlmsg_len != RTNL_OVERFLOW)
		a->rta_len = (uint16_t)(q->h.nlmsg_len - at);
}

int rtnl_call(struct rtnl *q)
{
	auto_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	union {
		struct nlmsghdr h;
		char room[4096];
	} answer;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (q->h.nlmsg_len == RTNL_OVERFLOW)
		return -EMSGSIZE;
	if (sendto(fd, q, q->h.nlmsg_len, 0, (void *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	do
		n = recv(fd, &answer, sizeof(answer), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(&answer.h, (size_t)n) || answer.h.nlmsg_type != NLMSG_ERROR ||
	    answer.h.nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)))
		return -EPROTO;
	return ((struct nlmsgerr *)NLMSG_DATA(&answer.h))->error;
}
