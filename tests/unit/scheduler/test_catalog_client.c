/* A node's copy of the catalogue: what voters say is handed to it, what it says goes nowhere. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "scheduler/core/cat.h"
#include "scheduler/io/catalog_client.h"
#include "tests/lib/check.h"
#include "tests/lib/cluster_dir.h"

enum { VOTERS = 3 };

static struct {
    struct ev_loop *loop;
    struct base_log log;
    struct sched_settings *node; /* of the cluster that hears nothing */
    struct sched_settings three; /* of the client: its voters are 1, 2, 3 */
    struct sched_cluster *cluster;
    struct sched_catalog_client *client;
    unsigned changed, empty;
    int rc[2];
} g;

static void on_message(void *user, const struct sched_msg *m)
{
    (void)user, (void)m;
}

static void on_changed(void *user)
{
    (void)user;
    g.changed++;
}

static void on_empty(void *user)
{
    (void)user;
    g.empty++;
}

static void setup(const struct sched_catalog *first)
{
    static const struct sched_cluster_ops ops = {.on_message = on_message};
    memset(&g, 0, sizeof g);
    g.loop = ev_loop_new(0);
    base_log_init(&g.log, "test", STDERR_FILENO);
    g.log.level = BASE_LOG_ERROR;
    cluster_dir_make();
    cluster_dir_list("gateway", "g1");
    CHECK_EQ(sched_settings_load(cluster_dir_settle("g1", "tcp://127.0.0.1:1"), &g.node, NULL), 0);
    struct sched_cluster_cfg c = {.loop = g.loop,
        .log = &g.log,
        .settings = g.node,
        .role = SCHED_ROSTER_GATEWAY,
        .gossip_inc = 1,
        .ops = &ops};
    CHECK_EQ(sched_cluster_create(&g.cluster, &c, NULL), 0);
    g.three = (struct sched_settings){.voters_count = VOTERS, .voter = {1, 2, 3}};
    struct sched_catalog_client_cfg k = {.loop = g.loop,
        .log = &g.log,
        .settings = &g.three,
        .cluster = g.cluster,
        .first = first,
        .changed = on_changed,
        .empty = on_empty,
        .patience_ms = 1};
    CHECK_EQ(sched_catalog_client_create(&g.client, &k), 0);
}

static void teardown(void)
{
    sched_catalog_client_destroy(g.client);
    sched_cluster_destroy(g.cluster);
    sched_settings_destroy(g.node);
    ev_loop_destroy(g.loop);
    cluster_dir_remove();
}

/* The catalogue after so many changes; birth 0: of who knows of none. */
static struct sched_cat_doc doc_of(uint64_t birth, unsigned changes)
{
    static uint8_t bytes[2][SCHED_CAT_BYTES_MAX];
    struct sched_cat_doc d = {.bytes = bytes[0]};
    for (unsigned i = 0; i < changes; i++) {
        const struct sched_cat_change c = {.expect = SCHED_CAT_ANY,
            .id = birth == 0 ? 0 : i + 1,
            .birth = birth,
            .entry = {.key = "tenants", .key_n = 7, .value = (const uint8_t *)"{}", .value_n = 2}};
        uint8_t *to = bytes[(i + 1) % 2];
        CHECK_EQ(sched_cat_apply(&d, &c, to, &d.n), SCHED_CAT_OK);
        d.bytes = to;
        d.version++;
    }
    return d;
}

static void hear(uint64_t voter, uint64_t birth, unsigned changes)
{
    struct sched_msg m = {.from = voter, .type = SCHED_MSG_CDOC, .cdoc = doc_of(birth, changes)};
    CHECK(sched_catalog_client_take(g.client, &m));
}

/* 0: none. */
static uint64_t version(void)
{
    const struct sched_catalog *c = sched_catalog_client_now(g.client);
    return c == NULL ? 0 : sched_catalog_version(c);
}

static void setup_with(uint64_t birth, unsigned changes)
{
    const struct sched_cat_doc d = doc_of(birth, changes);
    struct sched_catalog *first = NULL;
    CHECK_EQ(sched_catalog_unpack(&first, &d), 0);
    setup(first);
    sched_catalog_destroy(first);
    CHECK_EQ(version(), changes);
}

TEST(nothing_heard_is_not_nothing_there)
{
    setup(NULL);
    CHECK(!sched_catalog_client_empty(g.client));
    hear(2, 0, 0);
    CHECK_EQ(g.empty, 1);
    CHECK(!sched_catalog_client_empty(g.client)); /* it may have missed the first change */
    hear(2, 0, 0);
    CHECK(!sched_catalog_client_empty(g.client));
    hear(3, 0, 0);
    CHECK(sched_catalog_client_empty(g.client) && g.empty == 1);
    hear(1, 8, 1);
    CHECK(!sched_catalog_client_empty(g.client) && version() == 1);
    teardown();
}

TEST(a_catalogue_of_another_birth_takes_the_place_of_one_from_before)
{
    static const struct {
        uint64_t mine, heard;
        unsigned mine_n, heard_n, want;
    } all[] = {
        {8, 9, 7, 2, 2}, /* made anew */
        {8, 9, 7, 7, 7}, /* and as many changes */
        {0, 9, 7, 2, 2}, /* a file of before births */
        {8, 8, 7, 2, 7}, /* a voter that is behind */
        {8, 0, 7, 2, 7}, /* and was so before births */
        {0, 9, 7, 9, 9}, /* goes on */
        {0, 0, 7, 2, 7},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        setup_with(all[i].mine, all[i].mine_n);
        hear(1, all[i].heard, all[i].heard_n);
        CHECK_EQ(version(), all[i].want);
        const struct sched_catalog *c = sched_catalog_client_now(g.client);
        bool took = all[i].mine != all[i].heard && all[i].heard != 0;
        CHECK_EQ(sched_catalog_birth(c), took ? all[i].heard : all[i].mine);
        CHECK_EQ(g.changed, took);
        teardown();
    }
}

/* What was heard from a voter of this cluster is of this cluster. */
TEST(a_catalogue_that_was_heard_gets_no_older)
{
    setup_with(8, 3);
    hear(1, 8, 4);
    CHECK_EQ(version(), 4);
    hear(2, 9, 2);
    CHECK_EQ(version(), 4);
    hear(1, 0, 0);
    hear(2, 0, 0);
    hear(3, 0, 0);
    CHECK(version() == 4 && g.empty == 0);
    teardown();
}

TEST(a_catalogue_from_before_is_dropped_when_most_voters_have_none)
{
    setup_with(8, 3);
    hear(1, 0, 0);
    CHECK(version() == 3 && g.empty == 0);
    hear(1, 0, 0);
    hear(99, 0, 0);
    CHECK_EQ(version(), 3);
    hear(3, 0, 0);
    CHECK(version() == 0 && g.empty == 1 && g.changed == 1);
    CHECK(sched_catalog_client_empty(g.client));
    hear(3, 9, 1);
    CHECK(version() == 1 && g.changed == 2);
    teardown();
}

/* ---- changes ---- */

static void on_done(void *ctx, int rc)
{
    size_t i = (size_t)((int *)ctx - g.rc);
    g.rc[i] = rc;
    sched_catalog_client_forget(g.client, &g.rc[1 - i]);
}

TEST(a_change_that_is_forgotten_while_another_one_ends_does_not_end)
{
    setup(NULL);
    for (int i = 0; i < 2; i++) {
        struct sched_catalog_put put = {
            .key = "mcp-key/a", .value = "x", .done = on_done, .ctx = &g.rc[i]};
        CHECK_EQ(sched_catalog_client_put(g.client, &put), 0);
    }
    (void)alarm(60);
    while (g.rc[0] == 0 && g.rc[1] == 0) { /* both end in the same turn */
        ev_run(g.loop, EVRUN_ONCE);
    }
    (void)alarm(0);
    CHECK_EQ(g.rc[0] + g.rc[1], BASE_ETIMEOUT);
    teardown();
}
