"""Dynamic receptive fields: the filter that a nonlinear model is equal to, to first order, at each moment of a sound.

    D[t, n, f, k] = d r[n, t] / d s[f, t - (L - 1) + k],        k = 0 .. L - 1, the last tap at lag 0

Keshishian, Akbari, Khalighinejad, Herrero, Mehta & Mesgarani 2020, doi 10.7554/eLife.53445.

The derivative is exact: the true past stands before the L frames, and does not move. Three things keep it cheap.

- Where a model remembers nothing but its last M inputs, the windows of M frames are a batch whose rows do not
  influence each other, so one backward pass gives the gradients of all windows. Each is run without the silence that
  a model puts before a sound, so that only its last frame is computed.
- Any other model is run once over a block of frames, from the state in which the sound so far has left it; the
  backward passes of all frames in the block, batched, share that run.
- Where the last dense layer reads fewer units than there are neurons, gradients are taken of these units; the chain
  rule from units to neurons is one matrix product.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.utils._pytree import tree_leaves, tree_map_only

from strflab.layers.causal import Chain, layer_memory, stream
from strflab.layers.conv2d import CausalConv2dStack
from strflab.layers.population import TemporalFIR
from strflab.layers.readouts import LinearReadout, STRFReadout
from strflab.layers.strf import CausalSTRFConv
from strflab.models.base import Model
from strflab.validation import integer

WORKING_VALUES = 1 << 22  # gradients held at a time beside the result: 16 MB in single precision
SHORTEST_SPAN = 8  # frames
INNER = 16  # values that the layers inside a model hold for one of the stimulus, as a guess

# Layers whose state is their last inputs, along the last axis: with an empty state they start at their first full
# frame. The others are made of layers, or have no memory.
KEEPS_INPUTS = (CausalSTRFConv, CausalConv2dStack, TemporalFIR)
CONTAINERS = (Chain, LinearReadout, STRFReadout)


def dynamic_strfs(
    model: Model,
    stimulus: Tensor | ArrayLike,
    n_lags: int | None = None,
    frames: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
) -> Tensor:
    """Return the derivative of each predicted frame to the last `n_lags` frames of the stimulus.

    At frame t it is ``model.STRF_gradmap(stimulus[..., : t + 1], n_lags)``, silence standing before the sound where it
    is shorter than the field; that of a `Linear` model is its filter at every frame. The model runs in evaluation
    mode and is left as it was. Beside the result, of T N C F n_lags values, about a hundred megabytes are needed.

    Parameters
    ----------
    model : any
    stimulus : (F, T) or (C, F, T) what the model's core receives: with a prefilter, its output, every channel
    n_lags : L, frames; None: the model's memory, if that is finite
    frames : which of the T frames to return; None: all
    neurons : which neurons; None: all

    Returns
    -------
    Tensor (T, N, F, n_lags), or (T, N, C, F, n_lags) with several channels; last tap at lag 0

    Raises
    ------
    ValueError : the stimulus does not fit the model, there is no such frame or neuron, or `n_lags` is None and the
        model's memory has no end

    Examples
    --------
    >>> from strflab import models
    >>> dynamic_strfs(models.NetworkReceptiveField(out_neurons=3), torch.zeros(34, 50)).shape
    torch.Size([50, 3, 34, 9])
    """
    if n_lags is None and math.isinf(model.memory):
        raise ValueError(
            f"n_lags=None: the memory of this {type(model).__name__} has no end; must be a number of frames"
        )
    n_lags = int(model.memory) if n_lags is None else integer("n_lags", n_lags)
    if stimulus is None:
        raise ValueError("stimulus=None: must be the sound along which the fields are taken")
    x = model._context(torch.as_tensor(stimulus), 1)  # (C, F, T)
    at = torch.tensor(indices("frames", frames, x.shape[-1]), dtype=torch.int64, device=x.device)
    of = torch.tensor(indices("neurons", neurons, model.out_neurons), dtype=torch.int64, device=x.device)
    fields = x.new_zeros(len(at), len(of), *x.shape[:2], n_lags)
    if not fields.numel():
        return fields.squeeze(2) if len(x) == 1 else fields
    with model._evaluation(), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*batching rule", UserWarning)  # torch has no faster way for some operations
        halves = _split(model, of)
        if _keeps_only_inputs(model):
            parts = _of_windows(halves, x, at, int(model.memory))
        else:
            parts = _along(halves, x, at, n_lags)
        for where, part in parts:
            n = min(n_lags, part.shape[-1])  # further back the field is zero
            fields[where, ..., n_lags - n :] = part[..., part.shape[-1] - n :]
    return fields.squeeze(2) if len(x) == 1 else fields


def indices(name: str, value: Sequence[int] | None, n: int) -> list[int]:
    """Return which of n things are meant, from 0; None: all."""
    if value is None:
        return list(range(n))
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise ValueError(f"{name}={value!r}: must be a sequence of integers")
    values = value.tolist() if hasattr(value, "tolist") else value
    return [integer(f"{name}[{i}]", v, -n, n - 1) % n for i, v in enumerate(values)]


# ---- a model in two halves


class Halves(NamedTuple):
    """A model from the core's input to units, and from the units of a frame to neurons.

    Where the last dense layer reads no fewer units than there are neurons, the units are the neurons.
    """

    run: Callable[[Tensor, Any], tuple[Tensor, Any]]  # (B, C, F, T) and a state -> (B, units, T) and the next state
    tail: Callable[[Tensor], Tensor]  # (B, units) -> (B, N)
    n_units: int
    n_neurons: int


def _split(model: Model, neurons: Tensor) -> Halves:
    readout: Any = model.readout
    if not isinstance(readout, LinearReadout) or readout.memory > 1 or readout.last.in_features >= len(neurons):

        def all_of_it(x: Tensor, state: Any) -> tuple[Tensor, Any]:
            core, end = state or (None, None)
            x, core = stream(model.core, x, core)
            x, end = stream(readout, x, end)
            return x.squeeze(2)[:, neurons], (core, end)

        return Halves(all_of_it, lambda rates: rates, len(neurons), len(neurons))

    dense = readout.fc[:-1] if isinstance(readout.fc, nn.Sequential) else nn.Identity()

    def run(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x, state = stream(model.core, x, state)
        return dense(x.flatten(1, 2).transpose(1, 2)).transpose(1, 2), state

    def tail(units: Tensor) -> Tensor:
        return readout.activation(readout.last(units)[..., None, None]).flatten(1)[:, neurons]

    return Halves(run, tail, readout.last.in_features, len(neurons))


def _keeps_only_inputs(model: Model) -> bool:
    parts = [*model.core.modules(), *model.readout.modules()]
    return all(layer_memory(part) == 1 or type(part) in (*KEEPS_INPUTS, *CONTAINERS) for part in parts)


# ---- the two ways: both give fields (K, N, C, F, lags) and the K places in `at` where they belong


def _of_windows(halves: Halves, x: Tensor, at: Tensor, memory: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fields of a model that remembers its last inputs only."""
    windows = F.pad(x, (memory - 1, 0)).unfold(-1, memory, 1).movedim(2, 0)  # (T, C, F, M)
    _, state = halves.run(x[None, ..., :1], None)

    def last(w: Tensor) -> Tensor:
        empty = tree_map_only(Tensor, lambda s: s[..., :0].expand(len(w), *s.shape[1:-1], 0), state)
        return halves.run(w, empty)[0][..., 0]  # the only frame

    for where in torch.arange(len(at), device=x.device).split(_block_size(halves, x, memory)):
        yield where, _window_jacobian(last, halves.tail, windows[at[where]])


def _along(halves: Halves, x: Tensor, at: Tensor, n_lags: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fields of any model."""
    order = at.argsort(stable=True)
    is_early = at[order] < n_lags - 1  # each a sound of its own, silence before it
    early, late = order[is_early], order[~is_early]
    windows = F.pad(x[..., :n_lags], (n_lags, 0)).unfold(-1, n_lags + 1, 1).movedim(2, 0)
    for where in early.split(_block_size(halves, x, n_lags + 1)):
        if len(where):
            yield where, _window_jacobian(lambda w: halves.run(w, None)[0][..., -1], halves.tail, windows[at[where]])

    span = min(_block_size(halves, x, 2 * n_lags), max(SHORTEST_SPAN, n_lags // 2))
    heard, state = 0, None
    for where in late.split(torch.unique_consecutive(at[late] // span, return_counts=True)[1].tolist()):
        first, end = int(at[where[0]]) - n_lags + 1, int(at[where[-1]]) + 1
        if first > heard:
            state, heard = halves.run(x[None, ..., heard:first], state)[1], first
        yield where, _block_jacobian(halves, x[None, ..., first:end], state, at[where] - first, n_lags)


def _window_jacobian(last: Callable[[Tensor], Tensor], tail: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    """Derivatives (W, N, C, F, M) of the last frame of each of the windows (W, C, F, M)."""
    units, backward = vjp(last, windows)  # type: ignore[misc]  # (W, units)
    index = torch.arange(units.shape[1], device=units.device)

    def of_unit(i: Tensor) -> Tensor:
        return backward((index == i).to(units.dtype).expand_as(units))[0]

    rows = max(1, WORKING_VALUES // (INNER * windows.numel()))
    return _through(tail, units, vmap(of_unit, chunk_size=rows)(index))


def _block_jacobian(halves: Halves, x: Tensor, state: Any, at: Tensor, n_lags: int) -> Tensor:
    """Derivatives (K, N, C, F, n_lags) at the frames `at` of x (1, C, F, T), to which `state` leads."""
    units, backward = vjp(lambda x: halves.run(x, state)[0][0], x)  # type: ignore[misc]  # (units, T)
    index = torch.arange(units.numel(), device=x.device).view(units.shape)

    def of_unit_and_frame(i: Tensor) -> Tensor:
        return backward((index == i).to(units.dtype))[0][0]

    held = INNER * x.numel() + sum(s.numel() for s in tree_leaves(state) if isinstance(s, Tensor))
    rows = max(1, WORKING_VALUES // held)
    jacobian = vmap(of_unit_and_frame, chunk_size=rows)(index[:, at].flatten())  # (units K, C, F, T)
    windows = jacobian.unflatten(0, (len(units), len(at))).unfold(-1, n_lags, 1)  # (units, K, C, F, starts, n_lags)
    k = torch.arange(len(at), device=x.device)
    own = windows[:, k, :, :, at - n_lags + 1]  # (K, units, C, F, n_lags)
    return _through(halves.tail, units[:, at].t(), own.transpose(0, 1))


def _through(tail: Callable[[Tensor], Tensor], units: Tensor, jacobian: Tensor) -> Tensor:
    """Derivatives (K, N, C, F, T) of the neurons, from the units (K, units) and theirs (units, K, C, F, T)."""
    rates, backward = vjp(tail, units)  # type: ignore[misc]  # (K, N)
    index = torch.arange(rates.shape[1], device=rates.device)
    slopes = vmap(lambda n: backward((index == n).to(rates.dtype).expand_as(rates))[0])(index)  # (N, K, units)
    return (slopes.transpose(0, 1) @ jacobian.transpose(0, 1).flatten(2)).unflatten(2, jacobian.shape[2:])


def _block_size(halves: Halves, x: Tensor, n_frames: int) -> int:
    """How many frames' derivatives, each to `n_frames` frames of x, to hold at a time."""
    return max(1, WORKING_VALUES // (max(halves.n_units, halves.n_neurons) * x[..., 0].numel() * n_frames))
