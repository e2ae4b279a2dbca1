#pragma once
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Unit tests. Cases register themselves in a linker section; `prog NAME` runs one, `prog --list`
 * prints the names, a case that wants to be skipped calls check_skip(reason). */
struct check_case {
    const char *name;
    void (*run)(void);
};

#define TEST(name)                                                                                 \
    static void test_##name(void);                                                                 \
    static const struct check_case case_##name                                                     \
        __attribute__((used, section("check_cases"))) = {#name, test_##name};                      \
    static void test_##name(void)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            (void)fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        intmax_t a_ = (intmax_t)(a), b_ = (intmax_t)(b);                                           \
        if (a_ != b_) {                                                                            \
            (void)fprintf(stderr, "%s:%d: %s is %" PRIdMAX ", want %" PRIdMAX "\n", __FILE__,      \
                __LINE__, #a, a_, b_);                                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        if (a_ == NULL || strcmp(a_, b_) != 0) {                                                   \
            (void)fprintf(stderr, "%s:%d: %s is \"%s\", want \"%s\"\n", __FILE__, __LINE__, #a,    \
                a_ == NULL ? "(null)" : a_, b_);                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

_Noreturn static inline void check_skip(const char *reason)
{
    (void)printf("skipped: %s\n", reason);
    exit(77);
}
