#include "worker/io/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

static struct worker_lease_page *map_page(int fd)
{
    struct stat st;
    struct worker_lease_page *page;
    /* Never shorter: supervisors of an earlier worker have it mapped. */
    if (fstat(fd, &st) != 0 ||
        (st.st_size < (off_t)sizeof *page && ftruncate(fd, sizeof *page) != 0)) {
        return MAP_FAILED;
    }
    return mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void put(struct worker_lease *l)
{
    worker_lease_write(l->page, &l->now);
}

static void first_word(struct worker_lease *l, const struct worker_lease_config *c)
{
    struct worker_fence_lease old;
    uint64_t now = base_clock_boot_ns();
    bool kept = worker_lease_read(l->page, &old) && worker_fence_valid(&old) && c->leased &&
                old.mode == WORKER_FENCE_LEASE;
    l->now = (struct worker_fence_lease){
        .mode = c->leased ? WORKER_FENCE_LEASE : WORKER_FENCE_NO_LEASE,
        .freeze_at_ns = now,
        .kill_at_ns = now + c->kill_ns,
    };
    l->now = kept ? old : l->now;
    l->now.alone_ns = c->alone_ns;
    l->page->version = WORKER_LEASE_VERSION;
    put(l);
    atomic_store(&l->page->magic, WORKER_LEASE_MAGIC);
}

int worker_lease_open(
    struct worker_lease *l, const struct worker_lease_config *config, struct base_error *err)
{
    *l = (struct worker_lease){.fd = -1};
    char path[128];
    (void)snprintf(path, sizeof path, "%s/lease", config->run_dir);
    CLEANUP(base_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *p = fd < 0 ? MAP_FAILED : map_page(fd);
    if (p == MAP_FAILED) {
        return base_fail(err, -errno, "lease page '%s': %s", path, strerror(errno));
    }
    l->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (l->fd < 0) {
        int e = errno;
        (void)munmap(p, sizeof *l->page);
        return base_fail(err, -e, "open '%s': %s", path, strerror(e));
    }
    l->page = p;
    first_word(l, config);
    return 0;
}

void worker_lease_close(struct worker_lease *l)
{
    if (l->page != NULL) {
        (void)munmap(l->page, sizeof *l->page);
        base_closep(&l->fd);
    }
    *l = (struct worker_lease){.fd = -1};
}

void worker_lease_beat(struct worker_lease *l)
{
    struct worker_fence_lease page;
    if (worker_lease_read(l->page, &page) && worker_fence_valid(&page) &&
        page.mode == l->now.mode) {
        l->now = page;
    }
    put(l);
}

bool worker_lease_grant(
    struct worker_lease *l, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch)
{
    REQUIRE(kill_at_ns >= freeze_at_ns);
    if (l->now.mode != WORKER_FENCE_LEASE) {
        return false;
    }
    bool other = l->now.epoch != 0 && epoch != 0 && l->now.epoch != epoch;
    bool earlier = freeze_at_ns < l->now.freeze_at_ns || kill_at_ns < l->now.kill_at_ns || other;
    l->now.freeze_at_ns = freeze_at_ns;
    l->now.kill_at_ns = kill_at_ns;
    l->now.epoch = epoch;
    put(l);
    return earlier;
}

bool worker_lease_held(const struct worker_lease *l, uint64_t *ret_look_ns)
{
    struct worker_fence_lease lease;
    *ret_look_ns = UINT64_MAX;
    if (!worker_lease_read(l->page, &lease) || !worker_fence_valid(&lease)) {
        return false;
    }
    uint64_t now = base_clock_boot_ns();
    bool held = lease.mode == WORKER_FENCE_NO_LEASE || now < lease.freeze_at_ns;
    if (held && lease.mode == WORKER_FENCE_LEASE) {
        *ret_look_ns = lease.freeze_at_ns - now;
    }
    return held;
}
