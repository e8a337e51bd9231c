/* The valid convolution of strflab/layers/conv2d.py for channels too few to fill vector registers: vectors run over
   frames. x (B, C, F, T), weight (C', C, K, L), y (B, C', F - K + 1, T - L + 1), of which each row has 16 frames or more. */
#include "vector.h"

#define GROUP 6 /* output channels at once, with two vectors of frames each */
#define CHUNK 1024 /* frames, a multiple of 16, that all rows have gone through before the next: they stay in the cache */

INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long most(long a, long b) { return a < b ? b : a; }

typedef struct {
    long C, F, T, O, K, L; /* as above, O for C' */
} shape;

INLINE void block(const int n_out, const float *w, const float *x, float *y, const float *bias, shape s, long row) {
    v8 sum[2 * GROUP];
    for (int o = 0; o < n_out; o++) sum[2 * o] = sum[2 * o + 1] = all(bias[o]);
    for (long c = 0; c < s.C; c++)
        for (long i = 0; i < s.K; i++) {
            const float *from = x + (c * s.F + i) * s.T;
            for (long k = 0; k < s.L; k++, w += n_out) {
                v8 low = load(from + k), high = load(from + k + 8);
                for (int o = 0; o < n_out; o++) {
                    v8 w_o = all(w[o]);
                    sum[2 * o] += w_o * low;
                    sum[2 * o + 1] += w_o * high;
                }
            }
        }
    for (int o = 0; o < n_out; o++) {
        store(y + o * row, sum[2 * o]);
        store(y + o * row + 8, sum[2 * o + 1]);
    }
}

static void blocks(int n_out, const float *w, const float *x, float *y, const float *bias, shape s, long row) {
    switch (n_out) {
    case 6: block(6, w, x, y, bias, s, row); break;
    case 5: block(5, w, x, y, bias, s, row); break;
    case 4: block(4, w, x, y, bias, s, row); break;
    case 3: block(3, w, x, y, bias, s, row); break;
    case 2: block(2, w, x, y, bias, s, row); break;
    default: block(1, w, x, y, bias, s, row);
    }
}

/* the work is divided over clips, rows of y, and groups of output channels */
EXPORT int conv_forward(const float *x, const float *weight, const float *bias, float *y, long C, long F, long T, long O,
                        long K, long L, long p0, long p1) {
    shape s = {C, F, T, O, K, L};
    long rows = F - K + 1, frames = T - L + 1, taps = C * K * L;
    long n_groups = (O + GROUP - 1) / GROUP, size = (O + n_groups - 1) / n_groups;
    float *w = malloc(O * taps * sizeof(float)); /* of each group: channel, band, lag, output */
    if (!w) return 1;
    for (long first = 0; first < O; first += size) {
        long n = least(O - first, size);
        for (long k = 0; k < taps; k++)
            for (long o = 0; o < n; o++) w[first * taps + k * n + o] = weight[(first + o) * taps + k];
    }
    long pieces = rows * n_groups; /* of a clip */
    for (long b = p0 / pieces; b * pieces < p1; b++)
        for (long start = 0; start < frames; start += CHUNK)
            for (long p = most(p0 - b * pieces, 0); p < least(p1 - b * pieces, pieces); p++) {
                long f = p / n_groups, first = p % n_groups * size, n = least(O - first, size);
                const float *from = x + (b * C * F + f) * T;
                float *to = y + ((b * O + first) * rows + f) * frames;
                for (long t = start; n > 0 && t < least(start + CHUNK, frames); t += 16) {
                    long at = least(t, frames - 16); /* the last vectors overlap those before */
                    blocks(n, w + first * taps, from + at, to + at, bias + first, s, rows * frames);
                }
            }
    free(w);
    return 0;
}

/* sums over frames of products of n_out rows of g and n_lags shifts of one row of x, in eight parts each */
INLINE void correlate(const int n_out, const int n_lags, const float *x, const float *g, float *sums, long frames,
                      long row, long by_out) {
    v8 sum[12];
    for (int i = 0; i < n_out * n_lags; i++) sum[i] = load(sums + (i / n_lags) * by_out + (i % n_lags) * 8);
    long t = 0;
    for (; t + 8 <= frames; t += 8) {
        v8 at[3];
        for (int k = 0; k < n_lags; k++) at[k] = load(x + t + k);
        for (int o = 0; o < n_out; o++) {
            v8 g_o = load(g + o * row + t);
            for (int k = 0; k < n_lags; k++) sum[o * n_lags + k] += g_o * at[k];
        }
    }
    for (int i = 0; i < n_out * n_lags; i++) {
        float *to = sums + (i / n_lags) * by_out + (i % n_lags) * 8;
        store(to, sum[i]);
        for (long r = t; r < frames; r++) to[0] += g[(i / n_lags) * row + r] * x[r + i % n_lags];
    }
}

INLINE void correlations(const int n_out, const float *x, const float *g, float *sums, long L, long frames, long row,
                         long by_out) {
    long k = 0;
    for (; k + 3 <= L; k += 3) correlate(n_out, 3, x + k, g, sums + 8 * k, frames, row, by_out);
    if (L - k == 2) correlate(n_out, 2, x + k, g, sums + 8 * k, frames, row, by_out);
    if (L - k == 1) correlate(n_out, 1, x + k, g, sums + 8 * k, frames, row, by_out);
}

/* gradient of the weight; the work is divided over the C K rows (channel, band) of the kernel */
EXPORT int conv_weight(const float *grad, const float *x, float *dw, long B, long C, long F, long T, long O, long K,
                       long L, long r0, long r1) {
    long rows = F - K + 1, frames = T - L + 1, n = r1 - r0, by_out = n * L * 8, row = rows * frames;
    float *sums = calloc(O * by_out, sizeof(float)); /* (O, n, L, 8) */
    if (!sums) return 1;
    for (long b = 0; b < B; b++)
        for (long start = 0; start < frames; start += CHUNK)
            for (long f = 0; f < rows; f++)
                for (long first = 0; first < O; first += 4) {
                    const float *g = grad + ((b * O + first) * rows + f) * frames + start;
                    long n_frames = least(CHUNK, frames - start);
                    for (long r = 0; r < n; r++) {
                        const float *from = x + ((b * C + (r0 + r) / K) * F + f + (r0 + r) % K) * T + start;
                        float *to = sums + first * by_out + r * L * 8;
                        switch (O - first) {
                        case 1: correlations(1, from, g, to, L, n_frames, row, by_out); break;
                        case 2: correlations(2, from, g, to, L, n_frames, row, by_out); break;
                        case 3: correlations(3, from, g, to, L, n_frames, row, by_out); break;
                        default: correlations(4, from, g, to, L, n_frames, row, by_out);
                        }
                    }
                }
    for (long o = 0; o < O; o++)
        for (long r = 0; r < n; r++)
            for (long k = 0; k < L; k++)
                dw[(o * C * K + r0 + r) * L + k] = sum8(load(sums + o * by_out + (r * L + k) * 8));
    free(sums);
    return 0;
}
