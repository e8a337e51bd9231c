"""The temporal backbones of StateNet: one contract, and the gated recurrent networks.

A backbone maps features (B, T, H) to features (B, T, H) of the same width, frame after frame, and `stream` does the
same for the next frames of a running sound. Elman 1990, doi 10.1207/s15516709cog1402_1; Hochreiter & Schmidhuber
1997, doi 10.1162/neco.1997.9.8.1735 (LSTM); Cho et al. 2014, doi 10.48550/arXiv.1406.1078 (GRU):

    RNN     h = tanh(W x + U h)
    GRU     h = n + z (h - n),  n = tanh(W_n x + r (U_n h)),  r, z = sigmoid(W x + U h)
    LSTM    h = o tanh(c),  c = f c + i g,  g = tanh(W_g x + U_g h),  i, f, o = sigmoid(W x + U h)

The other backbones have files of their own: `lmu`, `s4`, `mamba`. `make_backbone` makes any of them by name.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers import native
from strflab.layers.causal import CausalLayer
from strflab.layers.config import Configurable, make_part
from strflab.layers.loops import frame_by_frame, gru_recurrence, loop, lstm_recurrence, tanh_recurrence
from strflab.validation import integer


class Backbone(CausalLayer, Configurable):
    """Base of the backbones, which map (B, T, H) to (B, T, H).

    Parameters
    ----------
    size : width H of input and output
    """

    memory = float("inf")

    def __init__(self, size: int):
        super().__init__()
        self.size = integer("size", size)

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the output for the frames `x` (B, T, H) that follow those already heard, and the new state.

        Parameters
        ----------
        x : (B, T, H) frames
        state : what the call before returned; None at the start of a sound
        """
        raise NotImplementedError


class Recurrence(CausalLayer):
    """A backbone as a layer, whose features are all channels and bands of a frame: (B, C, F, T) -> (B, C F, 1, T)."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    @property
    def memory(self) -> float:  # type: ignore[override]
        """That of the backbone."""
        return self.backbone.memory

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x.flatten(1, 2).transpose(1, 2)).transpose(1, 2).unsqueeze(2)

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.backbone.stream(x.flatten(1, 2).transpose(1, 2), state)
        return y.transpose(1, 2).unsqueeze(2), state


class _Gated(Backbone):
    """The weights of a recurrent network of torch, with its names and shapes; the state is (h,) or (h, c), (B, H)."""

    n_gates: int
    n_states = 1
    kernel: Any  # torch's own, which cuDNN runs

    def __init__(self, size: int):
        super().__init__(size)
        bound, width = 1 / math.sqrt(self.size), self.n_gates * self.size
        self.weight_ih = nn.Parameter(torch.empty(width, self.size))
        self.weight_hh = nn.Parameter(torch.empty(width, self.size))
        self.bias_ih = nn.Parameter(torch.empty(width))
        self.bias_hh = nn.Parameter(torch.empty(width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        with torch.autocast(x.device.type, enabled=False):  # a state rounded at every frame would drift
            x = x.to(self.weight_ih.dtype)
            if state is None:
                state = (x.new_zeros(x.shape[0], self.size),) * self.n_states
            if frame_by_frame():
                y, state = loop(self.step, state, (self.project(x),))
                return y.transpose(0, 1), state
            if self.prefers_kernel(x):
                return self.run_kernel(x, state)
            y, state = self.run(self.project(x), state)
            return y.transpose(0, 1), state

    def prefers_kernel(self, x: Tensor) -> bool:
        """Whether torch's kernel is the fastest; a compiler would unroll it.

        Parameters
        ----------
        x : (B, T, H) input
        """
        return x.is_cuda and not torch.compiler.is_compiling()

    def project(self, x: Tensor) -> Tensor:
        """The input's part of the gates, (B, T, H) -> (T, B, gates H), with both biases.

        Parameters
        ----------
        x : (B, T, H) input
        """
        return F.linear(x.transpose(0, 1), self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, state: Any, inputs: tuple[Tensor]) -> tuple[Any, Tensor]:
        """One frame: the next state, and the output (B, H).

        Parameters
        ----------
        state : (h,) or (h, c), (B, H) each
        inputs : what `project` gives for the frame, in a tuple
        """
        raise NotImplementedError

    def run(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """All frames: what `step` gives.

        Parameters
        ----------
        x : (T, B, gates H), what `project` gives
        state : as for `step`
        """
        raise NotImplementedError

    def run_kernel(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """All frames by torch's kernel.

        Parameters
        ----------
        x : (B, T, H) input
        state : as for `step`
        """
        states: Any = [s.unsqueeze(0) for s in state] if self.n_states > 1 else state[0].unsqueeze(0)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        # with biases, one layer, no dropout, one direction, batch first
        y, *states = type(self).kernel(x, states, weights, True, 1, 0.0, self.training, False, True)
        return y, tuple(s.squeeze(0) for s in states)


class GRU(_Gated):
    """Gated recurrent unit, with torch's weights and numbers.

    Parameters
    ----------
    size : width H

    Examples
    --------
    >>> GRU(8)(torch.zeros(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    n_gates = 3
    kernel = torch.gru

    def project(self, x: Tensor) -> Tensor:
        return F.linear(x.transpose(0, 1), self.weight_ih, self.bias_ih)

    def step(self, state: tuple[Tensor], inputs: tuple[Tensor]) -> tuple[tuple[Tensor], Tensor]:
        (h,), (x,) = state, inputs
        recurrent = F.linear(h, self.weight_hh, self.bias_hh)
        (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, -1), recurrent.chunk(3, -1)
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        h = n + torch.sigmoid(x_z + h_z) * (h - n)
        return (h,), h

    def run(self, x: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        y = gru_recurrence(x, state[0], self.weight_hh, self.bias_hh)
        return y, (y[-1],)


class LSTM(_Gated):
    """Long short-term memory, with torch's weights and numbers.

    Parameters
    ----------
    size : width H
    """

    n_gates = 4
    n_states = 2
    kernel = torch.lstm

    def prefers_kernel(self, x: Tensor) -> bool:
        return not torch.compiler.is_compiling() and not native.usable(x)  # fast on a CPU too

    def step(self, state: tuple[Tensor, Tensor], inputs: tuple[Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (h, c), (x,) = state, inputs
        i, f, g, o = F.linear(h, self.weight_hh, None).add(x).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h, c), h

    def run(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, c = lstm_recurrence(x, *state, self.weight_hh)
        return y, (y[-1], c[-1])


class RNN(_Gated):
    """The plain ("vanilla") recurrent network with tanh, with torch's weights and numbers.

    Parameters
    ----------
    size : width H
    """

    n_gates = 1
    kernel = torch.rnn_tanh

    def step(self, state: tuple[Tensor], inputs: tuple[Tensor]) -> tuple[tuple[Tensor], Tensor]:
        h = torch.tanh(inputs[0] + F.linear(state[0], self.weight_hh))
        return (h,), h

    def run(self, x: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        y = tanh_recurrence(x, state[0], self.weight_hh, self.size)
        return y, (y[-1],)


def make_backbone(rnn_type: Any, size: int) -> Backbone:
    """Return the backbone that `rnn_type` asks for.

    Parameters
    ----------
    rnn_type : "GRU", "LSTM", "RNN" (or "vanilla"), "LMU", "Mamba", "S4" or "S4D", in any case; a dict with such a name
        as "type" and its options; or a `Backbone`
    size : width H

    Raises
    ------
    ValueError : no such backbone, an option that it does not take, or one made for another width

    Examples
    --------
    >>> make_backbone({"type": "LMU", "theta": 50}, 8).theta
    50.0
    """
    from strflab.layers.lmu import LMU
    from strflab.layers.mamba import Mamba
    from strflab.layers.s4 import S4, S4D

    classes: tuple[type, ...] = (GRU, LSTM, RNN, LMU, Mamba, S4, S4D)
    names = {c.__name__.lower(): c for c in classes} | {"vanilla": RNN}
    spec = {"type": rnn_type} if isinstance(rnn_type, str) else rnn_type
    if isinstance(spec, dict):
        spec = {"size": size} | spec
    backbone = make_part("rnn_type", spec, Backbone, names)
    if backbone.size != size:
        raise ValueError(f"rnn_type={rnn_type!r}: made for width {backbone.size}, must be {size}")
    return backbone
