#include "gateway/core/http.h"

#include <string.h>

#include "proto/base/container.h"

enum gw_method gw_http_method(const char *text)
{
    static const char *const names[] = {
        "", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (unsigned i = 1; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum gw_method)i;
        }
    }
    return GW_METHOD_OTHER;
}

const char *gw_http_field(const struct gw_request *r, const char *name)
{
    for (int i = 0; i < r->fields_n; i++) {
        if (strcmp(r->fields[i].name, name) == 0) {
            return r->fields[i].value;
        }
    }
    return NULL;
}

const char *gw_http_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{101, "Switching Protocols"}, {200, "OK"}, {201, "Created"}, {202, "Accepted"},
        {204, "No Content"}, {206, "Partial Content"}, {304, "Not Modified"}, {400, "Bad Request"},
        {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
        {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {412, "Precondition Failed"},
        {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"}, {417, "Expectation Failed"}, {422, "Unprocessable Content"},
        {426, "Upgrade Required"}, {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
        {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
        {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}};
    for (unsigned i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return "Status";
}

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c | 32 : c;
}

bool gw_http_same_n(const char *a, const char *b, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        int x = lower(a[i]), y = lower(b[i]);
        if (x != y) {
            return false;
        }
        if (a[i] == '\0') {
            return true;
        }
    }
    return true;
}

bool gw_http_same(const char *a, const char *b)
{
    return gw_http_same_n(a, b, strlen(a) + 1);
}

bool gw_http_list_has(const char *list, const char *token)
{
    size_t len = strlen(token);
    while (*list != '\0') {
        while (*list == ' ' || *list == '\t' || *list == ',') {
            list++;
        }
        size_t n = 0;
        while (list[n] != '\0' && strchr(" \t,;", list[n]) == NULL) {
            n++;
        }
        if (n == len && gw_http_same_n(list, token, n)) {
            return true;
        }
        const char *next = strchr(list + n, ',');
        if (next == NULL) {
            return false;
        }
        list = next;
    }
    return false;
}
