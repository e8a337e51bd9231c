"""Forward and backward of every architecture against the number of frames, of neurons and of clips."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from benchmarks.harness import Row, peak_mb, seconds
from benchmarks.zoo import CASES, NEURONS, Case, prepared
from strflab.memory import keep_freed_memory

AXES = {
    "frames": (250, 1000, 4000, 16_000, 100_000),
    "neurons": (1, 10, 100, 500, 2000),
    "clips": (1, 2, 4, 8, 16, 32),
}
ELSEWHERE = {"clips": 1, "frames": 1000, "neurons": NEURONS}  # what the two numbers are that do not vary
LONGEST, LARGEST = 30.0, 8000.0  # s and MB; what is expected to need more is skipped, and recorded as such
SLOW = 2.0  # s, of which one run is enough


def run(
    device: str = "cpu", names: Sequence[str] = (), axes: Mapping[str, Sequence[int]] = AXES, memory: bool = True
) -> list[Row]:
    keep_freed_memory()  # or the price of fresh pages, which begins at some size, bends the curves
    cases = [case for case in CASES if not names or case.name in names]
    return [
        row for axis, values in axes.items() for case in cases for row in _series(case, axis, values, device, memory)
    ]


def _series(case: Case, axis: str, values: Sequence[int], device: str, memory: bool) -> list[Row]:
    """One model at growing values of one number, as far as what came before lets expect that it is affordable."""
    rows: list[Row] = []
    times: list[tuple[int, float]] = []
    peaks: list[tuple[int, float]] = []
    for n in values:
        sizes = ELSEWHERE | {axis: n}
        what = f"{case.name}, {sizes['clips']} x {sizes['frames']}, {sizes['neurons']} neurons"
        facts = {"model": case.name, "axis": axis, **sizes}
        longest, largest = _expected(times, n), _expected(peaks, n)
        if longest > LONGEST or largest > LARGEST:
            over = f"{longest:.0f} s" if longest > LONGEST else f"{largest / 1000:.0f} GB"
            rows.append(Row(what, None, sizes=facts, skipped=f"expected to need {over}"))
            continue
        arguments = (case.name, "ours", sizes["clips"], sizes["frames"], sizes["neurons"])
        step = prepared(*arguments, device=device)
        started = time.perf_counter()
        step()
        took = time.perf_counter() - started
        if took < SLOW:
            took = seconds(step, repeats=min(7, 1 + int(SLOW / took)))
        peak = peak_mb(prepared, *arguments) if memory and device == "cpu" else None
        times.append((n, took))
        peaks += [(n, peak)] if peak else []
        rows.append(Row(what, took, peak_mb=peak, sizes=facts))
    return rows


def _expected(seen: Sequence[tuple[int, float]], n: int) -> float:
    """What `n` will need if it goes on as between the last two, in proportion at least; 0 if nothing is known."""
    if not seen:
        return 0.0
    last, value = seen[-1]
    slope = 1.0
    if len(seen) > 1:
        before, earlier = seen[-2]
        slope = max(1.0, math.log(value / earlier) / math.log(last / before))
    return value * (n / last) ** slope
