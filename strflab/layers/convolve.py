"""The convolution over bands and frames of every model that has one, fast where channels are few."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from strflab.layers import native

MANY = 16  # frames of the output for which our own kernel is made
FEW = 32  # output channels up to which it is the faster one
GROUP = 6  # output channels that it does at once: as in conv.c


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the valid convolution (B, C', F', T') of (B, C, F, T) with (C', C, K_F, K_T) and one constant a channel.

    torch's convolution on a CPU fills its vector registers with channels, our kernel with frames.

    Parameters
    ----------
    x : (B, C, F, T)
    weight : (C', C, K_F, K_T)
    bias : (C',), or None
    """
    if native.usable(x, weight) and len(weight) <= FEW and x.shape[-1] - weight.shape[-1] + 1 >= MANY:
        return _Convolution.apply(x, weight, weight.new_zeros(len(weight)) if bias is None else bias)
    return _convolve(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.shape[2] == weight.shape[2] == 1:
        return F.conv1d(x.squeeze(2), weight.squeeze(2), bias).unsqueeze(2)
    return F.conv2d(x, weight, bias)


class _Convolution(torch.autograd.Function):
    """`_convolve` by a kernel of our own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)  # not copies, which would lead to no derivatives of their own
        return _forward(x.contiguous(), weight.contiguous(), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            return tuple(native.gradients(_convolve, (x, weight, bias), ctx.needs_input_grad, grad))
        x, weight, grad = x.contiguous(), weight.contiguous(), grad.contiguous()
        height, n_lags = weight.shape[2:]
        dx = dw = db = None
        if ctx.needs_input_grad[0]:  # the convolution with the kernel turned around
            turned = weight.transpose(0, 1).flip(2, 3).contiguous()
            edges = (n_lags - 1, n_lags - 1, height - 1, height - 1)
            dx, nothing = torch.empty_like(x), weight.new_zeros(weight.shape[1])
            for grad_of_clip, dx_of_clip in zip(grad.split(1), dx.split(1)):  # one padded copy at a time
                _run(F.pad(grad_of_clip, edges), turned, nothing, dx_of_clip)
        if ctx.needs_input_grad[1]:
            dw = torch.empty_like(weight)
            native.run("conv_weight", grad, x, dw, *x.shape, *_sizes(weight), over=weight.shape[1] * height)
        if ctx.needs_input_grad[2]:
            db = grad.sum((0, 2, 3))
        return dx, dw, db


def _forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    n_clips, _, n_bands, n_frames = x.shape
    n_out, height, n_lags = _sizes(weight)
    y = x.new_empty(n_clips, n_out, n_bands - height + 1, n_frames - n_lags + 1)
    _run(x, weight, bias, y)
    return y


def _run(x: Tensor, weight: Tensor, bias: Tensor, y: Tensor) -> None:
    """The kernel's convolution into y; all are contiguous."""
    pieces = len(x) * y.shape[2] * -(-len(weight) // GROUP)
    native.run("conv_forward", x, weight, bias, y, *x.shape[1:], *_sizes(weight), over=pieces)


def _sizes(weight: Tensor) -> tuple[int, int, int]:
    """Output channels, bands and lags of a kernel."""
    return weight.shape[0], weight.shape[2], weight.shape[3]
