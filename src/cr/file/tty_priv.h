/* tty_priv - shared by the files of terminals. */
#pragma once
#include "cr/cr.h"

#define TTY_INDEX_MAX 4096
/* In the id of a tty_data_entry: bytes for the slave; else for the master. */
#define TTY_INPUT 0x20000000u
/* Ids of pairs without a master, where others have their index. */
#define TTY_HUNG 0x40000000u
/* Ids of terminals that are not made but given: by --inherit-fd where the type is EXT_TTY, else the
 * restoring program's own.  A pair with its index as id and no master among the files is an orphan:
 * made, and its master given away. */
#define TTY_OUTSIDE 0x10000000u

enum tty_where {
	TTY_GONE,    /* its master was closed */
	TTY_HERE,    /* its master is in the tree */
	TTY_ORPHAN,  /* of the tree's own devpts; its master is outside */
	TTY_CALLERS, /* --shell-job: that of whoever started the tree */
	TTY_NAMED,   /* --external */
	TTY_NOWHERE, /* none of these: it cannot be carried */
};

/* Dump: the terminal that an open file is. */
struct tty_term {
	enum tty_where where;
	int index;                 /* of a pseudo terminal; else -1 */
	dev_t rdev, dev;           /* of the node; for /dev/tty alone what it stands for, and 0 */
	uint32_t id;               /* of its record */
	const struct ofile *first; /* the file that writes its record */
};
/* -errno: there is no terminal behind the file. */
int tty_find(struct dump *d, const struct ofile *f, struct tty_term *ret);

bool tty_is_ptmx(dev_t rdev);
bool tty_is_current(dev_t rdev); /* /dev/tty */
/* Number of the pair that a slave's device is; -1: no slave. */
int tty_index_of(dev_t rdev);
/* The device of a terminal as the kernel has it in TIOCGDEV and /proc/PID/stat. */
dev_t tty_dev_decode(uint32_t n);
/* Does the name of f lead to it, from the root of the tree? */
bool tty_leads(const struct dump *d, const struct ofile *f);
/* The node of a slave in the tree's /dev/pts. */
int tty_node_stat(const struct dump *d, int index, struct stat *ret);
/* The session whose terminal it is, and the group in its foreground, by their numbers in the tree;
 * 0: they are not in it. */
int tty_session_of(struct dump *d, const struct tty_term *t, uint32_t *ret_sid, uint32_t *ret_pgrp,
		   struct err *e);

int tty_load(struct restore *r, struct rfile *f, struct err *e);
int tty_build(struct restore *r, struct rfile *f, struct err *e);
int tty_placed(struct restore *r, struct rfile *f, struct err *e);
