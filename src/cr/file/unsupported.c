/* unsupported - the last kind: what nobody recognised is refused, by the kernel's name for it. */
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/file.h"
#include "cr/file/kinds.h"

static const struct {
	const char *link, *what, *why;
} reasons[] = {
	{ "anon_inode:[io_uring]", "io_uring",
	  "requests in flight and registered buffers cannot be read" },
	{ "anon_inode:[userfaultfd]", "userfaultfd",
	  "faults that wait for an answer cannot be carried" },
	{ "anon_inode:[perf_event]", "perf event", "counters belong to this host's processor" },
	{ "anon_inode:bpf-", "bpf", "programs and maps of the kernel's BPF are not carried" },
	{ "anon_inode:[fanotify]", "fanotify",
	  "marks on mounts and pending events are not carried yet" },
	{ "anon_inode:kvm", "kvm", "a virtual machine cannot be carried" },
	{ "anon_inode:[vfio", "vfio", "a device of this host" },
	{ "anon_inode:seccomp notify", "seccomp notify",
	  "notifications that wait for an answer cannot be carried" },
	{ "anon_inode:[landlock", "landlock", "rulesets cannot be read back" },
	{ "anon_inode:mount_context", "fsopen",
	  "a mount that is being configured cannot be read back" },
	{ "anon_inode:[fscontext]", "fsopen",
	  "a mount that is being configured cannot be read back" },
	{ "anon_inode:[mshv", "mshv", "a virtual machine cannot be carried" },
	{ "anon_inode:dmabuf", "dma-buf", "a device's buffer" },
	{ "/dmabuf:", "dma-buf", "a device's buffer" },
	{ "anon_inode:sync_file", "sync_file", "a device's fence" },
	{ "anon_inode:gpio", "gpio", "a device of this host" },
	{ "anon_inode:[secretmem]", "secretmem",
	  "its memory is hidden from everyone but its owner" },
	{ "/secretmem", "secretmem", "its memory is hidden from everyone but its owner" },
};

static bool any_recognise(const struct ofile *f)
{
	return true;
}

static int any_check(struct dump *d, struct ofile *f, struct err *e)
{
	char what[96];
	int r;

	for (size_t i = 0; i < array_len(reasons); i++)
		if (str_starts(f->link, reasons[i].link)) {
			r = ofile_refuse(d, f, reasons[i].what, "%s", reasons[i].why);
			return r < 0 ? err_sys(e, r, "refusal") : 0;
		}
	if (S_ISCHR(f->st.st_mode) || S_ISBLK(f->st.st_mode)) {
		snprintf(what, sizeof(what), "%s device %u:%u",
			 S_ISCHR(f->st.st_mode) ? "character" : "block", major(f->st.st_rdev),
			 minor(f->st.st_rdev));
		r = ofile_refuse(d, f, what, "%s is a device of this host", f->link);
	} else {
		snprintf(what, sizeof(what), "%.80s", f->link);
		r = ofile_refuse(d, f, what, "this kind of file is not known to the engine");
	}
	return r < 0 ? err_sys(e, r, "refusal") : 0;
}

static int any_capture(struct dump *d, struct ofile *f, struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "%s cannot be carried", f->link);
}

const struct file_kind file_kind_unsupported = {
	.name = "unsupported",
	.type = FD_TYPES__UND,
	.recognise = any_recognise,
	.check = any_check,
	.capture = any_capture,
};
