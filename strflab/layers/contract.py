"""The contract of `strflab.layers.causal` as checks that any layer can be put to; see the guide on adding a layer.

causal      what is heard later changes nothing before
clips       a clip does not notice its neighbours in a batch, nor silence behind it
streaming   any way of cutting the sound gives what the whole gives, and what is kept in between does not grow
memory      no frame depends on more of the past than `memory` says
gradients   every parameter can learn
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from strflab.layers.causal import layer_memory, stream
from strflab.layers.frontends import Frontend
from strflab.layers.prefilters import Prefilter
from strflab.layers.recurrent import Backbone, Recurrence

N_FRAMES, CUT = 120, 53
ROUND_OFF = 1e-5  # of the largest value


class Broken(AssertionError):
    """A rule that does not hold; the message says which, and how it shows."""


def check(layer: nn.Module, x: Tensor | None = None, *, exact: bool = True) -> list[str]:
    """Check that a layer keeps the contract of all layers, and return the names of the rules it was put to.

    Parameters
    ----------
    layer : a causal layer, or a plain module of torch that acts frame by frame; it is left in evaluation mode
    x : (B, C, F, T) some input for it, B >= 2, T >= 100; None for a `Backbone`, a `Prefilter` or a `Frontend`, whose
        input follows from its sizes
    exact : False allows float round-off where bits should be equal, for layers that use a Fourier transform

    Raises
    ------
    Broken : a rule does not hold (an AssertionError)
    ValueError : there is no `x` and none follows from the layer, or it is too small

    Examples
    --------
    >>> from strflab.layers import GRU, CausalSTRFConv
    >>> check(GRU(8))
    ['causal', 'clips', 'streaming', 'memory', 'gradients']
    >>> centred = nn.Conv2d(1, 3, (20, 5), padding=(0, 2))  # hears two frames of the future
    >>> check(centred, torch.randn(2, 1, 20, 120))
    Traceback (most recent call last):
    strflab.layers.contract.Broken: causal: frame 51 changes when the sound does so from frame 53 on
    """
    step = 1
    if isinstance(layer, Backbone):
        shape: tuple[int, ...] = (2, layer.size, 1, N_FRAMES)
        layer = Recurrence(layer)
    elif isinstance(layer, Prefilter):
        shape = (2, 1, layer.n_bands, N_FRAMES)
    elif isinstance(layer, Frontend):
        step = int(layer.samples_per_frame)
        if step != layer.samples_per_frame:
            raise ValueError(
                f"layer: its frames are {float(layer.samples_per_frame):g} samples, must be a whole number"
            )
        shape = (2, 1, N_FRAMES * step)
    elif x is None:
        raise ValueError(f"x=None: must be an input (B, C, F, T) for a {type(layer).__name__}")
    else:
        shape = tuple(x.shape)
    if shape[0] < 2 or shape[-1] < 100 * step:
        raise ValueError(f"x of shape {shape}: must hold two clips or more, of 100 frames or more")
    if x is None:
        x = noise(shape)
    layer.eval()
    causal(layer, x, CUT, step, exact)
    clips(layer, x, step, exact)
    streaming(layer, x, (step, 7 * step, 100 * step, *([7 * step // 2] if step > 1 else [])), step)
    memory(layer, x, step)
    gradients(layer, x)
    return ["causal", "clips", "streaming", "memory", "gradients"]


@torch.no_grad()
def causal(layer: Callable[[Tensor], Tensor], x: Tensor, cut: int, step: int = 1, exact: bool = True) -> None:
    """Frames before `cut` are the same, bit for bit, if the sound (..., T step) is another from there on."""
    n = cut * step
    other = torch.cat([x[..., :n], 3 * noise(x[..., n:].shape, 1).to(x)], -1)
    y, z = layer(x), layer(other)
    require(y.shape[-1] * step == x.shape[-1], f"causal: {x.shape[-1]} frames come in, {y.shape[-1] * step} come out")
    differs = (y - z).abs().flatten(0, -2).amax(0) > (0 if exact else ROUND_OFF * float(y.abs().max()))
    changed = differs[:cut].nonzero()
    require(
        not len(changed),
        lambda: f"causal: frame {int(changed[0])} changes when the sound does so from frame {cut} on",
    )
    require(bool(differs.any()), f"causal: nothing changes when the sound does so from frame {cut} on")


@torch.no_grad()
def clips(layer: Callable[[Tensor], Tensor], x: Tensor, step: int = 1, exact: bool = True) -> None:
    """The first clip comes out the same beside others, alone, and with silence behind it."""
    y = layer(x)
    beside = layer(torch.cat([x[:1], 3 * noise(x[1:].shape, 1).to(x)]))
    require(torch.equal(beside[0], y[0]) or not exact, "clips: a clip changes with the others of its batch")
    close(beside[0], y[0], "clips: a clip changes with the others of its batch")
    close(layer(x[:1])[0], y[0], "clips: a clip by itself is another than in a batch")
    padded = layer(nn.functional.pad(x, (0, 23 * step)))
    close(padded[..., : y.shape[-1]], y, "clips: silence after a clip changes it")


@torch.no_grad()
def streaming(layer: nn.Module, x: Tensor, chunks: Sequence[int], step: int = 1, grows: bool = False) -> None:
    """Chunks of any length give the whole, and what is kept from one to the next does not grow, or does if `grows`."""
    whole = layer(x)
    for chunk in chunks:
        state, parts, sizes = None, [], []
        for piece in x.split(chunk, -1):
            y, state = stream(layer, piece, state)
            parts.append(y)
            sizes.append(_numbers_in(state))
        per_chunk = parts[0].shape[-1]
        require(chunk % step > 0 or per_chunk == chunk // step, f"streaming: {chunk} frames give {per_chunk}")
        close(torch.cat(parts, -1), whole, f"streaming: in pieces of {chunk} it is not the whole")
        more = sizes[-1] > sizes[len(sizes) // 2]
        expected = grows and len(sizes) > 2
        require(more == expected, f"streaming: the state {'grows' if more else 'does not grow'} along the sound")


@torch.no_grad()
def memory(layer: nn.Module, x: Tensor, step: int = 1) -> None:
    """Another first frame changes nothing after the frames that the layer says it remembers."""
    remembered = layer_memory(layer)  # samples for a front-end
    first = -(-remembered // step) if remembered < x.shape[-1] else x.shape[-1]
    other = torch.cat([3 * x[..., :1], x[..., 1:]], -1)
    late = (layer(x) - layer(other))[..., int(first) :]
    close(late + 1, torch.ones_like(late), f"memory: it says {remembered:g}, and remembers more")


def gradients(layer: nn.Module, x: Tensor) -> None:
    """The output moves every parameter, and by a finite amount."""
    parameters = [(name, p) for name, p in layer.named_parameters() if p.requires_grad]
    if not parameters:
        return
    y = layer(x)
    found = torch.autograd.grad((y * noise(y.shape, 2).to(y)).sum(), [p for _, p in parameters], allow_unused=True)
    for (name, _), gradient in zip(parameters, found):
        require(
            gradient is not None and bool(gradient.isfinite().all()), f"gradients: {name} has none, or not a finite one"
        )


def noise(shape: Sequence[int], seed: int = 0) -> Tensor:
    """Gaussian noise, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def require(holds: bool, message: str | Callable[[], str]) -> None:
    """Raise `Broken` with the message unless it holds."""
    if not holds:
        raise Broken(message if isinstance(message, str) else message())


def close(a: Tensor, b: Tensor, message: str, relative: float = ROUND_OFF) -> None:
    """Raise `Broken` unless `a` is `b` to within `relative` of the largest value."""
    require(a.shape == b.shape, f"{message}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not b.numel():
        return
    error = float((a - b).abs().max()) / (float(b.abs().max()) or 1.0)
    require(error <= relative, f"{message}: relative error {error:.2g}")


def _numbers_in(state: Any) -> int:
    """How many numbers a nest of tensors holds."""
    if isinstance(state, Tensor):
        return state.numel()
    parts = state.values() if isinstance(state, dict) else state
    return sum(map(_numbers_in, parts)) if isinstance(state, (dict, list, tuple)) else 0
