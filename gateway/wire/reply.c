#include "gateway/wire/reply.h"

#include <string.h>

#include "proto/base/text.h"

static enum gw_event_kind kind_of(Warren__EventKind kind)
{
    switch (kind) {
    case WARREN__EVENT_KIND__EVENT_STDOUT:
        return GW_EVENT_STDOUT;
    case WARREN__EVENT_KIND__EVENT_STDERR:
        return GW_EVENT_STDERR;
    case WARREN__EVENT_KIND__EVENT_DISPLAY:
        return GW_EVENT_DISPLAY;
    case WARREN__EVENT_KIND__EVENT_RESULT:
        return GW_EVENT_RESULT;
    case WARREN__EVENT_KIND__EVENT_ERROR:
        return GW_EVENT_ERROR;
    case WARREN__EVENT_KIND__EVENT_DONE:
        return GW_EVENT_DONE;
    case WARREN__EVENT_KIND__EVENT_NONE:
    case _WARREN__EVENT_KIND_IS_INT_SIZE:
    default:
        return GW_EVENT_OTHER;
    }
}

static enum gw_done done_of(Warren__DoneStatus status)
{
    switch (status) {
    case WARREN__DONE_STATUS__DONE_OK:
        return GW_DONE_OK;
    case WARREN__DONE_STATUS__DONE_TIMEOUT:
        return GW_DONE_TIMEOUT;
    case WARREN__DONE_STATUS__DONE_INTERRUPTED:
        return GW_DONE_INTERRUPTED;
    case WARREN__DONE_STATUS__DONE_KERNEL_DIED:
        return GW_DONE_KERNEL_DIED;
    case WARREN__DONE_STATUS__DONE_OUT_OF_MEMORY:
        return GW_DONE_OUT_OF_MEMORY;
    case WARREN__DONE_STATUS__DONE_ERROR:
    case WARREN__DONE_STATUS__DONE_NONE:
    case _WARREN__DONE_STATUS_IS_INT_SIZE:
    default:
        return GW_DONE_ERROR;
    }
}

void gw_wire_event(const Warren__GuestEvent *e, struct gw_event *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->seq = e->seq;
    ret->t_us = e->t_us;
    ret->kind = kind_of(e->kind);
    ret->data = e->data.data;
    ret->data_n = e->data.len;
    ret->error_name = e->error_name == NULL ? "" : e->error_name;
    ret->error_value = e->error_value == NULL ? "" : e->error_value;
    for (size_t i = 0; i < e->n_mime && ret->mimes < GW_MIMES_MAX; i++) {
        const Warren__GuestMime *m = e->mime[i];
        if (m->type != NULL) {
            ret->mime[ret->mimes++] = (struct gw_mime){m->type, m->data.data, m->data.len};
        }
    }
    if (e->done != NULL) {
        ret->done = done_of(e->done->status);
        ret->exit_code = e->done->exit_code;
        ret->duration_us = e->done->duration_us;
        ret->stdout_bytes = e->done->stdout_bytes;
        ret->stderr_bytes = e->done->stderr_bytes;
        ret->kernel_restarted = e->done->kernel_restarted;
    }
}

void gw_wire_file(const Warren__FileInfo *f, struct gw_file *ret)
{
    *ret = (struct gw_file){
        .name = f->name == NULL ? "" : f->name,
        .directory = f->directory == NULL ? "" : f->directory,
        .is_directory = f->is_directory,
        .size = f->size,
        .modified_ns = f->modified_ns,
    };
}

void gw_wire_session(
    const Warren__Session *s, char guid[BASE_TEXT_UUID_MAX], struct gw_session *ret)
{
    guid[0] = '\0';
    if (s->vm_id.len == 16) {
        base_text_uuid(s->vm_id.data, guid);
    }
    *ret = (struct gw_session){
        .identifier = (const char *)s->identifier.data,
        .identifier_n = s->identifier.len,
        .created_ns = s->created_ns,
        .last_access_ns = s->last_access_ns,
        .expires_ns = s->expires_ns,
        .etag = guid,
    };
}

/* ---- refusals ---- */

static void not_found(const char *what, struct gw_fault *f)
{
    if (strcmp(what, "pool") == 0) {
        GW_FAULT(f, 404, "SessionPoolNotFound", "There is no session pool of that name.");
    } else if (strcmp(what, "session") == 0) {
        GW_FAULT(
            f, 404, "SessionWithIdentifierNotFound", "There is no session with that identifier.");
    } else if (strcmp(what, "execution") == 0) {
        GW_FAULT(f, 404, "ExecutionNotFound", "There is no execution of that id in the session.");
    } else {
        GW_FAULT(f, 404, "FileNotFound", "The file does not exist.");
    }
}

void gw_wire_fault(const Warren__Reply *r, struct gw_fault *f)
{
    const char *code = r->code == NULL ? "" : r->code;
    const char *text = r->text == NULL || r->text[0] == '\0' ? "no reason given" : r->text;
    switch (r->status) {
    case WARREN__STATUS__STATUS_INVALID:
        GW_FAULT(f, 400, "SessionRequestValidationFailed", "%s", text);
        break;
    case WARREN__STATUS__STATUS_NOT_FOUND:
        not_found(code, f);
        break;
    case WARREN__STATUS__STATUS_FULL:
        if (strcmp(code, "TerminalsFull") == 0) {
            GW_FAULT(f, 429, "TerminalsFull", "The session has as many terminals as it may have.");
        } else if (strcmp(code, "QuotaExceeded") == 0) {
            GW_FAULT(f, 429, "QuotaExceeded", "Try again later: %s.", text);
        } else {
            GW_FAULT(f, 429, "SessionPoolFull", "All sessions of the pool are in use.");
        }
        break;
    case WARREN__STATUS__STATUS_LOST:
        GW_FAULT(f, 410, "SessionLost", "The session is gone: %s", text);
        break;
    case WARREN__STATUS__STATUS_OUTCOME_UNKNOWN:
        GW_FAULT(f, 502, "ExecutionOutcomeUnknown", "The outcome is not known: %s", text);
        break;
    case WARREN__STATUS__STATUS_TIMEOUT:
        GW_FAULT(f, 504, "Timeout", "No answer in time: %s", text);
        break;
    case WARREN__STATUS__STATUS_TOO_LARGE:
        GW_FAULT(f, 413, "RequestTooLarge", "Too large: %s", text);
        break;
    case WARREN__STATUS__STATUS_EXISTS:
        if (strcmp(code, "IdempotencyKeyReused") == 0) {
            GW_FAULT(f, 422, "IdempotencyKeyReused",
                "The Idempotency-Key (or operation-id) was used in this session for other code or "
                "other settings. Nothing was run. Another request needs another key.");
        } else {
            GW_FAULT(f, 409, "Conflict", "%s", text);
        }
        break;
    case WARREN__STATUS__STATUS_RETRY:
    case WARREN__STATUS__STATUS_MOVED:
    case WARREN__STATUS__STATUS_NOT_HERE:
    case WARREN__STATUS__STATUS_REFUSED:
    case WARREN__STATUS__STATUS_UNAVAILABLE:
        GW_FAULT(f, 503, "ServiceUnavailable", "Try again: %s", text);
        break;
    case WARREN__STATUS__STATUS_NONE:
    case WARREN__STATUS__STATUS_OK:
    case WARREN__STATUS__STATUS_INTERNAL:
    case _WARREN__STATUS_IS_INT_SIZE:
    default:
        GW_FAULT(f, 500, "InternalServerError", "The worker failed: %s", text);
        break;
    }
    if (f->status == 429 || f->status == 503) {
        f->retry_after_s = r->retry_after_ms == 0 ? 1 : (r->retry_after_ms + 999) / 1000;
    }
}
