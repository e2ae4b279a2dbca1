#include "gateway/cli/catalog.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

enum { ID_BYTES = 8, READ_S = 2, TRY_S = 2, PAUSE_MS = 200, PUT_TRIES = 5, UNSURE_S = 12 };

struct ticket {
    char text[2 * ID_BYTES + 1];
};

static void draw(struct ticket *t)
{
    uint8_t raw[ID_BYTES];
    base_rand_bytes(raw, sizeof raw);
    base_text_hex(raw, sizeof raw, t->text);
}

/* Takes over the question. */
static int ask(const struct cli_cluster *c, json_t *question, const char *voter, json_t **ret,
    struct base_error *err)
{
    struct ticket id;
    draw(&id);
    (void)json_object_set_new(question, "id", json_string(id.text));
    char *text = json_dumps(question, JSON_COMPACT);
    json_decref(question);
    if (text == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory, or text that is no UTF-8");
    }
    const struct cli_question q = {.role = "voter",
        .name = voter,
        .text = text,
        .id = id.text,
        .timeout_s = voter == NULL ? READ_S : TRY_S};
    int rc = cli_cluster_ask(c, &q, ret, err);
    free(text);
    return rc;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "" : s;
}

static bool says(const json_t *answer, const char *result)
{
    return strcmp(text_of(answer, "result"), result) == 0;
}

/* ---- reading ---- */

static void pause_ms(long ms)
{
    const struct timespec ts = {0, ms * (long)BASE_NS_PER_MS};
    (void)nanosleep(&ts, NULL);
}

static size_t voters_of(const struct cli_cluster *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        n += strcmp(c->nodes[i].role, "voter") == 0;
    }
    return n;
}

static json_int_t catalog_of(const json_t *answer)
{
    return json_integer_value(json_object_get(answer, "catalog"));
}

/* Of all voters, the answer with the newest catalogue; it is the caller's. That there is nothing is
 * believed of a majority only, when nobody doubts it. */
static int read_once(
    const struct cli_cluster *c, json_t *question, json_t **ret, struct base_error *err)
{
    json_t *answers = NULL, *best = NULL, *a;
    size_t i, know = 0, held = 0;
    struct base_error why = {0};
    int rc = ask(c, question, NULL, &answers, err);
    if (rc != 0) {
        return rc;
    }
    json_array_foreach(answers, i, a)
    {
        if (says(a, "ok") || says(a, "not-found")) {
            know++;
            best = best == NULL || catalog_of(a) > catalog_of(best) ? a : best;
        } else if (says(a, "version")) {
            held++;
            (void)base_text_copy(why.text, sizeof why.text, text_of(a, "error"));
        }
    }
    size_t n = json_array_size(answers);
    if (best != NULL && catalog_of(best) == 0 && (know < n || know <= voters_of(c) / 2)) {
        best = NULL;
    }
    json_incref(best);
    json_decref(answers);
    if (best == NULL) {
        return n == 0      ? base_fail(err, BASE_ECLOSED, "no voter answers")
               : held == n ? base_fail(err, BASE_EDENIED, "%s", why.text)
                           : base_fail(err, BASE_EVERSION, "no voter can read the catalogue now");
    }
    *ret = best;
    return 0;
}

/* Voters that have just started find out what there is. */
static int read_newest(
    const struct cli_cluster *c, json_t *question, json_t **ret, struct base_error *err)
{
    uint64_t end = base_clock_mono_ns() + UNSURE_S * BASE_NS_PER_S;
    int rc = read_once(c, json_incref(question), ret, err);
    while (rc == BASE_EVERSION && base_clock_mono_ns() < end) {
        pause_ms(PAUSE_MS);
        rc = read_once(c, json_incref(question), ret, err);
    }
    json_decref(question);
    return rc;
}

bool cli_catalog_wait(int rc)
{
    return rc == BASE_ECLOSED || rc == BASE_EVERSION || rc == BASE_EDENIED;
}

int cli_catalog_list(const struct cli_cluster *c, json_t **ret, struct base_error *err)
{
    json_t *best = NULL;
    int rc = read_newest(c, json_pack("{s:s}", "do", "list"), &best, err);
    if (rc == 0) {
        *ret = json_incref(json_object_get(best, "entries"));
        json_decref(best);
    }
    return rc;
}

int cli_catalog_get(
    const struct cli_cluster *c, const char *key, json_t **ret, struct base_error *err)
{
    json_t *best = NULL;
    int rc = read_newest(c, json_pack("{s:s,s:s}", "do", "get", "key", key), &best, err);
    if (rc != 0) {
        return rc;
    }
    rc = says(best, "ok")
             ? 0
             : base_fail(err, BASE_ENOTFOUND, "there is no '%.80s' in the catalogue", key);
    if (rc == 0) {
        *ret = json_incref(json_object_get(best, "entry"));
    }
    json_decref(best);
    return rc;
}

/* ---- changing ---- */

/* id: of the change, the same for every voter that is asked. */
static json_t *question_of(const struct cli_catalog_change *change, const struct ticket *id)
{
    json_t *q = json_pack("{s:s,s:s,s:s}", "do", change->value == NULL ? "delete" : "set", "key",
        change->key, "change", id->text);
    if (change->value != NULL) {
        (void)json_object_set_new(q, "value", json_string(change->value));
    }
    if (change->expect != CLI_CATALOG_ANY) {
        (void)json_object_set_new(q, "expect", json_integer(change->expect));
    }
    return q;
}

static int conflict(
    const json_t *answer, const struct cli_catalog_change *change, struct base_error *err)
{
    long long now = json_integer_value(json_object_get(answer, "version"));
    if (now == 0) { /* or the voter is of a release that does not say */
        return base_fail(
            err, BASE_ESTATE, "%.80s: was changed or deleted by somebody else", change->key);
    }
    if (change->expect == 0) {
        return base_fail(err, BASE_ESTATE, "%.80s: is there, at version %lld", change->key, now);
    }
    return base_fail(err, BASE_ESTATE, "%.80s: is at version %lld, not %lld", change->key, now,
        (long long)change->expect);
}

int cli_catalog_judge(
    const json_t *answer, const struct cli_catalog_change *change, struct base_error *err)
{
    const struct {
        const char *result;
        int code;
        const char *text;
    } all[] = {{"full", BASE_EFULL, "the catalogue is full"},
        {"invalid", BASE_EINVAL, "is refused"}, {"not-found", BASE_ENOTFOUND, "is not there"}};
    const char *why = text_of(answer, "error");
    if (says(answer, "ok")) {
        return 0;
    }
    if (says(answer, "conflict")) {
        return conflict(answer, change, err);
    }
    if (says(answer, "version")) {
        return base_fail(err, BASE_EDENIED, "%s", why);
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (says(answer, all[i].result)) {
            return base_fail(
                err, all[i].code, "%.80s: %.150s", change->key, why[0] == '\0' ? all[i].text : why);
        }
    }
    return base_fail(err, BASE_EAGAIN, "%.80s: the voters do not agree", change->key);
}

/* Once with this voter. */
static int try_voter(const struct cli_cluster *c, const struct cli_catalog_change *change,
    const struct ticket *id, const char *voter, json_t **ret, struct base_error *err)
{
    json_t *answers = NULL;
    int rc = ask(c, question_of(change, id), voter, &answers, err);
    if (rc != 0) {
        return rc;
    }
    json_t *first = json_array_get(answers, 0);
    rc = first == NULL ? base_fail(err, BASE_EAGAIN, "no majority of the voters answers")
                       : cli_catalog_judge(first, change, err);
    if (rc == 0 && ret != NULL) {
        *ret = json_incref(first);
    }
    json_decref(answers);
    return rc;
}

/* Another voter may know better, or the same one in a while. */
static bool again(int rc)
{
    return rc == BASE_EAGAIN || rc == BASE_EDENIED;
}

int cli_catalog_change(const struct cli_cluster *c, const struct cli_catalog_change *change,
    json_t **ret, struct base_error *err)
{
    uint64_t end = base_clock_mono_ns() + change->patience_s * BASE_NS_PER_S;
    struct ticket id;
    int rc = base_fail(err, BASE_EAGAIN, "there is no voter");
    draw(&id);
    while (again(rc)) {
        for (size_t i = 0; again(rc) && i < c->n; i++) {
            if (strcmp(c->nodes[i].role, "voter") == 0) {
                rc = try_voter(c, change, &id, c->nodes[i].name, ret, err);
            }
        }
        if (base_clock_mono_ns() >= end) {
            break;
        }
        if (again(rc)) {
            pause_ms(PAUSE_MS);
        }
    }
    if (rc == BASE_EAGAIN) {
        rc = err->code = BASE_ECLOSED;
    }
    return rc;
}

/* The entry as it is; *ret NULL: there is none. */
static int look(const struct cli_cluster *c, const struct cli_catalog_change *what, json_t **ret,
    struct base_error *err)
{
    uint64_t end = base_clock_mono_ns() + what->patience_s * BASE_NS_PER_S;
    int rc;
    do {
        *ret = NULL;
        rc = cli_catalog_get(c, what->key, ret, err);
        if (cli_catalog_wait(rc)) {
            pause_ms(PAUSE_MS);
        }
    } while (cli_catalog_wait(rc) && base_clock_mono_ns() < end);
    return rc == BASE_ENOTFOUND ? 0 : rc;
}

int cli_catalog_put(const struct cli_cluster *c, const struct cli_catalog_change *what,
    struct cli_catalog_put *ret, struct base_error *err)
{
    int rc = BASE_ESTATE;
    *ret = (struct cli_catalog_put){.version = 0};
    for (int i = 0; rc == BASE_ESTATE && i < PUT_TRIES; i++) {
        struct cli_catalog_change change = *what;
        json_t *entry = NULL;
        rc = look(c, what, &entry, err);
        if (rc != 0) {
            return rc;
        }
        change.expect = json_integer_value(json_object_get(entry, "version"));
        bool same = entry != NULL && strcmp(text_of(entry, "value"), what->value) == 0;
        json_decref(entry);
        if (same) {
            ret->version = change.expect;
            return 0;
        }
        ret->changed = true;
        rc = cli_catalog_change(c, &change, &ret->answer, err);
    }
    ret->version = json_integer_value(json_object_get(ret->answer, "version"));
    return rc;
}
