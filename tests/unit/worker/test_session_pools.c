#include "tests/unit/worker/rpc_rig.h"

#include <stdio.h>
#include <string.h>

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

TEST(a_pool_that_comes_later_is_served_and_one_that_goes_takes_nobody_new)
{
    setup(1);
    r.pool = "later";
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_NOT_FOUND);
    struct worker_pool_file f = file_of("later", 2, 0);
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 2, "say x")), WARREN__STATUS__STATUS_OK);
    uint32_t pool = worker_session_pool(r.sessions, "later");
    uint64_t held = rig_exec(&r, "alice", 3, "hold\nsay y");
    RIG_UNTIL(&r, worker_session_counts(r.sessions).microvms == 2); /* and python's ready one */
    worker_session_pool_retire(r.sessions, pool);
    CHECK(worker_session_pool_retired(r.sessions, pool));
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 4, "say x")), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_POOL_GET, NULL, 0)),
        WARREN__STATUS__STATUS_NOT_FOUND);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, held), WARREN__STATUS__STATUS_OK); /* what runs goes on */
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 5, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(worker_session_pool_set(r.sessions, &f, NULL), 0); /* the name comes back */
    CHECK_EQ(worker_session_pool(r.sessions, "later"), pool);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 6, "say x")), WARREN__STATUS__STATUS_OK);
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
