#include "migrate/side.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "network/link.h"
#include "runtime/lock.h"
#include "storage/storage.h"

#define LOCK_WAIT_MS 5000

static int lock_path(const char *state_dir, const char *id, const char *role, char **ret)
{
	return asprintf(ret, "%s/migrations/%s.%s.lock", state_dir, id, role) < 0 ? -ENOMEM : 0;
}

int side_lock(const char *state_dir, const char *id, const char *role, int wait_ms, struct err *e)
{
	auto_free char *path = NULL, *dir = NULL;
	int fd;

	if (strchr(id, '/') || id[0] == '.' || lock_path(state_dir, id, role, &path) < 0 ||
	    asprintf(&dir, "%s/migrations", state_dir) < 0)
		return err_set(e, -EINVAL, "\"%s\" is no id of a migration", id);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "cannot make %s", dir);
	fd = fd_lock_file(path, wait_ms);
	if (fd == -EWOULDBLOCK)
		return err_set(e, -EBUSY, "another process works on this migration");
	return fd < 0 ? err_sys(e, fd, "cannot lock %s", path) : fd;
}

void side_unlock_forget(const char *state_dir, const char *id, const char *role)
{
	auto_free char *path = NULL, *pin = NULL;

	if (lock_path(state_dir, id, role, &path) == 0)
		unlink(path);
	/* The target's copy of the source's certificate, where a process that died has left it. */
	if (strcmp(role, "target") == 0 && asprintf(&pin, "%s/migrations/%s.pin", state_dir, id) >= 0)
		unlink(pin);
}

/* ------------------------------------------- source -------------------------------------------- */

static void engine_recover(struct session *s, struct container *c)
{
	char pid[16];
	const char *args[] = { "recover", "--tree", pid, "--cgroup", container_cgroup(c), NULL };
	struct err e = { 0 };
	int status;

	snprintf(pid, sizeof(pid), "%d", (int)container_init_pid(c));
	if (session_engine_run(s, args, NULL, &status, &e) < 0)
		log_warn("recover of %s: %s", s->name, err_text(&e));
}

static int run_on(struct session *s, struct container *c, struct err *e)
{
	const char *link = container_host_link(c);
	int r;

	if (container_init_pid(c) <= 0)
		return 0;
	engine_recover(s, c);
	if (link && link_exists(link)) {
		r = link_port_set(link, true, e);
		if (r < 0)
			return r;
	}
	return container_thaw(c, e);
}

int source_roll_back(struct session *s, struct err *e)
{
	struct container *c = NULL;
	int r;

	session_engine_kill(s);
	session_child_kill(s);
	r = container_open(s->db, s->job->state_dir, s->name, &c, e);
	if (r < 0)
		return r;
	r = run_on(s, c, e);
	container_free(c);
	if (r < 0)
		return r;
	r = db_instance_set_own(s->db, s->name, OWN_OUTGOING, OWN_MINE, e);
	if (r < 0 && r != -EBUSY)
		return r;
	r = db_migration_delete(s->db, s->id, "source", e);
	if (r == -ENOENT)
		r = 0;
	side_unlock_forget(s->job->state_dir, s->id, "source");
	return r;
}

int source_take_back(struct session *s, struct err *e)
{
	struct container *c = NULL;
	int r;

	/* The row first: from here on it is ours whatever happens. */
	r = db_migration_commit(s->db, s->id, "source", ST_HANDED, ST_OFFERED, s->name, OWN_HANDED, OWN_MINE, e);
	if (r < 0)
		return r;
	r = container_open(s->db, s->job->state_dir, s->name, &c, e);
	if (r < 0)
		return r;
	r = run_on(s, c, e);
	container_free(c);
	if (r < 0)
		return r;
	r = db_migration_delete(s->db, s->id, "source", e);
	side_unlock_forget(s->job->state_dir, s->id, "source");
	return r == -ENOENT ? 0 : r;
}

int source_release(struct session *s, struct err *e)
{
	struct container *c = NULL;
	const char *link;
	int r;

	r = container_open(s->db, s->job->state_dir, s->name, &c, e);
	if (r == -ENOENT)
		goto row;
	if (r < 0)
		return r;
	/* The link first: processes that end would send FIN or RST to peers that now talk to the target. */
	link = container_host_link(c);
	r = link ? link_delete(link, e) : 0;
	if (r == 0)
		r = container_delete(c, e);
	container_free(c);
	if (r < 0 && r != -ENOENT)
		return r;
row:
	r = db_migration_delete(s->db, s->id, "source", e);
	side_unlock_forget(s->job->state_dir, s->id, "source");
	return r == -ENOENT ? 0 : r;
}

/* ------------------------------------------- target -------------------------------------------- */

int target_abort(struct session *s, bool keep_row, struct err *e)
{
	struct container *c = NULL;
	json_t *row = NULL;
	int r;

	session_engine_kill(s);
	session_child_kill(s);
	/* Written before anything is removed: from now on the answer to the source is "never". */
	r = db_migration_set(s->db, s->id, "target", NULL, ST_ABORTED, NULL, e);
	if (r < 0 && r != -ENOENT)
		return r;
	r = db_instance_get(s->db, s->name, &row, e);
	if (r == 0 && json_integer_value(json_object_get(row, "own")) == OWN_INCOMING) {
		r = container_open(s->db, s->job->state_dir, s->name, &c, e);
		if (r == 0)
			r = container_delete(c, e);
		container_free(c);
	}
	json_decref(row);
	if (r < 0 && r != -ENOENT)
		return r;
	if (keep_row)
		return 0;
	r = db_migration_delete(s->db, s->id, "target", e);
	side_unlock_forget(s->job->state_dir, s->id, "target");
	return r == -ENOENT ? 0 : r;
}

/* It died with this host after it had become ours: an ordinary start after a power failure. */
static int start_anew(struct session *s, struct container *c, struct err *e)
{
	struct start_options o = { .mode = START_NORMAL };
	int r = db_instance_set_power(s->db, s->name, true, e);

	return r < 0 ? r : container_start(c, &o, e);
}

static int join_and_thaw(struct session *s, struct container *c, struct err *e)
{
	const char *link = container_host_link(c), *bridge = container_bridge(c);
	uint8_t mac[6];
	int r = 0;

	if (link && bridge)
		r = link_join_bridge(link, bridge, e);
	if (r == 0 && link && bridge && link_mac_parse(container_hwaddr(c), mac) == 0 &&
	    link_teach(link, mac, &(struct err){ 0 }) < 0)
		log_warn("%s: the bridge was not told where it is", s->name);
	if (r == 0)
		r = container_thaw(c, e);
	if (r == 0 && link && bridge && link_mac_parse(container_hwaddr(c), mac) == 0 &&
	    link_announce(bridge, mac, container_ipv4(c), NULL, e) < 0)
		log_warn("%s: %s", s->name, err_text(e));
	if (r == 0)
		r = container_wait_over(c, e);
	return r < 0 ? r : db_instance_set_power(s->db, s->name, true, e);
}

/* Whose lock we hold, so that nobody starts, stops or gives it away meanwhile. */
static int go_locked(struct session *s, struct err *e)
{
	struct container *c = NULL;
	json_t *row;
	int own, r = db_instance_get(s->db, s->name, &row, e);

	/* Deleted before it could go on: it was ours, and there is nothing more to do. */
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	own = (int)json_integer_value(json_object_get(row, "own"));
	json_decref(row);
	if (own != OWN_MINE)
		return err_set(e, -EBUSY, "%s is being moved or deleted already", s->name);
	r = container_open(s->db, s->job->state_dir, s->name, &c, e);
	if (r == 0)
		r = container_running(c) ? join_and_thaw(s, c, e) : start_anew(s, c, e);
	container_free(c);
	return r;
}

int target_go(struct session *s, struct err *e)
{
	int lock = instance_lock(s->job->state_dir, s->name, LOCK_WAIT_MS, e), r;

	if (lock < 0)
		return lock;
	r = go_locked(s, e);
	instance_unlock(s->db, s->job->state_dir, s->name, &lock);
	return r;
}

int target_address(const char *operation_url, char **ret, struct err *e)
{
	const char *p = operation_url, *end;

	if (!p || strncmp(p, "https://", 8) != 0)
		return err_set(e, -EINVAL, "the source's operation is no https:// address");
	p += 8;
	end = strchr(p, '/');
	if (!end || end == p || end - p > 300)
		return err_set(e, -EINVAL, "the source's operation is no https:// address");
	*ret = strndup(p, (size_t)(end - p));
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int pin_write(struct session *s, const char *pem, char **ret_path, struct err *e)
{
	int r;

	if (asprintf(ret_path, "%s/migrations/%s.pin", s->job->state_dir, s->id) < 0) {
		*ret_path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = fd_replace_file_at(AT_FDCWD, *ret_path, pem, strlen(pem), 0600);
	return r < 0 ? err_sys(e, r, "cannot write %s", *ret_path) : 0;
}

int target_tell(struct session *s, const char *state, struct err *e)
{
	auto_free char *address = NULL, *pin = NULL;
	json_t *row = NULL;
	int fd, r;

	r = db_migration_get(s->db, s->id, "target", &row, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = target_address(json_string_value(json_object_get(row, "peer")), &address, e);
	if (r == 0)
		r = pin_write(s, json_string_value(json_object_get(row, "peer_certificate")) ?: "", &pin, e);
	control_close(&s->ctl);
	if (r == 0)
		r = session_dial(s, address, pin, "control",
				 json_string_value(json_object_get(row, "secret")) ?: "", &fd, e);
	json_decref(row);
	if (pin)
		unlink(pin);
	if (r == -ENOENT) {
		/* The source knows nothing of it any more: it has done what was to be done. */
		r = 0;
	} else if (r < 0) {
		return err_context(e, -EAGAIN, "the source was not reached");
	} else {
		r = control_open(&s->ctl, fd, e);
		if (r == 0)
			r = control_send(&s->ctl, "state", json_pack("{s:s}", "state", state), e);
		if (r == 0)
			r = session_expect(s, "resolved", 60000, NULL, e);
		control_close(&s->ctl);
		if (r < 0)
			return err_context(e, -EAGAIN, "the source has not answered");
	}
	r = db_migration_delete(s->db, s->id, "target", e);
	side_unlock_forget(s->job->state_dir, s->id, "target");
	return r == -ENOENT ? 0 : r;
}
