/* uts - host name and domain name.
 *
 * Read: uname(2) by the init's agent.  Put back: sethostname, setdomainname by the engine, which
 * stands in the namespace, where they differ.  Nothing else belongs to it. */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/mem.h"
#include "cr/cr.h"
#include "cr/ns/ns.h"
#include "utsns.pb-c.h"

static int inside(struct dump *d, struct task *t, struct err *e)
{
	struct utsname *u;
	struct aprog *p;
	struct aarg out;
	int r;

	if (t != d->tasks[0])
		return 0;
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "host name");
	out = aprog_out(p, sizeof(*u));
	APROG_CALL(p, 0, SYS_uname, out);
	r = agent_run(t->threads[0].agent, p, e);
	if (r >= 0) {
		u = malloc(sizeof(*u));
		if (u)
			memcpy(u, aprog_out_data(p, out), sizeof(*u));
		else
			r = err_sys(e, -ENOMEM, "host name");
		free(d->part_data[NS_DATA_UTS]);
		d->part_data[NS_DATA_UTS] = u;
	}
	aprog_free(p);
	return r;
}

static int frozen(struct dump *d, struct err *e)
{
	struct utsname *u = d->part_data[NS_DATA_UTS];
	UtsnsEntry m = UTSNS_ENTRY__INIT;

	if (!u)
		return err_set(e, -EINVAL, "the host name was not read");
	m.nodename = u->nodename;
	m.domainname = u->domainname;
	return sink_put(d->sink, REC_UTSNS, 0, &m.base, e);
}

static void done(struct dump *d)
{
	free(d->part_data[NS_DATA_UTS]);
	d->part_data[NS_DATA_UTS] = NULL;
}

static int build(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_UTSNS, REC_ANY, NULL);
	const UtsnsEntry *m;
	struct utsname now;

	if (!rec)
		return 0;
	m = (const UtsnsEntry *)rec->msg;
	if (strlen(m->nodename) > 64 || strlen(m->domainname) > 64)
		return err_set(e, -EPROTO, "the image has an impossible host name");
	if (uname(&now) < 0)
		return err_sys(e, -errno, "uname");
	if (strcmp(now.nodename, m->nodename) != 0 &&
	    sethostname(m->nodename, strlen(m->nodename)) < 0)
		return err_sys(e, -errno, "setting the host name");
	if (strcmp(now.domainname, m->domainname) != 0 &&
	    setdomainname(m->domainname, strlen(m->domainname)) < 0)
		return err_sys(e, -errno, "setting the domain name");
	return 0;
}

const struct cr_part cr_part_uts = {
	.name = "host name", .ns = CLONE_NEWUTS, .inside = inside, .frozen = frozen, .done = done, .build = build
};
