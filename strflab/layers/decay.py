"""Leaky integration, exact at any time constant.

    y[t] = a y[t - 1] + x[t]

`exponential_scan` computes this for all frames at once: within blocks of frames as a product with the triangular
matrix of the powers of a, and between blocks by the same recursion on the blocks' last frames. Nothing is cut, so a
time constant may grow during training as long as it likes. `recursive_scan` is the same, one frame after another, which
in float32 on a CPU a compiled kernel does (`strflab.layers.native`), where there is a compiler.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers import native
from strflab.layers.causal import CausalLayer
from strflab.validation import boolean, integer, number

BLOCK = 32  # frames
SHORT = 8  # frames


def exponential_scan(x: Tensor, a: Tensor, initial: Tensor) -> Tensor:
    """Return y with ``y[t] = a y[t-1] + x[t]``.

    Parameters
    ----------
    x : (B, H, T) input
    a : (H,) coefficients in [0, 1)
    initial : (B, H) the value y[-1] before the first frame
    """
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 powers would drift over long time constants
        x, a, initial = x.to(a.dtype), a, initial.to(a.dtype)
        if native.usable(x, a, initial):
            return _Scan.apply(x, a, initial)
        return blockwise_scan(x, a, initial)


class _Scan(torch.autograd.Function):
    """The recursion itself, several rows at once, compiled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, initial: Tensor) -> Tensor:
        y = x.new_empty(x.shape)
        tensors = (x.contiguous(), a.contiguous(), initial.contiguous(), y)
        native.run("decay_forward", *tensors, x.shape[2], len(a), over=initial.numel())
        ctx.save_for_backward(x, a, initial, y)  # not copies, which would lead to no derivatives of their own
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, a, initial, y = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            return tuple(native.gradients(blockwise_scan, (x, a, initial), ctx.needs_input_grad, grad))
        dx, first, da = torch.empty_like(y), y.new_empty(initial.shape), y.new_empty(initial.shape)
        tensors = (grad.contiguous(), a.contiguous(), initial.contiguous(), y, dx, first, da)
        native.run("decay_backward", *tensors, y.shape[2], len(a), over=initial.numel())
        return dx, da.sum(0), first


def blockwise_scan(x: Tensor, a: Tensor, initial: Tensor) -> Tensor:
    """`exponential_scan` in operations of torch, on tensors of one type.

    Parameters
    ----------
    x, a, initial : as for `exponential_scan`
    """
    blocks = _in_blocks(x)  # (B, H, n, BLOCK)
    within = torch.einsum("bhnj,hij->bhni", blocks, decay_matrix(a, BLOCK))
    before = _before_blocks(within[..., -1], a**BLOCK, initial)  # (B, H, n)
    fading = a.unsqueeze(-1) * powers(a, BLOCK)  # (H, BLOCK)
    y = within + before.unsqueeze(-1) * fading.unsqueeze(-2)
    if torch.compiler.is_compiling():  # a slice would tie the traced program to lengths of one remainder
        return y.flatten(-2).index_select(-1, torch.arange(x.shape[-1], device=x.device))
    return y.flatten(-2)[..., : x.shape[-1]]


def scan(x: Tensor, a: Tensor, initial: Tensor) -> Tensor:
    """`exponential_scan`, or for a handful of frames the recursion, which is then faster."""
    # a traced number of frames is a symbol, on which nothing may depend
    short = not torch.compiler.is_compiling() and x.shape[-1] <= SHORT
    return recursive_scan(x, a, initial) if short else exponential_scan(x, a, initial)


def recursive_scan(x: Tensor, a: Tensor, initial: Tensor) -> Tensor:
    """`exponential_scan`, one frame after another."""
    frames, y = [], initial.to(a.dtype)
    for frame in x.unbind(-1):
        y = a * y + frame
        frames.append(y)
    return torch.stack(frames, -1)


class LearnableExponentialDecay(CausalLayer):
    """One leaky integrator a channel, with a learnable time constant: the memory of the dynamic network.

        y[t] = (1 - 1/tau) y[t - 1] + g x[t],    tau = 1 + d^2 frames,    g = 1/tau or 1

    It starts in the steady state of its first frame, so a constant input gives a constant output. Rahman, Willmore,
    King & Harper 2019, doi 10.1371/journal.pcbi.1006618.

    Parameters
    ----------
    n : channels
    init_tau : time constant at the start, frames (>= 1; 1 is no memory)
    decay_input : True: g = 1/tau, gain 1 at DC; False: g = 1

    Examples
    --------
    >>> LearnableExponentialDecay(2, init_tau=5.0).tau
    tensor([5., 5.], grad_fn=<AddBackward0>)
    """

    memory = float("inf")

    def __init__(self, n: int, init_tau: float = 2.0, decay_input: bool = True):
        super().__init__()
        tau = number("init_tau", init_tau, at_least=1)
        self.d = nn.Parameter(torch.full((integer("n", n),), (tau - 1) ** 0.5))
        self.decay_input = boolean("decay_input", decay_input)

    @property
    def tau(self) -> Tensor:
        """Time constants (n,), frames."""
        return 1 + self.d**2

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        tau = self.tau
        x = x.squeeze(2)  # (B, n, T)
        if state is None:
            state = x[..., 0] if self.decay_input else x[..., 0] * tau
        y = scan(x / tau.unsqueeze(-1) if self.decay_input else x, 1 - 1 / tau, state)
        return y.unsqueeze(2), y[..., -1]


def _before_blocks(last: Tensor, a: Tensor, initial: Tensor) -> Tensor:
    """The value with which each block begins, (B, H, n), from what each adds by its end and its decay `a`."""
    n = last.shape[-1]
    if not torch.compiler.is_compiling() and n > BLOCK:  # a matrix of all pairs of blocks would grow as n^2
        after = exponential_scan(last, a, initial)
        return torch.cat([initial.unsqueeze(-1), after[..., :-1]], -1)
    carried = torch.einsum("bhj,hij->bhi", last, decay_matrix(a, n, after=1))
    return carried + initial.unsqueeze(-1) * powers(a, n)


def _in_blocks(x: Tensor) -> Tensor:
    """(..., T) -> (..., n, BLOCK), zeros at the end."""
    n_frames = x.shape[-1]
    if not torch.compiler.is_compiling():
        return F.pad(x, (0, -n_frames % BLOCK)).unflatten(-1, (-1, BLOCK))
    # the padding of a symbolic length would tie the traced program to lengths of one remainder: gather instead
    frame = torch.arange(n_frames // BLOCK + 2, device=x.device)[:, None] * BLOCK + torch.arange(BLOCK, device=x.device)
    return torch.where(frame < n_frames, x[..., frame.clamp(max=n_frames - 1)], 0)


def decay_matrix(a: Tensor, n: int, after: int = 0) -> Tensor:
    """Lower-triangular (..., n, n) matrix of ``a^(i - j - after)``, zero where that power is negative."""
    i = torch.arange(n, device=a.device)
    lag = i[:, None] - i[None, :] - after
    return torch.where(lag >= 0, powers(a, n)[..., lag.clamp(min=0)], 0)


def powers(a: Tensor, n: int) -> Tensor:
    """The powers 0 to n - 1 of a (...): (..., n)."""
    return a.unsqueeze(-1) ** torch.arange(n, device=a.device)
