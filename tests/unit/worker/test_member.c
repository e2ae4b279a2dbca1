/* A worker of a cluster: places that the cluster has bound to it, and what becomes of them. Its
 * voter, a gateway's share of the cluster and, when a test wants it, that of another worker are in
 * the same loop. */
#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "scheduler/core/name.h"
#include "scheduler/io/host_node.h"
#include "scheduler/io/route_node.h"
#include "scheduler/io/voter_node.h"
#include "tests/lib/cluster_dir.h"
#include "tests/unit/worker/rpc_rig.h"
#include "worker/io/rpc_state.h"
#include "worker/io/session_state.h"

enum { ASKS_MAX = 64, ASK_MS = 60000 };
static const uint8_t cluster_key[16] = {7}; /* as in rpc_rig.c and cluster_dir.c */

/* A question for the place of an identifier. */
struct ask {
    uint64_t rid;
    struct sched_host host;
    sched_epoch epoch; /* 0: not told yet */
};

static struct rig r;
static const char *refused_ctl; /* tried first, in vain; NULL: none */
static struct {
    struct sched_settings *voter_settings, *route_settings, *peer_settings;
    struct sched_voter_node *voter;
    struct sched_host_node *peer; /* w2, NULL: none */
    struct sched_route_node *route;
    const char *ctl;
    struct ask asks[ASKS_MAX];
    unsigned asks_n;
} c;

/* ---- the cluster ---- */

static void on_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch)
{
    (void)user, (void)freeze_at_ns, (void)kill_at_ns, (void)epoch;
}

static void on_leave(void *user, const char *why)
{
    (void)user, (void)why;
}

static int try_join(struct rig *rig, struct base_error *err)
{
    struct worker_member_config config = {.loop = rig->loop,
        .log = &rig->log,
        .settings = cluster_dir_settle("w1", sched_voter_node_endpoint(c.voter)),
        .run_dir = cluster_dir_at("w1.state"),
        .sessions_max = 8,
        .sessions = rig->sessions,
        .ctl = c.ctl,
        .bulk = "tcp://127.0.0.1:7102",
        .lease = on_lease,
        .leave = on_leave};
    memcpy(config.cluster_key, cluster_key, sizeof cluster_key);
    return worker_member_create(&rig->member, &config, err);
}

static void join(struct rig *rig)
{
    struct base_error err = {0};
    if (refused_ctl != NULL) {
        c.ctl = refused_ctl;
        CHECK_EQ(try_join(rig, &err), BASE_EINVAL);
        CHECK(strstr(err.text, "ctl: ") != NULL && strstr(err.text, "127.0.0.1") != NULL);
    }
    c.ctl = "tcp://127.0.0.1:7101";
    if (try_join(rig, &err) != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        CHECK(false);
    }
}

static void on_go(void *user, uint64_t rid, struct sched_host host, sched_epoch epoch)
{
    (void)user;
    for (unsigned i = 0; i < c.asks_n; i++) {
        if (c.asks[i].rid == rid) {
            c.asks[i].host = host;
            c.asks[i].epoch = epoch;
        }
    }
}

static void on_outcome(void *user, uint64_t rid, enum sched_outcome outcome, sched_epoch epoch)
{
    (void)user, (void)rid, (void)outcome, (void)epoch;
}

static void start_voter_and_route(void)
{
    static const struct sched_route_ops ops = {.go = on_go, .outcome = on_outcome};
    struct base_error err = {0};
    CHECK_EQ(sched_settings_load(cluster_dir_settle("v1", NULL), &c.voter_settings, &err), 0);
    struct sched_voter_node_cfg voter = {
        .loop = r.loop, .log = &r.log, .settings = c.voter_settings, .birth = true};
    CHECK_EQ(sched_voter_node_create(&c.voter, &voter, &err), 0);
    const char *yaml = cluster_dir_settle("g1", sched_voter_node_endpoint(c.voter));
    CHECK_EQ(sched_settings_load(yaml, &c.route_settings, &err), 0);
    struct sched_route_node_cfg route = {.loop = r.loop,
        .log = &r.log,
        .settings = c.route_settings,
        .reqs_max = ASKS_MAX,
        .cache_max = 16,
        .hedge_ms = 100,
        .resend_ms = 500,
        .ops = &ops};
    CHECK_EQ(sched_route_node_create(&c.route, &route, &err), 0);
}

/* As the worker starts: the voter has to be there first. */
static void start_and_join(struct rig *rig)
{
    if (c.voter == NULL) {
        start_voter_and_route();
    }
    join(rig);
}

static void setup_with(
    uint32_t sessions_max, bool two_pools, const struct worker_quota_limits *tenant)
{
    memset(&r, 0, sizeof r);
    memset(&c, 0, sizeof c);
    cluster_dir_make();
    cluster_dir_list("worker", "w1");
    cluster_dir_list("worker", "w2");
    cluster_dir_list("gateway", "g1");
    r.sessions_max = sessions_max;
    r.two_pools = two_pools;
    r.join = start_and_join;
    r.limits = *tenant;
    rig_init(&r);
}

static void setup(uint32_t sessions_max, bool two_pools)
{
    static const struct worker_quota_limits none = {0};
    setup_with(sessions_max, two_pools, &none);
}

static void teardown(void)
{
    sched_host_node_destroy(c.peer);
    sched_settings_destroy(c.peer_settings);
    sched_route_node_destroy(c.route);
    sched_voter_node_destroy(c.voter);
    sched_settings_destroy(c.route_settings);
    sched_settings_destroy(c.voter_settings);
    rig_deinit(&r);
    cluster_dir_remove();
}

static struct ask *ask_later(const char *pool, const char *name)
{
    struct sched_key key;
    struct sched_exec exec = {base_rand_u64(), base_rand_u64()};
    struct ask *a = &c.asks[c.asks_n++];
    CHECK(c.asks_n <= ASKS_MAX);
    CHECK_EQ(sched_name_key(cluster_key, pool, name, strlen(name), &key), 0);
    a->epoch = 0;
    a->rid = sched_route_node_request(c.route, key, exec, ASK_MS);
    CHECK(a->rid != 0);
    return a;
}

/* From now on requests are for this place. */
static void use(const struct ask *a, const char *pool)
{
    RIG_UNTIL(&r, a->epoch != 0);
    r.pool = pool;
    r.epoch = a->epoch;
}

static struct ask *ask(const char *pool, const char *name)
{
    struct ask *a = ask_later(pool, name);
    use(a, pool);
    return a;
}

/* What the host said, told to the cluster: the identifier goes to another place. */
static void not_here(struct ask *a)
{
    sched_epoch epoch = a->epoch;
    a->epoch = 0;
    sched_route_node_not_here(c.route, a->rid, epoch);
}

/* ---- the other worker: its places come up at once ---- */

static void on_peer_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint32_t inc)
{
    (void)user, (void)freeze_at_ns, (void)kill_at_ns, (void)inc;
}

static void on_peer_start(void *user, struct sched_key key, sched_epoch epoch)
{
    (void)user;
    sched_host_node_up(c.peer, key, epoch);
}

static void on_peer_stop(void *user, struct sched_key key, sched_epoch epoch)
{
    (void)user;
    sched_host_node_down(c.peer, key, epoch);
}

static void start_peer(void)
{
    static const struct sched_host_ops ops = {.lease = on_peer_lease,
        .vm_start = on_peer_start,
        .vm_stop = on_peer_stop,
        .leave = on_leave};
    struct base_error err = {0};
    const char *yaml = cluster_dir_settle("w2", sched_voter_node_endpoint(c.voter));
    CHECK_EQ(sched_settings_load(yaml, &c.peer_settings, &err), 0);
    struct sched_host_cfg cfg = {.loop = r.loop,
        .log = &r.log,
        .settings = c.peer_settings,
        .run_dir = cluster_dir_at("w2.state"),
        .sess_max = 64,
        .ops = &ops};
    CHECK_EQ(sched_host_node_create(&c.peer, &cfg, &err), 0);
}

/* An identifier that the cluster has bound to the peer, or to the worker. */
static struct ask *ask_at(char name[8], bool peer)
{
    static unsigned turn;
    struct ask *a;
    do {
        (void)snprintf(name, 8, "name%02u", turn++ % 100);
        a = ask("python", name);
    } while ((a->host.node == c.peer_settings->id) != peer);
    return a;
}

/* An identifier that the cluster has bound to the other worker first. What ended it there: whether
 * something may have run. From now on it is at this one. */
static struct ask *ask_after_peer(char name[8], bool ran)
{
    struct ask *a = ask_at(name, true);
    struct sched_key key;
    CHECK_EQ(sched_name_key(cluster_key, "python", name, strlen(name), &key), 0);
    sched_host_node_shut(c.peer, NULL, ASK_MS);
    (ran ? sched_host_node_down : sched_host_node_unused)(c.peer, key, a->epoch);
    not_here(a);
    use(a, "python");
    CHECK(a->host.node != c.peer_settings->id);
    return a;
}

/* How often somebody was asked for the place. */
static uint32_t tries(const struct ask *a)
{
    const struct sched_route *route = sched_route_node_core(c.route);
    uint32_t i = sched_map_get(&route->by_rid, a->rid, 0);
    CHECK(i != SCHED_MAP_NONE);
    return route->reqs[i].tries;
}

/* ---- tests ---- */

TEST(a_full_pool_refuses_nothing_of_another_one)
{
    setup(1, true);
    (void)ask("python", "alice");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    struct ask *full = ask("python", "bobby");
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "bobby", 2, "say x"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_NOT_HERE);
    CHECK_STR(end->code, "PoolFull");
    warren__reply__free_unpacked(end, NULL);
    not_here(full); /* waits until the worker takes sessions of the pool again */
    const struct ask *other = ask("other", "carol");
    CHECK(other->epoch != 0 && full->epoch == 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "carol", 3, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(full->epoch, 0);
    teardown();
}

TEST(a_worker_without_any_place_refuses_all_pools)
{
    setup(4, true); /* of four microVMs */
    for (uint8_t i = 0; i < 4; i++) {
        char name[] = "name-0";
        name[5] = (char)('0' + i);
        (void)ask("python", name);
        CHECK_EQ(rig_status(&r, rig_exec(&r, name, i + 1, "say x")), WARREN__STATUS__STATUS_OK);
    }
    (void)ask("other", "bobby");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 9, "say x")), WARREN__STATUS__STATUS_NOT_HERE);
    const struct ask *later = ask_later("python", "carol");
    RIG_UNTIL(&r, later->epoch != 0 || tries(later) > 10);
    CHECK_EQ(later->epoch, 0);
    teardown();
}

/* Under an epoch that was given up nothing is answered but that. */
static void place_is_gone(const struct ask *a, const char *name)
{
    r.epoch = a->epoch;
    Warren__Status status = rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, name, 0));
    CHECK_EQ(status, WARREN__STATUS__STATUS_NOT_HERE);
}

TEST(a_place_is_given_up_with_the_answer_that_there_is_no_session)
{
    setup(2, false);
    const struct ask *a = ask("python", "alice");
    Warren__Status status =
        rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, "alice", 0));
    CHECK_EQ(status, WARREN__STATUS__STATUS_NOT_FOUND);
    place_is_gone(a, "alice");
    a = ask("python", "bobby");
    status = rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "bobby", 0));
    CHECK_EQ(status, WARREN__STATUS__STATUS_NOT_FOUND);
    place_is_gone(a, "bobby");
    teardown();
}

TEST(a_tenant_over_its_quota_keeps_no_place)
{
    struct worker_quota_limits one = {.max[WORKER_QUOTA_SESSIONS] = 1};
    setup_with(4, false, &one);
    r.tenant = 5;
    (void)ask("python", "alice");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    const struct ask *a = ask("python", "bobby");
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "bobby", 2, "say x"), PROTO_ENVELOPE_END);
    CHECK_STR(end->code, "QuotaExceeded");
    warren__reply__free_unpacked(end, NULL);
    place_is_gone(a, "bobby");
    teardown();
}

TEST(who_waits_in_vain_keeps_no_place_and_takes_nobody_elses)
{
    setup(2, false);
    fake_world_hold_starts(r.world, true);
    const struct ask *a = ask("python", "alice");
    uint64_t waits = rig_exec(&r, "alice", 1, "say x");
    r.deadline_ms = 50;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 2, "say y")), WARREN__STATUS__STATUS_TIMEOUT);
    r.deadline_ms = 0;
    CHECK_EQ(rig_count(&r, waits, PROTO_ENVELOPE_END), 0);
    const struct ask *b = ask("python", "bobby");
    r.deadline_ms = 50;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 3, "say y")), WARREN__STATUS__STATUS_TIMEOUT);
    r.deadline_ms = 0;
    place_is_gone(b, "bobby");
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, waits), WARREN__STATUS__STATUS_OK);
    r.epoch = a->epoch;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 4, "say z")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(fake_world_runs(r.world), 2);
    teardown();
}

TEST(what_comes_up_after_its_place_was_given_up_runs_nothing)
{
    setup(2, false);
    fake_world_hold_starts(r.world, true);
    (void)ask("python", "alice");
    uint64_t waits = rig_exec(&r, "alice", 1, "say x");
    RIG_UNTIL(&r, fake_world_alive(r.world) > 0);
    worker_member_leave(r.member); /* stops what the cluster has bound here */
    struct proto_identifier id;
    CHECK_EQ(proto_identifier_set(&id, (const uint8_t *)"alice", 5), PROTO_IDENTIFIER_OK);
    RIG_UNTIL(&r, worker_member_generation(r.member, 0, &id) == 0);
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, waits), WARREN__STATUS__STATUS_NOT_HERE);
    CHECK_EQ(fake_world_runs(r.world), 0);
    teardown();
}

/* Code under the client's own id. */
static uint64_t send_given(const char *name, uint8_t id, uint64_t generation)
{
    struct rig_exec_how how = {.given = true, .generation = generation};
    return rig_exec_how(&r, name, id, "say x", &how);
}

static Warren__Status run_given(const char *name, uint8_t id, uint64_t generation)
{
    return rig_status(&r, send_given(name, id, generation));
}

TEST(operations_after_a_worker_in_which_something_may_have_run_are_of_unknown_outcome)
{
    setup(4, false);
    char name[8];
    start_peer();
    (void)ask_after_peer(name, true);
    CHECK_EQ(run_given(name, 1, 0), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(rig_status(&r, rig_cancel(&r, name, 1)), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(fake_world_runs(r.world), 0);
    /* The client knows, and says so: the generation that was named with the answer is still there.
     */
    CHECK_EQ(run_given(name, 1, r.epoch), WARREN__STATUS__STATUS_OK);
    teardown();
}

TEST(operations_after_a_worker_that_was_only_full_run)
{
    setup(4, false);
    char name[8];
    start_peer();
    struct ask *a = ask_after_peer(name, false);
    CHECK_EQ(rig_status(&r, rig_cancel(&r, name, 1)), WARREN__STATUS__STATUS_NOT_FOUND);
    not_here(a); /* with that answer the place was given up */
    use(a, "python");
    CHECK_EQ(run_given(name, 1, 0), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(fake_world_runs(r.world), 1);
    teardown();
}

/* What was canceled before it began has an outcome, and only here. */
TEST(an_operation_that_was_canceled_while_it_waited_runs_nowhere_else)
{
    setup(4, false);
    char name[8];
    struct sched_key key;
    start_peer();
    struct ask *a = ask_at(name, false);
    fake_world_hold_starts(r.world, true);
    uint64_t waits = send_given(name, 1, 0);
    CHECK_EQ(rig_status(&r, rig_cancel(&r, name, 1)), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, waits), WARREN__STATUS__STATUS_OK);
    place_is_gone(a, name);
    worker_member_drain(r.member);
    not_here(a);
    use(a, "python");
    CHECK_EQ(a->host.node, c.peer_settings->id);
    CHECK_EQ(sched_name_key(cluster_key, "python", name, strlen(name), &key), 0);
    CHECK(sched_host_node_moved(c.peer, key)); /* which answers that it does not know */
    CHECK_EQ(fake_world_runs(r.world), 0);
    teardown();
}

TEST(a_stale_generation_keeps_no_place)
{
    setup(2, false);
    const struct ask *a = ask("python", "alice");
    CHECK_EQ(run_given("alice", 1, 12345), WARREN__STATUS__STATUS_LOST);
    place_is_gone(a, "alice");
    teardown();
}

static bool claimed(void)
{
    bool any = false;
    for (uint32_t i = 0; i < r.sessions->config.vms_max; i++) {
        any = any || r.sessions->pools->sessions[i].state == WORKER_SESSION_CLAIMED;
    }
    return any;
}

TEST(a_microvm_that_is_being_claimed_goes_with_its_place)
{
    setup(2, false);
    const struct ask *a = ask("python", "alice");
    uint64_t waits = rig_exec(&r, "alice", 1, "say x");
    RIG_UNTIL(&r, claimed());
    struct worker_list *first = worker_list_first(&r.rpc->exchanges);
    ev_invoke(r.loop, &CONTAINER_OF(first, struct rpc_exchange, link)->timer, EV_TIMER);
    CHECK_EQ(rig_status(&r, waits), WARREN__STATUS__STATUS_TIMEOUT);
    place_is_gone(a, "alice");
    RIG_UNTIL(&r, !claimed());
    CHECK_EQ(worker_session_counts(r.sessions).sessions, 0);
    RIG_UNTIL(&r, worker_session_counts(r.sessions).microvms == 0);
    CHECK_EQ(fake_world_runs(r.world), 0);
    teardown();
}

static void on_own(struct worker_session_want *w, const struct worker_session_answer *a)
{
    CHECK_EQ(a->what, WORKER_ANSWER_USE);
    worker_session_release(r.sessions, a->ref);
    w->done = NULL;
}

/* A microVM that came up for a place which was given up meanwhile. */
/* How many sessions the worker lists. */
static size_t listed(void)
{
    Warren__Reply *end =
        rig_reply(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_LIST, NULL, 0), PROTO_ENVELOPE_END);
    size_t n = end->n_sessions;
    CHECK_EQ(end->total, n);
    for (size_t i = 0; i < n; i++) {
        CHECK(end->sessions[i]->generation != 0);
    }
    warren__reply__free_unpacked(end, NULL);
    return n;
}

TEST(a_session_that_is_of_no_place_is_told_to_nobody_and_ends)
{
    setup(2, false);
    struct worker_session_want own = {.done = on_own, .allocate = true};
    CHECK_EQ(proto_identifier_set(&own.id, (const uint8_t *)"alice", 5), PROTO_IDENTIFIER_OK);
    worker_session_acquire(r.sessions, &own);
    RIG_UNTIL(&r, own.done == NULL);
    CHECK_EQ(listed(), 0);
    (void)ask("python", "bobby");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 1, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(listed(), 1);
    const struct ask *a = ask("python", "alice");
    CHECK_EQ(listed(), 1);
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, "alice", 0)),
        WARREN__STATUS__STATUS_NOT_FOUND);
    place_is_gone(a, "alice");
    RIG_UNTIL(&r, worker_session_counts(r.sessions).sessions == 1);
    teardown();
}

TEST(a_worker_does_not_start_where_gateways_would_not_reach_it)
{
    refused_ctl = "tcp://10.1.2.3:7101";
    setup(1, false);
    teardown();
    refused_ctl = "tcp://127.0.0.1:*";
    setup(1, false);
    (void)ask("python", "alice");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    refused_ctl = NULL;
    teardown();
}

TEST(of_two_that_wait_for_one_identifier_none_is_refused_while_others_may_have_room)
{
    setup(2, false);
    fake_world_hold_starts(r.world, true);
    (void)ask("python", "alice");
    uint64_t a = rig_exec(&r, "alice", 1, "say x"), b = rig_exec(&r, "alice", 2, "say y");
    RIG_UNTIL(&r, worker_session_counts(r.sessions).sessions == 1);
    uint64_t k = rig_about(&r, WARREN__REQUEST__OP_POOL_GET, NULL, 0);
    CHECK_EQ(rig_status(&r, k), WARREN__STATUS__STATUS_OK); /* both are there before this one */
    worker_session_drain(r.sessions, true, false);
    Warren__Status x = rig_status(&r, a), y = rig_status(&r, b);
    CHECK(x == WARREN__STATUS__STATUS_NOT_HERE || x == WARREN__STATUS__STATUS_RETRY);
    CHECK(y == WARREN__STATUS__STATUS_NOT_HERE || y == WARREN__STATUS__STATUS_RETRY);
    teardown();
}

TEST(who_may_not_have_heard_of_a_pool_does_not_say_that_there_is_none)
{
    setup(2, false);
    r.pool = "later";
    Warren__Status s = rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_LIST, NULL, 0));
    CHECK(worker_member_knows_pools(r.member) || s == WARREN__STATUS__STATUS_RETRY);
    RIG_UNTIL(&r, worker_member_knows_pools(r.member));
    s = rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_LIST, NULL, 0));
    CHECK_EQ(s, WARREN__STATUS__STATUS_NOT_FOUND);
    teardown();
}
