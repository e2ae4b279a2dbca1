/* What workers (and through them guests) say, up to the answers: always valid JSON. */
#include <stdlib.h>
#include <string.h>

#include "gateway/core/json.h"
#include "gateway/core/sse.h"
#include "gateway/wire/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(struct base_buf *b)
{
    if (!gw_json_valid(base_buf_data(b), base_buf_size(b))) {
        abort();
    }
    base_buf_clear(b);
}

static void event(const uint8_t *data, size_t n, struct base_buf *b)
{
    Warren__GuestEvent *e = warren__guest_event__unpack(NULL, n, data);
    if (e == NULL) {
        return;
    }
    struct gw_event event;
    struct gw_outcome o;
    struct proto_identifier id;
    (void)proto_identifier_set(&id, "abcd", 4);
    gw_wire_event(e, &event);
    gw_outcome_init(&o, 100, 100);
    (void)gw_outcome_add(&o, &event);
    for (int shape = 0; shape < 6; shape++) {
        struct gw_execution_view v = {.shape = (enum gw_shape)(shape % 3),
            .text_results = shape >= 3,
            .id = "e",
            .identifier = &id};
        (void)gw_render_execution(&v, &o, b);
        check(b);
    }
    gw_outcome_deinit(&o);
    if (gw_sse_event(&event, b) == 0) {
        const char *text = (const char *)base_buf_data(b);
        if (memmem(text, base_buf_size(b) - 2, "\n\n", 2) != NULL) {
            abort(); /* an event inside the event */
        }
    }
    base_buf_clear(b);
    warren__guest_event__free_unpacked(e, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct base_buf b = {0};
    event(data, n, &b);
    Warren__Reply *r = warren__reply__unpack(NULL, n, data);
    if (r != NULL) {
        struct gw_fault f;
        gw_wire_fault(r, &f);
        (void)gw_fault_render(&f, "t", &b);
        check(&b);
        if (r->session != NULL) {
            struct gw_session s;
            char guid[BASE_TEXT_UUID_MAX];
            gw_wire_session(r->session, guid, &s);
            (void)gw_render_session(&s, false, &b);
            check(&b);
        }
        for (size_t i = 0; i < r->n_files; i++) {
            struct gw_file file;
            gw_wire_file(r->files[i], &file);
            (void)gw_render_file(&file, i % 2 == 0, &b);
            check(&b);
        }
        warren__reply__free_unpacked(r, NULL);
    }
    base_buf_deinit(&b);
    return 0;
}
