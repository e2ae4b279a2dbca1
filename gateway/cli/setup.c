#include "gateway/cli/setup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/cli/endpoint.h"
#include "gateway/cli/keys.h"
#include "proto/base/cleanup.h"
#include "proto/base/text.h"
#include "proto/ids.h"

enum { POOL_FILE_MAX = 1 << 20, WORKER_PORT_TRIES = 20 };

static const char DEFAULT_POOL[] =
    "{\n"
    "  \"name\": \"python\",\n"
    "  \"properties\": {\n"
    "    \"containerType\": \"PythonLTS\",\n"
    "    \"poolManagementType\": \"Dynamic\",\n"
    "    \"scaleConfiguration\": { \"maxConcurrentSessions\": 50, \"readySessionInstances\": 5 },\n"
    "    \"dynamicPoolConfiguration\": {\n"
    "      \"lifecycleConfiguration\": { \"lifecycleType\": \"Timed\", "
    "\"cooldownPeriodInSeconds\": 300 }\n"
    "    },\n"
    "    \"sessionNetworkConfiguration\": { \"status\": \"EgressDisabled\" }\n"
    "  }\n"
    "}\n";

/* --- pure parts ---------------------------------------------------------------------------- */

int cli_setup_yaml_text(struct base_buf *to, const char *text)
{
    if (!base_text_utf8(text, strlen(text))) {
        return BASE_EINVAL;
    }
    int rc = base_buf_add(to, "\"", 1);
    for (const char *p = text; rc == 0 && *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return BASE_EINVAL;
        }
        if (*p == '"' || *p == '\\') {
            rc = base_buf_add(to, "\\", 1);
        }
        rc = rc != 0 ? rc : base_buf_add(to, p, 1);
    }
    return rc != 0 ? rc : base_buf_add(to, "\"", 1);
}

int cli_setup_listen(const char *text, struct cli_listen *ret, struct base_error *err)
{
    struct cli_listen l = {0};
    const char *colon = strrchr(text, ':');
    size_t n = colon == NULL ? 0 : (size_t)(colon - text);
    l.v6 = n > 2 && text[0] == '[' && text[n - 1] == ']';
    if (l.v6) {
        text++;
        n -= 2;
    }
    char *end = NULL;
    unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, &end, 10);
    if (n == 0 || n >= sizeof l.host || colon[1] < '0' || colon[1] > '9' || *end != '\0' ||
        port > UINT16_MAX) {
        return base_fail(err, BASE_EINVAL,
            "--listen takes ADDRESS:PORT like 127.0.0.1:8443 or [::1]:8443, not '%.80s'",
            l.v6 ? text - 1 : text);
    }
    memcpy(l.host, text, n);
    l.port = (uint16_t)port;
    struct in_addr v4 = {0};
    struct in6_addr v6 = {0};
    if (inet_pton(l.v6 ? AF_INET6 : AF_INET, l.host, l.v6 ? (void *)&v6 : (void *)&v4) != 1) {
        return base_fail(err, BASE_EINVAL, "'%s' is no numeric address", l.host);
    }
    l.loopback = l.v6 ? IN6_IS_ADDR_LOOPBACK(&v6) : ntohl(v4.s_addr) >> 24 == 127;
    l.any = l.v6 ? IN6_IS_ADDR_UNSPECIFIED(&v6) : v4.s_addr == INADDR_ANY;
    *ret = l;
    return 0;
}

int cli_setup_pool_name(
    const char *json, size_t n, char ret[PROTO_POOL_NAME_MAX + 1], struct base_error *err)
{
    json_error_t e;
    json_t *doc = json_loadb(json, n, JSON_REJECT_DUPLICATES, &e);
    if (doc == NULL) {
        return base_fail(err, BASE_EINVAL, "no JSON: line %d: %.100s", e.line, e.text);
    }
    const char *name = json_string_value(json_object_get(doc, "name"));
    bool ok = name != NULL && proto_pool_name_valid(name, strlen(name));
    int rc = 0;
    if (ok) {
        (void)base_text_copy(ret, PROTO_POOL_NAME_MAX + 1, name);
    } else {
        rc = base_fail(
            err, BASE_EINVAL, "\"name\" must be 3 to 63 of a-z, 0-9 and -, first a letter");
    }
    json_decref(doc);
    return rc;
}

/* --- ports --------------------------------------------------------------------------------- */

/* 0 when the address can be bound now; the port is filled in when it was 0. */
static int probe_port(const char *host, bool v6, uint16_t *port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t n = v6 ? sizeof a.v6 : sizeof a.v4;
    if (v6) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(*port);
        (void)inet_pton(AF_INET6, host, &a.v6.sin6_addr);
    } else {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(*port);
        (void)inet_pton(AF_INET, host, &a.v4.sin_addr);
    }
    CLEANUP(base_closep) int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, &a.any, n) != 0 || getsockname(fd, &a.any, &n) != 0) {
        return -errno;
    }
    *port = ntohs(v6 ? a.v6.sin6_port : a.v4.sin_port);
    return 0;
}

/* Both are free now, and neither is the one that the gateway will listen at: a probe holds none. */
static bool probe_worker_ports(struct cli_setup *s)
{
    return probe_port("127.0.0.1", false, &s->ctl_port) == 0 &&
           probe_port("127.0.0.1", false, &s->bulk_port) == 0 && s->ctl_port != s->bulk_port &&
           s->ctl_port != s->listen.port && s->bulk_port != s->listen.port;
}

/* Two ports on loopback between gateway and worker: the wanted ones, or free ones. */
static int choose_worker_ports(uint32_t wanted, struct cli_setup *s, struct base_error *err)
{
    if (wanted != 0) {
        s->ctl_port = (uint16_t)wanted;
        s->bulk_port = (uint16_t)(wanted + 1);
        if (probe_worker_ports(s)) {
            return 0;
        }
    }
    for (int i = 0; i < WORKER_PORT_TRIES; i++) {
        s->ctl_port = s->bulk_port = 0;
        if (probe_worker_ports(s)) {
            return 0;
        }
    }
    return base_fail(err, BASE_EFULL, "no free port on 127.0.0.1");
}

static int choose_listen(
    const struct cli_setup_options *o, struct cli_setup *s, struct base_error *err)
{
    struct cli_listen *l = &s->listen;
    int rc = cli_setup_listen(o->listen, l, err);
    if (rc != 0) {
        return rc;
    }
    if (o->insecure && !l->loopback) {
        return base_fail(err, BASE_EDENIED,
            "--insecure (no TLS, no token) is for loopback addresses only, not '%s'", l->host);
    }
    rc = probe_port(l->host, l->v6, &l->port);
    if (rc != 0) {
        return base_fail(
            err, rc, "cannot listen on %s port %u: %s", l->host, l->port, strerror(-rc));
    }
    const char *host = !l->any ? l->host : l->v6 ? "::1" : "127.0.0.1";
    (void)snprintf(s->url, sizeof s->url, "%s://%s%s%s:%u", o->insecure ? "http" : "https",
        l->v6 ? "[" : "", host, l->v6 ? "]" : "", l->port);
    return 0;
}

/* --- files --------------------------------------------------------------------------------- */

static int absolute(const char *path, char out[CLI_PATH_MAX], struct base_error *err)
{
    char here[CLI_PATH_MAX] = "";
    if (path[0] != '/' && getcwd(here, sizeof here) == NULL) {
        return base_fail(err, -errno, "cannot tell the current folder: %s", strerror(errno));
    }
    int n = snprintf(out, CLI_PATH_MAX, "%s%s%s", here, here[0] == '\0' ? "" : "/", path);
    return n < CLI_PATH_MAX ? 0 : base_fail(err, BASE_ETOOBIG, "path '%.60s...' is too long", path);
}

static int add_pool(struct cli_setup *s, const char *json, size_t n, struct base_error *err)
{
    char name[PROTO_POOL_NAME_MAX + 1], file[PROTO_POOL_NAME_MAX + 16], path[CLI_PATH_MAX];
    int rc = cli_setup_pool_name(json, n, name, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < s->pools_n; i++) {
        if (strcmp(s->pools[i], name) == 0) {
            return base_fail(err, BASE_EEXISTS, "two pool files have the name '%s'", name);
        }
    }
    (void)snprintf(file, sizeof file, "pools/%s.json", name);
    rc = cli_file_path(path, s->state_dir, file, err);
    rc = rc != 0 ? rc : cli_file_write(path, json, n, 0600, err);
    if (rc == 0) {
        (void)base_text_copy(s->pools[s->pools_n++], sizeof s->pools[0], name);
    }
    return rc;
}

static int make_pools(
    const struct cli_setup_options *o, struct cli_setup *s, struct base_error *err)
{
    char dir[CLI_PATH_MAX], path[CLI_PATH_MAX];
    int rc = cli_file_path(dir, s->state_dir, "pools", err);
    rc = rc != 0 ? rc : cli_file_mkdirs(dir, 0700, err);
    rc = rc != 0 ? rc : cli_file_path(path, dir, "python.json", err);
    if (rc == 0 && o->pools.n == 0) {
        if (access(path, F_OK) == 0) { /* somebody may have edited it: keep it */
            (void)base_text_copy(s->pools[s->pools_n++], sizeof s->pools[0], "python");
            return 0;
        }
        return add_pool(s, DEFAULT_POOL, sizeof DEFAULT_POOL - 1, err);
    }
    for (size_t i = 0; rc == 0 && i < o->pools.n; i++) {
        CLEANUP(base_freep) char *json = NULL;
        size_t n = 0;
        struct base_error why = {0};
        rc = cli_file_read(o->pools.v[i], POOL_FILE_MAX, &json, &n, &why);
        rc = rc != 0 ? rc : add_pool(s, json, n, &why);
        if (rc != 0) {
            return base_fail(err, rc, "pool file %.60s: %.120s", o->pools.v[i], why.text);
        }
    }
    return rc;
}

struct yaml {
    struct base_buf text;
    int rc;
};

static void yaml_raw(struct yaml *y, const char *key, const char *value)
{
    y->rc = y->rc != 0 ? y->rc : base_buf_printf(&y->text, "%s: %s\n", key, value);
}

static void yaml_text(struct yaml *y, const char *key, const char *value)
{
    y->rc = y->rc != 0 ? y->rc : base_buf_printf(&y->text, "%s: ", key);
    y->rc = y->rc != 0 ? y->rc : cli_setup_yaml_text(&y->text, value);
    y->rc = y->rc != 0 ? y->rc : base_buf_add(&y->text, "\n", 1);
}

/* A path below the state folder. */
static void yaml_state(struct yaml *y, const struct cli_setup *s, const char *key, const char *name)
{
    char path[CLI_PATH_MAX];
    y->rc = y->rc != 0 ? y->rc : cli_file_path(path, s->state_dir, name, NULL);
    if (y->rc == 0) {
        yaml_text(y, key, path);
    }
}

static int yaml_write(struct yaml *y, const char *path, struct base_error *err)
{
    int rc = y->rc;
    if (rc != 0) {
        (void)base_fail(err, rc, "a path cannot stand in '%s' (control characters?)", path);
    } else {
        rc = cli_file_write(path, base_buf_data(&y->text), base_buf_size(&y->text), 0600, err);
    }
    base_buf_deinit(&y->text);
    return rc;
}

static int write_worker(
    const struct cli_setup_options *o, const struct cli_setup *s, struct base_error *err)
{
    struct yaml y = {0};
    char ctl[40], bulk[40], pool[PROTO_POOL_NAME_MAX + 16];
    (void)snprintf(ctl, sizeof ctl, "tcp://127.0.0.1:%u", s->ctl_port);
    (void)snprintf(bulk, sizeof bulk, "tcp://127.0.0.1:%u", s->bulk_port);
    y.rc =
        base_buf_printf(&y.text, "# Written by `warren up`; changes are lost at its next start.\n");
    yaml_text(&y, "name", CLI_WORKER_NAME);
    yaml_raw(&y, "id", "1");
    yaml_text(&y, "state_dir", s->state_dir);
    yaml_text(&y, "run_dir", s->run_dir);
    yaml_text(&y, "ctl", ctl);
    yaml_text(&y, "bulk", bulk);
    yaml_state(&y, s, "curve_secret", "keys/worker-" CLI_WORKER_NAME ".curve");
    yaml_state(&y, s, "clients", "keys/clients");
    yaml_state(&y, s, "cluster_key", "keys/cluster.key");
    yaml_text(&y, "image", s->image);
    yaml_raw(&y, "accelerator", o->accelerator);
    yaml_raw(&y, "log_level", "info");
    y.rc = y.rc != 0 ? y.rc : base_buf_printf(&y.text, "pools:\n");
    for (size_t i = 0; i < s->pools_n; i++) {
        (void)snprintf(pool, sizeof pool, "pools/%s.json", s->pools[i]);
        char path[CLI_PATH_MAX];
        y.rc = y.rc != 0 ? y.rc : cli_file_path(path, s->state_dir, pool, NULL);
        y.rc = y.rc != 0 ? y.rc : base_buf_printf(&y.text, "  - ");
        y.rc = y.rc != 0 ? y.rc : cli_setup_yaml_text(&y.text, path);
        y.rc = y.rc != 0 ? y.rc : base_buf_add(&y.text, "\n", 1);
    }
    if (o->quotas != NULL && y.rc == 0) {
        CLEANUP(base_freep) char *text = NULL;
        size_t n = 0;
        int rc = cli_file_read(o->quotas, POOL_FILE_MAX, &text, &n, err);
        if (rc != 0) {
            base_buf_deinit(&y.text);
            return rc;
        }
        y.rc = base_buf_add(&y.text, text, n);
    }
    return yaml_write(&y, s->worker_yaml, err);
}

static int write_gateway(
    const struct cli_setup_options *o, const struct cli_setup *s, struct base_error *err)
{
    struct yaml y = {0};
    char curve[CLI_PATH_MAX], public_key[CLI_Z85_BYTES + 1], listen[CLI_HOST_MAX + 16];
    int rc = cli_file_path(curve, s->state_dir, "keys/worker-" CLI_WORKER_NAME ".curve", err);
    rc = rc != 0 ? rc : cli_keys_curve_public(curve, public_key, err);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(listen, sizeof listen, "%s%s%s:%u", s->listen.v6 ? "[" : "", s->listen.host,
        s->listen.v6 ? "]" : "", s->listen.port);
    y.rc =
        base_buf_printf(&y.text, "# Written by `warren up`; changes are lost at its next start.\n");
    yaml_text(&y, "name", CLI_GATEWAY_NAME);
    yaml_text(&y, "listen", listen);
    if (!o->insecure) {
        yaml_state(&y, s, "tls_cert", "tls/cert.pem");
        yaml_state(&y, s, "tls_key", "tls/key.pem");
    }
    yaml_state(&y, s, "curve_secret", "keys/gateway-" CLI_GATEWAY_NAME ".curve");
    yaml_state(&y, s, "cluster_key", "keys/cluster.key");
    yaml_state(&y, s, "jwks", "keys/token.jwks");
    yaml_state(&y, s, "mcp_keys", "mcp");
    yaml_text(&y, "issuer", "warren");
    yaml_raw(&y, "audiences", "[\"https://dynamicsessions.io\", \"https://acasessions.io\"]");
    yaml_raw(&y, "insecure", o->insecure ? "true" : "false");
    yaml_raw(&y, "log_level", "info");
    y.rc = y.rc != 0 ? y.rc
                     : base_buf_printf(&y.text,
                           "workers:\n"
                           "  - id: 1\n"
                           "    name: \"" CLI_WORKER_NAME "\"\n"
                           "    ctl: \"tcp://127.0.0.1:%u\"\n"
                           "    bulk: \"tcp://127.0.0.1:%u\"\n"
                           "    public_key: ",
                           s->ctl_port, s->bulk_port);
    y.rc = y.rc != 0 ? y.rc : cli_setup_yaml_text(&y.text, public_key);
    y.rc = y.rc != 0 ? y.rc : base_buf_printf(&y.text, "\n    weight: 1\n    zone: 0\n");
    return yaml_write(&y, s->gateway_yaml, err);
}

static int check_image(const struct cli_setup *s, struct base_error *err)
{
    char path[CLI_PATH_MAX];
    int rc = cli_file_path(path, s->image, "manifest.json", err);
    if (rc == 0 && access(path, R_OK) != 0) {
        rc = base_fail(err, BASE_ENOTFOUND, "there is no guest image in '%.100s' (%s)", s->image,
            strerror(errno));
    }
    return rc;
}

int cli_setup_make(const struct cli_setup_options *o, struct cli_setup *ret, struct base_error *err)
{
    struct cli_setup *s = ret;
    *s = (struct cli_setup){0};
    int rc = absolute(o->state_dir, s->state_dir, err);
    rc = rc != 0 ? rc : absolute(o->run_dir, s->run_dir, err);
    rc = rc != 0 ? rc : absolute(o->image, s->image, err);
    rc = rc != 0 ? rc : check_image(s, err);
    rc = rc != 0 ? rc : choose_listen(o, s, err);
    rc = rc != 0 ? rc : choose_worker_ports(o->worker_port, s, err);
    rc = rc != 0 ? rc : cli_file_path(s->worker_yaml, s->state_dir, "worker.yaml", err);
    rc = rc != 0 ? rc : cli_file_path(s->gateway_yaml, s->state_dir, "gateway.yaml", err);
    rc = rc != 0 ? rc : cli_file_path(s->log_dir, s->state_dir, "log", err);
    rc = rc != 0 ? rc : cli_file_path(s->ca_file, s->state_dir, "tls/cert.pem", err);
    rc = rc != 0 ? rc : cli_keys_init(s->state_dir, NULL, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(s->log_dir, 0700, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(s->run_dir, 0755, err);
    rc = rc != 0 ? rc : make_pools(o, s, err);
    rc = rc != 0 ? rc : write_worker(o, s, err);
    rc = rc != 0 ? rc : write_gateway(o, s, err);
    rc = rc != 0 ? rc
                 : cli_endpoint_save(s->state_dir, s->url, o->insecure ? NULL : s->ca_file, err);
    return rc;
}
