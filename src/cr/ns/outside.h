/* outside - what a tree's namespaces have from outside: mounts and whole namespaces that the caller names.  At
 * the dump they get their name, at the restore the caller says what stands for it; nothing else of the host gets
 * into a restored tree. */
#pragma once
#include "cr/cr.h"

/* Dump: the name of the mount at this mountpoint; NULL: none was given. */
const char *outside_mount_name(const struct cr_opts *o, const char *mountpoint);
/* Restore: the path on the host for a name; NULL: none was given. */
const char *outside_mount_path(const struct cr_opts *o, const char *name);
/* Mounts without a name are looked for among ours ("auto"). */
bool outside_mount_auto(const struct cr_opts *o);

/* Dump: which of the tree's namespaces (CLONE_NEW*, a subset of `own`) the caller names; these are not
 * the tree's to carry. */
int outside_namespaces(const struct cr_opts *o, pid_t pid, unsigned own, unsigned *ret, struct err *e);
/* The name of one of them; NULL: it has none. */
const char *outside_namespace_name(const struct cr_opts *o, pid_t pid, unsigned flag);

/* Restore: a descriptor for the namespace with this flag that was named (may be NULL), or is given by
 * --join-ns whatever the image says.  -ENOENT without a sentence: nothing is given.  *ret is the caller's. */
int outside_namespace_open(const struct cr_opts *o, unsigned flag, const char *name, int *ret, struct err *e);

/* The file under /proc/PID/ns; NULL: no such kind. */
const char *ns_file(unsigned flag);
#define NS_KINDS 8
extern const unsigned ns_flags[NS_KINDS]; /* user first: it owns those that follow */
