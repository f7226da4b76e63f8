/* Which record stands in which file of a folder, and how.  Names and magics are facts of CRIU's image
 * format (pycriu/images/magic.py); what they hold are the messages of src/image/proto. */
#include <stdio.h>
#include <string.h>

#include "core.pb-c.h"
#include "fdinfo.pb-c.h"
#include "file-lock.pb-c.h"
#include "image/priv.h"
#include "memfd.pb-c.h"
#include "mnt.pb-c.h"
#include "pipe-data.pb-c.h"
#include "pstree.pb-c.h"
#include "remap-file-path.pb-c.h"
#include "sk-packet.pb-c.h"
#include "tty.pb-c.h"

#define ID(T, field) .id_at = offsetof(T, field)
#define NS(name)                                                   \
	.per = PER_NS, .ns_at = offsetof(TaskKobjIdsEntry, name), \
	.ns_has_at = offsetof(TaskKobjIdsEntry, has_##name)

/* A kind without a line is ours, or has no file in the format, or only one that crit cannot read (raw
 * netlink). */
static const struct folder_kind kinds[REC_KIND_MAX] = {
	[REC_INVENTORY] = { "inventory.img", 0x58313116, PER_ALL, .needed = true },
	[REC_PSTREE] = { "pstree.img", 0x50273030, PER_ALL, ID(PstreeEntry, pid), .needed = true },
	[REC_CORE] = { "core-%u.img", 0x55053847, PER_TID, .needed = true },
	[REC_IDS] = { "ids-%u.img", 0x54432030, PER_PID },
	[REC_MM] = { "mm-%u.img", 0x57492820, PER_PID },
	[REC_CREDS] = { "creds-%u.img", 0x54023547, PER_PID },
	[REC_FS] = { "fs-%u.img", 0x51403912, PER_PID },
	[REC_FDINFO] = { "fdinfo-%u.img", 0x56213732, PER_FILES, .many = true },
	[REC_FILES] = { "files.img", 0x56303138, PER_ALL, ID(FileEntry, id) },
	[REC_PIPES_DATA] = { "pipes-data.img", 0x56453709, PER_ALL, RAW_PIPE, ID(PipeDataEntry, pipe_id) },
	[REC_FIFO_DATA] = { "fifo-data.img", 0x59333054, PER_ALL, RAW_PIPE, ID(PipeDataEntry, pipe_id) },
	[REC_SK_QUEUES] = { "sk-queues.img", 0x56264026, PER_ALL, RAW_QUEUE, ID(SkPacketEntry, id_for),
			    .many = true },
	[REC_TCP_STREAM] = { "tcp-stream-%x.img", 0x51465506, PER_ID, RAW_TCP },
	[REC_GHOST_FILE] = { "ghost-file-%x.img", 0x52583605, PER_ID, RAW_GHOST },
	[REC_REMAP_FPATH] = { "remap-fpath.img", 0x59133954, PER_ALL, ID(RemapFilePathEntry, orig_id) },
	[REC_TTY_INFO] = { "tty-info.img", 0x59453036, PER_ALL, ID(TtyInfoEntry, id) },
	[REC_TTY_DATA] = { "tty-data.img", 0x59413026, PER_ALL, ID(TtyDataEntry, tty_id) },
	/* 64 bits, checked to be 32 by the reader. */
	[REC_MEMFD] = { "memfd.img", 0x48453499, PER_ALL, RAW_MEMFD, ID(MemfdInodeEntry, inode_id) },
	[REC_UTSNS] = { "utsns-%u.img", 0x54473203, NS(uts_ns_id) },
	[REC_MOUNTPOINTS] = { "mountpoints-%u.img", 0x55563928, NS(mnt_ns_id), ID(MntEntry, mnt_id) },
	[REC_CGROUP] = { "cgroup.img", 0x59383330, PER_ALL },
	[REC_SECCOMP] = { "seccomp.img", 0x64413049, PER_ALL },
	[REC_TIMENS] = { "timens-%u.img", 0x43114433, NS(time_ns_id) },
	[REC_USERNS] = { "userns-%u.img", 0x55474906, NS(user_ns_id) },
	[REC_FILELOCKS] = { "filelocks.img", 0x54323616, PER_ALL, ID(FileLockEntry, pid), .many = true },
};

const struct folder_kind *folder_kind(uint32_t kind)
{
	static const struct folder_kind none = { .per = PER_NONE };

	return kind < REC_KIND_MAX ? &kinds[kind] : &none;
}

bool folder_kind_apart(uint32_t kind, const ProtobufCMessage *m)
{
	if (kind == REC_FILES)
		return ((const FileEntry *)m)->type == FD_TYPES__PIDFD;
	return kind == REC_FDINFO && ((const FdinfoEntry *)m)->type == FD_TYPES__PIDFD;
}

void folder_name(char ret[FOLDER_NAME_MAX], uint32_t kind, uint32_t number)
{
	const char *p = folder_kind(kind)->pattern, *at;

	at = strchr(p, '%');
	if (!at)
		snprintf(ret, FOLDER_NAME_MAX, "%s", p);
	else
		snprintf(ret, FOLDER_NAME_MAX, at[1] == 'x' ? "%.*s%x%s" : "%.*s%u%s", (int)(at - p), p, number,
			 at + 2);
}

uint32_t folder_ns_number(uint32_t kind, const ProtobufCMessage *ids)
{
	const struct folder_kind *k = folder_kind(kind);
	protobuf_c_boolean has = 0;
	uint32_t n;

	if (!ids)
		return FOLDER_NS_UNKNOWN;
	memcpy(&has, (const char *)ids + k->ns_has_at, sizeof(has));
	memcpy(&n, (const char *)ids + k->ns_at, sizeof(n));
	return has ? n : FOLDER_NS_UNKNOWN;
}

void pagemap_name(char ret[FOLDER_NAME_MAX], bool shm, uint32_t number)
{
	snprintf(ret, FOLDER_NAME_MAX, "pagemap-%s%u.img", shm ? "shmem-" : "", number);
}
