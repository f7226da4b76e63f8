#include "cli/conf.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "http/cert.h"

struct conf {
	char *dir;
	json_t *root; /* {"default": NAME, "remotes": {NAME: {"addr": "https://…"}}} */
	char *local;  /* "unix:…" */
};

static int make_dirs(const char *path, struct err *e)
{
	auto_free char *part = strdup(path);

	if (!part)
		return err_sys(e, -ENOMEM, "cannot make %s", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		mkdir(part, 0755);
		*p = '/';
	}
	if (mkdir(part, 0700) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "cannot make the folder %s", path);
	return 0;
}

static char *local_address(void)
{
	const char *sock = getenv("GODWIT_SOCKET"), *dir = getenv("GODWIT_DIR");
	char *addr = NULL;
	int r;

	if (sock && *sock)
		r = asprintf(&addr, "unix:%s", sock);
	else
		r = asprintf(&addr, "unix:%s/unix.socket", dir && *dir ? dir : "/var/lib/godwit");
	return r < 0 ? NULL : addr;
}

static char *conf_dir(void)
{
	const char *dir = getenv("GODWIT_CONF"), *home = getenv("HOME");
	char *path = NULL;

	if (dir && *dir)
		return strdup(dir);
	return asprintf(&path, "%s/.config/godwit", home && *home ? home : "/root") < 0 ? NULL : path;
}

static int load(struct conf *c, struct err *e)
{
	auto_free char *path = NULL, *text = NULL;
	json_error_t je;
	int r;

	if (asprintf(&path, "%s/remotes.json", c->dir) < 0)
		return err_sys(e, -ENOMEM, "cannot read the remotes");
	r = fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL);
	if (r == -ENOENT) {
		c->root = json_pack("{s:s, s:{}}", "default", "local", "remotes");
		return c->root ? 0 : err_sys(e, -ENOMEM, "cannot make a list of remotes");
	}
	if (r < 0)
		return err_sys(e, r, "cannot read %s", path);
	c->root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	if (!c->root || !json_is_object(json_object_get(c->root, "remotes")))
		return err_set(e, -EINVAL, "%s is not a list of remotes (%s); correct or remove it", path,
			       c->root ? "\"remotes\" is missing" : je.text);
	return 0;
}

int conf_open(struct conf **ret, struct err *e)
{
	struct conf *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_sys(e, -ENOMEM, "cannot read the client's configuration");
	c->dir = conf_dir();
	c->local = local_address();
	r = c->dir && c->local ? load(c, e) : err_sys(e, -ENOMEM, "cannot read the client's configuration");
	if (r < 0) {
		conf_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct conf *conf_free(struct conf *c)
{
	if (!c)
		return NULL;
	json_decref(c->root);
	free(c->dir);
	free(c->local);
	free(c);
	return NULL;
}

int conf_save(struct conf *c, struct err *e)
{
	auto_free char *path = NULL, *text = json_dumps(c->root, JSON_INDENT(2) | JSON_SORT_KEYS);
	int r;

	r = make_dirs(c->dir, e);
	if (r < 0)
		return r;
	if (!text || asprintf(&path, "%s/remotes.json", c->dir) < 0)
		return err_sys(e, -ENOMEM, "cannot write the remotes");
	r = fd_replace_file_at(AT_FDCWD, path, text, strlen(text), 0600);
	return r < 0 ? err_sys(e, r, "cannot write %s", path) : 0;
}

static json_t *remotes(const struct conf *c)
{
	return json_object_get(c->root, "remotes");
}

const char *conf_default(const struct conf *c)
{
	const char *name = json_string_value(json_object_get(c->root, "default"));

	return name ? name : "local";
}

int conf_set_default(struct conf *c, const char *name, struct err *e)
{
	if (!conf_remote_addr(c, name))
		return err_set(e, -ENOENT, "there is no remote '%s'; `godwit remote list` shows them", name);
	return json_object_set_new(c->root, "default", json_string(name)) < 0 ?
		       err_sys(e, -ENOMEM, "cannot set the default remote") : 0;
}

const char *conf_remote_name(const struct conf *c, size_t n)
{
	const char *key;
	json_t *value;
	size_t i = 1;

	if (n == 0)
		return "local";
	json_object_foreach(remotes(c), key, value) {
		if (i++ == n)
			return key;
	}
	return NULL;
}

const char *conf_remote_addr(const struct conf *c, const char *name)
{
	if (strcmp(name, "local") == 0)
		return c->local;
	return json_string_value(json_object_get(json_object_get(remotes(c), name), "addr"));
}

static bool remote_name_valid(const char *name)
{
	return *name && *name != '.' && strlen(name) <= 63 && strspn(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(name);
}

static char *cert_path(const struct conf *c, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/servercerts/%s.crt", c->dir, name) < 0 ? NULL : path;
}

int conf_remote_put(struct conf *c, const char *name, const char *addr, const char *cert_pem, struct err *e)
{
	auto_free char *path = NULL, *dir = NULL;
	int r;

	if (!remote_name_valid(name))
		return err_set(e, -EINVAL, "'%s' cannot name a remote: letters, digits, '-', '_' and '.'", name);
	if (conf_remote_addr(c, name))
		return err_set(e, -EEXIST, "there is a remote '%s' already; remove it first with "
			       "`godwit remote remove %s`", name, name);
	path = cert_path(c, name);
	if (!path || asprintf(&dir, "%s/servercerts", c->dir) < 0)
		return err_sys(e, -ENOMEM, "cannot add the remote");
	r = make_dirs(c->dir, e); /* first: what is made on the way to another folder is open to all */
	if (r >= 0)
		r = make_dirs(dir, e);
	if (r < 0)
		return r;
	r = fd_replace_file_at(AT_FDCWD, path, cert_pem, strlen(cert_pem), 0600);
	if (r < 0)
		return err_sys(e, r, "cannot write %s", path);
	return json_object_set_new(remotes(c), name, json_pack("{s:s}", "addr", addr)) < 0 ?
		       err_sys(e, -ENOMEM, "cannot add the remote") : 0;
}

int conf_remote_remove(struct conf *c, const char *name, struct err *e)
{
	auto_free char *path = cert_path(c, name);

	if (strcmp(name, "local") == 0)
		return err_set(e, -EINVAL, "the remote 'local' is this machine and cannot be removed");
	if (json_object_del(remotes(c), name) < 0)
		return err_set(e, -ENOENT, "there is no remote '%s'; `godwit remote list` shows them", name);
	if (path)
		unlink(path);
	if (strcmp(conf_default(c), name) == 0)
		return conf_set_default(c, "local", e);
	return 0;
}

int conf_remote_cert(const struct conf *c, const char *name, char **ret_pem, struct err *e)
{
	auto_free char *path = cert_path(c, name);
	int r;

	if (!path)
		return err_sys(e, -ENOMEM, "cannot read the certificate of %s", name);
	r = fd_read_file_at(AT_FDCWD, path, 65536, ret_pem, NULL);
	if (r < 0)
		return err_sys(e, r, "cannot read the certificate of '%s' in %s; add the remote again", name, path);
	return 0;
}

int conf_client_cert(struct conf *c, char **ret_cert_path, char **ret_key_path, struct err *e)
{
	auto_free char *cert = NULL, *key = NULL;
	char host[65] = "client";
	int r;

	if (asprintf(&cert, "%s/client.crt", c->dir) < 0 || asprintf(&key, "%s/client.key", c->dir) < 0)
		return err_sys(e, -ENOMEM, "cannot find the client's certificate");
	if (access(cert, F_OK) < 0 || access(key, F_OK) < 0) {
		r = make_dirs(c->dir, e);
		if (r < 0)
			return r;
		gethostname(host, sizeof(host) - 1);
		r = cert_ensure(cert, key, host, 0, e);
		if (r < 0)
			return r;
	}
	*ret_cert_path = ptr_take(cert);
	*ret_key_path = ptr_take(key);
	return 0;
}

int conf_split(const struct conf *c, const char *ref, char **ret_remote, char **ret_name, struct err *e)
{
	const char *colon = strchr(ref, ':');
	auto_free char *remote = colon ? strndup(ref, (size_t)(colon - ref)) : strdup(conf_default(c));
	auto_free char *name = strdup(colon ? colon + 1 : ref);

	if (!remote || !name)
		return err_sys(e, -ENOMEM, "cannot read '%s'", ref);
	if (!conf_remote_addr(c, remote))
		return err_set(e, -ENOENT, "there is no remote '%s'; `godwit remote list` shows those there are, "
			       "`godwit remote add %s TOKEN` adds it", remote, remote);
	if (strchr(name, ':') || strchr(name, '/'))
		return err_set(e, -EINVAL, "'%s' is no name: what is meant is [REMOTE:]NAME", ref);
	*ret_remote = ptr_take(remote);
	*ret_name = ptr_take(name);
	return 0;
}
