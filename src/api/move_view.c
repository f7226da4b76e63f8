/* What the API says of an instance that moves, beside LXD's status: the object "migration". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/instance.h"
#include "api/move.h"
#include "base/parse.h"

/* The other host as a person knows it: the client's word for it, else its address. */
static char *peer_name(const json_t *mig)
{
	const char *destination = body_str(json_object_get(mig, "data"), "destination", "");
	const char *url = body_str(mig, "peer", "");
	size_t n = strcspn(destination, ":");

	if (n)
		return strndup(destination, n);
	if (!str_starts(url, "https://"))
		return strdup("the other host");
	url += strlen("https://");
	return strndup(url, strcspn(url, "/"));
}

static json_t *view(const char *state, const char *id, const char *peer, json_t *text)
{
	return json_pack("{s:s, s:s, s:s, s:o}", "state", state, "id", id, "peer", peer, "text", text);
}

static json_t *source_view(struct api *a, const json_t *mig, bool live, const char *peer)
{
	const char *id = body_str(mig, "id", ""), *state = body_str(mig, "state", "");

	if (strcmp(state, "offered") == 0)
		return view("moving", id, peer,
			    json_sprintf("it is being sent to %s and %s here until all of it is there", peer,
					 live ? "runs" : "stays"));
	if (strcmp(state, "frozen") == 0)
		return view("moving", id, peer, json_sprintf("it stands still while the last of it is sent to %s", peer));
	if (move_worked_on(a, id))
		return view("moving", id, peer, json_sprintf("it has been handed over to %s, which takes it over now", peer));
	return view("in doubt", id, peer,
		    json_sprintf("it was handed over to %s, which has not said yet that it has it. The copy here stays "
				 "frozen until the daemon of %s is heard of: when both run and reach each other, "
				 "they settle it without further ado", peer, peer));
}

static json_t *target_view(const json_t *mig, const char *peer)
{
	const char *id = body_str(mig, "id", ""), *state = body_str(mig, "state", "");

	if (strcmp(state, "preparing") == 0)
		return view("arriving", id, peer, json_sprintf("it is on its way from %s, where it still is", peer));
	if (strcmp(state, "ready") == 0)
		return view("arriving", id, peer, json_sprintf("all of it is here, and waits for the word of %s", peer));
	if (strcmp(state, "mine") == 0)
		return view("arrived", id, peer,
			    json_sprintf("it is here; %s, which keeps a frozen copy until it hears that, is told again and "
					 "again", peer));
	return view("aborted", id, peer, json_sprintf("its move from %s has failed; what came of it is removed", peer));
}

json_t *move_view(struct api *a, const json_t *row, bool *ret_live)
{
	auto_free char *peer = NULL;
	auto_json *mig = NULL;

	if (db_migration_of(a->db, body_str(row, "name", ""), &mig, NULL) < 0)
		return NULL;
	peer = peer_name(mig);
	*ret_live = json_is_true(json_object_get(json_object_get(mig, "data"), "live"));
	if (!peer)
		return NULL;
	return strcmp(body_str(mig, "role", ""), "source") == 0 ? source_view(a, mig, *ret_live, peer) :
								  target_view(mig, peer);
}
