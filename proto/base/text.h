#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Lower-case hexadecimal of n bytes; text has room for 2 * n + 1. */
void base_text_hex(const void *data, size_t n, char *text);

/* Exactly n bytes from 2 * n hex digits and the terminator; false when text is anything else. */
bool base_text_unhex(const char *text, void *data, size_t n);

/* 16 bytes as a UUID, in the 8-4-4-4-12 form and lower case, with its NUL. */
enum { BASE_TEXT_UUID_MAX = 37 };
void base_text_uuid(const uint8_t id[16], char text[BASE_TEXT_UUID_MAX]);

/* Copies a string into a fixed array, false (and empty) when it does not fit. */
bool base_text_copy(char *to, size_t cap, const char *from);

/* True for well-formed UTF-8 without NUL (RFC 3629: no surrogates, no overlong forms). */
bool base_text_utf8(const void *data, size_t n);
