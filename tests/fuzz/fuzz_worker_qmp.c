/* What a broken-out QEMU may send to its monitor client. */
#include <sys/socket.h>
#include <unistd.h>

#include "worker/io/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void on_event(void *user, const char *name, const json_t *data)
{
    (void)user;
    (void)name;
    (void)data;
}

static void on_closed(void *user)
{
    (void)user;
}

static void on_reply(void *user, const struct worker_qmp_reply *reply)
{
    (void)user;
    (void)json_string_value(json_object_get(reply->value, "status"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct ev_loop *loop;
    loop = loop == NULL ? ev_loop_new(0) : loop;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) {
        return 0;
    }
    struct worker_qmp q;
    worker_qmp_init(&q, loop, fds[0]);
    q.user = &q;
    q.on_event = on_event;
    q.on_closed = on_closed;
    (void)worker_qmp_send(&q, "{\"execute\":\"query-migrate\"}", -1, on_reply, &q);
    (void)!write(fds[1], data, n);
    for (int i = 0; i < 3; i++) {
        ev_run(loop, EVRUN_NOWAIT);
    }
    worker_qmp_deinit(&q);
    (void)close(fds[1]);
    return 0;
}
