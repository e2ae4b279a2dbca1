/* A gateway's workers when the cluster tells them. The shares of the cluster that a voter and
 * workers have are in the same loop; behind the workers' ports there is at most an echo of pings.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/io/calls_state.h"
#include "proto/base/clock.h"
#include "proto/net/cluster_key.h"
#include "proto/net/curve.h"
#include "scheduler/io/host_node.h"
#include "scheduler/io/mesh.h"
#include "scheduler/io/roster.h"
#include "scheduler/io/views.h"
#include "scheduler/io/voter_node.h"
#include "scheduler/wire/wire.h"
#include "tests/lib/check.h"
#include "tests/lib/cluster_dir.h"

enum { WORKERS_MAX = 4 };

struct host {
    struct sched_settings *settings;
    struct sched_host_node *node;
    unsigned starts; /* sessions that the cluster has bound to it */
};

static struct {
    struct ev_loop *loop;
    struct base_log log;
    int log_fd; /* see log_to_memory() */
    struct sched_settings *voter_settings;
    struct sched_voter_node *voter;
    struct host hosts[WORKERS_MAX];
    struct gw_calls *calls;
    struct proto_net *net; /* of the pings */
    struct proto_net_socket *pings;
} g;

/* Runs the loop until the condition holds; the test is ended when that takes a minute. */
#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        (void)alarm(60);                                                                           \
        while (!(cond)) {                                                                          \
            ev_run(g.loop, EVRUN_ONCE);                                                            \
        }                                                                                          \
        (void)alarm(0);                                                                            \
    } while (0)

static void on_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint32_t inc)
{
    (void)user, (void)freeze_at_ns, (void)kill_at_ns, (void)inc;
}

static void on_start(void *user, struct sched_key key, sched_epoch epoch)
{
    struct host *h = user;
    h->starts++;
    sched_host_node_up(h->node, key, epoch);
}

static void on_stop(void *user, struct sched_key key, sched_epoch epoch)
{
    sched_host_node_down(((struct host *)user)->node, key, epoch);
}

static void on_leave(void *user, const char *why)
{
    (void)user, (void)why;
}

/* The worker `name`, in the roster, tells these ports. */
static void start_host(unsigned i, const char *name, uint16_t ctl, uint16_t bulk)
{
    static const struct sched_host_ops ops = {
        .lease = on_lease, .vm_start = on_start, .vm_stop = on_stop, .leave = on_leave};
    struct host *h = &g.hosts[i];
    char run[32];
    const char *yaml = cluster_dir_settle(name, sched_voter_node_endpoint(g.voter));
    CHECK_EQ(sched_settings_load(yaml, &h->settings, NULL), 0);
    (void)snprintf(run, sizeof run, "%s.state", name);
    struct sched_host_cfg cfg = {.loop = g.loop,
        .log = &g.log,
        .settings = h->settings,
        .run_dir = cluster_dir_at(run),
        .sess_max = 4,
        .ctl_port = ctl,
        .bulk_port = bulk,
        .ops = &ops,
        .user = h};
    CHECK_EQ(sched_host_node_create(&h->node, &cfg, NULL), 0);
}

static void stop_host(unsigned i)
{
    sched_host_node_destroy(g.hosts[i].node);
    sched_settings_destroy(g.hosts[i].settings);
    g.hosts[i] = (struct host){0};
}

static void on_ping(void *owner, const struct proto_net_message *m)
{
    (void)owner;
    struct proto_envelope pong = {.type = PROTO_ENVELOPE_PONG, .corr = m->env.corr, .view = 1};
    if (m->env.type == PROTO_ENVELOPE_PING) {
        CHECK_EQ(proto_net_send(g.pings, &m->peer, &pong, NULL, 0), 0);
    }
}

/* Answers pings as the worker `name`; the port. */
static uint16_t answer_pings(const char *name)
{
    static const struct proto_net_ops ops = {.on_message = on_ping};
    static struct proto_net_key key;
    CHECK_EQ(proto_net_key_read(cluster_dir_at(name), &key, NULL), 0);
    CHECK_EQ(proto_net_create(&g.net, g.loop, cluster_dir_at("roster"), NULL), 0);
    struct proto_net_options opt = {
        .class = PROTO_NET_CTL, .endpoint = "tcp://127.0.0.1:*", .self = &key, .ops = &ops};
    CHECK_EQ(proto_net_bind(g.net, &opt, &g.pings, NULL), 0);
    const char *port = strrchr(proto_net_endpoint(g.pings), ':') + 1;
    return (uint16_t)strtoul(port, NULL, 10);
}

static void setup(void)
{
    memset(&g, 0, sizeof g);
    g.loop = ev_loop_new(0);
    base_log_init(&g.log, "test", STDERR_FILENO);
    g.log.level = BASE_LOG_ERROR;
    cluster_dir_make();
    cluster_dir_list("gateway", "g1");
    cluster_dir_list("worker", "w1");
    CHECK_EQ(sched_settings_load(cluster_dir_settle("v1", NULL), &g.voter_settings, NULL), 0);
    struct sched_voter_node_cfg voter = {
        .loop = g.loop, .log = &g.log, .settings = g.voter_settings, .birth = true};
    CHECK_EQ(sched_voter_node_create(&g.voter, &voter, NULL), 0);
    static struct proto_net_key self;
    CHECK_EQ(proto_net_key_read(cluster_dir_at("g1"), &self, NULL), 0);
    struct gw_calls_options opt = {.loop = g.loop,
        .log = &g.log,
        .self = &self,
        .cluster_key = {7},
        .cluster = cluster_dir_settle("g1", sched_voter_node_endpoint(g.voter))};
    CHECK_EQ(gw_calls_create(&g.calls, &opt, NULL), 0);
}

static void teardown(void)
{
    gw_calls_destroy(g.calls);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        stop_host(i);
    }
    if (g.net != NULL) {
        proto_net_destroy(g.net);
    }
    sched_voter_node_destroy(g.voter);
    sched_settings_destroy(g.voter_settings);
    ev_loop_destroy(g.loop);
    cluster_dir_remove();
}

static bool open_to(const char *name)
{
    const struct worker *w = g.calls->workers;
    return g.calls->workers_n == 1 && strcmp(w->name, name) == 0 &&
           w->links[PROTO_NET_CTL].socket != NULL && w->links[PROTO_NET_BULK].socket != NULL;
}

/* The gateway looks at its workers now, and has tried their keys long ago. */
static void look_late(struct worker *w)
{
    w->links[PROTO_NET_CTL].tried_ns = w->links[PROTO_NET_BULK].tried_ns = 0;
    ev_invoke(g.loop, &g.calls->look, EV_TIMER);
}

struct asked {
    bool looks; /* for a session; else it is for one that is made, if need be */
    bool over, failed;
    enum gw_call_failure why;
    Warren__Status status; /* of the end */
    char code[32];
    void (*then)(void); /* when it fails; NULL: nothing */
};

static void on_end(void *owner, const Warren__Reply *r)
{
    struct asked *a = owner;
    a->over = true;
    a->status = r->status;
    (void)snprintf(a->code, sizeof a->code, "%s", r->code);
}

static void on_failed(void *owner, enum gw_call_failure why)
{
    struct asked *a = owner;
    a->over = a->failed = true;
    a->why = why;
    if (a->then != NULL) {
        a->then();
    }
}

static struct gw_call *start(struct asked *a, const struct gw_call_options *how)
{
    static const struct gw_call_ops ops = {.end = on_end, .failed = on_failed};
    Warren__Request r = WARREN__REQUEST__INIT;
    Warren__Key key = WARREN__KEY__INIT;
    Warren__SessionGet get = WARREN__SESSION_GET__INIT;
    Warren__FileList list = WARREN__FILE_LIST__INIT;
    struct gw_call *call = NULL;
    key.pool = (char *)(uintptr_t) "python";
    key.identifier = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "alice", .len = 5};
    r.key = &key;
    if (a->looks) {
        r.op_case = WARREN__REQUEST__OP_SESSION_GET;
        r.session_get = &get;
    } else {
        r.op_case = WARREN__REQUEST__OP_FILE_LIST;
        r.file_list = &list;
    }
    a->over = a->failed = false;
    struct gw_call_options opt = *how;
    opt.request = &r;
    opt.ops = &ops;
    opt.owner = a;
    CHECK_EQ(gw_call_start(g.calls, &opt, &call), 0);
    return call;
}

static struct gw_call *start_call(struct asked *a, enum gw_call_kind kind, uint32_t deadline_ms)
{
    return start(a, &(struct gw_call_options){.kind = kind, .deadline_ms = deadline_ms});
}

TEST(a_worker_that_is_taken_out_is_cut_off_and_leaves_its_place)
{
    setup();
    g.calls->workers_max = 1;
    start_host(0, "w1", 1, 2);
    UNTIL(open_to("w1"));
    const struct worker *w = g.calls->workers;
    cluster_dir_unlist("w1"); /* it lives on, and says so */
    UNTIL(w->links[PROTO_NET_CTL].socket == NULL && w->links[PROTO_NET_BULK].socket == NULL);
    stop_host(0);
    cluster_dir_list("worker", "w2");
    start_host(1, "w2", 3, 4);
    UNTIL(open_to("w2"));
    teardown();
}

/* How often the gateway's log has said this. */
static unsigned said(const char *text)
{
    static char log[1 << 16];
    ssize_t n = pread(g.log_fd, log, sizeof log - 1, 0);
    unsigned times = 0;
    CHECK(n >= 0);
    log[n] = '\0';
    for (const char *at = log; (at = strstr(at, text)) != NULL; at++) {
        times++;
    }
    return times;
}

static void log_to_memory(void)
{
    g.log_fd = memfd_create("log", MFD_CLOEXEC);
    CHECK(g.log_fd >= 0);
    base_log_init(&g.log, "test", g.log_fd);
    g.log.level = BASE_LOG_ERROR;
}

TEST(workers_without_a_place_are_named)
{
    setup();
    log_to_memory();
    g.calls->workers_max = 1;
    start_host(0, "w1", 1, 2);
    UNTIL(open_to("w1"));
    cluster_dir_list("worker", "w2");
    start_host(1, "w2", 3, 4);
    UNTIL(said("no room for worker=w2") > 0);
    cluster_dir_list("worker", "w3"); /* another one */
    start_host(2, "w3", 5, 6);
    UNTIL(said("no room for worker=w3") > 0);
    CHECK(open_to("w1"));
    unsigned before = said("no room");
    for (unsigned i = 0; i < 8; i++) { /* as often as it looks */
        ev_invoke(g.loop, &g.calls->look, EV_TIMER);
    }
    CHECK_EQ(said("no room"), before);
    g.calls->workers_max = 3;
    UNTIL(g.calls->workers_n == 3);
    cluster_dir_list("worker", "w4"); /* after there was room */
    start_host(3, "w4", 7, 8);
    UNTIL(said("no room for worker=w4") > 0);
    teardown();
    (void)close(g.log_fd);
}

TEST(a_link_without_a_connection_tries_the_next_key_and_one_with_a_connection_does_not)
{
    setup();
    uint16_t port = answer_pings("w1"); /* nobody answers at the bulk port */
    start_host(0, "w1", port, 2);
    UNTIL(open_to("w1"));
    struct worker *w = g.calls->workers;
    struct link *ctl = &w->links[PROTO_NET_CTL], *bulk = &w->links[PROTO_NET_BULK];
    UNTIL(ctl->ready);
    char first[PROTO_NET_Z85_MAX];
    memcpy(first, ctl->key, sizeof first);
    cluster_dir_list("worker", "w1"); /* a second line for it */
    struct proto_net_key second;
    CHECK_EQ(proto_net_key_read(cluster_dir_at("w1"), &second, NULL), 0);
    UNTIL(sched_route_node_lists(g.calls->route, w->id, second.public_z85));
    look_late(w);
    CHECK_STR(bulk->key, second.public_z85);
    CHECK_STR(ctl->key, first);
    CHECK(ctl->ready);
    proto_net_close(g.pings);
    UNTIL(!ctl->ready);
    look_late(w);
    CHECK_STR(ctl->key, second.public_z85);
    CHECK_STR(bulk->key, first); /* in turn */
    teardown();
}

static void read_roster_again(void)
{
    cluster_dir_list("worker", "w2");
    UNTIL(sched_route_node_lists(g.calls->route, sched_node_id("w2"), NULL));
}

/* With the address sanitizer this finds a key that lies in the roster of before. */
TEST(what_a_lost_call_sets_off_may_read_the_roster_again)
{
    struct asked a = {.then = read_roster_again};
    setup();
    start_host(0, "w1", answer_pings("w1"), 2);
    UNTIL(open_to("w1"));
    struct worker *w = g.calls->workers;
    struct link *ctl = &w->links[PROTO_NET_CTL];
    char key[PROTO_NET_Z85_MAX];
    memcpy(key, ctl->key, sizeof key);
    UNTIL(ctl->ready);
    const struct gw_call *call = start_call(&a, GW_CALL_WRITE, 60000);
    UNTIL(call->state == SENT);
    ctl->at[0] = '\0'; /* as if it had been elsewhere */
    look_late(w);
    CHECK(a.failed);
    CHECK_STR(ctl->key, key);
    UNTIL(ctl->ready);
    teardown();
}

static void take_first_out(void)
{
    ev_timer_stop(g.loop, &g.calls->look); /* it is inside a look */
    cluster_dir_unlist("w1");
    UNTIL(!sched_route_node_lists(g.calls->route, sched_node_id("w1"), NULL));
    ev_timer_again(g.loop, &g.calls->look);
}

TEST(a_place_is_not_given_away_while_it_has_sockets)
{
    struct asked a = {.then = take_first_out};
    setup();
    g.calls->workers_max = 1;
    start_host(0, "w1", answer_pings("w1"), 2);
    UNTIL(open_to("w1"));
    struct worker *w = g.calls->workers;
    UNTIL(w->links[PROTO_NET_CTL].ready);
    const struct gw_call *call = start_call(&a, GW_CALL_WRITE, 600000);
    UNTIL(call->state == SENT);
    cluster_dir_list("worker", "w2");
    start_host(1, "w2", 3, 4);
    UNTIL(g.calls->unplaced != 0);
    w->links[PROTO_NET_CTL].at[0] = '\0'; /* as if it had been elsewhere */
    ev_invoke(g.loop, &g.calls->look, EV_TIMER);
    CHECK(a.failed);
    CHECK(open_to("w1")); /* opened anew in the walk in which the second one wants the place */
    teardown();
}

/* ---- what any worker can tell ---- */

static double left_s(struct gw_call *call)
{
    UNTIL(call->state == SENT);
    return ev_timer_remaining(g.loop, &call->timer);
}

TEST(a_punctual_call_does_not_wait_to_hear_that_the_worker_is_late)
{
    enum { DEADLINE_MS = 60000 };
    struct asked a = {0};
    setup();
    start_host(0, "w1", answer_pings("w1"), 2);
    UNTIL(open_to("w1"));
    struct gw_call_options how = {.kind = GW_CALL_READ, .deadline_ms = DEADLINE_MS};
    struct gw_call *call = start(&a, &how);
    CHECK(left_s(call) > DEADLINE_MS / 1e3);
    gw_call_cancel(call);
    how.punctual = true;
    call = start(&a, &how);
    CHECK(left_s(call) <= DEADLINE_MS / 1e3);
    gw_call_cancel(call);
    teardown();
}

static void set_ready(unsigned worker, bool ready)
{
    struct worker *w = &g.calls->workers[worker];
    w->links[PROTO_NET_CTL].ready = w->links[PROTO_NET_BULK].ready = ready;
}

static void setup_two(void)
{
    setup();
    cluster_dir_list("worker", "w2");
    start_host(0, "w1", 1, 2);
    start_host(1, "w2", 3, 4);
    UNTIL(g.calls->workers_n == 2 && sched_route_node_members(g.calls->route) == 2);
}

/* The order in which they would be asked changes meanwhile. */
TEST(of_workers_that_know_the_same_nobody_is_asked_twice)
{
    struct gw_calls_asked asked = {0};
    setup_two();
    set_ready(1, true);
    CHECK_EQ(gw_calls_any(g.calls, 0, &asked), 1);
    gw_calls_note(&asked, 1);
    set_ready(1, false);
    CHECK_EQ(gw_calls_any(g.calls, 0, &asked), 0);
    gw_calls_note(&asked, 0);
    CHECK_EQ(gw_calls_any(g.calls, 0, &asked), -1);
    teardown();
}

/* ---- workers that have no place ---- */

/* Which host the call is for. */
static struct host *told(const struct gw_call *call)
{
    UNTIL(call->epoch != 0);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (g.hosts[i].node != NULL && g.hosts[i].settings->id == call->link->worker->id) {
            return &g.hosts[i];
        }
    }
    CHECK(false);
    return NULL;
}

/* The host says that its pool is full, and is not asked for it for a while. True: the call goes on.
 */
static bool refuse(struct gw_call *call, uint32_t shut_ms)
{
    struct host *h = told(call);
    Warren__Reply r = WARREN__REPLY__INIT;
    r.status = WARREN__STATUS__STATUS_NOT_HERE;
    r.code = (char *)(uintptr_t) "PoolFull";
    r.text = (char *)(uintptr_t) "full";
    r.retry_after_ms = 1000;
    sched_host_node_shut(h->node, NULL, shut_ms);
    sched_host_node_unused(h->node, call->key_hash, call->epoch);
    if (gw_calls_route_reply(call, &r)) {
        return true;
    }
    CHECK_EQ(r.status, WARREN__STATUS__STATUS_FULL);
    gw_calls_end(call, &r);
    return false;
}

TEST(a_worker_that_refuses_again_is_not_another_one)
{
    struct asked a = {0};
    setup_two();
    struct gw_call *call = start_call(&a, GW_CALL_READ, 60000);
    const struct host *first = told(call);
    struct host *other = &g.hosts[first == &g.hosts[0]];
    sched_host_node_shut(other->node, NULL, 2000);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(told(call) == first);
        CHECK(refuse(call, 0));
    }
    while (told(call) == first) { /* until the other takes sessions again */
        CHECK(refuse(call, 20));
    }
    CHECK(!refuse(call, 0));
    CHECK(a.over && !a.failed && a.status == WARREN__STATUS__STATUS_FULL);
    teardown();
}

TEST(when_nobody_else_has_a_place_the_end_is_what_the_last_one_said)
{
    struct asked a = {0};
    setup_two();
    struct gw_call *call = start_call(&a, GW_CALL_READ, 60000);
    struct host *other = &g.hosts[told(call) == &g.hosts[0]];
    sched_host_node_shut(other->node, NULL, 60000);
    CHECK(refuse(call, 60000));
    UNTIL(a.over);
    CHECK(!a.failed);
    CHECK_EQ(a.status, WARREN__STATUS__STATUS_FULL);
    CHECK_STR(a.code, "PoolFull");
    (void)start_call(&a, GW_CALL_READ, 100); /* another one, that nobody has told anything */
    UNTIL(a.over);
    CHECK(a.failed);
    teardown();
}

static bool up_to_date(void)
{
    const struct sched_view *v = sched_route_node_core(g.calls->route)->view;
    return sched_view_version(v) == SCHED_VERSION_MAX;
}

TEST(who_asks_for_a_session_that_is_not_there_binds_nothing)
{
    struct asked a = {.looks = true};
    setup_two();
    UNTIL(up_to_date());
    (void)start_call(&a, GW_CALL_READ, 60000);
    UNTIL(a.over);
    CHECK(!a.failed);
    CHECK_EQ(a.status, WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_STR(a.code, "session");
    CHECK_EQ(g.hosts[0].starts + g.hosts[1].starts, 0);
    teardown();
}

/* The voters have it that the worker is there, and it may be; this gateway does not reach it. */
TEST(a_call_does_not_wait_longer_for_a_member_than_it_takes_to_replace_one)
{
    struct asked a = {0};
    setup_two();
    struct gw_call *call = start_call(&a, GW_CALL_READ, 600000);
    (void)told(call);
    struct link *link = call->link;
    CHECK(ev_timer_remaining(g.loop, &call->timer) <= 2e-3 * g.calls->settings->lease_ms);
    CHECK(!a.over && !link->ready);
    link->down_ns -= 2 * g.calls->settings->lease_ms * BASE_NS_PER_MS; /* as if long ago */
    struct asked b = {0};
    (void)start_call(&b, GW_CALL_READ, 600000); /* for the same session */
    UNTIL(b.over);
    CHECK(b.failed && b.why == GW_CALL_UNREACHABLE);
    gw_call_cancel(call);
    teardown();
}

/* ---- code that was sent before the connection was lost ---- */

/* A worker that says nothing to the first request, or begins its answer, and says `then` to each
 * one behind the first. */
static struct {
    struct proto_net_key key;
    char at[64];
    bool head;
    unsigned requests;
    Warren__Status then;
} fake;

static void say(
    const struct proto_net_message *m, enum proto_envelope_type type, Warren__Status status)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    uint8_t raw[64];
    r.status = status;
    r.text = (char *)(uintptr_t) "why";
    struct proto_envelope e = {.type = type, .corr = m->env.corr, .view = 1};
    size_t n = warren__reply__get_packed_size(&r);
    CHECK(n <= sizeof raw && warren__reply__pack(&r, raw) == n);
    CHECK_EQ(proto_net_send(g.pings, &m->peer, &e, raw, n), 0);
}

static void on_work(void *owner, const struct proto_net_message *m)
{
    if (m->env.type != PROTO_ENVELOPE_REQ) {
        on_ping(owner, m);
    } else if (fake.requests++ > 0) {
        say(m, PROTO_ENVELOPE_END, fake.then);
    } else if (fake.head) {
        say(m, PROTO_ENVELOPE_HEAD, WARREN__STATUS__STATUS_OK);
    }
}

static void bind_fake(const char *endpoint)
{
    static const struct proto_net_ops ops = {.on_message = on_work};
    struct proto_net_options opt = {
        .class = PROTO_NET_CTL, .endpoint = endpoint, .self = &fake.key, .ops = &ops};
    CHECK_EQ(proto_net_bind(g.net, &opt, &g.pings, NULL), 0);
}

static struct gw_call *start_code(struct asked *a)
{
    static const struct gw_call_ops ops = {.end = on_end, .failed = on_failed};
    Warren__Request r = WARREN__REQUEST__INIT;
    Warren__Key key = WARREN__KEY__INIT;
    Warren__Exec exec = WARREN__EXEC__INIT;
    uint8_t id[PROTO_EXEC_ID_BYTES] = {1};
    struct gw_call *call = NULL;
    key.pool = (char *)(uintptr_t) "python";
    key.identifier = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "alice", .len = 5};
    r.key = &key;
    r.op_case = WARREN__REQUEST__OP_EXEC;
    r.exec = &exec;
    exec.id = (ProtobufCBinaryData){.data = id, .len = sizeof id};
    struct gw_call_options opt = {
        .kind = GW_CALL_EXEC, .deadline_ms = 600000, .request = &r, .ops = &ops, .owner = a};
    CHECK_EQ(gw_call_start(g.calls, &opt, &call), 0);
    return call;
}

/* The connection is lost under a call, and what comes behind is refused; the worker lives. */
static struct gw_call *lose_and_refuse(struct asked *a, bool head, Warren__Status refusal)
{
    memset(&fake, 0, sizeof fake);
    fake.head = head;
    fake.then = refusal;
    setup();
    CHECK_EQ(proto_net_key_read(cluster_dir_at("w1"), &fake.key, NULL), 0);
    CHECK_EQ(proto_net_create(&g.net, g.loop, cluster_dir_at("roster"), NULL), 0);
    bind_fake("tcp://127.0.0.1:*");
    (void)snprintf(fake.at, sizeof fake.at, "%s", proto_net_endpoint(g.pings));
    start_host(0, "w1", (uint16_t)strtoul(strrchr(fake.at, ':') + 1, NULL, 10), 2);
    UNTIL(open_to("w1"));
    struct gw_call *call = start_code(a);
    UNTIL(fake.requests == 1 && call->state == (head ? HEADED : SENT));
    proto_net_close(g.pings);
    UNTIL(call->state == WAITING);
    bind_fake(fake.at);
    UNTIL(a->over || fake.requests == 3);
    CHECK(!a->over); /* it was refused, and asks again */
    return call;
}

TEST(code_that_may_have_run_is_asked_for_until_its_worker_says_what_became_of_it)
{
    static const Warren__Status refusals[] = {WARREN__STATUS__STATUS_FULL,
        WARREN__STATUS__STATUS_UNAVAILABLE, WARREN__STATUS__STATUS_RETRY};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct asked a = {0};
        (void)lose_and_refuse(&a, /* head= */ i > 0, refusals[i]);
        fake.then = WARREN__STATUS__STATUS_OK;
        UNTIL(a.over);
        CHECK(!a.failed);
        CHECK_EQ(a.status, WARREN__STATUS__STATUS_OK);
        teardown();
    }
}

TEST(code_that_may_have_run_is_never_refused)
{
    for (unsigned head = 0; head < 2; head++) {
        struct asked a = {0};
        struct gw_call *call = lose_and_refuse(&a, head > 0, WARREN__STATUS__STATUS_FULL);
        call->deadline_ns = base_clock_mono_ns(); /* no time is left */
        UNTIL(a.over);
        CHECK(a.failed);
        CHECK_EQ(a.why, GW_CALL_LOST);
        teardown();
    }
}

/* ---- views ---- */

enum { FORGED = 99 };

/* The linker puts this in place of sched_views_drop(). */
static bool forged_dropped;
void __real_sched_views_drop(struct sched_views *v, const struct sched_view *kept);
void __wrap_sched_views_drop(struct sched_views *v, const struct sched_view *kept);

void __wrap_sched_views_drop(struct sched_views *v, const struct sched_view *kept)
{
    forged_dropped = forged_dropped || (kept != NULL && kept->num == FORGED);
    __real_sched_views_drop(v, kept);
}

static void tell_view(struct sched_mesh *mesh, uint64_t to)
{
    static uint8_t bytes[SCHED_WIRE_BYTES_MAX];
    struct sched_member member = {.node = 5, .inc = 1, .weight = 1, .flags = SCHED_MEMBER_IN};
    struct sched_view view = {.num = FORGED, .n = 1, .cap = 1, .m = &member};
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .view = {&view}};
    int n = sched_wire_encode(&m, bytes, sizeof bytes);
    CHECK(n > 0);
    CHECK_EQ(sched_mesh_send(mesh, to, SCHED_MESH_MSG, bytes, (size_t)n), 0);
}

static void on_bytes(void *user, uint64_t from, enum sched_role role,
    enum sched_mesh_channel channel, const uint8_t *bytes, size_t n)
{
    (void)user, (void)from, (void)role, (void)channel, (void)bytes, (void)n;
}

/* What is in the roster as `name`, as the gateway's neighbour. */
static void enter(struct sched_mesh **mesh, struct sched_roster **roster, const char *name)
{
    static const struct sched_mesh_ops mesh_ops = {.on_bytes = on_bytes};
    static struct proto_net_key key;
    uint8_t cluster_key[16];
    CHECK_EQ(proto_net_key_read(cluster_dir_at(name), &key, NULL), 0);
    CHECK_EQ(proto_net_cluster_key_read(cluster_dir_at("key"), cluster_key, NULL), 0);
    CHECK_EQ(sched_roster_load(roster, cluster_dir_at("roster"), NULL), 0);
    CHECK_EQ(proto_net_create(&g.net, g.loop, cluster_dir_at("roster"), NULL), 0);
    struct sched_mesh_cfg cfg = {.loop = g.loop,
        .net = g.net,
        .roster = *roster,
        .key = &key,
        .self = sched_node_id(name),
        .tag = sched_settings_tag(g.calls->settings, cluster_key, 2),
        .endpoint = "tcp://127.0.0.1:*",
        .peers_max = 4,
        .idle_ms = 60000,
        .hold_ms = 60000,
        .ops = &mesh_ops};
    CHECK_EQ(sched_mesh_create(mesh, &cfg, NULL), 0);
    CHECK_EQ(
        sched_mesh_address(*mesh, g.calls->settings->id, sched_route_node_endpoint(g.calls->route)),
        0);
}

TEST(a_view_of_nobody_who_may_choose_one_does_not_take_the_place_of_the_present_one)
{
    struct sched_roster *roster;
    struct sched_mesh *mesh;
    setup();
    forged_dropped = false;
    cluster_dir_list("voter", "v2"); /* in the roster, but cluster.yaml does not name it */
    start_host(0, "w1", 1, 2);
    UNTIL(sched_route_node_members(g.calls->route) == 1);
    enter(&mesh, &roster, "v2");
    while (!forged_dropped && gw_calls_view(g.calls) != FORGED) { /* until g1 knows v2 */
        tell_view(mesh, g.calls->settings->id);
        ev_run(g.loop, EVRUN_ONCE);
    }
    CHECK(gw_calls_view(g.calls) != FORGED);
    CHECK_EQ(gw_calls_view(g.calls), sched_route_node_core(g.calls->route)->view->num);
    sched_mesh_destroy(mesh);
    sched_roster_destroy(roster);
    teardown();
}
