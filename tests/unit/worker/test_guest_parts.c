/* The pure parts of the agent: interpreter messages, characters, ids, paths. */
#include <stdlib.h>

#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/guest/idset.h"
#include "worker/guest/kernel_msg.h"
#include "worker/guest/output.h"
#include "worker/guest/path.h"

static int parse(const char *text, struct agent_kernel_msg *m)
{
    return agent_kernel_msg_parse((const uint8_t *)text, strlen(text), m);
}

TEST(messages_of_an_interpreter_are_read)
{
    struct agent_kernel_msg m;
    CHECK_EQ(parse("ready 0\n", &m), 1);
    CHECK_EQ(m.verb, AGENT_KERNEL_READY);
    CHECK_EQ(m.total, 8);
    CHECK_EQ(parse("done 0 error -3 17\nmore", &m), 1);
    CHECK_EQ(m.status, WARREN__DONE_STATUS__DONE_ERROR);
    CHECK_EQ(m.number, -3);
    CHECK_EQ(m.serial, 17);
    CHECK_EQ(m.total, 19);
    CHECK_EQ(parse("started 0 4711\n", &m), 1);
    CHECK_EQ(m.number, 4711);
    CHECK_EQ(parse("result 5\nabcdeXX", &m), 1);
    CHECK_EQ(m.body_len, 5);
    CHECK(memcmp(m.body, "abcde", 5) == 0);
}

TEST(a_message_that_is_not_complete_waits)
{
    struct agent_kernel_msg m;
    const char text[] = "display 3\nabc";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        CHECK_EQ(agent_kernel_msg_parse((const uint8_t *)text, n, &m), 0);
    }
    CHECK_EQ(parse(text, &m), 1);
}

TEST(nonsense_of_an_interpreter_is_refused)
{
    static const char *const bad[] = {"\n", "ready\n", "ready \n", "ready x\n", "ready -1\n",
        "ready 1\nx", "bogus 0\n", "display 99999999999\n", "display 8388609\n", "done 0\n",
        "done 0 ok\n", "done 0 ok 0\n", "done 0 fine 0 1\n", "done 0 ok 0 -1\n",
        "done 0 ok 5000000000 1\n", "done 0 ok 0 1 more\n", "ready 0 more\n", "started 0 x\n",
        "ready  0\n", " ready 0\n",
        ("x2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
         "012345678901234567890")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct agent_kernel_msg m;
        CHECK_EQ(parse(bad[i], &m), BASE_EBADMSG);
    }
}

static int mime(const char *body, size_t n, struct agent_kernel_mime *out)
{
    struct agent_kernel_msg m = {.body = (const uint8_t *)body, .body_len = n};
    return agent_kernel_msg_mime(&m, out);
}

TEST(parts_of_a_display)
{
    struct agent_kernel_mime out;
    const char body[] = "text/plain 2\nhiimage/png 3\n\x89P\n";
    CHECK_EQ(mime(body, sizeof body - 1, &out), 2);
    CHECK_STR(out.part[1].type, "image/png");
    CHECK_EQ(out.part[1].data.len, 3);
    CHECK_EQ(mime("", 0, &out), 0);
    static const char *const bad[] = {"text/plain", "text/plain 3\nab", "a\n", " 1\nx", "a -1\nx",
        "text/plain 99999999999\nx", "\xff 1\nx"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(mime(bad[i], strlen(bad[i]), &out), BASE_EBADMSG);
    }
    char many[33 * 4 + 1] = "";
    for (int i = 0; i < 33; i++) {
        (void)strcat(many, "a 0\n");
    }
    CHECK_EQ(mime(many, strlen(many), &out), BASE_EBADMSG);
    CHECK_EQ(mime(many, strlen(many) - 4, &out), AGENT_KERNEL_MIME_MAX);
}

TEST(name_value_and_traceback_of_an_error)
{
    const char *name, *value;
    ProtobufCBinaryData tb;
    struct agent_kernel_msg m = {.body = (const uint8_t *)"Name\0value\0trace", .body_len = 16};
    CHECK_EQ(agent_kernel_msg_error(&m, &name, &value, &tb), 0);
    CHECK_STR(name, "Name");
    CHECK_STR(value, "value");
    CHECK_EQ(tb.len, 5);
    for (size_t n = 0; n < 11; n++) {
        m.body_len = n;
        CHECK_EQ(agent_kernel_msg_error(&m, &name, &value, &tb), BASE_EBADMSG);
    }
    m = (struct agent_kernel_msg){.body = (const uint8_t *)"\xff\0v\0t", .body_len = 5};
    CHECK_EQ(agent_kernel_msg_error(&m, &name, &value, &tb), BASE_EBADMSG);
}

static size_t cut(const char *text)
{
    return agent_output_cut((const uint8_t *)text, strlen(text));
}

TEST(only_a_character_that_can_still_be_completed_is_held_back)
{
    CHECK_EQ(cut(""), 0);
    CHECK_EQ(cut("abc"), 0);
    CHECK_EQ(cut("a\xc3"), 1);
    CHECK_EQ(cut("a\xc3\xa9"), 0);
    CHECK_EQ(cut("a\xe2\x82"), 2);
    CHECK_EQ(cut("a\xe2\x82\xac"), 0);
    CHECK_EQ(cut("\xf0\x9f\x98"), 3);
    CHECK_EQ(cut("\xf0\x9f\x98\x80"), 0);
    CHECK_EQ(cut("\x80\x80\x80\x80"), 0); /* no beginning anywhere */
    CHECK_EQ(cut("a\xff"), 0);
    CHECK_EQ(cut("a\xff\x80"), 0);
}

TEST(ids_are_remembered_for_a_long_time_and_in_bounded_memory)
{
    static const uint8_t key[16] = {1};
    struct agent_idset s;
    struct base_hash_rng r;
    agent_idset_init(&s, key);
    base_hash_rng_seed(&r, 5);
    uint64_t first[2] = {0, 0}, last[2] = {0, 0};
    for (int i = 0; i < 3 * AGENT_IDSET_KEEP; i++) {
        uint64_t id[2] = {base_hash_rng_next(&r), base_hash_rng_next(&r)};
        CHECK(!agent_idset_has(&s, (const uint8_t *)id));
        CHECK_EQ(agent_idset_add(&s, (const uint8_t *)id), 0);
        CHECK(agent_idset_has(&s, (const uint8_t *)id));
        CHECK_EQ(agent_idset_add(&s, (const uint8_t *)id), 0);
        if (i == AGENT_IDSET_KEEP) {
            memcpy(first, id, sizeof id);
        }
        if (i > AGENT_IDSET_KEEP && i < 2 * AGENT_IDSET_KEEP) {
            CHECK(agent_idset_has(&s, (const uint8_t *)first));
        }
        memcpy(last, id, sizeof id);
    }
    CHECK(agent_idset_has(&s, (const uint8_t *)last));
    CHECK(s.young.cap + s.old.cap <= 4 * AGENT_IDSET_KEEP);
    agent_idset_deinit(&s);
}

TEST(paths_of_the_host_are_checked)
{
    const char *rest;
    CHECK_EQ(agent_path_check("a/b.txt", false, false, &rest), 0);
    CHECK_STR(rest, "a/b.txt");
    CHECK_EQ(agent_path_check("/a/b", true, false, &rest), 0);
    CHECK_STR(rest, "a/b");
    CHECK_EQ(agent_path_check("", false, true, &rest), 0);
    CHECK_EQ(agent_path_check("/", true, true, &rest), 0);
    CHECK_EQ(agent_path_check("...", false, false, &rest), 0);
    CHECK_EQ(agent_path_check("..a", false, false, &rest), 0);
    static const char *const bad[] = {
        "", "/a", "a/", "a//b", "..", "a/..", "../a", ".", "a/./b", "\xff", "a/\xc3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(agent_path_check(bad[i], false, false, &rest), BASE_EINVAL);
    }
    CHECK_EQ(agent_path_check("a", true, false, &rest), BASE_EINVAL);
    CHECK_EQ(agent_path_check("", true, true, &rest), BASE_EINVAL);
    CHECK_EQ(agent_path_check("/..", true, false, &rest), BASE_EINVAL);
    char name[PROTO_PATH_BYTES_MAX + 2];
    memset(name, 'x', sizeof name);
    name[AGENT_PATH_NAME_MAX] = '\0';
    CHECK_EQ(agent_path_check(name, false, false, &rest), 0);
    name[AGENT_PATH_NAME_MAX] = 'x';
    name[AGENT_PATH_NAME_MAX + 1] = '\0';
    CHECK_EQ(agent_path_check(name, false, false, &rest), BASE_EINVAL);
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    CHECK_EQ(agent_path_check(name, false, false, &rest), BASE_ETOOBIG);
}
