"""Mamba: a state space whose step, input and output depend on what it hears.

    h[t, e] = exp(delta[t, e] A[e]) h[t-1, e] + delta[t, e] u[t, e] B[t],    y[t, e] = C[t] . h[t, e] + D[e] u[t, e]

Here u is the input after a projection, a short causal convolution and a SiLU, and delta, B and C are read from u; a
second projection of the input, through a SiLU, gates y. Gu & Dao 2023, doi 10.48550/arXiv.2312.00752. The weights, and
how they start, are those of the block of the mambapy package; the scan is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mambapy.mamba import MambaBlock, MambaConfig
from torch import Tensor

from strflab.layers import native
from strflab.layers.loops import frame_by_frame, hand_written, loop
from strflab.layers.recurrent import Backbone
from strflab.validation import integer

BLOCK = 32  # frames whose states are at hand at once


class Mamba(Backbone):
    """A Mamba block.

    Parameters
    ----------
    size : width H of input and output
    state_size : states N a channel
    expand : channels inside the block are `expand` times H
    kernel_size : length of the convolution, frames

    Examples
    --------
    >>> Mamba(8)(torch.zeros(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(self, size: int, state_size: int = 16, expand: int = 2, kernel_size: int = 4):
        super().__init__(size)
        self.kernel_size = integer("kernel_size", kernel_size, maximum=4096)
        config = MambaConfig(
            d_model=self.size,
            n_layers=1,
            d_state=integer("state_size", state_size, maximum=4096),
            expand_factor=integer("expand", expand, maximum=64),
            d_conv=self.kernel_size,
        )
        self.block = MambaBlock(config)
        self.split = (config.dt_rank, config.d_state, config.d_state)

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        block = self.block
        past, h = (None, None) if state is None else state
        u, gate = block.in_proj(x.transpose(0, 1)).chunk(2, -1)  # (T, B, E)
        u, past = self._convolve(u, past)
        u = F.silu(u)
        low, B, C = block.x_proj(u).split(self.split, -1)
        delta = F.softplus(block.dt_proj(low))
        with torch.autocast(x.device.type, enabled=False):  # the states keep the precision of the weights
            A = -torch.exp(block.A_log)
            u, delta, B, C = (v.to(A.dtype) for v in (u, delta, B, C))
            y, h = selective_scan(u, delta, A, B, C, A.new_zeros(x.shape[0], *A.shape) if h is None else h)
            y = y + block.D * u
        return block.out_proj(y * F.silu(gate)).transpose(0, 1), (past, h)

    def _convolve(self, u: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """The convolution of each channel of u (T, B, E) with its own kernel, and the frames to remember."""
        weight, y = self.block.conv1d.weight.squeeze(1), self.block.conv1d.bias  # (E, K) and (E,)
        n_frames = u.shape[0]
        if past is None:
            past = u.new_zeros(self.kernel_size - 1, *u.shape[1:])
        u = torch.cat([past, u])
        for k in range(self.kernel_size):
            y = y + weight[:, k] * u[k : k + n_frames]
        return y, u[n_frames:]


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``y[t] = C[t] . h[t]`` (T, B, E) and the last h.

    The states of only one block of frames exist at a time, forward and backward: memory grows with T B E, not T B E N.

    Parameters
    ----------
    u, delta : (T, B, E) input and step
    A : (E, N)
    B, C : (T, B, N)
    h : (B, E, N) the state before the first frame
    """
    if frame_by_frame():

        def step(h: Tensor, frame: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            u, delta, B, C = frame
            h = torch.exp(delta.unsqueeze(-1) * A) * h + (delta * u).unsqueeze(-1) * B.unsqueeze(-2)
            return h, (h * C.unsqueeze(-2)).sum(-1)

        return loop(step, h, (u, delta, B, C))
    y, starts = _scan(*(v.contiguous() for v in (u, delta, A, B, C, h)))
    return y, starts[-1]


def _scan_forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs, and the states before each block of frames and after the last."""
    y, starts = _scan_forward_shapes(u, delta, A, B, C, h)
    starts[0] = h
    if native.usable(u, delta, A, B, C, h):
        native.run("selective_forward", u, delta, A, B, C, y, starts, *u.shape, A.shape[1], BLOCK, over=u.shape[1])
        return y, starts
    for i, (u_i, delta_i, B_i, C_i, y_i) in enumerate(zip(*(v.split(BLOCK) for v in (u, delta, B, C, y)))):
        _, states = _states(u_i, delta_i, A, B_i, starts[i])
        torch.matmul(states[1:], C_i.unsqueeze(-1), out=y_i.unsqueeze(-1))
        starts[i + 1] = states[-1]
    return y, starts


def _scan_forward_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), h.new_empty((u.shape[0] + BLOCK - 1) // BLOCK + 1, *h.shape)


def _scan_backward(
    grad: Tensor, dh: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor
) -> list[Tensor]:
    """Gradients of u, delta, A, B, C and of the first state, from those of y and of the last state."""
    du, d_delta, dA, dB, dC, after = gradients = _scan_backward_shapes(grad, dh, u, delta, A, B, C, starts)
    if native.usable(grad, dh, u, delta, A, B, C):
        by_clip = A.new_empty(u.shape[1], *A.shape)  # of which the gradient of A is the sum
        tensors = (grad, dh, u, delta, A, B, C, starts, du, d_delta, by_clip, dB, dC, after)
        native.run("selective_backward", *tensors, *u.shape, A.shape[1], BLOCK, over=u.shape[1])
        torch.sum(by_clip, 0, out=dA)
        return gradients
    dA.zero_()
    after.copy_(dh)  # what reaches a state from the frame after it
    views = (v.split(BLOCK) for v in (u, delta, B, C, grad, du, d_delta, dB, dC))
    for start, (u_i, delta_i, B_i, C_i, grad_i, du_i, d_delta_i, dB_i, dC_i) in zip(
        reversed(starts[:-1].unbind(0)), reversed(list(zip(*views)))
    ):
        decay, states = _states(u_i, delta_i, A, B_i, start)
        d = grad_i.unsqueeze(-1) * C_i.unsqueeze(-2)  # (t, B, E, N): of the states
        for d_t, decay_t in zip(reversed(d.unbind(0)), reversed(decay.unbind(0))):
            torch.mul(d_t.add_(after), decay_t, out=after)
        torch.matmul(grad_i.unsqueeze(-2), states[1:], out=dC_i.unsqueeze(-2))
        torch.matmul((delta_i * u_i).unsqueeze(-2), d, out=dB_i.unsqueeze(-2))
        from_input = torch.matmul(d, B_i.unsqueeze(-1)).squeeze(-1)
        torch.mul(from_input, delta_i, out=du_i)
        d.mul_(decay).mul_(states[:-1])  # of delta A
        torch.mul(from_input, u_i, out=d_delta_i).add_((d * A).sum(-1))
        dA += d.mul_(delta_i.unsqueeze(-1)).sum((0, 1))
    return gradients


def _scan_backward_shapes(
    grad: Tensor, dh: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor
) -> list[Tensor]:
    return [v.new_empty(v.shape) for v in (u, delta, A, B, C, dh)]


def _states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Of a block: the decay of each frame (t, B, E, N), and the states, the one before it included (t + 1, B, E, N)."""
    decay = (delta.unsqueeze(-1) * A).exp_()
    states = decay.new_empty(len(u) + 1, *start.shape)
    states[0] = start
    torch.mul((delta * u).unsqueeze(-1), B.unsqueeze(-2), out=states[1:])
    for before, state, decay_t in zip(states.unbind(0), states[1:].unbind(0), decay.unbind(0)):
        state.addcmul_(decay_t, before)
    return decay, states


def _scan_save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-1], output[1])


def _scan_gradients(
    backward: Callable[..., list[Tensor]], ctx: Any, grad: Tensor, grad_starts: Tensor
) -> tuple[Tensor, ...]:
    return tuple(backward(grad.contiguous(), grad_starts[-1].contiguous(), *ctx.saved_tensors))


_scan = hand_written(
    "selective_scan",
    _scan_forward,
    _scan_forward_shapes,
    _scan_backward,
    _scan_backward_shapes,
    _scan_save,
    _scan_gradients,
)
