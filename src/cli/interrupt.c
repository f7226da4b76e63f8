#include "cli/interrupt.h"

#include <signal.h>
#include <stdbool.h>

static volatile sig_atomic_t count;

static void on_interrupt(int sig)
{
	(void)sig;
	count++;
}

void interrupt_watch(void)
{
	/* No SA_RESTART: what waits is to notice. */
	struct sigaction sa = { .sa_handler = on_interrupt }, before;

	if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
		sigaction(SIGINT, &sa, NULL);
}

int interrupt_count(void)
{
	return count;
}
