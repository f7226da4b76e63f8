#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/fd.h"
#include "cr/checkpoint.h"
#include "cr/dump.h"
#include "engine/action.h"
#include "engine/cgroup.h"
#include "engine/check.h"


static int check_feature(const char *name, struct err *e)
{
	const struct feature *f = feature_find(name);
	struct err why = { 0 };
	int r;

	if (strcmp(name, "list") == 0) {
		for (size_t i = 0; i < features_n; i++)
			printf("%s%s", i ? " " : "", features[i].name);
		printf("\n");
		return 0;
	}
	if (!f)
		return err_set(e, -EINVAL, "there is no feature '%s'; --feature list names them", name);
	r = f->probe(&why);
	if (r > 0)
		return 0;
	if (r == 0)
		return err_set(e, -EOPNOTSUPP, "this kernel has no %s", name);
	return err_set(e, -EOPNOTSUPP, "whether this kernel has %s cannot be found out%s%s: %s", name,
		       *f->caps ? " without " : "", f->caps, err_text(&why));
}

int action_check(const struct options *o, struct err *e)
{
	enum check_level level = o->all || o->experimental ? CHECK_EXPERIMENTAL : o->extra ? CHECK_EXTRA : CHECK_NEEDED;
	auto_buf table = BUF_INIT;
	int r;

	if (o->feature)
		return check_feature(o->feature, e);
	r = check_kernel(level, &table, e);
	fputs(table.data ? table.data : "", stdout);
	if (r == 0)
		printf("Looks good.\n");
	return r;
}

/* Whether the process is the first of a pid namespace other than ours: a container, which has a cgroup of its own. */
static bool is_container(pid_t pid)
{
	char path[40];
	auto_free char *text = NULL;
	const char *line, *end;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fd_read_file_at(AT_FDCWD, path, 1u << 16, &text, NULL) < 0 || !(line = strstr(text, "\nNSpid:")))
		return false;
	end = strchrnul(line + 1, '\n');
	return end - line > 3 && end[-1] == '1' && end[-2] == '\t' && strchr(line, '\t') != end - 2;
}

static int tree_check(const struct options *o, struct refusals *rf, struct err *e)
{
	struct dump_subject s = { .pid = o->cr.pid };
	auto_free char *found = NULL;
	int r;

	/* A container as godwitd moves it: frozen by its cgroup, if it has to be.  Another tree shares its cgroup with
	 * whoever asks. */
	if (!o->cgroup && !is_container(o->cr.pid))
		return checkpoint_check(&o->cr, rf, e);
	r = o->cgroup ? 0 : cgroup_of_process(o->cr.pid, &found, e);
	s.cgroup = o->cgroup ? o->cgroup : found;
	return r < 0 ? r : dump_check(&s, rf, e);
}

int action_check_tree(const struct options *o, struct err *e)
{
	struct refusals rf = REFUSALS_INIT;
	auto_free char *text = NULL;
	size_t n;
	int r = tree_check(o, &rf, e);

	n = rf.n;
	if (r >= 0 || n)
		text = o->json ? refusals_json(&rf) : refusals_text(&rf);
	refusals_done(&rf);
	if (r < 0 && !n)
		return r;
	if (!text)
		return err_sys(e, -ENOMEM, "saying what stands against a dump");
	printf("%s%s", text, o->json ? "\n" : "");
	return n ? err_set(e, -EOPNOTSUPP, "%zu thing%s cannot be carried", n, n == 1 ? "" : "s") : 0;
}
