#include "gateway/core/file_path.h"

#include <string.h>

#include "gateway/core/http.h"
#include "proto/base/container.h"

void gw_file_path_init(struct gw_file_path *p)
{
    p->text[0] = '\0';
    p->absolute = false;
}

static bool add_component(struct gw_file_path *p, const char *s, size_t n)
{
    if (n == 0 || (n == 1 && s[0] == '.')) {
        return true;
    }
    if (n == 2 && s[0] == '.' && s[1] == '.') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '\\') {
            return false;
        }
    }
    size_t have = strlen(p->text);
    size_t slash = have > 0 ? 1 : 0;
    if (n > 255 || have + slash + n > PROTO_PATH_BYTES_MAX) {
        return false;
    }
    if (slash != 0) {
        p->text[have++] = '/';
    }
    memcpy(p->text + have, s, n);
    p->text[have + n] = '\0';
    return true;
}

bool gw_file_path_add(struct gw_file_path *p, const char *part)
{
    static const char root[] = "/mnt/data";
    size_t n = sizeof root - 1;
    bool fresh = p->text[0] == '\0' && !p->absolute;
    if (strncmp(part, root, n) == 0 && (part[n] == '/' || part[n] == '\0')) {
        /* A name may repeat where it lies: path=/mnt/data and the name /mnt/data/x. */
        gw_file_path_init(p);
        part += n;
    } else if (fresh && part[0] == '/' && part[strspn(part, "/")] != '\0') {
        p->absolute = true;
    }
    while (*part != '\0') {
        size_t len = strcspn(part, "/");
        if (!add_component(p, part, len)) {
            return false;
        }
        part += len + (part[len] == '/' ? 1 : 0);
    }
    return true;
}

const char *gw_file_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

const char *gw_file_type(const char *name)
{
    static const struct {
        const char *extension, *type;
    } types[] = {
        {"txt", "text/plain; charset=utf-8"},
        {"py", "text/x-python; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"tsv", "text/tab-separated-values; charset=utf-8"},
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"log", "text/plain; charset=utf-8"},
        {"yaml", "application/yaml"},
        {"yml", "application/yaml"},
        {"sh", "application/x-sh"},
        {"json", "application/json"},
        {"ipynb", "application/json"},
        {"xml", "application/xml"},
        {"pdf", "application/pdf"},
        {"zip", "application/zip"},
        {"gz", "application/gzip"},
        {"tar", "application/x-tar"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"svg", "image/svg+xml"},
        {"webp", "image/webp"},
        {"mp3", "audio/mpeg"},
        {"mp4", "video/mp4"},
        {"xls", "application/vnd.ms-excel"},
        {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
        {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
        {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
        {"parquet", "application/vnd.apache.parquet"},
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < ARRAY_LEN(types); i++) {
        if (gw_http_same(dot + 1, types[i].extension)) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}
