#include "engine/scripts.h"

#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

extern char **environ;

#define PREFIX "CRTOOLS_"
enum { OURS = 3 };

struct vars {
	char action[64], folder[PATH_MAX + 32], init[48];
};

static void vars_fill(struct vars *v, int images_fd, enum cr_act act, pid_t pid)
{
	char self[32];
	ssize_t n;

	snprintf(v->action, sizeof(v->action), PREFIX "SCRIPT_ACTION=%s", cr_act_name(act));
	snprintf(v->folder, sizeof(v->folder), PREFIX "IMAGE_DIR=");
	snprintf(self, sizeof(self), "/proc/self/fd/%d", images_fd);
	n = readlink(self, v->folder + strlen(v->folder), PATH_MAX);
	if (n > 0)
		v->folder[strlen(PREFIX "IMAGE_DIR=") + (size_t)n] = '\0';
	v->init[0] = '\0';
	if (pid > 0)
		snprintf(v->init, sizeof(v->init), PREFIX "INIT_PID=%d", (int)pid);
}

/* Our environment without what we set ourselves; the strings are not copied. */
static char **environment(struct vars *v)
{
	size_t n = 0, k = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + OURS + 1, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], PREFIX, strlen(PREFIX)) != 0)
			env[k++] = environ[i];
	env[k++] = v->action;
	env[k++] = v->folder;
	if (v->init[0])
		env[k++] = v->init;
	return env;
}

static int script_run(const char *path, char **env, struct err *e)
{
	char *argv[] = { (char *)path, NULL };
	int status, r;
	sigset_t usual;
	posix_spawnattr_t attr;
	pid_t pid;

	/* What we ignore a script does not. */
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &usual);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	r = -posix_spawnp(&pid, path, NULL, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	if (r < 0)
		return err_sys(e, r, "starting the action script %s", path);
	while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (r < 0)
		return err_sys(e, -errno, "waiting for the action script %s", path);
	if (WIFSIGNALED(status))
		return err_set(e, -ECANCELED, "the action script %s was killed by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_set(e, -ECANCELED, "the action script %s failed with status %d", path, WEXITSTATUS(status));
	return 0;
}

int scripts_act(void *arg, enum cr_act act, pid_t pid, int fd, struct err *e)
{
	const struct scripts *s = arg;
	const struct cr_pairs *list = &s->o->scripts;
	auto_free char **env = NULL;
	struct vars vars;
	int r;

	log_debug("moment %s%s", cr_act_name(act), list->n ? ": action scripts" : "");
	/* A descriptor can be given to a peer, and to nobody else. */
	if (list->n && act != CR_ACT_ORPHAN_PTS_MASTER) {
		vars_fill(&vars, s->o->cr.images_fd, act, pid);
		env = environment(&vars);
		if (!env)
			return err_sys(e, -ENOMEM, "calling action scripts");
		for (size_t i = 0; i < list->n; i++) {
			r = script_run(list->v[i].key, env, e);
			if (r < 0)
				return err_context(e, r, "at %s", cr_act_name(act));
		}
	}
	if (act == CR_ACT_ORPHAN_PTS_MASTER && !s->notify)
		return err_set(e, -ENOTCONN, "there is no RPC peer to take it (orphan_pts_master)");
	if (s->notify) {
		r = s->notify(s->arg, act, pid, fd, e);
		if (r < 0)
			return err_context(e, r, "at %s", cr_act_name(act));
	}
	return 0;
}
