"""Scores of a population: their average with an interval, and the paired comparison of two models.

Neurons are the sampling unit: intervals are percentiles over bootstrap resamples of neurons (Efron & Tibshirani 1993),
and two models are compared by Wilcoxon's signed-rank test (1945, doi:10.2307/3001968) on the neurons that both score.
"""

from typing import NamedTuple

import numpy as np

from strflab.metrics._clips import ArrayLike, tensor


class Summary(NamedTuple):
    """Average scores of a population; an interval is (lower, upper).

    Parameters
    ----------
    n, n_missing : neurons with a score, and those whose score is NaN
    mean, mean_interval : over neurons
    median, median_interval : over neurons
    """

    n: int  # neurons with a score
    n_missing: int  # neurons whose score is NaN
    mean: float
    mean_interval: tuple[float, float]
    median: float
    median_interval: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"mean {self.mean:.3f} [{self.mean_interval[0]:.3f}, {self.mean_interval[1]:.3f}], "
            f"median {self.median:.3f} [{self.median_interval[0]:.3f}, {self.median_interval[1]:.3f}], n = {self.n}"
        )


class Comparison(NamedTuple):
    """Scores of model a less those of model b, neuron by neuron.

    Parameters
    ----------
    n, n_missing : neurons that both score, and the others
    mean_difference, interval : and its bootstrap interval
    median_difference : of a less b
    n_higher : neurons on which a scores higher than b
    statistic, p_value : Wilcoxon's, two-sided
    """

    n: int  # neurons that both score
    n_missing: int
    mean_difference: float
    interval: tuple[float, float]  # of the mean difference
    median_difference: float
    n_higher: int  # neurons on which a scores higher than b
    statistic: float  # Wilcoxon's
    p_value: float  # two-sided

    def __str__(self) -> str:
        return (
            f"difference {self.mean_difference:+.3f} [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}], "
            f"{self.n_higher} of {self.n} higher, p = {self.p_value:.2g}"
        )


def summarize(scores: ArrayLike, confidence: float = 0.95, n_boot: int = 10_000, seed: int = 0) -> Summary:
    """Mean and median of the scores, with bootstrap intervals over neurons; NaN scores are left out and counted.

    Parameters
    ----------
    scores : (N,) a score a neuron
    confidence : of the intervals
    n_boot : resamples
    seed : of the resampling

    Returns
    -------
    Summary; its values are NaN if no neuron has a score

    Raises
    ------
    ValueError
        If the scores are not one-dimensional, or confidence or n_boot is out of range.

    Examples
    --------
    >>> found = summarize([0.2, 0.4, 0.9, np.nan])
    >>> round(found.mean, 3), found.median, found.n, found.n_missing
    (0.5, 0.4, 3, 1)
    """
    values = _scores(scores, "scores")
    kept = values[~np.isnan(values)]
    mean, median = _bootstrap(kept, (np.mean, np.median), confidence, n_boot, seed)
    return Summary(len(kept), len(values) - len(kept), _of(np.mean, kept), mean, _of(np.median, kept), median)


def compare(a: ArrayLike, b: ArrayLike, confidence: float = 0.95, n_boot: int = 10_000, seed: int = 0) -> Comparison:
    """Paired comparison of two models on the same neurons: Wilcoxon's test and the mean difference with its interval.

    Parameters
    ----------
    a, b : (N,) scores of the two models, in the same order of neurons
        A neuron that either model has no score for is left out and counted.

    The others, and the errors, are those of `summarize`; also if a and b differ in length.

    Returns
    -------
    Comparison, of a - b; p is 1 if no neuron differs and NaN if no neuron is left

    References
    ----------
    Wilcoxon (1945), doi:10.2307/3001968.

    Examples
    --------
    >>> found = compare([0.5, 0.6, 0.7, 0.8, 0.9], [0.4, 0.4, 0.4, 0.4, 0.4])
    >>> found.n_higher, round(found.mean_difference, 3), round(found.p_value, 4)
    (5, 0.3, 0.0625)
    """
    first, second = _scores(a, "a"), _scores(b, "b")
    if first.shape != second.shape:
        raise ValueError(f"a holds {len(first)} neurons and b {len(second)}: they must be the same neurons")
    difference = first - second
    kept = difference[~np.isnan(difference)]
    (interval,) = _bootstrap(kept, (np.mean,), confidence, n_boot, seed)
    statistic, p_value = _wilcoxon(kept)
    return Comparison(
        n=len(kept),
        n_missing=len(difference) - len(kept),
        mean_difference=_of(np.mean, kept),
        interval=interval,
        median_difference=_of(np.median, kept),
        n_higher=int((kept > 0).sum()),
        statistic=statistic,
        p_value=p_value,
    )


def _wilcoxon(difference: np.ndarray) -> tuple[float, float]:
    from scipy.stats import wilcoxon

    if not len(difference):
        return np.nan, np.nan
    if not difference.any():
        return 0.0, 1.0
    result = wilcoxon(difference)
    return float(result.statistic), float(result.pvalue)


def _bootstrap(values: np.ndarray, averages, confidence: float, n_boot: int, seed: int) -> list[tuple[float, float]]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: it must be between 0 and 1")
    if n_boot < 1:
        raise ValueError(f"n_boot={n_boot}: it must be 1 or more")
    if not len(values):
        return [(np.nan, np.nan)] * len(averages)
    resamples = values[np.random.default_rng(seed).integers(len(values), size=(n_boot, len(values)))]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    quantiles = [np.quantile(average(resamples, axis=1), tails) for average in averages]
    return [(float(low), float(high)) for low, high in quantiles]


def _scores(values: ArrayLike, name: str) -> np.ndarray:
    array = tensor(values, name).double().cpu().numpy()
    if array.ndim != 1:
        raise ValueError(f"{name} must be one score a neuron, (N,), not {array.shape}")
    return array


def _of(average, values: np.ndarray) -> float:
    return float(average(values)) if len(values) else float("nan")
