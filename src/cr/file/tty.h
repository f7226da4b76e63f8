/* tty - what the tree's growth and the tables need of terminals. */
#pragma once
#include "cr/cr.h"

/* The session leader t has just become one: takes its controlling terminal, if it had one. To be
 * called before it forks children that inherit it. Nothing happens where t is not yet a leader,
 * or has it already. */
int tty_session_begun(struct restore *r, struct rtask *t, struct err *e);
/* Makes the pairs of terminals that the image has, if that has not happened yet: a mount of one's node
 * needs it. */
int ttys_make(struct restore *r, struct err *e);
void ttys_done(struct restore *r);
