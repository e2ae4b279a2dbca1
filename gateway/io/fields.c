#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/io/task.h"

/* Fields of a response, with their text. */

void gw_fields_number(struct gw_fields *f, const char *name, uint64_t value)
{
    char digits[20], *at = digits + sizeof digits;
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    size_t n = (size_t)(digits + sizeof digits - at);
    if (f->n < GW_FIELDS_MAX && n < sizeof f->text - f->used) {
        char *to = f->text + f->used;
        memcpy(to, at, n);
        to[n] = '\0';
        f->f[f->n++] = (struct gw_field){name, to};
        f->used += n + 1;
    }
}

/* A field of the n bytes that were written behind the others. */
static void fields_take(struct gw_fields *f, const char *name, size_t n)
{
    char *at = f->text + f->used;
    for (size_t i = 0; i < n; i++) { /* text of others must not start a field of its own */
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f) {
            at[i] = ' ';
        }
    }
    f->f[f->n++] = (struct gw_field){name, at};
    f->used += n + 1;
}

void gw_fields_add(struct gw_fields *f, const char *name, const char *fmt, ...)
{
    if (f->n == GW_FIELDS_MAX) {
        return;
    }
    char *at = f->text + f->used;
    size_t room = sizeof f->text - f->used;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(at, room, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < room) {
        fields_take(f, name, (size_t)n);
    }
}

void gw_fields_text(struct gw_fields *f, const char *name, const char *text)
{
    size_t n = strlen(text);
    if (f->n < GW_FIELDS_MAX && n < sizeof f->text - f->used) {
        memcpy(f->text + f->used, text, n + 1);
        fields_take(f, name, n);
    }
}
