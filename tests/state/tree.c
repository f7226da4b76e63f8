/* Three levels of processes, each with its parent; memory of each its own. */
#include "family.h"

#include <string.h>

enum { WIDTH = 3, DEPTH = 3 };

static char page[8192]; /* shared copy-on-write with the parent until it is written */

static int node(int depth)
{
	struct identity me;
	pid_t kids[WIDTH];
	int bad = 0;

	memset(page, 'a' + depth, sizeof(page) / 2);
	for (int i = 0; i < WIDTH && depth < DEPTH; i++) {
		kids[i] = MUST(fork());
		if (kids[i] == 0)
			_exit(node(depth + 1));
	}
	me = identity_now();
	if (depth == 0)
		state_wait();
	else
		go_wait();
	for (int i = 0; i < WIDTH && depth < DEPTH; i++)
		bad |= go_collect(kids[i]);
	for (size_t i = 0; i < sizeof(page); i++)
		if (page[i] != (i < sizeof(page) / 2 ? 'a' + depth : 0))
			bad |= 16;
	return bad | identity_differs(&me);
}

int main(void)
{
	int bad;

	go_block();
	bad = node(0);
	CHECK(bad == 0, "the tree is not what it was: %d", bad);
	state_pass();
}
