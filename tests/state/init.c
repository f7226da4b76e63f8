/* The init of a source container: starts the program and reaps.  Statically linked. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int null_fd, log_fd;

	null_fd = open("/dev/null", O_RDONLY);
	log_fd = open("/work/log", O_WRONLY | O_CREAT | O_APPEND, 0666);
	if (null_fd != 0 || log_fd != 1 || dup2(log_fd, 2) < 0)
		return 1;
	if (argc > 1 && fork() == 0) {
		setsid();
		execv(argv[1], argv + 1);
		_exit(127);
	}
	for (;;) {
		int status;

		if (wait(&status) < 0 && errno == ECHILD)
			pause();
	}
}
