"""What was measured of speed and memory: the stored runs, and how a cost grows.

``python -m benchmarks --store`` keeps, for each benchmark, device and number of threads, its last run in
``results/speed.json``. A row is a dictionary of what was measured: ``what`` was done, ``seconds`` of a repeat (median),
``peak_mb`` that it added at its peak, the same of a ``reference``, and the ``sizes`` of the problem.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strflab.results.folder import folder

__all__ = ["exponent", "geometric_mean", "path", "run", "runs", "series", "text"]


def path() -> Path:
    """Return where the measurements are kept: ``speed.json`` in the folder of results."""
    return folder() / "speed.json"


def runs(file: Path | None = None) -> list[dict[str, Any]]:
    """Return every stored run; none where nothing is stored.

    Parameters
    ----------
    file : to read; None: `path`

    Raises
    ------
    ValueError : the file is damaged
    """
    file = path() if file is None else file
    if not file.is_file():
        return []
    try:
        return json.loads(file.read_text("utf8"))["runs"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): restore it from version control") from None


def run(benchmark: str, device: str = "cpu", threads: int = 1, file: Path | None = None) -> dict[str, Any]:
    """Return the stored run of a benchmark, whose ``rows`` are a list, empty where it was not measured.

    Parameters
    ----------
    benchmark : its name, such as "zoo"
    device, threads : that it was measured with
    file : to read; None: `path`

    Examples
    --------
    >>> run("zoo", threads=1000)["rows"]
    []
    """
    wanted = {"benchmark": benchmark, "device": device, "threads": threads}
    for each in runs(file):
        if wanted.items() <= each.items():
            return each
    return wanted | {"rows": []}


def series(
    rows: Iterable[Mapping[str, Any]], axis: str, quantity: str = "seconds"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the cost of each model at growing values of one number: (values, costs), without what was skipped.

    Parameters
    ----------
    rows : of the benchmark "scaling"
    axis : which number grows: "frames", "neurons" or "clips"
    quantity : "seconds" or "peak_mb" (MB)

    Examples
    --------
    >>> made = [{"sizes": {"model": "LN", "axis": "frames", "frames": n}, "seconds": n / 1000} for n in (4, 1)]
    >>> series(made, "frames")["LN"]
    (array([1., 4.]), array([0.001, 0.004]))
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        sizes = row["sizes"]
        if sizes["axis"] == axis and row.get(quantity) is not None:
            found.setdefault(sizes["model"], []).append((sizes[axis], row[quantity]))
    columns = {model: np.array(sorted(points), float).T for model, points in found.items()}
    return {model: (x, y) for model, (x, y) in columns.items()}


def exponent(x: ArrayLike, y: ArrayLike, at_least: float = 0.0) -> float:
    """Return p of the power law y ~ x^p that fits best: the slope of log y on log x by least squares.

    Parameters
    ----------
    x, y : (n,) positive numbers; a point where either is not is left out
    at_least : points of a smaller x are left out, where fixed costs hide the law

    Returns
    -------
    float
        NaN where fewer than two points are left.

    Examples
    --------
    >>> round(exponent([1, 10, 100], [3, 300, 30000]), 3)
    2.0
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    used = (x >= at_least) & (x > 0) & (y > 0)
    if len(np.unique(x[used])) < 2:
        return float("nan")
    return float(np.polyfit(np.log(x[used]), np.log(y[used]), 1)[0])


def geometric_mean(values: ArrayLike) -> float:
    """Return the mean of ratios, in which twice and half cancel; NaN of none.

    Parameters
    ----------
    values : (n,) positive numbers

    Examples
    --------
    >>> round(geometric_mean([0.5, 2.0]), 3)
    1.0
    """
    values = np.asarray(values, float)
    return float(np.exp(np.log(values).mean())) if values.size else float("nan")


def text(value: float | None, unit: str = "s") -> str:
    """Return a measurement as a table shows it, to three digits; "not measured" for None.

    Parameters
    ----------
    value : in s or MB
    unit : "s", shown as µs, ms or s; or "MB", shown as MB or GB

    Examples
    --------
    >>> print(text(0.01234), text(2.5), text(31.26, "MB"), text(None), sep=", ")
    12.3\N{NO-BREAK SPACE}ms, 2.50\N{NO-BREAK SPACE}s, 31.3\N{NO-BREAK SPACE}MB, not measured
    """
    if value is None:
        return "not measured"
    scales = {"s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")), "MB": ((1e3, "GB"), (1, "MB"))}
    scale, shown = next((pair for pair in scales[unit] if value >= pair[0]), scales[unit][-1])
    number = value / scale
    digits = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{digits}f}\N{NO-BREAK SPACE}{shown}"
