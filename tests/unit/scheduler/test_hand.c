#include "scheduler/core/hand.h"
#include "tests/lib/check.h"

/* A rebuild whose inventory does not fit into one message: one host with its sessions asks itself
 * for them, as every member of the new group does. */

enum { SESSIONS = 300 };

struct rig {
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view view;
    uint32_t base[SCHED_BUCKETS];
    struct sched_env env;
    struct sched_hand h;
    struct sched_reg reg;
    struct sched_sess sess;
};

static _Alignas(16) uint8_t memory[1 << 22];
static struct rig r;

static void group(
    void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret)
{
    (void)ctx, (void)v, (void)prev, (void)part;
    *ret = (struct sched_group){1, {{10, 1}}};
}

/* One member, then two. */
static void group_grows(
    void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret)
{
    (void)ctx, (void)part;
    *ret = (struct sched_group){v->num > 2 && !prev ? 2 : 1, {{10, 1}, {11, 1}}};
}

static struct sched_key key_of(uint32_t i)
{
    return (struct sched_key){base_hash_mix64(i + 1), i};
}

static void rig_init(uint32_t registers)
{
    struct sched_mem mem = {.base = memory, .size = sizeof memory};
    memset(&r, 0, sizeof r);
    r.cfg = (struct sched_cfg){.pbits = 4,
        .members_max = 2,
        .regs_max = registers,
        .sess_max = SESSIONS + 8,
        .cooldown_ms = 1000,
        .keep_ms = 1000};
    sched_fx_init(&r.fx, &mem);
    sched_view_init(&r.view, 2, &mem);
    CHECK_EQ(sched_view_admit(&r.view, (struct sched_host){10, 1}, 0, 100), 0);
    r.view.num = 1;
    sched_view_advance(&r.view);
    for (uint32_t b = 0; b < 16; b++) {
        sched_bucket_add(r.view.rec, b);
    }
    r.env = (struct sched_env){.cfg = &r.cfg,
        .placer = {NULL, group},
        .fx = &r.fx,
        .view = &r.view,
        .me = {10, 1},
        .now_ns = SCHED_MS(1000),
        .base = r.base};
    sched_hand_init(&r.h, &r.cfg, &mem);
    sched_reg_init(&r.reg, &r.cfg, &mem);
    sched_sess_init(&r.sess, &r.cfg, &mem);
    CHECK(mem.used <= mem.size);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct sched_row row = {.kind = SCHED_ROW_SESS,
            .state = SCHED_SESS_LIVE,
            .key = key_of(i),
            .rec = {.epoch = sched_epoch_make(1, i, 0), .host = {10, 1}, .view = 1}};
        sched_sess_restore(&r.sess, &r.env, &row);
    }
    sched_hand_install(&r.h, &r.env, &r.reg, &r.sess, 1);
    CHECK_EQ(r.h.unsettled, 16);
}

/* The message of this type that the last step sent, as it arrives. */
static bool sent(uint8_t type, struct sched_msg *ret)
{
    for (uint32_t i = 0; i < r.fx.n; i++) {
        if (r.fx.items[i].kind == SCHED_FX_SEND && r.fx.items[i].msg.type == type) {
            *ret = r.fx.items[i].msg;
            ret->from = 10;
            return true;
        }
    }
    return false;
}

static uint32_t inventory(void)
{
    struct sched_msg ask, answer;
    uint32_t answers = 0;
    sched_fx_clear(&r.fx);
    sched_hand_tick(&r.h, &r.env, &r.reg, &r.sess);
    while (sent(SCHED_MSG_INV, &ask)) {
        sched_fx_clear(&r.fx);
        sched_hand_inv(&r.env, &r.sess, &ask);
        CHECK(sent(SCHED_MSG_INVED, &answer));
        answers++;
        r.fx.n = 0; /* its records stay */
        sched_hand_inved(&r.h, &r.env, &r.reg, &answer);
        sched_hand_inved(&r.h, &r.env, &r.reg, &answer); /* twice: no difference */
    }
    return answers;
}

TEST(a_long_inventory_comes_in_parts_and_settles_with_the_last)
{
    rig_init(SESSIONS);
    CHECK_EQ(inventory(), (SESSIONS + SCHED_SYNC_RECS_MAX - 1) / SCHED_SYNC_RECS_MAX);
    CHECK_EQ(r.h.unsettled, 0);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        const struct sched_reg_row *row = sched_reg_find(&r.reg, key_of(i));
        CHECK(row != NULL && row->rec.epoch == sched_epoch_make(1, i, 0));
    }
}

TEST(a_directory_that_has_no_room_for_the_inventory_never_settles)
{
    rig_init(SESSIONS / 2);
    (void)inventory();
    CHECK_EQ(r.h.unsettled, 16);
    CHECK(!sched_reg_ready(&r.reg, 3));
}

TEST(inventories_for_another_life_or_view_are_not_answered)
{
    rig_init(SESSIONS);
    struct sched_msg got, m = {.type = SCHED_MSG_INV, .from = 10, .sync = {.num = 2, .inc = 2}};
    sched_fx_clear(&r.fx);
    sched_hand_inv(&r.env, &r.sess, &m);
    m.sync.inc = 1;
    m.sync.num = 3;
    sched_hand_inv(&r.env, &r.sess, &m);
    m.sync.num = 2;
    m.sync.cursor = SESSIONS + 8;
    sched_hand_inv(&r.env, &r.sess, &m);
    CHECK(!sent(SCHED_MSG_INVED, &got));
}

/* A cluster may be born without members, and all may leave it: who comes first has nobody to ask
 * and nothing to fear. */
TEST(members_of_a_cluster_that_was_empty_have_settled_at_once_and_no_others)
{
    rig_init(1);
    sched_hand_clear(&r.h, &r.cfg);
    sched_reg_clear(&r.reg, &r.cfg);
    sched_fx_clear(&r.fx);
    memset(r.view.rec, 0, sizeof r.view.rec);
    r.view.m[0].flags = SCHED_MEMBER_IN; /* nobody was there in view 1 */
    sched_hand_install(&r.h, &r.env, &r.reg, &r.sess, 0);
    CHECK_EQ(r.h.unsettled, 0);
    CHECK(sched_reg_ready(&r.reg, 3));
    CHECK_EQ(r.env.joined, 2);
    sched_hand_clear(&r.h, &r.cfg);
    sched_reg_clear(&r.reg, &r.cfg);
    sched_fx_clear(&r.fx);
    r.view.num = 7; /* all had left in view 6 */
    sched_hand_install(&r.h, &r.env, &r.reg, &r.sess, 0);
    CHECK_EQ(r.h.unsettled, 0);
    CHECK(sched_reg_ready(&r.reg, 3));
    CHECK_EQ(r.env.joined, 7); /* and what they have done is not known */
    sched_hand_clear(&r.h, &r.cfg);
    sched_reg_clear(&r.reg, &r.cfg);
    sched_fx_clear(&r.fx);
    r.view.m[0].flags = SCHED_MEMBER_IN | SCHED_MEMBER_PREV;
    sched_hand_install(&r.h, &r.env, &r.reg, &r.sess, 0);
    CHECK_EQ(r.h.unsettled, 16);
}

/* The only member of a group has nobody to ask: when others come, all its partitions settle in the
 * same step, and there may be very many of them. */
TEST(any_number_of_partitions_settle_in_one_step)
{
    enum { PBITS = 14 };
    struct sched_mem mem = {.base = memory, .size = sizeof memory};
    memset(&r, 0, sizeof r);
    r.cfg = (struct sched_cfg){
        .pbits = PBITS, .members_max = 2, .regs_max = 1, .sess_max = 1, .keep_ms = 1000};
    sched_fx_init(&r.fx, &mem);
    sched_view_init(&r.view, 2, &mem);
    CHECK_EQ(sched_view_admit(&r.view, (struct sched_host){10, 1}, 0, 100), 0);
    r.view.num = 2;
    r.env = (struct sched_env){.cfg = &r.cfg,
        .placer = {NULL, group_grows},
        .fx = &r.fx,
        .view = &r.view,
        .me = {10, 1},
        .now_ns = SCHED_MS(1000),
        .base = r.base};
    sched_hand_init(&r.h, &r.cfg, &mem);
    sched_reg_init(&r.reg, &r.cfg, &mem);
    sched_sess_init(&r.sess, &r.cfg, &mem);
    CHECK(mem.used <= mem.size);
    sched_hand_install(&r.h, &r.env, &r.reg, &r.sess, 0);
    CHECK_EQ(r.h.unsettled, 0); /* the birth */
    sched_fx_clear(&r.fx);
    sched_view_advance(&r.view);
    sched_hand_install(&r.h, &r.env, &r.reg, &r.sess, 2);
    CHECK_EQ(r.h.unsettled, 1 << PBITS);
    sched_fx_clear(&r.fx);
    sched_hand_tick(&r.h, &r.env, &r.reg, &r.sess);
    CHECK_EQ(r.h.unsettled, 0);
    CHECK(sched_reg_ready(&r.reg, 0) && sched_reg_ready(&r.reg, (1 << PBITS) - 1));
    CHECK_EQ(r.fx.n, 1);
    CHECK_EQ(r.fx.items[0].row.n, 1 << PBITS);
}
