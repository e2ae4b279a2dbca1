#include <cjose/cjose.h>
#include <ev.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/io/auth.h"
#include "proto/base/container.h"
#include "tests/lib/check.h"

enum { NOW = 1800000000 };

static cjose_jwk_t *ec, *rsa, *small_rsa, *other, *secret;
static char file[] = "/tmp/warren-test-jwks-XXXXXX";
static char file_else[] = "/tmp/warren-test-jwks-XXXXXX";

static const struct gw_auth_grant grants[] = {
    {"else", "someone", NULL, "shell", GW_ROLE_EXECUTOR},
    {"else", NULL, "Watchers", "*", GW_ROLE_READER},
};

static cjose_jwk_t *named(cjose_jwk_t *k, const char *kid)
{
    cjose_err e;
    CHECK(k != NULL && cjose_jwk_set_kid(k, kid, strlen(kid), &e));
    return k;
}

static void write_set(const char *to, cjose_jwk_t *const *keys, int n)
{
    FILE *f = fopen(to, "w");
    CHECK(f != NULL);
    (void)fprintf(f, "{\"keys\":[");
    for (int i = 0; i < n; i++) {
        cjose_err e;
        char *text = cjose_jwk_to_json(keys[i], false, &e);
        (void)fprintf(f, "%s%s", i > 0 ? "," : "", text);
        free(text);
    }
    (void)fprintf(f, "]}");
    CHECK_EQ(fclose(f), 0);
}

static struct gw_auth *setup(void)
{
    static const char *const audiences[] = {"https://dynamicsessions.io", "https://acasessions.io"};
    cjose_err e;
    const uint8_t exponent[] = {1, 0, 1};
    ec = named(cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &e), "ec");
    other = named(cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &e), "ec");
    rsa = named(cjose_jwk_create_RSA_random(2048, exponent, 3, &e), "rsa");
    small_rsa = named(cjose_jwk_create_RSA_random(1024, exponent, 3, &e), "small");
    secret = named(
        cjose_jwk_create_oct_spec((const uint8_t *)"0123456789abcdef0123456789abcdef", 32, &e),
        "ec");
    int fd = mkstemp(file);
    CHECK(fd >= 0);
    CHECK_EQ(close(fd), 0);
    fd = mkstemp(file_else);
    CHECK(fd >= 0);
    CHECK_EQ(close(fd), 0);
    write_set(file_else, &other, 1);
    cjose_jwk_t *set[] = {ec, rsa, small_rsa};
    write_set(file, set, 3);
    static const struct gw_auth_issuer issuers[] = {
        {"warren", file, NULL}, {"else", file_else, NULL}};
    struct gw_auth_options opt = {.issuers = issuers,
        .issuers_n = 2,
        .audiences = audiences,
        .audiences_n = 2,
        .grants = grants,
        .grants_n = ARRAY_LEN(grants)};
    struct gw_auth *a = NULL;
    struct base_error err;
    CHECK_EQ(gw_auth_create(&a, &opt, &err), 0);
    return a;
}

static void teardown(struct gw_auth *a)
{
    cjose_jwk_t *keys[] = {ec, rsa, small_rsa, other, secret};
    for (int i = 0; i < 5; i++) {
        (void)cjose_jwk_release(keys[i]);
    }
    gw_auth_destroy(a);
    (void)unlink(file);
    (void)unlink(file_else);
    (void)strcpy(file_else, "/tmp/warren-test-jwks-XXXXXX");
    (void)strcpy(file, "/tmp/warren-test-jwks-XXXXXX");
}

/* The head may hold one more member, as JSON. */
static char *sign(
    cjose_jwk_t *key, const char *alg, const char *kid, const char *extra, const char *claims)
{
    static char field[4096];
    cjose_err e;
    cjose_header_t *head = cjose_header_new(&e);
    CHECK(cjose_header_set(head, "alg", alg, &e));
    CHECK(kid == NULL || cjose_header_set(head, "kid", kid, &e));
    CHECK(extra == NULL || cjose_header_set_raw(head, "crit", extra, &e));
    cjose_jws_t *jws = cjose_jws_sign(key, head, (const uint8_t *)claims, strlen(claims), &e);
    CHECK(jws != NULL);
    const char *text = NULL;
    CHECK(cjose_jws_export(jws, &text, &e));
    (void)snprintf(field, sizeof field, "Bearer %s", text);
    cjose_jws_release(jws);
    cjose_header_release(head);
    return field;
}

static struct gw_principal who;
static struct gw_fault fault;

static int check_at(struct gw_auth *a, const char *field, int64_t now)
{
    struct gw_field f = {"authorization", field};
    struct gw_request r = {.fields = &f, .fields_n = field == NULL ? 0 : 1};
    return gw_auth_check(a, &r, now, &who, &fault, NULL);
}

static int check(struct gw_auth *a, const char *field)
{
    return check_at(a, field, NOW);
}

#define CLAIMS(rest)                                                                               \
    "{\"iss\":\"warren\",\"sub\":\"me\",\"aud\":\"https://dynamicsessions.io\",\"exp\":1800000600" \
    ",\"roles\":[\"Session Executor\"]" rest "}"

TEST(tokens_of_both_algorithms_are_taken)
{
    struct gw_auth *a = setup();
    for (int twice = 0; twice < 2; twice++) {
        CHECK_EQ(check(a, sign(ec, "ES256", "ec", NULL, CLAIMS(""))), 0);
        CHECK_STR(who.subject, "me");
        CHECK_STR(who.tenant, "me");
        CHECK_EQ(who.roles, GW_ROLE_EXECUTOR);
        CHECK(who.all_pools);
    }
    char *same =
        sign(rsa, "RS256", "rsa", NULL, CLAIMS(",\"tenant\":\"t1\",\"pools\":[\"python\"]"));
    CHECK_EQ(check(a, same), 0);
    CHECK_EQ(check(a, same), 0); /* from the cache */
    CHECK_STR(who.tenant, "t1");
    CHECK(!who.all_pools);
    CHECK(gw_auth_allowed(&who, GW_OP_EXECUTE, "python"));
    CHECK(!gw_auth_allowed(&who, GW_OP_EXECUTE, "shell"));
    CHECK_EQ(
        check(a, sign(rsa, "RS256", NULL, NULL, CLAIMS(""))), 0); /* one RS256 key: no kid needed */
    teardown(a);
}

TEST(every_way_to_confuse_the_algorithm_is_refused)
{
    struct gw_auth *a = setup();
    CHECK_EQ(check(a, sign(secret, "HS256", "ec", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(rsa, "RS256", "ec", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(rsa, "PS256", "rsa", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(rsa, "RS512", "rsa", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(small_rsa, "RS256", "small", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(other, "ES256", "ec", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(ec, "ES256", "unknown", NULL, CLAIMS(""))), -1);
    CHECK_EQ(check(a, sign(ec, "ES256", "ec", "[\"b64\"]", CLAIMS(""))), -1);
    /* {"alg":"none"} with and without a signature */
    CHECK_EQ(check(a, "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJ3YXJyZW4ifQ."), -1);
    CHECK_EQ(check(a, "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJ3YXJyZW4ifQ.AAAA"), -1);
    CHECK_EQ(fault.status, 401);
    teardown(a);
}

TEST(changed_and_broken_tokens_are_refused)
{
    struct gw_auth *a = setup();
    char good[4096];
    (void)snprintf(good, sizeof good, "%s", sign(ec, "ES256", "ec", NULL, CLAIMS("")));
    size_t n = strlen(good);
    for (size_t i = 7; i < n; i++) {
        char c = good[i];
        good[i] = c == 'A' ? 'B' : 'A';
        bool last = i + 1 == n; /* its low bits are padding: another spelling of the same bytes */
        CHECK(last || check(a, good) == -1);
        good[i] = c;
    }
    for (size_t i = 7; i < n; i++) {
        char c = good[i];
        good[i] = '\0';
        CHECK_EQ(check(a, good), -1);
        good[i] = c;
    }
    CHECK_EQ(check(a, NULL), -1);
    CHECK_EQ(check(a, ""), -1);
    CHECK_EQ(check(a, "Bearer"), -1);
    CHECK_EQ(check(a, "Bearer "), -1);
    CHECK_EQ(check(a, "Basic abc"), -1);
    CHECK_EQ(check(a, "Bearer a.b.c.d.e"), -1);
    char longest[10000];
    (void)memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest, "Bearer ", 7);
    CHECK_EQ(check(a, longest), -1);
    CHECK_EQ(check(a, good), 0);
    teardown(a);
}

static void refused(struct gw_auth *a, const char *claims)
{
    if (check(a, sign(ec, "ES256", "ec", NULL, claims)) != -1) {
        (void)fprintf(stderr, "accepted: %s\n", claims);
        exit(1);
    }
}

TEST(claims_are_checked)
{
    struct gw_auth *a = setup();
    refused(a, "{}");
    refused(a, "[]");
    refused(a, "not json");
    refused(a, "{\"iss\":\"x\",\"aud\":\"https://dynamicsessions.io\",\"exp\":1800000600}");
    refused(a, "{\"iss\":\"warren\",\"aud\":\"https://example.org\",\"exp\":1800000600}");
    refused(a, "{\"iss\":\"warren\",\"aud\":[],\"exp\":1800000600}");
    refused(a, "{\"iss\":\"warren\",\"exp\":1800000600}");
    refused(a, "{\"iss\":\"warren\",\"aud\":\"https://dynamicsessions.io\"}");
    refused(
        a, "{\"iss\":\"warren\",\"aud\":\"https://dynamicsessions.io\",\"exp\":\"1800000600\"}");
    refused(a, "{\"iss\":\"warren\",\"aud\":\"https://dynamicsessions.io\",\"exp\":1799999940}");
    refused(a, CLAIMS(",\"nbf\":1800000061"));
    refused(a, CLAIMS(",\"iat\":1800000061"));
    refused(a, CLAIMS(",\"exp\":1900000000")); /* twice */
    refused(a, CLAIMS(",\"pools\":\"python\""));
    CHECK_EQ(check(a, sign(ec, "ES256", "ec", NULL, CLAIMS(",\"nbf\":1800000060"))), 0);
    CHECK_EQ(check(a, sign(ec, "ES256", "ec", NULL,
                          "{\"iss\":\"warren\",\"aud\":[\"x\",\"https://acasessions.io/\"],"
                          "\"exp\":1799999941}")),
        0);
    CHECK_EQ(who.roles, 0);
    CHECK(!gw_auth_allowed(&who, GW_OP_SESSION_GET, "python"));
    teardown(a);
}

TEST(a_token_in_the_cache_still_expires)
{
    struct gw_auth *a = setup();
    char *t = sign(ec, "ES256", "ec", NULL, CLAIMS(""));
    CHECK_EQ(check_at(a, t, NOW), 0);
    CHECK_EQ(check_at(a, t, NOW + 659), 0);
    CHECK_EQ(check_at(a, t, NOW + 660), -1);
    teardown(a);
}

TEST(a_key_that_was_taken_out_ends_its_tokens)
{
    struct gw_auth *a = setup();
    char old[4096];
    (void)snprintf(old, sizeof old, "%s", sign(ec, "ES256", "ec", NULL, CLAIMS("")));
    CHECK_EQ(check(a, old), 0);
    cjose_jwk_t *set[] = {other, rsa};
    write_set(file, set, 2);
    CHECK_EQ(check_at(a, old, NOW + 29), 0); /* the file is not looked at all the time */
    CHECK_EQ(check_at(a, old, NOW + 31), -1);
    CHECK_EQ(check_at(a, sign(other, "ES256", "ec", NULL, CLAIMS("")), NOW + 31), 0);
    teardown(a);
}

TEST(an_issuer_speaks_only_for_itself)
{
#define ELSE                                                                                       \
    "{\"iss\":\"else\",\"sub\":\"me\",\"aud\":\"https://acasessions.io\",\"exp\":1800000600}"
    struct gw_auth *a = setup();
    CHECK_EQ(check(a, sign(other, "ES256", "ec", NULL, ELSE)), 0);
    CHECK_STR(who.issuer, "else");
    CHECK_EQ(check(a, sign(ec, "ES256", "ec", NULL, ELSE)), -1); /* of the first issuer */
    CHECK_EQ(check(a, sign(other, "ES256", "ec", NULL, CLAIMS(""))), -1);
    CHECK_EQ(fault.status, 401);
    teardown(a);
}

#define OF(iss, rest)                                                                              \
    "{\"iss\":\"" iss "\",\"aud\":\"https://acasessions.io\",\"exp\":1800000600," rest "}"

TEST(grants_give_roles_on_pools)
{
    struct gw_auth *a = setup();
    CHECK_EQ(check(a, sign(other, "ES256", "ec", NULL, OF("else", "\"sub\":\"someone\""))), 0);
    CHECK(gw_auth_allowed(&who, GW_OP_EXECUTE, "shell"));
    CHECK(!gw_auth_allowed(&who, GW_OP_EXECUTE, "python"));
    CHECK_EQ(
        check(a, sign(other, "ES256", "ec", NULL, OF("else", "\"sub\":\"x\",\"oid\":\"someone\""))),
        0);
    CHECK(gw_auth_allowed(&who, GW_OP_EXECUTE, "shell"));
    /* with an object id, the subject is not asked */
    CHECK_EQ(
        check(a, sign(other, "ES256", "ec", NULL, OF("else", "\"sub\":\"someone\",\"oid\":\"x\""))),
        0);
    CHECK(!gw_auth_allowed(&who, GW_OP_EXECUTE, "shell"));
    /* the same name of another issuer */
    CHECK_EQ(check(a, sign(ec, "ES256", "ec", NULL, OF("warren", "\"sub\":\"someone\""))), 0);
    CHECK(!gw_auth_allowed(&who, GW_OP_EXECUTE, "shell"));
    /* by role of the provider's, and narrowed by the token */
    CHECK_EQ(check(a, sign(other, "ES256", "ec", NULL,
                          OF("else", "\"roles\":[\"Watchers\"],\"pools\":[\"node\"]"))),
        0);
    CHECK(gw_auth_allowed(&who, GW_OP_SESSION_GET, "node"));
    CHECK(!gw_auth_allowed(&who, GW_OP_EXECUTE, "node"));
    CHECK(!gw_auth_allowed(&who, GW_OP_SESSION_GET, "python"));
    teardown(a);
}

TEST(roles_decide_what_is_allowed)
{
    struct gw_principal p = {.all_pools = true, .roles = GW_ROLE_READER};
    CHECK(gw_auth_allowed(&p, GW_OP_SESSION_GET, "x"));
    CHECK(gw_auth_allowed(&p, GW_OP_METADATA, "x"));
    CHECK(!gw_auth_allowed(&p, GW_OP_EXECUTE, "x"));
    CHECK(!gw_auth_allowed(&p, GW_OP_FILES_LIST, "x"));
    CHECK(!gw_auth_allowed(&p, GW_OP_MANAGEMENT_STOP, "x"));
    p.roles = GW_ROLE_CONTRIBUTOR;
    CHECK(gw_auth_allowed(&p, GW_OP_MANAGEMENT_STOP, "x"));
    CHECK(gw_auth_allowed(&p, GW_OP_EXECUTE, "x"));
}

TEST(a_key_set_without_a_usable_key_is_an_error_at_start)
{
    struct gw_auth *a = setup(), *b = NULL;
    cjose_jwk_t *set[] = {small_rsa};
    write_set(file, set, 1);
    static const char *const audience = "x";
    struct gw_auth_issuer issuer = {"warren", file, NULL};
    struct gw_auth_options opt = {
        .issuers = &issuer, .issuers_n = 1, .audiences = &audience, .audiences_n = 1};
    struct base_error err;
    CHECK(gw_auth_create(&b, &opt, &err) < 0);
    issuer.file = "/nonexistent";
    CHECK(gw_auth_create(&b, &opt, &err) < 0);
    teardown(a);
}

/* ---- key sets by URL ---- */

/* A provider on the test's loop, which answers when it is told to. */
struct provider {
    ev_io io;
    struct ev_loop *loop;
    int asking; /* connection that waits for an answer; -1: none */
    int asked;
    char url[64];
};

static void on_connection(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    (void)revents;
    struct provider *p = w->data;
    CHECK_EQ(p->asking, -1);
    p->asking = accept(w->fd, NULL, NULL);
    CHECK(p->asking >= 0);
    p->asked++;
}

static void provider_start(struct provider *p, struct ev_loop *loop)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, n) == 0 && listen(fd, 8) == 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    (void)snprintf(p->url, sizeof p->url, "http://127.0.0.1:%d/jwks", ntohs(at.sin_port));
    p->loop = loop;
    p->asking = -1;
    p->asked = 0;
    ev_io_init(&p->io, on_connection, fd, EV_READ);
    p->io.data = p;
    ev_io_start(loop, &p->io);
}

static void provider_answer(struct provider *p, cjose_jwk_t *key)
{
    char head[128], in[4096];
    cjose_err e;
    CHECK(recv(p->asking, in, sizeof in, 0) > 0);
    char *text = cjose_jwk_to_json(key, false, &e);
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n{\"keys\":[",
        strlen(text) + strlen("{\"keys\":[]}"));
    CHECK_EQ(send(p->asking, head, (size_t)n, 0), n);
    CHECK_EQ(send(p->asking, text, strlen(text), 0), strlen(text));
    CHECK_EQ(send(p->asking, "]}", 2, 0), 2);
    free(text);
    CHECK_EQ(close(p->asking), 0);
    p->asking = -1;
}

static void provider_stop(struct provider *p)
{
    ev_io_stop(p->loop, &p->io);
    CHECK_EQ(close(p->io.fd), 0);
    if (p->asking >= 0) {
        CHECK_EQ(close(p->asking), 0);
    }
}

static void give_up(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)w;
    (void)revents;
    (void)fprintf(stderr, "nothing more happens on the loop\n");
    exit(1);
}

/* Two issuers by URL, "warren" and "else". */
struct remote {
    struct ev_loop *loop;
    ev_timer deadline;
    struct base_log log;
    struct provider p[2];
    struct gw_auth_issuer issuers[2];
    struct gw_auth *a;
    struct gw_auth_wait wait;
    int ready;
};

static void count_ready(void *owner)
{
    ((struct remote *)owner)->ready++;
}

#define RUN_UNTIL(r, cond)                                                                         \
    while (!(cond)) {                                                                              \
        ev_run((r)->loop, EVRUN_ONCE);                                                             \
    }

static void remote_start(struct remote *r)
{
    static const char *const audience = "https://dynamicsessions.io";
    cjose_err e;
    struct base_error err;
    memset(r, 0, sizeof *r);
    ec = named(cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &e), "ec");
    other = named(cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &e), "new");
    r->loop = ev_loop_new(EVFLAG_AUTO);
    CHECK(r->loop != NULL);
    ev_timer_init(&r->deadline, give_up, 30., 0.);
    ev_timer_start(r->loop, &r->deadline);
    for (int i = 0; i < 2; i++) {
        provider_start(&r->p[i], r->loop);
        r->issuers[i] = (struct gw_auth_issuer){i == 0 ? "warren" : "else", NULL, r->p[i].url};
    }
    struct gw_auth_options opt = {.loop = r->loop,
        .log = &r->log,
        .issuers = r->issuers,
        .issuers_n = 2,
        .audiences = &audience,
        .audiences_n = 1};
    CHECK_EQ(gw_auth_create(&r->a, &opt, &err), 0);
    r->wait.ready = count_ready;
    r->wait.owner = r;
}

static void remote_stop(struct remote *r)
{
    gw_auth_destroy(r->a);
    provider_stop(&r->p[0]);
    provider_stop(&r->p[1]);
    ev_timer_stop(r->loop, &r->deadline);
    ev_loop_destroy(r->loop);
    (void)cjose_jwk_release(ec);
    (void)cjose_jwk_release(other);
}

static int ask(struct remote *r, const char *field, int64_t now, struct gw_auth_wait *w)
{
    struct gw_field f = {"authorization", field};
    struct gw_request q = {.fields = &f, .fields_n = 1};
    return gw_auth_check(r->a, &q, now, &who, &fault, w);
}

/* Asks with a key id that is not known, has the fetch answered, and asks once more. */
static int after_fetch(struct remote *r, const char *field, int64_t now, cjose_jwk_t *answer)
{
    int ready = r->ready;
    int rc = ask(r, field, now, &r->wait);
    if (rc != GW_AUTH_WAIT) {
        return rc;
    }
    RUN_UNTIL(r, r->p[0].asking >= 0);
    provider_answer(&r->p[0], answer);
    RUN_UNTIL(r, r->ready > ready);
    return ask(r, field, now, NULL);
}

TEST(who_waits_for_an_issuer_is_not_woken_by_another)
{
    struct remote r;
    struct gw_auth_wait patient = {.ready = count_ready, .owner = &r};
    remote_start(&r); /* both are being fetched */
    CHECK_EQ(ask(&r, sign(ec, "ES256", "ec", NULL, ELSE), NOW, &patient), GW_AUTH_WAIT);
    CHECK_EQ(after_fetch(&r, sign(ec, "ES256", "ec", NULL, CLAIMS("")), NOW, ec), 0);
    CHECK_EQ(r.ready, 1);
    CHECK(patient.list != NULL);
    RUN_UNTIL(&r, r.p[1].asking >= 0);
    provider_answer(&r.p[1], ec);
    RUN_UNTIL(&r, r.ready == 2);
    CHECK(patient.list == NULL);
    remote_stop(&r);
}

TEST(an_unknown_key_is_401_after_a_fetch_that_another_reason_began)
{
    struct remote r;
    remote_start(&r); /* fetches by itself */
    CHECK_EQ(after_fetch(&r, sign(ec, "ES256", "unknown", NULL, CLAIMS("")), NOW, ec), -1);
    CHECK_EQ(fault.status, 401);
    CHECK_EQ(ask(&r, sign(ec, "ES256", "ec", NULL, ELSE), NOW, NULL), -1);
    CHECK_EQ(fault.status, 503); /* nothing was ever known of this one */
    remote_stop(&r);
}

TEST(strangers_delay_a_rotation_by_seconds_only)
{
    struct remote r;
    remote_start(&r);
    CHECK_EQ(after_fetch(&r, sign(ec, "ES256", "ec", NULL, CLAIMS("")), NOW, ec), 0);
    CHECK_EQ(r.p[0].asked, 1);
    for (int i = 0; i < 10; i++) { /* one id costs one question */
        CHECK_EQ(after_fetch(&r, sign(ec, "ES256", "same", NULL, CLAIMS("")), NOW, ec), -1);
    }
    CHECK_EQ(r.p[0].asked, 2);
    for (int i = 0; i < 50; i++) {
        char kid[16];
        (void)snprintf(kid, sizeof kid, "k%d", i);
        CHECK_EQ(after_fetch(&r, sign(ec, "ES256", kid, NULL, CLAIMS("")), NOW, ec), -1);
    }
    CHECK_EQ(r.p[0].asked, 6);
    char fresh[4096];
    (void)snprintf(fresh, sizeof fresh, "%s", sign(other, "ES256", "new", NULL, CLAIMS("")));
    CHECK_EQ(ask(&r, fresh, NOW + 9, &r.wait), -1);
    CHECK_EQ(fault.status, 401);
    CHECK_EQ(after_fetch(&r, fresh, NOW + 10, other), 0);
    CHECK_EQ(r.p[0].asked, 7);
    remote_stop(&r);
}
