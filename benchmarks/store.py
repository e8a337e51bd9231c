"""Measurements that the book shows, kept in results/speed.json: for each benchmark, device and threads the last run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Row
from strflab import speed

KEY = ("benchmark", "device", "threads")


def store(name: str, facts: Mapping[str, Any], rows: Sequence[Row], path: Path | None = None) -> Path:
    """Put a run in the place of the one of the same benchmark, device and number of threads; leave all others.

    `facts` say how it was measured: device, threads, torch, machine, date.
    """
    path = path or speed.path()
    run = {"benchmark": name, **facts, "rows": [_short(row.record()) for row in rows]}
    kept = [old for old in speed.runs(path) if any(old[key] != run[key] for key in KEY)]
    ordered = sorted([*kept, run], key=lambda each: [str(each[key]) for key in KEY])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": ordered}, indent=1) + "\n", "utf8")
    return path


def _short(record: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty, which can be told from the rest, or which is finer than the measurement."""
    kept = {name: value for name, value in record.items() if value not in (None, "", {}) and name != "ratio"}
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in kept.items()}
