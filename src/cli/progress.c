#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/parse.h"
#include "cli/remote.h"

/* The line as it stands on the terminal, so that it is cleared when something else is printed. */
static char shown[256];

void progress_clear(void)
{
	if (!shown[0])
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	shown[0] = 0;
}

void progress_text(const char *text)
{
	struct winsize ws = { 0 };
	int width;

	if (!isatty(2) || strncmp(text, shown, sizeof(shown) - 1) == 0)
		return;
	width = ioctl(2, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 1 ? ws.ws_col - 1 : 79;
	snprintf(shown, sizeof(shown), "%s", text);
	fprintf(stderr, "\r\033[K%.*s", width, shown);
	fflush(stderr);
}

void progress_show(const json_t *metadata)
{
	char line[256] = "";
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)metadata, key, value) {
		if (!str_ends(key, "_progress") || !json_is_string(value))
			continue;
		snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", line[0] ? ", " : "",
			 json_string_value(value));
	}
	if (line[0])
		progress_text(line);
}
