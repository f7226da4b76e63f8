#include "migrate/offer.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/parse.h"
#include "runtime/expand.h"
#include "storage/storage.h"

/* The extended states the kernel lets programs use (XCR0); 0 where there is no XSAVE. */
static uint64_t cpu_xcr0(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (uint64_t)d << 32 | a;
}

static int reason_add(json_t *reasons, const char *text)
{
	return json_array_append_new(reasons, json_string(text)) < 0 ? -ENOMEM : 0;
}

static int engine_reasons(struct session *s, pid_t init, json_t *reasons, struct err *e)
{
	auto_free char *out = NULL;
	char pid[16], *line, *save = NULL;
	const char *args[] = { "check", "--tree", pid, NULL };
	int status, r;

	snprintf(pid, sizeof(pid), "%d", (int)init);
	r = session_engine_run(s, args, &out, &status, e);
	if (r < 0)
		return r;
	if (status == 0)
		return 0;
	for (line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (reason_add(reasons, line) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	if (json_array_size(reasons) == 0)
		return err_set(e, -EIO, "the engine's check failed (status %d)", status);
	return 0;
}

int offer_make(struct session *s, struct container *c, const json_t *row, json_t **ret, struct err *e)
{
	json_t *reasons = json_array(), *own = json_object(), *o;
	static const char *const keys[] = { "architecture", "config", "devices", "profiles", "description",
					    "ephemeral", "power" };
	pid_t init = container_init_pid(c);
	uint64_t bytes = 0, files = 0;
	uint32_t base, size;
	struct utsname u;
	int r;

	for (size_t i = 0; i < array_len(keys); i++)
		json_object_set(own, keys[i], json_object_get(row, keys[i]));
	container_idmap(c, &base, &size);
	uname(&u);
	r = volume_usage(container_pool(c), s->name, &bytes, &files, e);
	if (r == 0 && init > 0)
		r = engine_reasons(s, init, reasons, e);
	o = json_pack("{s:i, s:s, s:b, s:o, s:I, s:b, s:I, s:I, s:s, s:I, s:o}", "version", OFFER_VERSION, "name",
		      s->name, "live", init > 0, "row", own, "idmap_size", (json_int_t)size, "privileged",
		      container_privileged(c), "bytes", (json_int_t)bytes, "files", (json_int_t)files, "kernel",
		      u.release, "xcr0", (json_int_t)cpu_xcr0(), "reasons", reasons);
	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	if (r < 0) {
		json_decref(o);
		return r;
	}
	*ret = o;
	return 0;
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(o, key));

	return v < 0 ? 0 : (uint64_t)v;
}

static int check_row(struct session *s, const json_t *offer, const char *name, json_t *reasons, struct err *e)
{
	const json_t *row = json_object_get(offer, "row");
	json_t *there = NULL, *config = NULL, *devices = NULL;
	struct err e2 = { 0 };
	int r;

	r = db_instance_get(s->db, name, &there, &e2);
	json_decref(there);
	if (r == 0) {
		char text[256];

		snprintf(text, sizeof(text), "there is already an instance \"%s\" at the target; give the moved "
			 "one another name (HOST:NAME)", name);
		if (reason_add(reasons, text) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	} else if (r != -ENOENT) {
		*e = e2;
		return r;
	}
	/* Profiles that are missing here show up when they are applied. */
	r = instance_expand(s->db, row, &config, &devices, &e2);
	if (r < 0)
		return reason_add(reasons, err_text(&e2)) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	const char *key;
	json_t *d;

	json_object_foreach(devices, key, d) {
		const char *network = json_string_value(json_object_get(d, "network"));
		json_t *net = NULL;

		if (network && db_network_get(s->db, network, &net, &e2) < 0)
			reason_add(reasons, err_text(&e2));
		json_decref(net);
	}
	json_decref(config);
	json_decref(devices);
	return 0;
}

int offer_check(struct session *s, const json_t *offer, const char *name, const char *pool, json_t *reasons,
		struct err *e)
{
	struct err e2 = { 0 };
	struct pool *p = NULL;
	struct utsname u;
	const char *kernel = json_string_value(json_object_get(offer, "kernel"));
	json_t *theirs = json_object_get(offer, "reasons"), *t;
	size_t i;
	int r;

	if (number(offer, "version") != OFFER_VERSION || !json_is_object(json_object_get(offer, "row")))
		return err_set(e, -EPROTO, "the other host speaks another version of the migration protocol");
	json_array_foreach(theirs, i, t)
		json_array_append(reasons, t);
	r = check_row(s, offer, name, reasons, e);
	if (r < 0)
		return r;
	r = pool_open(s->db, s->job->state_dir, pool, &p, &e2);
	if (r == 0)
		r = pool_check_space(p, number(offer, "bytes"), number(offer, "files"), &e2);
	pool_free(p);
	if (r < 0)
		reason_add(reasons, err_text(&e2));
	if (!json_is_true(json_object_get(offer, "live")))
		return 0;
	if (number(offer, "xcr0") & ~cpu_xcr0())
		reason_add(reasons, "the target's processor lacks register state that the source's has (XCR0), "
				    "so running programs could break; move the container stopped");
	uname(&u);
	if (kernel && strcmp(kernel, u.release) != 0)
		job_progress(s->job, "note", "kernels differ: %s here, %s at the source", u.release, kernel);
	return 0;
}

char *offer_reasons_text(const json_t *reasons)
{
	auto_buf b = BUF_INIT;
	const json_t *t;
	size_t i;

	json_array_foreach(reasons, i, t)
		buf_addf(&b, "%s%s", i ? "\n" : "", json_string_value(t) ?: "?");
	return buf_take(&b);
}

json_t *offer_row(const json_t *offer, const char *name, const char *pool)
{
	json_t *row = json_deep_copy(json_object_get(offer, "row"));
	json_t *config = json_object_get(row, "config");

	json_object_set_new(row, "name", json_string(name));
	json_object_set_new(row, "pool", json_string(pool));
	/* The host's end of the veth is the host's own. */
	json_object_del(config, "volatile.eth0.host_name");
	json_object_set_new(row, "power", json_string("off"));
	return row;
}
