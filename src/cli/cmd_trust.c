/* config trust add, list, remove */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"
#include "http/cert.h"

#include <fcntl.h>

/* The middle of a PEM text is base64 of DER, as the API wants it. */
static char *pem_body(const char *pem)
{
	const char *begin = strchr(pem, '\n'), *end = strstr(pem, "-----END");
	char *out, *o;

	if (!begin || !end || end < begin)
		return NULL;
	out = o = malloc((size_t)(end - begin) + 1);
	for (; out && begin < end; begin++) {
		if (*begin != '\n' && *begin != '\r')
			*o++ = *begin;
	}
	if (out)
		*o = 0;
	return out;
}

static int add_file(struct remote *remote, const char *file, const char *name, struct err *e)
{
	auto_free char *text = NULL, *pem = NULL, *body = NULL;
	int r = fd_read_file_at(AT_FDCWD, file, 65536, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "cannot read %s", file);
	r = cert_normalize(text, &pem, e);
	if (r < 0)
		return err_context(e, r, "%s", file);
	body = pem_body(pem);
	if (!body)
		return err_set(e, -EINVAL, "%s is not a certificate", file);
	return remote_call(remote, "POST",
			   json_pack("{s:s, s:s, s:s}", "type", "client", "name", name, "certificate", body), NULL, e,
			   "/1.0/certificates");
}

/* What the client needs to find us and to be sure that it is us, in one word. */
static int token_print(const json_t *m, const char *name, bool quiet, struct err *e)
{
	auto_json *token = json_pack("{s:s, s:O, s:O, s:O, s:s}", "client_name", name, "fingerprint",
				     json_object_get(m, "fingerprint"), "addresses", json_object_get(m, "addresses"),
				     "secret", json_object_get(m, "secret"), "expires_at",
				     *json_str(m, "expires_at") ? json_str(m, "expires_at") : "0001-01-01T00:00:00Z");
	auto_free char *text = token ? json_dumps(token, JSON_COMPACT) : NULL;
	auto_free unsigned char *out = text ? malloc(strlen(text) * 4 / 3 + 8) : NULL;

	if (!out)
		return err_set(e, -EPROTO, "the server's answer holds no token");
	if (!json_array_size(json_object_get(m, "addresses")))
		return err_set(e, -ENOTCONN, "this host listens on no address for others: "
			       "`godwit config set core.https_address=HOST:8443` first");
	EVP_EncodeBlock(out, (unsigned char *)text, (int)strlen(text));
	if (!quiet)
		printf("Token of %s, to be used once, by `godwit remote add NAME TOKEN`:\n", name);
	puts((char *)out);
	return 0;
}

int cmd_trust_add(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "name", required_argument, NULL, 'n' },
						 { "quiet", no_argument, NULL, 'q' },
						 CLI_HELP, { 0 } };
	const char *name = "client", *file = NULL, *where = "";
	auto_target target = { 0 };
	auto_json *op = NULL;
	bool quiet = false;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "hqn:", options, NULL)) != -1) {
		if (opt == 'q')
			quiet = true;
		else if (opt == 'n')
			name = optarg;
		else
			return cli_usage(cli, opt);
	}
	if (!cli_args(cli, argc, 0, 2, &r))
		return r;
	for (int i = optind; i < argc; i++) {
		if (str_ends(argv[i], ":"))
			where = argv[i];
		else
			file = argv[i];
	}
	r = target_open(cli->conf, where, false, &target, &e);
	if (r >= 0 && file) {
		r = add_file(target.remote, file, name, &e);
	} else if (r >= 0) {
		r = remote_start(target.remote, "POST",
				 json_pack("{s:s, s:s, s:b}", "type", "client", "name", name, "token", 1), &op, &e,
				 "/1.0/certificates");
		if (r >= 0)
			r = token_print(json_object_get(op, "metadata"), name, quiet, &e);
	}
	return r < 0 ? cli_fail(&e) : 0;
}

int cmd_trust_list(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' }, CLI_HELP, { 0 } };
	static const char *const headers[] = { "NAME", "TYPE", "FINGERPRINT" };
	enum table_format format = TABLE_PLAIN;
	auto_target target = { 0 };
	auto_json *list = NULL;
	struct err e = { 0 };
	struct table *t;
	json_t *c;
	size_t i;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "hf:", options, NULL)) != -1) {
		if (opt != 'f')
			return cli_usage(cli, opt);
		if (table_format_parse(optarg, &format, &e) < 0)
			return cli_fail(&e);
	}
	if (!cli_args(cli, argc, 0, 1, &r))
		return r;
	r = target_open(cli->conf, optind < argc ? argv[optind] : "", false, &target, &e);
	if (r >= 0)
		r = remote_call(target.remote, "GET", NULL, &list, &e, "/1.0/certificates?recursion=1");
	if (r < 0)
		return cli_fail(&e);
	t = table_new(headers, 3);
	json_array_foreach(list, i, c) {
		const char *const row[] = { json_str(c, "name"), json_str(c, "type"), json_str(c, "fingerprint") };

		if (!t || table_row(t, row) < 0)
			break;
	}
	if (t)
		table_print(t, format);
	table_free(t);
	return 0;
}

#define PREFIX_MIN 4 /* shorter ones are rather names */

/* The fingerprint of the certificate that is meant: by its client's name, or by how the fingerprint begins. */
static int certificate_find(struct remote *remote, const char *what, char ret[FINGERPRINT_LEN + 1], struct err *e)
{
	const json_t *by_name = NULL, *by_start = NULL, *c;
	auto_json *list = NULL;
	unsigned names = 0, starts = 0;
	size_t i;
	int r = remote_call(remote, "GET", NULL, &list, e, "/1.0/certificates?recursion=1");

	if (r < 0)
		return r;
	json_array_foreach(list, i, c) {
		if (str_eq(json_str(c, "name"), what) && ++names)
			by_name = c;
		if (strlen(what) >= PREFIX_MIN && strncasecmp(json_str(c, "fingerprint"), what, strlen(what)) == 0 && ++starts)
			by_start = c;
	}
	if (names > 1 || starts > 1 || (names && starts && by_name != by_start))
		return err_set(e, -EINVAL, "'%s' fits more than one certificate: `godwit config trust list` shows them; the "
			       "first digits of a fingerprint say which", what);
	if (!names && !starts)
		return err_set(e, -ENOENT, "no client named '%s' is let in, and no fingerprint begins so; `godwit config trust "
			       "list` shows who is", what);
	snprintf(ret, FINGERPRINT_LEN + 1, "%s", json_str(by_name ? by_name : by_start, "fingerprint"));
	return 0;
}

int cmd_trust_remove(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { CLI_HELP, { 0 } };
	auto_free char *name = NULL, *what = NULL;
	char fingerprint[FINGERPRINT_LEN + 1];
	auto_remote *remote = NULL;
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_usage(cli, opt);
	if (!cli_args(cli, argc, 1, 1, &r))
		return r;
	/* Not as a target: a client's name may be any. */
	r = conf_split(cli->conf, argv[optind], &name, &what, &e);
	if (r >= 0)
		r = remote_open(cli->conf, name, &remote, &e);
	if (r >= 0)
		r = certificate_find(remote, what, fingerprint, &e);
	if (r >= 0)
		r = remote_call(remote, "DELETE", NULL, NULL, &e, "/1.0/certificates/%s", fingerprint);
	return r < 0 ? cli_fail(&e) : 0;
}
