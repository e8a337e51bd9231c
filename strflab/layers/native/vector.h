/* Elementary functions that a compiler can turn into vector instructions, accurate to about one unit in the last place
   of float32 (the polynomials are least-maximum fits), and products with a matrix too small for a BLAS call a frame. */
#ifndef STRFLAB_VECTOR_H
#define STRFLAB_VECTOR_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))

typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));

INLINE v8 load(const float *p) { return *(const v8_anywhere *)p; }
INLINE void store(float *p, v8 x) { *(v8_anywhere *)p = x; }
INLINE v8 all(float x) { return (v8){x, x, x, x, x, x, x, x}; }
INLINE float sum8(v8 x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }

/* the first when it is NaN */
INLINE float at_most(float x, float y) { return x > y ? y : x; }
INLINE float at_least(float x, float y) { return x < y ? y : x; }

/* 2^n (1 + r + r^2 q(r)) with x = n log 2 + r; NaN stays NaN */
INLINE float exp1(float x) {
    const float shift = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer, kept in the low bits */
    float c = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
    float n = c * 1.44269504f + shift;
    int32_t bits;
    memcpy(&bits, &n, 4);
    n -= shift;
    float r = c - n * 0.693359375f + n * 2.12194440e-4f;
    float q = 0.5f + r * (0.16666518f + r * (0.041666206f + r * (0.0083688824f + r * 0.0013950478f)));
    float y = 1.0f + r + r * r * q, two;
    bits = (bits + 127) << 23;
    memcpy(&two, &bits, 4);
    return y * two;
}

INLINE float sigmoid1(float x) { return 1.0f / (1.0f + exp1(-x)); }

INLINE float tanh1(float x) {
    float a = x < 0 ? -x : x, z = x * x;
    float q = -0.33333328f + z * (0.13332795f + z * (-0.053854056f + z * (0.021010026f + z * -0.0061131273f)));
    float far = 1.0f - 2.0f / (1.0f + exp1(2.0f * at_most(a, 20.0f)));
    float y = a < 0.625f ? a + a * z * q : far;
    return x < 0 ? -y : y;
}

/* log(1 + u) for 0 <= u <= 1, as 2 artanh(u / (2 + u)) */
INLINE float log1p1(float u) {
    float s = u / (2.0f + u), w = s * s;
    float q = 0.33333334f + w * (0.19999847f + w * (0.14296459f + w * (0.10849392f + w * 0.11629397f)));
    return 2.0f * s + 2.0f * s * w * q;
}

/* ---- y[b] = M x[b] for a few clips b, with the rows of M in panels of 16 */

#define PANEL 16

INLINE long panels(long n_rows) { return (n_rows + PANEL - 1) / PANEL; }

/* element (i, k) of M is m[i rs + k cs] */
static inline float *packed(const float *m, long n_rows, long n_columns, long rs, long cs) {
    float *p = calloc(panels(n_rows) * n_columns * PANEL, sizeof(float));
    for (long i = 0; p && i < n_rows; i++)
        for (long k = 0; k < n_columns; k++) p[((i / PANEL) * n_columns + k) * PANEL + i % PANEL] = m[i * rs + k * cs];
    return p;
}

INLINE void tile(const int nb, const int np, const float *p, long n_columns, const float *x, long x_row, float *y,
                 long y_row) {
    v8 sum[16];
    for (int i = 0; i < 2 * nb * np; i++) sum[i] = all(0);
    for (long k = 0; k < n_columns; k++)
        for (int j = 0; j < np; j++) {
            const float *m = p + (j * n_columns + k) * PANEL;
            v8 low = load(m), high = load(m + 8);
            for (int b = 0; b < nb; b++) {
                v8 xb = all(x[b * x_row + k]);
                sum[2 * (b * np + j)] += xb * low;
                sum[2 * (b * np + j) + 1] += xb * high;
            }
        }
    for (int b = 0; b < nb; b++)
        for (int j = 0; j < np; j++) {
            store(y + b * y_row + j * PANEL, sum[2 * (b * np + j)]);
            store(y + b * y_row + j * PANEL + 8, sum[2 * (b * np + j) + 1]);
        }
}

/* y has y_row >= PANEL panels(n_rows) values a clip */
static inline void multiply(const float *p, long n_rows, long n_columns, const float *x, long x_row, float *y,
                            long y_row, long n_clips) {
    long n = panels(n_rows), b = 0, j;
    for (; b + 4 <= n_clips; b += 4)
        for (j = 0; j < n; j++)
            tile(4, 1, p + j * n_columns * PANEL, n_columns, x + b * x_row, x_row, y + b * y_row + j * PANEL, y_row);
    for (; b + 2 <= n_clips; b += 2) {
        for (j = 0; j + 2 <= n; j += 2)
            tile(2, 2, p + j * n_columns * PANEL, n_columns, x + b * x_row, x_row, y + b * y_row + j * PANEL, y_row);
        for (; j < n; j++)
            tile(2, 1, p + j * n_columns * PANEL, n_columns, x + b * x_row, x_row, y + b * y_row + j * PANEL, y_row);
    }
    for (; b < n_clips; b++) {
        for (j = 0; j + 4 <= n; j += 4)
            tile(1, 4, p + j * n_columns * PANEL, n_columns, x + b * x_row, x_row, y + b * y_row + j * PANEL, y_row);
        for (; j < n; j++)
            tile(1, 1, p + j * n_columns * PANEL, n_columns, x + b * x_row, x_row, y + b * y_row + j * PANEL, y_row);
    }
}

#endif
