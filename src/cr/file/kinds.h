/* kinds - the file kinds, one line each: here and in kinds.c. */
#pragma once
#include "cr/cr.h"

extern const struct file_kind file_kind_pipe;
extern const struct file_kind file_kind_fifo;
extern const struct file_kind file_kind_eventfd;
extern const struct file_kind file_kind_signalfd;
extern const struct file_kind file_kind_timerfd;
extern const struct file_kind file_kind_epoll;
extern const struct file_kind file_kind_inotify;
extern const struct file_kind file_kind_memfd;
extern const struct file_kind file_kind_pidfd;
extern const struct file_kind file_kind_ns;
extern const struct file_kind file_kind_tty;
extern const struct file_kind file_kind_reg;
extern const struct file_kind file_kind_unix, file_kind_inet, file_kind_netlink,
	file_kind_packet; /* room sock */
extern const struct file_kind file_kind_unsupported;
