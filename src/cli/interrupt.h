/* interrupt - ^C while something goes on at a daemon: the first asks for its end, the second ends us. */
#pragma once

/* From now on SIGINT is counted and no longer ends the program (where it was not ignored before). Idempotent. */
void interrupt_watch(void);
int interrupt_count(void);
