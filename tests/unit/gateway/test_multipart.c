#include "gateway/core/multipart.h"
#include "proto/base/buf.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"

static struct gw_multipart m;

/* All events as text: [name|filename]data; and ! for bad, . for the end. */
static void run(const char *type, const void *data, size_t n, uint64_t seed, struct base_buf *out)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, seed);
    base_buf_clear(out);
    CHECK(gw_multipart_init(&m, type));
    const uint8_t *p = data;
    bool over = false;
    while (n > 0 && !over) {
        size_t cut = seed == 0 ? n : 1 + base_hash_rng_below(&rng, n < 40 ? n : 40);
        size_t at = 0;
        while (!over) {
            size_t used = 0;
            enum gw_multipart_event e = gw_multipart_next(&m, p + at, cut - at, &used);
            at += used;
            if (e == GW_MULTIPART_MORE) {
                CHECK_EQ(at, cut);
                break;
            }
            if (e == GW_MULTIPART_PART) {
                CHECK_EQ(base_buf_printf(out, "[%s|%s]", m.name, m.filename), 0);
            } else if (e == GW_MULTIPART_DATA) {
                CHECK_EQ(base_buf_add(out, m.data, m.data_n), 0);
            } else if (e == GW_MULTIPART_PART_END) {
                CHECK_EQ(base_buf_add(out, ";", 1), 0);
            } else {
                CHECK_EQ(base_buf_add(out, e == GW_MULTIPART_END ? "." : "!", 1), 0);
                over = true;
            }
        }
        p += cut;
        n -= cut;
    }
}

static void check(const char *type, const char *body, const char *want)
{
    struct base_buf out = {0};
    for (uint64_t seed = 0; seed < 30; seed++) {
        run(type, body, strlen(body), seed, &out);
        CHECK_EQ(base_buf_add(&out, "", 1), 0);
        CHECK_STR((char *)base_buf_data(&out), want);
    }
    base_buf_deinit(&out);
}

#define TYPE "multipart/form-data; boundary=xyz"
#define DISPOSITION "Content-Disposition: form-data; "

TEST(what_clients_send_is_understood)
{
    check(TYPE,
        "--xyz\r\n" DISPOSITION "name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--xyz--\r\n",
        "[file|a.txt]hello;.");
    /* .NET: unquoted names, a quoted boundary, filename*, no content type */
    check("multipart/form-data; boundary=\"x y\"",
        "--x y\r\n" DISPOSITION "name=file; filename=b.txt; filename*=utf-8''%C3%A4.txt\r\n\r\n"
        "1\r\n--x y--",
        "[file|\xc3\xa4.txt]1;.");
    check("Multipart/Form-Data;charset=utf-8;Boundary=xyz",
        "preamble\r\n--xyz \r\ncontent-type: application/octet-stream\r\n"
        "CONTENT-DISPOSITION:form-data;name=\"file\";filename=\"/mnt/data/x.txt\"\r\n\r\n"
        "\r\n--xy\r\n-\r\n\r\n--xyz--",
        "[file|/mnt/data/x.txt]\r\n--xy\r\n-\r\n;.");
    check(TYPE,
        "--xyz\r\n" DISPOSITION "name=\"a\"\r\n\r\nv\r\n--xyz\r\n" DISPOSITION
        "name=\"file\"; filename=\"q\\\"b\\\\c;d.txt\"\r\n\r\n\r\n--xyz--ignored",
        "[a|]v;[file|q\"b\\c;d.txt];.");
    check(TYPE, "--xyz--", ".");
}

TEST(what_is_cut_off_or_wrong_is_not_complete)
{
    check(TYPE, "--xyz\r\n" DISPOSITION "name=\"file\"; filename=\"a\"\r\n\r\nhello",
        "[file|a]hello");
    CHECK(!gw_multipart_complete(&m));
    check(TYPE, "--xyz\r\n" DISPOSITION "name=\"file\"\n\nhello", "!");
    check(TYPE, "--xyzz\r\n\r\n", "!");
    check(TYPE, "--xyz\r\nA: b\rc\r\n\r\n", "!");
    check(TYPE, "--xyz-x", "!");
    check(TYPE, "--xyz\r\n" DISPOSITION "filename=\"\xff\"\r\n\r\n", "!");
    CHECK(!gw_multipart_init(&m, "multipart/form-data"));
    CHECK(!gw_multipart_init(&m, "multipart/form-data; boundary="));
    CHECK(!gw_multipart_init(&m, "multipart/form-data; boundary=\"unclosed"));
    CHECK(!gw_multipart_init(&m, "multipart/mixed; boundary=x"));
    CHECK(!gw_multipart_init(&m, "multipart/form-dataX; boundary=x"));
    CHECK(!gw_multipart_init(&m, NULL));
}

TEST(heads_and_parts_are_bounded)
{
    struct base_buf b = {0}, out = {0};
    CHECK_EQ(base_buf_printf(&b, "--xyz\r\nX: %9000d\r\n\r\n", 1), 0);
    run(TYPE, base_buf_data(&b), base_buf_size(&b), 0, &out);
    CHECK_EQ(base_buf_data(&out)[0], '!');
    base_buf_clear(&b);
    for (int i = 0; i <= GW_MULTIPART_PARTS_MAX; i++) {
        CHECK_EQ(base_buf_printf(&b, "--xyz\r\n\r\n\r\n"), 0);
    }
    run(TYPE, base_buf_data(&b), base_buf_size(&b), 0, &out);
    CHECK_EQ(base_buf_data(&out)[base_buf_size(&out) - 1], '!');
    base_buf_deinit(&b);
    base_buf_deinit(&out);
}

TEST(random_content_comes_through_unchanged_however_it_is_cut)
{
    struct base_buf b = {0}, out = {0};
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 42);
    for (int round = 0; round < 2000; round++) {
        char content[200];
        size_t n = base_hash_rng_below(&rng, sizeof content);
        for (size_t i = 0; i < n; i++) { /* mostly pieces of the delimiter */
            content[i] = "\r\n--xyz-\r\n\r"[base_hash_rng_below(&rng, 11)];
        }
        bool inside = memmem(content, n, "\r\n--xyz", 7) != NULL;
        base_buf_clear(&b);
        CHECK_EQ(base_buf_printf(&b, "--xyz\r\n" DISPOSITION "name=f\r\n\r\n"), 0);
        CHECK_EQ(base_buf_add(&b, content, n), 0);
        CHECK_EQ(base_buf_printf(&b, "\r\n--xyz--"), 0);
        run(TYPE, base_buf_data(&b), base_buf_size(&b), (uint64_t)round + 1, &out);
        if (!inside) {
            CHECK_EQ(base_buf_size(&out), n + 6);
            CHECK(memcmp(base_buf_data(&out) + 4, content, n) == 0);
        }
    }
    base_buf_deinit(&b);
    base_buf_deinit(&out);
}

TEST(what_follows_the_end_is_skipped_and_names_may_stand_without_quotes)
{
    check(TYPE,
        "--xyz\r\n" DISPOSITION "name=file ; filename=a.txt \t\r\n\r\nab\r\n--xyz--\r\ntrailing",
        "[file|a.txt]ab;.");
    CHECK(gw_multipart_init(&m, TYPE));
    static const char body[] = "--xyz--\r\n";
    size_t used = 0;
    CHECK_EQ(gw_multipart_next(&m, (const uint8_t *)body, strlen(body), &used), GW_MULTIPART_END);
    CHECK_EQ(gw_multipart_next(&m, (const uint8_t *)"more", 4, &used), GW_MULTIPART_END);
    CHECK_EQ(used, 4);
    char type[200] = "multipart/form-data; boundary=";
    memset(type + strlen(type), 'b', 71); /* RFC 2046: 70 */
    CHECK(!gw_multipart_init(&m, type));
    type[strlen(type) - 1] = '\0';
    CHECK(gw_multipart_init(&m, type));
}
