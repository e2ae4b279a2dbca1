#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"

/* Writing JSON; nothing here parses into a tree. */

/* Adds a quoted string. Bytes that are not UTF-8 become U+FFFD. 0 or BASE_ENOMEM. */
int gw_json_string(struct base_buf *b, const void *text, size_t n);

/* Adds n bytes in base64, quoted. */
int gw_json_base64(struct base_buf *b, const void *data, size_t n);

/* True when the text is one JSON value (RFC 8259), white space around it allowed, nested at most
 * GW_JSON_DEPTH_MAX deep. Numbers that no double holds and repeated names are valid here. */
enum { GW_JSON_DEPTH_MAX = 64 };
bool gw_json_valid(const void *text, size_t n);
