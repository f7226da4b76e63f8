/* image_build - container images made on the client's machine (which has the tools and the network; the
 * daemon never runs apt).  The result is a unified image tarball: metadata.yaml and rootfs/. */
#pragma once
#include "base/err.h"

/* One line of what is going on now, without a newline. */
typedef void (*image_build_progress)(const char *text, void *arg);

/* From this machine's static busybox. */
int image_build_busybox(const char *out_tar, image_build_progress progress, void *arg, struct err *e);
/* By mmdebstrap.  suite: "bookworm"; include: "PKG,PKG" or NULL; init: "sysvinit" or "systemd". */
int image_build_debian(const char *suite, const char *include, const char *init, const char *out_tar,
		       image_build_progress progress, void *arg, struct err *e);
