#include "proto/net/curve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/base/cleanup.h"
#include "proto/base/text.h"

enum { CLIENTS_MAX = 4096, LINE_MAX_BYTES = 160 };

bool proto_net_z85_valid(const char *text)
{
    uint8_t raw[32];
    return strnlen(text, PROTO_NET_Z85_MAX) == PROTO_NET_Z85_MAX - 1 &&
           strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        ".-:+=^!/*?&<>()[]{}@%$#") == PROTO_NET_Z85_MAX - 1 &&
           zmq_z85_decode(raw, text) != NULL;
}

int proto_net_key_generate(struct proto_net_key *ret, struct base_error *err)
{
    if (zmq_curve_keypair(ret->public_z85, ret->secret_z85) != 0) {
        return base_fail(err, -errno, "make a CURVE key: %s", zmq_strerror(errno));
    }
    return 0;
}

static int parse_key(FILE *f, struct proto_net_key *ret)
{
    char line[LINE_MAX_BYTES];
    struct proto_net_key key = {0};
    while (fgets(line, sizeof line, f) != NULL) {
        char word[16], value[64];
        if (sscanf(line, "%15s %63s", word, value) != 2) {
            continue;
        }
        char *to = strcmp(word, "public") == 0   ? key.public_z85
                   : strcmp(word, "secret") == 0 ? key.secret_z85
                                                 : NULL;
        if (to == NULL || !proto_net_z85_valid(value)) {
            return BASE_EBADMSG;
        }
        (void)base_text_copy(to, PROTO_NET_Z85_MAX, value);
    }
    if (key.public_z85[0] == '\0' || key.secret_z85[0] == '\0') {
        return BASE_EBADMSG;
    }
    *ret = key;
    return 0;
}

int proto_net_key_read(const char *path, struct proto_net_key *ret, struct base_error *err)
{
    CLEANUP(base_fclosep) FILE *f = fopen(path, "re");
    struct stat st;
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    if ((st.st_mode & 077) != 0) {
        return base_fail(err, BASE_EDENIED, "'%s' is readable by others: chmod 600", path);
    }
    if (parse_key(f, ret) != 0) {
        return base_fail(err, BASE_EBADMSG, "'%s' is no key file", path);
    }
    return 0;
}

int proto_net_key_write(const char *path, const struct proto_net_key *key, struct base_error *err)
{
    CLEANUP(base_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return base_fail(err, -errno, "make '%s': %s", path, strerror(errno));
    }
    char text[2 * LINE_MAX_BYTES];
    int n = snprintf(text, sizeof text, "public %s\nsecret %s\n", key->public_z85, key->secret_z85);
    if (write(fd, text, (size_t)n) != n || fsync(fd) != 0) {
        int code = -errno;
        (void)unlink(path);
        return base_fail(err, code, "write '%s'", path);
    }
    return 0;
}

/* 1 a client, 0 nothing on this line, BASE_EBADMSG. */
static int parse_client(const char *line, struct proto_net_client *ret)
{
    char rest[2];
    size_t lead = strspn(line, " \t\r\n");
    if (line[lead] == '\0' || line[lead] == '#') {
        return 0;
    }
    if (sscanf(line, "%32s %32s %40s %1s", ret->role, ret->name, ret->public_z85, rest) != 3 ||
        !proto_net_z85_valid(ret->public_z85)) {
        return BASE_EBADMSG;
    }
    return 1;
}

int proto_net_clients_read(
    const char *path, struct proto_net_client **ret_list, int *ret_n, struct base_error *err)
{
    CLEANUP(base_fclosep) FILE *f = fopen(path, "re");
    if (f == NULL) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    CLEANUP(base_freep) struct proto_net_client *list = NULL;
    char line[LINE_MAX_BYTES];
    int n = 0, cap = 0;
    for (int at = 1; fgets(line, sizeof line, f) != NULL; at++) {
        struct proto_net_client client;
        int rc = parse_client(line, &client);
        if (rc < 0 || n == CLIENTS_MAX) {
            return base_fail(
                err, BASE_EBADMSG, "%s:%d: want '<role> <name> <public key>'", path, at);
        }
        if (rc == 0) {
            continue;
        }
        if (n == cap) {
            cap = 2 * cap + 8;
            struct proto_net_client *more = realloc(list, (size_t)cap * sizeof *list);
            if (more == NULL) {
                return base_fail(err, BASE_ENOMEM, "read '%s'", path);
            }
            list = more;
        }
        list[n++] = client;
    }
    if (ferror(f)) { /* half a list is none */
        return base_fail(err, -EIO, "read '%s'", path);
    }
    *ret_list = TAKE_PTR(list);
    *ret_n = n;
    return 0;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool proto_net_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

int proto_net_clients_add(
    const char *path, const struct proto_net_client *client, struct base_error *err)
{
    if (!proto_net_z85_valid(client->public_z85)) {
        return base_fail(err, BASE_EINVAL, "the public key of '%s' is no key", client->name);
    }
    CLEANUP(base_freep) struct proto_net_client *list = NULL;
    int n = 0;
    if (access(path, F_OK) == 0) {
        int rc = proto_net_clients_read(path, &list, &n, err);
        if (rc < 0) {
            return rc;
        }
    }
    for (int i = 0; i < n; i++) {
        if (strcmp(list[i].public_z85, client->public_z85) == 0) {
            return 0;
        }
    }
    CLEANUP(base_closep) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    char line[LINE_MAX_BYTES];
    int len =
        snprintf(line, sizeof line, "%s %s %s\n", client->role, client->name, client->public_z85);
    if (write(fd, line, (size_t)len) != len) {
        return base_fail(err, -errno, "write '%s'", path);
    }
    return 0;
}
