/* cpuinfo - which processor an image was made on: cpuinfo.img, and whether this one has what it needs. */
#pragma once
#include <stdbool.h>

#include "base/err.h"

#define CPUINFO_IMG "cpuinfo.img"

/* Over an old one; no symlink is followed. */
int cpuinfo_write(int images_fd, struct err *e);
/* caps: CPU_CAP_* (options.h).  Without an image there is nothing to compare, and that is 0 unless it is `needed`.
 * -ENOTSUP with the first thing this processor lacks. */
int cpuinfo_compare(int images_fd, unsigned caps, bool needed, struct err *e);
