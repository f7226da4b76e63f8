#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/parse.h"

#define NAME_LEN 128

enum fault_mode { UNKNOWN, NONE, LIST, KILL, FAIL };

static struct {
	enum fault_mode mode;
	char name[NAME_LEN];
	uint64_t left; /* times that it is let pass, and once more */
	int fd;        /* LIST */
} fault;

/* NAME[:N]:kill|fail */
static bool fault_parse(const char *text)
{
	const char *colon = strchr(text, ':'), *how = strrchr(text, ':');
	char count[24];

	if (!colon || (size_t)(colon - text) >= sizeof(fault.name))
		return false;
	fault.left = 1;
	if (colon != how) {
		snprintf(count, sizeof(count), "%.*s", (int)(how - colon - 1), colon + 1);
		if (parse_u64(count, 10, &fault.left) < 0 || !fault.left)
			return false;
	}
	snprintf(fault.name, sizeof(fault.name), "%.*s", (int)(colon - text), text);
	fault.mode = strcmp(how, ":kill") == 0 ? KILL : strcmp(how, ":fail") == 0 ? FAIL : NONE;
	return fault.mode != NONE;
}

static void fault_init(void)
{
	const char *text = secure_getenv("GODWIT_FAULT");

	fault.mode = NONE;
	if (!text || !*text)
		return;
	if (str_starts(text, "list:")) {
		fault.fd = open(text + 5, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		fault.mode = fault.fd >= 0 ? LIST : NONE;
		return;
	}
	if (!fault_parse(text))
		dprintf(2, "GODWIT_FAULT=%s is no fault\n", text);
}

static void list_add(const char *name, bool may_fail)
{
	char line[NAME_LEN + 8];
	int n = snprintf(line, sizeof(line), "%s %s\n", name, may_fail ? "fail" : "kill");

	if (write(fault.fd, line, (size_t)n) != n)
		abort();
}

/* Shall it fail? */
static bool reached(const char *room, const char *what, const char *when, bool may_fail)
{
	char name[NAME_LEN];

	snprintf(name, sizeof(name), "%s.%s%s%s", room, what, when ? "." : "", when ? when : "");
	for (char *p = name; *p; p++)
		if (*p == ' ')
			*p = '-';
	if (fault.mode == LIST) {
		list_add(name, may_fail);
		return false;
	}
	if (strcmp(name, fault.name) != 0 || !fault.left || --fault.left)
		return false;
	if (fault.mode == KILL)
		raise(SIGKILL);
	return may_fail;
}

int fault_at(const char *room, const char *what, const char *when, struct err *e)
{
	if (fault.mode == UNKNOWN)
		fault_init();
	if (fault.mode == NONE || !reached(room, what, when, true))
		return 0;
	return err_set(e, -ECANCELED, "GODWIT_FAULT at %s", fault.name);
}

void fault_kill_at(const char *room, const char *what, const char *when)
{
	if (fault.mode == UNKNOWN)
		fault_init();
	if (fault.mode != NONE)
		reached(room, what, when, false);
}
