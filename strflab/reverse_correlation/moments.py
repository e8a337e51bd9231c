"""Exact second moments of a lagged stimulus, without ever building the lagged design matrix.

Row t of the design is [x(t), x(t-1), .., x(t-T+1)], so the block of its Gram matrix for lags (i, j) is

    G[i, j] = sum_t x(t-i) x(t-j)',     t over the scored frames.

Moving both lags by one moves the sum by one frame: over a run of frames [a, b),

    G[i, j] = G[i-1, j-1] + x(a-i) x(a-j)' - x(b-i) x(b-j)'.

T products of F x F therefore give the whole (T F)^2 matrix, exactly, with the few frames at the ends of each run as
corrections; missing response frames only cut clips into more runs. The moments of a training set are those of all
clips minus those of the held-out ones.

Estimates in the Fourier domain need no edges, only averages at each lag: `correlate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Correlations(NamedTuple):
    """Sums over frame pairs of some clips, and the numbers of pairs."""

    stimulus: Tensor  # (L+1, F, F)   sum_t x(t) x(t-d)'
    stimulus_pairs: Tensor  # (L+1,)
    response: Tensor  # (2L+1, F, N)  sum_t x(t-tau) y(t), tau = -L .. L
    response_pairs: Tensor  # (2L+1, N)


@dataclass
class LaggedMoments:
    """Sums over scored frames, compact; `gram` expands them. The last column of `cross` and `total` belongs to a 1."""

    auto: Tensor  # (T, F, F)       sum_t x(t) x(t-d)'
    entering: Tensor  # (runs, T-1, F)  x(a-1-i), the frames before each run
    leaving: Tensor  # (runs, T-1, F)  x(b-1-i), the last frames of each run
    cross: Tensor  # (T F, N+1)      sum_t x(t-i) [y(t), 1]
    total: Tensor  # (N+1,)          sum_t [y(t), 1]
    square: Tensor  # (N,)            sum_t y(t)^2

    @property
    def count(self) -> float:
        """Number of scored frames."""
        return float(self.total[-1])

    def __sub__(self, part: LaggedMoments) -> LaggedMoments:
        return LaggedMoments(
            self.auto - part.auto,
            torch.cat([self.entering, part.leaving]),  # what entered with the part now leaves, and the reverse
            torch.cat([self.leaving, part.entering]),
            self.cross - part.cross,
            self.total - part.total,
            self.square - part.square,
        )

    def gram(self) -> Tensor:
        """Expand to the full symmetric Gram matrix (T F, T F), lag-major."""
        T, F, _ = self.auto.shape
        G = self.auto.new_zeros(T, F, T, F)
        G[0] = self.auto.permute(1, 0, 2)
        enter, leave = self.entering.flatten(1), self.leaving.flatten(1)  # (runs, (T-1) F)
        edge = (enter.T @ enter - leave.T @ leave).view(T - 1, F, T - 1, F)
        for i in range(1, T):
            torch.add(G[i - 1, :, i - 1 : -1], edge[i - 1, :, i - 1 :], out=G[i, :, i:])
        G = G.view(T * F, T * F)
        return G.triu() + G.triu(1).T

    def centred(self, gram: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Gram (P, P), cross moments (P, N) and sums of squares (N,) about the means over the scored frames.

        Parameters
        ----------
        gram : what the method `gram` returns, where that is at hand
        """
        sx, sy, n = self.cross[:, -1], self.total[:-1], self.count
        return (
            torch.addr(self.gram() if gram is None else gram, sx, sx, alpha=-1 / n),
            self.cross[:, :-1] - torch.outer(sx, sy) / n,
            (self.square - sy**2 / n).clamp_(min=0),
        )

    def raw(self, gram: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The same about zero."""
        return self.gram() if gram is None else gram, self.cross[:, :-1], self.square


def lagged_moments(
    stimuli: Sequence[Tensor],  # (F, frames) each
    responses: Sequence[Tensor],  # (N, frames) each
    masks: Sequence[Tensor],  # (frames,) each, True where scored
    n_lags: int,
    stimulus_mean: Tensor,  # (F,) float64
    response_mean: Tensor,  # (N,) float64
    dtype: torch.dtype = torch.float64,
) -> LaggedMoments:
    """Sum the moments of some clips, silence before each, about given means so that low precision costs little.

    Products are taken in `dtype` on the means' device, sums returned in float64.

    >>> x, y, m = torch.randn(3, 50), torch.randn(2, 50), torch.ones(50, dtype=torch.bool)
    >>> lagged_moments([x], [y], [m], 4, torch.zeros(3).double(), torch.zeros(2).double()).gram().shape
    torch.Size([12, 12])
    """
    device, pad = stimulus_mean.device, n_lags - 1
    frames = sum(x.shape[1] + pad for x in stimuli)
    X = (-stimulus_mean).to(dtype).repeat(frames, 1)  # silence is zero before the mean is taken off
    Y = X.new_zeros(frames, len(response_mean) + 1)
    start = 0
    for x, y, m in zip(stimuli, responses, masks):  # T-1 frames of silence between clips: no cross-talk
        clip = slice(start + pad, start := start + pad + x.shape[1])
        X[clip] = x.T.to(device) - stimulus_mean
        Y[clip, :-1] = torch.where(m.to(device)[:, None], y.T.to(device) - response_mean, 0)
        Y[clip, -1] = m
    scored = Y[:, -1]
    Xs = X * scored[:, None]
    auto = torch.stack([Xs[d:].T @ X[: frames - d] for d in range(n_lags)])
    cross = torch.stack([X[: frames - d].T @ Y[d:] for d in range(n_lags)])
    change = torch.diff(scored, prepend=scored.new_zeros(1), append=scored.new_zeros(1))
    past = torch.arange(1, pad + 1, device=device)
    return LaggedMoments(
        auto.double(),
        X[torch.nonzero(change > 0) - past].double(),
        X[torch.nonzero(change < 0) - past].double(),
        cross.flatten(0, 1).double(),
        Y.sum(0, dtype=torch.float64),
        Y[:, :-1].square().sum(0, dtype=torch.float64),
    )


def correlate(x: Tensor, y: Tensor, max_lag: int) -> Correlations:
    """Correlation sums of a clip (F, T), (N, T), zero mean; NaN in y is missing."""
    L, T = max_lag, x.shape[1]
    there = torch.isfinite(y)
    y = torch.where(there, y, 0.0)
    padded = torch.nn.functional.pad(x, (L, L))
    until = torch.nn.functional.pad(there.double().cumsum(1), (1, 0))  # (N, T+1), frames there before t
    lags = torch.arange(L + 1, device=x.device).clamp(max=T)
    after, before = until[:, -1:] - until[:, lags], until[:, (T - lags).flip(0)]  # t >= tau; t < T - |tau|
    return Correlations(
        torch.stack([x @ padded[:, L - d : L - d + T].T for d in range(L + 1)]),
        (T - lags).double(),
        torch.stack([padded[:, L - lag : L - lag + T] @ y.T for lag in range(-L, L + 1)]),
        torch.cat([before[:, :-1], after], 1).T,
    )
