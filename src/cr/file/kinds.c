/* kinds - the table of file kinds. The first that recognises a file has it; the last one takes what
 * is left and refuses it by name. */
#include "cr/cr.h"
#include "cr/file/kinds.h"

const struct file_kind *const file_kinds[] = {
	&file_kind_pipe,
	&file_kind_fifo,
	&file_kind_eventfd,
	&file_kind_signalfd,
	&file_kind_timerfd,
	&file_kind_epoll,
	&file_kind_inotify,
	&file_kind_memfd,
	&file_kind_pidfd,
	&file_kind_ns,
	&file_kind_tty,
	&file_kind_reg,
	/* Sockets: the last of them refuses what the others leave. */
	&file_kind_unix,
	&file_kind_inet,
	&file_kind_netlink,
	&file_kind_packet,
	&file_kind_unsupported,
};
const size_t file_kinds_n = sizeof(file_kinds) / sizeof(file_kinds[0]);
