#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Reading JSON in place, without a tree: a view is one value inside a text that gw_json_valid() has
 * accepted, and lives as long as that text. n == 0: no value. */
struct gw_json_view {
    const char *p;
    size_t n;
};

struct gw_json_view gw_json_root(const void *text, size_t n);

/* First character of the value: '{', '[', '"', 't', 'f', 'n', a digit or '-'; '\0' for none. */
char gw_json_kind(struct gw_json_view v);

/* The member of an object; no value when there is none, or v is no object. A name that is there
 * twice: the first counts. Names are compared as they are written, escapes are not resolved. */
struct gw_json_view gw_json_member(struct gw_json_view v, const char *name);

/* The next element of an array; start with *at = NULL. False at the end. */
bool gw_json_next(struct gw_json_view array, const char **at, struct gw_json_view *ret);

/* Copies a string with its escapes resolved. False (and to is empty) when v is no string, does not
 * fit with its terminator (v.n bytes are always enough), or has an escape of NUL or of half a
 * character. */
bool gw_json_text(struct gw_json_view v, char *to, size_t cap);

bool gw_json_is(struct gw_json_view v, const char *text); /* a string with this content */
bool gw_json_integer(struct gw_json_view v);              /* a number without fraction, exponent */
