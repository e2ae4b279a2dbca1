#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/io/catalog_admin.h"
#include "tests/lib/check.h"

/* The catalogue as nodes know it, its file, and what administrators ask. */

static const uint8_t cluster_key[16] = {5};
#define POOL(name) "{\"name\":\"" name "\",\"properties\":{}}"

static struct sched_catalog_entry entry(const char *key, const char *value, uint64_t version)
{
    return (struct sched_catalog_entry){
        .key = key, .value = value, .value_n = strlen(value), .version = version};
}

static struct sched_catalog *made(void)
{
    struct sched_catalog *c = NULL;
    const struct sched_catalog_entry all[] = {entry("mcp-key/python", "text", 2),
        entry("pool/python", POOL("python"), 3), entry("tenants", "{}", 1)};
    CHECK_EQ(sched_catalog_make(&c, 3, all, 3), 0);
    return c;
}

TEST(entries_are_found_by_kind_and_name)
{
    struct sched_catalog *c = made();
    CHECK_STR(sched_catalog_find(c, "pool/", "python")->value, POOL("python"));
    CHECK_STR(sched_catalog_find(c, "tenants", "")->value, "{}");
    CHECK(sched_catalog_find(c, "pool/", "pytho") == NULL);
    CHECK(sched_catalog_find(c, "tenant/", "s") == NULL);
    CHECK(sched_catalog_has(c, "pool/") && !sched_catalog_has(c, "tenant/"));
    CHECK(sched_catalog_decides(c));
    sched_catalog_destroy(c);
    const struct sched_catalog_entry only = entry("tenants", "{}", 1), mark = entry("pools", "", 2);
    CHECK_EQ(sched_catalog_make(&c, 1, &only, 1), 0);
    CHECK(!sched_catalog_decides(c)); /* limits alone say nothing about pools */
    sched_catalog_destroy(c);
    CHECK_EQ(sched_catalog_make(&c, 2, &mark, 1), 0);
    CHECK(sched_catalog_decides(c)); /* there were some */
    sched_catalog_destroy(c);
}

/* As voters have it. */
static struct sched_catalog *unpacked(uint64_t id)
{
    static uint8_t bytes[SCHED_CAT_BYTES_MAX];
    struct sched_catalog *c = NULL;
    const struct sched_cat_doc none = {0};
    const struct sched_cat_change change = {.id = id,
        .birth = 77,
        .entry = {.key = "tenants", .key_n = 7, .value = (const uint8_t *)"{}", .value_n = 2}};
    struct sched_cat_doc doc = {.version = 1, .bytes = bytes};
    CHECK_EQ(sched_cat_apply(&none, &change, bytes, &doc.n), SCHED_CAT_OK);
    CHECK_EQ(sched_catalog_unpack(&c, &doc), 0);
    return c;
}

TEST(what_the_document_has_for_itself_is_no_entry)
{
    struct sched_catalog *c = unpacked(5);
    CHECK(sched_catalog_n(c) == 1 && sched_catalog_version(c) == 1);
    CHECK_STR(sched_catalog_at(c, 0)->key, "tenants");
    sched_catalog_destroy(c);
}

TEST(it_is_the_same_after_a_restart_and_damage_is_noticed)
{
    char dir[] = "/tmp/warren-test-catalog-XXXXXX", path[64];
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof path, "%s/catalog.json", dir);
    struct sched_catalog *c = made(), *again = NULL;
    CHECK_EQ(sched_catalog_load(&again, path, cluster_key), BASE_ENOTFOUND);
    CHECK_EQ(sched_catalog_save(c, path, cluster_key), 0);
    CHECK_EQ(sched_catalog_load(&again, path, cluster_key), 0);
    CHECK(sched_catalog_version(again) == 3 && sched_catalog_n(again) == 3);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_STR(sched_catalog_at(again, i)->key, sched_catalog_at(c, i)->key);
        CHECK_STR(sched_catalog_at(again, i)->value, sched_catalog_at(c, i)->value);
        CHECK_EQ(sched_catalog_at(again, i)->version, sched_catalog_at(c, i)->version);
    }
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(st.st_mode & 077, 0);
    CHECK_EQ(truncate(path, st.st_size / 2), 0);
    sched_catalog_destroy(again);
    CHECK_EQ(sched_catalog_load(&again, path, cluster_key), BASE_EBADMSG);
    sched_catalog_destroy(c);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_file_is_of_one_cluster_and_has_its_birth)
{
    static const uint8_t other[16] = {6};
    static const char before[] = "{\"version\":3,\"entries\":[{\"key\":\".\",\"version\":3,"
                                 "\"pool\":0,\"max\":0,\"ready\":0,"
                                 "\"value\":\"000000000000004d\"}]}"; /* with its own entry */
    char dir[] = "/tmp/warren-test-catalog-XXXXXX", path[64];
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof path, "%s/catalog.json", dir);
    struct sched_catalog *c = unpacked(5), *again = NULL;
    CHECK_EQ(sched_catalog_birth(c), 77);
    CHECK_EQ(sched_catalog_save(c, path, cluster_key), 0);
    CHECK_EQ(sched_catalog_load(&again, path, other), BASE_ESTATE);
    CHECK_EQ(sched_catalog_load(&again, path, cluster_key), 0);
    CHECK_EQ(sched_catalog_birth(again), 77);
    sched_catalog_destroy(c);
    CHECK_EQ(sched_catalog_copy(&c, again), 0);
    CHECK_EQ(sched_catalog_birth(c), 77);
    sched_catalog_destroy(again);
    FILE *f = fopen(path, "w"); /* of a release that wrote neither */
    CHECK(f != NULL && fputs(before, f) >= 0 && fclose(f) == 0);
    CHECK_EQ(sched_catalog_load(&again, path, other), 0);
    CHECK(sched_catalog_version(again) == 3 && sched_catalog_birth(again) == 77);
    CHECK_EQ(sched_catalog_n(again), 0);
    sched_catalog_destroy(again);
    sched_catalog_destroy(c);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(dir), 0);
}

static int check_of(const char *key, const char *value, struct base_error *err)
{
    struct sched_catalog_entry e = entry(key, value, 0);
    char *warnings = NULL;
    int rc = sched_catalog_check(&e, cluster_key, &warnings, err);
    free(warnings);
    return rc;
}

TEST(what_is_put_into_it_is_looked_at)
{
    struct sched_catalog_entry e = entry("pool/python",
        "{\"name\":\"python\",\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":7,"
        "\"readySessionInstances\":2},\"nonsense\":1}}",
        0);
    char *warnings = NULL;
    CHECK_EQ(sched_catalog_check(&e, cluster_key, &warnings, NULL), 0);
    CHECK(e.max == 7 && e.ready == 2 && e.pool != 0 && strstr(warnings, "nonsense") != NULL);
    free(warnings);
    static const char *const bad[][3] = {{"pool/other", POOL("python"), "is not the pool of"},
        {"pool/python", "{}", "name: is missing"}, {"pool/python", "[", "line 1"},
        {"nothing", "x", "there are pool/NAME"}, {"pools", "x", "there are pool/NAME"},
        {"pool-birth/a", "x", "there are pool/NAME"}, {"pool-birth/A", "", "there are pool/NAME"},
        {"mcp-key/python", "x", "is no key"}, {"mcp-key/P", "warren-mcp-key 1\n", "is no key"},
        {"tenants", "{\"issuer\":\"a\",\"tenant\":\"b\"}", "tenant: is not one"},
        {"tenant/00000000000000000000000000000000", "{\"issuer\":\"a\",\"tenant\":\"b\"}",
            "tenant: is not the one"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct base_error err = {0};
        CHECK_EQ(check_of(bad[i][0], bad[i][1], &err), BASE_EINVAL);
        CHECK(strstr(err.text, bad[i][2]) != NULL);
    }
    CHECK_EQ(check_of("pools", "", NULL), 0);
    CHECK_EQ(check_of("tenants", "{\"sessions\":1}", NULL), 0);
}

/* ---- administrators ---- */

static struct base_buf answer;

static bool asked(const char *question, struct sched_catalog_wish *w)
{
    struct sched_catalog *c = made();
    struct sched_catalog_ask ask = {.text = question, .known = c, .cluster_key = cluster_key};
    base_buf_clear(&answer);
    bool wish = sched_catalog_admin(&ask, w, &answer);
    CHECK_EQ(base_buf_add(&answer, "", 1), 0);
    sched_catalog_destroy(c);
    return wish;
}

static bool says(const char *text)
{
    return strstr((const char *)base_buf_data(&answer), text) != NULL;
}

TEST(questions_are_answered_and_changes_become_messages)
{
    struct sched_catalog_wish w;
    CHECK(!asked("{\"do\":\"list\",\"id\":\"7\"}", &w));
    CHECK(says("\"id\":\"7\"") && says("\"catalog\":3") && says("\"key\":\"pool/python\"") &&
          says("\"containerType\":\"PythonLTS\"") && !says("\"value\""));
    CHECK(!asked("{\"do\":\"get\",\"key\":\"tenants\"}", &w));
    CHECK(says("\"value\":\"{}\"") && says("\"result\":\"ok\""));
    CHECK(!asked("{\"do\":\"get\",\"key\":\"tenant/x\"}", &w));
    CHECK(says("not-found"));
    static const char *const bad[] = {"", "[]", "{\"do\":\"burn\"}", "{\"do\":\"get\"}",
        "{\"do\":\"set\",\"key\":\"tenants\"}", "{\"do\":\"set\",\"key\":\"X\",\"value\":\"\"}",
        "{\"do\":\"set\",\"key\":\"tenants\",\"value\":\"{}\",\"expect\":-1}",
        "{\"do\":\"delete\",\"key\":\"tenants\",\"value\":\"{}\"}",
        "{\"do\":\"set\",\"key\":\"tenants\",\"value\":\"{\\\"sessions\\\":-1}\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!asked(bad[i], &w));
        CHECK(says("\"error\""));
    }
    CHECK(asked(
        "{\"do\":\"set\",\"id\":\"q\",\"key\":\"tenants\",\"value\":\"{}\",\"expect\":1}", &w));
    const struct sched_cat_change *c = &w.set.cset.change;
    CHECK(w.set.type == SCHED_MSG_CSET && c->expect == 1 && !c->erase && c->entry.value_n == 2);
    CHECK(c->entry.key_n == 7 && memcmp(c->entry.key, "tenants", 7) == 0);
    CHECK_EQ(w.set.cset.op, w.order->op);
    base_buf_clear(&answer);
    sched_catalog_answer(w.order, SCHED_CAT_CONFLICT, 9, &answer);
    CHECK_EQ(base_buf_add(&answer, "", 1), 0);
    CHECK(says("\"id\":\"q\"") && says("\"result\":\"conflict\"") && says("\"version\":9"));
    sched_catalog_order_drop(w.order);
    sched_catalog_wish_deinit(&w);
    CHECK(asked("{\"do\":\"delete\",\"key\":\"pool/python\"}", &w));
    CHECK(w.set.cset.change.erase && w.set.cset.change.expect == SCHED_CAT_ANY);
    sched_catalog_order_drop(w.order);
    sched_catalog_wish_deinit(&w);
    uint64_t ops[3];
    for (size_t i = 0; i < 3; i++) { /* one that comes again is the same change */
        CHECK(asked(i < 2 ? "{\"do\":\"delete\",\"key\":\"a\",\"change\":\"00000000000000c8\"}"
                          : "{\"do\":\"delete\",\"key\":\"a\",\"change\":\"c8\"}",
            &w));
        ops[i] = w.set.cset.op;
        sched_catalog_order_drop(w.order);
        sched_catalog_wish_deinit(&w);
    }
    CHECK(ops[0] == ops[1] && ops[1] != ops[2]);
    base_buf_deinit(&answer);
}

TEST(while_the_cluster_has_no_catalogue_yet_the_reason_is_told)
{
    static const char *const all[] = {"{\"do\":\"list\",\"id\":\"7\"}",
        "{\"do\":\"delete\",\"id\":\"7\",\"key\":\"pool/python\"}"};
    struct sched_catalog_wish w;
    for (size_t i = 0; i < 2; i++) {
        struct sched_catalog_ask ask = {
            .text = all[i], .held = "v3 holds it back", .cluster_key = cluster_key};
        base_buf_clear(&answer);
        CHECK(!sched_catalog_admin(&ask, &w, &answer));
        CHECK_EQ(base_buf_add(&answer, "", 1), 0);
        CHECK(says("\"id\":\"7\"") && says("\"result\":\"version\"") &&
              says("\"error\":\"v3 holds it back\""));
    }
    base_buf_deinit(&answer);
}

/* Nothing known is not nothing there. */
TEST(a_voter_that_does_not_know_yet_says_later_and_takes_changes)
{
    static const char *const reading[] = {
        "{\"do\":\"list\",\"id\":\"7\"}", "{\"do\":\"get\",\"id\":\"7\",\"key\":\"pool/python\"}"};
    struct sched_catalog_wish w;
    struct sched_catalog *c = made();
    for (size_t i = 0; i < 6; i++) {
        struct sched_catalog_ask ask = {.text = reading[i % 2],
            .known = i < 4 ? NULL : c,
            .unsure = i / 2 != 1,
            .cluster_key = cluster_key};
        base_buf_clear(&answer);
        CHECK(!sched_catalog_admin(&ask, &w, &answer));
        CHECK_EQ(base_buf_add(&answer, "", 1), 0);
        CHECK(says("\"id\":\"7\"") && says("\"result\":\"later\"") == (i < 2));
        CHECK(says("\"catalog\":0") == (i / 2 == 1) && says("\"catalog\":3") == (i / 2 == 2));
    }
    struct sched_catalog_ask set = {.text = "{\"do\":\"delete\",\"key\":\"pool/python\"}",
        .unsure = true,
        .cluster_key = cluster_key};
    CHECK(sched_catalog_admin(&set, &w, &answer));
    sched_catalog_order_drop(w.order);
    sched_catalog_wish_deinit(&w);
    sched_catalog_destroy(c);
    base_buf_deinit(&answer);
}
