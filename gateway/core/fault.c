#include "gateway/core/fault.h"

#include <string.h>

#include "gateway/core/json.h"

void gw_fault_of_route(struct gw_fault *f, enum gw_route_fault fault, const struct gw_route *r)
{
    switch (fault) {
    case GW_ROUTE_NO_POOL:
        GW_FAULT(f, 404, "SessionPoolNotFound", "There is no session pool of that name.");
        break;
    case GW_ROUTE_METHOD:
        GW_FAULT(f, 405, "SessionRequestNotSupported", "The method is not supported here.");
        f->allow = r->allow;
        break;
    case GW_ROUTE_NO_IDENTIFIER:
        GW_FAULT(
            f, 400, "SessionRequestValidationFailed", "The parameter 'identifier' is missing.");
        break;
    case GW_ROUTE_IDENTIFIER_LENGTH:
        GW_FAULT(f, 400, "InvalidLengthOfSessionIdentifier",
            "A session identifier has %d to %d characters.", PROTO_IDENTIFIER_MIN,
            PROTO_IDENTIFIER_MAX);
        break;
    case GW_ROUTE_IDENTIFIER_CHARACTER:
        GW_FAULT(f, 400, "SessionRequestValidationFailed",
            "The session identifier has a character that is not allowed.");
        break;
    case GW_ROUTE_IDENTIFIER_TWICE:
        GW_FAULT(f, 400, "SessionRequestValidationFailed",
            "The path and the query name different session identifiers.");
        break;
    case GW_ROUTE_PATH:
        GW_FAULT(f, 400, "SessionRequestValidationFailed",
            "The file path has '..', a control character or a backslash, or is too long.");
        break;
    case GW_ROUTE_NO_RESOURCE:
    case GW_ROUTE_OK:
    default:
        GW_FAULT(f, 404, "SessionRequestNotSupported", "There is no such resource.");
        break;
    }
}

int gw_fault_render(const struct gw_fault *f, const char *trace, struct base_buf *to)
{
    int rc = base_buf_printf(to, "{\"error\":{\"code\":\"%s\",\"message\":", f->code);
    rc = rc < 0 ? rc : gw_json_string(to, f->text.text, strlen(f->text.text));
    return rc < 0 ? rc : base_buf_printf(to, ",\"traceId\":\"%s\"}}", trace);
}
