/* tty_priv - shared by tty.c and tty_restore.c. */
#pragma once
#include "cr/cr.h"

#define TTY_INDEX_MAX 4096
/* In the id of a tty_data_entry: bytes for the slave; else for the master. */
#define TTY_INPUT 0x20000000u
/* Ids of pairs without a master, where others have their index. */
#define TTY_HUNG 0x40000000u

/* Number of the pair that a slave's device is; -1: no slave. */
int tty_index_of(dev_t rdev);
int tty_load(struct restore *r, struct rfile *f, struct err *e);
int tty_build(struct restore *r, struct rfile *f, struct err *e);
int tty_placed(struct restore *r, struct rfile *f, struct err *e);
