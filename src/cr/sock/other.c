/* other - netlink sockets, and the sockets that are refused by name.
 *
 * Netlink.  State: protocol, bound port id, multicast groups, connected port, options.  Read by
 * getsockname, getpeername and NETLINK_LIST_MEMBERSHIPS; put back by bind and NETLINK_ADD_MEMBERSHIP (as
 * the engine, which may listen to every group).  Not covered: messages in the queue.  Sent again they would
 * carry our port id and not the kernel's 0, so while one waits the dump says "try again".  A
 * multicast listener's socket of protocols that are bound to hardware or the host (audit, crypto, …)
 * cannot come from inside of a container. */
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/sock.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define NL_GROUPS_MAX 1024

/* ---- netlink: dump ---- */

static bool netlink_recognise(const struct ofile *f)
{
	return sock_domain(f) == AF_NETLINK;
}

static int netlink_check(struct dump *d, struct ofile *f, struct err *e)
{
	return sock_check(d, f, e);
}

/* Groups as a bit set of 32-bit words; *ret is malloc'd. */
static int netlink_groups(int fd, uint32_t **ret, size_t *ret_n, struct err *e)
{
	auto_free uint32_t *words = calloc(NL_GROUPS_MAX / 32, sizeof(*words));
	socklen_t len = NL_GROUPS_MAX / 8;

	if (!words)
		return err_sys(e, -ENOMEM, "netlink socket");
	if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len) < 0)
		return err_sys(e, -errno, "the groups of a netlink socket cannot be read");
	if (len > NL_GROUPS_MAX / 8)
		return err_set(e, -E2BIG, "a netlink socket listens to more groups than we know");
	*ret_n = len / 4;
	*ret = ptr_take(words);
	return 0;
}

static int netlink_empty(int fd, struct err *e)
{
	uint32_t mem[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(mem);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
		return err_sys(e, -errno, "the queue of a netlink socket cannot be read");
	if (mem[SK_MEMINFO_RMEM_ALLOC])
		return err_set(e, -EAGAIN, "messages wait in the queue of a netlink socket, which cannot be put "
			       "back; try again in a moment");
	return 0;
}

static int netlink_put(struct dump *d, struct ofile *f, NetlinkSkEntry *nl, GwSockExtra *x, struct err *e)
{
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;
	int r = fown_read(d, f, &fown, e);

	if (r < 0)
		return r;
	nl->fown = &fown;
	fe.nlsk = nl;
	r = ofile_put(d, f, &fe, e);
	return r < 0 ? r : sink_put(d->sink, REC_GW_SOCK, f->id, &x->base, e);
}

static int netlink_capture(struct dump *d, struct ofile *f, struct err *e)
{
	NetlinkSkEntry nl = NETLINK_SK_ENTRY__INIT;
	struct sockaddr_nl self = { 0 }, peer = { 0 };
	socklen_t self_len = sizeof(self), peer_len = sizeof(peer);
	auto_free uint32_t *groups = NULL;
	GwSockExtra *x = NULL;
	SkOptsEntry o;
	int type, r;

	r = netlink_empty(f->lfd, e);
	if (r < 0)
		return r;
	if (getsockname(f->lfd, (struct sockaddr *)&self, &self_len) < 0 ||
	    getpeername(f->lfd, (struct sockaddr *)&peer, &peer_len) < 0)
		return err_sys(e, -errno, "the address of a netlink socket cannot be read");
	r = netlink_groups(f->lfd, &groups, &nl.n_groups, e);
	if (r < 0)
		return r;
	r = sock_opts_read(d, f, &o, &x, e);
	if (r < 0)
		return r;
	(void)sock_get_int(f->lfd, SOL_SOCKET, SO_TYPE, &type);
	nl.id = f->id;
	nl.ino = (uint32_t)f->st.st_ino;
	r = sock_get_int(f->lfd, SOL_SOCKET, SO_PROTOCOL, (int *)&nl.protocol);
	nl.state = peer.nl_pid || peer.nl_groups ? 1 : 0;
	nl.flags = f->flags;
	nl.portid = self.nl_pid;
	nl.groups = groups;
	nl.dst_portid = peer.nl_pid;
	nl.dst_group = peer.nl_groups;
	nl.opts = &o;
	if (r == 0)
		r = gw_sock_add(x, GW_LEVEL_OWN, SO_TYPE, &type, sizeof(type));
	r = r < 0 ? err_sys(e, r, "netlink socket") : netlink_put(d, f, &nl, x, e);
	sock_opts_done(&o);
	gw_sock_extra__free_unpacked(x, NULL);
	return r;
}

/* ---- netlink: restore ---- */

static int netlink_load(struct restore *r, struct rfile *f, struct err *e)
{
	const NetlinkSkEntry *nl = f->fe->nlsk;

	if (!nl || !nl->opts || !nl->fown || nl->protocol > 64 || nl->n_groups > NL_GROUPS_MAX / 32)
		return err_set(e, -EINVAL, "file %u: a netlink socket's record makes no sense", f->id);
	return 0;
}

static int netlink_join(int fd, const NetlinkSkEntry *nl)
{
	for (uint32_t i = 0; i < nl->n_groups * 32; i++) {
		int r;

		if (!(nl->groups[i / 32] & 1u << i % 32))
			continue;
		r = sock_set_int(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)i + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int netlink_build(struct restore *r, struct rfile *f, struct err *e)
{
	const NetlinkSkEntry *nl = f->fe->nlsk;
	const GwSockExtra *x = sock_extra_of(r, f);
	struct sockaddr_nl self = { .nl_family = AF_NETLINK, .nl_pid = nl->portid };
	struct sockaddr_nl peer = { .nl_family = AF_NETLINK, .nl_pid = nl->dst_portid,
				    .nl_groups = nl->dst_group };
	int type = SOCK_RAW, ret;
	auto_fd int fd = -1;

	for (size_t i = 0; x && i < x->n_opts; i++)
		if (x->opts[i]->level == GW_LEVEL_OWN && x->opts[i]->name == SO_TYPE &&
		    x->opts[i]->value.len == sizeof(type))
			memcpy(&type, x->opts[i]->value.data, sizeof(type));
	if (type != SOCK_RAW && type != SOCK_DGRAM)
		return err_set(e, -EINVAL, "file %u: a netlink socket of type %d", f->id, type);
	fd = socket(AF_NETLINK, type | SOCK_CLOEXEC, (int)nl->protocol);
	if (fd < 0)
		return err_sys(e, -errno, "netlink socket of protocol %u", nl->protocol);
	ret = sock_opts_early(fd, nl->opts, x, e);
	if (ret < 0)
		return ret;
	/* Port ids are the caller's choice, and free: nobody else is in this namespace yet. */
	if (nl->portid && bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0)
		return err_sys(e, -errno, "netlink socket cannot have port %u", nl->portid);
	ret = netlink_join(fd, nl);
	if (ret < 0)
		return err_sys(e, ret, "netlink socket of protocol %u cannot join its groups", nl->protocol);
	if (nl->state == 1 && connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		return err_sys(e, -errno, "netlink socket cannot be connected");
	ret = sock_owner_restore(r, fd, x, e);
	if (ret >= 0)
		ret = sock_opts_late(fd, nl->opts, x, e);
	if (ret >= 0)
		ret = rfile_set_flags(f, fd, nl->flags, e);
	if (ret < 0)
		return ret;
	f->fd = fd_take(&fd);
	return 0;
}

static int netlink_placed(struct restore *r, struct rfile *f, struct err *e)
{
	return fown_restore(r, f, f->fe->nlsk->fown, f->fe->nlsk->flags, e);
}

const struct file_kind file_kind_netlink = {
	.name = "netlink socket",
	.type = FD_TYPES__NETLINKSK,
	.recognise = netlink_recognise,
	.check = netlink_check,
	.capture = netlink_capture,
	.load = netlink_load,
	.build = netlink_build,
	.placed = netlink_placed,
};

/* ---- everything else ---- */

static const char *domain_name(int domain)
{
	switch (domain) {
	case AF_PACKET: return "packet socket";
	case AF_VSOCK: return "vsock socket";
	case AF_ALG: return "crypto (AF_ALG) socket";
	case AF_CAN: return "CAN socket";
	case AF_BLUETOOTH: return "bluetooth socket";
	case AF_TIPC: return "TIPC socket";
	case AF_XDP: return "XDP socket";
	case AF_KEY: return "IPsec key socket";
	case AF_INET: return "internet socket";
	case AF_INET6: return "IPv6 socket";
	default: return "socket";
	}
}

static bool other_recognise(const struct ofile *f)
{
	return S_ISSOCK(f->st.st_mode) && f->lfd >= 0;
}

static int other_check(struct dump *d, struct ofile *f, struct err *e)
{
	int domain = 0, type = 0, protocol = 0;

	(void)sock_is(f, &domain, &type, &protocol);
	return ofile_refuse(d, f, domain_name(domain),
			    "sockets of family %d, type %d, protocol %d cannot be carried", domain, type, protocol);
}

static int other_capture(struct dump *d, struct ofile *f, struct err *e)
{
	int domain = 0, type = 0, protocol = 0;

	(void)sock_is(f, &domain, &type, &protocol);
	return err_set(e, -EOPNOTSUPP, "fd %d: %s of type %d, protocol %d cannot be carried", f->fd,
		       domain_name(domain), type, protocol);
}

/* Behind the other kinds of sockets: has what they leave. */
const struct file_kind file_kind_packet = {
	.name = "other socket",
	.type = FD_TYPES__PACKETSK,
	.recognise = other_recognise,
	.check = other_check,
	.capture = other_capture,
};
