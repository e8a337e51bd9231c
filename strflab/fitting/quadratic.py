"""Steps of a linear model under squared error, from second moments of the clips: the same loss without a convolution.

The prediction is linear in the filters, so with row t of the lagged stimulus x(t) and the filter and constant (h, b)
of a neuron, the loss of a step is a quadratic form of moments that are summed once a fit:

    sum_t (h x(t) + b - y(t))^2  =  h' G h - 2 h' g + s,    G = sum x(t) x(t)',  g = sum x(t) y(t),  s = sum y(t)^2

of x(t) with a 1 behind it and h with b. A step on T frames, N neurons and P taps then takes N P^2 products instead of
N P T, and autograd finds the gradient of whatever the filters are made of. `reverse_correlation` solves for the
optimum instead.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from strflab.fitting.clips import Clips
from strflab.fitting.recipe import Recipe
from strflab.layers.activations import Pointwise
from strflab.models import Linear, LinearNonlinear
from strflab.reverse_correlation.moments import lagged_moments

LARGEST = 1 << 26  # values of the moments of all clips, 256 MB in single precision


class QuadraticLoss:
    """The loss of a step of a linear model, from moments about the means of the clips.

    `QuadraticLoss.of` makes it, where it is the loss that `Clips.loss` gives and cheaper.
    """

    moments: tuple[Tensor, Tensor, Tensor]  # G (B, P + 1, P + 1), lag-major, the 1 last; g (B, N, P + 1); s (B, N)
    x_mean: Tensor  # (P,)
    y_mean: Tensor  # (N,)
    weight: Tensor  # (N,) of each frame

    @classmethod
    def of(cls, model: nn.Module, clips: Clips, recipe: Recipe) -> QuadraticLoss | None:
        """Return the loss of steps on `clips`, or None where a step has to run the model.

        Parameters
        ----------
        model, clips, recipe : of the fit
        """
        if not _is_linear(model) or recipe.loss not in ("mse", "nmse"):
            return None
        if recipe.compile or recipe.precision == "bfloat16" or recipe.clip_frames is not None:
            return None
        n_taps = model.n_frequency_bands * int(model.memory)  # type: ignore[operator, arg-type]
        n_frames = clips.x.shape[-1]
        if n_taps > min(recipe.batch_size, len(clips)) * n_frames // 2 or (n_taps + 1) ** 2 * len(clips) > LARGEST:
            return None
        every = clips.weight.expand_as(clips.y)
        weight = every.amax((0, 2, 3))  # (N,)
        heard = every[:, weight.argmax(), 0] > 0  # (B, T)
        if not (every == weight[:, None, None] * heard[:, None, None]).all():
            return None  # neurons that miss frames of their own have moments of their own
        return cls(int(model.memory), clips, weight, heard)  # type: ignore[arg-type]

    def __init__(self, n_lags: int, clips: Clips, weight: Tensor, heard: Tensor):
        x, y = clips.x.squeeze(1), clips.y.squeeze(2)  # (B, F, T), (B, N, T)
        x_mean, y_mean = ((clip.double() * heard[:, None]).sum((0, 2)) / heard.sum() for clip in (x, y))
        grams, crosses, squares = [], [], []
        for clip, response, mask in zip(x, y, heard):
            of_clip = lagged_moments([clip], [response], [mask], n_lags, x_mean, y_mean)
            gram = nn.functional.pad(of_clip.gram(), (0, 1, 0, 1))
            gram[-1, :-1] = gram[:-1, -1] = of_clip.cross[:, -1]
            gram[-1, -1] = of_clip.count
            grams.append(gram.to(x.dtype))
            crosses.append(torch.cat([of_clip.cross[:, :-1], of_clip.total[None, :-1]]).t().to(x.dtype))
            squares.append(of_clip.square.to(x.dtype))
        self.moments = torch.stack(grams), torch.stack(crosses), torch.stack(squares)
        self.x_mean, self.y_mean = x_mean.repeat(n_lags).to(x.dtype), y_mean.to(x.dtype)
        self.weight = weight

    def __call__(self, model: Any, clips: Tensor) -> Tensor:
        """The mean loss of a frame of these clips.

        Parameters
        ----------
        model : with its present weights
        clips : (B,) which
        """
        # a few sums rather than a copy of the parts
        gram, cross, square = (reduce(add, map(of.__getitem__, clips.tolist())) for of in self.moments)
        h = model.STRF_weight()[:, 0].flip(-1).transpose(1, 2).flatten(1)  # (N, P), the present frame first
        constant = model.STRF_bias() + h @ self.x_mean - self.y_mean
        h = torch.cat([h, constant[:, None]], 1)
        loss = ((h @ gram - 2 * cross) * h).sum(1) + square  # (N,)
        heard = (self.weight > 0).sum() * gram[-1, -1]
        return (loss * self.weight).sum() / heard.clamp(min=1)


def _is_linear(model: nn.Module) -> bool:
    """Whether the prediction is the sum of one channel's filter and a constant."""
    if type(model) not in (Linear, LinearNonlinear) or model.wav2spec is not None or model.prefiltering is not None:
        return False
    readout: Any = model.readout
    activation = readout.activation
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return readout.norm is None and type(activation) is Pointwise and activation.name == "identity" and not hooked
