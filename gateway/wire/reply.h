#pragma once
#include "gateway/core/fault.h"
#include "gateway/core/outcome.h"
#include "gateway/core/render.h"
#include "proto/base/text.h"
#include "proto/session.pb-c.h"

/* What workers say, in the core's words. Everything borrows from the message. */

void gw_wire_event(const Warren__GuestEvent *e, struct gw_event *ret);
void gw_wire_file(const Warren__FileInfo *f, struct gw_file *ret);

/* guid: room for the microVM's name, which becomes the etag; lives as long as *ret. */
void gw_wire_session(
    const Warren__Session *s, char guid[BASE_TEXT_UUID_MAX], struct gw_session *ret);

/* The error answer for a reply that is not STATUS_OK. */
void gw_wire_fault(const Warren__Reply *r, struct gw_fault *f);
