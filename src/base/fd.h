/* fd - descriptors that are owned, and whole reads and writes. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes if >= 0 and leaves -1.  close() is never retried (Linux releases the number first). */
void fd_close(int *fd);

#define auto_fd __attribute__((cleanup(fd_close)))

/* The number, leaving -1 behind: the local gives up what it owned. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Reads or writes all of len.  0; -errno; -EPIPE (read: the end came first).  EINTR is retried. */
int fd_read_full(int fd, void *buf, size_t len);
int fd_write_full(int fd, const void *buf, size_t len);

/* The whole file below dirfd, at most max bytes, as a string with a NUL behind it (*ret is malloc'd,
 * *ret_len may be NULL).  -EFBIG: longer than max. */
int fd_read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);

/* The same of a text that the kernel makes in one piece (most files of /proc/PID): what is shorter than the
 * room for it is whole, so that nobody asks for its end. */
int fd_read_piece_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);

/* Writes text to an existing file (no creation) with one write() at position 0. */
int fd_write_file_at(int dirfd, const char *path, const char *text);

/* Replaces a file durably: temporary file beside it, fsync, rename, fsync of the folder. */
int fd_replace_file_at(int dirfd, const char *path, const void *data, size_t len, mode_t mode);

/* Opens by openat2 beneath the folder dirfd: no "..", no absolute link and no magic link leads out
 * of it.  O_CLOEXEC is added.  -EXDEV: the path climbs out. */
int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* As above, but dirfd is taken for the root: "/" and ".." stop there (RESOLVE_IN_ROOT). */
int fd_open_in_root(int dirfd, const char *path, int flags, mode_t mode);

/* Opens a lock file, makes it if need be, and locks it (flock), waiting at most wait_ms: the descriptor is the
 * lock.  Who holds it may remove the file: whoever waited for that one opens the file anew.
 * -EWOULDBLOCK: somebody else holds it. */
int fd_lock_file(const char *path, int wait_ms);

int fd_set_cloexec(int fd, int on);
int fd_set_nonblock(int fd, int on);

/* Sends one packet of a SOCK_SEQPACKET or SOCK_DGRAM socket with up to FD_PASS_MAX descriptors. */
#define FD_PASS_MAX 250
int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds);

/* Receives one packet.  *n_fds: in the room in fds, out how many came (all CLOEXEC, the caller's).
 * Returns the length, 0 at the end, -EMSGSIZE for a packet or descriptors that did not fit (those
 * that came are closed), else -errno. */
ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t *n_fds);
