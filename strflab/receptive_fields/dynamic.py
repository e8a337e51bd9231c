"""Dynamic receptive fields: the filter that a nonlinear model is equal to, to first order, at each moment of a sound.

    D[t, n, f, k] = d r[n, t] / d s[f, t - (L - 1) + k],        k = 0 .. L - 1, the last tap at lag 0

Keshishian, Akbari, Khalighinejad, Herrero, Mehta & Mesgarani 2020, doi 10.7554/eLife.53445.

The derivative is exact: the true past stands before the L frames, and does not move. This keeps it cheap:

- The last frames before each frame are a window, and windows are a batch whose rows do not influence each other, so
  one backward pass a unit gives the gradients of all windows, by the same compiled kernels as in training. Where a
  model remembers nothing but its last M inputs, windows of M frames run without the silence that a model puts before
  a sound, so that only their last frame is computed. Any other model runs them from the states in which the sound so
  far has left it: to have one at every frame, pieces of the sound move on side by side, a frame at a time.
- Where the state is small, not even windows are run: by the chain rule along time a field is a product of derivatives
  of single frames, each to its input and to the state before it, all of which are taken side by side.
- Where states of several frames cannot stand side by side, as those of attention to all of the past, the model is run
  once over a block of frames; the backward passes of all frames in the block, batched, share that run.
- Where the last dense layer reads fewer units than there are neurons, gradients are taken of these units; the chain
  rule from units to neurons is one matrix product.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from strflab.layers.causal import Chain, layer_memory, stream
from strflab.layers.conv2d import CausalConv2dStack
from strflab.layers.population import TemporalFIR
from strflab.layers.readouts import LinearReadout, STRFReadout
from strflab.layers.strf import CausalSTRFConv
from strflab.models.base import Model
from strflab.validation import integer

WORKING_VALUES = 1 << 22  # gradients held at a time beside the result: 16 MB in single precision
SHORTEST_SPAN = 8  # frames
SMALL = 2  # values of a state for one unit, with which derivatives of single frames pay
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
    with model._evaluation(), _frozen(model), torch.no_grad(), warnings.catch_warnings():
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


@contextmanager
def _frozen(model: Model) -> Iterator[None]:
    """No gradients of weights inside."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


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


# ---- the ways: all give fields (K, N, C, F, lags) and the K places in `at` where they belong


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
    early, late = order[at[order] < n_lags], order[at[order] >= n_lags]
    windows = F.pad(x[..., :n_lags], (n_lags, 0)).unfold(-1, n_lags + 1, 1).movedim(2, 0)
    for where in early.split(_block_size(halves, x, n_lags + 1)):  # each a sound of its own, silence before it
        for some, n_frames in ((where[at[where] < n_lags - 1], n_lags + 1), (where[at[where] == n_lags - 1], n_lags)):
            if len(some):
                sounds = windows[at[some]][..., -n_frames:]
                yield some, _window_jacobian(lambda w: halves.run(w, None)[0][..., -1], halves.tail, sounds)

    heard, state = 0, None
    axes, n_values, is_real = _clip_axes(halves, x)
    if axes is None:
        span = min(_block_size(halves, x, 2 * n_lags), max(SHORTEST_SPAN, n_lags // 2))
    elif is_real and n_values <= SMALL * halves.n_units:
        way, span = _from_steps, _frames_at_once((halves.n_units + n_values) * (x[..., 0].numel() + n_values))
    else:
        way, span = _from_states, _frames_at_once(n_values)
    for where in late.split(torch.unique_consecutive(at[late] // span, return_counts=True)[1].tolist()):
        starts = at[where] - n_lags + 1
        first, end = int(starts[0]), int(at[where[-1]]) + 1
        if first > heard:
            state, heard = halves.run(x[None, ..., heard:first], state)[1], first
        if axes is None:
            yield where, _block_jacobian(halves, x[None, ..., first:end], state, at[where] - first, n_lags)
        else:
            yield from way(halves, x, state, axes, where, starts, n_lags)


def _frames_at_once(n_values: int) -> int:
    return max(1, WORKING_VALUES // max(1, n_values))


def _from_steps(
    halves: Halves, x: Tensor, state: Any, axes: list[int], where: Tensor, starts: Tensor, n_lags: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fields as products of the derivatives of single frames, by the chain rule along time; as `_from_states`."""
    first, end = int(starts[0]), int(starts[-1]) + n_lags
    states = _states(halves, x, state, axes, torch.arange(first, end, device=x.device))
    values, by_input, by_state = _step_jacobians(halves, x[..., first:end].movedim(-1, 0)[..., None], states, axes)
    units, (out_of_input, into_state) = values[:, : halves.n_units], by_input.tensor_split([halves.n_units], 1)
    out_of_state, along = by_state.tensor_split([halves.n_units], 1)
    for some in torch.arange(len(starts), device=x.device).split(_block_size(halves, x, n_lags)):
        t = starts[some] - first + n_lags - 1
        fields = x.new_empty(n_lags, len(some), halves.n_units, x[..., 0].numel())
        fields[-1], reach = out_of_input[t], out_of_state[t]  # of the units to the state k frames before
        for k in range(1, n_lags):
            torch.bmm(reach, into_state[t - k], out=fields[-1 - k])
            reach = reach @ along[t - k]
        fields = fields.unflatten(-1, x.shape[:2]).permute(2, 1, 3, 4, 0)  # (units, K, C, F, n_lags)
        yield where[some], _through(halves.tail, units[t], fields)


def _step_jacobians(halves: Halves, frames: Tensor, states: Any, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of n frames (n, C, F, 1) from a state of its own: units and next state (n, U + S), side by side, and
    their derivatives to the frame (n, U + S, C F) and to the state before it (n, U + S, S)."""
    leaves, structure = tree_flatten(states)
    moved = [leaf.movedim(axis, 0) for leaf, axis in zip(filter(_is_tensor, leaves), axes)]
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's has no gradient in evaluation mode
        frames = frames.detach().clone().requires_grad_()
        flat = torch.cat([leaf.flatten(1) for leaf in moved], 1).detach().requires_grad_()  # (n, S)
        parts = flat.split([leaf[0].numel() for leaf in moved], 1)
        own = iter(part.view_as(like).movedim(0, axis) for part, like, axis in zip(parts, moved, axes))
        state = tree_unflatten([next(own) if _is_tensor(leaf) else leaf for leaf in leaves], structure)
        y, state = halves.run(frames, state)
        after = [leaf.movedim(axis, 0).flatten(1) for leaf, axis in zip(filter(_is_tensor, tree_leaves(state)), axes)]
        values = torch.cat([y[..., -1], *after], 1)
        of_frame, of_state = zip(*_gradients(values, (frames, flat)))
    return values.detach(), torch.stack(of_frame, 1).flatten(2), torch.stack(of_state, 1)


def _from_states(
    halves: Halves, x: Tensor, state: Any, axes: list[int], where: Tensor, starts: Tensor, n_lags: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fields at the ends of windows that begin at the ascending frames `starts`; `state` leads to the first of them."""
    states = _states(halves, x, state, axes, starts)
    windows = x.unfold(-1, n_lags, 1).movedim(2, 0)
    for some in torch.arange(len(starts), device=x.device).split(_block_size(halves, x, n_lags)):

        def last(w: Tensor, some: Tensor = some) -> Tensor:
            before = _joined([states], axes, lambda same, axis: same[0].index_select(axis, some))
            return halves.run(w, before)[0][..., -1]

        yield where[some], _window_jacobian(last, halves.tail, windows[starts[some]])


def _states(halves: Halves, x: Tensor, state: Any, axes: list[int], starts: Tensor) -> Any:
    """The states before the ascending frames `starts`, to the first of which `state` leads, as those of as many clips.

    Some hundred frames take two times their root in steps: first to the beginnings of as many pieces as a piece has
    frames, then through all pieces side by side.
    """
    first = int(starts[0])
    n = int(starts[-1]) + 1 - first
    span = math.isqrt(n - 1) + 1
    heads = [state]
    for i in range((n - 1) // span):
        heads.append(halves.run(x[None, ..., first + i * span : first + (i + 1) * span], heads[-1])[1])
    pieces = (
        F.pad(x[..., first : first + n], (0, len(heads) * span - n)).unflatten(-1, (len(heads), span)).movedim(2, 0)
    )
    along = [_joined(heads, axes, torch.cat)]
    for j in range(span - 1):
        along.append(halves.run(pieces[..., j : j + 1], along[-1])[1])
    at = (starts - first) % span * len(heads) + (starts - first) // span  # step by step, of each all pieces
    return _joined(along, axes, lambda same, axis: torch.cat(same, axis).index_select(axis, at))


def _joined(states: list[Any], axes: list[int], join: Callable[[list[Tensor], int], Tensor]) -> Any:
    """One state whose tensors are made of those of several."""
    leaves, structures = zip(*(tree_flatten(state) for state in states))
    axis = iter(axes)
    made = [join(list(same), next(axis)) if _is_tensor(same[0]) else same[0] for same in zip(*leaves)]
    return tree_unflatten(made, structures[0])


def _clip_axes(halves: Halves, x: Tensor) -> tuple[list[int] | None, int, bool]:
    """The axis of each tensor of a state along which clips stand, its values a clip, and whether all are real.

    No axes if there is a tensor without one, or whose shape is another at another frame.
    """
    shapes = []
    for n_clips, n_frames in ((1, 1), (2, 1), (2, 2)):
        state = halves.run(x[None, ..., :1].expand(n_clips, *x.shape[:2], n_frames), None)[1]
        tensors = list(filter(_is_tensor, tree_leaves(state)))
        shapes.append([tuple(s.shape) for s in tensors])
    one, two, later = shapes
    axes = [[i for i, (a, b) in enumerate(zip(*pair)) if (a, b) == (1, 2)] for pair in zip(one, two)]
    alike = two == later and all(len(of) == 1 for of in axes)
    is_real = all(s.is_floating_point() for s in tensors)
    return [of[0] for of in axes] if alike else None, sum(map(math.prod, one)), is_real


def _window_jacobian(last: Callable[[Tensor], Tensor], tail: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    """Derivatives (W, N, C, F, M) of the last frame of each of the windows (W, C, F, M)."""
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's has no gradient in evaluation mode
        windows = windows.detach().clone().requires_grad_()
        units = last(windows)  # (W, units)
        jacobian = [gradient for (gradient,) in _gradients(units, (windows,))]
    return _through(tail, units.detach(), torch.stack(jacobian))


def _gradients(values: Tensor, inputs: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Of each column of values (n, V), whose rows do not share inputs, the gradients to the inputs of its row."""
    for one in torch.eye(values.shape[1], dtype=values.dtype, device=values.device):
        yield torch.autograd.grad(values, inputs, one.expand_as(values), retain_graph=True, materialize_grads=True)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)


def _block_jacobian(halves: Halves, x: Tensor, state: Any, at: Tensor, n_lags: int) -> Tensor:
    """Derivatives (K, N, C, F, n_lags) at the frames `at` of x (1, C, F, T), to which `state` leads."""
    units, backward = vjp(lambda x: halves.run(x, state)[0][0], x)  # type: ignore[misc]  # (units, T)
    index = torch.arange(units.numel(), device=x.device).view(units.shape)

    def of_unit_and_frame(i: Tensor) -> Tensor:
        return backward((index == i).to(units.dtype))[0][0]

    held = INNER * x.numel() + sum(s.numel() for s in tree_leaves(state) if _is_tensor(s))
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
