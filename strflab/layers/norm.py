"""Normalisation over channels, never over time: each frame is normalised by itself, so the future cannot leak in."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers import native
from strflab.layers.causal import CausalLayer
from strflab.validation import integer

MANY = 16  # frames for which a kernel of our own pays


class CausalLayerNorm(CausalLayer):
    """LayerNorm (Ba, Kiros & Hinton 2016, doi 10.48550/arXiv.1607.06450) over one axis of (B, C, F, T).

    Parameters
    ----------
    size : length of that axis
    dim : which axis: 1 (channels) or 2 (bands)
    """

    def __init__(self, size: int, dim: int = 1):
        super().__init__()
        self.dim = integer("dim", dim, 1, 2)
        self.norm = nn.LayerNorm(integer("size", size))

    def forward(self, x: Tensor) -> Tensor:
        parameters = self.norm.weight, self.norm.bias
        # torch's kernel wants the axis innermost, where a row of a few channels leaves it mostly idle
        if native.usable(x, *parameters) and x.shape[-1] >= MANY and x.stride(-1) == 1 and x.dim() == 4:
            return _Norm.apply(x, *parameters, self.dim, self.norm.eps)
        return _norm(x, *parameters, self.dim, self.norm.eps)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, dim: int, eps: float) -> Tensor:
    return F.layer_norm(x.movedim(dim, -1), weight.shape, weight, bias, eps).movedim(-1, dim)


class _Norm(torch.autograd.Function):
    """`_norm` of (B, C, F, T) whose frames are adjacent, with vectors over frames."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dim: int, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, bias)  # not a copy, which would lead to no derivative of its own
        ctx.dim, ctx.eps = dim, eps
        x = _dense(x)
        y = torch.empty_like(x)
        native.run("norm_forward", x, weight, bias, y, *_layout(x, dim), eps, over=len(x))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            needed = ctx.needs_input_grad[:3]
            found = native.gradients(lambda x, w, b: _norm(x, w, b, ctx.dim, ctx.eps), (x, weight, bias), needed, grad)
            return *found, None, None
        x = _dense(x)
        dx, parts = torch.empty_like(x), x.new_zeros(len(x), 2, len(weight))
        if grad.stride() != x.stride():
            grad = torch.empty_like(x).copy_(grad)
        native.run("norm_backward", grad, x, weight, dx, parts, *_layout(x, ctx.dim), ctx.eps, over=len(x))
        return dx, *parts.sum(0), None, None


def _dense(x: Tensor) -> Tensor:
    """`x` itself, or a copy without gaps."""
    return x if torch.empty_like(x).stride() == x.stride() else x.contiguous()


def _layout(x: Tensor, dim: int) -> tuple[int, ...]:
    """Sizes of channels (axis `dim`), bands and frames, and the strides of clips, channels and bands."""
    other = 3 - dim
    return x.shape[dim], x.shape[other], x.shape[3], x.stride(0), x.stride(dim), x.stride(other)
