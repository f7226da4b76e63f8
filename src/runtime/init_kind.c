#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "runtime/internal.h"

static enum init_kind kind_by_word(const char *word)
{
	if (strstr(word, "busybox"))
		return INIT_BUSYBOX;
	if (strstr(word, "systemd"))
		return INIT_SYSTEMD;
	return INIT_SYSVINIT;
}

enum init_kind init_kind_of(const struct container *c)
{
	const char *said = container_config_str(c, "image.init");
	auto_fd int root = -1, init = -1;
	char link[PATH_MAX], where[48];
	ssize_t n;

	if (said)
		return kind_by_word(said);
	root = open(c->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0)
		init = fd_open_in_root(root, "/sbin/init", O_PATH, 0);
	if (init < 0)
		return INIT_SYSVINIT;
	/* Where the chain of links ended, by the kernel's word. */
	snprintf(where, sizeof(where), "/proc/self/fd/%d", init);
	n = readlink(where, link, sizeof(link) - 1);
	if (n < 0)
		return INIT_SYSVINIT;
	link[n] = '\0';
	return kind_by_word(link + (strlen(link) > 32 ? strlen(link) - 32 : 0));
}

int init_halt_signal(enum init_kind k)
{
	switch (k) {
	case INIT_BUSYBOX:
		return SIGUSR2; /* poweroff */
	case INIT_SYSTEMD:
		return SIGRTMIN + 3; /* halt.target */
	default:
		return SIGPWR; /* powerfail in inittab */
	}
}
