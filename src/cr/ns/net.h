/* net - the parts of the network namespace. */
#pragma once
#include "base/buf.h"
#include "cr/cr.h"

/* Ids of REC_GW_NET records: each a gw_blob with rtnetlink messages, as the kernel dumped them. */
enum {
	NET_LINKS = 1,
	NET_ADDRS,
	NET_ROUTES,
	NET_NEIGHS,
	NET_SYSCTLS, /* "path=value\n" below /proc/sys/net */
};

/* net_sysctl.c; the caller stands in the namespace, proc_fd is any /proc. */
int net_sysctls_read(int proc_fd, const struct buf *links, struct buf *ret);
int net_sysctls_write(int proc_fd, const char *text, size_t len, struct err *e);

/* net_restore.c */
int net_build(struct restore *r, struct err *e);

/* Routes and neighbours that belong to us and not to the kernel. */
struct nlmsghdr;
bool net_route_is_set(const struct nlmsghdr *m);
bool net_neigh_is_set(const struct nlmsghdr *m);
const char *net_link_name(const struct nlmsghdr *m);
