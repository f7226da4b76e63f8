/* What cannot be carried is refused by name, all of it at once, and the program runs on (the
 * runner looks). */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib.h"

#define USER_MODE_ONLY 1

int main(void)
{
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY), linked, lease, mapped;

	if (uffd < 0)
		state_skip("no userfaultfd here");
	MUST(dup2(uffd, 20));
	MUST(close(uffd));
	linked = MUST(open("/work/one", O_RDWR | O_CREAT, 0600));
	MUST(mkdir("/work/elsewhere", 0700));
	MUST(link("/work/one", "/work/elsewhere/two"));
	MUST(unlink("/work/one"));
	MUST(dup2(linked, 21));
	MUST(close(linked));
	lease = MUST(open("/work/lease", O_RDONLY | O_CREAT, 0600));
	MUST(fcntl(lease, F_SETLEASE, F_RDLCK));
	MUST(dup2(lease, 22));
	MUST(close(lease));
	/* Mapped only, closed, and its name gone. */
	mapped = MUST(open("/work/mapped", O_RDWR | O_CREAT, 0600));
	MUST(ftruncate(mapped, 4096));
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, mapped, 0) != MAP_FAILED, "mmap");
	MUST(close(mapped));
	MUST(link("/work/mapped", "/work/elsewhere/mapped"));
	MUST(unlink("/work/mapped"));
	state_wait();
	state_pass();
}
