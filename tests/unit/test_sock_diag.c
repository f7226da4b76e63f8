/* sock_diag: the parsers on good and damaged messages, and the lists of our own namespace. */
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/sock_diag.h"

struct packet {
	_Alignas(4) char data[512];
	size_t len;
};

static void add(struct packet *p, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)(p->data + p->len);

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	p->len += RTA_SPACE(len);
}

static struct packet unix_packet(void)
{
	struct unix_diag_msg m = { .udiag_family = AF_UNIX, .udiag_type = SOCK_STREAM, .udiag_state = 10,
				   .udiag_ino = 77 };
	struct packet p = { .len = NLMSG_ALIGN(sizeof(m)) };
	uint32_t icons[] = { 5, 0, 9 }, peer = 78;
	struct unix_diag_rqlen q = { 3, 128 };

	memcpy(p.data, &m, sizeof(m));
	add(&p, UNIX_DIAG_NAME, "\0abc", 4);
	add(&p, UNIX_DIAG_PEER, &peer, 4);
	add(&p, UNIX_DIAG_ICONS, icons, sizeof(icons));
	add(&p, UNIX_DIAG_RQLEN, &q, sizeof(q));
	add(&p, UNIX_DIAG_SHUTDOWN, "\2", 1);
	return p;
}

static void unix_good(void **state)
{
	struct packet p = unix_packet();
	struct udiag_sock s;

	assert_int_equal(udiag_parse(p.data, p.len, &s), 0);
	assert_int_equal(s.ino, 77);
	assert_int_equal(s.state, 10);
	assert_int_equal(s.name_len, 4);
	assert_memory_equal(s.name, "\0abc", 4);
	assert_true(s.has_peer);
	assert_int_equal(s.peer, 78);
	assert_int_equal(s.n_icons, 3);
	assert_int_equal(s.icons[2], 9);
	assert_int_equal(s.rqueue, 3);
	assert_int_equal(s.wqueue, 128);
	assert_int_equal(s.shutdown, 2);
	free(s.icons);
}

/* Every length, and every attribute's length changed: never more read than is there (ASan watches). */
static void unix_damaged(void **state)
{
	struct packet p = unix_packet();

	for (size_t len = 0; len <= p.len; len++) {
		char *copy = malloc(len ? len : 1);
		struct udiag_sock s = { 0 };

		memcpy(copy, p.data, len);
		if (udiag_parse(copy, len, &s) == 0)
			free(s.icons);
		free(copy);
	}
	for (size_t at = NLMSG_ALIGN(sizeof(struct unix_diag_msg)); at + 1 < p.len; at++) {
		for (int v = 0; v < 256; v += 5) {
			char *copy = malloc(p.len);
			struct udiag_sock s = { 0 };

			memcpy(copy, p.data, p.len);
			copy[at] = (char)v;
			if (udiag_parse(copy, p.len, &s) == 0)
				free(s.icons);
			free(copy);
		}
	}
}

static void unix_name_too_long(void **state)
{
	struct unix_diag_msg m = { .udiag_family = AF_UNIX };
	struct packet p = { .len = NLMSG_ALIGN(sizeof(m)) };
	struct udiag_sock s;
	char name[200] = { 0 };

	memcpy(p.data, &m, sizeof(m));
	add(&p, UNIX_DIAG_NAME, name, sizeof(name));
	assert_int_equal(udiag_parse(p.data, p.len, &s), -EPROTO);
}

static void inet_good_and_short(void **state)
{
	struct inet_diag_msg m = { .idiag_family = AF_INET, .idiag_state = 1, .idiag_inode = 99,
				   .idiag_rqueue = 4, .idiag_wqueue = 6 };
	struct packet p = { .len = NLMSG_ALIGN(sizeof(m)) };
	struct idiag_sock s;

	m.id.idiag_sport = htons(80);
	m.id.idiag_dport = htons(40000);
	memcpy(p.data, &m, sizeof(m));
	add(&p, INET_DIAG_SHUTDOWN, "\1", 1);
	add(&p, INET_DIAG_MD5SIG, "", 0);
	assert_int_equal(idiag_parse(p.data, p.len, &s), 0);
	assert_int_equal(s.ino, 99);
	assert_int_equal(s.sport, 80);
	assert_int_equal(s.dport, 40000);
	assert_int_equal(s.shutdown, 1);
	assert_true(s.md5);
	assert_int_equal(idiag_parse(p.data, sizeof(m) - 8, &s), -EPROTO);
}

static int diag_here(void)
{
	int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd;

	assert_true(ns >= 0);
	fd = sock_diag_open(ns);
	close(ns);
	return fd;
}

static uint32_t ino_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint32_t)st.st_ino;
}

static void own_unix(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const struct udiag_sock *u, *l;
	struct udiag *list = NULL;
	int diag = diag_here(), pair[2], ls, c;
	socklen_t len = sizeof(sa);

	if (diag == -EPERM)
		skip(); /* entering even one's own namespace needs root */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(write(pair[0], "xyz", 3), 3);
	ls = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(ls, (struct sockaddr *)&sa, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(ls, 4), 0);
	assert_int_equal(getsockname(ls, (struct sockaddr *)&sa, &len), 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(udiag_read(diag, &list, NULL), 0);
	u = udiag_find(list, ino_of(pair[1]));
	assert_non_null(u);
	assert_int_equal(u->peer, ino_of(pair[0]));
	assert_int_equal(u->rqueue, 3);
	l = udiag_listener_of(list, ino_of(c));
	assert_non_null(l);
	assert_int_equal(l->ino, ino_of(ls));
	assert_int_equal(l->wqueue, 4);
	assert_int_equal(l->name_len, len - sizeof(sa_family_t));
	assert_null(udiag_find(list, 0));
	udiag_free(list);
	close(pair[0]);
	close(pair[1]);
	close(ls);
	close(c);
	close(diag);
}

static void own_tcp(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct idiag_sock *s;
	struct idiag *list = NULL;
	int diag = diag_here(), ls = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(sa);

	if (diag == -EPERM)
		skip();
	assert_int_equal(bind(ls, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(ls, 4), 0);
	assert_int_equal(getsockname(ls, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(idiag_read(diag, AF_INET, IPPROTO_TCP, 1u << 10, &list, NULL), 0);
	s = idiag_find(list, ino_of(ls));
	assert_non_null(s);
	assert_int_equal(s->sport, ntohs(sa.sin_port));
	for (size_t i = 0; i < idiag_count(list); i++)
		assert_int_equal(idiag_at(list, i)->state, 10);
	idiag_free(list);
	close(ls);
	close(diag);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unix_good),	      cmocka_unit_test(unix_damaged),
		cmocka_unit_test(unix_name_too_long), cmocka_unit_test(inet_good_and_short),
		cmocka_unit_test(own_unix),	      cmocka_unit_test(own_tcp),
	};

	return cmocka_run_group_tests_name("sock_diag", tests, NULL, NULL);
}
