#include <string.h>

#include "gateway/core/base64.h"
#include "gateway/core/json.h"
#include "gateway/core/mcp_tools.h"
#include "gateway/core/target.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/text.h"

/* Files of environments: as results of tools, and as resources. */

enum {
    FILES_MAX = 1000, /* of one listing ... */
    LISTING_BYTES_MAX = 1 << 20,
    LINKS_MAX = 64, /* ... and of these */
};

/* ---- addresses ---- */

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = strchr(digits, c >= 'A' && c <= 'F' ? c | 32 : c);
    return c == '\0' || p == NULL ? -1 : (int)(p - digits);
}

/* False when it does not fit, or has an escape that is none. */
static bool unescape(const char *from, size_t n, char *to, size_t cap)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)from[i];
        if (c == '%') {
            int high = n - i > 2 ? hex(from[i + 1]) : -1;
            int low = high >= 0 ? hex(from[i + 2]) : -1;
            c = low >= 0 ? high << 4 | low : 0;
            i += 2;
        }
        if (c == 0 || out + 1 >= cap) {
            return false;
        }
        to[out++] = (char)c;
    }
    to[out] = '\0';
    return true;
}

bool gw_mcp_resource_find(struct gw_mcp_message *m)
{
    static const char start[] = GW_MCP_URI;
    char uri[GW_MCP_URI_MAX], path[sizeof m->path.text];
    struct proto_identifier id;
    gw_file_path_init(&m->path);
    if (!gw_json_text(gw_json_member(m->args, "uri"), uri, sizeof uri) ||
        strncmp(uri, start, sizeof start - 1) != 0) {
        return false;
    }
    const char *from = uri + sizeof start - 1, *slash = strchr(from, '/');
    return slash != NULL &&
           unescape(from, (size_t)(slash - from), m->environment, sizeof m->environment) &&
           proto_identifier_set(&id, m->environment, strlen(m->environment)) ==
               PROTO_IDENTIFIER_OK &&
           unescape(slash + 1, strlen(slash + 1), path, sizeof path) &&
           gw_file_path_add(&m->path, path) && m->path.text[0] != '\0' && !m->path.absolute;
}

/* The address as a JSON string; escaping leaves nothing in it that JSON would mind. */
static void address(struct gw_mcp_out *o, const struct gw_mcp_message *m, const char *path)
{
    char part[3 * PROTO_PATH_BYTES_MAX + 1];
    gw_mcp_raw(o, "\"" GW_MCP_URI);
    gw_target_escape(m->environment, strlen(m->environment), part);
    gw_mcp_raw(o, part);
    while (*path != '\0') {
        size_t n = strcspn(path, "/");
        gw_target_escape(path, n < PROTO_PATH_BYTES_MAX ? n : PROTO_PATH_BYTES_MAX, part);
        gw_mcp_raw(o, "/");
        gw_mcp_raw(o, part);
        path += n + (path[n] == '/');
    }
    gw_mcp_raw(o, "\"");
}

/* Without parameters. */
static void type_of(const char *path, char to[64])
{
    const char *type = gw_file_type(gw_file_path_name(path));
    size_t n = strcspn(type, ";");
    n = n < 63 ? n : 63;
    memcpy(to, type, n);
    to[n] = '\0';
}

static void shown_path(struct gw_mcp_out *o, const char *path)
{
    struct base_buf b = {0};
    int rc = base_buf_printf(&b, "/mnt/data/%s", path);
    o->rc = o->rc < 0 ? o->rc : rc;
    gw_mcp_string(o, base_buf_data(&b), base_buf_size(&b));
    base_buf_deinit(&b);
}

/* "uri" and "mimeType", as everything that stands for a file has them. */
static void identity(struct gw_mcp_out *o, const struct gw_mcp_message *m, const char *path)
{
    char type[64];
    type_of(path, type);
    gw_mcp_raw(o, "\"uri\":");
    address(o, m, path);
    gw_mcp_raw(o, ",\"mimeType\":\"");
    gw_mcp_raw(o, type);
    gw_mcp_raw(o, "\"");
}

static void facts(
    struct gw_mcp_out *o, const struct gw_mcp_message *m, const char *path, uint64_t size)
{
    gw_mcp_raw(o, "\"path\":");
    shown_path(o, path);
    gw_mcp_raw(o, ",\"sizeInBytes\":");
    gw_mcp_number(o, (long long)size);
    gw_mcp_raw(o, ",");
    identity(o, m, path);
}

/* ---- results ---- */

/* A result whose object is what in has written; the content may go on. */
static struct gw_mcp_out result(
    const struct gw_mcp_message *m, const struct gw_mcp_out *in, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    o.rc = o.rc < 0 ? o.rc : in->rc;
    gw_mcp_result_begin(&o, m);
    gw_mcp_both(&o, in->to);
    return o;
}

int gw_mcp_upload_data(const struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_json_view text = gw_json_member(m->args, "text");
    struct gw_json_view v = gw_json_kind(text) == '"' ? text : gw_json_member(m->args, "blob");
    char *p = (char *)base_buf_room(to, v.n + 1);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    if (!gw_json_text(v, p, v.n + 1)) {
        return BASE_EBADMSG;
    }
    ptrdiff_t n = (ptrdiff_t)strlen(p);
    n = v.p == text.p ? n
                      : gw_base64_decode(p, (size_t)n, (uint8_t *)p); /* never ahead of itself */
    if (n < 0) {
        return BASE_EBADMSG;
    }
    base_buf_grow(to, (size_t)n);
    return 0;
}

int gw_mcp_uploaded(
    const struct gw_mcp_message *m, uint64_t size, bool restarted, struct base_buf *to)
{
    struct base_buf object = {0};
    struct gw_mcp_out in = {&object, 0};
    gw_mcp_raw(&in, "{");
    facts(&in, m, m->path.text, size);
    gw_mcp_raw(&in, restarted ? ",\"environmentRestarted\":true}" : "}");
    struct gw_mcp_out o = result(m, &in, to);
    gw_mcp_note(&o, restarted ? GW_MCP_RESTARTED : "");
    gw_mcp_raw(&o, "]}}");
    base_buf_deinit(&object);
    return o.rc;
}

static bool is_text(const struct base_buf *data)
{
    size_t n = base_buf_size(data);
    return n == 0 || (memchr(base_buf_data(data), '\0', n) == NULL &&
                         base_text_utf8((const char *)base_buf_data(data), n));
}

/* {uri, mimeType, text or blob} */
static void contents(
    struct gw_mcp_out *o, const struct gw_mcp_message *m, const struct base_buf *data)
{
    gw_mcp_raw(o, "{");
    identity(o, m, m->path.text);
    if (is_text(data)) {
        gw_mcp_raw(o, ",\"text\":");
        gw_mcp_string(o, base_buf_data(data), base_buf_size(data));
    } else {
        gw_mcp_raw(o, ",\"blob\":");
        gw_mcp_base64(o, data);
    }
    gw_mcp_raw(o, "}");
}

static int resource(
    const struct gw_mcp_message *m, const struct base_buf *data, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, m->modern ? "\"ttlMs\":0,\"cacheScope\":\"private\"," : "");
    gw_mcp_raw(&o, "\"contents\":[");
    contents(&o, m, data);
    gw_mcp_raw(&o, "]}}");
    return o.rc;
}

/* By its first bytes, whatever its name says: a model's host rejects the whole message for an image
 * that is none. */
static bool is_image(const char *type, const struct base_buf *data)
{
    static const struct {
        const char *type, *start;
        size_t n;
    } known[] = {{"image/png", "\x89PNG\r\n\x1a\n", 8}, {"image/jpeg", "\xff\xd8\xff", 3},
        {"image/gif", "GIF87a", 6}, {"image/gif", "GIF89a", 6}, {"image/webp", "RIFF", 4}};
    const uint8_t *p = base_buf_data(data);
    size_t size = base_buf_size(data);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(type, known[i].type) == 0 && size >= 12 &&
            memcmp(p, known[i].start, known[i].n) == 0) {
            return known[i].start[0] != 'R' || memcmp(p + 8, "WEBP", 4) == 0;
        }
    }
    return false;
}

int gw_mcp_downloaded(
    const struct gw_mcp_message *m, const struct base_buf *data, struct base_buf *to)
{
    char type[64];
    struct base_buf object = {0};
    struct gw_mcp_out in = {&object, 0};
    if (m->tool == GW_MCP_RESOURCE) {
        return resource(m, data, to);
    }
    type_of(m->path.text, type);
    gw_mcp_raw(&in, "{");
    facts(&in, m, m->path.text, base_buf_size(data));
    gw_mcp_raw(&in, "}");
    struct gw_mcp_out o = result(m, &in, to);
    if (is_image(type, data)) {
        gw_mcp_raw(&o, ",{\"type\":\"image\",\"mimeType\":\"");
        gw_mcp_raw(&o, type);
        gw_mcp_raw(&o, "\",\"data\":");
        gw_mcp_base64(&o, data);
    } else {
        gw_mcp_raw(&o, ",{\"type\":\"resource\",\"resource\":");
        contents(&o, m, data);
    }
    gw_mcp_raw(&o, "}]}}");
    base_buf_deinit(&object);
    return o.rc;
}

/* ---- listings ---- */

/* Path of a file within /mnt/data. False when it is too long to be one. */
static bool place(const struct gw_file *f, char to[PROTO_PATH_BYTES_MAX + 1])
{
    size_t folder = strlen(f->directory), name = strlen(f->name);
    if (folder + 1 + name > PROTO_PATH_BYTES_MAX) {
        return false;
    }
    memcpy(to, f->directory, folder);
    if (folder > 0) {
        to[folder++] = '/';
    }
    memcpy(to + folder, f->name, name + 1);
    return true;
}

static void entry(
    struct gw_mcp_out *o, const struct gw_mcp_message *m, const struct gw_file *f, const char *path)
{
    char when[BASE_CLOCK_TEXT_MAX];
    base_clock_format(f->modified_ns, when);
    gw_mcp_raw(o, f->is_directory ? "{\"type\":\"directory\"," : "{\"type\":\"file\",");
    if (f->is_directory) {
        gw_mcp_raw(o, "\"path\":");
        shown_path(o, path);
    } else {
        facts(o, m, path, f->size);
    }
    gw_mcp_raw(o, ",\"lastModifiedAt\":\"");
    gw_mcp_raw(o, when);
    gw_mcp_raw(o, "\"}");
}

static void link_to(
    struct gw_mcp_out *o, const struct gw_mcp_message *m, const struct gw_file *f, const char *path)
{
    gw_mcp_raw(o, ",{\"type\":\"resource_link\",\"name\":");
    gw_mcp_string(o, f->name, strlen(f->name));
    gw_mcp_raw(o, ",\"size\":");
    gw_mcp_number(o, (long long)f->size);
    gw_mcp_raw(o, ",");
    identity(o, m, path);
    gw_mcp_raw(o, "}");
}

int gw_mcp_listed(const struct gw_mcp_message *m, const struct gw_file *files, size_t n,
    bool truncated, struct base_buf *to)
{
    char path[PROTO_PATH_BYTES_MAX + 1];
    struct base_buf object = {0};
    struct gw_mcp_out in = {&object, 0};
    const char *comma = "";
    size_t end = n < FILES_MAX ? n : FILES_MAX;
    gw_mcp_raw(&in, "{\"files\":[");
    for (size_t i = 0; i < end; i++) {
        if (base_buf_size(&object) > LISTING_BYTES_MAX) {
            end = i;
        } else if (place(&files[i], path)) {
            gw_mcp_raw(&in, comma);
            entry(&in, m, &files[i], path);
            comma = ",";
        }
    }
    truncated = truncated || end < n;
    gw_mcp_raw(&in, truncated ? "],\"truncated\":true}" : "],\"truncated\":false}");
    struct gw_mcp_out o = result(m, &in, to);
    int links = 0;
    for (size_t i = 0; i < end && m->links && links < LINKS_MAX; i++) {
        if (!files[i].is_directory && place(&files[i], path)) {
            link_to(&o, m, &files[i], path);
            links++;
        }
    }
    gw_mcp_raw(&o, "]}}");
    base_buf_deinit(&object);
    return o.rc;
}

int gw_mcp_stopped(const struct gw_mcp_message *m, struct base_buf *to)
{
    struct base_buf object = {0};
    struct gw_mcp_out in = {&object, 0};
    gw_mcp_raw(&in, "{\"environmentId\":");
    gw_mcp_string(&in, m->environment, strlen(m->environment));
    gw_mcp_raw(&in, ",\"stopped\":true}");
    struct gw_mcp_out o = result(m, &in, to);
    gw_mcp_raw(&o, "]}}");
    base_buf_deinit(&object);
    return o.rc;
}

int gw_mcp_resource_error(
    const struct gw_mcp_message *m, bool missing, const char *text, struct base_buf *to)
{
    if (!missing) {
        return gw_mcp_error(m, -32603, text, to);
    }
    struct gw_json_view uri = gw_json_member(m->args, "uri");
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_raw(&o, ",\"error\":{\"code\":-32602,\"message\":");
    gw_mcp_string(&o, text, strlen(text));
    if (gw_json_kind(uri) == '"') {
        gw_mcp_raw(&o, ",\"data\":{\"uri\":");
        gw_mcp_view(&o, uri);
        gw_mcp_raw(&o, "}");
    }
    gw_mcp_raw(&o, "}}");
    return o.rc;
}
