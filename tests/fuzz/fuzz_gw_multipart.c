/* Multipart: the first byte says how the rest is cut; whole and cut must give the same. */
#include <stdlib.h>
#include <string.h>

#include "gateway/core/multipart.h"
#include "proto/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void run(const uint8_t *p, size_t n, size_t step, struct base_buf *out)
{
    static struct gw_multipart m;
    (void)gw_multipart_init(&m, "multipart/form-data; boundary=x");
    for (size_t at = 0; at < n;) {
        size_t cut = n - at < step ? n - at : step, used = 0;
        enum gw_multipart_event e = gw_multipart_next(&m, p + at, cut, &used);
        if (used > cut || (e == GW_MULTIPART_MORE && used != cut)) {
            abort();
        }
        at += used;
        if (e == GW_MULTIPART_DATA) {
            (void)base_buf_add(out, m.data, m.data_n);
        } else if (e == GW_MULTIPART_PART) {
            (void)base_buf_printf(out, "[%s|%s]", m.name, m.filename);
        } else if (e != GW_MULTIPART_MORE) {
            (void)base_buf_printf(out, "<%d>", e);
        }
        if (e == GW_MULTIPART_BAD || e == GW_MULTIPART_END) {
            return;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) {
        return 0;
    }
    struct base_buf whole = {0}, cut = {0};
    run(data + 1, n - 1, n, &whole);
    run(data + 1, n - 1, 1 + data[0] % 64, &cut);
    if (base_buf_size(&whole) != base_buf_size(&cut) ||
        (base_buf_size(&cut) > 0 &&
            memcmp(base_buf_data(&whole), base_buf_data(&cut), base_buf_size(&cut)) != 0)) {
        abort();
    }
    base_buf_deinit(&whole);
    base_buf_deinit(&cut);
    struct gw_multipart *m = malloc(sizeof *m);
    char *type = calloc(1, n + 24);
    memcpy(type, "multipart/form-data;", 20);
    memcpy(type + 20, data, n);
    (void)gw_multipart_init(m, type);
    free(type);
    free(m);
    return 0;
}
