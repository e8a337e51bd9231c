"""Dreams: the stimulus that drives a neuron most, by gradient ascent on the sound itself.

    s* = argmax r[n](s)   over the sounds s that a constraint allows

The constraint is built into s: Adam moves free numbers z, of which s is made, so every step is an allowed sound and the
search ends where the gradient along the constraint is zero. For a linear neuron and sounds of one norm that is the
receptive field itself, up to scale. Walker et al. 2019, doi 10.1038/s41593-019-0517-x (images, visual cortex); in the
auditory cortex Rancon, Masquelier & Cottereau 2025, "Temporal recurrence as a general mechanism to explain neural
responses in the auditory system" (preprint).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strflab.models.base import Model
from strflab.receptive_fields.dynamic import indices
from strflab.validation import choice, integer, number


@dataclass(frozen=True)
class Dream:
    """What `dream` found for n neurons, the best of their starts.

    Parameters
    ----------
    neurons : their numbers
    stimulus : (n, F, T), or (n, C, F, T) with several channels
    response : (n, T) the neuron's rate along its stimulus, spikes per bin
    history : (steps, n, starts) what was ascended, before each step
    """

    neurons: list[int]
    stimulus: Tensor
    response: Tensor
    history: Tensor


def dream(
    model: Model,
    neurons: int | Sequence[int],
    n_frames: int,
    *,
    objective: str = "last",
    constraint: str = "norm",
    size: Any = None,
    smoothness: tuple[float, float] = (0, 0),
    steps: int = 500,
    learning_rate: float = 0.1,
    n_starts: int = 1,
    seed: int = 0,
) -> Dream:
    """Return the stimuli that drive neurons most.

    All neurons and starts are one batch. The model runs in evaluation mode and is left as it was.

    Parameters
    ----------
    model : any; the stimulus is what its core receives: with a prefilter, the prefilter's output
    neurons : one, or several
    n_frames : T, length of the stimulus
    objective : "last", the rate in the last frame; "mean", the mean rate over all frames
    constraint, size : "norm", the root of the sum of squares of the stimulus is `size` (None: of an rms of 1);
        "variance", its mean is 0 and its standard deviation is `size` (None: 1), as of a z-scored sound;
        "level", it stays between the two levels `size` (None: -2 and 2)
    smoothness : shortest periods, in bands and in frames, of the cosines that make up the stimulus; 0: no limit.
        Under the constraint "level" that holds before the levels saturate
    steps, learning_rate : of Adam, whose rate falls to zero along half a cosine
    n_starts : random starts a neuron, of which the best is returned
    seed : of the random starts

    Raises
    ------
    ValueError : an argument is out of range

    Examples
    --------
    >>> from strflab import models
    >>> dream(models.LinearNonlinear(out_neurons=3), 2, n_frames=9, steps=5).stimulus.shape
    torch.Size([1, 34, 9])
    """
    several: Any = [neurons] if isinstance(neurons, numbers.Integral) else neurons
    of = indices("neurons", several, model.out_neurons)
    n_frames, n_starts = integer("n_frames", n_frames), integer("n_starts", n_starts)
    choice("objective", objective, ("last", "mean"))
    learning_rate = number("learning_rate", learning_rate, above=0)
    like = model._context(None, 1)  # (C, F, 2)
    shape = (*like.shape[:2], n_frames)
    allowed = _constraint(constraint, size, shape)
    smooth = _smooth(smoothness, shape, like)

    generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1))
    start = torch.randn(len(of) * n_starts, *shape, generator=generator, dtype=like.dtype)
    z = start.to(like.device).requires_grad_()
    own = torch.tensor(of, device=like.device).repeat_interleave(n_starts)
    row = torch.arange(len(own), device=like.device)

    def responses() -> tuple[Tensor, Tensor]:
        x = allowed(smooth(z))
        return x, model.readout(model.core(x))[row, own, 0]  # (n starts, T)

    optimizer = torch.optim.Adam([z], learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, integer("steps", steps))
    history = []
    # cuDNN has no backward pass of a recurrent network in evaluation mode
    with model._evaluation(), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        for _ in range(steps):
            rate = _driven(objective, responses()[1])
            history.append(rate.detach())
            (z.grad,) = torch.autograd.grad(-rate.sum(), z)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            x, response = responses()

    best = _driven(objective, response).view(len(of), n_starts).argmax(1)
    best = best + n_starts * torch.arange(len(of), device=best.device)
    x = x[best].squeeze(1) if len(like) == 1 else x[best]
    return Dream(of, x, response[best], torch.stack(history).unflatten(1, (len(of), n_starts)))


def _driven(objective: str, response: Tensor) -> Tensor:
    return response[:, -1] if objective == "last" else response.mean(-1)


def _constraint(kind: str, size: Any, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """The function that makes an allowed stimulus (B, C, F, T) of any numbers."""
    choice("constraint", kind, ("norm", "variance", "level"))
    if kind == "level":
        low, high = _levels((-2.0, 2.0) if size is None else size)
        return lambda z: low + (high - low) * torch.sigmoid(z)
    if kind == "norm":
        norm = math.sqrt(math.prod(shape)) if size is None else number("size", size, above=0)
        return lambda z: z * (norm / z.flatten(1).norm(dim=1)[:, None, None, None])
    if math.prod(shape) < 2:
        raise ValueError('constraint="variance": a stimulus of one value has none')
    sd = 1.0 if size is None else number("size", size, above=0)

    def standardised(z: Tensor) -> Tensor:
        z = z - z.mean((1, 2, 3), keepdim=True)
        return z * (sd / z.square().mean((1, 2, 3), keepdim=True).sqrt())

    return standardised


def _levels(size: Any) -> tuple[float, float]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size={size!r}: must be the lowest and the highest level")
    low = number("size[0]", size[0])
    return low, number("size[1]", size[1], above=low)


def _smooth(smoothness: Any, shape: tuple[int, ...], like: Tensor) -> Callable[[Tensor], Tensor]:
    """The projection to what slow cosines over bands and frames can make."""
    if not isinstance(smoothness, (tuple, list)) or len(smoothness) != 2:
        raise ValueError(f"smoothness={smoothness!r}: must be two shortest periods, in bands and in frames")
    periods = [number(f"smoothness[{i}]", p, at_least=0) for i, p in enumerate(smoothness)]
    bands, frames = (_slow(n, period).to(like) for n, period in zip(shape[-2:], periods))
    # a blur would not do: it can be undone by larger numbers before it, for the constraint comes after
    return lambda z: bands @ z @ frames if any(periods) else z


def _slow(n: int, period: float) -> Tensor:
    """Projection (n, n) to the cosines (of the discrete cosine transform) whose periods are not shorter; 0: to all."""
    place, k = torch.arange(n, dtype=torch.float64) + 0.5, torch.arange(n)
    cosines = torch.cos(torch.pi / n * k[:, None] * place)[k * period <= 2 * n]  # the k-th has a period of 2n / k
    cosines = torch.nn.functional.normalize(cosines, dim=1)
    return cosines.t() @ cosines
