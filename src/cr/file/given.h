/* given - files that a tree has from outside, in checkpoints on their own: the names that a caller
 * has for them at the dump (--external), and what takes their place at the restore (--inherit-fd).
 *
 * The names are CRIU's:
 *	tty[RDEV:DEV], file[MNT_ID:INODE]	hexadecimal, the numbers of stat and fdinfo
 *	pipe[INODE], socket[INODE]		decimal; also as readlink has them, pipe:[INODE]
 *	path/to/file				with or without the slash in front
 * `pipe[]` names all pipes.  o may be NULL (a live migration): nothing has a name then, and nothing
 * is given. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cr/opts.h"

/* "KIND[A]" (ret[0]) or, with n 2, "KIND[A:B]".  1: so it is; 0: it is KIND[] (names all); -EINVAL: it
 * is something else. */
int given_parse(const char *text, const char *kind, unsigned base, size_t n, uint64_t ret[2]);

/* Dump: does the caller name it? */
bool given_names_file(const struct cr_opts *o, int mnt_id, ino_t ino);
/* What its record has instead of a path: "/file[MNT_ID:INODE]". */
#define GIVEN_NAME_MAX 64
void given_file_name(char ret[GIVEN_NAME_MAX], int mnt_id, ino_t ino);
bool given_names_pipe(const struct cr_opts *o, ino_t ino);
/* dev 0: it is not known, and any will do; *ret_dev is the one that was named. */
bool given_names_tty(const struct cr_opts *o, dev_t rdev, dev_t dev, dev_t *ret_dev);

/* Restore: the descriptor that takes the place of a file (the caller's; never closed by us), -ENOENT:
 * none.  Of several with one name the first that allows the access (O_RDONLY, O_WRONLY, O_RDWR) is
 * taken, else the first. */
int given_file(const struct cr_opts *o, const char *path, unsigned access);
int given_pipe(const struct cr_opts *o, uint32_t ino, unsigned access);
int given_tty(const struct cr_opts *o, dev_t rdev, dev_t dev);

/* Can this descriptor be read and written as `access` says? */
bool given_allows(int fd, unsigned access);
