/* link - open files whose own name is gone, while the file has others in folders that nobody knows of:
 * under --link-remap they get a link beside their old name until they are restored. */
#pragma once
#include "cr/file/file.h"

/* Can a link be made beside f's old name? */
bool link_possible(const struct dump *d, const struct ofile *f);
/* Has it been made for another open file of the same?  Then it is the link of this one, too. */
bool link_is_made(struct dump *d, const struct ofile *f);
/* Makes it (once for each inode) and writes its records; re is that of f. */
int link_capture(struct dump *d, const struct ofile *f, const RegFileEntry *re, struct err *e);
/* Removes the links, but where the tree is gone (dump.replaced). */
void links_dump_done(struct dump *d);

/* Does the record that says so make sense? */
int link_load(struct restore *r, const struct rfile *f, struct err *e);
/* The path by which to open file f; NULL: its own name. */
const char *link_path(struct restore *r, const struct rfile *f);
/* Removes the links of a restore that is complete. */
void links_restore_done(struct restore *r);
