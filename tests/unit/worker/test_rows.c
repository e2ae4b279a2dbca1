#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/wire/rows.h"

static struct worker_row_session session_row(void)
{
    struct worker_row_session r;
    memset(&r, 0, sizeof r);
    r.state = WORKER_SESSION_LIVE;
    r.end = WORKER_END_NONE;
    r.recreated = WORKER_END_VM_LOST;
    r.slot = 7;
    r.epoch = UINT64_C(0x100000002);
    r.hash = UINT64_C(0xfedcba9876543210);
    r.created_ns = 12345;
    r.last_ns = 67890;
    memcpy(r.pool, "python", 7);
    CHECK_EQ(proto_identifier_set(&r.id, "alice", 5), PROTO_IDENTIFIER_OK);
    return r;
}

static struct worker_exec exec_row(void)
{
    struct worker_exec x;
    memset(&x, 0, sizeof x);
    memset(x.id, 0xab, sizeof x.id);
    x.state = WORKER_EXEC_DONE;
    x.truncated = true;
    memset(x.digest, 0xd1, sizeof x.digest);
    x.hash = 1;
    x.epoch = 2;
    x.last_seq = 3;
    x.bytes = 4;
    x.started_ns = 5;
    x.ended_ns = 6;
    return x;
}

TEST(rows_come_back_as_they_were)
{
    uint8_t raw[WORKER_ROW_MAX];
    struct worker_row_session s = session_row(), s2;
    size_t n = worker_row_session_encode(&s, raw);
    CHECK_EQ(worker_row_session_decode(raw, n, &s2), 0);
    CHECK_EQ(memcmp(&s2.tenant, &s.tenant, sizeof s.tenant), 0);
    raw[0] = 1; /* a worker before ours wrote no tenant */
    CHECK_EQ(worker_row_session_decode(raw, n, &s2), BASE_EBADMSG);
    CHECK_EQ(worker_row_session_decode(raw, n - PROTO_TENANT_BYTES, &s2), 0);
    CHECK_EQ(s2.epoch, s.epoch);
    CHECK_EQ(s2.tenant.id[0], 0);
    raw[0] = WORKER_ROW_SESSION_VERSION;
    CHECK_EQ(worker_row_session_decode(raw, n, &s2), 0);
    CHECK(memcmp(&s, &s2, sizeof s) == 0);

    struct worker_row_vm v, v2;
    memset(&v, 0, sizeof v);
    v.state = WORKER_SLOT_READY;
    v.slot = 3;
    v.epoch = 9;
    memset(v.vm_id, 0x5c, sizeof v.vm_id);
    memcpy(v.pool, "shell", 6);
    v.template = 77;
    n = worker_row_vm_encode(&v, raw);
    CHECK_EQ(worker_row_vm_decode(raw, n, &v2), 0);
    CHECK(memcmp(&v, &v2, sizeof v) == 0);
    raw[0] = 1; /* a worker before ours wrote no template */
    CHECK_EQ(worker_row_vm_decode(raw, n, &v2), BASE_EBADMSG);
    CHECK_EQ(worker_row_vm_decode(raw, n - 8, &v2), 0);
    CHECK(v2.template == 0 && v2.epoch == v.epoch);

    struct worker_row_fence f, f2;
    memset(&f, 0, sizeof f);
    f.end = WORKER_END_EXPIRED;
    f.epoch = 8;
    f.hash = 9;
    memcpy(f.pool, "shell", 6);
    f.id = s.id;
    n = worker_row_fence_encode(&f, raw);
    CHECK_EQ(worker_row_fence_decode(raw, n, &f2), 0);
    CHECK(memcmp(&f, &f2, sizeof f) == 0);

    struct worker_exec x = exec_row(), x2;
    n = worker_row_exec_encode(&x, raw);
    CHECK_EQ(worker_row_exec_decode(raw, n, &x2), 0);
    CHECK(memcmp(&x, &x2, sizeof x) == 0);
    raw[0] = 1; /* a worker before ours wrote no digest */
    CHECK_EQ(worker_row_exec_decode(raw, n, &x2), BASE_EBADMSG);
    CHECK_EQ(worker_row_exec_decode(raw, n - PROTO_EXEC_DIGEST_BYTES, &x2), 0);
    memset(x.digest, 0, sizeof x.digest);
    CHECK(memcmp(&x, &x2, sizeof x) == 0);
    raw[0] = WORKER_ROW_EXEC_VERSION;
    CHECK_EQ(worker_row_exec_decode(raw, n - PROTO_EXEC_DIGEST_BYTES, &x2), BASE_EBADMSG);
    raw[0] = WORKER_ROW_EXEC_VERSION + 1;
    CHECK_EQ(worker_row_exec_decode(raw, n, &x2), BASE_EVERSION);
}

TEST(the_longest_rows_and_keys_fit)
{
    uint8_t raw[WORKER_ROW_MAX + 1], key[WORKER_ROW_KEY_MAX + 1];
    struct worker_row_session s = session_row();
    memset(s.pool, 'p', PROTO_POOL_NAME_MAX);
    char text[PROTO_IDENTIFIER_MAX];
    memset(text, 'i', sizeof text);
    CHECK_EQ(proto_identifier_set(&s.id, text, sizeof text), PROTO_IDENTIFIER_OK);
    raw[WORKER_ROW_MAX] = key[WORKER_ROW_KEY_MAX] = 0x77;
    CHECK(worker_row_session_encode(&s, raw) <= WORKER_ROW_MAX);
    CHECK(worker_row_session_key(s.hash, s.pool, &s.id, key) <= WORKER_ROW_KEY_MAX);
    CHECK(raw[WORKER_ROW_MAX] == 0x77 && key[WORKER_ROW_KEY_MAX] == 0x77);
}

TEST(keys_of_different_sessions_differ_and_events_sort_by_number)
{
    uint8_t a[WORKER_ROW_KEY_MAX], b[WORKER_ROW_KEY_MAX];
    struct worker_row_session s = session_row();
    size_t na = worker_row_session_key(1, "ab", &s.id, a);
    size_t nb = worker_row_session_key(1, "abc", &s.id, b);
    CHECK(na != nb || memcmp(a, b, na) != 0);
    uint8_t id[PROTO_EXEC_ID_BYTES] = {1};
    uint64_t seq = 0;
    (void)worker_row_event_key(id, 255, a);
    nb = worker_row_event_key(id, 256, b);
    CHECK(memcmp(a, b, nb) < 0);
    CHECK_EQ(worker_row_event_seq(b, nb, &seq), 0);
    CHECK_EQ(seq, 256);
    CHECK_EQ(worker_row_event_seq(b, nb - 1, &seq), BASE_EBADMSG);
}

TEST(every_shorter_longer_or_newer_row_is_refused_and_nothing_is_written)
{
    uint8_t raw[WORKER_ROW_MAX + 1];
    struct worker_row_session s = session_row(), keep, got;
    size_t n = worker_row_session_encode(&s, raw);
    memset(&got, 0x11, sizeof got);
    keep = got;
    for (size_t cut = 0; cut < n; cut++) {
        CHECK_EQ(worker_row_session_decode(raw, cut, &got), BASE_EBADMSG);
    }
    raw[n] = 0;
    CHECK_EQ(worker_row_session_decode(raw, n + 1, &got), BASE_EBADMSG);
    raw[0] = WORKER_ROW_SESSION_VERSION + 1;
    CHECK_EQ(worker_row_session_decode(raw, n, &got), BASE_EVERSION);
    raw[0] = WORKER_ROW_SESSION_VERSION;
    raw[1] = WORKER_SESSION_STATE_END;
    CHECK_EQ(worker_row_session_decode(raw, n, &got), BASE_EBADMSG);
    CHECK(memcmp(&got, &keep, sizeof got) == 0);
}

TEST(flipped_bits_never_produce_a_row_that_the_cores_would_choke_on)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 11);
    uint8_t raw[WORKER_ROW_MAX];
    struct worker_row_session s = session_row(), got;
    struct worker_exec x = exec_row(), gotx;
    for (int i = 0; i < 100000; i++) {
        size_t n = worker_row_session_encode(&s, raw);
        raw[base_hash_rng_below(&rng, n)] ^= (uint8_t)(1U << base_hash_rng_below(&rng, 8));
        if (worker_row_session_decode(raw, n, &got) == 0) {
            CHECK((unsigned)got.state < WORKER_SESSION_STATE_END);
            CHECK((unsigned)got.end < WORKER_END_MAX && (unsigned)got.recreated < WORKER_END_MAX);
            CHECK(got.id.len >= PROTO_IDENTIFIER_MIN);
            CHECK(proto_pool_name_valid(got.pool, strlen(got.pool)));
        }
        n = worker_row_exec_encode(&x, raw);
        raw[base_hash_rng_below(&rng, n)] ^= (uint8_t)(1U << base_hash_rng_below(&rng, 8));
        if (worker_row_exec_decode(raw, n, &gotx) == 0) {
            CHECK((unsigned)gotx.state <= WORKER_EXEC_UNKNOWN);
        }
    }
}
