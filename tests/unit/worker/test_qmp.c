#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/check.h"
#include "worker/io/qmp.h"

/* The monitor on one end of a socket pair, the test plays QEMU on the other. */
struct peer {
    struct worker_qmp qmp;
    struct ev_loop *loop;
    int fd;
    int replies, events, closed;
    char last[200];
};

static void on_event(void *user, const char *name, const json_t *data)
{
    struct peer *p = user;
    (void)data;
    p->events++;
    (void)snprintf(p->last, sizeof p->last, "%s", name);
}

static void on_closed(void *user)
{
    ((struct peer *)user)->closed++;
}

static void on_reply(void *user, const struct worker_qmp_reply *reply)
{
    struct peer *p = user;
    p->replies++;
    (void)snprintf(p->last, sizeof p->last, "%s", reply->error != NULL ? reply->error : "ok");
}

static void set_up(struct peer *p)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *p = (struct peer){.loop = ev_loop_new(0), .fd = fds[1]};
    worker_qmp_init(&p->qmp, p->loop, fds[0]);
    p->qmp.user = p;
    p->qmp.on_event = on_event;
    p->qmp.on_closed = on_closed;
}

static void tear_down(struct peer *p)
{
    worker_qmp_deinit(&p->qmp);
    (void)close(p->fd);
    ev_loop_destroy(p->loop);
}

static void say(struct peer *p, const char *text)
{
    CHECK_EQ(write(p->fd, text, strlen(text)), (ssize_t)strlen(text));
    for (int i = 0; i < 4; i++) {
        ev_run(p->loop, EVRUN_NOWAIT);
    }
}

TEST(replies_come_in_order_whatever_the_cuts)
{
    struct peer p;
    set_up(&p);
    CHECK_EQ(worker_qmp_send(&p.qmp, "{\"execute\":\"stop\"}", -1, on_reply, &p), 0);
    CHECK_EQ(worker_qmp_send(&p.qmp, "{\"execute\":\"cont\"}", -1, on_reply, &p), 0);
    const char text[] = "{\"QMP\":{}}\r\n{\"return\":{}}\r\n{\"event\":\"STOP\"}\r\n"
                        "{\"return\":{}}\r\n{\"error\":{\"class\":\"X\",\"desc\":\"no\"}}\r\n";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char one[2] = {text[i], '\0'};
        say(&p, one);
    }
    CHECK_EQ(p.replies, 2);
    CHECK_EQ(p.events, 1);
    CHECK_STR(p.last, "no");
    tear_down(&p);
}

TEST(what_is_not_json_closes_the_monitor_once)
{
    struct peer p;
    set_up(&p);
    say(&p, "{\"return\":{}}\nhello\n{\"return\":{}}\n");
    CHECK_EQ(p.closed, 1);
    CHECK_EQ(worker_qmp_send(&p.qmp, "{\"execute\":\"stop\"}", -1, on_reply, &p), BASE_ECLOSED);
    tear_down(&p);
}

TEST(an_endless_line_is_refused)
{
    struct peer p;
    set_up(&p);
    char block[4097];
    memset(block, ' ', sizeof block - 1);
    block[sizeof block - 1] = '\0';
    for (int i = 0; i < WORKER_QMP_LINE_MAX / 4096 + 2 && p.closed == 0; i++) {
        say(&p, block);
    }
    CHECK_EQ(p.closed, 1);
    tear_down(&p);
}

TEST(too_many_commands_are_refused)
{
    struct peer p;
    set_up(&p);
    int rc = 0, n = 0;
    while (rc == 0 && n < 100) {
        rc = worker_qmp_send(&p.qmp, "{\"execute\":\"stop\"}", -1, on_reply, &p);
        n++;
    }
    CHECK_EQ(rc, BASE_EFULL);
    tear_down(&p);
}
