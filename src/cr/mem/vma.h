/* vma - the mappings of a process, as the kernel's text tells them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* VmFlags of smaps, one bit for each two-letter code; bits are part of the image (gw_vma_extra). */
enum vma_flag {
	VMF_RD, VMF_WR, VMF_EX, VMF_SH, VMF_MR, VMF_MW, VMF_ME, VMF_MS,
	VMF_GD, VMF_PF, VMF_LO, VMF_IO, VMF_SR, VMF_RR, VMF_DC, VMF_DE,
	VMF_LF, VMF_AC, VMF_NR, VMF_HT, VMF_SF, VMF_AR, VMF_DD, VMF_WF,
	VMF_SD, VMF_MM, VMF_HG, VMF_NH, VMF_MG, VMF_BT, VMF_MT, VMF_UM,
	VMF_UW, VMF_UI, VMF_SS, VMF_SL, VMF_DP, VMF_GU,
	VMF_N,
};
#define VMF(flag) (1ull << VMF_##flag)

struct vma {
	uint64_t start, end; /* addresses, page aligned */
	uint64_t pgoff;      /* bytes */
	uint64_t ino;
	uint32_t major, minor;
	uint32_t pkey;       /* memory protection key */
	int prot;            /* PROT_* */
	bool shared;
	uint64_t flags;      /* VMF() bits */
	char unknown[3];     /* the first flag that is not in the table, "" */
	uint8_t carried;     /* its enum mem_kind and 1, once a check has said so */
	const char *path;    /* "" for anonymous; in the list's own memory */
};

struct vma_list {
	struct vma *v;
	size_t n;
	char *text_;
};

#define VMA_MAX 1000000u
#define VMA_TEXT_MAX (512u << 20)

/* /proc/PID/smaps; proc_fd is the folder of the process.  -EPROTO: not what a kernel writes. */
int vma_read(int proc_fd, struct vma_list *ret, struct err *e);
/* /proc/PID/maps: the same without flags and keys, and without a walk over the pages. */
int vma_read_plain(int proc_fd, struct vma_list *ret, struct err *e);
/* The parser alone (smaps or maps).  text is NUL-terminated, taken over and modified. */
int vma_parse(char *text, size_t len, struct vma_list *ret, struct err *e);
void vma_list_done(struct vma_list *l);

/* The file that is mapped there, opened anew (O_CLOEXEC is added).  -EPERM: map_files is not for us, and it was not found
 * in another way (vma_open.c). */
int vma_open(int proc_fd, const struct vma *v, int flags);
struct stat;
int vma_stat(int proc_fd, const struct vma *v, struct stat *ret); /* the same, without opening it where that can be */
