/* WebSocket frames of a client: the first byte says how the rest is cut; whole and cut must give
 * the same. */
#include <stdlib.h>
#include <string.h>

#include "gateway/io/ws.h"
#include "proto/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
    struct base_buf in, out;
};

static void on_send(void *owner, const uint8_t *data, size_t n)
{
    struct seen *s = owner;
    (void)base_buf_add(&s->out, data, n);
}

static void on_binary(void *owner, const uint8_t *data, size_t n)
{
    struct seen *s = owner;
    (void)base_buf_add(&s->in, data, n);
}

static void on_text(void *owner, const char *text, size_t n)
{
    struct seen *s = owner;
    (void)base_buf_printf(&s->in, "[%zu]", n);
    (void)base_buf_add(&s->in, text, n);
}

static void run(const uint8_t *p, size_t n, size_t step, struct seen *s)
{
    static const struct gw_ws_ops ops = {on_send, on_binary, on_text};
    struct gw_ws *ws = gw_ws_create(&ops, s);
    for (size_t at = 0; at < n; at += step) {
        gw_ws_input(ws, p + at, n - at < step ? n - at : step);
    }
    gw_ws_close(ws, GW_WS_NORMAL, "");
    if (!gw_ws_over(ws)) {
        abort();
    }
    size_t before = base_buf_size(&s->out);
    gw_ws_binary(ws, p, n);
    if (base_buf_size(&s->out) != before) { /* nothing behind a close */
        abort();
    }
    gw_ws_destroy(ws);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct seen whole = {0}, cut = {0};
    if (n < 2) {
        return 0;
    }
    run(data + 1, n - 1, n, &whole);
    run(data + 1, n - 1, 1 + data[0] % 64, &cut);
    size_t size = base_buf_size(&whole.in);
    if (size != base_buf_size(&cut.in) ||
        (size > 0 && memcmp(base_buf_data(&whole.in), base_buf_data(&cut.in), size) != 0)) {
        abort();
    }
    base_buf_deinit(&whole.in);
    base_buf_deinit(&whole.out);
    base_buf_deinit(&cut.in);
    base_buf_deinit(&cut.out);
    return 0;
}
