/* floor - the physical bound of a move's pause: the same bytes by TLS between the same hosts, from memory that
 * is there into memory that is fresh, by one OpenSSL connection and nothing else.
 *
 *   floor receive PORT CERT KEY MIB     prints "ready", then the seconds from the first byte to the last
 *   floor send ADDRESS PORT MIB */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static char *memory(size_t len, int fill)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; fill && i < len; i += 4096)
		if (getrandom(p + i, 256, 0) != 256)
			die("getrandom");
	return p;
}

static void tune(int sock)
{
	setsockopt(sock, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

static void receive(int port, const char *cert, const char *key, size_t len)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	char *to = memory(len, 0);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, s;
	size_t got = 0, n;
	double t;
	SSL *ssl;

	SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM);
	SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, 256 * 1024);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 1) < 0)
		die("listen");
	printf("ready\n");
	fflush(stdout);
	s = accept(l, NULL, NULL);
	if (s < 0)
		die("accept");
	tune(s);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, s);
	if (SSL_accept(ssl) != 1)
		die("handshake");
	t = now();
	while (got < len && SSL_read_ex(ssl, to + got, len - got, &n) == 1)
		got += n;
	if (got < len)
		die("read");
	printf("%.6f\n", now() - t);
	SSL_write(ssl, "k", 1);
}

static void send_all(const char *address, int port, size_t len)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *from = memory(len, 1), k;
	size_t sent = 0, n;
	SSL *ssl;

	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	tune(s);
	if (inet_pton(AF_INET, address, &a.sin_addr) != 1 || connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, s);
	if (SSL_connect(ssl) != 1)
		die("handshake");
	while (sent < len) {
		size_t piece = len - sent < 262144 ? len - sent : 262144;

		if (SSL_write_ex(ssl, from + sent, piece, &n) != 1)
			die("write");
		sent += n;
	}
	SSL_read(ssl, &k, 1);
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "receive") == 0)
		receive(atoi(argv[2]), argv[3], argv[4], (size_t)atol(argv[5]) << 20);
	else if (argc == 5 && strcmp(argv[1], "send") == 0)
		send_all(argv[2], atoi(argv[3]), (size_t)atol(argv[4]) << 20);
	else
		return 2;
	return 0;
}
