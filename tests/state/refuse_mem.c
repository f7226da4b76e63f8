/* Memory that cannot be carried: the move must be refused by name, and the process run on.
 * Argument: which. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib.h"

#define P 4096ul

static void with_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg;
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	char *p = MUST(mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	if (fd < 0)
		state_skip("userfaultfd: %s", strerror(errno));
	MUST(ioctl(fd, UFFDIO_API, &api));
	reg = (struct uffdio_register){ .range = { (unsigned long)p, 4 * P },
					.mode = UFFDIO_REGISTER_MODE_MISSING };
	MUST(ioctl(fd, UFFDIO_REGISTER, &reg));
}

static void with_aio(void)
{
	unsigned long ctx = 0;

	if (syscall(SYS_io_setup, 8, &ctx) < 0)
		state_skip("io_setup: %s", strerror(errno));
}

static void with_io_uring(void)
{
	char params[120] = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 4, params);

	if (fd < 0)
		state_skip("io_uring_setup: %s", strerror(errno));
	MUST(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
}

static void with_hugetlb(void)
{
	if (mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) ==
	    MAP_FAILED)
		state_skip("no huge pages here");
}

static void with_sysv(void)
{
	int id = shmget(IPC_PRIVATE, P, IPC_CREAT | 0600);

	if (id < 0 || shmat(id, NULL, 0) == (void *)-1)
		state_skip("System V shared memory: %s", strerror(errno));
	shmctl(id, IPC_RMID, NULL);
}

static void with_secret(void)
{
	int fd = (int)syscall(447 /* memfd_secret */, O_CLOEXEC);

	if (fd < 0)
		state_skip("memfd_secret: %s", strerror(errno));
	MUST(ftruncate(fd, P));
	MUST(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*make)(void);
	} kinds[] = {
		{ "userfaultfd", with_userfaultfd }, { "aio", with_aio }, { "io_uring", with_io_uring },
		{ "hugetlb", with_hugetlb }, { "sysv", with_sysv }, { "secretmem", with_secret },
	};

	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, argv[1]) == 0) {
			kinds[i].make();
			state_wait();
			state_pass();
		}
	}
	state_fail("which?");
}
