/* running - which containers run, seen by their monitors' pidfds; private to this room.
 *
 * Truth is STATE/run/NAME/monitor ("PID STARTTIME", written by liblxc's start hook): it survives a restart
 * of the daemon, and a pid that was used again is told apart by its start time. */
#pragma once
#include "api/core.h"

/* Looks at run/NAME anew; true: it runs. Called when a job on the instance has ended, and at the start. */
bool running_scan(struct api *a, const char *name);
bool running_is(struct api *a, const char *name);
/* Pid of the container's init in the host; 0: not running. */
pid_t running_init(struct api *a, const char *name);
void running_free_all(struct api *a);
