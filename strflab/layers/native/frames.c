/* What acts on each frame by itself: LayerNorm over few channels (strflab/layers/norm.py) and the parametric softplus
   (strflab/layers/activations.py). Gradients of parameters come a clip or row, to be summed by the caller. */
#include <math.h>

#include "vector.h"

#define CHUNK 64 /* frames at once */

/* of n frames over the channels: the mean, and one over the standard deviation */
INLINE void moments(const float *x, long by_channel, long C, long n, float eps, float *restrict mean,
                    float *restrict scale) {
    memset(mean, 0, CHUNK * sizeof(float)), memset(scale, 0, CHUNK * sizeof(float));
    for (long c = 0; c < C; c++)
        for (long t = 0; t < n; t++) mean[t] += x[c * by_channel + t];
    for (long t = 0; t < CHUNK; t++) mean[t] /= (float)C;
    for (long c = 0; c < C; c++)
        for (long t = 0; t < n; t++) {
            float d = x[c * by_channel + t] - mean[t];
            scale[t] += d * d;
        }
    for (long t = 0; t < CHUNK; t++) scale[t] = 1.0f / sqrtf(scale[t] / (float)C + eps);
}

/* x and y (B, C, F, T) of the same strides, the frames adjacent */
EXPORT int norm_forward(const float *x, const float *weight, const float *bias, float *y, long C, long F, long T,
                        long by_clip, long by_channel, long by_band, float eps, long b0, long b1) {
    for (long b = b0; b < b1; b++)
        for (long f = 0; f < F; f++)
            for (long start = 0; start < T; start += CHUNK) {
                long n = T - start < CHUNK ? T - start : CHUNK, at = b * by_clip + f * by_band + start;
                float mean[CHUNK], scale[CHUNK];
                moments(x + at, by_channel, C, n, eps, mean, scale);
                for (long c = 0; c < C; c++) {
                    const float *restrict from = x + at + c * by_channel;
                    float *restrict to = y + at + c * by_channel;
                    for (long t = 0; t < n; t++) to[t] = (from[t] - mean[t]) * scale[t] * weight[c] + bias[c];
                }
            }
    return 0;
}

/* gradients of x, and a clip's shares of those of weight and bias: parts (B, 2, C), zero at first */
EXPORT int norm_backward(const float *grad, const float *x, const float *weight, float *dx, float *parts, long C, long F,
                         long T, long by_clip, long by_channel, long by_band, float eps, long b0, long b1) {
    for (long b = b0; b < b1; b++)
        for (long f = 0; f < F; f++)
            for (long start = 0; start < T; start += CHUNK) {
                long n = T - start < CHUNK ? T - start : CHUNK, at = b * by_clip + f * by_band + start;
                float mean[CHUNK], scale[CHUNK], along[CHUNK] = {0}, level[CHUNK] = {0};
                moments(x + at, by_channel, C, n, eps, mean, scale);
                for (long c = 0; c < C; c++) {
                    const float *restrict g = grad + at + c * by_channel, *restrict from = x + at + c * by_channel;
                    float products[CHUNK] = {0}, grads[CHUNK] = {0};
                    for (long t = 0; t < n; t++) {
                        products[t] = g[t] * (from[t] - mean[t]) * scale[t];
                        grads[t] = g[t];
                    }
                    v8 to_weight = all(0), to_bias = all(0);
                    for (long t = 0; t < CHUNK; t += 8) to_weight += load(products + t), to_bias += load(grads + t);
                    parts[2 * b * C + c] += sum8(to_weight), parts[(2 * b + 1) * C + c] += sum8(to_bias);
                    for (long t = 0; t < CHUNK; t++) {
                        along[t] += weight[c] * products[t] / (float)C;
                        level[t] += weight[c] * grads[t] / (float)C;
                    }
                }
                for (long c = 0; c < C; c++) {
                    const float *restrict g = grad + at + c * by_channel, *restrict from = x + at + c * by_channel;
                    float *restrict to = dx + at + c * by_channel;
                    for (long t = 0; t < n; t++) {
                        float z = (from[t] - mean[t]) * scale[t];
                        to[t] = scale[t] * (g[t] * weight[c] - level[t] - z * along[t]);
                    }
                }
            }
    return 0;
}

INLINE float softplus1(float z) { return at_least(z, 0.0f) + log1p1(exp1(z < 0 ? z : -z)); }

/* y = softplus(slope x) / slope + baseline of rows (B N, T), a pair of parameters a neuron */
EXPORT int softplus_forward(const float *x, const float *slope, const float *baseline, float *y, long N, long T, long r0,
                            long r1) {
    for (long r = r0; r < r1; r++) {
        const float *restrict from = x + r * T, s = slope[r % N], a = baseline[r % N], inverse = 1.0f / s;
        float *restrict to = y + r * T;
        for (long t = 0; t < T; t++) to[t] = softplus1(s * from[t]) * inverse + a;
    }
    return 0;
}

/* gradient of x, and a row's shares of those of slope and baseline: parts (B N, 2) */
EXPORT int softplus_backward(const float *grad, const float *x, const float *slope, float *dx, float *parts, long N,
                             long T, long r0, long r1) {
    for (long r = r0; r < r1; r++) {
        const float *restrict from = x + r * T, *restrict g = grad + r * T, s = slope[r % N], inverse = 1.0f / s;
        float *restrict to = dx + r * T;
        v8 to_slope = all(0), to_baseline = all(0);
        for (long start = 0; start < T; start += CHUNK) {
            long n = T - start < CHUNK ? T - start : CHUNK;
            float products[CHUNK] = {0}, grads[CHUNK] = {0};
            for (long t = 0; t < n; t++) {
                float v = from[start + t], z = s * v, e = exp1(z < 0 ? z : -z), open = (z < 0 ? e : 1.0f) / (1.0f + e);
                float d = grads[t] = g[start + t];
                to[start + t] = d * open;
                products[t] = d * (open * v - (at_least(z, 0.0f) + log1p1(e)) * inverse) * inverse;
            }
            for (long t = 0; t < CHUNK; t += 8) to_slope += load(products + t), to_baseline += load(grads + t);
        }
        parts[2 * r] = sum8(to_slope), parts[2 * r + 1] = sum8(to_baseline);
    }
    return 0;
}
