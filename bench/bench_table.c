/* Warren's session table beside raw LMDB: same rows, same folder, same flags, same run.
 *
 *     bench_table [--quick] [FOLDER]         FOLDER: where the files go, a tmpfs; /dev/shm if
 * absent
 *
 * What the store costs on top of LMDB: the change list that survives a full map, the checks, the
 * call through its table of functions. The make in memory (for tests and simulation) is the third
 * column. --quick only checks that all three hold the same rows in the end; it is a test. */
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bench/stat.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "worker/io/store.h"

enum { KEY_BYTES = 40, VALUE_BYTES = 192, MAP_BYTES = 1 << 30, TMPFS_MAGIC_NUMBER = 0x01021994 };

enum who { STORE, RAW, MEMORY, WHO_END };

struct bench {
    uint32_t rows;
    uint8_t (*keys)[KEY_BYTES];
    uint32_t *versions;                  /* what the value of each row was made from last */
    struct worker_store *store[WHO_END]; /* RAW has none */
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader;
    struct base_hash_rng rng;
    unsigned failures;
};

/* One line of the result: samples of each rival, in ns per row. */
struct line {
    const char *what;
    uint32_t batch; /* rows per commit; 0: a read */
    size_t samples;
    double *ns[WHO_END];
};

static void *must(void *p)
{
    REQUIRE(p != NULL);
    return p;
}

static void value_of(uint32_t row, uint32_t version, uint8_t value[VALUE_BYTES])
{
    uint64_t seed = (uint64_t)row << 32 | version;
    for (size_t i = 0; i < VALUE_BYTES; i += 8) {
        uint64_t word = base_hash_mix64(seed + i);
        memcpy(value + i, &word, 8);
    }
}

static struct worker_store_row row_of(const struct bench *b, uint32_t row, const uint8_t *value)
{
    return (struct worker_store_row){
        .key = b->keys[row], .key_n = KEY_BYTES, .value = value, .value_n = VALUE_BYTES};
}

static void store_update(struct bench *b, enum who who, const uint32_t *rows, uint32_t n)
{
    struct worker_store *st = b->store[who];
    for (uint32_t i = 0; i < n; i++) {
        uint8_t value[VALUE_BYTES];
        value_of(rows[i], b->versions[rows[i]], value);
        struct worker_store_row r = row_of(b, rows[i], value);
        REQUIRE(worker_store_put(st, WORKER_STORE_SESSION, &r) == 0);
    }
    REQUIRE(worker_store_commit(st) == 0);
}

static void raw_update(struct bench *b, const uint32_t *rows, uint32_t n)
{
    MDB_txn *txn;
    REQUIRE(mdb_txn_begin(b->env, NULL, 0, &txn) == 0);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t value[VALUE_BYTES];
        value_of(rows[i], b->versions[rows[i]], value);
        MDB_val k = {.mv_size = KEY_BYTES, .mv_data = b->keys[rows[i]]};
        MDB_val v = {.mv_size = VALUE_BYTES, .mv_data = value};
        REQUIRE(mdb_put(txn, b->dbi, &k, &v, 0) == 0);
    }
    REQUIRE(mdb_txn_commit(txn) == 0);
}

static double update(struct bench *b, enum who who, const uint32_t *rows, uint32_t n)
{
    uint64_t start = base_clock_mono_ns();
    if (who == RAW) {
        raw_update(b, rows, n);
    } else {
        store_update(b, who, rows, n);
    }
    return (double)(base_clock_mono_ns() - start) / n;
}

static bool same(struct bench *b, uint32_t row, const void *value, size_t n)
{
    uint8_t want[VALUE_BYTES];
    value_of(row, b->versions[row], want);
    return n == VALUE_BYTES && memcmp(value, want, n) == 0;
}

/* Reads n rows; each in a fresh snapshot, as the product does between two commits. */
static double get(struct bench *b, enum who who, const uint32_t *rows, uint32_t n)
{
    uint64_t start = base_clock_mono_ns();
    for (uint32_t i = 0; i < n; i++) {
        if (who == RAW) {
            MDB_val k = {.mv_size = KEY_BYTES, .mv_data = b->keys[rows[i]]}, v;
            REQUIRE(mdb_txn_renew(b->reader) == 0);
            REQUIRE(mdb_get(b->reader, b->dbi, &k, &v) == 0);
            b->failures += v.mv_size != VALUE_BYTES;
            mdb_txn_reset(b->reader);
        } else {
            struct worker_store_row r;
            int rc = worker_store_get(
                b->store[who], WORKER_STORE_SESSION, b->keys[rows[i]], KEY_BYTES, &r);
            b->failures += rc != 0 || r.value_n != VALUE_BYTES;
        }
    }
    return (double)(base_clock_mono_ns() - start) / n;
}

static int count_row(void *user, const struct worker_store_row *row)
{
    *(size_t *)user += row->value_n == VALUE_BYTES;
    return 0;
}

/* The walk through all rows that a restart makes. */
static double walk(struct bench *b, enum who who)
{
    size_t seen = 0;
    uint64_t start = base_clock_mono_ns();
    if (who == RAW) {
        MDB_cursor *c;
        MDB_val k, v;
        REQUIRE(mdb_txn_renew(b->reader) == 0);
        REQUIRE(mdb_cursor_open(b->reader, b->dbi, &c) == 0);
        while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
            seen += v.mv_size == VALUE_BYTES;
        }
        mdb_cursor_close(c);
        mdb_txn_reset(b->reader);
    } else {
        REQUIRE(
            worker_store_each(b->store[who], WORKER_STORE_SESSION, NULL, 0, count_row, &seen) == 0);
    }
    b->failures += seen != b->rows;
    return (double)(base_clock_mono_ns() - start) / b->rows;
}

/* The same random rows for all three, who take turns in who is first. */
static void measure(struct bench *b, struct line *l)
{
    uint32_t n = l->batch > 0 ? l->batch : 100;
    uint32_t *rows = must(calloc(n, sizeof *rows));
    for (size_t s = 0; s < l->samples; s++) {
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (uint32_t)base_hash_rng_below(&b->rng, b->rows);
            b->versions[rows[i]] += l->batch > 0;
        }
        for (unsigned i = 0; i < WHO_END; i++) {
            enum who who = (enum who)((s + i) % WHO_END);
            l->ns[who][s] = l->batch > 0 ? update(b, who, rows, n) : get(b, who, rows, n);
        }
    }
    free(rows);
}

static void measure_walk(struct bench *b, struct line *l)
{
    for (size_t s = 0; s < l->samples; s++) {
        for (unsigned i = 0; i < WHO_END; i++) {
            enum who who = (enum who)((s + i) % WHO_END);
            l->ns[who][s] = walk(b, who);
        }
    }
}

static void print_line(const struct line *l)
{
    double median[WHO_END];
    (void)printf("%-22s", l->what);
    for (unsigned who = 0; who < WHO_END; who++) {
        bench_sort(l->ns[who], l->samples);
        median[who] = bench_quantile(l->ns[who], l->samples, 0.5);
        (void)printf(" %9.0f %9.0f", median[who], bench_quantile(l->ns[who], l->samples, 0.99));
    }
    (void)printf(" %8.2fx", median[STORE] / median[RAW]);
    if (l->batch > 0) {
        (void)printf(" %9.0f", 1e9 / median[STORE]);
    }
    (void)printf("\n");
}

/* All rows, in all three, are what was put last. */
static void verify(struct bench *b)
{
    REQUIRE(mdb_txn_renew(b->reader) == 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        struct worker_store_row r;
        MDB_val k = {.mv_size = KEY_BYTES, .mv_data = b->keys[row]}, v;
        bool good = mdb_get(b->reader, b->dbi, &k, &v) == 0 && same(b, row, v.mv_data, v.mv_size);
        for (unsigned who = 0; who < WHO_END; who++) {
            good = good && (who == RAW || (worker_store_get(b->store[who], WORKER_STORE_SESSION,
                                               b->keys[row], KEY_BYTES, &r) == 0 &&
                                              same(b, row, r.value, r.value_n)));
        }
        if (!good) {
            (void)printf("WRONG: row %u\n", row);
            b->failures++;
            break;
        }
    }
    mdb_txn_reset(b->reader);
}

static void raw_open(struct bench *b, const char *path)
{
    MDB_txn *txn;
    REQUIRE(mkdir(path, 0700) == 0);
    REQUIRE(mdb_env_create(&b->env) == 0);
    REQUIRE(mdb_env_set_mapsize(b->env, MAP_BYTES) == 0);
    REQUIRE(mdb_env_set_maxdbs(b->env, 4) == 0);
    REQUIRE(mdb_env_open(b->env, path, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600) == 0);
    REQUIRE(mdb_txn_begin(b->env, NULL, 0, &txn) == 0);
    REQUIRE(mdb_dbi_open(txn, "sess", MDB_CREATE, &b->dbi) == 0);
    REQUIRE(mdb_txn_commit(txn) == 0);
    REQUIRE(mdb_txn_begin(b->env, NULL, MDB_RDONLY, &b->reader) == 0);
    mdb_txn_reset(b->reader);
}

static void bench_open(struct bench *b, const char *folder, uint32_t rows)
{
    char path[4096];
    struct base_error err;
    base_hash_rng_seed(&b->rng, 5);
    b->rows = rows;
    b->keys = must(calloc(rows, sizeof *b->keys));
    b->versions = must(calloc(rows, sizeof *b->versions));
    for (uint32_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < KEY_BYTES; j += 8) {
            uint64_t word = base_hash_rng_next(&b->rng);
            memcpy(b->keys[i] + j, &word, 8);
        }
    }
    (void)snprintf(path, sizeof path, "%s/store", folder);
    struct worker_store_config config = {.path = path, .kind = "run", .map_bytes = MAP_BYTES};
    if (worker_store_open(&config, &b->store[STORE], &err) != 0) {
        (void)fprintf(stderr, "bench_table: %s\n", err.text);
        exit(1);
    }
    REQUIRE(worker_store_open_mem(&b->store[MEMORY]) == 0);
    (void)snprintf(path, sizeof path, "%s/raw", folder);
    raw_open(b, path);
}

static void bench_close(struct bench *b, const char *folder)
{
    static const char *const files[] = {
        "store/data.mdb", "store/lock.mdb", "store", "raw/data.mdb", "raw/lock.mdb", "raw", "."};
    worker_store_close(b->store[STORE]);
    worker_store_close(b->store[MEMORY]);
    mdb_txn_abort(b->reader);
    mdb_env_close(b->env);
    free(b->keys);
    free(b->versions);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[4096];
        (void)snprintf(
            path, sizeof path, "%s/%s", folder, i + 1 < ARRAY_LEN(files) ? files[i] : "");
        (void)remove(path);
    }
}

static void fill(struct bench *b)
{
    enum { AT_ONCE = 1000 };
    uint32_t rows[AT_ONCE];
    for (uint32_t i = 0; i < b->rows; i += AT_ONCE) {
        for (uint32_t j = 0; j < AT_ONCE; j++) {
            rows[j] = i + j;
        }
        for (unsigned who = 0; who < WHO_END; who++) {
            (void)update(b, (enum who)who, rows, AT_ONCE);
        }
    }
}

static void run(struct bench *b, bool quick)
{
    size_t k = quick ? 1 : 50;
    struct line lines[] = {
        {.what = "put, 1 a commit", .batch = 1, .samples = 200 * k},
        {.what = "put, 10 a commit", .batch = 10, .samples = 40 * k},
        {.what = "put, 100 a commit", .batch = 100, .samples = 6 * k},
        {.what = "get", .samples = 20 * k},
        {.what = "walk", .samples = quick ? 1 : 9},
    };
    fill(b);
    (void)printf(
        "%u rows, keys of %d and values of %d bytes; ns per row, median and p99 of commits "
        "(of 100 reads, of walks)\n%-22s %9s %9s %9s %9s %9s %9s %9s %9s\n",
        b->rows, KEY_BYTES, VALUE_BYTES, "", "Warren", "p99", "raw LMDB", "p99", "memory", "p99",
        "Warren/", "Warren");
    (void)printf(
        "%-22s %9s %9s %9s %9s %9s %9s %9s %9s\n", "", "", "", "", "", "", "", "raw", "rows/s");
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct line *l = &lines[i];
        for (unsigned who = 0; who < WHO_END; who++) {
            l->ns[who] = must(calloc(l->samples, sizeof(double)));
        }
        if (i + 1 == ARRAY_LEN(lines)) {
            measure_walk(b, l);
        } else {
            measure(b, l);
        }
        print_line(l);
        for (unsigned who = 0; who < WHO_END; who++) {
            free(l->ns[who]);
        }
    }
    verify(b);
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    const char *parent = argc > 1 + quick ? argv[1 + quick] : "/dev/shm";
    char folder[4000];
    struct statfs fs;
    (void)snprintf(folder, sizeof folder, "%s/bench_table.XXXXXX", parent);
    if (mkdtemp(folder) == NULL || statfs(folder, &fs) != 0) {
        perror(folder);
        return 1;
    }
    if (fs.f_type != TMPFS_MAGIC_NUMBER) {
        (void)printf("note: %s is no tmpfs\n", parent);
    }
    static struct bench b;
    bench_open(&b, folder, quick ? 2000 : 100000);
    run(&b, quick);
    bench_close(&b, folder);
    return b.failures > 0;
}
