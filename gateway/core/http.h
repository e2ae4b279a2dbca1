#pragma once
#include <stdbool.h>
#include <stdint.h>

/* What a request looks like to everything behind the parsers. */
enum gw_method {
    GW_METHOD_OTHER,
    GW_METHOD_GET,
    GW_METHOD_HEAD,
    GW_METHOD_POST,
    GW_METHOD_PUT,
    GW_METHOD_PATCH,
    GW_METHOD_DELETE,
    GW_METHOD_OPTIONS,
};

/* "GET" ... ; case-sensitive, GW_METHOD_OTHER for anything else. */
enum gw_method gw_http_method(const char *text);

struct gw_field {
    const char *name; /* requests: lower case */
    const char *value;
};

struct gw_request {
    enum gw_method method;
    const char *target; /* as sent: path and query, not decoded */
    const char *host;   /* "" when there was none */
    const struct gw_field *fields;
    int fields_n;
    int64_t content_length; /* -1: not said */
    bool has_body;          /* more than nothing follows, or may follow */
    bool http2;
    bool secure;
    const char *peer; /* the client's address, text */
};

/* Value of the first field of that (lower-case) name; NULL when there is none. */
const char *gw_http_field(const struct gw_request *r, const char *name);

/* Reason phrase; "Status" for a number that has none here. */
const char *gw_http_reason(int status);

/* True when the comma list contains the token, without regard to case. Parameters (";...") are no
 * part of a token. */
bool gw_http_list_has(const char *list, const char *token);

/* ASCII only. */
bool gw_http_same(const char *a, const char *b);
bool gw_http_same_n(const char *a, const char *b, unsigned long n);
