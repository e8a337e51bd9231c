"""One pass over the responses that every score of a neuron is read from.

A clip's repeats r_1 .. r_R, the prediction p and a row of ones are multiplied with each other once, in float64:

    G = Z Z',   Z = [1; p; r_1; ...; r_R]        (N, 2 + R, 2 + R)

and G holds the number of frames, all sums, all powers and all cross products. Clips on which the same repeats are
there share one running G. Clips of a neuron whose frames do not all have the same repeats cannot be written so; they
are summed frame by frame instead (`_Ragged`). Both give the same quantities, and these add up over clips.

With R_t repeats in frame t, y_t their mean and s2_t their variance (R_t - 1 degrees of freedom), the noise of the PSTH
y is s2_t / R_t in each frame. What is lost of it when the mean over n frames is removed is estimated from the part
a_r = sum_t e_rt of each repeat's residuals, e_rt = (r_rt - y_t) sqrt(R_t / (R_t - 1)) / R_t:

    noise = sum_t s2_t / R_t - sum_r a_r^2 / n,    signal = sum_t (y_t - mean y)^2 - noise.

For even repeats signal / n is exactly (R var(y) - TP) / (R - 1) of Sahani & Linden (2003). For others it is unbiased if
noise is independent from frame to frame; if noise is slow and repeats are missing here and there, the part a_r^2 / n of
the correction is right to leading order in 1 / R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from strflab.metrics._clips import Clips, choice

CENTRES = ("concatenated", "clip")
TINY = 1e-12  # a variance below this share of the power is rounding error


@dataclass(frozen=True)
class _Sums:
    """Sums over frames that add up over clips."""

    def values(self) -> list[Tensor]:
        return [getattr(self, f.name) for f in fields(self)]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(*map(function, self.values()))

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(self.values(), other.values())))


@dataclass(frozen=True)
class PsthSums(_Sums):
    """Of the PSTH y and the prediction p, a value a neuron (N,)."""

    n: Tensor
    y: Tensor
    p: Tensor
    yy: Tensor
    pp: Tensor
    yp: Tensor
    s2: Tensor  # noise of one repeat
    noise: Tensor  # noise of the PSTH
    a: Tensor  # (N, R), the residuals of each repeat in the PSTH's sum

    def centred(self) -> PsthSums:
        n = self.n.clamp_min(1)
        noise = less(self.noise, self.a.square().sum(-1) / n)
        return replace(
            self,
            y=torch.zeros_like(n),
            p=torch.zeros_like(n),
            yy=less(self.yy, self.y.square() / n),
            pp=less(self.pp, self.p.square() / n),
            yp=self.yp - self.y * self.p / n,
            s2=self.s2 * torch.where(self.noise > 0, noise / self.noise, 0),
            noise=noise,
            a=torch.zeros_like(self.a),
        )


@dataclass(frozen=True)
class PairSums(_Sums):
    """Of every two of [p, r_1 .. r_R], over the frames that both have: (N, 1 + R, 1 + R)."""

    n: Tensor
    x: Tensor  # [i, j] = sum of row i where row j is there
    xx: Tensor
    xy: Tensor

    def centred(self) -> PairSums:
        n = self.n.clamp_min(1)
        return replace(
            self,
            x=torch.zeros_like(n),
            xx=less(self.xx, self.x.square() / n),
            xy=self.xy - self.x * self.x.mT / n,
        )

    def correlation(self) -> Tensor:
        """Their correlations (N, 1 + R, 1 + R); NaN where one of the two does not vary."""
        return ratio(self.xy, (self.xx * self.xx.mT).sqrt())


@dataclass(frozen=True)
class HalfSums(_Sums):
    """Of the means A and B of the two halves of every split, over the frames that both have: (N, K)."""

    n: Tensor
    a: Tensor
    b: Tensor
    aa: Tensor
    bb: Tensor
    ab: Tensor
    per_a: Tensor  # sum of 1 / (repeats in A)
    per_b: Tensor
    per_all: Tensor

    def centred(self) -> HalfSums:
        n = self.n.clamp_min(1)
        zero = torch.zeros_like(n)
        aa, bb = less(self.aa, self.a.square() / n), less(self.bb, self.b.square() / n)
        return replace(self, a=zero, b=zero, aa=aa, bb=bb, ab=self.ab - self.a * self.b / n)


@dataclass(frozen=True)
class Statistics:
    """Centred sums over all scored frames; `singles` says whether some frame has fewer repeats than two."""

    psth: PsthSums
    singles: bool
    pairs: PairSums | None = None
    halves: HalfSums | None = None


def statistics(
    clips: Clips, centre: str, min_repeats: int, pairs: bool = False, splits: Tensor | None = None
) -> Statistics:
    """Sums over the frames that have at least `min_repeats` repeats.

    splits (K, R) marks one half of each split with ones; centre says over what the means are removed.
    """
    by_clip = choice("centre", centre, CENTRES) == "clip"
    summed = _Pass(clips, by_clip, min_repeats, pairs, splits)
    for x, p, mask in clips:
        if mask is not None and mask.ndim == 1:
            x, p, mask = x[..., mask], p[..., mask], None
        if mask is not None:
            x = torch.where(mask[:, None], x.double(), torch.nan)
        summed.add(x, p)
    return summed.result()


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, NaN where the denominator is not positive."""
    return torch.where(denominator > 0, numerator / denominator, torch.nan)


class _Pass:
    """Running sums: G of each set of repeats that clips have, and what ragged clips add."""

    def __init__(self, clips: Clips, by_clip: bool, min_repeats: int, pairs: bool, splits: Tensor | None):
        self.N, self.R = clips.n_neurons, clips.n_repeats
        self.by_clip, self.min_repeats, self.singles = by_clip, min_repeats, False
        self.groups: dict[bytes, tuple[Tensor, Tensor]] = {}  # repeats that are there -> (N, R), G
        self.with_pairs, self.splits = pairs, splits
        self.ragged: dict[str, _Sums] = {}
        self.buffer = torch.empty(0, dtype=torch.float64, device=clips.device)

    def add(self, x: Tensor, p: Tensor) -> None:
        """One clip: x (N, R_k, T), p (N, T)."""
        N, R, T = x.shape
        z = self.rows(p, x)
        gram = z @ z.mT  # (N, 2 + R_k, 2 + R_k)
        there = torch.ones(N, R, dtype=torch.bool, device=x.device)
        if not gram.diagonal(dim1=1, dim2=2)[:, 2:].isfinite().all():
            if x.isinf().any():
                raise ValueError("response is infinite in some frame: mark what is missing by NaN")
            valid = ~x.isnan()
            scored = valid.any(1)  # (N, T)
            if not scored.any(0).all():
                return self.add(x[..., scored.any(0)], p[..., scored.any(0)])
            there = valid.any(-1)  # (N, R_k)
            even = (valid == (there[..., None] & scored[:, None])).all(-1).all(-1)
            ragged = (~even).nonzero()[:, 0]
            if len(ragged):
                self.add_ragged(ragged, x[ragged], p[ragged], valid[ragged])
            there[ragged] = False
            z[:, 2:].masked_fill_(~valid, 0)
            z.masked_fill_(~(scored & there.any(-1, keepdim=True))[:, None], 0)
            gram = z @ z.mT
        count = there.sum(-1)
        if T:
            self.singles |= bool((count == 1).any())
        short = count < self.min_repeats
        if short.any():
            gram = torch.where(short[:, None, None], 0.0, gram)
        # Neurons that add nothing here fit any set of repeats: with all of them, they open no group of their own.
        there = torch.nn.functional.pad(there | short[:, None], (0, self.R - R))
        gram = torch.nn.functional.pad(gram, (0, self.R - R, 0, self.R - R))
        if self.by_clip:
            n = gram[:, :1, :1]
            rest = gram - gram[:, :, :1] * gram[:, :1, :] / n.clamp_min(1)
            rest = torch.where(rest.abs() <= TINY * gram.abs(), 0.0, rest)
            rest[:, :1, :1] = n
            gram = rest
        key = there.cpu().numpy().tobytes()
        total = self.groups[key][1] + gram if key in self.groups else gram
        self.groups[key] = there, total

    def rows(self, p: Tensor, x: Tensor) -> Tensor:
        """[1; p; repeats] in float64 (N, 2 + R_k, T), in memory that is reused from clip to clip."""
        N, R, T = x.shape
        if self.buffer.numel() < N * (R + 2) * T:
            self.buffer = self.buffer.new_empty(N * (R + 2) * T)
        z = self.buffer[: N * (R + 2) * T].view(N, R + 2, T)
        z[:, 0], z[:, 1], z[:, 2:] = 1.0, p, x
        return z

    def add_ragged(self, which: Tensor, x: Tensor, p: Tensor, valid: Tensor) -> None:
        count = valid.sum(1)
        self.singles |= bool((count == 1).any())
        valid = valid & (count >= self.min_repeats)[:, None]
        clip = _Ragged(_with_repeats(x.double(), self.R), _with_repeats(valid, self.R), p)
        for name, sums in self.measure(clip).items():
            if self.by_clip:
                sums = sums.centred()
            if name not in self.ragged:
                self.ragged[name] = sums.map(lambda v: v.new_zeros(self.N, *v.shape[1:]))
            for total, part in zip(self.ragged[name].values(), sums.values()):
                total[which] += part

    def measure(self, clip: _Even | _Ragged) -> dict[str, Any]:
        sums: dict[str, _Sums] = {"psth": clip.psth()}
        if self.with_pairs:
            sums["pairs"] = clip.pairs()
        if self.splits is not None:
            sums["halves"] = clip.halves(self.splits)
        return sums

    def result(self) -> Statistics:
        total: dict[str, Any] = dict(self.ragged)
        for there, gram in self.groups.values():
            for name, sums in self.measure(_Even(gram, there.double())).items():
                total[name] = total[name] + sums if name in total else sums
        return Statistics(singles=self.singles, **{name: sums.centred() for name, sums in total.items()})


class _Even:
    """Clips on which a neuron has the same repeats in all scored frames: `there` (N, R), G (N, 2 + R, 2 + R)."""

    def __init__(self, gram: Tensor, there: Tensor):
        self.n, self.sums, self.gram, self.there = gram[:, 0, 0], gram[:, 0, 1:], gram[:, 1:, 1:], there

    def psth(self) -> PsthSums:
        R = self.there.sum(-1).clamp_min(1)
        spare = (R - 1).clamp_min(1)
        repeats = self.gram[:, 1:, 1:]
        power, whole = repeats.diagonal(dim1=1, dim2=2).sum(-1), repeats.sum((1, 2))
        y = self.sums[:, 1:].sum(-1) / R
        s2 = less(power, whole / R) / spare
        return PsthSums(
            n=self.n,
            y=y,
            p=self.sums[:, 0],
            yy=whole / R**2,
            pp=self.gram[:, 0, 0],
            yp=self.gram[:, 0, 1:].sum(-1) / R,
            s2=s2,
            noise=s2 / R,
            a=self.there * (self.sums[:, 1:] - y[:, None]) / (R * spare).sqrt()[:, None],
        )

    def pairs(self) -> PairSums:
        there = torch.cat([torch.ones_like(self.there[:, :1]), self.there], 1)
        power = self.gram.diagonal(dim1=1, dim2=2)
        return PairSums(
            n=self.n[:, None, None] * there[:, :, None] * there[:, None],
            x=self.sums[:, :, None] * there[:, None],
            xx=power[:, :, None] * there[:, None],
            xy=self.gram,
        )

    def halves(self, splits: Tensor) -> HalfSums:
        there = self.there[:1] if (self.there == self.there[:1]).all() else self.there
        in_a, in_b = splits * there[:, None], (1 - splits) * there[:, None]  # (N or 1, K, R)
        n_a, n_b = in_a.sum(-1), in_b.sum(-1)
        n = self.n[:, None] * ((n_a > 0) & (n_b > 0))
        mean_a, mean_b = in_a / n_a.clamp_min(1)[..., None], in_b / n_b.clamp_min(1)[..., None]
        repeats, sums = self.gram[:, 1:, 1:], self.sums[:, 1:, None]
        from_a, from_b = mean_a @ repeats, mean_b @ repeats  # (N, K, R)
        on = (n > 0).double()
        return HalfSums(
            n=n,
            a=on * (mean_a @ sums)[..., 0],
            b=on * (mean_b @ sums)[..., 0],
            aa=on * (from_a * mean_a).sum(-1),
            bb=on * (from_b * mean_b).sum(-1),
            ab=on * (from_a * mean_b).sum(-1),
            per_a=n / n_a.clamp_min(1),
            per_b=n / n_b.clamp_min(1),
            per_all=n / (n_a + n_b).clamp_min(1),
        )


class _Ragged:
    """A clip of neurons whose repeats differ from frame to frame: x and valid (N, R, T), p (N, T)."""

    def __init__(self, x: Tensor, valid: Tensor, p: Tensor):
        self.valid = valid.double()
        self.x = torch.where(valid, x, 0.0)
        self.count = self.valid.sum(1)  # (N, T)
        self.used = (self.count > 0).double()
        self.p = torch.where(self.count > 0, p.double(), 0.0)

    def psth(self) -> PsthSums:
        R, spare = self.count.clamp_min(1), (self.count - 1).clamp_min(1)
        y = self.x.sum(1) / R
        error = (self.x - y[:, None]) * self.valid
        s2 = error.square().sum(1) / spare
        return PsthSums(
            n=self.used.sum(-1),
            y=y.sum(-1),
            p=self.p.sum(-1),
            yy=y.square().sum(-1),
            pp=self.p.square().sum(-1),
            yp=(y * self.p).sum(-1),
            s2=s2.sum(-1),
            noise=(s2 / R).sum(-1),
            a=(error @ (R * spare).rsqrt()[..., None])[..., 0],
        )

    def pairs(self) -> PairSums:
        x = torch.cat([self.p[:, None], self.x], 1)
        there = torch.cat([self.used[:, None], self.valid], 1)
        return PairSums(n=there @ there.mT, x=x @ there.mT, xx=x.square() @ there.mT, xy=x @ x.mT)

    def halves(self, splits: Tensor) -> HalfSums:
        at_once = max(1, 2**17 // (len(splits) * self.x.shape[-1] + 1))  # neurons at a time, to stay in cache
        parts = []
        for x, valid, count in zip(self.x.split(at_once), self.valid.split(at_once), self.count.split(at_once)):
            n_a = splits @ valid  # (N, K, T)
            n_b = count[:, None] - n_a
            on = (n_a * n_b > 0).double()
            per_a, per_b = on / n_a.clamp_min(1), on / n_b.clamp_min(1)
            a = splits @ x
            b = (x.sum(1, keepdim=True) - a) * per_b
            a = a * per_a
            per_all = (on @ (1 / count.clamp_min(1))[..., None])[..., 0]
            products = [(u * v).sum(-1) for u, v in ((a, a), (b, b), (a, b))]
            parts.append((*(v.sum(-1) for v in (on, a, b)), *products, per_a.sum(-1), per_b.sum(-1), per_all))
        return HalfSums(*(torch.cat(values) for values in zip(*parts)))


def _with_repeats(x: Tensor, R: int) -> Tensor:
    """(N, R_k, T) -> (N, R, T)."""
    missing = R - x.shape[1]
    return torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x


def less(power: Tensor, lost: Tensor) -> Tensor:
    """power - lost, zero where only rounding error is left."""
    left = power - lost
    return torch.where(left <= TINY * power, 0.0, left)
