/* /1.0: what this server is, and its configuration. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "api/core.h"
#include "api/server_info.h"
#include "api/validate.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"

/* Those of LXD's names for what this daemon has; "godwit_move" is ours (ARCHITECTURE.md). */
static const char *const extensions[] = {
	"instances", "api_filtering", "container_full", "instance_get_full", "container_backup", "container_exec_user_group_cwd",
	"container_only_migration", "image_create_aliases", "network", "network_state", "network_leases",
	"instance_nic_network", "storage", "certificate_token", "patch", "event_lifecycle", "resources",
	"godwit_move",
};

static json_t *extensions_json(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < array_len(extensions); i++)
		json_array_append_new(list, json_string(extensions[i]));
	return list;
}

/* A host with the wildcard address is reached by each of its own. */
json_t *server_addresses(struct api *a)
{
	auto_json *config = NULL;
	json_t *list = json_array();
	const char *addr = a->listen_override, *port;
	struct ifaddrs *all = NULL;
	char text[INET6_ADDRSTRLEN], host[128];

	if (!addr && db_config_get(a->db, &config, NULL) == 0)
		addr = json_string_value(json_object_get(config, "core.https_address"));
	if (!addr || !*addr)
		return list;
	port = strrchr(addr, ':');
	if (*addr == '[' ? !strstr(addr, "]:") : !port || strchr(addr, ':') != port)
		port = NULL;
	snprintf(host, sizeof(host), "%.*s", port ? (int)(port - addr) : (int)strlen(addr), addr);
	port = port ? port + 1 : "8443";
	if (*host && strcmp(host, "0.0.0.0") != 0 && strcmp(host, "[::]") != 0 && strcmp(host, "::") != 0) {
		bool bare6 = *host != '[' && strchr(host, ':');

		json_array_append_new(list, json_sprintf("%s%s%s:%s", bare6 ? "[" : "", host, bare6 ? "]" : "", port));
		return list;
	}
	if (getifaddrs(&all) < 0)
		return list;
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || (i->ifa_flags & IFF_LOOPBACK))
			continue;
		if (i->ifa_addr->sa_family == AF_INET) {
			inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, text, sizeof(text));
			json_array_append_new(list, json_sprintf("%s:%s", text, port));
		} else if (i->ifa_addr->sa_family == AF_INET6 && strcmp(host, "0.0.0.0") != 0) {
			struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)(void *)i->ifa_addr;

			if (IN6_IS_ADDR_LINKLOCAL(&s6->sin6_addr))
				continue;
			inet_ntop(AF_INET6, &s6->sin6_addr, text, sizeof(text));
			json_array_append_new(list, json_sprintf("[%s]:%s", text, port));
		}
	}
	freeifaddrs(all);
	return list;
}

/* One value of /etc/os-release, without quotes. */
static void os_release(const char *key, char *ret, size_t len)
{
	auto_free char *text = NULL;
	size_t n = strlen(key);

	snprintf(ret, len, "unknown");
	if (fd_read_file_at(AT_FDCWD, "/etc/os-release", 65536, &text, NULL) < 0)
		return;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		if (strncmp(line, key, n) != 0 || line[n] != '=')
			continue;
		line += n + 1;
		line += *line == '"';
		snprintf(ret, len, "%.*s", (int)strcspn(line, "\""), line);
		return;
	}
}

static json_t *environment(struct api *a)
{
	struct utsname u;
	char os[64], version[64];
	json_t *env;

	uname(&u);
	os_release("NAME", os, sizeof(os));
	os_release("VERSION_ID", version, sizeof(version));
	env = json_pack("{s:o, s:[s], s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{}, s:{}}", "addresses",
			server_addresses(a), "architectures", u.machine, "certificate", a->crt_pem,
			"certificate_fingerprint", a->crt_fp, "driver", "lxc", "driver_version", "5.0", "firewall",
			"nftables", "kernel", u.sysname, "kernel_architecture", u.machine, "kernel_version", u.release,
			"kernel_features", "lxc_features");
	json_object_update_new(env, json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:i, s:s, s:s, s:s, s:[{s:s, s:s, s:b}]}",
			"os_name", os, "os_version", version, "project", "default", "server", "godwit",
			"server_clustered", 0, "server_event_mode", "full-mesh", "server_name", u.nodename,
			"server_pid", (int)getpid(), "server_version", GODWIT_VERSION, "storage", "dir",
			"storage_version", "1", "storage_supported_drivers", "Name", "dir", "Version", "1", "Remote", 0));
	return env;
}

static void server_get(struct call *c)
{
	auto_json *config = NULL;
	struct err e = { 0 };
	json_t *m = json_pack("{s:s, s:s, s:s, s:b, s:[s], s:o}", "api_status", "stable", "api_version", API_VERSION,
			      "auth", c->trusted ? "trusted" : "untrusted", "public", 0, "auth_methods", "tls",
			      "api_extensions", extensions_json());

	if (c->trusted) {
		if (db_config_get(c->a->db, &config, &e) < 0) {
			json_decref(m);
			reply_err(c, &e);
			return;
		}
		json_object_set(m, "config", config);
		json_object_set_new(m, "environment", environment(c->a));
	}
	reply_sync(c, m);
}

static void versions_get(struct call *c)
{
	reply_sync(c, json_pack("[s]", "/1.0"));
}

static int config_apply(struct api *a, const json_t *before, const json_t *after, struct err *e)
{
	const char *old = body_str(before, "core.https_address", ""), *new = body_str(after, "core.https_address", "");
	int r;

	if (strcmp(old, new) != 0 && !a->listen_override) {
		r = http_server_listen_tls(a->http, new, false, e);
		if (r < 0)
			return r;
	}
	r = db_config_put(a->db, after, e);
	if (r < 0 && strcmp(old, new) != 0 && !a->listen_override)
		http_server_listen_tls(a->http, old, true, NULL);
	return r;
}

static void server_write(struct call *c, bool merge)
{
	auto_json *before = NULL, *after = json_object();
	const json_t *given = json_object_get(c->body, "config");
	const char *key;
	json_t *value;
	struct err e = { 0 };

	if (!json_is_object(given)) {
		reply_error(c->q, 400, "the body has no object \"config\"");
		return;
	}
	if (config_check_server(given, &e) < 0 || db_config_get(c->a->db, &before, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	if (merge)
		json_object_update(after, before);
	json_object_foreach((json_t *)given, key, value) {
		if (*json_string_value(value))
			json_object_set(after, key, value);
		else
			json_object_del(after, key);
	}
	if (config_apply(c->a, before, after, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

static void server_put(struct call *c)
{
	server_write(c, false);
}

static void server_patch(struct call *c)
{
	server_write(c, true);
}

static void resources_get(struct call *c)
{
	long pages = sysconf(_SC_PHYS_PAGES), free_pages = sysconf(_SC_AVPHYS_PAGES);
	json_int_t size = (json_int_t)sysconf(_SC_PAGESIZE);

	reply_sync(c, json_pack("{s:{s:i}, s:{s:I, s:I}}", "cpu", "total", (int)sysconf(_SC_NPROCESSORS_ONLN), "memory",
				"total", (json_int_t)pages * size, "used", (json_int_t)(pages - free_pages) * size));
}

static void empty_list(struct call *c)
{
	reply_sync(c, json_array());
}

const struct route routes_server[] = {
	{ "GET", "/", ACCESS_OPEN, versions_get },
	{ "GET", "/1.0", ACCESS_OPEN, server_get },
	{ "PUT", "/1.0", ACCESS_TRUSTED, server_put },
	{ "PATCH", "/1.0", ACCESS_TRUSTED, server_patch },
	{ "GET", "/1.0/resources", ACCESS_TRUSTED, resources_get },
	{ "GET", "/1.0/warnings", ACCESS_TRUSTED, empty_list },
	{ NULL, NULL, 0, NULL },
};
