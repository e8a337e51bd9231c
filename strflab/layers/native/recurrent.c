/* The time loops of strflab/layers/loops.py, whose torch versions are their reference: arrays are (T, B, ...), and a
   call does the clips from b0 to b1, which are independent. A return of 1 is a lack of memory. */
#include "vector.h"

/* y[t] = f(x[t] + W y[t-1]), f the tanh of the first n_tanh units */
EXPORT int tanh_forward(const float *x, const float *h, const float *weight, float *y, long T, long B, long H,
                        long n_tanh, long b0, long b1) {
    long n = b1 - b0, row = panels(H) * PANEL;
    float *p = packed(weight, H, H, H, 1), *from_h = malloc(n * row * sizeof(float));
    if (!p || !from_h) return free(p), free(from_h), 1;
    for (long t = 0; t < T; t++) {
        multiply(p, H, H, (t ? y + (t - 1) * B * H : h) + b0 * H, H, from_h, row, n);
        for (long b = 0; b < n; b++) {
            const float *restrict x_t = x + (t * B + b0 + b) * H, *restrict r = from_h + b * row;
            float *restrict y_t = y + (t * B + b0 + b) * H;
            for (long j = 0; j < n_tanh; j++) y_t[j] = tanh1(x_t[j] + r[j]);
            for (long j = n_tanh; j < H; j++) y_t[j] = x_t[j] + r[j];
        }
    }
    free(p), free(from_h);
    return 0;
}

/* d (T, B, H): gradients before the nonlinearity */
EXPORT int tanh_backward(const float *grad, const float *weight, const float *y, float *d, long T, long B, long H,
                         long n_tanh, long b0, long b1) {
    long n = b1 - b0, row = panels(H) * PANEL;
    float *p = packed(weight, H, H, 1, H), *after = calloc(n * row, sizeof(float));
    if (!p || !after) return free(p), free(after), 1;
    for (long t = T - 1; t >= 0; t--) {
        for (long b = 0; b < n; b++) {
            long at = (t * B + b0 + b) * H;
            const float *restrict g = grad + at, *restrict y_t = y + at, *restrict a = after + b * row;
            float *restrict d_t = d + at;
            for (long j = 0; j < n_tanh; j++) d_t[j] = (g[j] + a[j]) * (1.0f - y_t[j] * y_t[j]);
            for (long j = n_tanh; j < H; j++) d_t[j] = g[j] + a[j];
        }
        multiply(p, H, H, d + (t * B + b0) * H, H, after, row, n);
    }
    free(p), free(after);
    return 0;
}

/* gates r, z, n: rz (T, B, 2H), candidate n and its recurrent part u (T, B, H) */
EXPORT int gru_forward(const float *x, const float *h, const float *weight, const float *bias, float *y, float *rz,
                       float *n, float *u, long T, long B, long H, long b0, long b1) {
    long n_clips = b1 - b0, row = panels(3 * H) * PANEL;
    float *p = packed(weight, 3 * H, H, H, 1), *from_h = malloc(n_clips * row * sizeof(float));
    if (!p || !from_h) return free(p), free(from_h), 1;
    for (long t = 0; t < T; t++) {
        const float *before = (t ? y + (t - 1) * B * H : h) + b0 * H;
        multiply(p, 3 * H, H, before, H, from_h, row, n_clips);
        for (long b = 0; b < n_clips; b++) {
            long at = t * B + b0 + b;
            const float *restrict x_t = x + at * 3 * H, *restrict g = from_h + b * row, *restrict h_t = before + b * H;
            float *restrict rz_t = rz + at * 2 * H, *restrict n_t = n + at * H, *restrict u_t = u + at * H,
                            *restrict y_t = y + at * H;
            for (long j = 0; j < 2 * H; j++) rz_t[j] = sigmoid1(x_t[j] + g[j] + bias[j]);
            for (long j = 0; j < H; j++) u_t[j] = g[2 * H + j] + bias[2 * H + j];
            for (long j = 0; j < H; j++) n_t[j] = tanh1(x_t[2 * H + j] + rz_t[j] * u_t[j]);
            for (long j = 0; j < H; j++) y_t[j] = n_t[j] + rz_t[H + j] * (h_t[j] - n_t[j]);
        }
    }
    free(p), free(from_h);
    return 0;
}

/* gradients of x (T, B, 3H), of the recurrent part of the candidate (T, B, H) and of the first state (B, H) */
EXPORT int gru_backward(const float *grad, const float *h, const float *weight, const float *y, const float *rz,
                        const float *n, const float *u, float *dx, float *du, float *first, long T, long B, long H,
                        long b0, long b1) {
    long n_clips = b1 - b0, row = panels(H) * PANEL;
    float *p = packed(weight, H, 3 * H, 1, H), *after = calloc(n_clips * row, sizeof(float));
    float *kept = calloc(n_clips * H, sizeof(float)), *d = malloc(n_clips * 3 * H * sizeof(float));
    if (!p || !after || !kept || !d) return free(p), free(after), free(kept), free(d), 1;
    for (long t = T - 1; t >= 0; t--) {
        for (long b = 0; b < n_clips; b++) {
            long at = t * B + b0 + b;
            const float *restrict r = rz + at * 2 * H, *restrict z = r + H, *restrict n_t = n + at * H,
                                  *restrict u_t = u + at * H, *restrict g = grad + at * H, *restrict a = after + b * row;
            const float *restrict h_t = t ? y + (at - B) * H : h + (b0 + b) * H;
            float *restrict k = kept + b * H, *restrict d_b = d + b * 3 * H, *restrict dx_t = dx + at * 3 * H,
                            *restrict du_t = du + at * H;
            for (long j = 0; j < H; j++) {
                float dh = g[j] + a[j] + k[j], dn = dh * (1.0f - z[j]) * (1.0f - n_t[j] * n_t[j]), d_u = dn * r[j];
                float dr = d_u * u_t[j] * (1.0f - r[j]), dz = dh * (h_t[j] - n_t[j]) * z[j] * (1.0f - z[j]);
                k[j] = dh * z[j];
                du_t[j] = d_b[2 * H + j] = d_u;
                dx_t[j] = d_b[j] = dr;
                dx_t[H + j] = d_b[H + j] = dz;
                dx_t[2 * H + j] = dn;
            }
        }
        multiply(p, H, 3 * H, d, 3 * H, after, row, n_clips);
    }
    for (long b = 0; b < n_clips; b++)
        for (long j = 0; j < H; j++) first[(b0 + b) * H + j] = after[b * row + j] + kept[b * H + j];
    free(p), free(after), free(kept), free(d);
    return 0;
}

/* gates i, f, g, o (T, B, 4H), and the tanh of the cells */
EXPORT int lstm_forward(const float *x, const float *h, const float *c, const float *weight, float *y, float *cells,
                        float *gates, float *squashed, long T, long B, long H, long b0, long b1) {
    long n = b1 - b0, row = panels(4 * H) * PANEL;
    float *p = packed(weight, 4 * H, H, H, 1), *from_h = malloc(n * row * sizeof(float));
    if (!p || !from_h) return free(p), free(from_h), 1;
    for (long t = 0; t < T; t++) {
        multiply(p, 4 * H, H, (t ? y + (t - 1) * B * H : h) + b0 * H, H, from_h, row, n);
        for (long b = 0; b < n; b++) {
            long at = t * B + b0 + b;
            const float *restrict x_t = x + at * 4 * H, *restrict r = from_h + b * row;
            const float *restrict before = t ? cells + (at - B) * H : c + (b0 + b) * H;
            float *restrict g = gates + at * 4 * H, *restrict c_t = cells + at * H, *restrict s = squashed + at * H,
                            *restrict y_t = y + at * H;
            for (long j = 0; j < 2 * H; j++) g[j] = sigmoid1(x_t[j] + r[j]);
            for (long j = 2 * H; j < 3 * H; j++) g[j] = tanh1(x_t[j] + r[j]);
            for (long j = 3 * H; j < 4 * H; j++) g[j] = sigmoid1(x_t[j] + r[j]);
            for (long j = 0; j < H; j++) c_t[j] = g[H + j] * before[j] + g[j] * g[2 * H + j];
            for (long j = 0; j < H; j++) s[j] = tanh1(c_t[j]);
            for (long j = 0; j < H; j++) y_t[j] = g[3 * H + j] * s[j];
        }
    }
    free(p), free(from_h);
    return 0;
}

/* gradients of the gates (T, B, 4H), of the first output and of the first cell (B, H) */
EXPORT int lstm_backward(const float *grad_y, const float *grad_c, const float *c, const float *weight,
                         const float *cells, const float *gates, const float *squashed, float *d, float *first_h,
                         float *first_c, long T, long B, long H, long b0, long b1) {
    long n = b1 - b0, row = panels(H) * PANEL;
    float *p = packed(weight, H, 4 * H, 1, H), *after = calloc(n * row, sizeof(float));
    float *kept = calloc(n * H, sizeof(float));
    if (!p || !after || !kept) return free(p), free(after), free(kept), 1;
    for (long t = T - 1; t >= 0; t--) {
        for (long b = 0; b < n; b++) {
            long at = t * B + b0 + b;
            const float *restrict i = gates + at * 4 * H, *restrict f = i + H, *restrict g = f + H, *restrict o = g + H;
            const float *restrict s = squashed + at * H, *restrict gy = grad_y + at * H, *restrict gc = grad_c + at * H,
                                  *restrict a = after + b * row;
            const float *restrict before = t ? cells + (at - B) * H : c + (b0 + b) * H;
            float *restrict k = kept + b * H, *restrict d_t = d + at * 4 * H;
            for (long j = 0; j < H; j++) {
                float dh = gy[j] + a[j], dc = gc[j] + k[j] + dh * o[j] * (1.0f - s[j] * s[j]);
                k[j] = dc * f[j];
                d_t[j] = dc * g[j] * i[j] * (1.0f - i[j]);
                d_t[H + j] = dc * before[j] * f[j] * (1.0f - f[j]);
                d_t[2 * H + j] = dc * i[j] * (1.0f - g[j] * g[j]);
                d_t[3 * H + j] = dh * s[j] * o[j] * (1.0f - o[j]);
            }
        }
        multiply(p, H, 4 * H, d + (t * B + b0) * 4 * H, 4 * H, after, row, n);
    }
    for (long b = 0; b < n; b++)
        for (long j = 0; j < H; j++) {
            first_h[(b0 + b) * H + j] = after[b * row + j];
            first_c[(b0 + b) * H + j] = kept[b * H + j];
        }
    free(p), free(after), free(kept);
    return 0;
}
