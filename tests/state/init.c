/* The init of a source container: starts the program and reaps.  Statically linked. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A program that dies before its verdict has failed. */
static void ended(int status)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "FAIL it ended with status %#x", (unsigned)status);
	int fd = open("/work/result", O_WRONLY | O_CREAT | O_EXCL, 0666);

	if (fd >= 0 && write(fd, text, (size_t)n) == n)
		close(fd);
}

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
		pid_t pid = wait(&status);

		if (pid == 2)
			ended(status);
		/* A restored tree, or what is left of one that failed, becomes a child later. */
		if (pid < 0 && errno == ECHILD)
			usleep(20000);
	}
}
