#include "proto/ids.h"

#include <string.h>

enum proto_identifier_fault proto_identifier_set(
    struct proto_identifier *id, const void *text, size_t n)
{
    static const char marks[] = "_|}{[]:\"';<>?/.,@#$%^&*()-+=!~`";
    if (n < PROTO_IDENTIFIER_MIN || n > PROTO_IDENTIFIER_MAX) {
        return PROTO_IDENTIFIER_LENGTH;
    }
    const char *p = text;
    for (size_t i = 0; i < n; i++) {
        bool letter = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z');
        bool digit = p[i] >= '0' && p[i] <= '9';
        if (!letter && !digit && (p[i] == '\0' || strchr(marks, p[i]) == NULL)) {
            return PROTO_IDENTIFIER_CHARACTER;
        }
    }
    id->len = (uint8_t)n;
    memcpy(id->text, text, n);
    return PROTO_IDENTIFIER_OK;
}

bool proto_pool_name_valid(const char *text, size_t n)
{
    if (n < PROTO_POOL_NAME_MIN || n > PROTO_POOL_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool letter = text[i] >= 'a' && text[i] <= 'z';
        bool digit = text[i] >= '0' && text[i] <= '9';
        bool hyphen = text[i] == '-' && i > 0 && i + 1 < n;
        if (!letter && !(digit && i > 0) && !hyphen) {
            return false;
        }
    }
    return true;
}
