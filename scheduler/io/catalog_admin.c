#include "scheduler/io/catalog_admin.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "proto/pool/pool.h"

static void json_freep(json_t **j)
{
    json_decref(*j);
}

/* Takes over the document. */
static void dump(json_t *doc, const char *id, struct base_buf *to)
{
    if (id != NULL) {
        (void)json_object_set_new(doc, "id", json_string(id));
    }
    char *text = json_dumps(doc, JSON_COMPACT);
    if (text != NULL) {
        (void)base_buf_add(to, text, strlen(text));
    }
    free(text);
    json_decref(doc);
}

static void refuse(const char *id, const char *result, const char *why, struct base_buf *to)
{
    dump(json_pack("{s:s,s:s}", "result", result, "error", why), id, to);
}

static json_t *entry_json(const struct sched_catalog_entry *e, bool value)
{
    json_t *j = json_pack("{s:s,s:I,s:I}", "key", e->key, "version", (json_int_t)e->version,
        "bytes", (json_int_t)e->value_n);
    struct proto_pool p;
    if (sched_catalog_name(e, "pool/") != NULL) {
        (void)json_object_set_new(j, "max", json_integer(e->max));
        (void)json_object_set_new(j, "ready", json_integer(e->ready));
    }
    if (sched_catalog_name(e, "pool/") != NULL &&
        proto_pool_parse(e->value, e->value_n, &p, NULL) == 0) {
        (void)json_object_set_new(
            j, "containerType", json_string(proto_pool_container_text(p.container)));
        proto_pool_deinit(&p);
    }
    if (value) {
        (void)json_object_set_new(j, "value", json_stringn(e->value, e->value_n));
    }
    return j;
}

static void list(const struct sched_catalog *c, const char *id, struct base_buf *to)
{
    json_t *entries = json_array();
    for (uint32_t i = 0; c != NULL && i < sched_catalog_n(c); i++) {
        (void)json_array_append_new(entries, entry_json(sched_catalog_at(c, i), false));
    }
    dump(json_pack("{s:s,s:I,s:o}", "result", "ok", "catalog",
             (json_int_t)(c == NULL ? 0 : sched_catalog_version(c)), "entries", entries),
        id, to);
}

static void get(const struct sched_catalog *c, const char *key, const char *id, struct base_buf *to)
{
    const struct sched_catalog_entry *e = c == NULL ? NULL : sched_catalog_find(c, key, "");
    dump(json_pack("{s:s,s:I,s:o*}", "result", e == NULL ? "not-found" : "ok", "catalog",
             (json_int_t)(c == NULL ? 0 : sched_catalog_version(c)), "entry",
             e == NULL ? NULL : entry_json(e, true)),
        id, to);
}

/* ---- changes ---- */

static bool take_expect(const json_t *question, uint64_t *ret)
{
    const json_t *v = json_object_get(question, "expect");
    *ret = v == NULL ? SCHED_CAT_ANY : (uint64_t)json_integer_value(v);
    return v == NULL || (json_is_integer(v) && json_integer_value(v) >= 0);
}

/* The number of a change that may come again. */
static uint64_t number_of(const json_t *question)
{
    const char *text = json_string_value(json_object_get(question, "change"));
    uint8_t raw[8];
    uint64_t op = 0;
    if (text == NULL || strlen(text) != 2 * sizeof raw || !base_text_unhex(text, raw, sizeof raw)) {
        return base_rand_u64();
    }
    memcpy(&op, raw, sizeof op);
    return op;
}

static struct sched_catalog_order *order_of(const json_t *question, const char *id, char *warnings)
{
    struct sched_catalog_order *o = calloc(1, sizeof *o);
    if (o == NULL) {
        free(warnings);
        return NULL;
    }
    o->op = number_of(question);
    o->since_ns = base_clock_boot_ns();
    o->warnings = warnings;
    (void)base_text_copy(o->id, sizeof o->id, id == NULL ? "" : id);
    return o;
}

/* Key and value are the question's, which the wish keeps. */
static bool change(json_t *question, const char *id, const struct sched_catalog_ask *ask,
    struct sched_catalog_wish *ret, struct base_buf *to)
{
    const char *key = json_string_value(json_object_get(question, "key"));
    const json_t *value = json_object_get(question, "value");
    struct base_error err = {0};
    struct sched_catalog_entry e = {.key = key,
        .value = json_is_string(value) ? json_string_value(value) : "",
        .value_n = json_string_length(value)};
    bool erase = value == NULL;
    uint64_t expect = 0;
    char *warnings = NULL;
    int rc = 0;
    if (key == NULL ||
        !sched_cat_key_valid(key, (uint32_t)json_string_length(json_object_get(question, "key"))) ||
        !take_expect(question, &expect) || e.value_n > SCHED_CAT_VALUE_MAX) {
        rc = base_fail(&err, BASE_EINVAL,
            e.value_n > SCHED_CAT_VALUE_MAX ? "a value has at most 16 KiB" : "no such key");
    }
    rc = rc != 0 || erase ? rc : sched_catalog_check(&e, ask->cluster_key, &warnings, &err);
    if (rc != 0) {
        refuse(id, "invalid", err.text, to);
        return false;
    }
    ret->order = order_of(question, id, warnings);
    if (ret->order == NULL) {
        refuse(id, "later", "out of memory", to);
        return false;
    }
    ret->set = (struct sched_msg){.type = SCHED_MSG_CSET,
        .cset = {.op = ret->order->op,
            .change = {.expect = expect,
                .erase = erase,
                .entry = {.key = key,
                    .key_n = (uint32_t)strlen(key),
                    .pool = e.pool,
                    .max = e.max,
                    .ready = e.ready,
                    .value = (const uint8_t *)e.value,
                    .value_n = (uint32_t)e.value_n}}}};
    ret->memory = json_incref(question);
    return true;
}

static bool reads(const char *what)
{
    return strcmp(what, "list") == 0 || strcmp(what, "get") == 0;
}

bool sched_catalog_admin(
    const struct sched_catalog_ask *ask, struct sched_catalog_wish *ret, struct base_buf *to)
{
    CLEANUP(json_freep) json_t *question = json_loads(ask->text, JSON_REJECT_DUPLICATES, NULL);
    const char *what = json_string_value(json_object_get(question, "do"));
    const char *id = json_string_value(json_object_get(question, "id"));
    const char *key = json_string_value(json_object_get(question, "key"));
    *ret = (struct sched_catalog_wish){.memory = NULL};
    if (what == NULL || (id != NULL && strlen(id) > SCHED_CATALOG_ID_MAX)) {
        (void)base_buf_printf(to, "{\"error\":\"unknown question\"}");
    } else if (ask->held != NULL) {
        refuse(id, "version", ask->held, to);
    } else if (ask->known == NULL && ask->unsure && reads(what)) {
        refuse(id, "later", "this voter does not know yet what the catalogue has", to);
    } else if (strcmp(what, "list") == 0) {
        list(ask->known, id, to);
    } else if (strcmp(what, "get") == 0 && key != NULL) {
        get(ask->known, key, id, to);
    } else if (strcmp(what, "set") == 0 && json_object_get(question, "value") != NULL) {
        return change(question, id, ask, ret, to);
    } else if (strcmp(what, "delete") == 0 && json_object_get(question, "value") == NULL) {
        return change(question, id, ask, ret, to);
    } else {
        refuse(id, "invalid", "unknown question", to);
    }
    return false;
}

void sched_catalog_wish_deinit(struct sched_catalog_wish *w)
{
    json_decref(w->memory);
    w->memory = NULL;
}

void sched_catalog_answer(const struct sched_catalog_order *o, enum sched_cat_result result,
    uint64_t version, struct base_buf *to)
{
    static const char *const words[SCHED_CAT_RESULTS] = {
        "ok", "conflict", "not-found", "full", "invalid", "later"};
    json_t *doc = json_pack("{s:s,s:I,s:s*}", "result", words[result], "version",
        (json_int_t)version, "warnings", o->warnings);
    if (result == SCHED_CAT_INVALID) {
        (void)json_object_set_new(doc, "error",
            json_string("another pool's name has the same number: choose another name"));
    }
    dump(doc, o->id[0] == '\0' ? NULL : o->id, to);
}

void sched_catalog_order_drop(struct sched_catalog_order *o)
{
    free(o->warnings);
    free(o);
}
