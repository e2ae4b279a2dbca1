#include "scheduler/io/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/cleanup.h"
#include "proto/base/hash.h"
#include "proto/base/text.h"
#include "proto/limits.h"
#include "proto/yaml/yaml.h"
#include "scheduler/core/place.h"
#include "scheduler/io/roster.h"

enum {
    KILL_MS = 60000,
    RHO_PPM = 2000,
    WEIGHT = 100,
    RING_LINE_MAX = 128,
};

#define OPT CYAML_FLAG_OPTIONAL
#define TEXT(flag, key, member)                                                                    \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | (flag), struct sched_settings, member, 1,     \
        SCHED_SETTINGS_TEXT_MAX)
#define NUMBER(key, member) CYAML_FIELD_UINT(key, OPT, struct sched_settings, member)

static const cyaml_schema_value_t text_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, SCHED_SETTINGS_TEXT_MAX)};

static const cyaml_schema_field_t fields[] = {TEXT(0, "name", name), TEXT(0, "listen", listen),
    TEXT(OPT, "advertise", advertise), TEXT(0, "state_dir", state_dir), TEXT(0, "roster", roster),
    TEXT(0, "curve_secret", curve_secret), TEXT(0, "cluster_key", cluster_key),
    TEXT(0, "gossip_keys", gossip_keys), TEXT(OPT, "log_level", log_level_text),
    CYAML_FIELD_SEQUENCE("voters", CYAML_FLAG_POINTER, struct sched_settings, voters, &text_schema,
        1, SCHED_VOTERS_MAX),
    CYAML_FIELD_SEQUENCE("seeds", CYAML_FLAG_POINTER | OPT, struct sched_settings, seeds,
        &text_schema, 0, SCHED_SETTINGS_SEEDS_MAX),
    NUMBER("zone", zone), NUMBER("weight", weight), NUMBER("partition_bits", partition_bits),
    NUMBER("members_max", members_max), NUMBER("lease_ms", lease_ms), NUMBER("kill_ms", kill_ms),
    NUMBER("gossip_period_ms", gossip_period_ms), CYAML_FIELD_END};

static const cyaml_schema_value_t top = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct sched_settings, fields)};

/* ---- addresses ---- */

/* IPv4 addresses as ::ffff:a.b.c.d. */
static bool parse_ip(const char *text, struct in6_addr *ret)
{
    *ret = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
    return inet_pton(AF_INET, text, &ret->s6_addr[12]) == 1 || inet_pton(AF_INET6, text, ret) == 1;
}

static bool is_ip(const char *text)
{
    struct in6_addr a;
    return parse_ip(text, &a);
}

/* All addresses of the machine. */
static bool is_any(const char *text)
{
    static const struct in6_addr four = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    struct in6_addr a;
    return parse_ip(text, &a) && (IN6_IS_ADDR_UNSPECIFIED(&a) || memcmp(&a, &four, sizeof a) == 0);
}

static bool same_ip(const char *one, const char *other)
{
    struct in6_addr a, b;
    return parse_ip(one, &a) && parse_ip(other, &b) && memcmp(&a, &b, sizeof a) == 0;
}

/* "10.0.0.1:7400" or "[::1]:7400"; port 0 is any. */
static bool split(const char *text, char ip[64], uint16_t *ret_port)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t n = colon == NULL ? 0 : (size_t)(colon - text);
    if (n == 0 || n >= sizeof host || strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        return false;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    bool six = host[0] == '[' && host[n - 1] == ']';
    if (six) {
        host[n - 1] = '\0';
        memmove(host, host + 1, n - 1);
    }
    unsigned long port = strtoul(colon + 1, NULL, 10);
    if (colon[1] == '\0' || port > 65535 || !is_ip(host) || six != (strchr(host, ':') != NULL)) {
        return false;
    }
    *ret_port = (uint16_t)port;
    return base_text_copy(ip, 64, host);
}

static int take_seed(struct sched_settings *s, unsigned i, struct base_error *err)
{
    char name[64], ip[64];
    uint16_t port = 0;
    const char *at = strchr(s->seeds[i], '@');
    size_t n = at == NULL ? 0 : (size_t)(at - s->seeds[i]);
    bool ok = n > 0 && n < sizeof name;
    if (ok) {
        memcpy(name, s->seeds[i], n);
        name[n] = '\0';
        ok = sched_node_name_valid(name) && split(at + 1, ip, &port) && port != 0;
    }
    if (!ok) {
        return base_fail(
            err, BASE_EINVAL, "seeds: '%.60s' must be like voter-1@10.0.0.1:7400", s->seeds[i]);
    }
    if (strcmp(name, s->name) != 0) {
        struct sched_seed *to = &s->seed[s->seed_n++];
        to->id = sched_node_id(name);
        (void)snprintf(to->endpoint, sizeof to->endpoint,
            strchr(ip, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", ip, port);
    }
    return 0;
}

/* ---- the whole ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_nodes(struct sched_settings *s, struct base_error *err)
{
    if (!sched_node_name_valid(s->name)) {
        return base_fail(err, BASE_EINVAL, "name: must be 1 to 32 of a-z, 0-9, '-' and '_'");
    }
    s->id = sched_node_id(s->name);
    if (s->voters_count % 2 == 0) {
        return base_fail(err, BASE_EINVAL, "voters: must be 1, 3, 5 or 7");
    }
    /* Their order decides ballots: the order of the file must not. */
    qsort(s->voters, s->voters_count, sizeof *s->voters, by_text);
    for (unsigned i = 0; i < s->voters_count; i++) {
        if (!sched_node_name_valid(s->voters[i]) ||
            (i > 0 && strcmp(s->voters[i - 1], s->voters[i]) == 0)) {
            return base_fail(
                err, BASE_EINVAL, "voters: '%.40s' is no name, or is there twice", s->voters[i]);
        }
        s->voter[i] = sched_node_id(s->voters[i]);
    }
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < s->seeds_count; i++) {
        rc = take_seed(s, i, err);
    }
    return rc;
}

static int check_addresses(struct sched_settings *s, struct base_error *err)
{
    if (!split(s->listen, s->ip, &s->port)) {
        return base_fail(err, BASE_EINVAL, "listen: must be like 10.0.0.1:7400 or [::1]:7400");
    }
    const char *told = s->advertise == NULL ? s->ip : s->advertise;
    if (!is_ip(told) || is_any(told) || !base_text_copy(s->public_ip, sizeof s->public_ip, told)) {
        return base_fail(
            err, BASE_EINVAL, "advertise: must be the address that the others reach this node at");
    }
    return 0;
}

static int check_paths(const struct sched_settings *s, struct base_error *err)
{
    const struct {
        const char *key, *value;
    } paths[] = {{"state_dir", s->state_dir}, {"roster", s->roster},
        {"curve_secret", s->curve_secret}, {"cluster_key", s->cluster_key},
        {"gossip_keys", s->gossip_keys}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (paths[i].value[0] != '/') {
            return base_fail(err, BASE_EINVAL, "%s: must be an absolute path", paths[i].key);
        }
    }
    return 0;
}

static int check_numbers(struct sched_settings *s, struct base_error *err)
{
    const struct {
        const char *key;
        uint32_t *v, otherwise, min, max;
    } all[] = {{"weight", &s->weight, WEIGHT, 1, SCHED_PLACE_WEIGHT_MAX},
        {"zone", &s->zone, 0, 0, 65535},
        {"partition_bits", &s->partition_bits, PROTO_CLUSTER_PARTITION_BITS, SCHED_PLACE_PBITS_MIN,
            SCHED_PBITS_MAX},
        {"members_max", &s->members_max, PROTO_CLUSTER_MEMBERS, 8, SCHED_MEMBERS_MAX},
        {"lease_ms", &s->lease_ms, PROTO_CLUSTER_LEASE_MS, 2000, 60000},
        {"kill_ms", &s->kill_ms, KILL_MS, 1000, 3600000},
        {"gossip_period_ms", &s->gossip_period_ms, 500, 250, 500}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint32_t *v = all[i].v;
        *v = *v == 0 ? all[i].otherwise : *v;
        if (*v < all[i].min || *v > all[i].max) {
            return base_fail(
                err, BASE_EINVAL, "%s: must be from %u to %u", all[i].key, all[i].min, all[i].max);
        }
    }
    if (s->gossip_period_ms != 250 && s->gossip_period_ms != 500) {
        return base_fail(err, BASE_EINVAL, "gossip_period_ms: must be 250 or 500");
    }
    s->log_level = BASE_LOG_INFO;
    if (s->log_level_text != NULL && !base_log_parse(s->log_level_text, &s->log_level)) {
        return base_fail(err, BASE_EINVAL, "log_level: must be error, warn, info or debug");
    }
    return 0;
}

static int check(void *data, struct base_error *err)
{
    struct sched_settings *s = data;
    int rc = check_nodes(s, err);
    rc = rc != 0 ? rc : check_addresses(s, err);
    rc = rc != 0 ? rc : check_paths(s, err);
    return rc != 0 ? rc : check_numbers(s, err);
}

static const struct proto_yaml_kind kind = {&top, check};

int sched_settings_parse(
    const char *yaml, size_t n, struct sched_settings **ret, struct base_error *err)
{
    void *data = NULL;
    int rc = proto_yaml_parse(&kind, yaml, n, &data, err);
    if (rc == 0) {
        *ret = data;
    }
    return rc;
}

int sched_settings_load(const char *path, struct sched_settings **ret, struct base_error *err)
{
    void *data = NULL;
    int rc = proto_yaml_load(&kind, path, &data, err);
    if (rc == 0) {
        *ret = data;
    }
    return rc;
}

void sched_settings_destroy(struct sched_settings *s)
{
    proto_yaml_free(&kind, s);
}

int sched_settings_port(const struct sched_settings *s, const char *key, const char *endpoint,
    uint16_t *ret, struct base_error *err)
{
    char text[80], ip[64];
    bool all = strncmp(endpoint, "tcp://*:", 8) == 0;
    int n = snprintf(text, sizeof text, "%s%s", all ? "0.0.0.0" : "",
        strncmp(endpoint, "tcp://", 6) != 0 ? "" : endpoint + (all ? 7 : 6));
    uint16_t port = 0;
    if (n >= (int)sizeof text || !split(text, ip, &port) || port == 0) {
        return base_fail(err, BASE_EINVAL,
            "%s: '%.60s' must be like tcp://%s:7101, gateways of the cluster are told the port",
            key, endpoint, s->public_ip);
    }
    if (!is_any(ip) && !same_ip(ip, s->public_ip) && !same_ip(ip, s->ip)) {
        return base_fail(err, BASE_EINVAL,
            "%s: '%.60s' is not reached at %s, which gateways of the cluster are told", key,
            endpoint, s->public_ip);
    }
    *ret = port;
    return 0;
}

uint64_t sched_settings_tag(const struct sched_settings *s, const uint8_t key[16], unsigned which)
{
    char text[128 + SCHED_VOTERS_MAX * 64];
    int n = snprintf(text, sizeof text, "settings/%u %u %u %u", which, s->partition_bits,
        s->members_max, s->lease_ms);
    for (unsigned i = 0; i < s->voters_count; i++) {
        n += snprintf(text + n, sizeof text - (size_t)n, " %s", s->voters[i]);
    }
    return base_hash_sip24(key, text, (size_t)n);
}

/* The numbers are those that the simulator runs with. */
void sched_settings_cfg(const struct sched_settings *s, struct sched_cfg *ret)
{
    *ret = (struct sched_cfg){.pbits = s->partition_bits,
        .n_voters = s->voters_count,
        .members_max = s->members_max,
        .lease_ms = s->lease_ms,
        .catalog = true,
        .rho_ppm = RHO_PPM,
        .renew_ms = s->lease_ms / 4,
        .stuck_ms = 4000,
        .kill_ms = s->kill_ms,
        .regs_max = 1,
        .sess_max = 1,
        .execs_max = 1,
        .ops_max = 1,
        .keep_ms = 600000,
        .reserve_ms = 2000,
        .cooldown_ms = 300000,
        .max_alive_ms = 86400000};
    memcpy(ret->voters, s->voter, sizeof ret->voters);
}

/* ---- the ring ---- */

static bool ring_line(const char *line, struct sched_ring *r)
{
    char hex[2 * SCHED_SEAL_KEY_BYTES + 2], rest[2];
    unsigned id = 0;
    if (r->n == SCHED_SEAL_KEYS || sscanf(line, "%3u %65s %1s", &id, hex, rest) != 2 || id > 255 ||
        !base_text_unhex(hex, r->k[r->n].key, SCHED_SEAL_KEY_BYTES)) {
        return false;
    }
    for (unsigned i = 0; i < r->n; i++) {
        if (r->k[i].id == id) {
            return false;
        }
    }
    r->k[r->n++].id = (uint8_t)id;
    return true;
}

int sched_ring_read(const char *path, struct sched_ring *ret, struct base_error *err)
{
    CLEANUP(base_fclosep) FILE *f = fopen(path, "re");
    struct stat st;
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        return base_fail(err, -errno, "gossip keys '%s': %s", path, strerror(errno));
    }
    if ((st.st_mode & 077) != 0) {
        return base_fail(err, BASE_EDENIED, "gossip keys '%s' can be read by others", path);
    }
    char line[RING_LINE_MAX];
    struct sched_ring ring = {0};
    for (int at = 1; fgets(line, sizeof line, f) != NULL; at++) {
        size_t lead = strspn(line, " \t\r\n");
        if (line[lead] != '\0' && line[lead] != '#' && !ring_line(line, &ring)) {
            return base_fail(err, BASE_EBADMSG,
                "%s:%d: want '<number> <64 hex digits>', numbers once, at most %d", path, at,
                SCHED_SEAL_KEYS);
        }
    }
    if (ring.n == 0) {
        return base_fail(err, BASE_EBADMSG, "gossip keys '%s': there is none", path);
    }
    *ret = ring;
    explicit_bzero(&ring, sizeof ring);
    explicit_bzero(line, sizeof line);
    return 0;
}
