/* fault - named moments at which a test has the engine fail, or kill itself.
 *
 * GODWIT_FAULT=NAME[:N]:kill|fail   at the N-th time (default 1) that NAME is reached
 * GODWIT_FAULT=list:FILE            appends a line to FILE for each moment: "NAME fail" or "NAME kill" (such as
 *                                   only a death can come at), so that a test walks through what there is
 *
 * Always compiled in, so that what is tested is what is installed.  Nobody but who starts the engine can set it:
 * neither an image, a stream, a request (RPC) nor the tree; under raised rights (file capabilities) the variable is
 * not looked at (secure_getenv); and it can do nothing that a SIGKILL at a bad moment, or a full disk, could not. */
#pragma once
#include "base/err.h"

/* Blanks in names are read as '-'.  0; -ECANCELED with a sentence where it shall fail; does not return where it shall
 * die.  Without the variable it costs one comparison. */
int fault_at(const char *room, const char *what, const char *when, struct err *e);
/* Where nothing can fail any more. */
void fault_kill_at(const char *room, const char *what, const char *when);
