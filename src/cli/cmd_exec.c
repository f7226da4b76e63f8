/* exec: a command in a container, its terminal or its three streams over websockets */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/target.h"

struct wishes {
	int interactive; /* -1: as the terminal says */
	bool detach;
	json_t *environment;
	const char *cwd;
	uint32_t user, group;
};

struct session {
	struct remote *remote;
	const char *id;
	const json_t *secrets;
	bool interactive;
	struct ws_client *in, *out, *err, *control; /* interactive: in is also what comes out */
	int signals;
};

/* ----------------------------------------- terminal ------------------------------------------- */

static struct termios saved;
static bool raw;

static void terminal_restore(void)
{
	if (raw)
		tcsetattr(0, TCSADRAIN, &saved);
	raw = false;
}

static void terminal_raw(void)
{
	struct termios t;

	if (tcgetattr(0, &saved) < 0)
		return;
	t = saved;
	cfmakeraw(&t);
	raw = true;
	atexit(terminal_restore);
	tcsetattr(0, TCSADRAIN, &t);
}

static void terminal_size(int *ret_width, int *ret_height)
{
	struct winsize ws = { 0 };

	if (ioctl(0, TIOCGWINSZ, &ws) < 0 && ioctl(1, TIOCGWINSZ, &ws) < 0)
		ws.ws_col = 0;
	*ret_width = ws.ws_col ? ws.ws_col : 80;
	*ret_height = ws.ws_row ? ws.ws_row : 24;
}

/* ------------------------------------------ streams ------------------------------------------- */

static int channel_open(struct session *s, const char *fd_name, struct ws_client **ret, struct err *e)
{
	auto_free char *path = NULL;
	const char *secret = json_str(s->secrets, fd_name);

	if (!*secret)
		return err_set(e, -EPROTO, "the server offers no channel '%s'", fd_name);
	if (asprintf(&path, "/1.0/operations/%s/websocket?secret=%s", s->id, secret) < 0)
		return err_sys(e, -ENOMEM, "cannot connect");
	return ws_client_open(remote_endpoint(s->remote), path, ret, e);
}

/* A thread of its own has stdin's connection where there are three streams: a send that blocks since
 * the command reads nothing must not keep us from taking what the command writes. */
static void *stdin_pump(void *arg)
{
	struct ws_client *ws = arg;
	char data[32768];
	ssize_t n;

	for (;;) {
		n = read(0, data, sizeof(data));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (ws_client_send(ws, WS_BINARY, data, (size_t)n, NULL) < 0)
			return NULL;
	}
	ws_client_send(ws, WS_TEXT, "", 0, NULL); /* the end of the stream */
	return NULL;
}

/* Everything that has come; *ws is freed and NULL after the end. */
static int drain(struct ws_client **ws, int to, struct err *e)
{
	while (*ws) {
		enum ws_kind kind;
		auto_free char *data = NULL;
		size_t len;
		int r = ws_client_recv(*ws, 0, &kind, &data, &len, e);

		if (r == -EAGAIN)
			return 0;
		if (r <= 0 || kind == WS_TEXT) { /* closed, or the empty text that ends a stream */
			*ws = ws_client_free(*ws);
			return r == -ENOMEM ? r : 0;
		}
		r = to >= 0 ? fd_write_full(to, data, len) : 0;
		if (r < 0)
			return err_sys(e, r, "cannot write the output");
	}
	return 0;
}

static int tell_size(struct session *s, struct err *e)
{
	char text[128];
	int width, height;

	terminal_size(&width, &height);
	snprintf(text, sizeof(text), "{\"command\":\"window-resize\",\"args\":{\"width\":\"%d\",\"height\":\"%d\"}}", width,
		 height);
	return s->control ? ws_client_send(s->control, WS_TEXT, text, strlen(text), e) : 0;
}

static int on_signal(struct session *s, struct err *e)
{
	struct signalfd_siginfo si;
	char text[64];

	if (read(s->signals, &si, sizeof(si)) != sizeof(si))
		return 0;
	if (si.ssi_signo == SIGWINCH)
		return s->interactive ? tell_size(s, e) : 0;
	snprintf(text, sizeof(text), "{\"command\":\"signal\",\"signal\":%u}", si.ssi_signo);
	return s->control ? ws_client_send(s->control, WS_TEXT, text, strlen(text), e) : 0;
}

static int on_typed(struct session *s, bool *typing, struct err *e)
{
	char data[4096];
	ssize_t n = read(0, data, sizeof(data));

	if (n > 0)
		return ws_client_send(s->in, WS_BINARY, data, (size_t)n, e);
	*typing = n < 0 && errno == EINTR;
	return 0;
}

/* Until the command's output has ended. */
static int run_streams(struct session *s, struct err *e)
{
	struct ws_client **out = s->interactive ? &s->in : &s->out;
	bool typing = s->interactive;
	int r = 0;

	if (drain(out, 1, e) < 0 || drain(&s->err, 2, e) < 0 || drain(&s->control, -1, e) < 0)
		return -EIO;
	while (r >= 0 && (*out || s->err)) {
		struct pollfd p[5] = {
			{ .fd = *out ? ws_client_fd(*out) : -1, .events = POLLIN },
			{ .fd = s->err ? ws_client_fd(s->err) : -1, .events = POLLIN },
			{ .fd = s->control ? ws_client_fd(s->control) : -1, .events = POLLIN },
			{ .fd = s->signals, .events = POLLIN },
			{ .fd = typing && *out ? 0 : -1, .events = POLLIN },
		};

		if (poll(p, 5, -1) < 0)
			continue;
		if (p[3].revents)
			r = on_signal(s, e);
		if (r >= 0 && p[4].revents)
			r = on_typed(s, &typing, e);
		if (r >= 0 && p[0].revents)
			r = drain(out, 1, e);
		if (r >= 0 && p[1].revents)
			r = drain(&s->err, 2, e);
		if (r >= 0 && p[2].revents)
			r = drain(&s->control, -1, e);
	}
	return r;
}

static int open_channels(struct session *s, struct err *e)
{
	/* First the one that the server does not wait for: a command that fails at once may be over, and the
	 * operation with it, as soon as the others are there. */
	int r = channel_open(s, "control", &s->control, e);

	if (r >= 0)
		r = channel_open(s, "0", &s->in, e);
	if (r >= 0 && !s->interactive)
		r = channel_open(s, "1", &s->out, e);
	if (r >= 0 && !s->interactive)
		r = channel_open(s, "2", &s->err, e);
	return r;
}

static void watch_signals(struct session *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (!s->interactive) { /* else the terminal is raw, and ^C is a byte like any other */
		sigaddset(&set, SIGINT);
		sigaddset(&set, SIGQUIT);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC);
}

/* *ret: the command's exit status. */
static int attach(struct session *s, int *ret, struct err *e)
{
	auto_json *op = NULL;
	pthread_t pump;
	int64_t code;
	int r;

	watch_signals(s);
	r = open_channels(s, e);
	if (r < 0)
		return r;
	if (s->interactive)
		terminal_raw();
	else if (pthread_create(&pump, NULL, stdin_pump, s->in) != 0)
		return err_sys(e, -EAGAIN, "cannot read the input");
	r = run_streams(s, e);
	terminal_restore();
	if (r < 0)
		return r;
	r = remote_wait(s->remote, s->id, &op, e);
	if (r < 0)
		return r;
	code = json_int(json_object_get(op, "metadata"), "return", -1);
	if (code < 0)
		return err_set(e, -EPROTO, "the server does not say how the command ended");
	*ret = (int)code;
	return 0;
}

/* ------------------------------------------ request ------------------------------------------- */

static json_t *request_body(const struct wishes *w, bool interactive, int argc, char **argv)
{
	const char *term = getenv("TERM");
	json_t *command = json_array(), *environment = json_deep_copy(w->environment), *body;
	int width, height;

	for (int i = 0; i < argc; i++)
		json_array_append_new(command, json_string(argv[i]));
	if (interactive && term && !json_object_get(environment, "TERM"))
		json_object_set_new(environment, "TERM", json_string(term));
	terminal_size(&width, &height);
	body = json_pack("{s:o, s:b, s:b, s:o, s:i, s:i, s:b, s:I, s:I, s:s}", "command", command, "wait-for-websocket",
			 !w->detach, "interactive", interactive, "environment", environment, "width", width, "height",
			 height, "record-output", 0, "user", (json_int_t)w->user, "group", (json_int_t)w->group, "cwd",
			 w->cwd);
	/* Our own word: the command is to be a child of the container's init, with nothing of us. */
	if (w->detach)
		json_object_set_new(body, "detached", json_true());
	return body;
}

/* Its end is not waited for; but a command that cannot even begin is to be heard of. */
static int see_it_begin(struct remote *r, const char *id, struct err *e)
{
	auto_json *op = NULL;
	int n = remote_look(r, id, 1, &op, e);

	if (n < 0)
		return n;
	if (json_int(op, "status_code", 0) > 200)
		return err_set(e, -EIO, "%s", json_str(op, "err"));
	return 0;
}

static int exec(struct target *t, const struct wishes *w, int argc, char **argv, int *ret, struct err *e)
{
	bool interactive = !w->detach && (w->interactive < 0 ? isatty(0) && isatty(1) : w->interactive);
	struct session s = { .remote = t->remote, .interactive = interactive, .signals = -1 };
	auto_json *op = NULL;
	int r = remote_start(t->remote, "POST", request_body(w, interactive, argc, argv), &op, e,
			     "/1.0/instances/%s/exec", t->name);

	if (r < 0)
		return r;
	s.id = json_str(op, "id");
	if (w->detach)
		return see_it_begin(t->remote, s.id, e);
	s.secrets = json_object_get(json_object_get(op, "metadata"), "fds");
	/* The pump may still sit in read(0) and hold its connection: the process ends right after this. */
	return attach(&s, ret, e);
}

static int parse_id(const char *text, uint32_t *ret)
{
	return parse_u32(text, 10, ret);
}

int cmd_exec(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "env", required_argument, NULL, 'e' },  { "cwd", required_argument, NULL, 'w' },
		{ "user", required_argument, NULL, 'u' }, { "group", required_argument, NULL, 'g' },
		{ "detach", no_argument, NULL, 'd' },	  CLI_HELP, { 0 },
	};
	auto_json *environment = json_object();
	struct wishes w = { .interactive = -1, .environment = environment, .cwd = "" };
	auto_target target = { 0 };
	struct err e = { 0 };
	const char *ref = NULL;
	int opt, r, status = 0;

	/* "exec c1 -t -- sh" and "exec c1 ls -l" are both usual: options may follow the name, the command's
	 * own do not count. */
	while ((opt = getopt_long(argc, argv, "-htTde:", options, NULL)) != -1) {
		const char *eq;
		auto_free char *key = NULL;

		if (opt == 1 && !ref) {
			ref = optarg;
			continue;
		}
		if (opt == 1) {
			optind--;
			break;
		}
		switch (opt) {
		case 't':
			w.interactive = 1;
			break;
		case 'T':
			w.interactive = 0;
			break;
		case 'd':
			w.detach = true;
			break;
		case 'w':
			w.cwd = optarg;
			break;
		case 'u':
			if (parse_id(optarg, &w.user) < 0)
				return cli_failf("'%s' is no user's number", optarg);
			break;
		case 'g':
			if (parse_id(optarg, &w.group) < 0)
				return cli_failf("'%s' is no group's number", optarg);
			break;
		case 'e':
			eq = strchr(optarg, '=');
			key = eq ? strndup(optarg, (size_t)(eq - optarg)) : NULL;
			if (!key || !*key || json_object_set_new(environment, key, json_string(eq + 1)) < 0)
				return cli_failf("'%s' is not KEY=VALUE", optarg);
			break;
		default:
			return cli_usage(cli, opt);
		}
	}
	if (!ref && optind < argc)
		ref = argv[optind++];
	if (!ref || optind >= argc) {
		fprintf(stderr, "Error: %s is missing\n", ref ? "the command" : "the container");
		return cli_usage(cli, '?');
	}
	signal(SIGPIPE, SIG_IGN);
	r = target_open(cli->conf, ref, true, &target, &e);
	if (r >= 0)
		r = exec(&target, &w, argc - optind, argv + optind, &status, &e);
	if (r == -EPIPE && e.code == -EPIPE && strstr(e.text, "cannot write the output"))
		return 1; /* whoever read it has seen enough (| head) and needs no sentence */
	return r < 0 ? cli_fail(&e) : status;
}
