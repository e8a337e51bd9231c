"""Static output nonlinearities, fitted to every neuron at once: y = base + gain g(slope (x - threshold)).

    sigmoid             g(z) = 1 / (1 + exp(-z))
    softplus            g(z) = log(1 + exp(z))
    double_exponential  g(z) = exp(-exp(-z))            Thorson, Lienard & David 2015, doi:10.1371/journal.pcbi.1004628

x is the linear prediction of a receptive field, y the response; gain and slope are positive, so that y never falls as x
rises. Least squares, all neurons in one batch: a grid of (slope, threshold) with the best (base, gain) for each, then
Levenberg-Marquardt steps (Marquardt 1963, doi:10.1137/0111030), first on x sorted into bins, then on every frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab.reverse_correlation.base import STRFEstimator, as_clips

N_BINS = 256
MEMORY = 2**20  # values of a float64 array (neurons, frames) worked on at once
SLOPES = torch.logspace(-1, 1.3, 12, dtype=torch.float64)  # per standard deviation of x
THRESHOLDS = torch.linspace(-3, 6, 19, dtype=torch.float64)  # standard deviations of x from its mean


def _sigmoid(z: Tensor) -> tuple[Tensor, Tensor]:
    g = torch.sigmoid(z)
    return g, g * (1 - g)


def _softplus(z: Tensor) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.softplus(z), torch.sigmoid(z)


def _double_exponential(z: Tensor) -> tuple[Tensor, Tensor]:
    g = torch.exp(-torch.exp(-z))
    return g, torch.nan_to_num(torch.exp(-z - torch.exp(-z)))


KINDS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {  # z -> g(z), g'(z)
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "double_exponential": _double_exponential,
}


class OutputNonlinearity:
    """A rising static nonlinearity of each neuron.

    Parameters
    ----------
    kind : "sigmoid", "softplus" or "double_exponential".

    Attributes
    ----------
    parameters_ (N, 4): base, gain, slope, threshold, as in `parameter_names`. Where the response does not rise with
    the prediction (a silent neuron, a constant prediction), gain is 0 and the answer is the mean response.

    >>> x = torch.randn(2, 5000)
    >>> f = OutputNonlinearity("sigmoid").fit(x, 3 * torch.sigmoid(2 * x - 1))
    >>> (f.parameters_[0, 1:] + 0).round(4).tolist()  # gain, slope, threshold
    [3.0, 2.0, 0.5]
    """

    parameter_names = ("base", "gain", "slope", "threshold")
    parameters_: np.ndarray

    def __init__(self, kind: str = "sigmoid") -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {tuple(KINDS)}, got {kind!r}")
        self.kind = kind

    def __repr__(self) -> str:
        return f"OutputNonlinearity({self.kind!r})"

    def fit(self, prediction: Any, response: Any) -> OutputNonlinearity:
        """Fit to linear predictions and responses, both (N, T) or lists of (N, T_k); NaN frames are left out."""
        x, y = _join(prediction, "prediction"), _join(response, "response")
        if x.shape != y.shape:
            raise ValueError(f"response must have the prediction's shape {tuple(x.shape)}, got {tuple(y.shape)}")
        silent = torch.nonzero(~(torch.isfinite(x) & torch.isfinite(y)).any(1)).flatten().tolist()
        if silent:
            raise ValueError(f"response holds no frame with a prediction for neurons {silent}")
        at_once = max(1, MEMORY // x.shape[1])
        parts = [self._fit_neurons(a, b) for a, b in zip(x.split(at_once), y.split(at_once))]
        self.parameters_ = torch.cat(parts).numpy()
        return self

    def predict(self, prediction: Any) -> Any:
        """Apply the nonlinearity to (N, T), or to each of a list of (N, T_k); returns float64 arrays likewise."""
        if not hasattr(self, "parameters_"):
            raise ValueError("this OutputNonlinearity is not fitted yet: call fit first")
        if isinstance(prediction, list | tuple):
            return [self.predict(p) for p in prediction]
        x = _join(prediction, "prediction")
        base, gain, slope, threshold = torch.from_numpy(self.parameters_).T[..., None]
        if len(x) != len(base):
            raise ValueError(f"prediction must hold {len(base)} neurons, got {len(x)}")
        return (base + gain * self._g(slope * (x - threshold))[0]).numpy()

    def _fit_neurons(self, x: Tensor, y: Tensor) -> Tensor:
        """Parameters (n, 4) of some neurons."""
        weight = (torch.isfinite(x) & torch.isfinite(y)).double()
        x, y = (torch.where(weight > 0, a, 0.0) for a in (x, y))
        mean, rate = (_average(a, weight)[:, None] for a in (x, y))
        sd, spread = (_average((a - m) ** 2, weight).sqrt()[:, None] for a, m in ((x, mean), (y, rate)))
        flat = (sd <= 1e-12 * (1 + mean.abs())) | (spread <= 1e-12 * (1 + rate.abs()))
        sd, spread = torch.where(flat, 1.0, sd), torch.where(flat, 1.0, spread)
        x, y = (x - mean) / sd, (y - rate) / spread
        binned = _bin(x, y, weight)
        p, level = _grid(self._g, *binned)  # p: base, log gain, log slope, threshold
        p = _levenberg_marquardt(self._g, p, *binned, steps=100)
        p = _levenberg_marquardt(self._g, p, x, y, weight, steps=100)
        base, gain, slope, threshold = p.T[..., None]
        flat |= level[:, None]
        base, gain = torch.where(flat, 0.0, base), torch.where(flat, 0.0, gain.exp())
        return torch.cat([rate + spread * base, spread * gain, slope.exp() / sd, mean + sd * threshold], 1)

    @property
    def _g(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        return KINDS[self.kind]


class LinearNonlinearSTRF(STRFEstimator):
    """The linear-nonlinear model: a receptive field, then a static nonlinearity fitted to its prediction.

    Parameters
    ----------
    linear : an estimator such as `RidgeSTRF`.
    nonlinearity : kind of `OutputNonlinearity`.

    Attributes
    ----------
    linear and all its attributes, such as strf_; nonlinearity_, the fitted `OutputNonlinearity`.

    >>> from strflab.reverse_correlation import RidgeSTRF
    >>> x = [torch.randn(4, 300) for _ in range(6)]
    >>> ln = LinearNonlinearSTRF(RidgeSTRF(n_lags=3, cv=3)).fit(x, [clip[:2].relu() for clip in x])
    >>> ln.predict(x)[0].shape
    (2, 300)
    """

    def __init__(self, linear: STRFEstimator, nonlinearity: str = "sigmoid") -> None:
        self.linear = linear
        self.nonlinearity = nonlinearity
        self._check()

    def fit(self, X: Any, Y: Any = None) -> LinearNonlinearSTRF:
        """Fit to a dataset, or to lists of spectrograms and responses.

        Parameters
        ----------
        X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses
        """
        self.linear.fit(X, Y)
        stimuli, responses = as_clips(X, Y, responses=True)
        skip = self.linear.skipped_frames
        prediction = [p[:, skip:] for p in self.linear.predict(stimuli)]
        self.nonlinearity_ = OutputNonlinearity(self.nonlinearity).fit(prediction, [y[:, skip:] for y in responses])
        return self

    def predict(self, X: Any) -> list[np.ndarray]:
        """Predict responses to each clip, as `linear` does, through the nonlinearity."""
        if not hasattr(self, "nonlinearity_"):
            raise ValueError("this LinearNonlinearSTRF is not fitted yet: call fit first")
        return self.nonlinearity_.predict(self.linear.predict(X))

    @property
    def skipped_frames(self) -> int:
        """Frames at the start of each clip that are neither fitted nor scored."""
        return self.linear.skipped_frames

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_") and not name.startswith("_") and name != "nonlinearity_":
            return getattr(self.linear, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _check(self) -> None:
        if not isinstance(self.linear, STRFEstimator):
            raise ValueError(f"linear must be an estimator of receptive fields, got {self.linear!r}")
        OutputNonlinearity(self.nonlinearity)


def _grid(g: Callable, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Best of a grid of slopes and thresholds, base and gain by regression (N, 4); and where none rises (N,)."""
    slope, threshold = (a.flatten() for a in torch.meshgrid(SLOPES, THRESHOLDS, indexing="ij"))
    best = (weight * y**2).sum(1) / weight.sum(1) * (1 - 1e-9)  # of a level line: y has zero mean
    level = torch.ones_like(best, dtype=torch.bool)
    p = x.new_zeros(len(x), 4)
    weight = weight / weight.sum(1, keepdim=True)
    for k, c in zip(slope, threshold):
        value = g(k * (x - c))[0]
        centre = (weight * value).sum(1, keepdim=True)
        variance = (weight * (value - centre) ** 2).sum(1).clamp(min=1e-12)
        gain = ((weight * (value - centre) * y).sum(1) / variance).clamp(min=0)
        gain = torch.where(gain < 1e6, gain, torch.zeros_like(gain))
        base = (weight * (y - gain[:, None] * value)).sum(1)
        loss = (weight * (y - base[:, None] - gain[:, None] * value) ** 2).sum(1)
        better = loss < best
        here = torch.stack([base, gain.clamp(min=1e-9).log(), k.log().expand_as(base), c.expand_as(base)], 1)
        best, p = torch.where(better, loss, best), torch.where(better[:, None], here, p)
        level &= ~better
    return p, level


def _levenberg_marquardt(g: Callable, p: Tensor, x: Tensor, y: Tensor, weight: Tensor, steps: int) -> Tensor:
    """Lower the weighted squared error of each neuron from (N, 4) parameters; never raises it."""
    low = torch.tensor([-1e3, -20.0, SLOPES[0].log() - 3, -20.0], dtype=p.dtype)
    high = torch.tensor([1e3, 20.0, SLOPES[-1].log() + 1, 20.0], dtype=p.dtype)

    def model(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        base, gain, slope, threshold = p.T[..., None]
        z = slope.exp() * (x - threshold)
        value, derivative = g(z)
        value, derivative = gain.exp() * value, gain.exp() * derivative
        residual = y - base - value
        jacobian = torch.stack([torch.ones_like(x), value, derivative * z, -derivative * slope.exp()], 1)
        return (weight * residual**2).sum(1), residual, jacobian  # (N,), (N, T), (N, 4, T)

    result, active = p.clone(), torch.arange(len(p))
    loss, residual, jacobian = model(p)
    damping, settled = torch.full_like(loss, 1e-3), torch.zeros_like(loss, dtype=torch.bool)
    for _ in range(steps):
        weighted = jacobian * weight[:, None]
        curvature = weighted @ jacobian.mT  # (N, 4, 4)
        diagonal = curvature.diagonal(dim1=1, dim2=2)
        lift = damping[:, None] * diagonal + 1e-12 * diagonal.amax(1, keepdim=True) + 1e-30
        move = torch.linalg.solve(curvature + torch.diag_embed(lift), weighted @ residual[..., None])
        trial = (p + move.squeeze(-1)).clamp(low, high)
        trial_loss, trial_residual, trial_jacobian = model(trial)
        better = (trial_loss < loss) & ~settled
        settled |= torch.where(better, loss - trial_loss <= 1e-10 * loss, damping > 1e6)
        p = torch.where(better[:, None], trial, p)
        loss = torch.where(better, trial_loss, loss)
        residual = torch.where(better[:, None], trial_residual, residual)
        jacobian = torch.where(better[:, None, None], trial_jacobian, jacobian)
        damping = torch.where(better, damping / 5, damping * 5).clamp(min=1e-12)
        if 2 * int(settled.sum()) >= len(p):  # go on with the others alone
            result[active] = p
            if settled.all():
                return result
            state = (active, p, x, y, weight, loss, residual, jacobian, damping, settled)
            active, p, x, y, weight, loss, residual, jacobian, damping, settled = (a[~settled] for a in state)
    result[active] = p
    return result


def _bin(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Average x and y over bins of equal count along sorted x: (N, bins) means and weights."""
    order = torch.where(weight > 0, x, torch.inf).argsort(1)
    x, y, weight = (a.gather(1, order) for a in (x, y, weight))
    size = -(-x.shape[1] // N_BINS)
    extra = -x.shape[1] % size
    x, y, weight = (torch.nn.functional.pad(a, (0, extra)).unflatten(1, (-1, size)) for a in (x, y, weight))
    count = weight.sum(2)
    safe = count.clamp(min=1)
    return (x * weight).sum(2) / safe, (y * weight).sum(2) / safe, count


def _average(a: Tensor, weight: Tensor) -> Tensor:
    return (a * weight).sum(1) / weight.sum(1)


def _join(a: Any, name: str) -> Tensor:
    """(N, T), or a list of (N, T_k) end to end, as float64."""
    clips: Sequence = a if isinstance(a, list | tuple) else [a]
    tensors = [c if isinstance(c, Tensor) else torch.from_numpy(np.array(c)) for c in clips]
    if not tensors or any(t.ndim != 2 for t in tensors):
        shapes = [tuple(t.shape) for t in tensors]
        raise ValueError(f"{name} must be (N, T), or a list of (N, T_k), got shapes {shapes}")
    return torch.cat([t.detach().cpu().double() for t in tensors], 1)
