/* abi - numbers and shapes of the kernel that Debian 12's headers (of Linux 6.1) do not have.  Each
 * is guarded, so that newer headers win; whether the running kernel has it is asked at run time. */
#pragma once
#include <linux/types.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* ---- pidfd (PIDFD_GET_INFO: 6.13) ---- */
#ifndef PIDFD_GET_INFO
#define PIDFD_INFO_PID (1ull << 0)
#define PIDFD_INFO_CREDS (1ull << 1)
#define PIDFD_INFO_CGROUPID (1ull << 2)
struct pidfd_info {
	__u64 mask, cgroupid;
	__u32 pid, tgid, ppid; /* as the caller's PID namespace counts */
	__u32 ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	__s32 exit_code;
};
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
#endif

/* ---- userfaultfd (UFFDIO_MOVE: 6.8) ---- */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move; /* out: bytes moved, or a negative errno */
};
#define UFFD_FEATURE_MOVE (1ull << 16)
#define UFFDIO_MOVE _IOWR(0xAA, 0x05, struct uffdio_move)
#endif

/* ---- /proc/PID/maps (PROCMAP_QUERY: 6.11) ---- */
#ifndef PROCMAP_QUERY
enum { PROCMAP_QUERY_VMA_READABLE = 1, PROCMAP_QUERY_VMA_WRITABLE = 2, PROCMAP_QUERY_VMA_EXECUTABLE = 4,
       PROCMAP_QUERY_VMA_SHARED = 8 };
struct procmap_query {
	__u64 size, query_flags, query_addr;
	__u64 vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
	__u32 dev_major, dev_minor;
	__u32 vma_name_size, build_id_size;
	__u64 vma_name_addr, build_id_addr;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
#endif
