#include "cr/ns/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "cr/ns/rtnl.h"

#define ATTR_MAX 0xffff

static void put(struct nft_batch *n, const void *data, size_t len)
{
	if (n->err == 0 && len)
		n->err = buf_add(&n->b, data, len);
}

static void pad(struct nft_batch *n, size_t len)
{
	put(n, "\0\0\0", NLMSG_ALIGN(len) - len);
}

static void msg_close(struct nft_batch *n)
{
	if (n->err == 0 && n->b.len > n->msg)
		((struct nlmsghdr *)(n->b.data + n->msg))->nlmsg_len = (uint32_t)(n->b.len - n->msg);
}

static void msg_open(struct nft_batch *n, uint16_t type, uint16_t flags, struct nfgenmsg g)
{
	struct nlmsghdr m = { .nlmsg_len = NLMSG_LENGTH(sizeof(g)), .nlmsg_type = type,
			      .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags), .nlmsg_seq = n->seq++ };

	msg_close(n);
	n->msg = n->b.len;
	put(n, &m, sizeof(m));
	put(n, &g, sizeof(g));
}

void nft_begin(struct nft_batch *n)
{
	*n = (struct nft_batch){ .b = BUF_INIT, .seq = 1 };
	msg_open(n, NFNL_MSG_BATCH_BEGIN, 0, (struct nfgenmsg){ .res_id = htons(NFNL_SUBSYS_NFTABLES) });
}

void nft_done(struct nft_batch *n)
{
	buf_done(&n->b);
}

void nft_msg(struct nft_batch *n, unsigned type, unsigned flags)
{
	msg_open(n, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), (uint16_t)flags,
		 (struct nfgenmsg){ .nfgen_family = NFPROTO_INET });
}

void nft_attr(struct nft_batch *n, unsigned type, const void *data, size_t len)
{
	struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = (unsigned short)type };

	if (RTA_LENGTH(len) > ATTR_MAX)
		n->err = n->err ? n->err : -EMSGSIZE;
	put(n, &a, sizeof(a));
	put(n, data, len);
	pad(n, len);
}

void nft_u32(struct nft_batch *n, unsigned type, uint32_t v)
{
	v = htonl(v);
	nft_attr(n, type, &v, sizeof(v));
}

void nft_str(struct nft_batch *n, unsigned type, const char *s)
{
	nft_attr(n, type, s, strlen(s) + 1);
}

size_t nft_nest(struct nft_batch *n, unsigned type)
{
	size_t at = n->b.len;

	nft_attr(n, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void nft_unnest(struct nft_batch *n, size_t at)
{
	if (n->err == 0 && n->b.len - at > ATTR_MAX)
		n->err = -EMSGSIZE;
	if (n->err == 0)
		((struct rtattr *)(n->b.data + at))->rta_len = (unsigned short)(n->b.len - at);
}

/* The kernel works while we send: its answers are there when the call returns. */
static int answers_read(int sock)
{
	char answer[8192] __attribute__((aligned(8)));
	bool acked = false;
	int r = 0;

	for (;;) {
		ssize_t len = recv(sock, answer, sizeof(answer), MSG_DONTWAIT);
		const struct nlmsghdr *m;
		size_t pos = 0;

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno != EAGAIN ? -errno : r < 0 || acked ? r : -EPROTO;
		while ((m = rtnl_next(answer, (size_t)len, &pos))) {
			const struct nlmsgerr *err = rtnl_head(m, sizeof(*err));

			if (m->nlmsg_type != NLMSG_ERROR || !err)
				continue;
			acked = true;
			r = r < 0 ? r : err->error;
		}
	}
}

/* The last message but the end asks for a word; errors are told in any case. */
int nft_commit(struct nft_batch *n, int sock)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int room, r;

	if (n->err == 0)
		((struct nlmsghdr *)(n->b.data + n->msg))->nlmsg_flags |= NLM_F_ACK;
	msg_open(n, NFNL_MSG_BATCH_END, 0, (struct nfgenmsg){ .res_id = htons(NFNL_SUBSYS_NFTABLES) });
	msg_close(n);
	r = n->err;
	room = (int)n->b.len + 65536;
	if (r == 0 && n->b.len > INT32_MAX / 4)
		r = -EMSGSIZE;
	if (r == 0 && setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		r = -errno;
	if (r == 0 && sendto(sock, n->b.data, n->b.len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		r = -errno;
	nft_done(n);
	return r < 0 ? r : answers_read(sock);
}

/* ---- expressions ---- */

void nft_rule(struct nft_batch *n, const char *table, const char *chain, struct nft_rule *ret)
{
	nft_msg(n, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	nft_str(n, NFTA_RULE_TABLE, table);
	nft_str(n, NFTA_RULE_CHAIN, chain);
	ret->list = nft_nest(n, NFTA_RULE_EXPRESSIONS);
}

void nft_rule_end(struct nft_batch *n, const struct nft_rule *r)
{
	nft_unnest(n, r->list);
}

struct expr {
	size_t elem, data;
};

static struct expr expr_open(struct nft_batch *n, const char *name)
{
	struct expr x = { .elem = nft_nest(n, NFTA_LIST_ELEM) };

	nft_str(n, NFTA_EXPR_NAME, name);
	x.data = nft_nest(n, NFTA_EXPR_DATA);
	return x;
}

static void expr_close(struct nft_batch *n, struct expr x)
{
	nft_unnest(n, x.data);
	nft_unnest(n, x.elem);
}

void nft_meta(struct nft_batch *n, uint32_t key, uint32_t reg)
{
	struct expr x = expr_open(n, "meta");

	nft_u32(n, NFTA_META_DREG, reg);
	nft_u32(n, NFTA_META_KEY, key);
	expr_close(n, x);
}

void nft_is(struct nft_batch *n, uint32_t reg, const void *data, size_t len)
{
	struct expr x = expr_open(n, "cmp");
	size_t at;

	nft_u32(n, NFTA_CMP_SREG, reg);
	nft_u32(n, NFTA_CMP_OP, NFT_CMP_EQ);
	at = nft_nest(n, NFTA_CMP_DATA);
	nft_attr(n, NFTA_DATA_VALUE, data, len);
	nft_unnest(n, at);
	expr_close(n, x);
}

void nft_payload(struct nft_batch *n, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
	struct expr x = expr_open(n, "payload");

	nft_u32(n, NFTA_PAYLOAD_DREG, reg);
	nft_u32(n, NFTA_PAYLOAD_BASE, base);
	nft_u32(n, NFTA_PAYLOAD_OFFSET, offset);
	nft_u32(n, NFTA_PAYLOAD_LEN, len);
	expr_close(n, x);
}

void nft_in_set(struct nft_batch *n, const char *set, uint32_t set_id, uint32_t reg)
{
	struct expr x = expr_open(n, "lookup");

	nft_str(n, NFTA_LOOKUP_SET, set);
	nft_u32(n, NFTA_LOOKUP_SREG, reg);
	nft_u32(n, NFTA_LOOKUP_SET_ID, set_id);
	expr_close(n, x);
}

void nft_verdict(struct nft_batch *n, uint32_t verdict)
{
	struct expr x = expr_open(n, "immediate");
	size_t at, in;

	nft_u32(n, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	at = nft_nest(n, NFTA_IMMEDIATE_DATA);
	in = nft_nest(n, NFTA_DATA_VERDICT);
	nft_u32(n, NFTA_VERDICT_CODE, verdict);
	nft_unnest(n, in);
	nft_unnest(n, at);
	expr_close(n, x);
}
