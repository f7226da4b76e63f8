#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/image_ref.h"
#include "cli/interrupt.h"
#include "cli/target.h"

struct wishes {
	json_t *config, *profiles;
	bool start;
};

/* "debian-k3v9x2" */
static void name_make(const char *image, char *ret, size_t size)
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	unsigned char rnd[6] = { 0 };
	size_t n = strspn(image, "abcdefghijklmnopqrstuvwxyz");
	char tail[sizeof(rnd) + 1] = "";

	if (getrandom(rnd, sizeof(rnd), 0) < 0)
		memset(rnd, 7, sizeof(rnd));
	for (size_t i = 0; i < sizeof(rnd); i++)
		tail[i] = letters[rnd[i] % (sizeof(letters) - 1)];
	snprintf(ret, size, "%.*s-%s", (int)(n ? n : 1), n ? image : "c", tail);
}

static int launch(struct target *t, const char *image, const struct wishes *w, struct err *e)
{
	auto_free char *fingerprint = NULL;
	char made[64];
	const char *name = t->name;
	json_t *body;
	int r = image_find(t->remote, image, &fingerprint, e);

	if (r < 0)
		return r;
	if (!*name) {
		name_make(image, made, sizeof(made));
		name = made;
	}
	body = json_pack("{s:s, s:s, s:s, s:O, s:{}, s:b, s:O, s:{s:s, s:s}}", "name", name, "type", "container",
			 "description", "", "config", w->config, "devices", "ephemeral", 0, "profiles", w->profiles,
			 "source", "type", "image", "fingerprint", fingerprint);
	r = remote_call(t->remote, "POST", body, NULL, e, "/1.0/instances");
	if (r >= 0 && interrupt_count())
		return err_set(e, -ECANCELED, "interrupted: %s is made%s", name, w->start ? ", but was not started" : "");
	if (r >= 0 && w->start)
		r = remote_call(t->remote, "PUT", json_pack("{s:s, s:i, s:b}", "action", "start", "timeout", -1, "force", 0),
				NULL, e, "/1.0/instances/%s/state", name);
	if (r >= 0)
		printf("%s\n", name);
	return r;
}

static int add_config(json_t *config, const char *pair)
{
	const char *eq = strchr(pair, '=');
	auto_free char *key = eq && eq != pair ? strndup(pair, (size_t)(eq - pair)) : NULL;

	return key && json_object_set_new(config, key, json_string(eq + 1)) == 0 ? 0 : -EINVAL;
}

int cmd_launch(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "profile", required_argument, NULL, 'p' },
		{ "privileged", no_argument, NULL, 'P' },   { "no-start", no_argument, NULL, 'n' },
		CLI_HELP, { 0 },
	};
	auto_json *config = json_object(), *profiles = json_array();
	struct wishes w = { .config = config, .profiles = profiles, .start = true };
	auto_free char *image_remote = NULL, *image = NULL;
	auto_target target = { 0 };
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "hc:p:", options, NULL)) != -1) {
		if (opt == 'n')
			w.start = false;
		else if (opt == 'P')
			json_object_set_new(config, "security.privileged", json_string("true"));
		else if (opt == 'p')
			json_array_append_new(profiles, json_string(optarg));
		else if (opt != 'c')
			return cli_usage(cli, opt);
		else if (add_config(config, optarg) < 0)
			return cli_failf("'%s' is not KEY=VALUE", optarg);
	}
	if (!cli_args(cli, argc, 1, 2, &r))
		return r;
	if (!json_array_size(profiles))
		json_array_append_new(profiles, json_string("default"));
	r = image_ref_split(cli->conf, argv[optind], &image_remote, &image, &e);
	if (r >= 0 && argc - optind == 2) {
		r = target_open(cli->conf, argv[optind + 1], false, &target, &e);
	} else if (r >= 0) {
		auto_free char *ref = NULL;

		r = asprintf(&ref, "%s:", image_remote) < 0 ? -ENOMEM :
							      target_open(cli->conf, ref, false, &target, &e);
	}
	if (r >= 0 && strchr(argv[optind], ':') && !str_eq(image_remote, remote_name(target.remote)))
		r = err_set(&e, -EOPNOTSUPP, "the image is on %s, the container would be on %s: images are not yet copied "
			    "between hosts; `godwit image import FILE %s:` brings it there", image_remote,
			    remote_name(target.remote), remote_name(target.remote));
	if (r >= 0)
		r = launch(&target, image, &w, &e);
	return r < 0 ? cli_fail(&e) : 0;
}
