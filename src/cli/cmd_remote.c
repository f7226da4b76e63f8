/* remote add, list, remove, default */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/remote.h"
#include "cli/table.h"
#include "cli/token.h"
#include "http/cert.h"

#define CANDIDATE_WAIT_S 5

struct candidate {
	char *host, *url; /* "https://HOST:PORT" */
	uint16_t port;
	char *pem;
	char fingerprint[FINGERPRINT_LEN + 1];
};

static void candidate_done(struct candidate *c)
{
	free(c->host);
	free(c->url);
	free(c->pem);
	memset(c, 0, sizeof(*c));
}

/* Whoever takes the connection and then says nothing is waited for no longer than one who does not take it. */
static bool too_long(void *arg)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec >= *(time_t *)arg || interrupt_count();
}

/* Asks who answers at the address: its certificate, not yet trusted. */
static int candidate_try(const char *address, struct candidate *ret, struct err *e)
{
	struct http_endpoint ep = { .timeout_s = CANDIDATE_WAIT_S };
	struct timespec now;
	time_t end;
	struct http_client *http = NULL;
	auto_json *reply = NULL;
	const char *path, *pem;
	int r = http_url_parse(address, &ret->host, &ret->port, &path, e);

	if (r < 0)
		return r;
	if (asprintf(&ret->url, strchr(ret->host, ':') ? "https://[%s]:%u" : "https://%s:%u", ret->host, ret->port) < 0)
		return err_sys(e, -ENOMEM, "cannot connect to %s", address);
	ep.host = ret->host;
	ep.port = ret->port;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + 2 * CANDIDATE_WAIT_S;
	r = http_client_new(&ep, &http, e);
	if (r >= 0) {
		http_client_stop_when(http, too_long, &end);
		r = http_request_json(http, "GET", "/1.0", NULL, &reply, e);
		if (r == -ECANCELED && !interrupt_count())
			r = err_set(e, -ETIMEDOUT, "%s takes connections and says nothing: is that a godwitd?", ret->url);
	}
	if (r < 0)
		r = remote_unreached(r, e);
	if (r >= 0) {
		pem = http_client_server_cert(http);
		ret->pem = pem ? strdup(pem) : NULL;
		r = ret->pem ? cert_fingerprint_pem(ret->pem, ret->fingerprint, e) :
			       err_set(e, -EPROTO, "%s shows no certificate", address);
	}
	http_client_free(http);
	return r;
}

static int add_remote(struct cli *cli, const char *name, const struct candidate *c, struct remote **ret,
		      struct err *e)
{
	int r = conf_remote_put(cli->conf, name, c->url, c->pem, e);

	return r < 0 ? r : remote_open(cli->conf, name, ret, e);
}

static int add_by_token(struct cli *cli, const char *name, const char *token, const json_t *parsed,
			const char *address, struct err *e)
{
	__attribute__((cleanup(candidate_done))) struct candidate c = { 0 };
	json_t *addresses = json_object_get(parsed, "addresses");
	auto_remote *remote = NULL;
	size_t n = address ? 1 : json_array_size(addresses);
	int r = -EINVAL;

	for (size_t i = 0; i < n; i++) {
		const char *at = address ? address : json_string_value(json_array_get(addresses, i));

		candidate_done(&c);
		r = at ? candidate_try(at, &c, e) : err_set(e, -EINVAL, "the token holds no usable address");
		if (r >= 0)
			break;
	}
	if (r < 0 && n > 1)
		return err_context(e, r, "none of the %zu addresses in the token answers (--address HOST:PORT says another one); the last",
				   n);
	if (r < 0)
		return r;
	if (strcasecmp(c.fingerprint, json_str(parsed, "fingerprint")) != 0)
		return err_set(e, -EACCES, "the server at %s is not the one that gave the token (its certificate differs)",
			       c.url);
	r = add_remote(cli, name, &c, &remote, e);
	if (r < 0)
		return r;
	r = remote_call(remote, "POST",
			json_pack("{s:s, s:s, s:s, s:s}", "type", "client", "name", json_str(parsed, "client_name"),
				  "password", token, "trust_token", token),
			NULL, e, "/1.0/certificates");
	if (r != -EEXIST)
		return r;
	/* `remote remove` forgets the host; the host has not forgotten us. */
	fprintf(stderr, "%s trusts this client already; the token was not needed, and is of no use any more.\n", name);
	return 0;
}

static bool accepts(const struct candidate *c)
{
	char line[16] = "";

	fprintf(stderr, "The certificate of %s has the fingerprint\n  %s\nIs it the right one? [y/N] ", c->url,
		c->fingerprint);
	return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static int add_by_address(struct cli *cli, const char *name, const char *address, bool accept, struct err *e)
{
	__attribute__((cleanup(candidate_done))) struct candidate c = { 0 };
	auto_remote *remote = NULL;
	auto_json *server = NULL;
	auto_free char *cert = NULL, *key = NULL;
	int r = candidate_try(address, &c, e);

	if (r < 0)
		return r;
	if (!accept && !isatty(0))
		return err_set(e, -EACCES, "nobody is here to compare the certificate of %s (%s): use a token, or "
			       "--accept-certificate", address, c.fingerprint);
	if (!accept && !accepts(&c))
		return err_set(e, -EACCES, "the certificate of %s was not accepted", address);
	r = add_remote(cli, name, &c, &remote, e);
	if (r >= 0)
		r = remote_call(remote, "GET", NULL, &server, e, "/1.0");
	if (r < 0)
		return r;
	if (!str_eq(json_str(server, "auth"), "trusted") && conf_client_cert(cli->conf, &cert, &key, e) >= 0)
		fprintf(stderr, "%s does not know this client yet: on that host, `godwit config trust add FILE` with a "
			"copy of %s lets it in.\n", name, cert);
	return 0;
}

int cmd_remote_add(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "accept-certificate", no_argument, NULL, 'a' },
						 { "address", required_argument, NULL, 'A' },
						 CLI_HELP, { 0 } };
	const char *address = NULL, *name, *what;
	auto_free char *text = NULL;
	auto_json *token = NULL;
	bool accept = false;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'a')
			accept = true;
		else if (opt == 'A')
			address = optarg;
		else
			return cli_usage(cli, opt);
	}
	if (!cli_args(cli, argc, 2, 2, &r))
		return r;
	name = argv[optind];
	what = argv[optind + 1];
	if (strcmp(name, "local") == 0)
		return cli_failf("'local' is this machine: another name is needed");
	if (conf_remote_addr(cli->conf, name))
		return cli_failf("there is a remote '%s' already; `godwit remote remove %s` forgets it", name, name);
	r = token_parse(what, &token, &text, &e);
	if (r > 0)
		r = add_by_token(cli, name, text, token, address, &e);
	else if (r == 0)
		r = add_by_address(cli, name, what, accept, &e);
	if (r >= 0)
		r = conf_save(cli->conf, &e);
	else
		conf_remote_remove(cli->conf, name, NULL); /* its certificate's file */
	return r < 0 ? cli_fail(&e) : 0;
}

int cmd_remote_list(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' }, CLI_HELP, { 0 } };
	static const char *const headers[] = { "NAME", "ADDRESS", "DEFAULT" };
	enum table_format format = TABLE_PLAIN;
	struct table *t;
	struct err e = { 0 };
	const char *name;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "hf:", options, NULL)) != -1) {
		if (opt != 'f')
			return cli_usage(cli, opt);
		if (table_format_parse(optarg, &format, &e) < 0)
			return cli_fail(&e);
	}
	if (!cli_args(cli, argc, 0, 0, &r))
		return r;
	t = table_new(headers, 3);
	for (size_t i = 0; t && (name = conf_remote_name(cli->conf, i)); i++) {
		const char *const row[] = { name, conf_remote_addr(cli->conf, name),
					    strcmp(name, conf_default(cli->conf)) == 0 ? "yes" : "no" };

		if (table_row(t, row) < 0)
			break;
	}
	if (t)
		table_print(t, format);
	table_free(t);
	return 0;
}

/* The common part of the two verbs with one name. */
static int one_name(struct cli *cli, int argc, char **argv, int (*what)(struct conf *, const char *, struct err *))
{
	static const struct option options[] = { CLI_HELP, { 0 } };
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_usage(cli, opt);
	if (!cli_args(cli, argc, 1, 1, &r))
		return r;
	r = what(cli->conf, argv[optind], &e);
	if (r >= 0)
		r = conf_save(cli->conf, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

int cmd_remote_remove(struct cli *cli, int argc, char **argv)
{
	return one_name(cli, argc, argv, conf_remote_remove);
}

int cmd_remote_default(struct cli *cli, int argc, char **argv)
{
	return one_name(cli, argc, argv, conf_set_default);
}
