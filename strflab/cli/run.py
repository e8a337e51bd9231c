"""`strflab run`: run chapters of the book, from a clone."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from strflab.cli.text import UsageError, usage

HELP = """Run chapters of the book, with a bar of their cells. Works inside a clone of the repository.

    strflab run 02                                  a chapter, by a part of its name: 02_harper_2016
    strflab run harper rahman                       two, one after the other
    strflab run 05 --profile full --device cuda     as it was published: the fits that are not stored take long
    strflab run                                     all of them

The executed notebooks lie in build/executed. Without a recording a chapter runs on simulated neurons and draws the
stored results.
"""


def add(commands: Any) -> None:
    """Describe the command to the parser."""
    parser = commands.add_parser("run", help="run chapters of the book (from a clone)", description=HELP)
    parser.add_argument(
        "chapters", nargs="*", metavar="CHAPTER", help="a name or a part of one; all when none is given"
    )
    parser.add_argument(
        "--profile", choices=("smoke", "full"), default="smoke", help="smoke: about a minute a chapter (default)"
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, mps")
    parser.add_argument("--timeout", type=int, default=3600, metavar="SECONDS", help="that one cell may take (3600)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chapters, one after the other."""
    root = find_clone(Path.cwd())
    if root is None:
        raise UsageError(
            "the chapters are not part of the installed package: run this inside a clone of the repository "
            "(the folder with _toc.yml and notebooks/)"
        )
    if find_spec("papermill") is None:
        raise UsageError('running a chapter needs papermill: pip install "strflab[book]"')
    from strflab.book import runs

    if args.timeout < 1:
        raise UsageError(f"--timeout {args.timeout}: must be at least 1 second")
    with usage():
        names = [path.stem for path in runs.chapters(root, args.chapters)]
    failed = runs.run(root, args.profile, args.device, 1, args.timeout, names, progress=sys.stderr.isatty())
    print(f"outputs are in {root / runs.EXECUTED}")
    return int(failed > 0)


def find_clone(start: Path) -> Path | None:
    """Return the clone that a folder is in; None if it is in none."""
    for folder in (start, *start.parents):
        if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return None
