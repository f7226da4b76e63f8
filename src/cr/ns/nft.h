/* nft - packet filter rules by nfnetlink batches: a table of ours comes, changes and goes with one system call,
 * without libnftables, which takes longer to start than all of a dump. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Messages to be sent together: all of them come true, or none.  What fails while it is built is told by
 * nft_commit. */
struct nft_batch {
	struct buf b;
	size_t msg; /* where the open message begins */
	uint32_t seq;
	int err;
};

void nft_begin(struct nft_batch *n);
void nft_done(struct nft_batch *n);
/* type: NFT_MSG_*; the family is inet. */
void nft_msg(struct nft_batch *n, unsigned type, unsigned flags);
void nft_attr(struct nft_batch *n, unsigned type, const void *data, size_t len);
void nft_u32(struct nft_batch *n, unsigned type, uint32_t v);
void nft_str(struct nft_batch *n, unsigned type, const char *s);
size_t nft_nest(struct nft_batch *n, unsigned type);
void nft_unnest(struct nft_batch *n, size_t at);
/* sock: NETLINK_NETFILTER, of the network namespace that is meant.  n is empty afterwards. */
int nft_commit(struct nft_batch *n, int sock);

/* ---- expressions of a rule, between nft_rule and nft_rule_end ---- */
struct nft_rule {
	size_t list;
};
void nft_rule(struct nft_batch *n, const char *table, const char *chain, struct nft_rule *ret);
void nft_rule_end(struct nft_batch *n, const struct nft_rule *r);
void nft_meta(struct nft_batch *n, uint32_t key, uint32_t reg);
void nft_is(struct nft_batch *n, uint32_t reg, const void *data, size_t len);
/* base: NFT_PAYLOAD_* */
void nft_payload(struct nft_batch *n, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg);
void nft_in_set(struct nft_batch *n, const char *set, uint32_t set_id, uint32_t reg);
/* NF_ACCEPT, NF_DROP */
void nft_verdict(struct nft_batch *n, uint32_t verdict);
