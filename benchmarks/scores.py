"""All scores of a population's response, against one neuron and one split of the repeats after another in NumPy."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import peers
from benchmarks.harness import Row, in_turns, seconds
from strflab import metrics

CLIPS, NEURONS, REPEATS, FRAMES = 20, 119, 20, 999


def run() -> list[Row]:
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 0.2, (CLIPS, NEURONS, 1, FRAMES)).astype(np.float32)
    response = rng.poisson(np.broadcast_to(rate, (CLIPS, NEURONS, REPEATS, FRAMES))).astype(np.float32)
    what = f"all scores of {CLIPS} x {NEURONS} x {REPEATS} x {FRAMES}"
    plain = seconds(lambda: _plain(rate, response), repeats=1)
    rows = [
        Row(
            what,
            seconds(lambda: metrics.scores(rate, response)),
            "CC, CCnorm, r_ceiling, split-half CCmax in NumPy",
            plain,
        )
    ]
    if peers.has("deepSTRF"):
        p, r = torch.from_numpy(rate[:4, :30]), torch.from_numpy(response[:4, :30])  # of all it would take minutes
        what = f"all scores of {' x '.join(map(str, r.shape))}"
        ours, theirs = in_turns(lambda: metrics.scores(p, r), lambda: peers.deepstrf_scores(p, r), repeats=1)
        rows.append(Row(what, ours, "deepSTRF, those it has", theirs))
    return rows


def _plain(rate: np.ndarray, response: np.ndarray, n_splits: int = 126) -> list[tuple[float, ...]]:
    """Four of the scores of one neuron after another, straight from the formulas."""
    rng = np.random.default_rng(0)
    scores = []
    for n in range(NEURONS):
        p = rate[:, n, 0].ravel().astype(float)
        trials = response[:, n].transpose(1, 0, 2).reshape(REPEATS, -1).astype(float)
        y = trials.mean(0)
        total = trials.var(1, ddof=1).mean()
        power = (REPEATS * y.var(ddof=1) - total) / (REPEATS - 1)
        cov = np.cov(y, p)
        pairs = np.corrcoef(trials)[np.triu_indices(REPEATS, 1)].mean()
        r_single = np.mean([np.corrcoef(trial, p)[0, 1] for trial in trials])
        halves = []
        for _ in range(n_splits):
            order = rng.permutation(REPEATS)
            a, b = (trials[order[half]].mean(0) for half in (slice(0, REPEATS // 2), slice(REPEATS // 2, None)))
            halves.append(np.corrcoef(a, b)[0, 1])
        r = np.mean(halves)
        scores.append(
            (
                cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]),
                cov[0, 1] / np.sqrt(power * cov[1, 1]),
                r_single / np.sqrt(max(pairs, 0.01)),
                np.sqrt(2 * r / (1 + r)),
            )
        )
    return scores
