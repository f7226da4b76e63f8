/* tty_data - bytes on their way between the two ends of a pseudo terminal. */
#pragma once
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* `master` is an open master, `slave` an own open of its slave (non-blocking, no controlling
 * terminal). Takes the bytes out: `output` was written by the slave and not yet read by the master,
 * `input` the other way round (with unfinished lines).  Modes are as before afterwards. */
int tty_data_take(int master, int slave, struct buf *output, struct buf *input, struct err *e);
/* The same of input alone, where somebody outside has the master; and back by the slave (TIOCSTI, which is
 * root's). */
int tty_input_take(int slave, struct buf *input, struct err *e);
int tty_input_give(int slave, const struct buf *input, struct err *e);
/* Puts them (back) in, with the modes that the terminal has now. */
int tty_data_give(int master, int slave, const struct buf *output, const struct buf *input,
		  struct err *e);
