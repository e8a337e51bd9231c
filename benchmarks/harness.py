"""How a benchmark is measured: the median of repeated runs and the memory they add, two ways beside each other."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measurement; `reference` is the same work done another way in the same run."""

    what: str
    seconds: float
    reference: str = ""
    reference_seconds: float | None = None
    peak_mb: float | None = None
    reference_peak_mb: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the reference takes."""
        return None if self.reference_seconds is None else self.reference_seconds / self.seconds

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


def peak_mb(setup: str, work: str) -> float | None:
    """Memory in MB that `work` adds at its peak to what `setup` holds, in a process of its own; None if not Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    measure = (
        f"{setup}\n"
        "from benchmarks.harness import high_water_mb, reset_high_water\n"
        "reset_high_water()\n"
        "before = high_water_mb()\n"
        f"{work}\n"
        "print(high_water_mb() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


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
            f"{row.seconds:.3f}",
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
