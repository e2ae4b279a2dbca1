/* The lease page between one writer and its readers. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tests/lib/check.h"
#include "worker/io/lease.h"

#define S BASE_NS_PER_S

static struct worker_fence_lease some(uint64_t n)
{
    return (struct worker_fence_lease){.mode = WORKER_FENCE_LEASE,
        .freeze_at_ns = n,
        .kill_at_ns = n + 60,
        .epoch = n + 1,
        .alone_ns = n + 2};
}

static void fresh(struct worker_lease_page *p)
{
    *p = (struct worker_lease_page){.version = WORKER_LEASE_VERSION};
    atomic_store(&p->magic, WORKER_LEASE_MAGIC);
    struct worker_fence_lease l = some(1000);
    worker_lease_write(p, &l);
}

TEST(what_was_written_is_read)
{
    struct worker_lease_page p;
    struct worker_fence_lease l;
    fresh(&p);
    CHECK(worker_lease_read(&p, &l));
    CHECK_EQ(l.freeze_at_ns, 1000);
    CHECK_EQ(l.kill_at_ns, 1060);
    CHECK_EQ(l.epoch, 1001);
    CHECK_EQ(l.alone_ns, 1002);
    uint64_t beat = l.beat;
    l = some(5);
    worker_lease_write(&p, &l);
    CHECK(worker_lease_read(&p, &l));
    CHECK_EQ(l.freeze_at_ns, 5);
    CHECK(l.beat != beat);
}

TEST(a_writer_that_is_killed_at_any_word_leaves_the_last_lease)
{
    for (int words = 0; words <= WORKER_LEASE_WORDS; words++) {
        struct worker_lease_page p;
        struct worker_fence_lease l;
        fresh(&p);
        /* The first words of the next write are there, its turn is not. */
        struct worker_lease_copy *next = &p.copy[(atomic_load(&p.turn) + 1) % 2];
        for (int i = 0; i < words; i++) {
            atomic_store(&next->word[i], 77);
        }
        CHECK(worker_lease_read(&p, &l));
        CHECK_EQ(l.freeze_at_ns, 1000);
        l = some(2000); /* and the next worker writes over it */
        worker_lease_write(&p, &l);
        CHECK(worker_lease_read(&p, &l));
        CHECK_EQ(l.freeze_at_ns, 2000);
    }
}

TEST(damage_to_any_bit_is_noticed)
{
    struct worker_lease_page p;
    struct worker_fence_lease l;
    fresh(&p);
    for (size_t at = 0; at < sizeof p * 8; at++) {
        fresh(&p);
        size_t copy = atomic_load(&p.turn) % 2;
        const uint8_t *spare = (const uint8_t *)&p.copy[1 - copy];
        uint8_t *byte = (uint8_t *)&p + at / 8;
        *byte ^= (uint8_t)(1U << (at % 8));
        bool other = byte >= spare && byte < spare + sizeof p.copy[0];
        CHECK_EQ(worker_lease_read(&p, &l), other);
    }
}

TEST(a_page_of_zeros_or_ones_is_none)
{
    struct worker_lease_page p;
    struct worker_fence_lease l;
    memset(&p, 0, sizeof p);
    CHECK(!worker_lease_read(&p, &l));
    memset(&p, 0xff, sizeof p);
    CHECK(!worker_lease_read(&p, &l));
}

static struct worker_lease_page shared;
static atomic_bool stop_writing;

static void *writes(void *arg)
{
    (void)arg;
    for (uint64_t n = 1; !atomic_load(&stop_writing); n++) {
        struct worker_fence_lease l = some(n * 1000);
        worker_lease_write(&shared, &l);
    }
    return NULL;
}

TEST(a_reader_beside_a_writer_never_sees_half_a_lease)
{
    fresh(&shared);
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, writes, NULL), 0);
    uint64_t seen = 0, last = 0;
    for (int i = 0; i < 300000; i++) {
        struct worker_fence_lease l;
        if (worker_lease_read(&shared, &l)) { /* false: lapped, or in the middle of its writes */
            CHECK(l.kill_at_ns == l.freeze_at_ns + 60 && l.epoch == l.freeze_at_ns + 1 &&
                  l.alone_ns == l.freeze_at_ns + 2);
            CHECK(l.beat >= last);
            last = l.beat;
            seen++;
        }
    }
    atomic_store(&stop_writing, true);
    CHECK_EQ(pthread_join(t, NULL), 0);
    CHECK(seen > 1000);
}

/* --- the worker's side --------------------------------------------------------------------- */

static char dir[64];

static struct worker_lease open_page(bool leased)
{
    struct worker_lease l;
    struct base_error err;
    struct worker_lease_config c = {
        .run_dir = dir, .leased = leased, .kill_ns = 60 * S, .alone_ns = 70 * S};
    CHECK_EQ(worker_lease_open(&l, &c, &err), 0);
    return l;
}

static void folder(void)
{
    (void)strcpy(dir, "/tmp/warren-lease-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
}

static void folder_gone(void)
{
    char path[80];
    (void)snprintf(path, sizeof path, "%s/lease", dir);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(on_one_machine_the_page_says_that_no_lease_is_needed)
{
    folder();
    struct worker_lease l = open_page(false);
    struct worker_fence_lease seen;
    uint64_t look_ns;
    CHECK(worker_lease_held(&l, &look_ns) && look_ns == UINT64_MAX);
    CHECK(!worker_lease_grant(&l, 0, 0, 3)); /* nobody grants here */
    CHECK(worker_lease_held(&l, &look_ns));
    CHECK(worker_lease_read(l.page, &seen));
    CHECK_EQ(seen.mode, WORKER_FENCE_NO_LEASE);
    uint64_t beat = seen.beat;
    worker_lease_beat(&l);
    CHECK(worker_lease_read(l.page, &seen) && seen.beat != beat);
    worker_lease_close(&l);
    folder_gone();
}

TEST(with_a_cluster_nothing_runs_before_the_first_grant)
{
    folder();
    struct worker_lease l = open_page(true);
    uint64_t look_ns, now = base_clock_boot_ns();
    CHECK(!worker_lease_held(&l, &look_ns));
    CHECK(!worker_lease_grant(&l, now + 600 * S, now + 660 * S, 1));
    CHECK(worker_lease_held(&l, &look_ns) && look_ns <= 600 * S);
    CHECK(!worker_lease_grant(&l, now + 700 * S, now + 760 * S, 1)); /* longer: no hurry */
    CHECK(worker_lease_grant(&l, now + 650 * S, now + 760 * S, 1));  /* shorter */
    CHECK(worker_lease_grant(&l, now + 800 * S, now + 860 * S, 2));  /* another incarnation */
    CHECK(worker_lease_grant(&l, 0, 0, 2));
    CHECK(!worker_lease_held(&l, &look_ns));
    worker_lease_close(&l);
    folder_gone();
}

TEST(the_next_worker_keeps_what_was_granted_and_no_more)
{
    folder();
    struct worker_lease a = open_page(true);
    uint64_t look_ns, now = base_clock_boot_ns();
    (void)worker_lease_grant(&a, now + 600 * S, now + 660 * S, 4);
    struct worker_lease b = open_page(true); /* a is killed, b comes; a's supervisors have it too */
    CHECK(worker_lease_held(&b, &look_ns));
    CHECK_EQ(b.now.freeze_at_ns, now + 600 * S);
    CHECK_EQ(b.now.epoch, 4);
    CHECK(worker_lease_grant(&b, 0, 0, 4));
    struct worker_fence_lease seen;
    CHECK(worker_lease_read(a.page, &seen));
    CHECK_EQ(seen.freeze_at_ns, 0);
    worker_lease_close(&a);
    worker_lease_close(&b);
    folder_gone();
}

TEST(a_damaged_page_is_written_anew)
{
    folder();
    struct worker_lease a = open_page(true);
    (void)worker_lease_grant(&a, UINT64_MAX / 2, UINT64_MAX / 2, 4);
    memset(a.page->copy, 0x5a, sizeof a.page->copy);
    uint64_t look_ns;
    CHECK(!worker_lease_held(&a, &look_ns));
    struct worker_lease b = open_page(true);
    CHECK(!worker_lease_held(&b, &look_ns)); /* what was granted is not known */
    CHECK(b.now.epoch == 0 && b.now.freeze_at_ns <= base_clock_boot_ns());
    worker_lease_close(&a);
    worker_lease_close(&b);
    folder_gone();
}

TEST(a_folder_that_is_not_there_is_an_error)
{
    struct worker_lease l;
    struct base_error err;
    struct worker_lease_config c = {.run_dir = "/no/such/folder", .alone_ns = 1};
    CHECK(worker_lease_open(&l, &c, &err) < 0);
    CHECK(strstr(err.text, "/no/such/folder/lease") != NULL);
    CHECK(l.page == NULL && l.fd == -1);
}
