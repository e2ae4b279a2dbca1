#pragma once
#include <stdint.h>
#include <stdlib.h>

/* Figures of a series of samples. */

static inline int bench_compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Sorts the samples; call it before bench_quantile(). */
static inline void bench_sort(double *v, size_t n)
{
    qsort(v, n, sizeof *v, bench_compare);
}

/* Of sorted samples: q = 0.5 is the median, 0.99 the p99 (nearest rank). n > 0. */
static inline double bench_quantile(const double *v, size_t n, double q)
{
    size_t at = (size_t)(q * (double)n);
    return v[at < n ? at : n - 1];
}
