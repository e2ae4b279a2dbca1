/* The admin socket on a worker without microVMs: orders, progress, restarts. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/worker/rpc_rig.h"
#include "worker/io/admin.h"

static struct rig r;
static struct worker_admin *admin;
static char dir[64];
static int left;

struct operator
{
    int fd;
    bool closed;
    size_t n;
    char in[1024];
};

static void on_change(void *user)
{
    (void)user;
    worker_admin_look(admin);
}

static void on_leave(void *user)
{
    (void)user;
    left++;
}

static void open_admin(void)
{
    struct base_error err;
    struct worker_admin_config c = {.loop = r.loop,
        .log = &r.log,
        .run_dir = dir,
        .sessions = r.sessions,
        .node = r.node,
        .leave = on_leave};
    CHECK_EQ(worker_admin_create(&admin, &c, &err), 0);
}

static void setup(void)
{
    memset(&r, 0, sizeof r);
    left = 0;
    (void)strcpy(dir, "/tmp/warren-admin-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    r.on_change = on_change;
    rig_init(&r);
    open_admin();
}

static void teardown(void)
{
    worker_admin_destroy(admin);
    admin = NULL;
    rig_deinit(&r);
    CHECK_EQ(rmdir(dir), 0); /* the socket is gone */
}

static void dial(struct operator* o)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/admin.sock", dir);
    *o = (struct operator){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    CHECK_EQ(connect(o->fd, (struct sockaddr *)&at, sizeof at), 0);
}

static bool has(struct operator* o, const char *text)
{
    ssize_t n = recv(o->fd, o->in + o->n, sizeof o->in - 1 - o->n, 0);
    o->closed = o->closed || n == 0;
    o->n += n > 0 ? (size_t)n : 0;
    o->in[o->n] = '\0';
    return strstr(o->in, text) != NULL;
}

/* The loop runs on; a timer keeps it turning while only this socket waits. */
static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)w;
    (void)revents;
}

static void hears(struct operator* o, const char *text)
{
    ev_timer tick;
    ev_timer_init(&tick, on_tick, 0.01, 0.01);
    ev_timer_start(r.loop, &tick);
    RIG_UNTIL(&r, has(o, text));
    ev_timer_stop(r.loop, &tick);
}

static void order(struct operator* o, const char *text)
{
    CHECK_EQ(send(o->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void end_session(const char *name)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__SessionDelete d = WARREN__SESSION_DELETE__INIT;
    q.op_case = WARREN__REQUEST__OP_SESSION_DELETE;
    q.session_delete = &d;
    CHECK_EQ(rig_status(&r, rig_send(&r, PROTO_NET_CTL, name, &q)), WARREN__STATUS__STATUS_OK);
}

TEST(a_drain_takes_no_new_identifier_and_lets_sessions_finish)
{
    setup();
    struct operator o;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    dial(&o);
    order(&o, "status\n");
    hears(&o, "state off sessions 1 microvms 1\n");
    order(&o, "drain wait\n");
    hears(&o, "ok\nstate draining sessions 1 microvms 1\n");
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "bobby", 2, "say x"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_UNAVAILABLE);
    CHECK_STR(end->code, "WorkerDraining");
    CHECK_STR(end->text, "the worker is draining");
    CHECK(end->retry_after_ms > 0);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 3, "say y")), WARREN__STATUS__STATUS_OK);
    end_session("alice");
    hears(&o, "state drained sessions 0 microvms 0\n");
    RIG_UNTIL(&r, has(&o, "drained") && o.closed);
    CHECK_EQ(left, 0);
    (void)close(o.fd);
    dial(&o);
    order(&o, "undrain\n");
    hears(&o, "ok\n");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 4, "say x")), WARREN__STATUS__STATUS_OK);
    (void)close(o.fd);
    teardown();
}

TEST(a_deadline_ends_sessions_and_one_who_waits_hears_of_it)
{
    setup();
    struct operator o;
    uint64_t c = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_EVENT) == 1);
    dial(&o);
    order(&o, "drain deadline 200 leave\n");
    hears(&o, "state drained sessions 0 microvms 0\n");
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    RIG_UNTIL(&r, left > 0);
    (void)close(o.fd);
    dial(&o);
    order(&o, "undrain\n");
    hears(&o, "error the worker is leaving\n");
    (void)close(o.fd);
    teardown();
}

TEST(a_restarted_worker_goes_on_draining_until_it_is_called_back)
{
    setup();
    struct operator o;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    dial(&o);
    order(&o, "drain wait\n");
    hears(&o, "state draining");
    (void)close(o.fd);
    worker_admin_destroy(admin);
    admin = NULL;
    rig_stop(&r);
    rig_start(&r);
    open_admin();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 2, "say x")), WARREN__STATUS__STATUS_UNAVAILABLE);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 3, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK(worker_session_ready(r.sessions)); /* there is nothing to wait for */
    dial(&o);
    order(&o, "undrain\n");
    hears(&o, "ok");
    (void)close(o.fd);
    worker_admin_destroy(admin);
    admin = NULL;
    rig_stop(&r);
    rig_start(&r);
    open_admin();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 4, "say x")), WARREN__STATUS__STATUS_OK);
    teardown();
}

TEST(nonsense_is_refused_and_long_lines_end_the_connection)
{
    setup();
    struct operator o, many[12];
    struct stat st;
    char path[80];
    (void)snprintf(path, sizeof path, "%s/admin.sock", dir);
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    dial(&o);
    order(&o, "shut down\nstat");
    hears(&o, "error no such order");
    order(&o, "us\n"); /* in two pieces */
    hears(&o, "state off sessions 0");
    char longer[300];
    memset(longer, 'x', sizeof longer);
    CHECK(send(o.fd, longer, sizeof longer, MSG_NOSIGNAL) > 0);
    RIG_UNTIL(&r, has(&o, "nothing") || o.closed);
    (void)close(o.fd);
    for (int i = 0; i < 12; i++) { /* more than it serves at a time: the first ones are served */
        dial(&many[i]);
        ev_run(r.loop, EVRUN_NOWAIT);
    }
    order(&many[0], "status\n");
    hears(&many[0], "state off");
    for (int i = 0; i < 12; i++) {
        (void)close(many[i].fd);
    }
    teardown();
}
