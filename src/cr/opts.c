#include "cr/opts.h"

const char *cr_act_name(enum cr_act act)
{
	static const char *const names[CR_ACT_N] = {
		[CR_ACT_PRE_DUMP] = "pre-dump",
		[CR_ACT_NETWORK_LOCK] = "network-lock",
		[CR_ACT_POST_DUMP] = "post-dump",
		[CR_ACT_PRE_RESTORE] = "pre-restore",
		[CR_ACT_SETUP_NAMESPACES] = "setup-namespaces",
		[CR_ACT_POST_SETUP_NAMESPACES] = "post-setup-namespaces",
		[CR_ACT_POST_RESTORE] = "post-restore",
		[CR_ACT_NETWORK_UNLOCK] = "network-unlock",
		[CR_ACT_PRE_RESUME] = "pre-resume",
		[CR_ACT_POST_RESUME] = "post-resume",
		[CR_ACT_ORPHAN_PTS_MASTER] = "orphan-pts-master",
		[CR_ACT_STATUS_READY] = "status-ready",
	};

	return (unsigned)act < CR_ACT_N ? names[act] : "";
}
