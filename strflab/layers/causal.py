"""The contract of every layer: causal in time, and the same answer whether sound comes whole or in pieces.

A `CausalLayer` maps (B, C, F, T) to (B, C', F', T). `stream(x, state)` does the same for the next frames of a
running sound and returns the state to hand over with the frames after those; the state is None at the start and
is otherwise whatever nest of tensors the layer needs. `memory` counts the input frames that an output frame
depends on, its own included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CausalLayer(nn.Module):
    """Base of all layers; as it stands, one that treats each frame by itself.

    Called with a sound `x` (B, C, F, T) it returns (B, C', F', T); `stream` does the same piece by piece.
    """

    memory: float = 1

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the output for the frames `x` that follow those already heard, and the new state.

        Parameters
        ----------
        x : (B, C, F, T) frames
        state : what the call before returned; None at the start of a sound
        """
        return self(x), None


class Chain(nn.Sequential):
    """Layers in a row; plain modules of torch among them must act frame by frame."""

    @property
    def memory(self) -> float:
        """Input frames that an output frame depends on."""
        return 1 + sum(layer_memory(layer) - 1 for layer in self)

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the output for the next frames, and the layers' states.

        Parameters
        ----------
        x : (B, C, F, T) frames
        state : what the call before returned; None at the start of a sound
        """
        states = [None] * len(self) if state is None else list(state)
        for i, layer in enumerate(self):
            x, states[i] = stream(layer, x, states[i])
        return x, states


def stream(layer: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Stream through `layer`; a plain module of torch is taken to act frame by frame."""
    if hasattr(layer, "stream"):
        return layer.stream(x, state)  # type: ignore[operator]
    return layer(x), None


def layer_memory(layer: nn.Module) -> float:
    """Return the memory of `layer` in frames, 1 for a plain module of torch."""
    return float(getattr(layer, "memory", 1))


def with_past(x: Tensor, n: int, past: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return `x` (..., T) behind the `n` frames heard before it (zeros at first), and the last `n` frames of both."""
    if past is None:
        past = x.new_zeros(*x.shape[:-1], n)
    x = torch.cat([past, x], -1)  # (..., n + T)
    return x, x[..., x.shape[-1] - n :]
