/* The jobs that make, remove, start and stop instances.  One at a time per instance: each holds its lock. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "image_store/store.h"
#include "network/link.h"
#include "runtime/internal.h"
#include "runtime/lock.h"
#include "runtime/verbs.h"
#include "storage/folder.h"

#define STOP_TIMEOUT_DEFAULT 30

struct session {
	struct job *j;
	const char *name;
	struct db *db;
	int lock;
	struct container *c;
};

static void session_done(struct session *s)
{
	container_free(s->c);
	if (s->lock >= 0)
		instance_unlock(s->db, s->j->state_dir, s->name, &s->lock);
	db_free(s->db);
}

#define auto_session __attribute__((cleanup(session_done))) struct session

static int job_is_cancelled(void *arg)
{
	return job_cancelled(arg);
}

/* Opens what a job works on; the container only if wanted, its row has to be `own`. */
static int session_open(struct session *s, struct job *j, bool container, enum own own, struct err *e)
{
	json_t *row;
	int r;

	*s = (struct session){ .j = j, .lock = -1 };
	s->name = json_string_value(json_object_get(j->spec, "name"));
	if (!s->name || strchr(s->name, '/'))
		return err_set(e, -EINVAL, "the instance's name is missing");
	s->lock = instance_lock(j->state_dir, s->name, 0, e);
	if (s->lock < 0)
		return s->lock;
	r = db_open(j->state_dir, &s->db, e);
	if (r == 0)
		r = db_instance_get(s->db, s->name, &row, e);
	if (r < 0)
		return r;
	r = (int)json_integer_value(json_object_get(row, "own"));
	json_decref(row);
	if (r != (int)own)
		return err_set(e, -EBUSY, "instance %s is %s", s->name,
			       r == OWN_CREATING ? "being created" :
			       r == OWN_DELETING ? "being deleted" :
			       r == OWN_MINE	 ? "in use" :
						   "being moved; nothing can be done with it until that is over");
	if (!container)
		return 0;
	r = container_open(s->db, j->state_dir, s->name, &s->c, e);
	if (r == 0)
		container_set_cancel(s->c, job_is_cancelled, j);
	return r;
}

static int lifecycle(struct session *s, const char *action)
{
	char source[128];

	snprintf(source, sizeof(source), "/1.0/instances/%.63s", s->name);
	return job_lifecycle(s->j, action, source);
}

/* ------------------------------------------- create ------------------------------------------- */

static int unpack_progress(uint64_t done, uint64_t total, void *arg)
{
	struct job *j = arg;

	if (total)
		job_progress(j, "create_instance_from_image_unpack", "Unpacking: %llu%%",
			     (unsigned long long)(done * 100 / total));
	return job_cancelled(j);
}

static int hostname_write(struct container *c, struct err *e)
{
	auto_fd int root = open(c->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), etc = -1;
	auto_buf b = BUF_INIT;
	int r;

	if (root < 0)
		return err_sys(e, -errno, "%s", c->rootfs);
	etc = fd_open_in_root(root, "etc", O_RDONLY | O_DIRECTORY, 0);
	if (etc < 0)
		return 0; /* an image without /etc needs no name in it */
	r = buf_addf(&b, "%s\n", c->name);
	if (r == 0)
		r = fd_replace_file_at(etc, "hostname", b.data, b.len, 0644);
	if (r == 0 && fchownat(etc, "hostname", c->idmap_base, c->idmap_base, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "cannot write the host name") : 0;
}

/* The name server of the network, where the image brings none of its own. */
static int resolver_write(struct container *c, struct err *e)
{
	auto_fd int root = open(c->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), etc = -1;
	auto_buf b = BUF_INIT;
	struct stat st;
	uint32_t a = ntohl(c->nic.net.address);
	int r;

	if (root < 0)
		return err_sys(e, -errno, "%s", c->rootfs);
	etc = fd_open_in_root(root, "etc", O_RDONLY | O_DIRECTORY, 0);
	if (etc < 0 || !c->nic.there || !a)
		return 0;
	if (fstatat(etc, "resolv.conf", &st, AT_SYMLINK_NOFOLLOW) == 0 && (!S_ISREG(st.st_mode) || st.st_size))
		return 0;
	r = buf_addf(&b, "nameserver %u.%u.%u.%u\nsearch godwit\n", a >> 24, a >> 16 & 255, a >> 8 & 255,
		     a & 255);
	if (r == 0)
		r = fd_replace_file_at(etc, "resolv.conf", b.data, b.len, 0644);
	if (r == 0 && fchownat(etc, "resolv.conf", c->idmap_base, c->idmap_base, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "cannot write resolv.conf") : 0;
}

static int create_fill(struct session *s, struct err *e)
{
	const char *image = container_config_str(s->c, "volatile.base_image");
	auto_fd int sync_fd = -1;
	int r;

	if (!image)
		return err_set(e, -EINVAL, "instance %s has no image (volatile.base_image)", s->name);
	/* A volume left by a creation that died: this row is ours alone, so is what has its name. */
	r = volume_delete(s->c->pool, s->name, e);
	if (r == 0)
		r = volume_create(s->c->pool, s->name, s->c->idmap_base, e);
	if (r == 0)
		r = sync_fd = volume_sync_open(s->c->pool, s->name, e);
	if (r >= 0)
		r = image_unpack(s->j->state_dir, image, s->c->rootfs, s->c->idmap_base, s->c->idmap_size,
				 unpack_progress, s->j, e);
	if (r == 0)
		r = hostname_write(s->c, e);
	if (r == 0)
		r = resolver_write(s->c, e);
	/* Once it is said to be there it is there after a power failure too. */
	if (r == 0)
		r = volume_sync(s->c->pool, sync_fd, e);
	return r < 0 ? r : db_instance_set_own(s->db, s->name, OWN_CREATING, OWN_MINE, e);
}

static int instance_create_run(struct job *j, struct err *e)
{
	auto_session s;
	int r = session_open(&s, j, true, OWN_CREATING, e);

	if (r == 0)
		r = create_fill(&s, e);
	if (r == 0)
		return lifecycle(&s, "instance-created");
	/* Nothing of it stays, the row included. */
	if (s.c)
		volume_delete(s.c->pool, s.name, NULL);
	if (s.db && s.lock >= 0 && r != -EBUSY)
		db_instance_delete(s.db, s.name, NULL);
	return r;
}

/* ------------------------------------------- delete ------------------------------------------- */

int container_delete(struct container *c, struct err *e)
{
	auto_free char *lxc = NULL, *logs = NULL;
	int r = container_destroy_run(c, e);

	if (r == 0 && (asprintf(&lxc, "%s/%s", c->lxcpath, c->name) < 0 ||
		       asprintf(&logs, "%s/logs/%s", c->state_dir, c->name) < 0))
		r = err_sys(e, -ENOMEM, "instance %s", c->name);
	if (r == 0)
		r = volume_delete(c->pool, c->name, e);
	if (r == 0)
		r = folder_remove(c->run_dir, e);
	if (r == 0)
		r = folder_remove(lxc, e);
	if (r == 0)
		r = folder_remove(logs, e);
	if (r == 0)
		r = db_instance_delete(c->db, c->name, e);
	/* Its name may be answered for a while longer where this fails; the next start repairs it. */
	if (r == 0 && c->nic.there)
		bridge_hosts_refresh(c->db, c->state_dir, c->nic.network, NULL);
	if (r == 0)
		instance_lock_forget(c->db, c->state_dir, c->name);
	return r;
}

static int instance_delete_run(struct job *j, struct err *e)
{
	auto_session s;
	enum own own = OWN_MINE;
	int r;

	/* A deletion that was begun and died is taken up again. */
	r = session_open(&s, j, true, own, e);
	if (r == -EBUSY && s.db) {
		session_done(&s);
		own = OWN_DELETING;
		if (session_open(&s, j, true, own, NULL) < 0)
			return r;
		r = 0;
	}
	if (r < 0)
		return r;
	if (container_running(s.c))
		return err_set(e, -EBUSY, "instance %s is running; stop it first, or delete it with --force",
			       s.name);
	if (own == OWN_MINE)
		r = db_instance_set_own(s.db, s.name, OWN_MINE, OWN_DELETING, e);
	if (r == 0)
		r = container_delete(s.c, e);
	return r < 0 ? r : lifecycle(&s, "instance-deleted");
}

/* ----------------------------------------- start, stop ---------------------------------------- */

/* Addresses are given out again soon: neighbours may still know the one who had it before. */
static void announce(const struct container *c)
{
	const char *hw = container_hwaddr(c), *bridge = container_bridge(c);
	struct err why = { 0 };
	uint8_t mac[6];

	if (!bridge || !container_ipv4(c) || link_mac_parse(hw, mac) < 0)
		return;
	if (link_announce(bridge, mac, container_ipv4(c), NULL, &why) < 0)
		log_warn("%s: %s", container_name(c), err_text(&why));
}

/* What the user should know of a start that went well. */
static int note_report(struct session *s)
{
	const char *note = container_note(s->c);

	if (!note)
		return 0;
	log_warn("%s: %s", s->name, note);
	return job_done_json(s->j, json_pack("{s:o}", "note", json_sprintf("%s: %s", s->name, note)));
}

static int start(struct session *s, struct err *e)
{
	struct start_options o = { .mode = START_NORMAL };
	int r = container_start(s->c, &o, e);

	if (r == 0)
		announce(s->c);
	if (r == 0)
		r = db_instance_set_power(s->db, s->name, true, e);
	if (r == 0)
		r = db_instance_set_used(s->db, s->name, e);
	return r < 0 ? r : note_report(s);
}

static int stop(struct session *s, struct err *e)
{
	bool force = json_is_true(json_object_get(s->j->spec, "force"));
	const json_t *t = json_object_get(s->j->spec, "timeout");
	json_int_t timeout = json_is_integer(t) ? json_integer_value(t) : STOP_TIMEOUT_DEFAULT;

	if (timeout == 0)
		timeout = STOP_TIMEOUT_DEFAULT;
	if (timeout > 86400)
		timeout = 86400;
	return container_stop(s->c, force, (int)timeout, e);
}

static int instance_start_run(struct job *j, struct err *e)
{
	auto_session s;
	int r = session_open(&s, j, true, OWN_MINE, e);

	if (r == 0)
		r = start(&s, e);
	return r < 0 ? r : lifecycle(&s, "instance-started");
}

static int instance_stop_run(struct job *j, struct err *e)
{
	auto_session s;
	int r = session_open(&s, j, true, OWN_MINE, e);

	if (r == 0)
		r = stop(&s, e);
	if (r == 0)
		r = db_instance_set_power(s.db, s.name, false, e);
	return r < 0 ? r : lifecycle(&s, "instance-stopped");
}

static int instance_restart_run(struct job *j, struct err *e)
{
	auto_session s;
	int r = session_open(&s, j, true, OWN_MINE, e);

	if (r == 0)
		r = stop(&s, e);
	if (r == 0)
		r = start(&s, e);
	return r < 0 ? r : lifecycle(&s, "instance-restarted");
}

static const struct job_verb create_verb = { .name = "instance-create", .run = instance_create_run };
static const struct job_verb delete_verb = { .name = "instance-delete", .run = instance_delete_run };
static const struct job_verb start_verb = { .name = "instance-start", .run = instance_start_run };
static const struct job_verb stop_verb = { .name = "instance-stop", .run = instance_stop_run };
static const struct job_verb restart_verb = { .name = "instance-restart", .run = instance_restart_run };
static const struct job_verb exec_verb = { .name = "instance-exec", .run = instance_exec_run };

const struct job_verb *const runtime_verbs[] = { &create_verb, &delete_verb,  &start_verb,
						 &stop_verb,   &restart_verb, &exec_verb };
const size_t runtime_verbs_n = array_len(runtime_verbs);
