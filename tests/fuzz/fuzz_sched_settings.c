/* What people and tools write for the nodes of a cluster: cluster.yaml, the roster, the ring of the
 * gossip's keys. The first byte says which. Whatever is taken keeps the promises of its header. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/core/limits.h"
#include "scheduler/io/roster.h"
#include "scheduler/io/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void hold(bool what)
{
    if (!what) {
        abort();
    }
}

static void settings(const char *text, size_t n)
{
    struct sched_settings *s = NULL;
    struct base_error err = {0};
    if (sched_settings_parse(text, n, &s, &err) != 0) {
        hold(err.text[0] != '\0');
        return;
    }
    struct sched_cfg cfg;
    hold(sched_node_name_valid(s->name) && s->id != 0 && s->voters_count % 2 == 1);
    hold(s->voters_count <= SCHED_VOTERS_MAX && s->seed_n <= s->seeds_count);
    hold(s->lease_ms >= 2000 && s->members_max >= 8 && s->weight >= 1);
    sched_settings_cfg(s, &cfg);
    hold(cfg.n_voters == s->voters_count && cfg.members_max == s->members_max);
    sched_settings_destroy(s);
}

static void roster(const char *path)
{
    struct sched_roster *r = NULL;
    struct base_error err = {0};
    uint64_t id = sched_node_id("w1");
    if (sched_roster_load(&r, path, &err) != 0) {
        hold(err.text[0] != '\0');
        return;
    }
    if (sched_roster_role(r, id) != SCHED_ROSTER_NONE) { /* lines of other roles are kept as well */
        const struct proto_net_client *key = sched_roster_key(r, id, 0);
        hold(key != NULL && sched_roster_lists(r, id, key->public_z85));
        hold(strcmp(sched_roster_name(r, id), "w1") == 0);
    }
    hold(sched_roster_refresh(r, &err) == 0);
    sched_roster_destroy(r);
}

static void ring(const char *path)
{
    struct sched_ring r = {.n = 0};
    struct base_error err = {0};
    if (sched_ring_read(path, &r, &err) != 0) {
        hold(err.text[0] != '\0');
        return;
    }
    hold(r.n >= 1 && r.n <= SCHED_SEAL_KEYS);
    for (unsigned i = 1; i < r.n; i++) {
        hold(r.k[i].id != r.k[0].id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char path[] = "/tmp/warren-fuzz-settings-XXXXXX";
    if (n < 1 || n > 16384) {
        return 0;
    }
    if (data[0] % 3 == 0) {
        settings((const char *)data + 1, n - 1);
        return 0;
    }
    int fd = mkstemp(path);
    hold(fd >= 0 && write(fd, data + 1, n - 1) == (ssize_t)(n - 1) && close(fd) == 0);
    if (data[0] % 3 == 1) {
        roster(path);
    } else {
        ring(path);
    }
    (void)unlink(path);
    return 0;
}
