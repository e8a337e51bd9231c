"""Run benchmarks by name, all without one; print a table and write build/benchmarks.json."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from pathlib import Path

import torch

from benchmarks.harness import table

NAMES = ("zoo", "streaming", "closed_form", "scores", "fit", "sweep")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"of {', '.join(NAMES)}")
    parser.add_argument("--threads", type=int, default=None, help="threads that torch may use")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    for name in arguments.names or NAMES:
        rows += importlib.import_module(f"benchmarks.{name}").run()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}\n")
    print(table(rows))
    out = Path("build/benchmarks.json")
    out.parent.mkdir(exist_ok=True)
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": platform.machine()}
    out.write_text(json.dumps(facts | {"rows": [row.record() for row in rows]}, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
