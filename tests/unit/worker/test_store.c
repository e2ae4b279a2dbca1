#include <lmdb.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/io/store.h"

/* One contract, two makes. */

static char folder[64];

static void folder_make(void)
{
    (void)snprintf(folder, sizeof folder, "%s/warren-store-XXXXXX", "/tmp");
    CHECK(mkdtemp(folder) != NULL);
}

static void folder_remove(void)
{
    char path[128];
    static const char *const parts[] = {"/s/data.mdb", "/s/lock.mdb", "/s", ""};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        (void)snprintf(path, sizeof path, "%s%s", folder, parts[i]);
        if (i < 2) {
            (void)unlink(path);
        } else {
            (void)rmdir(path);
        }
    }
}

static int reopen(size_t map_bytes, struct worker_store **ret, struct base_error *err)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/s", folder);
    struct worker_store_config c = {.path = path, .kind = "run", .map_bytes = map_bytes};
    return worker_store_open(&c, ret, err);
}

static struct worker_store *lmdb(size_t map_bytes)
{
    struct worker_store *st = NULL;
    struct base_error err;
    folder_make();
    int rc = reopen(map_bytes, &st, &err);
    if (rc != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    CHECK_EQ(rc, 0);
    return st;
}

static struct worker_store *mem(void)
{
    struct worker_store *st = NULL;
    CHECK_EQ(worker_store_open_mem(&st), 0);
    return st;
}

/* --- a model: two maps of small keys ------------------------------------------------------- */

enum { KEYS = 40 };

struct model {
    int value[KEYS]; /* 0: absent */
};

static struct worker_store_row row_of(int k, int v)
{
    static uint8_t key[3], value[2000];
    key[0] = (uint8_t)('a' + k / 10);
    key[1] = (uint8_t)('a' + k % 10);
    memset(value, v, sizeof value);
    return (struct worker_store_row){
        .key = key, .key_n = 2, .value = value, .value_n = (size_t)(v * 7)};
}

static int put(struct worker_store *st, int k, int v)
{
    struct worker_store_row r = row_of(k, v);
    return worker_store_put(st, WORKER_STORE_EXEC, &r);
}

struct seen {
    const struct model *m;
    int at;
};

static int see(void *user, const struct worker_store_row *r)
{
    struct seen *s = user;
    while (s->at < KEYS && s->m->value[s->at] == 0) {
        s->at++;
    }
    CHECK(s->at < KEYS);
    struct worker_store_row want = row_of(s->at, s->m->value[s->at]);
    CHECK(r->key_n == want.key_n && memcmp(r->key, want.key, r->key_n) == 0);
    CHECK(r->value_n == want.value_n);
    CHECK(r->value_n == 0 || memcmp(r->value, want.value, r->value_n) == 0);
    s->at++;
    return 0;
}

static void agrees(struct worker_store *st, const struct model *m)
{
    struct seen s = {.m = m};
    CHECK_EQ(worker_store_each(st, WORKER_STORE_EXEC, NULL, 0, see, &s), 0);
    while (s.at < KEYS) {
        CHECK_EQ(m->value[s.at], 0);
        s.at++;
    }
}

static void random_change(struct worker_store *st, struct base_hash_rng *rng, struct model *m)
{
    int k = (int)base_hash_rng_below(rng, KEYS);
    struct worker_store_row r = row_of(k, 0), got;
    switch (base_hash_rng_below(rng, 4)) {
    case 0:
        CHECK_EQ(worker_store_del(st, WORKER_STORE_EXEC, r.key, r.key_n), 0);
        m->value[k] = 0;
        break;
    case 1:
        if (base_hash_rng_below(rng, 8) == 0) {
            CHECK_EQ(worker_store_del_prefix(st, WORKER_STORE_EXEC, r.key, 1), 0);
            memset(&m->value[k / 10 * 10], 0, 10 * sizeof m->value[0]);
        }
        break;
    default:
        m->value[k] = 1 + (int)base_hash_rng_below(rng, 250);
        CHECK_EQ(put(st, k, m->value[k]), 0);
        break;
    }
    r = row_of(k, m->value[k]);
    int rc = worker_store_get(st, WORKER_STORE_EXEC, r.key, r.key_n, &got);
    CHECK_EQ(rc, m->value[k] == 0 ? BASE_ENOTFOUND : 0);
    CHECK(rc != 0 || got.value_n == r.value_n);
}

/* A turn of changes, then a commit or a crash. Between any two changes a crash leaves the last
 * commit and nothing else. */
static void contract(struct worker_store *st, bool files)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 3);
    struct model now = {{0}}, last = {{0}};
    for (int turn = 0; turn < 2000; turn++) {
        int n = (int)base_hash_rng_below(&rng, 12);
        for (int i = 0; i < n; i++) {
            random_change(st, &rng, &now);
        }
        agrees(st, &now);
        if (base_hash_rng_below(&rng, 3) == 0) {
            if (files && base_hash_rng_below(&rng, 20) == 0) {
                worker_store_close(st);
                CHECK_EQ(reopen(0, &st, NULL), 0);
            } else {
                worker_store_abort(st);
            }
            now = last;
            agrees(st, &now);
        } else {
            CHECK_EQ(worker_store_commit(st), 0);
            last = now;
        }
    }
    worker_store_close(st);
}

TEST(contract_in_memory)
{
    contract(mem(), false);
}

TEST(contract_in_files)
{
    contract(lmdb(0), true);
    folder_remove();
}

/* The same writes, cut at every point. */
static void cut(struct worker_store *st)
{
    for (int at = 0; at <= 12; at++) {
        struct model m = {{0}};
        m.value[5] = 9;
        m.value[15] = 9;
        CHECK_EQ(put(st, 5, 9), 0);
        CHECK_EQ(put(st, 15, 9), 0);
        CHECK_EQ(worker_store_commit(st), 0);
        for (int i = 0; i < at; i++) {
            struct worker_store_row r = row_of(i, 0);
            if (i % 3 == 2) {
                CHECK_EQ(worker_store_del(st, WORKER_STORE_EXEC, r.key, 2), 0);
            } else if (i % 5 == 3) {
                CHECK_EQ(worker_store_del_prefix(st, WORKER_STORE_EXEC, "b", 1), 0);
            } else {
                CHECK_EQ(put(st, i, i + 1), 0);
            }
        }
        worker_store_abort(st);
        agrees(st, &m);
    }
    worker_store_close(st);
}

TEST(a_crash_between_any_two_writes_leaves_the_last_commit)
{
    cut(mem());
    cut(lmdb(0));
    folder_remove();
}

/* Write number i of a process, and what it leaves in the model. Every fifth is a commit. */
static void nth_write(struct worker_store *st, int i, struct model *now, struct model *committed)
{
    int k = i * 7 % KEYS, v = now->value[k] == 0 || i % 3 != 0 ? i + 1 : 0;
    struct worker_store_row r = row_of(k, 0);
    if (i % 5 == 4) {
        CHECK(st == NULL || worker_store_commit(st) == 0);
        *committed = *now;
    } else if (v == 0) {
        CHECK(st == NULL || worker_store_del(st, WORKER_STORE_EXEC, r.key, r.key_n) == 0);
        now->value[k] = 0;
    } else {
        CHECK(st == NULL || put(st, k, v) == 0);
        now->value[k] = v;
    }
}

static void write_and_die(int writes)
{
    struct worker_store *st = NULL;
    struct model now = {{0}}, committed = {{0}};
    CHECK_EQ(reopen(0, &st, NULL), 0);
    for (int i = 0; i < writes; i++) {
        nth_write(st, i, &now, &committed);
    }
    (void)kill(getpid(), SIGKILL);
    _exit(3);
}

TEST(a_process_killed_between_any_two_writes_leaves_the_last_commit)
{
    for (int writes = 0; writes <= 60; writes++) {
        struct model now = {{0}}, committed = {{0}};
        struct worker_store *st = NULL;
        int status = 0;
        folder_make();
        pid_t child = fork(); /* no store is open here */
        if (child == 0) {
            write_and_die(writes);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        for (int i = 0; i < writes; i++) {
            nth_write(NULL, i, &now, &committed);
        }
        CHECK_EQ(reopen(0, &st, NULL), 0);
        agrees(st, &committed);
        CHECK(put(st, 1, 2) == 0 && worker_store_commit(st) == 0); /* and it can be written */
        worker_store_close(st);
        folder_remove();
    }
}

TEST(lengths_out_of_range_are_refused_and_change_nothing)
{
    struct worker_store *both[2] = {mem(), lmdb(0)};
    for (int i = 0; i < 2; i++) {
        uint8_t key[WORKER_STORE_KEY_MAX + 1] = {1};
        struct worker_store_row r = {.key = key, .key_n = 0};
        CHECK_EQ(worker_store_put(both[i], WORKER_STORE_VM, &r), BASE_EINVAL);
        r.key_n = sizeof key;
        CHECK_EQ(worker_store_put(both[i], WORKER_STORE_VM, &r), BASE_EINVAL);
        r.key_n = WORKER_STORE_KEY_MAX;
        CHECK_EQ(worker_store_put(both[i], WORKER_STORE_VM, &r), 0);
        r.value_n = WORKER_STORE_VALUE_MAX + 1;
        CHECK_EQ(worker_store_put(both[i], WORKER_STORE_VM, &r), BASE_EINVAL);
        CHECK_EQ(worker_store_commit(both[i]), 0);
        CHECK_EQ(worker_store_get(both[i], WORKER_STORE_VM, key, WORKER_STORE_KEY_MAX, &r), 0);
        CHECK_EQ(worker_store_get(both[i], WORKER_STORE_EXEC, key, 1, &r), BASE_ENOTFOUND);
        worker_store_close(both[i]);
    }
    folder_remove();
}

/* --- waits --------------------------------------------------------------------------------- */

struct waiter {
    struct worker_store_wait wait;
    struct worker_store *st;
    struct ev_loop *loop; /* left when nothing is to be done again */
    int calls, again;
};

static void on_done(struct worker_store_wait *w, int rc)
{
    struct waiter *me = CONTAINER_OF(w, struct waiter, wait);
    CHECK_EQ(rc, 0);
    me->calls++;
    if (me->again > 0) {
        me->again--;
        CHECK_EQ(put(me->st, me->calls, 1), 0);
        worker_store_after(me->st, w, on_done);
    } else if (me->loop != NULL) {
        ev_break(me->loop, EVBREAK_ALL);
    }
}

TEST(waits_are_called_after_the_commit_and_those_they_add_after_the_next)
{
    struct worker_store *st = mem();
    struct waiter a = {.st = st, .again = 1}, b = {.st = st};
    worker_store_wait_init(&a.wait);
    worker_store_wait_init(&b.wait);
    worker_store_after(st, &a.wait, on_done);
    worker_store_after(st, &b.wait, on_done);
    worker_store_wait_cancel(&b.wait);
    CHECK_EQ(a.calls, 0);
    CHECK_EQ(worker_store_commit(st), 0);
    CHECK_EQ(a.calls, 1);
    CHECK_EQ(worker_store_commit(st), 0);
    CHECK_EQ(a.calls, 2);
    CHECK_EQ(worker_store_commit(st), 0);
    CHECK_EQ(a.calls, 2);
    CHECK_EQ(b.calls, 0);
    worker_store_close(st);
}

TEST(a_loop_commits_at_the_end_of_its_turn_and_does_not_sleep_on_what_was_released)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct worker_store *st = mem();
    worker_store_attach(st, loop, NULL, NULL);
    struct waiter a = {.st = st, .loop = loop, .again = 100};
    worker_store_wait_init(&a.wait);
    worker_store_after(st, &a.wait, on_done);
    (void)alarm(30); /* a loop that sleeps does so for a minute: end the test as failed */
    ev_run(loop, 0);
    (void)alarm(0);
    CHECK_EQ(a.calls, 101);
    worker_store_close(st);
    ev_loop_destroy(loop);
}

/* --- files --------------------------------------------------------------------------------- */

TEST(the_map_grows_before_and_when_it_is_full_and_loses_nothing)
{
    struct worker_store *st = lmdb(256 << 10);
    static uint8_t big[300 << 10];
    for (uint32_t i = 0; i < 20; i++) { /* one turn that does not fit, several times over */
        memset(big, (int)i + 1, sizeof big);
        struct worker_store_row r = {
            .key = (const uint8_t *)&i, .key_n = sizeof i, .value = big, .value_n = sizeof big};
        CHECK_EQ(worker_store_put(st, WORKER_STORE_EVENT, &r), 0);
    }
    CHECK_EQ(worker_store_commit(st), 0);
    for (uint32_t i = 20; i < 400; i++) { /* many turns that fit */
        struct worker_store_row r = {
            .key = (const uint8_t *)&i, .key_n = sizeof i, .value = big, .value_n = 50 << 10};
        CHECK_EQ(worker_store_put(st, WORKER_STORE_EVENT, &r), 0);
        CHECK_EQ(worker_store_commit(st), 0);
    }
    worker_store_close(st);
    CHECK_EQ(reopen(64 << 10, &st, NULL), 0);
    for (uint32_t i = 0; i < 400; i++) {
        struct worker_store_row r;
        CHECK_EQ(worker_store_get(st, WORKER_STORE_EVENT, &i, sizeof i, &r), 0);
        CHECK_EQ(r.value_n, i < 20 ? sizeof big : 50 << 10);
        CHECK_EQ(r.value[r.value_n - 1], i < 20 ? i + 1 : 20);
    }
    worker_store_close(st);
    folder_remove();
}

TEST(a_map_at_its_limit_fails_the_store_and_keeps_the_last_commit)
{
    struct worker_store *st = NULL;
    char path[128];
    folder_make();
    (void)snprintf(path, sizeof path, "%s/s", folder);
    struct worker_store_config c = {
        .path = path, .kind = "run", .map_bytes = 256 << 10, .map_bytes_max = 512 << 10};
    CHECK_EQ(worker_store_open(&c, &st, NULL), 0);
    CHECK_EQ(put(st, 1, 1), 0);
    CHECK_EQ(worker_store_commit(st), 0);
    static uint8_t big[600 << 10];
    struct worker_store_row r = {
        .key = (const uint8_t *)"k", .key_n = 1, .value = big, .value_n = sizeof big};
    CHECK_EQ(put(st, 2, 1), 0);
    CHECK_EQ(worker_store_put(st, WORKER_STORE_EVENT, &r), BASE_EFULL);
    CHECK_EQ(put(st, 3, 1), BASE_EFULL);
    CHECK_EQ(worker_store_commit(st), BASE_EFULL);
    worker_store_close(st);
    CHECK_EQ(worker_store_open(&c, &st, NULL), 0);
    struct model m = {{0}};
    m.value[1] = 1;
    agrees(st, &m);
    worker_store_close(st);
    folder_remove();
}

TEST(long_prefixes_of_rows_are_deleted_whole)
{
    struct worker_store *st = lmdb(0);
    uint8_t key[24] = {0}, value[500] = {7};
    for (int id = 0; id < 3; id++) {
        for (int i = 0; i < 5000; i++) {
            key[0] = (uint8_t)(id + 1);
            key[22] = (uint8_t)(i >> 8);
            key[23] = (uint8_t)i;
            struct worker_store_row r = {
                .key = key, .key_n = sizeof key, .value = value, .value_n = (size_t)(i % 500)};
            CHECK_EQ(worker_store_put(st, WORKER_STORE_EVENT, &r), 0);
        }
    }
    CHECK_EQ(worker_store_commit(st), 0);
    key[0] = 2;
    CHECK_EQ(worker_store_del_prefix(st, WORKER_STORE_EVENT, key, 16), 0);
    CHECK_EQ(worker_store_commit(st), 0);
    struct worker_store_row r;
    CHECK_EQ(worker_store_seek(st, WORKER_STORE_EVENT, "\2", 1, &r), 0);
    CHECK_EQ(r.key[0], 3);
    memset(key, 0, sizeof key);
    key[0] = 1;
    for (int i = 0; i < 5000; i++) {
        key[22] = (uint8_t)(i >> 8);
        key[23] = (uint8_t)i;
        CHECK_EQ(worker_store_get(st, WORKER_STORE_EVENT, key, sizeof key, &r), 0);
    }
    worker_store_close(st);
    folder_remove();
}

TEST(unknown_formats_and_other_kinds_are_refused_with_a_reason)
{
    struct worker_store *st = lmdb(0);
    struct base_error err;
    char path[128];
    struct stat sb;
    (void)snprintf(path, sizeof path, "%s/s", folder);
    CHECK(stat(path, &sb) == 0 && (sb.st_mode & 0777) == 0700);
    CHECK_EQ(worker_store_meta_put(st, "format", 2), 0);
    CHECK_EQ(worker_store_commit(st), 0);
    worker_store_close(st);
    CHECK_EQ(reopen(0, &st, &err), BASE_EVERSION);
    CHECK(strstr(err.text, "format 2") != NULL);
    folder_remove();

    st = lmdb(0);
    worker_store_close(st);
    (void)snprintf(path, sizeof path, "%s/s", folder);
    struct worker_store_config node = {.path = path, .kind = "node"};
    CHECK_EQ(worker_store_open(&node, &st, &err), BASE_EVERSION);
    CHECK(strstr(err.text, "not a 'node' store") != NULL);
    node.path = "/nonexistent/x";
    CHECK(worker_store_open(&node, &st, &err) < 0);
    folder_remove();
}

TEST(a_damaged_file_is_an_error_not_a_crash)
{
    struct worker_store *st = lmdb(0);
    worker_store_close(st);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/s/data.mdb", folder);
    FILE *f = fopen(path, "r+");
    CHECK(f != NULL);
    for (int i = 0; i < 8192; i++) {
        CHECK(fputc('x', f) == 'x');
    }
    CHECK_EQ(fclose(f), 0);
    struct base_error err;
    CHECK(reopen(0, &st, &err) < 0);
    CHECK(strstr(err.text, "store '") != NULL);
    folder_remove();
}

TEST(numbers_in_meta)
{
    struct worker_store *st = mem();
    uint64_t v = 5;
    CHECK_EQ(worker_store_meta_get(st, "epoch", &v), 0);
    CHECK_EQ(v, 0);
    CHECK_EQ(worker_store_meta_put(st, "epoch", UINT64_MAX - 1), 0);
    CHECK_EQ(worker_store_meta_get(st, "epoch", &v), 0);
    CHECK(v == UINT64_MAX - 1);
    worker_store_close(st);
    char id[WORKER_STORE_BOOT_ID + 1];
    CHECK_EQ(worker_store_boot_id(id), 0);
    CHECK_EQ(strlen(id), WORKER_STORE_BOOT_ID);
}
