#include "network/dnsmasq.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

#define LEASES_MAX (4u << 20)

static int net_path(const char *state_dir, const char *name, const char *file, char **ret, struct err *e)
{
	if (asprintf(ret, "%s/networks/%s%s%s", state_dir, name, *file ? "/" : "", file) < 0)
		return err_sys(e, -ENOMEM, "network %s", name);
	return 0;
}

static int folder_ready(const char *state_dir, const char *name, struct err *e)
{
	auto_free char *top = NULL, *dir = NULL;
	int r = net_path(state_dir, name, "", &dir, e);

	if (r < 0)
		return r;
	if (asprintf(&top, "%s/networks", state_dir) < 0)
		return err_sys(e, -ENOMEM, "network %s", name);
	if ((mkdir(top, 0755) < 0 && errno != EEXIST) || (mkdir(dir, 0755) < 0 && errno != EEXIST))
		return err_sys(e, -errno, "cannot make %s", dir);
	return 0;
}

/* A pidfd of the dnsmasq that was started for this network, judged by its command line: a pid alone may
 * be somebody else's by now.  -ESRCH: none. */
static int dnsmasq_find(const char *state_dir, const char *name, struct err *e)
{
	auto_free char *pidfile = NULL, *text = NULL, *cmdline = NULL, *conf = NULL;
	char path[48];
	auto_fd int fd = -1;
	size_t len, arg_len;
	int pid, r = net_path(state_dir, name, "dnsmasq.pid", &pidfile, e);

	if (r == 0)
		r = net_path(state_dir, name, "dnsmasq.conf", &conf, e);
	if (r < 0)
		return r;
	if (fd_read_file_at(AT_FDCWD, pidfile, 64, &text, NULL) < 0)
		return -ESRCH;
	text[strcspn(text, "\n")] = '\0';
	if (parse_int(text, &pid) < 0 || pid <= 1)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (fd < 0 || fd_read_file_at(AT_FDCWD, path, 65536, &cmdline, &len) < 0)
		return -ESRCH;
	for (size_t at = 0; at < len; at += arg_len + 1) {
		arg_len = strlen(cmdline + at);
		if (str_starts(cmdline + at, "--conf-file=") && str_ends(cmdline + at, conf))
			return fd_take(&fd);
	}
	return -ESRCH;
}

static int hosts_add_row(struct buf *b, const json_t *row, const char *network)
{
	const json_t *config = json_object_get(row, "config");
	const char *name = json_string_value(json_object_get(row, "name"));
	const char *mac = json_string_value(json_object_get(config, "volatile.eth0.hwaddr"));
	const char *ip = json_string_value(json_object_get(config, "volatile.eth0.ipv4.address"));
	const char *net = json_string_value(json_object_get(config, "volatile.eth0.network"));

	if (!name || !mac || !ip || !net || strcmp(net, network) != 0)
		return 0;
	return buf_addf(b, "%s,%s,%s\n", mac, ip, name);
}

static int names_add_row(struct buf *b, const json_t *row, const char *network)
{
	const json_t *config = json_object_get(row, "config");
	const char *name = json_string_value(json_object_get(row, "name"));
	const char *ip = json_string_value(json_object_get(config, "volatile.eth0.ipv4.address"));
	const char *net = json_string_value(json_object_get(config, "volatile.eth0.network"));

	if (!name || !ip || !net || strcmp(net, network) != 0)
		return 0;
	return buf_addf(b, "%s %s %s.godwit\n", ip, name, name);
}

static int file_put(const char *state_dir, const char *name, const char *file, const struct buf *b,
		    struct err *e)
{
	auto_free char *path = NULL;
	int r = net_path(state_dir, name, file, &path, e);

	if (r < 0)
		return r;
	r = fd_replace_file_at(AT_FDCWD, path, b->data ? b->data : "", b->len, 0644);
	return r < 0 ? err_sys(e, r, "cannot write %s", path) : 0;
}

/* dnsmasq answers for the name of who has a lease, until that is over, though he has left or has got another
 * address.  What it has to be told: the leases of rows; *ret_others: there are more. */
static int leases_own(const char *state_dir, const char *name, const struct buf *hosts, struct buf *ret,
		      bool *ret_others, struct err *e)
{
	auto_free char *path = NULL, *text = NULL;
	char *save = NULL;
	int r = net_path(state_dir, name, "leases", &path, e);

	*ret_others = false;
	if (r < 0)
		return r;
	r = fd_read_file_at(AT_FDCWD, path, LEASES_MAX, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : err_sys(e, r, "cannot read %s", path);
	for (char *line = strtok_r(text, "\n", &save); line && r == 0; line = strtok_r(NULL, "\n", &save)) {
		char mac[18], ip[INET_ADDRSTRLEN], key[48];

		if (sscanf(line, "%*s %17s %15s", mac, ip) == 2)
			snprintf(key, sizeof(key), "%s,%s,", mac, ip);
		else
			key[0] = '\0';
		if (hosts->data && strcasestr(hosts->data, key))
			r = buf_addf(ret, "%s\n", line);
		else
			*ret_others = true;
	}
	return r < 0 ? err_sys(e, r, "network %s", name) : 0;
}

/* *ret_hosts: what was written for DHCP. */
static int hosts_write(struct db *db, const char *state_dir, const char *name, struct buf *ret_hosts, struct err *e)
{
	auto_buf names = BUF_INIT;
	json_t *rows, *row;
	size_t i;
	int r = db_instance_list(db, &rows, e);

	if (r < 0)
		return r;
	json_array_foreach(rows, i, row) {
		r = hosts_add_row(ret_hosts, row, name);
		if (r == 0)
			r = names_add_row(&names, row, name);
		if (r < 0)
			break;
	}
	json_decref(rows);
	if (r < 0)
		return err_sys(e, r, "network %s", name);
	r = file_put(state_dir, name, "dhcp-hosts", ret_hosts, e);
	return r < 0 ? r : file_put(state_dir, name, "names", &names, e);
}

static int conf_write(const char *state_dir, const char *name, const json_t *row,
		      const struct bridge_net *net, struct err *e)
{
	const char *mode = json_string_value(json_object_get(json_object_get(row, "config"), "dns.mode"));
	struct in_addr a = { .s_addr = net->address },
		       subnet = { .s_addr = net->address & htonl(~0u << (32 - net->prefix)) },
		       mask = { .s_addr = htonl(~0u << (32 - net->prefix)) };
	char at[INET_ADDRSTRLEN], from[INET_ADDRSTRLEN], m[INET_ADDRSTRLEN];
	auto_free char *dir = NULL;
	auto_buf b = BUF_INIT;
	int r = net_path(state_dir, name, "", &dir, e);

	if (r < 0)
		return r;
	inet_ntop(AF_INET, &a, at, sizeof(at));
	inet_ntop(AF_INET, &subnet, from, sizeof(from));
	inet_ntop(AF_INET, &mask, m, sizeof(m));
	r = buf_addf(&b,
		     "interface=%s\nbind-interfaces\nexcept-interface=lo\nlisten-address=%s\n"
		     "no-hosts\naddn-hosts=%s/names\ndomain=godwit\nlocal=/godwit/\nexpand-hosts\n"
		     "dhcp-range=%s,static,%s,1h\ndhcp-hostsfile=%s/dhcp-hosts\n"
		     "dhcp-leasefile=%s/leases\ndhcp-ignore=tag:!known\npid-file=%s/dnsmasq.pid\n"
		     "dhcp-no-override\nno-ping\nuser=root\nport=%s\n",
		     name, at, dir, from, m, dir, dir, dir, mode && strcmp(mode, "none") == 0 ? "0" : "53");
	if (r < 0)
		return err_sys(e, r, "network %s", name);
	return file_put(state_dir, name, "dnsmasq.conf", &b, e);
}

/* dnsmasq goes to the background by itself and says by its exit status whether it serves. */
static int dnsmasq_spawn(const char *conf, struct err *e)
{
	auto_free char *arg = NULL;
	int out[2], status;
	char text[512];
	ssize_t n, have = 0;
	pid_t pid;

	if (asprintf(&arg, "--conf-file=%s", conf) < 0)
		return err_sys(e, -ENOMEM, "dnsmasq");
	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "dnsmasq");
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		setsid();
		dup2(null, 0);
		dup2(null, 1);
		dup2(out[1], 2);
		/* What this job holds (the daemon's socket) must not live on in it. */
		close_range(3, ~0u, 0);
		execlp("dnsmasq", "dnsmasq", arg, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	while (pid > 0 && have < (ssize_t)sizeof(text) - 1 &&
	       (n = read(out[0], text + have, sizeof(text) - 1 - (size_t)have)) > 0)
		have += n;
	close(out[0]);
	text[have > 0 ? have : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return err_sys(e, -errno, "cannot start dnsmasq");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, -EIO, "dnsmasq does not start: %s", *text ? text : "no reason given");
	return 0;
}

static bool dnsmasq_installed(void)
{
	static const char *const at[] = { "/usr/sbin/dnsmasq", "/usr/bin/dnsmasq", "/usr/local/sbin/dnsmasq",
					  "/sbin/dnsmasq" };

	for (size_t i = 0; i < array_len(at); i++)
		if (access(at[i], X_OK) == 0)
			return true;
	return false;
}

int dnsmasq_start(struct db *db, const char *state_dir, const char *name, const json_t *row,
		  const struct bridge_net *net, char **ret_note, struct err *e)
{
	auto_buf hosts = BUF_INIT, leases = BUF_INIT;
	auto_free char *conf = NULL;
	bool others;
	int r = dnsmasq_stop(state_dir, name, e);

	if (r < 0 || !net->address)
		return r;
	if (!dnsmasq_installed()) {
		*ret_note = strdup("dnsmasq is not installed: no DHCP and no names in this network "
				   "(addresses are assigned all the same)");
		return *ret_note ? 0 : err_sys(e, -ENOMEM, "network %s", name);
	}
	r = folder_ready(state_dir, name, e);
	if (r == 0)
		r = hosts_write(db, state_dir, name, &hosts, e);
	if (r == 0)
		r = leases_own(state_dir, name, &hosts, &leases, &others, e);
	if (r == 0 && others)
		r = file_put(state_dir, name, "leases", &leases, e);
	if (r == 0)
		r = conf_write(state_dir, name, row, net, e);
	if (r == 0)
		r = net_path(state_dir, name, "dnsmasq.conf", &conf, e);
	return r < 0 ? r : dnsmasq_spawn(conf, e);
}

/* The lease file is dnsmasq's while it runs. */
static int restart(struct db *db, const char *state_dir, const char *name, struct err *e)
{
	auto_free char *note = NULL;
	struct bridge_net net;
	json_t *row;
	int r = db_network_get(db, name, &row, e);

	if (r < 0)
		return r;
	r = bridge_parse_cidr(json_string_value(json_object_get(json_object_get(row, "config"), "ipv4.address")), &net);
	if (r < 0)
		err_set(e, r, "network %s: ipv4.address is not ADDRESS/PREFIX", name);
	else
		r = dnsmasq_start(db, state_dir, name, row, &net, &note, e);
	json_decref(row);
	return r;
}

int dnsmasq_hosts(struct db *db, const char *state_dir, const char *name, struct err *e)
{
	auto_fd int fd = dnsmasq_find(state_dir, name, e);
	auto_buf hosts = BUF_INIT, leases = BUF_INIT;
	bool others;
	int r;

	if (fd < 0)
		return fd == -ESRCH ? 0 : fd;
	r = hosts_write(db, state_dir, name, &hosts, e);
	if (r == 0)
		r = leases_own(state_dir, name, &hosts, &leases, &others, e);
	if (r < 0)
		return r;
	if (others)
		return restart(db, state_dir, name, e);
	if (syscall(SYS_pidfd_send_signal, fd, SIGHUP, NULL, 0) < 0 && errno != ESRCH)
		return err_sys(e, -errno, "cannot tell dnsmasq of network %s", name);
	return 0;
}

int dnsmasq_stop(const char *state_dir, const char *name, struct err *e)
{
	auto_fd int fd = dnsmasq_find(state_dir, name, e);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		return fd == -ESRCH ? 0 : fd;
	for (int sig = SIGTERM; sig; sig = sig == SIGTERM ? SIGKILL : 0) {
		if (syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0 && errno == ESRCH)
			return 0;
		if (poll(&p, 1, 3000) == 1)
			return 0;
	}
	return err_set(e, -EBUSY, "the dnsmasq of network %s does not end", name);
}
