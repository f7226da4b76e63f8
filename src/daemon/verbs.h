/* verbs - the jobs of all rooms. */
#pragma once

/* `godwitd job VERB`: the exit status. */
int verbs_main(const char *verb);
