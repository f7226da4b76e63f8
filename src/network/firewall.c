#include "network/firewall.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

/* nft's own language is what is sent: the name of the bridge is the only foreign word in it. */
static int name_check(const char *bridge, struct err *e)
{
	size_t n = strspn(bridge, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	if (!*bridge || bridge[n] || n >= IFNAMSIZ)
		return err_set(e, -EINVAL, "\"%s\" is no name for a bridge", bridge);
	return 0;
}

/* Identifiers of nft have no hyphen at every place: it becomes an underscore. */
static void table_name(const char *bridge, char ret[IFNAMSIZ + 8])
{
	snprintf(ret, IFNAMSIZ + 8, "godwit_%s", bridge);
	for (char *s = ret; *s; s++)
		if (*s == '-')
			*s = '_';
}

static int nft_run(const char *commands, const char *what, struct err *e)
{
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	int r = 0;

	if (!ctx)
		return err_sys(e, -ENOMEM, "nftables");
	nft_ctx_buffer_output(ctx);
	nft_ctx_buffer_error(ctx);
	if (nft_run_cmd_from_buffer(ctx, commands) != 0) {
		const char *text = nft_ctx_get_error_buffer(ctx);

		r = err_set(e, -EIO, "cannot %s with nftables: %.300s", what, text ? text : "");
	}
	nft_ctx_free(ctx);
	return r;
}

int firewall_nat_set(const char *bridge, const struct bridge_net *net, struct err *e)
{
	char table[IFNAMSIZ + 8], subnet[INET_ADDRSTRLEN];
	struct in_addr a = { .s_addr = net->address & htonl(~0u << (32 - net->prefix)) };
	auto_buf b = BUF_INIT;
	int r = name_check(bridge, e);

	if (r < 0)
		return r;
	table_name(bridge, table);
	inet_ntop(AF_INET, &a, subnet, sizeof(subnet));
	/* "add" makes the deletion succeed where there was none; all of it is one transaction. */
	r = buf_addf(&b,
		     "add table inet %s\ndelete table inet %s\ntable inet %s {\n"
		     "chain leaving { type nat hook postrouting priority srcnat; policy accept;\n"
		     "ip saddr %s/%u ip daddr != %s/%u masquerade\n}\n"
		     "chain forwarding { type filter hook forward priority filter; policy accept;\n"
		     "iifname \"%s\" accept\noifname \"%s\" accept\n}\n}\n",
		     table, table, table, subnet, net->prefix, subnet, net->prefix, bridge, bridge);
	if (r < 0)
		return err_sys(e, r, "nftables");
	return nft_run(b.data, "set up NAT", e);
}

int firewall_clear(const char *bridge, struct err *e)
{
	char table[IFNAMSIZ + 8];
	auto_buf b = BUF_INIT;
	int r = name_check(bridge, e);

	if (r < 0)
		return r;
	table_name(bridge, table);
	r = buf_addf(&b, "add table inet %s\ndelete table inet %s\n", table, table);
	if (r < 0)
		return err_sys(e, r, "nftables");
	return nft_run(b.data, "take down NAT", e);
}
