/* Linear recurrences: the selective scan of strflab/layers/mamba.py and the leaky integrators of
   strflab/layers/decay.py, whose torch versions are their reference. */
#include "vector.h"

/* h[t] = exp(delta[t] A) h[t-1] + delta[t] u[t] B[t], y[t] = C[t] . h[t], with h (N, E) of one clip */
INLINE void advance(const float *restrict u, const float *restrict delta, const float *restrict A,
                    const float *restrict Bt, const float *before, float *h, long E, long N) {
    for (long n = 0; n < N; n++) {
        const float *restrict a = A + n * E, *b = before + n * E;
        float *to = h + n * E, in = Bt[n];
#pragma GCC ivdep /* in place, or elsewhere altogether */
        for (long e = 0; e < E; e++) to[e] = exp1(delta[e] * a[e]) * b[e] + delta[e] * u[e] * in;
    }
}

static void transpose(const float *from, float *to, long rows, long columns) {
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

/* u, delta, y (T, B, E), A (E, N), Bs, Cs (T, B, N); starts (blocks + 1, B, E, N): the state before each block of
   frames, of which the first is given, and after the last */
EXPORT int selective_forward(const float *u, const float *delta, const float *A, const float *Bs, const float *Cs,
                             float *y, float *starts, long T, long B, long E, long N, long block, long b0, long b1) {
    float *a = malloc(E * N * sizeof(float)), *h = malloc(E * N * sizeof(float));
    if (!a || !h) return free(a), free(h), 1;
    transpose(A, a, E, N);
    for (long b = b0; b < b1; b++) {
        transpose(starts + b * E * N, h, E, N);
        for (long t = 0; t < T; t++) {
            long at = t * B + b;
            float *restrict y_t = y + at * E;
            advance(u + at * E, delta + at * E, a, Bs + at * N, h, h, E, N);
            memset(y_t, 0, E * sizeof(float));
            for (long n = 0; n < N; n++) {
                const float *restrict h_n = h + n * E, out = Cs[at * N + n];
                for (long e = 0; e < E; e++) y_t[e] += out * h_n[e];
            }
            if ((t + 1) % block == 0 || t + 1 == T) transpose(h, starts + ((t / block + 1) * B + b) * E * N, N, E);
        }
    }
    free(a), free(h);
    return 0;
}

/* from the gradient of y and of the last state: those of u, delta, Bs, Cs, of the first state, and a clip's share of that
   of A: dA (B, E, N) */
EXPORT int selective_backward(const float *grad, const float *last, const float *u, const float *delta, const float *A,
                              const float *Bs, const float *Cs, const float *starts, float *du, float *d_delta,
                              float *dA, float *dB, float *dC, float *first, long T, long B, long E, long N, long block,
                              long b0, long b1) {
    long size = E * N;
    float *a = malloc(size * sizeof(float)), *h = malloc((block + 1) * size * sizeof(float));
    float *d = malloc(size * sizeof(float)), *da = malloc(size * sizeof(float));
    if (!a || !h || !d || !da) return free(a), free(h), free(d), free(da), 1;
    transpose(A, a, E, N);
    for (long b = b0; b < b1; b++) {
        memset(da, 0, size * sizeof(float));
        transpose(last + b * size, d, E, N);
        for (long start = (T - 1) / block * block; start >= 0; start -= block) {
            long stop = start + block < T ? start + block : T;
            transpose(starts + (start / block * B + b) * size, h, E, N);
            for (long t = start; t < stop; t++) {
                long at = t * B + b;
                float *h_t = h + (t - start) * size;
                advance(u + at * E, delta + at * E, a, Bs + at * N, h_t, h_t + size, E, N);
            }
            for (long t = stop - 1; t >= start; t--) {
                long at = t * B + b;
                const float *restrict u_t = u + at * E, *restrict delta_t = delta + at * E, *restrict g = grad + at * E;
                float *restrict du_t = du + at * E, *restrict d_delta_t = d_delta + at * E;
                memset(du_t, 0, E * sizeof(float)), memset(d_delta_t, 0, E * sizeof(float));
                for (long n = 0; n < N; n++) {
                    const float *restrict before = h + (t - start) * size + n * E, *restrict h_n = before + size;
                    const float *restrict a_n = a + n * E, in = Bs[at * N + n], out = Cs[at * N + n];
                    float *restrict d_n = d + n * E, *restrict da_n = da + n * E;
                    v8 to_B = all(0), to_C = all(0);
                    long e = 0;
                    for (; e + 8 <= E; e += 8) { /* the two sums over e, which a compiler may not reorder */
                        v8 state = load(d_n + e) + load(g + e) * out;
                        store(d_n + e, state);
                        to_C += load(g + e) * load(h_n + e);
                        to_B += state * load(delta_t + e) * load(u_t + e);
                    }
                    float sum_B = sum8(to_B), sum_C = sum8(to_C);
                    for (; e < E; e++) {
                        d_n[e] += g[e] * out;
                        sum_C += g[e] * h_n[e];
                        sum_B += d_n[e] * delta_t[e] * u_t[e];
                    }
                    dB[at * N + n] = sum_B, dC[at * N + n] = sum_C;
                    for (e = 0; e < E; e++) {
                        float decayed = d_n[e] * exp1(delta_t[e] * a_n[e]), slope = decayed * before[e];
                        du_t[e] += d_n[e] * in;
                        d_delta_t[e] += slope * a_n[e];
                        da_n[e] += slope * delta_t[e];
                        d_n[e] = decayed;
                    }
                }
                for (long e = 0; e < E; e++) {
                    float from_input = du_t[e];
                    du_t[e] = from_input * delta_t[e];
                    d_delta_t[e] += from_input * u_t[e];
                }
            }
        }
        transpose(d, first + b * size, N, E);
        transpose(da, dA + b * size, N, E);
    }
    free(a), free(h), free(d), free(da);
    return 0;
}

#define ROWS 8 /* at once: a row waits for its own last frame */

/* y[t] = a y[t-1] + x[t], rows r of x (rows, T), of which row r has the coefficient a[r % H] */
EXPORT int decay_forward(const float *x, const float *a, const float *initial, float *y, long T, long H, long r0,
                         long r1) {
    for (long r = r0; r < r1; r += ROWS) {
        float state[ROWS], c[ROWS];
        const float *from[ROWS];
        float *to[ROWS];
        for (long i = 0; i < ROWS; i++) {
            long k = r + i < r1 ? r + i : r; /* beyond the last row, the first again, with the same result */
            state[i] = initial[k], c[i] = a[k % H], from[i] = x + k * T, to[i] = y + k * T;
        }
        for (long t = 0; t < T; t++)
            for (long i = 0; i < ROWS; i++) to[i][t] = state[i] = c[i] * state[i] + from[i][t];
    }
    return 0;
}

/* gradients of x, of the first state, and of each row's coefficient */
EXPORT int decay_backward(const float *grad, const float *a, const float *initial, const float *y, float *dx,
                          float *first, float *da, long T, long H, long r0, long r1) {
    for (long r = r0; r < r1; r += ROWS) {
        float state[ROWS], c[ROWS], sum[ROWS];
        const float *from[ROWS], *after[ROWS];
        float *to[ROWS];
        for (long i = 0; i < ROWS; i++) {
            long k = r + i < r1 ? r + i : r;
            state[i] = sum[i] = 0, c[i] = a[k % H], from[i] = grad + k * T, after[i] = y + k * T, to[i] = dx + k * T;
        }
        for (long t = T - 1; t > 0; t--)
            for (long i = 0; i < ROWS; i++) {
                to[i][t] = state[i] = c[i] * state[i] + from[i][t];
                sum[i] += state[i] * after[i][t - 1];
            }
        for (long i = 0; i < ROWS && r + i < r1; i++) {
            float d = to[i][0] = c[i] * state[i] + from[i][0];
            first[r + i] = c[i] * d, da[r + i] = sum[i] + d * initial[r + i];
        }
    }
    return 0;
}
