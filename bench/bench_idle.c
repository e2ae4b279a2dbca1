/* Holds idle keep-alive connections for bench_gateway: each makes a TLS handshake and one request,
 * then says nothing. usage: bench_idle PORT COUNT    "ready" on stdout when all stand; ends with
 * stdin. */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PER_ADDRESS = 2500 }; /* the gateway has a limit for one client */

static int connect_from(unsigned i, uint16_t port)
{
    struct sockaddr_in from = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + i / PER_ADDRESS)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void open_one(SSL_CTX *ctx, unsigned i, uint16_t port)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    char answer[1024];
    SSL *ssl = SSL_new(ctx);
    if (ssl == NULL || SSL_set_fd(ssl, connect_from(i, port)) != 1 || SSL_connect(ssl) != 1 ||
        SSL_write(ssl, request, sizeof request - 1) <= 0 ||
        SSL_read(ssl, answer, sizeof answer) <= 12 || memcmp(answer, "HTTP/1.1 200", 12) != 0) {
        (void)fprintf(stderr, "connection %u: no answer\n", i);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: bench_idle PORT COUNT\n");
        return 2;
    }
    unsigned count = (unsigned)strtoul(argv[2], NULL, 10);
    struct rlimit files = {count + 64, count + 64};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || ctx == NULL) {
        perror("setup");
        return 1;
    }
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    for (unsigned i = 0; i < count; i++) {
        open_one(ctx, i, (uint16_t)strtoul(argv[1], NULL, 10));
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    char end;
    (void)!read(STDIN_FILENO, &end, 1);
    return 0;
}
