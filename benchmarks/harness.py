"""How a benchmark is measured: the median of repeated runs and the memory they add, two ways beside each other."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PRELOADED = ["benchmarks.zoo", "benchmarks.closed_form"]  # what processes that measure memory need not import again


@dataclass(frozen=True)
class Row:
    """One measurement; `reference` is the same work done another way in the same run."""

    what: str
    seconds: float | None  # None: skipped
    reference: str = ""
    reference_seconds: float | None = None
    peak_mb: float | None = None
    reference_peak_mb: float | None = None
    sizes: dict[str, Any] = field(default_factory=dict)  # model, clips, frames ...: what a page looks rows up by
    skipped: str = ""  # why it was not measured

    @property
    def ratio(self) -> float | None:
        """How many times as long the reference takes."""
        if self.reference_seconds is None or self.seconds is None:
            return None
        return self.reference_seconds / self.seconds

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}


def seconds(work: Callable[[], Any], repeats: int = 7) -> float:
    """Median wall time of `work`, after one run that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_turns(*works: Callable[[], Any], repeats: int = 7) -> list[float]:
    """Median wall time of each, run in turns: other work on the machine then slows all of them alike."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, found in zip(works, times):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def peak_mb(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float | None:
    """Memory in MB that the work which `prepare` returns adds at its peak; None if not Linux.

    It is done in a process of its own, for what this one has freed it would use again unseen. That process is forked
    from one that has only imported what is needed, which takes seconds.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, mp_context=forks) as process:
        return process.submit(_added_mb, prepare, *arguments).result()


def _added_mb(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    work = prepare(*arguments)
    reset_high_water()
    before = high_water_mb()
    work()
    return high_water_mb() - before


def reset_high_water() -> None:
    """Let the kernel's record of this process's largest memory start again at what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def high_water_mb() -> float:
    """Largest resident memory since the record was reset, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def table(rows: list[Row]) -> str:
    """Rows as aligned text."""
    head = ["what", "seconds", "peak MB", "reference", "its seconds", "its MB", "ratio"]
    body = [
        [
            row.what,
            "skipped" if row.seconds is None else f"{row.seconds:.3f}",
            "" if row.peak_mb is None else f"{row.peak_mb:.0f}",
            row.reference,
            "" if row.reference_seconds is None else f"{row.reference_seconds:.3f}",
            "" if row.reference_peak_mb is None else f"{row.reference_peak_mb:.0f}",
            "" if row.ratio is None else f"{row.ratio:.1f}",
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * w for w in widths], *body]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
