/* MCP: any message gets a verdict, and whatever is written is valid JSON. The first byte chooses
 * the header fields. */
#include <stdlib.h>
#include <string.h>

#include "gateway/core/json.h"
#include "gateway/core/mcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must_be_json(struct base_buf *b, int rc)
{
    if (rc < 0 || !gw_json_valid(base_buf_data(b), base_buf_size(b))) {
        abort();
    }
    base_buf_clear(b);
}

static void files(const struct gw_mcp_message *m, struct base_buf *b)
{
    struct base_buf data = {0};
    struct gw_file f = {m->environment, m->path.text, m->recursive, 1, 1};
    if (m->tool == GW_MCP_UPLOAD && gw_mcp_upload_data(m, &data) < 0) {
        base_buf_clear(&data);
    }
    must_be_json(b, gw_mcp_uploaded(m, 1, true, b));
    must_be_json(b, gw_mcp_downloaded(m, &data, b));
    must_be_json(b, gw_mcp_listed(m, &f, 1, false, b));
    must_be_json(b, gw_mcp_stopped(m, b));
    must_be_json(b, gw_mcp_resource_error(m, true, "no", b));
    base_buf_deinit(&data);
}

static void answer(const struct gw_mcp_message *m, struct base_buf *b)
{
    struct gw_outcome o;
    gw_outcome_init(&o, 100, 100);
    struct gw_event e = {.seq = 1,
        .kind = GW_EVENT_STDOUT,
        .data = (const uint8_t *)m->id.p,
        .data_n = m->id.n,
        .error_name = "",
        .error_value = ""};
    (void)gw_outcome_add(&o, &e);
    if (m->tool == GW_MCP_SHELL || m->tool == GW_MCP_PYTHON || m->tool == GW_MCP_NODE) {
        must_be_json(b, gw_mcp_exec_body(m, b));
    }
    files(m, b);
    must_be_json(b, gw_mcp_outcome(m, &o, b));
    must_be_json(b, gw_mcp_launched(m, "abcd", b));
    if (gw_mcp_progress(m, 1, &e, b) < 0 ||
        (base_buf_size(b) > 0 && !gw_json_valid(base_buf_data(b), base_buf_size(b)))) {
        abort();
    }
    gw_outcome_deinit(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const versions[] = {NULL, "2026-07-28", "2025-06-18", "2027-01-01"};
    static const char *const methods[] = {NULL, "tools/call", "server/discover", "=?base64?dG8?="};
    if (n == 0) {
        return 0;
    }
    struct gw_mcp_head head = {.version = versions[data[0] & 3],
        .method = methods[data[0] >> 2 & 3],
        .name = (data[0] & 16) != 0 ? "launchShell" : "=?base64?bGF1bmNoU2hlbGw=?=",
        .extended = (data[0] & 32) != 0};
    struct gw_mcp_message m;
    struct base_buf b = {0};
    int v = gw_mcp_read(data + 1, n - 1, &head, &m, &b);
    if (v == GW_MCP_ANSWERED) {
        must_be_json(&b, 0);
    } else if (v < 0 || base_buf_size(&b) > 0) {
        abort();
    } else if (v == GW_MCP_CALL) {
        answer(&m, &b);
    }
    base_buf_deinit(&b);
    return 0;
}
