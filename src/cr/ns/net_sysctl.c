/* net_sysctl - the per-namespace settings below /proc/sys/net that a container may have changed.
 *
 * A list, not the whole tree: reading all of its files would take longer than the rest of the
 * pause. */
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/ns/net.h"
#include "cr/ns/rtnl.h"

static const char *const settings[] = {
	"core/somaxconn",
	"unix/max_dgram_qlen",
	"ipv4/ip_forward",
	"ipv4/ip_default_ttl",
	"ipv4/ip_local_port_range",
	"ipv4/ip_local_reserved_ports",
	"ipv4/ip_nonlocal_bind",
	"ipv4/ip_unprivileged_port_start",
	"ipv4/ping_group_range",
	"ipv4/icmp_echo_ignore_all",
	"ipv4/icmp_echo_ignore_broadcasts",
	"ipv4/tcp_keepalive_time",
	"ipv4/tcp_keepalive_intvl",
	"ipv4/tcp_keepalive_probes",
	"ipv4/tcp_fin_timeout",
	"ipv4/tcp_syncookies",
	"ipv4/tcp_tw_reuse",
	"ipv4/tcp_timestamps",
	"ipv4/tcp_sack",
	"ipv4/tcp_window_scaling",
	"ipv4/tcp_retries2",
	"ipv4/tcp_syn_retries",
	"ipv4/tcp_max_syn_backlog",
	"ipv4/tcp_rmem",
	"ipv4/tcp_wmem",
	"ipv4/tcp_mtu_probing",
	"ipv4/tcp_slow_start_after_idle",
	"ipv4/tcp_fastopen",
	"ipv4/tcp_ecn",
	"ipv6/bindv6only",
	"ipv6/ip_nonlocal_bind",
};

/* ipv4/conf/NAME/…, ipv6/conf/NAME/…: for all, default and each link. */
static const char *const conf4[] = { "forwarding",     "rp_filter",	      "accept_redirects",
				     "send_redirects", "accept_source_route", "arp_ignore",
				     "arp_announce",   "arp_filter",	      "proxy_arp",
				     "log_martians" };
static const char *const conf6[] = { "disable_ipv6", "forwarding",	 "accept_ra",
				     "autoconf",     "accept_redirects", "use_tempaddr",
				     "accept_dad",   "addr_gen_mode" };

#define VALUE_MAX 4096

static int one_read(int dir, const char *path, struct buf *ret)
{
	auto_free char *text = NULL;
	int r = fd_read_file_at(dir, path, VALUE_MAX, &text, NULL);

	if (r < 0) /* of a newer kernel, or without a value (addr_gen_mode's stable secret) */
		return r == -ENOMEM ? r : 0;
	text[strcspn(text, "\n")] = 0;
	return buf_addf(ret, "%s=%s\n", path, text);
}

static int conf_read(int dir, const char *name, struct buf *ret)
{
	char path[128];
	int r = 0;

	if (strchr(name,
		   '/')) /* a link's name may have a dot or a slash's stand-in, never a slash */
		return 0;
	for (size_t i = 0; i < array_len(conf4) && r >= 0; i++) {
		snprintf(path, sizeof(path), "ipv4/conf/%s/%s", name, conf4[i]);
		r = one_read(dir, path, ret);
	}
	for (size_t i = 0; i < array_len(conf6) && r >= 0; i++) {
		snprintf(path, sizeof(path), "ipv6/conf/%s/%s", name, conf6[i]);
		r = one_read(dir, path, ret);
	}
	return r;
}

int net_sysctls_read(int proc_fd, const struct buf *links, struct buf *ret)
{
	auto_fd int dir = openat(proc_fd, "sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const struct nlmsghdr *m;
	size_t pos = 0;
	int r = dir < 0 ? -errno : 0;

	for (size_t i = 0; i < array_len(settings) && r >= 0; i++)
		r = one_read(dir, settings[i], ret);
	if (r >= 0)
		r = conf_read(dir, "all", ret);
	if (r >= 0)
		r = conf_read(dir, "default", ret);
	while (r >= 0 && (m = rtnl_next(links->data, links->len, &pos)))
		if (net_link_name(m))
			r = conf_read(dir, net_link_name(m), ret);
	return r;
}

/* Only what the list knows: the text comes from the stream. */
static bool known(const char *path)
{
	char family[5], name[17], key[40], behind;

	for (size_t i = 0; i < array_len(settings); i++)
		if (strcmp(path, settings[i]) == 0)
			return true;
	if (sscanf(path, "%4[ipv46]/conf/%16[^/]/%39[a-z0-9_]%c", family, name, key, &behind) !=
		    3 ||
	    strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
		return false;
	for (size_t i = 0; i < array_len(conf4) && strcmp(family, "ipv4") == 0; i++)
		if (strcmp(key, conf4[i]) == 0)
			return true;
	for (size_t i = 0; i < array_len(conf6) && strcmp(family, "ipv6") == 0; i++)
		if (strcmp(key, conf6[i]) == 0)
			return true;
	return false;
}

static int one_write(int dir, const char *path, const char *value, struct err *e)
{
	auto_free char *now = NULL;
	int r = fd_read_file_at(dir, path, VALUE_MAX, &now, NULL);

	if (r < 0)
		return 0; /* not in this kernel, or its link has gone */
	now[strcspn(now, "\n")] = 0;
	if (strcmp(now, value) == 0)
		return 0;
	r = fd_write_file_at(dir, path, value);
	return r < 0 ? err_sys(e, r, "setting net/%s to %s", path, value) : 0;
}

int net_sysctls_write(int proc_fd, const char *text, size_t len, struct err *e)
{
	auto_fd int dir = openat(proc_fd, "sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *copy = strndup(text, len);
	char *line, *save = NULL;

	if (!copy)
		return err_sys(e, -ENOMEM, "network settings");
	if (dir < 0)
		return err_sys(e, -errno, "opening /proc/sys/net");
	for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, '=');
		int r;

		if (!value)
			return err_set(e, -EPROTO, "the image has an impossible network setting");
		*value++ = 0;
		if (!known(line))
			return err_set(e, -EPROTO, "the image has an unknown network setting");
		r = one_write(dir, line, value, e);
		if (r < 0)
			return r;
	}
	return 0;
}
