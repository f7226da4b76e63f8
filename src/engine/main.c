/* godwit-criu - a checkpoint, a restore, or one end of a migration; CRIU's command line (docs/engine.md). */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/action.h"
#include "engine/folders.h"
#include "engine/version.h"

static const char usage[] =
	"usage: godwit-criu dump -t PID -D DIR [options]      a process tree into a folder\n"
	"       godwit-criu restore -D DIR [options]          and back\n"
	"       godwit-criu check [--all|--extra|--experimental|--feature NAME|--tree PID [--json]]\n"
	"       godwit-criu page-server -D DIR [--address A] [--port P] [--daemon]\n"
	"       godwit-criu dedup -D DIR\n"
	"       godwit-criu cpuinfo dump|check -D DIR\n"
	"       godwit-criu swrk FD | service [--address PATH] [--daemon]\n"
	"       godwit-criu live-dump|live-restore|recover    what godwitd calls\n"
	"The options are CRIU's; docs/engine.md says what each does.\n";

/* The last line is the reason; whoever has a log elsewhere finds it there as well. */
static int fail(int status, const struct err *e)
{
	if (!log_is_stderr())
		log_error("%s", err_text(e));
	fflush(stdout);
	fprintf(stderr, "Error: %s\n", err_text(e));
	return status;
}

/* Every descriptor of a tree passes through our table. */
static void limits_raise(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int restore_main(struct options *o, struct scripts *s, struct err *e)
{
	pid_t pid;
	int r = action_restore(o, s, &pid, e);

	if (r < 0)
		return fail(EXIT_FAILED, e);
	if (o->exec_cmd) {
		signal(SIGPIPE, SIG_DFL);
		execvp(o->command[0], o->command);
		err_sys(e, -errno, "the tree is restored, but %s cannot be executed", o->command[0]);
		return fail(EXIT_FAILED, e);
	}
	if (o->detach)
		return EXIT_OK;
	r = restore_wait(pid, o->cr.shell_job, e);
	if (r > 0)
		err_set(e, -ECHILD, "the restored process ended with status %d", r);
	return r == 0 ? EXIT_OK : fail(r < 0 ? EXIT_FAILED : r, e);
}

static bool needs_images(enum action a)
{
	return a != ACTION_CHECK && a != ACTION_SWRK && a != ACTION_SERVICE;
}

static int run(struct options *o, struct err *e)
{
	struct scripts s = { .o = o };

	switch (o->action) {
	case ACTION_DUMP:
		return action_dump(o, &s, e);
	case ACTION_CHECK:
		return o->cr.pid ? action_check_tree(o, e) : action_check(o, e);
	case ACTION_PAGE_SERVER:
		return action_page_server(o, e);
	case ACTION_DEDUP:
		return action_dedup(o, e);
	case ACTION_CPUINFO_DUMP:
		return action_cpuinfo_dump(o, e);
	case ACTION_CPUINFO_CHECK:
		return action_cpuinfo_check(o, e);
	case ACTION_SWRK:
		return action_swrk(o, e);
	case ACTION_SERVICE:
		return action_service(o, e);
	default:
		return err_set(e, -EINVAL, "%s is not there", action_name(o->action));
	}
}

static int options_main(struct options *o, int argc, char **argv, struct err *e)
{
	int r = options_parse(o, argc, argv, e);

	if (r < 0)
		return fail(r == -EOPNOTSUPP ? EXIT_FAILED : EXIT_USAGE, e);
	if (o->version) {
		printf("Version: %s\n%s\n", VERSION_AS_CRIU, VERSION_OURS);
		return EXIT_OK;
	}
	if (o->help) {
		fputs(usage, stdout);
		return EXIT_OK;
	}
	r = needs_images(o->action) ? folders_open(o, e) : 0;
	/* RPC opens a log for each request; until then stderr is the caller's, or a container's. */
	if (r >= 0 && o->action != ACTION_SWRK)
		r = log_open(o, e);
	if (r < 0)
		return fail(EXIT_FAILED, e);
	if (o->action != ACTION_SWRK) {
		log_notes(o);
		log_info("%s, %s", action_name(o->action), VERSION_OURS);
	}
	if (o->action == ACTION_RESTORE)
		return restore_main(o, &(struct scripts){ .o = o }, e);
	r = run(o, e);
	return r >= 0 ? EXIT_OK : fail(r == -EOPNOTSUPP ? EXIT_REFUSED : EXIT_FAILED, e);
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	struct options o;
	int r;

	log_set_prefix("godwit-criu");
	if (argc < 2) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	limits_raise();
	/* A page server or a peer that has gone is an error, not our end. */
	signal(SIGPIPE, SIG_IGN);
	if (live_is_mode(argv[1]))
		return live_main(argc, argv);
	options_init(&o);
	r = options_main(&o, argc, argv, &e);
	options_done(&o);
	return r;
}
