#include "proto/net/zap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#include "proto/base/text.h"
#include "proto/net/curve.h"

enum { FRAMES = 7, FRAME_MAX = 256 };

/* After the thread has started only the thread looks at this. */
struct proto_net_zap {
    pthread_t thread;
    void *socket;
    char *path;
    struct proto_net_client *list;
    int n;
    struct stat seen;
};

struct frame {
    size_t n;
    char p[FRAME_MAX];
};

/* Takes the list again when the file is another one; keeps the old list when it is unreadable. */
static int reload(struct proto_net_zap *z, struct base_error *err)
{
    struct stat st;
    if (stat(z->path, &st) != 0) {
        return base_fail(err, -errno, "stat '%s': %s", z->path, strerror(errno));
    }
    if (z->list != NULL && proto_net_same_file(&st, &z->seen)) {
        return 0;
    }
    struct proto_net_client *list = NULL;
    int n = 0;
    int rc = proto_net_clients_read(z->path, &list, &n, err);
    if (rc < 0) {
        return rc;
    }
    free(z->list);
    z->list = list;
    z->n = n;
    z->seen = st;
    return 0;
}

/* Reads one request; the number of frames, or -1 when the context ends. */
static int receive(void *socket, struct frame f[FRAMES])
{
    int n = 0;
    for (;;) {
        char skip[FRAME_MAX];
        int k = zmq_recv(socket, n < FRAMES ? f[n].p : skip, FRAME_MAX, 0);
        if (k < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -1;
        }
        if (n < FRAMES) {
            f[n].n = (size_t)k < FRAME_MAX ? (size_t)k : 0;
        }
        n++;
        int more = 0;
        size_t len = sizeof more;
        (void)zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &len);
        if (more == 0) {
            return n;
        }
    }
}

/* "role/name" of the key in the request, or NULL. */
static const char *find(struct proto_net_zap *z, const struct frame f[FRAMES], int n, char *user,
    char key[PROTO_NET_Z85_MAX])
{
    if (n != FRAMES || f[0].n != 3 || memcmp(f[0].p, "1.0", 3) != 0 || f[5].n != 5 ||
        memcmp(f[5].p, "CURVE", 5) != 0 || f[6].n != 32) {
        return NULL;
    }
    (void)zmq_z85_encode(key, (const uint8_t *)f[6].p, 32);
    (void)reload(z, NULL);
    for (int i = 0; i < z->n; i++) {
        if (strcmp(z->list[i].public_z85, key) == 0) {
            (void)snprintf(
                user, (size_t)2 * PROTO_NET_NAME_MAX, "%s/%s", z->list[i].role, z->list[i].name);
            return user;
        }
    }
    return NULL;
}

/* The key goes along with every message of the connection: a name may get another one. */
static size_t pack_key(uint8_t *to, const char *key)
{
    size_t name = strlen(PROTO_NET_ZAP_KEY), value = strlen(key);
    uint8_t *p = to;
    *p++ = (uint8_t)name;
    memcpy(p, PROTO_NET_ZAP_KEY, name);
    p += name;
    *p++ = 0, *p++ = 0, *p++ = 0; /* the length's upper bytes */
    *p++ = (uint8_t)value;
    memcpy(p, key, value);
    return (size_t)(p - to) + value;
}

static void answer(void *socket, const struct frame *id, const char *user, const char *key)
{
    uint8_t meta[PROTO_NET_Z85_MAX + 32];
    size_t n = user == NULL ? 0 : pack_key(meta, key);
    const char *code = user == NULL ? "400" : "200", *text = user == NULL ? "unknown key" : "OK";
    if (user == NULL) {
        user = "";
    }
    (void)zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
    (void)zmq_send(socket, id->p, id->n, ZMQ_SNDMORE);
    (void)zmq_send(socket, code, 3, ZMQ_SNDMORE);
    (void)zmq_send(socket, text, strlen(text), ZMQ_SNDMORE);
    (void)zmq_send(socket, user, strlen(user), ZMQ_SNDMORE);
    (void)zmq_send(socket, meta, n, 0);
}

static void *run(void *arg)
{
    struct proto_net_zap *z = arg;
    struct frame f[FRAMES] = {0};
    for (;;) {
        int n = receive(z->socket, f);
        if (n < 0) {
            break;
        }
        char user[2 * PROTO_NET_NAME_MAX], key[PROTO_NET_Z85_MAX];
        answer(z->socket, &f[1], find(z, f, n, user, key), key);
    }
    (void)zmq_close(z->socket);
    return NULL;
}

/* Signals are for the loop's thread. */
static int start_thread(struct proto_net_zap *z)
{
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&z->thread, NULL, run, z);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -rc;
}

static void release(struct proto_net_zap *z)
{
    free(z->list);
    free(z->path);
    free(z);
}

int proto_net_zap_create(
    struct proto_net_zap **ret, void *context, const char *clients, struct base_error *err)
{
    struct proto_net_zap *z = calloc(1, sizeof *z);
    if (z == NULL || (z->path = strdup(clients)) == NULL) {
        free(z);
        return base_fail(err, BASE_ENOMEM, "start the key check");
    }
    int rc = reload(z, err), zero = 0;
    if (rc < 0) {
        release(z);
        return rc;
    }
    z->socket = zmq_socket(context, ZMQ_REP);
    if (z->socket == NULL || zmq_setsockopt(z->socket, ZMQ_LINGER, &zero, sizeof zero) != 0 ||
        zmq_bind(z->socket, "inproc://zeromq.zap.01") != 0) {
        rc = base_fail(err, -errno, "start the key check: %s", zmq_strerror(errno));
    } else if ((rc = start_thread(z)) != 0) {
        (void)base_fail(err, rc, "start the key check's thread");
    }
    if (rc < 0) {
        if (z->socket != NULL) {
            (void)zmq_close(z->socket);
        }
        release(z);
        return rc;
    }
    *ret = z;
    return 0;
}

void proto_net_zap_destroy(struct proto_net_zap *z)
{
    if (z != NULL) {
        (void)pthread_join(z->thread, NULL);
        release(z);
    }
}
