/* The stores of a worker's share of the cluster, and what a worker makes of them when it starts. */
#include <fcntl.h>
#include <lmdb.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/net/cluster_key.h"
#include "proto/net/curve.h"
#include "scheduler/core/msgtype.h"
#include "scheduler/io/cluster.h"
#include "scheduler/io/host_node.h"
#include "scheduler/io/host_store.h"
#include "scheduler/io/node_db.h"
#include "scheduler/wire/wire.h"
#include "tests/lib/check.h"

enum { PBITS = 8, ROWS = 5 };

static char dir[64];
static const char *const boots[] = {
    "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"};

static const char *at(const char *name)
{
    static char path[2][128];
    static unsigned turn;
    turn = !turn;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void begin(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/warren-test-host-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
}

static void end(void)
{
    static const char *const files[] = {"sched.mdb/data.mdb", "sched.mdb/lock.mdb",
        "node.mdb/data.mdb", "node.mdb/lock.mdb", "node.mdb/owner", "roster", "curve", "key",
        "ring"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)unlink(at(files[i]));
    }
    (void)rmdir(at("sched.mdb"));
    (void)rmdir(at("node.mdb"));
    CHECK_EQ(rmdir(dir), 0);
}

/* ---- the run store ---- */

static int open_store(
    struct sched_host_store **ret, unsigned pbits, const char *boot, struct base_error *err)
{
    struct sched_host_store_cfg cfg = {
        .path = at("sched.mdb"), .pbits = pbits, .members_max = 8, .boot = boot};
    return sched_host_store_open(ret, &cfg, err);
}

static void fill(struct sched_host_store *s, uint32_t inc, uint64_t node)
{
    struct sched_mem mem = {0};
    struct sched_fx fx;
    sched_fx_init(&fx, &mem);
    void *block = aligned_alloc(16, (mem.used + 15) & ~(size_t)15);
    CHECK(block != NULL);
    mem = (struct sched_mem){.base = block, .size = mem.used};
    sched_fx_init(&fx, &mem);
    for (uint64_t i = 1; i <= ROWS; i++) {
        struct sched_row *r = sched_fx_store(&fx, SCHED_ROW_SESS);
        r->key = (struct sched_key){i << 40, i};
        r->state = 3; /* it runs */
        r->rec.epoch = 7;
        r->rec.host = (struct sched_host){node, inc};
        r = sched_fx_store(&fx, SCHED_ROW_EXEC);
        r->exec = (struct sched_exec){i, i};
        r->state = 1;
    }
    CHECK_EQ(sched_host_store_step(s, &fx), 0);
    free(block);
}

TEST(rows_of_an_earlier_boot_are_gone)
{
    begin();
    struct sched_host_store *s;
    struct sched_host_rows n;
    CHECK_EQ(open_store(&s, PBITS, boots[0], NULL), 0);
    CHECK_EQ(sched_host_store_life(s), 0);
    CHECK_EQ(sched_host_store_begin(s, 9), 0);
    fill(s, 9, 1);
    CHECK_EQ(sched_host_store_count(s, &n), 0);
    CHECK(n.sessions == ROWS && n.executions == ROWS && n.registers == 0);
    sched_host_store_close(s);
    CHECK_EQ(open_store(&s, PBITS, boots[0], NULL), 0);
    CHECK_EQ(sched_host_store_life(s), 9);
    sched_host_store_close(s);
    CHECK_EQ(open_store(&s, PBITS, boots[1], NULL), 0);
    CHECK_EQ(sched_host_store_life(s), 0);
    CHECK_EQ(sched_host_store_begin(s, 10), 0);
    CHECK_EQ(sched_host_store_count(s, &n), 0);
    CHECK(n.sessions == 0 && n.executions == 0);
    sched_host_store_close(s);
    end();
}

TEST(rows_split_in_another_way_are_refused)
{
    begin();
    struct sched_host_store *s;
    struct base_error err;
    CHECK_EQ(open_store(&s, PBITS, boots[0], NULL), 0);
    CHECK_EQ(sched_host_store_begin(s, 3), 0);
    sched_host_store_close(s);
    CHECK_EQ(open_store(&s, PBITS + 1, boots[0], &err), BASE_ESTATE);
    CHECK(strstr(err.text, "partition_bits 8") != NULL);
    CHECK_EQ(open_store(&s, PBITS + 1, boots[1], &err), 0); /* nothing of it counts any more */
    sched_host_store_close(s);
    end();
}

/* ---- node.mdb ---- */

TEST(a_number_that_cannot_be_read_is_not_a_missing_one)
{
    begin();
    struct sched_node_db *db;
    uint64_t v = 0;
    CHECK_EQ(sched_node_db_open(&db, at("node.mdb"), NULL), 0);
    CHECK_EQ(sched_node_db_number(db, "inc", 12, &v), 0);
    CHECK_EQ(v, 12);
    CHECK_EQ(sched_node_db_set_number(db, "inc", UINT64_C(0x0102030405060708)), 0);
    CHECK_EQ(sched_node_db_put(db, "bad", "abc", 3), 0);
    CHECK_EQ(sched_node_db_commit(db), 0);
    sched_node_db_close(db);
    CHECK_EQ(sched_node_db_open(&db, at("node.mdb"), NULL), 0);
    CHECK_EQ(sched_node_db_number(db, "inc", 12, &v), 0);
    CHECK(v == UINT64_C(0x0102030405060708));
    CHECK_EQ(sched_node_db_number(db, "bad", 12, &v), BASE_ECORRUPT);
    sched_node_db_close(db);
    end();
}

/* ---- a worker that starts ---- */

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "we");
    CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
    CHECK_EQ(chmod(at(name), 0600), 0);
}

static struct sched_settings *settle(void)
{
    struct proto_net_key key;
    char text[2048];
    struct sched_settings *s = NULL;
    static const char *const names[][2] = {{"voter", "v1"}, {"worker", "w1"}};
    write_file("key", "000102030405060708090a0b0c0d0e0f\n");
    write_file("ring", "1 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n");
    write_file("roster", "");
    (void)unlink(at("curve"));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct proto_net_client c = {0};
        CHECK_EQ(proto_net_key_generate(&key, NULL), 0);
        (void)snprintf(c.role, sizeof c.role, "%s", names[i][0]);
        (void)snprintf(c.name, sizeof c.name, "%s", names[i][1]);
        memcpy(c.public_z85, key.public_z85, sizeof c.public_z85);
        CHECK_EQ(proto_net_clients_add(at("roster"), &c, NULL), 0);
    }
    CHECK_EQ(proto_net_key_write(at("curve"), &key, NULL), 0);
    (void)snprintf(text, sizeof text,
        "name: w1\nlisten: \"127.0.0.1:0\"\nstate_dir: %s\nroster: %s/roster\n"
        "curve_secret: %s/curve\ncluster_key: %s/key\ngossip_keys: %s/ring\n"
        "voters: [v1]\npartition_bits: %d\nmembers_max: 8\n",
        dir, dir, dir, dir, dir, PBITS);
    struct base_error err = {0};
    int rc = sched_settings_parse(text, strlen(text), &s, &err);
    if (rc != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    CHECK_EQ(rc, 0);
    return s;
}

struct owner {
    struct ev_loop *loop;
    struct base_log log;
    struct sched_settings *settings;
    uint32_t sessions;
};

static void on_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint32_t inc)
{
    (void)user, (void)freeze_at_ns, (void)kill_at_ns, (void)inc;
}

static void on_vm(void *user, struct sched_key key, sched_epoch epoch)
{
    (void)user, (void)key, (void)epoch;
}

static void on_leave(void *user, const char *why)
{
    (void)user;
    (void)fprintf(stderr, "leaves: %s\n", why);
    exit(1);
}

static const struct sched_host_ops ops = {
    .lease = on_lease, .vm_start = on_vm, .vm_stop = on_vm, .leave = on_leave};

static void see(void *ctx, struct sched_key key, sched_epoch epoch, bool stop)
{
    struct owner *o = ctx;
    CHECK(key.hi == (uint64_t)key.lo << 40 && epoch == 7 && !stop);
    o->sessions++;
}

/* Starts a worker with that many places; its incarnation, and how many sessions it has. */
static uint32_t life(struct owner *o, uint32_t places)
{
    struct sched_host_node *n = NULL;
    struct base_error err;
    struct sched_host_cfg cfg = {.loop = o->loop,
        .log = &o->log,
        .settings = o->settings,
        .run_dir = dir,
        .sess_max = places,
        .execs_max = 1,
        .ops = &ops,
        .user = o};
    int rc = sched_host_node_create(&n, &cfg, &err);
    if (rc != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    CHECK_EQ(rc, 0);
    o->sessions = 0;
    sched_host_node_each(n, see, o);
    uint32_t inc = sched_host_node_core(n)->env.me.inc;
    sched_host_node_destroy(n);
    return inc;
}

static void setup(struct owner *o)
{
    begin();
    *o = (struct owner){.loop = ev_loop_new(EVBACKEND_EPOLL), .settings = settle()};
    base_log_init(&o->log, "test", 2);
}

static void teardown(struct owner *o)
{
    sched_settings_destroy(o->settings);
    ev_loop_destroy(o->loop);
    end();
}

TEST(with_fewer_places_no_session_is_forgotten)
{
    struct owner o;
    struct sched_host_store *s;
    setup(&o);
    uint32_t inc = life(&o, ROWS);
    CHECK_EQ(o.sessions, 0);
    CHECK_EQ(open_store(&s, PBITS, NULL, NULL), 0);
    CHECK_EQ(sched_host_store_life(s), inc);
    fill(s, inc, o.settings->id);
    sched_host_store_close(s);
    CHECK_EQ(life(&o, ROWS), inc);
    CHECK_EQ(o.sessions, ROWS);
    CHECK_EQ(life(&o, 1), inc);
    CHECK_EQ(o.sessions, ROWS);
    teardown(&o);
}

TEST(a_lost_run_store_is_a_new_life_and_lost_stores_no_old_one)
{
    struct owner o;
    setup(&o);
    uint32_t before = (uint32_t)(base_clock_real_ns() / BASE_NS_PER_S);
    uint32_t first = life(&o, 1);
    CHECK(first >= before);
    CHECK_EQ(life(&o, 1), first);
    CHECK_EQ(unlink(at("sched.mdb/data.mdb")), 0);
    CHECK_EQ(life(&o, 1), first + 1);
    struct sched_node_db *db;
    CHECK_EQ(unlink(at("sched.mdb/data.mdb")), 0);
    CHECK_EQ(unlink(at("node.mdb/data.mdb")), 0);
    CHECK_EQ(sched_node_db_open(&db, at("node.mdb"), NULL), 0);
    CHECK_EQ(sched_node_db_put(db, "inc", "x", 1), 0);
    CHECK_EQ(sched_node_db_commit(db), 0);
    sched_node_db_close(db);
    struct base_error err;
    struct sched_host_node *n = NULL;
    struct sched_host_cfg cfg = {.loop = o.loop,
        .log = &o.log,
        .settings = o.settings,
        .run_dir = dir,
        .sess_max = 1,
        .ops = &ops,
        .user = &o};
    CHECK_EQ(sched_host_node_create(&n, &cfg, &err), BASE_ECORRUPT);
    CHECK_EQ(unlink(at("node.mdb/data.mdb")), 0);
    CHECK(life(&o, 1) >= first);
    teardown(&o);
}

TEST(the_tag_stands_for_what_must_be_set_alike)
{
    static const uint8_t key[16] = {1}, other[16] = {2};
    begin();
    struct sched_settings *s = settle(), *t = settle();
    CHECK(sched_settings_tag(s, key, 0) == sched_settings_tag(t, key, 0));
    CHECK(sched_settings_tag(s, key, 0) != sched_settings_tag(s, key, 1));
    CHECK(sched_settings_tag(s, key, 0) != sched_settings_tag(s, other, 0));
    t->weight++, t->zone++, t->kill_ms++; /* everybody's own */
    CHECK(sched_settings_tag(s, key, 0) == sched_settings_tag(t, key, 0));
    uint32_t *const shared[] = {&t->lease_ms, &t->partition_bits, &t->members_max};
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        ++*shared[i];
        CHECK(sched_settings_tag(s, key, 0) != sched_settings_tag(t, key, 0));
        --*shared[i];
    }
    t->voters[0][0] = 'w';
    CHECK(sched_settings_tag(s, key, 0) != sched_settings_tag(t, key, 0));
    sched_settings_destroy(s);
    sched_settings_destroy(t);
    end();
}

/* ---- addresses that others are told ---- */

static int parse_at(const char *listen, const char *advertise, struct sched_settings **ret)
{
    char text[1024];
    struct base_error err = {0};
    (void)snprintf(text, sizeof text,
        "name: w1\nlisten: \"%s\"\nstate_dir: /s\nroster: /r\ncurve_secret: /c\n"
        "cluster_key: /k\ngossip_keys: /g\nvoters: [v1]\n%s%s%s\n",
        listen, advertise == NULL ? "" : "advertise: \"", advertise == NULL ? "" : advertise,
        advertise == NULL ? "" : "\"");
    int rc = sched_settings_parse(text, strlen(text), ret, &err);
    CHECK(rc == 0 || strstr(err.text, "advertise") != NULL);
    return rc;
}

TEST(no_address_is_told_that_stands_for_all)
{
    static const char *const any[] = {"0.0.0.0", "::", "::0", "0::0.0.0.0", "::ffff:0.0.0.0"};
    struct sched_settings *s = NULL;
    CHECK_EQ(parse_at("0.0.0.0:7400", NULL, &s), BASE_EINVAL);
    CHECK_EQ(parse_at("[::]:7400", NULL, &s), BASE_EINVAL);
    for (size_t i = 0; i < ARRAY_LEN(any); i++) {
        CHECK_EQ(parse_at("10.0.0.1:7400", any[i], &s), BASE_EINVAL);
    }
    CHECK_EQ(parse_at("[::]:7400", "fd00::1", &s), 0);
    CHECK_STR(s->public_ip, "fd00::1");
    sched_settings_destroy(s);
}

TEST(a_port_is_told_only_where_it_is_reached_at_the_address_that_is_told)
{
    static const struct {
        const char *endpoint;
        int port; /* 0: refused */
    } cases[] = {
        {"tcp://203.0.113.5:7101", 7101},
        {"tcp://10.0.0.1:7101", 7101}, /* translated, like that of listen */
        {"tcp://0.0.0.0:7101", 7101},
        {"tcp://*:7101", 7101},
        {"tcp://[::]:7101", 7101},
        {"tcp://[::ffff:10.0.0.1]:65535", 65535},
        {"tcp://127.0.0.1:7101", 0},
        {"tcp://10.0.0.2:7101", 0},
        {"tcp://[::1]:7101", 0},
        {"tcp://10.0.0.1:*", 0},
        {"tcp://10.0.0.1:0", 0},
        {"tcp://10.0.0.1:65536", 0},
        {"tcp://*", 0},
        {"tcp://eth0:7101", 0},
        {"ipc:///tmp/x:7101", 0},
        {"", 0},
    };
    struct sched_settings *s = NULL;
    CHECK_EQ(parse_at("10.0.0.1:7400", "203.0.113.5", &s), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint16_t port = 0;
        struct base_error err = {0};
        int rc = sched_settings_port(s, "bulk", cases[i].endpoint, &port, &err);
        CHECK_EQ(rc, cases[i].port == 0 ? BASE_EINVAL : 0);
        CHECK_EQ(port, cases[i].port);
        CHECK(rc == 0 || strncmp(err.text, "bulk: ", 6) == 0);
    }
    sched_settings_destroy(s);
}

/* ---- who may say what, at the door of a node ---- */

struct guest {
    struct proto_net *net;
    struct sched_roster *roster;
    struct sched_mesh *mesh;
    struct proto_net_key key;
    uint32_t answers;
};

static void on_answer(void *user, uint64_t from, enum sched_role role,
    enum sched_mesh_channel channel, const uint8_t *bytes, size_t n)
{
    (void)from, (void)role, (void)bytes, (void)n;
    ((struct guest *)user)->answers += channel == SCHED_MESH_ADMIN;
}

/* Before the node reads the roster: what comes from a stranger is lost. */
static void list(struct guest *g, const char *role, const char *name)
{
    struct proto_net_client c = {0};
    CHECK_EQ(proto_net_key_generate(&g->key, NULL), 0);
    (void)snprintf(c.role, sizeof c.role, "%s", role);
    (void)snprintf(c.name, sizeof c.name, "%s", name);
    memcpy(c.public_z85, g->key.public_z85, sizeof c.public_z85);
    CHECK_EQ(proto_net_clients_add(at("roster"), &c, NULL), 0);
}

static void enter(struct guest *g, const struct owner *o, const char *name, const char *endpoint)
{
    static const struct sched_mesh_ops mesh_ops = {.on_bytes = on_answer};
    uint8_t cluster_key[16];
    CHECK_EQ(proto_net_cluster_key_read(at("key"), cluster_key, NULL), 0);
    CHECK_EQ(sched_roster_load(&g->roster, at("roster"), NULL), 0);
    CHECK_EQ(proto_net_create(&g->net, o->loop, at("roster"), NULL), 0);
    g->answers = 0;
    struct sched_mesh_cfg cfg = {.loop = o->loop,
        .net = g->net,
        .roster = g->roster,
        .key = &g->key,
        .self = sched_node_id(name),
        .tag = sched_settings_tag(o->settings, cluster_key, 2),
        .endpoint = "tcp://127.0.0.1:*",
        .peers_max = 4,
        .idle_ms = 60000,
        .hold_ms = 60000,
        .ops = &mesh_ops,
        .user = g};
    CHECK_EQ(sched_mesh_create(&g->mesh, &cfg, NULL), 0);
    CHECK_EQ(sched_mesh_address(g->mesh, o->settings->id, endpoint), 0);
}

static void go(struct guest *g)
{
    sched_mesh_destroy(g->mesh);
    proto_net_destroy(g->net);
    sched_roster_destroy(g->roster);
}

static void tell(struct guest *g, const struct owner *o, uint8_t type)
{
    static uint8_t bytes[SCHED_WIRE_BYTES_MAX];
    struct sched_view view = {.num = 2};
    struct sched_msg m = {.type = type};
    if (type == SCHED_MSG_VACC) {
        m.vacc.view = &view;
    }
    int n = sched_wire_encode(&m, bytes, sizeof bytes);
    CHECK(n > 0);
    CHECK_EQ(sched_mesh_send(g->mesh, o->settings->id, SCHED_MESH_MSG, bytes, (size_t)n), 0);
}

struct heard {
    uint32_t n, questions;
    uint8_t type;
    uint64_t from;
};

static void on_heard(void *user, const struct sched_msg *m)
{
    struct heard *h = user;
    h->n++;
    h->type = m->type;
    h->from = m->from;
}

static void on_question(void *user, uint64_t from, const char *question, struct base_buf *to)
{
    CHECK(from != 0);
    ((struct heard *)user)->questions++;
    CHECK_STR(question, "status");
    CHECK_EQ(base_buf_printf(to, "{}"), 0);
}

static uint64_t not_allowed(const struct sched_cluster *c)
{
    struct sched_cluster_stats s;
    sched_cluster_stats(c, &s);
    CHECK_EQ(s.malformed, 0);
    return s.not_allowed;
}

TEST(what_a_sender_may_not_say_goes_no_further_than_the_door)
{
    static const struct sched_cluster_ops cluster_ops = {
        .on_message = on_heard, .on_admin = on_question};
    static const uint8_t from_gateway[] = {SCHED_MSG_GRANT, SCHED_MSG_BIND, SCHED_MSG_VACC},
                         from_worker[] = {SCHED_MSG_GRANT, SCHED_MSG_VACC, SCHED_MSG_OPEN};
    struct owner o;
    struct guest gateway, worker, admin;
    struct heard heard = {0};
    struct sched_cluster *c = NULL;
    setup(&o);
    struct sched_cluster_cfg cfg = {.loop = o.loop,
        .log = &o.log,
        .settings = o.settings,
        .role = SCHED_ROSTER_WORKER,
        .gossip_inc = 1,
        .ops = &cluster_ops,
        .user = &heard};
    list(&gateway, "gateway", "g1");
    list(&worker, "worker", "w2");
    list(&admin, "admin", "admin");
    CHECK_EQ(sched_cluster_create(&c, &cfg, NULL), 0);
    enter(&gateway, &o, "g1", sched_cluster_endpoint(c));
    enter(&worker, &o, "w2", sched_cluster_endpoint(c));
    enter(&admin, &o, "admin", sched_cluster_endpoint(c));
    static const char question[] = "status";
    const uint8_t *ask = (const uint8_t *)question;
    uint64_t refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(from_gateway); i++) {
        tell(&gateway, &o, from_gateway[i]);
        tell(&worker, &o, from_worker[i]);
        tell(&admin, &o, from_worker[i]);
        refused += 3;
    }
    CHECK_EQ(sched_mesh_send(worker.mesh, o.settings->id, SCHED_MESH_ADMIN, ask, 6), 0);
    CHECK_EQ(sched_mesh_send(gateway.mesh, o.settings->id, SCHED_MESH_ADMIN, ask, 6), 0);
    CHECK_EQ(sched_mesh_send(admin.mesh, o.settings->id, SCHED_MESH_CTL, ask, 6), 0);
    refused += 3;
    while (not_allowed(c) < refused) {
        ev_run(o.loop, EVRUN_ONCE);
    }
    CHECK(heard.n == 0 && heard.questions == 0);
    tell(&worker, &o, SCHED_MSG_BIND); /* this it may */
    CHECK_EQ(sched_mesh_send(admin.mesh, o.settings->id, SCHED_MESH_ADMIN, ask, 6), 0);
    while (heard.n == 0 || admin.answers == 0) {
        ev_run(o.loop, EVRUN_ONCE);
    }
    CHECK(heard.n == 1 && heard.type == SCHED_MSG_BIND && heard.from == sched_node_id("w2"));
    CHECK(heard.questions == 1 && worker.answers == 0 && gateway.answers == 0);
    CHECK_EQ(not_allowed(c), refused);
    go(&gateway);
    go(&worker);
    go(&admin);
    sched_cluster_destroy(c);
    teardown(&o);
}

/* ---- the gossip's keys ---- */

/* How many lines of the log have the text. */
static unsigned logged(const struct owner *o, const char *text)
{
    char log[4096] = "";
    unsigned seen = 0;
    CHECK(pread(o->log.fd, log, sizeof log - 1, 0) >= 0);
    for (const char *p = log; (p = strstr(p, text)) != NULL; p++) {
        seen++;
    }
    return seen;
}

static void until_logged(const struct owner *o, const char *text, unsigned n)
{
    (void)alarm(60);
    while (logged(o, text) < n) {
        ev_run(o->loop, EVRUN_ONCE);
    }
    (void)alarm(0);
}

/* Rows of the store get the version before. */
static void rewrite_versions(void)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val k, v;
    CHECK_EQ(mdb_env_create(&env), 0);
    CHECK_EQ(mdb_env_open(env, at("sched.mdb"), 0, 0600), 0);
    CHECK_EQ(mdb_txn_begin(env, NULL, 0, &txn), 0);
    CHECK_EQ(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    CHECK_EQ(mdb_cursor_open(txn, dbi, &cursor), 0);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        uint8_t copy[512];
        CHECK(v.mv_size <= sizeof copy);
        memcpy(copy, v.mv_data, v.mv_size);
        copy[0] = (uint8_t)(copy[0] - (*(const char *)k.mv_data == 'S'));
        v.mv_data = copy;
        CHECK_EQ(mdb_cursor_put(cursor, &k, &v, MDB_CURRENT), 0);
    }
    mdb_cursor_close(cursor);
    CHECK_EQ(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* After setup(): the log is a file from now on. */
static struct sched_cluster *start_logged(struct owner *o, struct heard *heard)
{
    static const struct sched_cluster_ops cluster_ops = {.on_message = on_heard};
    struct sched_cluster *c = NULL;
    int log = open(at("log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK(log >= 0);
    base_log_init(&o->log, "test", log);
    struct sched_cluster_cfg cfg = {.loop = o->loop,
        .log = &o->log,
        .settings = o->settings,
        .role = SCHED_ROSTER_WORKER,
        .gossip_inc = 1,
        .ops = &cluster_ops,
        .user = heard};
    CHECK_EQ(sched_cluster_create(&c, &cfg, NULL), 0);
    return c;
}

static void teardown_logged(struct owner *o)
{
    CHECK_EQ(close(o->log.fd), 0);
    CHECK_EQ(unlink(at("log")), 0);
    teardown(o);
}

TEST(new_gossip_keys_that_cannot_be_read_now_are_read_later)
{
    struct owner o;
    struct heard heard = {0};
    struct rlimit was, none;
    setup(&o);
    struct sched_cluster *c = start_logged(&o, &heard);
    write_file("ring", "2 100102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n"
                       "1 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n");
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = was;
    none.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    until_logged(&o, "are not taken", 1);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &was), 0);
    until_logged(&o, "gossip keys read again", 1); /* nobody has touched the file */
    sched_cluster_destroy(c);
    teardown_logged(&o);
}

TEST(a_node_that_speaks_another_version_is_named_once)
{
    struct owner o;
    struct guest worker;
    struct heard heard = {0};
    uint8_t bytes[256];
    struct sched_msg m = {.type = SCHED_MSG_BIND};
    setup(&o);
    list(&worker, "worker", "w2");
    struct sched_cluster *c = start_logged(&o, &heard);
    enter(&worker, &o, "w2", sched_cluster_endpoint(c));
    int n = sched_wire_encode(&m, bytes, sizeof bytes);
    CHECK(n > 0);
    for (unsigned i = 0; i < 3; i++) { /* what it says of itself comes behind */
        bytes[0] = i < 2 ? SCHED_VERSION_MIN - 1 : SCHED_VERSION_MIN;
        CHECK_EQ(sched_mesh_send(worker.mesh, o.settings->id, SCHED_MESH_MSG, bytes, (size_t)n), 0);
    }
    until_logged(&o, "node=w2 speaks version 1", 1);
    while (heard.n == 0) {
        ev_run(o.loop, EVRUN_ONCE);
    }
    CHECK_EQ(heard.n, 1);
    CHECK_EQ(logged(&o, "speaks version"), 1);
    CHECK_EQ(not_allowed(c), 0); /* nor malformed */
    go(&worker);
    sched_cluster_destroy(c);
    teardown_logged(&o);
}

TEST(a_store_of_another_version_is_called_that)
{
    struct owner o;
    struct sched_host_store *s;
    struct sched_host_rows rows;
    setup(&o);
    CHECK_EQ(open_store(&s, PBITS, NULL, NULL), 0);
    CHECK_EQ(sched_host_store_begin(s, 3), 0);
    fill(s, 3, 1);
    sched_host_store_close(s);
    rewrite_versions();
    CHECK_EQ(open_store(&s, PBITS, NULL, NULL), 0);
    CHECK_EQ(sched_host_store_count(s, &rows), BASE_EVERSION);
    sched_host_store_close(s);
    teardown(&o);
}
