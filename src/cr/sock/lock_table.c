/* lock_table - what silences TCP connections: a table of family inet with a base chain for what comes in and one
 * for what goes out.
 *
 * In a network namespace that is the tree's alone their policy is to drop.  In one that it shares, two sets
 * (IPv4, IPv6) hold its connections (own address, own port, far address, far port), so that the packets of all
 * others pass at the price of one look-up, however many there are.
 *
 * What comes in is dropped where it has been routed to us (behind any translation of addresses), what goes out as
 * the first thing.  It is the receiver's side that drops what a far end on this machine sends, so that its
 * socket hears of no error. */
#include "cr/sock/lock_table.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h> /* ahead of linux/in.h */

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "cr/ns/nft.h"

#ifndef NFT_TABLE_F_OWNER
#define NFT_TABLE_F_OWNER 2 /* Linux 5.12 */
#endif
/* Linux 6.3: as NFT_MSG_DELTABLE, and content where there is none, which else takes milliseconds to fail. */
#define X_MSG_DESTROYTABLE 26
/* Ahead of all others: connection tracking does not hear of what we drop on its way out. */
#define PRIORITY (INT_MIN + 1000)
#define ELEMENTS_MAX 500 /* of one message */
/* Types of the parts of a key, which only listings need. */
#define TYPE_IPV4 7u
#define TYPE_IPV6 8u
#define TYPE_PORT 13u

struct family {
	const char *set;
	uint32_t id, type, key_len, addr_len, addr_type;
	uint32_t saddr_at, daddr_at; /* in the IP header */
	uint8_t nfproto;
};
static const struct family families[] = {
	{ "connections4", 1, TYPE_IPV4, 16, 4, TYPE_IPV4, 12, 16, NFPROTO_IPV4 },
	{ "connections6", 2, TYPE_IPV6, 40, 16, TYPE_IPV6, 8, 24, NFPROTO_IPV6 },
};

int lock_conn_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct lock_conn));
}

void lock_name(char ret[LOCK_NAME_MAX], pid_t pid, uint64_t start)
{
	snprintf(ret, LOCK_NAME_MAX, "godwit-%d-%" PRIu64, (int)pid, start);
}

/* ---- messages ---- */

static void table_msg(struct nft_batch *n, unsigned type, const char *name, bool owned)
{
	nft_msg(n, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE | NLM_F_EXCL : 0);
	nft_str(n, NFTA_TABLE_NAME, name);
	if (type == NFT_MSG_NEWTABLE)
		nft_u32(n, NFTA_TABLE_FLAGS, owned ? NFT_TABLE_F_OWNER : 0);
}

static void set_msg(struct nft_batch *n, const char *name, const struct family *f)
{
	nft_msg(n, NFT_MSG_NEWSET, NLM_F_CREATE);
	nft_str(n, NFTA_SET_TABLE, name);
	nft_str(n, NFTA_SET_NAME, f->set);
	nft_u32(n, NFTA_SET_FLAGS, 0);
	nft_u32(n, NFTA_SET_KEY_TYPE, f->type << 18 | TYPE_PORT << 12 | f->type << 6 | TYPE_PORT);
	nft_u32(n, NFTA_SET_KEY_LEN, f->key_len);
	nft_u32(n, NFTA_SET_ID, f->id);
}

static void chain_msg(struct nft_batch *n, const char *name, const char *chain, uint32_t hook, bool drop)
{
	size_t at;

	nft_msg(n, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	nft_str(n, NFTA_CHAIN_TABLE, name);
	nft_str(n, NFTA_CHAIN_NAME, chain);
	at = nft_nest(n, NFTA_CHAIN_HOOK);
	nft_u32(n, NFTA_HOOK_HOOKNUM, hook);
	nft_u32(n, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
	nft_unnest(n, at);
	nft_u32(n, NFTA_CHAIN_POLICY, drop ? NF_DROP : NF_ACCEPT);
	nft_str(n, NFTA_CHAIN_TYPE, "filter");
}

static void forged_rule(struct nft_batch *n, const char *name, const char *chain)
{
	const uint32_t mark = LOCK_MARK;
	struct nft_rule r;

	nft_rule(n, name, chain, &r);
	nft_meta(n, NFT_META_MARK, NFT_REG_1);
	nft_is(n, NFT_REG_1, &mark, sizeof(mark));
	nft_verdict(n, NF_ACCEPT);
	nft_rule_end(n, &r);
}

/* The key is put together in neighbouring registers of four bytes: our own address and port, then the far end's. */
static void conns_rule(struct nft_batch *n, const char *name, const char *chain, const struct family *f, bool in)
{
	const uint8_t tcp = IPPROTO_TCP;
	uint32_t words = f->addr_len / 4;
	struct nft_rule r;

	nft_rule(n, name, chain, &r);
	nft_meta(n, NFT_META_NFPROTO, NFT_REG_1);
	nft_is(n, NFT_REG_1, &f->nfproto, 1);
	nft_meta(n, NFT_META_L4PROTO, NFT_REG_1);
	nft_is(n, NFT_REG_1, &tcp, 1);
	nft_payload(n, NFT_PAYLOAD_NETWORK_HEADER, in ? f->daddr_at : f->saddr_at, f->addr_len, NFT_REG32_00);
	nft_payload(n, NFT_PAYLOAD_TRANSPORT_HEADER, in ? 2 : 0, 2, NFT_REG32_00 + words);
	nft_payload(n, NFT_PAYLOAD_NETWORK_HEADER, in ? f->saddr_at : f->daddr_at, f->addr_len,
		    NFT_REG32_00 + words + 1);
	nft_payload(n, NFT_PAYLOAD_TRANSPORT_HEADER, in ? 0 : 2, 2, NFT_REG32_00 + 2 * words + 1);
	nft_in_set(n, f->set, f->id, NFT_REG_1);
	nft_verdict(n, NF_DROP);
	nft_rule_end(n, &r);
}

static void element(struct nft_batch *n, const struct family *f, const struct lock_conn *c)
{
	uint8_t key[40] = { 0 };
	size_t elem, at, half = f->addr_len + 4;

	memcpy(key, c->self, f->addr_len);
	memcpy(key + f->addr_len, &c->sport, 2);
	memcpy(key + half, c->peer, f->addr_len);
	memcpy(key + half + f->addr_len, &c->dport, 2);
	elem = nft_nest(n, NFTA_LIST_ELEM);
	at = nft_nest(n, NFTA_SET_ELEM_KEY);
	nft_attr(n, NFTA_DATA_VALUE, key, f->key_len);
	nft_unnest(n, at);
	nft_unnest(n, elem);
}

static void elements_msgs(struct nft_batch *n, const char *name, const struct family *f, bool new_set,
			  const struct lock_conn *v, size_t n_v)
{
	size_t at = 0, in_msg = 0;

	for (size_t i = 0; i < n_v; i++) {
		if (v[i].v6 != (f->nfproto == NFPROTO_IPV6))
			continue;
		if (!in_msg) {
			nft_msg(n, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
			nft_str(n, NFTA_SET_ELEM_LIST_TABLE, name);
			nft_str(n, NFTA_SET_ELEM_LIST_SET, f->set);
			if (new_set)
				nft_u32(n, NFTA_SET_ELEM_LIST_SET_ID, f->id);
			at = nft_nest(n, NFTA_SET_ELEM_LIST_ELEMENTS);
		}
		element(n, f, &v[i]);
		if (++in_msg == ELEMENTS_MAX) {
			nft_unnest(n, at);
			in_msg = 0;
		}
	}
	if (in_msg)
		nft_unnest(n, at);
}

/* ---- the table ---- */

int lock_table_make(int sock, const char *name, bool owned, bool whole, const struct lock_conn *v, size_t n_v)
{
	static const struct {
		const char *name;
		uint32_t hook;
	} chains[] = { { "in", NF_INET_LOCAL_IN }, { "out", NF_INET_LOCAL_OUT } };
	struct nft_batch n;

	nft_begin(&n);
	table_msg(&n, X_MSG_DESTROYTABLE, name, false);
	table_msg(&n, NFT_MSG_NEWTABLE, name, owned);
	for (size_t i = 0; i < array_len(families) && !whole; i++)
		set_msg(&n, name, &families[i]);
	for (size_t c = 0; c < array_len(chains); c++) {
		chain_msg(&n, name, chains[c].name, chains[c].hook, whole);
		forged_rule(&n, name, chains[c].name);
		for (size_t i = 0; i < array_len(families) && !whole; i++)
			conns_rule(&n, name, chains[c].name, &families[i], c == 0);
	}
	for (size_t i = 0; i < array_len(families) && !whole; i++)
		elements_msgs(&n, name, &families[i], true, v, n_v);
	return nft_commit(&n, sock);
}

int lock_table_add(int sock, const char *name, const struct lock_conn *v, size_t n_v)
{
	struct nft_batch n;

	if (!n_v)
		return 0;
	nft_begin(&n);
	for (size_t i = 0; i < array_len(families); i++)
		elements_msgs(&n, name, &families[i], false, v, n_v);
	return nft_commit(&n, sock);
}

int lock_tables_remove(int sock, const char *const *names, size_t n_names)
{
	struct nft_batch n;

	nft_begin(&n);
	for (size_t i = 0; i < n_names; i++)
		table_msg(&n, X_MSG_DESTROYTABLE, names[i], false);
	return nft_commit(&n, sock);
}
