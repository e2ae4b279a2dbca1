#include "proto/base/err.h"
#include "scheduler/core/allow.h"
#include "scheduler/core/coord.h"
#include "scheduler/core/lease.h"
#include "scheduler/core/spill.h"
#include "scheduler/core/voter.h"
#include "scheduler/wire/wire.h"
#include "tests/lib/check.h"
#include "tests/unit/scheduler/core_rig.h"

/* Contracts of the small cores; what many nodes do together is the simulator's business. */

/* ---- map ---- */

TEST(map_finds_what_a_plain_array_finds)
{
    struct sched_mem mem = fresh_memory();
    struct sched_map m;
    bool in[64] = {false};
    struct base_hash_rng r;
    sched_map_init(&m, 40, &mem);
    base_hash_rng_seed(&r, 3);
    for (int i = 0; i < 20000; i++) {
        uint64_t k = base_hash_rng_below(&r, 64);
        if (base_hash_rng_below(&r, 2) == 0) {
            bool room = m.n < m.cap || in[k];
            CHECK_EQ(sched_map_put(&m, k, k * 3, (uint32_t)k + 7), room);
            in[k] = in[k] || room;
        } else {
            sched_map_del(&m, k, k * 3);
            in[k] = false;
        }
        uint64_t q = base_hash_rng_below(&r, 64);
        CHECK_EQ(sched_map_get(&m, q, q * 3), in[q] ? (uint32_t)q + 7 : SCHED_MAP_NONE);
    }
    sched_map_clear(&m);
    CHECK_EQ(m.n, 0);
}

/* ---- view ---- */

TEST(view_knows_its_predecessor)
{
    struct sched_mem mem = fresh_memory();
    struct sched_view v = view_of(&mem, 8);
    sched_view_advance(&v);
    sched_view_drop(&v, 11);
    CHECK_EQ(sched_view_admit(&v, (struct sched_host){13, 1}, 2, 50), 0);
    CHECK_EQ(v.num, 2);
    CHECK_EQ(sched_view_members(&v), 3);
    const struct sched_member *left = sched_view_find(&v, 11), *came = sched_view_find(&v, 13);
    CHECK_EQ(left->flags, SCHED_MEMBER_PREV);
    CHECK_EQ(came->flags, SCHED_MEMBER_IN);
    CHECK(sched_view_changed(left) && sched_view_changed(came));
    CHECK(!sched_view_changed(sched_view_find(&v, 10)));
    sched_view_advance(&v);
    CHECK_EQ(sched_view_find(&v, 11)->flags, 0);
    CHECK_EQ(sched_view_maxinc(&v, 11), 1);
}

TEST(an_incarnation_is_admitted_at_most_once)
{
    struct sched_mem mem = fresh_memory();
    struct sched_view v = view_of(&mem, 8);
    sched_view_advance(&v);
    sched_view_drop(&v, 11);
    sched_view_advance(&v);
    CHECK_EQ(sched_view_admit(&v, (struct sched_host){11, 1}, 0, 100), BASE_ESTATE);
    CHECK_EQ(sched_view_admit(&v, (struct sched_host){11, 2}, 0, 100), 0);
    CHECK(sched_view_has(&v, (struct sched_host){11, 2}));
    CHECK(!sched_view_has(&v, (struct sched_host){11, 1}));
}

TEST(a_full_view_forgets_who_left_first)
{
    struct sched_mem mem = fresh_memory();
    struct sched_view v = view_of(&mem, 3);
    struct sched_host h = {20, 1};
    CHECK_EQ(sched_view_admit(&v, h, 0, 100), BASE_EFULL);
    sched_view_drop(&v, 11);
    sched_view_advance(&v);
    sched_view_advance(&v);
    CHECK_EQ(sched_view_admit(&v, h, 0, 100), 0);
    CHECK(sched_view_find(&v, 11) == NULL);
    CHECK_EQ(sched_view_weigh(&v, 11, 3), BASE_ENOTFOUND);
    CHECK_EQ(sched_view_weigh(&v, 20, 3), 0);
}

TEST(views_that_differ_have_different_digests)
{
    struct sched_mem mem = fresh_memory();
    struct sched_view a = view_of(&mem, 8), b = view_of(&mem, 8);
    CHECK(sched_view_equal(&a, &b));
    CHECK(sched_view_digest(&a) == sched_view_digest(&b));
    b.m[1].weight = 7;
    CHECK(!sched_view_equal(&a, &b));
    CHECK(sched_view_digest(&a) != sched_view_digest(&b));
    struct sched_view small;
    sched_view_init(&small, 2, &mem);
    CHECK_EQ(sched_view_copy(&small, &a), BASE_EFULL);
    CHECK_EQ(small.n, 0);
}

TEST(an_older_view_does_not_take_a_newcomer_for_dead)
{
    struct sched_mem mem = fresh_memory();
    struct sched_view v = view_of(&mem, 8);
    struct sched_rec r = {.host = {99, 1}, .view = 2};
    CHECK(!sched_rec_dead(&r, &v));
    sched_view_advance(&v);
    CHECK(sched_rec_dead(&r, &v));
}

/* ---- lease ---- */

struct holder {
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view view;
    struct sched_env env;
    struct sched_lease lease;
};

static void holder_init(struct holder *h, struct sched_mem *mem, uint32_t voters)
{
    h->cfg = config(voters);
    sched_fx_init(&h->fx, mem);
    h->view = view_of(mem, 8);
    h->env = (struct sched_env){
        .cfg = &h->cfg, .fx = &h->fx, .view = &h->view, .me = {10, 1}, .now_ns = SCHED_MS(1000)};
    sched_lease_init(&h->lease, 1);
}

static bool grant(struct holder *h, uint64_t voter, uint64_t seq, uint32_t inc)
{
    struct sched_m_grant g = {.inc = inc, .seq = seq};
    return sched_lease_grant(&h->lease, &h->env, voter, &g);
}

TEST(a_lease_takes_a_majority_and_counts_from_the_request)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    holder_init(&h, &mem, 3);
    struct sched_m_lease ask = {.inc = 1};
    sched_lease_ask(&h.lease, &h.env, &ask);
    uint64_t sent = h.env.now_ns, seq = h.lease.seq;
    CHECK_EQ(h.fx.n, 3);
    h.env.now_ns += SCHED_MS(300);
    CHECK(grant(&h, 1, seq, 1));
    CHECK(!sched_env_serving(&h.env));
    CHECK(grant(&h, 2, seq, 1));
    CHECK(sched_env_serving(&h.env));
    CHECK_EQ(h.env.lease_ns, sent + sched_cfg_hold_ns(&h.cfg));
    h.env.now_ns = h.env.lease_ns;
    CHECK(!sched_env_serving(&h.env));
}

static const struct sched_fx_page *page_of(const struct sched_fx *fx)
{
    const struct sched_fx_page *page = NULL;
    for (uint32_t i = 0; i < fx->n; i++) {
        page = fx->items[i].kind == SCHED_FX_PAGE ? &fx->items[i].page : page;
    }
    return page;
}

/* Its microVMs run on while it starts, by what the process before it was granted. */
TEST(a_restarted_worker_leaves_the_lease_page_until_a_majority_has_granted_again)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    holder_init(&h, &mem, 3);
    struct sched_m_lease ask = {.inc = 1};
    sched_lease_page(&h.lease, &h.env); /* as when it installs a view */
    sched_lease_ask(&h.lease, &h.env, &ask);
    CHECK(grant(&h, 1, h.lease.seq, 1));
    CHECK(page_of(&h.fx) == NULL);
    CHECK(grant(&h, 2, h.lease.seq, 1));
    const struct sched_fx_page *page = page_of(&h.fx);
    CHECK(page != NULL && page->freeze_at_ns == h.env.lease_ns);
    CHECK_EQ(page->kill_at_ns, page->freeze_at_ns + SCHED_MS(h.cfg.kill_ms));
    /* Who is no member freezes at once, whatever it was granted. */
    sched_fx_clear(&h.fx);
    h.env.me.inc = 2;
    sched_lease_page(&h.lease, &h.env);
    CHECK(page_of(&h.fx) != NULL && page_of(&h.fx)->freeze_at_ns == 0);
}

TEST(foreign_old_and_unknown_grants_change_nothing)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    holder_init(&h, &mem, 1);
    struct sched_m_lease ask = {.inc = 1};
    sched_lease_ask(&h.lease, &h.env, &ask);
    CHECK(!grant(&h, 1, h.lease.seq, 2));     /* another incarnation's */
    CHECK(!grant(&h, 1, h.lease.seq + 1, 1)); /* never asked */
    CHECK(!grant(&h, 1, 5, 1));               /* of an earlier run of the process */
    (void)grant(&h, 77, h.lease.seq, 1);      /* not a voter */
    CHECK_EQ(h.env.lease_ns, 0);
    CHECK(grant(&h, 1, h.lease.seq, 1));
    CHECK(h.env.lease_ns > 0);
}

TEST(the_holder_stops_before_the_voter_whatever_the_clocks_do)
{
    struct sched_cfg c = config(3);
    /* Slow holder, fast voter: real time of T each, in parts of a million. */
    uint64_t hold = sched_cfg_hold_ns(&c) / (1000000 - c.rho_ppm / 2);
    uint64_t guard = sched_cfg_guard_ns(&c) / (1000000 + c.rho_ppm / 2);
    CHECK(hold <= guard);
}

/* ---- registers ---- */

static void one_group(
    void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret)
{
    (void)v;
    (void)prev;
    (void)part;
    *ret = *(struct sched_group *)ctx;
}

TEST(a_register_takes_ballots_of_its_era_in_rising_order)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    struct sched_reg reg;
    holder_init(&h, &mem, 1);
    sched_reg_init(&reg, &h.cfg, &mem);
    struct sched_key k = {1, 2};
    struct sched_m_prom ret = {0};
    CHECK_EQ(sched_reg_promise(&reg, &h.env, k, sched_epoch_make(1, 1, 0), &ret), SCHED_REG_SILENT);
    reg.parts[0] = (struct sched_part){.era = 1, .settled = 1};
    CHECK_EQ(sched_reg_next_round(&reg, k, 0, 0), 0);
    CHECK_EQ(sched_reg_next_round(&reg, k, 0, 1), 1);
    CHECK_EQ(sched_reg_promise(&reg, &h.env, k, sched_epoch_make(1, 5, 0), &ret), SCHED_REG_OK);
    CHECK_EQ(
        sched_reg_promise(&reg, &h.env, k, sched_epoch_make(1, 4, 2), &ret), SCHED_REG_REFUSED);
    CHECK_EQ(ret.ballot, sched_epoch_make(1, 5, 0));
    struct sched_m_acc acc = {.key = k,
        .ballot = sched_epoch_make(1, 5, 0),
        .rec = {.state = SCHED_REC_LIVE, .epoch = 77}};
    CHECK_EQ(sched_reg_accept(&reg, &h.env, &acc, &ret), SCHED_REG_OK);
    acc.ballot = sched_epoch_make(0, 9, 0);
    CHECK_EQ(sched_reg_accept(&reg, &h.env, &acc, &ret), SCHED_REG_SILENT);
    struct sched_sync_rec out[4];
    CHECK_EQ(sched_reg_list(&reg, 0, NULL, out, 4), 1);
    CHECK_EQ(sched_reg_list(&reg, 0, &k, out, 4), 0);
    CHECK_EQ(out[0].rec.epoch, 77);
}

TEST(a_forgotten_register_leaves_its_rounds_spent)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    struct sched_reg reg;
    holder_init(&h, &mem, 1);
    sched_reg_init(&reg, &h.cfg, &mem);
    reg.parts[0] = (struct sched_part){.era = 1, .settled = 1};
    struct sched_key k = {1, 2};
    struct sched_m_prom ret = {0};
    (void)sched_reg_promise(&reg, &h.env, k, sched_epoch_make(1, 5, 0), &ret);
    sched_reg_forget(&reg, &h.env, sched_reg_find(&reg, k));
    CHECK(sched_reg_find(&reg, k) == NULL);
    CHECK_EQ(
        sched_reg_promise(&reg, &h.env, k, sched_epoch_make(1, 5, 0), &ret), SCHED_REG_REFUSED);
    CHECK_EQ(sched_reg_next_round(&reg, k, 0, 0), 7);
    for (uint64_t i = 0; i < 4; i++) {
        struct sched_key other = {i + 10, 0};
        CHECK_EQ(
            sched_reg_promise(&reg, &h.env, other, sched_epoch_make(1, 9, 0), &ret), SCHED_REG_OK);
    }
    /* Full: no answer, rather than a promise that is not kept. */
    CHECK_EQ(sched_reg_promise(&reg, &h.env, k, sched_epoch_make(1, 9, 0), &ret), SCHED_REG_SILENT);
    sched_reg_drop_part(&reg, 0);
    CHECK_EQ(reg.n, 0);
}

static void keep_rows(const struct sched_fx *fx, struct sched_row *part, struct sched_row *reg)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->items[i].kind == SCHED_FX_STORE) {
            *(fx->items[i].row.kind == SCHED_ROW_PARTS ? part : reg) = fx->items[i].row;
        }
    }
}

TEST(what_was_forgotten_bounds_later_claims_also_after_a_restart)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    struct sched_reg reg, again;
    struct sched_part stored;
    struct sched_row part = {0}, row = {0};
    holder_init(&h, &mem, 1);
    sched_reg_init(&reg, &h.cfg, &mem);
    sched_reg_init(&again, &h.cfg, &mem);
    reg.parts[0] = (struct sched_part){.era = 1, .settled = 1};
    struct sched_key k = {1, 2};
    sched_epoch spent = sched_epoch_make(1, 5, 2), ballot = sched_epoch_make(1, 7, 0);
    struct sched_m_acc acc = {
        .key = k, .ballot = spent, .rec = {.state = SCHED_REC_ENDED, .epoch = spent}};
    struct sched_m_prom ret = {0};
    CHECK_EQ(sched_reg_accept(&reg, &h.env, &acc, &ret), SCHED_REG_OK);
    sched_reg_forget(&reg, &h.env, sched_reg_find(&reg, k));
    /* No claim of an epoch up to the bound may start a session: the bound is at or above all that
     * was forgotten, and below what a new ballot can claim. */
    CHECK_EQ(sched_reg_promise(&reg, &h.env, k, ballot, &ret), SCHED_REG_OK);
    CHECK(ret.rec.state == SCHED_REC_NONE && ret.accepted == 0);
    CHECK(ret.rec.epoch >= spent && ret.rec.epoch < ballot);
    sched_epoch bound = ret.rec.epoch;
    keep_rows(&h.fx, &part, &row);
    stored = *part.parts; /* what a store would have kept of it */
    part.parts = &stored;
    sched_reg_restore(&again, &h.env, &part);
    sched_reg_restore(&again, &h.env, &row);
    struct sched_reg *both[] = {&reg, &again};
    for (int i = 0; i < 2; i++) {
        ret = (struct sched_m_prom){0};
        CHECK_EQ(sched_reg_promise(both[i], &h.env, k, ballot + 512, &ret), SCHED_REG_OK);
        CHECK_EQ(ret.rec.epoch, bound);
        /* The promise alone is forgotten, too: the bound does not fall. */
        sched_reg_forget(both[i], &h.env, sched_reg_find(both[i], k));
        CHECK_EQ(sched_reg_promise(both[i], &h.env, k, ballot, &ret), SCHED_REG_REFUSED);
        CHECK_EQ(
            sched_reg_promise(both[i], &h.env, k, sched_epoch_make(1, 20, 0), &ret), SCHED_REG_OK);
        CHECK(ret.rec.epoch > bound);
    }
}

/* ---- sessions ---- */

TEST(a_session_starts_by_its_reservation_once)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    struct sched_sess sess;
    uint32_t base[SCHED_BUCKETS] = {0};
    struct sched_group g = {.n = 1, .seat = {{10, 1}}};
    holder_init(&h, &mem, 1);
    sched_sess_init(&sess, &h.cfg, &mem);
    h.env.base = base;
    h.env.placer = (struct sched_placer){&g, one_group};
    h.env.lease_ns = SCHED_MS(9000);
    struct sched_key k = {1, 2};
    struct sched_msg m = {.type = SCHED_MSG_BIND,
        .from = 11,
        .bind = {.op = 4,
            .key = k,
            .rec = {.epoch = sched_epoch_make(1, 0, 0),
                .host = {10, 1},
                .resv = sched_sess_reserve(&sess, &h.env, k),
                .state = SCHED_REC_LIVE}}};
    CHECK(!sched_sess_bind(&sess, &h.env, &m));
    struct sched_fx_vm vm = {.key = k, .epoch = m.bind.rec.epoch};
    CHECK(sched_sess_up(&sess, &h.env, &vm));
    CHECK(said(&h.fx, SCHED_MSG_BOUND) != NULL);
    CHECK(sched_sess_bind(&sess, &h.env, &m));
    CHECK(sched_sess_down(&sess, &h.env, &vm, false));
    sched_sess_acked(&sess, &h.env, &m.bind);
    CHECK_EQ(sess.used, 0);
    sched_fx_clear(&h.fx);
    CHECK(!sched_sess_bind(&sess, &h.env, &m)); /* late: the same message once more */
    CHECK(said(&h.fx, SCHED_MSG_UNBOUND) != NULL);
}

TEST(places_are_bounded_and_reservations_expire)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    struct sched_sess sess;
    holder_init(&h, &mem, 1);
    sched_sess_init(&sess, &h.cfg, &mem);
    struct sched_key k = {1, 2};
    uint64_t first = sched_sess_reserve(&sess, &h.env, k);
    for (int i = 1; i < 4; i++) {
        CHECK(sched_sess_reserve(&sess, &h.env, k) != 0);
    }
    CHECK_EQ(sched_sess_reserve(&sess, &h.env, k), 0);
    sched_sess_release(&sess, first, (struct sched_key){9, 9}); /* not its key */
    CHECK_EQ(sess.used, 4);
    sched_sess_release(&sess, first, k);
    CHECK_EQ(sess.used, 3);
    h.env.now_ns += SCHED_MS(2500);
    sched_sess_tick(&sess, &h.env);
    CHECK_EQ(sess.used, 0);
    sess.closed = true;
    CHECK_EQ(sched_sess_reserve(&sess, &h.env, k), 0);
}

/* ---- spill ---- */

TEST(a_home_takes_a_quarter_more_than_its_share)
{
    struct sched_spill s = {.mean = 100, .then = UINT32_MAX};
    CHECK(sched_spill_here(&s, 124, 200));
    CHECK(!sched_spill_here(&s, 125, 200));
    CHECK(sched_spill_here(&s, 162, 1008)); /* a sixteenth of the places is not worth a way */
    CHECK(!sched_spill_here(&s, 163, 1008));
    CHECK(!sched_spill_here(&s, 10, 10));
    s.mean = 1;
    CHECK(sched_spill_here(&s, 9, 10));
    struct sched_load a = {1, 5, 3}, b = {2, 4, 3};
    CHECK(!sched_spill_better(&a, &b));
    CHECK(sched_spill_better(&b, &a));
}

/* All grow alike between two grants: what is above a mean of a while ago is not above the mean. */
TEST(a_home_that_grows_with_the_others_takes_its_sessions)
{
    struct sched_m_grant g = {.mean = 100};
    struct sched_spill s = {0};
    sched_spill_learn(&s, &g, 110);
    CHECK(sched_spill_here(&s, 130, 400));
    CHECK(sched_spill_here(&s, 210, 400));
    CHECK(!sched_spill_here(&s, 211, 400)); /* or it grows alone */
    sched_spill_learn(&s, &g, 125);
    CHECK(!sched_spill_here(&s, 125, 400));
    CHECK(sched_spill_here(&s, 110, 400)); /* some have ended */
}

TEST(spill_candidates_are_other_members)
{
    struct sched_mem mem = fresh_memory();
    struct holder h;
    holder_init(&h, &mem, 1);
    base_hash_rng_seed(&h.env.rng, 1);
    struct sched_load loads[] = {{10, 1, 1}, {99, 1, 1}, {12, 0, 4}};
    struct sched_m_grant g = {.mean = 3, .n_samples = 3, .samples = loads};
    struct sched_spill s = {0};
    sched_spill_learn(&s, &g, 3);
    struct sched_host out[SCHED_SPILL_CHOICES];
    CHECK_EQ(sched_spill_pick(&s, &h.env, out), 2);
    CHECK_EQ(out[0].node, 12);
    CHECK_EQ(out[1].node, 11);
}

/* ---- effects, wire ---- */

TEST(messages_are_dropped_before_stores_are)
{
    struct sched_mem mem = fresh_memory();
    struct sched_fx fx;
    sched_fx_init(&fx, &mem);
    for (uint32_t i = 0; i < 2 * SCHED_FX_MAX; i++) {
        CHECK(sched_fx_send(&fx, SCHED_MSG_VPULL, 1) != NULL);
    }
    CHECK(fx.dropped > 0);
    for (uint32_t i = 0; i < SCHED_FX_RESERVE; i++) {
        (void)sched_fx_store(&fx, SCHED_ROW_REG);
    }
    CHECK(sched_fx_bytes(&fx, SCHED_FX_BYTES) != NULL);
    CHECK(sched_fx_bytes(&fx, 1) == NULL);
}

/* What a build of version 2 wrote, byte for byte: a cluster is upgraded node by node. */
TEST(an_older_build_reads_what_is_sent_before_the_view_says_more)
{
    struct sched_mem mem = fresh_memory();
    struct sched_wire_room room;
    sched_wire_room_init(&room, 8, &mem);
    struct sched_view v = {.num = 7};
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .view = {&v}}, got;
    uint8_t buf[512], want[2 + 1 + 4 + 32 + 4] = {2, SCHED_MSG_VIEW, 1, 7};
    int len = sched_wire_encode(&m, buf, sizeof buf);
    CHECK_EQ(len, (int)sizeof want);
    CHECK(memcmp(buf, want, sizeof want) == 0);
    CHECK_EQ(sched_wire_decode(want, sizeof want, &room, &got), 0);
    CHECK_EQ(sched_view_version(got.view.view), SCHED_VERSION_BASE);
    uint8_t pull[10] = {2, SCHED_MSG_VPULL, 7};
    m = (struct sched_msg){.type = SCHED_MSG_VPULL, .pull = {.known = 7}};
    CHECK_EQ(sched_wire_encode(&m, buf, sizeof buf), (int)sizeof pull);
    CHECK(memcmp(buf, pull, sizeof pull) == 0);
    struct sched_row row = {.kind = SCHED_ROW_VIEW, .num = 1, .view = &v};
    CHECK(sched_wire_row_encode(&row, buf, sizeof buf) > 0);
    CHECK_EQ(buf[0], 2);
}

TEST(a_view_of_a_later_version_is_sent_and_stored_in_it)
{
    struct sched_mem mem = fresh_memory();
    struct sched_wire_room room;
    sched_wire_room_init(&room, 8, &mem);
    struct sched_view v = view_of(&mem, 8);
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .view = {&v}}, got;
    uint8_t buf[512];
    v.version = 3;
    int len = sched_wire_encode_as(&m, 2, buf, sizeof buf);
    CHECK(len > 0 && buf[0] == 3);
    CHECK_EQ(sched_wire_decode(buf, (size_t)len, &room, &got), 0);
    CHECK(sched_view_equal(got.view.view, &v));
    uint64_t digest = sched_view_digest(&v);
    v.version = 2;
    CHECK(sched_view_digest(&v) != digest && !sched_view_equal(got.view.view, &v));
    v.version = 3;
    struct sched_row row = {.kind = SCHED_ROW_VIEW, .num = 1, .view = &v}, back;
    len = sched_wire_row_encode(&row, buf, sizeof buf);
    CHECK(len > 0 && buf[0] == 3);
    CHECK_EQ(sched_wire_row_decode(buf, (size_t)len, &room, &back), 0);
    CHECK(sched_view_equal(back.view, &v));
    m = (struct sched_msg){.type = SCHED_MSG_VPULL, .pull = {UINT32_MAX, {2, 3}}};
    len = sched_wire_encode_as(&m, 3, buf, sizeof buf);
    CHECK(len > 0 && buf[0] == 3); /* all is sent in the version of the view */
    CHECK_EQ(sched_wire_decode(buf, (size_t)len, &room, &got), 0);
    CHECK(got.pull.known == UINT32_MAX && got.pull.speaks.min == 2 && got.pull.speaks.max == 3);
    buf[2 + 4] = 4; /* from 4 to 3 */
    CHECK_EQ(sched_wire_decode(buf, (size_t)len, &room, &got), BASE_EBADMSG);
}

TEST(what_nodes_speak_is_forgotten_after_a_while_and_makes_room)
{
    struct sched_mem mem = fresh_memory();
    struct sched_speak s;
    sched_speak_init(&s, 8, &mem);
    uint64_t later = SCHED_MS(SCHED_SPEAK_LIFE_MS) + 1;
    for (uint64_t node = 1; node <= s.cap; node++) {
        sched_speak_hear(&s, node, (struct sched_speaks){2, 3}, node == 5 ? 0 : later);
    }
    sched_speak_hear(&s, 1000, (struct sched_speaks){2, 4}, later);
    CHECK_EQ(sched_speak_of(&s, 1000, later).max, 4);
    CHECK_EQ(sched_speak_of(&s, 5, later).max, 0); /* it made room */
    sched_speak_hear(&s, 1001, (struct sched_speaks){2, 4}, later);
    CHECK_EQ(sched_speak_of(&s, 1001, later).max, 0); /* all others were heard just now */
    CHECK_EQ(s.n, s.cap);
    sched_speak_hear(&s, 1, (struct sched_speaks){0}, later);
    CHECK_EQ(sched_speak_of(&s, 1, later).max, 3);
    CHECK_EQ(sched_speak_of(&s, 1, 2 * later).max, 0);
    sched_speak_hear(&s, 1, (struct sched_speaks){0}, 2 * later);
    CHECK_EQ(sched_speak_of(&s, 1, 2 * later).max, 0);
}

TEST(the_decoder_takes_exactly_one_message)
{
    struct sched_mem mem = fresh_memory();
    struct sched_wire_room room;
    sched_wire_room_init(&room, 8, &mem);
    struct sched_view v = view_of(&mem, 8);
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .view = {&v}}, got;
    uint8_t buf[512];
    int len = sched_wire_encode(&m, buf, sizeof buf);
    CHECK(len > 0);
    CHECK_EQ(sched_wire_decode(buf, (size_t)len, &room, &got), 0);
    CHECK(sched_view_equal(got.view.view, &v));
    CHECK_EQ(sched_wire_decode(buf, (size_t)len - 1, &room, &got), BASE_EBADMSG);
    CHECK_EQ(sched_wire_decode(buf, (size_t)len + 1, &room, &got), BASE_EBADMSG);
    CHECK_EQ(sched_wire_encode(&m, buf, 20), BASE_ETOOBIG);
    buf[0] = 9;
    CHECK_EQ(sched_wire_decode(buf, (size_t)len, &room, &got), BASE_EVERSION);
    m.type = SCHED_MSG_TYPES;
    CHECK_EQ(sched_wire_encode(&m, buf, sizeof buf), BASE_EINVAL);
    CHECK(!sched_msg_allowed(SCHED_MSG_NONE, SCHED_PART_VOTER));
    CHECK_STR(sched_msg_name(SCHED_MSG_BIND), "BIND");
    CHECK_STR(sched_msg_name(200), "?");
}
