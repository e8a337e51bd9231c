"""Run benchmarks by name, all without one; print a table and write build/benchmarks.json."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Row, table
from benchmarks.store import store
from strflab.report import device_name

NAMES = ("zoo", "kernels", "streaming", "closed_form", "scores", "dynamic", "fit", "sweep", "pages", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"of {', '.join(NAMES)}")
    parser.add_argument("--threads", type=int, default=None, help="threads that torch may use")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for zoo, scaling and sweep")
    parser.add_argument("--store", action="store_true", help="keep the numbers in results/speed.json, for the book")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # for processes that measure memory
    facts = _facts(arguments.device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    every: list[Row] = []
    for name in arguments.names or NAMES:
        rows = _run(name, arguments.device)
        print(f"\n{name}\n{table(rows)}", flush=True)
        if arguments.store:
            store(name, facts, rows)
        every += rows
    out = Path("build/benchmarks.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(facts | {"rows": [row.record() for row in every]}, indent=1) + "\n", "utf8")


def _facts(device: str) -> dict[str, Any]:
    """How it is measured, without the name of the machine."""
    where = "" if device == "cpu" else f", {device_name(torch.device(device))}"
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores{where}",
        "date": date.today().isoformat(),
    }


def _run(name: str, device: str) -> list[Row]:
    run = importlib.import_module(f"benchmarks.{name}").run
    if "device" in inspect.signature(run).parameters:
        return run(device=device)
    if device != "cpu":
        raise SystemExit(f"{name} is measured on a CPU only")
    return run()


if __name__ == "__main__":
    main()
