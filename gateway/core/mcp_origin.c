#include "gateway/core/mcp_origin.h"

#include <stddef.h>
#include <string.h>

#include "gateway/core/http.h"
#include "proto/base/container.h"

/* Length of the port with its colon; -1 when this is none. */
static int port_len(const char *text)
{
    size_t n = text[0] == ':' ? 1 + strspn(text + 1, "0123456789") : 0;
    return text[n] == '\0' && n != 1 && n <= 6 ? (int)n : -1;
}

/* True when host is name, with any port. */
static bool named(const char *host, const char *name)
{
    size_t n = strlen(name);
    return gw_http_same_n(host, name, n) && port_len(host + n) >= 0;
}

static bool loopback(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        found = found || named(host, names[i]);
    }
    return found;
}

static const char *host_of(const char *origin)
{
    bool http = gw_http_same_n(origin, "http://", 7), https = gw_http_same_n(origin, "https://", 8);
    return http ? origin + 7 : https ? origin + 8 : "";
}

static bool host_ok(const struct gw_mcp_places *p, const char *host)
{
    bool found = p->local ? loopback(host) : p->hosts_n == 0;
    for (unsigned i = 0; i < p->hosts_n; i++) {
        found = found || named(host, p->hosts[i]);
    }
    return found;
}

bool gw_mcp_place_ok(const struct gw_mcp_places *p, const char *host, const char *origin)
{
    if (host != NULL && host[0] != '\0' && !host_ok(p, host)) {
        return false;
    }
    if (origin == NULL || origin[0] == '\0') {
        return true;
    }
    bool found = loopback(host_of(origin));
    for (unsigned i = 0; i < p->origins_n; i++) {
        found = found || gw_http_same(origin, p->origins[i]);
    }
    return found;
}

/* Of the host's name or bracketed address; 0 when there is none. */
static size_t name_len(const char *text)
{
    if (text[0] == '[') {
        size_t n = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.");
        return n > 1 && text[n] == ']' ? n + 1 : 0;
    }
    return strcspn(text, "/:@?#*[] \t");
}

bool gw_mcp_host_valid(const char *text)
{
    size_t n = name_len(text);
    return n > 0 && text[n] == '\0';
}

bool gw_mcp_origin_valid(const char *text)
{
    const char *host = host_of(text);
    size_t n = name_len(host);
    return n > 0 && port_len(host + n) >= 0;
}
