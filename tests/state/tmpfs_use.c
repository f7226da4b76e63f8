/* A tmpfs of the container's own in use: a bound socket, a fifo, deleted and mapped files, a
 * working folder, an inotify watch, an advisory lock. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib.h"

int main(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/run/s/listen" };
	char buf[512] __attribute__((aligned(8)));
	int listener, fifo, deleted, mapped, watch, held, c, d;
	struct stat st;
	char *map, cwd[64];

	MUST(mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "size=8m,mode=0755"));
	MUST(mkdir("/run/s", 0755));
	listener = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(bind(listener, (struct sockaddr *)&un, sizeof(un)));
	MUST(chmod("/run/s/listen", 0620));
	MUST(chown("/run/s/listen", 33, 44));
	MUST(listen(listener, 5));
	MUST(mkfifo("/run/fifo", 0600));
	fifo = MUST(open("/run/fifo", O_RDWR | O_CLOEXEC));
	MUST(write(fifo, "in the fifo", 11));
	deleted = MUST(open("/run/deleted", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	MUST(write(deleted, "gone", 4));
	MUST(unlink("/run/deleted"));
	mapped = MUST(open("/run/mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	MUST(ftruncate(mapped, 8192));
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
	CHECK(map != MAP_FAILED, "mmap: %m");
	strcpy(map + 4096, "shared");
	held = MUST(open("/run/lockfile", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	MUST(flock(held, LOCK_EX));
	watch = MUST(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
	MUST(inotify_add_watch(watch, "/run/s", IN_CREATE));
	MUST(chdir("/run/s"));
	state_wait();
	CHECK(getcwd(cwd, sizeof(cwd)) && strcmp(cwd, "/run/s") == 0, "working folder %s", cwd);
	MUST(stat("/run/s/listen", &st));
	CHECK(S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0620 && st.st_uid == 33 &&
		      st.st_gid == 44,
	      "the socket's node: %o %u %u", st.st_mode, st.st_uid, st.st_gid);
	c = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(connect(c, (struct sockaddr *)&un, sizeof(un)));
	d = MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	MUST(write(c, "x", 1));
	CHECK(read(d, buf, 1) == 1, "connection");
	CHECK(read(fifo, buf, 11) == 11 && memcmp(buf, "in the fifo", 11) == 0, "fifo");
	CHECK(pread(deleted, buf, 5, 0) == 4 && memcmp(buf, "gone", 4) == 0, "deleted file");
	MUST(fstat(deleted, &st));
	CHECK(st.st_nlink == 0, "deleted file has links");
	CHECK(strcmp(map + 4096, "shared") == 0, "mapping");
	strcpy(map, "written later");
	CHECK(pread(mapped, buf, 13, 0) == 13 && memcmp(buf, "written later", 13) == 0,
	      "mapping and file differ");
	c = MUST(open("/run/mapped", O_RDONLY | O_CLOEXEC));
	CHECK(pread(c, buf, 13, 0) == 13 && memcmp(buf, "written later", 13) == 0,
	      "mapping and path differ");
	c = MUST(open("/run/lockfile", O_RDWR | O_CLOEXEC));
	CHECK(flock(c, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK, "the lock is free");
	c = MUST(open("new", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	CHECK(read(watch, buf, sizeof(buf)) > 0, "no event: %m");
	CHECK(strcmp(((struct inotify_event *)buf)->name, "new") == 0, "event of %s",
	      ((struct inotify_event *)buf)->name);
	state_pass();
}
