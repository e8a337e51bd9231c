"""All scores of a population's response, against one score after another in plain NumPy."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Row, seconds
from strflab import metrics

CLIPS, NEURONS, REPEATS, FRAMES = 20, 119, 20, 999


def run() -> list[Row]:
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 0.2, (CLIPS, NEURONS, 1, FRAMES)).astype(np.float32)
    response = rng.poisson(np.broadcast_to(rate, (CLIPS, NEURONS, REPEATS, FRAMES))).astype(np.float32)
    return [
        Row(
            f"all scores of {CLIPS} x {NEURONS} x {REPEATS} x {FRAMES}",
            seconds(lambda: metrics.scores(rate, response)),
            "CC, SP and CCnorm a neuron, NumPy",
            seconds(lambda: _plain(rate, response), repeats=3),
        )
    ]


def _plain(rate: np.ndarray, response: np.ndarray) -> list[tuple[float, float]]:
    """Correlation and CCnorm of one neuron after another, straight from the formulas."""
    scores = []
    for n in range(NEURONS):
        p = rate[:, n, 0].ravel().astype(float)
        trials = response[:, n].transpose(1, 0, 2).reshape(REPEATS, -1).astype(float)
        y = trials.mean(0)
        total = trials.var(1, ddof=1).mean()
        power = (REPEATS * y.var(ddof=1) - total) / (REPEATS - 1)
        cov = np.cov(y, p)
        scores.append((cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), cov[0, 1] / np.sqrt(power * cov[1, 1])))
    return scores
