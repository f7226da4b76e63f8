/* godwitd - the daemon.  It can be killed at any instant: containers do not notice (their monitors are
 * liblxc's own processes), jobs see their descriptor 3 close and undo what can be undone, and what has to be
 * known afterwards was written down before. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "api/api.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/bulk.h"
#include "daemon/verbs.h"

struct options {
	char *state_dir, *socket, *run_dir, *cgroup_dir, *log_file, *listen;
	bool verbose;
};

static const char usage_text[] =
	"usage: godwitd [options]\n"
	"  --state-dir DIR    where everything is kept (default $GODWIT_DIR or /var/lib/godwit)\n"
	"  --socket PATH      the local socket (default STATE/unix.socket)\n"
	"  --listen ADDR:PORT serve HTTPS there (default: the server's core.https_address)\n"
	"  --run-dir DIR      what is known of running containers (default STATE/run)\n"
	"  --cgroup-dir NAME  prefix of the containers' cgroups, one per host (default godwit)\n"
	"  --log-file FILE    write the log there instead of stderr\n"
	"  -v, --verbose      log more\n"
	"  -h, --help\n";

static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "state-dir", 1, NULL, 's' }, { "socket", 1, NULL, 'S' },   { "listen", 1, NULL, 'l' },
		{ "run-dir", 1, NULL, 'r' },   { "cgroup-dir", 1, NULL, 'c' }, { "log-file", 1, NULL, 'L' },
		{ "verbose", 0, NULL, 'v' },   { "help", 0, NULL, 'h' },     { NULL, 0, NULL, 0 },
	};
	const char *dir = getenv("GODWIT_DIR");
	int c;

	*o = (struct options){ .state_dir = (char *)(dir && *dir ? dir : "/var/lib/godwit"), .cgroup_dir = "godwit" };
	while ((c = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			o->state_dir = optarg;
			break;
		case 'S':
			o->socket = optarg;
			break;
		case 'l':
			o->listen = optarg;
			break;
		case 'r':
			o->run_dir = optarg;
			break;
		case 'c':
			o->cgroup_dir = optarg;
			break;
		case 'L':
			o->log_file = optarg;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			exit(0);
		default:
			return -EINVAL;
		}
	}
	return optind == argc ? 0 : -EINVAL;
}

struct paths {
	char *state, *socket, *run, *crt, *key, *self;
};

static void paths_done(struct paths *p)
{
	free(p->state);
	free(p->socket);
	free(p->run);
	free(p->crt);
	free(p->key);
	free(p->self);
}

static int paths_make(const struct options *o, struct paths *p, struct err *e)
{
	if (mkdir(o->state_dir, 0711) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "cannot make the state folder %s%s", o->state_dir,
			       geteuid() == 0 ? "" : " (godwitd is started by root)");
	p->state = realpath(o->state_dir, NULL);
	p->self = realpath("/proc/self/exe", NULL);
	if (!p->state || !p->self)
		return err_sys(e, -errno, "cannot use the state folder %s", o->state_dir);
	if ((o->socket ? asprintf(&p->socket, "%s", o->socket) : asprintf(&p->socket, "%s/unix.socket", p->state)) < 0 ||
	    (o->run_dir ? asprintf(&p->run, "%s", o->run_dir) : asprintf(&p->run, "%s/run", p->state)) < 0 ||
	    asprintf(&p->crt, "%s/server.crt", p->state) < 0 || asprintf(&p->key, "%s/server.key", p->state) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

/* Jobs learn of these by the environment, so that each verb need not carry them. */
static int environment_set(const struct options *o, const struct paths *p, struct err *e)
{
	if (strchr(o->cgroup_dir, '/') || o->cgroup_dir[0] == '.' || !*o->cgroup_dir)
		return err_set(e, -EINVAL, "--cgroup-dir is a plain name, not \"%s\"", o->cgroup_dir);
	if (setenv("GODWIT_RUN_DIR", p->run, 1) < 0 || setenv("GODWIT_CGROUP_DIR", o->cgroup_dir, 1) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

/* One daemon for a state folder: the lock dies with the process. */
static int state_lock(const struct paths *p, struct err *e)
{
	auto_free char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/lock", p->state) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return err_set(e, -EBUSY, "another godwitd works in %s", p->state);
	}
	return fd;
}

static int log_open(const struct options *o, struct err *e)
{
	int fd;

	if (!o->log_file)
		return 0;
	fd = open(o->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open the log %s", o->log_file);
	/* Jobs inherit stderr: theirs goes to the same file. */
	if (dup2(fd, 2) < 0 || dup2(2, 1) < 0)
		return err_sys(e, -errno, "cannot redirect the log");
	close(fd);
	return 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	log_info("stopping (signal %u); containers go on", si->ssi_signo);
	return sd_event_exit(sd_event_source_get_event(s), 0);
}

static int event_make(sd_event **ret, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	sigset_t set;
	sd_event *ev = NULL;
	int r;

	sigemptyset(&set);
	for (size_t i = 0; i < array_len(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = sd_event_new(&ev);
	for (size_t i = 0; r >= 0 && i < array_len(signals); i++)
		r = sd_event_add_signal(ev, NULL, signals[i], on_signal, NULL);
	if (r < 0) {
		sd_event_unref(ev);
		return err_sys(e, r, "cannot make an event loop");
	}
	*ret = ev;
	return 0;
}

static int serve(const struct options *o, struct paths *p, struct err *e)
{
	static const struct http_handler bulk = { .bulk = bulk_accept };
	const struct api_options ao = { .state_dir = p->state, .run_dir = p->run, .self = p->self, .listen = o->listen,
					.crt_path = p->crt, .key_path = p->key };
	auto_fd int lock = state_lock(p, e);
	auto_db *db = NULL;
	sd_event *ev = NULL;
	struct api *api = NULL;
	int r = lock;

	if (r >= 0)
		r = environment_set(o, p, e);
	if (r >= 0)
		r = db_open(p->state, &db, e);
	if (r >= 0)
		r = event_make(&ev, e);
	bulk_setup(p->crt, p->key);
	if (r >= 0)
		r = api_new(ev, db, &ao, &bulk, &api, e);
	if (r >= 0)
		r = api_recover(api, e);
	if (r >= 0)
		r = api_listen(api, p->socket, e);
	if (r >= 0) {
		log_info("godwitd %s serves %s", GODWIT_VERSION, p->state);
		sd_notify(0, "READY=1");
		r = sd_event_loop(ev);
		if (r < 0)
			err_sys(e, r, "the event loop failed");
	}
	api_free(api);
	sd_event_unref(ev);
	return r;
}

/* Thousands of connections and descriptors of jobs: as many as the host allows. */
static void limits_raise(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

int main(int argc, char **argv)
{
	struct options o;
	struct paths p = { 0 };
	struct err e = { 0 };
	int r;

	if (argc == 3 && strcmp(argv[1], "job") == 0)
		return verbs_main(argv[2]);
	if (options_parse(argc, argv, &o) < 0) {
		fputs(usage_text, stderr);
		return 2;
	}
	umask(022);
	if (o.verbose)
		log_set_level(LOG_LV_DEBUG);
	limits_raise();
	r = log_open(&o, &e);
	if (r >= 0)
		r = paths_make(&o, &p, &e);
	if (r >= 0)
		r = serve(&o, &p, &e);
	paths_done(&p);
	if (r < 0) {
		log_error("%s", err_text(&e));
		return 1;
	}
	return 0;
}
