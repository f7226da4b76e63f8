#include "network/uplink.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "network/check.h"
#include "network/link.h"

int network_uplinks_each(const char *list, int (*each)(const char *card, void *arg, struct err *e), void *arg,
			 struct err *e)
{
	auto_free char *copy = list ? strdup(list) : NULL;
	char *save = NULL;
	int r = 0;

	if (list && !copy)
		return err_sys(e, -ENOMEM, "uplinks");
	for (char *s = copy ? strtok_r(copy, ", \t", &save) : NULL; s && r >= 0; s = strtok_r(NULL, ", \t", &save))
		r = each(s, arg, e);
	return r < 0 ? r : 0;
}

void uplink_master(const char *card, char ret[IFNAMSIZ])
{
	char path[96], to[PATH_MAX];
	const char *slash;
	ssize_t n;

	ret[0] = '\0';
	snprintf(path, sizeof(path), "/sys/class/net/%.15s/master", card);
	n = readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return;
	to[n] = '\0';
	slash = strrchr(to, '/');
	snprintf(ret, IFNAMSIZ, "%.15s", slash ? slash + 1 : to);
}

int network_note_add(char **note, const char *text)
{
	char *longer = NULL;

	if (asprintf(&longer, "%s%s%s", *note ? *note : "", *note ? "; " : "", text) < 0)
		return -ENOMEM;
	free(*note);
	*note = longer;
	return 0;
}

static bool link_reads(const char *card, const char *what, const char *wanted)
{
	auto_free char *text = NULL;
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/net/%.15s/%s", card, what);
	return fd_read_file_at(AT_FDCWD, path, 64, &text, NULL) == 0 && str_starts(text, wanted);
}

static bool link_is_on(const char *card)
{
	struct ifreq ifr = { 0 };
	auto_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(ifr.ifr_name, card, IFNAMSIZ - 1);
	return fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && ifr.ifr_flags & IFF_UP;
}

struct joining {
	const char *bridge;
	bool lenient;
	char **switched_on, **note;
};

static int switch_on(const char *card, char **switched_on, struct err *e)
{
	char *longer = NULL;

	if (!link_is_on(card) && asprintf(&longer, "%s%s ", *switched_on ? *switched_on : "", card) >= 0) {
		free(*switched_on);
		*switched_on = longer;
	}
	return link_set_up(card, true, e);
}

static int uplink_join(const char *card, void *arg, struct err *e)
{
	struct joining *j = arg;
	struct err why = { 0 };
	int r;

	/* At a start of the daemon nobody is there to answer: without a card whose use has changed meanwhile the
	 * containers run all the same. */
	if (j->lenient && network_uplink_check(j->bridge, card, &why) < 0)
		return network_note_add(j->note, err_text(&why)) < 0 ? err_sys(e, -ENOMEM, "network %s", j->bridge) : 0;
	r = link_join_bridge(card, j->bridge, e);
	if (r == 0)
		r = switch_on(card, j->switched_on, e);
	return r < 0 ? err_context(e, r, "bridge.external_interfaces of network %s", j->bridge) : 0;
}

int uplinks_join(const char *bridge, const char *list, bool lenient, char **switched_on, char **note, struct err *e)
{
	struct joining j = { bridge, lenient, switched_on, note };

	return network_uplinks_each(list, uplink_join, &j, e);
}

#define CARRIER_WAIT_MS 3000

static int carrier_wait(const char *card, void *left_ms, struct err *e)
{
	(void)e;
	for (int *left = left_ms; *left > 0 && !link_reads(card, "carrier", "1"); *left -= 50)
		usleep(50000);
	return 0;
}

void uplinks_wait(const char *list)
{
	int left = CARRIER_WAIT_MS;

	network_uplinks_each(list, carrier_wait, &left, NULL);
}

struct leaving {
	const char *bridge, *stay;
};

static int is_same_card(const char *card, void *other, struct err *e)
{
	return strcmp(card, other) == 0 ? err_set(e, -EEXIST, "same") : 0;
}

static int uplink_leave(const char *card, void *arg, struct err *e)
{
	const struct leaving *l = arg;
	char master[IFNAMSIZ];

	if (network_uplinks_each(l->stay, is_same_card, (void *)card, NULL) == -EEXIST || !link_exists(card))
		return 0;
	uplink_master(card, master);
	if (strcmp(master, l->bridge) != 0)
		return 0;
	return link_leave_bridge(card, e);
}

int uplinks_leave(const char *bridge, const char *former, const char *stay, struct err *e)
{
	struct leaving l = { bridge, stay };

	return network_uplinks_each(former, uplink_leave, &l, e);
}
