"""From features to neurons: the last linear stage and the output nonlinearity.

Both give (B, N, 1, T). `STRFReadout` is a spectro-temporal filter a neuron, `LinearReadout` weighs the channels and
bands of each frame.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.activations import Pointwise
from strflab.layers.causal import CausalLayer, layer_memory, stream
from strflab.layers.strf import CausalSTRFConv
from strflab.validation import choice, integer


class STRFReadout(CausalLayer):
    """One spectro-temporal filter a neuron, then the output nonlinearity: the whole of an LN model.

    Parameters
    ----------
    n_bands, n_lags, n_in, n_neurons : F, T in frames, input channels, N
    kernel : see `CausalSTRFConv`
    norm : None, or "batch" for a BatchNorm1d a neuron, which in training mode mixes frames and clips
    activation : a module on (B, N, 1, T); None: identity
    """

    def __init__(
        self,
        n_bands: int,
        n_lags: int,
        n_in: int,
        n_neurons: int,
        kernel: Any = None,
        norm: str | None = None,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.strf = CausalSTRFConv(n_bands, n_lags, n_in, n_neurons, kernel)
        self.norm = nn.BatchNorm1d(n_neurons) if choice("norm", norm, (None, "batch")) else None
        self.activation = activation or Pointwise("identity")

    @property
    def memory(self) -> float:  # type: ignore[override]
        """The filter's length in frames."""
        return self.strf.memory

    def initialize(self, mean: Tensor, sd: Tensor) -> None:
        """Bring filters, constants and nonlinearity to the scale of neurons with these means and sds (N,).

        Parameters
        ----------
        mean, sd : (N,) of the neurons' responses
        """
        mean, sd = _initialized(self.activation, mean, sd)
        with torch.no_grad():
            if self.norm is not None:
                self.norm.weight.copy_(sd)
                self.norm.bias.copy_(mean)
                return
            self.strf.kernel.rescale(sd)
            if self.strf.bias is not None:
                self.strf.bias.copy_(mean)

    def STRF_weight(self) -> Tensor:
        """The filters that are applied (N, C, F, T): those of the convolution times the gain of the normalisation."""
        return self.strf.STRF_weight() * self._gain()[:, None, None, None]

    def STRF_bias(self) -> Tensor:
        """The constants that are added (N,), before the nonlinearity."""
        bias = torch.zeros(()) if self.strf.bias is None else self.strf.bias
        if self.norm is None:
            return bias
        return (bias - cast(Tensor, self.norm.running_mean)) * self._gain() + self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        return self._output(self.strf(x))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x, state = self.strf.stream(x, state)
        return self._output(x), state

    def _output(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = self.norm(x.squeeze(2)).unsqueeze(2)
        return self.activation(x)

    def _gain(self) -> Tensor:
        if self.norm is None:
            return next(self.strf.kernel.parameters()).new_ones(1)
        return self.norm.weight / torch.sqrt(cast(Tensor, self.norm.running_var) + self.norm.eps)


class LinearReadout(CausalLayer):
    """A weighted sum of all channels and bands of a frame, then the output nonlinearity.

    Parameters
    ----------
    n_in : channels times bands of the input (B, C, F, T)
    n_neurons : N
    hidden : None, or the width of a hidden dense layer before the output
    hidden_activation : its nonlinearity, by name
    activation : a module on (B, N, 1, T); None: identity. One that has a memory of its own is streamed.
    """

    def __init__(
        self,
        n_in: int,
        n_neurons: int,
        hidden: int | None = None,
        hidden_activation: str = "leaky_relu",
        activation: nn.Module | None = None,
    ):
        super().__init__()
        n_in, n_neurons = integer("n_in", n_in), integer("n_neurons", n_neurons)
        if hidden is None:
            self.fc: nn.Module = nn.Linear(n_in, n_neurons)
        else:
            width = integer("hidden", hidden)
            self.fc = nn.Sequential(nn.Linear(n_in, width), Pointwise(hidden_activation), nn.Linear(width, n_neurons))
        self.activation = activation or Pointwise("identity")

    @property
    def memory(self) -> float:  # type: ignore[override]
        """That of the nonlinearity."""
        return layer_memory(self.activation)

    @property
    def weight(self) -> Tensor:
        """Output weights (N, n_in or hidden)."""
        return self.last.weight

    @property
    def last(self) -> nn.Linear:
        """The dense layer whose outputs are the neurons."""
        return self.fc if isinstance(self.fc, nn.Linear) else self.fc[-1]  # type: ignore[index]

    def initialize(self, mean: Tensor, sd: Tensor) -> None:
        """Bring weights, constants and nonlinearity to the scale of neurons with these means and sds (N,).

        Parameters
        ----------
        mean, sd : (N,) of the neurons' responses
        """
        mean, sd = _initialized(self.activation, mean, sd)
        with torch.no_grad():
            self.last.weight.mul_(sd[:, None])
            self.last.bias.copy_(mean)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self._weigh(x))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return stream(self.activation, self._weigh(x), state)

    def _weigh(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)  # (B, C F, T)
        for layer in [self.fc] if isinstance(self.fc, nn.Linear) else self.fc:  # type: ignore[union-attr]
            x = _dense(layer, x) if isinstance(layer, nn.Linear) else layer(x)
        return x.unsqueeze(2)  # (B, N, 1, T)


def _dense(layer: nn.Linear, x: Tensor) -> Tensor:
    """The dense layer at each frame: (B, C, T) to (B, N, T), either of which may lie in memory frame by frame."""
    if x.stride(-1) == 1:  # a convolution's output, which this one takes without a copy, under vmap too
        return F.conv1d(x, layer.weight.unsqueeze(-1), layer.bias)
    return torch.baddbmm(layer.bias[:, None], layer.weight.expand(len(x), -1, -1), x)


def _initialized(activation: nn.Module, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sd that the input of `activation` should have; of one that cannot tell, those of its output."""
    if hasattr(activation, "initialize"):
        return activation.initialize(mean, sd)  # type: ignore[operator]
    return mean, sd
