"""The dynamic network: a network receptive field whose units forget exponentially, each at its own pace.

    u[j, t] = (1 - 1/tau_j) u[j, t-1] + (1/tau_j) h( (w_j * s)[t] + b[j] ),    r[n, t] = sum_j v[n, j] u[j, t] + c[n]

and, with a leak on the output units as well,

    r[n, t] = (1 - 1/tau_n) r[n, t-1] + (1/tau_n) g( sum_j v[n, j] u[j, t] + c[n] ).

Rahman, Willmore, King & Harper 2019, doi 10.1371/journal.pcbi.1006618.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from strflab.layers.activations import make_activation
from strflab.layers.causal import Chain
from strflab.layers.decay import LearnableExponentialDecay
from strflab.layers.norm import CausalLayerNorm
from strflab.layers.readouts import LinearReadout
from strflab.layers.strf import CausalSTRFConv
from strflab.models.nrf import HiddenFields
from strflab.validation import boolean, choice, integer, number


class DNet(HiddenFields):
    """A network of receptive fields and learned exponential decays.

    The released code of the paper fits one network a neuron (`out_neurons=1`), normalises no hidden layer, and leaks
    after the sigmoid on hidden and output units: ``norm=False, output_activation="sigmoid", output_decay=True``, or
    `strflab.papers.rahman2019_dnet`, which also draws the time constants as the code does. Here a unit starts in the
    steady state of its first frame.

    Parameters
    ----------
    n_frequency_bands : F
    temporal_window_size : T, length of the hidden units' filters in frames
    out_neurons : N
    n_hidden : hidden units H
    init_tau : time constant of every decay at the start, frames (>= 1; at 1 exactly its gradient is zero)
    decay_input : True: a decay has gain 1 at DC, as above; False: its input is not divided by tau
    output_decay : one decay an output neuron too, after the output nonlinearity
    leak : "after" the nonlinearity, as above, or "before" it, u = h(leak(w * s + b)), on both layers
    norm : LayerNorm over the hidden units of each frame, straight after the filters
    hidden_activation : h, see `strflab.layers.make_activation`
    kernel : how the filters are parametrised, see `strflab.layers.CausalSTRFConv`
    output_activation, prefiltering, wav2spec : see `Model`; the output is the identity

    Raises
    ------
    ValueError : an argument is out of range

    Examples
    --------
    >>> import torch
    >>> DNet(out_neurons=3)(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 3, 1, 100])
    """

    def __init__(
        self,
        n_frequency_bands: int = 34,
        temporal_window_size: int = 9,
        out_neurons: int = 1,
        *,
        n_hidden: int = 20,
        init_tau: float = 2.0,
        decay_input: bool = True,
        output_decay: bool = False,
        leak: str = "after",
        norm: bool = True,
        hidden_activation: Any = "sigmoid",
        kernel: Any = None,
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        integer("temporal_window_size", temporal_window_size)
        self.n_hidden = integer("n_hidden", n_hidden)
        after = choice("leak", leak, ("after", "before")) == "after"
        hidden = [
            make_activation("hidden_activation", hidden_activation, n_hidden),
            LearnableExponentialDecay(n_hidden, init_tau, decay_input),
        ]
        output = [self.make_output_activation()]
        if boolean("output_decay", output_decay):
            output.append(LearnableExponentialDecay(out_neurons, init_tau, decay_input))
        self.core = Chain(
            CausalSTRFConv(n_frequency_bands, temporal_window_size, self.in_channels, n_hidden, kernel),
            *([CausalLayerNorm(n_hidden)] if boolean("norm", norm) else []),
            *(hidden if after else hidden[::-1]),
        )
        activation = output[0] if len(output) == 1 else Chain(*(output if after else output[::-1]))
        self.readout: LinearReadout = LinearReadout(n_hidden, out_neurons, activation=activation)

    @property
    def tau(self) -> Tensor:
        """Time constants of the hidden units (n_hidden,), frames."""
        return self.decays()[0].tau

    def tau_ms(self, dt_ms: float) -> Tensor:
        """Return the time constants of the hidden units (n_hidden,), ms, for frames of `dt_ms` ms.

        Examples
        --------
        >>> DNet(n_hidden=2, init_tau=4.0).tau_ms(dt_ms=5.0)
        tensor([20., 20.], grad_fn=<MulBackward0>)
        """
        return self.tau * number("dt_ms", dt_ms, above=0)

    def total_tau_ms(self, dt_ms: float) -> Tensor:
        """Return the time constants with which each neuron hears each hidden unit, (N, n_hidden), ms: the unit's own
        plus, where the output leaks too, the neuron's. The paper reports this sum.

        Parameters
        ----------
        dt_ms : length of a frame, ms
        """
        tau = self.tau.expand(self.out_neurons, -1)
        for decay in self.decays()[1:]:
            tau = tau + decay.tau[:, None]
        return tau * number("dt_ms", dt_ms, above=0)

    def decays(self) -> list[LearnableExponentialDecay]:
        """The leaks: that of the hidden units and, if there is one, that of the output."""
        return [layer for layer in self.modules() if isinstance(layer, LearnableExponentialDecay)]
