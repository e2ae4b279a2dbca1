#include "tests/lib/cluster_dir.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/net/curve.h"
#include "tests/lib/check.h"

static char dir[64];

const char *cluster_dir_at(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    turn = (turn + 1) % 4;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

void cluster_dir_write(const char *name, const char *text)
{
    FILE *f = fopen(cluster_dir_at("new"), "we");
    CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
    CHECK_EQ(chmod(cluster_dir_at("new"), 0600), 0);
    CHECK_EQ(rename(cluster_dir_at("new"), cluster_dir_at(name)), 0);
}

void cluster_dir_make(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/warren-test-cluster-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    cluster_dir_write("key", "07000000000000000000000000000000\n");
    cluster_dir_write(
        "ring", "1 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n");
    cluster_dir_write("roster", "");
    cluster_dir_list("voter", "v1");
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void cluster_dir_remove(void)
{
    CHECK_EQ(nftw(dir, drop, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void cluster_dir_list(const char *role, const char *name)
{
    struct proto_net_key key;
    struct proto_net_client client = {0};
    CHECK_EQ(proto_net_key_generate(&key, NULL), 0);
    (void)snprintf(client.role, sizeof client.role, "%s", role);
    (void)snprintf(client.name, sizeof client.name, "%s", name);
    memcpy(client.public_z85, key.public_z85, sizeof client.public_z85);
    CHECK_EQ(proto_net_clients_add(cluster_dir_at("roster"), &client, NULL), 0);
    (void)unlink(cluster_dir_at(name));
    CHECK_EQ(proto_net_key_write(cluster_dir_at(name), &key, NULL), 0);
}

void cluster_dir_unlist(const char *name)
{
    char text[4096] = "", line[256], who[64];
    size_t n = 0;
    FILE *f = fopen(cluster_dir_at("roster"), "re");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL) {
        bool out = sscanf(line, "%*s %63s", who) == 1 && strcmp(who, name) == 0;
        n += out ? 0 : (size_t)snprintf(text + n, sizeof text - n, "%s", line);
        CHECK(n < sizeof text);
    }
    CHECK_EQ(fclose(f), 0);
    cluster_dir_write("roster", text);
}

const char *cluster_dir_settle(const char *name, const char *seed)
{
    char text[2048], file[32];
    (void)snprintf(file, sizeof file, "%s.state", name);
    CHECK(mkdir(cluster_dir_at(file), 0700) == 0 || errno == EEXIST);
    (void)snprintf(file, sizeof file, "%s.yaml", name);
    int n = snprintf(text, sizeof text,
        "name: %s\nlisten: \"127.0.0.1:0\"\nstate_dir: %s/%s.state\nroster: %s/roster\n"
        "curve_secret: %s/%s\ncluster_key: %s/key\ngossip_keys: %s/ring\n"
        "voters: [v1]\npartition_bits: 8\nmembers_max: 8\nlog_level: error\n",
        name, dir, name, dir, dir, name, dir, dir);
    if (seed != NULL) {
        (void)snprintf(
            text + n, sizeof text - (size_t)n, "seeds: [\"v1@%s\"]\n", seed + strlen("tcp://"));
    }
    cluster_dir_write(file, text);
    return cluster_dir_at(file);
}
