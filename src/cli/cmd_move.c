/* move: the source offers, the target pulls; we only bring them together and tell what became of it.
 *
 * Of the operations' metadata this reads: X_progress (shown while it runs), and at the end, in the
 * object "move" of either side, pause_us and its parts (the table below), bytes (memory and state),
 * disk_bytes; and notes [sentence], e.g. what a dry run wants to say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/table.h"
#include "cli/target.h"

struct move {
	struct target from, to;
	bool dry_run, quiet, live;
	enum table_format format;
	json_t *row, *server; /* of the source */
	json_t *source_op, *target_op;
	int interrupts;  /* so many are answered */
	bool cancelling; /* both were asked to end it, and the source has agreed */
};

static void move_done(struct move *m)
{
	target_done(&m->from);
	target_done(&m->to);
	json_decref(m->row);
	json_decref(m->server);
	json_decref(m->source_op);
	json_decref(m->target_op);
}

/* What the target is asked to make: all of the source's own settings, its volatile ones too, since the
 * address and the MAC belong to the container. */
static json_t *target_body(const struct move *m, const char *address)
{
	auto_free char *url = NULL;
	json_t *config = json_object_get(m->row, "config"), *body;

	if (asprintf(&url, "%s/1.0/operations/%s", address, json_str(m->source_op, "id")) < 0)
		return NULL;
	body = json_pack("{s:s, s:s, s:s, s:s, s:O?, s:O?, s:O?, s:b, s:b}", "name", m->to.name, "type", "container",
			 "architecture", json_str(m->row, "architecture"), "description",
			 json_str(m->row, "description"), "config", config, "devices", json_object_get(m->row, "devices"),
			 "profiles", json_object_get(m->row, "profiles"), "ephemeral", json_flag(m->row, "ephemeral"),
			 "stateful", json_flag(m->row, "stateful"));
	json_object_set_new(body, "source",
			    json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:b, s:b, s:b}", "type", "migration", "mode", "pull",
				      "operation", url, "certificate",
				      json_str(json_object_get(m->server, "environment"), "certificate"), "base-image",
				      json_str(config, "volatile.base_image"), "secrets",
				      json_object_get(m->source_op, "metadata"), "live", m->live, "move", 1, "dry_run",
				      m->dry_run));
	return body;
}

static int offer(struct move *m, struct err *e)
{
	int r = remote_call(m->from.remote, "GET", NULL, &m->server, e, "/1.0");

	if (r >= 0)
		r = remote_call(m->from.remote, "GET", NULL, &m->row, e, "/1.0/instances/%s", m->from.name);
	if (r < 0)
		return r;
	m->live = str_eq(json_str(m->row, "status"), "Running");
	return remote_start(m->from.remote, "POST",
			    json_pack("{s:s, s:b, s:b, s:b, s:b, s:o}", "name", m->to.name, "migration", 1, "live", m->live,
				      "move", 1, "dry_run", m->dry_run, "destination",
				      json_sprintf("%s:%s", remote_name(m->to.remote), m->to.name)),
			    &m->source_op, e, "/1.0/instances/%s", m->from.name);
}

/* Where the target reaches the source: the address we reach it by, else one the source listens on. */
static const char *source_address(const struct move *m, struct err *e)
{
	static char url[300];
	const char *addr = remote_addr(m->from.remote), *said;

	if (str_starts(addr, "https://"))
		return addr;
	said = json_string_value(json_array_get(
		json_object_get(json_object_get(m->server, "environment"), "addresses"), 0));
	if (!said) {
		err_set(e, -ENOTCONN, "this host listens on no address that the other could reach it by: "
			"`godwit config set core.https_address=HOST:8443`");
		return NULL;
	}
	snprintf(url, sizeof(url), "https://%s", said);
	return url;
}

/* ------------------------------------------- waiting ------------------------------------------- */

static bool is_final(const json_t *op)
{
	return json_int(op, "status_code", 0) >= 200;
}

static int cancel(struct remote *remote, const json_t *op, struct err *e)
{
	return remote_cancel(remote, json_str(op, "id"), e);
}

static void too_late(struct move *m)
{
	m->cancelling = false;
	progress_clear();
	fprintf(stderr, "It is too late to cancel: %s takes %s over. Waiting for the end; ^C again leaves without it.\n",
		remote_name(m->to.remote), m->to.name);
}

/* The source is asked first, since it knows whether the container is its own still: after COMMIT it declines, and
 * then the target is not asked.  Where the source knows nothing or cannot be reached, the target decides. */
static int on_interrupt(struct move *m, struct err *e)
{
	bool again = m->interrupts > 0;
	int r;

	if (interrupt_count() == m->interrupts)
		return 0;
	m->interrupts = interrupt_count();
	progress_clear();
	if (again)
		return err_set(e, -ECANCELED, "left while the move goes on without us%s; `godwit list %s: %s:` tells how it ends",
			       m->cancelling ? ", being cancelled" : "", remote_name(m->from.remote),
			       remote_name(m->to.remote));
	fprintf(stderr, "Cancelling the move; ^C again leaves without waiting.\n");
	m->cancelling = true;
	r = is_final(m->source_op) ? -ENOENT : cancel(m->from.remote, m->source_op, NULL);
	if (r >= 0)
		cancel(m->to.remote, m->target_op, NULL); /* which may have ended of it already */
	else if (r != -EINVAL)
		r = cancel(m->to.remote, m->target_op, NULL);
	if (r == -EINVAL)
		too_late(m);
	return 0;
}

/* Both sides' ends; progress of either meanwhile.  The source's may come a little later than the
 * target's (it removes the original), and both have to have ended for the container to be moved. */
static int wait_both(struct move *m, struct err *e)
{
	auto_free char *source = strdup(json_str(m->source_op, "id")), *target = strdup(json_str(m->target_op, "id"));
	bool source_lost = false, told = false;
	int looks = 0;

	while (source && target && (!is_final(m->target_op) || (!is_final(m->source_op) && !source_lost))) {
		struct remote *remote = is_final(m->target_op) ? m->from.remote : m->to.remote;
		bool at_target = remote == m->to.remote;
		auto_json *op = NULL;
		struct err why = { 0 };
		int r = on_interrupt(m, e);

		if (r < 0)
			return r;
		r = remote_look(remote, at_target ? target : source, 1, &op, &why);
		if (r == -ECANCELED && interrupt_count() > m->interrupts)
			continue;

		/* A source that has handed everything over and then went away does not make the move a failure. */
		if (r < 0 && !at_target) {
			source_lost = true;
			continue;
		}
		if (r < 0) {
			progress_clear();
			return err_set(e, r, "%s; whether the container has moved is not known here: `godwit list %s: %s:` tells",
				       why.text, remote_name(m->from.remote), remote_name(m->to.remote));
		}
		json_decref(at_target ? m->target_op : m->source_op);
		*(at_target ? &m->target_op : &m->source_op) = json_incref(op);
		/* Its COMMIT was quicker than our word. */
		if (m->cancelling && !at_target && !is_final(op) && json_int(op, "status_code", 0) == 103)
			too_late(m);
		if (m->cancelling)
			progress_text("cancelling");
		else
			progress_show(json_object_get(op, "metadata"));
		/* A target that failed before it came leaves a source that waits for it.  What the source itself
		 * has failed of is known after a moment; one that has handed over does not heed this. */
		if (is_final(m->target_op) && json_int(m->target_op, "status_code", 0) != 200 &&
		    !is_final(m->source_op) && ++looks > 2 && !told) {
			cancel(m->from.remote, m->source_op, NULL);
			told = true;
		}
	}
	progress_clear();
	return 0;
}

static bool failed(const json_t *op)
{
	return is_final(op) && json_int(op, "status_code", 0) != 200;
}

/* After a cancel: where the container is, by the source's own word.  Where the target had all of it already, the source
 * takes it back only when it has heard that the target never will run it. */
static int cancelled(const struct move *m, struct err *e)
{
	for (int i = 0; i < 50 && interrupt_count() == m->interrupts; i++) {
		auto_json *row = NULL;
		int r = remote_call(m->from.remote, "GET", NULL, &row, NULL, "/1.0/instances/%s", m->from.name);

		if (r >= 0 && !json_object_get(row, "migration"))
			return err_set(e, -ECANCELED, "the move was cancelled; %s %s on %s as before", m->from.name,
				       str_eq(json_str(row, "status"), "Running") ? "runs" : "is",
				       remote_name(m->from.remote));
		usleep(200000);
	}
	return err_set(e, -ECANCELED, "the move was cancelled; `godwit info %s:%s` tells how %s is",
		       remote_name(m->from.remote), m->from.name, m->from.name);
}

/* Who failed first knows why; the other only saw the connection close. */
static int verdict(const struct move *m, struct err *e)
{
	const char *s = json_str(m->source_op, "err"), *t = json_str(m->target_op, "err");

	if (!failed(m->source_op) && !failed(m->target_op))
		return 0;
	if (m->cancelling && failed(m->target_op))
		return cancelled(m, e);
	if (failed(m->source_op) && !failed(m->target_op) && !m->dry_run)
		return err_set(e, -EIO, "%s has taken the container, but %s says: %s", remote_name(m->to.remote),
			       remote_name(m->from.remote), s);
	if (!*s || str_eq(s, t))
		return err_set(e, -EIO, "%s: %s", remote_name(m->to.remote), t);
	if (!*t)
		return err_set(e, -EIO, "%s: %s", remote_name(m->from.remote), s);
	return err_set(e, -EIO, "%s: %s\n       %s: %s", remote_name(m->from.remote), s, remote_name(m->to.remote), t);
}

/* Whatever the daemons have measured, of both sides in one object. */
static json_t *figures_of(const struct move *m, uint64_t total_us)
{
	static const char *const numbers[] = { "pause_us", "bytes", "disk_bytes", "disk1_us" };
	static const struct {
		const char *key, *name;
	} parts[] = { { "freeze_us", "freeze" },   { "disk2_us", "disk" },	 { "capture_us", "capture" },
		      { "pages_us", "memory" },	   { "restore_us", "build" }, { "finish_us", "finish" } };
	const json_t *sides[2] = { json_object_get(json_object_get(m->target_op, "metadata"), "move"),
				   json_object_get(json_object_get(m->source_op, "metadata"), "move") };
	json_t *f = json_pack("{s:I, s:{}}", "total_us", (json_int_t)total_us, "pause_parts");

	for (int i = 0; i < 2; i++) {
		for (size_t k = 0; k < array_len(numbers); k++) {
			json_t *v = json_object_get(sides[i], numbers[k]);

			if (json_is_integer(v))
				json_object_set(f, numbers[k], v);
		}
		for (size_t k = 0; k < array_len(parts); k++) {
			json_t *v = json_object_get(sides[i], parts[k].key);

			if (json_is_integer(v))
				json_object_set(json_object_get(f, "pause_parts"), parts[k].name, v);
		}
	}
	return f;
}

/* "pause 212 ms (freeze 3 ms, disk 80 ms, …)" */
static void print_figures(const struct move *m, uint64_t total_us)
{
	auto_json *f = figures_of(m, total_us);
	int64_t pause = json_int(f, "pause_us", -1), bytes = json_int(f, "bytes", -1);
	int64_t disk = json_int(f, "disk_bytes", -1);
	const char *key, *between = " (";
	json_t *v;

	if (m->format == TABLE_JSON) {
		json_print(f);
		return;
	}
	printf("%s is on %s: %s in all", m->to.name, remote_name(m->to.remote), cli_duration_us(total_us));
	if (pause >= 0) {
		printf(", pause %s", cli_duration_us((uint64_t)pause));
		json_object_foreach(json_object_get(f, "pause_parts"), key, v) {
			printf("%s%s %s", between, key, cli_duration_us((uint64_t)json_integer_value(v)));
			between = ", ";
		}
		if (strcmp(between, ", ") == 0)
			putchar(')');
	}
	if (bytes >= 0)
		printf(", memory and state %s", cli_bytes((uint64_t)bytes));
	if (disk >= 0)
		printf(", disk %s", cli_bytes((uint64_t)disk));
	putchar('\n');
}

static void print_notes(const struct move *m)
{
	const json_t *ops[2] = { m->source_op, m->target_op };

	for (int i = 0; i < 2; i++) {
		json_t *list = json_object_get(json_object_get(ops[i], "metadata"), "notes"), *n;
		size_t k;

		json_array_foreach(list, k, n)
			fprintf(stderr, "Note: %s\n", json_string_value(n));
	}
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int move(struct move *m, struct err *e)
{
	uint64_t begun = now_us();
	const char *address;
	int r;

	interrupt_watch();
	r = offer(m, e);
	if (r < 0)
		return r;
	address = source_address(m, e);
	r = address ? remote_start(m->to.remote, "POST", target_body(m, address), &m->target_op, e, "/1.0/instances") :
		      -ENOTCONN;
	if (r < 0) { /* nobody will come for the offer */
		cancel(m->from.remote, m->source_op, NULL);
		return r != -ECANCELED ? r : err_set(e, r, "interrupted before the move began; %s is on %s as before",
						     m->from.name, remote_name(m->from.remote));
	}
	r = wait_both(m, e);
	if (r >= 0)
		r = verdict(m, e);
	if (r < 0)
		return r;
	print_notes(m);
	if (m->dry_run)
		printf("%s could move to %s.\n", m->from.name, remote_name(m->to.remote));
	else if (!m->quiet)
		print_figures(m, now_us() - begun);
	return 0;
}

int cmd_move(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "dry-run", no_argument, NULL, 'n' },
						 { "quiet", no_argument, NULL, 'q' },
						 { "format", required_argument, NULL, 'f' },
						 CLI_HELP, { 0 } };
	__attribute__((cleanup(move_done))) struct move m = { 0 };
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "hqn", options, NULL)) != -1) {
		if (opt == 'n')
			m.dry_run = true;
		else if (opt == 'q')
			m.quiet = true;
		else if (opt == 'f' && table_format_parse(optarg, &m.format, &e) < 0)
			return cli_fail(&e);
		else if (opt == 'f')
			continue;
		else
			return cli_usage(cli, opt);
	}
	if (!cli_args(cli, argc, 2, 2, &r))
		return r;
	r = target_open(cli->conf, argv[optind], true, &m.from, &e);
	if (r >= 0)
		r = target_open(cli->conf, argv[optind + 1], false, &m.to, &e);
	if (r >= 0 && !*m.to.name) {
		free(m.to.name);
		m.to.name = strdup(m.from.name);
		r = m.to.name ? 0 : err_sys(&e, -ENOMEM, "cannot move");
	}
	if (r >= 0 && str_eq(remote_name(m.from.remote), remote_name(m.to.remote)))
		r = err_set(&e, -EINVAL, "%s is on %s already; another host is meant as `HOST:`", m.from.name,
			    remote_name(m.from.remote));
	if (r >= 0)
		r = move(&m, &e);
	return r < 0 ? cli_fail(&e) : 0;
}
