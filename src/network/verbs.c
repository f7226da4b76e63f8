#include "network/verbs.h"

#include "base/mem.h"
#include "base/parse.h"
#include "db/db.h"
#include "network/bridge.h"

static int network_name(struct job *j, const char **ret, struct err *e)
{
	*ret = json_string_value(json_object_get(j->spec, "name"));
	return *ret ? 0 : err_set(e, -EINVAL, "the network's name is missing");
}

static enum bridge_why why_of(const struct job *j)
{
	const char *s = json_string_value(json_object_get(j->spec, "why"));

	return str_eq(s, "new") ? BRIDGE_NEW : str_eq(s, "changed") ? BRIDGE_CHANGED : BRIDGE_BOOT;
}

static int network_up_run(struct job *j, struct err *e)
{
	auto_free char *note = NULL;
	auto_db *db = NULL;
	const char *name;
	int r = network_name(j, &name, e);

	if (r == 0)
		r = db_open(j->state_dir, &db, e);
	if (r == 0)
		r = bridge_up(db, j->state_dir, name, why_of(j), json_object_get(j->spec, "former"), &note, e);
	if (r < 0)
		return r;
	return job_done_json(j, note ? json_pack("{s:s}", "note", note) : json_object());
}

static int network_down_run(struct job *j, struct err *e)
{
	auto_db *db = NULL;
	const char *name;
	int r = network_name(j, &name, e);

	if (r == 0)
		r = db_open(j->state_dir, &db, e);
	return r < 0 ? r : bridge_down(db, j->state_dir, name, e);
}

static const struct job_verb network_up = { .name = "network-up", .run = network_up_run };
static const struct job_verb network_down = { .name = "network-down", .run = network_down_run };

const struct job_verb *const network_verbs[] = { &network_up, &network_down };
const size_t network_verbs_n = array_len(network_verbs);
