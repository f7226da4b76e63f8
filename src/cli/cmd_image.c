/* image build, import, list, delete */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/image_build.h"
#include "cli/image_ref.h"
#include "cli/interrupt.h"
#include "cli/table.h"
#include "cli/target.h"

static int on_upload(uint64_t done, uint64_t total, void *arg)
{
	char text[96];

	snprintf(text, sizeof(text), "sending the image: %s of %s", cli_bytes(done), cli_bytes(total));
	progress_text(text);
	return interrupt_count() > 0;
}

/* The alias moves to the new image where it named another one. */
static int set_alias(struct remote *r, const char *alias, const char *fingerprint, struct err *e)
{
	auto_free char *escaped = image_escape(alias);
	int n;

	if (!escaped)
		return err_sys(e, -ENOMEM, "cannot name the image");
	n = remote_call(r, "GET", NULL, NULL, e, "/1.0/images/aliases/%s", escaped);
	if (n >= 0)
		n = remote_call(r, "DELETE", NULL, NULL, e, "/1.0/images/aliases/%s", escaped);
	if (n < 0 && n != -ENOENT)
		return n;
	return remote_call(r, "POST", json_pack("{s:s, s:s, s:s, s:s}", "name", alias, "target", fingerprint, "description",
						"", "type", "container"),
			   NULL, e, "/1.0/images/aliases");
}

static void print_warnings(const json_t *op)
{
	json_t *list = json_object_get(json_object_get(op, "metadata"), "warnings"), *w;
	size_t i;

	json_array_foreach(list, i, w)
		if (json_is_string(w))
			cli_complain("Warning", json_string_value(w));
}

static int import(struct remote *r, const char *file, const char *alias, struct err *e)
{
	auto_fd int fd = open(file, O_RDONLY | O_CLOEXEC);
	const char *slash = strrchr(file, '/');
	auto_json *reply = NULL, *op = NULL;
	auto_free char *name = NULL;
	const char *headers[3] = { "X-LXD-public: 0", NULL, NULL };
	struct stat st;
	int n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "cannot read %s", file);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a file", file);
	if (asprintf(&name, "X-LXD-filename: %s", slash ? slash + 1 : file) < 0)
		return err_sys(e, -ENOMEM, "cannot send %s", file);
	if (!strpbrk(name, "\r\n"))
		headers[1] = name;
	interrupt_watch();
	n = interrupt_count() ? -ECANCELED : http_upload(remote_http(r), "POST", "/1.0/images", fd, headers, on_upload, NULL, &reply, e);
	progress_clear();
	if (n == -ECANCELED)
		return err_set(e, n, "interrupted: the image was not imported");
	if (n < 0)
		return err_context(e, remote_explain(r, n, e), "%s", remote_name(r));
	n = remote_wait(r, json_str(json_object_get(reply, "metadata"), "id"), &op, e);
	if (n >= 0)
		print_warnings(op);
	if (n >= 0 && alias)
		n = set_alias(r, alias, json_str(json_object_get(op, "metadata"), "fingerprint"), e);
	if (n >= 0)
		printf("%.12s%s%s\n", json_str(json_object_get(op, "metadata"), "fingerprint"), alias ? "  " : "",
		       alias ? alias : "");
	return n;
}

int cmd_image_import(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "alias", required_argument, NULL, 'a' }, CLI_HELP, { 0 } };
	const char *alias = NULL;
	auto_target target = { 0 };
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt != 'a')
			return cli_usage(cli, opt);
		alias = optarg;
	}
	if (!cli_args(cli, argc, 1, 2, &r))
		return r;
	r = target_open(cli->conf, argc - optind == 2 ? argv[optind + 1] : "", false, &target, &e);
	if (r >= 0)
		r = import(target.remote, argv[optind], alias, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

static void on_build(const char *text, void *arg)
{
	if (isatty(2))
		progress_text(text);
	else
		fprintf(stderr, "%s\n", text);
}

static int build(const char *what, const char *include, const char *init, const char *out, struct err *e)
{
	if (strcmp(what, "busybox") == 0) {
		if (include || init)
			return err_set(e, -EINVAL, "a busybox image has neither packages nor another init");
		return image_build_busybox(out, on_build, NULL, e);
	}
	if (strcmp(what, "debian/12") == 0 || strcmp(what, "debian/bookworm") == 0)
		return image_build_debian("bookworm", include, init ? init : "sysvinit", out, on_build, NULL, e);
	return err_set(e, -EINVAL, "'%s' cannot be built: busybox and debian/12 can", what);
}

int cmd_image_build(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "include", required_argument, NULL, 'i' }, { "init", required_argument, NULL, 'n' },
		{ "alias", required_argument, NULL, 'a' },   { "output", required_argument, NULL, 'o' },
		CLI_HELP, { 0 },
	};
	const char *include = NULL, *init = NULL, *alias = NULL, *output = NULL, *tmp = getenv("TMPDIR");
	auto_free char *made = NULL;
	auto_target target = { 0 };
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'i':
			include = optarg;
			break;
		case 'n':
			init = optarg;
			break;
		case 'a':
			alias = optarg;
			break;
		case 'o':
			output = optarg;
			break;
		default:
			return cli_usage(cli, opt);
		}
	}
	if (!cli_args(cli, argc, 1, 2, &r))
		return r;
	if (init && strcmp(init, "systemd") != 0 && strcmp(init, "sysvinit") != 0)
		return cli_failf("there is no init '%s': systemd or sysvinit", init);
	/* The host first: half a minute of building must not end with a wrong name. */
	r = output ? 0 : target_open(cli->conf, argc - optind == 2 ? argv[optind + 1] : "", false, &target, &e);
	if (r >= 0 && !output)
		r = remote_call(target.remote, "GET", NULL, NULL, &e, "/1.0/images");
	if (r < 0)
		return cli_fail(&e);
	if (!output && asprintf(&made, "%s/godwit-image.%d.tar", tmp && *tmp ? tmp : "/var/tmp", (int)getpid()) < 0)
		return cli_failf("out of memory");
	interrupt_watch();
	r = build(argv[optind], include, init, output ? output : made, &e);
	progress_clear();
	if (r >= 0 && !output)
		r = import(target.remote, made, alias ? alias : argv[optind], &e);
	if (made)
		unlink(made);
	return r < 0 ? cli_fail(&e) : 0;
}

static void aliases_of(const json_t *image, char *ret, size_t size)
{
	json_t *list = json_object_get(image, "aliases"), *a;
	size_t i;

	ret[0] = 0;
	json_array_foreach(list, i, a)
		snprintf(ret + strlen(ret), size - strlen(ret), "%s%s", ret[0] ? ", " : "", json_str(a, "name"));
}

int cmd_image_list(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' }, CLI_HELP, { 0 } };
	static const char *const headers[] = { "ALIAS", "FINGERPRINT", "DESCRIPTION", "ARCHITECTURE", "SIZE", "IMPORTED" };
	enum table_format format = TABLE_PLAIN;
	auto_target target = { 0 };
	auto_json *list = NULL;
	struct table *t;
	struct err e = { 0 };
	json_t *image;
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
		r = remote_call(target.remote, "GET", NULL, &list, &e, "/1.0/images?recursion=1");
	if (r < 0)
		return cli_fail(&e);
	if (format == TABLE_JSON) {
		json_print(list);
		return 0;
	}
	t = table_new(headers, array_len(headers));
	json_array_foreach(list, i, image) {
		char aliases[256], fp[13], when[20];
		const char *const row[] = { aliases, fp, json_str(json_object_get(image, "properties"), "description"),
					    json_str(image, "architecture"),
					    cli_bytes((uint64_t)json_int(image, "size", 0)), when };

		aliases_of(image, aliases, sizeof(aliases));
		snprintf(fp, sizeof(fp), "%.12s", json_str(image, "fingerprint"));
		snprintf(when, sizeof(when), "%.19s", json_str(image, "uploaded_at"));
		if (!t || table_row(t, row) < 0)
			break;
	}
	if (t)
		table_print(t, format);
	table_free(t);
	return 0;
}

int cmd_image_delete(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { CLI_HELP, { 0 } };
	int opt, r, status = 0;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_usage(cli, opt);
	if (!cli_args(cli, argc, 1, -1, &r))
		return r;
	for (int i = optind; i < argc && !interrupt_count(); i++) {
		auto_free char *name = NULL, *image = NULL, *fingerprint = NULL;
		auto_remote *remote = NULL;
		struct err e = { 0 };

		r = image_ref_split(cli->conf, argv[i], &name, &image, &e);
		if (r >= 0)
			r = remote_open(cli->conf, name, &remote, &e);
		if (r >= 0)
			r = image_find(remote, image, &fingerprint, &e);
		if (r >= 0)
			r = remote_call(remote, "DELETE", NULL, NULL, &e, "/1.0/images/%s", fingerprint);
		if (r < 0)
			status = cli_fail(&e);
	}
	return status;
}
