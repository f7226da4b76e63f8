/* godwit - the client: one verb, one command. */
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/remote.h"

#define VERSION "0.1.0"

static const struct verb verbs[] = {
	{ "init", "", "make this host ready: storage, a bridge, the profile, the address to listen on",
	  "  --address HOST:PORT   where the API is served to other machines (not at all without)\n"
	  "  --network NAME        the bridge (gwbr0)\n"
	  "  --ipv4 ADDRESS/BITS   the bridge's address (10.83.0.1/24)\n"
	  "  --ranges A-B[,A-B]    addresses given to containers (all of the subnet)\n"
	  "  --uplink IF[,IF]      network cards that join the bridge, so that hosts share one network\n"
	  "  --no-nat              do not translate the containers' addresses on the way out\n"
	  "What is there already is left as it is.\n", cmd_init },
	{ "launch", "[REMOTE:]IMAGE [REMOTE:][NAME]", "make a container from an image and start it",
	  "  -c, --config KEY=VALUE   e.g. limits.memory=512MiB; may be repeated\n"
	  "  -p, --profile NAME       in the place of `default`; may be repeated\n"
	  "  --privileged             without a user namespace\n"
	  "  --no-start               make it only\n", cmd_launch },
	{ "list", "[REMOTE:][NAME]...", "containers and how they are",
	  "  --format table|csv|json\n", cmd_list },
	{ "info", "[REMOTE:][NAME]", "all about a container, or about a host (no name)", NULL, cmd_info },
	{ "exec", "[REMOTE:]NAME -- COMMAND...", "run a command in a container",
	  "  -t, -T               with a terminal, without (default: as here)\n"
	  "  --detach             start it and leave: it lives on without us, and moves with the container\n"
	  "  --env KEY=VALUE, --cwd DIR, --user UID, --group GID\n"
	  "The exit status is the command's.\n", cmd_exec },
	{ "start", "[REMOTE:]NAME...", "start containers", NULL, cmd_start },
	{ "stop", "[REMOTE:]NAME...", "stop containers",
	  "  -f, --force          at once\n  --timeout SECONDS    how long a shutdown may take (30)\n", cmd_stop },
	{ "restart", "[REMOTE:]NAME...", "stop and start containers",
	  "  -f, --force          at once\n  --timeout SECONDS    how long a shutdown may take (30)\n", cmd_restart },
	{ "delete", "[REMOTE:]NAME...", "delete stopped containers",
	  "  -f, --force          running ones too\n", cmd_delete },
	{ "move", "[REMOTE:]NAME REMOTE:[NAME]", "move a container to another host, running if it runs",
	  "  --dry-run            only say whether it could\n"
	  "  -q, --quiet          no line of figures at the end\n"
	  "  --format json        the figures for programs (times in microseconds)\n", cmd_move },
	{ "monitor", "[REMOTE:]", "print events as they happen",
	  "  --type operation,lifecycle,logging\n", cmd_monitor },
	{ "image build", "busybox|debian/12 [REMOTE:]", "build a container image here and import it",
	  "  --include PKG,...    more packages (debian)\n"
	  "  --init systemd|sysvinit\n"
	  "  --alias NAME         (busybox, debian/12)\n"
	  "  --output FILE        write the tarball there and import nothing\n", cmd_image_build },
	{ "image import", "FILE [REMOTE:]", "import an image tarball", "  --alias NAME\n", cmd_image_import },
	{ "image list", "[REMOTE:]", "images", "  --format table|csv|json\n", cmd_image_list },
	{ "image delete", "[REMOTE:]IMAGE...", "delete images, by alias or fingerprint", NULL, cmd_image_delete },
	{ "remote add", "NAME TOKEN | NAME ADDRESS", "add another host",
	  "A token comes from `godwit config trust add` on that host.\n"
	  "  --accept-certificate  with an address: do not ask about the certificate\n"
	  "  --address HOST:PORT   with a token: in the place of the addresses in it\n", cmd_remote_add },
	{ "remote list", "", "hosts this client knows", "  --format table|csv|json\n", cmd_remote_list },
	{ "remote remove", "NAME", "forget a host", NULL, cmd_remote_remove },
	{ "remote default", "NAME", "the host that is meant when none is said", NULL, cmd_remote_default },
	{ "config trust add", "[REMOTE:] | FILE [REMOTE:]", "let a client in: a token for it, or its certificate",
	  "  --name NAME          the client's name\n"
	  "  -q, --quiet          print the token alone\n", cmd_trust_add },
	{ "config trust list", "[REMOTE:]", "clients that are let in", "  --format table|csv|json\n", cmd_trust_list },
	{ "config trust remove", "[REMOTE:]NAME|FINGERPRINT", "let a client in no more",
	  "The first digits of the fingerprint are enough where they tell.\n", cmd_trust_remove },
	{ "config show", "[REMOTE:][NAME]", "the configuration of a host or a container", NULL, cmd_config_show },
	{ "config get", "[REMOTE:][NAME] KEY", "one value of it", NULL, cmd_config_get },
	{ "config set", "[REMOTE:][NAME] KEY=VALUE...", "change values; an empty one unsets", NULL, cmd_config_set },
};

static int print_help(FILE *f)
{
	fputs("godwit - system containers that move while they run\n\n", f);
	for (size_t i = 0; i < array_len(verbs); i++)
		fprintf(f, "  %-20s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\n`godwit help VERB` says more.  REMOTE is a host known by `godwit remote add`; none: the default.\n",
	      f);
	return f == stdout ? 0 : 2;
}

/* The verb whose words begin argv; *ret_words of them. */
static const struct verb *find(int argc, char **argv, int *ret_words)
{
	for (size_t i = 0; i < array_len(verbs); i++) {
		char copy[64], *save = NULL, *w;
		int n = 0;
		bool all = true;

		snprintf(copy, sizeof(copy), "%s", verbs[i].name);
		for (w = strtok_r(copy, " ", &save); w && all; w = strtok_r(NULL, " ", &save), n++)
			all = n < argc && strcmp(argv[n], w) == 0;
		if (all) {
			*ret_words = n;
			return &verbs[i];
		}
	}
	return NULL;
}

/* The verbs that begin with these words, "godwit image"; 0: none does. */
static size_t print_group(FILE *f, const char *words)
{
	size_t n = strlen(words), found = 0;

	for (size_t i = 0; i < array_len(verbs); i++) {
		if (strncmp(verbs[i].name, words, n) != 0 || verbs[i].name[n] != ' ')
			continue;
		fprintf(f, "  godwit %s %s\n", verbs[i].name, verbs[i].args);
		found++;
	}
	return found;
}

static bool is_group(const char *words)
{
	size_t n = strlen(words);

	for (size_t i = 0; i < array_len(verbs); i++)
		if (strncmp(verbs[i].name, words, n) == 0 && verbs[i].name[n] == ' ')
			return true;
	return false;
}

static bool asks_help(const char *word)
{
	return strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* No verb: a group of verbs is shown as such, and the word behind it, or the first one, is what is wrong. */
static int no_verb(int argc, char **argv)
{
	char group[64] = "", longer[160];
	int n = 0;

	while (n < argc) {
		snprintf(longer, sizeof(longer), "%s%s%.64s", group, *group ? " " : "", argv[n]);
		if (strlen(longer) >= sizeof(group) || !is_group(longer))
			break;
		snprintf(group, sizeof(group), "%.63s", longer);
		n++;
	}
	if (n == argc || asks_help(argv[n])) {
		print_group(n == argc ? stderr : stdout, group);
		return n == argc ? 2 : 0;
	}
	if (argv[n][0] == '-')
		snprintf(longer, sizeof(longer), "there is no option '%.64s'", argv[n]);
	else
		snprintf(longer, sizeof(longer), "there is no verb '%s%s%.64s'", group, *group ? " " : "", argv[n]);
	fprintf(stderr, "Error: %s; `godwit help%s%s` shows those there are\n", longer, *group ? " " : "", group);
	return 2;
}

/* `godwit help VERB`, `godwit help GROUP`, `godwit help`. */
static int help(int argc, char **argv)
{
	struct cli cli = { 0 };
	char group[64] = "";
	int words;

	if (argc == 0)
		return print_help(stdout);
	cli.verb = find(argc, argv, &words);
	if (cli.verb && words == argc)
		return cli_usage(&cli, 'h');
	for (int i = 0; i < argc; i++)
		snprintf(group + strlen(group), sizeof(group) - strlen(group), "%s%s", i ? " " : "", argv[i]);
	if (!cli.verb && is_group(group)) {
		print_group(stdout, group);
		return 0;
	}
	return no_verb(cli.verb ? argc - words : argc, cli.verb ? argv + words : argv);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	struct err e = { 0 };
	int words, status;

	setlocale(LC_CTYPE, "");
	if (argc < 2)
		return print_help(stderr);
	if (asks_help(argv[1]))
		return help(argc - 2, argv + 2);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
		puts("godwit " VERSION);
		return 0;
	}
	cli.verb = find(argc - 1, argv + 1, &words);
	if (!cli.verb)
		return no_verb(argc - 1, argv + 1);
	if (conf_open(&cli.conf, &e) < 0)
		return cli_fail(&e);
	/* What getopt complains of begins with it, as all that goes wrong does. */
	argv[words] = (char *)"Error";
	status = cli.verb->run(&cli, argc - words, argv + words);
	conf_free(cli.conf);
	if (fflush(stdout) != 0 || ferror(stdout))
		status = status ? status : cli_failf("cannot write the output");
	return status;
}

void cli_complain(const char *word, const char *text)
{
	fprintf(stderr, "%s: ", word);
	for (; *text; text++)
		fputc(*text == '\n' || *text == '\t' || ((unsigned char)*text >= 0x20 && *text != 0x7f) ? *text : '?', stderr);
	fputc('\n', stderr);
}

int cli_fail(const struct err *e)
{
	progress_clear();
	fflush(stdout);
	cli_complain("Error", err_text(e));
	return interrupt_count() ? 130 : 1;
}

int cli_failf(const char *fmt, ...)
{
	struct err e = { .code = -EIO };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e.text, sizeof(e.text), fmt, ap);
	va_end(ap);
	return cli_fail(&e);
}

int cli_usage(struct cli *cli, int opt)
{
	FILE *f = opt == 'h' ? stdout : stderr;

	fprintf(f, "usage: godwit %s %s\n", cli->verb->name, cli->verb->args);
	if (opt == 'h')
		fprintf(f, "%s.\n", cli->verb->summary);
	if (cli->verb->help)
		fputs(cli->verb->help, f);
	return opt == 'h' ? 0 : 2;
}

bool cli_args(struct cli *cli, int argc, int min, int max, int *ret_status)
{
	int n = argc - optind;

	if (n >= min && (max < 0 || n <= max))
		return true;
	fprintf(stderr, "Error: %s\n", n < min ? "something is missing" : "that is too much");
	*ret_status = cli_usage(cli, '?');
	return false;
}

const char *cli_bytes(uint64_t n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	static char texts[4][32];
	static unsigned turn;
	char *t = texts[turn++ % 4];
	double v = (double)n;
	size_t u = 0;

	while (v >= 1024 && u + 1 < array_len(units)) {
		v /= 1024;
		u++;
	}
	snprintf(t, sizeof(texts[0]), u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
	return t;
}

const char *cli_duration_us(uint64_t us)
{
	static char texts[8][32];
	static unsigned turn;
	char *t = texts[turn++ % 8];

	if (us < 10000)
		snprintf(t, sizeof(texts[0]), "%.1f ms", (double)us / 1e3);
	else if (us < 1000000)
		snprintf(t, sizeof(texts[0]), "%.0f ms", (double)us / 1e3);
	else
		snprintf(t, sizeof(texts[0]), "%.2f s", (double)us / 1e6);
	return t;
}
