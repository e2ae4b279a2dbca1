#include "tests/unit/worker/rpc_rig.h"
#include "worker/io/catalog.h"
#include "worker/io/session_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scheduler/core/cat.h"
#include "worker/io/catalog_file.h"
#include "worker/io/store_make.h"

/* Pools that come, change and go while a worker runs and is asked. */

static struct rig r;

static struct worker_pool_file file_of(const char *name, uint32_t max, uint32_t ready)
{
    struct worker_pool_file f = {
        .spec = {.sessions_max = max, .ready_target = ready, .cooldown_ms = 300000},
        .cpus = 1,
        .memory_mib = 256};
    (void)snprintf(f.spec.name, sizeof f.spec.name, "%s", name);
    return f;
}

static void setup(uint32_t ready)
{
    memset(&r, 0, sizeof r);
    r.ready = ready;
    rig_init(&r);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
}

static Warren__PoolInfo *info_of(Warren__Reply **ret)
{
    *ret = rig_reply(&r, rig_about(&r, WARREN__REQUEST__OP_POOL_GET, NULL, 0), PROTO_ENVELOPE_END);
    CHECK((*ret)->pool != NULL);
    return (*ret)->pool;
}

TEST(a_pool_that_comes_later_is_served_and_ends_with_its_sessions_when_it_goes)
{
    setup(1);
    r.pool = "later";
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_NOT_FOUND);
    struct worker_pool_file f = file_of("later", 2, 0);
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 2, "say x")), WARREN__STATUS__STATUS_OK);
    uint32_t pool = worker_session_pool(r.sessions, "later");
    uint64_t held = rig_exec(&r, "alice", 3, "say y\nhold\nsay z");
    RIG_UNTIL(&r, rig_count(&r, held, PROTO_ENVELOPE_EVENT) == 1);
    RIG_UNTIL(&r, worker_session_counts(r.sessions).microvms == 2); /* and python's ready one */
    worker_session_pool_retire(r.sessions, pool);
    CHECK(worker_session_pool_retired(r.sessions, pool));
    CHECK_EQ(rig_status(&r, held), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 4, "say x")), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 5, "say x")), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_POOL_GET, NULL, 0)),
        WARREN__STATUS__STATUS_NOT_FOUND);
    RIG_UNTIL(&r, worker_session_counts(r.sessions).microvms == 1);
    CHECK_EQ(worker_session_counts(r.sessions).sessions, 0);
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0); /* the name comes back */
    CHECK_EQ(worker_session_pool(r.sessions, "later"), pool);
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "alice", 6, "say x"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK(end->session->new_allocation);
    CHECK_STR(end->session->recreated, "pool-deleted");
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(a_change_of_numbers_is_taken_at_once)
{
    setup(1);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 2, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "carol", 3, "say x")), WARREN__STATUS__STATUS_FULL);
    struct worker_pool_file f = file_of("python", 3, 0);
    f.mcp = true;
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "carol", 4, "say x")), WARREN__STATUS__STATUS_OK);
    Warren__Reply *end;
    const Warren__PoolInfo *p = info_of(&end);
    CHECK(p->sessions_max == 3 && p->ready_target == 0 && p->mcp_enabled && p->active == 3);
    CHECK_STR(p->template_id, "t1"); /* the same microVMs as before */
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(other_resources_take_another_template_and_until_then_the_old_one_serves)
{
    setup(1);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    struct worker_pool_file f = file_of("python", 2, 1);
    f.memory_mib = 512;
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
    Warren__Reply *end;
    CHECK_STR(info_of(&end)->state, "ready");
    warren__reply__free_unpacked(end, NULL);
    struct worker_session_pool_info look;
    do {
        ev_run(r.loop, EVRUN_ONCE);
        worker_session_pool_look(r.sessions, 0, &look);
    } while (strcmp(look.template_id, "t2") != 0);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 2, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 3, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(more_names_than_there_is_room_for_come_and_go)
{
    setup(0);
    char name[32];
    for (int i = 0; i < 2 * PROTO_POOLS_MAX; i++) {
        (void)snprintf(name, sizeof name, "pool-%d", i);
        struct worker_pool_file f = file_of(name, 1, 0);
        CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
        worker_session_pool_retire(r.sessions, worker_session_pool(r.sessions, name));
    }
    CHECK(worker_session_pools(r.sessions) <= PROTO_POOLS_MAX);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(limits_of_tenants_come_later)
{
    setup(0);
    r.tenant = 5;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    struct worker_quota_limits one = {.max = {1}}, none = {.max = {0}};
    CHECK_EQ(worker_session_tenants(r.sessions, &one, NULL, 0), 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 2, "say x")), WARREN__STATUS__STATUS_FULL);
    CHECK_EQ(worker_session_tenants(r.sessions, &none, NULL, 0), 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 3, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

/* The slot of the only ready instance, and which microVM it is. */
static uint32_t ready_slot(uint8_t ret_vm_id[16])
{
    uint32_t i = 0;
    while (i < r.sessions->pools->cfg.vms_max &&
           r.sessions->pools->slots[i].state != WORKER_SLOT_READY) {
        i++;
    }
    CHECK(i < r.sessions->pools->cfg.vms_max);
    memcpy(ret_vm_id, r.sessions->slots[i].vm_id, 16);
    return i;
}

static enum worker_slot_state ready_state(uint32_t slot)
{
    return r.sessions->pools->slots[slot].state;
}

/* --- by a catalogue ------------------------------------------------------------------------ */

static uint32_t half(void *ctx, uint32_t pool, uint32_t ready)
{
    (void)ctx;
    (void)pool;
    return ready / 2;
}

static struct sched_catalog_entry pool_entry(const char *key, const char *value, uint64_t version)
{
    return (struct sched_catalog_entry){.key = key,
        .version = version,
        .pool = 7,
        .max = 3,
        .ready = 4,
        .value = value,
        .value_n = strlen(value)};
}

static void apply(struct worker_catalog *c, uint64_t version,
    const struct sched_catalog_entry *entries, uint32_t n, int want)
{
    struct sched_catalog *k = NULL;
    const struct worker_catalog_share share = {half, NULL};
    CHECK_EQ(sched_catalog_make(&k, version, entries, n), 0);
    CHECK_EQ(worker_catalog_apply(c, k, &share, NULL), want);
    sched_catalog_destroy(k);
}

static bool serves(const char *pool)
{
    uint32_t i = worker_session_pool(r.sessions, pool);
    return i != WORKER_NONE && !worker_session_pool_retired(r.sessions, i);
}

TEST(files_count_until_the_catalogue_has_had_a_pool_and_never_again)
{
    static const char one[] = "{\"name\":\"first\",\"properties\":{\"scaleConfiguration\":{"
                              "\"maxConcurrentSessions\":4,\"readySessionInstances\":4}}}";
    setup(1);
    struct worker_pool_file file = file_of("python", 2, 1);
    struct worker_catalog_config config = {
        .log = &r.log, .sessions = r.sessions, .files = &file, .files_n = 1};
    struct worker_catalog *c = NULL;
    CHECK_EQ(worker_catalog_create(&c, &config), 0);
    const struct worker_catalog_share share = {half, NULL};
    CHECK_EQ(worker_catalog_apply(c, NULL, &share, NULL), 0);
    CHECK(serves("python"));
    struct sched_catalog_entry limits = {
        .key = "tenants", .version = 1, .value = "{\"sessions\":1}", .value_n = 14};
    apply(c, 1, &limits, 1, 0); /* limits say nothing about pools */
    CHECK(serves("python"));
    r.tenant = 3;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 2, "say x")), WARREN__STATUS__STATUS_FULL);
    struct sched_catalog_entry e[] = {pool_entry("pool/first", one, 2), limits};
    apply(c, 2, e, 2, 0);
    CHECK(serves("first") && !serves("python"));
    struct worker_session_pool_info info;
    worker_session_pool_look(r.sessions, worker_session_pool(r.sessions, "first"), &info);
    CHECK(info.spec->sessions_max == 4 && info.spec->ready_target == 2); /* its share */
    struct sched_catalog_entry unread[] = {pool_entry("pool/first", "{}", 3), limits};
    apply(c, 3, unread, 2, BASE_EINVAL);
    CHECK(serves("first")); /* as it was */
    struct sched_catalog_entry mark[] = {{.key = "pools", .version = 4, .value = ""}, limits};
    apply(c, 4, mark, 2, 0);
    CHECK(!serves("first") && !serves("python")); /* the last one is gone, and none comes back */
    CHECK_EQ(worker_catalog_pools(c), 0);
    worker_catalog_destroy(c);
    rig_deinit(&r);
}

/* What could not be made is made by the next call, which the worker does not wait for long. */
TEST(a_pool_for_which_the_engine_has_no_number_is_tried_again)
{
    static const char one[] = "{\"name\":\"python\",\"properties\":{\"scaleConfiguration\":{"
                              "\"maxConcurrentSessions\":4,\"readySessionInstances\":0}}}";
    static const char larger[] =
        "{\"name\":\"python\",\"resources\":{\"cpu\":1,\"memory\":\"512Mi\"},"
        "\"properties\":{\"scaleConfiguration\":{"
        "\"maxConcurrentSessions\":4,\"readySessionInstances\":0}}}";
    static const char two[] = "{\"name\":\"two\",\"properties\":{\"scaleConfiguration\":{"
                              "\"maxConcurrentSessions\":4,\"readySessionInstances\":0}}}";
    setup(0);
    struct worker_catalog_config config = {.log = &r.log, .sessions = r.sessions};
    struct worker_catalog *c = NULL;
    CHECK_EQ(worker_catalog_create(&c, &config), 0);
    struct sched_catalog_entry e[] = {
        pool_entry("pool/python", one, 1), pool_entry("pool/two", two, 2)};
    apply(c, 1, e, 1, 0);
    fake_world_full(r.world, true);
    e[0] = pool_entry("pool/python", larger, 3);
    apply(c, 3, e, 2, BASE_EFULL);
    CHECK(serves("python") && !serves("two")); /* as it was */
    CHECK_EQ(worker_catalog_pools(c), 1);
    apply(c, 3, e, 2, BASE_EFULL);
    fake_world_full(r.world, false);
    apply(c, 3, e, 2, 0);
    CHECK(serves("two"));
    struct worker_session_pool_info look;
    do { /* and the other one has the template of its new size */
        ev_run(r.loop, EVRUN_ONCE);
        worker_session_pool_look(r.sessions, 0, &look);
    } while (strcmp(look.template_id, "t1") == 0 || look.template_id[0] == '\0');
    worker_catalog_destroy(c);
    rig_deinit(&r);
}

TEST(ready_instances_of_another_template_than_the_pool_has_now_end_after_a_restart)
{
    setup(1);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    struct worker_pool_file f = file_of("python", 3, 1);
    f.memory_mib = 512;
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
    struct worker_session_pool_info look;
    do {
        ev_run(r.loop, EVRUN_ONCE);
        worker_session_pool_look(r.sessions, 0, &look);
    } while (strcmp(look.template_id, "t2") != 0 || look.ready != 1 ||
             worker_session_counts(r.sessions).microvms != 2);
    uint8_t before[16];
    uint32_t ready = ready_slot(before);
    CHECK_EQ(worker_store_commit(r.run), 0);
    rig_stop(&r);
    rig_start(&r); /* its pool has the template t1 */
    CHECK_EQ(ready_state(ready), WORKER_SLOT_ADOPTING);
    RIG_UNTIL(&r, ready_state(ready) != WORKER_SLOT_ADOPTING);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    uint8_t after[16];
    (void)ready_slot(after);
    CHECK(memcmp(before, after, sizeof before) != 0);
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "alice", 2, "say x"), PROTO_ENVELOPE_END);
    CHECK(!end->session->new_allocation); /* what is used lives on */
    warren__reply__free_unpacked(end, NULL);
    (void)ready_slot(before);
    CHECK_EQ(worker_store_commit(r.run), 0);
    rig_stop(&r);
    rig_start(&r); /* the same template again */
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    (void)ready_slot(after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    rig_deinit(&r);
}

/* Pools of a catalogue as voters make it, one after the other. */
static struct sched_catalog *made(uint64_t birth, const struct sched_catalog_entry *e, uint32_t n)
{
    static uint8_t bytes[4][SCHED_CAT_BYTES_MAX];
    struct sched_catalog *k = NULL;
    struct sched_cat_doc doc = {0};
    for (uint32_t i = 0; i < n; i++) {
        const struct sched_cat_change change = {.id = i + 1,
            .birth = birth,
            .entry = {.key = e[i].key,
                .key_n = (uint32_t)strlen(e[i].key),
                .pool = e[i].pool,
                .ready = e[i].ready,
                .max = e[i].max,
                .value = (const uint8_t *)e[i].value,
                .value_n = (uint32_t)e[i].value_n}};
        struct sched_cat_doc next = {.version = i + 1, .bytes = bytes[i]};
        CHECK_EQ(sched_cat_apply(&doc, &change, bytes[i], &next.n), SCHED_CAT_OK);
        doc = next;
    }
    CHECK_EQ(sched_catalog_unpack(&k, &doc), 0);
    return k;
}

static struct sched_catalog *born(uint64_t birth, const char *value)
{
    const struct sched_catalog_entry e = pool_entry("pool/first", value, 1);
    return made(birth, &e, 1);
}

#define FIRST(max)                                                                                 \
    "{\"name\":\"first\",\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":" max   \
    ","                                                                                            \
    "\"readySessionInstances\":2}}}"

TEST(versions_of_another_catalogue_say_nothing)
{
    setup(1);
    struct worker_pool_file file = file_of("first", 2, 1);
    struct worker_catalog_config config = {
        .log = &r.log, .sessions = r.sessions, .files = &file, .files_n = 1};
    struct worker_catalog *c = NULL;
    CHECK_EQ(worker_catalog_create(&c, &config), 0);
    const struct worker_catalog_share share = {half, NULL};
    static const char *const values[] = {FIRST("4"), FIRST("6")};
    struct worker_session_pool_info info;
    for (uint32_t i = 0; i < 2; i++) {
        struct sched_catalog *k = born(8 + i, values[i]);
        CHECK_EQ(worker_catalog_apply(c, k, &share, NULL), 0);
        worker_session_pool_look(r.sessions, worker_session_pool(r.sessions, "first"), &info);
        CHECK_EQ(info.spec->sessions_max, 4 + 2 * i);
        sched_catalog_destroy(k);
    }
    CHECK_EQ(worker_catalog_apply(c, NULL, &share, NULL), 0); /* there is none: the file counts */
    worker_session_pool_look(r.sessions, worker_session_pool(r.sessions, "first"), &info);
    CHECK_EQ(info.spec->sessions_max, 2);
    worker_catalog_destroy(c);
    rig_deinit(&r);
}

TEST(the_file_follows_the_catalogue_and_goes_with_it)
{
    char dir[] = "/tmp/warren-test-file-XXXXXX";
    struct base_log log;
    base_log_init(&log, "test", STDERR_FILENO);
    log.level = BASE_LOG_ERROR;
    CHECK(mkdtemp(dir) != NULL);
    struct worker_catalog_file f = {.log = &log, .cluster_key = {5}}, again = f;
    (void)snprintf(f.path, sizeof f.path, "%s/catalog.json", dir);
    again = f;
    struct sched_catalog *k = born(8, FIRST("4")), *known = k;
    CHECK_EQ(worker_catalog_file_load(&f, &known, NULL), 0);
    CHECK(known == NULL);
    CHECK_EQ(worker_catalog_file_keep(&f, NULL), 0);
    CHECK_EQ(worker_catalog_file_keep(&f, k), 0);
    CHECK_EQ(worker_catalog_file_load(&again, &known, NULL), 0);
    CHECK(known != NULL && sched_catalog_birth(known) == 8);
    sched_catalog_destroy(known);
    sched_catalog_destroy(k);
    k = born(9, FIRST("4")); /* the same version */
    CHECK_EQ(worker_catalog_file_keep(&f, k), 0);
    CHECK_EQ(worker_catalog_file_load(&again, &known, NULL), 0);
    CHECK_EQ(sched_catalog_birth(known), 9);
    sched_catalog_destroy(known);
    again.cluster_key[0] = 6;
    CHECK_EQ(worker_catalog_file_load(&again, &known, NULL), 0);
    CHECK(known == NULL);
    CHECK_EQ(worker_catalog_file_keep(&f, NULL), 0); /* it was of a cluster that is no more */
    CHECK(access(f.path, F_OK) != 0 && f.version == 0);
    sched_catalog_destroy(k);
    CHECK_EQ(rmdir(dir), 0);
}

static int (*real_commit)(struct worker_store *st);
static bool full_disk;

static int commit_or_not(struct worker_store *st)
{
    return full_disk ? BASE_EFULL : real_commit(st);
}

TEST(a_full_disk_that_is_emptied_again_does_not_end_the_making_of_sessions)
{
    static struct worker_store_ops ops;
    setup(1);
    ops = *r.node->ops;
    real_commit = ops.commit;
    ops.commit = commit_or_not;
    r.node->ops = &ops;
    struct worker_pools *p = r.sessions->pools;
    p->cfg.epoch_next = p->cfg.epoch_limit - WORKER_POOL_EPOCH_BLOCK / 4;
    full_disk = true;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    p->cfg.epoch_next = p->cfg.epoch_limit - 1;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 2, "say x")), WARREN__STATUS__STATUS_OK);
    struct worker_pool_file f = file_of("python", 4, 1);
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
    Warren__Status none = rig_status(&r, rig_exec(&r, "carol", 3, "say x"));
    CHECK_EQ(none, WARREN__STATUS__STATUS_UNAVAILABLE); /* at once, and with a reason */
    full_disk = false;
    RIG_UNTIL(&r, p->cfg.epoch_next < p->cfg.epoch_limit);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "carol", 4, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

static void check_alice(unsigned char id, const char *recreated)
{
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "alice", id, "say x"), PROTO_ENVELOPE_END);
    CHECK_STR(end->session->recreated, recreated);
    warren__reply__free_unpacked(end, NULL);
}

TEST(a_pool_of_a_file_that_the_catalogue_takes_over_keeps_its_sessions)
{
    static const char one[] = "{\"name\":\"another\",\"properties\":{\"scaleConfiguration\":{"
                              "\"maxConcurrentSessions\":4,\"readySessionInstances\":0}}}";
    static const char two[] = "{\"name\":\"python\",\"properties\":{\"scaleConfiguration\":{"
                              "\"maxConcurrentSessions\":4,\"readySessionInstances\":0}}}";
    setup(0);
    struct worker_pool_file file = file_of("python", 4, 0);
    struct worker_catalog_config config = {
        .log = &r.log, .sessions = r.sessions, .files = &file, .files_n = 1, .grace_ms = 60000};
    struct worker_catalog *c = NULL;
    const struct worker_catalog_share share = {half, NULL};
    CHECK_EQ(worker_catalog_create(&c, &config), 0);
    CHECK_EQ(worker_catalog_apply(c, NULL, &share, NULL), 0);
    check_alice(1, "");
    struct sched_catalog_entry e[] = {
        pool_entry("pool/another", one, 1), pool_entry("pool/python", two, 2)};
    e[1].pool = e[0].pool + 1;
    struct sched_catalog *k = made(8, e, 1); /* the first of two that are applied */
    CHECK_EQ(worker_catalog_apply(c, k, &share, NULL), BASE_EAGAIN);
    check_alice(2, "");
    sched_catalog_destroy(k);
    k = made(8, e, 2);
    CHECK_EQ(worker_catalog_apply(c, k, &share, NULL), 0);
    check_alice(3, "");
    CHECK_EQ(worker_session_counts(r.sessions).sessions, 1);
    sched_catalog_destroy(k);
    k = made(8, e, 1); /* and now it goes at once */
    CHECK_EQ(worker_catalog_apply(c, k, &share, NULL), 0);
    RIG_UNTIL(&r, worker_session_counts(r.sessions).sessions == 0);
    sched_catalog_destroy(k);
    k = made(8, e, 2);
    CHECK_EQ(worker_catalog_apply(c, k, &share, NULL), 0);
    check_alice(4, "pool-deleted");
    sched_catalog_destroy(k);
    worker_catalog_destroy(c);
    rig_deinit(&r);
}
