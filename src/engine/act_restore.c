#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "cr/checkpoint.h"
#include "engine/action.h"
#include "engine/cpuinfo.h"
#include "engine/folders.h"
#include "engine/stats.h"

struct acts {
	struct options *o;
	struct scripts *s;
};

/* All is there and nothing runs yet: who cannot be told the pid gets no tree. */
static int act(void *arg, enum cr_act at, pid_t pid, int fd, struct err *e)
{
	struct acts *a = arg;
	int r = 0;

	if (at == CR_ACT_POST_RESTORE && a->o->pidfile)
		r = pidfile_write(a->o->pidfile, pid, e);
	return r < 0 ? r : scripts_act(a->s, at, pid, fd, e);
}

int action_restore(struct options *o, struct scripts *s, pid_t *ret_pid, struct err *e)
{
	struct acts a = { o, s };
	struct cr_stats stats = { 0 };
	int r;

	o->cr.act = act;
	o->cr.arg = &a;
	r = cpuinfo_compare(o->cr.images_fd, o->cpu_cap_given ? o->cpu_cap : CPU_CAP_FPU, false, e);
	if (r >= 0)
		r = checkpoint_restore(&o->cr, ret_pid, &stats, e);
	if (r < 0)
		return r;
	/* It runs: what fails from here on is no failure of the restore. */
	if (stats_save(&stats, true, e) < 0)
		log_warn("%s", err_text(e));
	if (status_say(o, e) < 0)
		log_warn("%s", err_text(e));
	if (o->display_stats)
		stats_print(&stats, true);
	log_info("restored: the init is process %d", (int)*ret_pid);
	return 0;
}

/* The tree has been stopped, as a job of our shell: we are that job to the shell.  Whoever has us go on has the
 * tree go on; in the foreground, if we are there. */
static void stop_with(pid_t pid)
{
	pid_t group = getpgid(pid), other;
	int tty;

	if (group <= 0 || group == getpgrp()) /* stopped as we were */
		return;
	raise(SIGSTOP);
	tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	other = tty >= 0 ? tcgetpgrp(tty) : -1;
	if (other == getpgrp() && tcsetpgrp(tty, group) < 0)
		log_warn("the restored processes stay in the background: %s", strerror(errno));
	fd_close(&tty);
	kill(-group, SIGCONT);
}

int restore_wait(pid_t pid, bool job, struct err *e)
{
	int status;

	/* A key of the terminal is the tree's; we go when it goes. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	for (;;) {
		if (waitpid(pid, &status, job ? WUNTRACED : 0) == pid) {
			if (!WIFSTOPPED(status))
				return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			stop_with(pid);
		} else if (errno != EINTR) {
			return err_sys(e, -errno, "waiting for the restored process %d", (int)pid);
		}
	}
}
