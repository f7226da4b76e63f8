#include "image/record.h"

#include "cgroup.pb-c.h"
#include "core.pb-c.h"
#include "creds.pb-c.h"
#include "fdinfo.pb-c.h"
#include "file-lock.pb-c.h"
#include "fs.pb-c.h"
#include "ghost-file.pb-c.h"
#include "godwit.pb-c.h"
#include "inventory.pb-c.h"
#include "memfd.pb-c.h"
#include "mm.pb-c.h"
#include "mnt.pb-c.h"
#include "netdev.pb-c.h"
#include "pipe-data.pb-c.h"
#include "pstree.pb-c.h"
#include "remap-file-path.pb-c.h"
#include "seccomp.pb-c.h"
#include "sk-packet.pb-c.h"
#include "stats.pb-c.h"
#include "sysctl.pb-c.h"
#include "tcp-stream.pb-c.h"
#include "timens.pb-c.h"
#include "tty.pb-c.h"
#include "userns.pb-c.h"
#include "utsns.pb-c.h"

static const struct {
	const char *name;
	const ProtobufCMessageDescriptor *type;
} kinds[REC_KIND_MAX] = {
	[REC_INVENTORY] = { "inventory", &inventory_entry__descriptor },
	[REC_PSTREE] = { "pstree", &pstree_entry__descriptor },
	[REC_CORE] = { "core", &core_entry__descriptor },
	[REC_IDS] = { "ids", &task_kobj_ids_entry__descriptor },
	[REC_MM] = { "mm", &mm_entry__descriptor },
	[REC_CREDS] = { "creds", &creds_entry__descriptor },
	[REC_FS] = { "fs", &fs_entry__descriptor },
	[REC_FDINFO] = { "fdinfo", &fdinfo_entry__descriptor },
	[REC_FILES] = { "files", &file_entry__descriptor },
	[REC_PIPES_DATA] = { "pipes-data", &pipe_data_entry__descriptor },
	[REC_FIFO_DATA] = { "fifo-data", &pipe_data_entry__descriptor },
	[REC_SK_QUEUES] = { "sk-queues", &sk_packet_entry__descriptor },
	[REC_TCP_STREAM] = { "tcp-stream", &tcp_stream_entry__descriptor },
	[REC_GHOST_FILE] = { "ghost-file", &ghost_file_entry__descriptor },
	[REC_REMAP_FPATH] = { "remap-fpath", &remap_file_path_entry__descriptor },
	[REC_TTY_INFO] = { "tty-info", &tty_info_entry__descriptor },
	[REC_TTY_DATA] = { "tty-data", &tty_data_entry__descriptor },
	[REC_MEMFD] = { "memfd", &memfd_inode_entry__descriptor },
	[REC_UTSNS] = { "utsns", &utsns_entry__descriptor },
	[REC_MOUNTPOINTS] = { "mountpoints", &mnt_entry__descriptor },
	[REC_NETDEV] = { "netdev", &net_device_entry__descriptor },
	/* CRIU keeps raw rtnetlink dumps under these two names. */
	[REC_IFADDR] = { "ifaddr", &gw_blob__descriptor },
	[REC_ROUTE] = { "route", &gw_blob__descriptor },
	[REC_SYSCTL] = { "sysctl", &sysctl_entry__descriptor },
	[REC_CGROUP] = { "cgroup", &cgroup_entry__descriptor },
	[REC_SECCOMP] = { "seccomp", &seccomp_entry__descriptor },
	[REC_TIMENS] = { "timens", &timens_entry__descriptor },
	[REC_USERNS] = { "userns", &userns_entry__descriptor },
	[REC_FILELOCKS] = { "filelocks", &file_lock_entry__descriptor },
	[REC_STATS] = { "stats", &stats_entry__descriptor },
	[REC_GW_BLOB] = { "gw-blob", &gw_blob__descriptor },
	[REC_GW_TASK] = { "gw-task", &gw_task__descriptor },
	[REC_GW_THREAD] = { "gw-thread", &gw_thread__descriptor },
	[REC_GW_VMA] = { "gw-vma", &gw_vma_extra__descriptor },
	[REC_GW_TREE_ENTRY] = { "gw-tree-entry", &gw_tree_entry__descriptor },
	[REC_GW_SOCK] = { "gw-sock", &gw_sock_extra__descriptor },
	[REC_GW_MEM] = { "gw-mem", &gw_mem__descriptor },
	[REC_GW_FILE] = { "gw-file", &gw_file__descriptor },
	[REC_GW_PIECES] = { "gw-pieces", &gw_pieces__descriptor },
	[REC_GW_FOLDER] = { "gw-folder", &gw_folder__descriptor },
	[REC_GW_HEADER] = { "gw-header", &gw_header__descriptor },
	/* These carry a gw_blob until someone gives them a message of their own. */
	[REC_GW_INOTIFY] = { "gw-inotify", &gw_blob__descriptor },
	[REC_GW_NET] = { "gw-net", &gw_blob__descriptor },
	[REC_GW_CGROUP] = { "gw-cgroup", &gw_cgroup__descriptor },
	[REC_GW_MISC] = { "gw-misc", &gw_blob__descriptor },
	[REC_PAGES] = { "pages", NULL },
	[REC_BATCH] = { "batch", NULL },
};

const char *rec_kind_name(uint32_t kind)
{
	if (kind == REC_END)
		return "end";
	return kind < REC_KIND_MAX ? kinds[kind].name : NULL;
}

const ProtobufCMessageDescriptor *rec_kind_type(uint32_t kind)
{
	return kind < REC_KIND_MAX ? kinds[kind].type : NULL;
}
